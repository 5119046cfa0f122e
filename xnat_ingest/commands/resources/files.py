"""Local files that go into a resource: which there are, what they may be called there, what they travel in."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from xnat_ingest.core.errors import SourceChanged, UsageError
from xnat_ingest.core.model import SetAside
from xnat_ingest.core.text import printable
from xnat_ingest.inputs import FolderSource
from xnat_ingest.inputs.dicom_file import START, sniff

BLOCK = 256 * 1024
# XNAT reads and writes the whole catalogue of a resource for every request, so small files travel together in a tar;
# from this size on a file goes by itself, and is alone what a broken connection costs.
BIG = 32 * 1024**2
TAR_BYTES = 128 * 1024**2
TAR_FILES = 2000
# XNAT keeps its own catalogue and locks under such names, and lists no other file that has one.
_CATALOGUE = "_catalog.xml"
_LOCK = ".~lock-"
# In an address, XNAT undoes the encoding of a name only where a blank or a plus is in it: `a#b` would be kept as
# `a%23b`. What is here arrives as it is; firewalls in front of the rest of ASCII do not mind it either.
_ADDRESSABLE = re.compile(r"[A-Za-z0-9._~/ +-]+")
_END = b"\0" * (2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to be put.

    name: its path inside the resource, '/'-separated.
    path: where it is here; size in bytes.
    """

    name: str
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Packed(LocalFile):
    """Files that become one: a tar of this name, made while it is sent. path: of the folder, for messages."""

    members: tuple[LocalFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Gathered:
    """refused: name -> why it cannot be put.
    left: name -> why it is left alone, which is no fault.
    """

    files: tuple[LocalFile, ...]
    refused: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def gather(paths: Sequence[str]) -> Gathered:
    """The files that the paths name: a file by its own name, a folder's by their paths in it, hidden ones too.

    Links that leave a folder are not followed. Raises UsageError.
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
                    f"{first} and {second} would both be stored as {printable(file.name)}; put one of them"
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
    if not path.is_dir():
        raise UsageError(f"{printable(given)} is no file and no folder; name what is to be put")
    root = os.path.realpath(path)
    for file in FolderSource(path, all_folders=True).files():
        yield file if isinstance(file, SetAside) else LocalFile(file.path, f"{root}/{file.path}", file.size)


def why_not(name: str) -> str:
    """Why XNAT would not keep a file under exactly this name; "" when it would."""
    folder, _, last = name.rpartition("/")
    parts = name.split("/")
    if any("\ud800" <= c <= "\udfff" for c in name):
        return "its name is not valid UTF-8; rename it"
    if any(unicodedata.category(c) == "Cc" or c in "\ufffe\uffff" for c in name):
        return "its name has control characters, which XNAT's catalogue cannot hold; rename it"
    if "\\" in name:
        return "its name has a backslash, which XNAT takes for a folder; rename it"
    if not all(part.strip() and part not in (".", "..") and len(part.encode()) <= 255 for part in parts):
        return "its name is empty, too long or leads out of the resource; rename it"
    if last.endswith(_CATALOGUE) or last.startswith(_LOCK):
        return f"XNAT keeps files called *{_CATALOGUE} and {_LOCK}* for itself; rename it"
    if unquote(folder) != folder:
        return "a folder's name has an encoded character (like %20), which listings do not tell from a plain one"
    return ""


def addressable(name: str) -> bool:
    """Whether a file that is put under this name by its address arrives under it."""
    return bool(_ADDRESSABLE.fullmatch(name)) and name == name.strip()


def dicom_among(files: Sequence[LocalFile]) -> list[LocalFile]:
    """Those with the mark of a DICOM file."""
    found = []
    for file in files:
        try:
            with Path(file.path).open("rb") as stream:
                if sniff(stream.read(START)) == "part10":
                    found.append(file)
        except OSError:
            continue  # told when it is sent
    return found


def pack(name: str, path: str, files: Sequence[LocalFile]) -> Packed:
    """One file out of many.

    name: what it is called in the resource, with `.tar`.
    path: of the folder.
    """
    return Packed(name, path, _tar_length(files), tuple(files))


def batches(files: Sequence[LocalFile]) -> Iterator[list[LocalFile]]:
    """What travels in one request: many small files, or a big one."""
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
    """MD5 as hexadecimal digits, which is what XNAT's catalogues hold. Raises SourceChanged."""
    md5 = hashlib.md5(usedforsecurity=False)
    for block in _blocks(file, lambda _: None):
        md5.update(block)
    return md5.hexdigest()


class FilesBody:
    """One file as it is, or several as a tar that the server unpacks into the resource.

    A tar also where a name does not survive in an address, and for an empty file: XNAT refuses a body of no bytes.
    digests: gets the MD5 of each file that was read to its end.
    """

    def __init__(self, files: Sequence[LocalFile], digests: dict[str, str]) -> None:
        self._files = files
        self._digests = digests
        single = files[0] if len(files) == 1 and files[0].size and addressable(files[0].name) else None
        self.single = single
        self.content_type = "application/octet-stream" if single else "application/x-tar"
        self.length = single.size if single else _tar_length(files)

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        """The body from its start. sent: told each block's bytes; may raise to end it. Raises SourceChanged."""
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
    """The bytes of a file, exactly as many as it was found with."""
    if isinstance(file, Packed):
        try:
            yield from _tar(file.members, lambda member: _blocks(member, sent))
        except SourceChanged as error:
            raise SourceChanged(file.name, str(error), dirty=error.dirty) from error
        return
    left = file.size
    try:
        with Path(file.path).open("rb") as stream:
            while left or not file.size:
                block = stream.read(min(BLOCK, left))
                left -= len(block)
                # Longer than it was is found before its last block goes, so that the server keeps nothing of it.
                if (left and not block) or (not left and stream.read(1)):
                    raise SourceChanged(file.name, "the file changed while it was read", dirty=True)
                if not block:
                    break
                sent(len(block))
                yield block
    except OSError as error:
        raise SourceChanged(file.name, f"cannot be read: {error.strerror}", dirty=left < file.size) from error


def _tar(files: Sequence[LocalFile], read: Callable[[LocalFile], Iterator[bytes]]) -> Iterator[bytes]:
    for file in files:
        yield _header(file)
        yield from read(file)
        yield bytes(-file.size % tarfile.BLOCKSIZE)
    yield _END


def _tar_length(files: Sequence[LocalFile]) -> int:
    return len(_END) + sum(len(_header(file)) + file.size + -file.size % tarfile.BLOCKSIZE for file in files)


def _header(file: LocalFile) -> bytes:
    """PAX: names beyond ASCII read the same whatever the server's locale. No times, so that a tar made again is the
    same."""
    info = tarfile.TarInfo(file.name)
    info.size = file.size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
