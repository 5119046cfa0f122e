"""`xnat-ingest identity`: what a tree tells of its patients, without telling it; keys; the gate before an upload."""

from __future__ import annotations

import io
import json
import stat
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.conftest import Ingest
from tests.contract.table import files_of
from tests.contract.test_archives import to_tgz
from tests.dicom_trees import SAMPLES, read, save
from tests.planted import PERSON, PLACES, leaks, patient
from tests.standin import StandIn
from xnat_ingest.cli import main
from xnat_ingest.deidentify.behind import behind_pixels, has_text, preamble_has_text
from xnat_ingest.deidentify.encoding import LITTLE_EXPLICIT
from xnat_ingest.deidentify.identity import Findings, IdentityReading
from xnat_ingest.deidentify.pseudonyms import Key, read_key
from xnat_ingest.inputs.dicom_dataset import BLOCK, PeekableStream, blocks_of


def write(path: Path, dataset: Dataset) -> Path:
    return save(dataset, path)  # type: ignore[arg-type]


def clean(number: int = 1) -> Dataset:
    """An image without anything of anybody."""
    dataset = Dataset()
    real = read("MR_small.dcm")
    for keyword in ("SOPClassUID", "Modality", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelData",
                    "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation", "EchoTime"):  # fmt: skip
        setattr(dataset, keyword, real[keyword].value)
    dataset["PixelData"].VR = "OW"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = (
        "1.2.3",
        "1.2.3.1",
        f"1.2.3.1.{number}",
    )
    dataset.file_meta = real.file_meta
    return dataset


def identity(root: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["identity", str(root), "--json", *flags])
    out = capsys.readouterr().out
    assert not leaks(out.encode(), PERSON)
    return code, json.loads(out)


def test_a_tree_that_tells_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a/b/IM1", clean())
    (tmp_path / "a/b/notes.txt").write_text("no image")
    code, found = identity(tmp_path, capsys)
    assert (code, found["all"]["objects"], found["all"]["identifying"]) == (0, 1, 0)


def test_what_is_found_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a/b/IM1", clean())
    for number in (1, 2):
        dataset = clean(number)
        dataset.PatientName, dataset.PatientID = f"{PERSON.family}{number}^{PERSON.given}", PERSON.patient_id
        dataset.SoftwareVersions = f"for {PERSON.given}"
        dataset.private_block(0x0009, "ACME 1.1", create=True).add_new(1, "LO", PERSON.patient_id)
        dataset.BurnedInAnnotation = "YES"
        write(tmp_path / f"a/c/{PERSON.given}_{number}", dataset)
    code, found = identity(tmp_path, capsys)
    assert code == 3
    assert found["sessions"]["a/b"]["identifying"] == 0
    one = found["sessions"]["a/c"]
    assert one["identifying"] == one["objects"] == 2
    assert one["elements"] == {
        "PatientID": {"objects": 2, "values": 1},
        "PatientName": {"objects": 2, "values": 2},
    }
    assert one["private"] == {"ACME 1.1": 2}
    assert one["texts"] == [
        {"element": "(0009,1001)", "repeats": "PatientID", "objects": 2},
        {"element": "SoftwareVersions", "repeats": "PatientName", "objects": 2},
    ]
    assert one["pixels"] == {"BurnedInAnnotation says YES": 2}
    assert one["names_of_files"] == 2
    assert found["all"]["objects"] == 3


@pytest.mark.sampled(12)
@pytest.mark.parametrize("place", [name for name in PLACES if name not in ("padding", "signature")])
def test_every_place_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str) -> None:
    dataset = patient(PERSON)
    PLACES[place](dataset, PERSON)
    write(tmp_path / "a/b/IM1", dataset)
    assert identity(tmp_path, capsys)[0] == 3


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"StudyDate": "20240102"}, 3),
        ({"StudyDate": "20240102", "PatientIdentityRemoved": "YES"}, 0),
        ({"PatientID": "S01", "PatientName": "S01", "PatientIdentityRemoved": "YES"}, 0),
        ({"PatientBirthDate": "19530417", "PatientIdentityRemoved": "YES"}, 3),
        ({"OperatorsName": "Somebody^Else", "PatientIdentityRemoved": "YES"}, 3),
        ({"OperatorsName": "ANONYMIZED", "PatientIdentityRemoved": "YES"}, 0),
        ({"InstitutionName": "ANONYMIZED"}, 0),
        ({"OperatorsName": "^^^^", "ReferringPhysicianName": "^", "PatientIdentityRemoved": "YES"}, 0),
        ({"BurnedInAnnotation": "YES", "PatientIdentityRemoved": "YES"}, 3),
        ({"PatientName": ""}, 0),
    ],
)
def test_what_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str], tags: dict[str, str], code: int) -> None:
    dataset = clean()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    write(tmp_path / "a/b/IM1", dataset)
    assert identity(tmp_path, capsys)[0] == code


@pytest.mark.parametrize(("vr", "value", "code"), [("PN", "Doe^Jane", 3), ("PN", "", 0), ("LO", "Doe^Jane", 0)])
def test_a_private_name_counts_whatever_was_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], vr: str, value: str, code: int
) -> None:
    dataset = clean()
    dataset.PatientIdentityRemoved = "YES"
    dataset.private_block(0x0009, "ACME 1.1", create=True).add_new(1, vr, value)
    write(tmp_path / "a/b/IM1", dataset)
    ended, found = identity(tmp_path, capsys)
    assert (ended, found["all"]["private"]) == (code, {"ACME 1.1": 1} if code else {})


def test_other_inputs_and_layouts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "tree/a/b/c/IM1", patient(PERSON))
    to_tgz(tmp_path / "tree", tmp_path / "study.tar.gz")
    assert list(identity(tmp_path / "study.tar.gz", capsys)[1]["sessions"]) == ["a/b"]
    headers = identity(tmp_path / "tree", capsys, "--layout", "headers")[1]["sessions"]
    assert list(headers) == [patient(PERSON).StudyInstanceUID]
    (tmp_path / "empty").mkdir()
    assert identity(tmp_path / "empty", capsys)[0] == 4


def test_what_cannot_be_read_is_no_good_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a/b/IM1", clean())
    path.write_bytes(path.read_bytes()[:400])
    code, found = identity(tmp_path, capsys)
    assert (code, found["all"]["unreadable"]) == (3, 1)


def test_people_get_a_table_without_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a/b/IM1", patient(PERSON))
    assert main(["identity", str(tmp_path)]) == 3
    out = capsys.readouterr().out
    assert "a/b: 1 of 1 objects identify the patient" in out
    assert "PatientAddress" in out
    assert not leaks(out.encode(), PERSON)
    assert main(["identity", str(tmp_path), "--show-values"]) == 2
    assert "only on a terminal" in capsys.readouterr().err


def test_values_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a/b/IM1", patient(PERSON))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["identity", str(tmp_path), "--show-values"]) == 3
    assert PERSON.street in capsys.readouterr().out


def test_of_long_values_the_beginning_is_kept() -> None:
    found, texts = Findings(), ["a" * 200, "a" * 201, "a" * 100_000, "a" * 99_999 + "b", "\udcff" * 300]
    for text in texts:
        reading = IdentityReading()
        reading.elements["ImageComments"].add(text)
        found.add(reading)
        found.add(reading)
    kept = found.values["ImageComments"]
    assert len(kept) == len(texts)
    assert "a" * 200 in kept
    assert max(map(len, kept)) < 300


def test_of_long_creators_the_beginning_is_kept() -> None:
    found, creators = Findings(), ["a" * 64, "a" * 100_000, "a" * 99_999 + "b"]
    for creator in creators * 2:
        found.add(IdentityReading(private={creator}))
    assert sorted(found.private.values()) == [2, 2, 2]
    assert "a" * 64 in found.private
    assert max(map(len, found.private)) < 300


def test_a_new_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "deid.key"
    assert main(["identity", "new-key", str(path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert text.strip() not in capsys.readouterr().out
    key = read_key(str(path), {})
    assert key is not None
    assert key.fingerprint == Key(text.strip().encode()).fingerprint
    assert main(["identity", "new-key", str(path)]) == 2
    assert "is there" in capsys.readouterr().err
    assert path.read_text() == text
    assert main(["identity", "new-key", str(tmp_path / "none" / "key")]) == 2
    assert main(["identity", "new-key"]) == 2
    main(["identity", "new-key", str(tmp_path / "other.key")])
    assert (tmp_path / "other.key").read_text() != text


@pytest.mark.wide
def test_what_is_sent_deidentified_tells_nothing(
    ingest: Ingest, site: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ready profile, checked by the gate on its way out and by the command on the server's disk."""
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", "k" * 40)
    for number, profile in enumerate(("basic", "research-mr", "dates-kept")):
        dataset = patient(PERSON, number=number)
        dataset.StudyInstanceUID = f"1.2.840.999.{number}"
        write(tmp_path / f"tree/00{number}/pre/MR_1/IM1", dataset)
        flags = ("--deidentify", profile, "--require-deidentified", "--include", f"path=00{number}/**")
        assert ingest("upload", tmp_path / "tree", *flags).code == 0
    assert len(files_of(site)) == 3
    code, found = identity(site.root, capsys, "--layout", "headers")
    assert code == 0, found
    assert found["all"]["objects"] == 3


def test_the_gate_before_an_upload(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    write(tmp_path / "tree/001/pre/IM1", clean())
    dataset = patient(PERSON)
    write(tmp_path / "tree/002/pre/IM1", dataset)
    write(tmp_path / "tree/002/pre/IM2", patient(PERSON, number=2))
    ended = ingest("upload", tmp_path / "tree", "--require-deidentified")
    assert ended.code == 3
    assert {s["label"]: s["verdict"] for s in ended.report["sessions"]} == {
        "001_pre": "verified",
        "002_pre": "conflict",
    }
    (problem,) = (p for p in ended.report["problems"] if p["kind"] == "identifying")
    assert "2 of 2 objects tell who the patient is" in problem["detail"]
    assert "AccessionNumber" in problem["detail"]
    assert not leaks(json.dumps(ended.report).encode() + ended.out.encode() + ended.err.encode(), PERSON)
    assert len(files_of(site)) == 1


def test_a_plan_keeps_its_gate(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Leaving out the flag does not send what the plan held back."""
    write(tmp_path / "tree/001/pre/IM1", clean())
    write(tmp_path / "tree/002/pre/IM1", patient(PERSON))
    plan = tmp_path / "plan.json"
    assert ingest("plan", tmp_path / "tree", "--require-deidentified", "--json", str(plan)).code == 3
    ended = ingest("upload", tmp_path / "tree", "--plan", str(plan))
    assert ended.code == 3
    assert [s["label"] for s in ended.report["sessions"] if s["verdict"] == "verified"] == ["001_pre"]
    assert len(files_of(site)) == 1


def holding(**values: str) -> Dataset:
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def originals(**values: str) -> list[Dataset]:
    item = holding(SourceOfPreviousValues="PACS", ReasonForTheAttributeModification="COERCE")
    item.ModifiedAttributesSequence = [holding(**values)]
    return [item]


NESTED: dict[str, tuple[str, object]] = {
    "original name": ("OriginalAttributesSequence", originals(PatientName="Quasten^Hannelore")),
    "original id": ("OriginalAttributesSequence", originals(PatientID="PX4711")),
    "other id": ("OtherPatientIDsSequence", [holding(PatientID="PX4711", TypeOfPatientID="TEXT")]),
    "referenced patient": ("ReferencedPatientSequence", [holding(PatientName="Quasten^Hannelore")]),
    "birth date of another calendar": ("PatientBirthDateInAlternativeCalendar", "28-04-17"),
}


@pytest.mark.parametrize("place", NESTED)
def test_the_gate_looks_for_the_patient_in_sequences(ingest: Ingest, site: StandIn, tmp_path: Path, place: str) -> None:
    """Somebody has removed the identity (PatientIdentityRemoved), and a PACS has kept what was there before."""
    dataset = clean()
    dataset.PatientIdentityRemoved, dataset.PatientName, dataset.PatientID = "YES", "SUB-01", "SUB-01"
    write(tmp_path / "tree/001/pre/IM1", dataset)
    dataset.ReferencedPatientSequence = [holding(PatientName="SUB-01", PatientID="SUB-01 ")]
    assert ingest("plan", tmp_path / "tree", "--require-deidentified").code == 0
    setattr(dataset, *NESTED[place])
    write(tmp_path / "tree/001/pre/IM1", dataset)
    ended = ingest("upload", tmp_path / "tree", "--require-deidentified")
    assert (ended.code, [p["kind"] for p in ended.report["problems"]]) == (3, ["identifying"])
    assert not files_of(site)


def code(value: str, meaning: str) -> Dataset:
    return holding(CodeValue=value, CodingSchemeDesignator="99STAFF", CodeMeaning=meaning)


def physician(value: str, meaning: str) -> Dataset:
    found = Dataset()
    found.PersonIdentificationCodeSequence = [code(value, meaning)]
    return found


# tag, VR, value
ELSEWHERE: dict[str, tuple[int, str, object]] = {
    "a person as a code": (0x00401101, "SQ", [code("4711", "Quasten^Hannelore")]),
    "a physician as a code": (0x00080096, "SQ", [physician("4711", "Quasten^Hannelore")]),
    "an observer as a code": (0x0040A088, "SQ", [code("4711", "Quasten^Hannelore")]),
    "a name in place of a creator": (0x00090010, "PN", "Quasten^Hannelore"),
    "a name in place of the last creator": (0x000900FF, "PN", "Quasten^Hannelore"),
    "a name in an illegal group": (0x00010010, "PN", "Quasten^Hannelore"),
    "ids as a text": (0x00101002, "LO", "PX77192834"),
    "ids as a short text": (0x00101002, "SH", "PX77192834"),
    "a name as a sequence": (0x00101001, "SQ", [holding(CodeMeaning="Quasten^Hannelore")]),
    "an id as a sequence": (0x00101000, "SQ", [holding(CodeMeaning="PX77192834")]),
    "an address as a sequence": (0x00101040, "SQ", [holding(CodeMeaning="Lindenallee 17")]),
    "a birth date as a sequence": (0x00100030, "SQ", [holding(CodeMeaning="19530417")]),
    "the pseudonym as a sequence": (0x00100010, "SQ", [holding(CodeMeaning="Quasten^Hannelore")]),
}


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.parametrize("removed", ["YES", "NO"])
@pytest.mark.parametrize("place", ELSEWHERE)
def test_identifiers_in_other_elements_than_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, removed: str
) -> None:
    """People as codes, and names and ids under a value representation of another kind."""
    dataset = clean()
    dataset.PatientIdentityRemoved = removed
    dataset.add_new(*ELSEWHERE[place])
    path = write(tmp_path / "a/b/IM1", dataset)
    ended, found = identity(tmp_path, capsys)
    assert ended == 3
    assert len(found["all"]["elements"]) + len(found["all"]["private"]) == 1
    for value in (b"4711", b"Quasten^Hannelore", b"PX77192834", b"Lindenallee 17", b"19530417"):
        path.write_bytes(path.read_bytes().replace(value, b" " * len(value)))
    assert identity(tmp_path, capsys)[0] == 0


def test_codes_that_name_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = clean()
    dataset.PatientIdentityRemoved = "YES"
    dataset.PersonIdentificationCodeSequence = [code("ANONYMIZED", "ANONYMIZED")]
    dataset.ProcedureCodeSequence = [code("4711", "MR of the head")]
    write(tmp_path / "a/b/IM1", dataset)
    assert identity(tmp_path, capsys)[0] == 0


def test_words_of_a_name_in_a_sequence_are_searched_for(ingest: Ingest, tmp_path: Path) -> None:
    dataset = clean()
    dataset.PatientIdentityRemoved, dataset.ProtocolName = "YES", "for Quasten"
    dataset.OriginalAttributesSequence = originals(PatientName="Quasten^Hannelore")
    write(tmp_path / "tree/001/pre/IM1", dataset)
    detail = str(ingest("plan", tmp_path / "tree", "--require-deidentified").report["problems"])
    assert "PatientName" in detail
    assert "ProtocolName" in detail


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """In explicit VR, little endian."""
    long = vr in (b"OB", b"UN")
    return struct.pack("<HH2s" + ("HL" if long else "H"), tag >> 16, tag & 0xFFFF, vr, *(0,) * long, len(value)) + value


PADDING = element(0xFFFCFFFC, b"OB", b"\1\2" * 20)
BIRTH_NAME = element(0x00101005, b"PN", b"Quasten^Hannelore ")
# What is written behind the pixels, and whether it is in order.
BEHIND: dict[str, tuple[bytes, bool]] = {
    "nothing": (b"", True),
    "zeros": (bytes(700_000), True),
    "padding": (PADDING, True),
    "a name in the padding": (element(0xFFFCFFFC, b"OB", b"\1\2" * 400_000 + b"Quasten^Hannelore "), False),
    "a name in UTF-16": (element(0xFFFCFFFC, b"OB", "\1Hannelore".encode("utf-16-le")), False),
    "a name among blocks": (element(0xFFFCFFFC, b"OB", b"\1" * (BLOCK - 20) + b"Hannelore "), False),
    "blanks in the padding": (element(0xFFFCFFFC, b"OB", b" " * 90 + b"\xff" * 90), True),
    "padding and zeros": (PADDING + bytes(9), True),
    "birth name": (BIRTH_NAME, False),
    "birth date": (element(0x00100030, b"DA", b"19530417"), False),
    "private element": (element(0x7FE10010, b"LO", b"ACME"), False),
    "behind the padding": (PADDING + BIRTH_NAME, False),
    "two paddings": (PADDING * 2, False),
    "behind zeros": (bytes(700_000) + BIRTH_NAME, False),
    "a few bytes": (b"Jane", False),
    "no padding": (PADDING[:4] + b"Jane", False),
    "padding without end": (PADDING[:8] + b"\xff" * 4 + BIRTH_NAME, False),
}
WHY = "elements or bytes behind its pixels, which are not looked into"


def written(path: Path, sample: str, behind: bytes) -> None:
    """An image without anything of anybody before its pixels, which are those of a sample."""
    dataset, real = clean(), read(sample)
    dataset.PixelData, dataset.file_meta = real.PixelData, real.file_meta
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = real["PixelData"].is_undefined_length
    write(path, dataset)
    path.write_bytes(path.read_bytes() + behind)


@pytest.mark.parametrize("sample", ["MR_small.dcm", "MR_small_RLE.dcm"])
@pytest.mark.parametrize("behind", BEHIND)
def test_what_stands_behind_the_pixels(
    ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str], sample: str, behind: str
) -> None:
    data, in_order = BEHIND[behind]
    written(tmp_path / "tree/001/pre/IM1", sample, data)
    code, found = identity(tmp_path / "tree", capsys)
    assert (code, found["all"]["pixels"]) == ((0, {}) if in_order else (3, {WHY: 1}))
    ended = ingest("plan", tmp_path / "tree", "--require-deidentified")
    assert (ended.code, [p["kind"] for p in ended.report["problems"]]) == (
        (0, []) if in_order else (3, ["identifying"])
    )
    assert (WHY in str(ended.report["problems"])) != in_order
    assert not leaks(json.dumps(ended.report).encode() + ended.out.encode(), PERSON)


# What is written at the end of the pixels of one frame, and whether it is in order.
REST = {"zeros": (bytes(200), True), "a byte": (b"x", True), "a name": (b"Quasten^Hannelore", False)}


@pytest.mark.parametrize("rest", REST)
def test_what_stands_behind_the_last_frame(ingest: Ingest, tmp_path: Path, rest: str) -> None:
    data, in_order = REST[rest]
    dataset = clean()
    dataset.Rows, dataset.Columns, dataset.BitsAllocated = 1, 63, 8
    dataset.PixelData = dataset.PixelData[:63] + data + b"\0" * (1 - len(data) % 2)
    write(tmp_path / "tree/001/pre/IM1", dataset)
    ended = ingest("plan", tmp_path / "tree", "--require-deidentified")
    assert ended.code == (0 if in_order else 3)
    assert (WHY in str(ended.report["problems"])) != in_order


PREAMBLES = {
    "TIFF": (b"II*\0tags\x14\x0e", True),
    "BigTIFF": (b"MM\0+\0\x08\0\0offsets!\0\xfe\xe0", True),
    "a name": (b"Quasten^Hannelore".rjust(128, b"\0"), False),
    "a name behind TIFF": (b"II*\0\1\2\3\4Hannelore", False),
    "no TIFF": (b"II*\1tags", False),
    "UTF-16": ("Hannelore".encode("utf-16-le"), False),
    "a date": (b"1953-04-17", False),
}


@pytest.mark.parametrize("preamble", PREAMBLES)
def test_text_in_the_preamble(
    ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str], preamble: str
) -> None:
    data, in_order = PREAMBLES[preamble]
    path = write(tmp_path / "tree/001/pre/IM1", clean())
    path.write_bytes(data.ljust(128, b"\0") + path.read_bytes()[128:])
    assert ingest("plan", tmp_path / "tree", "--require-deidentified").code == (0 if in_order else 3)
    code, found = identity(tmp_path / "tree", capsys)
    assert (code, found["all"]["pixels"]) == ((0, {}) if in_order else (3, {"text in the file's preamble": 1}))


def test_real_files_that_are_tiff_too() -> None:
    """Their second face is in the preamble and in the padding, and is no text."""
    for name in ("CT_small.dcm", "MR_small.dcm", "MR_small_padded.dcm", "examples_rgb_color.dcm"):
        data = (SAMPLES / name).read_bytes()
        assert data[:2] == b"II"
        assert not preamble_has_text(data[:128])
        assert not has_text(read(name)[0xFFFCFFFC].value)


@pytest.mark.parametrize("cut", [8, 100])
def test_compressed_pixels_without_their_end(ingest: Ingest, tmp_path: Path, cut: int) -> None:
    """Nothing stands behind them."""
    path = tmp_path / "tree/001/pre/IM1"
    written(path, "MR_small_RLE.dcm", b"")
    path.write_bytes(path.read_bytes()[:-cut])
    ended = ingest("plan", tmp_path / "tree", "--require-deidentified", "--accept-truncated")
    assert "identifying" not in [p["kind"] for p in ended.report["problems"]]
    assert ended.report["sessions"]


def test_elements_in_place_of_fragments(ingest: Ingest, tmp_path: Path) -> None:
    path = tmp_path / "tree/001/pre/IM1"
    written(path, "MR_small_RLE.dcm", b"")
    data = path.read_bytes()
    path.write_bytes(data[:-8] + BIRTH_NAME + data[-8:])
    assert ingest("plan", tmp_path / "tree", "--require-deidentified").code == 3


@pytest.mark.parametrize("behind", [b"Jane", BIRTH_NAME, bytes(20) + b"Jane"])
def test_behind_an_object_without_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str], behind: bytes) -> None:
    dataset = clean()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66"  # raw data
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(dataset, keyword)
    path = write(tmp_path / "a/b/IM1", dataset)
    assert identity(tmp_path, capsys)[0] == 0
    path.write_bytes(path.read_bytes() + behind)
    assert identity(tmp_path, capsys)[0] == 3


@pytest.mark.parametrize(
    "other", [element(0x00020031, b"PN", b"Quasten^Hannelore "), element(0x00020099, b"LO", b"PX77192834")]
)
def test_other_elements_in_the_meta_group(tmp_path: Path, capsys: pytest.CaptureFixture[str], other: bytes) -> None:
    path = write(tmp_path / "a/b/IM1", clean())
    data = path.read_bytes()
    length = struct.unpack("<L", data[140:144])[0]
    meta = data[144 : 144 + length] + other
    path.write_bytes(data[:140] + struct.pack("<L", len(meta)) + meta + data[144 + length :])
    ended, found = identity(tmp_path, capsys)
    assert (ended, found["all"]["pixels"]) == (3, {"private information in the file's meta group": 1})


@pytest.mark.parametrize(("keyword", "code"), [("PrivateInformation", 3), ("PrivateInformationCreatorUID", 3), ("", 0)])
def test_private_information_in_the_meta_group(
    ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str], keyword: str, code: int
) -> None:
    dataset = clean()
    dataset.file_meta.PrivateInformation = b""
    if keyword:
        value = b"Quasten^Hannelore " if keyword == "PrivateInformation" else "1.2.3.4"
        setattr(dataset.file_meta, keyword, value)
    write(tmp_path / "tree/001/pre/IM1", dataset)
    assert ingest("plan", tmp_path / "tree", "--require-deidentified").code == code
    ended, found = identity(tmp_path / "tree", capsys)
    assert (ended, found["all"]["pixels"]) == (
        code,
        {"private information in the file's meta group": 1} if code else {},
    )


@pytest.mark.parametrize("sample", ["MR_small.dcm", "MR_small_RLE.dcm"])
def test_what_is_rewritten_has_nothing_behind_its_pixels(
    ingest: Ingest, site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: str
) -> None:
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", "k" * 40)
    written(tmp_path / "tree/001/pre/IM1", sample, BIRTH_NAME)
    flags = ("--deidentify", "basic", "--require-deidentified")
    assert ingest("upload", tmp_path / "tree", *flags).code == 0
    assert len(files_of(site)) == 1


def test_a_stop_is_heard_among_pixels_and_memory_does_not_grow() -> None:
    stops = []

    def blocks() -> Iterator[bytes]:
        yield struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 200 * BLOCK)
        for _ in range(400):
            yield bytes(BLOCK)

    tracemalloc.start()
    try:
        assert not behind_pixels(PeekableStream(blocks()), LITTLE_EXPLICIT, lambda: stops.append(1))
        assert tracemalloc.get_traced_memory()[1] < 10 * BLOCK
    finally:
        tracemalloc.stop()
    assert len(stops) >= 400


class _Counted(io.BytesIO):
    """A file that counts what is read from it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.mark.parametrize("behind", [b"", bytes(3), b"x"])
def test_the_pixels_of_a_file_are_not_read(behind: bytes) -> None:
    native = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 200 * BLOCK) + bytes(200 * BLOCK)
    fragment = struct.pack("<HHL", 0xFFFE, 0xE000, 100 * BLOCK + 2) + bytes(100 * BLOCK + 2)
    packed = (
        struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + 2 * fragment + bytes.fromhex("feffdde000000000")
    )
    for pixels in (native, packed):
        file = _Counted(pixels + behind)
        assert behind_pixels(PeekableStream(blocks_of(file)), LITTLE_EXPLICIT) == ("" if behind != b"x" else WHY)
        assert file.count <= 4 * BLOCK
