"""A cut behind the pixel data is a cut, too; and what is no element there tells of none."""

from __future__ import annotations

import gzip
import io
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dicom_trees import BIG, DEFLATED, IDENTITY, LITTLE, PIXELS, Memory, deflated, encode, implicit, part10
from tests.unit.test_input_forms import COMPRESS, PACK, put
from xnat_ingest.core.model import Instance, SetAside
from xnat_ingest.inputs import open_source
from xnat_ingest.inputs.dicom_dataset import IMPLICIT
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.quick_header import QuickReader

JPEG, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"
MR = ("UI", b"1.2.840.10008.5.1.4.1.1.4\0")
IMAGE = {**IDENTITY, 0x00080016: MR}
FRAGMENTS = b"\xff\xd8" + bytes(range(1, 61)) + b"\xff\xd9"
UNDEFINED = 0xFFFFFFFF
LONG = ("OB", "SQ", "UN", "UT")


class Form:
    """One way to write a file. order: of the bytes; explicit: whether elements name their VR."""

    def __init__(self, syntax: str, *, order: str = "<", explicit: bool = True, bare: bool = False) -> None:
        self.syntax, self.order, self.explicit, self.bare = syntax, order, explicit, bare

    def element(self, tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
        size = len(value) if length is None else length
        group, number = tag >> 16, tag & 0xFFFF
        if not self.explicit:
            return struct.pack(f"{self.order}HHL", group, number, size) + value
        if vr in LONG:
            return struct.pack(f"{self.order}HH2sHL", group, number, vr.encode(), 0, size) + value
        return struct.pack(f"{self.order}HH2sH", group, number, vr.encode(), size) + value

    def mark(self, number: int, length: int = 0) -> bytes:
        return struct.pack(f"{self.order}HHL", 0xFFFE, number, length)

    def image(self, tail: bytes = b"") -> bytes:
        """A file with pixel data, and what follows it."""
        if self.syntax in (JPEG, RLE):
            fragments = self.mark(0xE000) + self.mark(0xE000, len(FRAGMENTS)) + FRAGMENTS + self.mark(0xE0DD)
            pixels = self.element(PIXELS, "OB", fragments, UNDEFINED)
        else:
            pixels = self.element(PIXELS, "OB", bytes(64))
        return self.file(IMAGE, pixels + tail)

    def file(self, elements: dict[int, tuple[str, bytes]], tail: bytes) -> bytes:
        data = (encode(elements, self.order) if self.explicit else implicit(elements)) + tail
        if self.bare:
            return data
        return deflated(data) if self.syntax == DEFLATED else part10({}, self.syntax) + data


FORMS = {
    "explicit": Form(LITTLE),
    "implicit": Form(IMPLICIT, explicit=False),
    "big endian": Form(BIG, order=">"),
    "deflated": Form(DEFLATED),
    "JPEG": Form(JPEG),
    "RLE": Form(RLE),
    "bare": Form("", bare=True),
    "bare implicit": Form("", explicit=False, bare=True),
    "bare big endian": Form("", order=">", bare=True),
}


def movie(form: Form) -> tuple[bytes, ...]:
    """As ultrasound of GE keeps its raw data."""
    name = form.element(0x7FE10010, "LO", b"GEMS_Ultrasound_MovieGroup_001")
    return name, form.element(0x7FE11001, "OB", b"\7" * 40), form.element(0x7FE11002, "US", b"ab")


def signatures(form: Form) -> tuple[bytes, ...]:
    inner = form.element(0x04000100, "UI", b"1.22") + form.element(0x04000120, "OB", b"s" * 20)
    return (form.element(0xFFFAFFFA, "SQ", form.mark(0xE000, len(inner)) + inner),)


def padding(form: Form) -> tuple[bytes, ...]:
    return (form.element(0xFFFCFFFC, "OB", bytes(30)),)


def open_sequence(form: Form) -> tuple[bytes, ...]:
    inner = form.element(0x00080005, "CS", b"ISO_IR 100") + form.element(0x00081140, "SQ", form.mark(0xE0DD), UNDEFINED)
    items = form.mark(0xE000, UNDEFINED) + inner + form.mark(0xE00D) + form.mark(0xE000, len(inner)) + inner
    head = form.element(0x7FE11002, "SQ", b"", UNDEFINED)
    return head + items + form.mark(0xE0DD), form.element(0xFFFCFFFC, "OB", bytes(8))


def more_pixels(form: Form) -> tuple[bytes, ...]:
    """Two elements of the pixels' own group."""
    return form.element(0x7FE00020, "OB", bytes(8)), form.element(0x7FE00021, "UT", b"x" * 8)


TAILS: dict[str, Callable[[Form], tuple[bytes, ...]]] = {
    "movie": movie,
    "signatures": signatures,
    "padding": padding,
    "open sequence": open_sequence,
    "more pixels": more_pixels,
}


def outcome(raw: bytes, *, accept: bool = False) -> str:
    (item,) = scan(Memory({"f": raw}), lambda _: None, accept_truncated=accept)
    return item.reason if isinstance(item, SetAside) else item.flaw or "whole"


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", FORMS)
def test_a_cut_anywhere_behind_the_pixels_is_seen(name: str, tail: str) -> None:
    """But for one between two elements, or behind the first byte of one: these leave nothing that tells."""
    form = FORMS[name]
    elements = TAILS[tail](form)
    data = b"".join(elements)
    ends = [0]
    for element in elements:
        ends.append(ends[-1] + len(element))
    unseen = {end + byte for end in ends for byte in (0, 1)}
    found = {cut: outcome(form.image(data[:cut])) for cut in range(len(data) + 1)}
    assert {cut for cut, word in found.items() if word != "truncated"} == unseen & found.keys()
    assert {found[cut] for cut in unseen & found.keys()} == {"whole"}


@pytest.mark.parametrize("name", FORMS)
def test_a_file_that_was_cut_there_can_be_sent(name: str) -> None:
    form = FORMS[name]
    raw = form.image(movie(form)[0] + movie(form)[1][:-5])
    (aside,) = scan(Memory({"f": raw}), lambda _: None)
    assert isinstance(aside, SetAside)
    assert aside.detail == "the file ends inside an element behind its pixel data"
    (item,) = scan(Memory({"f": raw}), lambda _: None, accept_truncated=True)
    assert isinstance(item, Instance)
    assert item.flaw == "truncated"
    assert item.pixel_bytes == len(FRAGMENTS if name in ("JPEG", "RLE") else bytes(64))


RUBBISH = {
    "zeros": bytes(512),
    "a zero": b"\0",
    "0xFF": b"\xff" * 512,
    "two bytes of 0xFF": b"\xff\xff",
    "blanks": b" " * 512,
    "an end of line": b"\r\n",
    "text": b"Exported by the console of ward 7 on Monday. " * 9,
    "text that looks like a VR": b"THISOBAD AND SQUARE TEXT",
    "HTML": b"<html><body>The session has ended</body></html>",
    "a second data set": encode(IMAGE),
    "a second data set, cut": encode(IMAGE)[:-3],
    "a second data set, implicit": implicit(IMAGE)[:-3],
    "a delimiter": struct.pack("<HHL", 0xFFFE, 0xE0DD, 0),
    "an item": struct.pack("<HHL", 0xFFFE, 0xE000, 99),
    "elements out of order": struct.pack("<HH2sH", 0x0028, 0x0010, b"US", 999),
    "an unknown VR": struct.pack("<HH2sH", 0x7FE1, 0x0010, b"ZZ", 999),
    "reserved bytes": struct.pack("<HH2sHL", 0x7FE1, 0x1001, b"OB", 7, 999),
    "no item in a sequence": struct.pack("<HH2sHL", 0x7FE1, 0x1001, b"SQ", 0, UNDEFINED) + b"rubbish of a disk",
    "pixels of -4": struct.pack("<h", -4) * 300,
    "pixels of -6": struct.pack("<h", -6) * 300,
    "a compressed page": gzip.compress(bytes(range(256)) * 8, mtime=0),
}


@pytest.mark.parametrize("what", RUBBISH)
@pytest.mark.parametrize("name", FORMS)
def test_what_is_no_element_tells_of_no_cut(name: str, what: str) -> None:
    form = FORMS[name]
    if not form.explicit and what in ("an unknown VR", "reserved bytes", "no item in a sequence"):
        return  # an element of the private group behind the pixels, in implicit VR, that ends too early
    for before in (b"", padding(form)[0] if what != "an unknown VR" else b""):
        assert outcome(form.image(before + RUBBISH[what])) == "whole", before


def test_stale_bytes_of_a_disk_tell_of_no_cut() -> None:
    """One page in some thousands may look like an element all the same."""
    pages = random.Random(5)
    words = [outcome(FORMS[name].image(pages.randbytes(100))) for name in ("explicit", "implicit") for _ in range(1000)]
    assert words.count("whole") >= 1998


def forms(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Each form of an input that holds this file."""
    for suffix, pack in PACK.items():
        yield f"x{suffix}", pack({"007/pre/a": raw})
    for suffix, compress in COMPRESS.items():
        yield f"tree/007/pre/a{suffix}", compress(raw)
    yield "tree/007/pre/a", raw


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("cut", [0, 5])
def test_every_form_of_input_says_the_same(tmp_path: Path, name: str, cut: int) -> None:
    form = FORMS[name]
    tail = form.element(0x7FE10010, "LO", b"maker ") + form.element(0x7FE11001, "OB", bytes(3 << 19))
    raw = form.image(tail[: len(tail) - cut])
    for path, data in forms(raw):
        put(tmp_path, {path: data})
        source = open_source(str(tmp_path / path.partition("/")[0]), 2)
        (found,) = scan(source, lambda _: None)
        assert (found.reason if isinstance(found, SetAside) else found.flaw) == ("truncated" if cut else ""), path
        (tmp_path / path).unlink()


def test_what_is_behind_the_pixels_is_skipped() -> None:
    """Two small reads for a large value."""
    form, reads = FORMS["explicit"], list[int]()

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.append(len(data := super().read(size)))
            return data

    raw = form.image(form.element(0x7FE11001, "OB", bytes(5 << 20)) + padding(form)[0])
    assert QuickReader({}, {}).header(Counting(raw), len(raw)) is not None
    assert sum(reads) < (1 << 20) + 10_000
    reads.clear()
    whole = form.image()
    assert QuickReader({}, {}).header(Counting(whole), len(whole)) is not None
    assert len(reads) == 1


def test_a_missing_delimiter_does_not_hide_a_cut() -> None:
    form = FORMS["JPEG"]
    tail = b"".join(movie(form))
    raw = form.image(tail)
    at = raw.index(form.mark(0xE0DD) + tail)
    assert outcome(raw[:at] + raw[at + 8 :]) == "whole"
    assert outcome(raw[:at] + raw[at + 8 : -5]) == "truncated"


PDF = {**IDENTITY, 0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.104.1\0"), 0x00420011: ("OB", b"%PDF" * 9)}
SPECTRUM = {**IDENTITY, 0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.4.2\0"), 0x56000020: ("OF", bytes(36))}
REPORT = {**IDENTITY, 0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.88.11\0")}


@pytest.mark.parametrize("elements", [PDF, SPECTRUM, REPORT])
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", [name for name in FORMS if name not in ("JPEG", "RLE")])
def test_a_cut_in_what_has_no_pixels_is_seen(name: str, tail: str, elements: dict[int, tuple[str, bytes]]) -> None:
    """But for one between two elements."""
    form = FORMS[name]
    parts = TAILS[tail](form)
    data = b"".join(parts)
    ends = [0]
    for element in parts:
        ends.append(ends[-1] + len(element))
    found = {cut: outcome(form.file(elements, data[:cut])) for cut in range(len(data) + 1)}
    assert {cut for cut, word in found.items() if word == "whole"} == set(ends)
    assert set(found.values()) == {"truncated", "whole"}
