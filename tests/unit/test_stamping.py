"""The routing element in encoded data sets: what differs is that element, whatever the data set looks like."""

from __future__ import annotations

import io
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.dicom_trees import BIG, IDENTITY, LITTLE, SAMPLES, Memory, encode, implicit, part10, sequence
from tests.dicomscp import parsed
from xnat_ingest.core.errors import SessionTrouble
from xnat_ingest.core.model import Instance, Session
from xnat_ingest.inputs.dicom_dataset import (
    IMPLICIT,
    NotWalkable,
    PeekableStream,
    blocks_of,
    skip_meta,
)
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.outgoing import Outgoing
from xnat_ingest.transports.stamping import Stamp, Stamping, stamp_of

SESSION = Session("DEMO", "007", "007_pre", "1.2.3", "007/pre", ())
COMMENTS, DESCRIPTION = 0x00104000, 0x00081030
TEXT = b"Project:DEMO Subject:007 Session:007_pre"
ROUTES = {"comments": (COMMENTS, TEXT), "study-description": (DESCRIPTION, b"xnat://DEMO/007/007_pre ")}


def stamp(route: str = "comments") -> Stamp:
    made = stamp_of(route, SESSION)
    assert made
    return made


def start(raw: bytes) -> PeekableStream:
    """A file, up to its data set."""
    source = PeekableStream(blocks_of(io.BytesIO(raw)))
    skip_meta(source)
    return source


def stamped(raw: bytes, syntax: str, route: str = "comments") -> tuple[bytes, bool]:
    stamping = Stamping(stamp(route), syntax)
    data = b"".join(stamping.blocks(start(raw)))
    return data, stamping.replaced


def real_files() -> list[Any]:
    """Every sample file that the program would send."""
    found = []
    for path in sorted(SAMPLES.rglob("*")):
        if path.is_file():
            raw = path.read_bytes()
            found += [
                pytest.param(raw, i, id=str(path.relative_to(SAMPLES)))
                for i in scan(Memory({"file": raw}), lambda _: None)
                if isinstance(i, Instance)
            ]
    return found


def elements(dataset: Dataset, but: set[int]) -> list[tuple[int, str | None, bytes | None]]:
    """Top-level elements as they are encoded, but for some."""
    found = []
    for tag in sorted(dataset.keys()):
        if int(tag) in but:
            continue
        element: Any = dataset.get_item(tag)
        value = element.value
        found.append((int(tag), element.VR, value if isinstance(value, bytes | None) else repr(value).encode()))
    return found


@pytest.mark.sampled(30)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("raw", "instance"), real_files())
def test_real_files_differ_in_that_element_alone(raw: bytes, instance: Instance, route: str) -> None:
    """Byte by byte around the element, and element by element as a reader sees them."""
    syntax = instance.sent_syntax
    with Outgoing(Memory({"file": raw}), instance).open() as blocks:
        raw = b"".join(blocks)
    before = b"".join(start(raw).rest())
    data, replaced = stamped(raw, syntax, route)
    tag, value = ROUTES[route]
    length = tag & 0xFFFF0000
    mine = next(m for form in (True, False) for m in [_encoded(route, form, syntax)] if m in data)
    head, _, tail = data.partition(mine)
    assert before.endswith(tail)
    assert before.startswith(head) or tag & 0xFFFF0000 in parsed(before, syntax)
    old, new = parsed(before, syntax), parsed(data, syntax)
    was: Any = old.get_item(tag) if tag in old else None
    assert elements(new, {tag}) == elements(old, {tag, length})
    assert length not in new
    assert new.get_item(tag).value == value
    assert replaced == bool(was and (was.value or b"").strip(b" \0"))


def _encoded(route: str, explicit: bool, syntax: str) -> bytes:
    return stamp(route).encoded(explicit, ">" if syntax == BIG else "<")


BEFORE, AFTER = {0x00100010: ("PN", b"Doe^J ")}, {0x00104001: ("LO", b"x "), 0x00180050: ("DS", b"1 ")}
MINE = {COMMENTS: ("LT", TEXT)}


@pytest.mark.parametrize(
    ("write", "syntax"),
    [
        (encode, LITTLE),
        (implicit, IMPLICIT),
        (lambda e: encode(e, ">"), BIG),
    ],
)
@pytest.mark.parametrize("old", [None, b"", b"  ", b"left knee hurts "])
@pytest.mark.parametrize(("before", "after"), [(BEFORE, AFTER), ({}, AFTER), (BEFORE, {}), ({}, {})])
def test_inserted_and_replaced(
    write: Callable[[Any], bytes], syntax: str, old: bytes | None, before: Any, after: Any
) -> None:
    had = {COMMENTS: ("LT", old)} if old is not None else {}
    raw = part10({}, syntax) + write({**IDENTITY, **before, **had, **after})
    data, replaced = stamped(raw, syntax)
    assert data == write({**IDENTITY, **before, **MINE, **after})
    assert replaced == bool(old and old.strip())


def test_the_groups_length_goes_and_others_stay() -> None:
    lengths = {0x00080000: ("UL", b"\x24\0\0\0"), 0x00100000: ("UL", b"\x0e\0\0\0")}
    data, _ = stamped(part10({**IDENTITY, **lengths, **BEFORE, **AFTER}), LITTLE)
    del lengths[0x00100000]
    assert data == encode({**IDENTITY, **lengths, **BEFORE, **MINE, **AFTER})


def test_a_second_one_in_the_wrong_place_goes_too() -> None:
    """A reader might take the last of two."""
    late = encode({COMMENTS: ("LT", b"Project:OTHER ")})
    data, replaced = stamped(part10({**IDENTITY, **AFTER}) + late + encode({0x00200013: ("IS", b"1 ")}), LITTLE)
    assert data == encode({**IDENTITY, **MINE, **AFTER, 0x00200013: ("IS", b"1 ")})
    assert replaced


def test_a_second_one_that_is_cut_does_not_end_the_object_early() -> None:
    """What follows could not be told from its value."""
    late = encode({COMMENTS: ("LT", b"Project:OTHER ")})
    with pytest.raises(NotWalkable, match="ends inside"):
        stamped(part10({**IDENTITY, **AFTER}) + late[:-2], LITTLE)


def test_nested_elements_are_left_alone() -> None:
    """In sequences of any depth, of known and unknown length; UN of undefined length holds implicit VR inside."""
    inner = encode({COMMENTS: ("LT", b"inner ")})
    deep = sequence(sequence(sequence(inner), inner), inner)
    known = encode({0x00081111: ("SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner)})
    content = implicit({COMMENTS: ("LT", b"inner ")})
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    unknown = struct.pack("<HH2sHL", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF) + item
    unknown += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    head = known + deep + unknown
    data, replaced = stamped(part10({}) + head + encode(AFTER), LITTLE)
    assert data == head + encode({**MINE, **AFTER})
    assert not replaced


def test_a_data_set_encoded_otherwise_than_its_file_says() -> None:
    data, _ = stamped(part10({}, LITTLE) + implicit({**IDENTITY, **AFTER}), LITTLE)
    assert data == implicit({**IDENTITY, **MINE, **AFTER})


def test_what_cannot_be_walked_before_the_element_is_refused_and_behind_it_goes_through() -> None:
    broken = struct.pack("<HH", 0x0008, 0x0070) + b"\x01\x02\x03\x04rest"
    with pytest.raises(NotWalkable, match="value representation"):
        stamped(part10({}) + encode({0x00080005: ("CS", b"x ")}) + broken, LITTLE)
    with pytest.raises(NotWalkable, match="ends inside"):
        stamped(part10({}) + encode(BEFORE)[:-2], LITTLE)
    broken = struct.pack("<HH", 0x0020, 0x0070) + b"\x01\x02\x03\x04rest"
    data, _ = stamped(part10(AFTER) + broken, LITTLE)
    assert data == encode({**MINE, **AFTER}) + broken


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_blocks_may_be_cut_anywhere(size: int) -> None:
    raw = part10({**IDENTITY, **BEFORE, **AFTER})
    source = PeekableStream(raw[at : at + size] for at in range(0, len(raw), size))
    skip_meta(source)
    data = b"".join(Stamping(stamp(), LITTLE).blocks(source))
    assert data == encode({**IDENTITY, **BEFORE, **MINE, **AFTER})


def test_memory_does_not_grow_with_the_object() -> None:
    """96 MB of pixels, before them a private value of 32 MB and a sequence around 32 MB."""
    zeros = bytes(1 << 20)

    def plain() -> Iterator[bytes]:
        yield encode(IDENTITY) + struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, 32 << 20)
        yield from [zeros] * 32
        yield struct.pack("<HH2sHL", 0x0009, 0x1002, b"SQ", 0, 0xFFFFFFFF)
        yield struct.pack("<HHL", 0xFFFE, 0xE000, 32 << 20)
        yield from [zeros] * 32
        yield struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 96 << 20)
        yield from [zeros] * 96

    tracemalloc.start()
    try:
        total = sum(map(len, Stamping(stamp(), LITTLE).blocks(PeekableStream(plain()))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == sum(map(len, plain())) + 8 + len(TEXT)
    assert peak < 8 << 20


def test_meta_information_is_passed_whatever_its_length_says() -> None:
    meta = encode({0x00020010: ("UI", b"1.2.840.10008.1.2.1\0")})
    for length in (b"", encode({0x00020000: ("UL", b"\xff\0\0\0")}), implicit({0x00020000: ("UL", b"\0\0\0\0")})):
        for mark in (bytes(128) + b"DICM", b""):
            assert b"".join(start(mark + length + meta + encode(IDENTITY)).rest()) == encode(IDENTITY)


def test_routes() -> None:
    assert stamp_of("none", SESSION) is None
    assert stamp().text.encode() == TEXT
    assert stamp("study-description").text == "xnat://DEMO/007/007_pre"


@pytest.mark.parametrize("label", ["", "two words", "a/b", "é", "x" * 65, "a\\b"])
def test_labels_that_no_receiver_would_read_back_are_refused(label: str) -> None:
    with pytest.raises(SessionTrouble, match="letters, digits") as caught:
        stamp_of("comments", Session("DEMO", "007", label, "1.2.3", "", ()))
    assert caught.value.kind == "illegal-label"


def test_a_study_description_has_64_characters() -> None:
    fits = Session("P" * 20, "S" * 20, "E" * 15, "1.2.3", "", ())
    made = stamp_of("study-description", fits)
    assert made
    assert len(made.text) == 64
    long = Session("P" * 20, "S" * 20, "E" * 16, "1.2.3", "", ())
    with pytest.raises(SessionTrouble, match="65 characters"):
        stamp_of("study-description", long)
    assert stamp_of("comments", long)


def test_readers_see_the_text() -> None:
    """In every character set that a data set may name, since it is ASCII."""
    for charset in (b"ISO_IR 192", b"ISO_IR 13 ", b"ISO_IR 144", rb"\ISO 2022 IR 87 ", b"GB18030 "):
        data, _ = stamped(part10({**IDENTITY, 0x00080005: ("CS", charset)}), LITTLE)
        assert parsed(data, LITTLE).PatientComments == TEXT.decode()
