"""Sessions of types that are not set up on a site: XNAT archives them and shows them in no listing."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    UltrasoundImageStorage,
    XRayAngiographicImageStorage,
)

from tests.conftest import Ingest, stored
from tests.contract.test_moved_by_a_build import delivered
from tests.dicom_trees import Series, make_series, make_session
from tests.standin import StandIn
from xnat_ingest.cli import main

KINDS = {
    "US": UltrasoundImageStorage,
    "XA": XRayAngiographicImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "MG": DigitalMammographyXRayImageStorageForPresentation,
    "CR": ComputedRadiographyImageStorage,
}


def series(modality: str, files: int = 2, name: str = "one_0001") -> Series:
    return Series(name, files, tags={"Modality": modality, "SOPClassUID": KINDS[modality]})


@pytest.mark.wide
@pytest.mark.parametrize("modality", KINDS)
def test_upload_verify_again_growth_and_overwrite(ingest: Ingest, site: StandIn, tmp_path: Path, modality: str) -> None:
    folder = tmp_path / "t/S/E"
    tree = make_session(folder, (series(modality),), "study")
    delivered(ingest("upload", tmp_path / "t"), site, tree)
    assert stored(site, "DEMO", "S", "S_E").xsi_type == f"xnat:{modality.lower()}SessionData"
    assert ingest("verify", tmp_path / "t").code == 0
    again = ingest("upload", tmp_path / "t")
    assert (again.code, again.totals["already_there"], again.totals["bytes_sent"]) == (0, 2, 0)
    more = make_series(folder, series(modality, 3), "study", 1)
    grown = ingest("upload", tmp_path / "t")
    delivered(grown, site, more)
    assert grown.totals["bytes_sent"] == more[-1].stat().st_size
    delivered(ingest("upload", tmp_path / "t", "--existing", "overwrite"), site, more)
    assert ingest("upload", tmp_path / "t", "--existing", "fail").kinds() == ["existing"]
    assert ingest("upload", tmp_path / "t", "--existing", "skip").totals["set_aside"] == 3


@pytest.mark.wide
def test_a_prearchive_session_of_such_a_type_is_archived_by_hand(
    ingest: Ingest, site: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verb finds what became of it, although no listing shows it."""
    make_session(tmp_path / "t/S/E", (series("US"),), "study")
    assert ingest("upload", tmp_path / "t", "--destination", "prearchive").code == 0
    assert main(["prearchive", "archive", "-P", "DEMO", "S_E"]) == 0
    assert "2 files in the prearchive, 0 in the archive before, 2 now" in capsys.readouterr().out


@pytest.mark.wide
def test_a_report_alone_joins_such_a_session(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """It takes an image along, so that the session keeps its type."""
    folder = tmp_path / "t/S/E"
    tree = make_session(folder, (series("US"),), "study")
    assert ingest("upload", tmp_path / "t").code == 0
    tree += make_series(folder, Series("SR_0002", 1, "test-SR.dcm"), "study", 2)
    delivered(ingest("upload", tmp_path / "t"), site, tree)
    assert stored(site, "DEMO", "S", "S_E").xsi_type == "xnat:usSessionData"


@pytest.mark.wide
def test_its_label_under_another_subject_is_a_conflict(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    make_session(tmp_path / "old", (series("US"),), "study")
    assert ingest("upload", tmp_path / "old", "-S", "T", "-E", "S_E").code == 0
    make_session(tmp_path / "t/S/E", (series("US"),), "other study")
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["other-subject"], 0)


@pytest.mark.wide
def test_each_label_is_asked_for_once(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Many sessions cost one more small request each, and only those that the listing does not show."""
    for number in range(4):
        make_session(tmp_path / f"t/S/{number}", (series("US", 1),), f"study {number}")
    assert ingest("upload", tmp_path / "t").code == 0
    before = len(site.requests)
    assert ingest("upload", tmp_path / "t").code == 0
    asked = [one.path for one in site.requests[before:] if "/projects/DEMO/experiments/S_" in one.path]
    assert sorted(asked) == [f"/data/projects/DEMO/experiments/S_{number}" for number in range(4)]


@pytest.mark.parametrize("label", [None, "S_E_here"])
@pytest.mark.parametrize("modality", ["US", "MR"])
def test_one_that_is_shared_into_the_project_counts(
    ingest: Ingest, site: StandIn, tmp_path: Path, label: str | None, modality: str
) -> None:
    """It has the label under which it is shared. Its subject is not in this project. Only MR is listed."""
    one = series("US") if modality == "US" else Series("one_0001", 2)
    make_session(tmp_path / "t/S/E", (one,), "study")
    assert ingest("upload", tmp_path / "t", project="MANUAL").code == 0
    site.share(stored(site, "MANUAL", "S", "S_E"), "DEMO", label)
    for command in ("verify", "upload"):
        ended = ingest(command, tmp_path / "t", "-S", "S", "-E", label or "S_E", "--layout", "session")
        assert (ended.code, ended.totals["verified"]) == (0, 2), ended.out
    assert ended.totals["bytes_sent"] == 0


@pytest.mark.parametrize("mode", ["resume", "overwrite"])
@pytest.mark.parametrize("modality", ["US", "MR"])
def test_one_that_is_shared_into_the_project_is_not_added_to(
    ingest: Ingest, site: StandIn, tmp_path: Path, modality: str, mode: str
) -> None:
    """XNAT looks for the session to add to in the project itself, and would make a second one."""
    folder = tmp_path / "t/S/E"
    one = series("US") if modality == "US" else Series("one_0001", 2)
    make_session(folder, (one,), "study")
    assert ingest("upload", tmp_path / "t", project="MANUAL").code == 0
    site.share(stored(site, "MANUAL", "S", "S_E"), "DEMO")
    more = series("US", 3) if modality == "US" else Series("one_0001", 3)
    make_series(folder, more, "study", 1)
    ended = ingest("upload", tmp_path / "t", "--existing", mode)
    assert (ended.code, ended.kinds()) == (3, ["shared-session"]), ended.out
    assert "-P MANUAL" in ended.out
    assert (ended.totals["bytes_sent"], site.sessions("DEMO"), site.rows("DEMO")) == (0, [], [])


@pytest.mark.parametrize("command", ["verify", "upload"])
def test_one_that_is_shared_under_another_label(ingest: Ingest, site: StandIn, tmp_path: Path, command: str) -> None:
    """In this project, the study has that label."""
    make_session(tmp_path / "t/S/E", (Series("one_0001", 2),), "study")
    assert ingest("upload", tmp_path / "t", project="MANUAL").code == 0
    site.share(stored(site, "MANUAL", "S", "S_E"), "DEMO", "renamed")
    ended = ingest(command, tmp_path / "t")
    assert ended.code == 3
    assert "renamed" in ended.out
