"""stdout and stderr as the whole program writes to them: nothing that a terminal acts on, and no end without a word."""

from __future__ import annotations

import io
import sys
from typing import Any, TextIO, cast


class OutputGone(OSError):
    """Whoever read stdout has gone, or its disk is full."""


class Output:
    """A stream in front of another one. quiet: what cannot be written is dropped, as is right for a log."""

    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self._lost: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self.control(_plain(text))

    def control(self, text: str) -> int:
        """As it stands: for the lines that the program itself redraws."""
        try:
            return self._stream.write(text)
        except OSError as error:
            return self._gone(error)

    def flush(self) -> None:
        """Raises what a write before it did, too: argparse says nothing of a help text that could not be printed."""
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
    """Puts both streams of this process behind a guard, once."""
    # A stream that the caller closed is None: what goes there is meant for nobody.
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label must not end a run where ASCII is spoken
    if not isinstance(sys.stdout, Output):
        sys.stdout = cast("TextIO", Output(sys.stdout, quiet=False))
    if not isinstance(sys.stderr, Output):
        sys.stderr = cast("TextIO", Output(sys.stderr, quiet=True))


def warn(text: str) -> None:
    """A line on stderr, if there is something to say."""
    if text:
        print(f"warning {text}", file=sys.stderr)


def _plain(text: str) -> str:
    """Lines and tabs are ours; every other control, and every mark that turns or hides text, is written out."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
