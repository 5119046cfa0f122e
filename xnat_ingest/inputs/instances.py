"""Turns a header's values into an Instance, whether quick_header.py or pydicom has read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from sys import intern
from typing import Protocol

from xnat_ingest.core import Flaw, Form, Instance, SourceFile

CHARACTER_SET = 0x00080005
SOP_CLASS, SOP_UID = 0x00080016, 0x00080018
STUDY_UID, SERIES_UID = 0x0020000D, 0x0020000E
SERIES_NUMBER, INSTANCE_NUMBER = 0x00200011, 0x00200013
MODALITY, SERIES_DESCRIPTION = 0x00080060, 0x0008103E
PATIENT_ID = 0x00100020
FRAMES = 0x00280008
STUDY_DATE = 0x00080020
# The elements that are read from every header.
BASE_TAGS = (
    *(SOP_CLASS, SOP_UID, STUDY_UID, SERIES_UID, SERIES_NUMBER, INSTANCE_NUMBER),
    *(MODALITY, SERIES_DESCRIPTION, PATIENT_ID, FRAMES, STUDY_DATE),
)
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
# More than the standard allows: XNAT accepts the odd UIDs of some scanners and anonymisers.
UID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_UIDS = {
    "SOPClassUID": SOP_CLASS,
    "SOPInstanceUID": SOP_UID,
    "StudyInstanceUID": STUDY_UID,
    "SeriesInstanceUID": SERIES_UID,
}
_NO_TAGS: Mapping[str, str] = {}


class NotConvertible(Exception):
    """The library stumbles over a value, or over what the header says of its character set."""


class Values(Protocol):
    """The values of one header."""

    def first(self, tag: int) -> str:
        """The first value of a string element as written, trimmed; "" when absent."""
        ...

    def full(self, tag: int) -> str:
        """All of an element as text, in the file's character set; "" when absent. Raises NotConvertible."""
        ...


def invalid_uids(values: Values) -> list[str]:
    """The names of the UIDs that are absent or invalid."""
    return [name for name, tag in _UIDS.items() if not UID.fullmatch(values.first(tag))]


def has_no_uid(invalid: list[str]) -> bool:
    return len(invalid) == len(_UIDS)


def make_instance(
    file: SourceFile,
    values: Values,
    keywords: Mapping[str, int],
    patients: dict[str, str],
    *,
    syntax: str,
    pixel_bytes: int,
    form: Form = "file",
    head_size: int = 0,
    data_bytes: int = 0,
    flaw: Flaw = "",
) -> Instance:
    """Makes the instance. The other parameters are as in Instance.

    keywords: those to keep, with their tags.
    patients: PatientID -> its number, for all files of a scan.
    data_bytes: of the data set as it is sent.
    """
    first = values.first
    # Before `full`: the library then converts an element in place, and `first` would no longer see it as written.
    study_date, patient_id = first(STUDY_DATE), first(PATIENT_ID)
    return Instance(
        path=file.path,
        size=shared(file.size),
        mtime_ns=file.mtime_ns,
        sop_class=intern(first(SOP_CLASS)),
        sop_uid=first(SOP_UID),
        study_uid=intern(first(STUDY_UID)),
        series_uid=intern(first(SERIES_UID)),
        series_number=intern(first(SERIES_NUMBER)),
        instance_number=intern(first(INSTANCE_NUMBER)),
        modality=intern(text_of(first(MODALITY))),
        series_description=intern(text_of(values.full(SERIES_DESCRIPTION))),
        transfer_syntax=intern(syntax),
        pixel_bytes=shared(pixel_bytes),
        # Shared by all instances without tags, to save a dict per file.
        tags={word: intern(text_of(values.full(tag))) for word, tag in keywords.items()} if keywords else _NO_TAGS,
        form=form,
        sent_size=0 if form == "file" else head_size + data_bytes,
        head_size=shared(head_size),
        flaw=flaw or _flaw_of(study_date),
        patient=_patient(patient_id, patients),
    )


def text_of(value: str) -> str:
    """A value up to its first null.

    Where the length of an element is damaged, its value takes in the next ones, the patient's among them. Their tags
    have a null, since the numbers of their groups are below 256.
    """
    return value.partition("\0")[0].rstrip()


@lru_cache(maxsize=4096)
def shared(number: int) -> int:
    """The same number. Numbers that are alike in a series become one object, to save memory."""
    return number


def _flaw_of(date: str) -> Flaw:
    """XNAT accepts an absent StudyDate. Of any other it reads only the year."""
    return "study-date" if date and not re.match(r"[0-9]{4}", date) else ""


def _patient(known: str, patients: dict[str, str]) -> str:
    return patients.setdefault(known, str(len(patients) + 1)) if known else ""
