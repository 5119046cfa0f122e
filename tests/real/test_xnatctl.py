"""xnatctl against the stand-in: its uploads as tars, one and several at once, and every listing it has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.clients import Client
from tests.real.holdings import held
from tests.standin import StandIn

pytestmark = pytest.mark.real


@pytest.fixture
def xnatctl(client: Callable[[str], Client]) -> Client:
    return client("xnatctl")


def upload(xnatctl: Client, tree: Path, *more: str, project: str = "DEMO") -> tuple[int, str]:
    """Exit code and all that it said."""
    words = ["session", "upload", str(tree), "-P", project, "-S", "S1", "-E", "E1", "--mode", "tar", "--prearchive"]
    done = xnatctl("xnatctl", *words, *more)
    return done.returncode, done.stdout + done.stderr


def listed(xnatctl: Client, *words: str) -> list[dict[str, str]]:
    done = xnatctl("xnatctl", *words, "-o", "json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("workers", [1, 4])
def test_upload(xnatctl: Client, site: StandIn, tree: Path, workers: int) -> None:
    """Its parts meet in one row, which its ``dest=`` builds with every part: nothing is lost between."""
    code, said = upload(xnatctl, tree, "--workers", str(workers))
    assert code == 0
    assert "✓ Uploaded 7 files" in said
    imports = [one for one in site.requests if one.path == "/data/services/import"]
    assert [(one.status, one.content_type) for one in imports] == [(200, "application/x-tar")] * workers
    assert {one.query["dest"] for one in imports} == {"/prearchive/projects/DEMO"}
    assert [(row.label, row.subject, row.project) for row in site.prearchive.rows()] == [("E1", "S1", "DEMO")]
    assert held(site.prearchive_root) == held(tree)
    assert site.sessions_created == 1


def test_json_and_a_second_run(xnatctl: Client, site: StandIn, tree: Path) -> None:
    """The second run finds its session in a file, asks who it is, and sends everything again into the same row."""
    assert upload(xnatctl, tree, "--workers", "1")[0] == 0
    before = len(site.requests)
    done = upload(xnatctl, tree, "--workers", "1", "-o", "json")
    found = json.loads(done[1])
    assert (found["status"], found["files"], found["items"][0]["status"]) == ("success", 7, "success")
    paths = [one.path for one in site.requests[before:]]
    assert paths == ["/xapi/users/username", "/xapi/users/up", "/data/services/import"]
    assert len(site.prearchive.rows()) == site.sessions_created == 1


def test_listings_and_archiving(xnatctl: Client, site: StandIn, tree: Path) -> None:
    assert upload(xnatctl, tree, "--workers", "1", project="MANUAL")[0] == 0
    assert "Version        1.8" in xnatctl("xnatctl", "health", "ping").stdout
    assert [row["id"] for row in listed(xnatctl, "project", "list")] == ["DEMO", "MANUAL", "READONLY"]
    (row,) = listed(xnatctl, "prearchive", "list", "--project", "MANUAL")
    assert (row["status"], row["name"], row["subject"]) == ("READY", "E1", "S1")
    done = xnatctl("xnatctl", "prearchive", "archive", "MANUAL", row["timestamp"], row["folderName"])
    assert (done.returncode, "✓ Archived E1" in done.stdout + done.stderr) == (0, True)
    assert held(site.archive_root) == held(tree)
    session = site.archived("MANUAL", "S1", "E1")
    assert session is not None
    assert listed(xnatctl, "subject", "list", "-P", "MANUAL") == [{"id": "XNAT_S00001", "label": "S1", "sessions": 1}]
    (found,) = listed(xnatctl, "session", "list", "-P", "MANUAL")
    assert (found["id"], found["label"], found["subject"], found["modality"]) == (session.accession, "E1", "S1", "MR")
    scans = listed(xnatctl, "scan", "list", "-P", "MANUAL", "-E", "E1")
    assert [(scan["id"], scan["type"]) for scan in scans] == [("1", "T1-MPRAGE"), ("2", "ep2d_bold")]
    shown = json.loads(xnatctl("xnatctl", "session", "show", "-P", "MANUAL", "-E", "E1", "-o", "json").stdout)
    assert (shown["label"], shown["xsi_type"], len(shown["scans"])) == ("E1", "xnat:mrSessionData", 2)
    assert listed(xnatctl, "prearchive", "list") == []


def test_download(xnatctl: Client, tree: Path) -> None:
    assert upload(xnatctl, tree, "--workers", "1", project="MANUAL")[0] == 0
    (row,) = listed(xnatctl, "prearchive", "list", "--project", "MANUAL")
    done = xnatctl("xnatctl", "prearchive", "archive", "MANUAL", row["timestamp"], row["folderName"])
    assert done.returncode == 0, done.stderr
    folder = xnatctl.folder / "down"
    words = ["session", "download", "-P", "MANUAL", "-E", "E1", "--out", str(folder), "--extract"]
    assert xnatctl("xnatctl", *words).returncode == 0
    assert held(folder) == held(tree)


@pytest.mark.parametrize(
    "mode", [["--mode", "zip"], ["--mode", "gradual"], ["--direct-archive"]], ids=lambda words: words[-1].strip("-")
)
def test_other_ways(xnatctl: Client, site: StandIn, tree: Path, mode: list[str]) -> None:
    code, _ = upload(xnatctl, tree, "--workers", "1", *mode)
    assert code == 0
    assert held(site.root) == held(tree)


def test_wrong_password(xnatctl: Client, site: StandIn) -> None:
    done = xnatctl("xnatctl", "project", "list", XNAT_PASS="wrong")
    assert (done.returncode, f"Authentication failed for {site.url}: HTTP 401" in done.stderr) == (1, True)
    assert site.failed_logins("up") == 1
    assert site.sessions_created == 0


def test_unknown_project(xnatctl: Client, site: StandIn, tree: Path) -> None:
    """xnatctl reads no answer of an import: what went to nobody's project is success to it."""
    assert upload(xnatctl, tree, project="NONE")[0] == 0
    assert {row.project for row in site.prearchive.rows()} == {None}
