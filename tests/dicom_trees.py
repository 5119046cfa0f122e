"""DICOM trees for tests, the demo and benchmarks, made of the real files that the pydicom package carries.

Every instance is a real file given new UIDs that are consistent in its tree, so that no two trees share a study.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import tempfile
import uuid
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import UID, generate_uid

from xnat_ingest.core.model import SourceFile

SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"
PATIENT = "Doe^Janet^Q"
# Real files of several kinds: classic MR and CT, big endian, implicit, RLE, JPEG 2000, JPEG-LS, deflated, SR, RT.
MR = "MR_small.dcm"
CT = "CT_small.dcm"
KINDS = (
    MR,
    CT,
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "JPEG-lossy.dcm",
    "image_dfl.dcm",
    "test-SR.dcm",
    "rtplan.dcm",
    "examples_overlay.dcm",
)


@dataclass
class Series:
    """One series folder to be made. name: the folder's; files: instances; sample: a file name in SAMPLES."""

    name: str
    files: int = 3
    sample: str = MR
    number: int | None = None
    tags: Mapping[str, object] = field(default_factory=dict)


def uid(*words: object) -> str:
    """A UID that depends on the words alone."""
    return str(generate_uid(entropy_srcs=[str(word) for word in words]))


@cache
def _bytes(sample: str) -> bytes:
    return (SAMPLES / sample).read_bytes()


def read(sample: str) -> FileDataset:
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(_bytes(sample)))


def save(dataset: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


# What stands for an instance's own values in files that are encoded once and copied.
_STUDY, _SERIES, _INSTANCE, _PERSON = uid("a study"), uid("a series"), uid("an instance"), "ID??????"


@cache
def _syntax(sample: str) -> str:
    return str(read(sample).file_meta.TransferSyntaxUID)


@lru_cache(2000)
def _encoded(series: _SeriesKey, index: int, study: str, series_uid: str, instance: str, person: str) -> bytes:
    dataset = read(series.sample)
    dataset.PatientName = series.patient
    dataset.PatientID = person
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series_uid
    dataset.SeriesNumber = series.number
    dataset.SeriesDescription = series.name.rpartition("_")[0] or series.name
    for keyword, value in series.tags:
        setattr(dataset, keyword, value)
    dataset.InstanceNumber = index
    dataset.SOPInstanceUID = instance
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(instance)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


@dataclass(frozen=True)
class _SeriesKey:
    """What the files of a series have in common with those of others that are made alike."""

    sample: str
    name: str
    number: int
    patient: str
    tags: tuple[tuple[str, object], ...]

    def file(self, index: int, own: tuple[str, str, str, str]) -> bytes:
        """One file. own: the UIDs of study, series and instance, and the PatientID."""
        if not self.is_copied:
            return _encoded.__wrapped__(self, index, *own)
        raw = _encoded(self, index, _STUDY, _SERIES, _INSTANCE, _PERSON)
        for placeholder, value in zip((_STUDY, _SERIES, _INSTANCE, _PERSON), own, strict=True):
            raw = raw.replace(placeholder.encode(), value.encode())
        return raw

    @cached_property
    def is_copied(self) -> bool:
        """Whether values can be exchanged in the encoded file: not in a deflated one."""
        try:
            hash(self)
        except TypeError:  # a tag is a list or a sequence
            return False
        return _syntax(self.sample) != DEFLATED


def make_series(folder: Path, series: Series, seed: str, number: int, *, patient: str = PATIENT) -> list[Path]:
    """Writes one series below the folder; seed: names the study, so equal seeds give equal UIDs."""
    key = _SeriesKey(series.sample, series.name, number, patient, tuple(series.tags.items()))
    # One person in each subject folder, as in a tree that is in order.
    person = f"ID{uuid.uuid5(uuid.NAMESPACE_OID, folder.parent.name).hex[:6]}"
    study, series_uid = uid(seed), uid(seed, series.name)
    (folder / series.name).mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(1, series.files + 1):
        paths.append(folder / series.name / f"IM{index:06d}")
        paths[-1].write_bytes(key.file(index, (study, series_uid, uid(seed, series.name, index), person)))
    return paths


def make_session(folder: Path, series: Iterable[Series], seed: str = "", *, patient: str = PATIENT) -> list[Path]:
    """Writes a session: each series in a folder of its own."""
    return [
        path
        for number, one in enumerate(series, 1)
        for path in make_series(folder, one, seed or str(folder), one.number or number, patient=patient)
    ]


DEMO_SERIES = (
    Series("Localizers_0001", 3, "examples_overlay.dcm"),
    Series("AAHEAD_Scout_0002", 2),
    Series("T1-MPRAGE_0010", 12),
    Series("ep2d_bold_rest_0011", 8, "MR_small_RLE.dcm"),
    Series("MoCoSeries_0012", 4),
    Series("t2_space_sag_0013", 6, "MR_small_bigendian.dcm"),
)


def make_demo(root: Path, subjects: Sequence[str] = ("007", "008"), sessions: Sequence[str] = ("pre", "post")) -> int:
    """The tree of the original tool's users: subjects, sessions, series; some of it excluded. Returns its files.

    Its headers are in order, too: each person has one PatientID, and each session a date of its own.
    """
    shutil.rmtree(root, ignore_errors=True)
    paths = []
    for subject in subjects:
        for month, session in enumerate(sessions, 1):
            tags = {"PatientID": subject, "StudyDate": f"2024{month:02d}15"}
            series = [replace(one, tags={**one.tags, **tags}) for one in DEMO_SERIES]
            paths += make_session(root / subject / session, series, uuid.uuid4().hex)
        (root / subject / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (root / "README.txt").write_text("Exported from the scanner console.\n")
    return len(paths) + len(subjects) + 1


Elements = Mapping[int, tuple[str, bytes]]
_LONG = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
LITTLE = "1.2.840.10008.1.2.1"
BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
PIXELS = 0x7FE00010
IDENTITY: Elements = {
    0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.66"),
    0x00080018: ("UI", b"1.2.3.4.5.6\0"),
    0x0020000D: ("UI", b"1.2.3.4\0"),
    0x0020000E: ("UI", b"1.2.3.4.5\0"),
}


def encode(elements: Elements, order: str = "<") -> bytes:
    """The elements in explicit VR, in the order of their tags; nothing is checked, so any defect can be written."""
    raw = b""
    for tag, (vr, value) in sorted(elements.items()):
        form = "HH2sHL" if vr in _LONG else "HH2sH"
        numbers = (0, len(value)) if vr in _LONG else (len(value),)
        raw += struct.pack(order + form, tag >> 16, tag & 0xFFFF, vr.encode("ascii"), *numbers) + value
    return raw


def part10(elements: Elements, syntax: str = LITTLE) -> bytes:
    """A file with preamble and meta header."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = encode({0x00020010: ("UI", uid)})
    order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
    return (
        bytes(128)
        + b"DICM"
        + encode({0x00020000: ("UL", struct.pack("<L", len(meta)))})
        + meta
        + encode(elements, order)
    )


def implicit(elements: Elements) -> bytes:
    """The elements in implicit VR."""
    ordered = sorted(elements.items())
    return b"".join(struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value for tag, (_, value) in ordered)


def sequence(*items: bytes, tag: int = 0x00081140) -> bytes:
    """A sequence of undefined length, its items too."""
    start, end = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF), struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    head = struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"SQ", 0, 0xFFFFFFFF)
    return head + b"".join(start + item + end for item in items) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def encapsulated(*values: bytes, frames: int = 1, syntax: str = RLE) -> bytes:
    """A file with encapsulated pixel data; the first item is the offset table."""
    head = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    items = b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(value)) + value for value in values)
    return (
        part10({**IDENTITY, 0x00280008: ("IS", b"%-2d" % frames)}, syntax)
        + head
        + items
        + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    )


def deflated(data: bytes) -> bytes:
    """A file whose data set, given in explicit VR, is deflated."""
    squeeze = zlib.compressobj(wbits=-15)
    return part10({}, DEFLATED) + squeeze.compress(data) + squeeze.flush()


def nested(depth: int) -> bytes:
    """A file with sequences in one another before its UIDs."""
    value = b""
    for _ in range(depth):
        value = sequence(value)
    return part10({}) + value + encode(IDENTITY)


@cache
def sample(name: str) -> tuple[bytes, int, set[int]]:
    """A real file: its bytes, how many of them it takes to be whole, and where a cut leaves no trace.

    A file without pixels that ends before an element looks whole.
    """
    raw = (SAMPLES / name).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(io.BytesIO(raw), force=True)
    if header.file_meta.get("TransferSyntaxUID") == DEFLATED:
        return raw, len(raw) - 8, set()  # a checksum that no reader needs
    elements: list[Any] = [header.get_item(tag) for tag in sorted(header.keys()) if PIXELS not in header]
    tells = [getattr(element, "value_tell", None) or element.file_tell for element in elements]
    pixels: Any = header.get_item(PIXELS) if PIXELS in header else None
    end = pixels.value_tell + len(pixels.value) if pixels else len(raw)
    return raw, end, {tell - size for tell in tells for size in (8, 12)}


class Memory:
    """A source whose files lie in memory; read: how many bytes were asked for, by path."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self.contents = dict(contents)
        self.read: Counter[str] = Counter()

    def files(self) -> Iterator[SourceFile]:
        for path in sorted(self.contents):
            yield SourceFile(path, *self.stat(path))

    def stat(self, path: str) -> tuple[int, int]:
        if path not in self.contents:
            raise FileNotFoundError(2, "No such file or directory", path)
        return len(self.contents[path]), 0

    def open(self, path: str) -> BinaryIO:
        self.stat(path)
        stream = _Counting(self.contents[path])
        stream.note = lambda number: self.read.update({path: number})
        return stream

    def changed_ns(self, path: str) -> int:
        return 0

    def in_order(self, path: str) -> bool:
        return False

    def name_of(self, folder: str) -> str:
        return folder.rpartition("/")[2]


class _Counting(io.BytesIO):
    note: Callable[[int], None]

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.note(len(data))
        return data


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder that every user of the machine may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="tree-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def no_privileges() -> Iterator[None]:
    """Permissions count inside, even where the tests run as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)
