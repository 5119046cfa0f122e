"""The other commands: ping, and the drop-in for the original script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PASSWORD, Ingest
from tests.dicom_trees import Series, make_session
from tests.standin import Fault, StandIn
from xnat_ingest.cli import main

SERIES = (Series("T1_0001", 3), Series("Localizers_0002", 2))


def test_ping_tells_right_and_settings(site: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    site.project("DEMO").series_filter = {"enabled": True, "mode": "blacklist", "list": "x"}
    assert main(["ping", "-P", "DEMO"]) == 0
    said = capsys.readouterr().out
    assert "XNAT 1.8.10" in said
    assert "DEMO, may add sessions" in said
    assert "code 4" in said
    assert "the project's series import filter is on" in said
    assert "types    not set up on the site: dx, mg, nm, rf, rt, sr, us, xa, otherDicom;" in said
    assert "UIDs     the site's script changes them on receipt: no" in said


def test_ping_says_nothing_of_types_that_it_cannot_know(site: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    site.faults.add(Fault("status", "GET /data/search/elements", status=403))
    assert main(["ping", "-P", "DEMO"]) == 0
    assert "types    " not in capsys.readouterr().out


def test_ping_prints_no_more_than_a_word_of_a_number(
    site: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server sends in its place may be of any length."""
    site.settings.version = "1.8.10" + "y" * 5000
    monkeypatch.setattr(site.project("DEMO"), "code", "z" * 5000)
    assert main(["ping", "-P", "DEMO"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "yy" in line or "zz" in line]
    assert len(lines) == 2
    assert max(map(len, lines)) < 120


@pytest.mark.parametrize("project", ["READONLY", "HIDDEN", "NOPE"])
def test_ping_without_right(site: StandIn, project: str) -> None:
    assert main(["ping", "-P", project]) == 6


def test_ping_needs_no_project(site: StandIn) -> None:
    assert main(["ping"]) == 0


@pytest.mark.sampled(1)
@pytest.mark.parametrize("place", range(5))
def test_the_drop_in_call_takes_no_empty_word(
    site: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """A variable that is not set. What the environment says is meant for another server, perhaps."""
    monkeypatch.setenv("XNAT_PASSWORD", "of another server")
    words = [site.url, "up", "secret", "DEMO", str(tmp_path)]
    words[place] = ""
    assert main(["dicomUpload", *words]) == 2
    assert "is empty (a variable that is not set?)" in capsys.readouterr().err
    assert not site.requests


@pytest.mark.parametrize("words", [["dicomUpload"], ["python", "/src/dicomUpload.py"], ["/src/dicomUpload.py"]])
def test_drop_in(
    ingest: Ingest, site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """The original's arguments, also in the words of the old docker line; it takes a password, and warns."""
    for name in ("XNAT_HOST", "XNAT_USER", "XNAT_PASS"):
        monkeypatch.delenv(name)
    make_session(tmp_path / "dicom/007/pre", SERIES)
    config = tmp_path / "Exclusions.json"
    config.write_text(json.dumps({"Exclude": ["Localizers", "AAHEAD"]}))
    work = tmp_path / "work"
    work.mkdir()
    arguments = [site.url, "up", PASSWORD, "DEMO", str(tmp_path / "dicom"), "--config", str(config)]
    assert main([*words, *arguments, "--workdir", str(work)]) == 0
    assert [(s.subject, s.label, len(s.files)) for s in site.sessions("DEMO")] == [("007", "007_pre", 3)]
    report = json.loads((work / "xnat-ingest-report.json").read_text())
    assert (report["exit_code"], report["totals"]["excluded"]) == (0, 2)


def test_drop_in_without_its_folder(site: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [site.url, "up", PASSWORD, "DEMO", str(tmp_path), "--workdir", str(tmp_path / "none")]
    assert main(["dicomUpload", *words]) == 2
    assert "--workdir" in capsys.readouterr().err
    assert site.requests == []


def test_variable_that_is_no_setting_is_told(
    ingest: Ingest, site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_session(tmp_path / "t/S/E", SERIES)
    monkeypatch.setenv("XNAT_INGEST_WORKER", "3")
    assert "did you mean XNAT_INGEST_WORKERS?" in ingest("upload", tmp_path / "t").err


@pytest.mark.wide
def test_administrator_learns_of_the_sites_own_names_and_petmr(
    site: StandIn, ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may read site preferences: a short series under the site's own names is finished, PET/MR is kept apart."""
    site.user("up").all_data = True
    site.settings.file_name_template = "${SOPInstanceUID}"
    make_session(tmp_path / "t/S/E", (Series("T1_0001", 3),), "study")
    assert ingest("upload", tmp_path / "t").session("S_E")["verdict"] == "counted"
    make_session(tmp_path / "t/S/E", (Series("T1_0001", 5),), "study")
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["counted"], ended.session("S_E")["verdict"]) == (0, 5, "counted")
    assert [len(session.files) for session in site.sessions("DEMO")] == [5]
    site.settings.site_petmr = "separate"
    both = (Series("MR_0001", 2), Series("PT_0002", 2, tags={"Modality": "PT"}))
    make_session(tmp_path / "u/S/F", both)
    ended = ingest("upload", tmp_path / "u")
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["petmr-split"], 0)


@pytest.mark.wide
def test_result_that_cannot_be_printed_is_no_bug(tmp_path: Path) -> None:
    """A full disk behind stdout: one sentence, exit 1, and no plea to report a bug."""
    make_session(tmp_path / "t/S/E", SERIES)
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "xnat_ingest", "plan", str(tmp_path / "t"), "-P", "DEMO"]
        ended = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert "could not be printed" in ended.stderr
    assert "bug" not in ended.stderr
