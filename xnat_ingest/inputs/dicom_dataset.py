"""The encoded data set inside a DICOM file, read forwards and once: nothing here decodes a value (PS3.5, PS3.10)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 256 * 1024
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
# A vendor's, implicit VR with pixels the other way round.
IMPLICIT_VENDOR = "1.2.840.113619.5.2"
_ITEM_GROUP = 0xFFFE
_DELIMITERS = frozenset({0xE00D, 0xE0DD})
_TRANSFER_SYNTAX = 0x00020010
_LONGEST_UID = 128
UNDEFINED = 0xFFFFFFFF
# Value representations with a 16-bit length; all others, those to come included, have a 32-bit one (PS3.5, 7.1.2).
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())


class NotWalkable(Exception):
    """The data set is not built of elements where it should be."""


class NotInflatable(NotWalkable):
    """Its deflate stream is damaged, wherever that shows."""


class PeekableStream:
    """Blocks of bytes as a stream that can be looked at before it is taken. It never goes back, so any source does.

    taken: how many bytes were taken, but for those of `rest`.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.taken = 0
        self._blocks = iter(blocks)
        self._held = b""
        self._at = 0  # what is before this place in the held bytes is taken

    def peek(self, size: int) -> bytes:
        """The next few bytes, which stay; fewer at the end."""
        while len(self._held) - self._at < size and (block := next(self._blocks, b"")):
            self._held, self._at = self._held[self._at :] + block, 0
        return self._held[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        """The next few bytes; fewer at the end."""
        data = self.peek(size)
        self._at += len(data)
        self.taken += len(data)
        return data

    def copy(self, size: int) -> Iterator[bytes]:
        """The next bytes, however many, block by block. Raises NotWalkable when they end early."""
        while size:
            self.peek(1)
            block = self.take(min(size, len(self._held) - self._at))
            if not block:
                raise NotWalkable("ends inside an element")
            size -= len(block)
            yield block

    def rest(self) -> Iterator[bytes]:
        """All that is left."""
        held, self._held, self._at = self._held[self._at :], b"", 0
        if held:
            yield held
        yield from self._blocks


def blocks_of(stream: BinaryIO, size: int = BLOCK) -> Iterator[bytes]:
    """A file in blocks of this many bytes."""
    while block := stream.read(size):
        yield block


def skip_meta(source: PeekableStream) -> str:
    """Goes past preamble and file meta information: what follows is the data set. Returns the transfer syntax that it
    names, "" when it names none.

    The meta elements are passed one by one, since their group length is wrong in some files and absent in others.
    """
    if source.peek(132)[128:] == b"DICM":
        source.take(132)
    syntax = ""
    while source.peek(2) == b"\x02\x00":
        head = read_head(source, is_explicit(source), "<")
        if head.tag == _TRANSFER_SYNTAX and head.length <= _LONGEST_UID:
            syntax = source.take(head.length).decode("latin-1").strip(" \0")
            continue
        for _ in source.copy(head.length):
            pass
    return syntax


def is_explicit(source: PeekableStream) -> bool:
    """Whether the element that comes next names its VR: some files are not encoded as they say."""
    vr = source.peek(6)[4:]
    return len(vr) == 2 and vr.isalpha() and vr.isupper()


def contradiction(source: PeekableStream, syntax: str) -> str:
    """How a data set is not encoded in its file's transfer syntax; "" when it is.

    Receivers go by the transfer syntax: some answer nothing at all, and wait, when it is wrong.
    """
    implicit = syntax in (IMPLICIT, IMPLICIT_VENDOR)
    if is_explicit(source) != implicit:
        return ""
    names = ("explicit", "implicit") if implicit else ("implicit", "explicit")
    return "is encoded in {} VR, and its file says {}".format(*names)


@dataclass(frozen=True, slots=True)
class Head:
    """An element, or an item, before its value. raw: its bytes."""

    tag: int
    vr: bytes
    length: int
    raw: bytes


def read_head(source: PeekableStream, explicit: bool, order: str) -> Head:
    """Takes an element's head. Raises NotWalkable, and has taken nothing then."""
    raw = source.peek(12)
    if len(raw) < 8:
        raise NotWalkable("ends inside an element")
    group, element, length = struct.unpack(f"{order}HHL", raw[:8])
    size, vr = 8, b""
    if explicit and group != _ITEM_GROUP:
        vr = raw[4:6]
        if not (vr.isalpha() and vr.isupper()):
            raise NotWalkable("has an element without a value representation")
        if vr in _SHORT_VRS:
            length = struct.unpack(f"{order}H", raw[6:8])[0]
        elif len(raw) == 12:
            size, length = 12, struct.unpack(f"{order}L", raw[8:])[0]
        else:
            raise NotWalkable("ends inside an element")
    return Head(group << 16 | element, vr, length, source.take(size))


def copy_value(source: PeekableStream, head: Head, explicit: bool, order: str) -> Iterator[bytes]:
    """An element's value; one of undefined length with its delimiter, whatever is nested in it."""
    if head.length != UNDEFINED:
        yield from source.copy(head.length)
        return
    # How each level around the current one is encoded: inside UN of undefined length it is implicit (PS3.5, 6.2.2).
    levels = [explicit and head.vr != b"UN"]
    while levels:
        inner = read_head(source, levels[-1], order)
        yield inner.raw
        if inner.tag >> 16 == _ITEM_GROUP and inner.tag & 0xFFFF in _DELIMITERS:
            levels.pop()
        elif inner.length == UNDEFINED:
            levels.append(levels[-1] and inner.vr != b"UN")
        else:
            yield from source.copy(inner.length)


def inflated(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Raises NotInflatable for what is no whole deflate stream."""
    engine = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        for block in blocks:
            data = block
            while data and not engine.eof:
                if plain := engine.decompress(data, BLOCK):
                    yield plain
                data = engine.unconsumed_tail
        if plain := engine.flush():
            yield plain
    except zlib.error as error:
        raise NotInflatable("is not deflated as it says") from error
    if not engine.eof:
        raise NotInflatable("ends before its deflate stream does")
