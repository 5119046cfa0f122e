"""Reads ordinary headers fast, and leaves unusual ones to pydicom.

pydicom makes an object of every element, and reads the file for each. That takes 0.4 ms for a plain MR header, which
was more than half of the time to send such a file. But nearly all files are alike: they have a preamble, meta
information with the correct length, elements in ascending order, explicit or implicit VR little endian, and they are
complete. This module reads the first few kilobytes at once, skips from element to element, and takes only the wanted
values.

It makes no judgement. For a file with anything odd (another encoding, an element out of order, a truncated element or
one with a strange length, bytes after the last one) it returns None, and pydicom reads the file. So it only has to be
right about the files that it does read. tests/fuzz compares both readers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from io import BytesIO
from struct import Struct
from struct import error as StructError  # noqa: N812
from sys import intern
from typing import BinaryIO, NamedTuple, cast

from xnat_ingest.core import INFLATED, Instance, SourceFile
from xnat_ingest.inputs.behind_pixels import is_cut_behind
from xnat_ingest.inputs.dicom_dataset import EXPLICIT, IMPLICIT, UNDEFINED, NotWalkable
from xnat_ingest.inputs.dicom_file import BETWEEN_FILES, is_followed, measure_pixels
from xnat_ingest.inputs.element_runs import LONG_HEAD, SHORT_HEAD, Element, KnownRuns
from xnat_ingest.inputs.instances import (
    BASE_TAGS,
    CHARACTER_SET,
    INSTANCE_NUMBER,
    MEDIA_DIRECTORY,
    MODALITY,
    SERIES_DESCRIPTION,
    SERIES_NUMBER,
    SERIES_UID,
    SOP_CLASS,
    SOP_UID,
    STUDY_DATE,
    STUDY_UID,
    UID,
    NotConvertible,
    invalid_uids,
    make_instance,
    shared,
)
from xnat_ingest.inputs.sop_classes import DECISIVE, PIXEL_TAGS, lacking
from xnat_ingest.inputs.source import go_on
from xnat_ingest.inputs.undefined_length import pass_over

# Bytes to read at a time. The headers of most scanners fit in, and longer values are skipped. Of pixel data only the
# heads of fragments are read.
WINDOW = 4096
_FRAGMENT = 8
# A wanted element that is longer than this is left to pydicom.
LONGEST = 4096
_HEAD = Struct("<HH2sH").unpack_from
_LONG = Struct("<L").unpack_from
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
_SYNTAX, _MEDIA_SOP_CLASS = 0x00020010, 0x00020002
# The transfer syntaxes of encapsulated pixel data, except RLE.
_ENCAPSULATED, _RLE = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.[0-9]{1,3}"), "1.2.840.10008.1.2.5"
# Elements whose values are the same in many files.
_ALIKE = frozenset((SOP_CLASS, STUDY_UID, SERIES_UID, SERIES_NUMBER, MODALITY, STUDY_DATE))
# The elements that tell the instances of a series apart.
_OWN = frozenset((SOP_UID, INSTANCE_NUMBER))
# Series, or kinds of files in them, whose common values are kept.
_MOST_ALIKE = 1024
# pydicom only strips blanks from these.
_TEXT_VRS = frozenset(b"AE AS CS DA DT LO SH TM".split())
# What names character sets. The library stumbles over some of what does not.
_CHARACTER_SETS = re.compile(rb"[A-Za-z0-9_ .\\-]*\0?")
_NO_VALUE = (b"", b"")
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_NO_VRS = frozenset[bytes]()
# Tags from here on are those of items and their delimiters.
_ITEMS = 0xFFFE0000
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


class QuickHeader(NamedTuple):
    """The wanted values of an ordinary file.

    syntax: transfer syntax
    media_sop_class: what the meta information calls it
    head_size: bytes before the data set
    pixel_bytes: 0 without pixel data
    has: which of the decisive elements it has
    raw: tag -> (VR, value as written); the VR is empty where the file does not name it
    """

    syntax: str
    media_sop_class: bytes
    head_size: int
    pixel_bytes: int
    has: frozenset[int]
    raw: dict[int, tuple[bytes, bytes]]

    def first(self, tag: int) -> str:
        """See Values."""
        found = self.raw.get(tag)
        if found is None:
            return ""
        return _known_value(found[1]) if tag in _ALIKE else _first_value(found[1])

    def full(self, tag: int) -> str:
        """See Values. pydicom converts what is not plain ASCII text."""
        if tag not in self.raw:
            return ""
        vr, value = self.raw[tag]
        text = value.rstrip(b" \0")
        plain = vr in _TEXT_VRS or (not vr and tag == SERIES_DESCRIPTION)
        if plain and text.isascii() and not _CONTROLS.search(text):
            return "\\".join(word.strip() for word in text.decode("ascii").split("\\"))
        from xnat_ingest.inputs.header_text import converted_text  # which loads the library

        return converted_text(_encoded(self.raw, tag), tag, explicit=bool(vr))


def _first_value(value: bytes) -> str:
    return value.decode("latin-1").split("\\", 1)[0].strip(" \0\t\r\n")


_known_value = lru_cache(maxsize=1024)(_first_value)


def _encoded(raw: dict[int, tuple[bytes, bytes]], tag: int) -> bytes:
    """An element as a data set of its own, together with its character set."""
    found = b""
    for one in sorted({CHARACTER_SET, tag} & raw.keys()):
        vr, value = raw[one]
        head = one.to_bytes(4, "big")
        head = head[1::-1] + head[3:1:-1] + vr + (b"\0\0" if vr in _LONG_VRS else b"")
        found += head + len(value).to_bytes(2 if vr in _SHORT_VRS else 4, "little") + value
    return found


class Window:
    """A window on a file, and the position in it. Another window is read when it is needed."""

    def __init__(self, stream: BinaryIO, check_stop: Callable[[], None]) -> None:
        check_stop()
        self._check_stop = check_stop
        self._stream = stream
        self.step = WINDOW
        self.data = stream.read(WINDOW)
        self.begin = 0  # where in the file the piece begins
        self._at = 0  # place in the file

    def move(self, at: int) -> bytes:
        """Reads the window that begins at this position of the file."""
        self._check_stop()
        self._stream.seek(at)
        self.data, self.begin = self._stream.read(self.step), at
        return self.data

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (self._at if whence else 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next bytes; fewer at the end."""
        self._check_stop()  # a small file can hold millions of items
        at = self._at - self.begin
        if at < 0 or at + size > len(self.data):
            self.move(self._at)
            at = 0
        found = self.data[at : at + size]
        self._at += len(found)
        return found


class QuickReader:
    """Reads the headers of one scan. What it has learnt from a file, it uses for the next ones.

    keywords: those to keep, with their tags.
    patients: PatientID -> its number, for all files of a scan.
    check_stop: called at each read.
    """

    def __init__(
        self, keywords: Mapping[str, int], patients: dict[str, str], check_stop: Callable[[], None] = go_on
    ) -> None:
        kept = frozenset(keywords.values())
        self._keywords = keywords
        self._patients = patients
        self._check_stop = check_stop
        self._wanted = kept | {CHARACTER_SET, *BASE_TAGS}
        self._explicit, self._implicit = KnownRuns(self._wanted), KnownRuns(self._wanted)
        # What the files of a series have in common.
        self._shared = tuple(sorted(self._wanted - (_OWN - kept)))
        self._alike: dict[tuple[object, ...], Instance] = {}

    def instance(self, file: SourceFile, stream: BinaryIO) -> Instance | None:
        """The instance in an ordinary file, or None for an unusual one. Raises what the stream raises."""
        found = self.header(stream, file.size)
        if found is None:
            return None
        key = (found.syntax, found.media_sop_class, found.has, *map(found.raw.get, self._shared))
        alike = self._alike.get(key)
        if alike is None:
            alike = self._first_of_its_kind(file, found)
            if alike:
                if len(self._alike) >= _MOST_ALIKE:
                    self._alike.clear()
                self._alike[key] = alike
            return alike
        sop_uid = found.first(SOP_UID)
        if not UID.fullmatch(sop_uid):
            return None
        return Instance(
            file.path,
            shared(file.size),
            file.mtime_ns,
            alike.sop_class,
            sop_uid,
            alike.study_uid,
            alike.series_uid,
            alike.series_number,
            intern(found.first(INSTANCE_NUMBER)),
            alike.modality,
            alike.series_description,
            alike.transfer_syntax,
            shared(found.pixel_bytes),
            alike.tags,
            head_size=shared(found.head_size),
            flaw=alike.flaw,
            patient=alike.patient,
        )

    def _first_of_its_kind(self, file: SourceFile, found: QuickHeader) -> Instance | None:
        if invalid_uids(found):
            return None
        if not _CHARACTER_SETS.fullmatch(found.raw.get(CHARACTER_SET, _NO_VALUE)[1]):
            return None
        sop_class = found.first(SOP_CLASS)
        if sop_class == MEDIA_DIRECTORY or found.media_sop_class.startswith(MEDIA_DIRECTORY.encode()):
            return None
        if lacking(sop_class, found.has):
            return None
        try:
            return make_instance(
                file,
                found,
                self._keywords,
                self._patients,
                syntax=found.syntax,
                pixel_bytes=found.pixel_bytes,
                head_size=found.head_size,
            )
        except NotConvertible:
            return None

    def header(self, stream: BinaryIO, size: int) -> QuickHeader | None:
        """The wanted values, or None when pydicom must read the file from its start. Raises what the stream raises.

        size: of the file.
        """
        window = Window(stream, self._check_stop)
        try:
            if (read := self._read(window, size)) is None:
                return None
            found, pixels, explicit = read
            if pixels is None:
                return found
            window.step = _FRAGMENT
            measured = measure_pixels(window, pixels, size, True)
            window.step = BETWEEN_FILES
            if not measured.is_whole or is_followed(window, measured.end, size, explicit=explicit):
                return None
            window.step = WINDOW
            if is_cut_behind(window, measured.end, size, explicit=explicit):
                return None
        except NotWalkable:
            return None
        return found._replace(pixel_bytes=measured.bytes)

    def beginning(self, start: bytes) -> QuickHeader | None:
        """The wanted values of an object of which only the first bytes are at hand. None where they do not hold the
        whole header, and for an unusual one."""
        try:
            read = self._read(Window(BytesIO(start), self._check_stop), len(start))
        except NotWalkable:
            return None
        return read and read[0]

    def _read(self, window: Window, size: int) -> tuple[QuickHeader, tuple[str | None, int] | None, bool] | None:
        """(header without the size of its pixel data, VR and length of that, whether VRs are explicit)."""
        meta = _meta(window.data)
        if meta is None:
            return None
        syntax, media_sop_class, head_size = meta
        explicit = _is_explicit(syntax)
        vr = window.data[head_size + 4 : head_size + 6]
        if explicit is None or (not explicit and vr.isalpha() and vr.isupper()):  # it may be explicit all the same
            return None
        runs = self._explicit if explicit else self._implicit
        found = _walk(window, head_size, size, self._wanted, runs, explicit)
        if found is None:
            return None
        values, has, pixels = found
        return QuickHeader(syntax, media_sop_class, head_size, 0, has, values), pixels, explicit


def _meta(data: bytes) -> tuple[str, bytes, int] | None:
    """(transfer syntax, media storage SOP class, start of the data set); None for unusual meta information."""
    if data[128:140] != b"DICM" + _GROUP_LENGTH or len(data) < 144:
        return None
    end = 144 + _LONG(data, 140)[0]
    if end + 8 > len(data) or data[end : end + 2] == b"\x02\x00":
        return None
    at, last = 144, 0x00020000
    syntax = media = b""
    while at < end:
        group, element, vr, length = _HEAD(data, at)
        tag, at = group << 16 | element, at + 8
        if group != 2 or tag <= last:
            return None
        if vr in _LONG_VRS:
            length, at = _LONG(data, at)[0], at + 4
        elif vr not in _SHORT_VRS:
            return None
        if tag == _SYNTAX:
            syntax = data[at : at + length]
        elif tag == _MEDIA_SOP_CLASS:
            media = data[at : at + length]
        at, last = at + length, tag
    return (syntax.rstrip(b"\0").decode("latin-1"), media, at) if at == end else None


def _is_explicit(syntax: str) -> bool | None:
    """Whether a data set in this transfer syntax names VRs; None when pydicom should decide."""
    if syntax == IMPLICIT:
        return False
    known = syntax in (EXPLICIT, _RLE) or bool(_ENCAPSULATED.fullmatch(syntax))
    return True if known and syntax not in INFLATED else None


_Found = tuple[dict[int, tuple[bytes, bytes]], frozenset[int], tuple[str | None, int] | None]


def _walk(  # noqa: C901 - one loop with local variables only: it is most of the cost of an unusual file
    window: Window, begin: int, size: int, wanted: frozenset[int], runs: KnownRuns, explicit: bool
) -> _Found | None:
    """(values, decisive elements, VR and length of the pixel data). The window is then at the pixel data."""
    values: dict[int, tuple[bytes, bytes]] = {}
    has: list[int] = []
    new: list[Element] = []  # elements that are in no known run
    interesting, short_vrs = wanted | DECISIVE, _SHORT_VRS if explicit else _NO_VRS
    data, start, at, last = window.data, 0, begin, 0x0002FFFF
    while True:
        try:
            if run := runs.get(data[at : at + SHORT_HEAD]):
                new = new and runs.note(new)
                if run.first <= last:
                    return None
                if at + run.size > len(data) and at and run.size <= WINDOW:  # it is divided by the window's end
                    data, start, at = window.move(start + at), start + at, 0
                if at + run.size <= len(data):
                    if runs.fits(run, data, at):
                        values |= run.found(data, at)
                        has += run.has
                        last, at = run.last, at + run.size
                    continue
            group, element, vr, length = _HEAD(data, at)
            tag, value = group << 16 | element, at + SHORT_HEAD
            if tag <= last:
                return None
            if vr not in short_vrs:
                if (long := _long_head(data, at, vr, explicit)) is None:
                    return None
                vr, length, value = long
                if length == UNDEFINED and tag not in PIXEL_TAGS:
                    if tag in interesting:
                        return None
                    new = runs.note(new)
                    (data, start, at), last = _pass_items(window, start + value, explicit and vr != b"UN"), tag
                    continue
            if tag in interesting:
                has += (tag,) if tag in DECISIVE else ()
                if tag in PIXEL_TAGS:
                    runs.note(new)
                    window.seek(start + at)
                    return values, frozenset(has), (vr.decode("ascii") or None, length)
                if tag in wanted:
                    if length > LONGEST:
                        return None
                    if value + length > len(data):
                        data, start, value = window.move(start + value), start + value, 0
                    values[tag] = vr, data[value : value + length]
            if at < value and value + length <= len(data):
                new.append(Element(data[at:value], tag, vr, length))
            else:  # its head and its value are not in one window
                new = runs.note(new)
            last, at = tag, value + length
        except StructError:  # the head of an element extends beyond the window: read the next one, if there is more
            new = runs.note(new)
            if start + at >= size or at == 0:
                break
            data, start, at = window.move(start + at), start + at, 0
    return (values, frozenset(has), None) if start + at == size and last < _ITEMS else None


def _long_head(data: bytes, at: int, vr: bytes, explicit: bool) -> tuple[bytes, int, int] | None:
    """(VR, length, place of the value) of an element without a short head; None for an unknown VR."""
    if not explicit:
        return b"", _LONG(data, at + 4)[0], at + SHORT_HEAD
    return (vr, _LONG(data, at + SHORT_HEAD)[0], at + LONG_HEAD) if vr in _LONG_VRS else None


def _pass_items(window: Window, at: int, explicit: bool) -> tuple[bytes, int, int]:
    """Goes over a value of undefined length. Returns the window's bytes, where they begin, and the place in them."""
    window.seek(at)
    pass_over(cast(BinaryIO, window), explicit, "<")
    return window.data, window.begin, window.tell() - window.begin
