"""How a command ends: by a signal, and with a result that has to be written and told."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

from xnat_ingest.core.errors import Exit, IngestError, Stopped

if TYPE_CHECKING:
    from xnat_ingest.core.model import Result
    from xnat_ingest.core.stop import Stop
    from xnat_ingest.inputs import Source
    from xnat_ingest.report import Reporter
    from xnat_ingest.settings.options import Settings

# Sessions whose series are drawn on the page: a contact sheet of thousands helps nobody.
MOST_SHEETS = 100


def catch_signals(stop: Stop) -> None:
    """The first signal ends the run in order, with its report; a second one ends it at once."""

    def handle(signum: int, _frame: FrameType | None) -> None:
        if stop.signum:
            os._exit(int(Stopped(signum).exit_code))
        stop.signum = signum

    for signum in ending_signals():
        signal.signal(signum, handle)


def ending_signals() -> list[int]:
    """Those that end a run in order; a terminal that is closed means what SIGTERM means, unless nohup was said."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [signum for signum in known if signal.getsignal(signum) is not signal.SIG_IGN]


def output_gone(error: OSError) -> int:
    """When whoever read our output has gone, or its disk is full: nothing more is said there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        sys.stdout.flush()
    print(f"xnat-ingest: the result could not be printed: {error.strerror}", file=sys.stderr)
    return int(Exit.FAILED)


def end_process(
    result: Result,
    settings: Settings,
    reporter: Reporter,
    mode: int,
    environ: Mapping[str, str],
    source: Source | None = None,
) -> int:
    """Writes the report in its forms and tells the result.

    mode: the files' permissions.
    source: where the pictures of the page are drawn from; without one there are none.
    Returns the exit code.
    """
    written = []
    for path, write in _files(result, settings, mode, source):
        try:
            write()
            written.append(path)
        except IngestError as error:
            # The last line tells the code that the process ends with, and no file that is not there.
            print(f"xnat-ingest: {error}", file=sys.stderr)
            result = replace(result, exit_code=result.exit_code or int(Exit.FAILED))
    try:
        if environ.get("GITHUB_ACTIONS") == "true":
            _tell_github(result, environ)
        reporter.end(result, ", ".join(written))
    except OSError as error:
        return max(result.exit_code, output_gone(error))
    return result.exit_code


def _files(
    result: Result, settings: Settings, mode: int, source: Source | None
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each file that was asked for, and how it is written."""
    from xnat_ingest import report

    if settings.report:
        yield settings.report, lambda: _write_report(settings.report, result, mode)
    if settings.html:
        from xnat_ingest.report.html import write_html

        pictures = _pictures(result, source) if source and not settings.no_thumbnails else {}
        yield settings.html, lambda: write_html(settings.html, report.document(result), pictures, mode=mode)
    if settings.junit:
        from xnat_ingest.report.junit import write_junit

        yield settings.junit, lambda: write_junit(settings.junit, report.document(result), mode=mode)
    if settings.csv:
        from xnat_ingest.report.table import write_csv

        yield settings.csv, lambda: write_csv(settings.csv, result.outcomes, mode=mode)


def _write_report(path: str, result: Result, mode: int) -> None:
    """A run that did worse than the one whose report is there leaves that one beside its own. Raises IngestError."""
    from xnat_ingest import report
    from xnat_ingest.core.output_file import keep_better

    try:
        kept = keep_better(path, result.exit_code)
    except OSError as error:
        raise IngestError(f"the earlier report could not be kept beside {path}: {error.strerror}") from error
    if kept:
        print(f"xnat-ingest: the report of an earlier run that ended better is kept as {kept}", file=sys.stderr)
    report.write(path, result, mode=mode)


def _pictures(result: Result, source: Source) -> Mapping[str, str]:
    from xnat_ingest.inputs.thumbnail import thumbnails

    sessions = result.plan.sessions[:MOST_SHEETS]
    return thumbnails(source, (instance for session in sessions for instance in session.instances))


def _tell_github(result: Result, environ: Mapping[str, str]) -> None:
    """Annotations and the step's summary. Raises OSError."""
    from xnat_ingest import report
    from xnat_ingest.report.github import workflow_commands, write_summary

    document = report.document(result)
    for line in workflow_commands(document):
        print(line)
    if path := environ.get("GITHUB_STEP_SUMMARY"):
        write_summary(path, document)
