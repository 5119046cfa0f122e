"""What XNAT cannot merge into an archived session is named before the first byte; what it can merge goes through."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from pydicom.uid import PositronEmissionTomographyImageStorage

from tests.conftest import PASSWORD, Ended, Ingest, stored
from tests.contract.test_cstore_upload import by_dicom
from tests.contract.test_existing import OTHER_NAMES
from tests.contract.test_moved_by_a_build import CAPTURES, bodies, on_disk
from tests.dicom_trees import CT, Series, make_series
from tests.standin import Fault, StandIn
from tests.standin.receiver import Receiver
from tests.standin.samples import Client

# Two series of one number, one of a modality that leads less than theirs, and one that never leads.
A, B = Series("A", 4, number=7), Series("B", 4, number=7)
C, R = Series("CT", 4, CT, number=5), Series("report", 4, "test-SR.dcm", number=9)
PIECES = {"A": A, "B": B, "C": C, "R": R}
PET = Series("PET", 4, CT, number=4, tags={"Modality": "PT", "SOPClassUID": PositronEmissionTomographyImageStorage})
CAPTURE = replace(CAPTURES, files=4, number=8)
AS_MR = replace(CAPTURE, tags={**CAPTURES.tags, "Modality": "MR"})
NO_MODALITY = replace(A, name="no modality", number=6, tags={"Modality": ""})
SOME = ["".join(some) for size in range(1, 5) for some in combinations(PIECES, size)]


def part(place: Path, series: Series, begin: int, end: int) -> list[Path]:
    """The instances from one number to another of a series of the session S_E, in a tree of their own."""
    whole = make_series(place.parent / "whole/S/E", series, "study", series.number or 0)
    folder = place / "S/E" / series.name
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy(path, folder)) for path in whole[begin - 1 : end]]


def refused(ended: Ended, site: StandIn, kind: str) -> None:
    """Named, and nothing was sent."""
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, [kind], 0), ended.out
    assert site.rows("DEMO") == []


def refused_by_xnat(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """It goes into the prearchive, where nothing is merged, and XNAT does not archive it from there."""
    assert ingest("upload", tree, "--destination", "prearchive").code == 0
    (row,) = site.rows("DEMO")
    client = Client(site.url, "up", PASSWORD).login()
    reply = client("POST", f"/data{row.url}", action="commit", AA="true", overwrite_files="true")
    client.close()
    assert (reply.status, row.status) == (500, "CONFLICT")


HELD = ("new", "old and new", "everything")
# Every pair, with one of the three: all of them take minutes.
GRID = [(one, other, HELD[(x + y) % 3]) for x, one in enumerate(SOME) for y, other in enumerate(SOME)]


@pytest.mark.sampled(12)
@pytest.mark.parametrize(("archived", "grown", "held"), GRID)
def test_any_growth_ends_in_the_archive_or_is_named(
    ingest: Ingest, site: StandIn, tmp_path: Path, archived: str, grown: str, held: str
) -> None:
    """Whatever the archive and the tree hold. What is named is what XNAT refuses."""
    first = [path for one in archived for path in part(tmp_path / "a", PIECES[one], 1, 2)]
    assert ingest("upload", tmp_path / "a").code == 0
    before = stored(site, "DEMO", "S", "S_E").xsi_type
    more = [path for one in grown for path in part(tmp_path / "b", PIECES[one], 3 if held == "new" else 1, 4)]
    more += [path for one in archived if held == "everything" for path in part(tmp_path / "b", PIECES[one], 1, 2)]
    ended = ingest("upload", tmp_path / "b")
    assert site.rows("DEMO") == [], ended.out
    if not ended.code:
        everything = {path.parent.name + path.name: path for path in first + more}
        assert on_disk(site) == bodies(list(everything.values()))
        assert stored(site, "DEMO", "S", "S_E").xsi_type == before
        return
    refused(ended, site, ended.kinds()[0])
    assert ended.kinds()[0] in ("same-number", "other-type")
    assert ingest("plan", tmp_path / "b", "--online").kinds() == ended.kinds()
    assert on_disk(site) == bodies(first)
    refused_by_xnat(ingest, site, tmp_path / "b")


# What is archived, what comes, and how it ends: the kind of conflict, or "" where it is merged.
CASES: dict[str, tuple[tuple[Series, ...], tuple[Series, ...], str]] = {
    "captures of an MR session": ((A, CAPTURE), (CAPTURE,), "other-type"),
    "captures that call themselves MR": ((A, AS_MR), (AS_MR,), ""),
    "captures that call themselves MR, and CT": ((A, AS_MR), (AS_MR, C), "other-type"),
    "CT of a PET session": ((PET, C), (C,), "other-type"),
    "PET to a CT session": ((C,), (C, PET), "other-type"),
    "PET to an MR session": ((A,), (A, PET), "other-type"),
    "MR to a session of reports": ((R,), (A,), "other-type"),
    "captures that call themselves MR to a session of reports": ((R,), (R, AS_MR), "other-type"),
    "MR without a modality": ((A,), (NO_MODALITY,), ""),
    "MR without a modality to CT": ((C,), (C, NO_MODALITY), "other-type"),
    "PET of a PET and MR session": ((A, PET), (PET,), "other-type"),
    "both of a PET and MR session": ((A, PET), (A, PET), ""),
}


@pytest.mark.parametrize("case", CASES)
def test_the_type_of_a_session_is_kept(ingest: Ingest, site: StandIn, tmp_path: Path, case: str) -> None:
    first, second, kind = CASES[case]
    for series in first:
        part(tmp_path / "a", series, 1, 2)
    assert ingest("upload", tmp_path / "a").code == 0
    before = stored(site, "DEMO", "S", "S_E").xsi_type
    for series in second:
        part(tmp_path / "b", series, 3, 4)
    ended = ingest("upload", tmp_path / "b")
    if kind:
        refused(ended, site, kind)
        refused_by_xnat(ingest, site, tmp_path / "b")
    else:
        assert ended.code == 0, ended.out
        assert site.rows("DEMO") == []
    assert stored(site, "DEMO", "S", "S_E").xsi_type == before


def archived(ingest: Ingest, tmp_path: Path, *series: Series) -> list[Path]:
    """The first two instances of each, archived."""
    paths = [path for one in series for path in part(tmp_path / "a", one, 1, 2)]
    assert ingest("upload", tmp_path / "a").code == 0
    return paths


def test_a_report_beside_two_series_of_one_number(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """The folder has grown by it. An image goes along, and its sibling with it."""
    paths = archived(ingest, tmp_path, A, B)
    ids = set(stored(site, "DEMO", "S", "S_E").scans)
    paths += part(tmp_path / "a", R, 1, 1)
    assert ingest("upload", tmp_path / "a").code == 0
    assert (on_disk(site), site.rows("DEMO")) == (bodies(paths), [])
    assert set(stored(site, "DEMO", "S", "S_E").scans) == {*ids, "9"}


def test_an_image_that_goes_along_does_not_keep_others_from_being_merged(
    ingest: Ingest, site: StandIn, tmp_path: Path
) -> None:
    """Of two series of one number both go along, or one of another number; or it is named."""
    same = Series("CT of the number", 4, CT, number=7)
    first = archived(ingest, tmp_path, A)
    part(tmp_path / "b", A, 1, 2)
    more = part(tmp_path / "b", same, 1, 2)
    refused(ingest("upload", tmp_path / "b"), site, "same-number")
    first += part(tmp_path / "b", replace(A, name="T2", number=8), 1, 1)
    assert ingest("upload", tmp_path / "b").code == 0
    assert on_disk(site) == bodies(first + more)
    assert set(stored(site, "DEMO", "S", "S_E").scans) == {"7", "8", "7-CT1"}


@pytest.mark.parametrize(("setting", "kind"), [(None, "other-type"), ("petmr", "other-type"), ("Pet ", "")])
@pytest.mark.parametrize("whose", ["project", "site"])
def test_mr_to_a_pet_session(
    ingest: Ingest, site: StandIn, tmp_path: Path, whose: str, setting: str | None, kind: str
) -> None:
    """Together they make a PET/MR session, but where the project or the site wants a PET session."""
    if whose == "project":
        site.project("DEMO").petmr = setting
    else:
        site.settings.site_petmr = setting
    paths = archived(ingest, tmp_path, PET)
    part(tmp_path / "b", PET, 1, 2)
    paths += part(tmp_path / "b", A, 3, 4)
    ended = ingest("upload", tmp_path / "b")
    if kind:
        refused(ended, site, kind)
        refused_by_xnat(ingest, site, tmp_path / "b")
    else:
        assert (ended.code, on_disk(site), site.rows("DEMO")) == (0, bodies(paths), [])


@pytest.fixture
def receiver(site: StandIn) -> Iterator[Receiver]:
    with site.receive(check_title=True) as receiver:
        yield receiver


GROWTH = {"same-number": ((A, B), B), "other-type": ((A, R), R)}


@pytest.mark.parametrize("kind", GROWTH)
@pytest.mark.parametrize("transport", ["archive", "gradual", "cstore"])
@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_by_every_transport(
    ingest: Ingest, site: StandIn, receiver: Receiver, tmp_path: Path, kind: str, transport: str, mode: str
) -> None:
    """It is named, whatever way the bytes would go, and with the other series in the tree it goes through."""
    first, grown = GROWTH[kind]
    paths = archived(ingest, tmp_path, *first)
    paths += part(tmp_path / "b", grown, 3, 4)
    way = by_dicom(receiver) if transport == "cstore" else ["--transport", transport]
    flags = [*way, "--existing", mode]
    refused(ingest("upload", tmp_path / "b", *flags), site, kind)
    part(tmp_path / "b", first[0], 1, 2)
    assert ingest("upload", tmp_path / "b", *flags).code == 0
    assert (len(on_disk(site)), site.rows("DEMO")) == (len(paths), [])


@pytest.mark.parametrize("kind", GROWTH)
def test_the_way_to_direct_archive(ingest: Ingest, site: StandIn, tmp_path: Path, kind: str) -> None:
    """A session that exists goes by the prearchive, and is merged from there."""
    first, grown = GROWTH[kind]
    archived(ingest, tmp_path, *first)
    part(tmp_path / "b", grown, 3, 4)
    refused(ingest("upload", tmp_path / "b", "--destination", "direct-archive"), site, kind)


@pytest.mark.parametrize("kind", GROWTH)
def test_the_advice_on_a_row_that_xnat_refused_ends_the_conflict(
    ingest: Ingest, site: StandIn, tmp_path: Path, kind: str
) -> None:
    """It does not say to run the same again, which would end the same."""
    site.project("DEMO").access["up"] = "delete"
    first, grown = GROWTH[kind]
    paths = archived(ingest, tmp_path, *first)
    paths += part(tmp_path / "b", grown, 3, 4)
    refused_by_xnat(ingest, site, tmp_path / "b")
    ended = ingest("upload", tmp_path / "b")
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["stale-row"], 0)
    (problem,) = ended.report["problems"]
    assert "run again" not in problem["detail"]
    assert "upload a tree that holds" in problem["detail"]
    assert "Delete it (xnat-ingest prearchive delete" in problem["detail"]
    client = Client(site.url, "up", PASSWORD).login()
    assert client("DELETE", f"/data{site.rows('DEMO')[0].url}").status == 200
    client.close()
    refused(ingest("upload", tmp_path / "b"), site, kind)
    part(tmp_path / "b", first[0], 1, 2)
    assert ingest("upload", tmp_path / "b").code == 0
    assert (on_disk(site), site.rows("DEMO")) == (bodies(paths), [])


def test_a_site_that_changes_uids(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Nothing shows which series a scan is. So XNAT is asked, and the advice on what it left says what ends that."""
    site.settings.site_anonymization, site.settings.site_script = True, "uids"
    archived(ingest, tmp_path, A, B)
    part(tmp_path / "b", B, 3, 4)
    assert ingest("upload", tmp_path / "b").code == 3
    again = ingest("upload", tmp_path / "b")
    assert again.kinds() == ["stale-row"]
    assert "If XNAT refuses it again, upload a tree that holds all series of that SeriesNumber" in again.out


@pytest.mark.parametrize("grown", ["B", "AB"])
def test_a_site_that_names_files_in_its_own_way(ingest: Ingest, site: StandIn, tmp_path: Path, grown: str) -> None:
    """Its scans tell the series, and a series that is only counted may go along."""
    site.settings.file_name_template = OTHER_NAMES
    paths = archived(ingest, tmp_path, A, B)
    paths += part(tmp_path / "b", B, 1, 4)[2:]
    if grown == "B":
        refused(ingest("upload", tmp_path / "b"), site, "same-number")
        return
    part(tmp_path / "b", A, 1, 2)
    assert ingest("upload", tmp_path / "b").code == 0
    assert (on_disk(site), site.rows("DEMO")) == (bodies(paths), [])


def test_scans_are_asked_for_only_where_it_matters(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Where the names of files tell the series, nothing more is asked, and a user who may not ask is not refused."""
    paths = archived(ingest, tmp_path, A, R)
    paths += part(tmp_path / "a", A, 3, 4)
    site.faults.add(Fault("status", "GET /data/experiments/[^/]+/scans$", status=403))
    assert ingest("upload", tmp_path / "a").code == 0
    assert (on_disk(site), site.rows("DEMO")) == (bodies(paths), [])


@pytest.mark.parametrize("kind", GROWTH)
def test_an_upload_that_stayed_in_the_prearchive_is_named_and_finished_by_the_right_tree(
    ingest: Ingest, site: StandIn, tmp_path: Path, kind: str
) -> None:
    first, grown = GROWTH[kind]
    paths = archived(ingest, tmp_path, *first)
    paths += part(tmp_path / "b", grown, 3, 4)
    assert ingest("upload", tmp_path / "b", "--destination", "prearchive").code == 0
    ended = ingest("upload", tmp_path / "b")
    assert (ended.code, ended.kinds(), [row.status for row in site.rows("DEMO")]) == (3, [kind], ["READY"])
    part(tmp_path / "b", first[0], 1, 2)
    assert ingest("upload", tmp_path / "b").code == 0
    assert (on_disk(site), site.rows("DEMO")) == (bodies(paths), [])


@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_a_plan_counts_series_that_go_one_after_the_other(
    ingest: Ingest, site: StandIn, tmp_path: Path, mode: str
) -> None:
    archived(ingest, tmp_path, A)
    for series in (A, B):
        part(tmp_path / "b", series, 1, 4)
    ended = ingest("plan", tmp_path / "b", "--online", "--existing", mode)
    seen = 2 if mode == "resume" else 0
    assert (ended.code, ended.totals["planned"], ended.totals["unverified"]) == (0, 8, 8 - seen), ended.out
