"""Archives read where they lie: never unpacked, no member's name ever used as a path, members opened by seeking."""

from __future__ import annotations

import io
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from xnat_ingest.errors import IngestError
from xnat_ingest.model import SetAside, SourceFile
from xnat_ingest.sources.kinds import Kind
from xnat_ingest.sources.protocol import Source
from xnat_ingest.sources.views import View

# Beyond this many bytes, what packs better than this is made to fill something, not to hold images.
BOMB_SIZE = 1 << 30
BOMB_RATIO = 200
_KNOWN_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


class Damaged(IngestError):
    """An archive that cannot be read at all."""


def open_archive(path: Path, kind: Kind) -> Source:
    """Raises Damaged, and OSError."""
    if kind == "zip":
        return ZipSource(path)
    if kind == "tar":
        return TarSource(path)
    if kind == "tar.gz":
        from xnat_ingest.sources.stream import StreamSource

        return StreamSource(path)
    raise Damaged("a gzip file that holds no tar")


def unsafe(name: str) -> str:
    """Why a member's name is no place in a tree, "" when it is one."""
    parts = name.split("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if ".." in parts:
        return "a path that leads upwards"
    return "" if all(parts) and "\0" not in name else "an empty name"


@dataclass(slots=True)
class Names:
    """Members' names as paths of a source: cleaned, and each once."""

    taken: set[str]

    def of(self, name: str) -> str:
        """Separators as everywhere; a second member of the same name gets a number, so that neither hides the other."""
        path = re.sub(r"/(?:\./)*/*", "/", name.replace("\\", "/").removeprefix("./"))
        unique, number = path, 1
        while unique in self.taken:
            number += 1
            unique = f"{path}#{number}"
        self.taken.add(unique)
        return unique


class Bombs:
    """Watches what an archive claims to hold against what it is. size: bytes of the archive."""

    def __init__(self, size: int) -> None:
        self._most = max(BOMB_SIZE, BOMB_RATIO * size)
        self._total = 0

    def adds(self, size: int, packed: int | None = None) -> bool:
        """Whether this member is too much; then it does not count."""
        if packed is not None and size > BOMB_SIZE and size > BOMB_RATIO * packed:
            return True
        if self._total + size > self._most:
            return True
        self._total += size
        return False


TOO_LARGE = "would unpack to far more than an archive of this size holds; unpack it yourself if that is right"


class Archive:
    """What all archives have in common. is_stream: see Source.in_order."""

    is_stream = False

    def in_order(self, path: str) -> bool:  # noqa: ARG002 - all of an archive is of one kind
        return self.is_stream

    def name_of(self, folder: str) -> str:
        return folder.rpartition("/")[2]


class ZipSource(Archive):
    """A zip, by its central directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, UnicodeDecodeError) as error:
            raise Damaged("a zip that is cut or damaged: its directory cannot be read") from error
        self._members: dict[str, zipfile.ZipInfo] = {}

    def files(self) -> Iterator[SourceFile | SetAside]:
        names, bombs = Names(set()), Bombs(self._path.stat().st_size)
        files = (info for info in self._zip.infolist() if not info.filename.endswith(("/", "\\")))
        entries = [(names.of(info.filename), info) for info in files]
        mtime = self._path.stat().st_mtime_ns
        for path, info in sorted(entries, key=lambda entry: entry[0].encode("utf-8", "surrogateescape")):
            if aside := _judge_zip(path, info, bombs):
                yield aside
            else:
                self._members[path] = info
                yield SourceFile(path, info.file_size, mtime)

    def open(self, path: str) -> BinaryIO:
        try:
            return cast(BinaryIO, _Unpacking(self._zip.open(self._members[path])))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise _broken() from error

    def stat(self, path: str) -> tuple[int, int]:
        return self._members[path].file_size, self._path.stat().st_mtime_ns


def _judge_zip(path: str, info: zipfile.ZipInfo, bombs: Bombs) -> SetAside | None:
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0  # 3: made on Unix
    if why := unsafe(path):
        return SetAside(path, "unsafe-name", why)
    if kind not in (0, stat.S_IFREG):
        return SetAside(path, "unsafe-name", "a link or a device, not a file")
    if info.flag_bits & 1:
        return SetAside(path, "unreadable", "encrypted")
    if info.compress_type not in _KNOWN_PACKING:
        return SetAside(path, "unreadable", f"packed by method {info.compress_type}, which is not known here")
    return SetAside(path, "too-large", TOO_LARGE) if bombs.adds(info.file_size, info.compress_size) else None


class TarSource(Archive):
    """A plain tar: each member is a piece of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._members: dict[str, tuple[int, int]] = {}

    def files(self) -> Iterator[SourceFile | SetAside]:
        mtime = self._path.stat().st_mtime_ns
        with self._path.open("rb") as stream:
            found = list(tar_members(stream, self._path))
        for path, member in sorted(found, key=lambda entry: entry[0].encode("utf-8", "surrogateescape")):
            if isinstance(member, SetAside):
                yield member
            else:
                self._members[path] = member
                yield SourceFile(path, member[1], mtime)

    def open(self, path: str) -> BinaryIO:
        offset, size = self._members[path]
        return cast(BinaryIO, Piece(self._path.open("rb"), offset, size))

    def stat(self, path: str) -> tuple[int, int]:
        return self._members[path][1], self._path.stat().st_mtime_ns


def tar_members(stream: BinaryIO, archive: Path) -> Iterator[tuple[str, tuple[int, int] | SetAside]]:
    """Each member's path, and where its bytes lie: (offset, size); or why it is set aside. Ends with a SetAside of
    the archive itself when that is damaged: what follows there is lost, and nobody knows what it was."""
    names, bombs = Names(set()), Bombs(archive.stat().st_size)
    try:
        with tarfile.open(fileobj=stream, mode="r:", ignore_zeros=False) as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # it would keep every one of them
                if info.isdir():
                    continue
                path = names.of(info.name)
                yield path, _judge_tar(path, info, bombs) or (info.offset_data, info.size)
            stream.seek(tar.offset)
            if any(stream.read(tarfile.BLOCKSIZE)) or stream.tell() == tar.offset:
                yield archive.name, SetAside(archive.name, "truncated", "the archive has no end mark: it was cut")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        yield archive.name, SetAside(archive.name, "truncated", f"the archive is cut or damaged: {error}")


def _judge_tar(path: str, info: tarfile.TarInfo, bombs: Bombs) -> SetAside | None:
    if why := unsafe(path):
        return SetAside(path, "unsafe-name", why)
    if not info.isreg():
        return SetAside(path, "unsafe-name", "a link or a device, not a file")
    if info.issparse():
        return SetAside(path, "unreadable", "a sparse member")
    return SetAside(path, "too-large", TOO_LARGE) if bombs.adds(info.size) else None


class Piece(View):
    """A part of a seekable stream, as a stream of its own; closes what it is a part of."""

    def __init__(self, whole: BinaryIO, offset: int, size: int) -> None:
        super().__init__(size)
        self._whole = whole
        self._offset = offset

    def read(self, size: int | None = -1) -> bytes:
        self._whole.seek(self._offset + self._at)
        data = self._whole.read(self._wanted(size))
        self._at += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._whole.close()
        super().close()


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
        try:
            return self._member.seek(offset, whence)
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise _broken() from error

    def read(self, size: int | None = -1) -> bytes:
        try:
            return self._member.read(-1 if size is None else size)
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise _broken() from error

    def close(self) -> None:
        self._member.close()
        super().close()


def _broken() -> OSError:
    return OSError(5, "its archive is damaged here")
