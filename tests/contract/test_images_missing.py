"""A session whose images could not be read or sent is not archived without them: XNAT would refuse to add them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import PositronEmissionTomographyImageStorage

from tests.conftest import Ended, Ingest, stored
from tests.contract.test_moved_by_a_build import CAPTURES
from tests.dicom_trees import CT, Series, make_session
from tests.standin import Fault, StandIn

IMAGES, REPORT = Series("T1_1", 3, number=1), Series("SR_2", 2, "test-SR.dcm", number=2)
CT_SCAN = Series("CT_3", 3, CT, number=3)
PET = Series("PT_4", 3, CT, number=4, tags={"Modality": "PT", "SOPClassUID": PositronEmissionTomographyImageStorage})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def tree(tmp_path: Path, *series: Series) -> Path:
    make_session(tmp_path / "whole/S/E", series)
    shutil.copytree(tmp_path / "whole", tmp_path / "tree")
    return tmp_path / "tree"


def mend(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "tree")
    shutil.copytree(tmp_path / "whole", tmp_path / "tree")


def spoil(tmp_path: Path, series: Series, how: Callable[[Path], None], most: int = 99) -> None:
    for path in sorted((tmp_path / "tree/S/E" / series.name).iterdir())[:most]:
        how(path)


def refused(ended: Ended, site: StandIn) -> None:
    assert (ended.code, ended.kinds()) == (3, ["images-missing"]), ended.out
    assert not site.sessions("DEMO")


@pytest.mark.parametrize("other", [REPORT, CAPTURES], ids=["report", "capture"])
@pytest.mark.parametrize("how", [cut, empty, link])
@pytest.mark.parametrize("way", [("--destination", "archive"), ("--destination", "direct-archive")])
def test_the_rest_waits_until_the_images_can_be_read(
    tmp_path: Path, ingest: Ingest, site: StandIn, other: Series, how: Callable[[Path], None], way: tuple[str, ...]
) -> None:
    root = tree(tmp_path, IMAGES, other)
    spoil(tmp_path, IMAGES, how)
    ended = ingest("upload", root, *way)
    refused(ended, site)
    assert (ended.totals["bytes_sent"], site.rows("DEMO")) == (0, [])
    mend(tmp_path)
    assert ingest("upload", root, *way).code == 0
    assert len(stored(site, "DEMO", "S", "S_E").files) == 3 + other.files


def test_the_rest_goes_where_nothing_is_archived(tmp_path: Path, ingest: Ingest, site: StandIn) -> None:
    root = tree(tmp_path, IMAGES, REPORT)
    spoil(tmp_path, IMAGES, empty)
    ended = ingest("upload", root, "--destination", "prearchive")
    assert (ended.code, ended.totals["verified"], len(site.rows("DEMO"))) == (3, 2, 1)
    mend(tmp_path)
    assert ingest("upload", root).code == 0


def test_the_rest_goes_alone_where_the_images_are_left_out(tmp_path: Path, ingest: Ingest) -> None:
    root = tree(tmp_path, IMAGES, REPORT)
    spoil(tmp_path, IMAGES, empty)
    ended = ingest("upload", root, "--exclude", "T1")
    assert (ended.code, ended.totals["verified"]) == (0, 2)


@pytest.mark.parametrize("most", [1, 2])
def test_a_session_with_images_is_archived_without_those_that_cannot_be_read(
    tmp_path: Path, ingest: Ingest, site: StandIn, most: int
) -> None:
    root = tree(tmp_path, IMAGES, REPORT)
    spoil(tmp_path, IMAGES, cut, most)
    ended = ingest("upload", root)
    assert (ended.code, ended.totals["verified"], ended.kinds()) == (3, 5 - most, [])
    mend(tmp_path)
    assert ingest("upload", root).code == 0
    assert len(stored(site, "DEMO", "S", "S_E").files) == 5


def test_reports_beside_a_session_that_cannot_be_read_are_archived(
    tmp_path: Path, ingest: Ingest, site: StandIn
) -> None:
    root = tree(tmp_path, IMAGES)
    make_session(root / "S/E_2", [REPORT], "another")
    spoil(tmp_path, IMAGES, cut)
    ended = ingest("upload", root)
    assert (ended.code, ended.totals["verified"], ended.kinds()) == (3, 2, [])


@pytest.mark.parametrize(("lost", "other"), [(IMAGES, REPORT), (PET, CT_SCAN)], ids=["report", "pet-ct"])
def test_it_stays_open_where_the_images_could_not_be_sent(
    tmp_path: Path, ingest: Ingest, site: StandIn, lost: Series, other: Series
) -> None:
    root = tree(tmp_path, replace(lost, files=1), other)
    site.faults.add(Fault("poison", name=f"-{lost.number}-1-", times=None))
    ended = ingest("upload", root)
    refused(ended, site)
    (row,) = site.rows("DEMO")
    assert (row.status, row.prevent_auto_commit) == ("READY", True)
    site.faults.clear()
    assert ingest("upload", root).code == 0
    assert len(stored(site, "DEMO", "S", "S_E").files) == 1 + other.files


@pytest.mark.parametrize(("lost", "other"), [(CT_SCAN, PET), (REPORT, IMAGES)], ids=["pet-ct", "report"])
def test_it_is_archived_where_what_could_not_be_sent_does_not_lead(
    tmp_path: Path, ingest: Ingest, site: StandIn, lost: Series, other: Series
) -> None:
    root = tree(tmp_path, replace(lost, files=1), other)
    site.faults.add(Fault("poison", name=f"-{lost.number}-1-", times=None))
    ended = ingest("upload", root)
    assert (ended.code, ended.totals["verified"], ended.totals["failed"]) == (3, other.files, 1), ended.out
    site.faults.clear()
    assert ingest("upload", root).code == 0


def test_more_reports_follow_into_a_session_that_is_archived(tmp_path: Path, ingest: Ingest, site: StandIn) -> None:
    root = tree(tmp_path, IMAGES, REPORT)
    assert ingest("upload", root, "--exclude", "IM000002").code == 0
    spoil(tmp_path, IMAGES, cut)
    assert "images-missing" not in ingest("upload", root).kinds()
    mend(tmp_path)
    assert ingest("upload", root).code == 0
    assert len(stored(site, "DEMO", "S", "S_E").files) == 5


EMPTY = "POST /data/services/import"


@pytest.mark.parametrize(("lead", "other"), [(PET, CT_SCAN), (IMAGES, REPORT)], ids=["pet-ct", "report"])
@pytest.mark.parametrize("stores", [False, True])
def test_what_is_answered_with_nothing_is_sent_again(
    tmp_path: Path, ingest: Ingest, site: StandIn, lead: Series, other: Series, stores: bool
) -> None:
    """The other part is answered as usual."""
    root = tree(tmp_path, replace(lead, files=1), other)
    site.faults.add(Fault("empty", match=EMPTY, work=stores))
    ended = ingest("upload", root)
    assert (ended.code, ended.totals["verified"]) == (0, 1 + other.files), ended.out
    assert len(stored(site, "DEMO", "S", "S_E").files) == 1 + other.files


@pytest.mark.parametrize(("lead", "other"), [(PET, CT_SCAN), (IMAGES, REPORT)], ids=["pet-ct", "report"])
def test_it_stays_open_where_the_images_are_answered_with_nothing(
    tmp_path: Path, ingest: Ingest, site: StandIn, lead: Series, other: Series
) -> None:
    root = tree(tmp_path, replace(lead, files=1), other)
    site.faults.add(Fault("empty", match=EMPTY))
    again = site.faults.add(Fault("empty", match=EMPTY, skip=1, times=None))
    refused(ingest("upload", root), site)
    assert again.hits == 1
    site.faults.clear()
    assert ingest("upload", root).code == 0
    assert len(stored(site, "DEMO", "S", "S_E").files) == 1 + other.files


def grown(tmp_path: Path, ingest: Ingest, lead: Series, other: Series) -> Path:
    """A tree of which one instance of each series is archived."""
    root = tree(tmp_path, lead, other)
    first = shutil.copytree(root, tmp_path / "first")
    for series in (lead, other):
        for path in sorted((first / "S/E" / series.name).iterdir())[1:]:
            path.unlink()
    assert ingest("upload", first).code == 0
    return root


@pytest.mark.parametrize(("lead", "other"), [(PET, CT_SCAN), (IMAGES, REPORT)], ids=["pet-ct", "report"])
@pytest.mark.parametrize("transport", ["archive", "gradual"])
@pytest.mark.parametrize("kind", ["poison", "empty"])
def test_an_archived_one_goes_along_instead(
    tmp_path: Path, ingest: Ingest, site: StandIn, lead: Series, other: Series, transport: str, kind: str
) -> None:
    """The new images of the session's own type do not arrive, the others do."""
    root = grown(tmp_path, ingest, replace(lead, files=2), other)
    if kind == "poison":
        site.faults.add(Fault("poison", name=f"-{lead.number}-2-", times=None))
    else:
        for skip in (0, other.files - 1 if transport == "gradual" else 1):
            site.faults.add(Fault("empty", match=EMPTY, skip=skip))
    ended = ingest("upload", root, "--transport", transport, "-w", "1")
    assert (ended.code, ended.totals["verified"]) == (3, other.files + 1), ended.out
    assert not site.rows("DEMO")
    site.faults.clear()
    mend(tmp_path)
    assert ingest("upload", root).code == 0
    assert len(stored(site, "DEMO", "S", "S_E").files) == 2 + other.files


@pytest.mark.parametrize(("lead", "other"), [(PET, CT_SCAN), (IMAGES, REPORT)], ids=["pet-ct", "report"])
@pytest.mark.parametrize("transport", ["archive", "gradual"])
def test_an_archived_one_goes_along_instead_of_one_that_is_lost(
    tmp_path: Path, ingest: Ingest, site: StandIn, lead: Series, other: Series, transport: str
) -> None:
    """XNAT takes the new image and does not keep it. After a disturbance, the listing before the commit shows that."""
    root = grown(tmp_path, ingest, replace(lead, files=2), other)
    site.faults.add(Fault("lose", name=f"-{lead.number}-2-", times=None))
    site.faults.add(Fault("reset", match="import", times=1))
    ended = ingest("upload", root, "--transport", transport)
    assert (ended.code, ended.totals["verified"], ended.totals["missing"]) == (3, other.files + 1, 1), ended.out
    assert not site.rows("DEMO")
    site.faults.clear()
    assert ingest("upload", root).code == 0
    assert len(stored(site, "DEMO", "S", "S_E").files) == 2 + other.files


@pytest.mark.parametrize("transport", ["archive", "gradual"])
def test_it_stays_open_where_the_images_are_lost(tmp_path: Path, ingest: Ingest, site: StandIn, transport: str) -> None:
    root = tree(tmp_path, IMAGES, REPORT)
    site.faults.add(Fault("lose", name=f"-{IMAGES.number}-", times=None))
    site.faults.add(Fault("reset", match="import", times=1))
    refused(ingest("upload", root, "--transport", transport), site)
    site.faults.clear()
    assert ingest("upload", root).code == 0
    assert len(stored(site, "DEMO", "S", "S_E").files) == IMAGES.files + REPORT.files


@pytest.mark.parametrize(("lead", "other"), [(PET, CT_SCAN), (IMAGES, REPORT)], ids=["pet-ct", "report"])
@pytest.mark.parametrize("kind", ["poison", "lose"])
def test_it_stays_open_where_no_image_can_be_replaced(
    tmp_path: Path, ingest: Ingest, site: StandIn, lead: Series, other: Series, kind: str
) -> None:
    root = grown(tmp_path, ingest, replace(lead, files=2), other)
    for number in (1, 2):
        site.faults.add(Fault(kind, name=f"-{lead.number}-{number}-", times=None))
    ended = ingest("upload", root, "--existing", "overwrite")
    assert (ended.code, ended.kinds()) == (3, ["images-missing"]), ended.out
    assert [row.status for row in site.rows("DEMO")] == ["READY"]
    site.faults.clear()
    assert ingest("upload", root, "--existing", "overwrite").code == 0
    assert not site.rows("DEMO")
    assert len(stored(site, "DEMO", "S", "S_E").files) == 2 + other.files


def test_it_stays_open_where_the_sibling_of_its_number_does_not_arrive(
    tmp_path: Path, ingest: Ingest, site: StandIn
) -> None:
    """XNAT adds to one of two series with one SeriesNumber only with an instance of the other."""
    root = grown(tmp_path, ingest, Series("T1_1", 3, number=1), Series("T1_2", 1, number=1))
    sibling = pydicom.dcmread(root / "S/E/T1_2/IM000001").SOPInstanceUID
    files = stored(site, "DEMO", "S", "S_E").files
    (name,) = (path.name for path in files.values() if pydicom.dcmread(path).SOPInstanceUID == sibling)
    site.faults.add(Fault("poison", name=name, times=None))
    ended = ingest("upload", root)
    assert (ended.code, ended.kinds()) == (3, ["images-missing"]), ended.out
    assert "XNAT refuses to add to one of them without an instance of each of the others" in ended.out
    site.faults.clear()
    assert ingest("upload", root).code == 0
    assert len(stored(site, "DEMO", "S", "S_E").files) == 4


def test_not_every_archived_image_is_tried(tmp_path: Path, ingest: Ingest, site: StandIn) -> None:
    root = tree(tmp_path, replace(PET, files=12), CT_SCAN)
    first = shutil.copytree(root, tmp_path / "first")
    (first / "S/E/PT_4/IM000012").unlink()
    (first / "S/E/CT_3/IM000003").unlink()
    assert ingest("upload", first).code == 0
    refusal = site.faults.add(Fault("poison", name="-4-", times=None))
    ended = ingest("upload", root)
    assert (ended.code, ended.kinds()) == (3, ["images-missing"]), ended.out
    assert "an archived one in their place cannot be sent into it" in ended.out
    assert refusal.hits < 40
    site.faults.clear()
    assert ingest("upload", root).code == 0
    assert len(stored(site, "DEMO", "S", "S_E").files) == 15


def test_a_companion_alone_is_not_archived(tmp_path: Path, ingest: Ingest, site: StandIn) -> None:
    """The one new instance of a series is refused, and only the archived sibling of its number has arrived."""
    root = grown(tmp_path, ingest, Series("T1_1", 2, number=1), Series("T1_2", 1, number=1))
    site.faults.add(Fault("poison", name="-1-2-", times=None))
    ended = ingest("upload", root)
    assert (ended.code, ended.kinds()) == (3, ["images-missing"]), ended.out
    assert [row.status for row in site.rows("DEMO")] == ["READY"]
    site.faults.clear()
    assert ingest("upload", root).code == 0
    assert len(stored(site, "DEMO", "S", "S_E").files) == 3
    assert not site.rows("DEMO")
