"""Archives that say two things: whatever bit of their bookkeeping is wrong, no member is lost without a word."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.dicom_trees import IDENTITY, part10
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.model import SetAside, SourceFile
from xnat_ingest.inputs import open_source
from xnat_ingest.inputs.archive_members import UniqueNames
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.zip_archive import SmallMember
from xnat_ingest.inputs.zip_directory import ZipMember

CONTENTS = {
    **{f"s{n}": part10({**IDENTITY, 0x00080018: ("UI", b"1.2.3.4.5.%d\0" % n)}) for n in range(5)},
    "notes.txt": b"no DICOM, but somebody's",
}


def zipped(packing: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", packing) as archive:
        for name, data in CONTENTS.items():
            archive.writestr(name, data)
    return made.getvalue()


def streamed_zip() -> bytes:
    """As a program writes that cannot go back: checksums and sizes behind the data."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    with zipfile.ZipFile(made := Pipe(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in CONTENTS.items():
            archive.writestr(name, data)
    return made.getvalue()


# A tar's headers are all alike: a first, a middle and a last one show what a flipped bit does.
FEW = {name: CONTENTS[name] for name in ("s0", "s1", "notes.txt")}


def tarred(kind: int = tarfile.GNU_FORMAT, contents: Mapping[str, bytes] = CONTENTS) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=kind) as archive:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()[: archive.offset + 1024]


def zip_bookkeeping(data: bytes) -> Iterator[range]:
    """Where the directory, the end record, the members' headers and the records behind members lie."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries, start = archive.infolist(), archive.start_dir
    yield range(start, len(data))
    ends = [entry.header_offset for entry in entries[1:]] + [start]
    for entry, end in zip(entries, ends, strict=True):
        begin = entry.header_offset + 30 + len(entry.filename)
        yield range(entry.header_offset, begin)
        yield range(begin + entry.compress_size, end)


def tar_bookkeeping(data: bytes) -> Iterator[range]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            yield range(info.offset, info.offset + 512)
        yield range(archive.offset, len(data))


def everything(data: bytes) -> Iterator[range]:
    yield range(len(data))


ARCHIVES: dict[str, tuple[bytes, Callable[[bytes], Iterator[range]]]] = {
    "stored.zip": (zipped(zipfile.ZIP_STORED), zip_bookkeeping),
    "deflated.zip": (zipped(zipfile.ZIP_DEFLATED), zip_bookkeeping),
    "streamed.zip": (streamed_zip(), zip_bookkeeping),
    "x.tar": (tarred(contents=FEW), tar_bookkeeping),
    "x.tar.gz": (gzip.compress(tarred(contents=FEW)), everything),
}


def outcome(archive: Path) -> dict[str, bytes] | str:
    """What a run has of an archive: each member's bytes; or what is wrong, when something is told."""
    try:
        source = open_source(str(archive))
        listed = list(source.files())
        if told := [f"{one.reason}: {one.detail}" for one in listed if isinstance(one, SetAside)]:
            return told[0]
        found = {}
        for one in listed:
            with source.open(one.path) as stream:
                found[one.path] = stream.read()
    except (UsageError, OSError) as error:
        return str(error)
    return found


@pytest.mark.wide
@pytest.mark.parametrize("name", ARCHIVES)
def test_no_flipped_bit_loses_a_member(tmp_path: Path, name: str) -> None:
    """Every bit of the directory, the end record, the headers and what stands behind members: the same members with
    the same bytes, or a sentence."""
    data, bookkeeping = ARCHIVES[name]
    archive = tmp_path / "x"
    archive.write_bytes(data)
    contents = outcome(archive)
    assert contents == (FEW if "tar" in name else CONTENTS)
    lost = []
    with archive.open("r+b", buffering=0) as raw:
        for at in (at for places in bookkeeping(data) for at in places):
            for bit in range(8):
                raw.seek(at)
                raw.write(bytes([data[at] ^ (1 << bit)]))
                now = outcome(archive)
                if now != contents and not isinstance(now, str):
                    lost.append((at, bit, now))
            raw.seek(at)
            raw.write(data[at : at + 1])
    assert lost == []


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_small_member_is_read_as_zipfile_reads_it(tmp_path: Path, packing: int) -> None:
    """In pieces, from any place."""
    data = bytes(range(256)) * 40
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("IM1", data)
    source = open_source(str(path), None, lambda: None)
    list(source.files())
    with zipfile.ZipFile(path).open("IM1") as theirs, source.open("IM1") as ours:
        assert isinstance(ours, SmallMember)
        for at, whence in ((0, 0), (132, 0), (5, 1), (-9, 2), (9000, 0), (10**6, 0), (4, 0)):
            assert ours.seek(at, whence) == theirs.seek(at, whence) == ours.tell()
            for size in (0, 1, 4096, -1):
                assert ours.read(size) == theirs.read(size)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_small_member_is_held_to_its_checksum(tmp_path: Path, packing: int) -> None:
    data = random.Random(1).randbytes(5000)
    engine = zlib.compressobj(wbits=-15)
    sound = data if packing == zipfile.ZIP_STORED else engine.compress(data) + engine.flush()
    member = ZipMember("IM1", 0, len(sound), len(data), zlib.crc32(data), packing, 0, "")
    assert SmallMember(member, sound).read() == data
    for wrong in (sound[:-100], b"", sound[:-100] + bytes(byte ^ 1 for byte in sound[-100:])):
        with pytest.raises(OSError, match="corrupt"):
            SmallMember(member, wrong).read(5000)
    other = replace(member, crc=1)
    with pytest.raises(OSError, match="corrupt"):
        SmallMember(other, sound).read(5000)
    assert SmallMember(other, sound).read(4999) == data[:-1]  # the end was not reached


@pytest.mark.parametrize(("size", "small"), [(SmallMember.MOST, True), (SmallMember.MOST + 1, False)])
def test_large_members_are_not_held_in_memory(size: int, small: bool) -> None:
    for packed in (1, size):
        assert SmallMember.takes(ZipMember("", 0, packed, size, 0, zipfile.ZIP_DEFLATED, 0, "")) is small
    assert SmallMember.takes(ZipMember("", 0, size, 1, 0, zipfile.ZIP_STORED, 0, "")) is small
    assert not SmallMember.takes(ZipMember("", 0, 1, 1, 0, zipfile.ZIP_BZIP2, 0, ""))


def problems(archive: Path) -> dict[str, str]:
    found = scan(open_source(str(archive)), lambda _: None)
    return {one.path: f"{one.reason}: {one.detail}" for one in found if isinstance(one, SetAside) and one.is_problem}


def test_a_directory_that_lists_fewer_members_than_there_are(tmp_path: Path) -> None:
    """The comment of the first entry reaches over all others: readers that believe the directory see one member."""
    data = bytearray(zipped(zipfile.ZIP_STORED))
    data[data.index(b"PK\1\2") + 33] ^= 0x80
    (tmp_path / "x.zip").write_bytes(data)
    told = problems(tmp_path / "x.zip")["x.zip"]
    assert told.startswith("truncated: ")
    assert "among them a member named s1" in told


@pytest.mark.parametrize("removed", [0, 3, 5])
def test_a_member_that_the_directory_does_not_know(tmp_path: Path, removed: int) -> None:
    """The end record agrees with the directory, and still the member lies there."""
    data = zipped(zipfile.ZIP_DEFLATED)
    start = data.index(b"PK\1\2")
    entries = [b"PK\1\2" + one for one in data[start : data.index(b"PK\5\6")].split(b"PK\1\2")[1:]]
    del entries[removed]
    directory = b"".join(entries)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 5, 5, len(directory), start, 0)
    (tmp_path / "x.zip").write_bytes(data[:start] + directory + end)
    assert list(problems(tmp_path / "x.zip")) == ["x.zip"]


@pytest.mark.parametrize(("count", "told"), [(6, False), (6 + 65536, False), (5, True), (7, True), (0, True)], ids=str)
def test_the_count_of_members(tmp_path: Path, count: int, told: bool) -> None:
    """Old writers let it wrap at 65536, which 16 bits cannot show."""
    data = bytearray(zipped(zipfile.ZIP_STORED))
    struct.pack_into("<2H", data, data.index(b"PK\5\6") + 8, count % 65536, count % 65536)
    (tmp_path / "x.zip").write_bytes(data)
    assert bool(problems(tmp_path / "x.zip")) == told


def test_two_entries_for_one_member(tmp_path: Path) -> None:
    """Their bytes overlap: one of them is not what lies there."""
    data = zipped(zipfile.ZIP_STORED)
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    first = data[start : data.index(b"PK\1\2", start + 1)]
    record = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 7, 7, end - start + len(first), start, 0)
    (tmp_path / "x.zip").write_bytes(data[:end] + first + record)
    assert problems(tmp_path / "x.zip") == {
        "s0#2": "unreadable: it shares bytes with another member; fetch the zip again"
    }


@pytest.mark.parametrize("name", ["folder/", "folder\\"])
def test_a_member_that_is_named_like_a_folder(tmp_path: Path, name: str) -> None:
    """It holds bytes, so it counts; a folder holds none, and does not."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, CONTENTS["s0"])
        archive.writestr("real/", b"")
    ((path, told),) = problems(tmp_path / "x.zip").items()
    assert path == "folder"
    assert "named like a folder" in told


def test_an_empty_member_with_a_checksum(tmp_path: Path) -> None:
    """Both records agree that it is empty; the checksum is of something."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", b"")
    data = bytearray((tmp_path / "x.zip").read_bytes())
    data[14] = data[data.index(b"PK\1\2") + 16] = 1
    (tmp_path / "x.zip").write_bytes(data)
    assert "its size is 0" in problems(tmp_path / "x.zip")["a"]


def test_a_zip_of_64_bit_sizes(tmp_path: Path) -> None:
    """They stand elsewhere, in both headers and at the end."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in CONTENTS.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    assert problems(tmp_path / "x.zip") == {}


def tar_member(name: str, data: bytes, kind: bytes = tarfile.REGTYPE, pax: str = "") -> bytes:
    """A member, after an extended header with the one record given, written as asked."""
    head = b""
    if pax:
        record = f"{len(pax) + 4} {pax}\n".encode()
        extended = tarfile.TarInfo("extended")
        extended.type, extended.size = tarfile.XHDTYPE, len(record)
        head = extended.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    return head + info.tobuf(tarfile.USTAR_FORMAT) + data.ljust(-(-len(data) // 512) * 512, b"\0")


SMALL = CONTENTS["s0"]
LIES = {
    "a folder with data": tar_member("x", SMALL, tarfile.DIRTYPE),
    "a folder with zeros": tar_member("x", bytes(512), tarfile.DIRTYPE),
    "a hard link with data": tar_member("x", SMALL, tarfile.LNKTYPE),
    "a symbolic link with data": tar_member("x", SMALL, tarfile.SYMTYPE),
    "a file named like a folder": tar_member("x/", SMALL),
    "an old file named like a folder": tar_member("x/", SMALL, tarfile.AREGTYPE),
    "a smaller size in the extended header": tar_member("x", SMALL, pax="size=100"),
    "a larger size in the extended header": tar_member("x", SMALL, pax="size=500"),
    "a sparse file's size without its map": tar_member("x", SMALL, pax="GNU.sparse.realsize=500"),
    "an old sparse file without its map": tar_member("x", SMALL, tarfile.GNUTYPE_SPARSE),
    "no end mark": b"",
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("wrap", [bytes, gzip.compress], ids=["tar", "tgz"])
def test_a_tar_that_says_two_things(tmp_path: Path, lie: str, wrap: Callable[[bytes], bytes]) -> None:
    """What its headers claim and what lies there differ: told, and what came before it is there."""
    end = bytes(1024) if LIES[lie] else b""
    (tmp_path / "x.tar").write_bytes(wrap(tar_member("first", SMALL) + LIES[lie] + tar_member("s1", SMALL) + end))
    found = list(open_source(str(tmp_path / "x.tar")).files())
    assert "first" in [one.path for one in found if isinstance(one, SourceFile)]
    assert any(isinstance(one, SetAside) and one.is_problem for one in found)


@pytest.mark.parametrize("size", [len(SMALL), 8**11])
def test_an_extended_header_may_tell_the_size(tmp_path: Path, size: int) -> None:
    """The same size, or one that the member's own header has no digits for."""
    (tmp_path / "x.tar").write_bytes(tar_member("x", SMALL, pax=f"size={size}") + bytes(1024))
    found = list(open_source(str(tmp_path / "x.tar")).files())
    assert not [one for one in found if isinstance(one, SetAside) and "two sizes" in one.detail]


def test_many_equal_names_take_linear_time() -> None:
    """Each gets a number of its own, also where such a name is taken already."""
    names = UniqueNames()
    made = [names.of(name) for name in ("a", "a#2", "a", "a", "a#2")]
    assert made == ["a", "a#2", "a#3", "a#4", "a#2#2"]
    steps = 0

    class Counting(dict[str, int]):
        def __contains__(self, key: object) -> bool:
            nonlocal steps
            steps += 1
            return super().__contains__(key)

    names._last = Counting()
    for _ in range(5000):
        names.of("a")
    assert steps < 4 * 5000
