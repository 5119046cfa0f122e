"""Request bodies: exact length, the right bytes, opened again at will, and parts that lose and double nothing."""

from __future__ import annotations

import io
import os
import random
import tarfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.trees import Memory
from xnat_ingest.errors import SourceChanged
from xnat_ingest.model import Instance
from xnat_ingest.pack import SMALLEST_PART, Part, TarBody, cut_into_parts
from xnat_ingest.sources import open_source

EDGES = (1, 2, 511, 512, 513, 1023, 1024, 1025, 10_239, 10_240, 262_143, 262_144, 262_145, 600_000)


def instance(number: int, size: int, *, series: str = "1", mtime_ns: int = 0) -> Instance:
    """An instance as the plan saw it; number: gives it its UID."""
    uid = f"1.2.3.{series}.{number}"
    uids = ("1.2.840.10008.5.1.4.1.1.4", uid, "1.2.3", f"1.2.3.{series}")
    return Instance(f"f{number}", size, mtime_ns, *uids, series, str(number), "MR", "", "1.2.840.10008.1.2.1", 0, {})


def whole(body: TarBody) -> bytes:
    return b"".join(body.open(lambda number: None))


def unpacked(data: bytes) -> dict[str, bytes]:
    """Name -> bytes, as any reader of tar archives sees them."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        assert all(member.isreg() for member in members)
        found = {member.name: archive.extractfile(member) for member in members}
        assert len(found) == len(members)
        return {name: stream.read() for name, stream in found.items() if stream}


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
    body, expected = packed([bytes(700_000), b"x"])
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


def on_disk(folder: Path) -> tuple[TarBody, Path]:
    """A body of two files, the first of which some test is about to spoil."""
    members = []
    for number, size in enumerate((600_000, 5)):
        path = folder / f"f{number}"
        path.write_bytes(b"x" * size)
        members.append(instance(number, size, mtime_ns=path.stat().st_mtime_ns))
    (folder / "new").write_bytes(b"z" * 600_000)
    return TarBody(open_source(str(folder)), Part(tuple(members))), folder / "f0"


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


@pytest.mark.parametrize("name", SPOIL)
def test_a_file_changed_before_its_turn_ends_the_body_clean(name: str, tmp_path: Path) -> None:
    """Not one byte of it was sent: nothing on the server is broken by it."""
    body, victim = on_disk(tmp_path)
    SPOIL[name](victim)
    with pytest.raises(SourceChanged) as caught:
        list(body.open(lambda number: None))
    assert (caught.value.path, caught.value.dirty) == ("f0", False)


@pytest.mark.parametrize("name", SPOIL)
def test_a_file_changed_while_it_is_sent_ends_the_body_dirty(name: str, tmp_path: Path) -> None:
    """Some of its bytes went out, so the server may hold a broken copy; no more than its size ever goes out."""
    body, victim = on_disk(tmp_path)
    told: list[int] = []
    blocks = body.open(told.append)
    next(blocks), next(blocks)
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


def check_parts(members: list[Instance], part_size: int, workers: int) -> list[Part]:
    """What holds for every cut: nothing lost or doubled, sizes in bounds, the smallest first, series together."""
    parts = cut_into_parts(members, part_size, workers)
    sent = [member.sop_uid for part in parts for member in part.instances]
    assert sorted(sent) == sorted(member.sop_uid for member in members)
    assert all(part.instances for part in parts)
    assert [part.bytes for part in parts] == sorted(part.bytes for part in parts)
    largest = max((member.size for member in members), default=0)
    assert all(part.bytes <= part_size + largest for part in parts)
    homes: dict[str, set[int]] = defaultdict(set)
    weights: dict[str, int] = defaultdict(int)
    for number, part in enumerate(parts):
        for member in part.instances:
            homes[member.series_uid].add(number)
            weights[member.series_uid] += member.size
    floor = min(part_size, SMALLEST_PART)
    assert all(len(homes[series]) == 1 for series, weight in weights.items() if weight <= floor)
    return parts


@pytest.mark.parametrize("seed", range(30))
def test_parts_of_random_sessions(seed: int) -> None:
    """Many series or few, large instances or small, in any order."""
    draw = random.Random(seed)
    scale = draw.choice((1, 1000, 1024**2))
    members = [
        instance(n, draw.randrange(1, 100) * scale, series=str(draw.randrange(draw.choice((1, 3, 40)))))
        for n in range(draw.choice((1, 2, 50, 400)))
    ]
    draw.shuffle(members)
    check_parts(
        members, draw.choice((1, 50, 1000, 10**6, 128 * 1024**2)) * draw.choice((1, scale)), draw.choice((1, 4, 16))
    )


def test_nothing_makes_no_part() -> None:
    """An empty session needs no request."""
    assert cut_into_parts([], 128 * 1024**2, 4) == []


def test_a_small_session_is_one_part() -> None:
    """One more request costs more than it gains."""
    members = [instance(n, 10_000, series=str(n % 7)) for n in range(100)]
    assert len(check_parts(members, 128 * 1024**2, 4)) == 1


def test_a_large_series_is_cut_in_about_equal_pieces() -> None:
    """All workers get something to do, and no part is a leftover."""
    members = [instance(n, 1024**2) for n in range(400)]
    parts = check_parts(members, 128 * 1024**2, 4)
    assert len(parts) == 4
    assert parts[-1].bytes - parts[0].bytes <= 4 * 1024**2


def test_part_sizes_bound_the_request() -> None:
    """--part-size is bytes per request, which a proxy may limit: the archive's own blocks count, too."""
    members = [instance(n, 700) for n in range(2000)]
    source = Memory({member.path: bytes(700) for member in members})
    limit = 100_000
    for part in cut_into_parts(members, limit, 4):
        assert TarBody(source, part).length <= limit * 1.1
