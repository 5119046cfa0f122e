"""Recognises programs that unpack what stands behind them, or inside them."""

from __future__ import annotations

import bz2
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from itertools import islice

from xnat_ingest.inputs.archive_kinds import is_tar
from xnat_ingest.inputs.encoded_files import holds_encoded
from xnat_ingest.inputs.unpacking import MOST_MEMORY, Packing

# A program that packs, or a script about one, has an archive's mark, too. An archive has its header behind it.
_SCRIPT = b"#!"
_PROGRAMS = (b"MZ", b"\x7fELF", _SCRIPT)
_LONGEST_PROGRAM = 1 << 20
PROGRAM_START = 2 * _LONGEST_PROGRAM  # bytes that hold a program and the first block of what it unpacks
_7Z, _RAR = b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"
_BEHIND = {_7Z: "a program that unpacks a 7z archive", _RAR: "a program that unpacks a rar archive"}
_LONGEST_HEADER = 256
_TAR_BEHIND = "a program that unpacks a tar archive"
_PACKED_BEHIND = "a script with packed or encrypted content behind it"
_ENCODED_INSIDE = "a script with an archive, an image or a uuencoded file in it"
PROGRAM_KINDS = frozenset({*_BEHIND.values(), _TAR_BEHIND, _PACKED_BEHIND, _ENCODED_INSIDE})

_MOST_MARKS = 32  # places of one program that look like the start of an archive
_USTAR, _USTAR_AT, _TAR_HEADER = b"ustar", 257, 512
_PACKINGS: dict[Packing, re.Pattern[bytes]] = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bzip2": re.compile(rb"BZh[1-9]1AY&SY"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
}
# What cannot be looked into here. A script ends with a line, and none of its lines begins so.
_CLOSED = re.compile(
    rb"\n(?:\x28\xb5\x2f\xfd|\x04\x22\x4d\x18|LZIP\x01|\]\0\0|\x1f\x9d[\x80-\x90]|\x89LZO\0\r\n|Salted__)"
)


def is_program(start: bytes) -> bool:
    return start.startswith(_PROGRAMS)


def program_kind(start: bytes) -> str:
    """Which of PROGRAM_KINDS a program is that begins with these PROGRAM_START bytes; "" for none."""
    return _behind(start) or (_inside_a_script(start) if start.startswith(_SCRIPT) else "")


def _behind(start: bytes) -> str:
    for mark, kind in _BEHIND.items():
        ends = (found.end() for found in re.finditer(re.escape(mark), start[:_LONGEST_PROGRAM]))
        if any(_HAS_HEADER[mark](start[at : at + _LONGEST_HEADER]) for at in ends):
            return kind
    return _TAR_BEHIND if _has_tar(start) or _has_packed_tar(start) else ""


def _inside_a_script(start: bytes) -> str:
    program = start[:_LONGEST_PROGRAM]
    if _CLOSED.search(program):
        return _PACKED_BEHIND
    return _ENCODED_INSIDE if holds_encoded(program) else ""


def _has_tar(start: bytes) -> bool:
    """Whether a tar's header, with a correct checksum, stands behind a program."""
    marks = (found.start() - _USTAR_AT for found in re.finditer(_USTAR, start[:_LONGEST_PROGRAM]))
    return any(_is_tar_header(start[at : at + _TAR_HEADER]) for at in islice(marks, _MOST_MARKS) if at > 0)


def _is_tar_header(header: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _has_packed_tar(start: bytes) -> bool:
    return any(is_tar(_content(start, at, packing)) for packing, at in _packed(start))


def _packed(start: bytes) -> Iterator[tuple[Packing, int]]:
    for packing, mark in _PACKINGS.items():
        for found in islice(mark.finditer(start, 0, _LONGEST_PROGRAM), _MOST_MARKS):
            yield packing, found.start()


def _content(start: bytes, at: int, packing: Packing) -> bytes:
    """What a compressed stream begins with that may stand at this place."""
    packed = memoryview(start)[at:]
    try:
        if packing == "gzip":
            return zlib.decompressobj(wbits=31).decompress(packed, _TAR_HEADER)
        if packing == "bzip2":
            return bz2.BZ2Decompressor().decompress(packed, _TAR_HEADER)
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, MOST_MEMORY).decompress(packed, _TAR_HEADER)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return b""


def _is_7z_header(behind: bytes) -> bool:
    """What follows the mark of a 7z archive: two bytes of a version, and a checksum of the next 20 bytes."""
    return len(behind) >= 26 and int.from_bytes(behind[2:6], "little") == zlib.crc32(behind[6:26])


def _is_rar_header(behind: bytes) -> bool:
    """What follows the mark of a rar archive: the header of the archive, with its checksum in front."""
    if behind.startswith(b"\0"):  # up to version 4: 16 bits of the checksum, the type, flags, and the length
        header = behind[1 : 1 + int.from_bytes(behind[6:8], "little")]
        return header[2:3] == b"\x73" and int.from_bytes(header[:2], "little") == zlib.crc32(header[2:]) & 0xFFFF
    # From version 5 on: the checksum, and the length in one byte, since the header is short.
    header = behind[6 : 7 + behind[6]] if behind.startswith(b"\1\0") and len(behind) > 6 else b""
    return len(header) > 1 and int.from_bytes(behind[2:6], "little") == zlib.crc32(header)


_HAS_HEADER = {_7Z: _is_7z_header, _RAR: _is_rar_header}
