"""What stands around the elements of an object. Without --deidentify it is sent as it is."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from xnat_ingest.deidentify.encoding import ITEM, SEQUENCE_END, UNDEFINED, Encoding
from xnat_ingest.inputs.dicom_dataset import BLOCK, NotWalkable, PeekableStream, read_head
from xnat_ingest.inputs.source import go_on

BEHIND = "elements or bytes behind its pixels, which are not looked into"
_PADDING = (0xFFFC, 0xFFFC)
# Four letters, digits or other signs of names and dates. Preamble and padding of a file that is TIFF, too, have none.
_TEXT = re.compile(rb"[0-9A-Za-z\x80-\xfd][ -.^0-9A-Za-z\x80-\xfd]{2,}[0-9A-Za-z\x80-\xfd]")
_TIFF = re.compile(rb"(II\*\0|MM\0\*).{4}|(II\+\0\x08\0|MM\0\+\0\x08)\0\0.{8}", re.DOTALL)
# Bytes of a text that may begin in one block and end in the next.
_OVERLAP = 16


def has_text(data: bytes) -> bool:
    """Whether bytes that mean nothing hold what may be a text, in single bytes or UTF-16."""
    return _TEXT.search(data) is not None or _TEXT.search(data.replace(b"\0", b"")) is not None


def preamble_has_text(preamble: bytes) -> bool:
    return has_text(_TIFF.sub(b"", preamble, count=1) if _TIFF.match(preamble) else preamble)


def behind_pixels(
    stream: PeekableStream,
    encoding: Encoding,
    check_stop: Callable[[], None] = go_on,
    shown: Callable[[int], int] = lambda length: length,
) -> str:
    """Goes from an object's pixels to its end. Returns BEHIND, or "" when nothing stands behind them but zeros and one
    padding element without text, whose value means nothing (PS3.10, 7.2).

    shown: length of the pixel data -> how many bytes of native pixels belong to a frame.

    Raises NotWalkable, and what check_stop raises.
    """
    head = read_head(stream, encoding.explicit, encoding.order)
    if head.length == UNDEFINED:
        _pass_fragments(stream, encoding.order, check_stop)
    else:
        frames = min(shown(head.length), head.length)
        stream.pass_over(frames, check_stop)
        rest = head.length - frames
        if rest == 1:  # makes the length even
            stream.take(1)
        elif any(block.count(0) < len(block) for block in _next(stream, rest, check_stop)):
            return BEHIND
    if _padding_has_text(stream, encoding, check_stop):
        return BEHIND
    for block in stream.rest():
        check_stop()
        if block.count(0) < len(block):
            return BEHIND
    return ""


def _next(stream: PeekableStream, size: int, check_stop: Callable[[], None]) -> Iterator[bytes]:
    """So many bytes in blocks, or fewer at the end."""
    while size and (block := stream.take(min(size, BLOCK))):
        check_stop()
        size -= len(block)
        yield block


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


def _padding_has_text(stream: PeekableStream, encoding: Encoding, check_stop: Callable[[], None]) -> bool:
    """Takes a padding element, if that is the next one."""
    if stream.peek(4) != struct.pack(f"{encoding.order}HH", *_PADDING):
        return False
    try:
        head = read_head(stream, encoding.explicit, encoding.order)
    except NotWalkable:
        return False  # no element: its bytes are left, and count
    last = b""
    for block in _next(stream, 0 if head.length == UNDEFINED else head.length, check_stop):
        if has_text(last + block):
            return True
        last = block[-_OVERLAP:]
    return False
