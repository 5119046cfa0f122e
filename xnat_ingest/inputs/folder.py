"""A directory tree, in which archives may stand for session folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from xnat_ingest.core import OUTSIDE, SetAside, SourceFile, printable
from xnat_ingest.core.regular_file import Tree, is_folder
from xnat_ingest.inputs.archive_kinds import (
    Kind,
    archive_kind_of,
    is_named_as_archive,
    without_suffix,
)
from xnat_ingest.inputs.archive_members import Damaged, TooLarge
from xnat_ingest.inputs.dicom_file import TruncationDetector
from xnat_ingest.inputs.nested_archive import holds_dicom
from xnat_ingest.inputs.open_archive import open_archive
from xnat_ingest.inputs.rare_kinds import instead_of_archive
from xnat_ingest.inputs.source import Source, go_on
from xnat_ingest.inputs.system_names import is_system_folder
from xnat_ingest.inputs.unpacking import PACKINGS

# What the library, which reads little, takes from a file at a time; others take large pieces anyway.
_BUFFER = 4096


class FolderSource:
    """A directory tree. Links that stay below ROOT are followed.

    Other links are set aside. So are links into another session's folder, and hidden and system folders.

    all_folders: hidden and system folders are read, too.
    follow_links: links that leave ROOT are followed, too.
    outside: receives the paths of those that were.
    empty: receives the paths of folders with nothing in them. A disk that is not mounted looks like one.
    leaf: how many names are in the path of an archive that stands for a session folder (2: `007/pre.zip`). Its members
        are files below it. 0: any archive does. None: no archive does, and none is read unless reads_archives is true.
    """

    def __init__(
        self,
        root: Path,
        leaf: int | None = None,
        *,
        reads_archives: bool = False,
        all_folders: bool = False,
        follow_links: bool = False,
        outside: list[str] | None = None,
        empty: list[str] | None = None,
        check_stop: Callable[[], None] = go_on,
    ) -> None:
        self._check_stop = check_stop
        self._all_folders = all_folders
        self._follow_links = follow_links
        self._left = outside if outside is not None else []
        self._empty = empty if empty is not None else []
        self._root = os.path.realpath(root)
        self._tree, self._outside_tree = Tree(self._root), Tree("/")
        self._links: dict[str, str] = {}  # those that are followed, and where each led when it was scanned
        self._leaf = leaf
        self._reads_archives = reads_archives or leaf is not None
        self._archives: dict[str, Source] = {}

    def open(self, path: str) -> BinaryIO:
        archive, member = self._archive_of(path)
        if archive:
            return archive.open(member)
        return self._open_plain(path)

    def _open_plain(self, path: str, buffering: int = _BUFFER) -> BinaryIO:
        """A file on the disk. Only the links that the scan has followed are followed, to where they led then."""
        real = self._behind_links(path) if self._links else ""
        if not real:
            return self._tree.open(path, buffering)
        if self._is_below(real):
            return self._tree.open(os.path.relpath(real, self._root), buffering)
        return self._outside_tree.open(real.lstrip("/"), buffering)

    def _behind_links(self, path: str) -> str:
        """Where a file is that was found through a link; "" for any other file."""
        at = len(path)
        while at >= 0:
            if real := self._links.get(path[:at]):
                return real + path[at:]
            at = path.rfind("/", 0, at)
        return ""

    def stat(self, path: str) -> tuple[int, int]:
        archive, member = self._archive_of(path)
        if archive:
            return archive.stat(member)
        found = os.stat(f"{self._root}/{path}")  # noqa: PTH116
        return found.st_size, found.st_mtime_ns

    def changed_ns(self, path: str) -> int:
        archive, member = self._archive_of(path)
        if archive:
            return archive.changed_ns(member)
        return os.stat(f"{self._root}/{path}").st_ctime_ns  # noqa: PTH116

    def in_order(self, path: str) -> bool:
        archive, member = self._archive_of(path)
        return archive is not None and archive.in_order(member)

    def name_of(self, folder: str) -> str:
        name = folder.rpartition("/")[2]
        return without_suffix(name) if folder in self._archives else name

    def _archive_of(self, path: str) -> tuple[Source | None, str]:
        """The archive that contains a file, and the file's path inside it."""
        at = path.find("/") if self._archives else -1
        while at >= 0:
            if archive := self._archives.get(path[:at]):
                return archive, path[at + 1 :]
            at = path.find("/", at + 1)
        return None, path

    def files(self) -> Iterator[SourceFile | SetAside]:
        # What is still to visit, the next one last. Folders can be nested deeper than calls.
        todo = self._entries("")
        followed: set[str] = set()
        while todo:
            found = todo.pop()
            if isinstance(found, SetAside):
                yield found
                continue
            entry, path = found
            try:
                if not self._all_folders and is_system_folder(entry.name) and entry.is_dir(follow_symlinks=False):
                    yield SetAside(path, "system-folder", "a hidden or system folder, not read")
                elif entry.is_symlink() and (obstacle := self._judge_link(entry, path, followed)):
                    yield obstacle
                elif entry.is_dir():
                    inside = self._entries(path)
                    todo += inside
                    if not inside:
                        self._empty.append(path)
                elif entry.is_file():
                    yield from self._file(entry, path)
                else:  # reading a pipe or a device could block or never end
                    yield SetAside(path, "not-dicom", "not a regular file")
            except OSError as error:
                yield SetAside(path, "unreadable", _why(error))

    def _file(self, entry: os.DirEntry[str], path: str) -> Iterator[SourceFile | SetAside]:
        """A file, or the members if it is an archive."""
        if not self._reads_archives:
            named, here = False, False
        else:
            named, here = is_named_as_archive(entry.name), self._is_session_place(path)
        if named or here:
            with self._open_plain(path) as stream:
                kind = archive_kind_of(stream)
            if kind and self._is_read_here(path, entry, kind):
                yield from self._members(entry, path, kind)
                return
            if named and kind in (None, "gzip"):
                why = f"named like an archive, but {instead_of_archive(Path(entry.path))}"
                yield SetAside(path, "unreadable", why)
                return
        status = entry.stat()
        yield SourceFile(path, status.st_size, status.st_mtime_ns)

    def _is_session_place(self, path: str) -> bool:
        return self._leaf == 0 or path.count("/") + 1 == self._leaf

    def _is_read_here(self, path: str, entry: os.DirEntry[str], kind: Kind) -> bool:
        """Reads every archive in the place of a session, and says so if it cannot. Below that, only one with DICOM."""
        if kind == "gzip":
            return False
        is_single = kind in PACKINGS
        if is_single or not self._is_session_place(path):
            if path.count("/") < (self._leaf or 0) - 1 or kind not in ("zip", "tar", "tar.gz", *PACKINGS):
                return False
            with self._open_plain(path) as stream:
                watched = cast(BinaryIO, TruncationDetector(stream, self._check_stop))
                holds = holds_dicom(watched, kind, entry.stat().st_size, self._check_stop) is True
            return holds != is_single if self._is_session_place(path) else holds and not is_single
        return True

    def _members(self, entry: os.DirEntry[str], path: str, kind: Kind) -> Iterator[SourceFile | SetAside]:
        try:
            archive = open_archive(Path(entry.path), kind, self._check_stop, partial(self._open_plain, path))
        except Damaged as error:
            yield SetAside(path, "too-large" if isinstance(error, TooLarge) else "unreadable", str(error))
            return
        self._archives[path] = archive
        is_empty = True
        for found in archive.files():
            is_empty = False
            own = found.path == entry.name and isinstance(found, SetAside)  # it is about the archive itself
            yield replace(found, path=path if own else f"{path}/{found.path}")
        if is_empty:
            yield SetAside(path, "unreadable", "an archive without files; fetch it again")

    def _entries(self, folder: str) -> list[tuple[os.DirEntry[str], str] | SetAside]:
        """A folder's entries and their paths, in reverse order."""
        try:
            with os.scandir(os.path.join(self._root, folder)) as listing:  # noqa: PTH118 - a Path per file is slow
                entries = sorted(listing, key=lambda entry: os.fsencode(entry.name), reverse=True)
        except OSError as error:
            return [SetAside(folder or ".", "unreadable", _why(error))]
        return [(entry, f"{folder}/{entry.name}" if folder else entry.name) for entry in entries]

    def _judge_link(self, entry: os.DirEntry[str], path: str, followed: set[str]) -> SetAside | None:
        """Why a link is not followed.

        At most one link leads to each folder, so there are no loops and no duplicates.
        """
        real = os.path.realpath(entry.path)
        if not self._is_below(real) and not self._follow_links:
            return self._outside(entry, path)
        if not os.path.lexists(real):
            annexed = (
                "; the content of this annexed file is not on this machine: run datalad get or git annex get first"
            )
            return SetAside(path, "unreadable", f"a link to nothing{annexed if '/.git/annex/' in real else ''}")
        if other := self._other_session(path, real):
            return SetAside(path, "link", f"points to {printable(other)}, which is read in its own place")
        if entry.is_dir():
            here = os.path.realpath(os.path.dirname(entry.path))  # noqa: PTH120
            if here == real or here.startswith(real.rstrip("/") + "/"):
                return SetAside(path, "link", "points to a folder that contains it")
            if real in followed:
                return SetAside(path, "link", "points to a folder that was already reached through another link")
            followed.add(real)
        if not self._is_below(real):
            self._left.append(path)
        self._links[path] = real
        return None

    def _is_below(self, real: str) -> bool:
        return real == self._root or real.startswith(self._root.rstrip("/") + "/")

    def _other_session(self, path: str, real: str) -> str:
        """The sibling session folder that a link points to or into; "" for any other link.

        For example 007/latest is 007/post again, not a session of its own.
        """
        if not self._leaf or not self._is_below(real):
            return ""
        names, target = path.split("/"), os.path.relpath(real, self._root).split("/")
        beside = len(names) >= self._leaf <= len(target) and names[: self._leaf - 1] == target[: self._leaf - 1]
        other = target[: self._leaf]
        if not beside or names[: self._leaf] == other or any(map(is_system_folder, target)):
            return ""
        # Only a folder can be a session.
        return "/".join(target) if is_folder(Path(self._root, *other)) else ""

    def _outside(self, entry: os.DirEntry[str], path: str) -> SetAside:
        """A link that points outside ROOT. In the place of a subject or a session, whole sessions may be behind it."""
        level = path.count("/") + 1
        if level <= (self._leaf or 0) and (entry.is_dir() or is_named_as_archive(entry.name)):
            why = (
                f"a link in the place of a {'session' if level == self._leaf else 'subject'} points outside ROOT; its "
                "target is not read. Give --follow-links, move the target here, or name a ROOT that contains both"
            )
            return SetAside(path, "unreadable", why)
        return SetAside(path, "link", OUTSIDE)


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
