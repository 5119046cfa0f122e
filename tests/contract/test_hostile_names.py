"""Texts that would act on a terminal, a browser, a CI system or a spreadsheet: in no output do they."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import Ingest
from tests.dicom_trees import IDENTITY, part10
from tests.nifti_trees import put
from tests.unit.test_foreign_report import places, replaced, whole
from xnat_ingest.cli import main
from xnat_ingest.deidentify.setup import write_crosswalk

HOSTILE = {
    "escape": "a\x1b[2Jb",
    "C1": "a\x9b31mb",
    "turned": "a\u202eb\u2066c",
    "hidden": "a\u200b\ufeff\u00adb",
    "lines": "a\nb\r\nc",
    "line separators": "a\u2028b\u2029c\x85d",
    "sum": "=1+1",
    "formulas": "+1-1",
    "minus": "-2+3",
    "at": "@SUM(1)",
    "divided": "a;=1+1\t@b,=c",
    "a no-break blank before it": "\u00a0=1+1",
    "an element": '"><img src=x onerror=alert(1)><script>alert(1)</script>',
    "an entity": "&lt;b&gt;&#27;&#x202e;",
    "CDATA": "]]><failure/>-->",
    "a workflow command": "::error::x",
    "one on a line of its own": "x\n::error title=a::b%0A::warning::c",
    "an escaped one": "%0A::error::x",
    "lone surrogates": "a\ud800b\udcffc",
    "no characters": "a\ufffe\uffffb",
    "Markdown": "a | `b` | [c](javascript:d)",
}
# A crosswalk's days are a number.
DAYS = "-3"
_FORMULA = re.compile(r"[=+\-@\t\r]")


class Elements(HTMLParser):
    """The elements of a page, with their attributes that could do something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.acts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.acts += [name for name, _ in attrs if name.startswith("on")]
        self.acts += [value for name, value in attrs if name in ("href", "src") and value and "script:" in value]


def check_signs(text: str) -> None:
    """No sign that a terminal acts on, or that hides or turns others."""
    assert not {sign for sign in text if not sign.isprintable()} - {"\n", "\r"}


def check_said(text: str) -> None:
    """What a CI system reads, too: no workflow command."""
    check_signs(text)
    assert not [line for line in text.splitlines() if line.lstrip().startswith(("::", "##["))]


def check_page(text: str) -> None:
    check_signs(text)
    page = Elements(text)
    assert not page.acts
    assert [tag for tag in page.found if tag in ("img", "script", "failure")] == ["script", "script"]


def check_cases(path: Path) -> None:
    """Well-formed for a parser that is not ours, and without elements of somebody else's."""
    text = path.read_text("utf-8")
    check_signs(text)
    root = ET.fromstring(text)
    assert {one.tag for one in root.iter()} <= {"testsuites", "testsuite", "testcase", "failure", "skipped"}
    assert all(len(list(one)) <= 1 for one in root.iter("testcase"))


def check_cells(text: str) -> None:
    """No cell is a formula, by whatever separator a spreadsheet divides the lines."""
    check_signs(text)
    for separator in ",;\t":
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            assert not [cell for cell in row if _FORMULA.match(cell.lstrip(" ")) and cell != DAYS]
    widths = {len(row) for row in csv.reader(io.StringIO(text, newline=""))}
    assert len(widths) == 1


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (text for pair in value.items() for text in texts(list(pair)))
    elif isinstance(value, list):
        yield from (text for one in value for text in texts(one))
    elif isinstance(value, str):
        yield value


def check_report(path: Path) -> None:
    text = path.read_text("utf-8")
    check_signs(text)
    assert all(one.isprintable() for one in texts(json.loads(text)))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", HOSTILE)
def test_reports_of_shards_that_somebody_else_wrote(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text in any place of one shard's report: refused, or shown as text in the joined one and what is made of it."""
    first, other, joined = (tmp_path / name for name in ("1.json", "2.json", "all.json"))
    page, cases = tmp_path / "page.html", tmp_path / "cases.xml"
    shown = 0
    for steps in places(str):
        first.write_text(json.dumps(replaced(steps, HOSTILE[name])))
        other.write_text(json.dumps({**whole(), "shard": "2/2"}))
        for output in (joined, page, cases):
            output.unlink(missing_ok=True)
        code = main(["report", "merge", str(first), str(other), "--report", str(joined)])
        assert code != 70
        if joined.exists():
            shown += 1
            check_report(joined)
            assert main(["report", "show", str(joined), "--html", str(page), "--junit", str(cases)]) == 0
            check_page(page.read_text("utf-8"))
            check_cases(cases)
        said = capsys.readouterr()
        check_said(said.out.replace(str(tmp_path), ""))
        check_said(said.err.replace(str(tmp_path), ""))
    assert shown > 20


def hostile_tree(root: Path, text: str) -> None:
    """The text as the name of a subject, a session, a series and a file, and as header values."""
    name = os.fsencode(text.replace("/", "").replace("\ud800", "")) or b"x"

    def put_as(number: int, parts: list[bytes], **values: bytes) -> None:
        own = {0x00080018: ("UI", b"1.2.3.%d" % number), 0x0020000D: ("UI", b"1.2.%d" % (number % 5))}
        header = {tag: ("LO", values.get("said", b"")) for tag in (0x0008103E, 0x00081030, 0x00100020, 0x00200010)}
        put(Path(os.fsdecode(b"/".join([os.fsencode(root), *parts]))), part10({**IDENTITY, **header, **own}))

    put_as(0, [name, b"pre", b"T1", b"IM1"])
    put_as(1, [b"s1", name, b"T1", b"IM1"])
    put_as(2, [b"s2", b"pre", name, b"IM1"])
    put_as(3, [b"s3", b"pre", b"T1", name])
    put_as(4, [b"s4", b"pre", b"T1", b"IM1"], said=text.encode("utf-8", "replace")[:60])
    put_as(9, [b"s5", b"pre", b"T1", b"IM1"])  # the study of s4
    put(Path(os.fsdecode(os.fsencode(root) + b"/s1/pre/x" + name + b".dcm")), b"no image")


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", HOSTILE)
def test_trees_with_such_names(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile_tree(tmp_path / "t", HOSTILE[name])
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    outputs = {flag: tmp_path / f"out-{flag}" for flag in ("report", "html", "junit", "csv", "labels-template", "json")}
    more = ["--session-label", "{StudyDescription}"] if name in ("escape", "an element") else []
    flags = [word for flag, path in outputs.items() for word in (f"--{flag}", str(path))]
    assert main(["plan", str(tmp_path / "t"), "-P", "X", *more, *flags]) in (0, 3)
    said = capsys.readouterr()
    commands = [line for line in said.out.splitlines() if line.startswith("::")]
    assert all(re.match(r"::(error|warning|notice) title=[^:,]*::", line) for line in commands)
    check_said("\n".join(line for line in said.out.splitlines() if line not in commands))
    check_said(said.err)
    check_report(outputs["report"])
    check_page(outputs["html"].read_text("utf-8"))
    check_cases(outputs["junit"])
    for flag in ("csv", "labels-template"):
        check_cells(outputs[flag].read_bytes().decode("utf-8"))
    plan = outputs["json"].read_text("utf-8")
    assert plan.isascii()
    check_signs(plan)
    summary = (tmp_path / "summary").read_text("utf-8")
    check_signs(summary)
    assert not re.search(r"[<`\[]", "\n".join(line for line in summary.splitlines() if line.startswith("| ")))
    joined = tmp_path / "all.json"
    assert main(["report", "merge", str(outputs["report"]), "--report", str(joined)]) in (0, 3)
    check_report(joined)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_crosswalk_of_such_patients(tmp_path: Path, name: str) -> None:
    text = HOSTILE[name]
    original = SimpleNamespace(patient_id=text, study_uid=text, study_date=text, days=int(DAYS))
    one = SimpleNamespace(project=text, subject=text, label=text, instances=[SimpleNamespace(study_uid="1.2")])
    deidentifier: Any = SimpleNamespace(originals={"1.2": {(text, int(DAYS)): original}})
    plan: Any = SimpleNamespace(sessions=[one])
    write_crosswalk(str(tmp_path / "c.csv"), deidentifier, plan)
    write_crosswalk(str(tmp_path / "c.csv"), deidentifier, plan)
    check_cells((tmp_path / "c.csv").read_bytes().decode("utf-8"))


@pytest.mark.parametrize("text", ["P\u202e7", "P\x9b7", "=P7"])
def test_a_patient_whose_id_is_such_a_text(
    ingest: Ingest, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the header into the crosswalk."""
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", "ab" * 32)
    header = {0x00080005: ("CS", b"ISO_IR 192"), 0x00100020: ("LO", text.encode())}
    put(tmp_path / "t/a/b/1", part10({**IDENTITY, **header}))
    ingest("upload", tmp_path / "t", "--deidentify", "basic", "--crosswalk", str(tmp_path / "c.csv"))
    made = (tmp_path / "c.csv").read_bytes().decode("utf-8")
    check_cells(made)
    shown = text if text.isprintable() else text.encode("unicode_escape").decode()
    assert shown in made
