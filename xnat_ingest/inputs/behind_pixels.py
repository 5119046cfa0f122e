"""What follows the pixel data: more elements of the data set, or anything else (PS3.5, 7.1 and 7.5).

Private elements stand there, digital signatures and padding. A file that was cut inside one of them is truncated. But
some files go on with what is no element: zeros, stale bytes of a disk, text, another object. That tells of no cut.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple, Protocol, cast

from xnat_ingest.inputs.dicom_dataset import UNDEFINED, EndsInside, NotWalkable
from xnat_ingest.inputs.undefined_length import pass_over

PIXEL_DATA = 0x7FE00010
# The first private group behind the pixels, signatures and padding.
_PRIVATE, _SIGNATURES, _PADDING = 0x7FE1, 0xFFFAFFFA, 0xFFFCFFFC
# No private group has this number (PS3.5, 7.8). Bytes of 0xFF are filling.
_NO_GROUP = 0xFFFF
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
# Those that may have an undefined length.
_OPEN_VRS = frozenset((b"", b"SQ", b"UN", b"OB", b"OW"))
_LONG_HEAD, _SHORT_HEAD, _ITEM = 12, 8, 8
# An element's head and that of its first item.
MOST = _LONG_HEAD + _ITEM
# No value there is longer.
_LONGEST = 0x7FFFFFFF
# The number of a group. One byte tells nothing.
_LEAST = 2


class Readable(Protocol):
    """A seekable stream."""

    def tell(self) -> int: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...


class Behind(NamedTuple):
    """The head of an element behind the pixels.

    head: its bytes.
    length: of the value; None when the file ends inside the head.
    """

    tag: int
    vr: bytes
    head: int
    length: int | None


def is_cut_behind(stream: Readable, end: int, size: int, *, explicit: bool, order: str = "<") -> bool:
    """Whether a file of this size ends inside an element behind its pixel data, which end there.

    Values are skipped, not read. Nothing is read of a file that ends with its pixels.
    """
    at, last = end, PIXEL_DATA
    while at < size:
        stream.seek(at)
        found = element_behind(stream.read(min(MOST, size - at)), last, explicit=explicit, order=order)
        if found is None:
            return False
        if found.length is None:
            return True
        at, last = at + found.head, found.tag
        if found.length != UNDEFINED:
            at += found.length
            continue
        stream.seek(at)
        try:
            pass_over(cast(BinaryIO, stream), explicit and found.vr != b"UN", order)
        except EndsInside:
            return True
        except NotWalkable:
            return False
        at = stream.tell()
    return at > size


def element_behind(raw: bytes, last: int, *, explicit: bool, order: str = "<") -> Behind | None:
    """The element that plausibly begins with these bytes, or None.

    raw: MOST bytes, or as many as the file still has.
    last: the tag before it.
    """
    if len(raw) < _LEAST:
        return None
    group, element = struct.unpack_from(f"{order}HH", raw.ljust(MOST, b"\0"))
    tag = group << 16 | (element if len(raw) >= 4 else 0xFFFF)
    if tag <= last or not _is_expected(tag, raw, last, explicit=explicit):
        return None
    vr = raw[4:6] if explicit else b""
    size = _LONG_HEAD if vr in _LONG_VRS else _SHORT_HEAD
    if len(raw) < size:
        return Behind(tag, vr, size, None)
    begin, form = (6, "H") if vr in _SHORT_VRS else (size - 4, "L")
    (length,) = struct.unpack_from(order + form, raw, begin)
    if length == UNDEFINED and not _is_open(vr, raw[size:], order):
        return None
    if _LONGEST < length < UNDEFINED:  # pixels of -4 or -6 look like padding or signatures
        return None
    return Behind(tag, vr, size, length)


def _is_expected(tag: int, raw: bytes, last: int, *, explicit: bool) -> bool:
    """Whether an element with this tag and head is to be expected. A VR is a good sign; without one, few tags are."""
    group = tag >> 16
    if explicit and len(raw) >= 6:
        is_long = raw[4:6] in _LONG_VRS and not any(raw[6:8])
        is_private = bool(group & 1) and group != _NO_GROUP
        return (is_long or raw[4:6] in _SHORT_VRS) and (is_private or group == last >> 16 or _is_standard(tag, raw))
    return group in (_PRIVATE, last >> 16) or _is_standard(tag, raw)


def _is_standard(tag: int, raw: bytes) -> bool:
    group = tag >> 16
    return tag in (_SIGNATURES, _PADDING) or (len(raw) < 4 and group in (_SIGNATURES >> 16, _PADDING >> 16))


def _is_open(vr: bytes, first: bytes, order: str) -> bool:
    """Whether an element of undefined length begins with an item or its end, or with the end of the file."""
    starts = [struct.pack(f"{order}HH", 0xFFFE, element) for element in (0xE000, 0xE0DD)]
    return vr in _OPEN_VRS and any(start.startswith(first[:4]) for start in starts)
