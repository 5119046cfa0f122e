"""Zip archives, read by their central directory."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from xnat_ingest.core.model import SetAside, SourceFile
from xnat_ingest.inputs.archive_members import TOO_LARGE, Archive, Bombs, Names, all_told, unsafe
from xnat_ingest.inputs.zip_directory import ZipMember, read_directory


class ZipSource(Archive):
    """A zip, by its central directory. The file is open only while something is read from it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._members: dict[str, ZipMember] = {}
        with path.open("rb") as stream:
            self._directory = read_directory(stream, path.stat().st_size)

    def files(self) -> Iterator[SourceFile | SetAside]:
        names, bombs = Names(), Bombs(self._path.stat().st_size)
        files = (one for one in self._directory.members if one.fault or not one.is_folder)
        entries = [(names.of(one.name), one) for one in files]
        mtime = self._path.stat().st_mtime_ns
        if self._directory.faults:
            yield SetAside(self._path.name, "truncated", all_told(self._directory.faults))
        for path, member in sorted(entries, key=lambda entry: entry[0].encode("utf-8", "surrogateescape")):
            if aside := _judge_zip(path, member, bombs):
                yield aside
            else:
                self._members[path] = member
                yield SourceFile(path, member.size, mtime)

    def open(self, path: str) -> BinaryIO:
        member = self._members[path]
        info = zipfile.ZipInfo(member.name)
        info.CRC, info.compress_type = member.crc, member.method
        info.compress_size, info.file_size = member.packed, member.size
        stream = self._path.open("rb")
        stream.seek(member.start)
        with _damage_told():
            return cast(BinaryIO, _Unpacking(zipfile.ZipExtFile(stream, "r", info, None, True)))

    def stat(self, path: str) -> tuple[int, int]:
        return self._members[path].size, self._path.stat().st_mtime_ns


def _judge_zip(path: str, member: ZipMember, bombs: Bombs) -> SetAside | None:
    if member.is_folder:
        path = path.rstrip("/")
    if why := unsafe(path):
        return SetAside(path, "unsafe-name", why)
    if stat.S_IFMT(member.unix_mode) not in (0, stat.S_IFREG) and not member.is_folder:
        return SetAside(path, "unsafe-name", "a link or a device, not a file")
    if member.fault:
        return SetAside(path, "unreadable", member.fault)
    return SetAside(path, "too-large", TOO_LARGE) if bombs.adds(member.size, member.packed) else None


class _Unpacking(io.RawIOBase):
    """A zip's member; what is wrong with its bytes comes as OSError, as from any file."""

    def __init__(self, member: zipfile.ZipExtFile | object) -> None:
        self._member = cast(zipfile.ZipExtFile, member)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._member.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _damage_told():
            return self._member.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        with _damage_told():
            return self._member.read(-1 if size is None else size)

    def close(self) -> None:
        self._member.close()
        super().close()


@contextmanager
def _damage_told() -> Iterator[None]:
    """What a zip's damage raises, as OSError: each way of packing has errors of its own, and so have bad headers."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise OSError(5, "its archive is damaged here") from error
