"""Headers without pixels: what is an instance, what is set aside, and that a cut file is never called whole."""

from __future__ import annotations

import errno
import gzip
import io
import random
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import parse_fragments

from tests import dicom_trees as trees
from tests.dicom_trees import IDENTITY, PIXELS, Memory, deflated, encapsulated, encode, part10, sequence
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.model import Instance, SetAside, SourceFile
from xnat_ingest.inputs import open_source
from xnat_ingest.inputs.dicom_headers import same_bytes, scan
from xnat_ingest.inputs.dicom_keywords import check_keywords, uid_of

LATER = 0x00200013  # after the UIDs of IDENTITY
UNIDENTIFIED = (
    "JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_jls_lossy_sample.dcm", "UN_sequence.dcm", "empty_charset_LEI.dcm", "meta_missing_tsyntax.dcm",
    "nested_priv_SQ.dcm", "no_meta_group_length.dcm", "priv_SQ.dcm",
)  # fmt: skip
FOREIGN = (
    "README.txt", "crayons.icc", "dicomdirtests/README.txt", "dicomdirtests/TINY_ALPHA/README",
    "rtplan.dump", "rtstruct.dump", "test1.json", "test_PN.json",
)  # fmt: skip
# The images of this sample medium were stripped of their pixels.
HEADER_ALONE = re.compile(r"dicomdirtests/TINY_ALPHA/PT.*")
ASIDE = dict.fromkeys(UNIDENTIFIED, "no-uid") | dict.fromkeys(FOREIGN, "not-dicom")
ASIDE |= dict.fromkeys(("MR_truncated.dcm", "rtplan_truncated.dcm"), "truncated")
ASIDE["no_meta.dcm"] = "unreadable"  # it begins with a byte that is no part of it


def judged(data: bytes, *keywords: str) -> Instance | SetAside:
    (item,) = scan(Memory({"f": data}), lambda path: None, keywords)
    return item


def reason(item: Instance | SetAside) -> str:
    return item.reason if isinstance(item, SetAside) else ""


def whole(data: bytes, *keywords: str) -> Instance:
    item = judged(data, *keywords)
    assert isinstance(item, Instance), item
    return item


def test_every_real_file_has_its_outcome() -> None:
    """All files that pydicom carries: nothing raises, and what is set aside is so for the reason it looks like."""
    seen = list(scan(open_source(str(trees.SAMPLES)), lambda path: None))
    assert len(seen) == sum(path.is_file() for path in trees.SAMPLES.rglob("*"))
    for item in seen:
        expected = "dicomdir" if "/DICOMDIR" in item.path else ASIDE.get(item.path, "")
        if HEADER_ALONE.fullmatch(item.path):
            expected = "truncated"
        assert (item.path, reason(item)) == (item.path, expected)


@pytest.mark.wide
def test_pixel_bytes_and_uids_of_real_files_are_those_of_the_library() -> None:
    """For native data the element's length; for encapsulated data what all its items hold."""
    for item in scan(open_source(str(trees.SAMPLES)), lambda path: None):
        if not isinstance(item, Instance) or "embedded" in item.path:  # the library itself misreads that one
            continue
        if item.path.endswith(".gz"):  # a file of its own in tests of compressed files
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(trees.SAMPLES / item.path, force=True)
        value = header.get("PixelData", b"")
        size = len(value)
        if value and header.file_meta.get("TransferSyntaxUID", pydicom.uid.UID(trees.LITTLE)).is_compressed:
            size -= 8 * parse_fragments(value)[0]
        uids = (header.SOPClassUID, header.SOPInstanceUID, header.StudyInstanceUID, header.SeriesInstanceUID)
        assert (item.path, item.pixel_bytes) == (item.path, size)
        assert (item.sop_class, item.sop_uid, item.study_uid, item.series_uid) == uids
        assert item.size == (trees.SAMPLES / item.path).stat().st_size


SOUND = {
    "explicit": part10(IDENTITY),
    "no-preamble-no-meta": encode(IDENTITY),
    "no-preamble-implicit": trees.implicit(IDENTITY),
    "no-preamble-with-meta": part10(IDENTITY)[132:],
    "no-meta": bytes(128) + b"DICM" + encode(IDENTITY),
    "big-endian": part10(IDENTITY, trees.BIG),
    "deflated": deflated(encode(IDENTITY)),
    "private-syntax": part10(IDENTITY, "1.2.3.4.5"),
    "illegal-vr": part10({**IDENTITY, LATER: ("ZZ", b"12")}),
    "study-uid-after-100-kb": part10({**IDENTITY, 0x00191001: ("OB", bytes(100_000))}),
    "undefined-length": part10({}) + sequence(encode({0x00080060: ("CS", b"MR")}), b"") + encode(IDENTITY),
    "nested-ten-deep": trees.nested(10),
    "unknown-charset": part10({**IDENTITY, 0x00080005: ("CS", b"ISO_IR 999"), 0x0008103E: ("LO", b"\xe9t\xe9 ")}),
    "uids-in-a-sequence-first": part10({}) + sequence(encode({0x00080018: ("UI", b"9.9\0")})) + encode(IDENTITY),
    "padded-uids": part10({tag: ("UI", value.rstrip(b"\0") + b" \0") for tag, (_, value) in IDENTITY.items()}),
    "trailing-padding": part10({**IDENTITY, PIXELS: ("OW", bytes(64)), 0xFFFCFFFC: ("OB", bytes(100))}),
}


@pytest.mark.parametrize("name", SOUND)
def test_odd_but_sound_files_are_instances(name: str) -> None:
    """Whatever the encoding and whatever stands before the UIDs, they are found."""
    item = whole(SOUND[name])
    assert (item.sop_uid, item.study_uid, item.series_uid) == ("1.2.3.4.5.6", "1.2.3.4", "1.2.3.4.5")


ICON = sequence(encode({PIXELS: ("OB", bytes(99))}), tag=0x00880200)
CUT_VALUE = encode(IDENTITY)[:-4]
NOISE = random.Random(5).randbytes(999)
DEFECTS = {
    "empty": (b"", "not-dicom"),
    "text-named-dcm": (b"This is no DICOM file.\n" * 50, "not-dicom"),
    "one-byte": (b"\x08", "not-dicom"),
    "catalog": (b'<?xml version="1.0"?><cat:Catalog xmlns:cat="http://nrg.wustl.edu/catalog"/>', "not-dicom"),
    "gzip-of-dicom": (gzip.compress(part10(IDENTITY)), "unreadable"),
    "dicomdir": (part10({**IDENTITY, 0x00080016: ("UI", b"1.2.840.10008.1.3.10")}), "dicomdir"),
    "deep": (trees.nested(5000), "unreadable"),
    "mark-then-noise": (bytes(128) + b"DICM" + NOISE, "unreadable truncated no-uid"),
    "mark-only": (bytes(128) + b"DICM", "truncated no-uid"),
    "cut-in-a-value": (part10({}) + CUT_VALUE, "truncated"),
    "cut-in-a-value-bare": (CUT_VALUE, "truncated"),
    "cut-in-a-value-big-endian": (part10(IDENTITY, trees.BIG)[:-4], "truncated"),
    "cut-in-a-tag": (part10(IDENTITY) + struct.pack("<HH", 0x0028, 0x0010), "truncated"),
    "cut-in-a-length": (part10(IDENTITY) + encode({PIXELS: ("OW", b"")})[:-2], "truncated"),
    "cut-in-a-sequence": (part10(IDENTITY) + sequence(encode(IDENTITY), tag=0x00400275)[:-20], "truncated"),
    "cut-in-a-sequence-bare": (encode(IDENTITY) + sequence(encode(IDENTITY), tag=0x00400275)[:-20], "truncated"),
    "cut-deflated": (deflated(encode({**IDENTITY, PIXELS: ("OW", NOISE)}))[:-99], "truncated"),
    "cut-in-pixels": (part10({**IDENTITY, PIXELS: ("OW", bytes(100))})[:-1], "truncated"),
    "cut-in-pixels-bare": (encode({**IDENTITY, PIXELS: ("OW", bytes(100))})[:-1], "truncated"),
    "cut-in-fragment": (encapsulated(b"", bytes(100))[:-9], "truncated"),
    "cut-between-fragments": (encapsulated(b"", bytes(100), bytes(6), frames=2)[:-22], "truncated"),
    "cut-in-fragment-head": (encapsulated(b"", bytes(100), bytes(6), frames=2)[:-16], "truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_has_its_reason(name: str) -> None:
    """Cut files are `truncated`, files beyond reading `unreadable`, foreign ones `not-dicom`; nothing raises."""
    data, expected = DEFECTS[name]
    assert reason(judged(data)) in expected.split()


@pytest.mark.parametrize("tag", IDENTITY, ids=["class", "instance", "study", "series"])
@pytest.mark.parametrize("value", [None, b"", b"1.2/3\0", b"1" * 200], ids=["absent", "empty", "slash", "long"])
def test_an_instance_without_its_four_uids_is_no_uid(tag: int, value: bytes | None) -> None:
    """The detail names the one that lacks."""
    rest = {key: element for key, element in IDENTITY.items() if key != tag}
    item = judged(part10(rest | ({} if value is None else {tag: ("UI", value)})))
    assert isinstance(item, SetAside)
    assert (item.reason, item.is_problem) == ("no-uid", True)
    assert pydicom.datadict.keyword_for_tag(tag) in item.detail


NUMBERS = {b"7 ": "7", b" 7": "7", b"4\\5 ": "4", b"-12 ": "-12", b"70000 ": "70000", b"0\0": "0", b"": "", b"  ": ""}


@pytest.mark.parametrize(("raw", "number"), NUMBERS.items())
def test_numbers_are_kept_as_written(raw: bytes, number: str) -> None:
    """Padding goes, the first of several values stays, nothing is converted."""
    item = whole(part10({**IDENTITY, 0x00200011: ("IS", raw), LATER: ("IS", raw)}))
    assert (item.series_number, item.instance_number) == (number, number)


def test_tags_hold_what_was_asked_for() -> None:
    """Several values are joined by a backslash, text is decoded by the file's character set, absence is empty."""
    text = {
        0x00080005: ("CS", b"ISO_IR 192"),
        0x00080008: ("CS", b"ORIGINAL\\PRIMARY"),
        0x0008103E: ("LO", "Kopf ä".encode()),
    }
    item = whole(part10({**IDENTITY, **text}), "ImageType", "SeriesDescription", "BodyPartExamined")
    assert item.tags == {"ImageType": "ORIGINAL\\PRIMARY", "SeriesDescription": "Kopf ä", "BodyPartExamined": ""}
    assert item.series_description == "Kopf ä"


PIXEL_DATA = {
    "native": (part10({**IDENTITY, PIXELS: ("OW", bytes(1234))}), 1234),
    "native-bytes": (part10({**IDENTITY, PIXELS: ("OB", bytes(10))}), 10),
    "native-big-endian": (part10({**IDENTITY, PIXELS: ("OW", bytes(6))}, trees.BIG), 6),
    "native-bare": (encode({**IDENTITY, PIXELS: ("OW", bytes(20))}), 20),
    "implicit": (part10({}, "1.2.840.10008.1.2") + trees.implicit({**IDENTITY, PIXELS: ("OW", bytes(8))}), 8),
    "float": (part10({**IDENTITY, 0x7FE00008: ("OF", bytes(40))}), 40),
    "double": (part10({**IDENTITY, 0x7FE00009: ("OD", bytes(80))}), 80),
    "encapsulated": (encapsulated(b"", bytes(100)), 100),
    "encapsulated-with-table": (encapsulated(bytes(8), bytes(100), bytes(6)), 114),
    "delimiter-inside-a-fragment": (encapsulated(b"", b"\xfe\xff\xdd\xe0\0\0\0\0" * 3), 24),
    "icon-only": (part10(IDENTITY) + ICON, 0),
    "icon-and-pixels": (part10(IDENTITY) + ICON + encode({PIXELS: ("OW", bytes(30))}), 30),
    "none": (part10(IDENTITY), 0),
    "deflated": (deflated(encode({**IDENTITY, PIXELS: ("OW", bytes(30))})), 30),
}  # fmt: skip


@pytest.mark.parametrize("name", PIXEL_DATA)
def test_pixel_bytes_are_exact(name: str) -> None:
    """What the pixel data takes in what is sent; 0 without any."""
    data, size = PIXEL_DATA[name]
    assert whole(data).pixel_bytes == size


def test_pixels_are_not_read() -> None:
    """A scan costs the header, however large the pixel data."""
    sources = {
        "native": part10({**IDENTITY, PIXELS: ("OW", bytes(10**6))}),
        "frames": encapsulated(b"", *[bytes(10**5)] * 10),
    }
    source = Memory(sources)
    assert all(isinstance(item, Instance) for item in scan(source, lambda path: None))
    assert max(source.read.values()) < 5000


@pytest.mark.wide
@pytest.mark.parametrize("name", [*trees.KINDS, "rtstruct.dcm", "ExplVR_BigEndNoMeta.dcm", "liver_expb_1frame.dcm"])
def test_a_cut_file_is_never_called_whole(name: str) -> None:
    """Cut anywhere before its pixel data ends, a file is a problem: no instance, and no note that exit 0 hides."""
    raw, end, traceless = trees.sample(name)
    first = min(1200, end * 3 // 4)
    cuts = {*range(first, min(end, 3000), 7), *range(max(first, end - 40), end), *range(first, end, 1 + end // 300)}
    items = scan(Memory({f"{cut:07}": raw[:cut] for cut in cuts - traceless}), lambda path: None)
    bad = [
        f"{item.path}: {reason(item)}"
        for item in items
        if not (isinstance(item, SetAside) and item.is_problem)
        and not (isinstance(item, Instance) and item.flaw == "unended" and int(item.path) >= end - 1)
    ]
    assert not bad, f"{len(bad)} of {len(cuts)}: {bad[:5]}"


@pytest.mark.parametrize("name", [*trees.KINDS, "reportsi.dcm", "liver_1frame.dcm", "rtstruct.dcm"])
def test_damaged_files_never_raise(name: str) -> None:
    """Bytes changed, cut out and put in at random, mostly in the header: each file has an outcome."""
    draw = random.Random(name)
    raw = trees.sample(name)[0]
    files = {}
    for number in range(80):
        data = bytearray(raw)
        for _ in range(draw.randrange(1, 12)):
            at = draw.randrange(128, min(len(data), draw.choice((400, 3000))))
            data[at : at + draw.randrange(3)] = draw.randbytes(draw.randrange(4))
        files[str(number)] = bytes(data)
    outcomes = list(scan(Memory(files), lambda path: None, ["ImageType", "PatientName", "StudyDate", "PixelSpacing"]))
    assert len(outcomes) == len(files)


@pytest.mark.wide
def test_noise_is_not_dicom_or_a_problem() -> None:
    """Random bytes behind every kind of start never raise and never make an instance."""
    draw = random.Random(9)
    starts = [b"", bytes(128) + b"DICM", b"\x08\0\x05\0CS\x0a\0", b"\x02\0\0\0UL\x04\0", b"\0\x08\0\x05CS\0\x0a"]
    starts += [b"\x08\0\x18\0\x04\0\0\0"]
    files = {f"{start!r}{n}": start + draw.randbytes(draw.randrange(2000)) for start in starts for n in range(100)}
    assert all(isinstance(item, SetAside) for item in scan(Memory(files), lambda path: None))


def test_permission_denied_is_unreadable_and_the_rest_goes_on() -> None:
    """A file that may not be opened is a problem of its own."""
    with trees.open_folder() as root:
        for name in ("closed", "fine"):
            (root / name).write_bytes(part10(IDENTITY))
        (root / "closed").chmod(0)
        with trees.no_privileges():
            found = {item.path: item for item in scan(open_source(str(root)), lambda path: None)}
    assert {path: reason(item) for path, item in found.items()} == {"closed": "unreadable", "fine": ""}


def test_a_file_gone_since_it_was_listed_is_unreadable() -> None:
    """Trees are scanned while scanners still move files."""
    source = Memory({"gone": part10(IDENTITY)})
    (item,) = scan(source, lambda path: None if source.contents.pop(path) else "")
    assert isinstance(item, SetAside)
    assert (item.reason, item.detail) == ("unreadable", "No such file or directory")


def test_what_a_rule_skips_is_not_opened() -> None:
    """A path rule spares the reading."""
    source = Memory({"a/1": part10(IDENTITY), "b/2": part10(IDENTITY)})
    found = list(scan(source, lambda path: "excluded:b" if path.startswith("b") else None))
    assert [reason(item) for item in found] == ["", "excluded:b"]
    assert list(source.read) == ["a/1"]


def test_keywords_and_uid_names() -> None:
    """A word that is no keyword is refused with the nearest one; a UID's name stands for the UID."""
    check_keywords(["Modality", "SOPClassUID"])
    with pytest.raises(UsageError, match="seriesdescription is not a DICOM keyword; did you mean SeriesDescription"):
        check_keywords(["seriesdescription"])
    with pytest.raises(UsageError, match=r"Zzz is not a DICOM keyword$"):
        check_keywords(["Zzz"])
    assert uid_of("MRImageStorage") == "1.2.840.10008.5.1.4.1.1.4"
    assert uid_of("1.2.3") == "1.2.3"


def test_same_bytes_compares_all_of_both_files(tmp_path: Path) -> None:
    """Another last byte is other bytes; a file that is gone is an OSError."""
    data = part10({**IDENTITY, PIXELS: ("OW", bytes(300_000))})
    source = Memory({"a": data, "b": data, "c": data[:-1] + b"\x01", "d": part10(IDENTITY)})
    a, b, c, d = (item for item in scan(source, lambda path: None) if isinstance(item, Instance))
    assert (same_bytes(source, a, b), same_bytes(source, a, c), same_bytes(source, a, d)) == (True, False, False)
    del source.contents["b"]
    with pytest.raises(OSError, match="No such file"):
        same_bytes(source, a, b)


SEVERAL = (
    "MR_small.dcm",
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "image_dfl.dcm",
    "test-SR.dcm",
)


@pytest.mark.parametrize("second", SEVERAL)
@pytest.mark.parametrize("first", SEVERAL)
def test_several_files_one_behind_the_other(first: str, second: str) -> None:
    """As `cat` makes them, or `gunzip` of several members. The second one would not be sent, and nobody would know."""
    one, other = ((trees.SAMPLES / name).read_bytes() for name in (first, second))
    pieces = [other, other[128:], bytes(99) + other, b"\r\n" + other[128:], b"\xff" * 512 + other]
    if first not in ("test-SR.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm"):
        pieces.append(other[132:])
    for behind in pieces:
        found = judged(one + behind)
        assert isinstance(found, SetAside)
        assert found.reason in ("unreadable", "truncated")
        if first != "test-SR.dcm":  # of a header alone, the next file's first bytes may be taken for elements
            assert found.detail.startswith("several DICOM files, one behind the other")
    for behind in (b"", b"\0" * 300, other[200:]):
        assert "several" not in str(judged(one + behind))


@pytest.mark.parametrize("first", ["MR_small.dcm", "CT_small.dcm", "MR_small_RLE.dcm", "MR_small_implicit.dcm"])
@pytest.mark.parametrize("second", ["MR_small.dcm", "MR_small_implicit.dcm", "CT_small.dcm", "test-SR.dcm"])
def test_a_bare_data_set_behind_an_image(first: str, second: str) -> None:
    one, other = ((trees.SAMPLES / name).read_bytes() for name in (first, second))
    bare = other[other.index(b"\x08\0\x05\0" if b"\x08\0\x05\0" in other[:600] else b"\x08\0\x08\0") :]
    for behind in (bare, bytes(512) + bare):
        assert "several DICOM files" in str(judged(one + behind))
    for behind in (bare[8:], b"\x08\0\5\0\3\0\0\0" * 50, b"\x08\0\x18\0UI\x08\0no uid  " + bytes(300)):
        assert "several" not in str(judged(one + behind))


@pytest.mark.parametrize("gap", [0, 1, 512, 3 << 20])
def test_nothing_behind_a_deflated_data_set_is_lost(gap: int) -> None:
    """Such a file is sent inflated, and without what follows: whatever may be an instance is named."""
    one, other = ((trees.SAMPLES / name).read_bytes() for name in ("image_dfl.dcm", "MR_small.dcm"))
    for behind in (other, other[128:], other[132:], gzip.compress(other, mtime=0), one[132:]):
        found = judged(one + bytes(gap) + behind)
        assert isinstance(found, SetAside)
        assert found.reason == "unreadable"
        assert "behind" in found.detail or found.detail.startswith("more than padding follows")


def test_padding_behind_a_deflated_data_set() -> None:
    """A byte that makes the length even, a checksum, a block filled up with zeros."""
    one = (trees.SAMPLES / "image_dfl.dcm").read_bytes()
    for behind in (
        b"\0",
        b"\r\n",
        b"\1\2\3\4\5\6\7\x08",
        b"\1\2\3\4" + bytes(2000),
        bytes(4000),
        bytes(1 << 20),
    ):
        assert whole(one + behind).length == whole(one).length


def test_a_file_inside_a_sequence_behind_the_pixels() -> None:
    """Of undefined length, so that its end is found only by its items."""
    inner = (trees.SAMPLES / "CT_small.dcm").read_bytes()
    for held in (inner, inner[128:], inner * 30):
        items = sequence(encode({0x7FE11102: ("OB", held)}), tag=0x7FE11101)
        data = part10({**IDENTITY, PIXELS: ("OW", bytes(64))}) + items
        whole(data)
        if len(held) <= len(inner):
            for behind in (inner, inner[128:], bytes(300) + inner):
                assert "several" in str(judged(data + behind))


@pytest.mark.parametrize("vr", ["OB", "UN"])
@pytest.mark.parametrize("sample", ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm"])
def test_a_file_inside_an_element_behind_the_pixels(sample: str, vr: str) -> None:
    """Private elements and padding may hold anything, a DICOM file too. The image is in order."""
    dataset = pydicom.dcmread(trees.SAMPLES / sample)
    dataset.add_new(0x7FE10011, "LO", "A CREATOR")
    inner = (trees.SAMPLES / "CT_small.dcm").read_bytes()
    for held in (inner, inner[128:]):
        dataset.add_new(0x7FE11101, vr, held)
        stream = io.BytesIO()
        dataset.save_as(stream)
        whole(stream.getvalue())
        for behind in (inner, inner[128:]):
            assert "several" in str(judged(stream.getvalue() + behind))


@pytest.mark.parametrize("left", [b"", b"x", bytes(100)], ids=len)
def test_a_file_that_shrinks_between_listing_and_reading_is_a_problem(left: bytes) -> None:
    """Its writer may have begun it anew. On a network drive the listing may be older than the file."""

    class Shrinking(Memory):
        def stat(self, path: str) -> tuple[int, int]:
            return 2000, 0

    (item,) = scan(Shrinking({"f": left}), lambda path: None)
    assert isinstance(item, SetAside)
    assert (item.reason, "shorter since it was listed" in item.detail) == ("unreadable", True)


@pytest.mark.parametrize("after", [0, 1])
def test_an_archive_that_goes_away_while_it_is_listed_is_a_problem(after: int) -> None:
    """As when a disk is pulled. What was listed before is judged all the same."""

    class Pulled(Memory):
        def files(self) -> Iterator[SourceFile]:
            yield from list(super().files())[:after]
            raise OSError(errno.EIO, "Input/output error")

    found = list(scan(Pulled({"a": part10(IDENTITY), "b": part10(IDENTITY)}), lambda path: None))
    assert [reason(one) for one in found] == [""] * after + ["unreadable"]
    assert isinstance(found[-1], SetAside)
    assert found[-1].detail == "the rest of ROOT cannot be listed: Input/output error"
