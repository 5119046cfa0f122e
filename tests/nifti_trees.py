"""Trees of small NIfTI images for tests, by subject, session and scan, and in BIDS; what becomes of them."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import random
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conftest import Ended
from tests.standin import ArchivedSession, StandIn
from xnat_ingest.commands.nifti.model import NiftiPlan, NiftiSession
from xnat_ingest.commands.nifti.plan import NiftiOptions, make_nifti_plan, template
from xnat_ingest.commands.nifti.tree import read_tree
from xnat_ingest.inputs import FolderSource
from xnat_ingest.planning.rules import RuleConfig, RuleSet, make_rule

Said = Mapping[str, object]


def image(
    sides: Sequence[int] = (4, 4, 3), *, seed: str = "", version: int = 1, order: str = "<", mark: str = "n+"
) -> bytes:
    """An image of 16-bit voxels. version: of the format; order: of its bytes; mark: `ni` for a header alone."""
    dim = [len(sides), *sides, *(1 for _ in range(7 - len(sides)))]
    voxels = random.Random(seed).randbytes(2 * math.prod(sides))
    if version == 1:
        head = bytearray(352)
        struct.pack_into(f"{order}l", head, 0, 348)
        struct.pack_into(f"{order}8h", head, 40, *dim)
        struct.pack_into(f"{order}2h", head, 70, 4, 16)
        struct.pack_into(f"{order}f", head, 108, 0 if mark == "ni" else 352)
        head[344:348] = f"{mark}1\0".encode()
        return bytes(head[:348] if mark == "ni" else head) + (b"" if mark == "ni" else voxels)
    head = bytearray(544)
    struct.pack_into(f"{order}l", head, 0, 540)
    head[4:12] = f"{mark}2\0\r\n\x1a\n".encode()
    struct.pack_into(f"{order}2h", head, 12, 4, 16)
    struct.pack_into(f"{order}8q", head, 16, *dim)
    struct.pack_into(f"{order}q", head, 168, 544)
    return bytes(head) + voxels


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def scan(stem: Path, said: Said | None = None, *, diffusion: bool = False) -> None:
    """An image `STEM.nii.gz`, and the sidecars that a converter writes beside it."""
    put(Path(f"{stem}.nii.gz"), gzip.compress(image(seed=str(stem)), mtime=0))
    if said is not None:
        put(Path(f"{stem}.json"), json.dumps(said))
    if diffusion:
        put(Path(f"{stem}.bval"), "0 1000\n")
        put(Path(f"{stem}.bvec"), "0 1\n0 0\n0 0\n")


def mr(number: int, description: str, **more: object) -> Said:
    return {"Modality": "MR", "SeriesNumber": number, "SeriesDescription": description, **more}


def make_subjects(root: Path, subjects: Sequence[str] = ("007", "008")) -> Path:
    """Two scans in each session `pre`: an anatomical one, number 2, and a diffusion one, number 5."""
    for subject in subjects:
        scan(root / subject / "pre" / "T1" / "t1", mr(2, "T1 MPRAGE"))
        scan(root / subject / "pre" / "DTI" / "dti", mr(5, "DTI 64"), diffusion=True)
    return root


def make_bids(root: Path) -> Path:
    """A BIDS tree: sub-01 with one session folder, sub-02 with none."""
    put(root / "dataset_description.json", json.dumps({"Name": "demo", "BIDSVersion": "1.9.0"}))
    put(root / "participants.tsv", "participant_id\nsub-01\nsub-02\n")
    one = root / "sub-01" / "ses-pre"
    scan(one / "anat" / "sub-01_ses-pre_T1w", {"SeriesDescription": "T1 MPRAGE"})
    scan(one / "func" / "sub-01_ses-pre_task-rest_bold", {"RepetitionTime": 2})
    put(one / "func" / "sub-01_ses-pre_task-rest_events.tsv", "onset\tduration\n1\t2\n")
    put(one / "sub-01_ses-pre_scans.tsv", "filename\nanat/sub-01_ses-pre_T1w.nii.gz\n")
    scan(root / "sub-02" / "dwi" / "sub-02_dwi", {}, diffusion=True)
    put(root / "derivatives" / "mask.nii.gz", gzip.compress(image()))
    return root


PLAIN = NiftiOptions(template("{subject}"), template("{subject}_{session}"))


def planned(
    root: Path, wishes: NiftiOptions = PLAIN, *exclude: RuleConfig, include: tuple[RuleConfig, ...] = ()
) -> NiftiPlan:
    rules = RuleSet([make_rule(one) for one in exclude], [make_rule(one) for one in include])
    tree = read_tree(FolderSource(root), rules, lambda: None, fixed=wishes.fixed is not None)
    plan = make_nifti_plan(tree, wishes)
    assert plan.files_seen == plan.as_plan("P").planned + len(plan.set_aside)
    return plan


def reasons(plan: NiftiPlan) -> dict[str, str]:
    return {aside.path: aside.reason for aside in plan.set_aside}


def only(plan: NiftiPlan) -> NiftiSession:
    (session,) = plan.sessions
    return session


def scans(session: NiftiSession) -> dict[str, tuple[str, str, str, list[str]]]:
    return {
        one.id: (one.xsi_type, one.type, one.description, [f"{f.resource}/{f.name}" for f in one.files])
        for one in session.scans
    }


def kinds(plan: NiftiPlan) -> list[str]:
    return [problem.kind for problem in plan.problems]


def held(session: ArchivedSession) -> dict[str, str]:
    """SCAN/RESOURCE/NAME -> MD5, as the files on the server's disk have it."""
    return {
        f"{one.id}/{resource.label}/{name}": hashlib.md5(path.read_bytes()).hexdigest()
        for one in session.scans.values()
        for resource in one.resources.values()
        for name, path in resource.files.items()
    }


def local(folder: Path, *names: str) -> list[str]:
    return [hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names]


def writes(site: StandIn, since: int = 0) -> list[str]:
    return [
        one.path
        for one in site.requests[since:]
        if one.method in ("PUT", "POST", "DELETE") and "JSESSION" not in one.path
    ]


def numbers(ended: Ended) -> tuple[int, int, int, int]:
    t = ended.totals
    return t["planned"], t["verified"], t["failed"], t["already_there"]
