"""Recognises archives by their content: a name may have any suffix, or none."""

from __future__ import annotations

import codecs
import re
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO, Literal

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

# How content looks that was made text of. Words and numbers have no such runs of characters.
_ENCODED = re.compile(r"-----BEGIN|age-encryption\.org|[A-Za-z0-9+/=_-]{40}")


def is_named_as_archive(name: str) -> bool:
    """Whether the name is that of an archive. The "._" files that macOS leaves on foreign disks are not."""
    return name.lower().endswith(_NAMED) and not name.startswith("._")


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
        return "tar.gz" if is_tar(unpacked) else "gzip"
    if is_tar(head):
        return "tar"
    return next((kind for magic, kind in _FOREIGN.items() if head.startswith(magic)), None)


def without_suffix(name: str) -> str:
    """The folder name that an archive's name stands for."""
    found = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(found)] or name


def is_tar(head: bytes) -> bool:
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
