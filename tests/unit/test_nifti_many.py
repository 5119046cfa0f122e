"""Sessions of very many scans take time that grows with them, not with their square."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.nifti_trees import PLAIN, image
from xnat_ingest.commands.nifti.model import NiftiFile, NiftiScan, NiftiSession
from xnat_ingest.commands.nifti.plan import make_nifti_plan
from xnat_ingest.commands.nifti.scan_ids import settle_ids
from xnat_ingest.commands.nifti.server_scans import ServerScan, place
from xnat_ingest.commands.nifti.tree import read_tree
from xnat_ingest.core import SetAside, SourceFile
from xnat_ingest.inputs import FolderSource
from xnat_ingest.planning.rules import RuleSet

MANY = 2000
MOST_SECONDS = 4  # it takes about one, and took up to twenty
IMAGE, SAID = image(seed="x"), json.dumps({"Modality": "MR", "SeriesNumber": 1}).encode()
HEADER, VOXELS = image(mark="ni"), bytes(1000)
BIDS = "sub-1/ses-1/func/sub-1_ses-1"

Files = dict[str, bytes]


class InMemory(FolderSource):
    """A tree that is not on the disk."""

    def __init__(self, held: Files) -> None:
        super().__init__(Path())
        self._held = held

    def files(self) -> Iterator[SourceFile | SetAside]:
        return (SourceFile(path, len(data), 1) for path, data in self._held.items())

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self._held[path])


# The files of one scan of many.
FORMS: dict[str, Callable[[int], Files]] = {
    "images with sidecars": lambda n: {f"s/v/D{n}/i.nii": IMAGE, f"s/v/D{n}/i.json": SAID},
    "headers and voxels": lambda n: {f"s/v/D{n}/i.hdr": HEADER, f"s/v/D{n}/i.img": VOXELS, f"s/v/D{n}/i.json": SAID},
    "bare tables": lambda n: {f"s/v/D{n}/i.nii": IMAGE, f"s/v/D{n}/i.json": SAID, f"s/v/D{n}/bvals": b"0"},
    "bare tables below images that are not sent": lambda n: {f"s/v/D/i{n}.nii": IMAGE[:400], f"s/v/D/{n}/bvals": b"0"},
    "sidecars without images": lambda n: {f"s/v/D/i{n}.nii": IMAGE, f"s/v/D/o{n}.json": SAID},
    "events of runs": lambda n: {f"{BIDS}_run-{n}_bold.nii": IMAGE, f"{BIDS}_run-{n}_events.tsv": b"a"},
    "events of no run": lambda n: {f"{BIDS}_run-{n}_bold.nii": IMAGE, f"{BIDS}_task-{n}_events.tsv": b"a"},
    "events alike": lambda n: {f"{BIDS}_acq-{n % 2}_x-{n}_bold.nii": IMAGE, f"{BIDS}_acq-0_acq-1_e{n}.tsv": b"a"},
}


@pytest.mark.wide
@pytest.mark.parametrize("form", FORMS)
def test_many_scans_in_one_session(form: str) -> None:
    held = {path: data for number in range(MANY) for path, data in FORMS[form](number).items()}
    begun = time.process_time()
    plan = make_nifti_plan(read_tree(InMemory(held), RuleSet([], []), lambda: None, fixed=False), PLAIN)
    assert time.process_time() - begun < MOST_SECONDS
    assert plan.files_seen == len(held) == plan.as_plan("P").planned + len(plan.set_aside)


def session_of(*names: str) -> NiftiSession:
    scans = tuple(
        NiftiScan(name, str(n), False, "MR", name, name, (NiftiFile(name, 1, 1, "NIFTI", f"{name}.nii"),), ())
        for n, name in enumerate(names, 1)
    )
    return NiftiSession("s", "s_v", "s/v", "xnat:mrSessionData", scans, ())


@pytest.mark.wide
@pytest.mark.parametrize("other", ["D", "X"], ids=["the same", "others"])
def test_many_scans_on_the_server(other: str) -> None:
    there = session_of(*(f"{other}{n}" for n in range(MANY)))
    server = {
        one.id: ServerScan(
            one.id,
            one.xsi_type,
            one.description,
            "",
            {place(f): 1 for f in one.files},
            {place(f): "d" for f in one.files},
        )
        for one in there.scans
    }
    begun = time.process_time()
    settled = settle_ids(session_of(*(f"D{n}" for n in range(MANY))), server, lambda _: "d")
    assert time.process_time() - begun < MOST_SECONDS
    ids = {scan.id for scan in settled.scans}
    assert (ids == server.keys()) if other == "D" else ids.isdisjoint(server)
