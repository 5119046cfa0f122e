"""Objects whose transfer syntax comes with the request and not with the bytes: a bare data set.

The receiver makes the file meta information itself, from the object's own UIDs, the syntax it was told, and the
sender's title if it has one; the data set's bytes stay as they came.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from tests.standin.dicomhead import Head, Header, read_head
from tests.standin.tarstream import Source

_IMPLEMENTATION = ("1.2.40.0.13.1.1", "dcm4che-2.0")
_TRANSFER_SYNTAX = 0x00020010


class _After:
    """Bytes of our own, then a stream."""

    def __init__(self, first: bytes, source: Source) -> None:
        self._first = first
        self._source = source

    def read(self, size: int, /) -> bytes:
        first, self._first = self._first[:size], self._first[size:]
        return first + self._source.read(size - len(first)) if len(first) < size else first


def read_object(source: Source, params: Mapping[str, str], stop_after: int) -> Head:
    """The head of an object: a file, or with ``Transfer-Syntax-UID`` a data set of that syntax."""
    syntax = params.get("Transfer-Syntax-UID")
    if syntax is None:
        return read_head(source, stop_after)
    begin = _file_begin([(0x10, "UI", syntax)])
    head = read_head(_After(begin, source), stop_after)
    elements = [
        (0x02, "UI", head.data.text("SOPClassUID") or ""),
        (0x03, "UI", head.data.text("SOPInstanceUID") or ""),
        (0x10, "UI", syntax),
        (0x12, "UI", _IMPLEMENTATION[0]),
        (0x13, "SH", _IMPLEMENTATION[1]),
    ]
    if title := params.get("Sender-AE-Title"):
        elements.append((0x16, "AE", title))
    meta = Header(values={_TRANSFER_SYNTAX: ("UI", syntax.encode())})
    made = _file_begin(elements)
    return Head(head.data, meta, made + head.raw[len(begin) :], len(made), head.parsed, head.encoding)


def _file_begin(elements: list[tuple[int, str, str]]) -> bytes:
    """Preamble, prefix and file meta information, with its version and its length."""
    body = b"\2\0\1\0OB\0\0\2\0\0\0\0\1"
    for element, vr, value in elements:
        raw = value.encode("ascii", "replace")
        raw += (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)
        body += struct.pack("<HH2sH", 2, element, vr.encode(), len(raw)) + raw
    return bytes(128) + b"DICM\2\0\0\0UL\4\0" + struct.pack("<I", len(body)) + body
