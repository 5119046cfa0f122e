"""Headers rewritten in memory: nothing planted leaves, what analysis needs stays, in every encoding."""

from __future__ import annotations

import copy
import json
import struct
import time
from datetime import datetime, timedelta
from typing import Any, BinaryIO, cast

import pytest
from pydicom import filereader, filewriter
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.sequence import Sequence

from tests.dicom_trees import CT, SAMPLES, read
from tests.planted import PERSON, PLACES, leaks, patient, planted
from xnat_ingest.core.model import Plan
from xnat_ingest.deidentify.confidentiality import PRIVATE, attributes
from xnat_ingest.deidentify.encoding import (
    BIG_EXPLICIT,
    LITTLE_EXPLICIT,
    LITTLE_IMPLICIT,
    Encoding,
    NotRewritable,
    padded,
)
from xnat_ingest.deidentify.forms import holds_codes, holds_numbers
from xnat_ingest.deidentify.objects import Deidentifier
from xnat_ingest.deidentify.profile import READY, Profile, load_profile, parse_profile
from xnat_ingest.deidentify.pseudonyms import Key
from xnat_ingest.deidentify.rewriting import Rewriting
from xnat_ingest.deidentify.setup import summary
from xnat_ingest.inputs.dicom_dictionary import name_of

KEY = Key(b"a key of tests, of no other use at all")
ENCODINGS = {"explicit": LITTLE_EXPLICIT, "implicit": LITTLE_IMPLICIT, "big": BIG_EXPLICIT}


def encoded(dataset: Dataset, encoding: Encoding = LITTLE_EXPLICIT) -> bytes:
    """The elements before the pixels."""
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = encoding.order == "<", not encoding.explicit
    without = copy.deepcopy(dataset)
    for tag in [element.tag for element in without if element.tag >= 0x7FE00010]:
        del without[tag]
    filewriter.write_dataset(stream, without)
    return stream.getvalue()


def parsed(data: bytes, encoding: Encoding = LITTLE_EXPLICIT) -> Dataset:
    stream = DicomBytesIO(data)
    stream.is_little_endian, stream.is_implicit_VR = encoding.order == "<", not encoding.explicit
    return filereader.read_dataset(cast(BinaryIO, stream), not encoding.explicit, encoding.order == "<")


def profile(**keys: Any) -> Profile:
    return parse_profile(json.dumps({"base": "basic"} | keys), "test")


def rewritten(dataset: Dataset, how: Profile, encoding: Encoding = LITTLE_EXPLICIT, key: Key = KEY) -> Dataset:
    work = Rewriting(encoded(dataset, encoding), encoding, how, key)
    header = work.rewrite("S01", "S01_a")
    assert work.residue(header.data) is None
    return parsed(header.data, encoding)


@pytest.mark.wide
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["basic", "research-mr", "dates-kept"])
def test_nothing_planted_leaves(name: str, encoding: str) -> None:
    """What is found by the search does not leave either: the object is set aside."""
    how, form = load_profile(name), ENCODINGS[encoding]
    aside, refused = [], []
    for where, dataset in planted():
        work = Rewriting(encoded(dataset, form), form, how, KEY)
        try:
            header = work.rewrite("S01", "S01_a")
        except NotRewritable:
            refused.append(where)
            continue
        if work.residue(header.data):
            aside.append(where)
        else:
            assert not leaks(header.data, PERSON), where
            parsed(header.data, form)
    assert len(PLACES) >= 40
    searched = {
        "software",
        "manufacturer",
        "birth_in_model",
        "code_meaning_that_is_kept",
        "utf8",
    }
    searched |= {"without_accents", "phone_in_sequence_name", "device_text", "long_code", "unknown_representation"}
    searched |= {"birth_in_uid", *(f"birth_as_{kind}" for kind in ("decimal", "double", "integer", "long"))}
    kept = {
        "basic": {"long_text"},
        "dates-kept": {"long_text", "birth_as_other_date", "birth_as_date_time"},
        "research-mr": {"private_bytes", "private_wide_characters"},
    }
    assert set(aside) == searched | kept[name]
    assert refused == ["unlimited", "words"]  # a code and a lookup table that are none


def test_what_analysis_needs_stays() -> None:
    before = patient(PERSON)
    after = rewritten(before, load_profile("basic"))
    for keyword in (
        "Rows",
        "EchoTime",
        "PixelSpacing",
        "ImagePositionPatient",
        "Modality",
        "SeriesNumber",
        "WindowCenter",
    ):
        assert after[keyword].value == before[keyword].value


def test_what_is_written_into_the_object() -> None:
    after = rewritten(patient(PERSON), load_profile("basic"))
    assert after.PatientIdentityRemoved == "YES"
    assert after.DeidentificationMethod.startswith("xnat-ingest: basic ")
    assert [item.CodeValue for item in after.DeidentificationMethodCodeSequence] == ["113100"]
    assert after.LongitudinalTemporalInformationModified == "REMOVED"
    assert (after.PatientID, after.PatientName, after.StudyDate) == ("S01", "S01", "")
    codes = rewritten(patient(PERSON), load_profile("research-mr")).DeidentificationMethodCodeSequence
    assert [code.CodeValue for code in codes] == ["113100", "113104", "113105", "113107", "113108", "113109", "113111"]


def test_what_an_earlier_pass_wrote_is_replaced() -> None:
    before = patient(PERSON)
    before.PatientIdentityRemoved, before.DeidentificationMethod = "NO", "somebody's"
    after = rewritten(before, profile(rules=[{"keyword": "StudyDescription", "action": "K"}]))
    assert after.PatientIdentityRemoved == "YES"
    assert after.DeidentificationMethod.startswith("xnat-ingest: test ")
    assert "DeidentificationMethodCodeSequence" not in after


def test_burned_in_annotation_is_not_touched() -> None:
    before = patient(PERSON)
    before.BurnedInAnnotation = "NO"
    assert rewritten(before, load_profile("basic")).BurnedInAnnotation == "NO"


def test_elements_stay_in_order() -> None:
    tags = [element.tag for element in rewritten(patient(PERSON), load_profile("research-mr"))]
    assert tags == sorted(tags)


def test_uids_are_mapped_wherever_they_stand() -> None:
    before = patient(PERSON)
    item, nested = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = before.SOPClassUID, before.SOPInstanceUID
    nested.ReferencedImageSequence = Sequence([item])
    before.ReferencedImageSequence = Sequence([item])
    before.DerivationImageSequence = Sequence([nested])
    after = rewritten(before, load_profile("basic"))
    assert after.SOPInstanceUID.startswith("2.25.")
    assert len(after.SOPInstanceUID) <= 44
    assert after.SOPInstanceUID == after.ReferencedImageSequence[0].ReferencedSOPInstanceUID
    assert after.SOPInstanceUID == after.DerivationImageSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID
    assert after.SOPClassUID == after.ReferencedImageSequence[0].ReferencedSOPClassUID == before.SOPClassUID
    other = rewritten(before, load_profile("basic"), key=Key(b"another key of tests, of no other use"))
    assert other.SOPInstanceUID != after.SOPInstanceUID
    assert rewritten(before, profile(uids="keep")).SOPInstanceUID == before.SOPInstanceUID


def test_uids_come_from_the_key_alone() -> None:
    """Pinned: another mapping would make strangers of all that was ever sent."""
    assert Key(b"k" * 32).uid(b"1.2.3") == b"2.25.330128418958304695822425440426586043573"
    assert Key(b"k" * 32).days(b"id\0P1") == -3315
    assert Key(b"k" * 32).fingerprint == "b1683acb66e62882"


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_dates_of_a_patient_move_together() -> None:
    first, second = patient(PERSON), patient(PERSON, number=2)
    first.StudyDate, first.StudyTime, first.AcquisitionDateTime = "20240229", "101112.5", "20240229101112.123456+0100"
    second.StudyDate = "2024.03.10"
    days = KEY.days(b"id\0" + PERSON.patient_id.encode())
    how = profile(dates="shift")
    one, two = rewritten(first, how), rewritten(second, how)
    assert -3650 <= days <= -1

    def day(text: str) -> datetime:
        return datetime.strptime(text[:8], "%Y%m%d")  # noqa: DTZ007 - days alone

    assert day(one.StudyDate) == datetime(2024, 2, 29) + timedelta(days)  # noqa: DTZ001
    assert day(two.StudyDate) - day(one.StudyDate) == timedelta(10)
    assert day(one.AcquisitionDateTime) == day(one.StudyDate)
    assert one.AcquisitionDateTime[8:] == "101112.123456+0100"
    assert one.StudyTime == "101112.5"
    assert one.PatientBirthDate == ""
    assert one.LongitudinalTemporalInformationModified == "MODIFIED"


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.parametrize("value", ["2024", "202402", "20241301", "about noon"])
def test_a_date_that_cannot_be_moved_is_emptied(value: str) -> None:
    before = patient(PERSON)
    before.add_new(0x0008002A, "DT", value)
    assert rewritten(before, profile(dates="shift")).AcquisitionDateTime == ""


def test_kept_dates_are_said_to_be_kept() -> None:
    after = rewritten(patient(PERSON), load_profile("dates-kept"))
    assert after.StudyDate == patient(PERSON).StudyDate
    assert after.LongitudinalTemporalInformationModified == "UNMODIFIED"


def test_a_newborn_has_a_study_of_its_birth_date() -> None:
    newborn = patient(PERSON)
    newborn.StudyDate = newborn.SeriesDate = PERSON.birth
    assert rewritten(newborn, load_profile("dates-kept")).SeriesDate == PERSON.birth


def test_private_creators_leave_with_what_is_theirs() -> None:
    before = patient(PERSON)
    one, two = (before.private_block(0x0019, name, create=True) for name in ("ACME", "SIEMENS MR HEADER"))
    one.add_new(0x0C, "LO", "whatever")
    two.add_new(0x0C, "IS", "1000")
    two.add_new(0x77, "LO", "who knows")
    after = rewritten(before, load_profile("research-mr"))
    assert after.private_block(0x0019, "SIEMENS MR HEADER")[0x0C].value == 1000
    assert [f"{e.tag:08X}" for e in after if e.tag.is_private] == ["00190011", "0019110C"]
    assert not [e for e in rewritten(before, load_profile("basic")) if e.tag.is_private]


FREE = b"seen by Dr Maier, lives in Elm Road, HIV positive "


@pytest.mark.parametrize(
    "vr", ["LO", "SH", "LT", "ST", "UT", "UC", "UR", "CS", "AE", "UN", "OB", "OW", "US", "FD", "FL"]
)
@pytest.mark.parametrize(
    ("creator", "group", "element"), [(" siemens mr header", 0x19, 0x0C), ("GEMS_PARM_01", 0x43, 0x39)]
)
def test_a_private_number_is_a_number_whatever_it_is_called(vr: str, creator: str, group: int, element: int) -> None:
    data = LITTLE_EXPLICIT.element(group << 16 | 0x10, "LO", padded(creator.encode(), "LO"))
    data += LITTLE_EXPLICIT.element(group << 16 | 0x1000 | element, vr, FREE[:48])
    with pytest.raises(NotRewritable, match="what is no number, although the list of safe private elements says so"):
        Rewriting(data, LITTLE_EXPLICIT, load_profile("research-mr"), KEY).rewrite("S", "E")


@pytest.mark.parametrize(
    ("vr", "value", "number", "code"),
    [
        ("IS", b"1000\\8\\0 ", True, True),
        ("LO", b"-1.5e3 \\.5\\5.\\ \\NaN\\-inf\0", True, True),
        ("LO", b"1 2", False, True),
        ("LO", b"1000 s", False, True),
        ("CS", b"FM3_2 +/-.\\Yes", False, True),
        ("CS", b"SIXTEEN LETTERS.", False, True),
        ("CS", b"SEVENTEEN LETTERS", False, False),
        ("LO", b"a,b", False, False),
        ("UN", b"1000", True, True),
        ("UN", b"-12.25\\7.5", True, True),
        ("UN", b"DIRECTIONAL ", False, True),
        ("UN", b"Maier ", False, True),
        ("UN", b"Dr, M.", True, True),  # too short to tell from a binary number
        ("UN", b"Dr, Maier", False, False),
        ("", struct.pack("<3d", 0.1, -0.7, 0.333), True, True),
        ("FD", struct.pack("<d", 1 / 3), True, True),
        ("FD", b"DR MAIER", False, False),
        ("US", b"MAIER.", False, False),
        ("US", b"MAIER", True, True),  # of a wrong length, which is looked at elsewhere
        ("OB", b"x" * 27 + b"\0\0\0", False, False),
        ("OB", b"x" * 26 + b"\0\0\0", True, True),
        ("OB", b"x" * 15 + b"\0", True, True),
    ],
)
def test_what_is_a_number_and_what_a_code(vr: str, value: bytes, number: bool, code: bool) -> None:
    assert (holds_numbers(vr, value), holds_codes(vr, value)) == (number, code)


@pytest.mark.parametrize("value", [b"1" * 500_000, b"." * 500_000, b"1e" + b"1" * 500_000])
def test_a_long_value_that_is_nearly_a_number_takes_no_time(value: bytes) -> None:
    """One step for each character. With one for each pair of them, it would take hours."""
    begun = time.process_time()
    assert not holds_numbers("LO", value + b"x")
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("text", "leaves"), [("T:HEA;HEP", True), (f"T:{PERSON.family}", False)])
def test_short_texts_of_a_scanner(encoding: str, text: str, leaves: bool) -> None:
    """Also where the file names no representation, and no dictionary knows one."""
    before = patient(PERSON)
    before.private_block(0x0051, "SIEMENS MR HEADER", create=True).add_new(0x0F, "LO", text)
    after = rewritten(before, load_profile("research-mr"), ENCODINGS[encoding])
    found = after.private_block(0x0051, "SIEMENS MR HEADER")[0x0F].value
    assert (found.decode().strip() if isinstance(found, bytes) else found) == (text if leaves else "ANONYMIZED")


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        ("t1_mprage_sag_p2_iso", True),
        ("ep2d 64 dirs b1000", True),
        ("iso 0.8-0.8-0.8 v2.1.3", True),
        ("done 3/4/24", False),
        ("done 2024-3-4", False),
        ("t1 of quastenflosser", False),
        ("QUASTENFLOSSER", False),
        ("born 17.4.1953", False),
        ("follow up of 12.03.2024", False),
        ("call 030 1234567", False),
        ("call 030.555.01.99", False),
        ("call +49.30.555.0199", False),
        ("call 030\u2013555\u20130199", False),
        ("0.75 0.75 0.80", True),
        ("10.25 20.50 v1.12.3", True),
        ("diff_50_400_800", True),
        ("ask somebody@example.org", False),
    ],
)
def test_descriptions_leave_when_they_say_nothing_of_anybody(text: str, leaves: bool) -> None:
    before = patient(PERSON)
    before.SpecificCharacterSet = "ISO_IR 192"
    before.SeriesDescription = text
    after = rewritten(before, load_profile("research-mr"))
    assert after.SeriesDescription == (text if leaves else "ANONYMIZED")


def test_structured_content() -> None:
    before = read("test-SR.dcm")
    cleaned = rewritten(before, load_profile("research-mr"))
    assert len(cleaned.ContentSequence) == len(before.ContentSequence)
    assert [i.ValueType for i in cleaned.ContentSequence] == [i.ValueType for i in before.ContentSequence]
    texts = {e.value for e in rewritten(before, load_profile("basic")).iterall() if e.keyword == "TextValue"}
    assert texts <= {"ANONYMIZED", ""}


def test_labels_change_nothing_but_their_elements() -> None:
    work = Rewriting(encoded(patient(PERSON)), LITTLE_EXPLICIT, load_profile("basic"), KEY)
    short, long = work.rewrite("", "").data, work.rewrite("S01", "x").data
    assert len(long) == len(short) + 2 * len("S01 ")
    assert work.rewrite("S01", "x").data == long


def test_the_profile_may_set_what_is_not_there() -> None:
    how = profile(rules=[{"keyword": "ClinicalTrialProtocolID", "set": "T {subject} {session}"}], patient_name="Nobody")
    after = rewritten(patient(PERSON), how)
    assert (after.ClinicalTrialProtocolID, after.PatientName, after.PatientID) == ("T S01 S01_a", "Nobody", "S01")


def test_actions_are_counted() -> None:
    header = Rewriting(encoded(patient(PERSON)), LITTLE_EXPLICIT, load_profile("basic"), KEY).rewrite("S", "E")
    assert header.actions["X", 0x00101040] == 1
    assert header.actions["U", 0x0020000D] == 1
    assert header.actions["Z", 0x00080050] == 1
    assert not [tag for _, tag in header.actions if tag == 0x00280010]


_ALL = "AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV"
VRS = _ALL.split()


def odd_kinds(how: Profile) -> set[tuple[int, str]]:
    """An element for each action of a profile on each VR, whatever VR the dictionary gives the element."""
    tags = sorted({*DicomDictionary, *(int(a.key.replace("x", "0"), 16) for a in attributes() if a.key != PRIVATE)})
    found = {(how.action(tag, vr), vr): tag for tag in tags if 8 <= tag >> 16 < 0x7FE0 for vr in VRS}
    return {(tag, vr) for (_, vr), tag in found.items()} | {(0x00081140, vr) for vr in VRS}


@pytest.mark.parametrize("value", [b"", b"Hidden prose here "])
@pytest.mark.parametrize("name", READY)
def test_every_action_on_every_kind_of_value_has_its_word_in_the_report(name: str, value: bytes) -> None:
    """Also where a sequence is written as a text: nothing of it leaves, and the run ends with its report."""
    de_identifier = Deidentifier(load_profile(name), KEY)
    for tag, vr in sorted(odd_kinds(de_identifier.profile)):
        data = LITTLE_EXPLICIT.element(tag, vr, value)
        try:
            header = Rewriting(data, LITTLE_EXPLICIT, de_identifier.profile, KEY).rewrite("S", "E")
        except NotRewritable:
            continue
        if name_of(tag).endswith("Sequence"):
            assert b"Hidden" not in header.data
        de_identifier.tally.actions.update(header.actions)
    actions = summary(de_identifier, Plan("P", (), (), (), 0))["actions"]
    assert isinstance(actions, dict)
    assert sum(sum(counts.values()) for counts in actions.values()) == de_identifier.tally.actions.total() > 100
    assert actions["removed"]["ReferencedImageSequence"] >= len(VRS) - 2


BROKEN = {
    "cut in a value": lambda data: data[:-3],
    "garbage behind": lambda data: data + b"\x08\x00\x05\x00XX\x04\x00abcd",
    "a value beyond the end": lambda data: data + struct.pack("<HH2sH", 0x7000, 1, b"LO", 900),
    "items that are none": lambda data: data + struct.pack("<HH2sHLL", 0x7000, 2, b"SQ", 0, 8, 17) + b"abcd",
    "a sequence without its end": lambda data: data + struct.pack("<HH2sHL", 0x7000, 2, b"SQ", 0, 0xFFFFFFFF),
    "an end of nothing": lambda data: data + struct.pack("<HHL", 0xFFFE, 0xE00D, 0),
    "nested without end": lambda data: data + 60 * (
        struct.pack("<HH2sHL", 0x7000, 2, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_not_built_as_it_should_be_is_not_rewritten(fault: str) -> None:
    with pytest.raises(NotRewritable):
        Rewriting(BROKEN[fault](encoded(patient(PERSON))), LITTLE_EXPLICIT, load_profile("basic"), KEY).rewrite(
            "S", "E"
        )


def test_zeros_behind_the_last_element_do_not_leave() -> None:
    data = encoded(patient(PERSON))
    plain = Rewriting(data, LITTLE_EXPLICIT, load_profile("basic"), KEY).rewrite("S", "E").data
    assert Rewriting(data + bytes(512), LITTLE_EXPLICIT, load_profile("basic"), KEY).rewrite("S", "E").data == plain


def test_sequences_in_every_form_and_group_lengths() -> None:
    """Of defined and undefined length, in UN, which is implicit within; a group's length goes."""
    name = struct.pack("<HHL", 0x0010, 0x0010, 6) + b"Kranz "
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(name)) + name
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    in_un = struct.pack("<HH2sHL", 0x0008, 0x1140, b"UN", 0, 0xFFFFFFFF) + item + end
    in_un += struct.pack("<HH2sHL", 0x0008, 0x2112, b"UN", 0, len(item)) + item
    data = struct.pack("<HH2sHL", 0x0008, 0, b"UL", 4, 99) + in_un
    after = Rewriting(data, LITTLE_EXPLICIT, load_profile("basic"), KEY).rewrite("S", "E").data
    assert b"Kranz" not in after
    found = parsed(after)
    assert 0x00080000 not in found
    assert [len(found[keyword].value) for keyword in ("ReferencedImageSequence", "SourceImageSequence")] == [1, 1]
    assert found.SourceImageSequence[0].PatientName == ""


@pytest.mark.wide
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["basic", "research-mr", "dates-kept"])
def test_every_real_header_comes_out_readable_or_is_refused(name: str) -> None:
    done = 0
    for path in sorted(SAMPLES.rglob("*.dcm")):
        try:
            dataset = read(str(path.relative_to(SAMPLES)))
            implicit, little = dataset.original_encoding
            form = Encoding(explicit=not implicit, order="<" if little else ">")
            data = encoded(dataset, form)
        except Exception:  # noqa: BLE001 - broken on purpose
            continue
        try:
            after = parsed(Rewriting(data, form, load_profile(name), KEY).rewrite("S", "E").data, form)
        except NotRewritable:
            assert "truncated" in path.name or path.name == "badVR.dcm"
            continue
        assert after.PatientIdentityRemoved == "YES"
        assert after.get("Rows") == dataset.get("Rows")
        str(after)
        done += 1
    assert done > 60
    assert CT


@pytest.mark.filterwarnings("ignore:Failed to decode")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("sets", "name", "text", "code", "leaves"),
    [
        # The name, in an encoding that the header does not name.
        ("ISO_IR 192", "Иванченко^Николай", "T1 ИВАНЧЕНКО ax", "cp1251", False),
        ("ISO_IR 144", "Иванченко^Николай", "T1 Иванченко ax", "cp1251", False),
        ("ISO_IR 100", "Müllerström^Jörgen", "T1 Müllerström ax", "cp850", False),
        ("GB18030", "王小明华^李", "王小明华", "utf-8", False),
        # No text at all: nobody knows whose name it may be.
        ("ISO_IR 192", "Smithson^Johnny", "Голова", "cp1251", False),
        ("ISO_IR 192", "Smithson^Johnny", "T1 Schädel", "latin-1", False),
        ("ISO_IR 13", "Smithson^Johnny", "Голова", "cp1251", False),
        ("ISO_IR 100", "Smithson^Johnny", "頭部", "iso2022_jp", False),
        # Texts, also those that say nothing of the patient and do not name their encoding.
        ("ISO_IR 192", "Иванченко^Николай", "Голова", "utf-8", True),
        ("ISO_IR 192", "Müllerström^Jörgen", "T1 Schädel", "utf-8", True),
        ("ISO_IR 144", "Иванченко^Николай", "Голова", "iso8859-5", True),
        ("ISO_IR 144", "Иванченко^Николай", "Голова", "cp1251", True),
        ("ISO_IR 100", "Müllerström^Jörgen", "T1 Schädel", "latin-1", True),
        ("ISO_IR 100", "Smithson^Johnny", "T1 Schädel", "cp850", True),
        ("", "Smithson^Johnny", "T1 Schädel", "latin-1", True),
        ("ISO_IR 100", "Smithson^Johnny", "T1 Schädel", "utf-8", True),
        ("\\ISO 2022 IR 87", "Smithson^Johnny", "頭部", "iso2022_jp", True),
    ],
)
def test_texts_in_encodings_that_the_header_does_not_name(
    sets: str, name: str, text: str, code: str, *, leaves: bool, encoding: str
) -> None:
    """They are replaced, and the object is sent, where they hold the name, or are no text in the object's own."""
    raw = text.encode(code)
    before = patient(PERSON)
    value = raw + b" " * (len(raw) % 2)
    before.SpecificCharacterSet, before.PatientName = sets.split("\\"), name
    before.SeriesDescription = "x" * len(value)
    data = encoded(before, ENCODINGS[encoding]).replace(b"x" * len(value), value)
    work = Rewriting(data, ENCODINGS[encoding], load_profile("research-mr"), KEY)
    sent = work.rewrite("S01", "S01_a").data
    assert work.residue(sent) is None
    assert (raw in sent) == leaves
