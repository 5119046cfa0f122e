"""What points to an image points to it after its UIDs were mapped, in all objects that do, whatever the transport."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.conftest import Ingest
from tests.contract.table import files_of
from tests.contract.test_contract import by
from tests.dicom_trees import save, uid
from tests.linked_objects import report, segmentation, structures, unresolved
from tests.planted import PERSON, leaks, patient
from tests.standin import StandIn

KEY = "a key for the tests of references, 64 characters are not needed"


def tree(root: Path) -> int:
    """Two studies of one patient: images, and in the first of them what points to images of both. Returns the files."""
    by_study: dict[str, list[Dataset]] = {}
    for name in ("pre", "post"):
        images = by_study[name] = []
        for number in (1, 2, 3):
            image = patient(PERSON, number=number)
            image.StudyInstanceUID, image.SeriesInstanceUID = uid(name), uid(name, 1)
            image.SOPInstanceUID, image.FrameOfReferenceUID = uid(name, number), uid(name, "frame")
            save(image, root / f"007/{name}/MR_1/IM{number}")  # type: ignore[arg-type]
            images.append(image)
    for made in (segmentation, structures):
        save(made(by_study["pre"]), root / f"007/pre/{made.__name__}/IM1")
    save(report(by_study["pre"], by_study["post"]), root / "007/pre/report/IM1")
    return 9


@pytest.mark.wide
@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.parametrize(
    ("profile", "transport"),
    [("basic", "tar"), ("research-mr", "tar"), ("research-mr", "gradual"), ("basic", "cstore")],
)
def test_every_reference_resolves_on_the_servers_disk(
    ingest: Ingest, site: StandIn, tmp_path: Path, profile: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", KEY)
    number = tree(tmp_path / "tree")
    before = [pydicom.dcmread(path) for path in sorted((tmp_path / "tree").rglob("IM*"))]
    lost, references = unresolved(before)
    assert lost == []
    assert references > 60
    with by(transport, site) as (flags, _):
        ended = ingest("upload", tmp_path / "tree", "--deidentify", profile, *flags)
    assert (ended.code, ended.totals["verified"]) == (0, number), ended.out
    there = [pydicom.dcmread(path) for path in files_of(site)]
    assert unresolved(there) == ([], references)
    assert {str(d.Modality) for d in there} == {"MR", "SEG", "RTSTRUCT", "SR"}
    olds = {str(d.get(keyword)) for d in before for keyword in ("SOPInstanceUID", "SeriesInstanceUID")}
    data = b"".join(path.read_bytes() for path in files_of(site))
    assert not [old for old in olds if old.encode() in data]
    assert not leaks(data, PERSON)
    assert ingest("verify", tmp_path / "tree", "--deidentify", profile).code == 0
