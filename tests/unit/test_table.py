"""Sessions as a table for a terminal and as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from xnat_ingest.core.model import Instance, Outcome, Session, SetAside, Verdict
from xnat_ingest.report.reporters import _painter
from xnat_ingest.report.table import aside_lines, plan_lines, write_csv


def instance(number: int, series: str = "1") -> Instance:
    return Instance(f"f{number}", 1000, 0, "c", f"u{number}", "s", series, series, str(number), "MR", "T1", "t", 9, {})


def outcome(label: str = "007_pre", folder: str = "007/pre", project: str = "P") -> Outcome:
    members = tuple(instance(n, str(1 + n % 2)) for n in range(4))
    verdict = Verdict("unverified", unverified={i.sop_uid: "only planned" for i in members})
    return Outcome(Session(project, "007", label, "s", folder, members), verdict)


def test_one_line_a_session() -> None:
    assert list(plan_lines([outcome(), outcome("007_followup")], 80, scans=False)) == [
        "SUBJECT  SESSION       SCANS  INSTANCES    SIZE  FOLDER",
        "007      007_pre           2          4  4.0 kB  007/pre",
        "007      007_followup      2          4  4.0 kB  007/pre",
    ]


def test_one_line_a_scan() -> None:
    lines = list(plan_lines([outcome()], 80, scans=True))
    assert lines[2:] == ["    scan 1     MR         2 instances  T1", "    scan 2     MR         2 instances  T1"]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_folder_gives_way(width: int) -> None:
    """Labels are never cut: they are what somebody looks for."""
    lines = list(plan_lines([outcome("a" * 12, folder="x" * 200 + "/end")], width, scans=False))
    assert all(len(line) < width for line in lines)
    assert lines[1].endswith("/end")
    assert "  ...x" in lines[1]
    long = list(plan_lines([outcome("a" * 64, folder="x" * 200 + "/end")], width, scans=False))
    assert "a" * 64 in long[1]


def test_conflicts_and_what_is_there_show() -> None:
    found = outcome()
    there = replace(found, verdict=replace(found.verdict, already_there=3))
    conflict = replace(found, verdict=replace(found.verdict, word="conflict"))
    lines = list(plan_lines([there, conflict], 80, scans=False))
    assert lines[1].endswith("007/pre  3 already there")
    assert lines[2].endswith("007/pre  CONFLICT")


def test_the_project_shows_where_there_are_several() -> None:
    lines = list(plan_lines([outcome(), outcome(project="Q")], 80, scans=False))
    assert [line.split()[0] for line in lines] == ["SUBJECT", "P/007", "Q/007"]


def test_nothing_is_no_table() -> None:
    assert list(plan_lines([], 80, scans=True)) == []


def test_files_set_aside_are_counted_with_an_example() -> None:
    asides = [SetAside("a/x\n", "not-dicom"), SetAside("b", "excluded:AAHEAD"), SetAside("c", "excluded:AAHEAD")]
    assert list(aside_lines(asides, 80)) == [
        "        2  excluded:AAHEAD  such as b",
        "        1  not-dicom  such as a/x\\n",
    ]
    assert all(len(line) < 40 for line in aside_lines([SetAside("x" * 100, "not-dicom")], 40))


def test_csv(tmp_path: Path) -> None:
    """No cell is a formula or loses its zeros."""
    path = tmp_path / "t.csv"
    write_csv(str(path), [outcome("=1+1", folder="@x"), outcome()])
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert rows[0]["session"] == "'=1+1"
    assert rows[0]["folder"] == "'@x"
    assert rows[1] == {
        "project": "P",
        "subject": "'007",
        "session": "007_pre",
        "folder": "007/pre",
        "verdict": "unverified",
        "scans": "2",
        "instances": "4",
        "proven": "0",
        "bytes": "4000",
        "uri": "",
    }


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_on_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    line = "P/007/007_pre  VERIFIED 4/4"
    assert _painter(Terminal())(line) == "P/007/007_pre  \x1b[32mVERIFIED\x1b[0m 4/4"
    assert _painter(Terminal())("P/FAILED/x") == "P/FAILED/x"
    assert _painter(io.StringIO())(line) == line
    monkeypatch.setenv("NO_COLOR", "1")
    assert _painter(Terminal())(line) == line
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert _painter(Terminal())(line) == line
