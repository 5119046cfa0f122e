"""A DICOM file from outside: whether it is one, where it ends, how many bytes its pixels take (PS3.5, PS3.10)."""

from __future__ import annotations

import io
import re
import struct
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

from xnat_ingest.inputs.behind_pixels import Readable
from xnat_ingest.inputs.dicom_dataset import EndsInside, NotWalkable
from xnat_ingest.inputs.undefined_length import pass_over
from xnat_ingest.inputs.zeros import BLANK, MOST_BLANK, pass_zeros

UNDEFINED = 0xFFFFFFFF
_BLANK_HEAD = bytes(8)
_LAST_MARK = b"\xff\xd9"
# An item, or the end of a sequence without items, in little endian.
_ITEM_STARTS = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# The prefix of a DICOM file, and the first element behind it.
_PREFIX = b"DICM\x02\0"
# With all of that element's head. So much is no chance, even without a preamble.
_META = b"\x02\0\0\0UL\x04\0"
_LONG_PREFIX = b"DICM" + _META
_PREAMBLE = 128
# An element of the first groups with its VR. So many in a file's first kilobyte are no chance.
_ELEMENT = re.compile(rb"[\x02\x08\x10\x18\x20]\0[\0-\xff]{2}(?:AE|AS|CS|DA|DS|IS|LO|OB|PN|SH|TM|UI|UL|US)", re.DOTALL)
_ELEMENTS = 4
# Where the next file may begin, in one that holds several.
BETWEEN_FILES = 1 << 20
# No object is smaller: the prefix, the meta information, and the UIDs of class, instance, study and series.
_LEAST_FILE = 272
# A data set without a file header is known by what it begins with: group 8, up to the SOPInstanceUID.
_SOP_UID, _UID = 0x00080018, re.compile(rb"[0-9]+(?:\.[0-9]+)+\0?")
_LONGEST_BEGIN = 8192
# A checksum, a line's end and the like are shorter.
_FEW = 128
# Enough to reach the transfer syntax: only the preamble and two UIDs come before it.
START = 1024
_ITEM_HEAD = {order: struct.Struct(f"{order}HHL").unpack for order in "<>"}
_LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})


class TruncationDetector:
    """A stream that remembers whether the file ended inside the first eight bytes of an element.

    check_stop: called at each read; may raise.

    Reading raises NotWalkable when too many elements in a row are nothing but zeros.
    """

    def __init__(self, stream: BinaryIO, check_stop: Callable[[], None]) -> None:
        self.check_stop = check_stop
        self._read = stream.read
        self.seek = stream.seek
        self.tell = stream.tell
        self.cut = False
        self._blank = 0

    def read(self, size: int = -1) -> bytes:
        self.check_stop()
        data = self._read(size)
        if size == 8 and 0 < len(data) < 8:
            self.cut = True
        if size == 8:
            self._blank = self._blank + 1 if data == _BLANK_HEAD else 0
            if self._blank > MOST_BLANK:
                raise NotWalkable(BLANK)
        return data


def sniff(start: bytes) -> str:
    """What a file is, from its first START bytes.

    'part10': it has a preamble with the DICM prefix.
    'bare': it has no preamble, but its first element looks like DICOM.
    'moved': the prefix and the first element of the meta information stand elsewhere (see moved_prefix), or there is no
        prefix, but several elements.
    'other': anything else.
    """
    if start[128:132] == b"DICM":
        return "part10"
    if moved_prefix(start) >= 0:
        return "moved"
    if len(start) < 8:
        return "other"
    group, element, vr = struct.unpack("<HH2s", start[:6])
    explicit = vr.isalpha() and vr.isupper()
    if start[:2] in (b"\x00\x08", b"\x00\x02") and explicit:  # big endian
        return "bare"
    length = struct.unpack("<L", start[4:8])[0]
    if group in (0x0002, 0x0008) and element < 0x2000 and (explicit or length < 1024):
        return "bare"
    return "moved" if len(_ELEMENT.findall(start)) >= _ELEMENTS else "other"


def moved_prefix(start: bytes) -> int:
    """Where the DICM prefix begins in a file to whose front something was added, or that has lost its start; else -1.

    An archive that stores its members uncompressed looks the same.
    """
    return start.find(_PREFIX)


@dataclass(frozen=True, slots=True)
class PixelData:
    """The pixel data of a file, as far as it is present.

    bytes: its size.
    is_whole: whether it ends as it should.
    fragments: of encapsulated pixel data, without its offset table.
    marked: how many of them end with the end marker of a codestream.
    lost: bytes that are missing from the last of them.
    end: where it ends in the file.
    """

    bytes: int
    is_whole: bool
    fragments: int = 0
    marked: int = 0
    lost: int = 0
    end: int = 0


def measure_pixels(stream: Readable, pixels: tuple[str | None, int], size: int, little_endian: bool) -> PixelData:
    """Measures the pixel data of a file of this size. The stream is at the start of the element."""
    vr, length = pixels
    start = stream.tell() + (12 if vr in _LONG_VRS else 8)
    if length != UNDEFINED:
        return PixelData(length, start + length <= size, end=start + length)
    item_head = _ITEM_HEAD["<" if little_endian else ">"]
    items = list[tuple[int, int]]()  # start and end of each
    at, is_whole = start, True
    while True:  # encapsulated: items, then the sequence delimiter (PS3.5, A.4)
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            is_whole = False
            break
        group, element, item = item_head(head)
        if (group, element) == (0xFFFE, 0xE0DD):
            at += 8
            break
        if (group, element) != (0xFFFE, 0xE000) or item == UNDEFINED:
            break  # something that does not follow the standard
        items.append((at + 8, at + 8 + item))
        at += 8 + item
        if at > size:
            is_whole = False
            break
    lost = max(0, at - size)
    total = sum(end - begin for begin, end in items) - lost
    fragments = items[1:]
    marked = 0 if is_whole else sum(_ends_marked(stream, begin, min(end, size)) for begin, end in fragments)
    return PixelData(total, is_whole, len(fragments), marked, lost, at)


def is_followed(stream: Readable, end: int, size: int, *, explicit: bool | None = None) -> bool:
    """Whether another DICOM file begins behind the end of a data set: some tools write many into one.

    A few elements may stand between, such as padding. One of them may hold a whole file.

    explicit: how those are encoded, in little endian. None when the end is not known exactly.
    """
    if end + _LEAST_FILE > size:
        return False
    stream.seek(end)
    behind = stream.read(BETWEEN_FILES)
    starts = [0] if explicit is None else _element_starts(behind, explicit=explicit)
    if explicit is not None and _begins_data_set(behind[starts[-1] :]):
        return True
    at = behind.find(_PREFIX)
    while at >= 0 and not _begins_file(behind, at, starts):
        at = behind.find(_PREFIX, at + 1)
    return at >= 0


def _begins_file(behind: bytes, prefix: int, starts: Sequence[int]) -> bool:
    """Whether a file begins here, with its preamble or without, and not inside an element. starts: of elements."""
    begins = [prefix - _PREAMBLE] if prefix >= _PREAMBLE else []
    begins += [prefix] if behind.startswith(_LONG_PREFIX, prefix) else []
    return any(begin >= starts[-1] or starts[bisect_left(starts, begin)] == begin for begin in begins)


def _begins_data_set(data: bytes) -> bool:
    """Whether an object without a file's beginning stands here, perhaps behind zeros."""
    data = data.lstrip(b"\0")[:_LONGEST_BEGIN]
    return data.startswith(_META) or any(_leads_to_uid(data, explicit=explicit) for explicit in (True, False))


def _leads_to_uid(data: bytes, *, explicit: bool) -> bool:
    """Whether elements of group 8 begin here, in little endian, and the SOPInstanceUID is among them."""
    at = last = 0
    while at + 8 <= len(data):
        group, element, vr = struct.unpack_from("<HH2s", data, at)
        tag = group << 16 | element
        if group != 8 or not last < tag <= _SOP_UID or (explicit and not (vr.isalpha() and vr.isupper())):
            return False
        begin, form = (6, "<H") if explicit else (4, "<L")  # none of these elements has a long VR
        end = at + 8 + struct.unpack_from(form, data, at + begin)[0]
        if tag == _SOP_UID:
            return _UID.fullmatch(data, at + 8, end) is not None
        at, last = end, tag
    return False


def is_padded(stream: Readable, end: int, size: int) -> bool:
    """Whether nothing else follows the end of a data set than zeros and perhaps a few other bytes."""
    if end + _FEW > size:
        return True
    stream.seek(end)
    zeros, rest = pass_zeros(cast(BinaryIO, stream))
    if not rest:
        return True
    stream.seek(end + zeros + _FEW)
    return not pass_zeros(cast(BinaryIO, stream))[1]


def _element_starts(data: bytes, *, explicit: bool) -> list[int]:
    """Where the elements begin with which the data begin, and where the last one ends. Their tags ascend."""
    starts, last = [0], 0x7FE00010
    while (at := starts[-1]) + 8 <= len(data):
        group, element, vr = struct.unpack_from("<HH2s", data, at)
        is_long = explicit and vr.decode("latin-1") in _LONG_VRS
        form, begin = ("<L", 8 if is_long else 4) if is_long or not explicit else ("<H", 6)
        if group << 16 | element <= last or at + 12 > len(data) or (explicit and not (vr.isalpha() and vr.isupper())):
            break
        length = struct.unpack_from(form, data, at + begin)[0]
        at, last = at + (12 if is_long else 8), group << 16 | element
        starts.append(at + length if length != UNDEFINED else _end_of_items(data, at, explicit and vr != b"UN"))
    return starts


def _end_of_items(data: bytes, at: int, explicit: bool) -> int:
    """Where a value of undefined length ends that begins here; here, if it is none."""
    if not data.startswith(_ITEM_STARTS, at):
        return at
    stream = io.BytesIO(data)
    stream.seek(at)
    try:
        pass_over(stream, explicit, "<")
    except EndsInside:
        return len(data)
    except NotWalkable:
        return at
    return stream.tell()


def _ends_marked(stream: Readable, begin: int, end: int) -> bool:
    """Whether a fragment ends a JPEG, JPEG-LS or JPEG 2000 codestream; a pad byte may follow."""
    stream.seek(max(begin, end - 3))
    return stream.read(end - max(begin, end - 3)).rstrip(b"\0").endswith(_LAST_MARK)
