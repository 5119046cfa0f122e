"""Where an object belongs when the request does not say: XNAT's default identifier (section 2.1 and 2.2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.standin.dicomhead import Header
from tests.standin.model import Project
from tests.standin.namer import label_chars, value_of

if TYPE_CHECKING:
    from tests.standin.server import StandIn

_COMMENTS = ("PatientComments", "StudyComments", "AdditionalPatientHistory")


def assignment(header: Header, name: str) -> str | None:
    """``Project:P1 Subject:S1 ...`` in one of the comment elements."""
    pattern = r"(?:\A|(?:.*[\s,;]))" + name + r"\s*\:\s*([\w\-]*)(?:(?:[\s,;].*\Z)|\Z)"
    for keyword in _COMMENTS:
        found = re.fullmatch(pattern, value_of(header, keyword) or "", re.IGNORECASE | re.ASCII)
        if found and found.group(1):
            return found.group(1)
    return None


def project_of(site: StandIn, header: Header) -> Project | None:
    """The project the headers name; the identifier runs as the receiver's user, who sees every project."""
    candidates = [
        assignment(header, "Project"),
        value_of(header, "StudyDescription"),
        value_of(header, "AccessionNumber"),
    ]
    return next((found for name in candidates if name and (found := site.any_project(name))), None)


def subject_of(header: Header) -> str | None:
    found = assignment(header, "Subject") or value_of(header, "PatientName")
    return label_chars(found) if found else None


def session_of(header: Header) -> str:
    found = assignment(header, "Session") or value_of(header, "PatientID")
    return label_chars(found) if found else "dicom_upload"


def auto_archive_of(header: Header) -> bool | None:
    """The ``AA:`` assignment, which overrides the project's code for a new row."""
    found = (assignment(header, "AA") or "").lower()
    return {"t": True, "true": True, "f": False, "false": False}.get(found)
