"""What a stored object may differ in from what was sent, and what not; each on real files or on the smallest ones."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from tests.dicom_trees import (
    CT,
    DEFLATED,
    IDENTITY,
    LITTLE,
    MR,
    PIXELS,
    RLE,
    SAMPLES,
    Elements,
    deflated,
    encapsulated,
    encode,
    part10,
    sequence,
)
from xnat_ingest.inputs import compare_dicom
from xnat_ingest.inputs.compare_dicom import (
    CONTENT,
    DATA,
    MOST_ADDED,
    MOST_NAMED,
    OTHERS,
    PRECOMPRESSED_FROM,
    SHAPE,
    SMALL,
    UIDS,
    Differences,
    NotComparable,
    compare_datasets,
)
from xnat_ingest.inputs.dicom_elements import element_name

FILES = sorted(
    path
    for path in SAMPLES.rglob("*")
    if path.is_file() and path.name not in ("DICOMDIR-nooffset", "rtplan_truncated.dcm")
)


def blocks(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[at : at + size] for at in range(0, len(raw), size))


def differences(sent: bytes, stored: bytes, size: int = 0) -> Differences:
    """In blocks that end at different places."""
    found = Differences()
    compare_datasets(blocks(sent, 4096), blocks(stored, 777), size or len(sent), found)
    return found


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def rewritten(name: str, syntax: UID) -> bytes:
    """A real file written anew in this transfer syntax, by the library."""
    dataset = pydicom.dcmread(io.BytesIO(sample(name)))
    dataset.file_meta.TransferSyntaxUID = syntax
    out = io.BytesIO()
    implicit = syntax == ImplicitVRLittleEndian
    dataset.save_as(out, enforce_file_format=True, implicit_vr=implicit, little_endian=True)
    return out.getvalue()


def small(**more: tuple[str, bytes]) -> Elements:
    """The smallest image of two frames of two by two pixels; more: t00100010=(VR, value)."""
    image: Elements = {
        **IDENTITY,
        0x00280002: ("US", struct.pack("<H", 1)),
        0x00280008: ("IS", b"2 "),
        0x00280010: ("US", struct.pack("<H", 2)),
        0x00280011: ("US", struct.pack("<H", 2)),
        0x00280100: ("US", struct.pack("<H", 16)),
        PIXELS: ("OW", bytes(range(16))),
    }
    return {**image, **{int(tag[1:], 16): element for tag, element in more.items()}}


def without(elements: Elements, tag: int) -> Elements:
    return {key: value for key, value in elements.items() if key != tag}


@pytest.mark.sampled(30)
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SAMPLES)))
def test_a_file_is_like_itself(path: Path) -> None:
    raw = path.read_bytes()
    try:
        assert differences(raw, raw) == Differences()
    except NotComparable:
        assert raw[128:132] != b"DICM"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", [MR, CT, "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm"])
def test_every_pixel_byte_counts(name: str) -> None:
    raw = sample(name)
    dataset = pydicom.dcmread(io.BytesIO(raw))
    begin = raw.rindex(dataset.PixelData[-64:]) + 64 - len(dataset.PixelData)
    for at in range(begin + 80, begin + len(dataset.PixelData) - 80, len(dataset.PixelData) // 23):
        wrong = bytearray(raw)
        wrong[at] ^= 1
        assert [word.partition(" ")[0] for word in differences(raw, bytes(wrong)).wrong] == ["PixelData"]


@pytest.mark.wide
@pytest.mark.parametrize("name", [MR, CT, "MR_small_RLE.dcm", "test-SR.dcm", "rtplan.dcm", "image_dfl.dcm"])
def test_a_cut_is_never_sound(name: str) -> None:
    """Wherever a file ends too soon, but for the trailing padding that means nothing."""
    raw = sample(name)
    means = raw.rindex(b"\xfc\xff\xfc\xff") if b"\xfc\xff\xfc\xff" in raw else len(raw) - 8
    for keep in range(200, means, max(1, means // 61)):
        found = differences(raw, raw[:keep])
        assert found.wrong or found.replaced, keep


def test_the_frame_is_told() -> None:
    sent = part10(small())
    for frame, at in ((1, 3), (2, 8), (2, 15)):
        pixels = bytearray(range(16))
        pixels[at] ^= 0xFF
        found = differences(sent, part10(small(t7FE00010=("OW", bytes(pixels)))))
        assert found == Differences(wrong=[f"PixelData (from frame {frame} of 2 on)"])


@pytest.mark.parametrize("tag", sorted(SHAPE), ids=element_name)
def test_how_pixels_are_read_must_stay(tag: int) -> None:
    sent = part10({**small(), tag: ("US", b"\1\0")})
    assert differences(sent, part10({**small(), tag: ("US", b"\2\0")})).wrong == [element_name(tag)]
    assert differences(sent, part10(without(small(), tag))).wrong == [element_name(tag)]


@pytest.mark.parametrize("tag", sorted(DATA | {0x00080016}), ids=element_name)
def test_what_is_measured_must_stay(tag: int) -> None:
    sent = part10({**small(), tag: ("OB", b"abcd")})
    for stored in (part10({**small(), tag: ("OB", b"abcx")}), part10(without({**small()}, tag))):
        assert [word.partition(" ")[0] for word in differences(sent, stored).wrong] == [element_name(tag)]


@pytest.mark.parametrize("tag", sorted(CONTENT), ids=element_name)
def test_content_may_change_and_not_go(tag: int) -> None:
    def with_content(text: bytes) -> bytes:
        before = {t: e for t, e in IDENTITY.items() if t < tag}
        after = {t: e for t, e in IDENTITY.items() if t > tag}
        return part10(before) + sequence(encode({0x0040A160: ("UT", text)}), tag=tag) + encode(after)

    sent = with_content(b"said")
    assert differences(sent, with_content(b"else")) == Differences(changed=[element_name(tag)])
    assert differences(sent, part10(IDENTITY)).wrong == [element_name(tag)]
    empty = part10({**IDENTITY, tag: ("SQ", b"")})
    assert differences(sent, empty).wrong == [element_name(tag)]


@pytest.mark.parametrize("tag", sorted(UIDS), ids=element_name)
def test_uids_are_a_scripts_to_replace(tag: int) -> None:
    sent = part10(small())
    assert differences(sent, part10({**small(), tag: ("UI", b"2.25.1")})) == Differences(replaced=[element_name(tag)])
    assert differences(sent, part10(without(small(), tag))) == Differences(replaced=[element_name(tag)])


def test_the_rest_of_a_header_may_change() -> None:
    sent = part10(small(t00100010=("PN", b"A^B ")))
    assert differences(sent, part10(small(t00100010=("PN", b"Anon")))) == Differences(changed=["PatientName"])
    assert differences(sent, part10(small())) == Differences(changed=["PatientName"])
    assert differences(part10(small()), sent) == Differences(changed=["PatientName"])
    private = part10(small(t00291010=("LO", b"x ")))
    assert differences(private, part10(small())) == Differences(changed=["private elements of group 0029"])


def test_what_comes_last_is_lost_by_a_cut_or_by_a_script() -> None:
    sent = part10({**IDENTITY, 0x0040A493: ("CS", b"VERIFIED")})
    assert differences(sent, part10(IDENTITY)) == Differences(replaced=["VerificationFlag"])
    nothing = part10({**IDENTITY, 0x0040A493: ("CS", b"")})
    assert differences(nothing, part10(IDENTITY)) == Differences()


@pytest.mark.parametrize("size", [0, 4 * SMALL], ids=["small", "large"])
@pytest.mark.parametrize("behind", [bytes(2), bytes(5000), b"anything"])
def test_what_follows_the_data_set_was_sent_too(behind: bytes, size: int) -> None:
    """A stored object has nothing behind its data set that was not sent."""
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        raw = rewritten("MR_small.dcm", syntax)
        assert differences(raw, raw + behind, size).wrong == ["bytes behind the data set that were not sent"]
        assert not differences(raw + behind, raw + behind, size).wrong
        assert not differences(raw, raw + b"\0", size).wrong, "a byte of padding"


@pytest.mark.parametrize("size", [0, 4 * SMALL], ids=["small", "large"])
@pytest.mark.parametrize("begin", [128, 132], ids=["without preamble", "without prefix"])
def test_what_is_stored_begins_as_a_file(begin: int, size: int) -> None:
    raw = sample("MR_small.dcm")
    wrong = "; ".join(differences(raw, raw[begin:], size).wrong)
    assert "DICOM file" in wrong
    assert not differences(raw[132:], raw[132:], size).wrong


def test_padding_and_group_lengths_say_nothing() -> None:
    sent = part10(small(t00080060=("CS", b"M "), t00080000=("UL", bytes(4)), tFFFCFFFC=("OB", bytes(8))))
    assert differences(sent, part10(small(t00080060=("CS", b"M\0")))) == Differences()


def test_the_ends_of_sequences_may_be_told_otherwise() -> None:
    inner = encode({0x00081155: ("UI", b"1.2.3\0")})
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
    known = part10({**IDENTITY, 0x00081140: ("SQ", item)})
    before = {t: e for t, e in IDENTITY.items() if t < 0x00081140}
    after = {t: e for t, e in IDENTITY.items() if t > 0x00081140}
    told = part10(before) + sequence(inner) + encode(after)
    assert differences(known, told) == Differences()
    other = told.replace(b"1.2.3\0", b"1.2.4\0")
    assert differences(known, other) == Differences(changed=["ReferencedImageSequence"])


@pytest.mark.parametrize("name", [MR, "rtplan.dcm"])
def test_written_anew_in_another_form(name: str) -> None:
    """Header and pixels say the same, implicit or explicit; it is the transfer syntax that has changed."""
    one, other = rewritten(name, ImplicitVRLittleEndian), rewritten(name, ExplicitVRLittleEndian)
    assert differences(one, other) == differences(other, one) == Differences(changed=["TransferSyntaxUID"])


@pytest.mark.parametrize("told", [ImplicitVRLittleEndian, "1.2.840.10008.1.2.2", JPEG2000Lossless])
def test_a_wrong_transfer_syntax(told: str) -> None:
    assert "TransferSyntaxUID" in differences(part10(small()), part10(small(), told)).wrong


def test_one_compression_is_not_another() -> None:
    sent = image(compressed(b"", b"frame one "), RLE)
    stored = image(compressed(b"", b"frame one "), JPEG2000Lossless)
    assert differences(sent, stored).wrong == ["TransferSyntaxUID"]


def image(pixels: bytes, syntax: str) -> bytes:
    """Encapsulated by hand: pydicom would compress nothing."""
    head = encode({tag: element for tag, element in small().items() if tag != PIXELS})
    return part10({}, syntax) + head + pixels


def compressed(*fragments: bytes) -> bytes:
    """The pixel data element alone."""
    made = encapsulated(*fragments)
    return made[made.index(b"\xe0\x7f\x10\x00OB") :]


def test_decompressed_pixels_are_counted() -> None:
    sent = image(compressed(b"", b"one ", b"two "), RLE)
    whole, short = (image(encode({PIXELS: ("OW", bytes(size))}), LITTLE) for size in (16, 14))
    found = differences(sent, whole)
    assert found == Differences(changed=["TransferSyntaxUID"], unlike="the server decompressed the pixels")
    assert differences(sent, short).wrong == ["PixelData"]


def test_large_files_may_be_compressed() -> None:
    sent, stored = part10(small()), image(compressed(b"", b"one ", b"two "), JPEG2000Lossless)
    found = differences(sent, stored, PRECOMPRESSED_FROM)
    assert found == Differences(changed=["TransferSyntaxUID"], unlike="the server compressed the pixels")
    assert differences(sent, stored, PRECOMPRESSED_FROM - 1).wrong[0] == "TransferSyntaxUID"


def test_fragments() -> None:
    sent = encapsulated(bytes(4), b"one ", b"two ", b"three ")
    assert differences(sent, encapsulated(b"", b"one ", b"two ", b"three ")).changed == ["PixelData (offset table)"]
    assert differences(sent, encapsulated(bytes(4), b"one ", b"twO ", b"three ")).wrong == [
        "PixelData (from fragment 2 on)"
    ]
    for fewer in (encapsulated(bytes(4), b"one ", b"two "), encapsulated(bytes(4), b"one ", b"two ", b"three ", b"x ")):
        assert differences(sent, fewer).wrong[0].startswith("PixelData (from fragment")
    assert differences(sent, encapsulated(bytes(4), b"one ", b"two three ")).wrong


class EnoughError(Exception):
    """The rest is not read."""


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda data: part10({**small(), PIXELS: ("OW", data)}), ["PixelData"]),
        (lambda data: encapsulated(b"", data), ["PixelData (from fragment 1 on)"]),
        (lambda data: part10({**IDENTITY, 0x00420011: ("OB", data)}), ["EncapsulatedDocument"]),
    ],
    ids=["native", "compressed", "document"],
)
def test_a_difference_counts_although_not_all_is_read(make: Callable[[bytes], bytes], wrong: list[str]) -> None:
    """Of a large object only the beginning is read back."""
    data = bytearray(2_000_000)
    sent = make(bytes(data))
    data[600_000] = 1
    stored = make(bytes(data))

    def begun() -> Iterator[bytes]:
        yield from blocks(stored[:1_000_000], 4096)
        raise EnoughError

    found = Differences()
    with pytest.raises(EnoughError):
        compare_datasets(blocks(sent, 4096), begun(), len(sent), found)
    assert [word.partition(" (from frame ")[0] for word in found.wrong] == wrong


def test_the_last_delimiter() -> None:
    """A file that is whole but for it is stored as it is; one that had it has lost it."""
    whole = encapsulated(b"", b"one ")
    assert differences(whole[:-8], whole[:-8]) == differences(whole[:-8], whole) == Differences()
    assert differences(whole, whole[:-8]) == Differences(wrong=["the end of the file"])


def test_a_last_byte_may_pad_pixels() -> None:
    odd, even = bytes(range(15)), bytes(range(15)) + b"\0"
    assert differences(part10(small(t7FE00010=("OB", odd))), part10(small(t7FE00010=("OB", even)))) == Differences()
    assert differences(part10(small(t7FE00010=("OB", odd))), part10(small(t7FE00010=("OB", even + b"\0\0")))).wrong


def test_deflated_is_what_it_inflates_to() -> None:
    data = encode(small())
    assert differences(part10(small()), deflated(data)) == Differences()
    assert differences(deflated(data), part10(small())) == Differences()
    assert differences(deflated(data), deflated(data)) == Differences()


def test_a_deflated_header_without_pixels() -> None:
    """What XNAT 1.8 and 1.9 make of a deflated file: the header deflated anew, the whole stream once more behind it."""
    squeeze = zlib.compressobj(wbits=-15)
    header = squeeze.compress(encode(without(small(), PIXELS))) + squeeze.flush()
    sent = deflated(encode(small()))
    stored = part10({}, DEFLATED) + header + sent[len(part10({}, DEFLATED)) :]
    assert "PixelData" in differences(sent, stored).wrong
    assert "PixelData" in differences(part10(small()), stored).wrong


def test_half_one_encoding_and_half_another() -> None:
    """What XNAT 1.8 and 1.9 make of a bare implicit data set."""
    sent = rewritten(MR, ImplicitVRLittleEndian)
    explicit = sample(MR)
    at, place = sent.index(b"\x20\0\x0d\0"), explicit.index(b"\x20\0\x0d\0UI")
    found = differences(sent, explicit[:place] + sent[at:])
    assert found.wrong


def test_what_was_sent_must_be_walkable() -> None:
    strange = part10(IDENTITY) + b"\x28\0\x10\0??\0\0"
    with pytest.raises(NotComparable, match="without a value representation"):
        differences(strange, strange + b"\0")
    disorder = part10({}) + encode({0x00200013: ("IS", b"1 ")}) + encode(IDENTITY)
    with pytest.raises(NotComparable, match="out of order"):
        differences(disorder, disorder + b"\0")


def test_equal_bytes_are_equal_whatever_they_are() -> None:
    """An object that does not follow the standard cannot be walked, but it can be compared as a whole."""
    strange = part10(IDENTITY) + b"\x28\0\x10\0??\0\0"
    assert differences(strange, strange) == Differences()


@pytest.mark.parametrize("size", [0, SMALL, SMALL + 1])
def test_other_meta_information_is_no_difference(size: int) -> None:
    """A server writes its own before the data set. Small objects and large ones are compared in different ways."""
    sent = part10(small())
    stored = sent.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1\0" + b"\x02\0\x16\0AE\x02\0ME", 1)
    assert differences(sent, stored, size) == Differences()
    for at in range(len(stored) - 8, len(stored)):
        damaged = stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :]
        assert differences(sent, damaged, size).wrong


def test_another_transfer_syntax_before_equal_bytes_is_a_difference() -> None:
    sent = part10(small())
    stored = sent.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0")
    assert differences(sent, stored).wrong


def test_much_more_than_was_sent_is_not_held_in_memory() -> None:
    sent = part10(small())
    more = chain([sent], repeat(bytes(1 << 16), 400))
    tracemalloc.start()
    try:
        compare_datasets([sent], more, len(sent), Differences())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * SMALL + 16_384


LONG = 0xFFFFFFF0  # the length of an element that claims four gigabytes
SENT = part10(small())
PRIVATE = 0x7FDF1010


def head(tag: int, vr: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length)


def begun(tag: int) -> bytes:
    """What was sent, up to this element or the place where it would be."""
    return part10({key: element for key, element in small().items() if key < tag})


def in_order(number: int) -> bytes:
    return struct.pack("<HH2sH", 0x0030, number, b"LO", 0)


# The beginning of what is stored, and what comes behind it for ever.
ENDLESS = {
    "meta information": (SENT[:132] + head(0x00020001, b"OB", LONG), bytes(1 << 16)),
    "rows": (begun(0x00280010) + head(0x00280010, b"OB", LONG), bytes(1 << 16)),
    "photometric interpretation": (begun(0x00280004) + head(0x00280004, b"UT", LONG), b"A" * (1 << 16)),
    "private elements": (begun(PRIVATE) + head(PRIVATE, b"OB", LONG), bytes(1 << 16)),
    "empty items": (begun(PRIVATE) + head(PRIVATE, b"SQ", 0xFFFFFFFF), struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 4096),
    "fragments": (
        begun(PRIVATE) + head(PRIVATE, b"OB", 0xFFFFFFFF),
        struct.pack("<HHL", 0xFFFE, 0xE000, (1 << 16) - 8) + bytes((1 << 16) - 8),
    ),
    "a transfer syntax again": (SENT[:132], struct.pack("<HH2sH", 2, 0x10, b"UI", 0) * 4096),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_object_without_end_is_read_to_a_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin, piece = ENDLESS[name]
    monkeypatch.setattr(compare_dicom, "MOST_ADDED", 1 << 20)
    came = 0

    def stored() -> Iterator[bytes]:
        nonlocal came
        for block in chain([begin], repeat(piece, (4 << 20) // len(piece))):
            came += len(block)
            yield block

    found = Differences()
    compare_datasets([SENT], stored(), len(SENT), found)
    assert found.wrong
    assert came < 3 << 19


@pytest.mark.parametrize("name", ["rows", "private elements", "empty items", "fragments"])
def test_so_is_one_that_is_deflated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin, piece = ENDLESS[name]
    monkeypatch.setattr(compare_dicom, "MOST_ADDED", 1 << 20)
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = engine.compress(begin[len(part10({})) :] + piece * ((2 << 20) // len(piece))) + engine.flush()
    assert "many more bytes" in differences(SENT, part10({}, DEFLATED) + packed).wrong[-1]


@pytest.mark.parametrize(("more", "is_read"), [(-64, True), (64, False)])
def test_a_script_may_add_so_much(more: int, is_read: bool) -> None:
    value = bytes(len(SENT) + MOST_ADDED + more - len(head(PRIVATE, b"OB", 0)))
    found = differences(SENT, part10({**small(), PRIVATE: ("OB", value)}))
    group = "private elements of group 7FDF"
    if is_read:
        assert found == Differences(changed=[group])
    else:
        assert found.wrong[0].startswith(f"{group} (many more bytes than were sent")


@pytest.mark.parametrize(
    ("rows", "listed", "is_read"),
    [(4096, 0, True), (4095, 0, True), (64, 0, False), (64, 2 * 4096 * 4096, True), (64, 4096 * 4096, False)],
    ids=["as large as the header says", "a little larger", "too large", "listed", "listed with less"],
)
def test_decompressed_pixels_may_be_as_large_as_they_are(rows: int, listed: int, is_read: bool) -> None:
    """A server that decompresses stores far more bytes than were sent."""
    shape = {0x00280008: ("IS", b"1 "), 0x00280010: ("US", struct.pack("<H", rows))}
    shape |= {0x00280011: ("US", struct.pack("<H", 4096))}
    described = encode({tag: shape.get(tag, element) for tag, element in small().items() if tag != PIXELS})
    sent = part10({}, RLE) + described + compressed(b"", b"one ")
    stored = part10({}) + described + encode({PIXELS: ("OW", bytes(2 * 4096 * 4096))})
    found = Differences()
    compare_datasets([sent], blocks(stored, 1 << 16), len(sent), found, listed)
    assert bool(found.wrong) != is_read, found


def test_very_many_differences_are_counted_together() -> None:
    added = {0x00300000 + number: ("LO", b"") for number in range(1, 3 * MOST_NAMED)}
    found = differences(SENT, part10({**small(), **added}))
    assert len(found.changed) == MOST_NAMED + 1
    assert found.changed[-1] == OTHERS


@pytest.mark.parametrize("tag", sorted(SHAPE), ids=element_name)
def test_memory_does_not_grow_with_what_describes_pixels(tag: int) -> None:
    """Rows that are no number."""
    raw = part10({**small(), tag: ("OB", bytes(16 << 20))})
    found = Differences()
    tracemalloc.start()
    compare_datasets(blocks(raw, 1 << 18), blocks(raw, 1 << 16), len(raw), found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == Differences()
    assert peak < 4 << 20


def test_what_is_stored_must_be_walkable() -> None:
    sent = part10(small())
    assert differences(sent, b"").wrong
    assert differences(sent, b"<html>gone</html>" * 20).wrong
    assert differences(sent, bytes(1000)).wrong


def test_memory_does_not_grow_with_pixels() -> None:
    raw = part10(small(t7FE00010=("OW", bytes(32 << 20))))
    found = Differences()
    tracemalloc.start()
    compare_datasets(blocks(raw, 1 << 18), blocks(raw, 1 << 16), len(raw), found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == Differences()
    assert peak < 4 << 20


def test_real_fragments_of_several_frames() -> None:
    frames = [bytes([n]) * 10 for n in range(5)]
    data = encapsulate(frames, has_bot=True)
    sent = image(
        struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + data + b"\xfe\xff\xdd\xe0\0\0\0\0", RLELossless
    )
    assert differences(sent, sent) == Differences()
    assert differences(sent, sent.replace(bytes([3]) * 10, bytes([3]) * 9 + b"x")).wrong == [
        "PixelData (from fragment 4 on)"
    ]
