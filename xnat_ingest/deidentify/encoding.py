"""Encoded data sets in memory: where elements begin and end, and elements written anew (PS3.5). No value is decoded."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from xnat_ingest.inputs.dicom_dictionary import vr_of
from xnat_ingest.inputs.source import go_on

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# No real object has sequences nested more deeply than this.
DEEPEST = 40
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_NAMES = {vr: vr.decode() for vr in _SHORT | _LONG}


class NotRewritable(Exception):
    """The object cannot be rewritten safely. The text says why. It continues a sentence that begins with the object."""


class EndsEarly(NotRewritable):
    """The data ends before its elements do. There may be more to come."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a data set is encoded. order: < or >, as struct writes it."""

    explicit: bool
    order: str

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """A whole element; the value must be of even length."""
        group, number = tag >> 16, tag & 0xFFFF
        if not self.explicit:
            return struct.pack(self.order + "HHL", group, number, len(value)) + value
        name = vr.encode()
        if name in _SHORT:
            if len(value) > 0xFFFE:
                raise NotRewritable(f"has a value of {len(value)} bytes where {vr} takes 65534")
            return struct.pack(self.order + "HH2sH", group, number, name, len(value)) + value
        return struct.pack(self.order + "HH2sHL", group, number, name, 0, len(value)) + value

    def item(self, content: bytes) -> bytes:
        return struct.pack(self.order + "HHL", 0xFFFE, 0xE000, len(content)) + content


LITTLE_IMPLICIT = Encoding(explicit=False, order="<")
LITTLE_EXPLICIT = Encoding(explicit=True, order="<")
BIG_EXPLICIT = Encoding(explicit=True, order=">")


def padded(value: bytes, vr: str) -> bytes:
    """The value, padded to an even length as its VR requires."""
    return value + (b"\0" if vr in ("UI", "OB", "UN") else b" ") if len(value) % 2 else value


class Reader:
    """The elements of a data set in memory. check_stop: called now and then, since there can be millions of them."""

    def __init__(self, data: bytes, encoding: Encoding, check_stop: Callable[[], None] = go_on) -> None:
        self.data = data
        self.check_stop = check_stop
        self.encoding = encoding
        heads = struct.Struct(encoding.order + "HH2sH"), struct.Struct(encoding.order + "HHL")
        self._explicit, self._implicit = heads
        self._long = struct.Struct(encoding.order + "L")

    def head(self, at: int, end: int, explicit: bool) -> tuple[int, str, int, int]:
        """(tag, VR, start of the value, its length) of the element that begins here.

        The VR of one that names none, or UN, is the dictionary's; "" for a private one. Raises NotRewritable.
        """
        if at + 8 > end:
            raise self.cut(end)
        if explicit:
            group, number, name, length = self._explicit.unpack_from(self.data, at)
            tag = group << 16 | number
            if name in _SHORT:
                if at + 8 + length > end:
                    raise self.cut(end)
                return tag, _NAMES[name], at + 8, length
            if group == 0xFFFE:
                return tag, "", at + 8, self._long.unpack_from(self.data, at + 4)[0]
            if name not in _LONG:
                raise NotRewritable("has an element of a value representation that the standard does not know")
            if at + 12 > end:
                raise self.cut(end)
            length = self._long.unpack_from(self.data, at + 8)[0]
            return tag, _NAMES[name], at + 12, self._within(at + 12, length, end)
        group, number, length = self._implicit.unpack_from(self.data, at)
        tag = group << 16 | number
        if group == 0xFFFE:
            return tag, "", at + 8, length
        return tag, "" if group & 1 else vr_of(tag), at + 8, self._within(at + 8, length, end)

    def _within(self, start: int, length: int, end: int) -> int:
        if length != UNDEFINED and start + length > end:
            raise self.cut(end)
        return length

    def cut(self, end: int) -> NotRewritable:
        """The error for something that is longer than its container, which ends there."""
        if end == len(self.data):
            return EndsEarly("ends inside an element")
        return NotRewritable("has an element that is longer than what holds it")

    def fragments_end(self, at: int, end: int) -> int:
        """Where encapsulated pixels end, including their delimiter. Their items do not hold elements."""
        while True:
            tag, _, start, size = self.head(at, end, explicit=False)
            if tag == SEQUENCE_END:
                return start
            if tag != ITEM or size == UNDEFINED:
                raise NotRewritable("has encapsulated data that is not built of fragments")
            if start + size > end:
                raise self.cut(end)
            at = start + size
