"""Reading the head of a DICOM stream and keeping what was read, so that the file can be stored as it came.

XNAT parses up to a stop tag and copies the rest without looking at it; so does this, with a reader of its own: the
product's library must not judge the product's uploads. The preamble is rewritten as zeros. Objects without preamble
or meta header are taken when they begin as a data set does.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from tests.standin.tables import words
from tests.standin.tarstream import Source

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
STUDY_COMMENTS = 0x00324000
"""The last tag XNAT's identifier reads; filters and nothing else can move the stop tag behind it."""

_META, _META_END = 0x00020000, 0x0002FFFF
_ITEM_END, _SEQUENCE_END = 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG = {name.encode() for name in words("OB OW OF OD OL OV SQ UN UT UC UR SV UV")}
_STRINGS = set(words("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT"))
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
_HEAD_LIMIT = 256 << 20


class NotDicomError(Exception):
    """The bytes are no DICOM object."""


@dataclass
class Header:
    """Top-level elements as raw bytes, by tag."""

    little: bool = True
    values: dict[int, tuple[str, bytes]] = field(default_factory=dict)

    def __contains__(self, tag: int) -> bool:
        return tag in self.values

    def text(self, keyword: str) -> str | None:
        """The first value of an element as it stands in the file, trimmed; blank counts as absent."""
        tag = tag_for_keyword(keyword)
        if tag is None or tag not in self.values:
            return None
        vr, raw = self.values[tag]
        if vr in ("", "UN"):
            vr = dictionary_VR(tag)
        if code := _NUMBERS.get(vr.split(" ")[0]):
            size = struct.calcsize(code)
            return str(struct.unpack(("<" if self.little else ">") + code, raw[:size])[0]) if len(raw) >= size else None
        if vr not in _STRINGS:
            return None
        return raw.decode(self._encoding(), "replace").split("\\")[0].strip(" \0") or None

    def _encoding(self) -> str:
        named = self.values.get(0x00080005, ("", b""))[1].decode("ascii", "replace").split("\\")[0].strip(" \0")
        return {"ISO_IR 192": "utf-8", "GB18030": "gb18030", "GBK": "gbk"}.get(named, "latin-1")


@dataclass(frozen=True)
class Encoding:
    """How a data set is written."""

    explicit: bool = True
    little: bool = True
    deflated: bool = False
    guessed: bool = False
    """From the bytes, for want of file meta information."""


@dataclass
class Head:
    """What was parsed, and every byte read so far (with a clean preamble), ready to be written."""

    data: Header
    meta: Header
    raw: bytes
    begin: int = 0
    """Where the data set begins in ``raw``."""
    parsed: bytes = b""
    """The data set's parsed part as bytes of its encoding, inflated where the object is deflated."""
    encoding: Encoding = Encoding()

    @property
    def bare(self) -> bool:
        """Whether the object came without file meta information; what ``meta`` holds is made up then."""
        return self.encoding.guessed

    @property
    def transfer_syntax(self) -> str:
        return self.meta.text("TransferSyntaxUID") or EXPLICIT_LITTLE


class _Reader:
    """A one-way stream that remembers every byte, and can look ahead a little."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.seen = bytearray()
        self._at = 0

    def peek(self, size: int) -> bytes:
        while len(self.seen) - self._at < size:
            more = self._source.read(min(max(size - (len(self.seen) - self._at), 4096), 1 << 16))
            if not more:
                break
            self.seen += more
            if len(self.seen) > _HEAD_LIMIT:
                raise NotDicomError("the head does not end")
        return bytes(self.seen[self._at : self._at + size])

    def read(self, size: int, /) -> bytes:
        data = self.peek(size)
        self._at += len(data)
        return data

    @property
    def taken(self) -> bytes:
        """What was read, without what was only looked at."""
        return bytes(self.seen[: self._at])

    def exactly(self, size: int) -> bytes:
        data = self.read(size)
        if len(data) < size:
            raise NotDicomError("the object ends inside its head")
        return data


class _Inflated:
    """The data set of a deflated object."""

    def __init__(self, source: _Reader) -> None:
        self._source = source
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def read(self, size: int, /) -> bytes:
        while True:
            packed = self._inflate.unconsumed_tail or self._source.read(4096)
            try:
                data = self._inflate.decompress(packed, size)
            except zlib.error as error:
                raise NotDicomError(str(error)) from error
            if data or not packed or self._inflate.eof:
                return data


class _Elements:
    """Reads elements of one encoding."""

    def __init__(self, stream: _Reader, *, explicit: bool, little: bool) -> None:
        self._stream = stream
        self._explicit = explicit
        self._order = "<" if little else ">"
        self.header = Header(little)

    def read_until(self, last: int, first: int = 0) -> Header:
        """Take elements from tag ``first`` up to and including ``last``; the next one stays unread."""
        while len(start := self._stream.peek(4)) == 4 and first <= self._tag(start) <= last:
            tag, vr, length = self._next(self._explicit)
            if length == _UNDEFINED:
                self._skip_items(self._explicit and vr != "UN")
            else:
                self.header.values[tag] = (vr, self._stream.exactly(length))
        return self.header

    def _tag(self, raw: bytes) -> int:
        group, element = struct.unpack(self._order + "HH", raw)
        return int(group) << 16 | int(element)

    def _next(self, explicit: bool) -> tuple[int, str, int]:
        tag = self._tag(self._stream.exactly(4))
        if not explicit or tag >> 16 == 0xFFFE:
            return tag, "", int(struct.unpack(self._order + "I", self._stream.exactly(4))[0])
        vr = self._stream.exactly(2)
        if not (vr.isalpha() and vr.isupper()):
            raise NotDicomError(f"no value representation: {vr!r}")
        if vr in _LONG:
            self._stream.exactly(2)
            return tag, vr.decode(), int(struct.unpack(self._order + "I", self._stream.exactly(4))[0])
        return tag, vr.decode(), int(struct.unpack(self._order + "H", self._stream.exactly(2))[0])

    def _skip_items(self, explicit: bool) -> None:
        """Pass over a value of undefined length: items of known length, or of elements up to a delimiter."""
        open_ones = [explicit]  # a stack, no recursion: the depth is the sender's choice
        while open_ones:
            tag, vr, length = self._next(open_ones[-1])
            if tag in (_ITEM_END, _SEQUENCE_END):
                open_ones.pop()
            elif length == _UNDEFINED:
                # inside a value of unknown representation everything is implicit
                open_ones.append(open_ones[-1] and vr != "UN")
            else:
                self._pass(length)

    def _pass(self, length: int) -> None:
        while length:
            length -= len(self._stream.exactly(min(length, 1 << 16)))


def read_head(source: Source, stop_after: int = STUDY_COMMENTS) -> Head:
    """Parse up to ``stop_after``; what cannot be parsed is "not DICOM"."""
    stream = _Reader(source)
    if stream.peek(132)[128:] == b"DICM":
        stream.exactly(132)
        head = _with_meta(stream, stop_after)
        head.raw = bytes(128) + bytes(stream.seen[128:])
        return head
    start = stream.peek(8)
    if start[:4] == b"\2\0\0\0":
        head = _with_meta(stream, stop_after)
        head.raw = bytes(128) + b"DICM" + bytes(stream.seen)
        head.begin += 132
        return head
    return _bare(stream, start, stop_after)


def _with_meta(stream: _Reader, stop_after: int) -> Head:
    meta = _meta(stream)
    begin = len(stream.taken)
    data, parsed, encoding = _data_set(stream, meta, stop_after)
    return Head(data, meta, b"", begin, parsed, encoding)


def _meta(stream: _Reader) -> Header:
    return _Elements(stream, explicit=True, little=True).read_until(_META_END, _META)


def _bare(stream: _Reader, start: bytes, stop_after: int) -> Head:
    """Neither preamble nor meta header: guess the syntax from the first element and write a meta header."""
    little = start[:2] == b"\x08\0"
    if len(start) < 8 or not (little or start[:2] == b"\0\x08"):
        raise NotDicomError("Not a DICOM Stream")
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    syntax = (EXPLICIT_LITTLE if explicit else str(ImplicitVRLittleEndian)) if little else str(ExplicitVRBigEndian)
    data = _Elements(stream, explicit=explicit, little=little).read_until(stop_after)
    elements = (
        _uid(0x02, data.text("SOPClassUID") or "")
        + _uid(0x03, data.text("SOPInstanceUID") or "")
        + _uid(0x10, syntax)
        + _uid(0x12, "1.2.40.0.13.1.1")
    )
    version = b"\2\0\1\0OB\0\0\2\0\0\0\0\1"
    group = b"\2\0\0\0UL\4\0" + struct.pack("<I", len(version + elements)) + version + elements
    meta = Header(values={0x00020010: ("UI", syntax.encode())})
    begin = bytes(128) + b"DICM" + group
    encoding = Encoding(explicit, little, guessed=True)
    return Head(data, meta, begin + bytes(stream.seen), len(begin), stream.taken, encoding)


def _uid(element: int, value: str) -> bytes:
    raw = value.encode() + b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", 2, element, b"UI", len(raw)) + raw


def _data_set(stream: _Reader, meta: Header, stop_after: int) -> tuple[Header, bytes, Encoding]:
    syntax = meta.text("TransferSyntaxUID") or EXPLICIT_LITTLE
    if syntax == DeflatedExplicitVRLittleEndian:
        inflated = _Reader(_Inflated(stream))
        header = _Elements(inflated, explicit=True, little=True).read_until(stop_after)
        return header, inflated.taken, Encoding(deflated=True)
    start = stream.peek(6)
    # some files say explicit and are not; the first element tells
    explicit = syntax != ImplicitVRLittleEndian and start[4:6].isalpha() and start[4:6].isupper()
    before = len(stream.taken)
    little = syntax != ExplicitVRBigEndian
    header = _Elements(stream, explicit=explicit, little=little).read_until(stop_after)
    return header, stream.taken[before:], Encoding(explicit, little)


def head_of(path: Path, stop_after: int = STUDY_COMMENTS) -> Head:
    """The head of a stored file."""
    with path.open("rb") as stored:
        return read_head(stored, stop_after)
