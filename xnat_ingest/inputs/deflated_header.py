"""What a deflated data set holds, read forwards once: a small file that inflates to gigabytes takes no memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from xnat_ingest.inputs.dicom_dataset import Forward, NotInflatable, NotWalkable, copy_value, inflated, read_head

PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
# No value that anybody asks for is longer; one that is counts as absent.
LONGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Survey:
    """elements: those that were asked for, encoded; length: bytes of the data set; pixel_bytes: None without pixels."""

    elements: bytes
    length: int
    pixel_bytes: int | None


def survey(blocks: Iterable[bytes], wanted: Collection[int]) -> Survey:
    """The data set in a deflate stream, to its end; wanted: tags of elements without items. Raises NotWalkable."""
    source = Forward(inflated(blocks))
    kept: dict[int, bytes] = {}
    pixel_bytes: int | None = None
    behind = 0
    try:
        while source.peek(1):
            head = read_head(source, True, "<")
            if head.tag in wanted and head.length <= LONGEST:
                kept.setdefault(head.tag, head.raw + b"".join(source.copy(head.length)))
                continue
            start = source.taken
            for _ in copy_value(source, head, True, "<"):
                pass
            if head.tag in PIXEL_TAGS:
                pixel_bytes = source.taken - start
    except NotInflatable:
        raise
    except NotWalkable:
        if pixel_bytes is None:
            raise
        behind = sum(map(len, source.rest()))  # whatever follows pixels does no harm
    return Survey(b"".join(kept.values()), source.taken + behind, pixel_bytes)
