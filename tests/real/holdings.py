"""What lies on a disk: DICOM files by SOP instance, whoever put them there."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

PREAMBLE = 128


def held(folder: Path) -> dict[str, bytes]:
    """SOPInstanceUID -> content of every DICOM file below a folder that can be opened.

    The preamble does not count: XNAT writes its own.
    """
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = pydicom.dcmread(path, specific_tags=["SOPInstanceUID"])
        except (InvalidDicomError, EOFError):
            continue
        found[str(header.SOPInstanceUID)] = path.read_bytes()[PREAMBLE:]
    return found
