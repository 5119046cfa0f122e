"""Request bodies that can be opened again, with a length that is known before the first byte; no temporary file."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from xnat_ingest.errors import SourceChanged
from xnat_ingest.model import Instance
from xnat_ingest.sources import Source

BLOCK = 256 * 1024
# Below this, one more request costs more than it gains.
SMALLEST_PART = 16 * 1024**2
_END = b"\0" * (2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True)
class Part:
    """Some instances of one session: one request body."""

    instances: tuple[Instance, ...]

    @property
    def bytes(self) -> int:
        return sum(i.size for i in self.instances)


def cut_into_parts(instances: Sequence[Instance], part_size: int, workers: int) -> list[Part]:
    """Parts of at most about part_size bytes, on series boundaries where they can be, balanced by bytes.

    The smallest comes first: it travels alone, until its reply shows whose row it made (docs/design.md, 5.1 step 4).
    """
    total = sum(i.size for i in instances)
    target = max(min(part_size, total // workers), min(part_size, SMALLEST_PART))
    parts: list[list[Instance]] = []
    room = 0
    for _, members in groupby(sorted(instances, key=lambda i: i.series_uid), key=lambda i: i.series_uid):
        for piece in _pieces(list(members), target):
            weight = sum(i.size for i in piece)
            if not parts or weight > room:
                parts.append([])
                room = target
            parts[-1] += piece
            room -= weight
    return sorted((Part(tuple(p)) for p in parts), key=lambda p: p.bytes)


def _pieces(series: list[Instance], target: int) -> Iterator[list[Instance]]:
    """One series in pieces of about equal bytes, none much above the target."""
    total = sum(i.size for i in series)
    share = total / max(1, -(-total // target))
    piece: list[Instance] = []
    weight = 0
    for instance in series:
        piece.append(instance)
        weight += instance.size
        if weight >= share:
            yield piece
            piece, weight = [], 0
    if piece:
        yield piece


class TarBody:
    """A tar archive of a part's instances, each under the name that XNAT will store it by.

    PAX headers: names beyond ASCII read the same whatever the server's locale. Opening streams from the source in
    blocks, so memory does not grow with the part.
    """

    content_type = "application/x-tar"

    def __init__(self, source: Source, part: Part) -> None:
        self._source = source
        self.part = part
        self.length = len(_END) + sum(len(_header(i)) + i.size + _padding(i.size) for i in part.instances)

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        """The body from its start. sent: told each block's bytes of payload; may raise to end the request.

        Raises SourceChanged when a file is not what the plan saw.
        """
        for instance in self.part.instances:
            self._check(instance, dirty=False)
            yield _header(instance)
            yield from self._payload(instance, sent)
            self._check(instance, dirty=True)
            yield bytes(_padding(instance.size))
        yield _END

    def _payload(self, instance: Instance, sent: Callable[[int], None]) -> Iterator[bytes]:
        left = instance.size
        try:
            with self._source.open(instance.path) as stream:
                while left:
                    block = stream.read(min(BLOCK, left))
                    if not block:
                        raise SourceChanged(instance.path, "the file became shorter while it was sent", dirty=True)
                    left -= len(block)
                    sent(len(block))
                    yield block
        except OSError as error:
            raise SourceChanged(
                instance.path, f"cannot be read: {error.strerror}", dirty=left < instance.size
            ) from error

    def _check(self, instance: Instance, *, dirty: bool) -> None:
        try:
            now = self._source.stat(instance.path)
        except OSError as error:
            raise SourceChanged(instance.path, f"cannot be read: {error.strerror}", dirty=dirty) from error
        if now != (instance.size, instance.mtime_ns):
            raise SourceChanged(instance.path, "the file changed since it was scanned", dirty=dirty)


def _header(instance: Instance) -> bytes:
    info = tarfile.TarInfo(instance.name)
    info.size = instance.size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "backslashreplace")


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE
