"""Streams that unpack while reading: members of zips, compressed single files. Nothing is unpacked to disk."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, get_args

from xnat_ingest.core import IngestError, is_bug
from xnat_ingest.inputs import zeros

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Packing = Literal["gzip", "bzip2", "xz"]
PACKINGS: tuple[str, ...] = get_args(Packing)
BLOCK = 1 << 18
CORRUPT = "its archive is corrupt here"
# xz and LZMA say themselves how much memory it takes to unpack them, up to 4 GB. xz -9 takes half of this.
MOST_MEMORY = 1 << 27
GREEDY = "it takes more than 128 MiB of memory to unpack; unpack it yourself, or pack it again with xz -9 or less"
_GZIP_MARK = b"\x1f\x8b"
_XZ_MARK = b"\xfd7zXZ\0"
# How a bzip2 stream begins, and an empty one, which ends here. The fourth byte is its level.
_BZIP2_MARKS = (b"BZh91AY&SY", b"BZh9\x17rE8P\x90")
_BZIP2_LEVELS = tuple(b"BZh%d" % level for level in range(1, 10))
# Zeros behind an xz stream may be the end of a file with a hole, or padding, which is a few bytes.
_XZ_PADDING = 1 << 16
# Packed bytes that are read at once. What follows a stream is copied for each that ends in them.
_STEP = 1 << 13
# Bytes that may be packed in vain: names in headers, and the marks with which some writers end each block of theirs.
# bzip2 gives nothing of a block before all of it was read, which may be 900 kB.
MOST_EMPTY: dict[Packing, int] = {"gzip": 1 << 17, "bzip2": 1 << 20, "xz": 1 << 17}


class Decompressor(Protocol):
    """What the decompressors of the standard library's bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class ChecksummedStream(io.RawIOBase):
    """A stream whose checksum is verified at its end. Damage is raised as OSError."""

    def read_on(self, check_stop: Callable[[], None]) -> None:
        """Reads to the end, where the checksum is verified. Raises OSError when it does not match."""
        while self.read(BLOCK):
            check_stop()


class Unpacking(ChecksummedStream):
    """A stream that unpacks. Damage in the bytes is raised as OSError, like with any file.

    inner: the stream that unpacks. It is closed together with this one.
    outer: closed as well, when it is given.
    """

    def __init__(self, inner: BinaryIO, outer: BinaryIO | None = None) -> None:
        self._inner = inner
        self._outer = outer

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._inner.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with damage_told():
            return self._inner.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        with damage_told():
            return self._inner.read(-1 if size is None else size)

    def close(self) -> None:
        self._inner.close()
        if self._outer:
            self._outer.close()
        super().close()


@contextmanager
def damage_told() -> Iterator[None]:
    """Turns the errors that damage causes into OSError: each compression method raises its own."""
    try:
        yield
    except IngestError:  # the run was stopped
        raise
    except Exception as error:
        if is_bug(error) or (isinstance(error, OSError) and error.errno):
            raise
        # The module lzma has one exception for all, and only its text tells them apart.
        is_greedy = isinstance(error, lzma.LZMAError) and "Memory usage limit" in str(error)
        raise (OSError(errno.EFBIG, GREEDY) if is_greedy else OSError(errno.EIO, CORRUPT)) from error


class PieceStream(io.RawIOBase):
    """What is packed, from front to back, never more of it at once than is asked for.

    begin: goes to the front, and returns what gives at most so many of the next bytes, none at the end.
    """

    def __init__(self, begin: Callable[[], Callable[[int], bytes]]) -> None:
        self._begin = begin
        self._next: Callable[[int], bytes] | None = None
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, into: WriteableBuffer) -> int:
        view = memoryview(into)
        data = self._take(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes no further than to the end."""
        if whence == io.SEEK_END:
            while self._take(BLOCK):
                pass
        target = offset if whence == io.SEEK_SET else self._at + offset
        if target < self._at:
            self._next = None
            self._at = 0
        while self._at < target and self._take(min(BLOCK, target - self._at)):
            pass
        return self._at

    def _take(self, most: int) -> bytes:
        self._next = self._next or self._begin()
        data = self._next(most)
        self._at += len(data)
        return data


class _Streams(ABC):
    """The content of a file's compressed streams, one after the other."""

    packing: Packing

    def __init__(self, packed: BinaryIO, start: int) -> None:
        packed.seek(start)
        self._packed = Metered(packed, MOST_EMPTY[self.packing])
        self._at = 0
        self._stream = self._begin()
        self._fresh = b""  # what has been read of the next stream
        self._is_over = False

    def __call__(self, most: int) -> bytes:
        self._packed.expect(self._at + most)
        while most and not self._is_over:
            if self._stream.eof:
                self._fresh = self._stream.unused_data
                self._is_over = not self._goes_on()
                self._stream = self._begin()
            elif data := self._stream.decompress(self._more(), most):
                self._at += len(data)
                return data
        return b""

    @abstractmethod
    def _begin(self) -> Decompressor:
        """For the next stream."""

    @abstractmethod
    def _goes_on(self) -> bool:
        """Whether another stream follows. Raises an error where that is damaged."""

    def _more(self) -> bytes:
        """Packed bytes, if the decompressor needs some."""
        if not self._stream.needs_input:
            return b""
        more, self._fresh = self._fresh or self._packed.read(_STEP), b""
        if not more:
            raise EOFError("it ends in the middle")
        return more

    def _pass_zeros(self, most: float) -> None:
        """Leaves out zeros: all that have been read, and about as many more as are said."""
        passed = 0
        while zeros.are_all(self._fresh) and passed < most and (more := self._packed.read(_STEP)):
            passed += len(more)
            self._fresh = more
        self._fresh = self._fresh.lstrip(b"\0")

    def _first(self, size: int) -> bytes:
        """The first bytes of what follows, fewer at the end."""
        while len(self._fresh) < size and (more := self._packed.read(_STEP)):
            self._fresh += more
        return self._fresh[:size]


class _Gzip(_Streams):
    packing = "gzip"

    def _begin(self) -> Decompressor:
        return _Gunzipper()

    def _goes_on(self) -> bool:
        self._pass_zeros(math.inf)
        first = self._first(len(_GZIP_MARK))
        if first and first != _GZIP_MARK:
            raise gzip.BadGzipFile("something else follows")
        return bool(first)


class _Gunzipper:
    """A member of a gzip file. zlib reads its header, too, which Python's gzip does byte by byte."""

    def __init__(self) -> None:
        self._engine = zlib.decompressobj(wbits=zlib.MAX_WBITS + 16)
        self._rest = b""
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._engine.eof

    @property
    def unused_data(self) -> bytes:
        return self._engine.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        try:
            content = self._engine.decompress(self._rest or data, max(max_length, 0))
        except zlib.error as error:
            text = "CRC check failed" if "data check" in str(error) else str(error)
            raise gzip.BadGzipFile(text) from error
        self._rest = self._engine.unconsumed_tail
        self.needs_input = not self._rest and len(content) != max_length  # there may be more of it inside
        return content


class _Bzip2(_Streams):
    """What is no stream is left out behind one, as bzip2 does."""

    packing = "bzip2"

    def _begin(self) -> Decompressor:
        return bz2.BZ2Decompressor()

    def _goes_on(self) -> bool:
        first = self._first(len(_BZIP2_MARKS[0]))
        if any(_is_nearly(first[4:], mark[4:]) and _is_nearly(first[:3], mark[:3]) for mark in _BZIP2_MARKS):
            return True
        return bool(first) and (b"BZh".startswith(first) or first[:4] in _BZIP2_LEVELS)


class _Xz(_Streams):
    """Zeros may stand between streams. What else is no stream is left out behind one."""

    packing = "xz"

    def _begin(self) -> Decompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, MOST_MEMORY)

    def _goes_on(self) -> bool:
        self._pass_zeros(_XZ_PADDING)
        first = self._first(len(_XZ_MARK))
        return bool(first) and (_XZ_MARK.startswith(first) or _is_nearly(first, _XZ_MARK))


def _is_nearly(found: bytes, mark: bytes) -> bool:
    """Whether a mark stands there, but for one byte or some bits. The decompressor then says that it is damaged."""
    bits = int.from_bytes(found, "big") ^ int.from_bytes(mark, "big")
    return len(found) == len(mark) and bits.bit_count() <= 8


class Metered:
    """Packed bytes that must hold something. Empty members in a row are gone through one by one, within one read."""

    def __init__(self, stream: BinaryIO, most_empty: int) -> None:
        self._stream = stream
        self._most_empty = most_empty
        self._given = 0
        self._zeros = 0  # in a row, until here
        self._most = 0.0

    def expect(self, size: int) -> None:
        """So many bytes of content are asked for, from the start."""
        self._most = size * 1.25 + self._most_empty

    def read(self, size: int) -> bytes:
        """Raises BadGzipFile, whatever the packing, where it takes far more than it may hold. In a hole, EOFError."""
        if self._given > self._most:
            raise gzip.BadGzipFile("it holds far less than it takes")
        data = self._stream.read(size)
        if zeros.are_all(data):  # padding is no empty member
            self._zeros += len(data)
        else:
            self._given += len(data)
            self._zeros = 0
        if self._zeros >= zeros.ENOUGH:
            raise EOFError("zeros without end")
        return data


_STREAMS = {kind.packing: kind for kind in (_Gzip, _Bzip2, _Xz)}


def unpacked(stream: BinaryIO, packing: Packing, *, closes: bool = True) -> Unpacking:
    """The content of a compressed stream, from its start. Closing it closes the stream, too."""
    inside = piecewise(partial(_STREAMS[packing], stream, stream.tell()))
    return Unpacking(inside, stream if closes else None)


def piecewise(begin: Callable[[], Callable[[int], bytes]]) -> io.BufferedReader:
    """A PieceStream that is quick in small steps, too."""
    return io.BufferedReader(PieceStream(begin))


def gunzipped(stream: BinaryIO) -> io.BufferedReader:
    """The content of a gzip file, from where the stream is. Damage is raised as BadGzipFile or EOFError."""
    return piecewise(partial(_Gzip, stream, stream.tell()))
