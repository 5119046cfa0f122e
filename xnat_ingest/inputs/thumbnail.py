"""A small picture of one instance for the report, from uncompressed grey or RGB pixels, without extra packages.

Objects that may show a patient's name in their pixels are never drawn.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import SEEK_CUR
from typing import TYPE_CHECKING, BinaryIO

from xnat_ingest.core import Instance
from xnat_ingest.inputs.source import Source, go_on, heard
from xnat_ingest.inputs.text_in_pixels import may_be_overlay, text_risk

if TYPE_CHECKING:
    from pydicom import Dataset

# Pixels along the longer side of a picture.
EDGE = 112
# Above this many bytes of pixel data, a picture is not worth the reading.
MOST_BYTES = 64 << 20
# The same for a header. The library builds all of its items.
MOST_HEADER = 512 << 10
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
# Burned-in text is common in these: ultrasound, secondary captures, screenshots, documents.
MAY_SHOW_TEXT = ("US", "IVUS", "OT", "SC", "SR", "DOC", "ES", "XC", "GM")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def thumbnail(source: Source, instance: Instance) -> bytes:
    """A PNG; empty when no picture can or may be made."""
    if instance.transfer_syntax not in UNCOMPRESSED or not 0 < instance.pixel_bytes <= MOST_BYTES:
        return b""
    if instance.size - instance.pixel_bytes > MOST_HEADER:
        return b""
    if instance.modality.strip().upper() in MAY_SHOW_TEXT or instance.sop_class.startswith(SECONDARY_CAPTURE):
        return b""
    from pydicom import dcmread

    try:
        with source.open(instance.path) as stream:
            header = dcmread(stream, stop_before_pixels=True, force=True)
            return b"" if _may_show_text(header, instance.sop_class) else _draw(header, stream)
    except Exception:  # noqa: BLE001 - a picture is an ornament: no damage in a header may cost the report
        return b""


def _may_show_text(header: Dataset, sop_class: str) -> bool:
    said = str(header.get("BurnedInAnnotation", ""))
    if "BurnedInAnnotation" in header and said.upper() != "NO":
        return True
    if text_risk(said, sop_class, str(header.get("ImageType", ""))):
        return True
    for group in range(0x6000, 0x6100, 2):
        bit, bits = (int(header[group, one].value or 0) if (group, one) in header else 0 for one in (0x0102, 0x0100))
        if may_be_overlay(bit, bits, is_apart=(group, 0x3000) in header):
            return True
    return False


def _draw(header: Dataset, stream: BinaryIO) -> bytes:
    """stream: at the pixel data. Only one frame of it is read: there may be many, on a slow disk."""
    is_implicit, little = header.original_encoding
    rows, columns = int(header.Rows), int(header.Columns)
    colours, bits = int(header.get("SamplesPerPixel", 1)), int(header.BitsAllocated)
    photometric = str(header.get("PhotometricInterpretation", ""))
    frame = rows * columns * colours * bits // 8
    if colours == 1 and bits in (8, 16) and photometric.startswith("MONOCHROME"):
        read = _grey_reader(header, bits, little=bool(little))
    elif colours == 3 and bits == 8 and photometric == "RGB":
        read = _colour_reader(header, rows * columns)
    else:
        return b""
    length = _pixel_length(stream, is_implicit=bool(is_implicit), little=bool(little))
    middle = int(header.get("NumberOfFrames", None) or 1) // 2 * frame
    if not 0 <= middle < length <= MOST_BYTES:
        return b""
    stream.seek(middle, SEEK_CUR)
    data = memoryview(stream.read(min(frame, length - middle)))
    width, height, pixels = _sampled(data, rows, columns, read)
    if photometric == "MONOCHROME1":  # the smallest value is white
        pixels = bytes(255 - value for value in pixels)
    return _png(width, height, pixels, colours)


def _pixel_length(stream: BinaryIO, *, is_implicit: bool, little: bool) -> int:
    """Bytes of the pixel data that the stream is at; it is at the first of them then. 0 for anything else."""
    order = "<" if little else ">"
    tag = struct.unpack(f"{order}HH", stream.read(4))
    if not is_implicit and stream.read(4)[:2] not in (b"OB", b"OW", b"UN"):
        return 0
    (length,) = struct.unpack(f"{order}I", stream.read(4))
    return int(length) if tag == (0x7FE0, 0x0010) else 0


Read = Callable[[memoryview, int], tuple[int, ...]]


def _grey_reader(header: Dataset, bits: int, *, little: bool) -> Read:
    """A function that reads the value of one pixel by its number in the frame."""
    if bits == 8:
        return lambda data, at: (data[at],)
    signed = int(header.get("PixelRepresentation", 0)) == 1
    one = struct.Struct(("<" if little else ">") + ("h" if signed else "H"))
    mask = (1 << min(int(header.get("BitsStored", 16)), 16)) - 1  # a header may say any number
    if signed:
        return lambda data, at: one.unpack_from(data, 2 * at)
    return lambda data, at: (one.unpack_from(data, 2 * at)[0] & mask,)


def _colour_reader(header: Dataset, pixels: int) -> Read:
    if int(header.get("PlanarConfiguration", 0)) == 1:
        return lambda data, at: (data[at], data[at + pixels], data[at + 2 * pixels])
    return lambda data, at: (data[3 * at], data[3 * at + 1], data[3 * at + 2])


def _sampled(data: memoryview, rows: int, columns: int, read: Read) -> tuple[int, int, bytes]:
    """(width, height, bytes of the picture): every n-th pixel, with grey values stretched over the full range."""
    step = max(1, -(-max(rows, columns) // EDGE))
    points = [read(data, y * columns + x) for y in range(0, rows, step) for x in range(0, columns, step)]
    width, height = len(range(0, columns, step)), len(range(0, rows, step))
    if points and len(points[0]) == 1:
        values = [point[0] for point in points]
        low, high = _window(values)
        return width, height, bytes(min(255, max(0, 255 * (v - low) // (high - low))) for v in values)
    return width, height, bytes(value for point in points for value in point)


def _window(values: Sequence[int]) -> tuple[int, int]:
    """The darkest and the brightest value, ignoring the outermost hundredth of the pixels."""
    ordered = sorted(values)
    cut = len(ordered) // 100
    low, high = ordered[cut], ordered[-1 - cut]
    return low, max(high, low + 1)


def _png(width: int, height: int, pixels: bytes, colours: int) -> bytes:
    line = width * colours
    raw = b"".join(b"\0" + pixels[y * line : (y + 1) * line] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if colours == 1 else 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(raw, 9)) + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def thumbnails(
    source: Source, instances: Iterable[Instance], check_stop: Callable[[], None] = go_on
) -> Iterator[tuple[str, str]]:
    """(SeriesInstanceUID, a picture of its middle instance as a data URI). Series without a picture are absent.

    check_stop: called before each picture; may raise.
    """
    series: dict[str, list[Instance]] = defaultdict(list)
    for instance in heard(instances, check_stop):
        if not source.in_order(instance.path):  # in a compressed tar, each picture would cost another pass
            series[instance.series_uid].append(instance)
    for uid, members in series.items():
        check_stop()
        if png := thumbnail(source, sorted(members, key=_order)[len(members) // 2]):
            yield uid, f"data:image/png;base64,{b64encode(png).decode()}"


def _order(instance: Instance) -> tuple[int, str]:
    number = instance.instance_number.strip()
    is_number = number.lstrip("-").isdecimal() and len(number) <= 12  # the greatest length of a DICOM integer
    return (int(number), "") if is_number else (0, instance.path)
