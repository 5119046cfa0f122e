"""The standard's table of confidential attributes (confidentiality.txt), what a choice of options makes of it, and the
attributes that the table does not name although they can tell who or where somebody is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

PRIVATE = "private"
# The standard's name of each option, without its last word, "Option" -> (its column in the table, its code in PS3.16).
OPTIONS: dict[str, tuple[str, str]] = {
    "retain safe private": ("private", "113111"),
    "retain uids": ("uids", "113110"),
    "retain device identity": ("device", "113109"),
    "retain institution identity": ("institution", "113112"),
    "retain patient characteristics": ("patient", "113108"),
    "retain longitudinal temporal information with full dates": ("full-dates", "113106"),
    "retain longitudinal temporal information with modified dates": ("modified-dates", "113107"),
    "clean descriptors": ("descriptors", "113105"),
    "clean structured content": ("content", "113104"),
}
FULL_DATES = "retain longitudinal temporal information with full dates"
MODIFIED_DATES = "retain longitudinal temporal information with modified dates"
KEEP_UIDS = "retain uids"
_MOVED = OPTIONS[MODIFIED_DATES][0]
# How the standard calls each code (PS3.16, CID 7050).
BASIC_CODE = ("113100", "Basic Application Confidentiality Profile")
CODE_MEANINGS = {
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}


# Attributes that are not in the table -> what happens to them. Those with C belong to the option "clean descriptors".
UNNAMED = {
    0x00080407: "X",  # StoredInstanceBaseURI
    0x00080408: "X",  # FolderAccessURI
    0x00080409: "X",  # FileAccessURI
    0x0008040B: "X",  # FilenameInContainer
    0x0008041B: "X",  # RecordKey
    0x0008041C: "X",  # PriorRecordKey
    0x00081190: "X",  # RetrieveURL
    0x00100033: "X",  # PatientBirthDateInAlternativeCalendar
    0x00100034: "X",  # PatientDeathDateInAlternativeCalendar
    0x00100035: "X",  # PatientAlternativeCalendar
    0x00102295: "X",  # BreedRegistrationNumber
    0x00240044: "X",  # CommentsOnPatientPerformanceOfVisualField
    0x00287FE0: "X",  # PixelDataProviderURL
    0x00400031: "X",  # LocalNamespaceEntityID
    0x00400032: "X",  # UniversalEntityID
    0x00400400: "C",  # CommentsOnTheScheduledProcedureStep
    0x00401006: "X",  # PlacerOrderNumberProcedure
    0x00401007: "X",  # FillerOrderNumberProcedure
    0x00401060: "C",  # RequestedProcedureDescriptionTrial
    0x00402006: "X",  # PlacerOrderNumberImagingServiceRequestRetired
    0x00402007: "X",  # FillerOrderNumberImagingServiceRequestRetired
    0x00404073: "X",  # StorageURL
    0x0040A33A: "X",  # ReportStatusCommentTrial
    0x0040A992: "X",  # UniformResourceLocatorTrial
    0x0040E001: "Z",  # HL7InstanceIdentifier
    0x0040E010: "X",  # RetrieveURI
    0x00420010: "C",  # DocumentTitle
    0x00700081: "C",  # ContentDescription
    0x0074100A: "X",  # ContactURI
    0x0074100C: "X",  # ContactDisplayName
    0x00880130: "X",  # StorageMediaFileSetID
    0x04000500: "X",  # EncryptedAttributesSequence
    0x30020003: "C",  # RTImageName
    0x30020004: "C",  # RTImageDescription
    0x30040006: "C",  # DoseComment
    0x30080066: "C",  # OverrideReason
    0x30080202: "C",  # TreatmentStatusComment
    0x300A0402: "C",  # SetupImageComment
    0x40080103: "X",  # ReferenceToRecordedSound
}
# Groups that do not belong in an image that is sent: commands, media, printers, luggage. Curves, overlays and a retired
# kind of pixels have repeating groups.
_UNNAMED_GROUPS = frozenset({0x0000, 0x0004, 0x2000, 0x2100, 0x2110, 0x2120, 0x2130, 0x4010})
_REPEATING_GROUPS = (0x50, 0x60, 0x7F)
_SOURCE_IMAGES = range(0x00203100, 0x00203200)
_PIXELS = 0x7FE0
# UIDs that identify kinds of things and lists of words. They are the same in every hospital.
_KINDS = frozenset(
    {0x0008001A, 0x0008001B, 0x00080062, 0x0008010C, 0x0008010D, 0x00080117, 0x00080118, 0x0008040E, 0x00081150}
    | {0x0008115A, 0x00083002, 0x00340003, 0x04000010, 0x04000510, 0x30100052, 0x30100053, 0x00080016, 0x00089123}
    | {0x3010001F}
)
_DATES = ("DA", "DT", "TM")
_DATE_ACTIONS = {"keep": "K", "shift": "C", "remove": "Z"}


def unnamed(tag: int, vr: str, *, dates: str, uids: str, is_cleaning: bool) -> str | None:
    """What happens to an attribute that is not in the table. None: it may be kept.

    dates, uids: of the profile.
    is_cleaning: whether descriptors are cleaned.
    """
    group = tag >> 16
    if tag in UNNAMED:
        action = UNNAMED[tag]
        return action if action != "C" or is_cleaning else "Z"
    if group in _UNNAMED_GROUPS or tag in _SOURCE_IMAGES or (group >> 8 in _REPEATING_GROUPS and group != _PIXELS):
        return "X"
    if vr == "PN":
        return "Z"
    if vr == "UI" and uids == "map" and tag not in _KINDS:
        return "U"
    return _DATE_ACTIONS[dates] if vr in _DATES else None


@dataclass(frozen=True, slots=True)
class Attribute:
    """A line of the table.

    key: the tag in hexadecimal digits, with x for any digit.
    options: column -> action.
    """

    key: str
    basic: str
    options: Mapping[str, str]

    def action(self, columns: Collection[str]) -> str:
        """The action under these options. An option may keep or clean it. Otherwise the basic profile decides.

        A date is moved where dates are moved, whatever else would keep it. One that stays tells by how much the others
        were moved, if it is of the same day.
        """
        chosen = {self.options[column] for column in columns if column in self.options}
        if _MOVED in columns and _MOVED in self.options:
            return self.options[_MOVED]
        return "K" if "K" in chosen else "C" if "C" in chosen else self.basic


@cache
def attributes() -> tuple[Attribute, ...]:
    """Every line of the table."""
    text = resources.files("xnat_ingest.deidentify").joinpath("confidentiality.txt").read_text("utf-8")
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        Attribute(key, basic, {column: action for column, _, action in (o.partition("=") for o in options)})
        for key, basic, *options in lines
    )


def settled(action: str, *, is_sequence: bool) -> str:
    """One action of a choice (X/Z/D): the one that keeps the object valid whatever its IOD requires.

    If a value may be required, it gets a dummy. If only the element may be required, it stays empty. U* replaces the
    UIDs in a sequence's items. A sequence is emptied if that is one of the choices.
    """
    choices = action.split("/")
    if "U*" in choices:
        return "R"
    if is_sequence and "Z" in choices:
        return "Z"
    return choices[-1]
