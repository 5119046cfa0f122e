"""The stand-in's own reader of DICOM heads, against the sample files that come with pydicom."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest

from tests.standin.dicomhead import NotDicomError, head_of, read_head
from tests.standin.samples import dicom

FILES = [path for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*")) if path.is_file()]
KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "PatientID")


@pytest.mark.wide
@pytest.mark.filterwarnings("ignore")
def test_it_reads_what_pydicom_reads() -> None:
    """Explicit, implicit, big endian, deflated, nested and private sequences, missing headers."""
    compared = 0
    for path in FILES:
        try:
            expected = pydicom.dcmread(path, stop_before_pixels=True)
        except (pydicom.errors.InvalidDicomError, EOFError):
            continue
        head = head_of(path)
        for keyword in KEYWORDS:
            value = expected.get(keyword)
            wanted = (str(value).split("\\")[0].strip() or None) if value else None
            assert head.data.text(keyword) == wanted, (path.name, keyword)
        raw = path.read_bytes()
        assert head.raw[128:] == raw[128 : len(head.raw)], path.name
        assert head.raw[:128] == bytes(128)
        compared += 1
    assert compared > 60


def test_what_is_no_dicom() -> None:
    for raw in (
        b"",
        b"x",
        b"hello " * 50,
        bytes(500),
        b"%PDF-1.4" + bytes(200),
    ):
        with pytest.raises(NotDicomError):
            read_head(io.BytesIO(raw))


@pytest.mark.parametrize("size", [140, 200, 300, 330])
def test_a_head_that_ends_inside_is_no_dicom(size: int) -> None:
    with pytest.raises(NotDicomError):
        read_head(io.BytesIO(dicom(1)[:size]))


def test_deep_nesting_is_no_recursion() -> None:
    opening = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    raw = dicom(1)
    at = raw.index(b"\x10\0\x10\0PN")
    head = read_head(io.BytesIO(raw[:at] + opening * 5000 + closing * 5000 + raw[at:]))
    assert head.data.text("PatientName") == "Doe^Jane"
