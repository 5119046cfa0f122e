"""xnatpy against the stand-in: its own login, its own requests, its own reading of the answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.clients import Client, DriverError
from tests.real.holdings import held
from tests.standin import StandIn

pytestmark = pytest.mark.real
pytest_plugins = ("tests.real.schemas",)
DRIVER = "drive_xnatpy.py"
FILES = {"1": ["IM000001", "IM000002", "IM000003"], "2": ["IM000001", "IM000002", "IM000003", "IM000004"]}
LOGIN = [("GET", "/"), ("PUT", "/data/services/auth"), ("GET", "/data/auth"), ("GET", "/data/JSESSION")]


@pytest.fixture
def xnatpy(client: Callable[[str], Client]) -> Client:
    return client("xnatpy")


def calls(site: StandIn) -> list[tuple[str, str]]:
    return [(one.method, one.path) for one in site.requests]


def test_import_to_the_prearchive(xnatpy: Client, site: StandIn, login: dict[str, str], tree: Path, tar: str) -> None:
    """One HTTP session, no CSRF token, the row's address understood, the row's files listed and read."""
    found = xnatpy.drive(DRIVER, "prearchive", **login, tar=tar, project="DEMO")
    row = site.rows("DEMO")[0]
    assert found["uri"] == "/data" + row.url
    assert (found["user"], found["version"]) == ("up", site.settings.version)
    assert (found["rows"], found["status"], found["subject"]) == (["E1"], "READY", "S1")
    assert found["files"] == FILES
    assert held(site.prearchive_root) == held(tree)
    assert [call for call in calls(site) if call[1] != "/app/template/Login.vm"][:4] == LOGIN
    assert calls(site)[-1] == ("DELETE", "/data/JSESSION")
    assert site.sessions_created == 1
    assert not any("XNAT_CSRF" in one.query for one in site.requests)


def test_post_commit_and_listings(xnatpy: Client, site: StandIn, login: dict[str, str], tree: Path, tar: str) -> None:
    found = xnatpy.drive(DRIVER, "post", **login, tar=tar, project="MANUAL")
    assert found["sent"].startswith("/data/prearchive/projects/MANUAL/")
    assert found["archived"] == "/data/archive/projects/MANUAL/subjects/S1/experiments/E1"
    assert found["projects"] == ["DEMO", "MANUAL", "READONLY"]
    assert (found["subjects"], found["experiments"], found["scans"]) == (["S1"], ["E1"], ["1", "2"])
    assert held(site.archive_root) == held(tree)
    assert site.rows("MANUAL") == []


@pytest.mark.usefixtures("schemas")
@pytest.mark.parametrize(
    "project",
    [
        "MANUAL",
        "DEMO",
    ],
)
def test_object_model(xnatpy: Client, site: StandIn, login: dict[str, str], tree: Path, tar: str, project: str) -> None:
    """Import, look, archive, walk down to the files, download them and compare digests."""
    found = xnatpy.drive(DRIVER, "model", **login, tar=tar, folder=str(xnatpy.folder), project=project)
    assert (found["waiting"], found["size"]) == (FILES, (tree / "T1-MPRAGE_0001" / "IM000001").stat().st_size)
    assert found["projects"] == ["DEMO", "MANUAL", "READONLY"]
    assert (found["subjects"], found["experiments"]) == (["S1"], {"E1": "MrSessionData"})
    assert found["scans"] == {"1": ["T1-MPRAGE", 3], "2": ["ep2d_bold", 4]}
    files = {path.name: path.read_bytes() for path in (xnatpy.folder / "files").iterdir()}
    assert {name: hashlib.md5(content).hexdigest() for name, content in files.items()} == found["digests"]
    assert held(xnatpy.folder / "files") == held(site.archive_root) == held(tree)


@pytest.mark.usefixtures("schemas")
def test_subject_of_an_experiment(xnatpy: Client, login: dict[str, str], tar: str) -> None:
    xnatpy.drive(DRIVER, "post", **login, tar=tar, project="MANUAL")
    assert xnatpy.drive(DRIVER, "subject_of", **login, project="MANUAL") == {"subject": "S1"}


@pytest.mark.usefixtures("schemas")
def test_download(xnatpy: Client, login: dict[str, str], tree: Path, tar: str) -> None:
    xnatpy.drive(DRIVER, "post", **login, tar=tar, project="MANUAL")
    folder = xnatpy.folder / "down"
    folder.mkdir()
    xnatpy.drive(DRIVER, "download", **login, project="MANUAL", folder=str(folder))
    assert held(folder) == held(tree)


@pytest.mark.usefixtures("schemas")
def test_command_line(xnatpy: Client, login: dict[str, str], tar: str) -> None:
    """The ``xnat`` program with its login from the environment."""
    xnatpy.drive(DRIVER, "post", **login, tar=tar, project="MANUAL")
    projects = xnatpy("xnat", "list", "projects")
    subjects = xnatpy("xnat", "list", "subjects", "--project", "MANUAL")
    told = xnatpy("xnat", "rest", "get", "/data/projects/MANUAL/subjects/S1/experiments")
    assert [projects.returncode, subjects.returncode, told.returncode] == [0, 0, 0]
    assert "Project MANUAL: id=MANUAL, full URI:/data/archive/projects/MANUAL" in projects.stdout
    assert "HIDDEN" not in projects.stdout
    assert "Subject S1: id=XNAT_S00001, project:MANUAL" in subjects.stdout
    assert '"label": "E1"' in told.stdout


def test_command_line_import(xnatpy: Client, site: StandIn, tree: Path) -> None:
    """``xnat import experiment`` zips a folder."""
    words = ["--project", "DEMO", "--subject", "S1", "--experiment", "E1", "--import_handler", "DICOM-zip"]
    done = xnatpy("xnat", "import", "experiment", str(tree), *words, "--destination", "/prearchive")
    assert done.returncode == 0
    assert held(site.prearchive_root) == held(tree)


def test_wrong_password(xnatpy: Client, site: StandIn, login: dict[str, str]) -> None:
    with pytest.raises(DriverError, match=r"XNATLoginFailedError: .*Authentication failed"):
        xnatpy.drive(DRIVER, "login", **login | {"password": "wrong"})
    assert site.failed_logins("up") == 1


@pytest.mark.parametrize(("project", "lands_in", "status"), [("READONLY", "READONLY", 403), ("HIDDEN", None, 200)])
def test_no_right(
    xnatpy: Client, site: StandIn, login: dict[str, str], tree: Path, tar: str, project: str, lands_in: str, status: int
) -> None:
    """An import asks for no right: 200, in the project or in nobody's; only the commit tells."""
    with pytest.raises(DriverError, match=rf"XNATResponseError: .*commit.*status {status}, accepted status: \[301\]"):
        xnatpy.drive(DRIVER, "post", **login, tar=tar, project=project)
    assert [one.status for one in site.requests if one.path == "/data/services/import"] == [200]
    assert [row.project for row in site.prearchive.rows()] == [lands_in]
    assert held(site.prearchive_root) == held(tree)


@pytest.mark.parametrize("context", ["", "/xnat"])
def test_address(xnatpy: Client, site: StandIn, login: dict[str, str], context: str) -> None:
    """xnatpy takes the server's address from where ``GET /`` leads it."""
    site.settings.context_path = context
    found = xnatpy.drive(DRIVER, "login", **login | {"url": site.url})
    assert found == {"user": "up", "address": site.url + "/data/auth"}


def test_entry_leads_to_the_login_page(xnatpy: Client, site: StandIn, login: dict[str, str]) -> None:
    xnatpy.drive(DRIVER, "login", **login)
    assert [one.status for one in site.requests[:2]] == [302, 200]
    assert calls(site)[1] == ("GET", "/app/template/Login.vm")
