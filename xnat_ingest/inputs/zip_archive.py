"""Zip archives, read through their central directory."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from xnat_ingest.core import SetAside, SourceFile
from xnat_ingest.inputs.archive_members import (
    TOO_LARGE,
    Archive,
    DecompressionGuard,
    Opener,
    UniqueNames,
    all_told,
    unsafe,
)
from xnat_ingest.inputs.source import go_on, heard
from xnat_ingest.inputs.unpacking import (
    CORRUPT,
    MOST_MEMORY,
    ChecksummedStream,
    Decompressor,
    Unpacking,
    damage_told,
    piecewise,
)
from xnat_ingest.inputs.views import SubStream
from xnat_ingest.inputs.zip_directory import ZipMember, read_directory

_RARE = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_LZMA_HEAD = struct.Struct("<2xH5s")  # the size of the properties, and they themselves
_NO_SIZE = b"\xff" * 8


class ZipSource(Archive):
    """A zip, read through its central directory. The file is open only while something is read from it."""

    def __init__(self, path: Path, check_stop: Callable[[], None] = go_on, opened: Opener | None = None) -> None:
        super().__init__(path, opened)
        self._check_stop = check_stop
        self._name = str(path)
        self._members: dict[str, ZipMember] = {}
        with self.opened(-1) as stream:
            self._directory = read_directory(stream, path.stat().st_size, check_stop)

    def files(self) -> Iterator[SourceFile | SetAside]:
        names, bombs = UniqueNames(), DecompressionGuard(self.path.stat().st_size)
        files = (one for one in self._directory.members if one.fault or not one.is_folder)
        entries = [(names.of(one.name), one) for one in heard(files, self._check_stop)]
        entries.sort(key=lambda entry: entry[0].encode("utf-8", "surrogateescape"))
        mtime = self.path.stat().st_mtime_ns
        if self._directory.faults:
            yield SetAside(self.path.name, "truncated", all_told(self._directory.faults))
        for path, member in heard(entries, self._check_stop):
            if aside := _judge_zip(path, member, bombs):
                yield aside
            else:
                self._members[path] = member
                yield SourceFile(path, member.size, mtime)

    def open(self, path: str) -> BinaryIO:
        member = self._members[path]
        if SmallMember.takes(member):
            with self.opened(0) as zipped:
                zipped.seek(member.start)
                return cast(BinaryIO, SmallMember(member, _read(zipped, member.packed)))
        stream = self.opened(-1)
        return cast(BinaryIO, Unpacking(open_member(stream, member), stream))

    def stat(self, path: str) -> tuple[int, int]:
        return self._members[path].size, os.stat(self._name).st_mtime_ns  # noqa: PTH116


def _read(stream: BinaryIO, size: int) -> bytes:
    """As many bytes as there are. An unbuffered file on a network drive may give them in pieces."""
    data = stream.read(size)
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


class SmallMember(SubStream, ChecksummedStream):
    """A member whose packed bytes are held in memory. It is unpacked as far as it is read.

    zipfile does the same with a dozen calls for each read, and a zip of small files is read twice.
    Raises OSError where bytes are damaged.
    """

    MOST = 1 << 18  # bytes, packed and unpacked

    @classmethod
    def takes(cls, member: ZipMember) -> bool:
        known = member.method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        return known and member.packed <= cls.MOST and member.size <= cls.MOST

    def __init__(self, member: ZipMember, packed: bytes) -> None:
        super().__init__(member.size)
        self._crc = member.crc
        self._engine = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == zipfile.ZIP_DEFLATED else None
        self._packed = packed  # what is not unpacked yet
        self._held = b""
        self._is_whole = False  # everything is unpacked, and the checksum is right

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = min(super().seek(offset, whence), self._size)  # as zipfile does
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._at + self._wanted(size)
        if wanted > len(self._held) and not self._is_whole:
            self._unpack(wanted)
        found = self._held[self._at : wanted]
        self._at += len(found)
        return found

    def _unpack(self, wanted: int) -> None:
        """Unpacks up to this many bytes in all. The checksum is verified with the last of them."""
        if self._engine is None:
            self._held = self._packed[:wanted]
        else:
            try:
                self._held += self._engine.decompress(self._packed, wanted - len(self._held))
            except zlib.error as error:
                raise _corrupt() from error
            self._packed = self._engine.unconsumed_tail
        if len(self._held) < wanted or len(self._held) == self._size:
            self._is_whole = zlib.crc32(self._held) == self._crc
            if not self._is_whole:
                raise _corrupt()


def _corrupt() -> OSError:
    return OSError(5, CORRUPT)


def open_member(stream: BinaryIO, member: ZipMember) -> BinaryIO:
    """A member's bytes, unpacked. It has the zip's stream for itself until it is closed. Raises OSError."""
    if member.method in _RARE:
        return cast(BinaryIO, piecewise(partial(_RareMember, stream, member)))
    info = zipfile.ZipInfo(member.name)
    info.CRC, info.compress_type = member.crc, member.method
    info.compress_size, info.file_size = member.packed, member.size
    stream.seek(member.start)
    with damage_told():
        return cast(BinaryIO, zipfile.ZipExtFile(stream, "r", info))


class _RareMember:
    """A member packed with bzip2 or LZMA. zipfile unpacks 4 kB of these at once, and they may hold gigabytes."""

    def __init__(self, zipped: BinaryIO, member: ZipMember) -> None:
        zipped.seek(member.start)
        self._zipped = zipped
        self._packed = member.packed  # bytes that have not been read
        self._left = member.size
        self._crc, self._wanted_crc = 0, member.crc
        if member.method == zipfile.ZIP_LZMA:
            self._fresh = self._lzma_header()
            self._engine: Decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, MOST_MEMORY)
        else:
            self._fresh = b""
            self._engine = bz2.BZ2Decompressor()

    def __call__(self, most: int) -> bytes:
        data = b""
        most = min(most, self._left)
        while most and not data:
            data = self._engine.decompress(self._more(), most)
        self._left -= len(data)
        self._crc = zlib.crc32(data, self._crc)
        if not self._left and self._crc != self._wanted_crc:
            raise _corrupt()
        return data

    def _more(self) -> bytes:
        """Packed bytes, if the decompressor needs some."""
        if not self._engine.needs_input:
            return b""
        more = self._fresh or self._read(io.DEFAULT_BUFFER_SIZE)
        self._fresh = b""
        if not more:
            raise EOFError
        return more

    def _read(self, most: int) -> bytes:
        data = self._zipped.read(min(most, self._packed))
        self._packed -= len(data)
        return data

    def _lzma_header(self) -> bytes:
        """The header of an LZMA file, with its properties and without a size. Raises OSError.

        In a zip, a version and the size of the properties stand before them (APPNOTE.TXT, section 5.8).
        """
        head = _read(self._zipped, min(_LZMA_HEAD.size, self._packed))
        if len(head) < _LZMA_HEAD.size:
            raise _corrupt()
        self._packed -= len(head)
        size, properties = _LZMA_HEAD.unpack(head)
        if size != len(properties):
            raise _corrupt()
        return cast(bytes, properties) + _NO_SIZE


def _judge_zip(path: str, member: ZipMember, bombs: DecompressionGuard) -> SetAside | None:
    if member.is_folder:
        path = path.rstrip("/")
    if why := unsafe(path):
        return SetAside(path, "unsafe-name", why)
    if stat.S_IFMT(member.unix_mode) not in (0, stat.S_IFREG) and not member.is_folder:
        return SetAside(path, "unsafe-name", "a link or a device, not a file")
    if member.fault:
        return SetAside(path, "unreadable", member.fault)
    return SetAside(path, "too-large", TOO_LARGE) if bombs.adds(member.size, member.packed) else None
