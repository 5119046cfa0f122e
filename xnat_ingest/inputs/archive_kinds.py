"""Recognises archives by their content: a name may have any suffix, or none."""

from __future__ import annotations

import codecs
import io
import re
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO, Literal

from xnat_ingest.core import POINTER
from xnat_ingest.core.regular_file import open_regular
from xnat_ingest.inputs.unpacking import gunzipped

Kind = Literal[
    "zip",
    "tar",
    "tar.gz",
    "gzip",
    "damaged gzip",
    "split zip",
    "xz",
    "bzip2",
    "7z",
    "rar",
    "zstd",
    "lz4",
    "lzip",
    "lzma",
    "compress",
    "snappy",
    "cpio",
]
SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
_NAMED = (*SUFFIXES, ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar", ".cpio", ".iso")
_HEAD = 512
# How archives begin that cannot be read here. They are reported all the same: one may contain a whole session.
_FOREIGN: dict[bytes, Kind] = {
    b"PK00PK\x03\x04": "split zip",
    b"PK\x07\x08PK\x03\x04": "split zip",
    b"\xfd7zXZ\0": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"LZIP\x01": "lzip",
    b"]\0\0": "lzma",
    b"\x1f\x9d": "compress",
    b"\xff\x06\0\0sNaPpY": "snappy",
    b"070701": "cpio",
    b"070707": "cpio",
    **{b"BZh%d1AY&SY" % level: "bzip2" for level in range(1, 10)},
}

FOREIGN_KINDS = frozenset(_FOREIGN.values()) - {"xz", "bzip2"}

_ARJ, _LONGEST_ARJ_HEADER = "an arj archive", 2600  # the length stands behind the mark
_LHA = b"lh0 lh1 lh2 lh3 lh4 lh5 lh6 lh7 lhd lzs lz4 lz5"  # its methods of packing
# Disk images, and archives of installers and old systems. They are often software, so their place decides what is said.
# Where their mark stands -> the mark -> what they are.
_RARE = {
    0: {
        b"MSCF\0\0\0\0": "a cabinet (.cab)",
        b"MSWIM\0\0\0": "a Windows image (.wim)",
        b"SIT!": "a StuffIt archive (.sit)",
        b"StuffIt ": "a StuffIt archive (.sit)",
        b"\x89LZO\0\r\n\x1a\n": "packed with lzop (.lzo)",
        b"LRZI": "packed with lrzip (.lrz)",
        b"zPQ": "a zpaq archive",
        b"7kSt": "a zpaq archive",
        b"xar!": "a xar archive",
        b"hsqs": "a file system (squashfs)",
        b"sqsh": "a file system (squashfs)",
        b"conectix": "a disk image (.vhd)",
        b"vhdxfile": "a disk image (.vhdx)",
        b"KDMV": "a disk image (.vmdk)",
        b"QFI\xfb": "a disk image (.qcow)",
        b"\x60\xea": _ARJ,
    },
    2: {b"-%s-" % method: "an lha archive" for method in _LHA.split()},
    7: {b"**ACE**": "an ace archive"},
    32769: {b"CD001": "a disc image (.iso)"},
    -512: {b"koly": "a disk image (.dmg)", b"conectix": "a disk image (.vhd)"},
}
# How content looks that was made text of. Words and numbers have no such runs of characters.
_ENCODED = re.compile(r"-----BEGIN|age-encryption\.org|[A-Za-z0-9+/=_-]{40}")
_MARK = 16  # bytes that hold any of the marks
RARE_START = max(_RARE) + _MARK  # bytes that hold those of them that are counted from the start
_END_OF_ZIP, _LONGEST_END = b"PK\x05\x06", 22 + 0xFFFF
_ZIP64_LOCATOR, _LOCATOR_BYTES = b"PK\x06\x07", 20
_MOST_ENDS = 16  # places that look like an end record, as in a comment
# Programs that unpack what is behind them. The mark stands where the program ends.
# A program that packs, or a script about one, has the mark, too. An archive has its header behind it.
_PROGRAMS = (b"MZ", b"#!")
_LONGEST_PROGRAM = 1 << 20
_7Z, _RAR = b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"
_BEHIND = {_7Z: "a program that unpacks a 7z archive", _RAR: "a program that unpacks a rar archive"}
ZIP_BEHIND = "a zip with something in front of it, perhaps a program that unpacks it"
RARE_KINDS = frozenset({ZIP_BEHIND, *_BEHIND.values(), *(kind for marks in _RARE.values() for kind in marks.values())})


def is_named_as_archive(name: str) -> bool:
    """Whether the name is that of an archive. The "._" files that macOS leaves on foreign disks are not."""
    return name.lower().endswith(_NAMED) and not name.startswith("._")


def instead_of_archive(path: Path) -> str:
    """What a file is that is named like an archive but is none that is read here, and what to do. Raises OSError."""
    with open_regular(path) as stream:
        head = stream.read(_HEAD)
        if rare := rare_kind_of(stream, stream.seek(0, io.SEEK_END)):
            return f"it is {rare}, which cannot be read here; unpack it there"
    return f"{_in_place_of_archive(head)}; fetch it again"


def _in_place_of_archive(head: bytes) -> str:
    start = head.lstrip().lower()
    if not head:
        return "it is empty"
    if head.startswith(b"\x1f\x8b"):
        return "it is a gzip file without a tar in it"
    if not any(head):
        return "it begins with zeros"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, probably from a failed download"
    if is_pointer(head):
        return f"it is {POINTER}"
    return "it does not begin like one"


def is_pointer(head: bytes) -> bool:
    """Whether a file names content that is kept elsewhere, as Git LFS and git-annex write it."""
    return head.startswith(b"version https://git-lfs") or b"/annex/objects/" in head[:100]


def is_plain_text(start: bytes) -> bool:
    """Whether a file begins with words or numbers, and not with encoded or encrypted content."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)  # its last character may be cut
    except UnicodeDecodeError:
        return False
    is_text = bool(text.strip()) and all(letter.isprintable() or letter in "\t\r\n" for letter in text)
    return is_text and not _ENCODED.search(text)


def archive_kind(path: Path) -> Kind | None:
    """Raises OSError."""
    with open_regular(path) as stream:
        return archive_kind_of(stream)


def archive_kind_of(stream: BinaryIO) -> Kind | None:
    """What a seekable stream is, seen from its start.

    `gzip` means one without a tar in it. Kinds other than zip and tar are only named here, not read.
    """
    head = stream.read(_HEAD)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):  # the second: a zip without members
        return "zip"
    if head.startswith(b"\x1f\x8b\x08"):
        stream.seek(0)
        unpacked = _unpacked(stream)
        if unpacked is None:
            return "damaged gzip"
        return "tar.gz" if _is_tar(unpacked) else "gzip"
    if _is_tar(head):
        return "tar"
    return next((kind for magic, kind in _FOREIGN.items() if head.startswith(magic)), None)


def rare_kind_of(stream: BinaryIO, size: int) -> str:
    """Which of RARE_KINDS a seekable stream of so many bytes is, seen from its start and its end; "" for none."""
    for place, marks in _RARE.items():
        stream.seek(max(0, place + size if place < 0 else place))
        if kind := _marked(marks, stream.read(_MARK)):
            return kind
    return ZIP_BEHIND if _ends_as_zip(stream, size) else _behind_a_program(stream)


def rare_start(start: bytes) -> str:
    """Which of RARE_KINDS begins with these RARE_START bytes; "" for none. For streams whose end is far to reach."""
    found = (_marked(marks, start[place : place + _MARK]) for place, marks in _RARE.items() if place >= 0)
    return next(filter(None, found), "")


def _marked(marks: dict[bytes, str], found: bytes) -> str:
    kind = next((marks[mark] for mark in marks if found.startswith(mark)), "")
    if kind == _ARJ and not 0 < int.from_bytes(found[2:4], "little") <= _LONGEST_ARJ_HEADER:
        return ""
    return kind


def _behind_a_program(stream: BinaryIO) -> str:
    stream.seek(0)
    if not (start := stream.read(2)).startswith(_PROGRAMS):
        return ""
    start += stream.read(_LONGEST_PROGRAM + _LONGEST_HEADER)
    for found in _MARKS_BEHIND.finditer(start, 0, _LONGEST_PROGRAM):
        if _HAS_HEADER[found[0]](start[found.end() : found.end() + _LONGEST_HEADER]):
            return _BEHIND[found[0]]
    return ""


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
_MARKS_BEHIND = re.compile(b"|".join(map(re.escape, _BEHIND)))
_LONGEST_HEADER = 256


def _ends_as_zip(stream: BinaryIO, size: int) -> bool:
    """Whether a zip's end record is found near the end, and right before it what belongs there.

    That is the directory that it speaks of. In a large zip it is the locator of the 64-bit end record.
    """
    start = max(0, size - _LONGEST_END)
    stream.seek(start)
    end = stream.read(_LONGEST_END)
    at = len(end)
    for _ in range(_MOST_ENDS):
        at = end.rfind(_END_OF_ZIP, 0, at)
        if at < 0:
            return False
        directory = start + at - int.from_bytes(end[at + 12 : at + 16], "little")
        if _has(stream, directory, b"PK\x01\x02") or _has(stream, start + at - _LOCATOR_BYTES, _ZIP64_LOCATOR):
            return True
    return False


def _has(stream: BinaryIO, at: int, mark: bytes) -> bool:
    stream.seek(max(0, at))
    return stream.read(len(mark)) == mark


def without_suffix(name: str) -> str:
    """The folder name that an archive's name stands for."""
    found = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(found)] or name


def _is_tar(head: bytes) -> bool:
    """Whether it is a tar: by its magic, which only very old ones do not have, or by a correct header checksum.

    An empty tar is all zeros, so zeros prove nothing.
    """
    if head[257:262] == b"ustar":
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _unpacked(stream: BinaryIO) -> bytes | None:
    """The first bytes inside a gzip; None when it is damaged there."""
    try:
        return gunzipped(stream).read(_HEAD)
    except (OSError, EOFError, zlib.error):
        return None
