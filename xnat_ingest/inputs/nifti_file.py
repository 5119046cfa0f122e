"""NIfTI files from outside: which names belong together, which images are complete, what a sidecar says."""

from __future__ import annotations

import gzip
import json
import math
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal, cast

from xnat_ingest.core import Plan, SetAside, printable
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.source import go_on
from xnat_ingest.inputs.unpacking import gunzipped

Kind = Literal["image", "pixels", "sidecar", "table", "other"]
_KINDS: dict[str, Kind] = {
    ".nii": "image",
    ".hdr": "image",  # the header of a pair, whose voxels are in .img
    ".img": "pixels",
    ".json": "sidecar",
    ".bval": "sidecar",
    ".bvec": "sidecar",
    ".bvals": "sidecar",
    ".bvecs": "sidecar",
    ".tsv": "table",
}
# FSL's and the HCP's names for the gradient tables of the image in the same folder.
_GRADIENTS = frozenset({"bvals", "bvecs"})
# Sidecars are small. A larger JSON file is not one, and is sent without being read.
_LONGEST_SIDECAR = 4 * 1024**2
_BLOCK = 1024**2
# How many bytes may follow the voxels of an image that is unpacked to its end.
_MOST_BEHIND = 64 * 1024**2
# A deflate stream unpacks to so many times its length at most (zlib's technical details).
MOST_PACKED = 1032
_LONGEST_HEADER = 540
# Keys that converters write into a sidecar unless the user asks for anonymous ones.
IDENTIFYING = frozenset({"PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "OtherPatientIDs"})


@dataclass(frozen=True, slots=True)
class Name:
    """A file's name, split into its parts.

    suffix: in lower case, without .gz.
    zipped: whether it ends in .gz.
    """

    stem: str
    suffix: str
    zipped: bool

    @classmethod
    def of(cls, name: str) -> Name:
        zipped = name.lower().endswith(".gz")
        stem, dot, suffix = (name[:-3] if zipped else name).rpartition(".")
        return cls(stem, f".{suffix.lower()}", zipped) if dot and stem else cls(name, "", zipped)

    @property
    def kind(self) -> Kind:
        return "sidecar" if self.is_bare_table else _KINDS.get(self.suffix, "other")

    @property
    def is_bare_table(self) -> bool:
        """Whether it is a gradient table that shares its image's folder but not its name."""
        return not self.suffix and self.stem.lower().removesuffix(".gz") in _GRADIENTS


def judge_image(
    stream: BinaryIO, path: str, size: int, name: Name, check_stop: Callable[[], None] = go_on
) -> SetAside | None:
    """Why a file named like an image is not sent; None for a complete image. Raises OSError.

    check_stop: raises to end it. A gzipped image is read to its end.
    """
    zipped = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    if zipped != name.zipped:
        detail = "gzipped, but its name does not end in .gz" if zipped else "not gzipped, but its name ends in .gz"
        return SetAside(path, "bad-nifti", f"{detail}; rename it")
    unpacked = cast(BinaryIO, gunzipped(stream)) if zipped else stream
    try:
        sizes = _sizes(unpacked.read(_LONGEST_HEADER))
        if sizes is None:
            return SetAside(
                path, "bad-nifti", "no NIfTI header: not 348 or 540 bytes long, or without the magic number"
            )
        wanted = sizes[0] if name.suffix == ".hdr" else sizes[1]
        whole = _holds(unpacked, size, wanted, check_stop) if zipped else size >= wanted
    except (gzip.BadGzipFile, EOFError, zlib.error):
        whole = False
    return None if whole else SetAside(path, "truncated", "the file ends before its voxels do, or is corrupt")


def judge_voxels(header: BinaryIO, voxels: BinaryIO, size: int, check_stop: Callable[[], None] = go_on) -> str:
    """What is wrong with the second file of a pair, according to the first; "" for nothing.

    header: the complete header.
    size: of the file with the voxels.

    Raises OSError.
    """
    packed = header.read(2) == b"\x1f\x8b"
    header.seek(0)
    sizes = _sizes((gunzipped(header) if packed else header).read(_LONGEST_HEADER))
    wanted = sizes[1] if sizes else 0
    zipped = voxels.read(2) == b"\x1f\x8b"
    voxels.seek(0)
    try:
        unpacked = cast(BinaryIO, gunzipped(voxels)) if zipped else voxels
        whole = _holds(unpacked, size, wanted, check_stop) if zipped else size >= wanted
    except (gzip.BadGzipFile, EOFError, zlib.error):
        whole = False
    return "" if whole else "ends before the voxels that its header describes, or is corrupt"


def _sizes(head: bytes) -> tuple[int, int] | None:
    """(bytes of the header, unpacked size of the file with the voxels); None when this is not a NIfTI header."""
    for order in "<>":
        if len(head) >= 348 and struct.unpack_from(f"{order}l", head)[0] == 348 and head[344:348] in _MARKS_1:
            dim, bits = struct.unpack_from(f"{order}8h", head, 40), struct.unpack_from(f"{order}h", head, 72)[0]
            offset = struct.unpack_from(f"{order}f", head, 108)[0]
            length = 348
        elif len(head) >= 540 and struct.unpack_from(f"{order}l", head)[0] == 540 and head[4:12] in _MARKS_2:
            dim, bits = struct.unpack_from(f"{order}8q", head, 16), struct.unpack_from(f"{order}h", head, 14)[0]
            offset = struct.unpack_from(f"{order}q", head, 168)[0]
            length = 540
        else:
            continue
        sides = dim[1 : dim[0] + 1]
        if not 1 <= dim[0] <= 7 or bits < 1 or min(sides) < 0 or not 0 <= offset < 2**62:
            return None
        return length, int(offset) + (math.prod(sides) * bits + 7) // 8
    return None


# Voxels in the same file (n+) or in a second one (ni). Version 2 adds line ends that show broken text transfers.
_MARKS_1 = (b"n+1\0", b"ni1\0")
_MARKS_2 = (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")


def _holds(unpacked: BinaryIO, size: int, wanted: int, check_stop: Callable[[], None]) -> bool:
    """Whether a gzipped image unpacks to this many bytes, and to the end, where its checksum stands.

    What follows the voxels is not read without end.

    size: bytes of the gzipped file.
    """
    if wanted > size * MOST_PACKED:
        return False
    number = unpacked.tell()
    while number < wanted + _MOST_BEHIND and (block := unpacked.read(_BLOCK)):
        check_stop()
        number += len(block)
    return number >= wanted


def read_sidecar(stream: BinaryIO, size: int, name: Name, wanted: Mapping[str, int]) -> Mapping[str, str] | None:
    """Values of a JSON sidecar as text, several joined by backslashes as in DICOM; None when it is not a sidecar.

    wanted: the keys -> how many characters of their text are kept at most. A tree may have very many sidecars.

    Raises OSError.
    """
    if size > _LONGEST_SIDECAR:
        return None
    unpacked = gunzipped(stream) if name.zipped else stream
    try:
        found = json.loads(unpacked.read(_LONGEST_SIDECAR))
        if not isinstance(found, dict):
            return None
        return {key: _text(found[key])[:most] for key, most in wanted.items() if key in found}
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, RecursionError):
        return None


def _text(value: object) -> str:
    if isinstance(value, list):
        return "\\".join(map(_text, value))
    return "" if value is None or isinstance(value, dict) else str(value)


def guidance(plan: Plan, source: Source) -> str:
    """Advice for `upload`, which sends DICOM, when a tree has NIfTI but no DICOM; "" for any other tree."""
    if plan.planned:
        return ""
    images = [aside.path for aside in plan.set_aside if Name.of(aside.path.rpartition("/")[2]).kind == "image"]
    whole = next((path for path in images[:20] if _is_image(source, path)), "")
    if not whole:
        return ""
    return (
        f"there is no DICOM here, but {len(images)} NIfTI images (such as {printable(whole)}): "
        "upload them with `xnat-ingest nifti` and the same ROOT"
    )


def _is_image(source: Source, path: str) -> bool:
    """Whether a file begins like an image."""
    try:
        with source.open(path) as stream:
            unpacked = gunzipped(stream) if Name.of(path.rpartition("/")[2]).zipped else stream
            return _sizes(unpacked.read(_LONGEST_HEADER)) is not None
    except (OSError, EOFError, zlib.error):
        return False
