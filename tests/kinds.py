"""One tree with every kind of object that XNAT treats in a way of its own: for the contract table and the kill driver.

Session `pre` holds nearly all of them, `us` is of a type that no listing shows, `sc` has no primary image at all.
"""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom import uid

from tests.dicom_trees import CT, Series, make_session
from tests.dicomscu import behind_meta

_PET = {"Modality": "PT", "SOPClassUID": uid.PositronEmissionTomographyImageStorage}
_US = {"Modality": "US", "SOPClassUID": uid.UltrasoundImageStorage}
_SPECTRUM = {"SOPClassUID": uid.MRSpectroscopyStorage}
_STRUCTURES = {"Modality": "RTSTRUCT", "SOPClassUID": uid.RTStructureSetStorage}
_DOSE = {"SOPClassUID": uid.XRayRadiationDoseSRStorage}
SESSIONS = {
    "pre": (
        ("mr", 2, "MR_small.dcm", 1, {}),
        ("pet", 1, CT, 2, _PET),
        ("ct", 1, CT, 3, {}),
        ("sc", 1, "SC_rgb_small_odd.dcm", 4, {}),
        ("dose", 1, "test-SR.dcm", 5, _DOSE),
        ("rtstruct", 1, "rtplan.dcm", 6, _STRUCTURES),
        ("seg", 1, "liver_1frame.dcm", 7, {}),
        ("spectrum", 1, "MR_small.dcm", 8, _SPECTRUM),
        ("deflated", 1, "image_dfl.dcm", 9, {}),
        ("bare-implicit", 1, "MR_small_implicit.dcm", 10, {}),
        ("bare-explicit", 1, "MR_small.dcm", 11, {}),
        ("bigendian", 1, "MR_small_bigendian.dcm", 12, {}),
        ("jpeg2000", 1, "MR_small_jp2klossless.dcm", 13, {}),
        ("one-number-a", 2, "MR_small.dcm", 14, {}),
        ("one-number-b", 2, "MR_small.dcm", 14, {}),
    ),
    "us": (("us", 2, "MR_small.dcm", 1, _US), ("dose", 1, "test-SR.dcm", 2, _DOSE)),
    "sc": (("sc", 2, "SC_rgb_small_odd.dcm", 1, {}),),
}


def make_kinds(root: Path, subject: str = "007", *, more: int = 0, seed: str = "kinds") -> list[Path]:
    """The files below root/subject. more: so many instances more in each series; equal seeds give equal instances."""
    paths: list[Path] = []
    for name, kinds in SESSIONS.items():
        series = [Series(kind, number + more, sample, n, tags) for kind, number, sample, n, tags in kinds]
        paths += make_session(root / subject / name, series, f"{seed}-{subject}-{name}")
    for path in paths:
        if path.parent.name == "spectrum":
            data = pydicom.dcmread(path)
            del data.PixelData
            data.SpectroscopyData = bytes(4096)
            data.save_as(path)
        elif path.parent.name.startswith("bare"):
            path.write_bytes(behind_meta(path.read_bytes()))
    return paths
