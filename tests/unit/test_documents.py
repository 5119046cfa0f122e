"""Whose document a server sends when it is asked for a project, a subject or a session."""

from __future__ import annotations

from typing import Any

import pytest

from xnat_ingest.core.errors import IngestError, SessionTrouble
from xnat_ingest.xnat.documents import refuse_stranger, stray_finder

HERE = "/data/projects/DEMO/experiments/007_pre"


def document(project: object, label: object, *shares: tuple[str, str]) -> dict[str, Any]:
    return {"ID": "XNAT_E00001", "project": project, "label": label, "shares": list(shares)}


@pytest.mark.parametrize(
    "fields",
    [
        document("DEMO", "007_pre"),
        document("demo", "007_PRE"),
        document("DEMO", ""),
        document(None, "007_pre"),
        {"ID": "XNAT_E00001", "shares": []},
        document("HOME", "007_at_home", ("THIRD", "x"), ("DEMO", "007_pre")),
        document("HOME", "007_at_home", ("demo", "007_Pre")),
        document("HOME", "007_PRE", ("DEMO", "")),
    ],
)
def test_the_session_that_was_asked_for(fields: dict[str, Any]) -> None:
    """Shared sessions show their home. What is not said is no contradiction."""
    refuse_stranger(HERE, fields)


@pytest.mark.parametrize(
    "fields",
    [
        document("DEMO2", "007_pre"),
        document("DEMO", "007_pre_2"),
        document("OTHER", ""),
        document("", "008_pre"),
        document(5, 5),
        document("HOME", "007_pre", ("THIRD", "007_pre")),
        document("HOME", "x", ("DEMO", "008_pre"), ("THIRD", "007_pre")),
        document("HOME", "007_pre", ("DEMO", "008_pre")),
        document("HOME", "007_at_home", ("DEMO", "")),
    ],
)
def test_another_session_is_not_taken_for_it(fields: dict[str, Any]) -> None:
    with pytest.raises(SessionTrouble, match="asked for session 007_pre of project DEMO, the server answers with"):
        refuse_stranger(HERE, fields)


@pytest.mark.parametrize("above", ["", "/archive"])
@pytest.mark.parametrize(
    ("address", "fields", "right"),
    [
        ("/projects/DEMO/subjects/S/experiments/007_pre", document("DEMO", "007_pre"), True),
        ("/projects/DEMO/subjects/S/experiments/007_pre", document("OTHER", "007_pre"), False),
        ("/projects/DEMO/experiments/XNAT_E00001", document("DEMO", "x"), True),
        ("/projects/DEMO/experiments/xnat_e00001", document("HOME", "x", ("DEMO", "y")), True),
        ("/projects/DEMO/experiments/XNAT_E00001", document("OTHER", "x"), False),
        ("/projects/DEMO/experiments/XNAT_E0000", document("DEMO", "x"), False),
        ("/experiments/XNAT_E00001", document("OTHER", "x"), True),
        ("/experiments/XNAT_E00002", document("DEMO", "XNAT_E00002"), False),
        ("/projects/DEMO/subjects/007", document("DEMO", "007") | {"ID": "XNAT_S00001"}, True),
        ("/projects/DEMO/subjects/007", document("DEMO", "008") | {"ID": "XNAT_S00001"}, False),
        ("/projects/DEMO/subjects/007", document("OTHER", "007") | {"ID": "XNAT_S00001"}, False),
        ("/projects/DEMO/subjects/007", document("HOME", "5", ("DEMO", "007")) | {"ID": "XNAT_S00001"}, True),
        ("/subjects/XNAT_S00001", document("OTHER", "007") | {"ID": "XNAT_S00001"}, True),
        ("/subjects/XNAT_S00001", document("DEMO", "007") | {"ID": "XNAT_S00003"}, False),
        ("/projects/DEMO", {"ID": "DEMO", "aliases": []}, True),
        ("/projects/demo", {"ID": "DEMO", "aliases": []}, True),
        ("/projects/Old-Demo", {"ID": "DEMO", "aliases": ["x", "old-demo"]}, True),
        ("/projects/DEMO", {"ID": "OTHER", "aliases": []}, False),
        ("/projects/DEMO", {"ID": "OTHER", "aliases": ["DEM", "DEMO2", ""]}, False),
        ("/experiments/X/scans/1", {"ID": "2", "aliases": [], "shares": []}, True),
    ],
)
def test_an_address_and_the_document_that_comes(above: str, address: str, fields: dict[str, Any], right: bool) -> None:
    """A mixed-up answer would send all images, or aim a deletion, at a stranger's project."""
    if right:
        refuse_stranger(f"/data{above}{address}", fields)
        return
    with pytest.raises(IngestError, match=r"asked for .*, the server answers with"):
        refuse_stranger(f"/data{above}{address}", fields)


FILES, ONE_SCAN = "/data/experiments/X/scans/ALL/files", "/data/experiments/X/scans/1/resources/NIFTI/files"
IN_PREARCHIVE = "/data/prearchive/projects/P1/20260101_120000001/S_E/scans/1/resources/DICOM/files"


@pytest.mark.parametrize(
    ("path", "uri", "stray"),
    [
        (FILES, "/data/experiments/X/scans/1", False),
        (FILES, "/data/experiments/x/scans/1", False),
        (FILES, "/data/archive/experiments/X/scans/1", False),
        (FILES, "/REST/experiments/X/scans/1", False),
        (FILES, "/xnat/data/experiments/X/scans/1", False),
        (FILES, "/data/experiments/X/scans/a%20b", False),
        (FILES, "/data/experiments/X/scans/1/../1", True),
        (FILES, "/data/experiments/X/../Y/scans/1", True),
        (FILES, "/data/experiments/X/%2E%2E/Y/scans/1", True),
        (FILES, "/data/experiments/X/assessors/A/scans/1", True),
        (FILES, "/data/experiments/X", True),
        (FILES, "/data/projects/P1/subjects/S/experiments/S_E/scans/1", True),
        (FILES, "/archive/projects/P1/subjects/S/experiments/S_E/scans/1", True),
        (FILES, "https://example.org/data/experiments/X/scans/1", True),
        (FILES, "scans/1", True),
        (FILES, "", True),
        (FILES, "/data/experiments/X9/scans/1", True),
        (FILES, "/data/experiments/Y/scans/1", True),
        (FILES, "/data/experiments/%59/scans/1", True),
        (FILES, "/data/archive/experiments/Y/scans/1", True),
        (FILES, "/REST/experiments/Y/scans/1", True),
        (FILES, "/xnat/data/experiments/Y/scans/1", True),
        (FILES, "/archive/experiments/Y/scans/1", True),
        (ONE_SCAN, "/data/experiments/X/scans/1", False),
        (ONE_SCAN, "/data/experiments/X/scans/2", True),
        (ONE_SCAN, "/data/experiments/Y/scans/1", True),
        ("/data/experiments/X/resources/QC/files", "/data/experiments/X", False),
        ("/data/experiments/X/resources/QC/files", "/data/experiments/Y", True),
        ("/data/experiments/X/scans", "/data/experiments/Y/scans/1", True),
        ("/data/experiments/X/scans", "SCANS/1", False),
        ("/data/projects/P1/resources/QC/files", "/data/projects/P1", False),
        ("/data/projects/P1/resources/QC/files", "/data/projects/P2", True),
        ("/data/projects/P1/experiments", "/data/experiments/X", False),
        ("/data/projects/P1/subjects/S/resources/QC/files", "/data/projects/HOME/subjects/S", False),
        (IN_PREARCHIVE, "/data/prearchive/projects/P1/20260101_120000001/S_E/scans/1", False),
        (IN_PREARCHIVE, "/xnat/data/prearchive/projects/P1/20260101_120000001/S_E/scans/1", False),
        (IN_PREARCHIVE, "/data/prearchive/projects/P2/20260101_120000001/S_E/scans/1", True),
        (IN_PREARCHIVE, "/data/prearchive/projects/P1/20260101_120000002/S_E/scans/1", True),
        (IN_PREARCHIVE, "/data/prearchive/projects/P1/20260101_120000001/S_F/scans/1", True),
        (IN_PREARCHIVE, "/data/prearchive/projects/P1/20260101_120000001/S_E/scans/2", True),
    ],
)
def test_a_row_of_another_session_or_scan(path: str, uri: str, stray: bool) -> None:
    """In a listing of files each row has a whole address, by accession id. Elsewhere a relative one names nothing."""
    assert stray_finder(path)({"Name": "a", "URI": f"{uri}/resources/1/files/a.dcm"}) == stray


def test_a_row_without_an_address() -> None:
    assert stray_finder(FILES)({"Name": "a"})
    assert not stray_finder("/data/experiments/X/scans")({"ID": "1"})
