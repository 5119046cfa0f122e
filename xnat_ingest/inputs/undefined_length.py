"""Skips values of undefined length without building them: a small file can have millions of items (PS3.5, 7.5)."""

from __future__ import annotations

import struct
from typing import BinaryIO

from xnat_ingest.inputs.dicom_dataset import UNDEFINED, EndsInside, NotWalkable
from xnat_ingest.inputs.zeros import BLANK, MOST_BLANK

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# Byte order -> what takes a head apart, the length of two bytes at its end, and a length of four bytes.
_READERS = {
    order: (
        struct.Struct(f"{order}HHL").unpack,
        struct.Struct(f"{order}H").unpack_from,
        struct.Struct(f"{order}L").unpack,
    )
    for order in "<>"
}
_WIDE_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
# No real data set is nested this deeply, and some receivers fail earlier.
DEEPEST = 250
_TOO_DEEP = "sequences nested too deeply"


class TooDeep(NotWalkable):
    """Its sequences are nested too deeply for a receiver to be trusted with it."""


def pass_over(stream: BinaryIO, explicit: bool, order: str) -> None:
    """Moves the stream from the start of a value of undefined length to its end. Values inside are skipped, not read.

    explicit: whether the elements in it name their VR. Those that do not are taken as implicit, since some writers mix
        both.

    Raises NotWalkable.
    """
    take_apart, short, long = _READERS[order]
    levels = [explicit]
    blank = 0
    while levels:
        head = stream.read(8)
        if len(head) < 8:
            raise EndsInside("ends inside an element")
        group, element, length = take_apart(head)
        tag = group << 16 | element
        if tag in (_ITEM_END, _SEQUENCE_END):
            levels.pop()
            continue
        inner = levels[-1]
        vr = head[4:6]
        if tag != _ITEM and inner and vr.isalpha() and vr.isupper():
            length = short(head, 6)[0]
            if vr in _WIDE_VRS:
                wide = stream.read(4)
                if len(wide) < 4:
                    raise EndsInside("ends inside an element")
                length = long(wide)[0]
            inner = vr != b"UN"
        if length != UNDEFINED:
            if length:
                stream.seek(length, 1)
            elif not tag and (blank := blank + 1) > MOST_BLANK:
                raise NotWalkable(BLANK)
            continue
        if len(levels) >= DEEPEST:
            raise TooDeep(_TOO_DEEP)
        levels.append(inner)
