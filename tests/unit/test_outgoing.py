"""What is sent of an instance: exact length, equal bytes at each opening, readable by others, little memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pydicom
import pytest

from tests.dicom_trees import (
    BIG,
    DEFLATED,
    IDENTITY,
    LITTLE,
    PIXELS,
    RLE,
    SAMPLES,
    Memory,
    deflated,
    encode,
    implicit,
    part10,
)
from xnat_ingest.core.model import INFLATED, Form, Instance, SetAside
from xnat_ingest.inputs.dicom_dataset import NotWalkable
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.outgoing import Outgoing, file_head

IMPLICIT = "1.2.840.10008.1.2"
# The library warns of files that are not encoded as they say.
pytestmark = pytest.mark.filterwarnings("ignore:Expected")
SOP_CLASS, SOP_UID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.5.6"
PICTURE = {**IDENTITY, PIXELS: ("OW", bytes(range(200)))}


def instance_of(raw: bytes) -> Instance:
    (found,) = scan(Memory({"f": raw}), lambda _: None)
    assert isinstance(found, Instance), found
    return found


def sent(raw: bytes, instance: Instance) -> bytes:
    with Outgoing(Memory({"f": raw}), instance).open() as blocks:
        return b"".join(blocks)


def elements(raw: bytes) -> dict[int, object]:
    """Every element's value as it is encoded."""
    found = pydicom.dcmread(io.BytesIO(raw), force=True)
    values = {int(tag): found.get_item(tag) for tag in found.keys()}  # noqa: SIM118 - an iteration decodes
    return {tag: element.value for tag, element in values.items()}


def data_set(raw: bytes) -> bytes:
    """A real file's data set: after a preamble and a meta header that tells its length."""
    return raw[144 + struct.unpack("<L", raw[140:144])[0] :]


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


FILES: dict[str, tuple[bytes, Form, str, str]] = {
    "as it is": (part10(PICTURE), "file", LITTLE, LITTLE),
    "deflated": (deflated(encode(PICTURE)), "inflated", DEFLATED, LITTLE),
    "deflated, real": (sample("image_dfl.dcm"), "inflated", DEFLATED, LITTLE),
    "deflated, no preamble": (deflated(encode(PICTURE))[132:], "inflated", DEFLATED, LITTLE),
    "bare explicit": (encode(PICTURE), "headed", LITTLE, LITTLE),
    "bare explicit, real": (data_set(sample("MR_small.dcm")), "headed", LITTLE, LITTLE),
    "bare implicit": (implicit(PICTURE), "headed", IMPLICIT, IMPLICIT),
    "bare implicit, real": (data_set(sample("MR_small_implicit.dcm")), "headed", IMPLICIT, IMPLICIT),
    "bare big endian": (encode(PICTURE, ">"), "headed", BIG, BIG),
    "bare big endian, real": (data_set(sample("MR_small_bigendian.dcm")), "headed", BIG, BIG),
    "no preamble": (part10(PICTURE)[132:], "headed", LITTLE, LITTLE),
    "no preamble, compressed": (part10(PICTURE, RLE)[132:], "headed", RLE, RLE),
    "no meta": (bytes(128) + b"DICM" + encode(PICTURE), "headed", LITTLE, LITTLE),
    "explicit, says implicit": (part10(PICTURE, IMPLICIT), "headed", LITTLE, LITTLE),
    "implicit, says explicit": (part10({}, LITTLE) + implicit(PICTURE), "headed", IMPLICIT, IMPLICIT),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_what_is_sent_is_a_whole_file_that_says_what_it_is(name: str) -> None:
    raw, form, own, syntax = FILES[name]
    instance = instance_of(raw)
    assert (instance.form, instance.transfer_syntax, instance.sent_syntax) == (form, own, syntax)
    data = sent(raw, instance)
    assert len(data) == instance.length
    assert sent(raw, instance) == data
    found = pydicom.dcmread(io.BytesIO(data))  # not forced: the mark must be there
    meta = found.file_meta
    assert (meta.TransferSyntaxUID, found.SOPInstanceUID) == (syntax, instance.sop_uid)
    assert len(found["PixelData"].value) == instance.pixel_bytes > 0
    if form != "file":
        assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (found.SOPClassUID, instance.sop_uid)
        pydicom.dataset.validate_file_meta(meta, enforce_standard=True)
        assert meta.FileMetaInformationGroupLength == struct.unpack("<L", data[140:144])[0]
    assert elements(data) == elements(raw)


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name][1] == "headed"])
def test_a_data_set_that_gets_a_head_stays_byte_for_byte(name: str) -> None:
    raw = FILES[name][0]
    instance = instance_of(raw)
    head = file_head(instance.sop_class, instance.sop_uid, instance.sent_syntax)
    assert sent(raw, instance).startswith(head)
    assert raw.endswith(sent(raw, instance)[len(head) :])


@pytest.mark.parametrize(("syntax", "plain"), INFLATED.items())
def test_each_deflated_syntax_is_sent_as_its_plain_one(syntax: str, plain: str) -> None:
    """By the standard's table A-1: what is referenced by JPIP stays so."""
    pack = zlib.compressobj(wbits=-15)
    raw = part10({}, syntax) + pack.compress(encode(PICTURE)) + pack.flush()
    assert pydicom.dcmread(io.BytesIO(sent(raw, instance_of(raw)))).file_meta.TransferSyntaxUID == plain
    assert pydicom.uid.UID(plain).name.replace("Referenced", "Referenced Deflate") in (
        pydicom.uid.UID(syntax).name,
        "Explicit VR Little Endian",
    )


def test_a_uid_of_odd_length_is_padded() -> None:
    for uid in ("1.2.3", "1.2.34"):
        meta = pydicom.dcmread(io.BytesIO(file_head(uid, uid, uid) + encode(IDENTITY))).file_meta
        assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID) == (uid,) * 3


def test_rewriting_comes_last_and_sees_one_kind_of_file() -> None:
    """Whatever the file was, what changes it on the way gets preamble and meta information."""
    seen: list[bytes] = []

    def rewrite(instance: Instance, blocks: Iterator[bytes]) -> Iterator[bytes]:
        seen.append(b"".join(blocks))
        yield b"other"

    for raw, *_ in FILES.values():
        with Outgoing(Memory({"f": raw}), instance_of(raw), rewrite).open() as blocks:
            assert b"".join(blocks) == b"other"
    assert all(one[128:132] == b"DICM" for one in seen)
    assert len(seen) == len(FILES)


@pytest.mark.parametrize("spoil", ["cut", "noise"])
def test_a_deflated_file_that_became_another_is_no_whole_object(spoil: str) -> None:
    raw = deflated(encode(PICTURE))
    instance = instance_of(raw)
    with pytest.raises(NotWalkable):
        sent(raw[:-20] if spoil == "cut" else raw[:-60] + b"\xff" * 60, instance)


class Zeros(io.RawIOBase):
    """A deflated file of zeros: some megabytes that inflate to gigabytes."""

    def __init__(self, size: int) -> None:
        pack = zlib.compressobj(wbits=-15)
        self._pieces = [part10({}, DEFLATED)]
        self._pieces.append(pack.compress(encode(IDENTITY) + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, size)))
        self._pieces += [pack.compress(bytes(1 << 20)) for _ in range(size >> 20)]
        self._pieces.append(pack.flush())
        self.raw = b"".join(self._pieces)


@pytest.mark.wide
def test_memory_does_not_grow_with_what_a_file_inflates_to() -> None:
    """A third of a megabyte that inflates to 320 MB: scanned and sent."""
    size = 320 << 20
    raw = Zeros(size).raw
    assert len(raw) < 400_000
    source = Memory({"f": raw})
    tracemalloc.start()
    try:
        (instance,) = scan(source, lambda _: None)
        assert isinstance(instance, Instance)
        with Outgoing(source, instance).open() as blocks:
            total = sum(map(len, blocks))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == instance.length > size
    assert instance.pixel_bytes == size
    assert peak < 4 << 20


@pytest.mark.wide
def test_a_header_that_inflates_to_much_is_not_kept() -> None:
    """A private element of 64 MB, and a description longer than anybody reads."""
    elements = {**PICTURE, 0x0008103E: ("UT", bytes(64 << 20)), 0x00191001: ("OB", bytes(64 << 20))}
    raw = deflated(encode(elements))
    tracemalloc.start()
    try:
        instance = instance_of(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (instance.series_description, instance.pixel_bytes) == ("", 200)
    assert peak < 4 << 20


def test_the_file_is_closed_after_use() -> None:
    opened: list[BinaryIO] = []

    class Source(Memory):
        def open(self, path: str) -> BinaryIO:
            opened.append(super().open(path))
            return opened[-1]

    for raw, *_ in FILES.values():
        with Outgoing(Source({"f": raw}), instance_of(raw)).open() as blocks:
            next(blocks)
        assert opened[-1].closed


@pytest.mark.parametrize("name", ["MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
def test_a_damaged_head_is_named_and_gets_no_other_before_it(name: str) -> None:
    """Its length has lost its own length, so a rest of it would stand at the beginning of the data set."""
    raw = sample(name).replace(b"\2\0\0\0UL\4\0", b"\2\0\0\0UL\0\0\0\0\4\0", 1)
    (found,) = scan(Memory({"f": raw}), lambda _: None)
    assert isinstance(found, SetAside)
    assert (found.reason, found.detail) == (
        "unreadable",
        "its meta information is damaged; export or fetch it again",
    )
