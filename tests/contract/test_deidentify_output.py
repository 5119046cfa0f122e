"""With --deidentify nothing that the program writes or says names the patient: every face of the report, both logs, the
progress. The crosswalk alone does, and it is for that."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Ended, Ingest
from tests.contract.table import files_of
from tests.contract.test_deidentify import SECRET, named_tree, tree
from tests.dicom_trees import Series, make_session
from tests.planted import ACCENTED, JAPANESE, PERSON, leaks
from tests.standin import Fault, StandIn
from xnat_ingest.cli import main

FACES = ("html", "junit", "csv")
LOGS = {"text": ("-vv",), "json": ("-vv", "--log-format", "json")}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", SECRET)


def faces(folder: Path) -> tuple[str, ...]:
    return tuple(word for name in FACES for word in (f"--{name}", str(folder / f"out.{name}")))


def written(folder: Path, ended: Ended) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of everything that a run has written or said."""
    yield "stdout", ended.out.encode()
    yield "stderr", ended.err.encode()
    for name in (*(f"out.{face}" for face in FACES), "report.json", "plan.json"):
        path = folder / name
        if path.exists():
            yield name, path.read_bytes()
    yield "report as text", json.dumps(ended.report, ensure_ascii=False).encode()


def says_nobody(name: str, data: bytes) -> None:
    assert leaks(data, PERSON) == [], name
    low = data.lower()
    words = (*ACCENTED.words[:2], "kaestnerwald", *JAPANESE.replace("^", "=").split("="))
    for word in words:
        for encoding in ("utf-8", "latin-1", "iso2022_jp"):
            assert word.lower().encode(encoding, "ignore") not in low or not word.encode(encoding, "ignore"), name
        assert json.dumps(word)[1:-1].lower().encode() not in low, name


@pytest.mark.wide
@pytest.mark.parametrize("log", LOGS)
def test_every_face_of_a_run(ingest: Ingest, site: StandIn, tmp_path: Path, log: str) -> None:
    """The crosswalk alone names the patient."""
    root, table = tree(tmp_path / "tree"), tmp_path / "crosswalk.csv"
    flags = ("--crosswalk", str(table), *faces(tmp_path))
    ended = ingest("upload", root, "--deidentify", "basic", *LOGS[log], *flags)
    assert ended.totals["verified"] > 30
    found = dict(written(tmp_path, ended))
    assert {"out.html", "out.junit", "out.csv", "report.json"} <= found.keys()
    for name, data in found.items():
        says_nobody(name, data)
        assert SECRET.encode() not in data, name
    assert b"data:image/png" not in found["out.html"]  # files are not blackened, only what is sent
    for name in ("out.html", "out.junit"):
        assert b"residual-identifier" in found[name]
    assert PERSON.patient_id in {row["patient_id"] for row in csv.DictReader(table.read_text().splitlines())}


@pytest.mark.wide
def test_every_face_of_a_run_whose_server_fails(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Errors tell most."""
    root = tree(tmp_path / "tree")
    site.faults.add(Fault("status", "POST /data/services/import", status=500, times=None))
    ended = ingest("upload", root, "--deidentify", "basic", "-vv", *faces(tmp_path), "--retry-budget", "1")
    assert ended.code not in (0, 70)
    for name, data in written(tmp_path, ended):
        says_nobody(name, data)


@pytest.mark.wide
@pytest.mark.parametrize("log", LOGS)
def test_every_face_with_redacted_paths(ingest: Ingest, site: StandIn, tmp_path: Path, log: str) -> None:
    """Folders and files are called after the patient, too."""
    root = named_tree(tmp_path / "tree", sheet := tmp_path / "labels.csv")
    flags = ("--deidentify", "basic", "--labels", str(sheet), "--redact-paths", *faces(tmp_path))
    ended = ingest("upload", root, *flags, *LOGS[log])
    assert ended.totals["verified"] == 4
    for name, data in written(tmp_path, ended):
        says_nobody(name, data)
    assert not any(leaks(str(path.relative_to(site.root)).encode(), PERSON) for path in files_of(site))


@pytest.mark.wide
def test_progress_on_a_terminal(ingest: Ingest, site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = named_tree(tmp_path / "tree", sheet := tmp_path / "labels.csv")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    ended = ingest("upload", root, "--deidentify", "basic", "--labels", str(sheet), "--redact-paths")
    assert ended.totals["verified"] == 4
    assert "\x1b[" in ended.err  # lines were drawn anew
    says_nobody("stderr", ended.err.encode())


@pytest.mark.wide
def test_the_plan_file_and_saved_reports(ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is written for later: a plan, and the page made of a report that was kept."""
    root = tree(tmp_path / "tree")
    planned = ingest("plan", root, "--deidentify", "basic", "--json", str(tmp_path / "plan.json"))
    for name, data in written(tmp_path, planned):
        says_nobody(name, data)
    assert main(["report", "show", str(tmp_path / "report.json"), "--html", str(tmp_path / "later.html")]) in (0, 3)
    said = capsys.readouterr()
    says_nobody("later.html", (tmp_path / "later.html").read_bytes() + (said.out + said.err).encode())


@pytest.mark.parametrize("line", ["Nobodyhere/pre,,N,N_pre", "{folder},,S,S_again"])
def test_names_that_stand_in_the_label_sheet_alone(ingest: Ingest, tmp_path: Path, line: str) -> None:
    """A line without a session, and one that is there twice."""
    make_session(tmp_path / "t/Quastenhof/pre", [Series("T1_1", 1)], "study")
    sheet = tmp_path / "labels.csv"
    lines = ["folder,study_uid,subject,session", "Quastenhof/pre,,S,S_pre", line.format(folder="Quastenhof/pre")]
    sheet.write_text("\n".join(lines))
    ended = ingest("plan", tmp_path / "t", "--labels", str(sheet), "--redact-paths")
    assert ended.code in (2, 3)
    said = ended.out + ended.err + json.dumps(ended.report)
    assert not {"Nobodyhere", "Quastenhof"} & set(re.findall(r"\w+", said))
