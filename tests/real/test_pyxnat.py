"""pyxnat against the stand-in. It has no call for imports: its users post by hand, and look at CSV."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.clients import Client, DriverError
from tests.real.holdings import held
from tests.standin import StandIn

pytestmark = pytest.mark.real
DRIVER = "drive_pyxnat.py"


@pytest.fixture
def pyxnat(client: Callable[[str], Client]) -> Client:
    return client("pyxnat")


def test_send_archive_and_read(pyxnat: Client, site: StandIn, login: dict[str, str], tree: Path, tar: str) -> None:
    """Its cookie and password on every request, its addresses, and every listing that it makes of CSV."""
    found = pyxnat.drive(DRIVER, "archive", **login, tar=tar, folder=str(pyxnat.folder), project="MANUAL")
    session = site.archived("MANUAL", "S1", "E1")
    assert session is not None
    assert found["sent"].startswith("/data/prearchive/projects/MANUAL/")
    assert (found["status"], found["archived"]) == (301, "/data" + session.uri)
    assert (found["version"], found["code"]) == (site.settings.version, 0)
    assert (found["projects"], found["exists"]) == (["DEMO", "MANUAL", "READONLY"], [True, True, False])
    assert found["subjects"] == ["S1"]
    assert found["experiments"] == [[session.accession, "E1", "xnat:mrSessionData"]]
    assert (found["array"], found["uid"]) == ([session.accession], session.study_uid)
    assert found["scans"] == [["1", "T1-MPRAGE", "xnat:mrScanData"], ["2", "ep2d_bold", "xnat:mrScanData"]]
    assert found["files"] == ["IM000001", "IM000002", "IM000003"]
    assert int(found["size"]) == found["read"] == (tree / "T1-MPRAGE_0001" / "IM000001").stat().st_size
    assert held(site.archive_root) == held(tree)
    assert site.sessions_created == 1
    assert (site.requests[-1].method, site.requests[-1].path) == ("DELETE", "/data/JSESSION")


def test_prearchive(pyxnat: Client, site: StandIn, login: dict[str, str], tar: str) -> None:
    found = pyxnat.drive(DRIVER, "prearchive", **login, tar=tar, project="DEMO")
    row = site.rows("DEMO")[0]
    assert (found["rows"], found["uri"]) == ([list(row.key)], row.url)
    assert (found["before"], found["after"]) == ("RECEIVING", "READY")
    assert (found["scans"], found["resources"]) == (["1", "2"], "DICOM")
    assert found["files"] == ["IM000001", "IM000002", "IM000003"]


def test_download(pyxnat: Client, login: dict[str, str], tree: Path, tar: str) -> None:
    pyxnat.drive(DRIVER, "archive", **login, tar=tar, folder=str(pyxnat.folder), project="MANUAL")
    folder = pyxnat.folder / "down"
    folder.mkdir()
    pyxnat.drive(DRIVER, "download", **login, project="MANUAL", folder=str(folder))
    assert held(folder) == held(tree)


def test_accessibility(pyxnat: Client, login: dict[str, str]) -> None:
    assert pyxnat.drive(DRIVER, "accessibility", **login, project="DEMO") == {"accessibility": "private"}


def test_wrong_password(pyxnat: Client, site: StandIn, login: dict[str, str]) -> None:
    with pytest.raises(DriverError, match="DatabaseError"):
        pyxnat.drive(DRIVER, "login", **login | {"password": "wrong"})
    assert site.failed_logins("up") > 0
    assert site.sessions_created == 0


def test_unknown_project(pyxnat: Client, site: StandIn, login: dict[str, str], tree: Path, tar: str) -> None:
    """A project that does not exist is no error of an import: the data go to nobody's."""
    with pytest.raises(DriverError):
        pyxnat.drive(DRIVER, "archive", **login, tar=tar, folder=str(pyxnat.folder), project="NONE")
    assert [row.project for row in site.prearchive.rows()] == [None]
    assert held(site.prearchive_root) == held(tree)
