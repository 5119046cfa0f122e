"""gradual-DICOM: one object per request, and the file meta information that comes with the request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import PARAMS, STUDY, Answer, Client, dicom

__all__ = ["client", "site"]

GRADUAL: dict[str, Any] = PARAMS | {"import-handler": "gradual-DICOM"}
DICOM = {"Content-Type": "application/dicom"}


def send(client: Client, content: Any, path: str = "", kind: str = "application/dicom", **query: Any) -> Answer:
    return client("POST", f"/data/services/import{path}", content, {"Content-Type": kind}, **(GRADUAL | query))


def bare(content: bytes) -> bytes:
    """The data set of a file."""
    meta = pydicom.dcmread(BytesIO(content), stop_before_pixels=True).file_meta
    return content[144 + int(meta.FileMetaInformationGroupLength) :]


def test_one_object_makes_the_prearchive_session_that_an_archive_makes(site: StandIn, client: Client) -> None:
    reply = send(client, dicom(1))
    row = site.rows("DEMO")[0]
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/uri-list")
    assert reply.text == f"/data{row.url}\r\n"
    assert (row.label, row.subject, row.source, row.prevent_auto_commit) == ("E1", "S1", "uploader", True)
    assert client.send({"2.dcm": dicom(2)}).text == reply.text
    assert len(row.files) == 2


@pytest.mark.wide
def test_many_at_once_share_the_prearchive_session(site: StandIn, client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda number: send(client, dicom(number)), range(1, 41)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.text for reply in replies}) == len(site.rows("DEMO")) == 1
    assert len(site.rows("DEMO")[0].files) == 40


@pytest.mark.parametrize("kind", ["application/dicom", "application/octet-stream", "application/zip"])
def test_the_path_names_the_file(site: StandIn, client: Client, kind: str) -> None:
    """Any type of body is one object here; without ``rename`` the rest of the path is the name, slashes and all."""
    assert send(client, dicom(1), "/a/IM 1", kind, rename="false").status == 200
    assert list(site.rows("DEMO")[0].files) == ["a_IM_1"]


def test_without_a_path_the_type_names_it(site: StandIn, client: Client) -> None:
    for number in (1, 2):
        assert send(client, dicom(number), rename="false").status == 200
    named = sorted(site.rows("DEMO")[0].files)
    assert len(named) == 2
    assert "upload.dcm" in named
    assert any(name.startswith(STUDY + "-1-2-") for name in named)


def test_only_raw_names_of_parameters_count(site: StandIn, client: Client) -> None:
    given: dict[str, Any] = {"import-handler": "gradual-DICOM", "project": "DEMO", "subject": "S9", "session": "E9"}
    reply = client("POST", "/data/services/import", dicom(1, StudyDescription="AUTO"), DICOM, **given)
    assert reply.text.startswith("/data/prearchive/projects/AUTO/")
    assert (site.rows("AUTO")[0].label, site.rows("AUTO")[0].subject) == ("P_1", "Doe_Jane")
    given = {"import-handler": "gradual-DICOM", "dest": "/prearchive/projects/DEMO"}
    assert "/DEMO/" in client("POST", "/data/services/import", dicom(1), DICOM, **given).text


def test_a_dicom_body_needs_no_handler(site: StandIn, client: Client) -> None:
    reply = client("POST", "/data/services/import?PROJECT_ID=DEMO", dicom(1), DICOM)
    assert (reply.status, reply.text) == (200, f"/data{site.rows('DEMO')[0].url}\r\n")
    mirc = {"Content-Type": "application/x-mirc"}
    reply = client("POST", "/data/services/import?PROJECT_ID=DEMO&inbody=true", dicom(2), mirc)
    assert (reply.status, reply.text, len(site.rows("DEMO")[0].files)) == (200, "OK", 2)


def test_what_is_refused(site: StandIn, client: Client) -> None:
    assert send(client, b"hello " * 100).reason == "unable to read DICOM object upload.dcm"
    assert send(client, dicom(SOPInstanceUID=None), "/x").reason == "object x contains no SOP Instance UID"
    assert "entity size is -1" in send(client, iter([dicom(1)])).text
    assert site.rows("DEMO") == []
    assert send(client, dicom(1)).status == 200
    row = site.rows("DEMO")[0]
    assert site.prearchive.open_file(row, "1" + next(iter(row.files)))
    assert send(client, dicom(1)).reason == "Concurrent file sends of the same data is not supported."


def test_a_filter_drops_it_without_a_word(site: StandIn, client: Client) -> None:
    site.settings.site_filter = {"enabled": True, "mode": "blacklist", "list": "^series"}
    reply = send(client, dicom(1))
    assert (reply.status, reply.text, site.rows("DEMO")) == (200, "", [])


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, "1.2.840.10008.1.2.4.70"])
def test_a_bare_data_set_gets_its_file_meta_information(site: StandIn, client: Client, syntax: str) -> None:
    """Its bytes stay as they came."""
    encoded = "1.2.840.10008.1.2.1" if syntax.startswith("1.2.840.10008.1.2.4") else syntax
    content = bare(dicom(1, syntax=encoded))
    given = {"Transfer-Syntax-UID": syntax, "Sender-AE-Title": "SCANNER", "rename": "true"}
    assert send(client, content, **given).status == 200
    (path,) = site.rows("DEMO")[0].files.values()
    meta = pydicom.dcmread(path, stop_before_pixels=True).file_meta
    assert (meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID) == (syntax, f"{STUDY}.1.1")
    assert (meta.SourceApplicationEntityTitle, meta.FileMetaInformationVersion) == ("SCANNER", b"\0\1")
    stored = path.read_bytes()
    assert stored[144 + int(meta.FileMetaInformationGroupLength) :] == content
    assert "-1-1-" in path.name
