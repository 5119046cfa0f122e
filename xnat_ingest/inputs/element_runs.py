"""Runs of elements that recur from file to file, so that they need not be walked again one by one.

The files of a series have the same elements, and most of their values have the same length. The heads of a run decide
where each of its elements lies. So a file whose heads at those places are equal to the noted ones has the same
elements there, and one comparison in C takes the place of a loop in Python. Where a head differs, the run is divided
at that element. After a few files a run ends where lengths vary, such as at a position in decimal digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from xnat_ingest.inputs.sop_classes import DECISIVE

SHORT_HEAD, LONG_HEAD = 8, 12
# Runs that are kept for one encoding. A tree of one scanner has some dozens.
MOST_RUNS = 1024
# Elements in them. A file can be made to have a million.
MOST_ELEMENTS = 65536


class Element(NamedTuple):
    """An element whose value was skipped or taken. head: its bytes before the value. length: of the value, in bytes."""

    head: bytes
    tag: int
    vr: bytes
    length: int


class Run:
    """Elements in ascending order that follow each other in a file. The first has a head of 8 bytes.

    size: bytes from the first head to the end of the last value
    heads, expected: what takes all heads from a file, and what they must be
    values: what takes the wanted values from a file
    wanted: the tag and VR of each of them
    has: which of the decisive elements are in it
    """

    __slots__ = ("elements", "expected", "first", "has", "heads", "last", "size", "values", "wanted")

    def __init__(self, elements: Sequence[Element], wanted: frozenset[int]) -> None:
        self.elements = elements
        self.first, self.last = elements[0].tag, elements[-1].tag
        self.expected = tuple(one.head for one in elements)
        heads = Struct("<" + "".join(f"{len(one.head)}s{one.length}x" for one in elements))
        values = Struct(
            "<" + "".join(f"{len(one.head)}x{one.length}{'s' if one.tag in wanted else 'x'}" for one in elements)
        )
        self.size = heads.size
        self.heads, self.values = heads.unpack_from, values.unpack_from
        self.wanted = tuple((one.tag, one.vr) for one in elements if one.tag in wanted)
        self.has = tuple(one.tag for one in elements if one.tag in DECISIVE)

    def found(self, data: bytes, at: int) -> dict[int, tuple[bytes, bytes]]:
        """Tag -> (VR, value) of the wanted elements, from a file whose run begins at this place."""
        return {tag: (vr, text) for (tag, vr), text in zip(self.wanted, self.values(data, at), strict=True)}


class KnownRuns(dict[bytes, Run]):
    """First head of a run -> the run, for the files of one encoding. wanted: tags of the values to take."""

    def __init__(self, wanted: frozenset[int]) -> None:
        super().__init__()
        self._wanted = wanted
        self._elements = 0

    def note(self, elements: Sequence[Element]) -> list[Element]:
        """Keeps a run for the next files. Elements at its beginning that have a long head are left out.

        Returns an empty list, for the elements that follow.
        """
        begin = 0
        while begin < len(elements) and len(elements[begin].head) != SHORT_HEAD:
            begin += 1
        if begin == len(elements):
            return []
        run = Run(elements[begin:], self._wanted)
        if before := self.pop(run.expected[0], None):
            self._elements -= len(before.elements)
        self._elements += len(run.elements)
        if len(self) >= MOST_RUNS or self._elements > MOST_ELEMENTS:
            self.clear()
            self._elements = len(run.elements)
        self[run.expected[0]] = run
        return []

    def fits(self, run: Run, data: bytes, at: int) -> bool:
        """Whether a run is in the data at this place. If not, it is divided, so that its first part may fit."""
        heads = run.heads(data, at)
        if heads != run.expected:
            self.divide(run, heads)
            return False
        return True

    def divide(self, run: Run, heads: tuple[bytes, ...]) -> None:
        """Divides a run before the first of its elements whose head differs in another file."""
        at = next(number for number, head in enumerate(run.expected) if head != heads[number])
        self.note(run.elements[at:])
        self.note(run.elements[:at])
