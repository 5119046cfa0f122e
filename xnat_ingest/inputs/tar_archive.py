"""Plain tars, and the listing of every tar."""

from __future__ import annotations

import errno
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast
from zlib import crc32

from xnat_ingest.core import IngestError, SetAside, SourceFile, is_bug
from xnat_ingest.inputs.archive_members import TOO_LARGE, Archive, DecompressionGuard, Opener, UniqueNames, unsafe
from xnat_ingest.inputs.dicom_file import TruncationDetector
from xnat_ingest.inputs.source import go_on
from xnat_ingest.inputs.views import SubStream
from xnat_ingest.inputs.zeros import ENOUGH, pass_zeros

# A tar header is one block, plus long names before it. A larger one was made to fill memory.
_LONGEST_HEADER = 1 << 20
# Long headers are gone through word by word. All of a tar's together may be so long, beyond what an honest one takes.
_HONEST_HEADER, _LONGEST_TOGETHER = 1 << 13, 1 << 25
# A header of all members is gone through for each of them. The programs that write one put a few words into it.
_MOST_KEPT = 100
# No system has longer paths. So many characters of a longer name are shown.
_LONGEST_NAME, _SHOWN = 4096, 100
_LARGEST_OCTAL = 8**11
NO_FILE = "a link or a device, not a file"
_FETCH_AGAIN = "fetch the archive again"


class TarMember(NamedTuple):
    """Where a member's bytes begin, and how many they are. mark: a checksum of the header in front of them."""

    offset: int
    size: int
    mark: int

    def check(self, stream: BinaryIO) -> None:
        """Raises OSError where the member is not there any more: the tar was replaced by another one."""
        stream.seek(self.offset - tarfile.BLOCKSIZE)
        if crc32(stream.read(tarfile.BLOCKSIZE)) != self.mark:
            raise OSError(errno.ESTALE, "its archive changed since it was scanned")


class TarSource(Archive):
    """A plain tar: each member is a slice of the file."""

    def __init__(self, path: Path, check_stop: Callable[[], None] = go_on, opened: Opener | None = None) -> None:
        super().__init__(path, opened)
        self._check_stop = check_stop
        self._members: dict[str, TarMember] = {}

    def files(self) -> Iterator[SourceFile | SetAside]:
        mtime = self.path.stat().st_mtime_ns
        with self.opened(-1) as stream:
            watched = cast(BinaryIO, TruncationDetector(stream, self._check_stop))
            found = list(tar_members(watched, self.path.name, self.path.stat().st_size))
        for path, member in sorted(found, key=lambda entry: entry[0].encode("utf-8", "surrogateescape")):
            if isinstance(member, SetAside):
                yield member
            else:
                self._members[path] = member
                yield SourceFile(path, member.size, mtime)

    def open(self, path: str) -> BinaryIO:
        member = self._members[path]
        whole = self.opened(-1)
        try:
            member.check(whole)
        except OSError:
            whole.close()
            raise
        return cast(BinaryIO, FileSlice(whole, member.offset, member.size))

    def stat(self, path: str) -> tuple[int, int]:
        return self._members[path].size, self.path.stat().st_mtime_ns


def tar_members(stream: BinaryIO, archive: str, size: int) -> Iterator[tuple[str, TarMember | SetAside]]:
    """Each member's path with its place, or with the reason why it is set aside.

    When the archive is damaged, the last item is a SetAside of the archive itself: the rest of it is lost.

    archive: its name.
    size: of its file, in bytes.
    """
    names, bombs = UniqueNames(), DecompressionGuard(size)
    try:
        headers = _Headers(stream)
        with tarfile.open(fileobj=cast(BinaryIO, headers), mode="r:", ignore_zeros=False) as tar:
            behind = 0
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # it would keep every one of them
                headers.begin(tar.pax_headers)
                if info.size < 0 or tar.offset <= behind:
                    raise tarfile.ReadError("a member of negative size")  # tarfile would loop forever
                behind = tar.offset
                if (info.isdir() and not info.size) or _is_dumped_folder(info, stream):
                    continue
                header = _own_header(info, stream)
                info.name = _name_in(header, info, tar)
                if not bombs.lists(info.name):
                    yield archive, SetAside(archive, "too-large", TOO_LARGE)
                    return
                long = len(info.name) > _LONGEST_NAME
                path = names.of(f"{info.name[:_SHOWN]}..." if long else info.name)
                aside = SetAside(path, "unsafe-name", f"a name of {len(info.name):,} characters") if long else None
                yield path, aside or _judge_tar(path, info, bombs, header) or _place(info, header)
            if lost := _behind_last(stream, tar.offset):
                yield archive, SetAside(archive, "truncated", lost)
    except IngestError:  # the run was stopped
        raise
    except Exception as error:  # the library raises many types for a damaged file
        if is_bug(error):
            raise
        why = f"the archive is truncated or corrupt ({error.__cause__ or error}), so any member may be; fetch it again"
        yield archive, SetAside(archive, "truncated", why)


def _behind_last(stream: BinaryIO, offset: int) -> str:
    """What is wrong with a tar after its last member, "" for nothing.

    Reads to the very end: more members could follow a gap of zeros or be in a second tar, and a compressed stream ends
    with the checksum of all of it.
    """
    stream.seek(offset)
    mark = stream.read(tarfile.BLOCKSIZE)
    if len(mark) < tarfile.BLOCKSIZE:
        return "the archive has no end mark: it is truncated"
    if any(mark):
        return f"the archive is corrupt at byte {offset}, and the rest is lost; fetch it again"
    zeros, rest = pass_zeros(stream)
    if zeros >= ENOUGH:
        return (
            f"more than {ENOUGH:,} zero bytes follow the archive's end mark; fetch the archive again, or cut them off"
        )
    if rest:
        return (
            "there is data after the archive's end mark, as when two archives are joined or part of one is wiped; "
            "unpack it with tar --ignore-zeros, and give the folder instead"
        )
    return ""


def _own_header(info: tarfile.TarInfo, stream: BinaryIO) -> bytes:
    """The block in front of a member's bytes. Releases of tarfile differ in how they could be asked for it."""
    at = stream.tell()
    stream.seek(info.offset_data - tarfile.BLOCKSIZE)
    header = stream.read(tarfile.BLOCKSIZE)
    stream.seek(at)
    return header


def _name_in(header: bytes, info: tarfile.TarInfo, tar: tarfile.TarFile) -> str:
    """A member's name as GNU tar reads its own.

    In GNU's format, times stand where others have the beginning of a long name, as `tar --listed-incremental` writes
    them. The library takes them for a folder.
    """
    if header[257:265] != tarfile.GNU_MAGIC or info.type in tarfile.GNU_TYPES:
        return info.name
    times = tarfile.nts(header[345:500], tar.encoding, tar.errors)  # type: ignore[attr-defined]
    return info.name.removeprefix(f"{times}/" if times else "")


def _place(info: tarfile.TarInfo, header: bytes) -> TarMember:
    return TarMember(info.offset_data, info.size, crc32(header))


def _is_dumped_folder(info: tarfile.TarInfo, stream: BinaryIO) -> bool:
    """Whether a member is a folder of an incremental tar: its content is the list of the names that were in it."""
    if info.type != b"D":
        return False
    at = stream.tell()
    stream.seek(info.offset_data)
    begin = stream.read(1) if info.size else b""
    stream.seek(at)
    return not begin or begin in b"YNDRTX"


class _Headers:
    """The stream as tarfile sees it, which reads only headers, and as much of them as they claim."""

    def __init__(self, stream: BinaryIO) -> None:
        self.seek = stream.seek
        self.tell = stream.tell
        self._stream = stream
        self._read = 0  # bytes of the headers of one member
        self._long = 0  # bytes of headers beyond honest ones, of all members so far

    def begin(self, kept: Mapping[str, str]) -> None:
        """The next member begins. kept: what is known of all members from here on. Raises tarfile.ReadError."""
        self._long += max(0, self._read - _HONEST_HEADER)
        self._read = 0
        if self._long > _LONGEST_TOGETHER:
            raise tarfile.ReadError("headers that are too long")
        if len(kept) > _MOST_KEPT or sum(len(word) + len(text) for word, text in kept.items()) > _LONGEST_HEADER:
            raise tarfile.ReadError("headers of all members that are too long")

    def read(self, size: int = -1) -> bytes:
        self._read += size
        if not 0 <= size <= _LONGEST_HEADER or self._read > 2 * _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {max(size, self._read)} bytes")
        return self._stream.read(size)


def _judge_tar(path: str, info: tarfile.TarInfo, bombs: DecompressionGuard, header: bytes) -> SetAside | None:
    if why := unsafe(path):
        return SetAside(path, "unsafe-name", why)
    if info.isdir():
        return SetAside(path, "unreadable", f"a folder that claims {info.size} bytes of its own; {_FETCH_AGAIN}")
    if not info.isreg():
        return SetAside(path, "unsafe-name", NO_FILE)
    if info.issparse():
        return SetAside(path, "unreadable", "a sparse member")
    if any(key == "size" or key.startswith("GNU.sparse.") for key in info.pax_headers) and _lies(info, header):
        return SetAside(path, "unreadable", f"its header and its extended header give different sizes; {_FETCH_AGAIN}")
    return SetAside(path, "too-large", TOO_LARGE) if bombs.adds(info.size) else None


def _lies(info: tarfile.TarInfo, header: bytes) -> bool:
    """Whether a member's own header gives another size than its extended header, which tarfile uses.

    A size that does not fit into the octal digits of the own header is only in the extended one.
    """
    own = tarfile.nti(header[124:136])  # type: ignore[attr-defined]
    return bool(own != info.size) and info.size < _LARGEST_OCTAL


class FileSlice(SubStream):
    """A slice of a seekable stream, as a stream of its own. Closing it closes the whole stream."""

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
