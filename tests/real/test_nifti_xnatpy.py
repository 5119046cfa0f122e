"""What `xnat-ingest nifti` makes, read back by xnatpy's own object model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ingest
from tests.nifti_trees import make_bids, mr, scan
from tests.real.clients import Client

pytestmark = pytest.mark.real
pytest_plugins = ("tests.real.schemas",)


@pytest.mark.usefixtures("schemas")
def test_xnatpy_reads_what_was_created(
    client: Callable[[str], Client], ingest: Ingest, login: dict[str, str], tmp_path: Path
) -> None:
    root = make_bids(tmp_path / "bids")
    scan(root / "sub-01" / "ses-post" / "anat" / "sub-01_ses-post_T2w", mr(4, "T2 space"))
    assert ingest("nifti", root, "--quality", "questionable").code == 0
    folder = tmp_path / "down"
    folder.mkdir()
    found = client("xnatpy").drive("drive_nifti_xnatpy.py", "read", **login, project="DEMO", folder=str(folder))
    assert {subject: sorted(sessions) for subject, sessions in found.items()} == {
        "sub-01": ["sub-01_ses-post", "sub-01_ses-pre"],
        "sub-02": ["sub-02"],
    }
    kind, scans = found["sub-01"]["sub-01_ses-pre"]
    assert kind == "MrSessionData"
    assert {number: told(one) for number, one in scans.items()} == {
        "1": ("MrScanData", "T1w", "questionable", "T1 MPRAGE"),
        "2": ("MrScanData", "bold", "questionable", "task-rest_bold"),
    }
    assert told(found["sub-01"]["sub-01_ses-post"][1]["4"]) == ("MrScanData", "T2w", "questionable", "T2 space")
    downloaded = 0
    for sessions in found.values():
        for _, scans in sessions.values():
            for one in scans.values():
                for place, (name, digest) in one["files"].items():
                    label, file = place.split("/")
                    (source,) = root.rglob(file)
                    assert (folder / name).read_bytes() == source.read_bytes()
                    assert hashlib.md5(source.read_bytes()).hexdigest() == digest
                    assert label == ("NIFTI" if file.endswith(".nii.gz") else "BIDS")
                    downloaded += 1
    assert downloaded == 11


def told(one: dict[str, Any]) -> tuple[str, str, str, str]:
    return one["class"], one["type"], one["quality"], one["description"]
