"""Identifiers, dates and telephone numbers that stand where numbers stand."""

from __future__ import annotations

import struct
from contextlib import nullcontext, suppress
from dataclasses import replace

import pytest

from tests.planted import PERSON, Person, patient
from tests.unit.test_deidentify_rewriting import KEY, encoded
from xnat_ingest.deidentify.encoding import LITTLE_EXPLICIT, NotRewritable, padded
from xnat_ingest.deidentify.profile import load_profile
from xnat_ingest.deidentify.rewriting import Residue, Rewriting

BASIC = load_profile("basic")
THICKNESS, EXPOSURE, B_VALUE = 0x00180050, 0x00181150, 0x00189087
SHORT_ID, LONG_ID = "12345678", "110101199003074515"
OF_DIGITS = {number: replace(PERSON, patient_id=number) for number in (SHORT_ID, LONG_ID, "8812345677", "100000")}
DIALLED = replace(PERSON, phone="030 5550199")


def written(person: Person, tag: int, vr: str, value: bytes) -> Residue | None:
    """What is found in a header with these bytes in place of a number."""
    dataset = patient(person)
    dataset.add_new(tag, vr, 1.0 if vr == "FD" else "1")
    before = encoded(dataset)
    one = LITTLE_EXPLICIT.element(tag, vr, struct.pack("<d", 1) if vr == "FD" else b"1 ")
    assert before.count(one) == 1
    data = before.replace(one, LITTLE_EXPLICIT.element(tag, vr, padded(value, vr)))
    work = Rewriting(data, LITTLE_EXPLICIT, BASIC, KEY)
    return work.residue(work.rewrite("S01", "S01_a").data)


@pytest.mark.parametrize(("tag", "vr"), [(THICKNESS, "DS"), (EXPOSURE, "IS")])
@pytest.mark.parametrize(
    ("person", "text", "source"),
    [
        (OF_DIGITS[SHORT_ID], "1.2345678E7", "PatientID"),
        (OF_DIGITS[SHORT_ID], "12345678e0", "PatientID"),
        (OF_DIGITS[SHORT_ID], "+12345678.000", "PatientID"),
        (OF_DIGITS[SHORT_ID], "-12345678", "PatientID"),
        (OF_DIGITS[SHORT_ID], "5\\0012345678", "PatientID"),
        (OF_DIGITS[SHORT_ID], ".12345678e+8", "PatientID"),
        (OF_DIGITS[LONG_ID], LONG_ID, "PatientID"),
        (OF_DIGITS[LONG_ID], "1.1010119900307451e17", "PatientID"),  # as a float of 64 bits is written
        (OF_DIGITS["8812345677"], "8812345677 2", "PatientID"),
        (OF_DIGITS["8812345677"], "1\\8812345677 2", "PatientID"),
        (OF_DIGITS["8812345677"], "8812345677-", "PatientID"),
        (OF_DIGITS["100000"], "1E5", "PatientID"),
        (PERSON, "1953-04-17", "PatientBirthDate"),
        (PERSON, "17.04.1953", "PatientBirthDate"),
        (PERSON, "1\\17.04.1953", "PatientBirthDate"),
        (PERSON, "19530417", "PatientBirthDate"),
        (DIALLED, "030 5550199", "PatientTelephoneNumbers"),
        (DIALLED, "0305550199", "PatientTelephoneNumbers"),
    ],
)
def test_what_stands_in_place_of_a_number(tag: int, vr: str, person: Person, text: str, source: str) -> None:
    residue = written(person, tag, vr, text.encode())
    assert residue is not None
    assert residue.removed == source


@pytest.mark.parametrize("number", [SHORT_ID, LONG_ID])
@pytest.mark.parametrize("sign", [1, -1])
def test_identifiers_in_floats(number: str, sign: int) -> None:
    residue = written(OF_DIGITS[number], B_VALUE, "FD", struct.pack("<d", sign * float(number)))
    assert residue == Residue("DiffusionBValue", "PatientID")


@pytest.mark.parametrize(("tag", "vr"), [(THICKNESS, "DS"), (EXPOSURE, "IS")])
@pytest.mark.parametrize(
    ("person", "text"),
    [
        *((OF_DIGITS[SHORT_ID], text) for text in ("1.2345678", "12345678E1", "1234567.8", "112345678", "123\\45678")),
        *((OF_DIGITS[LONG_ID], text) for text in ("110101199003074", "1.10101199", "0.110101199003", "11010119.9003")),
        *((OF_DIGITS["100000"], text) for text in ("1", "10", "1.0E4", "0.1", "1\\10\\100", "1000000")),
        *((PERSON, text) for text in ("1953\\4\\17", "17\\04\\1953", "1953.0417", "1.9530417", "195304170", "-19.53")),
        *((DIALLED, text) for text in ("5550.199", "0.305550199", "3\\05550199", "555 0198", "30\\5550199.5")),
        *((PERSON, text) for text in ("1 2", "1,5", "", "NaN", "1e-5", "-1.5e+10 3")),
    ],
)
def test_numbers_that_only_look_alike(tag: int, vr: str, person: Person, text: str) -> None:
    with suppress(NotRewritable) if vr == "IS" and set(text) & set("N,") else nullcontext():
        assert written(person, tag, vr, text.encode()) is None


@pytest.mark.filterwarnings("ignore:The value length")
def test_an_identifier_of_very_many_digits() -> None:
    assert written(replace(PERSON, patient_id="7" * 6000), THICKNESS, "DS", b"7777777") is None
    assert written(replace(PERSON, patient_id="7" * 64), THICKNESS, "DS", b"7.777777E63") is None
    assert written(replace(PERSON, patient_id="7" + "0" * 63), THICKNESS, "DS", b"7E63") is not None
