"""Opens files without waiting for what may have taken their place."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO


def open_regular(path: str | os.PathLike[str], buffering: int = -1) -> BinaryIO:
    """A file for reading. Raises OSError, also for a pipe, a socket or a device.

    A pipe may take a file's place while a run goes on. To open it would wait for ever for somebody who writes to it.
    """
    return open(path, "rb", buffering=buffering, opener=_open)


def open_at_once(path: str, flags: int) -> int:
    """Opens without waiting for somebody at the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _open(path: str, flags: int) -> int:
    handle = open_at_once(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return handle
