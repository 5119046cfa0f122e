"""What a run prints while it works (stderr) and at its end (stdout)."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

from xnat_ingest.core import EXIT_MEANING, Event, Exit, Result, count_of, printable
from xnat_ingest.core.secrets import harmless, redact, sayable
from xnat_ingest.report.lines import last_line, result_lines
from xnat_ingest.report.progress import ProgressDisplay, Stream, amount
from xnat_ingest.report.repeats import Repeats
from xnat_ingest.settings.options import OutputSettings

SIGN_OF_LIFE = 300.0  # seconds between two lines of a brief log
# Verdicts in result lines: after two blanks.
_COLOURS = {"VERIFIED": 32, "COUNTED": 36, "MISSING": 33, "FAILED": 31, "CONFLICT": 31, "UNVERIFIED": 33}
_VERDICT = re.compile(rf"(?<=  )(({'|'.join(_COLOURS)})\b)")
_LEVELS = {"warning": "warning", "error": "error", "exit_error": "error"}


class Reporter(Protocol):
    def emit(self, event: Event) -> None:
        """Shows an event. May be called from several threads."""
        ...

    def end(self, result: Result, report: str, note: str = "") -> None:
        """Shows the result.

        report: the path of the report file, "" when there is none.
        note: one more line.
        """
        ...


class Log:
    """A stream for log lines. When its reader is gone, the run goes on without output."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gone = False

    def isatty(self) -> bool:
        return self._stream.isatty()

    def write(self, text: str) -> int:
        return self._put(self._stream.write, text)

    def control(self, text: str) -> int:
        """Writes the program's own escape sequences to a terminal."""
        return self._put(getattr(self._stream, "control", self._stream.write), text)

    def _put(self, write: Callable[[str], object], text: str) -> int:
        if not self._gone:
            try:
                write(text)
                self._stream.flush()
            except (OSError, ValueError):
                self._gone = True
        return len(text)

    def flush(self) -> None:
        """Nothing to do: every write was flushed."""


def make_reporter(settings: OutputSettings) -> Reporter:
    log = Log(sys.stderr)
    if settings.log_format == "json":
        return JsonReporter(log, sys.stdout, settings.verbose)
    return TextReporter(log, sys.stdout, verbosity=-1 if settings.quiet else settings.verbose)


def make_brief_reporter() -> Reporter:
    """Whether to keep the log short: XNAT's container service keeps it in memory, shows it on a page and mails it."""
    return TextReporter(Log(sys.stderr), sys.stdout, brief=True)


class JsonReporter:
    """JSON lines on stderr, with time, level, event and the event's fields. The result on stdout is plain text.

    events.schema.json describes the lines.
    """

    def __init__(self, log: Stream, out: TextIO, verbosity: int = 0) -> None:
        self._log = log
        self._out = out
        self._silent = {"progress", "scanned"}  # one line per block would drown the log
        if verbosity < 2:
            self._silent.add("setting")
        self._repeats = Repeats(alike=False)
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        if event.name in self._silent:
            return
        with self._lock:
            if event.name != "warning" or self._repeats.is_new(str(event.fields["text"])):
                self._write(event)

    def _write(self, event: Event) -> None:
        line = {
            "schema": 1,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": _LEVELS.get(event.name, "info"),
            "event": event.name,
            **harmless(event.fields),
        }
        if "text" in line:
            line["text"] = sayable(str(line["text"]))
        print(json.dumps(line), file=self._log, flush=True)

    def end(self, result: Result, report: str, note: str = "") -> None:
        with self._lock:
            for text, times in self._repeats.counted():
                self._write(Event("warning", {"text": text, "times": times}))
        fields = {"exit_code": result.exit_code, "totals": dict(result.totals), "report": report, "note": note}
        self.emit(Event("summary", fields))
        if result.exit_code:
            self.emit(
                Event("exit_error", {"exit_code": result.exit_code, "text": EXIT_MEANING[Exit(result.exit_code)]})
            )
        print(last_line(result), file=self._out, flush=True)


class TextReporter:
    """Lines for people. On a terminal there is also one live line per running session.

    brief: only what needs attention, and a sign of life now and then.
    """

    def __init__(self, log: Stream, out: TextIO, verbosity: int = 0, *, brief: bool = False) -> None:
        self._out = out
        self._verbosity = verbosity
        self._brief = brief
        self._done = 0
        self._spoken = time.monotonic()
        self._repeats = Repeats(alike=True)
        self._both_on_screen = log.isatty() and out.isatty()
        self._board = ProgressDisplay(log, live=log.isatty() and os.environ.get("TERM") != "dumb")
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        with self._lock:
            if event.name == "warning" and not self._repeats.is_new(str(event.fields["text"])):
                return
            if event.name in ("warning", "error"):
                for line in str(event.fields["text"]).splitlines() or [""]:  # a bug's trace has several
                    self._board.say(f"{event.name:<8}{sayable(line)}")
            elif self._brief:
                self._mention(event.name, event.fields)
            elif self._verbosity >= 0:
                self._show(event.name, event.fields)

    def _mention(self, name: str, fields: Mapping[str, Any]) -> None:
        if name == "plan":
            self._board.say(_plan_text(fields))
        elif name == "session_done":
            self._done += 1
            if time.monotonic() - self._spoken > SIGN_OF_LIFE:
                self._spoken = time.monotonic()
                self._board.say(f"done    {self._done} sessions so far")

    def _show(self, name: str, fields: Mapping[str, Any]) -> None:
        board = self._board
        if name == "progress":
            board.advance(fields["session"], fields["instances"], fields["bytes"])
        elif name == "scanned":
            board.scanned(fields["files"], fields["seconds"])
        elif name == "session_started":
            board.begin(fields["session"], fields["instances"], fields["bytes"])
        elif name == "session_done":
            board.end(fields["session"])
            board.say(f"done    {fields['session']}  {_verdict_text(fields)}  {fields['seconds']:.1f} s")
        elif name == "plan":
            board.plan(len(fields["sessions"]), fields["bytes"])
            board.say(_plan_text(fields))
        elif name == "setting" and self._verbosity >= 2:
            board.say(f"setting {redact(fields['text'])}")
        elif name in ("scanning", "project", "closing", "reading_back") and self._verbosity >= 1:
            board.say(f"{name:<8}{'  '.join(f'{key} {value}' for key, value in fields.items())}")

    def end(self, result: Result, report: str, note: str = "") -> None:
        with self._lock:
            self._board.close()
            for text, times in self._repeats.counted():
                self._board.say(f"warning {sayable(text)} ({times} times in all)")
        paint = _painter(self._out)
        listed = self._verbosity >= 0 and not self._brief and self._both_on_screen and result.command != "plan"
        for line in result_lines(result, report, note, brief=self._brief, scans=self._verbosity >= 1, listed=listed):
            print(paint(line), file=self._out)
        self._out.flush()


def _painter(out: TextIO) -> Callable[[str], str]:
    """Colours the verdicts on a terminal with colours (https://no-color.org)."""
    if not out.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return lambda line: line
    return lambda line: _VERDICT.sub(lambda found: f"\x1b[{_COLOURS[found[2]]}m{found[2]}\x1b[0m", line)


def _verdict_text(fields: Mapping[str, Any]) -> str:
    seen = fields["verified"] + fields["counted"]
    there = f" ({fields['already_there']} already there)" if fields["already_there"] else ""
    return f"{fields['verdict']} {seen}/{fields['instances']}{there}  {amount(fields['bytes'])}"


def _plan_text(fields: Mapping[str, Any]) -> str:
    aside = fields["set_aside"]
    reasons = ", ".join(f"{number} {printable(reason)}" for reason, number in aside.items())
    return (
        f"plan    {count_of(len(fields['sessions']), 'session')}, {count_of(fields['instances'], 'instance')}, "
        f"{amount(fields['bytes'])}; "
        f"set aside {sum(aside.values())}{f' ({reasons})' if reasons else ''}"
    )
