"""Reads a deflated data set in one pass. A small file that inflates to gigabytes takes no memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from xnat_ingest.inputs.behind_pixels import MOST, element_behind
from xnat_ingest.inputs.dicom_dataset import (
    EndsInside,
    Inflated,
    NotInflatable,
    NotWalkable,
    PeekableStream,
    copy_value,
    read_head,
)
from xnat_ingest.inputs.sop_classes import DECISIVE, PIXEL_TAGS
from xnat_ingest.inputs.source import go_on

# Values that are needed are shorter than this. A longer one counts as absent.
LONGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class DeflatedMeasure:
    """What was found in the data set.

    elements: those that were asked for, encoded.
    length: bytes of the data set.
    packed: bytes of the deflate stream.
    pixel_bytes: 0 without pixels.
    has: see sop_classes.lacking.
    is_cut_behind: it ends inside an element behind its pixel data.
    """

    elements: bytes
    length: int
    packed: int
    pixel_bytes: int
    has: frozenset[int]
    is_cut_behind: bool = False


def measure_deflated(
    blocks: Iterable[bytes], wanted: Collection[int], check_stop: Callable[[], None] = go_on
) -> DeflatedMeasure:
    """The data set in a deflate stream, to its end.

    wanted: tags of elements without items.
    check_stop: called before each piece that is inflated; may raise.

    Raises NotWalkable.
    """
    inflated = Inflated(blocks, check_stop)
    source = PeekableStream(inflated)
    kept: dict[int, bytes] = {}
    has: set[int] = set()
    pixel_bytes = behind = last = 0
    is_cut = False
    are_elements = True  # nothing but plausible elements follows the pixels
    try:
        while source.peek(1):
            if pixel_bytes and are_elements:
                are_elements = element_behind(source.peek(MOST), last, explicit=True) is not None
            head = read_head(source, True, "<")
            has |= DECISIVE & {head.tag}
            if head.tag in wanted and head.length <= LONGEST:
                kept.setdefault(head.tag, head.raw + b"".join(source.copy(head.length)))
                continue
            start = source.taken
            for _ in copy_value(source, head, True, "<"):
                pass
            last = head.tag
            if head.tag in PIXEL_TAGS:
                pixel_bytes = source.taken - start
    except NotInflatable:
        raise
    except NotWalkable as error:
        if not pixel_bytes:
            raise
        is_cut = are_elements and isinstance(error, EndsInside)
        behind = sum(map(len, source.rest()))  # anything may follow the pixels
    length = source.taken + behind
    return DeflatedMeasure(b"".join(kept.values()), length, inflated.packed, pixel_bytes, frozenset(has), is_cut)
