"""Where a file of the prearchive is asked for: at its own address in the listing, never outside of the listing's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from xnat_ingest.xnat.archive import in_prearchive
from xnat_ingest.xnat.client import XnatClient

SESSION = "/data/prearchive/projects/P/20240101_101010000/S_E"
FILES = f"{SESSION}/scans/1_9/resources/DICOM/files"


class Listings:
    """A server with one scan of one file, which gives the file this address."""

    def __init__(self, uri: str | None, name: str) -> None:
        own = {"Name": name, "Size": "10"} | ({} if uri is None else {"URI": uri})
        self._rows = {"scans": [{"ID": "1_9"}], "resources": [{"label": "DICOM"}], "files": [own]}

    def rows(self, path: str, pick: Callable[[dict[str, str]], Any]) -> list[Any]:
        return [pick(row) for row in self._rows[path.rpartition("/")[2]]]


def asked(uri: str | None, name: str = "a.dcm") -> str:
    return in_prearchive(cast(XnatClient, Listings(uri, name)), SESSION).place_of("a.dcm").address


@pytest.mark.parametrize(
    ("uri", "below"),
    [
        (f"{FILES}/a.dcm", ""),
        (f"{FILES}/1.9/DICOM/a.dcm", "/1.9/DICOM"),
        (f"{FILES}/1%2E9/DICOM/a%2Edcm", "/1.9/DICOM"),
        (f"/xnat{FILES}/1.9/DICOM/a.dcm", "/1.9/DICOM"),
        (f"https://elsewhere.example{FILES}/1.9/DICOM/a.dcm", "/1.9/DICOM"),
        (f"{FILES}/..a/b../a.dcm", "/..a/b.."),
    ],
)
def test_a_file_is_asked_for_at_its_own_address(uri: str, below: str) -> None:
    assert asked(uri) == f"{FILES}{below}/a.dcm"


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "",
        "a.dcm",
        f"{FILES}/1.9/../../x/a.dcm",
        f"{FILES}/1.9/%2e%2e/a.dcm",
        f"{FILES}/./a.dcm",
        f"{FILES}//a.dcm",
        f"{FILES}x/1.9/a.dcm",
        f"{FILES}/1.9/DICOM/b.dcm",
        f"{FILES.replace('S_E', 'S_F')}/1.9/DICOM/a.dcm",
        f"{FILES.replace('1_9', '2')}/1.9/DICOM/a.dcm",
        "/data/experiments/E/scans/1_9/resources/DICOM/files/1.9/DICOM/a.dcm",
    ],
)
def test_an_address_elsewhere_is_not_followed(uri: str | None) -> None:
    """Then the file is asked for by its name."""
    assert asked(uri) == f"{FILES}/a.dcm"
