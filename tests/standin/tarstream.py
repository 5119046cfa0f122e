"""Reading a tar archive from a stream, front to back, as commons-compress does.

Nothing but one block and one extended header is ever in memory. A stream that ends between two entries is no
error (no end-of-archive blocks are asked for); one that ends inside an entry is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK = 512
_HEADER_LIMIT = 1 << 20


class Source(Protocol):
    """Anything that hands out bytes; fewer than asked for only at the end."""

    def read(self, size: int, /) -> bytes: ...


class ArchiveError(Exception):
    """The archive cannot be read on: XNAT's ``unable to read data from file``."""


class TruncatedEntryError(Exception):
    """The archive ends inside an entry."""


class Member:
    """The bytes of one entry."""

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self.left = size

    def read(self, size: int, /) -> bytes:
        wanted = min(size, self.left)
        if wanted <= 0:
            return b""
        data = self._source.read(wanted)
        self.left -= len(data)
        if len(data) < wanted:
            self.left = 0
            raise TruncatedEntryError("Truncated TAR archive")
        return data

    def skip(self) -> None:
        while self.left:
            self.read(1 << 16)


@dataclass
class Entry:
    name: str
    kind: bytes
    member: Member


class Gunzip:
    """A gzip stream, inflated on the fly."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._ready = b""
        self._ended = False

    def read(self, size: int, /) -> bytes:
        parts = []
        while size and (data := self._some(size)):
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        while not self._ready and not self._ended:
            self._fill()
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _fill(self) -> None:
        packed = self._inflate.unconsumed_tail or self._source.read(1 << 16)
        if not packed:
            if not self._inflate.eof:
                raise ArchiveError("Unexpected end of ZLIB input stream")
            self._ended = True
            return
        try:
            self._ready = self._inflate.decompress(packed, 1 << 18)
        except zlib.error as error:
            raise ArchiveError("Not in GZIP format") from error
        self._ended = self._inflate.eof


def entries(source: Source) -> Iterator[Entry]:
    """Every entry with its final name and size; what the caller leaves unread is skipped."""
    extended: dict[str, str] = {}
    everywhere: dict[str, str] = {}
    long_name = ""
    while (header := _record(source)) is not None:
        size = _number(header[124:136])
        kind = header[156:157]
        if kind in b"xXgL" and kind != b"\0":
            payload = _payload(source, size)
            if kind == b"g":
                everywhere |= _pax(payload)
            elif kind == b"L":
                long_name = payload.rstrip(b"\0").decode("utf-8", "replace")
            else:
                extended |= _pax(payload)
            continue
        fields = everywhere | extended
        member = Member(source, int(fields.get("size", size)))
        padding = -member.left % BLOCK
        yield Entry(fields.get("path") or long_name or _name(header), kind, member)
        extended, long_name = {}, ""
        _skip(member)
        source.read(padding)


def _skip(member: Member) -> None:
    try:
        member.skip()
    except TruncatedEntryError as error:
        raise ArchiveError(str(error)) from error


def _record(source: Source) -> bytes | None:
    """The next header, or None at the end: end-of-archive blocks, or simply nothing more."""
    header = source.read(BLOCK)
    if len(header) < BLOCK:
        return None
    if header == bytes(BLOCK):
        while source.read(BLOCK * 20):  # the rest is padding; read it so that the connection stays usable
            pass
        return None
    return header


def _payload(source: Source, size: int) -> bytes:
    if size > _HEADER_LIMIT:
        raise ArchiveError("extended header too large")
    member = Member(source, size)
    try:
        payload = member.read(size)
    except TruncatedEntryError as error:
        raise ArchiveError(str(error)) from error
    source.read(-size % BLOCK)
    return payload


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits or b"0", 8)
    except ValueError as error:
        raise ArchiveError("Error detected parsing the header") from error


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0].decode("utf-8", "replace")
    prefix = header[345:500].split(b"\0", 1)[0].decode("utf-8", "replace") if header[257:262] == b"ustar" else ""
    return f"{prefix}/{name}" if prefix else name


def _pax(payload: bytes) -> dict[str, str]:
    found = {}
    while payload:
        length, space, _ = payload.partition(b" ")
        if not space or not length.isdigit() or not 0 < int(length) <= len(payload):
            raise ArchiveError("Failed to read Paxheader")
        record = payload[len(length) + 1 : int(length) - 1]
        key, _, value = record.partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        payload = payload[int(length) :]
    return found
