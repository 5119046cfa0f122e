"""The table of the standard, profiles made from it, and what is wrong with a profile."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from pydicom._private_dict import private_dictionaries

from xnat_ingest.core.errors import UsageError
from xnat_ingest.deidentify.confidentiality import OPTIONS, UNNAMED, attributes, settled, unnamed
from xnat_ingest.deidentify.profile import CODE, NUMBER, READY, load_profile, parse_profile, safe_private
from xnat_ingest.inputs.dicom_dictionary import name_of, tag_of, vr_of

# A few rows of PS3.15, Table E.1-1, as printed there.
ROWS = {
    "PatientName": "Z",
    "PatientID": "Z/D",
    "PatientBirthDate": "Z",
    "StudyDate": "Z",
    "SeriesDate": "X/D",
    "AcquisitionDateTime": "X/Z/D",
    "AccessionNumber": "Z",
    "StudyInstanceUID": "U",
    "ReferencedImageSequence": "X/Z/U*",
    "InstitutionName": "X/Z/D",
    "StationName": "X/Z/D",
    "PatientComments": "X",
    "ContentSequence": "D",
    "EncapsulatedDocument": "D",
    "DigitalSignaturesSequence": "X",
    "IconImageSequence": "X",
    "StructureSetLabel": "D",
}


def rows() -> dict[str, str]:
    return {a.key: a.basic for a in attributes()}


def action(profile: Any, keyword: str) -> str:
    tag = tag_of(keyword)
    assert tag is not None
    return str(profile.action(tag, vr_of(tag)))


def made(**keys: Any) -> Any:
    return parse_profile(json.dumps({"base": "basic"} | keys), "test.json")


def test_table_has_every_row() -> None:
    found = Counter(rows().values())
    assert len(rows()) == len(attributes()) == 621
    assert found == {"X": 384, "D": 92, "U": 54, "Z": 42, "X/D": 22, "X/Z": 11, "X/Z/D": 8, "Z/D": 6, "X/Z/U*": 2}


@pytest.mark.parametrize(
    ("column", "kept", "cleaned"),
    [
        ("private", 0, 1),
        ("uids", 59, 0),
        ("device", 46, 11),
        ("institution", 10, 0),
        ("patient", 9, 4),
        ("full-dates", 165, 0),
        ("modified-dates", 0, 165),
        ("descriptors", 0, 125),
        ("content", 0, 3),
        ("graphics", 0, 4),
    ],
)
def test_options_of_the_table(column: str, kept: int, cleaned: int) -> None:
    found = Counter(a.options[column] for a in attributes() if column in a.options)
    assert (found["K"], found["C"]) == (kept, cleaned)


@pytest.mark.parametrize("keyword", ROWS)
def test_rows_of_the_table(keyword: str) -> None:
    assert rows()[f"{tag_of(keyword):08X}"] == ROWS[keyword]


@pytest.mark.parametrize(
    ("choice", "is_sequence", "one"),
    [
        ("X", False, "X"), ("X/Z", False, "Z"), ("X/D", False, "D"), ("X/Z/D", False, "D"), ("Z/D", False, "D"),
        ("X/Z/D", True, "Z"), ("X/D", True, "D"), ("X/Z/U*", True, "R"),
    ],
)  # fmt: skip
def test_choices_are_settled_so_that_any_object_stays_valid(choice: str, is_sequence: bool, one: str) -> None:
    assert settled(choice, is_sequence=is_sequence) == one


@pytest.mark.parametrize("name", READY)
def test_ready_profiles_load_and_say_what_they_are_for(name: str) -> None:
    profile = load_profile(name)
    assert profile.needs_key
    assert len(profile.sha256) == 64
    assert profile.codes[0] == ("113100", "Basic Application Confidentiality Profile")


def test_basic_is_the_table_and_nothing_more() -> None:
    profile = load_profile("basic")
    by_key = {a.key: a for a in attributes()}
    for key, attribute in by_key.items():
        if key != "private" and "x" not in key:
            vr = vr_of(int(key, 16))
            assert profile.action(int(key, 16), vr) == settled(attribute.basic, is_sequence=vr == "SQ"), key
    assert profile.private == {}
    assert profile.codes == (("113100", "Basic Application Confidentiality Profile"),)


def test_what_no_row_names() -> None:
    """The table is not contradicted, and the dictionary knows each."""
    assert not {f"{tag:08X}" for tag in UNNAMED} & rows().keys()
    assert [name for tag in UNNAMED if (name := name_of(tag)).startswith("(")] == []
    assert Counter(UNNAMED.values()) == {"X": 28, "C": 10, "Z": 1}


@pytest.mark.parametrize(
    ("keyword", "basic", "research", "dates"),
    [
        ("PatientBirthDateInAlternativeCalendar", "X", "X", "X"),
        ("DoseComment", "Z", "C", "Z"),
        ("EncryptedAttributesSequence", "X", "X", "X"),
        ("MoveOriginatorApplicationEntityTitle", "X", "X", "X"),
        ("ReferencedFileID", "X", "X", "X"),
        ("BoardingPassID", "X", "X", "X"),
        ("SOPInstanceUIDOfConcatenationSource", "U", "U", "U"),
        ("ReferencedFiducialUID", "U", "U", "U"),
        ("CodingSchemeUID", "K", "K", "K"),
        ("ReferencedSOPClassUID", "K", "K", "K"),
        ("TargetLabel", "K", "K", "K"),
        ("DateOfGainCalibration", "Z", "C", "K"),
        ("EvaluatorName", "Z", "Z", "Z"),
    ],
)
def test_what_becomes_of_it(keyword: str, basic: str, research: str, dates: str) -> None:
    """Elements that no row names, by profile."""
    profiles = (load_profile(name) for name in ("basic", "research-mr", "dates-kept"))
    assert [action(profile, keyword) for profile in profiles] == [basic, research, dates]


@pytest.mark.parametrize(
    ("tag", "vr", "becomes"),
    [(0x60020010, "US", "X"), (0x50100010, "US", "X"), (0x7F000010, "OW", "X"), (0x7FE00001, "OV", None),
     (0x002031FF, "CS", "X"), (0x00203200, "IS", None), (0x21000010, "SH", "X"), (0x20500010, "SQ", None)],
)  # fmt: skip
def test_groups_that_repeat_and_groups_of_other_things(tag: int, vr: str, becomes: str | None) -> None:
    assert unnamed(tag, vr, dates="remove", uids="map", is_cleaning=False) == becomes


def test_uids_that_are_kept_are_kept_everywhere() -> None:
    assert action(made(uids="keep"), "SOPInstanceUIDOfConcatenationSource") == "K"


@pytest.mark.parametrize(
    ("profile", "keyword", "expected"),
    [
        ("basic", "SeriesDescription", "X"),
        ("basic", "EchoTime", "K"),
        ("basic", "EvaluatorName", "Z"),  # a person that no row names
        ("research-mr", "SeriesDescription", "C"),
        ("research-mr", "PatientAge", "K"),
        ("research-mr", "StudyDate", "C"),
        ("research-mr", "PatientBirthDate", "Z"),
        ("research-mr", "ProtocolName", "C"),
        ("research-mr", "DeviceSerialNumber", "X"),
        ("research-mr", "StationName", "X"),
        ("research-mr", "InstitutionName", "D"),
        ("dates-kept", "StudyDate", "K"),
        ("dates-kept", "PatientBirthDate", "Z"),
    ],
)
def test_what_ready_profiles_do(profile: str, keyword: str, expected: str) -> None:
    assert action(load_profile(profile), keyword) == expected


def test_a_rule_on_the_patient_stands_against_the_labels() -> None:
    profile = made(rules=[{"keyword": "PatientID", "action": "K"}])
    assert (action(profile, "PatientID"), profile.codes) == ("K", ())
    assert set(profile.written) == {0x00100010}


def test_what_the_dictionary_does_not_know_is_removed() -> None:
    assert load_profile("basic").action(0x00109999, "LO") == "X"
    assert load_profile("basic").action(0x60020010, "US") == "X"
    assert load_profile("basic").action(0x50101234, "US") == "X"


def test_private_elements_by_creator() -> None:
    profile = load_profile("research-mr")
    assert profile.private_action("SIEMENS CSA HEADER", 0x00291010) == "K"
    assert profile.private_action("SIEMENS CSA HEADER", 0x00291130) == "X"
    assert profile.private_action("SIEMENS CSA HEADER", 0x00291009) == "X"  # its version is the date of the study
    assert profile.private_action("SIEMENS CSA HEADER", 0x00291019) == "X"
    assert profile.private_action("SIEMENS MR SDS 01", 0x00211019) == "K"
    assert profile.private_action("SIEMENS MR HEADER", 0x0019100C) == NUMBER
    assert profile.private_action("SIEMENS MR HEADER", 0x0019100D) == CODE
    assert profile.private_action("SIEMENS MR HEADER", 0x0021100C) == "X"
    assert profile.private_action("ACME", 0x0019100C) == "X"
    everything = made(rules=[{"creator": "acme", "action": "K"}])
    assert everything.private_action("ACME", 0x00131055) == "K"
    assert everything.codes == ()


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_by_its_name_in_the_standard(name: str) -> None:
    profile = made(options=[f"{name.title()} Option"])
    assert len(profile.codes) == 2


def test_keys_stand_for_options() -> None:
    assert action(made(uids="keep"), "StudyInstanceUID") == "K"
    assert not made(uids="keep").needs_key
    assert made(uids="keep", dates="shift").needs_key
    assert made(dates="shift").codes[1][0] == "113107"
    assert made(options=["retain uids"]).uids == "keep"


def test_rules_have_the_last_word() -> None:
    rules = [
        {"keyword": "EchoTime", "action": "X"},
        {"tag": "(0008,1030)", "action": "K"},
        {"vr": "CS", "action": "Z"},
        {"keyword": "ClinicalTrialProtocolID", "set": "TRIAL {session}"},
    ]
    profile = made(rules=rules)
    assert action(profile, "EchoTime") == "X"
    assert action(profile, "StudyDescription") == "K"
    assert action(profile, "PatientSex") == "Z"
    assert profile.written[0x00120020] == "TRIAL {session}"
    assert profile.codes == ()  # more is kept than the profile lets: no code may say that it was followed
    assert made(rules=rules[:1]).codes


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"date": "shift"}, "unknown key 'date'; did you mean dates?"),
        ({"dates": "move"}, "dates: 'move' is not one of"),
        ({"options": ["retain safe privat"]}, "did you mean retain safe private?"),
        ({"options": ["clean graphics"]}, "cannot be done here"),
        ({"rules": [{"keyword": "PatientsName", "action": "X"}]}, "did you mean PatientName?"),
        ({"rules": [{"keyword": "PatientName", "actoin": "X"}]}, "did you mean action?"),
        ({"rules": [{"keyword": "PatientName"}]}, "a rule has one of keyword, tag, creator, vr"),
        ({"rules": [{"keyword": "PatientName", "tag": "00100010", "action": "X"}]}, "a rule has one of"),
        ({"rules": [{"tag": "0009,1001", "action": "X"}]}, "is no tag of a standard element"),
        ({"rules": [{"keyword": "PatientSex", "group": "0009", "action": "X"}]}, "belong to a creator's"),
        ({"rules": [{"keyword": "StudyInstanceUID", "action": "X"}]}, "the program's own affair"),
        ({"rules": [{"keyword": "EchoTime", "set": "{patient}"}]}, "{patient} is no place"),
        ({"rules": [{"keyword": "Rows", "set": "1"}]}, "only text can be set"),
        ({"patient_id": "Mü"}, "printable ASCII"),
        ({"patient_id": "X", "rules": [{"keyword": "PatientID", "action": "K"}]}, "both decide on PatientID"),
        ({"dates": "keep", "options": ["Retain Longitudinal Temporal Information With Modified Dates"]}, "contradict"),
        ({"burned_in": [{"modality": "US"}]}, "burned_in"),
    ],
)
def test_faults_of_a_profile_are_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=r"profile test\.json") as caught:
        made(**keys)
    assert message in str(caught.value)


def test_a_name_that_is_no_profile() -> None:
    with pytest.raises(UsageError, match="did you mean research-mr"):
        load_profile("research-mri")
    with pytest.raises(UsageError, match=r"cannot read profile \./none\.json"):
        load_profile("./none.json")


# Elements of creators that pydicom knows, which it lacks or calls unknown, and where they are told of.
_DD_001, _DD_005 = "Philips MR Imaging DD 001", "Philips MR Imaging DD 005"
TOLD_ELSEWHERE = {
    "PS3.15, Table E.3.10-1": {
        ("ELSCINT1", "00E1", "21"),
        ("ELSCINT1", "01E1", "26"),
        (_DD_001, "2005", "0D"),
        (_DD_001, "2005", "0E"),
    },
    "dcm2niix, nii_dicom.cpp": {
        *((_DD_001, "2005", element) for element in ("63", "6F", "71", "72", "73", "78", "79", "7A", "A0")),
        *((_DD_005, "2005", element) for element in ("0E", "0F", "12", "13", "3C")),
        ("SIEMENS MR HEADER", "0051", "0E"),
    },
}
# What pydicom knows next to nothing of. Their elements with the VRs that dcm4che's dictionaries of private attributes
# give, which were made from Siemens' own; the last ones are in dcm2niix, nii_dicom.cpp, alone.
OTHER_DICTIONARIES = {
    "SIEMENS MR SDS 01": """04 DS, 05 IS, 09 LO, 12 FD, 14 IS, 1B DS, 25 SL, 44 DS, 50 US, 51 US, FE SQ,
        5A CS, 5B CS, 5C CS""",
    "SIEMENS MR SDI 02": """01 US, 02 FD, 03 DS, 04 DS, 05 IS, 1C IS, 21 CS, 22 DS, 23 FD, 2F DS, 34 FD, 42 IS, 45 SL,
        46 FD, 47 IS, 48 IS, 49 IS, 4F LO, 53 FD, 58 SH, 59 IS, 5B FD, 5E IS, 61 DS, 62 FD, 75 CS, 79 CS, FE SQ,
        8A IS""",
}
NUMBERS = {"DS", "IS", "FL", "FD", "SS", "US", "SL", "UL"}
TEXTS_OF_SCANNERS = {"LO", "SH"}


def listed(kind: str) -> Iterator[tuple[str, str, str]]:
    text = resources.files("xnat_ingest.deidentify").joinpath("safe_private.json").read_text("utf-8")
    for creator, groups in json.loads(text)[kind].items():
        for group, elements in groups.items():
            for element in elements.split():
                yield creator, group, element


@pytest.mark.parametrize(("kind", "vrs"), [("numbers", NUMBERS), ("codes", {"CS"}), ("texts", TEXTS_OF_SCANNERS)])
def test_safe_private_elements_are_what_dictionaries_say(kind: str, vrs: set[str]) -> None:
    elsewhere = set().union(*TOLD_ELSEWHERE.values())
    for creator, group, element in listed(kind):
        assert creator in private_dictionaries, creator
        known = {tag.upper(): entry for tag, entry in private_dictionaries[creator].items()}
        entry = known.get(f"{group}XX{element}")
        where = f"{creator} ({group},xx{element}): {entry}"
        if creator in OTHER_DICTIONARIES:
            assert entry is None, where
            assert group == "0021", where
            told = dict(entry.split() for entry in OTHER_DICTIONARIES[creator].split(","))
            assert told[element] in {*vrs, "SQ"}, where
        elif (creator, group, element) in elsewhere:
            assert entry is None or entry[0] in {*vrs, "SQ"}, where
        else:
            assert entry is not None, where
            assert entry[0] in vrs, where
            assert entry[2] not in ("Unknown", "Private", "Reserved", ""), where


def test_safe_private_counts_and_what_was_never_safe() -> None:
    """Once listed from memory: a name, dates, UIDs, free texts, and what nobody knows."""
    assert [len(list(listed(kind))) for kind in ("numbers", "codes", "texts")] == [225, 30, 12]
    kept = safe_private()
    for creator, group, element in (
        ("PHILIPS MR IMAGING DD 004", 0x2005, 0x91),
        ("SIEMENS MED PT", 0x0071, 0x22),
        ("GEMS_PARM_01", 0x0043, 0x62),
        ("GEMS_PARM_01", 0x0043, 0x85),
        ("GEMS_PARM_01", 0x0043, 0x98),
        ("PHILIPS MR IMAGING DD 005", 0x2005, 0x36),
        ("SIEMENS MR SDS 01", 0x0021, 0x01),  # the patient's weight
        ("SIEMENS MR SDS 01", 0x0021, 0x0E),  # the name of a file
        ("SIEMENS MR SDS 01", 0x0021, 0x20),  # a UID
        ("SIEMENS MR SDS 01", 0x0021, 0x22),  # the owner of a file
        ("SIEMENS MR SDI 02", 0x0021, 0x55),  # the name of a file
        ("SIEMENS MR SDI 02", 0x0021, 0x66),  # free text
    ):
        assert (creator, group, element) not in kept


def test_texts_of_scanners_are_cleaned() -> None:
    kept = safe_private()
    assert kept["SIEMENS MR HEADER", 0x0051, 0x11] == "C"
    assert kept["SIEMENS MR HEADER", 0x0019, 0x0C] == NUMBER


def test_where_dates_are_moved_all_of_them_are() -> None:
    """A calibration on the day of the study would otherwise tell by how much the others were moved."""
    moved = [a for a in attributes() if "modified-dates" in a.options]
    assert [a.action({"device", "modified-dates"}) for a in moved] == [a.options["modified-dates"] for a in moved]
    profile = load_profile("research-mr")
    for tag, vr in ((0x00181200, "DA"), (0x00181203, "DT"), (0x300C0127, "DT")):
        assert profile.action(tag, vr) == "C"
