"""DICOM files: what the scan says of one, held against pydicom; what is sent of it, held against the scan."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pydicom

from tests.dicom_trees import IDENTITY, SAMPLES, Memory, deflated, encapsulated, encode, implicit, nested, part10
from tests.fuzz.target import Target, samples
from xnat_ingest.core.model import Instance, Plan, Session, SetAside, SourceFile
from xnat_ingest.inputs.compare_dicom import Differences, NotComparable, compare_datasets
from xnat_ingest.inputs.dicom_elements import Unreadable, sop_uid_of
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.dicom_keywords import tags_of
from xnat_ingest.inputs.dicomdir import check_dicomdirs
from xnat_ingest.inputs.outgoing import Outgoing
from xnat_ingest.inputs.pydicom_header import library_instance
from xnat_ingest.inputs.quick_header import QuickReader
from xnat_ingest.inputs.same_object import is_planned
from xnat_ingest.inputs.whole_copy import extent_of

_KEYWORDS = ("ImageType", "PatientName", "StudyDescription")
# Elements of many VRs, some of which hold several values.
_MANY_KEYWORDS = (
    *("ImageType", "PatientName", "StudyDescription", "AccessionNumber", "StudyTime", "PatientAge", "EchoTime"),
    *("AcquisitionDateTime", "Rows", "PixelSpacing", "ImageComments", "StationName", "RequestAttributesSequence"),
)
_WANTED = tags_of(_MANY_KEYWORDS)
# A reader that has seen all inputs so far.
_EXPERIENCED = QuickReader(_WANTED, {})
_LARGEST = 10_000
_SMALL = 2_100


def scanned(data: bytes) -> tuple[Memory, Instance | SetAside]:
    """The only file of a source, and what the scan makes of it."""
    source = Memory({"x": data})
    (found,) = scan(source, lambda _: None, _KEYWORDS)
    assert isinstance(found, SetAside) or all(isinstance(text, str) for text in found.tags.values())
    return source, found


def header(data: bytes) -> None:
    _, found = scanned(data)
    if isinstance(found, SetAside):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
            theirs = [_first(other, tag) for tag in (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)]
            named = _first(other.file_meta, 0x00020010)
            in_order = [int(tag) for tag in other.keys()]  # noqa: SIM118 - a data set iterates over its elements
    except Exception:  # noqa: BLE001 - the library raises many types
        return  # it gives up where the scan does not
    if in_order != sorted(in_order):
        return  # an element may stand twice, and readers differ in which of the two they take
    assert theirs == [found.sop_class, found.sop_uid, found.study_uid, found.series_uid]
    assert found.transfer_syntax == named or found.form == "headed" or named in ("", *_CONTRADICTED)


# What files name that are encoded otherwise: the scan says what they are encoded in.
_CONTRADICTED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")


def _first(dataset: pydicom.Dataset, tag: int) -> str:
    if tag not in dataset:
        return ""
    raw = dataset.get_item(tag).value
    text = raw.decode("latin-1") if isinstance(raw, bytes) else str(raw or "")
    return text.split("\\")[0].strip(" \0\t\r\n")


def quick(data: bytes) -> None:
    """What the quick reader answers for, the library says of the same file, whatever files were read before."""
    file = SourceFile("x", len(data), 1)
    experienced = _EXPERIENCED.instance(file, io.BytesIO(data))
    fast, slow = dict[str, str](), dict[str, str]()
    found = QuickReader(_WANTED, fast).instance(file, io.BytesIO(data))
    assert (found is None) == (experienced is None)
    if found is not None and experienced is not None:
        assert found == library_instance(file, io.BytesIO(data), _WANTED, slow)
        assert fast == slow
        assert replace(experienced, patient="") == replace(found, patient="")
        assert bool(experienced.patient) == bool(found.patient)


def outgoing(data: bytes) -> None:
    source, found = scanned(data)
    if isinstance(found, SetAside):
        return
    sent = [_sent(source, found) for _ in range(2)]
    assert sent[0] == sent[1]
    assert len(sent[0]) == found.length
    with suppress(Unreadable):  # as it is read back of a stored file
        sop_uid_of([sent[0]])
    if found.form == "file":
        assert sent[0] == data
        assert is_planned(source, found, data)
        return
    _, again = scanned(sent[0])
    assert isinstance(again, Instance), again
    assert (again.sop_class, again.sop_uid) == (found.sop_class, found.sop_uid)
    assert (again.study_uid, again.series_uid) == (found.study_uid, found.series_uid)
    assert (again.transfer_syntax, again.pixel_bytes) == (found.sent_syntax, found.pixel_bytes)
    assert is_planned(source, found, sent[0])


def _sent(source: Memory, instance: Instance) -> bytes:
    with Outgoing(source, instance).open() as blocks:
        return b"".join(blocks)


def read_back(data: bytes) -> None:
    """An object against itself, and against another when the last byte is odd: either is told, or cannot be laid
    beside anything."""
    half = len(data) // 2
    one, two = (data[:half], data[half:]) if data[-1:] and data[-1] % 2 else (data, data)
    found = Differences()
    with suppress(NotComparable):
        compare_datasets([one], [two], len(one), found)
        assert one != two or not (found.wrong or found.replaced or found.changed), found
    with suppress(Unreadable):
        extent = extent_of([one])
        assert extent.is_cut or extent.reaches(extent)


def dicomdir(data: bytes) -> None:
    source = Memory({"DICOMDIR": data})
    instance = Instance("a/b", 1, 1, "1", "2", "3", "4", "", "", "MR", "", "1.2.840.10008.1.2.1", 0, {})
    session = Session("P", "S", "L", "3", "a", (instance,))
    plan = Plan("P", (session,), (SetAside("DICOMDIR", "dicomdir"),), (), 2)
    for problem in check_dicomdirs(plan, source).problems:
        assert problem.detail.isprintable()


def _files() -> Iterator[bytes]:
    yield from samples(_LARGEST)
    yield from (part10(IDENTITY), deflated(encode(IDENTITY)), implicit(IDENTITY), nested(3), encapsulated(b"", b"ab"))


def _small() -> Iterator[bytes]:
    return (data for data in _files() if len(data) < _SMALL)


def _directories() -> Iterator[bytes]:
    """pydicom's, with the first of their records: a whole one takes a hundred times as long to read."""
    for path in sorted((SAMPLES / "dicomdirtests").glob("DICOMDIR*")):
        made = pydicom.dcmread(path)
        if made.DirectoryRecordSequence:
            made.DirectoryRecordSequence = made.DirectoryRecordSequence[:4]
        stream = io.BytesIO()
        made.save_as(stream)
        yield stream.getvalue()


TARGETS = (
    Target("dicom-header", header, _files),
    Target("dicom-quick", quick, _files),
    Target("dicom-outgoing", outgoing, _files),
    Target("dicom-compare", read_back, _small, longest=4096),
    Target("dicomdir", dicomdir, _directories, longest=4096),
)
