"""What stands behind the pixels of an object. Without --deidentify it is sent as it is."""

from __future__ import annotations

import struct
from collections.abc import Callable

from xnat_ingest.deidentify.encoding import ITEM, SEQUENCE_END, UNDEFINED, Encoding
from xnat_ingest.inputs.dicom_dataset import NotWalkable, PeekableStream, read_head
from xnat_ingest.inputs.source import go_on

BEHIND = "elements or bytes behind its pixels, which are not looked into"
_PADDING = (0xFFFC, 0xFFFC)


def behind_pixels(stream: PeekableStream, encoding: Encoding, check_stop: Callable[[], None] = go_on) -> str:
    """Goes from an object's pixels to its end. Returns BEHIND, or "" when nothing stands behind them but zeros and one
    padding element, whose value means nothing (PS3.10, 7.2).

    Raises NotWalkable, and what check_stop raises.
    """
    head = read_head(stream, encoding.explicit, encoding.order)
    if head.length == UNDEFINED:
        _pass_fragments(stream, encoding.order, check_stop)
    else:
        stream.pass_over(head.length, check_stop)
    _pass_padding(stream, encoding, check_stop)
    for block in stream.rest():
        check_stop()
        if block.count(0) < len(block):
            return BEHIND
    return ""


def _pass_fragments(stream: PeekableStream, order: str, check_stop: Callable[[], None]) -> None:
    """Up to what is no fragment. The last ones, or their delimiter, may be missing in a file that was cut."""
    while len(start := stream.peek(8)) == 8:
        group, element, length = struct.unpack(f"{order}HHL", start)
        tag = group << 16 | element
        if tag not in (ITEM, SEQUENCE_END) or length == UNDEFINED:
            return
        stream.take(8)
        if tag == SEQUENCE_END:
            return
        stream.pass_over(length, check_stop)


def _pass_padding(stream: PeekableStream, encoding: Encoding, check_stop: Callable[[], None]) -> None:
    if stream.peek(4) != struct.pack(f"{encoding.order}HH", *_PADDING):
        return
    try:
        head = read_head(stream, encoding.explicit, encoding.order)
    except NotWalkable:
        return  # no element: its bytes are left, and count
    if head.length != UNDEFINED:
        stream.pass_over(head.length, check_stop)
