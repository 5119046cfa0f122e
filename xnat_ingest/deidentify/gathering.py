"""A first look at a header: where its elements are, what it says about the patient, and how it must be treated."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from xnat_ingest.deidentify.encoding import (
    DEEPEST,
    ITEM,
    ITEM_END,
    LITTLE_IMPLICIT,
    SEQUENCE_END,
    UNDEFINED,
    Encoding,
    NotRewritable,
    Reader,
)
from xnat_ingest.deidentify.tokens import NAME, SOURCES, Source
from xnat_ingest.inputs.dicom_dictionary import tags_of, vr_of

# Elements of the top level that decide something.
CHARACTER_SETS, IMAGE_TYPE, SOP_CLASS, SOP_UID = 0x00080005, 0x00080008, 0x00080016, 0x00080018
MODALITY, BURNED_IN, PATIENT_ID, PATIENT_NAME = 0x00080060, 0x00280301, 0x00100020, 0x00100010
BIRTH_DATE, STUDY_UID, STUDY_DATE = 0x00100030, 0x0020000D, 0x00080020
SERIES_UID, FRAME_OF_REFERENCE_UID = 0x0020000E, 0x00200052
SAMPLES, PHOTOMETRIC, PLANAR, FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
_FRAMES = re.compile(r"\+?([0-9]{1,12})(?:\.0*)?")
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
ROWS, COLUMNS, BITS = 0x00280010, 0x00280011, 0x00280100
_FACTS = frozenset(
    {CHARACTER_SETS, IMAGE_TYPE, SOP_CLASS, SOP_UID, MODALITY, BURNED_IN, PATIENT_ID, PATIENT_NAME, BIRTH_DATE}
    | {
        STUDY_UID,
        SERIES_UID,
        FRAME_OF_REFERENCE_UID,
        STUDY_DATE,
        SAMPLES,
        PHOTOMETRIC,
        PLANAR,
        FRAMES,
        ROWS,
        COLUMNS,
        BITS,
    }
)


# Elements and items that one object may have. Each takes about a quarter of a kilobyte of memory. An enhanced MR image
# of 5,000 frames has some 300,000.
MOST_ELEMENTS = 1_000_000
# Bytes that a header may have. Some functions hold them twice.
MOST_HEAD = 128 * 1024**2
# How many elements are read between two looks at the limit and at a signal.
_STEP = 4096

# The elements that are read: those that decide something, and those that name the patient.
_NOTED = _FACTS | SOURCES.keys() | tags_of("PN")


class Element(NamedTuple):
    """One element of a data set in memory. Places are offsets in it.

    vr: from the file; from the dictionary if the file has none or UN.
    written: the VR in the file.
    begin: of the element.
    start, end: of its value.
    items: of a sequence, each a list of elements; None for any other value.
    """

    tag: int
    vr: str
    written: str
    begin: int
    start: int
    end: int
    items: tuple[list[Element], ...] | None
    encoding: Encoding | None


def certainty_of(patient: bytes) -> int:
    """How surely this (Facts.patient) is one patient: 3 by an id, 2 by name and birth date, 1 by name, 0 by study."""
    kind, _, rest = patient.partition(b"\0")
    if kind == b"name":
        return 1 if rest.endswith(b"\0") else 2
    return 3 if kind == b"id" else 0


@dataclass(slots=True)
class Facts:
    """What a header says.

    elements: of the outermost level.
    values: outermost elements, as encoded.
    sources: what may name the patient, at any depth.
    inner_sets: SpecificCharacterSet of items.
    end: where the last element ends, or the pixels begin.
    before: what is not looked into and stands before the data set: in the preamble, in the file's meta group.
    """

    order: str
    elements: list[Element] = field(default_factory=list)
    values: dict[int, bytes] = field(default_factory=dict)
    sources: dict[Source, None] = field(default_factory=dict)
    inner_sets: dict[bytes, None] = field(default_factory=dict)
    end: int = 0
    pixels: bool = False
    before: str = ""

    def text(self, tag: int) -> str:
        return self.values.get(tag, b"").decode("latin-1").strip(" \0")

    def number(self, tag: int) -> int:
        """Of a US element; 0 when it is absent or something else."""
        value = self.values.get(tag, b"")
        return int.from_bytes(value[:2], "little" if self.order == "<" else "big") if len(value) >= 2 else 0

    @property
    def frames(self) -> int:
        """NumberOfFrames, 1 when it is absent, -1 when it is no plain number. Some writers make it `+2` or `2.0`."""
        found = _FRAMES.fullmatch(self.text(FRAMES) or "1")
        return int(found[1]) if found else -1

    @property
    def character_sets(self) -> tuple[bytes, ...]:
        """Every SpecificCharacterSet, that of the top level first."""
        return tuple(dict.fromkeys((self.values.get(CHARACTER_SETS, b""), *self.inner_sets)))

    @property
    def patient(self) -> bytes:
        """What identifies this patient, as the source writes it."""
        if patient_id := self.values.get(PATIENT_ID, b"").strip(b" \0"):
            return b"id\0" + patient_id
        name = self.values.get(PATIENT_NAME, b"").strip(b" \0"), self.values.get(BIRTH_DATE, b"").strip(b" \0")
        return b"name\0" + b"\0".join(name) if name[0] else b"study\0" + self.values.get(STUDY_UID, b"").strip(b" \0")

    def leaves(self) -> Iterator[tuple[Element, int]]:
        """(element, depth) of every value that is neither empty nor a sequence, in order."""
        return _leaves(self.elements, 0)


def _leaves(elements: Sequence[Element], depth: int) -> Iterator[tuple[Element, int]]:
    for element in elements:
        if element.items is None:
            if element.end > element.start:
                yield element, depth
        else:
            for item in element.items:
                yield from _leaves(item, depth + 1)


def gather_facts(reader: Reader, at: int, end: int) -> Facts:
    """Goes through all elements from one place to another. Raises NotRewritable."""
    facts = Facts(reader.encoding.order)
    facts.elements, facts.end = _Look(reader, facts).elements(at, end, reader.encoding, 0)
    return facts


class _Look:
    def __init__(self, reader: Reader, facts: Facts) -> None:
        self._head = reader.head
        self._data = reader.data
        self._fragments_end = reader.fragments_end
        self._check_stop = reader.check_stop
        self._left = MOST_ELEMENTS
        self._cut = reader.cut
        self._facts = facts
        self._pixels = frozenset(struct.pack(f"{facts.order}HH", tag >> 16, tag & 0xFFFF) for tag in PIXELS)

    def elements(
        self, at: int, end: int, encoding: Encoding, depth: int, *, ends: bool = True
    ) -> tuple[list[Element], int]:
        """ends: the elements fill the place to its end; else a delimiter ends them. Returns them, and where they ended.

        Elements are in ascending order (PS3.5, 7.1). When one occurs twice, readers disagree about its value.
        """
        if depth > DEEPEST:
            raise NotRewritable("has sequences nested too deeply")
        found: list[Element] = []
        data, head, explicit, last = self._data, self._head, encoding.explicit, -1
        make = tuple.__new__  # a header has many elements: a named tuple's own constructor takes twice as long
        while at < end or not ends:
            if not depth:
                begins = data[at : at + 4]
                if begins == b"\0\0\0\0" and not any(data[at:end]):
                    break  # zeros behind the last element
                if begins in self._pixels:  # whose value may be longer than what is held of the object
                    self._facts.pixels = True
                    break
            tag, written, start, length = head(at, end, explicit)
            if tag >> 16 == 0xFFFE:
                if ends or tag != ITEM_END:
                    raise NotRewritable("has a delimiter where there is nothing to end")
                self._count(len(found) % _STEP)
                return found, start
            if tag <= last:
                raise NotRewritable("has elements out of order")
            last = tag
            vr = (vr_of(tag) or written) if written == "UN" else written
            if vr == "SQ" or length == UNDEFINED or (written in ("", "UN") and self._holds_items(start, length)):
                one, at = self._nested(Element(tag, vr, written, at, start, 0, None, encoding), length, end, depth)
            else:
                after = start + length
                one = make(Element, (tag, vr, written, at, start, after, None, None))
                at = after
                if length and (vr == "PN" or tag in _NOTED):
                    self._note(one, depth)
            found.append(one)
            if not len(found) % _STEP:
                self._count(_STEP)
        self._count(len(found) % _STEP)
        return found, at

    def _count(self, more: int) -> None:
        """Raises NotRewritable when there are too many elements, and what check_stop raises."""
        self._check_stop()
        self._left -= more
        if self._left < 0:
            raise NotRewritable(f"has more than {MOST_ELEMENTS:,} elements")

    def _holds_items(self, start: int, length: int) -> bool:
        """Whether a value of an unknown kind begins like a sequence."""
        return length >= 8 and self._data[start : start + 4] in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")

    def _note(self, element: Element, depth: int) -> None:
        tag = element.tag
        if element.vr == "PN" or vr_of(tag) == "PN":
            self._facts.sources[tag, NAME, self._data[element.start : element.end]] = None
        elif tag in SOURCES:
            self._facts.sources[tag, SOURCES[tag], self._data[element.start : element.end]] = None
        if not depth and tag in _FACTS:
            self._facts.values[tag] = self._data[element.start : element.end]
        elif tag == CHARACTER_SETS:
            self._facts.inner_sets[self._data[element.start : element.end]] = None

    def _nested(self, element: Element, length: int, end: int, depth: int) -> tuple[Element, int]:
        """What an element holds that is not only a value: items, or the fragments of an icon. Returns the element, and
        where it ends."""
        if length == UNDEFINED and element.vr in ("OB", "OW"):
            at = self._fragments_end(element.start, end)
            return element._replace(end=at, items=()), at
        inner = LITTLE_IMPLICIT if element.written == "UN" else element.encoding
        assert inner is not None  # noqa: S101 - it was given
        known = element.vr == "SQ" or length == UNDEFINED
        try:
            items, at = self._items(element.start, length, end, inner, depth)
        except NotRewritable:
            if known:
                raise
            at = element.start + length  # bytes that only looked like items
            return element._replace(end=at, encoding=None), at
        return element._replace(end=at, items=tuple(items), encoding=inner), at

    def _items(self, at: int, length: int, end: int, encoding: Encoding, depth: int) -> tuple[list[list[Element]], int]:
        """A sequence's items, and where it ends, its delimiter included."""
        items: list[list[Element]] = []
        last = end if length == UNDEFINED else at + length
        while length == UNDEFINED or at < last:
            tag, _, start, size = self._head(at, last, encoding.explicit)
            if tag == SEQUENCE_END and length == UNDEFINED:
                return items, start
            if tag != ITEM:
                raise NotRewritable("has a sequence that is not built of items")
            if size == UNDEFINED:
                item, at = self.elements(start, last, encoding, depth + 1, ends=False)
            else:
                if start + size > last:
                    raise self._cut(last)
                item, at = self.elements(start, start + size, encoding, depth + 1)
            self._count(1)
            items.append(item)
        return items, at
