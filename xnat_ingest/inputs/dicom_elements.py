"""The elements of one DICOM object in turn. Values are normalised, so that different writers give equal ones."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

from xnat_ingest.core import INFLATED
from xnat_ingest.inputs.dicom_dataset import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    IMPLICIT_VENDOR,
    UNDEFINED,
    Head,
    Inflated,
    NotWalkable,
    PeekableStream,
    is_explicit,
    read_head,
    skip_meta,
)

# Text is padded to an even length with a blank or a null, depending on the writer.
_TEXT_VRS = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_BULK_VRS = frozenset({b"OB", b"OW"})
_FIRST_PIXELS, _PIXEL_DATA = 0x7FE00008, 0x7FE00010
_TRAILING_PADDING = 0xFFFCFFFC
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
AT_END = 1 << 32  # above every tag: a damaged file may contain (FFFF,FFFF)


_SOP_UID, _SERIES_UID, _UID = 0x00080018, 0x0020000E, re.compile(r"[0-9.]{1,64}")
# About the last element that XNAT reads of a stored file. Pixels come behind it.
_LAST_OF_HEADER = 0x0054FFFF
# Bytes of an object in which its UIDs are looked for, and the header that XNAT reads. A few packed bytes can
# hold any number.
_MOST_BEFORE_UID, _MOST_OF_HEADER = 2 << 20, 32 << 20


class Unreadable(Exception):
    """An object does not follow the standard."""


def sop_uid_of(blocks: Iterable[bytes]) -> str:
    """The SOPInstanceUID of an object, "" when it has none. No more blocks are read than it takes.

    Raises Unreadable, and what reading the blocks raises.
    """
    return _uid_of(blocks, _SOP_UID)


def series_uid_of(blocks: Iterable[bytes]) -> str:
    """The SeriesInstanceUID of an object, see sop_uid_of."""
    return _uid_of(blocks, _SERIES_UID)


def _uid_of(blocks: Iterable[bytes], tag: int) -> str:
    elements = Elements(blocks, Unreadable, _MOST_BEFORE_UID)
    while elements.tag < tag:
        for _ in elements.value():
            pass
        elements.advance()
    if elements.tag != tag:
        return ""
    uid = b"".join(elements.value()).decode("ascii", "replace").strip(" \0")
    return uid if _UID.fullmatch(uid) else ""


def has_whole_header(blocks: Iterable[bytes]) -> bool:
    """Whether an object has its SOPInstanceUID and all that XNAT reads of a header. No more is read than it takes.

    Raises Unreadable, and what reading the blocks raises.
    """
    elements, has_uid = Elements(blocks, Unreadable, _MOST_OF_HEADER), False
    while elements.tag <= _LAST_OF_HEADER:
        has_uid |= elements.tag == _SOP_UID
        for _ in elements.value():
            pass
        elements.advance()
    return has_uid and not elements.is_cut


class Elements:
    """Walks along an object's elements.

    head: the current element, None at the end. Its value must be taken before the next one.
    syntax: the transfer syntax that the object names, or the one it is encoded in.
    is_cut: the object ends inside a value.
    is_followed: something other than an element follows the pixels, and is more than a byte of padding.
    is_file: it begins as a DICOM file does, with preamble and prefix (PS3.10, 7.1).
    most: bytes that it may have, deflated or inflated; 0: any number. It may be raised on the way.
    is_too_long: it has more.

    Raises `trouble` for an object that does not follow the standard, and for one that is too long.
    """

    def __init__(self, blocks: Iterable[bytes], trouble: type[Exception], most: int = 0) -> None:
        self._trouble = trouble
        self.most = most
        self.head: Head | None = None
        self.is_cut = False
        self.is_followed = False
        self.is_too_long = False
        with self._telling():
            source = PeekableStream(self._limited(blocks))
            self.is_file = begins_as_file(source.peek(132))
            self.syntax = skip_meta(source)
            if self.syntax in INFLATED:
                source = PeekableStream(self._limited(Inflated(source.rest())))
                self.syntax = INFLATED[self.syntax]
            self._source = source
            self._explicit = is_explicit(source)
            if not self.syntax:  # found from its first element, which is in group 8
                swapped = source.peek(1) == b"\0"
                self.syntax = BIG_ENDIAN if swapped else EXPLICIT if self._explicit else IMPLICIT
            self.order = ">" if self.syntax == BIG_ENDIAN else "<"
        self.advance()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (NotWalkable, RecursionError) as error:
            raise self._trouble(str(error)) from error

    def _limited(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        taken = 0
        for block in blocks:
            taken += len(block)
            if 0 < self.most < taken:
                self.is_too_long = True
                raise self._trouble("is too long")
            yield block

    @property
    def contradicts(self) -> bool:
        """Whether the encoding differs from what the transfer syntax says."""
        return self._explicit == (self.syntax in (IMPLICIT, IMPLICIT_VENDOR))

    @property
    def tag(self) -> int:
        return self.head.tag if self.head else AT_END

    def advance(self) -> None:
        """Goes to the next element with content, skipping group lengths and padding.

        In some files something other than an element follows the pixels. That ends the walk.
        """
        last = self.head.tag if self.head else -1
        self.head = None
        with self._telling():
            while start := self._source.peek(2):
                try:
                    head = self._next(last)
                except NotWalkable:
                    if last < _FIRST_PIXELS:
                        raise
                    self.is_followed = len(start) > 1
                    return
                if head.tag & 0xFFFF and head.tag != _TRAILING_PADDING:
                    self.head = head
                    return
                last = head.tag
                self._drain(head)

    def _next(self, last: int) -> Head:
        head = read_head(self._source, self._explicit, self.order)
        if head.tag <= last:
            raise NotWalkable("has elements out of order")
        return head

    def _drain(self, head: Head) -> None:
        for _ in self._value(head, explicit=self._explicit):
            pass

    def value(self) -> Iterator[bytes]:
        """The current element's value, without padding and independent of how its items are delimited."""
        assert self.head is not None  # noqa: S101 - there is a current element
        with self._telling():
            yield from self._value(self.head, explicit=self._explicit)

    def number(self, raw: bytes) -> int:
        """The value as an unsigned short; 0 when it is not one."""
        return int(struct.unpack(f"{self.order}H", raw)[0]) if len(raw) == 2 else 0

    def plain(self) -> Iterator[bytes]:
        """The current element's value byte for byte, padded to even length. It must have a defined length."""
        assert self.head is not None  # noqa: S101 - there is a current element
        yield from self._even(self.head.length)

    def item(self) -> Iterator[bytes] | None:
        """The next item of encapsulated pixels, padded to even length; None after the last."""
        with self._telling():
            raw = self._source.peek(8)
            if len(raw) < 8:
                self.is_cut = True  # some files have no sequence delimiter but are complete otherwise
                return None
            head = read_head(self._source, False, self.order)
            if head.tag == _SEQUENCE_END:
                return None
            if head.tag != _ITEM or head.length == UNDEFINED:
                raise NotWalkable("has something other than items in its pixel data")
        return self._even(head.length)

    def _even(self, length: int) -> Iterator[bytes]:
        yield from self._copy(length)
        if length % 2:
            yield b"\0"

    def _copy(self, length: int) -> Iterator[bytes]:
        """Up to this many bytes."""
        try:
            yield from self._source.copy(length)
        except NotWalkable:
            self.is_cut = True

    def _value(self, head: Head, *, explicit: bool) -> Iterator[bytes]:
        if head.length == UNDEFINED and (head.vr in _BULK_VRS or head.tag == _PIXEL_DATA):
            return self._fragments()
        if head.length == UNDEFINED or _vr_of(head) == b"SQ":
            return self._items(head, explicit=explicit and head.vr != b"UN")
        if _vr_of(head) in _TEXT_VRS:
            return _unpadded(self._copy(head.length))
        return self._copy(head.length)

    def _items(self, sequence: Head, *, explicit: bool) -> Iterator[bytes]:
        for head in self._heads(sequence.length, _SEQUENCE_END, explicit=explicit):
            yield b"item"
            if head.tag != _ITEM:
                raise NotWalkable("has something other than items in a sequence")
            for inner in self._heads(head.length, _ITEM_END, explicit=explicit):
                yield from chain((struct.pack("<L", inner.tag),), self._value(inner, explicit=explicit))

    def _fragments(self) -> Iterator[bytes]:
        while (item := self.item()) is not None:
            yield from item

    def _heads(self, length: int, end: int, *, explicit: bool) -> Iterator[Head]:
        """The heads of the elements in a value, without group lengths. The caller takes each one's value in between."""
        stop = None if length == UNDEFINED else self._source.taken + length
        while stop is None or self._source.taken < stop:
            head = read_head(self._source, explicit, self.order)
            if head.tag == end:
                return
            if head.tag & 0xFFFF:
                yield head
            else:
                self._drain(head)


def begins_as_file(start: bytes) -> bool:
    """Whether an object begins with preamble and prefix. start: its first 132 bytes, or more."""
    return start[128:132] == b"DICM"


def element_name(tag: int) -> str:
    """An element's keyword, the group of a private one, or the tag of an unknown one."""
    if tag >> 16 & 1:
        return f"private elements of group {tag >> 16:04X}"
    from pydicom.datadict import keyword_for_tag  # loaded for what is told, not for what is compared

    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _vr_of(head: Head) -> bytes:
    """The element's own VR, or the dictionary's when the encoding is implicit; empty when neither has one."""
    if head.vr:
        return head.vr
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(head.tag).encode()
    except KeyError:
        return b""


def _unpadded(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The value without one trailing blank or null."""
    held = b""
    for block in blocks:
        if held:
            yield held
        held = block
    if held[-1:] in (b" ", b"\0"):
        held = held[:-1]
    if held:
        yield held
