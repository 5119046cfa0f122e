"""Reading a zip archive from a stream, front to back, as Java's ZipInputStream does.

Only local headers are read, never the central directory: what follows the last local header does not matter, and an
archive that ends between two entries is complete. Bytes that begin with no local header are an archive without
entries. Stored entries need their size in the local header; deflated ones may have a data descriptor, whose sizes
have 32 bits unless the entry itself is larger than 4 GiB.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.standin.tarstream import ArchiveError, Source

_HEADER = struct.Struct("<4s5H3I2H")
_LOCAL, _DESCRIPTOR = b"PK\3\4", b"PK\7\x08"
_ENCRYPTED, _SIZES_FOLLOW = 1, 8
_STORED, _DEFLATED = 0, 8
_MAX32 = 0xFFFFFFFF
_BLOCK = 1 << 13


class MalformedNameError(Exception):
    """A name that is no UTF-8: Java's IllegalArgumentException, which is no error of reading."""


class _Pushback:
    """A stream to which bytes can be given back."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._back = b""

    def some(self, size: int) -> bytes:
        """What there is, up to ``size``; nothing at the end."""
        if not self._back:
            return self._source.read(size)
        data, self._back = self._back[:size], self._back[size:]
        return data

    def up_to(self, size: int) -> bytes:
        """``size`` bytes, fewer only at the end."""
        parts = []
        while size and (data := self.some(size)):
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def exactly(self, size: int) -> bytes:
        data = self.up_to(size)
        if len(data) < size:
            raise ArchiveError("unexpected end of the archive")
        return data

    def unread(self, data: bytes) -> None:
        self._back = data + self._back


@dataclass
class _Local:
    """What a local header says; with ``sizes_follow`` the numbers come behind the data."""

    method: int
    sizes_follow: bool
    crc: int
    packed: int
    size: int


class Member:
    """The bytes of one entry, read once; what was read before an error is given out first."""

    def __init__(self, stream: _Pushback, local: _Local) -> None:
        self._stream = stream
        self._local = local
        self._left = local.size
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._crc = self._written = self._taken = 0
        self._pending = self._ended = False
        self._broken: ArchiveError | None = None
        self._waiting: ArchiveError | None = None

    def read(self, size: int = _BLOCK, /) -> bytes:
        """Wrong sizes or a wrong CRC of a deflated entry show in the read behind its last byte."""
        parts: list[bytes] = []
        while size > 0:
            try:
                data = self._some(size)
            except ArchiveError as error:
                if not parts:
                    raise
                self._waiting = error
                break
            if not data:
                break
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        if (waiting := self._waiting) is not None:
            self._waiting = None
            raise waiting
        if self._broken is not None:
            raise self._broken
        if self._ended:
            return b""
        if self._local.method == _STORED:
            return self._stored(size)
        try:
            if self._local.method != _DEFLATED:
                raise ArchiveError("invalid compression method")
            return self._deflated(size)
        except ArchiveError as error:
            self._broken = error
            raise

    def skip(self) -> None:
        while self.read(1 << 16):
            pass

    def _stored(self, size: int) -> bytes:
        """A wrong CRC costs the read that takes the last byte; the next entry can be read all the same."""
        data = self._stream.some(min(size, self._left)) if self._left else b""
        if self._left and not data:
            raise ArchiveError("unexpected EOF")
        self._left -= len(data)
        self._crc = zlib.crc32(data, self._crc)
        self._ended = not self._left
        if data and self._ended and self._crc != self._local.crc:
            raise ArchiveError("invalid entry CRC")
        return data

    def _deflated(self, size: int) -> bytes:
        while not self._inflate.eof:
            data = self._inflated(size)
            self._pending = len(data) == size
            if data:
                self._crc = zlib.crc32(data, self._crc)
                self._written += len(data)
                return data
        self._close()
        return b""

    def _inflated(self, size: int) -> bytes:
        packed = self._inflate.unconsumed_tail
        if not packed and not self._pending:
            packed = self._stream.some(_BLOCK)
            self._taken += len(packed)
            if not packed:
                raise ArchiveError("Unexpected end of ZLIB input stream")
        try:
            return self._inflate.decompress(packed, size)
        except zlib.error as error:
            raise ArchiveError(str(error)) from error

    def _close(self) -> None:
        """Give back what is not of this entry, and compare the numbers."""
        rest = self._inflate.unused_data
        self._stream.unread(rest)
        self._taken -= len(rest)
        if self._local.sizes_follow:
            self._descriptor()
        for what, expected, got in (
            ("size", self._local.size, self._written),
            ("compressed size", self._local.packed, self._taken),
        ):
            if expected != got:
                raise ArchiveError(f"invalid entry {what} (expected {expected} but got {got} bytes)")
        if self._local.crc != self._crc:
            raise ArchiveError("invalid entry CRC")
        self._ended = True

    def _descriptor(self) -> None:
        """Sizes of 64 bits are looked for only behind an entry of more than 4 GiB; the signature may be missing."""
        numbers = struct.Struct("<IQQ" if max(self._written, self._taken) > _MAX32 else "<III")
        raw = self._stream.exactly(4 + numbers.size)
        if raw[:4] == _DESCRIPTOR:
            raw = raw[4:]
        else:
            self._stream.unread(raw[numbers.size :])
        self._local.crc, self._local.packed, self._local.size = numbers.unpack(raw[: numbers.size])


def entries(source: Source) -> Iterator[tuple[str, Member]]:
    """Every entry's name and bytes, folders (``name/``) included; what the caller leaves unread is skipped.

    Raises ``ArchiveError``, here and from ``Member.read``, where Java raises a ZipException or EOFException, and
    ``MalformedNameError``. What follows the last entry is left in the stream.
    """
    stream = _Pushback(source)
    while (found := _next(stream)) is not None:
        name, local = found
        member = Member(stream, local)
        yield name, member
        member.skip()


def _next(stream: _Pushback) -> tuple[str, _Local] | None:
    """The next local header, or None at whatever else follows."""
    raw = stream.up_to(_HEADER.size)
    if len(raw) < _HEADER.size or not raw.startswith(_LOCAL):
        return None
    _, _, flags, method, _, _, crc, packed, size, name_size, extra_size = _HEADER.unpack(raw)
    name = _name(stream.exactly(name_size))
    if flags & _ENCRYPTED:
        raise ArchiveError("encrypted ZIP entry not supported")
    follow = bool(flags & _SIZES_FOLLOW)
    if follow and method != _DEFLATED:
        raise ArchiveError("only DEFLATED entries can have EXT descriptor")
    extra = stream.exactly(extra_size)
    if not follow and _MAX32 in (packed, size):
        size, packed = _large(extra) or (size, packed)
    return name, _Local(method, follow, crc, packed, size)


def _name(raw: bytes) -> str:
    """UTF-8 with and without the flag that says so."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedNameError("MALFORMED") from error


def _large(extra: bytes) -> tuple[int, int] | None:
    """Size and packed size from the zip64 extra field, which must hold both."""
    while len(extra) >= 4:
        tag, size = struct.unpack("<HH", extra[:4])
        if tag == 1 and 16 <= size <= len(extra) - 4:
            found: tuple[int, int] = struct.unpack("<QQ", extra[4:20])
            return found
        extra = extra[4 + size :]
    return None
