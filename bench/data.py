"""The data that is sent: five trees of DICOM files, made anew from one real header.

Pixels are half background with little noise and half tissue with more, so that they deflate as images do (to a half).
"""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite

from tests.dicom_trees import read, uid
from tests.standin.namer import list_hash


@dataclass(frozen=True)
class DataSet:
    """sessions of series of files. pixels: bytes of pixel data in each file; zipped: each session is a zip."""

    name: str
    sessions: int
    series: int
    files: int
    pixels: int
    frames: int = 1
    zipped: bool = False

    @property
    def instances(self) -> int:
        return self.sessions * self.series * self.files

    @property
    def title(self) -> str:
        sessions = f"{self.sessions} sessions, " if self.sessions > 1 else ""
        packed = "zips, " if self.zipped else ""
        size = f"{self.pixels / 1e9:.0f} GB" if self.pixels > 1e9 else f"{self.pixels / 1000:,.0f} kB"
        return f"({self.name}) {sessions}{packed}{self.instances:,} files of {size}"


SETS = {
    one.name: one
    for one in (
        DataSet("a", 1, 4, 200, 512 * 512 * 2),
        DataSet("b", 1, 10, 2000, 64 * 128 * 2),
        DataSet("c", 40, 2, 50, 256 * 256 * 2),
        DataSet("d", 1, 1, 1, 2_000_000_000, frames=3815),
        DataSet("e", 300, 1, 20, 64 * 128 * 2, zipped=True),
    )
}
SMALL = {
    one.name: one
    for one in (
        DataSet("a", 1, 2, 20, 512 * 512 * 2),
        DataSet("b", 1, 2, 500, 64 * 128 * 2),
        DataSet("c", 4, 1, 25, 256 * 256 * 2),
        DataSet("e", 8, 1, 20, 64 * 128 * 2, zipped=True),
    )
}
_PLANE = 1 << 20
# What the header of each series is written with, once, and replaced in each of its files.
_UID, _NUMBER = "1.2.3." + "9" * 38, 999999
_PIXELS = b"\xe0\x7f\x10\x00OW"
_LOW = bytes(value & 15 for value in range(256)), bytes(value & 127 for value in range(256))


def _plane(chance: random.Random) -> bytes:
    """A megabyte of 16-bit values."""
    pixels = bytearray(_PLANE)
    half = _PLANE // 4
    for begin, table, high in ((0, _LOW[0], 0), (half, _LOW[1], 2)):
        span = slice(2 * begin, 2 * (begin + half), 2)
        pixels[span] = chance.randbytes(half).translate(table)
        pixels[2 * begin + 1 : 2 * (begin + half) + 1 : 2] = bytes([high]) * half
    rows = [
        bytes(pixels[at : at + 512]) + bytes(pixels[2 * half + at : 2 * half + at + 512])
        for at in range(0, 2 * half, 512)
    ]
    return b"".join(rows)


def make(data: DataSet, root: Path) -> dict[str, str]:
    """Writes a set; stored name -> path of what is in it, for the sink. Members of zips lie in files beside them."""
    chance = random.Random(data.name)
    planes = [_plane(chance) for _ in range(8)]
    index: dict[str, str] = {}
    for number in range(data.sessions):
        session = root / "tree" / f"S{number:03d}" / "MR1"
        files = list(_session(data, session, f"{data.name}{number}", planes, chance))
        index |= dict(files)
        if data.zipped:
            place = root / "zips" / f"S{number:03d}"
            place.mkdir(parents=True)
            with zipfile.ZipFile(place / "MR1.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for _, path in files:
                    archive.write(path, str(Path(path).relative_to(session)))
    (root / "index.json").write_text(json.dumps(index))
    return index


def _session(
    data: DataSet, folder: Path, seed: str, planes: list[bytes], chance: random.Random
) -> Iterator[tuple[str, str]]:
    dataset = read("MR_small.dcm")
    dataset.PatientID = f"ID{seed}"
    dataset.StudyInstanceUID = uid(seed)
    side = {64 * 128 * 2: (64, 128), 256 * 256 * 2: (256, 256)}.get(data.pixels, (512, 512))
    dataset.Rows, dataset.Columns = side
    if data.frames > 1:
        dataset.NumberOfFrames = data.frames
    dataset.PixelData = b""
    for series in range(1, data.series + 1):
        dataset.SeriesInstanceUID, dataset.SeriesNumber = uid(seed, series), series
        dataset.SeriesDescription = f"series {series}"
        dataset.SOPInstanceUID, dataset.InstanceNumber = _UID, _NUMBER
        head = _head(dataset, data.pixels)
        place = folder / f"series_{series:04d}"
        place.mkdir(parents=True)
        stem = uid(seed, series)[: len(_UID) - 7]
        for number in range(1, data.files + 1):
            sop_uid, text = f"{stem}.{number:06d}", f"{number:06d}"
            path = place / f"IM{text}.dcm"
            own = head.replace(_UID.encode(), sop_uid.encode()).replace(str(_NUMBER).encode(), text.encode())
            _write(path, own, data.pixels, planes, chance)
            identity = list_hash([str(dataset.SOPClassUID), sop_uid])
            yield f"{dataset.StudyInstanceUID}-{series}-{text}-{identity}.dcm", str(path)


def _head(dataset: FileDataset, size: int) -> bytes:
    """All of a file but its pixels; the library would hold those of 2 GB."""
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    out = DicomBytesIO()
    dcmwrite(out, dataset, enforce_file_format=True)
    written = out.getvalue()
    return written[: written.rindex(_PIXELS)] + _PIXELS + b"\0\0" + size.to_bytes(4, "little")


def _write(path: Path, head: bytes, size: int, planes: list[bytes], chance: random.Random) -> None:
    with path.open("wb") as stream:
        stream.write(head)
        while size:
            plane = memoryview(chance.choice(planes))
            at = chance.randrange(0, 512) * 1024
            size -= stream.write(plane[at : at + size])
