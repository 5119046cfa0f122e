"""Text in pixels: which objects may show some, and how boxes of native images are made black before they are sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from xnat_ingest.deidentify import gathering as header
from xnat_ingest.deidentify.gathering import Facts
from xnat_ingest.deidentify.profile import Boxes
from xnat_ingest.inputs.text_in_pixels import may_be_overlay, text_risk

# Groups of overlays, and of one OverlayData, OverlayBitsAllocated and OverlayBitPosition.
_OVERLAYS, _OVERLAY_DATA, _OVERLAY_BITS, _OVERLAY_AT = 0x60, 0x3000, 0x0100, 0x0102
STRUCTURED_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
# The transfer syntaxes with native pixels.
NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.113619.5.2"})
# Ends of photometric interpretations that store some colours once for several pixels -> (part, of what all take).
_SHARED = {"_422": (2, 3), "_420": (1, 2)}


def risk(facts: Facts) -> str:
    """Why an object may show text that is in its pixels, "" when nothing says so."""
    return text_risk(facts.text(header.BURNED_IN), facts.text(header.SOP_CLASS), facts.text(header.IMAGE_TYPE))


def drawn_over(data: bytes, facts: Facts) -> str:
    """Why the bits of the pixels beside the image's own may be a drawing, "" when the header names no such overlay.

    That is how overlays were stored before 2004: in one bit of each pixel, without data of their own.
    """
    overlays: dict[int, dict[int, bytes]] = {}
    for element in facts.elements:
        if element.tag >> 24 == _OVERLAYS and not element.tag >> 16 & 1:
            values = overlays.setdefault(element.tag >> 16, {})
            values[element.tag & 0xFFFF] = data[element.start : element.end]
    for values in overlays.values():
        is_apart = bool(values.get(_OVERLAY_DATA))
        at, bits = (_first_number(values.get(one, b""), facts.order) for one in (_OVERLAY_AT, _OVERLAY_BITS))
        if may_be_overlay(at, bits, is_apart=is_apart):
            return f"an overlay in bit {at} of its pixels"
    return ""


def _first_number(value: bytes, order: str) -> int:
    return int.from_bytes(value[:2], "little" if order == "<" else "big")


@dataclass(frozen=True, slots=True)
class Blackening:
    """Boxes of one native image. Sizes in bytes: pixel: of one sample, or of all samples where they lie together."""

    boxes: tuple[tuple[int, int, int, int], ...]
    rows: int
    columns: int
    pixel: int
    planes: int

    @property
    def size(self) -> int:
        """Bytes of one frame."""
        return self.planes * self.rows * self.columns * self.pixel

    def stretches(self) -> Iterator[tuple[int, int]]:
        """(start, end) of what becomes black in one frame, in order of their starts."""
        for plane in range(self.planes):
            for row in range(self.rows):
                start = (plane * self.rows + row) * self.columns * self.pixel
                for left, top, right, bottom in sorted(self.boxes):
                    if top <= row < bottom:
                        yield (
                            start + min(left, self.columns) * self.pixel,
                            start + min(right, self.columns) * self.pixel,
                        )

    def blocks(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Pixel data in blocks, black where a box is."""
        frame = list(self.stretches())
        at = 0
        for block in blocks:
            out = bytearray(block)
            number = at // self.size
            while number * self.size < at + len(block):
                for start, end in frame:
                    first, last = (
                        max(number * self.size + start - at, 0),
                        min(number * self.size + end - at, len(block)),
                    )
                    if first < last:
                        out[first:last] = bytes(last - first)
                number += 1
            at += len(block)
            yield bytes(out)


def extent(facts: Facts, syntax: str, length: int) -> tuple[int, int]:
    """Bytes of one frame of native pixels, and of all; (0, 0) where the header does not tell.

    Colours may be stored for every second pixel, or bits be packed, and some writers call full ones so, too. Then the
    larger size is meant that the pixels can have. length: of the pixel data.
    """
    rows, columns = facts.number(header.ROWS), facts.number(header.COLUMNS)
    samples, bits = facts.number(header.SAMPLES) or 1, facts.number(header.BITS)
    if syntax not in NATIVE or facts.frames < 0:
        return 0, 0
    number = max(facts.frames, 1)
    values = rows * columns * samples
    sizes = [-(-values // 8)] if bits == 1 else [values * -(-bits // 8), -(-values * bits // 8)]
    shared = next((of for kind, of in _SHARED.items() if facts.text(header.PHOTOMETRIC).endswith(kind)), None)
    if shared and samples == 3:
        sizes.append(sizes[0] * shared[0] // shared[1])
    one = max((size for size in sizes if size * number <= length), default=min(sizes))
    return one, one * number


def without_rest(blocks: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Pixel data in blocks, with zeros behind the first so many bytes."""
    for block in blocks:
        yield block[:most] + bytes(max(len(block) - most, 0))
        most = max(most - len(block), 0)


def boxes_of(facts: Facts, listed: Iterable[Boxes]) -> Boxes | None:
    """The first entry for this kind of image."""
    modality, rows, columns = facts.text(header.MODALITY), facts.number(header.ROWS), facts.number(header.COLUMNS)
    for entry in listed:
        same = entry.modality in ("", modality) and entry.rows in (0, rows) and entry.columns in (0, columns)
        if same and rows and columns:
            return entry
    return None


def blackening(facts: Facts, boxes: Boxes, syntax: str) -> Blackening | str:
    """How the boxes of an image are made black, or why they cannot be."""
    if syntax not in NATIVE:
        return "its pixels are compressed, and boxes in them cannot be made black"
    bits, samples = facts.number(header.BITS), facts.number(header.SAMPLES) or 1
    if bits not in (8, 16, 32, 64):
        return f"its pixels take {bits or 'an unknown number of'} bits, and boxes in them cannot be made black"
    if facts.text(header.PHOTOMETRIC).startswith("YBR_FULL_4") or facts.text(header.PHOTOMETRIC).startswith(
        "YBR_PARTIAL"
    ):
        return "its colours are subsampled, and boxes in them cannot be made black"
    planar = samples > 1 and facts.number(header.PLANAR) == 1
    pixel = bits // 8 if planar else bits // 8 * samples
    rows, columns = facts.number(header.ROWS), facts.number(header.COLUMNS)
    return Blackening(boxes.boxes, rows, columns, pixel, samples if planar else 1)
