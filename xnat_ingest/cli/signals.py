"""How a command ends: by a signal, and with a result that has to be written and told."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

from xnat_ingest.core.errors import Exit, IngestError

if TYPE_CHECKING:
    from xnat_ingest.core.model import Result
    from xnat_ingest.core.stop import Stop
    from xnat_ingest.report import Face
    from xnat_ingest.settings.options import Settings


def catch_signals(stop: Stop) -> None:
    """The first signal ends the run in order, with its report; a second one ends it at once."""

    def handle(signum: int, _frame: FrameType | None) -> None:
        if stop.signum:
            os._exit(128 + signum)
        stop.signum = signum

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, handle)


def unheard(error: OSError) -> int:
    """When whoever read our output has gone, or its disk is full: nothing more is said there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(f"xnat-ingest: the result could not be printed: {error.strerror}", file=sys.stderr)
    return int(Exit.FAILED)


def finish(result: Result, settings: Settings, face: Face, mode: int) -> int:
    """Writes the report file and tells the result. mode: the report's permissions. Returns the exit code."""
    from xnat_ingest import report

    written = ""
    try:
        if settings.report:
            report.write(settings.report, result, mode=mode)
            written = settings.report
    except IngestError as error:
        # The last line tells the code that the process ends with, and no report that is not there.
        print(f"xnat-ingest: {error}", file=sys.stderr)
        result = replace(result, exit_code=result.exit_code or int(Exit.FAILED))
    try:
        face.end(result, written)
    except OSError as error:
        return max(result.exit_code, unheard(error))
    return result.exit_code
