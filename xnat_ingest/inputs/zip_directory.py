"""Compares a zip's directory with the members it lists, and reports what only one of the two knows.

A zip says everything twice: in the directory at its end, and in a header before each member. Most readers believe only
the directory, where one flipped bit can hide members from them.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

from xnat_ingest.core import IngestError, is_bug, printable
from xnat_ingest.inputs import archive_members
from xnat_ingest.inputs.archive_members import Damaged, TooLarge
from xnat_ingest.inputs.source import OFTEN, go_on, heard

# Signature, version, flags, method, time, date, CRC, packed size, size, length of name, length of extra fields.
_HEADER = struct.Struct("<4s5H3L2H")
_HEADER_MARK = b"PK\x03\x04"
_BEHIND_MARK = b"PK\x07\x08"
_ENTRY_SIZE = 46
_END = struct.Struct("<4s4H2LH")
_END_MARK = b"PK\x05\x06"
_END_64_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LONGEST_COMMENT = 0xFFFF
_ELSEWHERE = 0xFFFFFFFF  # the number is in an extra field, with 64 bits
_COUNT_MODULUS = 1 << 16  # writers without 64-bit records let the count wrap around
_ZIP64 = 0x0001
_ENCRYPTED, _SIZES_BEHIND, _UTF8 = 0x2041, 0x0008, 0x0800
_PATCHED = 0x0020
_KNOWN_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_FETCH_AGAIN = "fetch the zip again"
_UNLISTED = "among them a member named "
_TOO_LARGE = "its directory claims {:,} bytes, more than is read; if that is right, unpack it yourself"


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A member as the directory lists it.

    start: the position of its packed bytes.
    unix_mode: 0 when it was not made on Unix.
    fault: why its bytes cannot be read, "" when they can.
    """

    name: str
    start: int
    packed: int
    size: int
    crc: int
    method: int
    unix_mode: int
    fault: str

    @property
    def is_folder(self) -> bool:
        return self.name.endswith(("/", "\\"))


@dataclass(frozen=True, slots=True)
class ZipDirectory:
    """The members of a zip. faults: what is wrong with the zip as a whole, a sentence each."""

    members: tuple[ZipMember, ...]
    faults: tuple[str, ...]


class _Entries(list[zipfile.ZipInfo]):
    """The entries that zipfile has read. It reads all of them in one go, and appends each here."""

    def __init__(self, check_stop: Callable[[], None]) -> None:
        super().__init__()
        self._check_stop = check_stop

    def append(self, entry: zipfile.ZipInfo) -> None:
        if len(self) % OFTEN == 0:
            self._check_stop()
        super().append(entry)


class _Nowhere(dict[str, zipfile.ZipInfo]):
    """Where zipfile would keep each entry by its name, which nobody asks for here."""

    def __setitem__(self, name: str, entry: zipfile.ZipInfo) -> None:
        pass


class _Zip(zipfile.ZipFile):
    """A zip whose directory is read with an ear for a stop."""

    def __init__(self, stream: _Bounded, check_stop: Callable[[], None]) -> None:
        self._entries = _Entries(check_stop)
        super().__init__(cast(IO[bytes], stream))

    def __setattr__(self, name: str, value: object) -> None:
        if name == "filelist":
            value = self._entries
        elif name == "NameToInfo":
            value = _Nowhere()
        super().__setattr__(name, value)


class _Bounded:
    """The stream as zipfile sees it: it reads the whole directory at once, as large as the end record claims."""

    def __init__(self, stream: BinaryIO) -> None:
        self.seek = stream.seek
        self.tell = stream.tell
        self._read = stream.read

    def read(self, size: int = -1) -> bytes:
        if size > archive_members.LIST_SIZE:
            raise TooLarge(_TOO_LARGE.format(size))
        return self._read(size)


def read_directory(stream: BinaryIO, size: int, check_stop: Callable[[], None] = go_on) -> ZipDirectory:
    """Reads the directory of a zip. Raises Damaged, OSError, and what check_stop raises.

    size: bytes of the whole zip.
    check_stop: called every thousand members.
    """
    try:
        with _Zip(_Bounded(stream), check_stop) as archive:
            entries, start = archive.infolist(), archive.start_dir
            comment = archive.comment
    except IngestError:  # the run was stopped, or the directory is too large
        raise
    except Exception as error:  # the library raises many types for a damaged file
        if is_bug(error) or (isinstance(error, OSError) and error.errno):
            raise
        raise Damaged("a zip that is truncated or corrupt: its directory cannot be read") from error
    walk = _Walk(stream, start)
    members = tuple(walk.members(heard(sorted(entries, key=_position), check_stop)))
    faults = [*walk.faults, *_end_faults(stream, size, entries, start, comment, check_stop)]
    return ZipDirectory(members, tuple(faults))


def _position(entry: zipfile.ZipInfo) -> int:
    return entry.header_offset


class _Walk:
    """Goes through the zip from front to back: each member must begin where the one before it ended."""

    def __init__(self, stream: BinaryIO, directory: int) -> None:
        self._stream = stream
        self._directory = directory
        self._at = 0
        self.faults: list[str] = []

    def members(self, entries: Iterable[zipfile.ZipInfo]) -> Iterator[ZipMember]:
        """entries: in the order of their positions."""
        for entry in entries:
            yield self._member(entry)
        self._gap(self._directory)
        if self._at > self._directory:
            self.faults.append(f"the last member overlaps the directory; {_FETCH_AGAIN}")

    def _member(self, entry: zipfile.ZipInfo) -> ZipMember:
        offset = entry.header_offset
        self._gap(offset)
        local = _Local.read(self._stream, offset)
        start = local.start if local else offset
        fault = _own_fault(entry)
        if offset < self._at:
            fault = f"it shares bytes with another member; {_FETCH_AGAIN}"
        elif local is None:
            fault = f"no member begins where the zip's directory says; {_FETCH_AGAIN}"
        elif differing := local.differs(entry):
            fault = f"the zip's directory and the member's own header differ in the {differing}; {_FETCH_AGAIN}"
        end = start + entry.compress_size
        if local and local.sizes_behind and not fault:
            behind = self._sizes_behind(entry, end)
            if behind == 0 and not local.has_sizes(entry):
                fault = f"the sizes behind its data are not those of the zip's directory; {_FETCH_AGAIN}"
            end += behind
        self._at = max(self._at, end)
        mode = entry.external_attr >> 16 if entry.create_system == 3 else 0  # 3: made on Unix
        return ZipMember(
            name=entry.filename,
            start=start,
            packed=entry.compress_size,
            size=entry.file_size,
            crc=entry.CRC,
            method=entry.compress_type,
            unix_mode=mode,
            fault=fault,
        )

    def _gap(self, until: int) -> None:
        """Notes the bytes between what was read so far and the next known position."""
        if until <= self._at:
            return
        if self._at == 0:
            self.faults.append(
                f"there are {until} bytes before the first member that the zip's directory lists, as when two zips are "
                "joined. They are not read; give each zip separately"
            )
            return
        lost = _Local.read(self._stream, self._at)
        what = f"{_UNLISTED}{printable(lost.text)}" if lost else "their content is unknown"
        self.faults.append(
            f"{until - self._at} bytes at byte {self._at} belong to no member in the zip's directory, {what}; "
            f"{_FETCH_AGAIN}"
        )

    def _sizes_behind(self, entry: zipfile.ZipInfo, end: int) -> int:
        """The length of the record after a member's data that repeats its checksum and sizes; 0 without one."""
        self._stream.seek(end)
        found = self._stream.read(24)
        for form in ("<3L", "<L2Q"):
            try:
                record = struct.pack(form, entry.CRC, entry.compress_size, entry.file_size)
            except struct.error:  # too large for 32 bits
                continue
            for mark in (_BEHIND_MARK, b""):
                if found.startswith(mark + record):
                    return len(mark + record)
        return 0


@dataclass(frozen=True, slots=True)
class _Local:
    """A member's own header. start: of the data behind it."""

    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    start: int

    @classmethod
    def read(cls, stream: BinaryIO, offset: int) -> _Local | None:
        if offset < 0:  # the end record tells of more bytes than there are
            return None
        stream.seek(offset)
        head = stream.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(_HEADER_MARK):
            return None
        _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _HEADER.unpack(head)
        rest = stream.read(name_length + extra_length)
        if len(rest) < name_length + extra_length:
            return None
        if _ELSEWHERE in (packed, size):
            size, packed = _sizes_64(rest[name_length:], size, packed)
        return cls(rest[:name_length], flags, method, crc, packed, size, offset + len(head) + len(rest))

    @property
    def text(self) -> str:
        return self.name.decode("utf-8", "replace")

    @property
    def sizes_behind(self) -> bool:
        return bool(self.flags & _SIZES_BEHIND)

    def has_sizes(self, entry: zipfile.ZipInfo) -> bool:
        return (self.crc, self.packed, self.size) == (entry.CRC, entry.compress_size, entry.file_size)

    def differs(self, entry: zipfile.ZipInfo) -> str:
        """What the directory gives differently, "" for nothing. Numbers that follow the data may be 0 here."""
        unknown = (0, _ELSEWHERE) if self.sizes_behind else ()
        utf8 = entry.flag_bits & _UTF8
        if self.name != entry.orig_filename.encode("utf-8" if utf8 else "cp437"):
            return "name"
        if not self.name.isascii() and (self.flags ^ entry.flag_bits) & _UTF8:
            return "encoding of the name"
        if self.method != entry.compress_type:
            return "compression method"
        if (self.flags ^ entry.flag_bits) & _ENCRYPTED:
            return "encryption"
        if self.crc != entry.CRC and self.crc not in unknown:
            return "checksum"
        sizes = ((self.packed, entry.compress_size), (self.size, entry.file_size))
        return "size" if any(own != listed and own not in unknown for own, listed in sizes) else ""


def _sizes_64(extra: bytes, size: int, packed: int) -> tuple[int, int]:
    """(size, packed), with the 64-bit values from the extra field where there are any."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64:
            numbers = list(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            size = numbers.pop(0) if size == _ELSEWHERE and numbers else size
            packed = numbers.pop(0) if packed == _ELSEWHERE and numbers else packed
            return size, packed
        at += 4 + length
    return size, packed


def _own_fault(entry: zipfile.ZipInfo) -> str:
    """What is wrong with an entry of the directory on its own, "" for nothing."""
    if entry.flag_bits & _ENCRYPTED:
        return "encrypted; unpack it with its password first"
    if entry.compress_type not in _KNOWN_PACKING or entry.flag_bits & _PATCHED:
        return f"compressed with method {entry.compress_type}, which is not supported; unpack the zip first"
    if entry.volume not in (0, 0xFFFF):
        return "it is in another file of a split zip; join them first"
    if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
        return f"stored uncompressed, but its two sizes differ; {_FETCH_AGAIN}"
    if entry.file_size == 0 and entry.CRC:
        return f"its size is 0, but its checksum is not that of an empty file; {_FETCH_AGAIN}"
    if entry.filename.endswith(("/", "\\")) and entry.file_size:
        return f"named like a folder, but it has {entry.file_size} bytes; unpack the zip, and give the folder instead"
    return ""


def _end_faults(
    stream: BinaryIO,
    size: int,
    entries: Sequence[zipfile.ZipInfo],
    start: int,
    comment: bytes,
    check_stop: Callable[[], None],
) -> Iterator[str]:
    """Where the end record contradicts the directory, and what follows the end of the zip."""
    at = max(0, size - _END.size - _LONGEST_COMMENT)
    stream.seek(at)
    tail = stream.read()
    found = tail.rfind(_END_MARK)
    if found < 0 or len(tail) - found < _END.size:
        yield f"the record at the zip's end cannot be read; {_FETCH_AGAIN}"
        return
    _, disk, first_disk, here, count, length, offset, _ = _END.unpack_from(tail, found)
    modulus = _COUNT_MODULUS
    if numbers := _end_64(stream, at + found):
        disk, first_disk, here, count, length, offset = numbers
        modulus = 0
    if (count - len(entries)) % modulus if modulus else count != len(entries):
        yield f"the zip's directory lists {len(entries)} members, but should list {count}; {_FETCH_AGAIN}"
    elif here != count or disk != first_disk:
        yield "the zip is one part of several; join them first"
    listed = sum(
        _ENTRY_SIZE + len(_raw_name(one)) + len(one.extra) + len(one.comment) for one in heard(entries, check_stop)
    )
    if listed != length:
        yield f"the zip's directory has {listed} bytes, but should have {length}; {_FETCH_AGAIN}"
    if offset != start:
        yield f"the zip's directory begins at byte {start}, but should begin at {offset}; {_FETCH_AGAIN}"
    behind = tail[found + _END.size + len(comment) :]
    if any(behind):
        yield f"there are {len(behind)} bytes after the end of the zip; they are not read"


def _end_64(stream: BinaryIO, end: int) -> tuple[int, int, int, int, int, int] | None:
    """The numbers of the 64-bit end record; None when there is none.

    They are (disk, disk of the directory, members here, members, bytes of the directory, its position).
    end: the position of the plain end record.
    """
    if end < _END_64_LOCATOR.size + _END_64.size:
        return None
    stream.seek(end - _END_64_LOCATOR.size - _END_64.size)
    both = stream.read(_END_64.size + _END_64_LOCATOR.size)
    if both[_END_64.size :][:4] != b"PK\x06\x07" or both[:4] != b"PK\x06\x06":
        return None
    _, _, _, _, disk, first_disk, here, count, length, offset = _END_64.unpack_from(both)
    return disk, first_disk, here, count, length, offset


def _raw_name(entry: zipfile.ZipInfo) -> bytes:
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF8 else "cp437")


def unlisted_name(fault: str) -> str:
    """The name in a fault that names a member which the directory does not list; "" in any other."""
    return fault.partition(_UNLISTED)[2].rpartition(f"; {_FETCH_AGAIN}")[0]
