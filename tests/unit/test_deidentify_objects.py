"""Whole files on their way out: head, pixels, what lies around them; lengths known before, equal bytes every time."""

from __future__ import annotations

import io
import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.dicom_trees import IDENTITY, SAMPLES, encapsulated, encode, read, save
from tests.dicomscu import behind_meta
from tests.planted import PERSON, leaks, patient, planted
from xnat_ingest.core.model import Instance, Plan, Session, SetAside
from xnat_ingest.deidentify import gathering, objects
from xnat_ingest.deidentify.encoding import NotRewritable
from xnat_ingest.deidentify.objects import Deidentifier, header_of
from xnat_ingest.deidentify.pixels import extent
from xnat_ingest.deidentify.profile import load_profile, parse_profile
from xnat_ingest.deidentify.pseudonyms import Key
from xnat_ingest.inputs import FolderSource
from xnat_ingest.inputs.dicom_dataset import BLOCK, NotWalkable, PeekableStream
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.outgoing import Outgoing

KEY = Key(b"a key of tests, of no other use at all")
JPEG = "MR_small_jp2klossless.dcm"
KINDS = ("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", JPEG, "image_dfl.dcm",
         "test-SR.dcm", "rtplan.dcm", "CT_small.dcm", "JPEG-lossy.dcm")  # fmt: skip


def sent(folder: Path, deidentifier: Deidentifier) -> bytes | SetAside:
    """What is sent of the only file of a folder, after all the steps of a run; its length holds, twice."""
    source = FolderSource(folder)
    (found,) = scan(source, lambda _: None)
    assert isinstance(found, Instance), found
    left = deidentifier.examine(source, found)
    if isinstance(left, SetAside):
        return left
    session = Session("P", "S01", "S01_a", left.study_uid, "x", (left,))
    ((instance,),) = (s.instances for s in deidentifier.settle(Plan("P", (session,), (), (), 1)).sessions)
    made = [b"".join(_blocks(Outgoing(source, instance, deidentifier.rewrite))) for _ in range(2)]
    assert made[0] == made[1]
    assert len(made[0]) == instance.length
    parsed = pydicom.dcmread(io.BytesIO(made[0]), stop_before_pixels=True)
    assert parsed.SOPInstanceUID == instance.sop_uid == parsed.file_meta.MediaStorageSOPInstanceUID
    assert (parsed.StudyInstanceUID, parsed.SeriesInstanceUID) == (instance.study_uid, instance.series_uid)
    return made[0]


def _blocks(outgoing: Outgoing) -> list[bytes]:
    with outgoing.open() as blocks:
        return list(blocks)


def basic(**keys: Any) -> Deidentifier:
    return Deidentifier(parse_profile(json.dumps({"base": "basic"} | keys), "test"), KEY)


@pytest.mark.parametrize("sample", KINDS)
def test_pixels_are_what_they_were(tmp_path: Path, sample: str) -> None:
    save(read(sample), tmp_path / "IM1") if sample != "image_dfl.dcm" else (tmp_path / "IM1").write_bytes(
        (SAMPLES / sample).read_bytes()
    )
    before = pydicom.dcmread(tmp_path / "IM1")
    data = sent(tmp_path, basic(burned_in="allow"))
    assert isinstance(data, bytes)
    after = pydicom.dcmread(io.BytesIO(data))
    assert after.get("PixelData") == before.get("PixelData")
    assert data[:132] == bytes(128) + b"DICM"
    assert after.PatientIdentityRemoved == "YES"
    assert str(before.PatientName) not in str(after)


@pytest.mark.parametrize("sample", ["MR_small.dcm", JPEG])
def test_nothing_around_the_data_set_leaves(tmp_path: Path, sample: str) -> None:
    """Preamble, titles in the meta information, what lies behind the pixels, and behind the end."""
    dataset = read(sample)
    dataset.file_meta.SourceApplicationEntityTitle = "QUASTENFLOSSER"
    dataset.preamble = b"Quastenflosser  " * 8
    dataset.PatientName = PERSON.name
    dataset.add_new(0x7FE10010, "LO", "ACME")
    dataset.add_new(0x7FE11001, "LO", PERSON.name)
    dataset.add_new(0xFFFCFFFC, "OB", b"Quastenflosser")
    path = save(dataset, tmp_path / "IM1")
    path.write_bytes(path.read_bytes() + b"Quastenflosser")
    assert leaks(path.read_bytes(), PERSON)
    data = sent(tmp_path, basic())
    assert isinstance(data, bytes)
    assert not leaks(data, PERSON)
    after = pydicom.dcmread(io.BytesIO(data))
    assert max(after.keys()) == 0x7FE00010
    assert after.PixelData == dataset.PixelData
    assert set(after.file_meta.keys()) == {0x00020000, 0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012}


@pytest.mark.parametrize(
    ("sample", "is_deflated"),
    [
        ("MR_small.dcm", False),
        ("MR_small_bigendian.dcm", False),
        ("MR_small_implicit.dcm", False),
        ("MR_small.dcm", True),
    ],
)
def test_nothing_behind_the_last_frame_leaves(tmp_path: Path, sample: str, is_deflated: bool) -> None:
    """Less than a frame becomes zeros. More may be frames, which are neither lost nor sent unseen."""
    dataset = read(sample)
    if is_deflated:  # the pixels cannot be passed over
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    pixels = dataset.PixelData
    dataset.PixelData = pixels + b"Quastenflosser"
    save(dataset, tmp_path / "1/IM1")
    data = sent(tmp_path / "1", basic())
    assert isinstance(data, bytes)
    assert pydicom.dcmread(io.BytesIO(data)).PixelData == pixels + bytes(14)
    dataset.PixelData = pixels + bytes(len(pixels) - 14) + b"Quastenflosser"
    save(dataset, tmp_path / "2/IM1")
    assert sent(tmp_path / "2", basic()) == SetAside(
        "IM1", "not-deidentifiable", "the object has more pixels than its frames take"
    )
    dataset.NumberOfFrames = 2
    save(dataset, tmp_path / "3/IM1")
    data = sent(tmp_path / "3", basic())
    assert isinstance(data, bytes)
    assert pydicom.dcmread(io.BytesIO(data)).PixelData == dataset.PixelData
    del dataset.NumberOfFrames
    dataset.PixelData = pixels + bytes(2 * len(pixels))
    save(dataset, tmp_path / "4/IM1")
    data = sent(tmp_path / "4", basic())
    assert isinstance(data, bytes)
    assert pydicom.dcmread(io.BytesIO(data)).PixelData == dataset.PixelData


YBR_422 = {"SamplesPerPixel": 3, "BitsAllocated": 8, "PhotometricInterpretation": "YBR_FULL_422"}
YBR_420 = YBR_422 | {"PhotometricInterpretation": "YBR_PARTIAL_420", "NumberOfFrames": 2}
PACKED = {"BitsAllocated": 12}


@pytest.mark.parametrize(
    ("tags", "length", "found"),
    [
        ({}, 8192, (8192, 8192)),
        ({"NumberOfFrames": 3}, 24576, (8192, 3 * 8192)),
        ({"NumberOfFrames": 0}, 8192, (8192, 8192)),
        ({"NumberOfFrames": -1}, 8192, (0, 0)),
        ({"SamplesPerPixel": 3, "BitsAllocated": 8}, 12288, (3 * 4096, 3 * 4096)),
        ({"BitsAllocated": 1, "Rows": 3, "Columns": 3, "NumberOfFrames": 4}, 8, (2, 8)),
        (PACKED, 8192, (8192, 8192)),
        (PACKED, 8392, (8192, 8192)),
        (PACKED, 6144 + 200, (6144, 6144)),
        (YBR_422, 3 * 4096 + 200, (3 * 4096, 3 * 4096)),
        (YBR_422, 2 * 4096 + 200, (2 * 4096, 2 * 4096)),
        (YBR_420, 2 * 6144 + 200, (6144, 2 * 6144)),
        ({"Rows": None}, 8192, (0, 0)),
        ({"SamplesPerPixel": None}, 8192, (8192, 8192)),
    ],
)
def test_how_many_bytes_frames_take(tmp_path: Path, tags: dict[str, Any], length: int, found: tuple[int, int]) -> None:
    dataset = read("MR_small.dcm")
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    data = save(dataset, tmp_path / "IM1").read_bytes()
    (instance,) = scan(FolderSource(tmp_path), lambda _: None)
    assert isinstance(instance, Instance)
    _, _, _, facts = header_of(PeekableStream([data]), instance)
    assert extent(facts, "1.2.840.10008.1.2.1", length) == found
    assert extent(facts, "1.2.840.10008.1.2.4.50", length) == (0, 0)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        *((b" 2 ", 2), (b"+2", 2), (b"2.0 ", 2), (b"2.", 2), (b"002 ", 2), (b"", 1)),
        *((b"2.5 ", -1), (b"-2", -1), (b"2\\3 ", -1), (b"2e0 ", -1), (b"9" * 14, -1)),
    ],
)
def test_a_number_of_frames_that_is_written_oddly(written: bytes, number: int) -> None:
    assert gathering.Facts("<", values={gathering.FRAMES: written}).frames == number
    numbers = {gathering.ROWS: b"\4\0", gathering.COLUMNS: b"\4\0", gathering.BITS: b"\x10\0"}
    facts = gathering.Facts("<", values={gathering.FRAMES: written, **numbers})
    assert extent(facts, "1.2.840.10008.1.2.1", 64) == ((32, 32 * number) if number > 0 else (0, 0))


@pytest.mark.parametrize(
    ("tags", "size"),
    [(YBR_422, 2 * 4096), ({"Rows": None}, 8192), ({"NumberOfFrames": -1}, 8192), (PACKED, 6144)],
)
def test_text_behind_frames_of_unusual_size(tmp_path: Path, tags: dict[str, Any], size: int) -> None:
    """It becomes zeros, or the object is not sent."""
    dataset = read("MR_small.dcm")
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = bytes(size) + b"Quastenflosser"
    save(dataset, tmp_path / "IM1")
    data = sent(tmp_path, basic())
    if isinstance(data, SetAside):
        assert data.detail == "the object does not tell how many bytes its frames take"
    else:
        assert b"Quastenflosser" not in data


@pytest.mark.wide
def test_nothing_planted_leaves_in_files(tmp_path: Path) -> None:
    for name, dataset in planted():
        folder = tmp_path / name
        save(dataset, folder / "IM1")  # type: ignore[arg-type]
        data = sent(folder, Deidentifier(load_profile("basic"), KEY))
        if isinstance(data, SetAside):
            assert data.reason in ("residual-identifier", "not-deidentifiable")
            assert not leaks(data.detail.encode(), PERSON)
        else:
            assert not leaks(data, PERSON), name


def test_the_element_is_named_and_its_value_is_not(tmp_path: Path) -> None:
    dataset = patient(PERSON)
    dataset.SoftwareVersions = f"made for {PERSON.patient_id}"
    save(dataset, tmp_path / "IM1")  # type: ignore[arg-type]
    found = sent(tmp_path, basic())
    assert found == SetAside("IM1", "residual-identifier", "SoftwareVersions would still hold what PatientID held")
    assert found.is_problem


def test_a_header_longer_than_a_block(tmp_path: Path) -> None:
    dataset = read("MR_small.dcm")
    dataset.DerivationDescription = "x" * 1000
    dataset.add_new(0x00281201, "OW", bytes(300_000))
    save(dataset, tmp_path / "IM1")
    data = sent(tmp_path, basic())
    assert isinstance(data, bytes)
    after = pydicom.dcmread(io.BytesIO(data))
    assert (len(after[0x00281201].value), after.PixelData) == (300_000, dataset.PixelData)


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
def test_pixels_are_not_held(tmp_path: Path, name: str) -> None:
    """However long they are, only the first blocks are taken to read the header."""
    save(read(name), tmp_path / "IM1")
    (instance,) = scan(FolderSource(tmp_path), lambda _: None)
    assert isinstance(instance, Instance)
    data = (tmp_path / "IM1").read_bytes()
    order = ">" if "big" in name else "<"
    at = data.rindex(struct.pack(f"{order}HH", 0x7FE0, 0x0010))
    start = at + (8 if "implicit" in name else 12)
    head = data[: start - 4] + struct.pack(f"{order}L", 2**31)
    taken = []

    def blocks() -> Iterator[bytes]:
        yield head
        while True:
            taken.append(BLOCK)
            yield bytes(BLOCK)

    _, _, _, facts = header_of(PeekableStream(blocks()), instance)
    assert facts.pixels
    assert len(taken) <= 1


@pytest.mark.wide
def test_a_header_without_end_is_refused() -> None:
    """A small deflated file may hold gigabytes before its pixels."""
    taken = []

    def blocks() -> Iterator[bytes]:
        yield struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, 2**31)
        while True:
            taken.append(BLOCK)
            yield bytes(BLOCK)

    explicit = "1.2.840.10008.1.2.1"
    instance = Instance("a", 1, 1, "1.2", "1.3", "1.4", "1.5", "1", "1", "MR", "", explicit, 0, {})
    with pytest.raises(NotRewritable, match="a header of more than 128 MiB"):
        header_of(PeekableStream(blocks()), instance)
    assert sum(taken) <= 129 * 1024**2


def header_before(zeros: int, then: bytes = b"") -> bytes:
    """The header of an object without pixels and with zeros behind it. A look that does not end fails."""
    looks = Counter[str]()

    def check() -> None:
        looks["all"] += 1
        assert looks["all"] < 2000

    explicit = "1.2.840.10008.1.2.1"
    instance = Instance("a", 1, 1, "1.2", "1.3", "1.4", "1.5", "1", "1", "SR", "", explicit, 0, {})
    blocks = chain([encode(IDENTITY)], (bytes(BLOCK) for _ in range(zeros // BLOCK)), [then])
    stream = PeekableStream(blocks)
    data = header_of(stream, instance, check)[2]
    assert not stream.peek(1)
    return data


@pytest.mark.parametrize("most", [BLOCK, 16 * BLOCK, 512 * BLOCK])
def test_zeros_behind_an_object_without_pixels(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """However many they are: longer than any header, too."""
    monkeypatch.setattr(objects, "MOST_HEAD", most)
    assert header_before(64 * BLOCK) == encode(IDENTITY)
    with pytest.raises(NotRewritable, match="has zeros in place of its elements"):
        header_before(64 * BLOCK, b"Quastenflosser")


def test_zeros_without_end_behind_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "ENOUGH", 8 * BLOCK)
    with pytest.raises(NotRewritable, match="is followed by more than 2 MiB of zeros"):
        header_before(64 * BLOCK)


def test_a_header_as_long_as_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing tells that more follows."""
    monkeypatch.setattr(objects, "MOST_HEAD", len(encode(IDENTITY)))
    monkeypatch.setattr(objects, "_FIRST", len(encode(IDENTITY)))
    with pytest.raises(NotRewritable, match="has a header of more than"):
        header_before(0)


def test_a_data_set_without_meta_information(tmp_path: Path) -> None:
    (tmp_path / "IM1").write_bytes(behind_meta((SAMPLES / "MR_small_implicit.dcm").read_bytes()))
    data = sent(tmp_path, basic())
    assert isinstance(data, bytes)
    assert pydicom.dcmread(io.BytesIO(data)).PixelData == read("MR_small_implicit.dcm").PixelData


def with_floats(bits: int, *, both: bool = False) -> FileDataset:
    dataset = read("MR_small.dcm")
    if not both:
        del dataset.PixelData
    dataset.BitsAllocated = bits
    dataset.add_new(0x7FE00008, "OF", bytes(4 * dataset.Rows * dataset.Columns))
    return dataset


def test_floating_point_pixels_leave(tmp_path: Path) -> None:
    dataset = with_floats(32)
    save(dataset, tmp_path / "IM1")
    data = sent(tmp_path, basic())
    assert isinstance(data, bytes)
    assert pydicom.dcmread(io.BytesIO(data)).FloatPixelData == dataset.FloatPixelData


@pytest.mark.parametrize(
    ("dataset", "why"),
    [
        (with_floats(16), "has floating point pixels, and BitsAllocated does not say 32"),
        (with_floats(16, both=True), "has floating point pixels, and BitsAllocated does not say 32"),
        (with_floats(32, both=True), "has pixels of two kinds"),
    ],
)
def test_floating_point_pixels_that_hide_something(tmp_path: Path, dataset: FileDataset, why: str) -> None:
    """Only one element of pixels is sent: the other would be lost."""
    save(dataset, tmp_path / "IM1")
    assert sent(tmp_path, basic()) == SetAside("IM1", "not-deidentifiable", f"the object {why}")


def broken(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return make


def test_what_cannot_be_rewritten_is_set_aside(tmp_path: Path) -> None:
    """An element with a VR that nobody knows: where its value ends cannot be told."""
    path = save(read("MR_small.dcm"), tmp_path / "IM1")
    raw = path.read_bytes()
    at = raw.index(struct.pack("<HH2s", 0x0008, 0x0070, b"LO"))
    path.write_bytes(raw[:at] + raw[at:].replace(b"LO", b"QQ", 1))
    source = FolderSource(tmp_path)
    instance = Instance("IM1", len(raw), path.stat().st_mtime_ns, "1.2", "1.2.3", "1.2.4", "1.2.5", "1", "1", "MR", "",
                        "1.2.840.10008.1.2.1", 0, {})  # fmt: skip
    found = basic().examine(source, instance)
    assert isinstance(found, SetAside)
    assert (found.reason, found.is_problem) == ("not-deidentifiable", True)
    assert found.detail.startswith("the object has an element of a value representation")


def test_what_no_plan_let_through_is_never_sent(tmp_path: Path) -> None:
    """Whatever became of the file between the plan and the sending."""
    dataset = read("MR_small.dcm")
    dataset.BurnedInAnnotation = "YES"
    save(dataset, tmp_path / "IM1")
    source = FolderSource(tmp_path)
    (found,) = scan(source, lambda _: None)
    assert isinstance(found, Instance)
    with pytest.raises(NotWalkable, match="may not leave"):
        _blocks(Outgoing(source, found, basic().rewrite))


@pytest.mark.parametrize(("software", "leaves"), [("V1 Quastenflosser", False), ("V2 of another make", True)])
def test_a_file_that_is_replaced_after_the_plan_is_searched_again(tmp_path: Path, software: str, leaves: bool) -> None:
    """By another version of the same object."""
    dataset = read("MR_small.dcm")
    dataset.PatientName = PERSON.name
    dataset.SoftwareVersions = "V1"
    save(dataset, tmp_path / "IM1")
    source, how = FolderSource(tmp_path), Deidentifier(load_profile("research-mr"), KEY)
    (found,) = scan(source, lambda _: None)
    assert isinstance(found, Instance)
    left = how.examine(source, found)
    assert isinstance(left, Instance)
    how.settle(Plan("P", (Session("P", "S01", "S01_a", left.study_uid, "x", (left,)),), (), (), 1))
    dataset.SoftwareVersions = software
    save(dataset, tmp_path / "IM1")
    if leaves:
        assert software.encode() in b"".join(_blocks(Outgoing(source, left, how.rewrite)))
        return
    with pytest.raises(NotWalkable, match="SoftwareVersions would still hold what PatientName held"):
        _blocks(Outgoing(source, left, how.rewrite))


@pytest.mark.parametrize(
    ("tags", "refused"),
    [
        ({"BurnedInAnnotation": "YES"}, True),
        ({"BurnedInAnnotation": "NO"}, False),
        ({}, False),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2"}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "BurnedInAnnotation": "NO"}, False),
        *(
            ({"SOPClassUID": f"1.2.840.10008.5.1.4.1.1.77.{kind}"}, True)
            for kind in ("1", "1.1", "1.1.1", "1.2", "1.4.1", "1.5.1", "1.5.5", "1.6", "1.7", "2")
        ),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.7", "BurnedInAnnotation": "NO"}, False),
        *(({"SOPClassUID": f"1.2.840.10008.5.1.1.{kind}"}, True) for kind in (29, 30)),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.78.1"}, False),
        ({"BurnedInAnnotation": ["NO", "YES"]}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "BurnedInAnnotation": ["NO", "NO"]}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66"}, False),
        (
            {
                "SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1",
                "EncapsulatedDocument": b"%PDF",
                "BurnedInAnnotation": "NO",
            },
            True,
        ),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
    ],
)
def test_text_in_pixels(tmp_path: Path, tags: dict[str, Any], refused: bool) -> None:
    dataset = read("MR_small.dcm")
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    save(dataset, tmp_path / "IM1")
    found = sent(tmp_path, basic())
    assert isinstance(found, SetAside) == refused
    assert not isinstance(found, SetAside) or found.reason == "burned-in"
    assert isinstance(sent(tmp_path, basic(burned_in="allow")), bytes)


@pytest.mark.parametrize(
    ("overlays", "refused"),
    [
        ([{"OverlayBitsAllocated": 16, "OverlayBitPosition": 15}], True),
        ([{"OverlayBitsAllocated": 1, "OverlayBitPosition": 12}], True),
        ([{"OverlayBitPosition": 12}], True),
        ([{"OverlayBitsAllocated": 16, "OverlayBitPosition": 0}], True),  # of an image in the upper bits
        ([{"OverlayBitsAllocated": 16, "OverlayBitPosition": 13, "OverlayData": bytes(512)}], True),
        ([{"OverlayBitsAllocated": 1, "OverlayBitPosition": 0, "OverlayData": bytes(512)}], False),
        ([{"OverlayBitsAllocated": 16, "OverlayBitPosition": 0, "OverlayData": bytes(512)}], False),
        ([{"OverlayBitsAllocated": 1, "OverlayBitPosition": 0}], False),
        ([{"OverlayBitsAllocated": 1, "OverlayData": bytes(512)}, {"OverlayBitPosition": 14}], True),
        ([{}], False),
    ],
)
def test_overlays_in_the_bits_of_the_pixels(tmp_path: Path, overlays: list[dict[str, Any]], refused: bool) -> None:
    """Their headers are removed, and the drawing would stay."""
    dataset = read("MR_small.dcm")
    dataset.BurnedInAnnotation = "NO"
    for number, values in enumerate(overlays):
        for keyword, value in ({"OverlayRows": 64, "OverlayColumns": 64} | values).items():
            element = {"OverlayData": (0x3000, "OW"), "OverlayRows": (0x10, "US"), "OverlayColumns": (0x11, "US"),
                       "OverlayBitsAllocated": (0x100, "US"), "OverlayBitPosition": (0x102, "US")}[keyword]  # fmt: skip
            dataset.add_new((0x6000 + 2 * number, element[0]), element[1], value)
    save(dataset, tmp_path / "IM1")
    found = sent(tmp_path, basic())
    assert isinstance(found, SetAside) == refused
    assert not isinstance(found, SetAside) or (found.reason == "burned-in" and "an overlay in bit" in found.detail)
    assert isinstance(sent(tmp_path, basic(burned_in=BOX)), SetAside) == refused
    assert isinstance(sent(tmp_path, basic(burned_in="allow")), bytes)


BOX = [{"modality": "MR", "rows": 64, "columns": 64, "boxes": [[0, 0, 64, 2], [10, 20, 12, 22]]}]


@pytest.mark.parametrize("planar", [None, 0, 1])
def test_boxes_are_black_and_nothing_else(tmp_path: Path, planar: int | None) -> None:
    """Of two frames; with colours in pixels or in planes."""
    dataset = read("MR_small.dcm")
    dataset.BurnedInAnnotation = "YES"
    dataset.NumberOfFrames = 2
    samples = 1 if planar is None else 3
    dataset.SamplesPerPixel = samples
    if planar is not None:
        dataset.PlanarConfiguration = planar
        dataset.PhotometricInterpretation = "RGB"
    dataset.PixelData = b"\x11" * (64 * 64 * 2 * 2 * samples)
    save(dataset, tmp_path / "IM1")
    data = sent(tmp_path, basic(burned_in=BOX))
    assert isinstance(data, bytes)
    after = pydicom.dcmread(io.BytesIO(data)).PixelData
    black = 0
    for number, byte in enumerate(after):
        cell = number // 2 if planar == 1 or samples == 1 else number // (2 * samples)
        row, column = cell % (64 * 64) // 64, cell % 64
        inside = row < 2 or (20 <= row < 22 and 10 <= column < 12)
        assert byte == (0 if inside else 0x11), (row, column)
        black += inside
    assert black == (2 * 64 + 4) * 2 * 2 * samples


@pytest.mark.parametrize(
    ("sample", "tags", "why"),
    [
        ("MR_small_RLE.dcm", {}, "compressed"),
        ("MR_small.dcm", {"BitsAllocated": 1}, "bits"),
        ("MR_small.dcm", {"Modality": "US", "BurnedInAnnotation": "YES"}, "says YES"),
    ],
)
def test_boxes_that_cannot_be_made_black(tmp_path: Path, sample: str, tags: dict[str, Any], why: str) -> None:
    dataset = read(sample)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    save(dataset, tmp_path / "IM1")
    found = sent(tmp_path, basic(burned_in=BOX))
    assert isinstance(found, SetAside)
    assert found.reason == "burned-in"
    assert why in found.detail


def test_what_is_counted(tmp_path: Path) -> None:
    dataset = patient(PERSON)
    dataset.StudyID = "12"
    save(dataset, tmp_path / "IM1")  # type: ignore[arg-type]
    deidentifier = basic()
    assert isinstance(sent(tmp_path, deidentifier), bytes)
    tally = deidentifier.tally
    assert (tally.objects, tally.blackened) == (1, 0)
    assert tally.actions["Z", 0x00200010] == 1
    assert tally.weak == {("StudyID", "too short to be searched for"): 1}
    ((one,),) = (found.values() for found in deidentifier.originals.values())
    assert (one.patient_id, one.study_uid) == (PERSON.patient_id, dataset.StudyInstanceUID)


def fragments(*values: bytes) -> bytes:
    return b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(value)) + value for value in values)


@pytest.mark.parametrize(
    ("frames", "table", "stays"),
    [
        (1, b"", True),
        (1, bytes(4), True),
        (3, struct.pack("<3L", 0, 10, 20), True),
        (1, b"Zzyzxmann\0\0\0", False),
        (1, b"Zzyz", False),
        (3, struct.pack("<3L", 0, 20, 10), False),
        (3, struct.pack("<3L", 0, 10, 21), False),
        (3, struct.pack("<3L", 2, 10, 20), False),
        (3, struct.pack("<2L", 0, 10), False),
        (2, struct.pack("<3L", 0, 10, 20), False),
        (1_000_000, struct.pack("<1000000L", *range(0, 2_000_000, 2)), True),
        (1_000_001, struct.pack("<1000001L", *range(0, 2_000_002, 2)), False),
    ],
)
def test_an_offset_table_that_is_none_is_emptied(frames: int, table: bytes, stays: bool, tmp_path: Path) -> None:
    """Empty ones are allowed; the fragments stay as they are."""
    frame = b"\xff\xd8"
    (tmp_path / "a").write_bytes(encapsulated(table, frame, frame, frames=frames))
    data = sent(tmp_path, basic())
    assert isinstance(data, bytes)
    end = fragments(table if stays else b"", frame, frame) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    assert data.endswith(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + end)


def test_of_a_uid_with_several_values_the_first_is_the_planned_one(tmp_path: Path) -> None:
    """As the planner and XNAT read it. What leaves is then known as the planned object."""
    dataset = read("MR_small.dcm")
    dataset.SeriesInstanceUID = [dataset.SeriesInstanceUID, "1.2.3"]
    save(dataset, tmp_path / "IM1")
    source = FolderSource(tmp_path)
    (found,) = scan(source, lambda _: None)
    assert isinstance(found, Instance)
    left = basic().examine(source, found)
    assert isinstance(left, Instance)
    assert left.series_uid.startswith("2.25.")
    assert "\\" not in left.series_uid
