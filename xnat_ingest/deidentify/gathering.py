"""A first look at a header: what it says of the patient, and what decides how the object is dealt with."""

from __future__ import annotations

from dataclasses import dataclass, field

from xnat_ingest.deidentify.encoding import (
    DEEPEST,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    NotRewritable,
    Reader,
)
from xnat_ingest.deidentify.tokens import NAME, SOURCES, Source
from xnat_ingest.inputs.dicom_dictionary import vr_of

# Elements of the outermost level that decide something.
CHARACTER_SETS, IMAGE_TYPE, SOP_CLASS, SOP_UID = 0x00080005, 0x00080008, 0x00080016, 0x00080018
MODALITY, BURNED_IN, PATIENT_ID, PATIENT_NAME = 0x00080060, 0x00280301, 0x00100020, 0x00100010
BIRTH_DATE, STUDY_UID, STUDY_DATE = 0x00100030, 0x0020000D, 0x00080020
SAMPLES, PHOTOMETRIC, PLANAR, FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
ROWS, COLUMNS, BITS = 0x00280010, 0x00280011, 0x00280100
_FACTS = frozenset(
    {CHARACTER_SETS, IMAGE_TYPE, SOP_CLASS, SOP_UID, MODALITY, BURNED_IN, PATIENT_ID, PATIENT_NAME, BIRTH_DATE}
    | {STUDY_UID, STUDY_DATE, SAMPLES, PHOTOMETRIC, PLANAR, FRAMES, ROWS, COLUMNS, BITS}
)


@dataclass(slots=True)
class Facts:
    """What a header says.

    values: outermost elements, as encoded; sources: what may name the patient, at any depth; end: where its last
    element ends, or its pixels begin; leaves: where asked for, (start, end, tag, VR, depth) of every value that is
    no sequence.
    """

    order: str
    values: dict[int, bytes] = field(default_factory=dict)
    sources: dict[Source, None] = field(default_factory=dict)
    end: int = 0
    pixels: bool = False
    leaves: list[tuple[int, int, int, str, int]] = field(default_factory=list)

    def text(self, tag: int) -> str:
        return self.values.get(tag, b"").decode("latin-1").strip(" \0")

    def number(self, tag: int) -> int:
        """Of a US element; 0 when it is absent or something else."""
        value = self.values.get(tag, b"")
        return int.from_bytes(value[:2], "little" if self.order == "<" else "big") if len(value) >= 2 else 0

    @property
    def patient(self) -> bytes:
        """What tells this patient from others, in the words of the source."""
        if patient_id := self.values.get(PATIENT_ID, b"").strip(b" \0"):
            return b"id\0" + patient_id
        name = self.values.get(PATIENT_NAME, b"").strip(b" \0"), self.values.get(BIRTH_DATE, b"").strip(b" \0")
        return b"name\0" + b"\0".join(name) if name[0] else b"study\0" + self.values.get(STUDY_UID, b"").strip(b" \0")


def gather_facts(reader: Reader, at: int, end: int, *, leaves: bool = False) -> Facts:
    """Goes through all elements from one place to another. Raises NotRewritable."""
    facts = Facts(reader.encoding.order)
    facts.end = _Look(reader, facts, leaves).elements(at, end, reader.encoding.explicit, 0)
    return facts


class _Look:
    def __init__(self, reader: Reader, facts: Facts, leaves: bool) -> None:
        self._leaves = facts.leaves if leaves else None
        self._head = reader.head
        self._data = reader.data
        self._fragments_end = reader.fragments_end
        self._cut = reader.cut
        self._facts = facts

    def elements(self, at: int, end: int, explicit: bool, depth: int, *, ends: bool = True) -> int:
        """ends: the elements fill the place to its end; else a delimiter ends them. Returns where they ended."""
        if depth > DEEPEST:
            raise NotRewritable("has sequences nested too deeply")
        while at < end or not ends:
            if not depth and self._data[at : at + 4] == bytes(4) and not any(self._data[at:end]):
                return at  # zeros behind the last element
            tag, vr, start, length = self._head(at, end, explicit)
            if tag in PIXELS and not depth:
                self._facts.pixels = True
                return at
            if tag >> 16 == 0xFFFE:
                if ends or tag != ITEM_END:
                    raise NotRewritable("has a delimiter where there is nothing to end")
                return start
            name = (vr_of(tag) or vr) if vr == "UN" else vr
            if name == "SQ" or length == UNDEFINED:
                at = self._nested(name, start, length, end, explicit and vr != "UN", depth)
                continue
            at = start + length
            if length:
                self._note(tag, name, start, at, depth)
        return at

    def _note(self, tag: int, vr: str, start: int, end: int, depth: int) -> None:
        if self._leaves is not None:
            self._leaves.append((start, end, tag, vr, depth))
        if vr == "PN":
            self._facts.sources[tag, NAME, self._data[start:end]] = None
        elif tag in SOURCES:
            self._facts.sources[tag, SOURCES[tag], self._data[start:end]] = None
        if not depth and tag in _FACTS:
            self._facts.values[tag] = self._data[start:end]

    def _nested(self, vr: str, at: int, length: int, end: int, explicit: bool, depth: int) -> int:
        """What an element holds that is not only a value: items, or the fragments of an icon. Returns where it ends."""
        if length == UNDEFINED and vr in ("OB", "OW"):
            return self._fragments_end(at, end)
        return self._sequence(at, length, end, explicit, depth)

    def _sequence(self, at: int, length: int, end: int, explicit: bool, depth: int) -> int:
        """Returns where the sequence ends, its delimiter included."""
        last = end if length == UNDEFINED else at + length
        while length == UNDEFINED or at < last:
            tag, _, start, size = self._head(at, last, explicit)
            if tag == SEQUENCE_END and length == UNDEFINED:
                return start
            if tag != ITEM:
                raise NotRewritable("has a sequence that is not built of items")
            if size == UNDEFINED:
                at = self.elements(start, last, explicit, depth + 1, ends=False)
            else:
                if start + size > last:
                    raise self._cut(last)
                at = self.elements(start, start + size, explicit, depth + 1)
        return at
