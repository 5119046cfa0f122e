"""A plan written, reviewed and executed: what may be edited, what is refused, what has changed since."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import UID

from tests.conftest import Ingest, stored
from tests.contract.test_archives import PACKERS
from tests.dicom_trees import Series, make_session, uid
from tests.standin import StandIn
from xnat_ingest.cli import main
from xnat_ingest.settings.shards import Shard

Document = dict[str, Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("007/pre", "008/pre"):
        make_session(tmp_path / "tree" / name, [Series("T1_1"), Series("SR_2", 1, "test-SR.dcm")], name)
    (tmp_path / "tree" / "007" / "pre" / "notes.txt").write_text("no DICOM")
    return tmp_path / "tree"


@pytest.fixture
def planned(root: Path, tmp_path: Path, ingest: Ingest) -> Path:
    path = tmp_path / "plan.json"
    assert ingest("plan", root, "--json", str(path)).code == 0
    return path


def edit(path: Path, change: Callable[[Document], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def upload(ingest: Ingest, tmp_path: Path, planned: Path, *words: str) -> tuple[int, Document]:
    report = tmp_path / "executed.json"
    report.unlink(missing_ok=True)
    code = main(["upload", *words, "--plan", str(planned), "--report", str(report)])
    return code, json.loads(report.read_text()) if report.exists() else {}


@pytest.mark.wide
def test_a_plan_is_executed_as_it_is(planned: Path, tmp_path: Path, site: StandIn, ingest: Ingest) -> None:
    code, report = upload(ingest, tmp_path, planned)
    assert code == 0
    assert report["totals"]["verified"] == 8
    assert report["totals"]["files_seen"] == 9
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 4
    again, second = upload(ingest, tmp_path, planned)
    assert (again, second["totals"]["bytes_sent"]) == (0, 0)


def test_sessions_may_be_dropped_and_labels_changed(
    planned: Path, tmp_path: Path, site: StandIn, ingest: Ingest
) -> None:
    def change(document: Document) -> None:
        del document["sessions"][1]
        document["sessions"][0] |= {"subject": "S7", "label": "S7_MR1"}

    edit(planned, change)
    code, report = upload(ingest, tmp_path, planned)
    assert code == 0
    assert [s.label for s in site.sessions("DEMO")] == ["S7_MR1"]
    assert report["totals"]["files_seen"] == 5  # what was dropped by hand is no file of this plan


def test_headers_are_not_read_again(
    planned: Path, tmp_path: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xnat_ingest.inputs import dicom_headers

    monkeypatch.setattr(dicom_headers, "scan", lambda *_: pytest.fail("scanned"))
    assert upload(ingest, tmp_path, planned)[0] == 0


CHANGES: dict[str, Callable[[Path], object]] = {
    "size": lambda path: path.write_bytes(path.read_bytes() + b"\0\0"),
    "time": lambda path: os.utime(path, ns=(1, 1)),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_changed_since_is_refused(
    planned: Path, root: Path, tmp_path: Path, site: StandIn, ingest: Ingest, name: str
) -> None:
    changed = min((root / "007" / "pre" / "T1_1").iterdir())
    CHANGES[name](changed)
    code, report = upload(ingest, tmp_path, planned)
    assert code == 3
    (aside,) = (one for one in report["set_aside"] if one["reason"] == "source-changed")
    assert aside["path"] == changed.relative_to(root).as_posix()
    assert report["totals"]["verified"] == 7
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 3


def test_conflicts_are_found_again_after_editing(planned: Path, tmp_path: Path, site: StandIn, ingest: Ingest) -> None:
    edit(planned, lambda document: document["sessions"][1].update(label="007_PRE"))
    code, report = upload(ingest, tmp_path, planned)
    assert code == 3
    assert {s["verdict"] for s in report["sessions"]} == {"conflict"}
    assert not site.sessions("DEMO")


def sheet(path: Path, *rows: str) -> list[str]:
    path.write_text("\n".join(("folder,study_uid,subject,session", *rows)) + "\n")
    return ["--labels", str(path)]


# What is wrong with the labels -> the sheet's rows, or a template; and how many sessions it holds back.
WRONG_LABELS: dict[str, tuple[tuple[str, ...], int]] = {
    "label-changed": (("007/pre,,7,7_pre", "008/pre,,B,B_pre"), 1),
    "label-default": (("007/pre,,A,A_pre",), 1),
    "label-study": ((f"007/pre,{uid('008/pre')},A,A_pre", f"008/pre,{uid('007/pre')},B,B_pre"), 2),
    "ambiguous-label": ((), 2),
}


@pytest.mark.parametrize("kind", WRONG_LABELS)
def test_wrong_labels_stay_a_conflict_until_they_are_edited(
    root: Path, tmp_path: Path, site: StandIn, ingest: Ingest, kind: str
) -> None:
    rows, number = WRONG_LABELS[kind]
    words = sheet(tmp_path / "s.csv", *rows) if rows else ["--session-label", "{subject}_{SeriesNumber}"]
    path = tmp_path / "plan.json"
    assert ingest("plan", root, *words, "--json", str(path)).code == 3
    document = json.loads(path.read_text())
    held = [session for session in document["sessions"] if "label_conflicts" in session]
    assert len(held) == number
    code, report = upload(ingest, tmp_path, path)
    assert (code, {p["kind"] for p in report["problems"]}) == (3, {kind}), report["problems"]
    assert "label_conflicts" in report["problems"][0]["detail"]
    assert len(site.sessions("DEMO")) == 2 - number
    (tmp_path / "other.json").write_text(path.read_text())

    def rename(document: Document) -> None:
        for at, session in enumerate(document["sessions"]):
            session["label"] = f"E{at}" if "label_conflicts" in session else session["label"]

    def accept(document: Document) -> None:
        for session in document["sessions"]:
            session.pop("label_conflicts", None)

    edit(path, rename)
    assert upload(ingest, tmp_path, path, "--dry-run")[0] == 0
    edit(tmp_path / "other.json", accept)
    assert upload(ingest, tmp_path, tmp_path / "other.json")[0] == 0


# What two subjects of different shards have in common -> the label of the second one's session.
SHARED = {"split-study": "D_pre", "label-collision": "a_PRE"}


def two_shards(tmp_path: Path, kind: str) -> tuple[Path, list[str], list[str]]:
    """A tree of two subjects that are in conflict, its label sheet, and the shard of each."""
    studies = ["one", "one" if kind == "split-study" else "other"]
    for name, study in zip(("A", "D"), studies, strict=True):
        make_session(tmp_path / "two" / name / "pre", [Series("T1_1", tags={"PatientID": name})], study)
    for path in (tmp_path / "two" / "D" / "pre" / "T1_1").iterdir():
        with_other_uids(path)
    shards = [next(f"{k}/2" for k in (1, 2) if Shard(k, 2).takes(name)) for name in ("A", "D")]
    assert len(set(shards)) == 2
    return tmp_path / "two", sheet(tmp_path / "s.csv", "A/pre,,A,A_pre", f"D/pre,,D,{SHARED[kind]}"), shards


def with_other_uids(path: Path) -> None:
    """Gives an object a SOPInstanceUID and a SeriesInstanceUID of its own."""
    dataset = dcmread(path)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid(path.name, "again"))
    dataset.SeriesInstanceUID = uid("again")
    dataset.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("kind", SHARED)
def test_a_conflict_with_another_shard_stays_in_the_plan_file(
    tmp_path: Path, site: StandIn, ingest: Ingest, kind: str
) -> None:
    root, words, shards = two_shards(tmp_path, kind)
    for number, shard in enumerate(shards):
        path = tmp_path / f"plan-{number}.json"
        assert ingest("plan", root, *words, "--shard", shard, "--json", str(path)).code == 3
        code, report = upload(ingest, tmp_path, path)
        assert (code, [p["kind"] for p in report["problems"]]) == (3, [kind])
        assert "outside_conflicts" in report["problems"][0]["detail"]
    assert not site.sessions("DEMO")
    path = tmp_path / "plan-1.json"
    edit(path, lambda document: document["sessions"][0].update(label="D_other"))
    # Another label solves a collision of labels, not that two sessions have one study.
    code, _ = upload(ingest, tmp_path, path)
    assert code == (3 if kind == "split-study" else 0)
    edit(path, lambda document: document["sessions"][0].pop("outside_conflicts"))
    assert upload(ingest, tmp_path, path)[0] == 0
    assert [s.label for s in site.sessions("DEMO")] == ["D_other"]


@pytest.mark.parametrize("kind", SHARED)
def test_a_conflict_within_the_file_is_not_kept_in_it(tmp_path: Path, site: StandIn, ingest: Ingest, kind: str) -> None:
    root, words, _ = two_shards(tmp_path, kind)
    path = tmp_path / "plan.json"
    assert ingest("plan", root, *words, "--json", str(path)).code == 3
    assert upload(ingest, tmp_path, path)[0] == 3
    edit(path, lambda document: document["sessions"].pop())
    assert upload(ingest, tmp_path, path)[0] == 0


@pytest.mark.wide
def test_a_third_session_in_another_shard_is_not_forgotten(tmp_path: Path, site: StandIn, ingest: Ingest) -> None:
    root, _, shards = two_shards(tmp_path, "split-study")
    make_session(root / "A" / "post", [Series("T2_2", tags={"PatientID": "A"})], "one")
    words = sheet(tmp_path / "s.csv", "A/pre,,A,A_pre", "A/post,,A,A_post", "D/pre,,D,D_pre")
    path = tmp_path / "plan.json"
    assert ingest("plan", root, *words, "--shard", shards[0], "--json", str(path)).code == 3
    edit(path, lambda document: document["sessions"].pop())  # solves the conflict of the two that are in the file
    assert upload(ingest, tmp_path, path)[0] == 3
    assert not site.sessions("DEMO")


def test_a_line_of_the_sheet_that_fits_nothing_spoils_the_plan(
    root: Path, tmp_path: Path, site: StandIn, ingest: Ingest
) -> None:
    words = sheet(tmp_path / "s.csv", "007/pre,,A,A_pre", "008/pre,,B,B_pre", "009/pre,,C,C_pre")
    assert ingest("plan", root, *words, "--json", str(tmp_path / "plan.json")).code == 3
    code, report = upload(ingest, tmp_path, tmp_path / "plan.json")
    assert (code, [p["kind"] for p in report["problems"]]) == (3, ["label-unused"])
    assert len(site.sessions("DEMO")) == 2
    edit(tmp_path / "plan.json", lambda document: document.update(problems=[]))
    assert upload(ingest, tmp_path, tmp_path / "plan.json")[0] == 0


def test_a_subject_of_the_sheet_may_have_several_patient_ids(tmp_path: Path, site: StandIn, ingest: Ingest) -> None:
    root = tmp_path / "two"
    for name in ("007/pre", "008/pre"):
        make_session(root / name, [Series("T1_1", tags={"PatientID": name})], name)
    words = sheet(tmp_path / "s.csv", "007/pre,,A,A1", "008/pre,,A,A2")
    assert ingest("plan", root, *words, "--json", str(tmp_path / "plan.json")).code == 0
    assert upload(ingest, tmp_path, tmp_path / "plan.json")[0] == 0
    assert {session.subject for session in site.sessions("DEMO")} == {"A"}


@pytest.mark.wide
def test_editing_solves_a_conflict(root: Path, tmp_path: Path, site: StandIn, ingest: Ingest) -> None:
    make_session(root / "009" / "pre", [Series("T1_1")], "009/pre")
    path = tmp_path / "plan.json"
    ended = ingest("plan", root, "--json", str(path), "--session-label", "same")
    assert ended.code == 3
    document = json.loads(path.read_text())
    assert all(session["conflicts"] for session in document["sessions"])

    def change(document: Document) -> None:
        for number, session in enumerate(document["sessions"]):
            session["label"] = f"MR{number}"

    edit(path, change)
    assert upload(ingest, tmp_path, path)[0] == 0
    assert len(site.sessions("DEMO")) == 3


REFUSED: dict[str, tuple[Callable[[Document], object], str]] = {
    "label": (lambda d: d["sessions"][0].update(label="a b"), "label 'a b': a label must be 1 to 64"),
    "empty label": (lambda d: d["sessions"][0].update(label=""), "the label is empty"),
    "project": (lambda d: d["sessions"][0].update(project="a/b"), "cannot be a project's id"),
    "unknown key": (lambda d: d.update(sesions=[]), "sesions"),
    "lacking": (lambda d: d["sessions"][0]["instances"][0].pop("size"), "sessions[0].instances[0]"),
    "type": (lambda d: d["sessions"][0]["instances"][0].update(size="1"), "sessions[0].instances[0].size"),
    "uid": (lambda d: d["sessions"][0]["instances"][0].update(sop_uid="../x"), "sop_uid"),
    "twice": (lambda d: d["sessions"].append({**d["sessions"][0], "label": "other"}), "is listed twice"),
    "added": (lambda d: d.update(files_seen=3), "files must not be added"),
    "schema": (lambda d: d.update(schema=2), "schema"),
    "layout": (lambda d: d.update(layout="sideways"), "unknown layout 'sideways'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_plan_can_say(
    planned: Path, tmp_path: Path, site: StandIn, ingest: Ingest, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, sentence = REFUSED[name]
    edit(planned, change)
    code, report = upload(ingest, tmp_path, planned)
    assert (code, report) == (2, {})
    assert sentence in capsys.readouterr().err
    assert not site.requests


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--exclude", "T1"], "--exclude cannot be combined with --plan"),
        (["--layout", "headers"], "--layout cannot be combined"),
        (["-P", "MANUAL"], "-P MANUAL is not the project of DEMO/007/007_pre"),
    ],
)
def test_what_the_plan_has_settled(
    planned: Path, tmp_path: Path, ingest: Ingest, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    code, _ = upload(ingest, tmp_path, planned, *words)
    assert code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.wide
def test_root_may_have_moved(planned: Path, root: Path, tmp_path: Path, ingest: Ingest) -> None:
    root.rename(tmp_path / "elsewhere")
    assert upload(ingest, tmp_path, planned)[0] == 2
    assert upload(ingest, tmp_path, planned, str(tmp_path / "elsewhere"))[0] == 0


def test_without_root_and_plan(ingest: Ingest, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upload", "-P", "DEMO"]) == 2
    assert "no ROOT" in capsys.readouterr().err


@pytest.mark.wide
@pytest.mark.parametrize("name", ["study.zip", "study.tar", "study.tar.gz"])
def test_a_plan_of_an_archive(root: Path, tmp_path: Path, site: StandIn, ingest: Ingest, name: str) -> None:
    PACKERS[name](root, tmp_path / name)
    path = tmp_path / "plan.json"
    assert ingest("plan", tmp_path / name, "--json", str(path)).code == 0
    code, report = upload(ingest, tmp_path, path)
    assert (code, report["totals"]["verified"]) == (0, 8)


def test_a_dry_run_of_a_plan(planned: Path, tmp_path: Path, site: StandIn, ingest: Ingest) -> None:
    code, report = upload(ingest, tmp_path, planned, "--dry-run")
    assert code == 0
    assert report["command"] == "plan"
    assert not site.sessions("DEMO")


def test_a_plan_that_cannot_be_written(root: Path, tmp_path: Path, ingest: Ingest) -> None:
    ended = ingest("plan", root, "--json", str(tmp_path / "absent" / "plan.json"))
    assert ended.code == 2
    assert "cannot write" in ended.err
