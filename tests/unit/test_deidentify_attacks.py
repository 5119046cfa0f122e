"""Places where a patient hid from the search before the sending: each of these once left."""

from __future__ import annotations

import base64
import struct
import unicodedata
from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.planted import PERSON, patient
from tests.unit.test_deidentify_damage import leaves
from tests.unit.test_deidentify_rewriting import KEY, encoded, parsed
from xnat_ingest.deidentify.encoding import LITTLE_EXPLICIT, LITTLE_IMPLICIT, Encoding
from xnat_ingest.deidentify.profile import load_profile
from xnat_ingest.deidentify.rewriting import Rewriting

PROFILES = ("basic", "research-mr", "dates-kept")
Hide = Callable[[Dataset], bytes]
HIDDEN: dict[str, Hide] = {}


def hidden(hide: Hide) -> Hide:
    """Hides something in a data set and returns the bytes that must not leave."""
    HIDDEN[hide.__name__] = hide
    return hide


def _sets(dataset: Dataset, *names: str) -> None:
    dataset.SpecificCharacterSet = list(names) if len(names) > 1 else names[0]


@hidden
def japanese_within_a_longer_text(dataset: Dataset) -> bytes:
    """In ISO 2022 all bytes are ASCII, and where a word ends is not to be seen in them."""
    _sets(dataset, "", "ISO 2022 IR 87")
    dataset.PatientName = "Yamadazz^Tarouzz=山田^太郎"
    dataset.SoftwareVersions = "V1 山田太郎"
    return "山田太郎".encode("iso2022_jp")


@hidden
def chinese_in_an_item_of_another_character_set(dataset: Dataset) -> bytes:
    _sets(dataset, "ISO_IR 192")
    dataset.PatientName = "王小明"
    item = Dataset()
    _sets(item, "GB18030")
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99X", "of 王小明"
    dataset.AnatomicRegionSequence = Sequence([item])
    return "王小明".encode("gb18030")


@hidden
def a_name_told_in_an_item_of_another_character_set(dataset: Dataset) -> bytes:
    _sets(dataset, "ISO_IR 192")
    item = Dataset()
    _sets(item, "GB18030")
    item.PersonName = "欧阳小明"
    dataset.PersonIdentificationCodeSequence = Sequence([item])
    dataset.SoftwareVersions = "欧阳小明"
    return "欧阳小明".encode()


@hidden
def a_character_set_that_is_not_true(dataset: Dataset) -> bytes:
    """UTF-8 where ISO 8859-1 is said."""
    _sets(dataset, "ISO_IR 100")
    dataset.PatientName = "Kästnerwald^Jörg".encode().decode("latin-1")
    dataset.SoftwareVersions = "for Kaestnerwald"
    return b"Kaestnerwald"


@hidden
def accents_as_characters_of_their_own(dataset: Dataset) -> bytes:
    _sets(dataset, "ISO_IR 192")
    dataset.PatientName = "Kästnerwald^Jörg"
    text = unicodedata.normalize("NFD", "Kästnerwald").encode()
    dataset.ICCProfile = text + b" " * (len(text) % 2)
    return text


@hidden
def an_apostrophe(dataset: Dataset) -> bytes:
    dataset.PatientName = "O'Brandon^Sean"
    dataset.SoftwareVersions = "made for OBrandon"
    return b"OBrandon"


@hidden
def an_id_with_zeros_before_it(dataset: Dataset) -> bytes:
    dataset.PatientID = "4711081"
    dataset.SoftwareVersions = "case 0004711081"
    return b"4711081"


@hidden
def an_id_as_a_short_float(dataset: Dataset) -> bytes:
    dataset.PatientID = "4711081"
    dataset.add_new(0x00089459, "FL", 4711081.0)
    return struct.pack("<f", 4711081.0)


@hidden
def an_id_in_a_time(dataset: Dataset) -> bytes:
    dataset.PatientID = "47110815"
    dataset.add_new(0x00143077, "TM", "47110815")
    return b"47110815"


@hidden
def a_birth_date_in_a_time(dataset: Dataset) -> bytes:
    dataset.add_new(0x00143077, "TM", PERSON.birth)
    return PERSON.birth.encode()


@hidden
def an_id_in_a_date(dataset: Dataset) -> bytes:
    dataset.PatientID = "47110815"
    dataset.add_new(0x00141020, "DA", "47110815")
    return b"47110815"


def _in_software(text: str) -> Hide:
    def hide(dataset: Dataset) -> bytes:
        if not text.isascii():
            _sets(dataset, "ISO_IR 192")
        dataset.SoftwareVersions = text
        return text.encode()

    return hide


HIDDEN |= {
    f"a birth date as {text}": _in_software(text)
    for text in (
        "17.04.53", "17/4/53", "4/17/53", "53-04-17", "17 avril 1953", "17 de abril de 1953", "17th April 1953",
        "Apr. 17, 1953", "17-IV-1953", "1953 Apr 17", "19530417T101112", "19530417101112", "1953年4月17日",
    )
}  # fmt: skip


@hidden
def in_base64(dataset: Dataset) -> bytes:
    text = base64.b64encode(f"x{PERSON.name}".encode())
    dataset.SoftwareVersions = text.decode()
    return text


@hidden
def in_hexadecimal(dataset: Dataset) -> bytes:
    dataset.SoftwareVersions = PERSON.name.encode().hex()
    return PERSON.name.encode().hex().encode()


@hidden
def in_wide_characters_of_four_bytes(dataset: Dataset) -> bytes:
    dataset.ICCProfile = PERSON.name.encode("utf-32-be")
    return PERSON.name.encode("utf-32-be")


@hidden
def in_a_nested_profile_of_colours(dataset: Dataset) -> bytes:
    item = Dataset()
    item.ICCProfile = b"\0\1mluc" + PERSON.name.encode("utf-16-be")
    dataset.OpticalPathSequence = Sequence([item])
    return PERSON.family.encode("utf-16-be")


@hidden
def in_a_urn(dataset: Dataset) -> bytes:
    dataset.URNCodeValue = f"urn:x:{PERSON.patient_id}"
    return PERSON.patient_id.encode()


@hidden
def in_a_urn_with_percent_signs(dataset: Dataset) -> bytes:
    dataset.PatientName = "Kästnerwald^Jörg"
    _sets(dataset, "ISO_IR 192")
    dataset.URNCodeValue = "urn:x:K%C3%A4stnerwald"
    return b"K%C3%A4stnerwald"


@hidden
def an_original_uid_in_an_address(dataset: Dataset) -> bytes:
    dataset.RetrieveURL = f"https://pacs/wado?objectUID={dataset.SOPInstanceUID}"
    return str(dataset.SOPInstanceUID).encode()


@hidden
def an_original_uid_in_a_text(dataset: Dataset) -> bytes:
    dataset.SoftwareVersions = f"of {dataset.SeriesInstanceUID}"
    return str(dataset.SeriesInstanceUID).encode()


@hidden
def an_original_uid_in_a_reference_that_no_row_names(dataset: Dataset) -> bytes:
    dataset.SOPInstanceUIDOfConcatenationSource = dataset.SOPInstanceUID
    return str(dataset.SOPInstanceUID).encode()


@hidden
def another_calendar(dataset: Dataset) -> bytes:
    dataset.PatientBirthDateInAlternativeCalendar = "28-07-03"
    return b"28-07-03"


@hidden
def a_retired_order_number(dataset: Dataset) -> bytes:
    dataset.add_new(0x00401006, "SH", "PLACER77")
    return b"PLACER77"


@hidden
def a_command_element(dataset: Dataset) -> bytes:
    dataset.add_new(0x00001030, "AE", "WARD_SEVEN")
    return b"WARD_SEVEN"


@hidden
def encrypted_attributes(dataset: Dataset) -> bytes:
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID, item.EncryptedContent = "1.2.840.10008.1.2.1", b"SECRETSAUCE!"
    dataset.EncryptedAttributesSequence = Sequence([item])
    return b"SECRETSAUCE!"


@hidden
def pixels_of_a_retired_kind(dataset: Dataset) -> bytes:
    dataset.add_new(0x7F000010, "OW", b"BURNEDIN" * 4)
    return b"BURNEDIN"


@hidden
def an_id_of_a_source_image(dataset: Dataset) -> bytes:
    dataset.add_new(0x00203100, "CS", "PATH_TO_IMAGE")
    return b"PATH_TO_IMAGE"


@hidden
def the_study_date_in_a_private_version(dataset: Dataset) -> bytes:
    """As Siemens writes it."""
    dataset.StudyDate = "20100114"
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x09, "LO", "20100114")
    return b"20100114"


@hidden
def an_original_uid_in_a_private_header(dataset: Dataset) -> bytes:
    uid = "1.3.12.2.1107.5.2.32.35119.2010011420070721803086388"
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x20, "OB", f'tReferenceImage0 = ""{uid}""'.encode() + bytes(1))
    return uid.encode()


@hidden
def a_name_of_a_person_that_no_row_names(dataset: Dataset) -> bytes:
    item = Dataset()
    item.AnnotationGroupLabel, item.EvaluatorName = "x", "Somebody^Else"
    dataset.AnnotationGroupSequence = Sequence([item])
    return b"Somebody"


def test_what_is_around_a_uid_stays_where_it_is() -> None:
    """A vendor's format has places that are counted in bytes."""
    old = (b"1.3.12.2.1107.5.2.32.35119.2010011420070721803086388", b"1.2.3.4.5.6.7", b"1.2.840.10008.5.1.4.1.1.4")
    dataset = patient(PERSON)
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    before = b"SV10\0\1" + b"\0|".join(old) + b"\0B17 1.2.3 0.5\0 "
    block.add_new(0x10, "OB", before)
    work = Rewriting(encoded(dataset), LITTLE_EXPLICIT, load_profile("research-mr"), KEY)
    header = work.rewrite("S01", "S01_a")
    after = bytes(parsed(header.data).private_block(0x0029, "SIEMENS CSA HEADER")[0x10].value)
    new = KEY.uid(old[0]).ljust(len(old[0])), KEY.uid(old[1])[: len(old[1])], old[2]
    assert after == b"SV10\0\1" + b"\0|".join(new) + b"\0B17 1.2.3 0.5\0 "
    assert header.actions["U", 0x00291010] == 1


# What a profile says may leave.
ALLOWED = {("the_study_date_in_a_private_version", "dates-kept")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", [LITTLE_EXPLICIT, LITTLE_IMPLICIT], ids=["explicit", "implicit"])
@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("what", HIDDEN)
def test_it_does_not_leave(what: str, name: str, form: Encoding) -> None:
    dataset = patient(PERSON)
    secret = HIDDEN[what](dataset)
    data = encoded(dataset, form)
    assert secret in data
    assert (secret.lower() in leaves(data, name, form).lower()) == ((what, name) in ALLOWED)
