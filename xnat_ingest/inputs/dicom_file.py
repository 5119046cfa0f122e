"""The outside of a DICOM file: what it looks like, where it ends, how many bytes its pixels take (PS3.5, PS3.10)."""

from __future__ import annotations

import struct
from typing import BinaryIO

UNDEFINED = 0xFFFFFFFF
# Enough of a file to see its transfer syntax: only the preamble and two UIDs come before it.
START = 512
_LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})


class Watched:
    """A stream that remembers whether an element's first eight bytes came short: the file ends inside one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._read = stream.read
        self.seek = stream.seek
        self.tell = stream.tell
        self.cut = False

    def read(self, size: int = -1) -> bytes:
        data = self._read(size)
        if size == 8 and 0 < len(data) < 8:
            self.cut = True
        return data


def sniff(start: bytes) -> str:
    """What a file's first START bytes look like: 'part10' with the DICM mark, 'bare' when the first element looks like
    DICOM without it, else 'other'."""
    if start[128:132] == b"DICM":
        return "part10"
    if len(start) < 8:
        return "other"
    group, element, vr = struct.unpack("<HH2s", start[:6])
    explicit = vr.isalpha() and vr.isupper()
    if start[:2] in (b"\x00\x08", b"\x00\x02") and explicit:  # big endian
        return "bare"
    length = struct.unpack("<L", start[4:8])[0]
    return "bare" if group in (0x0002, 0x0008) and element < 0x2000 and (explicit or length < 1024) else "other"


def measure_pixels(stream: Watched, pixels: tuple[str | None, int], size: int, little_endian: bool) -> tuple[int, bool]:
    """(bytes of the pixel data, whether the file holds them all); the stream stands at the element's start."""
    vr, length = pixels
    start = stream.tell() + (12 if vr in _LONG_VRS else 8)
    if length != UNDEFINED:
        return length, start + length <= size
    order = "<" if little_endian else ">"
    total, at = 0, start
    while True:  # encapsulated: items, then the sequence delimiter (PS3.5, A.4)
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return total, False
        group, element, item = struct.unpack(f"{order}HHL", head)
        if (group, element) == (0xFFFE, 0xE0DD):
            return total, True
        if (group, element) != (0xFFFE, 0xE000) or item == UNDEFINED:
            return total, True  # not built as the standard says: no statement about its end
        if at + 8 + item > size:
            return total, False
        total += item
        at += 8 + item
