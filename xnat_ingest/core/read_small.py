"""Small files that are read whole. An endless one, such as a device, is refused before it fills the memory."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from typing import BinaryIO

from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.regular_file import open_at_once
from xnat_ingest.core.text import printable

MEGABYTE = 1024 * 1024


def read_small(path: str, what: str, limit: int, *, pipes: bool = False) -> bytes:
    """A file's bytes.

    what: names it in the sentence.
    limit: how many there may be.
    pipes: whether it may be a pipe or a device, such as a shell's <(...). A pipe is waited for. A signal ends that.

    Raises UsageError.
    """
    return _aside(partial(_read, path, what, limit, pipes)) if pipes else _read(path, what, limit, pipes)


def _aside(read: Callable[[], bytes]) -> bytes:
    """Reads in a thread of its own, while this one wakes up now and then to handle signals.

    A signal that comes just before a system call does not end that call. So a handler might wait for ever for its turn.
    """
    result: Future[bytes] = Future()

    def run() -> None:
        try:
            result.set_result(read())
        except BaseException as error:  # noqa: BLE001  # raised again by result()
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # a daemon: the process can end while it waits
    while not result.done():
        wait([result], timeout=0.2)
    return result.result()


def _read(path: str, what: str, limit: int, pipes: bool) -> bytes:
    try:
        with open(path, "rb", opener=None if pipes else open_at_once) as stream:
            status = os.fstat(stream.fileno())
            if not pipes and not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{what} {printable(path)} is not a regular file; give the file itself")
            if status.st_size > limit:  # before 4 GB of a plan are read for nothing; a pipe has no size
                raise _too_large(path, what, limit)
            data = b"".join(_pieces(stream, limit))
    except OSError as error:
        raise UsageError(f"cannot read {what} {printable(path)}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{what} {printable(path)}: not a valid file name") from error
    if len(data) > limit:
        raise _too_large(path, what, limit)
    return data


def _too_large(path: str, what: str, limit: int) -> UsageError:
    return UsageError(f"{what} {printable(path)} is larger than {limit // MEGABYTE} MB: this must be the wrong file")


def _pieces(stream: BinaryIO, limit: int) -> Iterator[bytes]:
    """One byte more than the limit at most. One large read would ask for all of the memory beforehand."""
    left = limit + 1
    while left and (piece := stream.read(min(left, MEGABYTE))):
        left -= len(piece)
        yield piece
