"""The schemas of the report and of the log: real runs keep to them, and they name every event that there is.

Reports are held against their schema in every contract test (tests/conftest.py, hold_laws).
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended, Ingest
from tests.dicom_trees import Series, make_session
from tests.schemas import check_event, check_report, published
from xnat_ingest.cli import main
from xnat_ingest.core.errors import Exit

PACKAGE = Path(__file__).parent.parent.parent / "xnat_ingest"
# They would drown a log, and are never written.
SILENT = {"progress", "scanned"}


def emitted() -> set[str]:
    """The names of all events that the code makes."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Event":
                assert isinstance(node.args[0], ast.Constant), ast.unparse(node)
                found.add(str(node.args[0].value))
    return found


@pytest.mark.wide
def test_the_schema_names_every_event() -> None:
    schema = published("events")
    assert set(schema["properties"]["event"]["enum"]) == emitted() - SILENT
    assert {part["$ref"].rpartition("/")[2] for part in schema["oneOf"]} == emitted() - SILENT


def test_the_schemas_name_every_exit_code() -> None:
    codes = sorted(map(int, Exit))
    assert sorted(published("report")["properties"]["exit_code"]["enum"]) == codes
    events = published("events")["$defs"]
    assert sorted(events["summary"]["properties"]["exit_code"]["enum"]) == codes
    assert sorted(events["exit_error"]["properties"]["exit_code"]["enum"]) == codes[1:]


def lines(ended: Ended) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in ended.err.splitlines()]
    for line in found:
        check_event(line)
    return found


@pytest.mark.wide
def test_every_event_of_real_runs(ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload with a conflict, one that is refused, and a plan: each kind of line is there, as the schema says."""
    root = tmp_path / "study"
    make_session(root / "007" / "pre", (Series("T1_0001", 2),), "a")
    make_session(root / "008" / "pre", (Series("T1_0001", 2),), "b")
    make_session(root / "008" / "pre" / "again", (Series("T2_0002", 2),), "c")
    found = lines(ingest("upload", root, "--log-format", "json", "-vv", project="MANUAL"))
    found += lines(ingest("plan", root, "--log-format", "json"))
    monkeypatch.setenv("XNAT_PASS", "wrong")
    found += lines(ingest("upload", root, "--log-format", "json"))
    assert {line["event"] for line in found} == emitted() - SILENT


@pytest.mark.wide
@pytest.mark.parametrize("key", ["verdict", "exit_code", "totals", "sessions"])
def test_what_is_not_as_documented_is_found(ingest: Ingest, tmp_path: Path, key: str) -> None:
    make_session(tmp_path / "study" / "007" / "pre", (Series("T1_0001", 1),), "a")
    report = ingest("upload", tmp_path / "study").report
    check_report(report)
    report["sessions"][0]["verdict"] = "fine" if key == "verdict" else "verified"
    if key != "verdict":
        del report[key]
    with pytest.raises(AssertionError, match=re.escape(key)):
        check_report(report)
    with pytest.raises(AssertionError, match="no_such_key"):
        check_report(ingest("upload", tmp_path / "study").report | {"no_such_key": 1})


@pytest.mark.parametrize("words", [[], ["report"], ["events"]])
def test_the_program_prints_them(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["report", "schema", *words]) == 0
    assert json.loads(capsys.readouterr().out) == published(words[0] if words else "report")
