"""Where files come from: names and bytes, opened again at will. Nothing here knows DICOM."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from xnat_ingest.errors import UsageError
from xnat_ingest.model import SetAside, SourceFile


class Source(Protocol):
    """A set of files that can be listed once and opened many times, from several threads."""

    def files(self) -> Iterator[SourceFile | SetAside]:
        """Every file in sorted order; what cannot be a file to send comes as SetAside."""
        ...

    def open(self, path: str) -> BinaryIO:
        """The bytes of one file. Raises OSError."""
        ...

    def stat(self, path: str) -> tuple[int, int]:
        """(size in bytes, modification time in ns) of one file now. Raises OSError."""
        ...


def open_source(root: str) -> Source:
    """The source that ROOT names. Raises UsageError with what to give instead."""
    if not root.strip():
        raise UsageError("ROOT is empty: name the folder that holds the DICOM tree")
    path = Path(root)
    try:
        mode = path.resolve().stat().st_mode
    except OSError as error:
        raise UsageError(f"cannot read ROOT {root}: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise UsageError(f"ROOT {root} is not a folder; name the folder that holds the DICOM tree")
    return FolderSource(path)


class FolderSource:
    """A directory tree. Links that stay below ROOT are followed, others are set aside."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)

    def open(self, path: str) -> BinaryIO:
        return Path(self._root, path).open("rb")

    def stat(self, path: str) -> tuple[int, int]:
        found = Path(self._root, path).stat()
        return found.st_size, found.st_mtime_ns

    def files(self) -> Iterator[SourceFile | SetAside]:
        # What is still to be visited, the next one last: folders can be nested deeper than calls can.
        todo = self._entries("")
        followed: set[str] = set()
        while todo:
            found = todo.pop()
            if isinstance(found, SetAside):
                yield found
                continue
            entry, path = found
            try:
                if entry.is_symlink() and (obstacle := self._judge_link(entry, path, followed)):
                    yield obstacle
                elif entry.is_dir():
                    todo += self._entries(path)
                elif entry.is_file():
                    status = entry.stat()
                    yield SourceFile(path, status.st_size, status.st_mtime_ns)
                else:  # a pipe or device would block or never end when read
                    yield SetAside(path, "not-dicom", "not a regular file")
            except OSError as error:
                yield SetAside(path, "unreadable", _why(error))

    def _entries(self, folder: str) -> list[tuple[os.DirEntry[str], str] | SetAside]:
        """A folder's entries and their paths, the first in order last."""
        try:
            with os.scandir(os.path.join(self._root, folder)) as listing:  # noqa: PTH118 - a Path per file is slow
                entries = sorted(listing, key=lambda entry: os.fsencode(entry.name), reverse=True)
        except OSError as error:
            return [SetAside(folder or ".", "unreadable", _why(error))]
        return [(entry, f"{folder}/{entry.name}" if folder else entry.name) for entry in entries]

    def _judge_link(self, entry: os.DirEntry[str], path: str, followed: set[str]) -> SetAside | None:
        """Why a link is not followed. Each folder is reached by one link at most, so that links cannot lead in
        circles or multiply what they share."""
        real = os.path.realpath(entry.path)
        if real != self._root and not real.startswith(self._root.rstrip("/") + "/"):
            return SetAside(path, "link", "points outside ROOT")
        if not os.path.lexists(real):
            return SetAside(path, "unreadable", "a link to nothing")
        if entry.is_dir():
            here = os.path.realpath(os.path.dirname(entry.path))  # noqa: PTH120
            if here == real or here.startswith(real.rstrip("/") + "/"):
                return SetAside(path, "link", "points to a folder that it lies in")
            if real in followed:
                return SetAside(path, "link", "points to a folder that another link has led to")
            followed.add(real)
        return None


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
