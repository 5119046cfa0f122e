"""Recognises files that may hold images and are never read here: disk images, programs that unpack, encrypted files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from xnat_ingest.core import POINTER
from xnat_ingest.core.regular_file import open_regular
from xnat_ingest.inputs.archive_kinds import is_pointer
from xnat_ingest.inputs.encoded_files import ENCODED_KINDS, ENCODED_START, ENCRYPTED_KINDS, encoded_kind
from xnat_ingest.inputs.unpacking_programs import PROGRAM_KINDS, PROGRAM_START, is_program, program_kind

_HEAD = 512
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
        b"!<arch>\n": "an ar archive",
        b"hsqs": "a file system (squashfs)",
        b"sqsh": "a file system (squashfs)",
        b"conectix": "a disk image (.vhd)",
        b"vhdxfile": "a disk image (.vhdx)",
        b"KDMV": "a disk image (.vmdk)",
        b"QFI\xfb": "a disk image (.qcow)",
        b"sprs\0\0\0": "a disk image (.sparseimage)",
        b"\x60\xea": _ARJ,
        b"\0" + b"\xff" * 10 + b"\0": "a disc image of raw sectors (.bin, .mdf)",
    },
    2: {b"-%s-" % method: "an lha archive" for method in _LHA.split()},
    7: {b"**ACE**": "an ace archive"},
    64: {b"\x7f\x10\xda\xbe": "a disk image (.vdi)"},
    32769: {b"CD001": "a disc image (.iso)"},
    -512: {b"koly": "a disk image (.dmg)", b"conectix": "a disk image (.vhd)"},
    -12: {b"NER5": "a disc image (.nrg)"},
    -8: {b"NERO": "a disc image (.nrg)"},
}
_MARK = 16  # bytes that hold any of the marks
RARE_START = max(_RARE) + _MARK  # bytes that hold those of them that are counted from the start
_END_OF_ZIP, _LONGEST_END = b"PK\x05\x06", 22 + 0xFFFF
_ZIP64_LOCATOR, _LOCATOR_BYTES = b"PK\x06\x07", 20
_MOST_ENDS = 16  # places that look like an end record, as in a comment
ZIP_BEHIND = "a zip with something in front of it, perhaps a program that unpacks it"
_OTHERS = {kind for marks in _RARE.values() for kind in marks.values()}
RARE_KINDS = frozenset({ZIP_BEHIND}) | _OTHERS | PROGRAM_KINDS | ENCRYPTED_KINDS | ENCODED_KINDS


def way_out(kind: str) -> str:
    """What to do about a file of such a kind."""
    return "decrypt it, and unpack it there" if kind in ENCRYPTED_KINDS else "unpack it there"


def instead_of_archive(path: Path) -> str:
    """What a file is that is named like an archive but is none that is read here, and what to do. Raises OSError."""
    with open_regular(path) as stream:
        head = stream.read(_HEAD)
        if rare := rare_kind_of(stream, stream.seek(0, io.SEEK_END)):
            return f"it is {rare}, which cannot be read here; {way_out(rare)}"
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


def rare_kind_of(stream: BinaryIO, size: int) -> str:
    """Which of RARE_KINDS a seekable stream of so many bytes is, seen from its start and its end; "" for none."""
    stream.seek(0)
    start = _with_program(stream, ENCODED_START)
    end_at = max(0, size - _LONGEST_END)
    stream.seek(end_at)
    end = stream.read(_LONGEST_END)
    for place, marks in _RARE.items():
        if kind := _marked(marks, _at(place, stream, start, end)):
            return kind
    if kind := encoded_kind(start):
        return kind
    if _ends_as_zip(stream, end, end_at):
        return ZIP_BEHIND
    return program_kind(start) if is_program(start) else ""


def _at(place: int, stream: BinaryIO, start: bytes, end: bytes) -> bytes:
    """What stands at one of the places of _RARE. start, end: how the stream begins and ends."""
    if place < 0:
        return end[place:][:_MARK]
    if place + _MARK <= ENCODED_START:
        return start[place : place + _MARK]
    stream.seek(place)
    return stream.read(_MARK)


def rare_start(start: bytes) -> str:
    """Which of RARE_KINDS these bytes begin; "" for none. RARE_START bytes tell, and a program needs more."""
    found = (_marked(marks, start[place : place + _MARK]) for place, marks in _RARE.items() if place >= 0)
    return next(filter(None, found), "") or encoded_kind(start) or (program_kind(start) if is_program(start) else "")


def rare_from_start(stream: BinaryIO) -> str:
    """Which of RARE_KINDS begins so, for a stream whose end is far to reach; "" for none."""
    stream.seek(0)
    return rare_start(_with_program(stream, RARE_START))


def _with_program(stream: BinaryIO, size: int) -> bytes:
    """So many bytes of a stream, or those that a program needs."""
    start = stream.read(size)
    return start + stream.read(PROGRAM_START) if is_program(start) else start


def _marked(marks: dict[bytes, str], found: bytes) -> str:
    kind = next((marks[mark] for mark in marks if found.startswith(mark)), "")
    if kind == _ARJ and not 0 < int.from_bytes(found[2:4], "little") <= _LONGEST_ARJ_HEADER:
        return ""
    return kind


def _ends_as_zip(stream: BinaryIO, end: bytes, start: int) -> bool:
    """Whether a zip's end record is found near the end, and right before it what belongs there.

    That is the directory that it speaks of. In a large zip it is the locator of the 64-bit end record.

    end: how the stream ends, from the place start on.
    """
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
