"""The ways in that the contract is held for: input forms, transports and destinations.

``python -m tests.contract.table`` runs ``tests/contract/test_contract.py`` and prints its outcomes as a Markdown table.
"""

from __future__ import annotations

import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.contract.test_archives import Pack, to_tar, to_tgz, to_zip
from tests.dicom_trees import SAMPLES, Series, make_session
from tests.dicomscu import behind_meta
from tests.standin import StandIn
from tests.transport_flags import TRANSPORT_FLAGS

SESSIONS = ("007/pre", "008/pre")
SERIES = (
    Series("T1_1", 3),
    Series("RLE_2", 2, "MR_small_RLE.dcm"),
    Series("big_3", 1, "MR_small_bigendian.dcm"),
    Series("deflated_4", 1, "image_dfl.dcm"),
    Series("SR_5", 1, "test-SR.dcm"),
)
# Without meta header only what the standard's guess finds: explicit and implicit little endian, and big endian.
BARE = (
    Series("T1_1", 3),
    Series("implicit_2", 2, "MR_small_implicit.dcm"),
    Series("big_3", 1, "MR_small_bigendian.dcm"),
)
# What tells a DICOM receiver the session's place: PatientComments, and the length of its group, which it would falsify.
STAMPED = frozenset({0x00104000, 0x00100000})

Elements = dict[int, tuple[str | None, bytes | str | None]]
Held = list[tuple[str, str, Elements]]
"""SOPInstanceUID, session label, elements; a list, so that an instance that is there twice shows."""


@dataclass(frozen=True)
class Given:
    """An input. flags: what takes it so; held: what is to be on the server; set_aside: how many files are not."""

    root: Path
    held: Held
    flags: tuple[str, ...] = ()
    set_aside: int = 2
    by_plan: bool = False


@dataclass(frozen=True)
class Way:
    """A row of the table."""

    form: str
    transport: str
    destination: str

    def __str__(self) -> str:
        return f"{self.form}, {self.transport}, {self.destination}"


# -- what is held, in the source and on the server


def held(paths: Iterable[Path], label_of: Callable[[Path, Any], str]) -> Held:
    """Every file must be DICOM; its elements are taken as they are encoded, and sequences as they are read."""
    found = []
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
            elements = {int(tag): _encoded(dataset.get_item(tag)) for tag in sorted(dataset.keys())}
            found.append((str(dataset.SOPInstanceUID), label_of(path, dataset), elements))
    return sorted(found, key=lambda one: one[:2])


def _encoded(element: Any) -> tuple[str | None, bytes | str | None]:
    value = element.value
    return element.VR, value if isinstance(value, bytes | None) else repr(value)


def on_disk(site: StandIn) -> Held:
    """All that the server has, in prearchive and archive: .../LABEL/SCANS/SCAN/DICOM/FILE, and nothing else."""
    return held(files_of(site), lambda path, _: path.parts[-5])


def files_of(site: StandIn) -> list[Path]:
    return sorted(path for path in site.root.rglob("*") if path.is_file())


def but(elements: frozenset[int], those: Held) -> Held:
    return [(uid, label, {t: v for t, v in has.items() if t not in elements}) for uid, label, has in those]


# -- input forms


def folder(base: Path, series: Sequence[Series] = SERIES) -> Given:
    paths = []
    for name in SESSIONS:
        paths += make_session(base / "tree" / name, series, name)
        (base / "tree" / name / "notes.txt").write_text("no DICOM")
    return Given(base / "tree", _tree(base / "tree", paths))


def _tree(root: Path, paths: Iterable[Path]) -> Held:
    return held(paths, lambda path, _: "_".join(path.relative_to(root).parts[:2]))


def to_stored_zip(source: Path, archive: Path) -> None:
    to_zip(source, archive, zipfile.ZIP_STORED)


PACKERS: dict[str, Pack] = {"zip": to_zip, "stored.zip": to_stored_zip, "tar": to_tar, "tar.gz": to_tgz, "tgz": to_tgz}


def as_root(suffix: str) -> Callable[[Path], Given]:
    def make(base: Path) -> Given:
        given = folder(base)
        PACKERS[suffix](given.root, archive := base / f"study.{suffix}")
        shutil.rmtree(given.root)
        return Given(archive, given.held)

    return make


def as_leaf(suffix: str) -> Callable[[Path], Given]:
    """One session is an archive, 007/pre.zip, the other stays a folder."""

    def make(base: Path) -> Given:
        given = folder(base)
        (given.root / "007" / "pre").rename(base / "packed")
        PACKERS[suffix](base / "packed", given.root / "007" / f"pre.{suffix.removeprefix('stored.')}")
        shutil.rmtree(base / "packed")
        return given

    return make


def media(base: Path) -> Given:
    """A medium as it is, with several studies of a patient on one day."""
    root = base / "media"
    shutil.copytree(SAMPLES / "dicomdirtests", root, ignore=shutil.ignore_patterns("DICOMDIR-*", "TINY_ALPHA", "*.txt"))
    paths = [path for path in root.rglob("*") if path.is_file() and path.name != "DICOMDIR"]
    there = held(paths, lambda _, dataset: str(dataset.StudyInstanceUID).replace(".", "_"))
    return Given(root, there, ("--layout", "headers", "--session-label", "{StudyInstanceUID}"), set_aside=1)


def bare(base: Path) -> Given:
    """One file of each session has all, one no preamble, the others no meta header either."""
    given = folder(base, BARE)
    paths = [path for name in SESSIONS for path in sorted((given.root / name).rglob("IM*"))]
    for number, path in enumerate(paths):
        raw = path.read_bytes()
        if number % 6 > 0:
            path.write_bytes(raw[132:] if number % 6 == 3 else behind_meta(raw))
    return Given(given.root, _tree(given.root, paths))


def plan_file(base: Path) -> Given:
    given = folder(base)
    return Given(given.root, given.held, by_plan=True)


BARE_FORM = "no preamble or meta"
FORMS: dict[str, Callable[[Path], Given]] = {
    "folder": folder,
    **{f"{suffix} as ROOT": as_root(suffix) for suffix in PACKERS},
    **{f"{suffix} as session": as_leaf(suffix) for suffix in PACKERS},
    "DICOMDIR medium": media,
    BARE_FORM: bare,
    "plan file": plan_file,
}
DESTINATIONS = ("archive", "prearchive", "direct-archive")
OTHERS = ("zip as ROOT", "tar.gz as ROOT", "tar.gz as session", BARE_FORM)
WAYS = list(
    dict.fromkeys(
        [Way(form, "tar", "archive") for form in FORMS]
        + [Way("folder", transport, destination) for transport in TRANSPORT_FLAGS for destination in DESTINATIONS]
        + [Way(BARE_FORM, transport, destination) for transport in TRANSPORT_FLAGS for destination in DESTINATIONS[1:]]
        + [Way(form, transport, "archive") for form in OTHERS for transport in TRANSPORT_FLAGS]
        + [Way(form, "cstore", "archive") for form in ("DICOMDIR medium", "plan file")]
    )
)


class Table:
    """Gathers a line of each test that is a way; a plugin of pytest."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, ...]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = dict(report.user_properties)
        if report.when == "call" and "way" in found:
            instances, outcome = found.get("instances", ""), found.get("outcome", "the contract is broken")
            self.lines.append((*str(found["way"]).split(", "), str(instances), str(outcome)))


def main() -> int:
    table = Table()
    tests = str(Path(__file__).with_name("test_contract.py"))
    code = pytest.main([tests, "-o", "addopts=", "-p", "no:terminal"], plugins=[table])
    titles = ("input form", "transport", "destination", "instances", "outcome")
    for line in (titles, ("---",) * len(titles), *table.lines):
        print("| " + " | ".join(line) + " |")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
