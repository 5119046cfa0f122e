"""Anonymisation scripts, reduced to what an uploader can notice: bytes change, UIDs change, objects go, or it fails.

A script is a line of words: ``name`` blanks the patient's name, ``uids`` replaces study, series and object UIDs,
``put:KEYWORD=VALUE`` writes an element, ``reject:KEYWORD=VALUE`` throws matching objects away, ``error`` fails.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from tests.standin.namer import value_of

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class AnonymizationError(Exception):
    """The script failed."""


def anonymize(script: str, path: Path) -> bool:
    """Rewrite a stored file; True when the object is rejected, which deletes the file."""
    words = script.split()
    if "error" in words:
        raise AnonymizationError("Anonymization failed")
    try:
        data = pydicom.dcmread(path)
    except (InvalidDicomError, FileNotFoundError) as error:  # another run is writing it, or has moved it
        raise AnonymizationError(str(error)) from error
    for word in words:
        keyword, _, value = word.removeprefix("reject:").partition("=")
        if word.startswith("reject:") and (value_of(data, keyword) or "") == value:
            path.unlink()
            return True
    for keyword, _, value in (word.removeprefix("put:").partition("=") for word in words if word.startswith("put:")):
        setattr(data, keyword, value)
    if "name" in words:
        data.PatientName = "Anonymous"
        data.PatientIdentityRemoved = "YES"
    if "uids" in words:
        _replace_uids(data)
    data.save_as(path)
    return False


def as_text(script: str) -> str:
    """The script in DicomEdit's words, as the site's configuration shows it."""
    lines = ['version "6.1"']
    for word in script.split():
        if word == "name":
            lines += ['(0010,0010) := "Anonymous"', '(0012,0062) := "YES"']
        elif word == "uids":
            lines += [f"{tag} := hashUID[{tag}]" for tag in ("(0020,000D)", "(0020,000E)", "(0008,0018)")]
        elif word.startswith("put:"):
            keyword, _, value = word.removeprefix("put:").partition("=")
            tag = f"{tag_for_keyword(keyword):08X}"
            lines.append(f'({tag[:4]},{tag[4:]}) := "{value}"')
        elif word.startswith("reject:"):
            keyword, _, value = word.removeprefix("reject:").partition("=")
            lines.append(f'({tag_for_keyword(keyword):08X}) = "{value}" ? reject')
    return "\n".join(lines)


def _replace_uids(data: Dataset) -> None:
    for keyword in _UIDS:
        if keyword in data:
            setattr(data, keyword, new_uid(str(data[keyword].value)))
    if "SOPInstanceUID" in data:
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID


def new_uid(uid: str) -> str:
    """The UID that ``uids`` puts in the place of another; the same one every time."""
    return f"2.25.{int.from_bytes(hashlib.sha256(uid.encode()).digest()[:15], 'big')}"
