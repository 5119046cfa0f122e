"""Zip archives, read through their central directory."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from xnat_ingest.core.model import SetAside, SourceFile
from xnat_ingest.inputs.archive_members import TOO_LARGE, Archive, DecompressionGuard, UniqueNames, all_told, unsafe
from xnat_ingest.inputs.unpacking import Unpacking, damage_told
from xnat_ingest.inputs.zip_directory import ZipMember, read_directory


class ZipSource(Archive):
    """A zip, read through its central directory. The file is open only while something is read from it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._members: dict[str, ZipMember] = {}
        with path.open("rb") as stream:
            self._directory = read_directory(stream, path.stat().st_size)

    def files(self) -> Iterator[SourceFile | SetAside]:
        names, bombs = UniqueNames(), DecompressionGuard(self._path.stat().st_size)
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
        stream = self._path.open("rb")
        return cast(BinaryIO, Unpacking(open_member(stream, self._members[path]), stream))

    def stat(self, path: str) -> tuple[int, int]:
        return self._members[path].size, self._path.stat().st_mtime_ns


def open_member(stream: BinaryIO, member: ZipMember) -> BinaryIO:
    """A member's bytes, unpacked. It has the zip's stream for itself until it is closed. Raises OSError."""
    info = zipfile.ZipInfo(member.name)
    info.CRC, info.compress_type = member.crc, member.method
    info.compress_size, info.file_size = member.packed, member.size
    stream.seek(member.start)
    with damage_told():
        return cast(BinaryIO, zipfile.ZipExtFile(stream, "r", info))


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
