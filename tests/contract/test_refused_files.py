"""Files that XNAT refuses one by one: the others of the session arrive, and these are named with the cause."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from tests.conftest import Ingest
from tests.contract.test_moved_by_a_build import bodies, on_disk
from tests.dicom_trees import Series, make_session
from tests.standin import Fault, StandIn

IMPORT = "POST /data/services/import"


def with_date(path: Path, date: str) -> None:
    with pydicom.config.disable_value_validation():
        data = pydicom.dcmread(path)
        data.StudyDate = date
        data.save_as(path)


@pytest.fixture
def tree(tmp_path: Path) -> list[Path]:
    return make_session(tmp_path / "t/S/E", (Series("T1_0001", 6), Series("SR_0002", 2, "test-SR.dcm")), "study")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("date", "which"), [("UNKNOWN", 0), ("1/2/2020", 3), ("NIL", 7)])
@pytest.mark.parametrize("transport", ["archive", "gradual"])
def test_a_study_date_that_xnat_cannot_read(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, date: str, which: int, transport: str
) -> None:
    """The plan says so beforehand; one request finds out whether it is so."""
    with_date(tree[which], date)
    assert "study-date" in ingest("plan", tmp_path / "t").kinds()
    ended = ingest("upload", tmp_path / "t", "--transport", transport)
    assert (ended.code, ended.totals["verified"], ended.totals["failed"]) == (3, 7, 1)
    (unproven,) = ended.session("S_E")["unproven"]
    assert unproven["path"] == tree[which].relative_to(tmp_path / "t").as_posix()
    assert "StudyDate" in unproven["why"]
    assert date not in ended.out
    assert on_disk(site) == bodies([path for path in tree if path is not tree[which]])
    assert (site.rows("DEMO"), ended.totals["retries"]) == ([], 0)


@pytest.mark.wide
@pytest.mark.parametrize("date", ["", "00000000", "2020-01-01", "20200101"])
def test_a_study_date_that_xnat_reads(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, date: str
) -> None:
    for path in tree:
        with_date(path, date)
    assert ingest("plan", tmp_path / "t").kinds() == []
    assert ingest("upload", tmp_path / "t").code == 0


def test_a_whole_session_without_a_year_costs_one_refused_request(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path
) -> None:
    for path in tree:
        with_date(path, "UNKNOWN")
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["failed"], ended.totals["retries"]) == (3, 8, 0)
    assert [one.status for one in site.requests if IMPORT.split()[1] in one.path] == [400]


@pytest.mark.wide
@pytest.mark.parametrize("words", ["SOP Class UID", "SOP Instance UID"])
def test_an_object_without_a_uid_in_the_servers_eyes(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, words: str
) -> None:
    site.faults.add(Fault("poison", name="-1-3-", times=None, message=f"object {{}} contains no {words}"))
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"], ended.totals["failed"]) == (3, 7, 1)
    assert words in ended.session("S_E")["unproven"][0]["why"]
    assert on_disk(site) == bodies([path for path in tree if path is not tree[2]])
