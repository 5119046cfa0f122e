"""How far an object goes: whether a stored copy is whole, whatever a script has made of its header.

An object is read in one pass and in constant memory, element by element. Values are not compared: `--proof` does that
(compare_dicom.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from xnat_ingest.inputs.compare_dicom import DATA, PIXELS
from xnat_ingest.inputs.dicom_dataset import UNDEFINED
from xnat_ingest.inputs.dicom_elements import Elements, Unreadable

# Digital signatures. A change of the header makes them void.
_SIGNATURES = 0xFFFAFFFA


@dataclass(frozen=True, slots=True)
class Extent:
    """How far an object goes.

    last: the tag of its last standard element with content, signatures aside
    measured: tag -> bytes of pixels, document, waveforms, spectrum
    is_cut: it ends inside a value
    is_followed: more than padding follows its pixels, and is no element
    """

    last: int
    measured: Mapping[int, int]
    is_cut: bool
    is_followed: bool

    def reaches(self, sent: Extent) -> bool:
        """Whether this copy goes on to the end of what was sent.

        A script may have removed private elements and signatures at the end, so these need not be there. A copy may be
        without an end only where what was sent is, too, as are pixels without their end mark.
        """
        if self.last < sent.last or (self.is_followed and not sent.is_followed):
            return False
        if self.is_cut and not (sent.is_cut and sent.last in DATA):
            return False
        return all(self.measured.get(tag, 0) >= size for tag, size in sent.measured.items())


def extent_of(blocks: Iterable[bytes], most: int = 0) -> Extent:
    """Reads an object. Raises Unreadable, and what reading the blocks raises.

    blocks: of a DICOM file.
    most: bytes that it may have, deflated or inflated; 0: any number.
    """
    elements = Elements(blocks, Unreadable, most)
    last, measured = 0, dict[int, int]()
    while elements.head:
        tag, size = elements.tag, _bytes_of(elements)
        is_standard = not tag >> 16 & 1 and tag != _SIGNATURES
        last = tag if size and is_standard else last
        if tag in DATA:
            measured[tag] = size
        elements.advance()
    return Extent(last, measured, elements.is_cut, elements.is_followed)


def _bytes_of(elements: Elements) -> int:
    """Bytes of the current element's value, without the offset table of pixels, which a writer may make anew."""
    assert elements.head is not None  # noqa: S101 - there is a current element
    if elements.tag not in PIXELS or elements.head.length != UNDEFINED:
        return sum(map(len, elements.value()))
    sizes = list[int]()
    while (item := elements.item()) is not None:
        sizes.append(sum(map(len, item)))
    return sum(sizes[1:])
