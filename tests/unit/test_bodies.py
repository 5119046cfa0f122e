"""Request bodies: exact length, the right bytes, opened again at will."""

from __future__ import annotations

import io
import os
import random
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.dicom_trees import Memory
from tests.standin import zipstream
from xnat_ingest.core.errors import SourceChanged
from xnat_ingest.core.model import Instance
from xnat_ingest.inputs import open_source
from xnat_ingest.transports import bodies, tar_members
from xnat_ingest.transports.bodies import ZIP_MEMBERS, FileBody, Part, TarBody, ZipBody

Body = TarBody | ZipBody | FileBody
Kind = type[TarBody] | type[ZipBody] | type[FileBody]
EDGES = (1, 2, 511, 512, 513, 1023, 1024, 1025, 10_239, 10_240, 262_143, 262_144, 262_145, 600_000)


@pytest.fixture(autouse=True)
def any_bytes_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of these tests are no DICOM. test_same_object has those that are."""
    monkeypatch.setattr(bodies, "is_another", lambda *_: False)


def instance(number: int, size: int, *, series: str = "1", mtime_ns: int = 0) -> Instance:
    """An instance as the plan saw it; number: gives it its UID."""
    uid = f"1.2.3.{series}.{number}"
    uids = ("1.2.840.10008.5.1.4.1.1.4", uid, "1.2.3", f"1.2.3.{series}")
    return Instance(f"f{number}", size, mtime_ns, *uids, series, str(number), "MR", "", "1.2.840.10008.1.2.1", 0, {})


def whole(body: Body) -> bytes:
    return b"".join(body.open(lambda number: None))


def unpacked(data: bytes) -> dict[str, bytes]:
    """Name -> bytes, as any reader of tar archives sees them."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        assert all(member.isreg() for member in members)
        found = {member.name: archive.extractfile(member) for member in members}
        assert len(found) == len(members)
        return {name: stream.read() for name, stream in found.items() if stream}


def zipped(contents: list[bytes]) -> tuple[ZipBody, dict[str, bytes]]:
    """The same as a zip."""
    body, expected = packed(contents)
    return ZipBody(body._source, body.part), expected


def unzipped(data: bytes) -> dict[str, bytes]:
    """Name -> bytes, by the directory at the end."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert len(set(archive.namelist())) == len(archive.namelist())
        return {name: archive.read(name) for name in archive.namelist()}


def streamed(data: bytes) -> dict[str, bytes]:
    """Name -> bytes, front to back with local headers alone, as Java reads a zip."""
    return {name: b"".join(iter(member.read, b"")) for name, member in zipstream.entries(io.BytesIO(data))}


def packed(contents: list[bytes]) -> tuple[TarBody, dict[str, bytes]]:
    """A body of files in memory, and what its archive must hold."""
    members = tuple(instance(n, len(data)) for n, data in enumerate(contents))
    source = Memory({member.path: data for member, data in zip(members, contents, strict=True)})
    return TarBody(source, Part(members)), {m.name: data for m, data in zip(members, contents, strict=True)}


@pytest.mark.parametrize("size", EDGES)
def test_the_length_is_known_beforehand_and_exact(size: int) -> None:
    """For every size around a block's edge, since Content-Length is sent first."""
    body, expected = packed([random.Random(size).randbytes(size)])
    data = whole(body)
    assert len(data) == body.length
    assert unpacked(data) == expected
    assert data.endswith(bytes(1024))


@pytest.mark.parametrize("seed", range(5))
def test_random_parts_read_back_as_their_sources(seed: int) -> None:
    """Names are those XNAT will store by, bytes those of the files, and a second opening gives the same body."""
    draw = random.Random(seed)
    sizes = [draw.choice((draw.randrange(1, 5000), *EDGES[:10])) for _ in range(draw.randrange(1, 60))]
    body, expected = packed([draw.randbytes(size) for size in sizes])
    first = whole(body)
    assert (len(first), unpacked(first)) == (body.length, expected)
    assert whole(body) == first


def test_an_opened_body_can_be_given_up_and_opened_anew() -> None:
    """A retry starts from the first byte, whatever the attempt before had read."""
    body, expected = packed([bytes(1_700_000), b"x"])
    broken = body.open(lambda number: None)
    for _ in range(3):
        next(broken)
    assert unpacked(whole(body)) == expected
    assert len(list(broken)) > 1


def test_names_beyond_a_tar_headers_hundred_bytes() -> None:
    """Long UIDs and numbers, and text that is no ASCII, arrive whole."""
    long = replace(instance(1, 3), study_uid="1." + "2" * 62, instance_number="9" * 60)
    accented = replace(instance(2, 3), series_number="é")
    assert len(long.name) > 100
    source = Memory({"f1": b"abc", "f2": b"def"})
    body = TarBody(source, Part((long, accented)))
    data = whole(body)
    assert len(data) == body.length
    assert unpacked(data) == {long.name: b"abc", accented.name: b"def"}


def test_memory_stays_small_and_progress_is_told() -> None:
    """The payload comes in blocks; what is told adds up to the files' bytes."""
    body, _ = packed([bytes(3_000_000), bytes(100)])
    told: list[int] = []
    assert max(len(block) for block in body.open(told.append)) <= 256 * 1024
    assert sum(told) == 3_000_100 == body.part.bytes


def test_whoever_is_told_may_end_the_body() -> None:
    """A stop asked for in the middle of a part ends it."""

    def stop(_: int) -> None:
        raise InterruptedError

    body, _ = packed([bytes(100)])
    with pytest.raises(InterruptedError):
        list(body.open(stop))


@pytest.mark.parametrize("seed", range(5))
def test_zips_read_back_by_both_kinds_of_readers(seed: int) -> None:
    """Those that begin with the directory at the end, and Java's, which never gets there; opened twice."""
    draw = random.Random(seed)
    sizes = [draw.choice((draw.randrange(1, 5000), *EDGES)) for _ in range(draw.randrange(1, 30))]
    body, expected = zipped([draw.choice((draw.randbytes, bytes))(size) for size in sizes])
    first = whole(body)
    assert unzipped(first) == streamed(first) == expected
    assert whole(body) == first


def test_what_java_would_refuse_is_not_in_a_zip() -> None:
    """Every member is deflated, with sizes of 32 bits behind it, and none of it says zip64."""
    body, _ = zipped([b"a", b"b" * 1000])
    data = whole(body)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            assert (info.compress_type, info.flag_bits & 8) == (zipfile.ZIP_DEFLATED, 8)
            assert info.extract_version == 20
            assert info.extra == b""
            descriptor = info.header_offset + 30 + len(info.filename) + info.compress_size
            assert data[descriptor : descriptor + 4] == b"PK\7\x08"
            assert data[descriptor + 16 : descriptor + 18] == b"PK"


def test_zip_names_are_utf8() -> None:
    """With the flag that says so, for readers that would guess."""
    accented = replace(instance(1, 3), series_number="é")
    body = ZipBody(Memory({"f1": b"abc"}), Part((accented,)))
    data = whole(body)
    assert unzipped(data) == streamed(data) == {accented.name: b"abc"}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.infolist()[0].flag_bits & 0x800


def test_a_zip_tells_the_files_bytes_and_holds_few() -> None:
    """Progress is in what is taken from files; what waits to be sent does not grow with them."""
    body, _ = zipped([random.Random(1).randbytes(3_000_000), bytes(3_000_000)])
    told: list[int] = []
    blocks = list(body.open(told.append))
    assert max(map(len, blocks)) < 512 * 1024
    assert sum(map(len, blocks)) < 3_100_000
    assert sum(told) == 6_000_000


@pytest.mark.wide
def test_a_servers_patience_with_a_zips_directory() -> None:
    """Java stops reading before it, and Tomcat breaks off what brings more than 2 MB after that."""
    longest = [
        replace(instance(n, 1), study_uid="1." + "2" * 62, series_number="9" * 12, instance_number="8" * 12)
        for n in range(ZIP_MEMBERS)
    ]
    data = whole(ZipBody(Memory({member.path: b"x" for member in longest}), Part(tuple(longest))))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.namelist()) == ZIP_MEMBERS
        assert len(data) - archive.start_dir < 2 * 1024**2


def test_an_empty_zip_is_one() -> None:
    data = whole(ZipBody(Memory({}), Part(())))
    assert unzipped(data) == streamed(data) == {}


def test_a_given_up_zip_leaves_nothing_open() -> None:
    """A request that breaks closes the body; the file in it, too, and the next opening is whole."""
    body, expected = zipped([random.Random(1).randbytes(700_000), b"x"])
    blocks = body.open(lambda number: None)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert unzipped(whole(body)) == expected


def test_a_single_file_travels_as_it_is() -> None:
    """Nothing around it, and its length is known."""
    data = random.Random(1).randbytes(600_000)
    body, _ = packed([data])
    single = FileBody(body._source, body.part)
    told: list[int] = []
    assert b"".join(single.open(told.append)) == whole(single) == data
    assert single.length == sum(told) == 600_000


KINDS: tuple[Kind, ...] = (TarBody, ZipBody, FileBody)


def on_disk(folder: Path, kind: Kind = TarBody) -> tuple[Body, Path]:
    """A body of two files, the first of which some test is about to spoil."""
    members = []
    for number, size in enumerate((600_000, 5)):
        path = folder / f"f{number}"
        path.write_bytes(random.Random(number).randbytes(size))
        members.append(instance(number, size, mtime_ns=path.stat().st_mtime_ns))
    (folder / "new").write_bytes(b"z" * 600_000)
    return kind(open_source(str(folder)), Part(tuple(members))), folder / "f0"


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


SPOIL: dict[str, Callable[[Path], object]] = {
    "removed": lambda path: path.unlink(),
    "shortened": lambda path: os.truncate(path, 10),
    "emptied": lambda path: os.truncate(path, 0),
    "grown": lambda path: os.truncate(path, 600_001),
    "rewritten": touch,
    "replaced": lambda path: path.with_name("new").rename(path),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SPOIL)
def test_a_file_changed_before_its_turn_ends_the_body_clean(name: str, kind: Kind, tmp_path: Path) -> None:
    """Not one byte of it was sent: nothing on the server is broken by it."""
    body, victim = on_disk(tmp_path, kind)
    SPOIL[name](victim)
    with pytest.raises(SourceChanged) as caught:
        list(body.open(lambda number: None))
    assert (caught.value.path, caught.value.dirty) == ("f0", False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SPOIL)
def test_a_file_changed_while_it_is_sent_ends_the_body_dirty(name: str, kind: Kind, tmp_path: Path) -> None:
    """Some of its bytes went out, so the server may hold a broken copy; no more than its size ever goes out."""
    body, victim = on_disk(tmp_path, kind)
    told: list[int] = []
    blocks = body.open(told.append)
    while not told:
        next(blocks)
    SPOIL[name](victim)
    with pytest.raises(SourceChanged) as caught:
        list(blocks)
    assert (caught.value.path, caught.value.dirty) == ("f0", True)
    assert sum(told) <= 600_000


def test_a_later_file_that_changed_names_itself(tmp_path: Path) -> None:
    """The first file is whole; only the second fails, and clean."""
    body, _ = on_disk(tmp_path)
    blocks = body.open(lambda number: None)
    next(blocks)
    (tmp_path / "f1").unlink()
    with pytest.raises(SourceChanged) as caught:
        list(blocks)
    assert (caught.value.path, caught.value.dirty) == ("f1", False)
    assert "f1" in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 511, 8**11 - 1, 8**11])
@pytest.mark.parametrize("name", ["1", "x" * 99, "x" * 100, "x" * 101, "folder/\xe9", "\udcff"])
def test_a_member_has_the_header_that_tarfile_writes(name: str, length: int) -> None:
    """Names and sizes at the edges of what a plain header holds. The size in the tar is known beforehand."""
    info = tarfile.TarInfo(name)
    info.size = length
    expected = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "backslashreplace")
    assert tar_members.header(name, length) == expected
    assert tar_members.member_size(name, length) == len(expected) + length + -length % 512


def test_small_members_go_out_together(tmp_path: Path) -> None:
    """A call to the network for each of them was most of the work."""
    body, expected = packed([bytes([number]) * 1000 for number in range(100)])
    blocks = list(body.open(lambda number: None))
    assert unpacked(b"".join(blocks)) == expected
    assert len(blocks) == 1
