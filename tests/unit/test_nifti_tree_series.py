"""Several series in one folder of a NIfTI tree, and trees that were given from too far up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.nifti_trees import kinds, mr, only, planned, put, reasons, scan, scans


def test_a_folder_of_several_series_is_several_scans(tmp_path: Path) -> None:
    """As converters leave them in one folder; a sidecar goes with the image of its name."""
    folder = tmp_path / "a" / "pre" / "nifti"
    scan(folder / "T1", mr(2, "T1"), diffusion=True)
    scan(folder / "T2", mr(5, "T2"))
    scan(folder / "T2_e2", mr(5, "T2"))
    scan(folder / "mute", mr(0, ""))
    put(folder / "mute.json", json.dumps({"Modality": "MR", "SeriesNumber": 7}))
    put(folder / "stray.bval", "0\n")
    plan = planned(tmp_path)
    assert {number: (one[1], one[2], one[3]) for number, one in scans(only(plan)).items()} == {
        "2": ("T1", "T1", ["NIFTI/T1.nii.gz", "BIDS/T1.bval", "BIDS/T1.bvec", "BIDS/T1.json"]),
        "5": ("T2", "T2", ["NIFTI/T2.nii.gz", "NIFTI/T2_e2.nii.gz", "BIDS/T2.json", "BIDS/T2_e2.json"]),
        "7": ("mute", "mute", ["NIFTI/mute.nii.gz", "BIDS/mute.json"]),
    }
    assert (only(plan).conflicts, reasons(plan)) == ((), {"a/pre/nifti/stray.bval": "no-image"})
    assert len({instance.series_uid for instance in plan.as_plan("P").sessions[0].instances}) == 3


def test_two_uids_of_one_number_are_two_scans(tmp_path: Path) -> None:
    for name, uid in (("x", "1.2.3"), ("y", "1.2.4")):
        scan(tmp_path / "a" / "pre" / "f" / name, mr(2, name, SeriesInstanceUID=uid))
    assert [(one.description, one.uid) for one in only(planned(tmp_path)).scans] == [("x", "1.2.3"), ("y", "1.2.4")]


@pytest.mark.parametrize("third", [None, {"Modality": "MR"}])
def test_several_series_that_cannot_be_told_apart_are_a_conflict(
    tmp_path: Path, third: dict[str, object] | None
) -> None:
    folder = tmp_path / "a" / "pre" / "nifti"
    scan(folder / "T1", mr(2, "T1"))
    scan(folder / "T2", mr(5, "T2"))
    scan(folder / "mask", third)
    scan(tmp_path / "b" / "pre" / "T1" / "t1", mr(2, "T1"))
    plan = planned(tmp_path)
    assert kinds(plan) == ["mixed-series"]
    assert [bool(session.conflicts) for session in plan.sessions] == [True, False]
    for words in ("nifti of a/pre", "SeriesNumber 2, 5", "folder of its own"):
        assert words in plan.problems[0].detail


def test_an_image_without_a_sidecar_goes_with_the_one_series_of_its_folder(tmp_path: Path) -> None:
    scan(tmp_path / "a" / "pre" / "T1" / "t1", mr(2, "T1"))
    scan(tmp_path / "a" / "pre" / "T1" / "mask")
    assert len(scans(only(planned(tmp_path)))["2"][3]) == 3


@pytest.mark.parametrize(
    ("folder", "hint"),
    [
        ("study/007/pre/T1", "every image is deeper than subject/session/scan (study/007/pre/T1/t1.nii.gz)"),
        ("bids/sub-1/anat", "bids looks like a BIDS tree"),
        ("study/007/pre", ""),
    ],
)
def test_a_root_that_is_a_level_too_high(tmp_path: Path, folder: str, hint: str) -> None:
    scan(tmp_path / folder / "t1", mr(2, "T1"))
    plan = planned(tmp_path)
    assert kinds(plan) == (["root-too-high"] if hint else [])
    assert not hint or plan.problems[0].detail.startswith(hint)
    assert only(plan).conflicts == ()
