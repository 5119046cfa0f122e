"""What to report about an archive in a place where none is read. It depends on whether it contains DICOM."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

from xnat_ingest.core import EMPTY, ZEROS, SetAside
from xnat_ingest.inputs.archive_kinds import FOREIGN_KINDS, ZIP_BEHIND, Kind, archive_kind_of, rare_kind_of
from xnat_ingest.inputs.archive_members import Damaged
from xnat_ingest.inputs.compressed_files import SUFFIXES as COMPRESSED
from xnat_ingest.inputs.dicom_file import START, sniff
from xnat_ingest.inputs.tar_archive import NO_FILE, tar_members
from xnat_ingest.inputs.unpacking import PACKINGS, Packing, damage_told, unpacked
from xnat_ingest.inputs.zip_archive import open_member
from xnat_ingest.inputs.zip_directory import ZipMember, read_directory

# Zeros at the start of a compressed file that tell that it holds nothing else: an image begins within one kilobyte.
_ZEROS = 1 << 20
_UNPACK = "its content is not read in this place; unpack it there"


def judge_nested(path: str, stream: BinaryIO, kind: Kind, size: int) -> SetAside:
    """A note for an archive without DICOM; a problem when it contains DICOM, or when that is unknown.

    stream: all of its bytes, at any position.

    Raises OSError.
    """
    if kind in FOREIGN_KINDS:
        return SetAside(path, "unreadable", f"packed as {kind}, which cannot be read here; unpack it there")
    if kind == "damaged gzip":
        if path.lower().endswith(".nii.gz"):
            return SetAside(path, "not-dicom", "a gzip file that is corrupt from its start")
        return SetAside(path, "unreadable", "a gzip file that is truncated or corrupt from its start; fetch it again")
    found = holds_dicom(stream, kind, size)
    if found is None:
        return SetAside(
            path,
            "unreadable",
            f"a {kind} file that is corrupt, or contains archives, only links, or names that are not taken; {_UNPACK}",
        )
    if found and kind in PACKINGS and path.lower().endswith(COMPRESSED):
        return SetAside(path, "unreadable", f"a {kind} file with a compressed file in it that holds DICOM; {_UNPACK}")
    if found and kind in PACKINGS:
        text = f"a {kind} file with DICOM in it, but its name does not end in .gz, .bz2 or .xz; rename it"
        return SetAside(path, "unreadable", text)
    if found:
        return SetAside(path, "unreadable", f"a {kind} file with DICOM in it; {_UNPACK}")
    if kind in PACKINGS and (blank := _blank(stream, cast(Packing, kind))):
        return SetAside(path, "not-dicom", blank)
    return SetAside(path, "nested-archive", f"a {kind} file")


def judge_rare(stream: BinaryIO, found: SetAside, size: int) -> SetAside:
    """A note for a file that is no DICOM. It names the kind when that is one of RARE_KINDS. Raises OSError.

    found: what is said of it otherwise.
    """
    kind = rare_kind_of(stream, size)
    if kind == ZIP_BEHIND and holds_dicom(stream, "zip", size):
        return SetAside(found.path, "unreadable", f"{kind}. It has DICOM in it; {_UNPACK}")
    return SetAside(found.path, "nested-archive", kind) if kind else found


def holds_dicom(stream: BinaryIO, kind: Kind, size: int) -> bool | None:
    """Whether an archive contains DICOM; None when that is unknown, as for a damaged one. Raises OSError."""
    stream.seek(0)
    try:
        if kind == "zip":
            return _any(_zip_starts(stream, size))
        if kind == "tar":
            return _any(_tar_starts(stream, size))
        if kind == "tar.gz":
            return _any(_tar_starts(cast(BinaryIO, unpacked(stream, "gzip", closes=False)), size))
        return _any([unpacked(stream, cast(Packing, kind), closes=False).read(START)])
    except Damaged:
        return None
    except OSError as error:
        if error.errno == 5 or not error.errno:  # how unpacking reports damage
            return None
        raise


def _any(starts: Iterable[bytes | None]) -> bool | None:
    """starts: the first bytes of each member, None for one that cannot be read."""
    unknown = False
    for start in starts:
        kind = None if start is None else archive_kind_of(io.BytesIO(start))
        if kind in PACKINGS and start:
            start = _peeled(start, cast(Packing, kind))  # noqa: PLW2901
            kind = None if start is None else archive_kind_of(io.BytesIO(start))
        if start is None or kind:
            unknown = True
        elif sniff(start) != "other":
            return True
    return None if unknown else False


def _peeled(start: bytes, kind: Packing) -> bytes | None:
    """The first bytes in a compressed member, None when more of it is needed."""
    try:
        return unpacked(cast(BinaryIO, io.BytesIO(start)), kind).read(START)
    except OSError:
        return None


def _blank(stream: BinaryIO, kind: Packing) -> str:
    """What an image is called that was lost before it was compressed; "" for other content."""
    stream.seek(0)
    content = unpacked(stream, kind, closes=False).read(_ZEROS)
    return "" if any(content) else ZEROS if content else EMPTY


def _zip_starts(stream: BinaryIO, size: int) -> Iterator[bytes | None]:
    directory = read_directory(stream, size)
    files = [member for member in directory.members if member.fault or not member.is_folder]
    for member in files:
        if member.fault:
            yield None
        elif not _is_link(member):
            with damage_told():
                yield open_member(stream, member).read(START)
    if directory.faults or (files and all(map(_is_link, files))):  # links to images, perhaps
        yield None


def _is_link(member: ZipMember) -> bool:
    return stat.S_ISLNK(member.unix_mode)


def _tar_starts(stream: BinaryIO, size: int) -> Iterator[bytes | None]:
    has_links = has_files = False
    for _, member in tar_members(stream, "", size):
        if isinstance(member, SetAside):
            is_link = member.detail == NO_FILE
            has_links |= is_link
            if not is_link:  # also a file with a name that is not taken: it may hold anything
                yield None
        else:
            has_files = True
            stream.seek(member[0])
            yield stream.read(min(START, member[1]))
    if has_links and not has_files:
        yield None
