"""Output files: complete or not written at all, readable only by their owner, with paths checked before the run."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.stop import Stop
from xnat_ingest.core.text import printable

# Seconds. A run is in such a block for as long as it takes to write a file.
LOCK_LIMIT = 10.0
# The same once a signal has come: whoever sent it may kill the run soon.
STOPPED_LIMIT = 1.0
# Handles kept in reserve for output: a run that has used up all others must still be able to write its report.
_SPARE_HANDLES = 2
_spare: list[int] = []


def check_writable(path: str, what: str) -> None:
    """Raises UsageError when no file can be written to the path; leaves nothing behind. what: names it in messages."""
    target = Path(path)
    _keep_spare()
    try:
        with suppress(FileNotFoundError):
            target.lstat()  # fails when the name is too long
        if target.exists() and not target.is_file():
            raise UsageError(f"{what} {printable(path)} exists and is not a regular file; name a file")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
        if _is_mount(target):
            raise UsageError(
                f"{what} {printable(path)} is mounted as a file of its own, so no complete file can take its place. "
                "Mount its folder instead"
            )
        if target.exists() and not os.access(target, os.W_OK):
            raise UsageError(f"no permission to overwrite {what} {printable(path)}; name another file")
    except (OSError, ValueError) as error:  # ValueError: a path with a null in it
        raise UsageError(f"cannot write {what} {printable(path)}: {getattr(error, 'strerror', error)}") from error


def _is_mount(target: Path) -> bool:
    """Whether a file is a mount point, as with `docker run -v ./report.json:/output/report.json`.

    One from the same disk shows only in the list of mounts. It writes blanks and the like as `\\040`.
    """
    with suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
        escaped = os.fsencode(os.path.realpath(target)).replace(b"\\", b"\\134").replace(b" ", b"\\040")
        escaped = escaped.replace(b"\t", b"\\011").replace(b"\n", b"\\012")
        return any(fields[4:5] == [escaped] for fields in map(bytes.split, mounts))
    return target.is_mount()


@contextmanager
def replacing(path: str, mode: int = 0o600) -> Iterator[TextIO]:
    """A stream to a temporary file that replaces the path once everything is on disk. Raises OSError."""
    target = Path(path)  # its name may have the greatest length, so the temporary name does not include it
    _give_spare()
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".xnat-ingest.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(target)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
    finally:
        _keep_spare()


@contextmanager
def alone(path: str, stop: Stop | None = None, *, must: bool = False) -> Iterator[None]:
    """No other run of this program is in such a block for a file in the same folder. Waits for those that are.

    Where the folder cannot be read, or its disk knows no locks, as on some networks, nothing is locked. Others may hold
    the lock for as long as they like, as `flock FOLDER` does around a whole command, so the wait has a limit.

    stop: after a signal the limit is a second.
    must: raises BlockingIOError then. Otherwise the block is entered all the same.
    """
    folder = _locked(Path(path).parent, stop or Stop(), must=must)
    try:
        yield
    finally:
        if folder is not None:
            os.close(folder)


def _locked(folder: Path, stop: Stop, *, must: bool) -> int | None:
    """A handle that locks a folder until it is closed; None when it cannot be opened."""
    with spare_handles():
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
    until = time.monotonic() + LOCK_LIMIT
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if stop.signum:
                until = min(until, time.monotonic() + STOPPED_LIMIT)
            if time.monotonic() < until:
                time.sleep(0.05)
                continue
            if must:
                os.close(handle)
                raise
        except OSError:  # the disk knows no locks
            pass
        return handle


@contextmanager
def spare_handles() -> Iterator[None]:
    """For what must be looked at before output is written: the handles in reserve may be used."""
    _give_spare()
    try:
        yield
    finally:
        _keep_spare()


def _keep_spare() -> None:
    with suppress(OSError):
        while len(_spare) < _SPARE_HANDLES:
            _spare.append(os.open(os.devnull, os.O_RDONLY))


def _give_spare() -> None:
    while _spare:
        os.close(_spare.pop())
