"""Streams that unpack while reading: members of zips, compressed single files. Nothing is unpacked to disk."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, cast, get_args

from xnat_ingest.core import IngestError, is_bug
from xnat_ingest.inputs.zeros import PaddedStream

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Packing = Literal["gzip", "bzip2", "xz"]
PACKINGS: tuple[str, ...] = get_args(Packing)
BLOCK = 1 << 18
CORRUPT = "its archive is corrupt here"
# xz and LZMA say themselves how much memory it takes to unpack them, up to 4 GB. xz -9 takes half of this.
MOST_MEMORY = 1 << 27
GREEDY = "it takes more than 128 MiB of memory to unpack; unpack it yourself, or pack it again with xz -9 or less"
_XZ_MARK = b"\xfd7zXZ\0"
# Bytes that may be packed in vain: the library reads ahead, and some writers end each block of theirs with a mark.
MOST_EMPTY = 1 << 21


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


class _Xz:
    """The content of an xz file's streams, one after the other. What is no stream behind them is left out."""

    def __init__(self, packed: BinaryIO, start: int) -> None:
        packed.seek(start)
        self._packed = Metered(packed)
        self._at = 0
        self._stream = _xz_stream()
        self._fresh = b""  # the first bytes of the stream, when they have been read
        self._is_over = False

    def __call__(self, most: int) -> bytes:
        self._packed.expect(self._at, most)
        while most and not self._is_over:
            if self._stream.eof:
                self._go_on()
            elif data := self._stream.decompress(self._more(), most):
                self._at += len(data)
                return data
        return b""

    def _more(self) -> bytes:
        """Packed bytes, if the decompressor needs some."""
        if not self._stream.needs_input:
            return b""
        more, self._fresh = self._fresh or self._packed.read(io.DEFAULT_BUFFER_SIZE), b""
        if not more:
            raise EOFError
        return more

    def _go_on(self) -> None:
        """To the next stream, if there is one."""
        self._fresh = self._stream.unused_data
        while len(self._fresh) < len(_XZ_MARK) and (more := self._packed.read(io.DEFAULT_BUFFER_SIZE)):
            self._fresh += more
        self._is_over = not (self._fresh and _XZ_MARK.startswith(self._fresh[: len(_XZ_MARK)]))
        self._stream = _xz_stream()


class Metered:
    """Packed bytes that must hold something. Empty members in a row are gone through one by one, within one read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._given = 0
        self._most = float(MOST_EMPTY)

    def expect(self, position: int, size: int | None) -> None:
        """So many bytes are to be unpacked, from this position. A negative size, or none, means all."""
        is_all = size is None or size < 0
        self._most = math.inf if is_all else (position + (size or 0)) * 1.25 + MOST_EMPTY

    def read(self, size: int = -1) -> bytes:
        """Raises BadGzipFile, whatever the packing, where it takes far more than it may hold."""
        if self._given > self._most:
            raise gzip.BadGzipFile("it holds far less than it takes")
        data = self._stream.read(size)
        if data.strip(b"\0"):  # padding, which has a limit of its own (PaddedStream), is no member
            self._given += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The library does it to begin anew."""
        self._given = 0
        return self._stream.seek(offset, whence)

    def seekable(self) -> bool:
        return True


class _MeteredReads(io.BufferedIOBase):
    """What the library's streams have in front of them."""

    _meter: Metered

    def read(self, size: int | None = -1) -> bytes:
        self._meter.expect(super().seek(0, io.SEEK_CUR), size)
        return super().read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = 0 if whence == io.SEEK_SET else super().seek(0, io.SEEK_CUR)
        self._meter.expect(base + offset, -1 if whence == io.SEEK_END else 0)
        return super().seek(offset, whence)


class _Gzip(_MeteredReads, gzip.GzipFile):
    def __init__(self, stream: BinaryIO) -> None:
        self._meter = Metered(stream)
        super().__init__(fileobj=cast(BinaryIO, PaddedStream(cast(BinaryIO, self._meter))))


class _Bzip2(_MeteredReads, bz2.BZ2File):
    def __init__(self, stream: BinaryIO) -> None:
        self._meter = Metered(stream)
        super().__init__(cast(BinaryIO, self._meter))


def _xz_stream() -> Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, MOST_MEMORY)


def unpacked(stream: BinaryIO, packing: Packing, *, closes: bool = True) -> Unpacking:
    """The content of a compressed stream, from its start. Closing it closes the stream, too."""
    openers: dict[Packing, Callable[[], object]] = {
        "gzip": lambda: gunzipped(stream),
        "bzip2": lambda: _Bzip2(stream),
        "xz": lambda: piecewise(partial(_Xz, stream, stream.tell())),
    }
    return Unpacking(cast(BinaryIO, openers[packing]()), stream if closes else None)


def piecewise(begin: Callable[[], Callable[[int], bytes]]) -> io.BufferedReader:
    """A PieceStream that is quick in small steps, too."""
    return io.BufferedReader(PieceStream(begin))


def gunzipped(stream: BinaryIO) -> gzip.GzipFile:
    """The content of a gzip file, from where the stream is. The errors of damage are those of gzip."""
    return _Gzip(stream)
