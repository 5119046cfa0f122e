"""The encoded data set of a DICOM file, read in one pass without decoding any value (PS3.5, PS3.10)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import SEEK_CUR
from typing import BinaryIO

from xnat_ingest.inputs.source import go_on
from xnat_ingest.inputs.zeros import BLANK, MOST_BLANK

BLOCK = 256 * 1024
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
# A private syntax of one vendor: implicit VR, with big endian pixels.
IMPLICIT_VENDOR = "1.2.840.113619.5.2"
_ITEM_GROUP = 0xFFFE
_DELIMITERS = frozenset({0xE00D, 0xE0DD})
_TRANSFER_SYNTAX = 0x00020010
_LONGEST_UID = 128
UNDEFINED = 0xFFFFFFFF
# Value representations with a 16-bit length. All others, including future ones, have a 32-bit one (PS3.5, 7.1.2).
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())


class NotWalkable(Exception):
    """The data set is not a sequence of elements where it should be."""


class NotInflatable(NotWalkable):
    """Its deflate stream is damaged."""


class EndsInside(NotWalkable):
    """The file ends before its value does."""


class PeekableStream:
    """A stream over blocks of bytes that can be peeked into. It never goes back, so any source will do.

    taken: how many bytes were taken, not counting those of `rest`.
    blank: how many elements of nothing but zeros.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.taken = 0
        self.blank = 0
        self._blocks = iter(blocks)
        self._held = b""
        self._at = 0  # the buffered bytes before this position were taken

    def peek(self, size: int) -> bytes:
        """The next few bytes, without taking them; fewer at the end."""
        lacking = size - (len(self._held) - self._at)
        if lacking > 0:
            held = [self._held[self._at :]]
            while lacking > 0 and (block := next(self._blocks, b"")):
                held.append(block)
                lacking -= len(block)
            self._held, self._at = b"".join(held), 0
        return self._held[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        """Takes the next few bytes; fewer at the end."""
        data = self.peek(size)
        self._at += len(data)
        self.taken += len(data)
        return data

    def pass_over(self, size: int, check_stop: Callable[[], None] = go_on) -> None:
        """Goes past so many bytes, or to the end. They are not read where they come from a file as it is."""
        while size and (block := self.take(min(size, max(len(self._held) - self._at, 1)))):
            check_stop()
            size -= len(block)
            if size and self._at == len(self._held) and isinstance(self._blocks, FileBlocks):
                self._blocks.skip(size)
                self.taken += size
                return

    def copy(self, size: int) -> Iterator[bytes]:
        """Takes any number of bytes, block by block. Raises NotWalkable when the stream ends too early."""
        while size:
            self.peek(1)
            block = self.take(min(size, len(self._held) - self._at))
            if not block:
                raise EndsInside("ends inside an element")
            size -= len(block)
            yield block

    def rest(self) -> Iterator[bytes]:
        """Everything that is left."""
        held, self._held, self._at = self._held[self._at :], b"", 0
        if held:
            yield held
        yield from self._blocks


class FileBlocks:
    """The blocks of a file, each of this many bytes."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size

    def __iter__(self) -> FileBlocks:
        return self

    def __next__(self) -> bytes:
        if block := self._stream.read(self._size):
            return block
        raise StopIteration

    def skip(self, size: int) -> None:
        """The next block begins so many bytes further on."""
        self._stream.seek(size, SEEK_CUR)


def blocks_of(stream: BinaryIO, size: int = BLOCK) -> Iterator[bytes]:
    """Reads a file in blocks of this many bytes."""
    return FileBlocks(stream, size)


def skip_meta(source: PeekableStream) -> str:
    """Skips preamble and file meta information, up to the data set. Returns the transfer syntax named there, or "".

    It skips the meta elements one by one: their group length is wrong in some files and absent in others.
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
    """Whether the next element names its VR: some files are not encoded as they claim."""
    vr = source.peek(6)[4:]
    return len(vr) == 2 and vr.isalpha() and vr.isupper()


def contradiction(source: PeekableStream, syntax: str) -> str:
    """How a data set's encoding differs from the transfer syntax of its file; "" when it does not.

    Receivers rely on the transfer syntax. When it is wrong, some never answer.
    """
    implicit = syntax in (IMPLICIT, IMPLICIT_VENDOR)
    if is_explicit(source) != implicit:
        return ""
    names = ("explicit", "implicit") if implicit else ("implicit", "explicit")
    return "is encoded in {} VR, but its file says {}".format(*names)


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an element or an item, before its value. raw: its bytes."""

    tag: int
    vr: bytes
    length: int
    raw: bytes


def read_head(source: PeekableStream, explicit: bool, order: str) -> Head:
    """Takes an element's head. Raises NotWalkable without having taken anything."""
    raw = source.peek(12)
    if len(raw) < 8:
        raise EndsInside("ends inside an element")
    group, element, length = struct.unpack(f"{order}HHL", raw[:8])
    if not (group or element or length):
        source.blank += 1
        if source.blank > MOST_BLANK:
            raise NotWalkable(BLANK)
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
            raise EndsInside("ends inside an element")
    return Head(group << 16 | element, vr, length, source.take(size))


def copy_value(source: PeekableStream, head: Head, explicit: bool, order: str) -> Iterator[bytes]:
    """An element's value. One of undefined length comes with everything nested in it and its delimiter."""
    if head.length != UNDEFINED:
        yield from source.copy(head.length)
        return
    # The encoding of each enclosing level. Inside UN of undefined length it is implicit (PS3.5, 6.2.2).
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


class Inflated:
    """What a deflate stream holds, piece by piece.

    packed: bytes of the stream itself, known at its end. Whatever follows, perhaps without end, is no part of it.
    check_stop: called before each piece, since a small block can hold very many.

    Raises what check_stop raises, and NotInflatable for what is no whole deflate stream.
    """

    def __init__(self, blocks: Iterable[bytes], check_stop: Callable[[], None] = go_on) -> None:
        self.packed = 0
        self._blocks = blocks
        self._check_stop = check_stop

    def __iter__(self) -> Iterator[bytes]:
        engine = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        try:
            for block in self._blocks:
                data = block
                while data and not engine.eof:
                    self._check_stop()
                    if plain := engine.decompress(data, BLOCK):
                        yield plain
                    data = engine.unconsumed_tail
                self.packed += len(block) - len(engine.unused_data)
                if engine.eof:
                    break
            if plain := engine.flush():
                yield plain
        except zlib.error as error:
            raise NotInflatable("is not deflated, though the file says so") from error
        if not engine.eof:
            raise NotInflatable("ends before its deflate stream does")
