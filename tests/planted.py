"""Headers full of a patient's identifiers, each in one kind of place: what must not leave, and where it hides.

A place is a function that plants into a data set; PLACES has them all. Nothing here knows the product.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from tests.dicom_trees import CT, MR, read, uid


@dataclass(frozen=True)
class Person:
    """Somebody invented. Every word occurs in no real file."""

    family: str = "Quastenflosser"
    given: str = "Hannelore"
    patient_id: str = "PX4711-0815"
    accession: str = "ACC9988776"
    birth: str = "19530417"
    street: str = "Lindenallee 17b"
    phone: str = "+49 30 5550199"

    @property
    def name(self) -> str:
        return f"{self.family}^{self.given}"

    @property
    def words(self) -> tuple[str, ...]:
        return (self.family, self.given, self.patient_id, self.accession, self.birth, self.street, self.phone)


PERSON = Person()
# With an umlaut, for what is written in ISO 8859-1, UTF-8 and without it.
ACCENTED = Person("Kästnerwald", "Jürgenssohn")
JAPANESE = "Yamadazz^Tarouzz=山田^太郎=やまだ^たろう"


def needles(person: Person) -> list[bytes]:
    """The person's words as bytes, in the encodings that the places use, in lower case."""
    found = set()
    for word in (*person.words, "1953-04-17", "17.04.1953", "山田", "yamadazz"):
        for encoding in ("utf-8", "latin-1", "iso2022_jp", "utf-16-le"):
            try:
                found.add(word.encode(encoding).lower())
            except UnicodeEncodeError:
                continue
    number = int(person.birth)
    return sorted(found | {struct.pack("<L", number).lower(), struct.pack("<d", number).lower()})


def leaks(data: bytes, person: Person) -> list[bytes]:
    """Which of the person's words stand in some bytes."""
    low = data.lower()
    return [needle for needle in needles(person) if needle in low]


def patient(person: Person, sample: str = MR, number: int = 1) -> Dataset:
    """A real image of the person, who is named where everybody is."""
    dataset = read(sample)
    dataset.remove_private_tags()
    dataset.PatientName, dataset.PatientID = person.name, person.patient_id
    dataset.PatientBirthDate, dataset.AccessionNumber = person.birth, person.accession
    dataset.PatientAddress, dataset.PatientTelephoneNumbers = person.street, person.phone
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid(person.name), uid(person.name, sample)
    dataset.SOPInstanceUID = uid(person.name, sample, number)
    dataset.InstanceNumber = number
    return dataset


Plant = Callable[[Dataset, Person], None]
PLACES: dict[str, Plant] = {}


def place(plant: Plant) -> Plant:
    PLACES[plant.__name__] = plant
    return plant


def _text(person: Person) -> str:
    return f"seen with {person.given} {person.family}, {person.patient_id}"


def _element(tag: tuple[int, int], vr: str, value: Callable[[Person], object]) -> Plant:
    def plant(dataset: Dataset, person: Person) -> None:
        dataset.add_new(Tag(*tag), vr, value(person))

    return plant


_SIMPLE: dict[str, tuple[tuple[int, int], str, Callable[[Person], object]]] = {
    "other_patient_ids": ((0x0010, 0x1000), "LO", lambda p: p.patient_id),
    "birth_name": ((0x0010, 0x1005), "PN", lambda p: p.name),
    "medical_record_locator": ((0x0010, 0x1090), "LO", lambda p: p.patient_id),
    "patient_comments": ((0x0010, 0x4000), "LT", _text),
    "history": ((0x0010, 0x21B0), "LT", _text),
    "referring_physician": ((0x0008, 0x0090), "PN", lambda p: p.name),
    "operators": ((0x0008, 0x1070), "PN", lambda p: [p.name, "Somebody^Else"]),
    "study_description": ((0x0008, 0x1030), "LO", _text),
    "series_description": ((0x0008, 0x103E), "LO", _text),
    "protocol": ((0x0018, 0x1030), "LO", lambda p: p.family),
    "image_comments": ((0x0020, 0x4000), "LT", _text),
    "institution": ((0x0008, 0x0080), "LO", lambda p: f"Practice {p.family}"),
    "station": ((0x0008, 0x1010), "SH", lambda p: p.family),
    "requested_procedure": ((0x0032, 0x1060), "LO", _text),
    "retrieve_url": ((0x0008, 0x1190), "UR", lambda p: f"https://pacs/{p.patient_id}/{p.accession}"),
    "retrieve_title": ((0x0008, 0x0054), "AE", lambda p: p.accession),
    "derivation": ((0x0008, 0x2111), "ST", _text),
    "barcode": ((0x2200, 0x0005), "LT", lambda p: p.patient_id),
    "long_text": ((0x0040, 0xA160), "UT", _text),
    "unlimited": ((0x0018, 0x9004), "CS", lambda p: p.accession),
    "software": ((0x0018, 0x1020), "LO", lambda p: f"V1 {p.family}"),
    "manufacturer": ((0x0008, 0x0070), "LO", lambda p: p.patient_id),
    "unknown_element": ((0x0010, 0x9999), "LO", _text),
    "evaluator": ((0x0040, 0xA358 - 0x1), "PN", lambda p: p.name),
    "overlay_comments": ((0x6000, 0x4000), "LT", _text),
    "overlay_label": ((0x6000, 0x1500), "LO", _text),
    "overlay_data": ((0x6000, 0x3000), "OB", lambda p: p.name.encode() + bytes(513 - len(p.name) % 2)),
    "curve_data": ((0x5000, 0x3000), "OB", lambda p: (p.name + " ").encode()[: len(p.name) // 2 * 2]),
    "padding": ((0xFFFC, 0xFFFC), "OB", lambda p: _text(p).encode() + b" " * (len(_text(p)) % 2)),
    "birth_in_text": ((0x0008, 0x1020), "LO", lambda p: "born 17.04.1953"),
    "birth_in_model": ((0x0008, 0x1090), "LO", lambda p: "19530417 1953-04-17"),
    "birth_as_integer": ((0x0018, 0x0086), "IS", lambda p: p.birth),
    "birth_as_decimal": ((0x0018, 0x0081), "DS", lambda p: p.birth),
    "birth_as_long": ((0x0008, 0x1161), "UL", lambda p: int(p.birth)),
    "birth_as_double": ((0x0018, 0x9087), "FD", lambda p: float(p.birth)),
    "birth_in_uid": ((0x0008, 0x010C), "UI", lambda p: f"1.2.276.{p.birth}"),
    "birth_as_other_date": ((0x0018, 0x1012), "DA", lambda p: p.birth),
    "birth_as_date_time": ((0x0018, 0x9074), "DT", lambda p: p.birth + "101112"),
    "words": ((0x0028, 0x1201), "OW", lambda p: p.name.encode() + b" " * (len(p.name) % 2)),
    "unknown_representation": ((0x0018, 0x1020), "UN", lambda p: p.name.encode() + b" " * (len(p.name) % 2)),
    "several_names": ((0x0008, 0x1048), "PN", lambda p: [p.name, f"{p.given}^{p.family}^^Dr"]),
    "device_text": ((0x0018, 0x9005), "SH", lambda p: p.patient_id),
    "phone_in_sequence_name": ((0x0018, 0x0024), "SH", lambda p: p.phone),
}
PLACES |= {name: _element(*rest) for name, rest in _SIMPLE.items()}


@place
def other_ids_sequence(dataset: Dataset, person: Person) -> None:
    item = Dataset()
    item.PatientID, item.IssuerOfPatientID = person.patient_id, person.family
    dataset.OtherPatientIDsSequence = Sequence([item])


@place
def request_nested_twice(dataset: Dataset, person: Person) -> None:
    code, item = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", _text(person)
    item.RequestedProcedureDescription, item.RequestedProcedureCodeSequence = _text(person), Sequence([code])
    dataset.RequestAttributesSequence = Sequence([item])


@place
def code_meaning_that_is_kept(dataset: Dataset, person: Person) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", _text(person)
    dataset.AnatomicRegionSequence = Sequence([code])


@place
def long_code(dataset: Dataset, person: Person) -> None:
    code = Dataset()
    code.LongCodeValue, code.CodingSchemeDesignator, code.CodeMeaning = _text(person), "99X", "a region"
    dataset.AnatomicRegionSequence = Sequence([code])


@place
def private_creator(dataset: Dataset, person: Person) -> None:
    block = dataset.private_block(0x0009, f"ACME of {person.family}", create=True)
    block.add_new(0x01, "DS", "1")


@place
def private_text(dataset: Dataset, person: Person) -> None:
    block = dataset.private_block(0x0009, "ACME 1.1", create=True)
    block.add_new(0x01, "LO", _text(person))


@place
def private_bytes(dataset: Dataset, person: Person) -> None:
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", b"\1\2SV10" + _text(person).encode() + bytes(4 + len(_text(person)) % 2))


@place
def private_wide_characters(dataset: Dataset, person: Person) -> None:
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x20, "OB", person.name.encode("utf-16-le"))


@place
def private_nested(dataset: Dataset, person: Person) -> None:
    item = Dataset()
    item.PatientName, item.PatientComments = person.name, _text(person)
    block = dataset.private_block(0x0009, "ACME 1.1", create=True)
    block.add_new(0x02, "SQ", Sequence([item]))


@place
def private_without_creator(dataset: Dataset, person: Person) -> None:
    dataset.add_new(Tag(0x0011, 0x1001), "LO", _text(person))


@place
def icon_comments(dataset: Dataset, person: Person) -> None:
    item = Dataset()
    item.ImageComments = _text(person)
    dataset.IconImageSequence = Sequence([item])


@place
def signature(dataset: Dataset, person: Person) -> None:
    item = Dataset()
    item.CertificateOfSigner = person.name.encode() + b" " * (len(person.name) % 2)
    dataset.DigitalSignaturesSequence = Sequence([item])


@place
def content(dataset: Dataset, person: Person) -> None:
    name, text = Dataset(), Dataset()
    name.ValueType, name.PersonName = "PNAME", person.name
    text.ValueType, text.TextValue = "TEXT", _text(person)
    dataset.ContentSequence = Sequence([name, text])


@place
def utf8(dataset: Dataset, person: Person) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = ACCENTED.name
    dataset.SoftwareVersions = f"made for {ACCENTED.family.upper()}"


@place
def without_accents(dataset: Dataset, person: Person) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = ACCENTED.name
    dataset.SoftwareVersions = "Kaestnerwald"


@place
def japanese(dataset: Dataset, person: Person) -> None:
    dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    dataset.PatientName = JAPANESE
    dataset.ImageComments = "山田"
    dataset.DerivationDescription = "Tarouzz Yamadazz"


def planted(person: Person = PERSON, sample: str = MR) -> Iterator[tuple[str, Dataset]]:
    """A data set for each place, named after it."""
    for number, (name, plant) in enumerate(PLACES.items(), 1):
        dataset = patient(person, sample, number)
        plant(dataset, person)
        yield name, dataset


__all__ = ["CT", "MR", "PERSON", "PLACES", "Person", "leaks", "needles", "patient", "planted"]
