"""Every control and every character that hides or turns text, wherever a file can put it: none reaches an output."""

from __future__ import annotations

import io
import json
import os
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dicom_trees import IDENTITY, PIXELS, part10
from tests.nifti_trees import image, put
from tests.standin import StandIn
from xnat_ingest.cli import main

FORBIDDEN = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp")]
# What lines of text are made of. A table's lines end with both.
LINES = {"\n", "\t", "\r"}
# Header values that decide where an object goes, or that are shown.
PLACES = {
    0x00080020: "DA", 0x00080060: "CS", 0x00081030: "LO", 0x0008103E: "LO", 0x00100010: "PN", 0x00100020: "LO",
    0x00181030: "LO", 0x00200010: "SH", 0x00200011: "IS", 0x00200013: "IS",
}  # fmt: skip


def parts(size: int, without: str = "") -> Iterator[str]:
    """All of them, so many in a text."""
    allowed = [character for character in FORBIDDEN if character not in without]
    yield from (f"a{''.join(allowed[at : at + size])}b" for at in range(0, len(allowed), size))


def objects() -> Iterator[bytes]:
    for number, text in enumerate(parts(30)):
        own = {0x00080018: ("UI", b"1.2.3.4.5.6.%d" % number), 0x0020000D: ("UI", b"1.2.3.%d" % number)}
        values = {tag: (vr, text.encode()) for tag, vr in PLACES.items()}
        yield part10({**IDENTITY, **own, 0x00080005: ("CS", b"ISO_IR 192"), **values, PIXELS: ("OW", bytes(100))})
    uid = "".join(FORBIDDEN[:30]).encode()
    yield part10({**IDENTITY, 0x0020000E: ("UI", uid)})
    yield part10({**IDENTITY, 0x00080016: ("UI", uid)})
    yield part10(IDENTITY, uid.decode())


def headers(root: Path) -> None:
    for number, data in enumerate(objects()):
        put(root / f"{number}/pre/IM1", data)


def names(root: Path) -> None:
    for number, (text, data) in enumerate(zip(parts(30, "\0"), objects(), strict=False)):
        put(root / f"{text}/pre/T1/IM1", data)
        put(root / f"{number}/{text}/IM1", data)
        put(root / f"{number}/pre/{text}.dcm", data[:300])
    raw = bytes(code for code in range(1, 256) if code != ord("/"))
    for at in range(0, len(raw), 64):
        put(Path(os.fsdecode(os.fsencode(root) + b"/1/pre/x" + raw[at : at + 64])), b"no image")


def zipped(root: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for text in parts(30, "\0"):
            archive.writestr(f"1/{text}/{text}", b"no image")
            archive.writestr(f"1/pre/{text}/", b"x")
    put(root / "1/pre.zip", made.getvalue())


def tarred(root: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for text in parts(30, "\0"):
            archive.addfile(tarfile.TarInfo(f"1/{text}/{text}"))
            link = tarfile.TarInfo(f"1/pre/{text}")
            link.type, link.linkname = tarfile.SYMTYPE, text
            archive.addfile(link)
    put(root / "1/pre.tar", made.getvalue())


def sidecars(root: Path) -> None:
    for number, text in enumerate(parts(80)):
        keys = ("Modality", "SeriesNumber", "SeriesDescription", "SeriesInstanceUID", "StudyInstanceUID", "PatientID")
        for one in keys:
            stem = root / f"{number}/pre/{one}/i"
            put(stem.with_suffix(".nii"), image(seed=text))
            put(stem.with_suffix(".json"), json.dumps({"SeriesNumber": 1, "Modality": "MR", one: text}))


CASES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "headers, by folders": (headers, ("plan",)),
    "headers, by headers": (headers, ("plan", "--layout", "headers")),
    "headers in labels": (headers, ("plan", "--session-label", "{StudyDescription}_{StudyDate}", "-vv")),
    "names": (names, ("plan", "-vv")),
    "members of a zip": (zipped, ("plan", "-vv")),
    "members of a tar": (tarred, ("plan", "-vv")),
    "sidecars": (sidecars, ("nifti", "--dry-run")),
}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (text for pair in value.items() for text in texts(list(pair)))
    elif isinstance(value, list):
        yield from (text for one in value for text in texts(one))
    elif isinstance(value, str):
        yield value


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("log", ["text", "json"])
def test_no_output_has_them(
    site: StandIn, tmp_path: Path, name: str, log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The label sheet can be read again, too."""
    make, (command, *flags) = CASES[name]
    make(tmp_path / "t")
    outputs = {flag: tmp_path / f"out-{flag}" for flag in ("report", "html", "junit", "csv")}
    if command == "plan":
        outputs |= {flag: tmp_path / f"out-{flag}" for flag in ("json", "labels-template")}
    for flag, path in outputs.items():
        flags += [f"--{flag}", str(path)]
    code = main([command, str(tmp_path / "t"), "-P", "DEMO", *flags, "--log-format", log])
    assert code in (0, 3)
    said = capsys.readouterr()
    written = {"stdout": said.out, "stderr": said.err}
    written |= {flag: path.read_bytes().decode("utf-8") for flag, path in outputs.items() if path.exists()}
    assert len(written) >= 6
    assert any(r"\x1b" in text for text in written.values())  # it was shown, and made harmless
    for where, text in written.items():
        found = {c for c in text if not c.isprintable()} - LINES
        assert not found, f"{sorted(map(ascii, found))} in {where}"
    assert all(text.isprintable() for text in texts(json.loads(written["report"])))
    if command == "plan":
        again = [
            "plan",
            str(tmp_path / "t"),
            "-P",
            "DEMO",
            "--labels",
            str(outputs["labels-template"]),
            "--labels-partial",
        ]
        assert main(again) in (0, 3)
