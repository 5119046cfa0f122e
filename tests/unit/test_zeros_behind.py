"""Zeros behind what a file holds. Padding is read over. A hole that never ends is named, and soon."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from tests.dicom_trees import IDENTITY, Memory, deflated, encode, implicit, part10
from tests.unit.test_plan import dicom, plan_of, plan_source
from xnat_ingest.core import SetAside, SourceFile
from xnat_ingest.inputs import dicom_dataset, dicom_file, tar_archive, undefined_length, zeros
from xnat_ingest.inputs.compressed_files import CompressedFiles
from xnat_ingest.inputs.dicom_dataset import IMPLICIT, NotWalkable, PeekableStream, copy_value, read_head
from xnat_ingest.inputs.nifti_file import Name, judge_image
from xnat_ingest.inputs.open_archive import open_archive
from xnat_ingest.inputs.source import go_on
from xnat_ingest.inputs.unpacking import gunzipped, unpacked
from xnat_ingest.inputs.zeros import pass_zeros

MB = 1 << 20
SIZE = 1 << 40
SEQUENCE = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)


class Hole(io.RawIOBase):
    """A file of one terabyte: what it begins with, then zeros. Whoever reads far into them fails."""

    def __init__(self, start: bytes, most: int = 6 * MB) -> None:
        self._start = start
        self._at = 0
        self._left = most

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, SIZE)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        assert size >= 0
        self._left -= size
        if self._left < 0:
            pytest.fail("it reads on and on")
        size = min(size, SIZE - self._at)
        data = self._start[self._at : self._at + size].ljust(size, b"\0")
        self._at += size
        return data


class WithHole(Memory):
    """A whole instance, and beside it a file that ends in a hole."""

    def __init__(self, name: str, start: bytes) -> None:
        super().__init__({"a/x/T1/1": dicom("1"), f"a/x/T1/{name}": b""})
        self._name, self._start = f"a/x/T1/{name}", start

    def open(self, path: str) -> BinaryIO:
        return cast(BinaryIO, Hole(self._start)) if path == self._name else super().open(path)

    def stat(self, path: str) -> tuple[int, int]:
        return (SIZE, 0) if path == self._name else super().stat(path)


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """One megabyte of zeros is a hole here, and so are 256 elements of zeros."""
    monkeypatch.setattr(zeros, "ENOUGH", MB)
    monkeypatch.setattr(tar_archive, "ENOUGH", MB)
    for module in (dicom_dataset, dicom_file, undefined_length):
        monkeypatch.setattr(module, "MOST_BLANK", 256)


def tarred(content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("a/1")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


BLANK = "the data set has zeros in place of its elements"


@pytest.mark.parametrize(
    ("name", "start", "reason", "words"),
    [
        ("2", bytes(128) + b"DICM", "truncated", BLANK),
        ("2", part10({}), "truncated", BLANK),
        ("2", part10(IDENTITY) + SEQUENCE, "truncated", BLANK),
        (
            "2",
            part10({}, IMPLICIT) + implicit(IDENTITY) + struct.pack("<HHL", 0x0040, 0x1140, 0xFFFFFFFF),
            "truncated",
            BLANK,
        ),
        ("2", gzip.compress(dicom("2"), mtime=0), "unreadable", "a gzip file that is truncated or corrupt"),
        ("2.gz", gzip.compress(dicom("2"), mtime=0), "unreadable", "a gzip file that is truncated or corrupt"),
        (
            "2",
            gzip.compress(b"x" * 348, mtime=0),
            "unreadable",
            "a gzip file that is truncated or corrupt from its start",
        ),
        ("2", tarred(b"x" * 9999)[:600], "unreadable", "a tar file that is corrupt"),
        ("2", tarred(b"no image"), "unreadable", "a tar file that is corrupt"),
    ],
)
def test_a_hole_is_named(name: str, start: bytes, reason: str, words: str) -> None:
    plan = plan_source(CompressedFiles(WithHole(name, start), go_on))
    (found,) = plan.set_aside
    assert (found.path, found.reason, found.is_problem) == (f"a/x/T1/{name}", reason, True)
    assert found.detail.startswith(words)
    assert plan.planned == 1


@pytest.mark.parametrize(("behind", "planned"), [(b"", 1), (bytes(700), 1), (bytes(700) + b"x", 0)])
@pytest.mark.parametrize("in_implicit", [False, True])
def test_zeros_in_the_middle_of_a_data_set_without_pixels(behind: bytes, planned: int, *, in_implicit: bool) -> None:
    """As a lost block of a disk leaves them. Padding at the end is no damage."""
    report = {**IDENTITY, 0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.88.11")}
    whole = part10({}, IMPLICIT) + implicit(report) if in_implicit else part10(report)
    plan = plan_source(Memory({"a/x/SR/1": whole + behind}))
    assert plan.planned == planned
    assert [(aside.reason, aside.detail) for aside in plan.set_aside] == [
        ("truncated", "zeros stand in the middle of its data set")
    ] * (1 - planned)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("2", deflated(encode({**IDENTITY, 0x00080018: ("UI", b"1.2.9")}))),
        ("2.xz", lzma.compress(dicom("2"))),
        ("2.bz2", bz2.compress(dicom("2"))),
    ],
)
def test_a_hole_behind_what_says_its_own_end_is_not_read(name: str, start: bytes) -> None:
    """It is no part of it."""
    plan = plan_source(CompressedFiles(WithHole(name, start), go_on))
    assert (plan.planned, plan.set_aside) == (2, ())


@pytest.mark.parametrize(
    ("kind", "start", "words"),
    [
        ("tar", tarred(dicom("1")), "more than 1,048,576 zero bytes follow the archive's end mark"),
        ("tar.gz", gzip.compress(tarred(dicom("1"))), "the archive is truncated or corrupt"),
        ("tar.gz", gzip.compress(tarred(dicom("1")))[:200], "the archive is truncated or corrupt"),
    ],
)
def test_an_archive_with_a_hole_is_named(tmp_path: Path, kind: str, start: bytes, words: str) -> None:
    (tmp_path / "x").write_bytes(b"")
    found = list(open_archive(tmp_path / "x", kind, opened=lambda _: cast(BinaryIO, Hole(start))).files())  # type: ignore[arg-type]
    assert isinstance(found[-1], SetAside)
    assert (found[-1].path, found[-1].reason) == ("x", "truncated")
    assert found[-1].detail.startswith(words)


def test_an_image_with_a_hole_is_named() -> None:
    sides = struct.pack("<8h", 3, 40, 40, 40, 1, 1, 1, 1)
    head = struct.pack("<l", 348) + bytes(36) + sides + bytes(14) + struct.pack("<2h", 4, 16) + bytes(34)
    image = head + struct.pack("<f", 352) + bytes(232) + b"n+1\0" + random.Random(1).randbytes(99_999)
    found = judge_image(cast(BinaryIO, Hole(gzip.compress(image))), "a.nii.gz", SIZE, Name.of("a.nii.gz"))
    assert found is not None
    assert found.reason == "truncated"


def test_a_directory_with_a_hole_ends() -> None:
    stream = PeekableStream(iter(lambda: bytes(4096), b""))
    head = read_head(PeekableStream([struct.pack("<HHL", 0x0004, 0x1220, 0xFFFFFFFF)]), False, "<")
    with pytest.raises(NotWalkable, match="has zeros in place"):
        for _ in copy_value(stream, head, False, "<"):
            pass
    assert stream.taken == 8 * 256


@pytest.mark.parametrize("padding", [1, 511, 4096, 4097, 300_000, MB - 1])
@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_padding_of_a_compressed_file_is_read_over(pack: Callable[[bytes], bytes], padding: int) -> None:
    """As tapes and block devices leave it."""
    kind = {gzip.compress: "gzip", bz2.compress: "bzip2"}[pack]
    packed = pack(b"image" * 9) + bytes(padding)
    assert unpacked(io.BytesIO(packed), kind).read() == b"image" * 9  # type: ignore[arg-type]


@pytest.mark.parametrize("padding", [1, 4095, 4096, 4097, 300_000])
def test_what_follows_the_padding_of_a_gzip_file_is_read(padding: int) -> None:
    with gunzipped(io.BytesIO(gzip.compress(b"one") + bytes(padding) + gzip.compress(b"two"))) as stream:
        assert stream.read() == b"onetwo"
        stream.seek(0)
        assert stream.read() == b"onetwo"
    with pytest.raises(gzip.BadGzipFile):
        gunzipped(io.BytesIO(gzip.compress(b"one") + bytes(padding) + b"x")).read()


def test_zeros_that_a_gzip_file_stores_are_its_own(tmp_path: Path) -> None:
    """At level 0 nothing is compressed: the black border of an image lies there as it is."""
    black = random.Random(1).randbytes(99) + bytes(MB * 3 // 4) + b"x"
    for level in (0, 1, 9):
        for padding in (0, 300_000):
            packed = gzip.compress(black, level) + bytes(padding) + gzip.compress(black, level)
            assert gunzipped(io.BytesIO(packed)).read() == black * 2
    (tmp_path / "x").write_bytes(gzip.compress(tarred(dicom("1") + black), 0))
    (member,) = open_archive(tmp_path / "x", "tar.gz").files()
    assert isinstance(member, SourceFile)


def test_zeros_without_end_inside_a_gzip_file_are_named() -> None:
    """Where a file is cut in the middle of a block, they decode to the same sign for ever."""
    cut = gzip.compress(bytes(random.Random(1).choices(b"abcdefgh", k=9999)))[:2000]
    with pytest.raises(EOFError, match="zeros without end"):
        gunzipped(cast(BinaryIO, Hole(cut))).read()


def stored_xz(content: bytes) -> bytes:
    """An xz file whose content is not compressed, as XZ for Java can write it."""

    def summed(data: bytes) -> bytes:
        return data + struct.pack("<L", zlib.crc32(data))

    chunks = [content[at : at + 65536] for at in range(0, len(content), 65536)]
    data = b"".join(struct.pack(">BH", 1 if not n else 2, len(one) - 1) + one for n, one in enumerate(chunks)) + b"\0"
    block = summed(b"\x02\0\x21\x01\x16\0\0\0") + data
    size = len(block) + 4  # with its check
    block += bytes(-len(block) % 4) + struct.pack("<L", zlib.crc32(content))
    index = b"\0\x01" + _variable(size) + _variable(len(content))
    index = summed(index + bytes(-len(index) % 4))
    footer = struct.pack("<L", len(index) // 4 - 1) + b"\0\x01"
    head = b"\xfd7zXZ\0\0\x01" + struct.pack("<L", zlib.crc32(b"\0\x01"))
    return head + block + index + struct.pack("<L", zlib.crc32(footer)) + footer + b"YZ"


def _variable(number: int) -> bytes:
    """Seven bits in each byte, the lowest first."""
    rest = number >> 7
    return bytes([number & 127 | 128]) + _variable(rest) if rest else bytes([number])


def test_zeros_in_and_behind_an_xz_file() -> None:
    black = b"x" + bytes(2 * MB) + b"x"
    packed = stored_xz(black)
    assert lzma.decompress(packed) == black
    assert unpacked(io.BytesIO(packed), "xz").read() == black
    hole = Hole(packed, most=len(packed) + MB)
    assert unpacked(cast(BinaryIO, hole), "xz").read() == black


def test_padding_of_dicom_and_tar_is_read_over(tmp_path: Path) -> None:
    plan = plan_of({"a/x/T1/1": dicom("1") + bytes(4 * MB), "a/x/T1/2": dicom("1", 2) + bytes(8)})
    assert plan.planned == 2
    (tmp_path / "x").write_bytes(tarred(dicom("1")) + bytes(MB - 99_999))
    assert [type(one) for one in open_archive(tmp_path / "x", "tar").files()] == [SourceFile]


def test_pass_zeros() -> None:
    for count in (0, 1, 1 << 18, (1 << 18) + 1, MB - 1):
        assert pass_zeros(io.BytesIO(bytes(count))) == (count, b"")
        assert pass_zeros(io.BytesIO(bytes(count) + b"x")) == (count, b"x")
    assert pass_zeros(io.BytesIO(b"\0\0x\0")) == (2, b"x\0")
    assert pass_zeros(io.BytesIO(bytes(MB) + b"x")) == (MB, b"")


def test_how_many_elements_of_zeros_are_padding() -> None:
    """Half a megabyte of them."""
    assert zeros.MOST_BLANK == 65_536
    item, end = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF), struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    undefined_length.pass_over(io.BytesIO(item + bytes(8 * 256) + end + end), True, "<")
    with pytest.raises(NotWalkable, match="has zeros in place"):
        undefined_length.pass_over(io.BytesIO(item + bytes(8 * 257) + end + end), True, "<")
    stream = dicom_file.TruncationDetector(io.BytesIO(bytes(8 * 256) + b"x" * 8 + bytes(8 * 257)), go_on)
    for _ in range(2 * 256 + 1):
        stream.read(8)
    with pytest.raises(NotWalkable, match="has zeros in place"):
        stream.read(8)
