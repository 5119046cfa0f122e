"""bzip2, LZMA and xz are unpacked in pieces, as they are asked for, in memory that has a limit."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast, get_args

import pytest

from tests.unit.test_input_forms import image, put, seen
from xnat_ingest.inputs import open_source
from xnat_ingest.inputs.unpacking import BLOCK, CORRUPT, GREEDY, MOST_EMPTY, Packing, unpacked
from xnat_ingest.inputs.zip_archive import open_member
from xnat_ingest.inputs.zip_directory import ZipMember, read_directory

MIB = 1 << 20
RARE = {"bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}
METHODS = {**RARE, "deflate": zipfile.ZIP_DEFLATED, "stored": zipfile.ZIP_STORED}
BY_METHOD = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
RARE_ONES = pytest.mark.parametrize("method", RARE.values(), ids=RARE)
CONTENT = random.Random(7).randbytes(90_000) + bytes(200_000) + b"the end"


def zipped(content: bytes, method: int) -> tuple[io.BytesIO, ZipMember]:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        made.writestr("before", b"before")
        made.writestr("IM1", content)
        made.writestr("behind", b"behind")
    (member,) = (one for one in read_directory(stream, len(stream.getvalue())).members if one.name == "IM1")
    return stream, member


def claiming(member: ZipMember, **other: int) -> ZipMember:
    said = {name: getattr(member, name) for name in ZipMember.__dataclass_fields__}
    return ZipMember(**{**said, **other})


@contextmanager
def peak(most: int) -> Iterator[None]:
    """The decompressors' own memory counts, too."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@BY_METHOD
@pytest.mark.parametrize("size", [64 * MIB, 20_000])
def test_a_member_takes_the_memory_of_what_is_asked_for(method: int, size: int) -> None:
    """Also where the directory says less of it than there is, so that no guard against bombs sees it."""
    stream, member = zipped(bytes(64 * MIB), method)
    with peak(16 * MIB):
        inside = open_member(stream, claiming(member, size=size))
        assert inside.read(100) == bytes(100)
        if size == 64 * MIB:
            assert sum(len(block) for block in iter(lambda: inside.read(BLOCK), b"")) == size - 100
        else:
            assert all_of(inside) == CORRUPT


def test_an_xz_file_takes_the_memory_of_what_is_asked_for() -> None:
    stream = io.BytesIO(lzma.compress(bytes(64 * MIB)))
    with peak(16 * MIB):
        inside = unpacked(stream, "xz")
        assert sum(len(block) for block in iter(lambda: inside.read(BLOCK), b"")) == 64 * MIB


def xz_file(content: bytes) -> BinaryIO:
    return cast(BinaryIO, unpacked(cast(BinaryIO, io.BytesIO(lzma.compress(content))), "xz"))


@pytest.mark.parametrize(
    "make",
    [*(lambda content, m=m: open_member(*zipped(content, m)) for m in METHODS.values()), xz_file],
    ids=[*METHODS, "xz"],
)
def test_it_is_read_from_anywhere(make: Callable[[bytes], BinaryIO]) -> None:
    """Forward and back, in small steps and in large ones, behind the end, and seen from the end."""
    inside, wanted = make(CONTENT), io.BytesIO(CONTENT)
    chance = random.Random(3)
    for _ in range(60):
        at, size = chance.randrange(len(CONTENT) + 9), chance.choice((0, 1, 7, 4096, 100_000))
        assert inside.seek(at) == wanted.seek(min(at, len(CONTENT)))
        assert (inside.read(size), inside.tell()) == (wanted.read(size), wanted.tell())
    assert inside.seek(-7, io.SEEK_END) == len(CONTENT) - 7
    assert (inside.read(), inside.read(), inside.read(5)) == (b"the end", b"", b"")
    assert (inside.seek(-3, io.SEEK_CUR), inside.read(9)) == (len(CONTENT) - 3, b"end")
    inside.seek(0)
    assert inside.read(-1) == CONTENT
    assert make(b"").read() == b""


def all_of(inside: BinaryIO) -> str:
    """What is said of it, when it is read to its end like a source's file."""
    try:
        while inside.read(1000):
            pass
    except (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
        return getattr(error, "strerror", "") or CORRUPT
    return "whole"


@RARE_ONES
@pytest.mark.parametrize(
    "lie",
    [
        {"crc": 5},
        {"size": len(CONTENT) + 1},
        {"size": len(CONTENT) - 1},
        {"size": 0},
        {"packed": 9},
        {"packed": 60},
        {"packed": 90_000},
    ],
    ids=str,
)
def test_a_member_that_is_not_what_its_zip_says(method: int, lie: dict[str, int]) -> None:
    stream, member = zipped(CONTENT, method)
    assert all_of(open_member(stream, member)) == "whole"
    assert all_of(open_member(stream, claiming(member, **lie))) == CORRUPT


def test_members_of_all_methods_in_a_zip_that_is_uploaded(tmp_path: Path) -> None:
    (tmp_path / "007").mkdir()
    with zipfile.ZipFile(tmp_path / "007/pre.zip", "w") as made:
        for number, method in enumerate(METHODS.values()):
            made.writestr(f"T/{number}", image(number, 400_000), method)
    found = seen(open_source(str(tmp_path), 2))
    assert len(found) == 4
    assert not [said for said in found.values() if said.startswith(("problem", "note"))]


def lzma_without_an_end_mark(content: bytes) -> tuple[io.BytesIO, ZipMember]:
    """As 7-Zip writes it. Of what ends it here, the five bytes of the coder are still needed."""
    stream, member = zipped(content, zipfile.ZIP_LZMA)
    packed = stream.getvalue()[member.start : member.start + member.packed]
    return io.BytesIO(packed), claiming(member, start=0, packed=len(packed) - 1)


def test_an_lzma_member_without_an_end_mark() -> None:
    assert all_of(open_member(*lzma_without_an_end_mark(CONTENT))) == "whole"


@pytest.mark.parametrize(
    "head", [b"", b"\x09\x14\x05", b"\x09\x14\x04\x00]\0\0\x80\0", b"\x09\x14\x05\x00\xff\0\0\x80\0"]
)
def test_an_lzma_member_with_another_head(head: bytes) -> None:
    stream, member = zipped(CONTENT, zipfile.ZIP_LZMA)
    packed = bytearray(stream.getvalue()[member.start : member.start + member.packed])
    packed[: len(head)] = head
    size = len(packed) if len(head) > 3 else len(head)
    with pytest.raises((OSError, lzma.LZMAError)):
        open_member(io.BytesIO(packed), claiming(member, start=0, packed=size)).read()


def greedy_zip(dictionary: int) -> bytes:
    stream, member = zipped(image(1), zipfile.ZIP_LZMA)
    packed = bytearray(stream.getvalue())
    packed[member.start + 5 : member.start + 9] = struct.pack("<L", dictionary)
    return bytes(packed)


def greedy_xz(dictionary: int, content: bytes) -> bytes:
    """dictionary: as the block's header says it, two steps for each power of two."""
    packed = bytearray(lzma.compress(content, check=lzma.CHECK_CRC32, preset=0))
    size = (packed[12] + 1) * 4
    at = packed.index(b"\x21\x01", 12)
    packed[at + 2] = dictionary
    packed[12 + size - 4 : 12 + size] = struct.pack("<L", zlib.crc32(packed[12 : 12 + size - 4]))
    return bytes(packed)


@pytest.mark.parametrize(("dictionary", "said"), [(96 * MIB, "whole"), (128 * MIB, GREEDY), (0xFFFFFFFF, GREEDY)])
def test_the_memory_of_a_member_has_a_limit(tmp_path: Path, dictionary: int, said: str) -> None:
    put(tmp_path, {"007/pre.zip": greedy_zip(dictionary)})
    told = seen(open_source(str(tmp_path), 2))["007/pre.zip/IM1"]
    assert said == "whole" or GREEDY in told


@pytest.mark.parametrize(("dictionary", "fits"), [(28, True), (29, True), (30, False), (40, False)])
@pytest.mark.parametrize("content", [image(1), b"words"], ids=["image", "words"])
def test_the_memory_of_an_xz_file_has_a_limit(tmp_path: Path, dictionary: int, fits: bool, content: bytes) -> None:
    """Dictionaries of 64 MiB, as xz -9 makes them, of 96 MiB, of 128 MiB, and of 4 GiB."""
    packed = greedy_xz(dictionary, content)
    assert all_of(cast(BinaryIO, unpacked(io.BytesIO(packed), "xz"))) == ("whole" if fits else GREEDY)
    told = seen(open_source(str(put(tmp_path, {"007/pre/IM1.dcm.xz": packed})), 2))["007/pre/IM1.dcm.xz"]
    assert (GREEDY in told) != fits
    assert fits or told.startswith("problem unreadable: ")


class InThrees(io.BytesIO):
    """A file on a network drive, which gives few bytes at once."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(3)


TWO = lzma.compress(b"one") + lzma.compress(b"two")


@pytest.mark.parametrize("kind", [io.BytesIO, InThrees])
@pytest.mark.parametrize(
    ("packed", "content"),
    [
        (TWO, b"onetwo"),
        (TWO + bytes(4), b"onetwo"),
        (lzma.compress(b"one") + bytes(4) + lzma.compress(b"two") + bytes(20_000) + lzma.compress(b"!"), b"onetwo!"),
        (lzma.compress(b"") + bytes(8) + TWO, b"onetwo"),
        (TWO + bytes(65_536) + lzma.compress(b"!"), b"onetwo!"),
        (TWO + bytes(2 * 65_536) + lzma.compress(b"!"), b"onetwo"),
        (TWO + bytes(4) + b"stale", b"onetwo"),
        (TWO + bytes(4) + TWO[:-1], CORRUPT),
        (TWO + b"x", b"onetwo"),
        (TWO + bytes(9000), b"onetwo"),
        (TWO + b"stale bytes of another file", b"onetwo"),
        (TWO + b"\xfd7zXZ", CORRUPT),
        (lzma.compress(b"one") + b"stale" + lzma.compress(b"two"), b"one"),
        (TWO[:-1], CORRUPT),
        (lzma.compress(b"one") + TWO[:20], CORRUPT),
        (lzma.compress(b"one") + b"\xfd7zXZ\0\0\0\0\0\0\0", CORRUPT),
        (lzma.compress(b"one") + greedy_xz(36, b"two"), GREEDY),
        (b"", CORRUPT),
    ],
)
def test_several_streams_and_what_is_behind_them(
    kind: Callable[[bytes], BinaryIO], packed: bytes, content: bytes | str
) -> None:
    """Another stream counts, and must be whole. Anything else behind the first is left out, as ever."""
    inside = unpacked(kind(packed), "xz")
    if isinstance(content, bytes):
        assert inside.read() == content
        assert inside.read() == b""
        return
    assert all_of(cast(BinaryIO, inside)) == content


@pytest.mark.parametrize("kind", [io.BytesIO, InThrees])
@pytest.mark.parametrize(
    ("behind", "content"),
    [
        (b"", b"one"),
        (bz2.compress(b"two"), b"onetwo"),
        (bz2.compress(b"") * 3 + bz2.compress(b"two", 1), b"onetwo"),
        (b"stale bytes of another file", b"one"),
        (b"BZip", b"one"),
        (b"BZh", CORRUPT),
        (b"BZh5 is no stream", CORRUPT),
        (bytes(9000), b"one"),
        (bz2.compress(b"two")[:-1], CORRUPT),
    ],
)
def test_several_streams_of_bzip2(kind: Callable[[bytes], BinaryIO], behind: bytes, content: bytes | str) -> None:
    inside = unpacked(kind(bz2.compress(b"one") + behind), "bzip2")
    if isinstance(content, bytes):
        assert (inside.read(), inside.read()) == (content, b"")
        return
    assert all_of(cast(BinaryIO, inside)) == content


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_a_damaged_stream_behind_another_is_no_stale_content(pack: Callable[[bytes], bytes]) -> None:
    """pbzip2 writes many. What one of them holds is not left out without a word, whichever bit is wrong."""
    first, second = pack(b"one"), pack(CONTENT[:9])
    for content, packed in ((CONTENT[:9], second), (b"", pack(b""))):
        for bit in range(min(len(packed), 20) * 8):
            damaged = bytearray(packed)
            damaged[bit // 8] ^= 1 << bit % 8
            read = content_of(first + damaged, "bzip2" if pack is bz2.compress else "xz")
            assert read in (CORRUPT, b"one" + content)  # a bzip2 stream may name more memory than it needs


def content_of(packed: bytes, packing: Packing) -> bytes | str:
    try:
        return unpacked(io.BytesIO(packed), packing).read()
    except OSError as error:
        return str(error.strerror)


def test_bzip2_is_read_in_pieces() -> None:
    stream = io.BytesIO(bz2.compress(bytes(64 * MIB)))
    with peak(16 * MIB):
        assert len(unpacked(stream, "bzip2").read(100)) == 100


class Counted(io.BytesIO):
    """A compressed file of which it is counted how much is read."""

    given = reads = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.given += len(data)
        self.reads += 1
        return data


PACK: dict[Packing, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
EMPTY = {packing: pack(b"") for packing, pack in PACK.items()}


@pytest.mark.parametrize("packing", get_args(Packing))
@pytest.mark.parametrize("number", [1, 4_000, 400_000])
def test_empty_members_in_a_row_come_to_an_end(packing: Packing, number: int) -> None:
    """They are gone through within one read, where no signal is heard."""
    packed = Counted(EMPTY[packing] * number + PACK[packing](b"content"))
    inside = cast(BinaryIO, unpacked(packed, packing))
    if number * len(EMPTY[packing]) < MOST_EMPTY[packing]:
        assert inside.read(7) == b"content"
        return
    assert all_of(inside) == CORRUPT
    assert packed.given < MOST_EMPTY[packing] + BLOCK


@pytest.mark.parametrize("packing", get_args(Packing))
def test_some_content_among_empty_members(packing: Packing) -> None:
    """So much may be empty for each byte of content: a quarter."""
    content = random.Random(5).randbytes(100_000)
    empty = EMPTY[packing]
    for share, said in ((8, "whole"), (2, CORRUPT)):
        one = PACK[packing](content) + empty * (len(content) // share // len(empty))
        assert all_of(cast(BinaryIO, unpacked(io.BytesIO(one * 100), packing))) == said


@pytest.mark.parametrize("packing", get_args(Packing))
def test_content_is_found_again_behind_empty_members(packing: Packing) -> None:
    """Going back begins anew, and what was read before does not count."""
    inside = unpacked(
        io.BytesIO(EMPTY[packing] * (MOST_EMPTY[packing] // 2 // len(EMPTY[packing])) + PACK[packing](CONTENT)), packing
    )
    for _ in range(4):
        assert inside.seek(len(CONTENT) - 7) == len(CONTENT) - 7
        assert inside.read() == b"the end"
        inside.seek(0)
        assert inside.read(100) == CONTENT[:100]


@pytest.mark.parametrize("packing", get_args(Packing))
def test_content_that_cannot_be_packed_takes_no_more_than_it_may(packing: Packing) -> None:
    """bzip2 reads a whole block of it before it gives the first byte."""
    noise = random.Random(3).randbytes(2 * MIB)
    inside = unpacked(io.BytesIO(PACK[packing](noise)), packing)
    assert inside.read(1) == noise[:1]
    assert all_of(cast(BinaryIO, inside)) == "whole"


def test_zeros_behind_are_no_empty_members() -> None:
    """Tapes and files that were allocated beforehand have them."""
    inside = unpacked(io.BytesIO(gzip.compress(CONTENT) + bytes(3 * MIB)), "gzip")
    assert all_of(cast(BinaryIO, inside)) == "whole"


@pytest.mark.parametrize(("length", "is_read"), [(0, True), (30_000, True), (1 << 18, False)])
def test_a_gzip_header_is_not_read_byte_by_byte(length: int, is_read: bool) -> None:
    """The names in one may have any length, and each file in a zip costs them anew."""
    names = struct.pack("<H", 60_000) + b"e" * 60_000 + b"n" * length + b"\0" + b"c" * length + b"\0"
    packed = Counted(b"\x1f\x8b\x08\x1c" + bytes(6) + names + gzip.compress(CONTENT)[10:])
    inside = unpacked(packed, "gzip")
    assert all_of(cast(BinaryIO, inside)) == ("whole" if is_read else CORRUPT)
    assert packed.reads < 100
    assert packed.given < len(names) + 2 * len(CONTENT)
