"""A saved report that somebody else wrote or changed: it is refused with its place, or shown as plain text."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.unit.test_page import HOSTILE, Text, report, session
from xnat_ingest.cli import main
from xnat_ingest.core.errors import IngestError
from xnat_ingest.report.html import page
from xnat_ingest.report.junit import write_junit
from xnat_ingest.report.saved import merge, read_report

BIDI = "\u202e\x9b\ufffe\ud800"
ASIDE = {"path": "007/pre/x", "reason": "truncated", "detail": "why"}
PROBLEM = {"kind": "two-studies", "detail": "two studies; keep one", "sessions": ["007_pre"], "fix": "keep one"}


def whole() -> dict[str, Any]:
    """A report with a value in every place that is shown."""
    one = session(verdict="missing", unproven=2, problems=[PROBLEM], missing=["1.1"])
    one["scans"][0] |= {"study_uid": "1.2", "folder": "007/pre", "read_back": 1}
    made = report(one, session("b"), code=3, root="/data", shard="1/2")
    made["set_aside"] = [ASIDE]
    made["totals"] |= {"files_seen": 21, "set_aside": 1, "bytes_planned": 1, "requests": 1, "retries": 0}
    made["proof"] = {"level": "spot", "read_back": 1, "bytes": 1, "changed": {"PatientName": 1}}
    made["proof"]["skipped"] = [{"session": "007_pre", "instances": 1, "why": "why"}]
    return made


def places(*kinds: type) -> list[tuple[Any, ...]]:
    return list(_places(whole(), kinds, ()))


def _places(value: Any, kinds: tuple[type, ...], steps: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        yield from _places(inner, kinds, (*steps, step))
    if steps and type(value) in kinds:
        yield steps


def replaced(steps: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(whole())
    inner: Any = made
    for step in steps[:-1]:
        inner = inner[step]
    inner[steps[-1]] = value
    return made


def saved(folder: Path, document: object) -> str:
    (folder / "r.json").write_text(json.dumps(document))
    return str(folder / "r.json")


def test_a_report_of_ours_is_read(tmp_path: Path) -> None:
    assert read_report(saved(tmp_path, whole())) == whole()


@pytest.mark.parametrize("steps", places(str), ids=lambda steps: ".".join(map(str, steps)))
def test_every_text_is_refused_or_shown_as_text(tmp_path: Path, steps: tuple[Any, ...]) -> None:
    try:
        read = read_report(saved(tmp_path, replaced(steps, HOSTILE + BIDI)))
    except IngestError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert f"{steps[-1]}: " in said
        assert said.isprintable()
        return
    text = page(read, {})
    assert [tag for tag in Text(text).tags if tag in ("img", "script")] == ["script", "script"]
    assert all(sign.isprintable() or sign == "\n" for sign in text)
    write_junit(str(tmp_path / "j.xml"), read)
    ET.parse(tmp_path / "j.xml")
    assert all(sign.isprintable() or sign == "\n" for sign in (tmp_path / "j.xml").read_text())


@pytest.mark.parametrize("steps", places(str), ids=lambda steps: ".".join(map(str, steps)))
def test_the_page_escapes_what_no_schema_has_seen(steps: tuple[Any, ...]) -> None:
    if steps != ("command",):
        found = Text(page(replaced(steps, HOSTILE), {}))
        assert [tag for tag in found.tags if tag in ("img", "script")] == ["script", "script"]


@pytest.mark.parametrize("steps", places(int, float), ids=lambda steps: ".".join(map(str, steps)))
def test_a_number_that_is_none_is_refused(tmp_path: Path, steps: tuple[Any, ...]) -> None:
    for value in ("x", -1, 1.5e300, 10**400, None):
        with pytest.raises(IngestError, match="is not a report"):
            read_report(saved(tmp_path, replaced(steps, value)))


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_what_json_does_not_have_is_refused(tmp_path: Path, word: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps(whole() | {"more": "HERE"}).replace('"HERE"', word))
    with pytest.raises(IngestError, match="is not JSON that can be read"):
        read_report(str(tmp_path / "r.json"))


@pytest.mark.parametrize(
    ("document", "where"),
    [
        (replaced(("problems",), [{"kind": "k", "detail": "d"}]), r"problems\[0\]: 'sessions' is a required"),
        (replaced(("sessions", 0, "verdict"), "<b>"), r"sessions\[0\]\.verdict: '<b>' is not one of"),
        (
            replaced(("set_aside",), [ASIDE] * 9 + [ASIDE | {"reason": "<b>"}]),
            r"set_aside\[9\]\.reason: '<b>' does not",
        ),
        (replaced(("set_aside",), [ASIDE] * 9 + [ASIDE | {"path": 1}]), r"set_aside\[9\]\.path: 1 is not of type"),
        (replaced(("sessions", 0, "unproven", 1, "state"), "x"), r"sessions\[0\]\.unproven\[1\]\.state: 'x' is not"),
        (replaced(("shard",), "1/9999999"), "shard: '1/9999999' does not match"),
        ({key: value for key, value in whole().items() if key != "totals"}, "the whole file: 'totals' is a required"),
    ],
)
def test_the_place_is_named(tmp_path: Path, document: object, where: str) -> None:
    with pytest.raises(IngestError, match=rf"r\.json is not a report of xnat-ingest: {where}"):
        read_report(saved(tmp_path, document))


def test_a_scan_number_without_an_end_is_no_number() -> None:
    assert "9" * 100 in page(replaced(("sessions", 0, "scans", 0, "id"), "9" * 5000), {})


def test_what_was_read_can_be_merged(tmp_path: Path) -> None:
    read = read_report(saved(tmp_path, whole()))
    assert merge([("r.json", read)])["exit_code"] == 3


@pytest.mark.parametrize(
    "change",
    [
        {"exit_code": 0},
        {"exit_code": 0, "totals": {"missing": 0}},
        {"totals": {"files_seen": 22}},
        {"totals": {"planned": 21, "files_seen": 22}},
        {"totals": {"verified": 19}},
        {"set_aside": []},
        {"sessions": []},
    ],
)
def test_one_that_does_not_add_up_is_not_shown(tmp_path: Path, change: dict[str, Any]) -> None:
    document = whole()
    document |= {**change, "totals": document["totals"] | change.get("totals", {})}
    path = saved(tmp_path, document)
    assert main(["report", "show", path, "--html", str(tmp_path / "x.html")]) == 1
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize(
    ("verdict", "code"), [("verified", 0), ("skipped", 0), ("missing", 1), ("failed", 1), ("conflict", 1)]
)
def test_a_session_that_failed_does_not_end_with_0(tmp_path: Path, verdict: str, code: int) -> None:
    """Whatever the totals say."""
    document = replaced(("sessions", 0, "verdict"), verdict) | {"exit_code": 0}
    totals = document["totals"]
    totals |= {"verified": totals["planned"], "missing": 0, "failed": 0, "counted": 0, "unverified": 0}
    assert main(["report", "show", saved(tmp_path, document), "--html", str(tmp_path / "x.html")]) == code


def test_one_that_adds_up_is_shown(tmp_path: Path) -> None:
    assert main(["report", "show", saved(tmp_path, whole()), "--html", str(tmp_path / "x.html")]) == 0


def test_that_of_a_bug_in_the_counts_is_shown(tmp_path: Path) -> None:
    document = whole() | {"exit_code": 70}
    document["totals"]["verified"] += 1
    assert main(["report", "show", saved(tmp_path, document), "--html", str(tmp_path / "x.html")]) == 0
