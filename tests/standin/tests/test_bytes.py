"""The bytes of stored files read back from the prearchive and the archive, and files that were stored wrong."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from pydicom import uid

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import Client, dicom

__all__ = ["client", "site"]

CAPTURE: dict[str, Any] = {"SOPClassUID": uid.SecondaryCaptureImageStorage}
SENT = {"a.dcm": dicom(1), "b.dcm": dicom(2), "c.dcm": dicom(3, **CAPTURE)}


def stored(client: Client, *, archived: bool) -> str:
    """What the addresses of the session's scans begin with."""
    uri = client.send(SENT, rename="false").text.strip()
    if archived:
        assert client("POST", uri, action="commit", AA="true").status == 301
        return "/data/experiments/XNAT_E00001"
    assert client("POST", uri, action="build").status == 200
    return uri


@pytest.mark.parametrize("archived", [False, True])
def test_one_file_is_read_back_by_its_name(client: Client, archived: bool) -> None:
    base = stored(client, archived=archived) + "/scans/1/resources/"
    for name, content in SENT.items():
        label = "secondary" if name == "c.dcm" else "DICOM"
        reply = client("GET", f"{base}{label}/files/{name}")
        assert (reply.status, reply.data) == (200, content)
        assert reply.headers["Content-Length"] == str(len(content))


@pytest.mark.parametrize("archived", [False, True])
def test_listed_addresses_lead_to_the_bytes(client: Client, archived: bool) -> None:
    base = stored(client, archived=archived)
    for label, names in (("DICOM", {"a.dcm", "b.dcm"}), ("secondary", {"c.dcm"})):
        rows = client("GET", f"{base}/scans/1/resources/{label}/files", format="json").rows
        assert {row["Name"] for row in rows} == names
        for row in rows:
            assert client("GET", row["URI"]).data == SENT[row["Name"]]
            assert row["Size"] == str(len(SENT[row["Name"]]))


def test_every_way_to_a_session_leads_to_its_files(client: Client) -> None:
    stored(client, archived=True)
    for base in (
        "/data/experiments/XNAT_E00001",
        "/data/archive/experiments/XNAT_E00001",
        "/data/projects/DEMO/subjects/S1/experiments/E1",
    ):
        assert client("GET", f"{base}/scans/1/resources/DICOM/files/a.dcm").data == SENT["a.dcm"]


@pytest.mark.parametrize("archived", [False, True])
def test_a_slash_in_a_number_makes_a_folder(site: StandIn, client: Client, archived: bool) -> None:
    """The namer's names are paths; the file lies in a folder below its scan's, and is addressed so."""
    site.settings.file_name_template = "${InstanceNumber}"
    content = dicom(1, SeriesNumber=7).replace(b"\x20\0\x13\0IS\2\0001 ", b"\x20\0\x13\0IS\4\0001/2 ")
    uri = client.send({"a.dcm": content}).text.strip()
    base = uri
    client("POST", uri, action="commit" if archived else "build", AA="true")
    if archived:
        base = "/data/experiments/XNAT_E00001"
    (row,) = client("GET", f"{base}/scans/7/resources/DICOM/files", format="json").rows
    assert row["Name"] == "2.dcm"
    assert row["URI"].endswith("/1/2.dcm")
    assert client("GET", quote(row["URI"])).data == content


def test_what_is_not_there(client: Client) -> None:
    base = stored(client, archived=True) + "/scans/1/resources/"
    for path in ("DICOM/files/x.dcm", "DICOM/files/c.dcm", "secondary/files/a.dcm", "OTHER/files/a.dcm"):
        refused = client("GET", base + path)
        assert (refused.status, refused.reason) == (404, "Unable to find file.")
