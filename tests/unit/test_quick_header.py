"""The quick reader says what the library says, or nothing; and it answers for the files that there are most of."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest

from tests import dicom_trees as trees
from tests.dicom_trees import IDENTITY, PIXELS, deflated, encapsulated, encode, part10, sequence
from tests.fuzz import dicom
from xnat_ingest.core.model import Instance, SourceFile
from xnat_ingest.inputs.dicom_file import BETWEEN_FILES
from xnat_ingest.inputs.instances import CHARACTER_SET
from xnat_ingest.inputs.quick_header import LONGEST, WINDOW, QuickHeader, QuickReader

DESCRIPTION = 0x0008103E


def quick(data: bytes) -> Instance | None:
    return QuickReader({}, {}).instance(SourceFile("x", len(data), 1), io.BytesIO(data))


def header(data: bytes, size: int | None = None) -> QuickHeader | None:
    return QuickReader({}, {}).header(io.BytesIO(data), len(data) if size is None else size)


@pytest.mark.wide
def test_it_agrees_with_the_library_on_every_real_file() -> None:
    """All that pydicom carries; and it is the usual ones that it answers for."""
    answered: Counter[bool] = Counter()
    for path in sorted(trees.SAMPLES.rglob("*")):
        if path.is_file() and path.stat().st_size:
            data = path.read_bytes()
            dicom.quick(data)
            answered[quick(data) is not None] += 1
    assert answered[True] >= 80, answered


@pytest.mark.parametrize("name", ["MR_small.dcm", "CT_small.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm"])
def test_usual_files_are_answered_for(name: str) -> None:
    assert quick((trees.SAMPLES / name).read_bytes()) is not None


SOUND = {
    "explicit": part10(IDENTITY),
    "pixels": part10({**IDENTITY, PIXELS: ("OW", bytes(64))}),
    "fragments": encapsulated(b"", bytes(100), bytes(6), frames=2),
    "value-behind-the-window": part10({0x00080008: ("UT", bytes(WINDOW)), **IDENTITY}),
    "element-across-the-window": part10({0x00080008: ("UT", b"x" * (WINDOW - 380)), **IDENTITY}),
    "long-value-before": part10({**IDENTITY, 0x00091001: ("OB", bytes(100_000)), PIXELS: ("OW", bytes(64))}),
    "accents": part10({**IDENTITY, CHARACTER_SET: ("CS", b"ISO_IR 100"), DESCRIPTION: ("LO", b"\xe9t\xe9 ")}),
    "several-values": part10({**IDENTITY, DESCRIPTION: ("LO", b" one \\ two\\")}),
    "sequence": part10({}) + sequence(encode(IDENTITY), tag=0x00080006) + encode(IDENTITY),
}


@pytest.mark.parametrize("name", SOUND)
def test_it_answers_for_sound_files_as_the_library(name: str) -> None:
    dicom.quick(SOUND[name])
    assert quick(SOUND[name]) is not None


def test_every_place_where_a_window_may_end_is_sound() -> None:
    """An element's head, a value that is wanted and an item may lie across its end."""
    for pad in range(WINDOW - 420, WINDOW - 180, 2):
        data = part10({0x00080005: ("CS", b""), 0x00080006: ("UT", bytes(pad)), **IDENTITY, PIXELS: ("OW", bytes(8))})
        dicom.quick(data)
        assert quick(data) is not None, pad


ODD = {
    "big-endian": part10(IDENTITY, trees.BIG),
    "deflated": deflated(encode(IDENTITY)),
    "private-syntax": part10(IDENTITY, "1.2.3.4.5"),
    "syntax-that-is-none": part10(IDENTITY, "1.2.840.10008.1.2.4.5x"),
    "strange-character-set": part10({**IDENTITY, CHARACTER_SET: ("CS", b"\0\0O_IR 100")}),
    "bare": encode(IDENTITY),
    "without-meta": bytes(128) + b"DICM" + encode(IDENTITY),
    "implicit-by-name-only": part10(IDENTITY).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"),
    "out-of-order": part10({0x0020000E: IDENTITY[0x0020000E]})
    + encode({t: v for t, v in IDENTITY.items() if t != 0x0020000E}),
    "twice": part10(IDENTITY) + encode(IDENTITY),
    "strange-vr": part10({**IDENTITY, 0x00200013: ("ZZ", b"12")}),
    "cut-pixels": part10({**IDENTITY, PIXELS: ("OW", bytes(64))})[:-1],
    "cut-fragments": encapsulated(b"", bytes(100))[:-9],
    "cut-value": part10(IDENTITY)[:-2],
    "bytes-behind": part10(IDENTITY) + b"\0\0",
    "item-at-the-end": part10(IDENTITY) + b"\xfe\xff\x00\xe0\0\0\0\0",
    "long-uid": part10({**IDENTITY, 0x0020000D: ("UI", b"1" * 200)}),
    "no-study": part10({tag: value for tag, value in IDENTITY.items() if tag != 0x0020000D}),
    "long-wanted-value": part10({**IDENTITY, 0x0020000E: ("UT", b"1" * (LONGEST + 2))}),
    "directory": part10({**IDENTITY, 0x00080016: ("UI", b"1.2.840.10008.1.3.10")}),
    "image-without-pixels": part10({**IDENTITY, 0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.4\0")}),
    "text": b"no DICOM at all" * 100,
    "short": b"DICM",
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_the_librarys(name: str) -> None:
    assert quick(ODD[name]) is None


def test_meta_information_must_be_as_long_as_it_says() -> None:
    data = bytearray(part10(IDENTITY))
    assert header(bytes(data)) is not None
    for change in (1, -1, 2):
        wrong = bytearray(data)
        wrong[140] = (wrong[140] + change) % 256
        assert header(bytes(wrong)) is None


def test_a_file_that_shrank_or_grew_is_the_librarys() -> None:
    data = part10({**IDENTITY, PIXELS: ("OW", bytes(64))})
    assert header(data, len(data) - 1) is None
    plain = part10(IDENTITY)
    assert header(plain, len(plain) + 8) is None


def test_one_read_is_enough_for_a_plain_header(tmp_path: Path) -> None:
    """The cost of a large tree is its reads. One more looks at what is behind the pixels, if there is anything."""
    padded = trees.SAMPLES.joinpath("MR_small.dcm").read_bytes()  # some padding is behind its pixels
    plain = padded[: padded.rindex(b"\xfc\xff\xfc\xff")]
    data, reads = plain + bytes(400), list[int]()

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.append(size or 0)
            return super().read(size)

    assert QuickReader({}, {}).header(Counting(plain), len(plain)) is not None
    assert reads == [WINDOW]
    assert QuickReader({}, {}).header(Counting(padded), len(padded)) is not None
    assert reads[1:] == [WINDOW, WINDOW]
    assert QuickReader({}, {}).header(Counting(data), len(data)) is not None
    assert reads[3:] == [WINDOW, BETWEEN_FILES]
    assert QuickReader({}, {}).header(Counting(data + data), 2 * len(data)) is None
