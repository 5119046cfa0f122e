"""Plan files that lead astray, and files for review that must neither tell of patients nor replace somebody's work."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended, Ingest
from tests.contract.test_planfile import Document, edit, upload
from tests.dicom_trees import Series, make_session
from tests.standin import StandIn
from xnat_ingest.cli import main

NAMES = Series("T1_1", 2, tags={"PatientName": "Doe^Janet"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("007/pre", "008/pre"):
        make_session(tmp_path / "tree" / name, [NAMES, Series("T2_2", 2)], name)
    return tmp_path / "tree"


@pytest.fixture
def planned(root: Path, tmp_path: Path, ingest: Ingest) -> Path:
    path = tmp_path / "plan.json"
    assert ingest("plan", root, "--json", str(path)).code == 0
    return path


def first(name: str, value: object) -> Callable[[Document], object]:
    """Changes a value of the first instance."""
    return lambda document: document["sessions"][0]["instances"][0].update({name: value})


def twice(document: Document) -> None:
    one, other, *_ = document["sessions"][0]["instances"]
    other["sop_uid"] = one["sop_uid"]


REFUSED: dict[str, tuple[Callable[[Document], object], str]] = {
    "upwards": (first("path", "../secret.bin"), "'../secret.bin' is not a path below ROOT"),
    "upwards inside": (first("path", "007/../../secret.bin"), "is not a path below ROOT"),
    "absolute": (first("path", "/etc/passwd"), "'/etc/passwd' is not a path below ROOT"),
    "another spelling": (first("path", "007/./pre/T1_1/IM000002"), "is not a path below ROOT"),
    "path with NUL": (first("path", "a\0b"), "is not a path below ROOT"),
    "path with half a character": (first("path", "\ud800"), "sessions[0].instances[0].path: "),
    "series with half a character": (first("series_number", "\udc80"), "sessions[0].instances[0].series_number: "),
    "root with NUL": (lambda d: d.update(root="/a\0b"), "root: not a valid folder name"),
    "root with half a character": (lambda d: d.update(root="\ud800"), "root: "),
    "one instance twice": (twice, "two files have the SOPInstanceUID"),
    "another study": (lambda d: d["sessions"][0].update(study_uid="9.9"), "study_uid 9.9 is not that of its instances"),
    "project .": (lambda d: d["sessions"][0].update(project="."), "cannot be a project's id"),
    "project ..": (lambda d: d["sessions"][0].update(project=".."), "cannot be a project's id"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_leads_astray(
    planned: Path, tmp_path: Path, site: StandIn, ingest: Ingest, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A sentence that names the place, before the server is asked anything."""
    change, sentence = REFUSED[name]
    edit(planned, change)
    (tmp_path / "secret.bin").write_bytes(b"secret")
    assert upload(ingest, tmp_path, planned) == (2, {})
    assert sentence in capsys.readouterr().err
    assert not site.requests


def test_a_link_leads_no_plan_out_of_root(
    planned: Path, root: Path, tmp_path: Path, site: StandIn, ingest: Ingest
) -> None:
    """A scan does not follow it, so a plan that names what lies behind it was made up."""
    inside = min((root / "007/pre/T1_1").iterdir())
    (tmp_path / "outside").mkdir()
    moved = inside.rename(tmp_path / "outside" / "IM1")
    (root / "007/pre/T1_1/link").symlink_to(tmp_path / "outside")
    edit(planned, first("path", f"007/pre/T1_1/link/{moved.name}"))
    code, report = upload(ingest, tmp_path, planned)
    assert (code, report["totals"]["verified"]) == (3, 7)
    assert [aside["reason"] for aside in report["set_aside"]] == ["source-changed"]


def test_a_whole_number_may_be_written_with_a_point(
    planned: Path, tmp_path: Path, site: StandIn, ingest: Ingest
) -> None:
    def change(document: Document) -> None:
        document["files_seen"] = float(document["files_seen"])
        for instance in document["sessions"][0]["instances"]:
            instance["size"] = float(instance["size"])

    edit(planned, change)
    code, report = upload(ingest, tmp_path, planned)
    assert (code, report["totals"]["verified"]) == (0, 8)


def test_a_duplicate_put_back_is_refused(
    root: Path, tmp_path: Path, site: StandIn, ingest: Ingest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two files that are one instance would be sent over each other."""
    source = min((root / "007/pre/T1_1").iterdir())
    shutil.copy(source, root / "007/pre/copy")
    path = tmp_path / "plan.json"
    assert ingest("plan", root, "--json", str(path)).code == 0

    def change(document: Document) -> None:
        aside = document["set_aside"].pop()
        again = dict(document["sessions"][0]["instances"][0])
        document["sessions"][0]["instances"].append(
            again | {"path": aside["path"], "mtime_ns": (root / aside["path"]).stat().st_mtime_ns}
        )

    edit(path, change)
    assert upload(ingest, tmp_path, path)[0] == 2
    assert "two files have the SOPInstanceUID" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["label", "studies"])
def test_conflicts_of_a_plan_file_advise_to_edit_it(
    planned: Path, tmp_path: Path, site: StandIn, ingest: Ingest, change: str
) -> None:
    """No flag has a say there."""

    def merge(document: Document) -> None:
        one, other = document["sessions"]
        if change == "label":
            other["label"] = one["label"]
        else:
            one["instances"] += other.pop("instances")
            document["sessions"].pop()

    edit(planned, merge)
    code, report = upload(ingest, tmp_path, planned)
    assert code == 3
    details = [problem["detail"] for problem in report["problems"]]
    assert details
    assert all("edit the plan file" in text and "--" not in text for text in details)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("word", ["exclude", "include"])
@pytest.mark.parametrize("by", ["config", "environment"])
def test_rules_that_come_too_late_are_told(
    planned: Path,
    tmp_path: Path,
    ingest: Ingest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    word: str,
    by: str,
) -> None:
    flags = []
    if by == "config":
        (tmp_path / "rules.json").write_text(json.dumps({word: ["T2"]}))
        flags = ["--config", str(tmp_path / "rules.json")]
    else:
        monkeypatch.setenv(f"XNAT_INGEST_{word.upper()}", "T2")
    code, report = upload(ingest, tmp_path, planned, *flags)
    assert (code, report["totals"]["planned"]) == (0, 8)
    said = capsys.readouterr().err
    assert f"{word} from {by}" in said
    assert "is ignored with --plan" in said
    assert upload(ingest, tmp_path, planned, *flags, f"--{word}", "T2")[0] == 2


@pytest.mark.wide
def test_no_rule_no_warning(planned: Path, tmp_path: Path, ingest: Ingest, capsys: pytest.CaptureFixture[str]) -> None:
    assert upload(ingest, tmp_path, planned)[0] == 0
    assert "is ignored" not in capsys.readouterr().err


# -- files for review

FILES = ("--json", "--labels-template")


def test_a_plan_holds_no_values_that_rules_looked_at(root: Path, tmp_path: Path, ingest: Ingest) -> None:
    path = tmp_path / "plan.json"
    words = ("--exclude", "PatientName=zzz", "--session-label", "{subject}_{StudyDate}")
    assert ingest("plan", root, "--json", str(path), *words).code == 0
    assert "Janet" not in path.read_text()
    assert "tags" not in path.read_text()


def test_a_plan_of_old_with_tags_is_read(planned: Path, tmp_path: Path, ingest: Ingest) -> None:
    edit(planned, first("tags", {"PatientName": "Doe"}))
    assert upload(ingest, tmp_path, planned)[0] == 0


@pytest.mark.parametrize("flag", FILES)
def test_files_for_review_are_their_owners_alone(root: Path, tmp_path: Path, ingest: Ingest, flag: str) -> None:
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "file"
    before = os.umask(0o022)
    try:
        assert ingest("plan", root, flag, str(path)).code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("flag", FILES)
def test_an_edited_file_is_not_replaced(root: Path, tmp_path: Path, ingest: Ingest, flag: str) -> None:
    path = tmp_path / "file"
    assert ingest("plan", root, flag, str(path)).code == 0
    assert ingest("plan", root, flag, str(path)).code == 0  # nothing would change
    path.write_text(path.read_text().replace("007_pre", "MR_7"))
    edited = path.read_text()
    ended = ingest("plan", root, flag, str(path))
    assert ended.code == 2
    assert "choose another file, or delete it" in ended.err
    assert path.read_text() == edited


@pytest.mark.parametrize("flag", FILES)
@pytest.mark.parametrize("name", ["absent/file", "tree", "x" * 300, "/dev/full"])
def test_what_cannot_be_written_shows_before_the_scan(
    root: Path, tmp_path: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch, flag: str, name: str
) -> None:
    from xnat_ingest.inputs import dicom_headers

    monkeypatch.setattr(dicom_headers, "scan", lambda *_: pytest.fail("scanned"))
    assert ingest("plan", root, flag, str(tmp_path / name)).code == 2


def online(ingest: Ingest, root: Path, *flags: str) -> Ended:
    ended = ingest("plan", root, "--online", *flags)
    assert ended.code == 0, ended.out
    return ended


@pytest.mark.wide
def test_what_the_server_would_drop_is_not_in_a_plan(root: Path, tmp_path: Path, ingest: Ingest, site: StandIn) -> None:
    site.settings.site_filter = {"mode": "blacklist", "list": "T2_2"}
    make_session(root / "009/pre", [Series("T2_2", 2, tags={"SeriesDescription": "T2_2"})], "009")
    path = tmp_path / "plan.json"
    online(ingest, root, "--json", str(path))
    document: dict[str, Any] = json.loads(path.read_text())
    assert [len(session["instances"]) for session in document["sessions"]] == [4, 4, 0]
    assert {aside["reason"] for aside in document["set_aside"]} == {"server-filter:T2_2"}
    code, report = upload(ingest, tmp_path, path)
    assert (code, report["totals"]["planned"], report["totals"]["verified"]) == (0, 8, 8)


def test_a_plan_of_nothing_is_written_too(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "tree/007/pre").mkdir(parents=True)
    (tmp_path / "tree/007/pre/notes.txt").write_text("no DICOM")
    flags = ("--online", "--json", str(tmp_path / "plan.json"), "--labels-template", str(tmp_path / "sheet.csv"))
    ingest("plan", tmp_path / "tree", *flags)
    assert json.loads((tmp_path / "plan.json").read_text())["sessions"] == []
    columns = "folder,study_uid,subject,session,instances,date,modality,description"
    assert (tmp_path / "sheet.csv").read_text() == columns + "\n"


@pytest.mark.parametrize("name", [".", "..", "a/b"])
def test_no_project_is_called_so(root: Path, ingest: Ingest, site: StandIn, name: str) -> None:
    ended = ingest("upload", root, project=name)
    assert ended.code == 2
    assert "cannot be a project's id" in ended.err
    assert not site.requests


def test_root_with_nul(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "a\0b", "-P", "DEMO"]) == 2
    assert "not a valid folder name" in capsys.readouterr().err
