"""Very many sessions in one conflict, or studies in one folder: time and report grow with their number alone."""

from __future__ import annotations

import json
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_page import report, session
from tests.unit.test_plan import dicom
from tests.unit.test_shards import shard as shard_of
from xnat_ingest.cli import main
from xnat_ingest.core.model import Instance, Plan, Problem, Session, SetAside
from xnat_ingest.planning.redaction import RedactedSource, redacted
from xnat_ingest.planning.sessions import session_conflicts
from xnat_ingest.report.html import page
from xnat_ingest.report.saved import merge

MANY = 600


def tree(root: Path, **files: bytes) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


OTHER = "folder,subject,session\nz/x,A,A1\n"
ONE_LABEL = {f"s{n}/x/1": dicom(str(n), PatientID="anonymous", StudyDate="20240131") for n in range(MANY)}
ONE_SUBJECT = {f"s/x{n}/1": dicom(str(n), PatientID=f"p{n}") for n in range(MANY)}
ONE_FOLDER = {f"s/x/{n}": dicom(str(n), PatientID=f"p{n}") for n in range(MANY)}
TREES: dict[str, tuple[Mapping[str, bytes], tuple[str, ...], int]] = {
    "one label": (ONE_LABEL, ("--layout", "headers"), MANY),
    "one subject": (ONE_SUBJECT, (), MANY),
    "one folder": (ONE_FOLDER, (), 1),
    "one folder, split": (ONE_FOLDER, ("--split-studies",), MANY),
    "no line in the sheet": (ONE_LABEL, ("--labels", "SHEET"), MANY),
}


@pytest.mark.parametrize("flags", [(), ("--redact-paths",)])
@pytest.mark.parametrize("name", TREES)
def test_a_conflict_of_very_many_sessions(tmp_path: Path, name: str, flags: tuple[str, ...]) -> None:
    """Each session named all of them, so that a report of 20,000 had gigabytes."""
    files, more, sessions = TREES[name]
    (tmp_path / "sheet.csv").write_text(OTHER)
    more = tuple(str(tmp_path / "sheet.csv") if word == "SHEET" else word for word in more)
    outputs = {flag: tmp_path / flag.strip("-") for flag in ("--report", "--html", "--junit", "--csv")}
    named = [str(word) for pair in outputs.items() for word in pair]
    root = tree(tmp_path / "tree", **files)
    assert main(["plan", str(root), "-P", "X", *more, *flags, *named]) == 3
    made = json.loads(outputs["--report"].read_text())
    assert len(made["sessions"]) == sessions
    for one in made["sessions"]:
        for problem in one["problems"]:
            assert one["label"] in problem["sessions"]
            assert len(problem["sessions"]) <= 10
            assert len(problem["detail"]) < 2000
    whole = max((problem["sessions"] for problem in made["problems"]), key=len)
    assert len(set(whole)) == (1 if name in ("one folder", "one label") else MANY)
    assert all(len(problem["detail"]) < 2000 for problem in made["problems"])
    for path in outputs.values():
        assert path.stat().st_size < 5_000 * MANY
    ET.parse(outputs["--junit"])


def instance(number: int, study: str, path: str) -> Instance:
    texts = ("1.2", f"1.3.{number}", study, f"{study}.1", "1", str(number), "MR", "", "1.2.840.10008.1.2.1")
    return Instance(path, 100, 0, *texts, 0, {})


def test_very_many_studies_in_one_folder_take_little_time() -> None:
    instances = tuple(instance(n, f"1.4.{n}", f"s/x/{n}") for n in range(8000))
    before = time.process_time()
    (problem,) = session_conflicts("s/x", "s_x", instances)
    assert time.process_time() - before < 2
    assert "contains 8000 studies (1.4.0 in s/x (1 file)" in problem.detail
    assert "; and 7990 more)" in problem.detail


class _NoSource:
    """A source whose files nobody opens."""


def test_made_up_names_in_very_many_sentences_take_little_time() -> None:
    """Each of the names was looked for in each of the sentences."""
    number = 10_000
    paths = [f"sub-{n}/ses-01/Max Müller {n}" for n in range(number + 1)]
    aside = tuple(SetAside(paths[n], "duplicate", f"same SOPInstanceUID as {paths[n + 1]}") for n in range(number))
    plan = Plan("P", (Session("P", "a", "b", "1.2", "sub-0/ses-01", ()),), aside, (Problem("x", "in sub-7/ses-01"),), 0)
    before = time.process_time()
    made = redacted(plan, RedactedSource(_NoSource()))  # type: ignore[arg-type]
    assert time.process_time() - before < 5
    told = " ".join([one.detail for one in made.set_aside] + [one.detail for one in made.problems])
    assert not any(word in told for word in ("sub-7/", "sub-77/", "ses-01", "Müller 5"))
    assert len({one.detail for one in made.set_aside}) == number


def test_a_page_of_very_many_problems_takes_little_time() -> None:
    number = 10_000
    problems = [{"kind": "two-studies", "detail": f"folder {n}", "sessions": [f"s{n}"]} for n in range(2 * number)]
    studies = [{**session()["scans"][0], "study_uid": f"1.{n}"} for n in range(number)]
    sessions = [session(f"s{n}", "conflict", 1) for n in range(number)]
    sessions[0]["scans"] = studies
    before = time.process_time()
    page(report(*sessions, problems=problems, code=3), {})
    assert time.process_time() - before < 6


def test_a_page_of_scans_without_a_study() -> None:
    """A report of others may have some: the key is none that must be there."""
    one = session()
    one["scans"] = [one["scans"][0], *({**one["scans"][0], "study_uid": uid} for uid in ("1.2", "1.3"))]
    assert "T1" in page(report(one), {})


def test_shards_with_one_label_for_very_many_sessions() -> None:
    def shard(number: int) -> tuple[str, Any]:
        return shard_of(number, *(session("one", study_uid=f"1.{number}.{n}") for n in range(MANY)), set_aside=[])

    (problem,) = merge([shard(1), shard(2)])["problems"]
    assert problem["detail"].endswith(f" and {2 * MANY - 10} more")
