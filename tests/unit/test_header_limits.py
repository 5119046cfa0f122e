"""Small files that ask for much: what nobody wants is passed over, not built, and a stop is heard meanwhile."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import dicom_trees as trees
from tests.dicom_trees import IDENTITY, PIXELS, deflated, encode, implicit, part10, sequence
from tests.unit.test_input_forms import PACK, put
from xnat_ingest.core.errors import Stopped
from xnat_ingest.core.model import Instance, SetAside
from xnat_ingest.inputs import open_source
from xnat_ingest.inputs.dicom_dataset import NotWalkable
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.undefined_length import DEEPEST, TooDeep, pass_over

EMPTY = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
BEFORE = {tag: value for tag, value in IDENTITY.items() if tag < 0x00200000}
BEHIND = {tag: value for tag, value in IDENTITY.items() if tag >= 0x00200000}


def flood(items: bytes, tag: int = 0x00081140) -> bytes:
    """A file with a sequence of undefined length, made of these bytes, before the UIDs of study and series."""
    head = struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"SQ", 0, 0xFFFFFFFF)
    return part10(BEFORE) + head + items + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) + encode(BEHIND)


def judged(data: bytes, *keywords: str) -> Instance | SetAside:
    (found,) = scan(trees.Memory({"f": data}), lambda _: None, keywords)
    return found


@pytest.mark.wide
@pytest.mark.parametrize("tag", [0x00081140, 0x00091001])
def test_millions_of_items_are_not_built(tag: int) -> None:
    """What lies behind them is read all the same. A private sequence likewise."""
    data = flood(EMPTY * 100_000, tag)
    tracemalloc.start()
    try:
        found = judged(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found, Instance)
    assert found.series_uid == "1.2.3.4.5"
    assert peak < 2 << 20


@pytest.mark.parametrize("vr", [b"", b"UN", b"UT"])
def test_a_character_set_of_many_bytes_is_passed_over(vr: bytes) -> None:
    """The library looks up each of its letters. An honest one has some hundred bytes."""
    size = 4 << 20
    long = struct.pack("<HH2sHL", 0x0008, 0x0005, vr, 0, size) if vr else struct.pack("<HHL", 0x0008, 0x0005, size)
    data = part10({}) if vr else part10({}, "1.2.840.10008.1.2")
    data += long + b"7" * size + (encode(IDENTITY) if vr else implicit(IDENTITY))
    tracemalloc.start()
    try:
        found = judged(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found, Instance), found
    assert found.series_uid == "1.2.3.4.5"
    assert peak < 2 << 20


@pytest.mark.parametrize(("size", "is_read"), [(4096, True), (4098, False)])
def test_only_a_few_character_sets_are_looked_up(size: int, is_read: bool) -> None:
    """Each takes the library time, and a packed file has millions of them in a few bytes."""
    values = {**IDENTITY, 0x0008103E: ("LO", "Schädel ".encode())}
    found = judged(part10({}) + encode({0x00080005: ("CS", b"ISO_IR 192".ljust(size)), **values}))
    assert isinstance(found, Instance)
    assert (found.series_description == "Schädel") == is_read


@pytest.mark.parametrize(("size", "is_read"), [((16 << 20) - 200, True), (16 << 20, False), (24 << 20, False)])
def test_meta_information_has_a_limit(size: int, is_read: bool) -> None:
    """The library holds it in memory."""
    begin, private = part10({}), struct.pack("<HH2sHL", 0x0002, 0x0102, b"OB", 0, size)
    found = judged(begin + private + bytes(size) + encode(IDENTITY))
    if is_read:
        assert isinstance(found, Instance), found
    else:
        assert isinstance(found, SetAside)
        assert (found.reason, "meta information takes more than 16 MiB" in found.detail) == ("unreadable", True)


@pytest.mark.parametrize("write", [encode, implicit])
@pytest.mark.parametrize("inner", [b"", sequence(), sequence(sequence(b""))])
def test_sequences_are_passed_over_in_every_encoding(write: Callable[..., bytes], inner: bytes) -> None:
    """Nested, in explicit VR, or in an implicit file whose sequences tell no VR."""
    values = write({0x00081150: ("UI", b"1.2\0"), 0x00091010: ("LO", b"words ")})
    if write is implicit:
        items = struct.pack("<HHL", 0xFFFE, 0xE000, len(values)) + values
        middle = struct.pack("<HHL", 0x0008, 0x1140, 0xFFFFFFFF) + items + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        data = implicit(BEFORE) + middle + implicit(BEHIND)
    else:
        data = part10(BEFORE) + sequence(values + inner, values) + encode(BEHIND)
    found = judged(data)
    assert isinstance(found, Instance)
    assert found.study_uid == "1.2.3.4"


def test_zeros_behind_a_header_are_its_end() -> None:
    """Filling, not millions of elements."""
    reads = 0

    def count() -> None:
        nonlocal reads
        reads += 1

    (found,) = scan(trees.Memory({"f": part10(IDENTITY) + bytes(1 << 20)}), lambda _: None, check_stop=count)
    assert isinstance(found, Instance)
    assert reads < 100


def test_a_value_too_long_to_be_wanted_is_passed_over() -> None:
    """It counts as absent; what follows it is read."""
    long = {0x0008103E: ("UT", b"x" * (64 * 1024 + 2)), PIXELS: ("OW", bytes(10))}
    found = judged(part10({**IDENTITY, **long}))
    assert isinstance(found, Instance)
    assert (found.series_description, found.pixel_bytes) == ("", 10)
    kept = judged(part10({**IDENTITY, 0x0008103E: ("UT", b"x" * (64 * 1024))}))
    assert isinstance(kept, Instance)
    assert len(kept.series_description) == 64 * 1024


@pytest.mark.wide
def test_many_frames_take_little_memory() -> None:
    """The functional groups of an honest enhanced image."""
    group = sequence(encode({0x00200032: ("DS", b"1\\2\\3 ")}), tag=0x00209113)
    frames = part10(IDENTITY) + sequence(*[group] * 5000, tag=0x52009230) + encode({PIXELS: ("OW", bytes(100))})
    tracemalloc.start()
    try:
        found = judged(frames)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found, Instance)
    assert found.pixel_bytes == 100
    assert peak < 2 << 20


def stop_after(number: int) -> Callable[[], None]:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > number:
            raise Stopped(15)

    return check


def zipped(data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("notes", data)
    return made.getvalue()


@pytest.mark.wide
def test_a_stop_is_heard_inside_a_deflate_stream() -> None:
    """Between its pieces: 20 kB of file can inflate for a long time."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    data = deflated(encode(IDENTITY) + encode({PIXELS: ("OW", bytes(20 << 20))}))
    (found,) = scan(trees.Memory({"f": data}), lambda _: None, check_stop=count)
    assert isinstance(found, Instance)
    assert calls > 80
    with pytest.raises(Stopped):
        list(scan(trees.Memory({"f": data}), lambda _: None, check_stop=stop_after(calls - 10)))


HOLDS_LONG = {
    "items": flood(EMPTY * 1000),
    "elements": part10({(0x0009 << 16) + n: ("LO", b"") for n in range(0x1000, 0x2000)}),
    "zip": zipped(b"words" * 1000),
    "gzip": gzip.compress(b"words" * 1000),
}


@pytest.mark.parametrize("kind", HOLDS_LONG)
@pytest.mark.parametrize("number", [1, 3])
def test_a_stop_is_heard_inside_a_file(kind: str, number: int) -> None:
    """It is not taken for damage."""
    with pytest.raises(Stopped):
        list(scan(trees.Memory({"f": HOLDS_LONG[kind]}), lambda _: None, check_stop=stop_after(number)))


@pytest.mark.parametrize("name", ["007/pre.tgz", "007/pre.tar", "007/pre/papers.tgz", "007/pre/papers.zip", "x.tgz"])
def test_a_stop_is_heard_inside_an_archive(tmp_path: Path, name: str) -> None:
    """While its members are listed, or looked at for DICOM."""
    put(tmp_path, {name: PACK[Path(name).suffix]({f"m{n}": b"words" * 300_000 for n in range(3)})})
    root = tmp_path / name if name == "x.tgz" else tmp_path
    with pytest.raises(Stopped):
        list(open_source(str(root), 2, stop_after(2)).files())


def test_a_stop_is_heard_while_a_member_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped(b"words" * 400_000))
    with pytest.raises(Stopped):
        list(scan(open_source(str(tmp_path / "x.zip")), lambda _: None, check_stop=stop_after(8)))


def test_a_sequence_that_does_not_end_is_a_cut_file() -> None:
    found = judged(part10(BEFORE) + struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + EMPTY * 3)
    assert isinstance(found, SetAside)
    assert found.reason == "truncated"


def test_the_deepest_sequence() -> None:
    """One more level is refused: what receives it may fail at less."""
    start = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    assert DEEPEST == 250
    deep = io.BytesIO(start * 249 + end * 250)
    pass_over(deep, True, "<")
    assert deep.read() == b""
    with pytest.raises(TooDeep):
        pass_over(io.BytesIO(start * 250 + end * 251), True, "<")


@pytest.mark.parametrize("cut", [1, 7, 9, 11])
def test_every_cut_in_a_sequence_is_noticed(cut: int) -> None:
    data = encode({0x00081199: ("SQ", b"")}) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    with pytest.raises(NotWalkable):
        pass_over(io.BytesIO(data[:cut]), True, "<")


def test_a_big_endian_sequence(tmp_path: Path) -> None:
    items = struct.pack(">HHL", 0xFFFE, 0xE000, 0) * 3 + struct.pack(">HHL", 0xFFFE, 0xE0DD, 0)
    head = struct.pack(">HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    (tmp_path / "f").write_bytes(part10(BEFORE, trees.BIG) + head + items + encode(BEHIND, ">"))
    (found,) = scan(open_source(str(tmp_path)), lambda _: None)
    assert isinstance(found, Instance)
    assert found.series_uid == "1.2.3.4.5"
