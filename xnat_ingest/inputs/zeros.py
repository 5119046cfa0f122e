"""Zeros that follow what a file holds: padding has an end. A file with a hole can be larger than any disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from xnat_ingest.inputs.source import go_on

# Bytes. So many zeros in a row are taken to have no end.
ENOUGH = 1024**3
# Elements of a data set that are all zeros: tag, VR and length. More of them are a hole, not padding.
MOST_BLANK = 1 << 16
BLANK = "has zeros in place of its elements"
_BLOCK = 1 << 18
_NONE = bytes(_BLOCK)


def are_all(block: bytes) -> bool:
    """Whether all bytes of a block are zeros. It is as long as one that is read here, at most."""
    return block == _NONE[: len(block)]


def pass_zeros(stream: BinaryIO, check_stop: Callable[[], None] = go_on) -> tuple[int, bytes]:
    """Reads on to the first byte that is not zero.

    Returns how many zeros there were, and what was read behind them: nothing at the end of the stream, and nothing
    behind ENOUGH zeros. Raises OSError.
    """
    zeros = 0
    while zeros < ENOUGH and (block := stream.read(_BLOCK)):
        check_stop()
        if are_all(block):
            zeros += len(block)
            continue
        rest = block.lstrip(b"\0")
        return zeros + len(block) - len(rest), rest
    return zeros, b""
