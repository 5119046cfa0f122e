"""Request bodies that can be opened again and are produced while they are sent, without temporary files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, groupby

from xnat_ingest.core import Instance, SourceChanged
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.dicom_dataset import BLOCK, NotWalkable, blocks_of
from xnat_ingest.inputs.outgoing import Outgoing, Rewrite
from xnat_ingest.inputs.rewritten_meanwhile import RewrittenMeanwhile
from xnat_ingest.inputs.same_object import is_planned
from xnat_ingest.transports.tar_members import END, header, member_size, padding

# Below this, one more request costs more than it gains.
SMALLEST_PART = 16 * 1024**2
# The most bytes in a zip. Java does not read an entry with 64-bit sizes unless it is above 4 GiB, but zipfile writes
# 64-bit sizes from 2 GiB on.
ZIP_LIMIT = 1945 * 1024**2
# XNAT does not read a zip's directory, and Tomcat drops a connection with more than 2 MB of unread data.
ZIP_MEMBERS = 8000
# Deflate's fastest level: up to three times faster than the default, for about one per cent more bytes.
ZIP_LEVEL = 1
# Deflated data is sent in blocks of this size. Uniform pixels compress so well that a larger block would take too long
# to fill, and the server would time out (Tomcat: 20 seconds).
_ZIP_BLOCK = 64 * 1024
# Bytes that go out together.
_TOGETHER = 256 * 1024
ANOTHER_OBJECT = "the file changed since it was scanned: it holds another object now, or none"


@dataclass(frozen=True, slots=True)
class Part:
    """Some instances of one session: one request body."""

    instances: tuple[Instance, ...]

    @property
    def bytes(self) -> int:
        return sum(i.length for i in self.instances)


# An instance with the bytes that it takes in a body.
_Weighed = tuple[Instance, int]


def cut_into_parts(instances: Sequence[Instance], part_size: int, workers: int) -> list[Part]:
    """Parts with bodies of at most part_size bytes (or one instance), split between series if possible, balanced.

    The smallest comes first. It is sent alone, until its reply shows the prearchive session that it made.
    """
    weighed = [(i, _member_size(i)) for i in sorted(instances, key=lambda i: i.series_uid)]
    total = _weight(weighed)
    most = max(1, part_size - len(END))  # a part of one instance may be larger
    target = min(most, max(total // workers, SMALLEST_PART))
    if 0 < total <= target:
        return [_part(weighed)]
    parts: list[list[_Weighed]] = []
    room = 0
    for _, members in groupby(weighed, key=lambda one: one[0].series_uid):
        for piece in _pieces(list(members), target):
            weight = _weight(piece)
            if not parts or weight > room:
                parts.append([])
                room = target
            parts[-1] += piece
            room -= weight
    return sorted(map(_part, parts), key=lambda p: p.bytes)


def _weight(weighed: Iterable[_Weighed]) -> int:
    return sum(size for _, size in weighed)


def _part(weighed: Iterable[_Weighed]) -> Part:
    return Part(tuple(instance for instance, _ in weighed))


def cut_in_order(instances: Sequence[Instance], part_size: int) -> list[Part]:
    """Parts of instances in a stream, in stream order.

    The first is small. It is sent alone, until its reply shows the prearchive session that it made.
    """
    parts: list[list[Instance]] = [[]]
    room = min(part_size, SMALLEST_PART) - len(END)
    for instance in instances:
        weight = _member_size(instance)
        if parts[-1] and weight > room:
            parts.append([])
            room = part_size - len(END)
        parts[-1].append(instance)
        room -= weight
    return [Part(tuple(part)) for part in parts if part]


def _pieces(series: list[_Weighed], target: int) -> Iterator[list[_Weighed]]:
    """Splits one series into pieces of about equal size. Only a single instance may be above the target."""
    total = _weight(series)
    share = total / max(1, -(-total // target))
    piece: list[_Weighed] = []
    weight = 0
    for instance, size in series:
        if piece and weight + size > target:
            yield piece
            piece, weight = [], 0
        piece.append((instance, size))
        weight += size
        if weight >= share:
            yield piece
            piece, weight = [], 0
    if piece:
        yield piece


def change_since_scan(source: Source, instance: Instance) -> str:
    """How a file has changed since it was scanned; "" when it has not."""
    try:
        now = source.stat(instance.path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if now == (instance.size, instance.mtime_ns) else "the file changed since it was scanned"


def beginning(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes of an object, as many as show what it is, and all of its blocks."""
    held: list[bytes] = []
    size = 0
    for block in blocks:
        held.append(block)
        size += len(block)
        if size >= BLOCK:
            break
    return b"".join(held), chain(held, blocks)


def is_another(source: Source, instance: Instance, start: bytes, rewrite: Rewrite | None) -> bool:
    """Whether what is about to be sent is not the object that was planned. start: its first bytes. Raises OSError."""
    return not is_planned(source, instance, start, is_rewritten=rewrite is not None)


def checked(blocks: Iterator[bytes], instance: Instance) -> Iterator[bytes]:
    """The blocks that are sent for an instance. Raises SourceChanged when the number of bytes is not the planned one.

    It never yields more bytes than planned.
    """
    left = instance.length
    try:
        for block in blocks:
            left -= len(block)
            if left < 0:
                raise SourceChanged(instance.path, "the file grew while it was sent", dirty=True)
            yield block
    except OSError as error:
        raise SourceChanged(instance.path, f"cannot be read: {error.strerror}", dirty=True) from error
    except NotWalkable as error:
        raise SourceChanged(instance.path, f"the file changed: its data set {error}", dirty=True) from error
    if left:
        raise SourceChanged(instance.path, "the file shrank while it was sent", dirty=True)


def check_unmixed(watch: RewrittenMeanwhile, instance: Instance) -> None:
    """Raises SourceChanged when what was sent may be a mix of two files."""
    try:
        watch.check()
    except OSError as error:
        raise SourceChanged(instance.path, f"cannot be read: {error.strerror}", dirty=True) from error
    except NotWalkable as error:
        raise SourceChanged(instance.path, f"the file changed: its data set {error}", dirty=True) from error


class _PartBody:
    """Base of the bodies of a part: it gives the instances in blocks, so memory does not grow with their size."""

    def __init__(self, source: Source, part: Part, rewrite: Rewrite | None = None) -> None:
        self._source = source
        self._rewrite = rewrite
        self.part = part

    def _files(self, sent: Callable[[int], None]) -> Iterator[tuple[Instance, Iterator[bytes]]]:
        """Each instance with its bytes, which must be taken before the next one.

        sent: called with each block's payload size; may raise to end the request.

        Raises SourceChanged when a file has changed since it was planned.
        """
        for number, instance in enumerate(self.part.instances, 1):
            yield instance, self._payload(instance, number, sent)

    def _payload(self, instance: Instance, number: int, sent: Callable[[int], None]) -> Iterator[bytes]:
        for block in self._blocks(instance, number):
            sent(len(block))
            yield block

    def _blocks(self, instance: Instance, number: int) -> Iterator[bytes]:
        """An instance's bytes. number: of the member that follows it.

        The last block is held back until it is known that the file has not changed meanwhile. The server would keep
        an object that has come to its end.
        """
        self._check(instance, number)
        watch = self._watch(instance)
        last = b""
        with ExitStack() as opened:
            for block in watch.over(checked(self._planned(instance, opened, number), instance)):
                if last:
                    yield last
                last = block
        self._check(instance)
        check_unmixed(watch, instance)
        if last:
            yield last

    def _watch(self, instance: Instance) -> RewrittenMeanwhile:
        try:
            return RewrittenMeanwhile(Outgoing(self._source, instance, self._rewrite))
        except OSError as error:
            raise SourceChanged(instance.path, f"cannot be read: {error.strerror}", dirty=False) from error

    def _planned(self, instance: Instance, opened: ExitStack, number: int) -> Iterator[bytes]:
        """The blocks of an instance. Raises SourceChanged when they are those of another object."""
        try:
            start, blocks = beginning(opened.enter_context(Outgoing(self._source, instance, self._rewrite).open()))
            another = is_another(self._source, instance, start, self._rewrite)
        except OSError as error:
            raise self._changed(instance, f"cannot be read: {error.strerror}", number) from error
        except NotWalkable as error:
            raise self._changed(instance, f"the file changed: its data set {error}", number) from error
        if another:
            raise self._changed(instance, ANOTHER_OBJECT, number)
        return blocks

    def _difference(self, instance: Instance) -> str:
        """How an instance is not the planned one any more; "" when it is."""
        if why := change_since_scan(self._source, instance):
            return why
        try:
            with Outgoing(self._source, instance, self._rewrite).open() as blocks:
                another = is_another(self._source, instance, beginning(blocks)[0], self._rewrite)
        except (OSError, NotWalkable):
            return "cannot be read"
        return ANOTHER_OBJECT if another else ""

    def _whole(self, instance: Instance, number: int) -> bytes:
        """All bytes of a small instance, as it was planned: nothing of it is sent before that is known."""
        try:
            with self._source.open(instance.path) as stream:
                data = b"".join(blocks_of(stream, instance.size + 1))
        except OSError as error:
            raise self._changed(instance, f"cannot be read: {error.strerror}", number) from error
        if why := change_since_scan(self._source, instance):
            raise self._changed(instance, why, number)
        if len(data) != instance.size:
            raise self._changed(instance, "the file changed since it was scanned", number)
        if is_another(self._source, instance, data, None):
            raise self._changed(instance, ANOTHER_OBJECT, number)
        return data

    def _check(self, instance: Instance, following: int | None = None) -> None:
        """Raises SourceChanged; before a member is sent, with all of the following that have changed, too, so that
        the part is begun afresh once and not once for each. following: the number of the next member; None after a
        member was sent."""
        if why := change_since_scan(self._source, instance):
            raise self._changed(instance, why, following)

    def _changed(self, instance: Instance, why: str, following: int | None) -> SourceChanged:
        rest = () if following is None else self.part.instances[following:]
        others = tuple(i.path for i in rest if self._difference(i))
        return SourceChanged(instance.path, why, dirty=following is None, others=others)


class TarBody(_PartBody):
    """A tar archive of a part's instances, each under the name that XNAT will store.

    The length is known in advance, because XNAT does not accept a tar without one.
    """

    content_type = "application/x-tar"

    def __init__(self, source: Source, part: Part, rewrite: Rewrite | None = None) -> None:
        super().__init__(source, part, rewrite)
        self.length = len(END) + sum(map(_member_size, part.instances))

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        """The body from its start. For sent, and for what it raises, see the base class."""
        held: list[bytes] = []
        size = payload = 0
        for piece, count in self._pieces():
            # Fewer pieces: a call to the network for each small one is most of the work.
            if held and size + len(piece) > _TOGETHER:
                sent(payload)
                yield b"".join(held)
                held, size, payload = [], 0, 0
            held.append(piece)
            size += len(piece)
            payload += count
        sent(payload)
        yield b"".join(held)

    def _pieces(self) -> Iterator[tuple[bytes, int]]:
        """The body in pieces, each with the number of bytes in it that belong to files."""
        for number, instance in enumerate(self.part.instances, 1):
            if instance.length <= _TOGETHER and instance.form == "file" and self._rewrite is None:
                data = self._whole(instance, number)
                yield b"".join((header(instance.name, len(data)), data, padding(len(data)))), len(data)
                continue
            yield header(instance.name, instance.length), 0
            for block in self._blocks(instance, number):
                yield block, len(block)
            yield padding(instance.length), 0
        yield END, 0


class ZipBody(_PartBody):
    """A zip of a part's instances, compressed while it is sent, so its length is not known in advance.

    Java reads it front to back. So members must be deflated, since only then may their sizes come after the data, and
    sizes must have 32 bits. At most ZIP_LIMIT bytes and ZIP_MEMBERS instances.
    """

    content_type = "application/zip"  # XNAT accepts a chunked body only with exactly this type
    length = None

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        """The body from its start. sent: called with the bytes before compression."""
        out = _Outlet()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, allowZip64=False, compresslevel=ZIP_LEVEL) as archive:
            for instance, blocks in self._files(sent):
                with archive.open(_encodable(instance.name), "w") as member:
                    for block in blocks:
                        member.write(block)
                        if len(out.held) >= _ZIP_BLOCK:
                            yield out.take()
        yield out.take()


class FileBody(_PartBody):
    """A part with one instance, sent as it is."""

    content_type = "application/dicom"

    def __init__(self, source: Source, part: Part, rewrite: Rewrite | None = None) -> None:
        super().__init__(source, part, rewrite)
        self.length = part.bytes

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        for _, blocks in self._files(sent):
            yield from blocks


class _Outlet:
    """The output of zipfile: not seekable, and it keeps the bytes that were not taken yet."""

    def __init__(self) -> None:
        self.held = bytearray()

    def write(self, data: bytes) -> int:
        self.held += data
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        taken = bytes(self.held)
        self.held.clear()
        return taken


def _encodable(name: str) -> str:
    """The name without characters that UTF-8 cannot encode."""
    return name.encode("utf-8", "backslashreplace").decode()


def _member_size(instance: Instance) -> int:
    """Bytes of an instance in a tar."""
    return member_size(instance.name, instance.length)


class TextBody:
    """A body of text in memory."""

    def __init__(self, text: str, content_type: str) -> None:
        self.content_type = content_type
        self._bytes = text.encode()
        self.length = len(self._bytes)

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        sent(self.length)
        yield self._bytes
