"""Header values as the text that rules and templates look at."""

from __future__ import annotations

import io
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from xnat_ingest.inputs.header_text import full_text


@pytest.mark.parametrize(
    ("keyword", "value", "text"),
    [
        ("AcquisitionMatrix", [256, 0, 0, 134], r"256\0\0\134"),  # US
        ("SimpleFrameList", [1, 70000], r"1\70000"),  # UL
        ("ReferencePixelPhysicalValueX", 1.5, "1.5"),  # FD
        ("DiffusionGradientOrientation", [0.5, -1.0, 0.0], r"0.5\-1.0\0.0"),  # FD
        ("FrameIncrementPointer", [0x00181063, 0x00181065], r"(0018,1063)\(0018,1065)"),  # AT
        ("Rows", 64, "64"),
        ("ImageType", ["ORIGINAL", "PRIMARY"], r"ORIGINAL\PRIMARY"),
    ],
)
@pytest.mark.parametrize("explicit", [True, False])
def test_several_values_have_backslashes_between(keyword: str, value: Any, text: str, explicit: bool) -> None:
    """pydicom gives binary numbers of a file as a plain list."""
    written, stream = Dataset(), io.BytesIO()
    setattr(written, keyword, value)
    written.save_as(stream, implicit_vr=not explicit, little_endian=True)
    stream.seek(0)
    dataset = read_dataset(stream, not explicit, True)
    assert full_text(dataset, written[keyword].tag) == text
