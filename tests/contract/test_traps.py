"""One tree that holds every trap at once gives one report that a coordinator understands."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from tests.conftest import Ingest
from tests.dicom_trees import Series, make_session
from tests.standin import StandIn

ONE = (Series("T1_0001", 2),)


def make_traps(root: Path) -> Path:
    """The tree, and a label sheet for it. Returns the sheet."""
    tree = root / "study"

    def session(folder: str, seed: str = "", **tags: str) -> list[Path]:
        return make_session(tree / folder, (Series("T1_0001", 2, tags=tags),), seed or folder)

    session("001/pre")  # in order
    (tree / "001/latest").symlink_to("pre")  # the same session under a second name
    blank = session("002/pre")[0].parent
    (blank / "IM000009").write_bytes(bytes(4000))  # a file that a disk has lost
    (blank / "IM000010").write_bytes(b"")
    (blank / "notes.pdf").write_bytes(b"%PDF-1.4 somebody's notes")
    session("003/pre", PatientID="A-1")  # two people in one subject folder
    session("003/post", PatientID="B-2")
    session("Ren\u00e9/pre")  # one name, in two forms
    session("Rene\u0301/post", PatientID=str(_id(tree / "Ren\u00e9/pre")))
    session("M\u00fcller/pre")  # becomes M_ller, which is somebody else's on the server
    session("004/visit", "visit one", StudyDate="20240131")  # two studies in one visit's folder
    make_session(tree / "004/visit", (Series("T2_0002", 1, tags={"StudyDate": "20240131"}),), "visit two")
    session("005/pre")  # its label lost a zero in the sheet
    session("006/pre")  # the sheet does not name it
    for name in (".git", "@eaDir", "lost+found"):
        (tree / name / "x").mkdir(parents=True)
    (tree / "007").mkdir()
    (tree / "007/pre.zip").write_bytes(b"<html>Please log in</html>")  # a download that went wrong
    outside = make_session(root / "elsewhere", ONE, "elsewhere")
    (tree / "008").mkdir()
    (tree / "008/pre").symlink_to(outside[0].parent)  # a link out of ROOT in a session's place
    sheet = root / "labels.csv"
    rows = [f"{name},,{subject}," for name, subject in _named()]
    sheet.write_text("\n".join(("folder,study_uid,subject,session", *rows, "099/pre,,S99,", "")), "utf-8")
    return sheet


def _named() -> list[tuple[str, str]]:
    folders = ("001/pre", "002/pre", "003/pre", "003/post", "Ren\u00e9/pre", "Rene\u0301/post", "M\u00fcller/pre")
    return [*((name, "") for name in folders), ("004/visit", ""), ("005/pre", "5")]


def _id(folder: Path) -> str:
    return str(pydicom.dcmread(next(path for path in folder.rglob("IM*"))).PatientID)


@pytest.mark.wide
def test_every_trap_at_once(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """What is in order is sent; each trap is named, with what to do; nothing ends with 0."""
    make_session(tmp_path / "theirs/M_ller/old", ONE, "theirs")
    assert ingest("upload", tmp_path / "theirs").code == 0
    sheet = make_traps(tmp_path)
    ended = ingest("upload", tmp_path / "study", "--labels", str(sheet), "--strict")
    assert ended.code == 3
    verdicts = {session["label"]: session["verdict"] for session in ended.report["sessions"]}
    assert {label for label, word in verdicts.items() if word == "verified"} >= {"001_pre", "002_pre", "Ren__pre"}
    conflicts = {label for label, word in verdicts.items() if word == "conflict"}
    assert conflicts == {"003_pre", "003_post", "M_ller_pre", "004_visit", "005_pre", "006_pre"}
    kinds = {"mixed-patients", "subject-exists", "two-studies", "label-changed", "label-default", "label-unused"}
    assert {*kinds, "one-spelling", "strict"} <= set(ended.kinds())
    reasons = {aside["reason"] for aside in ended.report["set_aside"]}
    assert {"blank", "link", "system-folder", "unreadable", "not-dicom"} <= reasons
    assert not any(word in ended.out + ended.err for word in ("A-1", "B-2"))
    assert "links point to other sessions" in ended.out
