"""dcm2niix makes the same of images whose headers were rewritten by research-mr: equal NIfTI, equal sidecars but for
what identifies."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract.table import files_of
from tests.debian import program
from tests.dicom_trees import read, save, uid
from tests.standin import StandIn
from xnat_ingest.cli import main

pytestmark = pytest.mark.real
# What may differ: who, where, when.
IDENTIFIES = {
    *("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "StudyID", "StudyInstanceUID", "StudyDate"),
    *("SeriesInstanceUID", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName"),
    *("DeviceSerialNumber", "ReferringPhysicianName", "AcquisitionDateTime"),
}


def series(folder: Path, sample: str) -> None:
    dataset = read(sample)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid(sample), uid(sample, 1)
    dataset.ProtocolName = dataset.SeriesDescription = "t1 mprage sag"
    dataset.PatientAge, dataset.AcquisitionDate, dataset.AcquisitionTime = "045Y", "20200101", "101112"
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for number in range(1, 5):
        dataset.InstanceNumber, dataset.SOPInstanceUID = number, uid(sample, number)
        dataset.ImagePositionPatient = [0, 0, float(number)]
        save(dataset, folder / f"IM{number}")


def converted(source: Path, target: Path) -> dict[str, Any]:
    """File name -> bytes of an image, values of a sidecar."""
    target.mkdir()
    words = [program("dcm2niix"), "-b", "y", "-ba", "n", "-z", "n", "-f", "scan_%s", "-o", str(target), str(source)]
    subprocess.run(words, check=True, capture_output=True)
    found = {path.name: path.read_bytes() for path in target.iterdir()}
    return {name: json.loads(data) if name.endswith(".json") else data for name, data in found.items()}


@pytest.mark.parametrize("sample", ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "CT_small.dcm"])
def test_equal_images(site: StandIn, tmp_path: Path, sample: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", "k" * 40)
    series(tmp_path / "tree/007/pre", sample)
    assert main(["upload", str(tmp_path / "tree"), "-P", "DEMO", "--deidentify", "research-mr"]) == 0
    (folder,) = {path.parent for path in files_of(site)}
    before, after = converted(tmp_path / "tree", tmp_path / "before"), converted(folder, tmp_path / "after")
    assert before.keys() == after.keys()
    assert any(name.endswith(".nii") for name in before)
    for name, value in before.items():
        if isinstance(value, bytes):
            assert value == after[name], name
        else:
            other = {key for key in value | after[name] if value.get(key) != after[name].get(key)}
            assert other <= IDENTIFIES
