"""How far an object goes: a copy is whole when it goes on to the end of what was sent, whatever its header says."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
from pydicom.dataset import Dataset, FileDataset

from tests.dicom_trees import KINDS, read
from xnat_ingest.inputs.dicom_elements import Unreadable
from xnat_ingest.inputs.whole_copy import Extent, extent_of


def encoded(dataset: FileDataset) -> bytes:
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def blocks(raw: bytes, size: int = 1000) -> Iterator[bytes]:
    return (raw[at : at + size] for at in range(0, len(raw), size))


def is_whole(stored: bytes, sent: Extent) -> bool:
    try:
        return extent_of(blocks(stored)).reaches(sent)
    except Unreadable:
        return False


def name(dataset: Dataset) -> None:
    dataset.PatientName = "Anonymous"
    dataset.PatientIdentityRemoved = "YES"


def private(dataset: Dataset) -> None:
    dataset.remove_private_tags()


def as_it_is(_: Dataset) -> None:
    pass


@pytest.mark.parametrize("script", [as_it_is, name, private])
@pytest.mark.parametrize("sample", KINDS)
def test_a_copy_that_is_cut_anywhere_is_not_whole(sample: str, script: Callable[[Dataset], None]) -> None:
    """Up to the end of its last standard element."""
    sent = encoded(read(sample))
    dataset = read(sample)
    script(dataset)
    stored = encoded(dataset)
    extent = extent_of(blocks(sent))
    assert is_whole(stored, extent)
    cuts = {*range(0, len(stored), len(stored) // 60), *range(len(stored) - 60, len(stored))}
    if sample == "image_dfl.dcm":  # its padding
        cuts -= {len(stored) - 1}
    assert [cut for cut in sorted(cuts) if is_whole(stored[:cut], extent)] == []


def test_what_a_script_may_take_away_behind_the_pixels() -> None:
    """Private elements and signatures. A part of one is a cut."""
    dataset = read("MR_small.dcm")
    plain = encoded(dataset)
    dataset.add_new(0x7FE10010, "LO", "SOMEBODY")
    dataset.add_new(0x7FE11000, "OB", bytes(1000))
    dataset.add_new(0xFFFAFFFA, "SQ", [Dataset()])
    sent = encoded(dataset)
    extent = extent_of(blocks(sent))
    assert is_whole(plain, extent)
    assert is_whole(sent, extent)
    assert not is_whole(sent[:-300], extent)
    assert not is_whole(plain + b"rest" * 5, extent_of(blocks(plain)))


def test_pixels_are_measured() -> None:
    dataset = read("MR_small.dcm")
    sent = extent_of(blocks(encoded(dataset)))
    dataset.PixelData = dataset.PixelData[:-2]
    assert not is_whole(encoded(dataset), sent)
    del dataset.PixelData
    assert not is_whole(encoded(dataset), sent)


@pytest.mark.parametrize("lost", [0, 8, 9])
def test_pixels_that_were_sent_without_their_end_mark(lost: int) -> None:
    """Eight bytes. What is stored of them can be no more than that."""
    whole = encoded(read("MR_small_RLE.dcm"))
    end = whole.rindex(b"\xfe\xff\xdd\xe0")
    sent = extent_of(blocks(whole[:end]))
    assert sent.is_cut
    assert is_whole(whole[: end + 8 - lost], sent) is (lost < 9)


@pytest.mark.parametrize("raw", [b"", bytes(5000), b"<html>" * 200])
def test_what_is_no_object(raw: bytes) -> None:
    assert not is_whole(raw, extent_of(blocks(encoded(read("test-SR.dcm")))))
