"""Forms with files: every part is read to its end, large ones into temporary files, before anything is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from tempfile import SpooledTemporaryFile
from typing import IO

from tests.standin.tarstream import Source

_BLOCK = 1 << 16
_IN_MEMORY = 10 << 10
_HEADER_LIMIT = 10 << 10


class FormError(Exception):
    """The form cannot be read."""


@dataclass(frozen=True)
class Part:
    """One part: a form field when it has no file name."""

    name: str
    file_name: str | None
    data: IO[bytes]


class _Stream:
    """A body that is read up to a mark; the boundary of the first part needs no line before it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._ready = bytearray(b"\r\n")

    def until(self, mark: bytes) -> Iterator[bytes]:
        """What comes before the mark, in blocks; the mark is taken too."""
        while (at := self._ready.find(mark)) < 0:
            if (safe := len(self._ready) - len(mark) + 1) > 0:
                yield bytes(self._ready[:safe])
                del self._ready[:safe]
            self._fill()
        yield bytes(self._ready[:at])
        del self._ready[: at + len(mark)]

    def exactly(self, size: int) -> bytes:
        while len(self._ready) < size:
            self._fill()
        data = bytes(self._ready[:size])
        del self._ready[:size]
        return data

    def _fill(self) -> None:
        more = self._source.read(_BLOCK)
        if not more:
            raise FormError("Processing of multipart/form-data request failed. Stream ended unexpectedly")
        self._ready += more


def parts(content_type: str, source: Source, stack: ExitStack) -> list[Part]:
    """All parts of a form in order; their temporary files live as long as the stack."""
    kind = Message()
    kind["Content-Type"] = content_type
    boundary = kind.get_param("boundary")
    if not isinstance(boundary, str) or not boundary:
        raise FormError("the request was rejected because no multipart boundary was found")
    delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
    stream = _Stream(source)
    found = []
    for _ in stream.until(delimiter):
        pass
    while stream.exactly(2) == b"\r\n":
        head = message_from_bytes(_head(stream))
        data = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the stack closes it
        stack.push(data)
        for block in stream.until(delimiter):
            data.write(block)
        data.seek(0)
        name = head.get_param("name", "", header="Content-Disposition")
        file_name = head.get_param("filename", None, header="Content-Disposition")
        found.append(Part(str(name), None if file_name is None else str(head.get_filename()), data))
    return found


def _head(stream: _Stream) -> bytes:
    head = b""
    for block in stream.until(b"\r\n\r\n"):
        head += block
        if len(head) > _HEADER_LIMIT:
            raise FormError("Header section has more than 10240 bytes (maybe it is not properly terminated)")
    return head + b"\r\n\r\n"
