"""NIfTI: the outside of images, and what their sidecars say."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Iterator

from tests.fuzz.target import Target
from xnat_ingest.inputs.nifti_file import Name, judge_image, read_sidecar


def image(data: bytes) -> None:
    """As it is, and gzipped; one that is whole is whole in both, and one that is cut in neither."""
    plain = judge_image(io.BytesIO(data), "x.nii", len(data), Name.of("x.nii"))
    packed = gzip.compress(data, 1, mtime=0)
    zipped = judge_image(io.BytesIO(packed), "x.nii.gz", len(packed), Name.of("x.nii.gz"))
    if data[:2] != b"\x1f\x8b":
        assert (plain is None) == (zipped is None), (plain, zipped)
    judge_image(io.BytesIO(data), "x.nii.gz", len(data), Name.of("x.nii.gz"))
    judge_image(io.BytesIO(data), "x.hdr", len(data), Name.of("x.hdr"))


def sidecar(data: bytes) -> None:
    found = read_sidecar(io.BytesIO(data), len(data), Name.of("x.json"), {})
    read_sidecar(io.BytesIO(data), len(data), Name.of("x.json.gz"), {})
    if found is None:
        return
    document = json.loads(data)
    found = read_sidecar(io.BytesIO(data), len(data), Name.of("x.json"), dict.fromkeys(document, len(data)))
    if found is None:  # a list that is nested too deeply
        return
    assert found.keys() == document.keys()
    assert all(isinstance(text, str) for text in found.values())
    assert all(found[key] == value for key, value in document.items() if isinstance(value, str))


def _images() -> Iterator[bytes]:
    for order in "<>":
        one, two = bytearray(352 + 8), bytearray(544 + 8)
        struct.pack_into(f"{order}l", one, 0, 348)
        struct.pack_into(f"{order}8h", one, 40, 2, 2, 2, 1, 1, 1, 1, 1)
        struct.pack_into(f"{order}h", one, 72, 16)
        struct.pack_into(f"{order}f", one, 108, 352)
        one[344:348] = b"n+1\0"
        struct.pack_into(f"{order}l", two, 0, 540)
        two[4:12] = b"n+2\0\r\n\x1a\n"
        struct.pack_into(f"{order}h", two, 14, 16)
        struct.pack_into(f"{order}8q", two, 16, 2, 2, 2, 1, 1, 1, 1, 1)
        struct.pack_into(f"{order}q", two, 168, 544)
        yield from (bytes(one), bytes(two), gzip.compress(bytes(one)))


def _sidecars() -> Iterator[bytes]:
    yield json.dumps({"SeriesNumber": 3, "ImageType": ["ORIGINAL", "M"], "EchoTime": 0.1, "x": {"y": None}}).encode()
    yield b'{"a": "\\ud800", "b": [[[[1]]]], "c": 1e400, "d": true}'
    yield gzip.compress(b'{"Modality": "MR"}')


TARGETS = (
    Target("nifti-image", image, _images, longest=2048),
    Target("nifti-sidecar", sidecar, _sidecars, longest=4096),
)
