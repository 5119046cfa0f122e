"""Request bodies that can be opened again, with a length that is known before the first byte; no temporary file."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import BinaryIO

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
    """Parts whose bodies have at most part_size bytes (or one instance), cut on series boundaries where they can be,
    balanced by bytes.

    The smallest comes first: it travels alone, until its reply shows whose row it made.
    """
    total = sum(map(_member_size, instances))
    most = part_size - len(_END)
    target = min(most, max(total // workers, SMALLEST_PART))
    parts: list[list[Instance]] = []
    room = 0
    for _, members in groupby(sorted(instances, key=lambda i: i.series_uid), key=lambda i: i.series_uid):
        for piece in _pieces(list(members), target):
            weight = sum(map(_member_size, piece))
            if not parts or weight > room:
                parts.append([])
                room = target
            parts[-1] += piece
            room -= weight
    return sorted((Part(tuple(p)) for p in parts), key=lambda p: p.bytes)


def _pieces(series: list[Instance], target: int) -> Iterator[list[Instance]]:
    """One series in pieces of about equal bytes, none above the target but a single instance."""
    total = sum(map(_member_size, series))
    share = total / max(1, -(-total // target))
    piece: list[Instance] = []
    weight = 0
    for instance in series:
        size = _member_size(instance)
        if piece and weight + size > target:
            yield piece
            piece, weight = [], 0
        piece.append(instance)
        weight += size
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
        self.length = len(_END) + sum(map(_member_size, part.instances))

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        """The body from its start. sent: told each block's bytes of payload; may raise to end the request.

        Raises SourceChanged when a file is not what the plan saw.
        """
        for number, instance in enumerate(self.part.instances):
            self._check(instance, self.part.instances[number + 1 :])
            with self._opened(instance) as stream:
                yield _header(instance)
                yield from self._payload(stream, instance, sent)
            self._check(instance)
            yield bytes(_padding(instance.size))
        yield _END

    def _payload(self, stream: BinaryIO, instance: Instance, sent: Callable[[int], None]) -> Iterator[bytes]:
        left = instance.size
        while left:
            block = self._block(stream, instance, left)
            left -= len(block)
            sent(len(block))
            yield block

    def _opened(self, instance: Instance) -> BinaryIO:
        try:
            return self._source.open(instance.path)
        except OSError as error:
            raise SourceChanged(instance.path, f"cannot be read: {error.strerror}", dirty=False) from error

    def _block(self, stream: BinaryIO, instance: Instance, left: int) -> bytes:
        try:
            block = stream.read(min(BLOCK, left))
        except OSError as error:
            raise SourceChanged(instance.path, f"cannot be read: {error.strerror}", dirty=True) from error
        if not block:
            raise SourceChanged(instance.path, "the file became shorter while it was sent", dirty=True)
        return block

    def _check(self, instance: Instance, following: Sequence[Instance] | None = None) -> None:
        """Raises SourceChanged; before a member is sent, with all of the following that have changed, too, so that
        the part is begun afresh once and not once for each. following: None after a member was sent."""
        if why := self._change(instance):
            others = tuple(i.path for i in following or () if self._change(i))
            raise SourceChanged(instance.path, why, dirty=following is None, others=others)

    def _change(self, instance: Instance) -> str:
        """What has become of a file since it was scanned; "" when nothing has."""
        try:
            now = self._source.stat(instance.path)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return "" if now == (instance.size, instance.mtime_ns) else "the file changed since it was scanned"


def _header(instance: Instance) -> bytes:
    info = tarfile.TarInfo(instance.name)
    info.size = instance.size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "backslashreplace")


def _member_size(instance: Instance) -> int:
    """Bytes of a member in the body. A name beyond what a plain header holds takes a PAX header and its block."""
    plain = len(instance.name) <= tarfile.LENGTH_NAME and instance.name.isascii() and instance.size < 8**11
    header = tarfile.BLOCKSIZE if plain else len(_header(instance))
    return header + instance.size + _padding(instance.size)


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE
