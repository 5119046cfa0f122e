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


NO_NUMBER = Series("B_0002", 3, tags={"SeriesNumber": None})


def grown(tree: Path, *more: Series) -> list[Path]:
    """A session with a series that has a number and one that has none."""
    return make_session(tree / "S/E", (T1, *more), "study")


@pytest.fixture
def unnumbered(tmp_path: Path) -> list[Path]:
    return grown(tmp_path / "t", NO_NUMBER)


def test_a_series_without_number_grows(
    ingest: Ingest, site: StandIn, unnumbered: list[Path], tmp_path: Path, way: tuple[str, ...]
) -> None:
    """The scan id that XNAT makes of its series UID is that of the changed one."""
    delivered(ingest("upload", tmp_path / "t", *way), site, unnumbered, rows=[])
    (archived,) = site.sessions("DEMO")
    scans = set(archived.scans)
    assert scans == {"1", new_uid(str(pydicom.dcmread(unnumbered[-1]).SeriesInstanceUID)).replace(".", "_")}
    paths = grown(tmp_path / "t", replace(NO_NUMBER, files=5), Series("C_0003", 1, tags={"SeriesNumber": None}))
    for sent in (True, False):
        ended = ingest("upload", tmp_path / "t", *way)
        delivered(ended, site, paths, rows=[])
        assert bool(ended.totals["bytes_sent"]) is sent
    (archived,) = site.sessions("DEMO")
    assert len(archived.scans) == 3
    assert scans < set(archived.scans)
    assert ingest("verify", tmp_path / "t").code == 0
    delivered(ingest("upload", tmp_path / "t", *way, "--existing", "overwrite"), site, paths, rows=[])


@pytest.mark.parametrize("trouble", ["cut", "lost", "direct"])
def test_a_series_without_number_is_finished(
    ingest: Ingest, site: StandIn, unnumbered: list[Path], tmp_path: Path, trouble: str
) -> None:
    flags = ("--destination", "direct-archive") if trouble == "direct" else ()
    whole = unnumbered[-2].read_bytes()
    if trouble == "lost":
        site.faults.add(Fault("lose", name="SeriesNumber-2-", times=None))
    else:
        unnumbered[-2].write_bytes(whole[:-3000])
    assert ingest("upload", tmp_path / "t", *flags).code == 3
    unnumbered[-2].write_bytes(whole)
    site.faults.clear()
    assert len([path for path in site.root.rglob("*") if path.is_file()]) == len(unnumbered) - 1
    for _ in range(2):
        delivered(ingest("upload", tmp_path / "t", *flags), site, unnumbered, rows=[])


@pytest.mark.wide
@pytest.mark.parametrize("mode", ["resume", "overwrite"])
@pytest.mark.parametrize("built", [False, True], ids=["receiving", "built"])
@pytest.mark.parametrize("cut", ["-SeriesNumber-1-", "-1-1-"])
def test_an_interrupted_upload_of_a_series_without_number(
    ingest: Ingest, site: StandIn, unnumbered: list[Path], tmp_path: Path, mode: str, built: bool, cut: str
) -> None:
    """A copy that was cut lies in the scan of its series, though its id is not made of our UID."""
    left_open(site, unnumbered[:6], cut=cut, built=built)
    for _ in range(2):
        delivered(ingest("upload", tmp_path / "t", "--existing", mode), site, unnumbered, rows=[])


@pytest.mark.parametrize("number", ["2", None])
@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_instances_that_would_get_the_names_of_others_replace_none(
    ingest: Ingest, site: StandIn, tmp_path: Path, number: str | None, mode: str
) -> None:
    site.settings.file_name_template = "${StudyInstanceUID}-${InstanceNumber}"
    series = Series("B_0002", 4, tags={"SeriesNumber": number})
    made = make_series(tmp_path / "t/S/E", series, "study", 2)
    late = {path: path.read_bytes() for path in made[2:]}
    for path in late:
        path.unlink()
    ingest("upload", tmp_path / "t")
    before = {path: path.read_bytes() for path in site.root.rglob("*.dcm")}
    assert len(before) == 2
    for path, data in late.items():
        path.write_bytes(data)
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber -= 2
        dataset.save_as(path)
    for path in made[:2]:
        path.unlink()
    ended = ingest("upload", tmp_path / "t", "--existing", mode)
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["name-collision"], 0)
    assert {path: path.read_bytes() for path in site.root.rglob("*.dcm")} == before


@pytest.mark.parametrize("script", ["uids", "name"])
@pytest.mark.parametrize("before", ["7", None], ids=["it had one", "it had none"])
def test_a_series_that_goes_on_under_another_number_is_refused(
    ingest: Ingest, site: StandIn, tmp_path: Path, before: str | None, script: str
) -> None:
    """XNAT would say: a scan with the same UID, but a different number."""
    site.settings.site_script = script
    made = make_series(tmp_path / "t/S/E", replace(NO_NUMBER, files=5), "study", 2)
    for number, path in enumerate(made):
        dataset = pydicom.dcmread(path)
        dataset.SeriesNumber = before if number < 3 else None if before else "7"
        dataset.save_as(path)
    late = {path: path.read_bytes() for path in made[3:]}
    for path in late:
        path.unlink()
    assert ingest("upload", tmp_path / "t").code == 0
    for path, data in late.items():
        path.write_bytes(data)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["same-number"], 0)
    (archived,) = site.sessions("DEMO")
    here = "it has no SeriesNumber" if before else "its SeriesNumber is 7"
    assert f"is archived as scan {min(archived.scans)}, and here {here}" in ended.out
    assert f"upload it {'with the SeriesNumber that it had' if before else 'without a SeriesNumber'}" in ended.out
