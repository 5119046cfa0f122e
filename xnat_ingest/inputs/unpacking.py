"""Streams that unpack while reading: members of zips, compressed single files. Nothing is unpacked to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Literal, cast, get_args

from xnat_ingest.core import IngestError, is_bug
from xnat_ingest.inputs.zeros import PaddedStream

Packing = Literal["gzip", "bzip2", "xz"]
PACKINGS: tuple[str, ...] = get_args(Packing)
BLOCK = 1 << 18
CORRUPT = "its archive is corrupt here"


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
        raise OSError(5, CORRUPT) from error


def unpacked(stream: BinaryIO, packing: Packing, *, closes: bool = True) -> Unpacking:
    """The content of a compressed stream, from its start. Closing it closes the stream, too."""
    openers: dict[Packing, Callable[[], object]] = {
        "gzip": lambda: gunzipped(stream),
        "bzip2": lambda: bz2.BZ2File(stream),
        # With the format named, zeros behind the content are not taken for more of it.
        "xz": lambda: lzma.LZMAFile(stream, format=lzma.FORMAT_XZ),  # noqa: SIM115 - closed with what is returned
    }
    return Unpacking(cast(BinaryIO, openers[packing]()), stream if closes else None)


def gunzipped(stream: BinaryIO) -> gzip.GzipFile:
    """The content of a gzip file, from where the stream is. The errors of damage are those of gzip."""
    return gzip.GzipFile(fileobj=cast(BinaryIO, PaddedStream(stream)))
