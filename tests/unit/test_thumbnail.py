"""Small pictures of series, made without extra packages; none of what may show a name."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from dataclasses import replace
from typing import Any

import pytest

from tests.dicom_trees import Memory
from xnat_ingest.core.model import Instance
from xnat_ingest.inputs.thumbnail import EDGE, MOST_BYTES, MOST_HEADER, thumbnail, thumbnails

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"


def element(tag: int, vr: str, value: bytes, order: str = "<") -> bytes:
    value += b" " * (len(value) % 2)
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in ("OB", "OW"):
        return head + b"\0\0" + struct.pack(f"{order}I", len(value)) + value
    return head + struct.pack(f"{order}H", len(value)) + value


def image(pixels: bytes, rows: int, columns: int, order: str = "<", **given: Any) -> bytes:
    """A data set in explicit VR, without meta information, as the tests of pydicom make them."""
    us = {0x00280002: 1, 0x00280010: rows, 0x00280011: columns, 0x00280100: 16, 0x00280101: 16, 0x00280103: 0}
    us |= given.get("us", {})
    elements = {tag: element(tag, "US", struct.pack(f"{order}H", value), order) for tag, value in us.items()}
    elements[0x00280004] = element(0x00280004, "CS", given.get("photometric", b"MONOCHROME2"), order)
    if "frames" in given:
        elements[0x00280008] = element(0x00280008, "IS", str(given["frames"]).encode(), order)
    if "image_type" in given:
        elements[0x00080008] = element(0x00080008, "CS", given["image_type"], order)
    if "burned" in given:
        elements[0x00280301] = element(0x00280301, "CS", given["burned"], order)
    elements[0x7FE00010] = element(0x7FE00010, "OW", pixels, order)
    syntax = (EXPLICIT if order == "<" else BIG).encode()
    meta = element(0x00020010, "UI", syntax + b"\0" * (len(syntax) % 2))
    meta = element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta
    return bytes(128) + b"DICM" + meta + b"".join(elements[tag] for tag in sorted(elements))


def instance(**changes: Any) -> Instance:
    made = Instance("i", 1, 0, "1.2.840.10008.5.1.4.1.1.4", "1", "2", "3", "1", "1", "MR", "", EXPLICIT, 100, {})
    return replace(made, **changes)


def decoded(png: bytes) -> tuple[int, int, list[int]]:
    """(width, height, values), read by the words of the PNG standard."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, data, header = 8, b"", b""
    while at < len(png):
        (size,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        header, data = (body, data) if kind == b"IHDR" else (header, data + body)
        at += 12 + size
    width, height, _, colour = struct.unpack(">IIBB", header[:10])
    line = width * (3 if colour == 2 else 1)
    raw = zlib.decompress(data)
    rows = [raw[y * (line + 1) + 1 : (y + 1) * (line + 1)] for y in range(height)]
    return width, height, [value for row in rows for value in row]


def drawn(content: bytes, **changes: Any) -> bytes:
    return thumbnail(Memory({"i": content}), instance(**changes))


def test_grey_values_are_stretched() -> None:
    pixels = struct.pack("<4H", 100, 200, 300, 1100)
    assert decoded(drawn(image(pixels, 2, 2))) == (2, 2, [0, 25, 51, 255])


def test_monochrome1_is_white_where_it_is_small() -> None:
    pixels = struct.pack("<4H", 0, 0, 0, 1000)
    assert decoded(drawn(image(pixels, 2, 2, photometric=b"MONOCHROME1")))[2] == [255, 255, 255, 0]


def test_signed_values() -> None:
    pixels = struct.pack("<4h", -1000, 0, 0, 1000)
    assert decoded(drawn(image(pixels, 2, 2, us={0x00280103: 1})))[2] == [0, 127, 127, 255]


def test_bits_above_those_stored_are_passed_over() -> None:
    pixels = struct.pack("<4H", 0xF000, 0xF0FF, 0, 0xFFF)
    values = decoded(drawn(image(pixels, 2, 2, us={0x00280101: 12})))[2]
    assert values[0] == values[2] == 0
    assert values[3] == 255


def test_the_number_of_stored_bits_may_be_any() -> None:
    pixels = struct.pack("<4H", 0, 0, 0, 1000)
    usual = image(pixels, 2, 2)
    stored = element(0x00280101, "US", struct.pack("<H", 16))
    tracemalloc.start()
    picture = drawn(usual.replace(stored, element(0x00280101, "UL", struct.pack("<I", 1 << 27))))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert picture == drawn(usual)
    assert most < 1 << 22


def test_big_endian() -> None:
    pixels = struct.pack(">4H", 0, 0, 0, 256)
    assert decoded(drawn(image(pixels, 2, 2, order=">"), transfer_syntax=BIG))[2] == [0, 0, 0, 255]


def test_the_middle_frame() -> None:
    pixels = struct.pack("<12H", *(0,) * 4, 0, 0, 0, 9, *(0,) * 4)
    assert decoded(drawn(image(pixels, 2, 2, frames=3)))[2] == [0, 0, 0, 255]


@pytest.mark.parametrize(("planar", "pixels"), [(0, b"\1\2\3\4\5\6"), (1, b"\1\4\2\5\3\6")])
def test_colours(planar: int, pixels: bytes) -> None:
    us = {0x00280002: 3, 0x00280006: planar, 0x00280100: 8, 0x00280101: 8}
    content = image(pixels, 1, 2, us=us, photometric=b"RGB")
    assert decoded(drawn(content)) == (2, 1, [1, 2, 3, 4, 5, 6])


def test_large_images_become_small() -> None:
    width, height, _ = decoded(drawn(image(bytes(2 * 500 * 300), 500, 300)))
    assert max(width, height) <= EDGE
    assert (width, height) == (60, 100)


@pytest.mark.parametrize(
    "changes",
    [
        {"modality": "US"},
        {"modality": "us "},
        {"modality": "OT"},
        {"sop_class": "1.2.840.10008.5.1.4.1.1.6.1"},
        {"sop_class": "1.2.840.10008.5.1.4.1.1.3"},
        {"sop_class": "1.2.840.10008.5.1.4.1.1.77.1.5.1"},
        {"sop_class": "1.2.840.10008.5.1.4.1.1.104.1"},
        {"sop_class": "1.2.840.10008.5.1.1.29"},
        {"sop_class": "1.2.840.10008.5.1.1.30"},
        {"sop_class": "1.2.840.10008.5.1.4.1.1.7"},
        {"sop_class": "1.2.840.10008.5.1.4.1.1.7.2"},
        {"transfer_syntax": "1.2.840.10008.1.2.4.90"},
        {"pixel_bytes": 0},
        {"pixel_bytes": MOST_BYTES + 1},
        {"size": 100 + MOST_HEADER + 1},
    ],
)
def test_what_is_not_drawn(changes: dict[str, Any]) -> None:
    content = image(struct.pack("<4H", 1, 2, 3, 4), 2, 2)
    assert drawn(content, size=100 + MOST_HEADER)
    assert drawn(content, **changes) == b""


@pytest.mark.parametrize("said", [b"YES", b"yes", b"?"])
def test_burned_in_text_is_not_shown(said: bytes) -> None:
    content = struct.pack("<4H", 1, 2, 3, 4)
    assert drawn(image(content, 2, 2, burned=b"NO"))
    assert drawn(image(content, 2, 2, burned=said)) == b""


@pytest.mark.parametrize("said", [b"DERIVED\\SECONDARY\\SCREEN SAVE", b"ORIGINAL\\PRIMARY\\screenshot"])
def test_screenshots_are_not_drawn(said: bytes) -> None:
    pixels = struct.pack("<4H", 1, 2, 3, 4)
    assert drawn(image(pixels, 2, 2, image_type=b"ORIGINAL\\PRIMARY\\M"))
    assert drawn(image(pixels, 2, 2, image_type=said)) == b""
    assert drawn(image(pixels, 2, 2, image_type=said, burned=b"NO"))


@pytest.mark.parametrize(
    ("bit", "bits", "apart", "is_drawn"),
    [(0, 1, False, True), (15, 1, False, False), (0, 16, False, False), (15, 16, True, False), (0, 16, True, True)],
)
def test_overlays_in_unused_bits_are_not_drawn(bit: int, bits: int, apart: bool, is_drawn: bool) -> None:
    content = image(struct.pack("<4H", 1, 2, 3, 4), 2, 2)
    overlay = element(0x60020100, "US", struct.pack("<H", bits)) + element(0x60020102, "US", struct.pack("<H", bit))
    overlay += element(0x60023000, "OW", b"\0\0") if apart else b""
    at = content.index(struct.pack("<HH", 0x7FE0, 0x0010))
    assert bool(drawn(content[:at] + overlay + content[at:])) is is_drawn


def test_one_frame_is_read_of_many() -> None:
    frames = 400
    content = image(bytes(frames // 2 * 20_000) + struct.pack("<10000H", *range(10000)) * 200, 100, 100, frames=frames)
    source = Memory({"i": content})
    assert len(set(decoded(thumbnail(source, instance()))[2])) > 200
    assert source.read["i"] < 100_000


@pytest.mark.parametrize("kind", ["OB", "OW", "UN"])
@pytest.mark.parametrize(("length", "is_drawn"), [(8, True), (2, False), (0xFFFFFFFF, False), (MOST_BYTES + 1, False)])
def test_the_length_of_the_pixels(kind: str, length: int, is_drawn: bool) -> None:
    content = image(struct.pack("<4H", 1, 2, 3, 4), 2, 2)
    at = content.index(struct.pack("<HH", 0x7FE0, 0x0010)) + 4
    changed = kind.encode() + b"\0\0" + struct.pack("<I", length)
    assert bool(drawn(content[:at] + changed + content[at + 8 :])) is is_drawn


def test_implicit_vr() -> None:
    content = image(struct.pack("<4H", 100, 200, 300, 1100), 2, 2)
    numbers = content[content.index(struct.pack("<HH", 0x0028, 0x0002)) :]
    plain = b""
    while numbers:
        tag, kind = numbers[:4], numbers[4:6]
        head = 12 if kind == b"OW" else 8
        size = int.from_bytes(numbers[head - 4 : head] if head == 12 else numbers[6:8], "little")
        plain += tag + struct.pack("<I", size) + numbers[head : head + size]
        numbers = numbers[head + size :]
    meta = element(0x00020010, "UI", IMPLICIT.encode() + b"\0")
    meta = element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta
    picture = drawn(bytes(128) + b"DICM" + meta + plain, transfer_syntax=IMPLICIT)
    assert decoded(picture) == (2, 2, [0, 25, 51, 255])


@pytest.mark.parametrize("cut", [0, 10, 140, 200, -3])
def test_damage_costs_nothing_but_the_picture(cut: int) -> None:
    assert drawn(image(struct.pack("<4H", 1, 2, 3, 4), 2, 2)[:cut]) == b""


def test_the_middle_instance_of_each_series() -> None:
    files = {f"a{n}": image(struct.pack("<4H", 0, 0, 0, n), 2, 2) for n in (1, 2, 10)}
    members = [instance(path=f"a{n}", sop_uid=str(n), instance_number=str(n)) for n in (10, 1, 2)]
    opened: list[str] = []

    class Watched(Memory):
        def open(self, path: str) -> Any:
            opened.append(path)
            return super().open(path)

    members.append(instance(path="b", sop_uid="0", instance_number="9" * 5000))  # Python converts no such number
    files["b"] = b""
    made = dict(thumbnails(Watched(files), members))
    assert opened == ["a2"]
    assert list(made) == ["3"]
    assert made["3"].startswith("data:image/png;base64,iVBOR")
