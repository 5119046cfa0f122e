"""Plain tars, and the listing of every tar."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from xnat_ingest.core.errors import IngestError, is_bug
from xnat_ingest.core.model import SetAside, SourceFile
from xnat_ingest.inputs.archive_members import TOO_LARGE, Archive, DecompressionGuard, UniqueNames, unsafe
from xnat_ingest.inputs.dicom_file import TruncationDetector
from xnat_ingest.inputs.source import go_on
from xnat_ingest.inputs.views import SubStream

# A tar's header is one block, and the long names before it; more than this at once is made to fill memory.
_LONGEST_HEADER = 1 << 20
_LARGEST_OCTAL = 8**11
_BLOCK = 1 << 18
_GET_ANEW = "get the archive anew"


class TarSource(Archive):
    """A plain tar: each member is a piece of the file."""

    def __init__(self, path: Path, check_stop: Callable[[], None] = go_on) -> None:
        self._path = path
        self._check_stop = check_stop
        self._members: dict[str, tuple[int, int]] = {}

    def files(self) -> Iterator[SourceFile | SetAside]:
        mtime = self._path.stat().st_mtime_ns
        with self._path.open("rb") as stream:
            watched = cast(BinaryIO, TruncationDetector(stream, self._check_stop))
            found = list(tar_members(watched, self._path.name, self._path.stat().st_size))
        for path, member in sorted(found, key=lambda entry: entry[0].encode("utf-8", "surrogateescape")):
            if isinstance(member, SetAside):
                yield member
            else:
                self._members[path] = member
                yield SourceFile(path, member[1], mtime)

    def open(self, path: str) -> BinaryIO:
        offset, size = self._members[path]
        return cast(BinaryIO, FileSlice(self._path.open("rb"), offset, size))

    def stat(self, path: str) -> tuple[int, int]:
        return self._members[path][1], self._path.stat().st_mtime_ns


def tar_members(stream: BinaryIO, archive: str, size: int) -> Iterator[tuple[str, tuple[int, int] | SetAside]]:
    """Each member's path, and where its bytes lie: (offset, size); or why it is set aside. Ends with a SetAside of
        the archive itself when that is damaged: what follows there is lost, and nobody knows what it was.

    archive: its name.
    size: of its file, in bytes.
    """
    names, bombs = UniqueNames(), DecompressionGuard(size)
    try:
        with tarfile.open(fileobj=cast(BinaryIO, _Headers(stream)), mode="r:", ignore_zeros=False) as tar:
            behind = 0
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # it would keep every one of them
                if info.size < 0 or tar.offset <= behind:
                    raise tarfile.ReadError("a member of negative size")  # the library would go in circles
                behind = tar.offset
                if info.isdir() and not info.size:
                    continue
                path = names.of(info.name)
                yield path, _judge_tar(path, info, bombs, stream) or (info.offset_data, info.size)
            if why := _behind_last(stream, tar.offset):
                yield archive, SetAside(archive, "truncated", why)
    except IngestError:  # what reads was told to stop
        raise
    except Exception as error:  # the library raises many types for a damaged file
        if is_bug(error):
            raise
        why = f"the archive is cut or damaged, and any of its members may be: {error.__cause__ or error}; get it anew"
        yield archive, SetAside(archive, "truncated", why)


def _behind_last(stream: BinaryIO, offset: int) -> str:
    """What is wrong with a tar behind its last member, "" for nothing. Reads to the very end: there could be more
    members behind a hole of zeros or in a second tar, and a compressed stream ends in the checksum of all of it."""
    stream.seek(offset)
    mark = stream.read(tarfile.BLOCKSIZE)
    if len(mark) < tarfile.BLOCKSIZE:
        return "the archive has no end mark: it was cut"
    if any(mark):
        return f"the archive is damaged at byte {offset}, and what lies behind is lost; get it anew"
    while block := stream.read(_BLOCK):
        if block.count(0) < len(block):
            return (
                "data lies behind the archive's end mark, as when two archives are joined or a piece of one is wiped; "
                "unpack it with tar --ignore-zeros, and name the folder instead"
            )
    return ""


class _Headers:
    """The stream as the tar library sees it: it reads nothing but headers, and as much of them as they claim."""

    def __init__(self, stream: BinaryIO) -> None:
        self.seek = stream.seek
        self.tell = stream.tell
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)


def _judge_tar(path: str, info: tarfile.TarInfo, bombs: DecompressionGuard, stream: BinaryIO) -> SetAside | None:
    if why := unsafe(path):
        return SetAside(path, "unsafe-name", why)
    if info.isdir():
        return SetAside(path, "unreadable", f"a folder that claims {info.size} bytes of its own; {_GET_ANEW}")
    if not info.isreg():
        return SetAside(path, "unsafe-name", "a link or a device, not a file")
    if info.issparse():
        return SetAside(path, "unreadable", "a sparse member")
    if any(key == "size" or key.startswith("GNU.sparse.") for key in info.pax_headers) and _lies(info, stream):
        return SetAside(path, "unreadable", f"its header and the extended one before it tell two sizes; {_GET_ANEW}")
    return SetAside(path, "too-large", TOO_LARGE) if bombs.adds(info.size) else None


def _lies(info: tarfile.TarInfo, stream: BinaryIO) -> bool:
    """Whether a member's own header has another size than the extended header before it, which the library takes.
    A size that the own header's octal digits cannot hold stands in the extended one alone."""
    at = stream.tell()
    stream.seek(info.offset_data - tarfile.BLOCKSIZE)
    field = stream.read(tarfile.BLOCKSIZE)[124:136]
    stream.seek(at)
    own = tarfile.nti(field)  # type: ignore[attr-defined]
    return bool(own != info.size) and info.size < _LARGEST_OCTAL


class FileSlice(SubStream):
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
