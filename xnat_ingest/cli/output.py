"""stdout and stderr of the whole program: no escape sequences reach a terminal, no line is a command to the runner of a
CI job, and no failure is silent."""

from __future__ import annotations

import io
import re
import sys
from typing import Any, TextIO, cast

# What a runner of CI jobs takes for a command: GitHub's at the start of a line, others' anywhere (##vso[, ##teamcity[).
_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#\w*\[)", re.MULTILINE)


class OutputGone(OSError):
    """The reader of stdout is gone, or the disk is full."""


class Output:
    """A stream in front of another one. quiet: drop what cannot be written, which is right for a log."""

    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self._lost: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self.control(_inert(_plain(text)))

    def control(self, text: str) -> int:
        """Writes text unchanged: for the lines that the program redraws."""
        try:
            return self._stream.write(text)
        except OSError as error:
            return self._gone(error)

    def flush(self) -> None:
        """Also raises the error of an earlier write: argparse ignores it when a help text cannot be printed."""
        lost, self._lost = self._lost, None
        try:
            self._stream.flush()
        except OSError as error:
            lost = error
        if lost is not None and not self._quiet:
            raise OutputGone(lost.errno, lost.strerror) from lost

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def _gone(self, error: OSError) -> int:
        if self._quiet:
            return 0
        self._lost = error
        raise OutputGone(error.errno, error.strerror) from error


def guard() -> None:
    """Puts a guard in front of both streams of this process, once."""
    # A stream that the caller closed is None. Its output is not wanted.
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label must not end a run on an ASCII-only stream
    if not isinstance(sys.stdout, Output):
        sys.stdout = cast("TextIO", Output(sys.stdout, quiet=False))
    if not isinstance(sys.stderr, Output):
        sys.stderr = cast("TextIO", Output(sys.stderr, quiet=True))


def warn(text: str) -> None:
    """Prints a warning on stderr, if there is one."""
    if text:
        print(f"warning {text}", file=sys.stderr)


def tell_runner(command: str) -> None:
    """Prints a command of our own to the runner of a CI job."""
    line = f"{_plain(command)}\n"
    if isinstance(sys.stdout, Output):
        sys.stdout.control(line)
    else:
        sys.stdout.write(line)


def _inert(text: str) -> str:
    """Names of files and texts of a server may look like commands. The escapes are valid in JSON, too."""
    if "::" not in text and "##" not in text:
        return text
    return _COMMAND.sub(lambda found: f"{found[1]}\\u003a" if found[1] is not None else "\\u0023", text)


def _plain(text: str) -> str:
    """Lines and tabs are ours; every other control, and every mark that turns or hides text, is written out."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
