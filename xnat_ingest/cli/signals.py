"""How a command is ended from outside: by a signal, or because its output is no longer read."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from xnat_ingest.core import Exit, Stopped

if TYPE_CHECKING:
    from xnat_ingest.core.stop import Stop


def catch_signals(stop: Stop) -> None:
    """The first signal ends the run with its report. A second one ends it at once, without.

    If the report is there by then, its code is the process's.
    """

    def handle(signum: int, _frame: FrameType | None) -> None:
        if stop.signum:
            code = stop.told()
            if code is not None:
                _say(f"a second signal: ended at once. The result was told before: exit {code}")
                os._exit(code)
            _say("a second signal: ended at once, without a report. The same command goes on where this one ended")
            os._exit(int(Stopped(signum).exit_code))
        stop.signum = signum
        if os.isatty(2):
            _say("ending in order, with a report; once more ends it at once, without one")

    for signum in ending_signals():
        signal.signal(signum, handle)


def _say(line: str) -> None:
    """A signal may come while Python itself writes to stderr, so this does not go through it."""
    with suppress(OSError):
        os.write(2, f"xnat-ingest: {line}\n".encode())


def ending_signals() -> list[int]:
    """The signals that end a run. Closing the terminal has the effect of SIGTERM, unless nohup is used."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [signum for signum in known if signal.getsignal(signum) is not signal.SIG_IGN]


def output_gone(error: OSError) -> int:
    """Handles an output whose reader is gone, or whose disk is full: nothing more is written to it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        sys.stdout.flush()
    print(f"xnat-ingest: the result could not be printed: {error.strerror}", file=sys.stderr)
    return int(Exit.FAILED)
