"""DICOM in a resource that XNAT does not fill with what it receives, such as defaced copies of a scan's own files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from tests.conftest import PASSWORD, Ingest, stored
from tests.contract.test_existing_prearchive import T1, whole
from tests.dicom_trees import make_session
from tests.standin import StandIn, User
from tests.standin.samples import Client

COPIES = ["DICOM_DEFACED", "DICOM_ORIG", "SNAPSHOTS", "RAW"]


class Owner:
    """Keeps other files beside those that the scan received."""

    def __init__(self, site: StandIn) -> None:
        site.users["own"] = User("own", PASSWORD)
        site.projects["DEMO"].access["own"] = "delete"
        self.client = Client(site.url, "own", PASSWORD).login()
        self.site = site

    def copy(self, label: str, prefix: str = "") -> None:
        """Puts a copy of each file, with half of its pixels blackened, into a resource of the scan."""
        for name, path in self._files().items():
            dataset = pydicom.dcmread(path)
            half = len(dataset.PixelData) // 2
            dataset.PixelData = bytes(half) + dataset.PixelData[half:]
            out = io.BytesIO()
            dataset.save_as(out)
            there = f"{self._scan}/resources/{label}/files/{prefix}{name}"
            reply = self.client("PUT", there, out.getvalue(), format="DICOM", inbody="true")
            assert reply.status == 200, reply.text

    def delete_one(self) -> None:
        reply = self.client("DELETE", f"{self._scan}/resources/DICOM/files/{max(self._files())}")
        assert reply.status == 200, reply.text

    def _files(self) -> dict[str, Path]:
        return dict(stored(self.site, "DEMO", "S", "S_E").scans["1"].files)

    @property
    def _scan(self) -> str:
        return f"/data/experiments/{stored(self.site, 'DEMO', 'S', 'S_E').accession}/scans/1"


@pytest.fixture
def owner(site: StandIn) -> Iterator[Owner]:
    found = Owner(site)
    yield found
    found.client.close()


@pytest.mark.parametrize("proof", ["listing", "spot", "pixels"])
@pytest.mark.parametrize("label", COPIES)
def test_copies_in_another_resource_change_nothing(
    ingest: Ingest, site: StandIn, owner: Owner, tmp_path: Path, label: str, proof: str
) -> None:
    """They have the names of the scan's own files, and other pixels."""
    tree = make_session(tmp_path / "t/S/E", (T1,), "study")
    assert ingest("upload", tmp_path / "t").code == 0
    owner.copy(label)
    for command, *flags in (["verify"], ["upload"], ["upload", "--existing=overwrite"], ["verify"]):
        ended = ingest(command, tmp_path / "t", "--proof", proof, *flags)
        assert (ended.code, ended.kinds(), ended.totals["verified"]) == (0, [], 4), ended.out
    whole(site, tree)


@pytest.mark.parametrize("proof", ["listing", "spot"])
@pytest.mark.parametrize(("label", "prefix"), [*((one, "") for one in COPIES), ("DICOM_DEFACED", "defaced_")])
def test_a_copy_in_another_resource_is_no_proof_of_a_file_that_is_lost(
    ingest: Ingest, site: StandIn, owner: Owner, tmp_path: Path, label: str, prefix: str, proof: str
) -> None:
    tree = make_session(tmp_path / "t/S/E", (T1,), "study")
    assert ingest("upload", tmp_path / "t").code == 0
    owner.copy(label, prefix)
    owner.delete_one()
    ended = ingest("verify", tmp_path / "t", "--proof", proof)
    assert (ended.code, ended.totals["missing"]) == (3, 1), ended.out
    (why,) = (one["why"] for one in ended.session("S_E")["unproven"])
    assert (f"only resource {label} has a file of its name" in why) == (not prefix), why
    ended = ingest("upload", tmp_path / "t", "--proof", proof)
    assert (ended.code, ended.kinds(), ended.totals["already_there"]) == (0, [], 3), ended.out
    whole(site, tree)
