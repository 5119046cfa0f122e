"""Sites whose script changes UIDs on receipt: names stay ours, the study, once it is built, is the site's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from tests.conftest import Ended, Ingest, stored
from tests.contract.test_moved_by_a_build import left_open
from tests.dicom_trees import Series, make_series, make_session
from tests.standin import Fault, StandIn
from tests.standin.anonymize import new_uid

T1, SR = Series("T1_0001", 4), Series("SR_0002", 2, "test-SR.dcm")
PART = "POST /data/services/import"


@pytest.fixture(autouse=True)
def _hashing(site: StandIn) -> None:
    site.settings.site_anonymization, site.settings.site_script = True, "uids"


@pytest.fixture(params=["archive", "gradual", "cstore"])
def way(request: pytest.FixtureRequest, site: StandIn) -> Iterator[tuple[str, ...]]:
    """The flags of a transport."""
    with ExitStack() as stack:
        flags: tuple[str, ...] = ("--transport", request.param)
        if request.param == "cstore":
            receiver = stack.enter_context(site.receive())
            flags += ("--dicom-host", "127.0.0.1", "--dicom-port", str(receiver.port))
        yield flags


def delivered(ended: Ended, site: StandIn, paths: list[Path], *, rows: list[str]) -> None:
    """Exit 0, each instance once on the disk under its new UID, and no row but those."""
    assert ended.code == 0, ended.out + ended.err
    assert ended.totals["verified"] == len(paths)
    wanted = sorted(new_uid(str(pydicom.dcmread(path).SOPInstanceUID)) for path in paths)
    there = sorted(str(pydicom.dcmread(path).SOPInstanceUID) for path in site.root.rglob("*") if path.is_file())
    assert there == wanted
    assert [row.status for row in site.rows("DEMO")] == rows


@pytest.fixture
def tree(tmp_path: Path) -> list[Path]:
    return make_session(tmp_path / "t/S/E", (T1, SR), "study")


@pytest.mark.wide
def test_second_upload_growth_and_overwrite(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, way: tuple[str, ...]
) -> None:
    delivered(ingest("upload", tmp_path / "t", *way), site, tree, rows=[])
    again = ingest("upload", tmp_path / "t", *way)
    delivered(again, site, tree, rows=[])
    assert again.totals["bytes_sent"] == 0
    assert ingest("verify", tmp_path / "t").code == 0
    more = make_series(tmp_path / "t/S/E", Series("T1_0001", 6), "study", 1)
    grown = ingest("upload", tmp_path / "t", *way)
    delivered(grown, site, more + tree[4:], rows=[])
    assert grown.totals["already_there"] == 6
    delivered(ingest("upload", tmp_path / "t", *way, "--existing", "overwrite"), site, more + tree[4:], rows=[])
    assert stored(site, "DEMO", "S", "S_E").study_uid == new_uid(str(pydicom.dcmread(tree[0]).StudyInstanceUID))


@pytest.mark.wide
def test_left_in_the_prearchive_and_archived_later(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, way: tuple[str, ...]
) -> None:
    flags = (*way, "--destination", "prearchive")
    for _ in range(2):
        delivered(ingest("upload", tmp_path / "t", *flags), site, tree, rows=["READY"])
    assert ingest("verify", tmp_path / "t", "--destination", "prearchive").code == 0
    delivered(ingest("upload", tmp_path / "t", *way), site, tree, rows=[])


@pytest.mark.wide
def test_left_in_the_prearchive_and_grown(ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path) -> None:
    """A built row takes nothing more: what came later follows once the row is archived."""
    assert ingest("upload", tmp_path / "t", "--destination", "prearchive").code == 0
    more = make_series(tmp_path / "t/S/E", Series("T1_0001", 6), "study", 1)
    refused = ingest("upload", tmp_path / "t", "--destination", "prearchive")
    assert (refused.code, refused.kinds(), refused.totals["bytes_sent"]) == (3, ["stale-row"], 0)
    delivered(ingest("upload", tmp_path / "t"), site, more + tree[4:], rows=[])


@pytest.mark.wide
@pytest.mark.parametrize("destination", ["archive", "prearchive"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_reply_is_lost(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, destination: str, number: int
) -> None:
    site.faults.add(Fault("reset-reply", PART, skip=number - 1))
    ended = ingest("upload", tmp_path / "t", "--part-size", "20K", "--destination", destination)
    delivered(ended, site, tree, rows=["READY"] if destination == "prearchive" else [])


@pytest.mark.wide
@pytest.mark.parametrize("built", [False, True], ids=["receiving", "built"])
@pytest.mark.parametrize("some", [3, 5, 6])
@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_an_interrupted_upload(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, built: bool, some: int, mode: str
) -> None:
    left_open(site, tree[:some], built=built)
    delivered(ingest("upload", tmp_path / "t", "--existing", mode), site, tree, rows=[])


@pytest.mark.wide
def test_a_script_of_the_project_is_told_from_the_sites(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path
) -> None:
    """XNAT itself refuses to add to such a session, so nothing is sent."""
    site.settings.site_anonymization = False
    site.project("DEMO").anon_script = "uids"
    assert ingest("upload", tmp_path / "t").code == 0
    assert ingest("upload", tmp_path / "t").code == 0
    make_series(tmp_path / "t/S/E", Series("T1_0001", 6), "study", 1)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["other-study"], 0)
    assert "A script of the project, or of the site at that time, changed the UID" in ended.out


def test_where_names_have_no_uids_nobody_can_tell_what_is_there(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path
) -> None:
    """Nothing then says that an instance is not on the server, or that another study is."""
    site.settings.file_name_template = "${SeriesNumber}-${InstanceNumber}-${HashSOPClassUIDWithSOPInstanceUID}"
    for command in ("upload", "verify"):
        ended = ingest(command, tmp_path / "t")
        assert (ended.code, ended.totals["verified"]) == (3, 0)
        assert "not recognised: the 6 files on the server have other names and other series" in ended.out
        assert "not on the server" not in ended.out
    again = ingest("upload", tmp_path / "t")
    assert (again.code, again.kinds(), again.totals["bytes_sent"]) == (3, ["other-study"], 0)
    assert "it may be this study or another" in again.out
    assert "If it is this study, leave the folder out" in again.out


@pytest.mark.parametrize("flags", [("--session-label", "{subject}x{session}"), ()], ids=["other label", "renamed"])
def test_a_study_that_is_archived_under_another_label_is_found(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """The listing of sessions has the script's study UID. The names of files still have the one that was sent."""
    assert ingest("upload", tmp_path / "t").code == 0
    if not flags:
        (archived,) = site.sessions("DEMO")
        site.project("DEMO").sessions["NEW"] = site.project("DEMO").sessions.pop(archived.label)
        archived.label = "NEW"
    ended = ingest("upload", tmp_path / "t", *flags)
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["other-label"], 0)
    make_session(tmp_path / "u/S/F", (T1,), "another study")
    assert ingest("upload", tmp_path / "u").code == 0


def test_names_that_hold_the_study_alone_do_not_tell_instances(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path
) -> None:
    site.settings.file_name_template = "${StudyInstanceUID}-${SeriesNumber}-${InstanceNumber}"
    for command in ("upload", "verify"):
        ended = ingest(command, tmp_path / "t")
        assert (ended.code, ended.totals["verified"]) == (3, 0)
        assert "not recognised: the 6 files on the server have other names and other series" in ended.out
        assert "not on the server" not in ended.out


@pytest.mark.parametrize("existing", ["resume", "overwrite"])
def test_a_piece_that_kept_its_uids_is_not_archived(
    ingest: Ingest, site: StandIn, tmp_path: Path, existing: str
) -> None:
    """The disk was full for a moment, and the script did not come to that file. Once its series were archived as two,
    XNAT would take no whole copy."""
    paths = make_session(tmp_path / "t/S/E", (replace(T1, files=2), Series("T1_0002", 2)), "study")
    with site.receive() as receiver:
        flags = ("--transport", "cstore", "--dicom-host", "127.0.0.1", "--dicom-port", str(receiver.port), "-w", "1")
        command = ("upload", tmp_path / "t", *flags, "--existing", existing)
        site.faults.add(Fault("disk-full", skip=3, after=4000))
        assert ingest(*command).code == 3
        site.faults.clear()
        for _ in range(2):
            ended = ingest(*command)
            assert (ended.code, ended.kinds()) == (3, ["stale-row"]), ended.out
            assert not site.sessions("DEMO")
        (row,) = site.rows("DEMO")
        assert f"xnat-ingest prearchive delete -P DEMO {row.timestamp} S_E --yes" in ended.out
        site.prearchive.forget(row)
        delivered(ingest(*command), site, paths, rows=[])
