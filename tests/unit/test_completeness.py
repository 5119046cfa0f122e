"""Whether an object has what its SOP class asks for: cut images are never whole, and what needs no pixels is sent."""

from __future__ import annotations

import pytest
from pydicom._uid_dict import UID_dictionary

from tests.dicom_trees import (
    BIG,
    DEFLATED,
    IDENTITY,
    LITTLE,
    PIXELS,
    RLE,
    SAMPLES,
    Elements,
    Memory,
    deflated,
    encapsulated,
    encode,
    part10,
)
from xnat_ingest.core.model import Instance, SetAside
from xnat_ingest.inputs.dicom_dataset import PeekableStream, copy_value, read_head, skip_meta
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.sop_classes import COMMON_IMAGES, DOCUMENTS, IMAGES, is_image

MR, SPECTRUM, RAW, DOSE, PDF = (
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.2",
    "1.2.840.10008.5.1.4.1.1.66",
    "1.2.840.10008.5.1.4.1.1.481.2",
    "1.2.840.10008.5.1.4.1.1.104.1",
)
PRIVATE = "1.3.46.670589.11.0.0.12.1"  # Philips' spectra of old
ROWS: Elements = {0x00280010: ("US", b"\x40\0")}
PICTURE: Elements = {PIXELS: ("OW", bytes(64))}
JPEG = "1.2.840.10008.1.2.4.50"
STREAM = b"\xff\xd8" + bytes(94) + b"\xff\xd9"


def of(sop_class: str, *more: Elements, syntax: str = LITTLE) -> bytes:
    elements = dict(IDENTITY)
    elements[0x00080016] = ("UI", sop_class.encode() + b"\0" * (len(sop_class) % 2))
    for one in more:
        elements |= one
    return deflated(encode(elements)) if syntax == DEFLATED else part10(elements, syntax)


def judged(raw: bytes, *, accept: bool = False) -> Instance | SetAside:
    (item,) = scan(Memory({"f": raw}), lambda _: None, accept_truncated=accept)
    return item


def outcome(raw: bytes) -> str:
    item = judged(raw)
    return item.reason if isinstance(item, SetAside) else item.flaw or "whole"


@pytest.mark.parametrize("syntax", [LITTLE, DEFLATED])
@pytest.mark.parametrize(
    ("sop_class", "more", "expected"),
    [
        (MR, (ROWS, PICTURE), "whole"),
        (MR, (PICTURE,), "whole"),
        (MR, (ROWS,), "truncated"),
        (MR, (), "truncated"),
        (MR, (ROWS, {0x00287FE0: ("UR", b"jpip://x")}), "whole"),
        (MR, ({0x7FE00008: ("OF", bytes(8))},), "whole"),
        (MR, ({0x7FE00009: ("OD", bytes(8))},), "whole"),
        (RAW, (ROWS,), "whole"),
        (RAW, (), "whole"),
        (PRIVATE, (ROWS,), "whole"),
        ("1.2.3.4", (ROWS,), "whole"),
        (SPECTRUM, (ROWS, {0x56000020: ("OF", bytes(64))}), "whole"),
        (SPECTRUM, (ROWS,), "truncated"),
        (DOSE, (ROWS, PICTURE), "whole"),
        (DOSE, (ROWS,), "truncated"),
        (DOSE, (), "whole"),
        (PDF, ({0x00420011: ("OB", b"%PDF")},), "whole"),
        (PDF, (), "truncated"),
    ],
)
def test_what_must_be_there_follows_from_the_sop_class(
    sop_class: str, more: tuple[Elements, ...], expected: str, syntax: str
) -> None:
    assert outcome(of(sop_class, *more, syntax=syntax)) == expected


# Every SOP class with pixels whose name is not `... Image Storage`, and every one that is nothing without one element.
NAMED = {
    "1.2.840.10008.5.1.4.1.1.6.2", "1.2.840.10008.5.1.4.1.1.30", "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.66.8", "1.2.840.10008.5.1.4.1.1.77.1.5.8",
    "1.2.840.10008.5.1.4.1.1.81.1", "1.2.840.10008.5.1.4.1.1.82.1",
}  # fmt: skip


@pytest.mark.parametrize("sop_class", sorted(NAMED | IMAGES.keys()))
def test_images_that_are_not_called_so(sop_class: str) -> None:
    assert sop_class in NAMED
    assert (outcome(of(sop_class)), outcome(of(sop_class, PICTURE))) == ("truncated", "whole")


@pytest.mark.parametrize("suffix", ["4.2", "104.1", "104.2", "104.3", "104.4", "104.5"])
def test_documents_have_what_makes_them(suffix: str) -> None:
    element, word = DOCUMENTS[f"1.2.840.10008.5.1.4.1.1.{suffix}"]
    item = judged(of(f"1.2.840.10008.5.1.4.1.1.{suffix}"))
    assert isinstance(item, SetAside)
    assert item.detail == f"it has no {word}: it was truncated, or is only a header"
    assert outcome(of(f"1.2.840.10008.5.1.4.1.1.{suffix}", {element: ("OB", b"%PDF")})) == "whole"


def test_every_storage_class_of_the_standard_is_one_or_the_other() -> None:
    """As the library's dictionary names them; a new kind of image whose name says so is one by itself."""
    names = {uid: entry[0] for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class"}
    storage = {uid: name for uid, name in names.items() if uid.startswith("1.2.840.10008.5.1.4.1.1.")}
    images = {uid for uid in storage if is_image(uid)}
    assert images == {uid for uid, name in storage.items() if "Image Storage" in name} | (NAMED & storage.keys())
    assert len(images) > 60
    assert not any(word in storage[uid] for uid in images for word in (" SR ", "Plan ", "State", "Waveform", "Raw"))


def test_a_header_alone_is_told_as_that() -> None:
    item = judged((SAMPLES / "dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000J").read_bytes())
    assert isinstance(item, SetAside)
    assert (item.reason, item.detail) == ("truncated", "it has no pixel data: it was truncated, or is only a header")


REAL = ("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "CT_small.dcm")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", REAL)
def test_a_real_image_cut_at_every_element_boundary(name: str) -> None:
    """Before Rows, too, where nothing else tells: each is a problem, and none is an instance."""
    raw = (SAMPLES / name).read_bytes()
    bounds = boundaries(raw)
    assert len(bounds) > 60
    for cut in bounds:
        item = judged(raw[:cut])
        assert isinstance(item, SetAside), cut
        assert item.reason in ("truncated", "no-uid")  # of what has no UIDs, nothing is known
        assert item.is_problem


def boundaries(raw: bytes) -> list[int]:
    """Where the elements of a real file's data set begin, up to its pixel data."""
    source = PeekableStream([raw])
    syntax = skip_meta(source)
    explicit, order = syntax != "1.2.840.10008.1.2", ">" if syntax == BIG else "<"
    found = []
    while True:
        found.append(source.taken)
        head = read_head(source, explicit, order)
        if head.tag >= PIXELS:
            return found[1:]
        for _ in copy_value(source, head, explicit, order):
            pass


CUTS = {
    "whole": (encapsulated(b"", STREAM, syntax=JPEG), "whole"),
    "no delimiter": (encapsulated(b"", STREAM, syntax=JPEG)[:-8], "unended"),
    "half a delimiter": (encapsulated(b"", STREAM, syntax=JPEG)[:-4], "unended"),
    "no pad byte": (encapsulated(b"", STREAM[:-1] + b"\xd9\0", syntax=JPEG)[:-9], "unended"),
    "a byte of the stream": (encapsulated(b"", STREAM, syntax=JPEG)[:-9], "truncated"),
    "two bytes": (encapsulated(b"", STREAM, syntax=JPEG)[:-10], "truncated"),
    "two frames": (encapsulated(b"", STREAM, STREAM, frames=2, syntax=JPEG)[:-8], "unended"),
    "one frame of two": (encapsulated(b"", STREAM, frames=2, syntax=JPEG)[:-8], "truncated"),
    "one frame in two fragments": (encapsulated(b"", STREAM[:50], STREAM[50:], syntax=JPEG)[:-8], "unended"),
    "half a frame": (encapsulated(b"", STREAM[:50], STREAM[50:], syntax=JPEG)[:-66], "truncated"),
    "half of the second, of two": (
        encapsulated(b"", STREAM, STREAM[:50], STREAM[50:], frames=2, syntax=JPEG)[:-66], "truncated"
    ),
    "a video": (encapsulated(b"", bytes(100), syntax="1.2.840.10008.1.2.4.102")[:-8], "truncated"),
    "RLE": (encapsulated(b"", bytes(100))[:-8], "unended"),
    "RLE, a byte": (encapsulated(b"", bytes(100))[:-9], "truncated"),
    "RLE, a frame": (encapsulated(b"", bytes(100), bytes(100), frames=2)[:-116], "truncated"),
    "no fragment": (encapsulated(b"", syntax=JPEG)[:-8], "truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", CUTS)
def test_compressed_pixels_that_are_whole_but_for_their_end(name: str) -> None:
    raw, expected = CUTS[name]
    assert outcome(raw) == expected
    item = judged(raw)
    if isinstance(item, Instance) and item.flaw:
        assert item.pixel_bytes <= len(raw)


@pytest.mark.parametrize(
    "raw",
    [
        of(MR, ROWS),
        of(MR, ROWS, PICTURE)[:-1],
        of(MR, ROWS, PICTURE, {0x00080070: ("LO", b"maker!")})[:-70],
        encapsulated(b"", STREAM, frames=2, syntax=RLE)[:-20],
        encode({**IDENTITY, **PICTURE})[:-5],
    ],
)
def test_truncated_files_that_the_user_accepts(raw: bytes) -> None:
    assert outcome(raw) == "truncated"
    item = judged(raw, accept=True)
    assert isinstance(item, Instance)
    assert (item.flaw, item.pixel_bytes, item.sop_uid) == ("truncated", 0, "1.2.3.4.5.6")


def test_what_cannot_be_sent_is_not_accepted() -> None:
    """A deflate stream that ends early, and a header without its UIDs."""
    for raw in (of(MR, PICTURE, syntax=DEFLATED)[:-20], of(MR, PICTURE)[:250]):
        item = judged(raw, accept=True)
        assert isinstance(item, SetAside)
        assert item.reason in ("truncated", "no-uid")


def test_what_is_known_without_the_library_is_known_to_it() -> None:
    for sop_class in COMMON_IMAGES:
        assert "Image Storage" in UID_dictionary[sop_class][0], sop_class
