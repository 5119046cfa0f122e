"""Request bodies that can be opened again, written as they are sent; no temporary file."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby

from xnat_ingest.core.errors import SourceChanged
from xnat_ingest.core.model import Instance
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.dicom_dataset import NotWalkable
from xnat_ingest.inputs.outgoing import Outgoing, Rewrite

# Below this, one more request costs more than it gains.
SMALLEST_PART = 16 * 1024**2
# What a zip may hold, in bytes: Java reads no entry whose sizes are told in 64 bits unless it is above 4 GiB, and
# zipfile tells them so from 2 GiB on.
ZIP_LIMIT = 1945 * 1024**2
# Nobody reads a zip's directory, and Tomcat gives a connection up that brings more than 2 MB after what was read.
ZIP_MEMBERS = 8000
# Deflate's fastest level: up to three times as fast as the default, for about one per cent more bytes.
ZIP_LEVEL = 1
# What is deflated goes out in pieces of this size: where pixels are all alike, a larger one would take so many of
# them that a server waits longer for bytes than it does (Tomcat: 20 seconds).
_ZIP_BLOCK = 64 * 1024
# Bytes that go out together.
_TOGETHER = 256 * 1024
_END = b"\0" * (2 * tarfile.BLOCKSIZE)

# A header without name and size, and the sum of its bytes but for those: its own sum counts as blanks.
_BARE = tarfile.TarInfo().tobuf(tarfile.PAX_FORMAT)
_BARE_SUM = sum(_BARE[:124]) + sum(_BARE[136:148]) + 8 * ord(" ") + sum(_BARE[156:])


@dataclass(frozen=True, slots=True)
class Part:
    """Some instances of one session: one request body."""

    instances: tuple[Instance, ...]

    @property
    def bytes(self) -> int:
        return sum(i.length for i in self.instances)


def cut_into_parts(instances: Sequence[Instance], part_size: int, workers: int) -> list[Part]:
    """Parts whose bodies have at most part_size bytes (or one instance), cut on series boundaries where they can be,
    balanced by bytes.

    The smallest comes first: it travels alone, until its reply shows whose row it made.
    """
    total = sum(map(_member_size, instances))
    most = max(1, part_size - len(_END))  # a part of one instance may be larger in any case
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


def cut_in_order(instances: Sequence[Instance], part_size: int) -> list[Part]:
    """Parts of instances that lie in a stream: each goes on where the one before it ended. The first is small: it
    travels alone in any case, and shows whose row it made."""
    parts: list[list[Instance]] = [[]]
    room = min(part_size, SMALLEST_PART) - len(_END)
    for instance in instances:
        weight = _member_size(instance)
        if parts[-1] and weight > room:
            parts.append([])
            room = part_size - len(_END)
        parts[-1].append(instance)
        room -= weight
    return [Part(tuple(part)) for part in parts if part]


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


def change_since_scan(source: Source, instance: Instance) -> str:
    """What has become of a file since it was scanned; "" when nothing has."""
    try:
        now = source.stat(instance.path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if now == (instance.size, instance.mtime_ns) else "the file changed since it was scanned"


def checked(blocks: Iterator[bytes], instance: Instance) -> Iterator[bytes]:
    """The blocks of what is sent of an instance. Raises SourceChanged, before a byte too many, when they are not as
    many as the plan has counted."""
    left = instance.length
    try:
        for block in blocks:
            left -= len(block)
            if left < 0:
                raise SourceChanged(instance.path, "the file became longer while it was sent", dirty=True)
            yield block
    except OSError as error:
        raise SourceChanged(instance.path, f"cannot be read: {error.strerror}", dirty=True) from error
    except NotWalkable as error:
        raise SourceChanged(instance.path, f"the file changed: its data set {error}", dirty=True) from error
    if left:
        raise SourceChanged(instance.path, "the file became shorter while it was sent", dirty=True)


class _PartBody:
    """What the bodies of a part share: its instances, in blocks, so that memory does not grow with them."""

    def __init__(self, source: Source, part: Part, rewrite: Rewrite | None = None) -> None:
        self._source = source
        self._rewrite = rewrite
        self.part = part

    def _files(self, sent: Callable[[int], None]) -> Iterator[tuple[Instance, Iterator[bytes]]]:
        """Each instance and its bytes, which must be taken before the next one.

        sent: told each block's bytes of payload; may raise to end the request. Raises SourceChanged when a file is
        not what the plan saw.
        """
        for number, instance in enumerate(self.part.instances):
            self._check(instance, number + 1)
            with ExitStack() as opened:
                yield instance, self._payload(self._opened(instance, opened), instance, sent)
            self._check(instance)

    def _payload(self, blocks: Iterator[bytes], instance: Instance, sent: Callable[[int], None]) -> Iterator[bytes]:
        for block in checked(blocks, instance):
            sent(len(block))
            yield block

    def _opened(self, instance: Instance, opened: ExitStack) -> Iterator[bytes]:
        try:
            return opened.enter_context(Outgoing(self._source, instance, self._rewrite).open())
        except OSError as error:
            raise SourceChanged(instance.path, f"cannot be read: {error.strerror}", dirty=False) from error

    def _check(self, instance: Instance, following: int | None = None) -> None:
        """Raises SourceChanged; before a member is sent, with all of the following that have changed, too, so that
        the part is begun afresh once and not once for each. following: the number of the next member; None after a
        member was sent."""
        if why := change_since_scan(self._source, instance):
            rest = () if following is None else self.part.instances[following:]
            others = tuple(i.path for i in rest if change_since_scan(self._source, i))
            raise SourceChanged(instance.path, why, dirty=following is None, others=others)


class TarBody(_PartBody):
    """A tar archive of a part's instances, each under the name that XNAT will store it by.

    PAX headers: names beyond ASCII read the same whatever the server's locale. Its length is known before the first
    byte: XNAT takes no tar without.
    """

    content_type = "application/x-tar"

    def __init__(self, source: Source, part: Part, rewrite: Rewrite | None = None) -> None:
        super().__init__(source, part, rewrite)
        self.length = len(_END) + sum(map(_member_size, part.instances))

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        """The body from its start; sent, and what is raised: as with every body of a part."""
        return _gathered(self._pieces(sent))

    def _pieces(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        for instance, blocks in self._files(sent):
            yield _header(instance)
            yield from blocks
            yield bytes(_padding(instance.length))
        yield _END


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces: a call to the network for each small one is most of the work."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        if held and size + len(piece) > _TOGETHER:
            yield b"".join(held)
            held, size = [], 0
        held.append(piece)
        size += len(piece)
    yield b"".join(held)


class ZipBody(_PartBody):
    """A zip of a part's instances, deflated on the way, so its length is known to nobody beforehand.

    Java reads it front to back: members must be deflated, since only those may have their sizes behind them, and
    sizes must have 32 bits. At most ZIP_LIMIT bytes and ZIP_MEMBERS instances.
    """

    content_type = "application/zip"  # exactly this: no other body may come to XNAT in chunks
    length = None

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        """The body from its start. sent: told the bytes that are packed, not the fewer ones that travel."""
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
    """A part's only instance, with nothing around it."""

    content_type = "application/dicom"

    def __init__(self, source: Source, part: Part, rewrite: Rewrite | None = None) -> None:
        super().__init__(source, part, rewrite)
        self.length = part.bytes

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        for _, blocks in self._files(sent):
            yield from blocks


class _Outlet:
    """Where zipfile writes to: it cannot be sought in, and holds what was not taken yet."""

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
    """The name without what UTF-8 cannot hold."""
    return name.encode("utf-8", "backslashreplace").decode()


def _header(instance: Instance) -> bytes:
    """As tarfile writes it, which takes ten times as long."""
    name = instance.name.encode("ascii", "replace")
    if not _is_plain(instance):
        return _full_header(instance)
    size = b"%011o" % instance.length
    total = _BARE_SUM + sum(name) + sum(size)
    return b"".join((name.ljust(100, b"\0"), _BARE[100:124], size, _BARE[135:148], b"%06o" % total, _BARE[154:]))


def _is_plain(instance: Instance) -> bool:
    """Whether a plain header holds its name and its size; else it takes a PAX header and its block."""
    return len(instance.name) <= tarfile.LENGTH_NAME and instance.name.isascii() and instance.length < 8**11


def _full_header(instance: Instance) -> bytes:
    info = tarfile.TarInfo(instance.name)
    info.size = instance.length
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "backslashreplace")


def _member_size(instance: Instance) -> int:
    """Bytes of a member in the body."""
    header = tarfile.BLOCKSIZE if _is_plain(instance) else len(_full_header(instance))
    return header + instance.length + _padding(instance.length)


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE


class TextBody:
    """A body that is text in memory."""

    def __init__(self, text: str, content_type: str) -> None:
        self.content_type = content_type
        self._bytes = text.encode()
        self.length = len(self._bytes)

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        sent(self.length)
        yield self._bytes
