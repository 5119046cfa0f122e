"""Local files for a resource: which files, their names there, and the request bodies."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from xnat_ingest.core import SetAside, SourceChanged, UsageError, printable
from xnat_ingest.core.regular_file import is_folder, open_regular
from xnat_ingest.inputs import FolderSource
from xnat_ingest.inputs.dicom_file import START, sniff
from xnat_ingest.transports.tar_members import END, header, member_size, padding

BLOCK = 256 * 1024
# XNAT reads and writes the whole catalog of a resource for every request, so small files are sent together in a tar.
# From this size on a file is sent separately, so that a broken connection costs only this file.
BIG = 32 * 1024**2
TAR_BYTES = 128 * 1024**2
TAR_FILES = 2000
# XNAT uses such names for its own catalog and locks, and does not list other files with such a name.
_CATALOGUE = "_catalog.xml"
_LOCK = ".~lock-"
# In an address, XNAT decodes a name only if it has a blank or a plus: `a#b` would be stored as `a%23b`. These
# characters arrive unchanged, and firewalls do not mind them.
_ADDRESSABLE = re.compile(r"[A-Za-z0-9._~/ +-]+")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to store.

    name: its path inside the resource, '/'-separated.
    path: of the local file.
    size: in bytes.
    opened: opens it, and follows no link that has since taken the place of a folder; without it, path is opened.
    """

    name: str
    path: str
    size: int
    opened: Callable[[], BinaryIO] | None = field(default=None, compare=False, repr=False, kw_only=True)

    def open(self) -> BinaryIO:
        """Its bytes. Raises OSError."""
        return self.opened() if self.opened else open_regular(self.path)


@dataclass(frozen=True, slots=True)
class Packed(LocalFile):
    """Files that are stored as one tar with this name, made while it is sent. path: of the folder, for messages."""

    members: tuple[LocalFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Gathered:
    """The local files.

    refused: name -> why it cannot be stored.
    left: name -> why it is skipped, which is not an error.
    """

    files: tuple[LocalFile, ...]
    refused: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def gather(paths: Sequence[str]) -> Gathered:
    """The files at the paths. A folder's files are named by their paths in it, hidden ones included.

    Links that point outside a folder are not followed. Raises UsageError.
    """
    found: dict[str, LocalFile] = {}
    refused: dict[str, str] = {}
    left: dict[str, str] = {}
    for given in paths:
        for file in _below(given):
            if isinstance(file, SetAside):
                (refused if file.reason == "unreadable" else left)[file.path] = file.detail
            elif why := why_not(file.name):
                refused[file.name] = why
            elif file.name in found:
                first, second = (printable(one.path) for one in (found[file.name], file))
                raise UsageError(
                    f"{first} and {second} would both be stored as {printable(file.name)}; give only one of them"
                )
            else:
                found[file.name] = file
    folders = {str(parent) for name in found for parent in Path(name).parents}
    if clash := sorted(folders & found.keys()):
        raise UsageError(f"{printable(clash[0])} would be a file and a folder in the resource; rename one of them")
    return Gathered(tuple(found.values()), refused, left)


def _below(given: str) -> Iterator[LocalFile | SetAside]:
    path = Path(given)
    try:
        if path.is_file():
            yield LocalFile(path.name, str(path), path.stat().st_size)
            return
    except OSError as error:
        raise UsageError(f"cannot read {printable(given)}: {error.strerror}") from error
    if not is_folder(path):
        raise UsageError(f"no such file or folder: {printable(given)}")
    root = os.path.realpath(path)
    source = FolderSource(path, all_folders=True)
    for file in source.files():
        if isinstance(file, SetAside):
            yield file
        else:
            opened = partial(source.open, file.path)
            yield LocalFile(file.path, f"{root}/{file.path}", file.size, opened=opened)


def why_not(name: str) -> str:
    """Why XNAT would not store a file under exactly this name; "" when it would."""
    folder, _, last = name.rpartition("/")
    parts = name.split("/")
    if any("\ud800" <= c <= "\udfff" for c in name):
        return "its name is not valid UTF-8; rename it"
    if any(unicodedata.category(c) == "Cc" or c in "\ufffe\uffff" for c in name):
        return "its name has control characters, which XNAT's catalog does not allow; rename it"
    if "\\" in name:
        return "its name has a backslash, which XNAT takes as a folder separator; rename it"
    if not all(part.strip() and part not in (".", "..") and len(part.encode()) <= 255 for part in parts):
        return "its name is empty, too long, or points outside the resource; rename it"
    if last.endswith(_CATALOGUE) or last.startswith(_LOCK):
        return f"XNAT reserves the names *{_CATALOGUE} and {_LOCK}* for itself; rename it"
    if unquote(folder) != folder:
        return "a folder's name has an encoded character (like %20), which listings show like a plain one; rename it"
    return ""


def addressable(name: str) -> bool:
    """Whether a file keeps this name when it is sent in the address."""
    return bool(_ADDRESSABLE.fullmatch(name)) and name == name.strip()


def dicom_among(files: Sequence[LocalFile]) -> list[LocalFile]:
    """The files with the DICM prefix of DICOM files."""
    found = []
    for file in files:
        try:
            with file.open() as stream:
                if sniff(stream.read(START)) == "part10":
                    found.append(file)
        except OSError:
            continue  # reported when it is sent
    return found


def pack(name: str, path: str, files: Sequence[LocalFile]) -> Packed:
    """One tar from many files.

    name: of the tar in the resource, with `.tar`.
    path: of the folder.
    """
    return Packed(name, path, _tar_length(files), tuple(files))


def batches(files: Sequence[LocalFile]) -> Iterator[list[LocalFile]]:
    """Groups the files into requests: many small files, or one large one."""
    batch: list[LocalFile] = []
    weight = 0
    for file in files:
        if isinstance(file, Packed) or (file.size >= BIG and addressable(file.name)):
            yield [file]
            continue
        if batch and (len(batch) >= TAR_FILES or weight + file.size > TAR_BYTES):
            yield batch
            batch, weight = [], 0
        batch.append(file)
        weight += file.size
    if batch:
        yield batch


def digest_of(file: LocalFile) -> str:
    """MD5 as hexadecimal digits, as in XNAT's catalogs. Raises SourceChanged."""
    md5 = hashlib.md5(usedforsecurity=False)
    for block in _blocks(file, lambda _: None):
        md5.update(block)
    return md5.hexdigest()


class FilesBody:
    """One file as it is, or several as a tar that the server unpacks into the resource.

    A tar is also used for a name that an address would change, and for an empty file: XNAT refuses an empty body.
    digests: receives the MD5 of each file that was read to its end.
    """

    def __init__(self, files: Sequence[LocalFile], digests: dict[str, str]) -> None:
        self._files = files
        self._digests = digests
        single = files[0] if len(files) == 1 and files[0].size and addressable(files[0].name) else None
        self.single = single
        self.content_type = "application/octet-stream" if single else "application/x-tar"
        self.length = single.size if single else _tar_length(files)

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        """The body from its start. sent: called with each block's size; may raise to end it. Raises SourceChanged."""
        if self.single:
            return self._hashed(self.single, sent)
        return _tar(self._files, lambda file: self._hashed(file, sent))

    def _hashed(self, file: LocalFile, sent: Callable[[int], None]) -> Iterator[bytes]:
        md5 = hashlib.md5(usedforsecurity=False)
        for block in _blocks(file, sent):
            md5.update(block)
            yield block
        self._digests[file.name] = md5.hexdigest()


def _blocks(file: LocalFile, sent: Callable[[int], None]) -> Iterator[bytes]:
    """The bytes of a file, exactly as many as were found."""
    if isinstance(file, Packed):
        try:
            yield from _tar(file.members, lambda member: _blocks(member, sent))
        except SourceChanged as error:
            raise SourceChanged(file.name, str(error), dirty=error.dirty) from error
        return
    left = file.size
    try:
        with file.open() as stream:
            since = os.fstat(stream.fileno()).st_mtime_ns
            while left or not file.size:
                block = stream.read(min(BLOCK, left))
                left -= len(block)
                # Checked before the last block is sent, so that the server does not store a mix, or half a file.
                ended = not left and (stream.read(1) or os.fstat(stream.fileno()).st_mtime_ns != since)
                if (left and not block) or ended:
                    raise SourceChanged(file.name, "the file changed while it was read", dirty=True)
                if not block:
                    break
                sent(len(block))
                yield block
    except OSError as error:
        raise SourceChanged(file.name, f"cannot be read: {error.strerror}", dirty=left < file.size) from error


def _tar(files: Sequence[LocalFile], read: Callable[[LocalFile], Iterator[bytes]]) -> Iterator[bytes]:
    for file in files:
        yield header(file.name, file.size)
        yield from read(file)
        yield padding(file.size)
    yield END


def _tar_length(files: Sequence[LocalFile]) -> int:
    return len(END) + sum(member_size(file.name, file.size) for file in files)
