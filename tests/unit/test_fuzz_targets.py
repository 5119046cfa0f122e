"""What `make fuzz` starts from, and what it has found: each in the smallest form that shows it."""

from __future__ import annotations

import itertools
import json
import struct
import zipfile
from pathlib import Path

import pytest

from tests.dicom_trees import IDENTITY, PIXELS, deflated, encode, part10
from tests.fuzz.__main__ import Result, table
from tests.fuzz.archives import packed_zip
from tests.fuzz.dicom import scanned
from tests.fuzz.registry import TARGETS
from tests.fuzz.worker import Campaign, mutated
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.model import Instance
from xnat_ingest.inputs.dicom_dataset import EXPLICIT
from xnat_ingest.planning.plan_file import read_plan

# Of each target's seeds.
SOME = 6
_NO_VR = part10(IDENTITY) + bytes.fromhex("20000040 06000000") + b"a word"
_NO_VR_BIG = encode(IDENTITY, ">") + bytes.fromhex("00204000 00000006") + b"a word"


def _promising(more: int) -> bytes:
    """A whole NIfTI-2 image of 8 bytes, whose header asks for so many bytes more: four bytes at the end of a gzipped
    file cannot tell."""
    made = bytearray(544 + 8)
    struct.pack_into("<l", made, 0, 540)
    made[4:12] = b"n+2\0\r\n\x1a\n"
    struct.pack_into("<h", made, 14, 8)
    struct.pack_into("<2q", made, 16, 1, 8 + more)
    struct.pack_into("<q", made, 168, 544)
    return bytes(made)


# What was found -> the target, and bytes that show it.
FOUND: dict[str, tuple[str, bytes]] = {
    "a gzipped image that promises 2^32 times what it holds": ("nifti-image", _promising(2**32)),
    "half an address in Location": ("page", b"http://["),
    "a rejection of no bytes": ("association", b"\x03\0\0\0\0\0"),
    "no elements behind the pixels of a deflated data set": (
        "dicom-outgoing",
        deflated(encode({**IDENTITY, PIXELS: ("OW", bytes(4))}) + b"\7" * 20),
    ),
    "the last tag there can be, on one side alone": (
        "dicom-compare",
        part10({0xFFFFFFFF: ("UN", b"ab")}) + part10({0x00080060: ("CS", b"MR    ")}),
    ),
    "a transfer syntax beyond ASCII": ("deidentify", part10(IDENTITY, "1.2.840.\x81")),
    "an element without VR in a big endian data set": ("dicom-outgoing", _NO_VR_BIG),
    "a zip whose start is lost": ("zip", packed_zip(zipfile.ZIP_STORED)[18:]),
    "a sheet in UTF-16 with a null": ("label-sheet", "folder,subject,session\na,b\0,c\n".encode("utf-16")),
    "a blank behind the apostrophe of a cell": ("label-sheet", b'folder,subject,session\n"\'\na",b,c\n'),
    "a null behind the text of an AE": ("dicom-quick", part10({**IDENTITY, 0x00101010: ("AE", b"34Y\0")})),
    "a null far down in a sheet": ("label-sheet", b"folder,subject,session\n" + b"\n" * 4096 + b"a,b\0,c\n"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    seeds = list(itertools.islice(TARGETS[name].seeds(), SOME))
    assert seeds
    for seed in seeds:
        assert len(seed) <= TARGETS[name].longest
        TARGETS[name].run(seed)


@pytest.mark.parametrize("what", FOUND)
def test_found(what: str) -> None:
    name, data = FOUND[what]
    TARGETS[name].run(data)


def test_an_element_without_vr_makes_no_implicit_data_set() -> None:
    """Such a file was sent under meta information that said implicit VR, which no reader could make sense of."""
    found = scanned(_NO_VR)[1]
    assert isinstance(found, Instance)
    assert (found.transfer_syntax, found.form) == (EXPLICIT, "file")


@pytest.mark.wide
def test_lists_in_lists() -> None:
    """Somewhere there is a depth that the JSON library reads, and that is too deep for whoever goes through it."""
    for depth in range(850, 1000, 3):
        TARGETS["nifti-sidecar"].run(b'{"a":' + b"[" * depth + b"]" * depth + b"}")


@pytest.mark.parametrize("uid", ["1.2.840.\u0081", "1.2.840\n"])
@pytest.mark.parametrize("name", ["transfer_syntax", "sop_uid"])
def test_a_plan_with_a_uid_that_is_none(tmp_path: Path, name: str, uid: str) -> None:
    document = json.loads(next(iter(TARGETS["plan-file"].seeds())))
    document["sessions"][0]["instances"][0][name] = uid
    (tmp_path / "plan.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=rf"sessions\[0\].instances\[0\].{name}: "):
        read_plan(str(tmp_path / "plan.json"))


def test_a_finding_is_told(tmp_path: Path) -> None:
    """The driver without atheris: what a target raises is kept once, with its input."""

    def run(data: bytes) -> None:
        if len(data) > 3:
            raise KeyError("x")

    campaign = Campaign(run, "t", 0.2, tmp_path, "mutations")
    for data in (b"abc", b"abcd", b"abcde"):
        campaign.once(data)
    (finding,) = campaign.findings
    assert finding["what"].startswith("KeyError test_fuzz_targets.py")
    assert Path(finding["input"]).read_bytes() == b"abcd"
    assert campaign.executions == 3


def test_mutations_differ_and_are_bounded() -> None:
    made = list(itertools.islice(mutated([b"abcdefgh" * 9, b""], 64), 500))
    assert len(set(made)) > 100
    assert max(map(len, made)) == 64


def test_table() -> None:
    found = [{"what": "w", "text": "", "input": "i"}]
    lines = table([Result("zip", "atheris", 1000, 2.0, found), Result("tar", "atheris", 500, 1.0)]).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["zip", "atheris", "1,000", "500", "1"],
        ["tar", "atheris", "500", "500", "0"],
        ["all", "1,500", "1"],
    ]
