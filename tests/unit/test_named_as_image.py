"""Files that say by name and place, or by their first kilobyte, that they are images, and cannot be read as such."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.dicom_trees import SAMPLES
from tests.unit.test_plan import dicom, plan_of, plan_source, reasons
from xnat_ingest.core.model import ZEROS, SetAside
from xnat_ingest.inputs import open_source
from xnat_ingest.inputs.dicom_file import START, moved_prefix, sniff
from xnat_ingest.inputs.nested_archive import judge_nested
from xnat_ingest.inputs.rare_kinds import instead_of_archive
from xnat_ingest.inputs.system_names import hides_content, is_named_as_image, may_be_image

IMAGE = dicom("2")
REAL = (SAMPLES / "MR_small.dcm").read_bytes()
GOOD = {"a/x/T1/1": dicom("1")}
HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom\r\n\r\n"


def alone(name: str, data: bytes) -> SetAside:
    """What is said of the only file of a session, beside a session in order."""
    (found,) = plan_of({**GOOD, f"b/y/T1/{name}": data}).set_aside
    return found


@pytest.mark.parametrize(
    ("front", "told"),
    [
        (b"\xef\xbb\xbf", "3 bytes too many"),
        (b"\0\0", "2 bytes too many"),
        (HTTP, f"{len(HTTP)} bytes too many"),
        (b"x" * (START - 134), f"{START - 134} bytes too many"),
    ],
)
def test_an_image_with_something_in_front(front: bytes, told: str) -> None:
    found = alone("IM1", front + IMAGE)
    assert (found.reason, found.detail) == (
        "unreadable",
        f"a DICOM file with {told} at its start; export or fetch it again",
    )


@pytest.mark.parametrize("lost", [1, 2, 127, 128])
def test_an_image_without_its_first_bytes(lost: int) -> None:
    assert f"{lost} bytes missing" in alone("IM1", IMAGE[lost:]).detail


@pytest.mark.parametrize(
    "data",
    [
        bytes(132) + REAL[132:],
        bytes(512) + REAL[512:],
        bytes(128) + REAL[132:],
        REAL[:128] + REAL[132:],
        REAL[140:],
        b"\xff" * 500 + REAL[500:],
    ],
    ids=["zeros for the prefix", "zeros", "no prefix", "no prefix behind a preamble", "cut", "overwritten"],
)
def test_an_image_without_its_prefix(data: bytes) -> None:
    """Its elements tell what it was."""
    assert alone("IM1", data).reason == "unreadable"
    assert "bytes missing or overwritten at its start" in alone("IM1", data).detail


def test_a_dicom_header_inside_another_file() -> None:
    """A NIfTI image can have one as an extension."""
    for name in ("x.nii", "x.pdf", "x.mat"):
        assert alone(name, b"\x5c\1\0\0" + REAL[140:]).reason == "not-dicom"


def test_a_session_of_images_that_have_lost_their_start() -> None:
    """A sector or more is gone. Among images, such a file may be anything."""
    torn = bytes(4096) + IMAGE[:500] * 20
    assert alone("IM1", torn).reason == "unreadable"
    assert "begins with zero bytes" in alone("IM1", torn).detail
    assert reasons(plan_of({**GOOD, "a/x/T1/raw.dat": torn}))["a/x/T1/raw.dat"] == "not-dicom"
    assert reasons(plan_of({**GOOD, "b/y/T1/1": torn, "b/y/T1/notes.pdf": b"x"}))["b/y/T1/1"] == "not-dicom"
    assert alone("x.nii", torn).reason == "not-dicom"
    for name in ("x.raw", "mask.img", "x.bin", "meas.dat"):
        assert alone(name, torn).reason == "not-dicom"
    assert alone("IM.7", torn).reason == "unreadable"


def test_what_icloud_leaves_in_place_of_an_image() -> None:
    stub = b"bplist00" + bytes(150)
    for place in ("a/x/T1", "b/y/T1", "b/y"):
        assert reasons(plan_of({**GOOD, f"{place}/.IM1.icloud": stub})) == {f"{place}/.IM1.icloud": "blank"}
    assert reasons(plan_of({**GOOD, "a/x/T1/.notes.txt.icloud": stub}))["a/x/T1/.notes.txt.icloud"] == "not-dicom"


@pytest.mark.parametrize("number", [3, 4])
def test_how_many_elements_tell_a_file_without_prefix(number: int) -> None:
    element = b"\x08\0\x60\0CS\2\0MR"
    assert sniff(b"x" * 9 + element * number) == ("moved" if number > 3 else "other")


def test_where_the_prefix_is_looked_for() -> None:
    """In the first kilobyte, with the first element behind it. The word alone proves nothing."""
    assert sniff(IMAGE[:START]) == "part10"
    assert moved_prefix(b"DICM\x02\0") == 0
    for text in (b"x" * 500 + b"DICM", b"DICM and others", (bytes(START) + IMAGE)[:START]):
        assert sniff(text) == "other"
    assert alone("notes", b"about DICM\x03\0").reason == "not-dicom"


def stored(name: str, data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(name, data)
    return made.getvalue()


def test_an_archive_that_stores_an_image_is_an_archive() -> None:
    """Its first kilobyte has the prefix, too."""
    assert "a zip file with DICOM in it" in alone("papers", stored("IM1", IMAGE)).detail


# Beginnings of archives as 7-Zip 23 and RAR 3 and 6 write them.
SEVEN = b"7z\xbc\xaf\x27\x1c\0\4" + zlib.crc32(bytes(range(20))).to_bytes(4, "little") + bytes(range(20))
RAR4 = bytes.fromhex("526172211a0700cf907300000d00000000000000")
RAR5 = bytes.fromhex("526172211a0701003392b5e50a01050600050101808000")

RARE = {
    "cabinet": b"MSCF\0\0\0\0",
    "Windows image": b"MSWIM\0\0\0",
    "StuffIt": b"SIT!",
    "StuffIt archive": b"StuffIt (c)1997",
    "lzop": b"\x89LZO\0\r\n\x1a\n",
    "lrzip": b"LRZI\0\6",
    "zpaq": b"zPQ\1",
    "zpaq archive": b"7kSt",
    "xar": b"xar!",
    "ar": b"!<arch>\n",
    "sparseimage": b"sprs\0\0\0\3",
    "vdi": b"<<< Oracle VM VirtualBox Disk Image >>>\n" + bytes(24) + b"\x7f\x10\xda\xbe",
    "squashfs": b"hsqs",
    "(squashfs)": b"sqsh",
    "vhd": b"conectix",
    "vhdx": b"vhdxfile",
    "vmdk": b"KDMV",
    "qcow": b"QFI\xfb",
    "arj": b"\x60\xea\x2a\0",
    "lha": b"\x22\x12-lh5-",
    "ace": b"1234567**ACE**",
    "iso": bytes(32768) + b"\1CD001",
}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        *((kind, mark + b"\x83" * 900) for kind, mark in RARE.items()),
        ("dmg", b"x" * 5000 + b"koly" + bytes(508)),
        ("disk image (.vhd)", b"x" * 5000 + b"conectix" + bytes(504)),
        ("zip with something in front", b"MZ" + bytes(900) + stored("notes", b"words")),
        ("a program that unpacks a 7z archive", b"MZ" + bytes(300_000) + SEVEN + b"\x83" * 900),
        ("a program that unpacks a 7z archive", b"MZ7z\xbc\xaf\x27\x1c Rar!\x1a\x07\0" + bytes(900) + SEVEN),
        ("a program that unpacks a rar archive", b"#!/bin/sh\n" + bytes(900) + RAR4 + b"\x83" * 900),
        ("a program that unpacks a rar archive", b"#!/bin/sh\n" + bytes(900) + RAR5 + b"\x83" * 900),
    ],
)
def test_archives_of_rare_kinds(kind: str, data: bytes) -> None:
    """A problem among images, where another session has its own, and in place of a series, a session or a subject.

    In ROOT, too: subjects lie there, so an archive may be one of them. A ROOT of sessions may be a medium with viewers.
    """
    for place in ("a/x/T1/more", "b/y/T1/more", "b/y/more", "a/x/more", "a/more", "more"):
        (found,) = plan_of({**GOOD, place: data}).set_aside
        assert (found.reason, kind in found.detail) == ("unreadable", True), place
        assert found.detail.endswith("which cannot be read here; unpack it there, or leave it out with --exclude")
    tree, place = {**GOOD, "a/x/viewer/more": data, "a/x/viewer/help": b"words"}, "a/x/viewer/more"
    assert reasons(plan_of(tree))[place] == "nested-archive"
    medium = {"x/T1/1": dicom("1"), "more": data}
    assert reasons(plan_of(medium, layout="session", subject="S")) == {"more": "nested-archive"}
    assert plan_of({"b/y/T1/more": data}).set_aside[0].reason == "nested-archive"


def test_the_marks_of_rare_kinds_stand_at_their_places() -> None:
    for data in (b"xMSCF\0\0\0\0" * 99, b"-lh5-" * 99, b"koly" + bytes(508) + b"x", bytes(513) + b"koly" + bytes(507)):
        assert not alone("more", data).detail
    mentioned = b"words PK\x05\x06" + bytes(18)
    assert alone("more", mentioned).reason == "not-dicom"


@pytest.mark.parametrize(
    "data",
    [
        b"\x60\xea" + b"\x83" * 900,
        b"\x60\xea\0\0" + b"\x83" * 900,
        b"ab-lh is left hemisphere\n" * 40,
        b"ab-lh9-" * 99,
        b"MZ" + bytes((1 << 20) + 10) + SEVEN,
        b"MY" + bytes(900) + SEVEN,
        b"MZ" + bytes(900) + b"7z\xbc\xaf\x27\x1c" + b"\x83" * 900,
        b"MZ" + bytes(900) + SEVEN[:-1],
        b"MZ" + bytes(900) + SEVEN[:-1] + b"x",
        b"#!/bin/sh\ngrep 'Rar!\x1a\x07\0' $1\n",
        b"#!/bin/sh\n" + RAR4[:7] + b"\xce" + RAR4[8:],
        b"#!/bin/sh\n" + RAR4.replace(b"\x73", b"\x74"),
        b"#!/bin/sh\n" + RAR5[:8] + b"\x32" + RAR5[9:],
        b"#!/bin/sh\n" + RAR5[:12],
        b"#!/bin/sh\n" + RAR5[:6],
    ],
    ids=[
        *(
            "arj header too long",
            "arj header of 0",
            "text",
            "unknown method",
            "too far",
            "no program",
            "7z, mark alone",
        ),
        *("7z, cut", "7z, changed", "script", "rar4, changed", "rar4, other type", "rar5, changed", "rar5, cut", "rar"),
    ],
)
def test_what_only_resembles_a_rare_kind(data: bytes) -> None:
    assert reasons(plan_of({**GOOD, "a/x/T1/more": data})) == {"a/x/T1/more": "not-dicom"}


def test_each_method_of_lha() -> None:
    for method in (*(f"lh{number}" for number in range(8)), "lhd", "lzs", "lz4", "lz5"):
        assert "an lha archive" in alone("more", b"\x22\x12-" + method.encode() + b"-" + b"\x83" * 900).detail


@pytest.mark.parametrize("many", [70_000, 1])
def test_a_zip_of_many_members_behind_a_program(many: int) -> None:
    """From 65,536 members on, 76 bytes stand between the directory and the end record."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number in range(many):
            archive.writestr(zipfile.ZipInfo(f"{number}"), b"")
    assert "a zip with something in front" in alone("more", b"MZ" + bytes(900) + made.getvalue()).detail


def test_a_zip_whose_comment_holds_the_mark_of_its_end() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("notes", b"words")
        archive.comment = b"PK\x05\x06 and PK\x05\x06" + b"x" * 40
    assert "a zip with something in front" in alone("more", b"MZ" + bytes(900) + made.getvalue()).detail


def test_a_zip_behind_a_program(tmp_path: Path) -> None:
    """It is a problem wherever it lies when it has images, also with something behind it."""
    for front, back in ((b"#!/bin/sh\n" * 200, b""), (b"MZ" + bytes(2000), b"signature" * 100)):
        data = front + stored("IM1", IMAGE) + back
        for place in ("a/x/T1/more.sh", "a/x/viewer/more.exe", "more.exe", "b/more"):
            found = next(
                one for one in plan_of({**GOOD, place: data, "a/x/viewer/help": b"words"}).set_aside if one.detail
            )
            assert found.path == place
            assert found.is_problem
            assert "It has DICOM in it" in found.detail


def test_a_disc_image_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "x.iso").write_bytes(bytes(32769) + b"CD001" + bytes(900))
    assert (
        instead_of_archive(tmp_path / "x.iso")
        == "it is a disc image (.iso), which cannot be read here; unpack it there"
    )


@pytest.mark.parametrize("outer", [gzip.compress, lzma.compress, bz2.compress])
@pytest.mark.parametrize("inner", [gzip.compress, lzma.compress])
def test_an_image_that_is_compressed_twice(outer: object, inner: object) -> None:
    suffix = {gzip.compress: ".gz", lzma.compress: ".xz", bz2.compress: ".bz2"}[outer]  # type: ignore[index]
    twice = outer(inner(IMAGE))  # type: ignore[operator]
    for name in (f"IM1.dcm{suffix}", f"IM1{suffix}"):
        found = alone(name, twice)
        assert found.reason == "unreadable"
        assert "with a compressed file in it that holds DICOM" in found.detail
    assert "rename it" in alone("IM1", gzip.compress(IMAGE)).detail


def test_what_is_no_image_twice_compressed_is_a_note() -> None:
    assert alone("IM1.gz", gzip.compress(gzip.compress(b"words" * 900))).reason == "nested-archive"
    assert alone("IM1.gz", gzip.compress(gzip.compress(gzip.compress(IMAGE)))).reason == "unreadable"


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_compressed_images_in_an_archive_that_is_not_read(pack: object) -> None:
    member = pack(IMAGE)  # type: ignore[operator]
    archive = stored("IM1.gz", member)
    assert judge_nested("papers", io.BytesIO(archive), "zip", len(archive)).reason == "unreadable"
    text = stored("notes.gz", gzip.compress(b"words" * 900))
    assert judge_nested("papers", io.BytesIO(text), "zip", len(text)).reason == "nested-archive"


@pytest.mark.parametrize("name", ["IM1.dcm.gz", "IM1.gz", "IM1.dcm.xz"])
@pytest.mark.parametrize("data", [bytes(100_000), b""], ids=["zeros", "empty"])
def test_a_compressed_blank_is_blank(name: str, data: bytes) -> None:
    pack = lzma.compress if name.endswith("xz") else gzip.compress
    assert alone(name, pack(data)).reason == "blank"
    assert reasons(plan_of({**GOOD, f"a/x/T1/{name}": pack(data)})) == {f"a/x/T1/{name}": "blank"}
    for other in ("x.nii.gz", "x.log.gz", "x.bval.gz"):
        assert alone(other, gzip.compress(data)).reason == "not-dicom"


def test_zeros_before_something_else_are_not_blank() -> None:
    assert alone("IM1.gz", gzip.compress(bytes(5000) + b"x")).reason == "nested-archive"
    packed = gzip.compress(bytes(1 << 20) + b"x")
    assert judge_nested("IM1.gz", io.BytesIO(packed), "gzip", len(packed)).detail == ZEROS


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("IM1.dcm", b"<html>gone</html>"),
        ("IM1.DCM.gpg", b"\x85\x02\x0c\x03" + b"noise" * 99),
        ("IM1.dcm.b64", b"AAAA" * 99),
        ("IM1.dicom.age", b"age-encryption.org/v1\n"),
        ("1.2.3.dcm.part", b"words"),
        ("IM1.dcm.gz", gzip.compress(b"<html>gone</html>", mtime=0)),
    ],
)
def test_what_is_named_like_an_image_and_is_none(name: str, data: bytes) -> None:
    """A problem where images are expected: beside some, or where another session has its own. Elsewhere a note."""
    found = alone(name, data)
    assert found.reason == "unreadable"
    assert found.detail.startswith("named like an image, but it is ")
    assert reasons(plan_of({**GOOD, f"a/x/T1/{name}": data})) == {f"a/x/T1/{name}": "unreadable"}
    is_encrypted = name.endswith((".gpg", ".age"))  # it may be anything, a whole subject, too
    assert (reasons(plan_of({**GOOD, name: data}))[name] == "unreadable") == is_encrypted
    other = alone(name.replace("dcm", "x").replace("DCM", "x").replace("dicom", "x"), data)
    assert (other.reason == "unreadable") == is_encrypted
    beside = plan_of({**GOOD, f"b/y/T1/{name}": data, "b/y/T1/read.me": b"words"})
    assert reasons(beside)[f"b/y/T1/{name}"] != "unreadable", "a folder of other things"


@pytest.mark.parametrize(
    "name",
    [
        "IM1.dcm.json",
        "IM1.dcm.txt",
        "IM1.dcm.xml.gz",
        "IM1.dcm.png",
        "IM1.dcm.jpeg",
        "IM1.dcm.sha1",
        "._IM1.dcm",
        "dcm",
        "x.dcmx",
        "x-dcm.nii",
    ],
)
def test_names_of_other_files(name: str) -> None:
    """Companions of images keep the image's name."""
    assert not is_named_as_image(name)
    assert alone(name, b"words").reason == "not-dicom"


def test_names_in_any_case() -> None:
    assert is_named_as_image("a.DcM")
    assert is_named_as_image("a.Dicom.7")
    assert is_named_as_image("A.DCM;1")
    assert may_be_image("IM1.gz")
    assert not may_be_image("IM1.TXT.bz2")


def test_a_file_on_the_disk_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a/x").mkdir(parents=True)
    (tmp_path / "a/x/1").write_bytes(b"\xef\xbb\xbf" + IMAGE)
    assert list(reasons(plan_source(open_source(str(tmp_path), 2))).values()) == ["unreadable"]


NOISE = b"\x85\x02\x0c\x03" + b"noise" * 99


@pytest.mark.parametrize(
    "name",
    [
        *("post.tar.gz.gpg", "post.zip.enc", "post.tar.age", "post.tar.gz.asc", "post.tar.gz.b64", "post.zip.part"),
        *("post.zip.crdownload", "post.tar.partial", "post.tar.gz.tmp", "008.tar.gpg", "X.TGZ.PGP;1", "x.7z.aes.part"),
        *("post.zip.encrypted", "post.p7m", "post.tar.c4gh", "x.cpt", "post.tar.des3", "x.axx"),
        *("post.gpg", "X.enc", "X.age", "X.rar.sig", "x.iso.filepart", "x.cab.download", "x.dmg.incomplete"),
    ],
)
def test_archives_that_are_encrypted_or_not_complete(name: str) -> None:
    """Only their names tell. They are judged by their place, as archives of rare kinds are."""
    for place in ("a/x/T1", "b/y/T1", "b/y", "a/x", "a", ""):
        path = f"{place}/{name}".removeprefix("/")
        (found,) = plan_of({**GOOD, path: NOISE}).set_aside
        assert (found.path, found.reason) == (path, "unreadable")
        assert "encrypted, encoded or not complete; decrypt, decode or fetch it again" in found.detail
        assert "leave it out with --exclude" in found.detail
    for data in (b"", bytes(5000)):
        assert reasons(plan_of({**GOOD, f"b/{name}": data})) == {f"b/{name}": "unreadable"}
    others = reasons(plan_of({**GOOD, f"a/x/papers/{name}": NOISE, "a/x/papers/list": b"words"}))
    assert set(others.values()) == {"not-dicom"}
    assert set(reasons(plan_of({f"b/y/T1/{name}": NOISE})).values()) == {"not-dicom"}, "there is nothing to send at all"


def test_an_encrypted_session_beside_others() -> None:
    """With --layout session, sessions lie in ROOT."""
    found = plan_of({"x/T1/1": dicom("1"), "y.tar.gpg": NOISE}, layout="session", subject="S")
    assert reasons(found) == {"y.tar.gpg": "unreadable"}
    found = plan_of({"T1/1": dicom("1"), "notes": b"words", "T2.tar.gpg": NOISE}, subject="S", experiment="E")
    assert reasons(found) == {"notes": "not-dicom", "T2.tar.gpg": "not-dicom"}


@pytest.mark.parametrize(
    "name",
    [
        *("notes.txt.gpg", "report.pdf.gpg", "list.xlsx.enc", "README.gpg", "x.csv.gz.age", "x.nii.gz.gpg"),
        *("IM1.part", "x.tmp", "post.zip.md5", "x.tar.gz.txt", ".post.zip.part", "._x.zip.gpg", "zip.part", "x.asc"),
        *("gpg", "tar", "x.zipped.part", "x.b64"),
    ],
)
def test_names_that_hide_nothing(name: str) -> None:
    assert not hides_content(name)
    assert reasons(plan_of({**GOOD, f"b/{name}": NOISE})) == {f"b/{name}": "not-dicom"}


@pytest.mark.parametrize("name", ["subject.age", "eeg.enc", "n.crypt", "x.aes"])
def test_plain_text_is_not_encrypted(name: str) -> None:
    """Whatever its suffix, which may mean an age. Anything else may be encrypted, and so may what is named so."""
    for place in ("a/x/T1", "a/x", "a", ""):
        path = f"{place}/{name}".removeprefix("/")
        for data in (b"34", b"subject;age\r\n007;34\n", "größe 1 2 3\n".encode() * 200, ("x" + "ö " * 900).encode()):
            assert reasons(plan_of({**GOOD, path: data})) == {path: "not-dicom"}
        for data in (
            b"age-encryption.org/v1\n-> X",
            b"-----BEGIN PGP MESSAGE-----\n",
            b"U2FsdGVkX1" * 9,
            NOISE,
            b"",
            b"words \0",
            b" ",
        ):
            assert plan_of({**GOOD, path: data}).set_aside[0].is_problem, data
    for other in (f"post.zip.{name.rpartition('.')[2]}", f"IM1.dcm.{name.rpartition('.')[2]}"):
        assert reasons(plan_of({**GOOD, f"a/x/{other}": b"34", "a/x/1": dicom("1", 2)})) == {
            f"a/x/{other}": "unreadable"
        }


@pytest.mark.parametrize("suffix", ["asc", "sig", "ASC"])
def test_a_signature_beside_its_file_is_a_note(tmp_path: Path, suffix: str) -> None:
    signed = {f"b/y.zip.{suffix}": NOISE, "b/y.zip": b"any"}
    assert reasons(plan_of({**GOOD, **signed}))[f"b/y.zip.{suffix}"] == "not-dicom"
    assert reasons(plan_of({**GOOD, f"b/y.zip.{suffix}": NOISE})) == {f"b/y.zip.{suffix}": "unreadable"}
    (tmp_path / "a/x").mkdir(parents=True)
    (tmp_path / "a/x/1").write_bytes(dicom("1"))
    (tmp_path / "a/y.zip").write_bytes(stored("T1/1", IMAGE))
    (tmp_path / f"a/y.zip.{suffix}").write_bytes(NOISE)
    plan = plan_source(open_source(str(tmp_path), 2))
    assert len(plan.sessions) == 2
    assert reasons(plan) == {f"a/y.zip.{suffix}": "not-dicom"}


def test_checksums_and_signatures_do_not_make_a_folder_one_of_other_things() -> None:
    files = {"b/y/T1/X.tar.gpg": NOISE, "b/y/T1/X.tar.gpg.md5": b"12", "b/y/T1/X.tar.gpg.sig": NOISE}
    assert reasons(plan_of({**GOOD, **files})) == dict(
        zip(files, ("unreadable", "not-dicom", "not-dicom"), strict=True)
    )


@pytest.mark.parametrize("name", ["post.tar.gz.gpg", "x.err", "COMPLETE", "1.out", "x.zip.part", "notes", "x.m"])
def test_dicom_is_read_whatever_its_name(name: str) -> None:
    plan = plan_of({**GOOD, f"b/y/T1/{name}": IMAGE})
    assert [len(session.instances) for session in plan.sessions] == [1, 1]


ISO = bytes(32768) + b"\1CD001" + b"\x83" * 9000


def packed(how: str, files: dict[str, bytes]) -> bytes:
    """An archive: a zip, a tar or a tar.gz."""
    made = io.BytesIO()
    if how == "zip":
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return made.getvalue()
    with tarfile.open(fileobj=made, mode="w:gz" if how == "tar.gz" else "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


@pytest.mark.parametrize("how", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    "files",
    [
        {"S/IM1": b"", "S/IM2": b""},
        {"IM1": bytes(5000), "IM2": bytes(100_000)},
        {"IM1": b"version https://git-lfs.github.com/spec/v1\n", "IM2": b"../.git/annex/objects/aa/bb/1"},
        {"S/IM0.dcm": NOISE, "S/IM1.dcm": b"<html>gone</html>"},
        {"IM0.dcm": NOISE, "IM1": b"", "IM1.md5": b"12", "Thumbs.db": b"icons", "__MACOSX/._IM1": b"fork"},
        {"IM1": b""},
        {"image": bytes(5000)},
        {"image.dcm": b""},
        {"first": b"", "second": b""},
    ],
    ids=["empty", "zeros", "pointers", "others", "with companions", "one", "one of zeros", "one by name", "two"],
)
def test_an_archive_of_images_that_are_lost(how: str, files: dict[str, bytes]) -> None:
    """It is a problem as the files themselves are in a folder."""
    path = f"b/y/X.{how}"
    (found,) = plan_of({**GOOD, path: packed(how, files)}).set_aside
    assert (found.path, found.reason) == (path, "unreadable")
    assert found.detail == (
        f"a {how} file of nothing but empty files or files named like images, none of which is one; "
        "fetch it again, or leave it out with --exclude"
    )


@pytest.mark.parametrize("how", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    "files",
    [
        {"Thumbs.db": b"icons", "IM1.md5": b"12"},
        {"IM1": b"", "notes.txt": b"words"},
        {"IM0.dcm": NOISE, "viewer": b"MZ"},
        {"notes.txt": b"", "x.log": bytes(900)},
        {"IM0": NOISE},
        {"marker": b""},
        {"a/present": b"", "a/Thumbs.db": b"icons"},
    ],
    ids=["companions alone", "text", "program", "blank texts", "no name of an image", "mark", "mark in a folder"],
)
def test_an_archive_of_other_things_is_a_note(how: str, files: dict[str, bytes]) -> None:
    (found,) = plan_of({**GOOD, f"b/y/X.{how}": packed(how, files)}).set_aside
    assert (found.reason, found.detail) == ("nested-archive", f"a {how} file")
    assert alone("X.zip", packed("zip", {})).reason == "nested-archive"


def test_a_file_that_is_not_blank_behind_its_start_may_have_been_an_image() -> None:
    torn = packed("zip", {"IM1": bytes(START) + b"x"})
    assert alone("X.zip", torn).reason == "unreadable"
    assert alone("X.zip", packed("zip", {"IM1": bytes(START - 1) + b"x"})).reason == "nested-archive"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_disc_image(pack: object) -> None:
    """It is judged by its place, as the disc image itself is."""
    data = pack(ISO)  # type: ignore[operator]
    for place in ("a/x/T1/a", "b/y/T1/a", "b/post", "post"):
        (found,) = plan_of({**GOOD, place: data}).set_aside
        assert found.reason == "unreadable", place
        assert found.detail.startswith("a disc image (.iso), which cannot be read here")
    others = {"a/x/viewer/a.iso.gz": data, "a/x/viewer/help": b"words"}
    assert reasons(plan_of({**GOOD, **others}))["a/x/viewer/a.iso.gz"] == "nested-archive"
    assert alone("a.gz", pack(b"x" + ISO)).reason == "nested-archive"  # type: ignore[operator]


@pytest.mark.parametrize("how", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("data", [ISO, ISO + b"\x83" * 300_000, b"MSCF\0\0\0\0" + NOISE], ids=["iso", "large", "cab"])
def test_a_disc_image_in_an_archive(tmp_path: Path, how: str, data: bytes) -> None:
    """In one that is read, and alone in one that is not."""
    (tmp_path / "a/x/T1").mkdir(parents=True)
    (tmp_path / "a/x/T1/1").write_bytes(dicom("1"))
    (tmp_path / f"a/y.{how}").write_bytes(packed(how, {"T1/IM1": data}))
    assert reasons(plan_source(open_source(str(tmp_path), 2))) == {f"a/y.{how}/T1/IM1": "unreadable"}
    assert "which cannot be read here" in alone(f"X.{how}", packed(how, {"disc": data, "IM1": b""})).detail
    among = packed(how, {"disc": data, "help": b"words"})
    assert alone(f"X.{how}", among).reason == "nested-archive"


def test_a_damaged_disc_image_in_a_zip_is_damaged(tmp_path: Path) -> None:
    data = stored("T1/IM1", ISO).replace(b"\x83\x83", b"\x83\x84", 1)
    (tmp_path / "a/x/T1").mkdir(parents=True)
    (tmp_path / "a/x/T1/1").write_bytes(dicom("1"))
    (tmp_path / "a/y.zip").write_bytes(data)
    (found,) = plan_source(open_source(str(tmp_path), 2)).set_aside
    assert (found.reason, found.detail) == ("unreadable", "its archive is corrupt here")
