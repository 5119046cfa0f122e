"""A small picture of one instance for the report, from uncompressed grey or RGB pixels, without extra packages.

Objects that may show a patient's name in their pixels are never drawn.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from xnat_ingest.core import Instance
from xnat_ingest.inputs.source import Source

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
    if instance.modality in MAY_SHOW_TEXT or instance.sop_class.startswith(SECONDARY_CAPTURE):
        return b""
    from pydicom import dcmread

    try:
        with source.open(instance.path) as stream:
            return _draw(dcmread(stream, force=True), little=instance.transfer_syntax != UNCOMPRESSED[2])
    except Exception:  # noqa: BLE001 - a picture is an ornament: no damage in a header may cost the report
        return b""


def _draw(header: Dataset, *, little: bool) -> bytes:
    if str(header.get("BurnedInAnnotation", "NO")).upper() != "NO" or "PixelData" not in header:
        return b""
    rows, columns = int(header.Rows), int(header.Columns)
    colours, bits = int(header.get("SamplesPerPixel", 1)), int(header.BitsAllocated)
    photometric = str(header.get("PhotometricInterpretation", ""))
    frame = rows * columns * colours * bits // 8
    if colours == 1 and bits in (8, 16) and photometric.startswith("MONOCHROME"):
        read = _grey_reader(header, bits, little=little)
    elif colours == 3 and bits == 8 and photometric == "RGB":
        read = _colour_reader(header, rows * columns)
    else:
        return b""
    data = memoryview(header.PixelData)
    middle = int(header.get("NumberOfFrames", None) or 1) // 2 * frame
    width, height, pixels = _sampled(data[middle : middle + frame], rows, columns, read)
    if photometric == "MONOCHROME1":  # the smallest value is white
        pixels = bytes(255 - value for value in pixels)
    return _png(width, height, pixels, colours)


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


def thumbnails(source: Source, instances: Iterable[Instance]) -> dict[str, str]:
    """SeriesInstanceUID -> a picture of its middle instance, as a data URI. Series without a picture are absent."""
    series: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        if not source.in_order(instance.path):  # in a compressed tar, each picture would cost another pass
            series[instance.series_uid].append(instance)
    drawn = {uid: thumbnail(source, sorted(members, key=_order)[len(members) // 2]) for uid, members in series.items()}
    return {uid: f"data:image/png;base64,{b64encode(png).decode()}" for uid, png in drawn.items() if png}


def _order(instance: Instance) -> tuple[int, str]:
    number = instance.instance_number.strip()
    is_number = number.lstrip("-").isdecimal() and len(number) <= 12  # the greatest length of a DICOM integer
    return (int(number), "") if is_number else (0, instance.path)
