"""Headers that are damaged, or made to hide something: what cannot be trusted does not leave."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.damaging import DAMAGES, drive
from tests.planted import PERSON, leaks, patient
from tests.unit.test_deidentify_rewriting import ENCODINGS, KEY, encoded, parsed
from xnat_ingest.deidentify.encoding import LITTLE_EXPLICIT, LITTLE_IMPLICIT, Encoding, NotRewritable
from xnat_ingest.deidentify.forms import check_of, check_of_kept
from xnat_ingest.deidentify.profile import load_profile
from xnat_ingest.deidentify.rewriting import Rewriting
from xnat_ingest.inputs.dicom_dictionary import tag_of

PROFILES = ("basic", "research-mr", "dates-kept")


def leaves(data: bytes, name: str, encoding: Encoding = LITTLE_EXPLICIT) -> bytes:
    """What leaves of a header; no bytes where it is refused or found."""
    try:
        work = Rewriting(data, encoding, load_profile(name), KEY)
        header = work.rewrite("S01", "S01_a")
        return b"" if work.residue(header.data) else header.data
    except NotRewritable:
        return b""


@pytest.mark.wide
@pytest.mark.parametrize("kind", DAMAGES)
def test_no_word_leaves_a_damaged_header(kind: str) -> None:
    """A few of each kind; `python -m tests.damaging` does many."""
    figures = drive(45, 20261127, kinds=(kind,))
    assert figures.leaks == []
    assert figures.fates.total() == 45


def swallowing(tag: int, vr: bytes, own: bytes) -> Callable[[bytes], bytes]:
    """Makes the element's length reach to behind PatientBirthDate: an element that says nothing holds who it is."""

    def damage(data: bytes) -> bytes:
        at = data.index(struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(own)) + own)
        end = data.index(struct.pack("<HH2sH", 0x0010, 0x0030, b"DA", 8)) + 16
        return data[: at + 6] + struct.pack("<H", end - at - 8) + data[at + 8 :]

    return damage


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(
    ("keyword", "vr", "own"),
    [("StudyTime", "TM", "072730"), ("Modality", "CS", "MR"), ("ManufacturerModelName", "LO", "SIGNA "),
     ("ReferencedFrameNumber", "IS", "12"), ("SOPClassUID", "UI", "")],
)  # fmt: skip
def test_a_length_that_takes_in_the_patient(name: str, keyword: str, vr: str, own: str) -> None:
    dataset = patient(PERSON)
    tag = tag_of(keyword)
    assert tag is not None
    if own:
        dataset.add_new(tag, vr, own)
    value = (own or str(dataset.SOPClassUID) + "\0" * (len(dataset.SOPClassUID) % 2)).encode()
    data = swallowing(tag, vr.encode(), value)(encoded(dataset))
    assert leaks(data, PERSON)
    assert not leaks(leaves(data, name), PERSON)


def test_elements_out_of_order_are_not_rewritten() -> None:
    """Where one stands twice, no two readers agree on what it says."""
    data = encoded(patient(PERSON))
    again = struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", 4) + b"ab  "
    with pytest.raises(NotRewritable, match="out of order"):
        Rewriting(data + again, LITTLE_EXPLICIT, load_profile("basic"), KEY)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_name_under_another_representation_is_searched_for(encoding: str) -> None:
    """PatientName as LO: it is a name all the same."""
    dataset = patient(PERSON)
    dataset.SoftwareVersions = f"made for {PERSON.family}"
    form = ENCODINGS[encoding]
    name = encoded(dataset, form).replace(
        b"PN" + struct.pack(form.order + "H", 24), b"LO" + struct.pack(form.order + "H", 24)
    )
    assert not leaks(leaves(name, "basic", form), PERSON)


FORMS = {
    "Rows": (b"\1\0", b"\1\0\2\0", "US"),
    "EchoTime": (b"12.5\\13 ", b"12.5 ms ", "DS"),
    "InstanceNumber": (b"12", b"1A", "IS"),
    "Modality": (b"MR", b"A1234567", "CS"),
    "LossyImageCompressionMethod": (b"ISO_10918_1 ", b"ISO_10918\1", "CS"),
    "StudyTime": (b"101112.5", b"Hannelore ", "TM"),
    "StudyDate": (b"2020.01.02", b"Tuesday ", "DA"),
    "SOPClassUID": (b"1.2.3\0", b"1.2.PX", "UI"),
    "SoftwareVersions": (b"V1\0\0", b"V1\0\x10", "LO"),
    "PixelSpacing": (b"1\\1 ", b"1\0\\1", "DS"),
    "DiffusionBValue": (bytes(8), b"19530417", "FD"),
}


@pytest.mark.parametrize("keyword", FORMS)
def test_forms_of_values(keyword: str) -> None:
    good, bad, vr = FORMS[keyword]
    tag = tag_of(keyword)
    assert tag is not None
    check = check_of(tag, vr)
    assert check is not None
    assert check(good)
    assert check(b"")
    assert not check(bad)


PROSE_OF_63 = b"Mr Meyerbeer told us that he lives next to the church in Lindau"
# keyword, VR in the file, value, whether it leaves.
LENGTHS = [
    ("PatientPosition", "CS", b"HFS ", True),
    ("PatientPosition", "CS", b"head first", True),
    ("PatientPosition", "CS", PROSE_OF_63, False),
    ("PatientPosition", "UN", PROSE_OF_63, False),
    ("PatientPosition", "CS", b"seen by Meyerbeer", False),
    ("BodyPartExamined", "CS", b"CHEST ABDOMEN PELVIS WITH", True),
    ("BodyPartExamined", "CS", b"Chest_Abdomen_Pelvis", True),
    ("BodyPartExamined", "CS", b"MEYERBEER HANS, LINDAU, MARRIED TO ROSA, SEE LETTER", False),
    ("BodyPartExamined", "CS", b"MEYERBEER HANS LINDAU MARRIED TO ROSA", False),
    ("BodyPartExamined", "CS", b"CHEST" + b" " * 59, True),
    ("ImageType", "CS", b"\\".join([b"ORIGINAL", b"PRIMARY", b"M", b"ND"] * 9), True),
    ("ImageType", "CS", b"ORIGINAL\\PRIMARY\\" + PROSE_OF_63, False),
    ("ConvolutionKernel", "SH", b"Br40d\\3 ", True),
    ("ConvolutionKernel", "SH", b"XYZ Gauss 2.00 mm, 3 iterations ", True),
    ("ConvolutionKernel", "SH", PROSE_OF_63, False),
    ("ConvolutionKernel", "LO", PROSE_OF_63, False),
    ("ConvolutionKernel", "UT", PROSE_OF_63 * 80, False),
    ("ConvolutionKernel", "SH", "ÄÖÜ".encode() * 10, True),
    ("ConvolutionKernel", "SH", b"\x1b$)C" + b"\xb0\xa1" * 16, True),
    ("ConvolutionKernel", "SH", b"\xe9t\xe9 " * 16, False),
    ("ManufacturerModelName", "LO", PROSE_OF_63 * 2, True),
    ("ManufacturerModelName", "LO", PROSE_OF_63 * 3, False),
    ("SoftwareVersions", "LO", b"\\".join([b"27", b"LX", b"MR Software release:DV26.0_R05_2008.a"] * 9), True),
    ("DerivationDescription", "ST", PROSE_OF_63 * 15, True),
    ("EchoTime", "DS", b"-1.2345678901234567e-005", True),
    ("EchoTime", "DS", b"1" * 5000, False),
    ("EchoNumbers", "IS", b"1" * 5000, False),
    ("EchoNumbers", "DS", b"1.000000000000000", True),
    ("AcquisitionDate", "DA", b"1997.04.24", True),
    ("AcquisitionDate", "DT", b"19970424101112.123456+0100", True),
    ("AcquisitionTime", "TM", b"1" * 5000, False),
    ("SOPClassUID", "UI", b"1." * 100, False),
]


@pytest.mark.parametrize(("keyword", "vr", "value", "fits"), LENGTHS)
def test_how_long_a_value_may_be_that_nobody_looks_into(keyword: str, vr: str, value: bytes, fits: bool) -> None:
    """Twice the standard's length, since devices are not so exact. What is removed may be as long as it likes."""
    tag = tag_of(keyword)
    assert tag is not None
    check, form = check_of_kept(tag, vr), check_of(tag, vr)
    assert check is not None
    assert form is not None
    assert check(value) == fits
    assert form(value)


# keyword, VR in the file, values that have its form, values that have not.
WHOLE_FORMS = [
    (
        "AcquisitionTime",
        "TM",
        "10|1011|101112|101112.5|101112.123456|101112.50000000|10:11:12.5|9:11|235960|1011\\12",
        "20240210101112|20240210|2024021010|2024-02-10|2024.0210|101112.20240210|1|101|10111|30|106000|10:60|10.5|1011.5",
    ),
    ("AcquisitionTime", "TM", "101112.5+0100|101112 ", "101112+2024|101112.|1011\\20240210|101112-|1 0|:10"),
    ("AcquisitionTime", "UN", "1011", "20240210"),
    (
        "AcquisitionDate",
        "DA",
        "20240210|2024.02.10|2024-2-9|10/02/2024|2/10/2024|00000000|1953|195304|20240210\\2024",
        "2|20240|20240240|20242010|4711-0815|20240210-20240211|2024.02-10|10.02.24|20240210.|1.2.3",
    ),
    ("AcquisitionDate", "DT", "20240210101112.5", "20240210101112.1234567"),
    (
        "AcquisitionDateTime",
        "DT",
        "20240210101112.123456+0100|2024021010|202402|20240210-0330|2024-02-10 10:11:12.5",
        "20240210101112.20240210|20240210+2024|2024-02-10 10|20240210 101112|202402101011121",
    ),
    ("AcquisitionDateTime", "DA", "20240210", "20240210+9900"),
    ("PatientAge", "AS", "045Y|45Y|045y|003 M|45|001W|012D", "240210Y|0450Y|Y|4Y5|20240210|45YY"),
]


@pytest.mark.parametrize(("keyword", "vr", "fitting", "other"), WHOLE_FORMS, ids=range(len(WHOLE_FORMS)))
def test_dates_times_and_ages_that_are_kept_are_some(keyword: str, vr: str, fitting: str, other: str) -> None:
    tag = tag_of(keyword)
    assert tag is not None
    check = check_of_kept(tag, vr)
    assert check is not None
    assert check(b"")
    assert [text for text in fitting.split("|") if not check(text.encode())] == []
    assert [text for text in other.split("|") if check(text.encode())] == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR TM")
@pytest.mark.parametrize("value", ["20240210101112", "20240210", "2024-02-10", "2024.0210", "101112.20240210"])
def test_a_date_in_a_time_does_not_leave_unmoved(value: str) -> None:
    """It would tell by how many days the others were moved. Where dates are kept it is set aside as damaged."""
    dataset = patient(PERSON)
    dataset.add_new(0x00080032, "TM", value)
    left = Rewriting(encoded(dataset), LITTLE_EXPLICIT, load_profile("research-mr"), KEY).rewrite("S", "E").data
    assert value.encode() not in left
    assert parsed(left).AcquisitionTime == ""
    with pytest.raises(NotRewritable, match="holds in AcquisitionTime what is no TM"):
        Rewriting(encoded(dataset), LITTLE_EXPLICIT, load_profile("dates-kept"), KEY).rewrite("S", "E")


@pytest.mark.parametrize("keyword", ["PatientPosition", "ConvolutionKernel"])
def test_prose_does_not_leave_in_a_short_element(keyword: str) -> None:
    dataset = patient(PERSON)
    setattr(dataset, keyword, "X")
    data = encoded(dataset)
    own = LITTLE_EXPLICIT.element(dataset[keyword].tag, dataset[keyword].VR, b"X ")
    prose = LITTLE_EXPLICIT.element(dataset[keyword].tag, dataset[keyword].VR, PROSE_OF_63 + b" ")
    assert leaves(data, "basic")
    with pytest.raises(NotRewritable, match=f"holds in {keyword} what is no"):
        Rewriting(data.replace(own, prose), LITTLE_EXPLICIT, load_profile("basic"), KEY).rewrite("S", "E")


@pytest.mark.filterwarnings("ignore:The value length")
def test_a_long_description_that_was_searched_leaves() -> None:
    dataset = patient(PERSON)
    dataset.SeriesDescription = "axial, then sagittal, then coronal; " * 6
    assert b"then coronal" in leaves(encoded(dataset), "research-mr")


@pytest.mark.parametrize(
    ("keyword", "vr", "fits"),
    [("Rows", "LO", False), ("SoftwareVersions", "SH", True), ("EchoTime", "IS", True), ("Modality", "LO", False),
     ("RedPaletteColorLookupTableData", "US", True), ("PixelPaddingValue", "OW", True), ("Modality", "UN", True)],
)  # fmt: skip
def test_a_representation_of_another_kind(keyword: str, vr: str, fits: bool) -> None:
    tag = tag_of(keyword)
    assert tag is not None
    check = check_of(tag, vr)
    assert (check is None or check(b"12")) == fits


PROSE = b"Mueller, seen here. He lives next to the church!"


@pytest.mark.parametrize("vr", ["OB", "OW", "US", "SS", "UN", ""])
@pytest.mark.parametrize(
    "keyword",
    ["Rows", "PixelPaddingValue", "NumberOfFramesInRotation", "SelectorUSValue", "SelectorSSValue", "LUTData",
     "GrayLookupTableData", "RedPaletteColorLookupTableDescriptor"],
)  # fmt: skip
def test_words_in_place_of_numbers_of_two_bytes(keyword: str, vr: str) -> None:
    """Whatever the file calls them. Numbers that are written as bytes leave."""
    tag = tag_of(keyword)
    assert tag is not None
    check = check_of(tag, vr)
    assert check is not None
    assert not check(PROSE)
    assert not check(PROSE[:16])
    assert not check(PROSE[:-2] + b"\0\0")
    assert check(b"\1\0")
    many = struct.pack("<24H", *range(500, 524))
    assert check(many) == (keyword in ("SelectorUSValue", "SelectorSSValue", "LUTData", "GrayLookupTableData"))


def test_bytes_that_are_no_words() -> None:
    """Tables of small numbers have printed characters, too: nine in ten are not so many by chance."""
    tag = tag_of("LUTData")
    assert tag is not None
    check = check_of(tag, "OW")
    assert check is not None
    assert check(struct.pack("<256H", *range(256)))
    assert check(struct.pack("<4096H", *range(8224, 12320)))
    assert not check((b"x" * 9 + b"\0") * 10)
    assert check((b"x" * 8 + b"\0\0") * 10)


IN_NUMBERS: dict[str, tuple[str, object]] = {
    "DS": ("EchoTime", "4711081.0"),
    "IS": ("EchoNumbers", "4711081"),
    "UL": ("SimpleFrameList", [3, 4711081]),
    "FD": ("DiffusionBValue", 4711081.0),
    "UV": ("FileOffsetInContainer", 4711081),
}


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("number", IN_NUMBERS)
def test_an_identifier_that_is_a_number(name: str, number: str) -> None:
    """PatientID 4711081 as a number in an element that is kept."""
    dataset = patient(PERSON)
    dataset.PatientID = "04711081"
    keyword, value = IN_NUMBERS[number]
    setattr(dataset, keyword, value)
    work = Rewriting(encoded(dataset), LITTLE_EXPLICIT, load_profile(name), KEY)
    try:
        found = work.residue(work.rewrite("S01", "S01_a").data)
    except NotRewritable:
        return
    assert found is not None
    assert found.removed == "PatientID"


def test_a_number_in_other_digits_is_no_identifier() -> None:
    dataset = patient(PERSON)
    dataset.PatientID, dataset.EchoTime = "4711081", "0.4711081"
    assert leaves(encoded(dataset), "basic")


def test_a_sequence_in_bytes_of_no_known_kind() -> None:
    """A private element whose kind nobody names, built of items: they are gone through."""
    item = Dataset()
    item.PatientName, item.EchoTime = "Somebody^Unheardof", "5"
    inner = encoded(item, LITTLE_IMPLICIT)
    value = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
    dataset = patient(PERSON)
    block = dataset.private_block(0x0021, "SIEMENS MR SDI 02", create=True)
    block.add_new(0xFE, "UN", value)
    data = leaves(encoded(dataset), "research-mr")
    assert data
    assert b"Unheardof" not in data


def test_a_damaged_birth_date_is_not_searched_for_and_so_refused() -> None:
    data = encoded(patient(PERSON)).replace(b"DA\x08\x0019530417", b"DA\x08\x001953041\x80")
    with pytest.raises(NotRewritable, match="PatientBirthDate"):
        Rewriting(data, LITTLE_EXPLICIT, load_profile("basic"), KEY)


def test_a_character_set_that_nobody_knows() -> None:
    dataset = patient(PERSON)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "Kästnerwald^Jürgen"
    data = encoded(dataset)
    assert leaves(data, "basic")
    for name in (b"ISO_XX 100", b"IS\2\0IR 100"):
        with pytest.raises(NotRewritable, match="character set"):
            Rewriting(data.replace(b"ISO_IR 100", name), LITTLE_EXPLICIT, load_profile("basic"), KEY)


def test_uids_that_only_look_like_the_standards() -> None:
    dataset, item = patient(PERSON), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.19530417", "1.2.840.10008.4711"
    dataset.ReferencedImageSequence = Sequence([item])
    assert b"1.2.840.10008.4711" not in leaves(encoded(dataset), "basic")
    assert b"10008.19530417" not in leaves(encoded(dataset), "basic")
