"""Building a session: which scans the received files make, and what types they and the session have.

A scan is a series (DICOMSessionBuilder): its id is the series number, or ``<number>-<MODALITY><k>`` for each of several
series of one number, counted in the order of their UIDs. CatalogBuilder moves the files to the folder of that id, and
those of SOP classes that are not primary (SOPModel) to its resource ``secondary``. It never replaces a file: where one
of the same name lies, the newcomer stays where it is, which only the server's log tells.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
)

from tests.standin.dicomhead import NotDicomError, head_of
from tests.standin.model import DICOM, SECONDARY, Row, Scan
from tests.standin.namer import value_of
from tests.standin.primary import PRIMARY

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


OF_CLASSES = {
    str(uid): modality
    for modality, uids in {
        "PT": (PositronEmissionTomographyImageStorage, EnhancedPETImageStorage),
        "MR": (MRImageStorage, EnhancedMRImageStorage),
        "CT": (CTImageStorage, EnhancedCTImageStorage),
    }.items()
    for uid in uids
}

_LAST_TAG = 0x0054FFFF
"""About how far the builder reads; what cannot be read so far is in no scan."""


class BuildError(Exception):
    """No session document can be made."""


class NothingReadableError(BuildError):
    """No file is readable DICOM."""


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
        data = head_of(path, _LAST_TAG).data
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
    """The scans of a row by id, the session's type, and its study UID as the stored files have it."""
    found: dict[tuple[str, str], dict[Path, Facts]] = {}
    for path in sorted(row.directory.glob("SCANS/**/*")):
        facts = facts_of(site, path) if path.is_file() else None
        if facts is not None and facts.sop_uid:
            found.setdefault((_number(site, facts), facts.series_uid), {})[path] = facts
    if not found:
        raise NothingReadableError("no DICOM files found in " + row.folder)
    ids = _ids({series: {facts.modality for facts in files.values()} for series, files in found.items()})
    scans: dict[str, Scan] = {}
    study = row.study_uid
    for series, files in sorted(found.items(), key=lambda one: _in_order(one[0])):
        facts = next(iter(files.values()))
        study = facts.study_uid or study
        kind = scan_type(facts.modality, facts.sop_class)
        scans[ids[series]] = Scan(ids[series], series[1], facts.description, facts.modality, kind)
        _catalogue(site, row, scans[ids[series]], files)
    everything = [facts for files in found.values() for facts in files.values()]
    images = [
        facts.modality or OF_CLASSES.get(facts.sop_class, "") for facts in everything if facts.sop_class in PRIMARY
    ]
    petmr = site.petmr_setting(row.project)
    return scans, session_type(images, [facts.modality for facts in everything], petmr), study


def _number(site: StandIn, facts: Facts) -> str:
    """The series number, else the UID with an underscore for each dot. From 1.10 on a plus in front is one, too."""
    if site.settings.at_least("1.10") and facts.series_number.startswith("+"):
        return "_" + facts.series_number[1:]
    return facts.series_number or re.sub(r"\W", "_", facts.series_uid, flags=re.ASCII) or "NA"


def _in_order(series: tuple[str, str]) -> tuple[float, str, str]:
    """By number as far as numbers are numbers, then by UID."""
    number, uid = series
    return float(number) if number.isdigit() else float("inf"), number, uid


def _ids(modalities: Mapping[tuple[str, str], set[str]]) -> dict[tuple[str, str], str]:
    """The scan id of each series."""
    ids: dict[tuple[str, str], str] = {}
    counts: dict[tuple[str, str], int] = {}
    for number, uid in sorted(modalities):
        if sum(other == number for other, _ in modalities) == 1:
            ids[number, uid] = number
            continue
        lead = next((one for one in LEADING if one in modalities[number, uid]), "OT")
        counts[number, lead] = counts.get((number, lead), 0) + 1
        ids[number, uid] = f"{number}-{lead}{counts[number, lead]}"
    return ids


def _catalogue(site: StandIn, row: Row, scan: Scan, files: Mapping[Path, Facts]) -> None:
    """Move the files of a scan to their places and list them. Files in folders of several scans are left alone."""
    scans = row.directory / "SCANS"
    folders = {path.relative_to(scans).parts[0] for path in files}
    scan.scattered = len(folders) > 1
    separates = site.settings.separate_secondary
    for path, facts in files.items():
        parts = path.relative_to(scans).parts
        name = "/".join(parts if scan.scattered else parts[2:])
        primary = facts.sop_class in PRIMARY or not separates
        part = scan if primary else scan.secondary
        target = path
        if not scan.scattered and not (primary and parts[1] == SECONDARY):
            target = scans / scan.id / (DICOM if primary else SECONDARY) / name
        if target != path and target.exists():
            continue  # a line in the log, nothing else: the file lies there, in no catalogue
        if target != path:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            site.facts[target] = site.facts.pop(path)
        part.files[name], part.uids[name] = target, facts.sop_uid


def scan_type(modality: str, sop_class: str) -> str:
    if sop_class == SecondaryCaptureImageStorage:
        return "xnat:scScanData"
    return SCAN_TYPES.get(modality, "xnat:otherDicomScanData")


def session_type(images: Collection[str], modalities: Collection[str], petmr: str | None) -> str:
    """The session's xsi:type: that of its images' classes (SOPMap), else of its modalities (ModalityMap).

    images: the modalities of the objects whose SOP class is primary, which stand for their classes here; only where an
        image has no modality, the class itself is looked at
    petmr: PET and MR together make ``petmr``, but where the project or the site asks for ``pet``
    """
    if {"PT", "MR"} <= set(images) and petmr != "pet":
        return "xnat:petmrSessionData"
    lead = next((one for found in (images, modalities) for one in LEADING if one in found), "")
    return SCAN_TYPES.get(lead, "xnat:otherDicomScanData").replace("ScanData", "SessionData")


def session_modality(xsi_type: str) -> str:
    """The modality a session type stands for, as the session document's ``modality`` says."""
    if xsi_type == "xnat:petmrSessionData":
        return "PET/MR"
    lead = next((m for m, t in SCAN_TYPES.items() if t.replace("ScanData", "SessionData") == xsi_type), "")
    return lead or "OT"
