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
from xnat_ingest.inputs.archive_members import TOO_LARGE, Archive, Bombs, Damaged, Names, unsafe

# A zip's directory ends in a record of this many bytes, and a comment.
_ZIP_END = 22
_KNOWN_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


class ZipSource(Archive):
    """A zip, by its central directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except Exception as error:  # the library raises many types for a damaged file
            if isinstance(error, OSError) and error.errno:
                raise
            raise Damaged("a zip that is cut or damaged: its directory cannot be read") from error
        self._members: dict[str, zipfile.ZipInfo] = {}

    def files(self) -> Iterator[SourceFile | SetAside]:
        names, bombs = Names(set()), Bombs(self._path.stat().st_size)
        files = (info for info in self._zip.infolist() if not info.filename.endswith(("/", "\\")))
        entries = [(names.of(info.filename), info) for info in files]
        mtime = self._path.stat().st_mtime_ns
        if why := self._unlisted():
            yield SetAside(self._path.name, "truncated", why)
        for path, info in sorted(entries, key=lambda entry: entry[0].encode("utf-8", "surrogateescape")):
            if aside := _judge_zip(path, info, bombs):
                yield aside
            else:
                self._members[path] = info
                yield SourceFile(path, info.file_size, mtime)

    def open(self, path: str) -> BinaryIO:
        with _damage_told():
            return cast(BinaryIO, _Unpacking(self._zip.open(self._members[path])))

    def stat(self, path: str) -> tuple[int, int]:
        return self._members[path].file_size, self._path.stat().st_mtime_ns

    def _unlisted(self) -> str:
        """What the zip holds beyond its directory and what that lists, "" for nothing. Of two zips in one file only
        the last one's directory is found; and up to 65535 bytes may lie behind it, where a comment would."""
        first = min([info.header_offset for info in self._zip.infolist()], default=self._zip.start_dir)
        if first > 0:
            return (
                f"{first} bytes lie before the first member that the zip's directory lists, as when two zips are "
                "joined: what they hold is not read; give each zip on its own"
            )
        with self._path.open("rb") as stream:
            stream.seek(max(0, self._path.stat().st_size - _ZIP_END - 0xFFFF))
            tail = stream.read()
        behind = tail[tail.rfind(b"PK\x05\x06") + _ZIP_END + len(self._zip.comment) :]
        return f"{len(behind)} bytes lie behind the end of the zip: what they hold is not read" if any(behind) else ""


def _judge_zip(path: str, info: zipfile.ZipInfo, bombs: Bombs) -> SetAside | None:
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0  # 3: made on Unix
    if why := unsafe(path):
        return SetAside(path, "unsafe-name", why)
    if kind not in (0, stat.S_IFREG):
        return SetAside(path, "unsafe-name", "a link or a device, not a file")
    if info.flag_bits & 1:
        return SetAside(path, "unreadable", "encrypted; unpack it with its password first")
    if info.compress_type not in _KNOWN_PACKING:
        return SetAside(path, "unreadable", f"packed by method {info.compress_type}, which is not known here")
    return SetAside(path, "too-large", TOO_LARGE) if bombs.adds(info.file_size, info.compress_size) else None


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
