"""Opens files without waiting for what may have taken their place, and without leaving a tree by a new link."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Folders that stay open. The files of a folder are mostly read one after the other, by a few threads.
_MOST_HELD = 4
_NOW_A_LINK = "it, or a folder that it is in, is not the one that was scanned: it was replaced, perhaps by a link"


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether it is a folder, as far as can be seen. Raises nothing, where Path.is_dir does for a name too long."""
    return os.path.isdir(path)  # noqa: PTH112


def open_regular(path: str | os.PathLike[str], buffering: int = -1) -> BinaryIO:
    """A file for reading. Raises OSError, also for a pipe, a socket or a device.

    A pipe may take a file's place while a run goes on. To open it would wait for ever for somebody who writes to it.
    """
    return open(path, "rb", buffering=buffering, opener=regular_handle)


def open_at_once(path: str, flags: int) -> int:
    """Opens without waiting for somebody at the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


class Tree:
    """A folder whose files are opened without following any link.

    A folder can be replaced by a link while a run goes on, and so can every folder above it. A file is therefore opened
    from the handle of its folder, and the folder from that of the one above, down from the root.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._held: dict[str, _Folder] = {}
        self._lock = threading.Lock()

    def open(self, path: str, buffering: int = -1) -> BinaryIO:
        """A file for reading. Raises OSError, also for a link, a pipe, a socket or a device.

        path: below the root, '/'-separated.
        """
        above, _, name = path.rpartition("/")
        if held := self._held.get(above):
            try:
                return held.open(name, buffering)
            except OSError:  # the folder may have been removed, and made again
                self._held.pop(above, None)
        try:
            return self._hold(above).open(name, buffering)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise OSError(error.errno, _NOW_A_LINK) from error
            raise

    def _hold(self, path: str) -> _Folder:
        held = _Folder(self._descend(path))
        with self._lock:
            self._held[path] = held
            for old in [*self._held][:-_MOST_HELD]:
                self._held.pop(old, None)
        return held

    def _descend(self, path: str) -> int:
        handle = os.open(self._root, _FOLDER)
        for name in filter(None, path.split("/")):
            above = handle
            try:
                handle = os.open(name, _FOLDER, dir_fd=above)
            finally:
                os.close(above)
        return handle


class _Folder:
    """An open folder. It is closed with the last use of it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def open(self, name: str, buffering: int) -> BinaryIO:
        return open(name, "rb", buffering=buffering, opener=self._open)

    def _open(self, name: str, flags: int) -> int:
        return _regular(os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=self._handle))

    def __del__(self) -> None:
        os.close(self._handle)


def regular_handle(path: str, flags: int) -> int:
    """A handle, as an opener gives it. Raises OSError, also for a pipe, a socket or a device."""
    return _regular(open_at_once(path, flags))


def _regular(handle: int) -> int:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return handle
