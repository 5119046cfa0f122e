"""A compressed tar. It is a stream, so only reading forward is cheap.

Members are listed, read and sent in archive order, in one pass each. Going back takes another pass.
"""

from __future__ import annotations

import gzip
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from xnat_ingest.core import SetAside, SourceFile
from xnat_ingest.inputs.archive_members import Archive, Opener
from xnat_ingest.inputs.source import go_on
from xnat_ingest.inputs.tar_archive import TarMember, tar_members
from xnat_ingest.inputs.unpacking import gunzipped
from xnat_ingest.inputs.views import SubStream

# Bytes that a reader may go back without another pass. Reading headers needs much less.
BACKLOG = 1 << 20
_BLOCK = 1 << 18


class _Pass(SubStream):
    """One pass over the unpacked stream.

    It seeks forward by reading, backward within the backlog or by starting again. It keeps a file handle and the
    backlog from its first byte until it is released.
    """

    def __init__(self, source: StreamSource, check_stop: Callable[[], None] = go_on) -> None:
        self._check_stop = check_stop
        super().__init__(sys.maxsize)  # the length is unknown until the end is reached
        self.source = source
        self._packed: BinaryIO | None = None
        self._gzip: BinaryIO | None = None
        self._past = b""
        self._end = 0  # of what was read so far; the backlog is its last part

    def _begin(self) -> BinaryIO:
        self.release()
        self.source.passes += 1
        self._packed = self.source.opened(-1)
        self._gzip = gunzipped(self._packed)
        return self._gzip

    def read(self, size: int | None = -1) -> bytes:
        size = self._wanted(size)
        if self._at < self._end - len(self._past):
            self.release()
        while self._end < self._at + size and self._more():
            pass
        start = self._at - (self._end - len(self._past))
        data = self._past[max(start, 0) : max(start, 0) + size] if start <= len(self._past) else b""
        self._at += len(data)
        return data

    def _more(self) -> bool:
        """Reads the next block. Keeps the bytes that may be needed again, and those that a seek skipped unread."""
        self._check_stop()
        try:
            block = (self._gzip or self._begin()).read(_BLOCK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(5, "its archive is truncated or corrupt here") from error
        self._end += len(block)
        wanted = max(BACKLOG, self._end - self._at)
        self._past = (self._past + block)[-wanted:] if len(self._past) + len(block) > wanted else self._past + block
        return bool(block)

    def release(self) -> None:
        """Frees the handle and the backlog. A later read starts from the beginning."""
        if self._packed:
            self._packed.close()
        self._packed, self._gzip, self._past, self._end = None, None, b"", 0

    def close(self) -> None:
        self.release()
        super().close()


class _Idle:
    """The readings of all streams of a run that are idle, in the order they were put here."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: list[_Pass] = []
        self._lock = threading.Lock()

    def put(self, reading: _Pass) -> None:
        with self._lock:
            self._all.append(reading)
            too_many = self._all[: -self._most]
            del self._all[: -self._most]
        for old in too_many:
            old.release()

    def take(self, reading: _Pass) -> None:
        """Removes it, if it is still here."""
        with self._lock:
            if reading in self._all:
                self._all.remove(reading)

    def nearest(self, source: StreamSource, offset: int) -> _Pass | None:
        """Takes out the reading of the source that is nearest before the offset.

        When all are past it, the furthest stays and the others are released. Sending goes on from there, while earlier
        members are read again to be compared with what is stored.
        """
        with self._lock:
            own = sorted((one for one in self._all if one.source is source), key=lambda one: one.tell())
            before = [one for one in own if one.tell() <= offset]
            gone = before[-1:] or own[:-1]
            self._all = [one for one in self._all if one not in gone]
        if before:
            return gone[0]
        for old in gone:
            old.release()
        return None


# A run may open many streams without reading them to their ends, for example when rules exclude the last members.
MOST_IDLE = 32
_IDLE = _Idle(MOST_IDLE)


class StreamSource(Archive):
    """A tar.gz. passes: how many times it has been read from its start."""

    is_stream = True

    def __init__(self, path: Path, check_stop: Callable[[], None] = go_on, opened: Opener | None = None) -> None:
        super().__init__(path, opened)
        self._check_stop = check_stop
        self.passes = 0
        self._members: dict[str, TarMember] = {}
        self._end = sys.maxsize  # of the last member, once the members are known

    def files(self) -> Iterator[SourceFile | SetAside]:
        """The files in archive order. Opening a file while it is listed reads it in the same pass."""
        mtime = self.path.stat().st_mtime_ns
        reading = _Pass(self, self._check_stop)
        try:
            for path, member in tar_members(cast(BinaryIO, reading), self.path.name, self.path.stat().st_size):
                if isinstance(member, SetAside):
                    yield member
                    continue
                self._members[path] = member
                _IDLE.put(reading)
                yield SourceFile(path, member.size, mtime)
                _IDLE.take(reading)
        finally:
            _IDLE.take(reading)
            reading.close()
        self._end = max((one.offset + one.size for one in self._members.values()), default=0)

    def open(self, path: str) -> BinaryIO:
        return cast(BinaryIO, _Member(self, self._members[path]))

    def stat(self, path: str) -> tuple[int, int]:
        return self._members[path].size, self.path.stat().st_mtime_ns

    def nearest(self, offset: int) -> _Pass:
        """A reading that has not passed the offset, for one user at a time."""
        return _IDLE.nearest(self, offset) or _Pass(self)

    def put_back(self, reading: _Pass) -> None:
        """Keeps it for the next user. One that has read all members is of no more use."""
        if reading.tell() >= self._end:
            reading.release()
        else:
            _IDLE.put(reading)


class _Member(SubStream):
    """One member. It keeps a reading of the stream until it is closed. Making it raises OSError."""

    def __init__(self, source: StreamSource, member: TarMember) -> None:
        super().__init__(member.size)
        self._source = source
        self._offset = member.offset
        self._reading = source.nearest(member.offset)
        try:
            member.check(cast(BinaryIO, self._reading))
        except OSError:
            self.close()
            raise

    def read(self, size: int | None = -1) -> bytes:
        self._reading.seek(self._offset + self._at)
        data = self._reading.read(self._wanted(size))
        self._at += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._source.put_back(self._reading)
        super().close()
