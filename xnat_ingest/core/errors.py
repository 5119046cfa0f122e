"""What can go wrong, grouped by what the user can do about it, with the exit code of each.

IngestError                  1   failed for any other reason
 +-- UsageError              2   options, configuration, report path; nothing was contacted
 +-- Unreachable             5   no usable answer from the server, worth another try later
 +-- Refused                 6   credentials, or no permission on the project
 +-- ServerSaid              by status: 401/403 like Refused, 5xx/408/429 like Unreachable, else 1
 +-- SourceChanged           1   a file changed after it was planned; its instance fails, the run goes on
 +-- SessionTrouble          1   one session cannot be finished; the others go on
 +-- Stopped                 130/143, by signal
 +-- LawBroken               70  the report does not add up: a bug in this program
"""

from __future__ import annotations

import errno
import re
import signal
import traceback
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path, PurePath

from xnat_ingest.core.secrets import sayable


class Exit(IntEnum):
    """Exit codes. Scripts depend on them, so they never change."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    NOTHING = 4
    TEMPORARY = 5
    REFUSED = 6
    BUG = 70
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_MEANING: dict[Exit, str] = {
    Exit.OK: "every planned instance was seen on the server",
    Exit.FAILED: "failed; see the message",
    Exit.USAGE: "usage or configuration; nothing was contacted",
    Exit.PARTIAL: "partial: something is missing, failed, in conflict, unverified, or a file had a problem",
    Exit.NOTHING: "nothing to upload",
    Exit.TEMPORARY: "temporary: server unreachable or in trouble; no session was delivered, try again later",
    Exit.REFUSED: "refused: credentials, or no right on the project; no session was delivered",
    Exit.BUG: "a bug in this program",
    Exit.INTERRUPTED: "interrupted (Ctrl-C); the report is still written (not after a second signal)",
    Exit.TERMINATED: "terminated (SIGTERM, closed terminal); the report is still written (not after a second signal)",
}

# Which code wins when several apply, strongest first.
PRECEDENCE = (
    Exit.BUG,
    Exit.INTERRUPTED,
    Exit.TERMINATED,
    Exit.USAGE,
    Exit.REFUSED,
    Exit.TEMPORARY,
    Exit.PARTIAL,
    Exit.FAILED,
    Exit.NOTHING,
    Exit.OK,
)


class IngestError(Exception):
    """Base of every error a user may see. The text says what happened and what to do."""

    exit_code: Exit = Exit.FAILED

    def __init__(self, message: str = "") -> None:
        """message: may quote a server or a file; control characters and secrets are removed."""
        super().__init__(sayable(message))


class UsageError(IngestError):
    exit_code = Exit.USAGE


class Unreachable(IngestError):
    """No usable answer came.

    status: 0, no answer.
    maybe_done: the request may have reached the server before the connection was lost.
    timed_out: the server may still be working on it.
    """

    exit_code = Exit.TEMPORARY

    def __init__(self, message: str, *, maybe_done: bool = True, timed_out: bool = False) -> None:
        super().__init__(message)
        self.status = 0
        self.maybe_done = maybe_done
        self.timed_out = timed_out


class Refused(IngestError):
    exit_code = Exit.REFUSED


class ServerSaid(IngestError):
    """The server answered, with a status that is not success.

    action: method and path of the request.
    status: HTTP status.
    sentence: what the server's error page says, tags removed.
    """

    def __init__(self, action: str, status: int, sentence: str, retry_after: str = "") -> None:
        super().__init__(f"{action}: the server answered {status}{f' ({sentence})' if sentence else ''}")
        self.action = action
        self.status = status
        self.sentence = sentence
        self.retry_after = retry_after
        if status in (401, 403):
            self.exit_code = Exit.REFUSED
        elif status in (408, 429) or status >= 500:
            self.exit_code = Exit.TEMPORARY


class SourceChanged(IngestError):
    """A source file could not be read as it was planned.

    path: relative to ROOT.
    dirty: some of its bytes were sent, so the server may hold a broken copy.
    others: files of the same part that have changed, too.
    """

    def __init__(self, path: str, why: str, *, dirty: bool, others: tuple[str, ...] = ()) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why
        self.dirty = dirty
        self.others = others


class SessionTrouble(IngestError):
    """One session cannot be finished; the others go on. kind: of the problem (docs/design.md, 2.2)."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def trace(error: BaseException) -> str:
    """Where a bug happened, for the bug report: frames and exception types.

    It leaves out messages, which may contain a value from a header, and the paths above a package, which may contain a
    user's name.
    """
    chain: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in chain:
        chain.append(step)
        step = step.__cause__ or step.__context__
    return "\n".join("".join(_frames(one)) + type(one).__name__ for one in reversed(chain))


def _frames(error: BaseException) -> Iterator[str]:
    for frame in traceback.extract_tb(error.__traceback__):
        place = re.split(r"[/\\](?:site-packages|python3\.\d+)[/\\]|[/\\](?=xnat_ingest[/\\])", frame.filename)[-1]
        if place == frame.filename:
            place = PurePath(place).name
        yield f"  {place}:{frame.lineno} {frame.name}: {frame.line}\n"


# Our own code raises these only through a mistake in it, never because of a damaged file or a broken server.
_MISTAKES = (TypeError, AttributeError, NameError, AssertionError, NotImplementedError)


def is_bug(error: BaseException) -> bool:
    """Whether the error is a mistake of ours: one of those types, raised by our own code.

    A library may raise anything when it reads damaged data, so its errors do not count.
    """
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    home = str(Path(__file__).parent.parent)
    ours = frame is not None and frame.tb_frame.f_code.co_filename.startswith(home)
    return ours and isinstance(error, _MISTAKES)


def exhausted(error: BaseException) -> IngestError | None:
    """What to tell where the machine has given all it may, which is not a mistake of ours; None for other errors."""
    number = error.errno if isinstance(error, OSError) else 0
    if number in (errno.EMFILE, errno.ENFILE):
        return IngestError("too many files are open; allow more (ulimit -n 1024), or give fewer --workers")
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return IngestError(
            "no other thread can be started; allow more processes (ulimit -u, or the container's own limit) or more "
            "memory (ulimit -v), or give fewer --workers"
        )
    no_module = isinstance(error, ImportError) and "failed to map segment" in str(error)
    no_error = isinstance(error, SystemError) and "without" in str(error)  # not even memory for an exception
    if number == errno.ENOMEM or no_module or no_error or isinstance(error, MemoryError):
        return IngestError("there is not enough memory; allow more (ulimit -v), or give fewer --workers")
    return None


def error_kind(error: IngestError) -> str:
    """The problem kind for an error that ended a session."""
    if isinstance(error, SessionTrouble):
        return error.kind
    if isinstance(error, SourceChanged):
        return "source-changed"
    return "refused" if isinstance(error, Refused) else "server-fault"


class Stopped(IngestError):
    """The user or the system stopped the run."""

    def __init__(self, signum: int) -> None:
        super().__init__("interrupted" if signum == signal.SIGINT else "terminated")
        self.exit_code = Exit.INTERRUPTED if signum == signal.SIGINT else Exit.TERMINATED


class LawBroken(IngestError):
    """The counts of a run contradict each other (docs/design.md, section 2)."""

    exit_code = Exit.BUG
