"""Archives told by their content: a name may have any suffix, or none."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO, Literal

Kind = Literal["zip", "tar", "tar.gz", "gzip"]
SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
_HEAD = 512


def archive_kind(path: Path) -> Kind | None:
    """Raises OSError."""
    with path.open("rb") as stream:
        return kind_of(stream)


def kind_of(stream: BinaryIO) -> Kind | None:
    """What a seekable stream, at its start, is; `gzip` is one that holds no tar."""
    head = stream.read(_HEAD)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):  # the second: a zip without members
        return "zip"
    if head.startswith(b"\x1f\x8b\x08"):
        stream.seek(0)
        return "tar.gz" if _is_tar(_unpacked(stream)) else "gzip"
    return "tar" if _is_tar(head) else None


def without_suffix(name: str) -> str:
    """An archive's name as the folder it stands for."""
    found = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(found)] or name


def _is_tar(head: bytes) -> bool:
    """By the header's checksum; a tar of nothing is all zeros, which alone proves nothing."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _unpacked(stream: BinaryIO) -> bytes:
    try:
        return gzip.GzipFile(fileobj=stream).read(_HEAD)
    except (OSError, EOFError, zlib.error):
        return b""
