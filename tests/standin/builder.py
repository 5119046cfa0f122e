"""Building a session: which scans the received files make, and what types they and the session have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.uid import SecondaryCaptureImageStorage

from tests.standin.dicomhead import NotDicomError, head_of
from tests.standin.model import Row, Scan
from tests.standin.namer import value_of

if TYPE_CHECKING:
    from tests.standin.server import StandIn

LEADING = ("PT", "MR", "CT", "NM", "XA", "RF", "US", "MG", "CR", "DX", "OPT", "XC", "ES", "RTIMAGE", "ECG", "EEG")
"""Which modality names the session when there are several; everything else is "other"."""

SCAN_TYPES = {
    "MR": "xnat:mrScanData",
    "CT": "xnat:ctScanData",
    "PT": "xnat:petScanData",
    "NM": "xnat:nmScanData",
    "XA": "xnat:xaScanData",
    "RF": "xnat:rfScanData",
    "US": "xnat:usScanData",
    "MG": "xnat:mgScanData",
    "CR": "xnat:crScanData",
    "DX": "xnat:dxScanData",
    "OPT": "xnat:optScanData",
    "XC": "xnat:xcScanData",
    "ES": "xnat:esScanData",
    "RTIMAGE": "xnat:rtImageScanData",
    "SR": "xnat:srScanData",
    "SEG": "xnat:segScanData",
}


class BuildError(Exception):
    """No session document can be made."""


@dataclass(frozen=True)
class Facts:
    """What the session builder takes from one stored file."""

    study_uid: str
    series_uid: str
    series_number: str
    description: str
    modality: str
    sop_class: str
    sop_uid: str
    size: int
    mtime: int


def facts_of(site: StandIn, path: Path) -> Facts | None:
    """The facts of a stored file, or None when it is no readable DICOM; kept as long as the file is the same."""
    try:
        state = path.stat()
        known = site.facts.get(path)
        if known and (known.size, known.mtime) == (state.st_size, state.st_mtime_ns):
            return known
        data = head_of(path).data
    except (NotDicomError, OSError):
        return None

    def get(keyword: str) -> str:
        return value_of(data, keyword) or ""

    found = Facts(
        get("StudyInstanceUID"),
        get("SeriesInstanceUID"),
        get("SeriesNumber"),
        get("SeriesDescription"),
        get("Modality"),
        get("SOPClassUID"),
        get("SOPInstanceUID"),
        state.st_size,
        state.st_mtime_ns,
    )
    site.facts[path] = found
    return found


def build(site: StandIn, row: Row) -> tuple[dict[str, Scan], str, str | None]:
    """The scans of a row by id, the session's type, and its study UID as the stored files have it.

    A scan is a series: two series that share a number share a directory, but the second one becomes ``N-MR1``.
    """
    scans: dict[tuple[str, str], Scan] = {}
    study = row.study_uid
    taken: set[str] = set()
    for folder in sorted(row.directory.glob("SCANS/*")):
        for path in sorted(path for path in folder.glob("DICOM/**/*") if path.is_file()):
            facts = facts_of(site, path)
            if facts is None or not facts.sop_uid:
                continue
            key = (folder.name, facts.series_uid)
            if key not in scans:
                scans[key] = _scan(folder.name, facts, taken)
                taken.add(scans[key].id)
            study = facts.study_uid or study
            name = path.relative_to(folder / "DICOM").as_posix()
            scans[key].files[name] = path
            scans[key].uids[name] = facts.sop_uid
    if not scans:
        raise BuildError("no DICOM files found in " + row.folder)
    petmr = site.petmr_setting(row.project)
    kind = session_type((scan.modality for scan in scans.values()), petmr)
    return {scan.id: scan for scan in scans.values()}, kind, study


def _scan(directory: str, facts: Facts, taken: set[str]) -> Scan:
    name, number = directory, 1
    while name in taken:
        name, number = f"{directory}-{facts.modality or 'OT'}{number}", number + 1
    return Scan(name, facts.series_uid, facts.description, facts.modality, scan_type(facts.modality, facts.sop_class))


def scan_type(modality: str, sop_class: str) -> str:
    if sop_class == SecondaryCaptureImageStorage:
        return "xnat:scScanData"
    return SCAN_TYPES.get(modality, "xnat:otherDicomScanData")


def session_type(modalities: Iterable[str], petmr: str | None) -> str:
    """The session's xsi:type; PET and MR together make ``petmr`` only where the project asks for it."""
    found = set(modalities)
    if {"PT", "MR"} <= found and petmr in ("petmr", "separate"):
        return "xnat:petmrSessionData"
    lead = next((one for one in LEADING if one in found), "")
    return SCAN_TYPES.get(lead, "xnat:otherDicomScanData").replace("ScanData", "SessionData")


def session_modality(xsi_type: str) -> str:
    """The modality a session type stands for, as the session document's ``modality`` says."""
    if xsi_type == "xnat:petmrSessionData":
        return "PET/MR"
    lead = next((m for m, t in SCAN_TYPES.items() if t.replace("ScanData", "SessionData") == xsi_type), "")
    return lead or "OT"
