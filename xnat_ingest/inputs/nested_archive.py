"""What to report about an archive in a place where none is read. It depends on whether it contains DICOM."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, cast

from xnat_ingest.core import EMPTY, ZEROS, SetAside
from xnat_ingest.inputs.archive_kinds import FOREIGN_KINDS, Kind, archive_kind_of, is_pointer
from xnat_ingest.inputs.archive_members import Damaged
from xnat_ingest.inputs.compressed_files import SUFFIXES as COMPRESSED
from xnat_ingest.inputs.dicom_file import START, sniff
from xnat_ingest.inputs.rare_kinds import RARE_START, ZIP_BEHIND, rare_from_start, rare_kind_of, rare_start
from xnat_ingest.inputs.source import go_on
from xnat_ingest.inputs.system_names import is_junk, is_named_as_image, is_proof, may_be_image
from xnat_ingest.inputs.tar_archive import NO_FILE, tar_members
from xnat_ingest.inputs.unpacking import CORRUPT, PACKINGS, Packing, damage_told, unpacked
from xnat_ingest.inputs.zip_archive import open_member
from xnat_ingest.inputs.zip_directory import ZipMember, read_directory

# Zeros at the start of a compressed file that tell that it holds nothing else: an image begins within one kilobyte.
_ZEROS = 1 << 20
# What is said of a member that was an image, and of one that may be anything.
_LOST, _OTHER = "lost", "other"
_UNPACK = "its content is not read in this place; unpack it there"


def judge_nested(path: str, stream: BinaryIO, kind: Kind, size: int) -> SetAside:
    """A note for an archive without DICOM; a problem when it contains DICOM, or had some, or when that is unknown.

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
    return _judge_packed(path, stream, cast(Packing, kind)) if kind in PACKINGS else _judge(path, stream, kind, size)


def _judge_packed(path: str, stream: BinaryIO, kind: Packing) -> SetAside:
    """What is said of a compressed file without DICOM. It may be an image that was lost before it was compressed."""
    stream.seek(0)
    try:
        content = unpacked(stream, kind, closes=False).read(_ZEROS)
    except OSError as error:
        if error.strerror != CORRUPT:
            raise
        return SetAside(path, "unreadable", f"a {kind} file that is truncated or corrupt; fetch it again")
    if not any(content):
        return SetAside(path, "not-dicom", ZEROS if content else EMPTY)
    return SetAside(path, "nested-archive", rare_start(content) or f"a {kind} file")


def _judge(path: str, stream: BinaryIO, kind: Kind, size: int) -> SetAside:
    """What is said of an archive without DICOM. All of its files may be images that were lost, or archives."""
    kinds = set()
    names: list[str] = []
    is_empty = True
    for name, start in _starts(stream, kind, size, RARE_START):
        base = name.replace("\\", "/").rpartition("/")[2]
        if not (is_junk(base) or is_proof(base)):
            kinds.add(_kind_of(base, start or b""))
            names.append(base)
            is_empty &= not start
        if _OTHER in kinds:
            return SetAside(path, "nested-archive", f"a {kind} file")
    if kinds == {_LOST} and not (is_empty and _is_mark(names)):
        text = f"a {kind} file of nothing but empty files or files named like images, none of which is one"
        return SetAside(path, "unreadable", f"{text}; fetch it again, or leave it out with --exclude")
    return SetAside(path, "nested-archive", min(kinds - {_LOST}, default=f"a {kind} file"))


def _is_mark(names: list[str]) -> bool:
    """Whether a lone empty file is more likely the mark of a program than an image. Images are numbered."""
    return len(names) == 1 and not is_named_as_image(names[0]) and not any(map(str.isdigit, names[0]))


def _kind_of(name: str, start: bytes) -> str:
    """Which of RARE_KINDS a member is, or whether it was an image."""
    is_blank = not any(start[:START]) or is_pointer(start)
    was_image = is_named_as_image(name) or (is_blank and may_be_image(name))
    return rare_start(start) or (_LOST if was_image else _OTHER)


def judge_rare(stream: BinaryIO, found: SetAside, size: int | None) -> SetAside:
    """A note for a file that is no DICOM. It names the kind when that is one of RARE_KINDS. Raises OSError.

    found: what is said of it otherwise.
    size: None for one that is unpacked while it is read. To go to its end would take long.
    """
    if size is None:
        kind = rare_from_start(stream)
        return SetAside(found.path, "nested-archive", kind) if kind else found
    kind = rare_kind_of(stream, size)
    if kind == ZIP_BEHIND and holds_dicom(stream, "zip", size):
        return SetAside(found.path, "unreadable", f"{kind}. It has DICOM in it; {_UNPACK}")
    return SetAside(found.path, "nested-archive", kind) if kind else found


def holds_dicom(stream: BinaryIO, kind: Kind, size: int, check_stop: Callable[[], None] = go_on) -> bool | None:
    """Whether an archive contains DICOM; None when that is unknown, as for a damaged one. Raises OSError.

    check_stop: called while the members of a zip are listed; may raise.
    """
    try:
        return _any(start for _, start in _starts(stream, kind, size, START, check_stop))
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


def _starts(
    stream: BinaryIO, kind: Kind, size: int, most: int, check_stop: Callable[[], None] = go_on
) -> Iterator[tuple[str, bytes | None]]:
    """Each member's name with its first bytes, None for one that cannot be read. most: so many bytes."""
    stream.seek(0)
    if kind == "zip":
        yield from _zip_starts(stream, size, most, check_stop)
    elif kind == "tar":
        yield from _tar_starts(stream, size, most)
    elif kind == "tar.gz":
        yield from _tar_starts(cast(BinaryIO, unpacked(stream, "gzip", closes=False)), size, most)
    else:
        yield "", unpacked(stream, cast(Packing, kind), closes=False).read(most)


def _zip_starts(
    stream: BinaryIO, size: int, most: int, check_stop: Callable[[], None]
) -> Iterator[tuple[str, bytes | None]]:
    directory = read_directory(stream, size, check_stop)
    files = [member for member in directory.members if member.fault or not member.is_folder]
    for member in files:
        if member.fault:
            yield member.name, None
        elif not _is_link(member):
            with damage_told():
                yield member.name, open_member(stream, member).read(most)
    if directory.faults or (files and all(map(_is_link, files))):  # links to images, perhaps
        yield "", None


def _is_link(member: ZipMember) -> bool:
    return stat.S_ISLNK(member.unix_mode)


def _tar_starts(stream: BinaryIO, size: int, most: int) -> Iterator[tuple[str, bytes | None]]:
    has_links = has_files = False
    for name, member in tar_members(stream, "", size):
        if isinstance(member, SetAside):
            is_link = member.detail == NO_FILE
            has_links |= is_link
            if not is_link:  # also a file with a name that is not taken: it may hold anything
                yield name, None
        else:
            has_files = True
            stream.seek(member.offset)
            yield name, stream.read(min(most, member.size))
    if has_links and not has_files:
        yield "", None
