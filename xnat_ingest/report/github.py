"""Output for GitHub Actions: annotations on stdout, and a table in the step's summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xnat_ingest.report.html import needs_attention

# GitHub shows ten annotations of each kind in a step.
SHOWN = 10
SHOWN_SESSIONS = 200


def workflow_commands(report: Mapping[str, Any]) -> Iterator[str]:
    """Workflow commands: one for each session that needs attention, and one for each problem without a session.

    Errors are shown only where the exit code is one.
    """
    level = "error" if report["exit_code"] else "notice"
    care = [one for one in report["sessions"] if needs_attention(one, report["command"])]
    for session in care[:SHOWN]:
        why = "; ".join(one["detail"] for one in session["problems"]) or f"{len(session['unproven'])} not proven"
        yield f"::{level} title={_property(session['label'])} {session['verdict']}::{_data(why)}"
    for problem in [one for one in report["problems"] if not one["sessions"]][:SHOWN]:
        yield f"::warning title={_property(problem['kind'])}::{_data(problem['detail'])}"


def write_summary(path: str, report: Mapping[str, Any]) -> None:
    """Adds the run's table to the step's summary. Raises OSError."""
    with Path(path).open("a", encoding="utf-8") as stream:
        stream.write("\n".join(_summary(report)) + "\n")


def _summary(report: Mapping[str, Any]) -> Iterator[str]:
    totals = report["totals"]
    yield f"### xnat-ingest {report['command']} {_cell(report['project'])}: exit {report['exit_code']}"
    yield ""
    yield (
        f"{totals['planned']} planned, {totals['verified']} verified, {totals['missing']} missing, "
        f"{totals['failed']} failed, {totals['set_aside']} set aside"
    )
    yield ""
    yield "| session | subject | verdict | instances | not proven |"
    yield "|---|---|---|---:|---:|"
    ordered = sorted(report["sessions"], key=lambda one: not needs_attention(one, report["command"]))
    for one in ordered[:SHOWN_SESSIONS]:
        cells = (one["label"], one["subject"], one["verdict"], str(one["instances"]), str(len(one["unproven"])))
        yield f"| {' | '.join(map(_cell, cells))} |"
    if len(ordered) > SHOWN_SESSIONS:
        yield f"\n... and {len(ordered) - SHOWN_SESSIONS} more sessions, all in the report"


def _data(text: str) -> str:
    """Escapes text like the runner's own toolkit, so that it cannot end its command or begin another one."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _cell(text: str) -> str:
    """A table cell of Markdown: one line, no markup, no HTML."""
    return "".join(f"&#{ord(sign)};" if sign in "\\`*[]<>|~&@" else sign for sign in " ".join(text.split()))
