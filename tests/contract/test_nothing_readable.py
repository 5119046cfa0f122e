"""Prearchive sessions of ours in which XNAT can read nothing: what a full disk leaves, and what a build makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import PASSWORD, Ingest
from tests.contract.test_moved_by_a_build import bodies, on_disk
from tests.dicom_trees import Series, make_session
from tests.standin import Fault, StandIn
from tests.standin.samples import Client

T1 = Series("T1_0001", 4)
SR = Series("SR_0002", 2, "test-SR.dcm")
TREES = {"images": (T1,), "images and what moves": (T1, SR)}


def full(site: StandIn, room: int) -> None:
    site.faults.add(Fault("disk-full", match="services/import", after=room, times=None))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("room", [0, 100, 1000])
@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("transport", ["archive", "gradual"])
@pytest.mark.parametrize("existing", ["resume", "overwrite"])
def test_after_a_full_disk_the_same_command_finishes(
    ingest: Ingest, site: StandIn, tmp_path: Path, room: int, tree: str, transport: str, existing: str
) -> None:
    """The session is not built before something that XNAT can read has come into it. A second run on the full disk
    leaves it as it is."""
    files = make_session(tmp_path / "t/S/E", TREES[tree], "study")
    command = ("upload", tmp_path / "t", "--transport", transport, "--existing", existing)
    full(site, room)
    for _ in range(2):
        assert ingest(*command).code == 3
        (row,) = site.rows("DEMO")
        assert (row.status, row.subject, row.built) == ("RECEIVING", "S", None)
    site.faults.clear()
    ended = ingest(*command)
    assert (ended.code, ended.totals["verified"], ended.kinds()) == (0, len(files), []), ended.out
    assert (on_disk(site), site.rows("DEMO")) == (bodies(files), [])


def test_after_a_full_disk_into_the_prearchive(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    files = make_session(tmp_path / "t/S/E", (T1, SR), "study")
    command = ("upload", tmp_path / "t", "--destination", "prearchive")
    full(site, 0)
    for _ in range(2):
        assert ingest(*command).code == 3
    site.faults.clear()
    ended = ingest(*command)
    assert (ended.code, ended.totals["verified"]) == (0, len(files)), ended.out
    assert [row.status for row in site.rows("DEMO")] == ["READY"]
    assert on_disk(site) == bodies(files)


def test_what_is_there_beside_pieces_is_not_sent_again(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """One file that XNAT can read is enough for a build."""
    files = make_session(tmp_path / "t/S/E", (T1,), "study")
    site.faults.add(Fault("disk-full", match="services/import", skip=2, after=0, times=None))
    assert ingest("upload", tmp_path / "t").code == 3
    site.faults.clear()
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, on_disk(site)) == (0, bodies(files)), ended.out
    assert 0 < ended.totals["bytes_sent"] < sum(path.stat().st_size for path in files)


def test_one_that_a_build_has_spoiled_is_named(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """XNAT has forgotten its subject. What came into it now would be archived under the patient's own name."""
    files = make_session(tmp_path / "t/S/E", (T1,), "study")
    full(site, 0)
    assert ingest("upload", tmp_path / "t").code == 3
    site.faults.clear()
    (row,) = site.rows("DEMO")
    person = Client(site.url, "up", PASSWORD).login()
    assert person("POST", f"/data{row.url}", action="build").status == 200
    assert (row.status, row.subject) == ("ERROR", "")
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["stale-row"], 0)
    assert "no DICOM file in it that it can read" in ended.out
    assert person("DELETE", f"/data{row.url}").status == 200
    person.close()
    assert ingest("upload", tmp_path / "t").code == 0
    assert on_disk(site) == bodies(files)
