"""Resources and files at every level, with the traps of their writing."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from typing import Any

import pytest

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import Answer, Client, dicom, series
from tests.standin.writing import PROJECT, RAW, SCAN, SESSION, SUBJECT, archive_one, names, put

__all__ = ["client", "site"]


@pytest.fixture(autouse=True)
def _session(client: Client) -> None:
    archive_one(client)


@pytest.fixture
def owner(site: StandIn) -> Client:
    return Client(site.url, user="owner").login()


@pytest.mark.parametrize(
    ("at", "base"),
    [
        (PROJECT, PROJECT),
        (SUBJECT, PROJECT + "/subjects/XNAT_S00001"),
        ("/data/subjects/XNAT_S00001", PROJECT + "/subjects/XNAT_S00001"),
        (SESSION, PROJECT + "/subjects/XNAT_S00001/experiments/XNAT_E00001"),
        (PROJECT + "/experiments/E1", "/data/experiments/XNAT_E00001"),
        ("/data/experiments/XNAT_E00001", "/data/experiments/XNAT_E00001"),
        ("/data/archive/experiments/XNAT_E00001", "/data/experiments/XNAT_E00001"),
        (SCAN, PROJECT + "/subjects/XNAT_S00001/experiments/XNAT_E00001/scans/1"),
        ("/data/experiments/XNAT_E00001/scans/1", "/data/experiments/XNAT_E00001/scans/1"),
    ],
)
def test_a_file_at_every_level(site: StandIn, owner: Client, at: str, base: str) -> None:
    said: dict[str, Any] = {
        "format": "JSON",
        "content": "REPORT",
        "tags": "a,b",
        "description": "one",
        "event_id": "12",
    }
    reply = put(owner, at, "sub/a.json", **said)
    assert (reply.status, reply.text) == (200, "")
    resource = next(row for row in owner("GET", at + "/resources").rows if row["label"] == "NOTES")
    assert {key: resource[key] for key in ("file_count", "file_size", "format", "content", "tags")} == {
        "file_count": "1",
        "file_size": "3",
        "format": "JSON",
        "content": "REPORT",
        "tags": "a,b",
    }
    (row,) = owner("GET", at + "/resources/NOTES/files").rows
    number = resource["xnat_abstractresource_id"]
    assert row == {
        "Name": "a.json",
        "Size": "3",
        "URI": f"{base}/resources/{number}/files/sub/a.json",
        "collection": "NOTES",
        "file_tags": "a,b",
        "file_format": "JSON",
        "file_content": "REPORT",
        "cat_ID": number,
        "digest": hashlib.md5(b"abc").hexdigest(),
    }
    assert owner("GET", row["URI"]).data == b"abc"
    packed = zipfile.ZipFile(io.BytesIO(owner("GET", at + "/resources/NOTES/files", format="zip").data))
    assert [name.partition("/resources/")[2] for name in packed.namelist()] == ["NOTES/files/sub/a.json"]
    assert 'URI="sub/a.json"' in owner("GET", at + "/resources/NOTES").text


def test_what_a_write_said_is_remembered(site: StandIn, client: Client) -> None:
    put(client, SESSION, "a", event_id="77")
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    (written,) = session.resources["NOTES"].written
    assert (written.path, written.user, written.query["event_id"]) == ("a", "uploader", "77")


def test_an_existing_file_stays_unless_overwritten(client: Client) -> None:
    put(client, SESSION, "d/a")
    reply = put(client, SESSION, "d/a", b"other")
    assert (reply.status, json.loads(reply.text)) == (200, {"duplicates": ["d/a"]})
    assert client("GET", SESSION + "/resources/NOTES/files/d/a").data == b"abc"
    assert put(client, SESSION, "d/a", b"other", overwrite="true").text == ""
    assert client("GET", SESSION + "/resources/NOTES/files/d/a").data == b"other"
    (row,) = client("GET", SESSION + "/resources/NOTES/files").rows
    assert (row["Size"], row["digest"]) == ("5", hashlib.md5(b"other").hexdigest())


@pytest.mark.parametrize(
    ("user", "at", "stored"),
    [
        ("reader", PROJECT, False),
        ("reader", SESSION, False),
        ("uploader", PROJECT, False),
        ("uploader", SUBJECT, True),
        ("uploader", SESSION, True),
        ("uploader", SCAN, True),
        ("owner", PROJECT, True),
        ("boss", PROJECT, True),
    ],
)
def test_who_may_write(site: StandIn, user: str, at: str, stored: bool) -> None:
    """Members may not edit the project itself; without the right a file is taken with 200 and not kept."""
    asking = Client(site.url, user=user).login()
    reply = put(asking, at, "a")
    assert (reply.status, reply.text) == (200, "")
    assert names(asking, at) == (["a"] if stored else [])
    made = asking("PUT", at + "/resources/EMPTY")
    assert made.status == (200 if stored else 403)
    if not stored:
        assert made.reason == "User account doesn't have permission to modify this session."


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/data/projects/NONE", "Unable to identify project"),
        ("/data/projects/SECRET", "Unable to identify project"),
        (PROJECT + "/subjects/S9", "Unable to identify subject"),
        (SUBJECT + "/experiments/E9", "Unable to identify experiment"),
        ("/data/experiments/E1", "Unable to identify experiment"),
        (SUBJECT + "/experiments/E9/scans/1", "Unable to identify image session"),
        (SESSION + "/scans/9", "Unable to identify scan"),
    ],
)
def test_unknown_parents(client: Client, path: str, reason: str) -> None:
    reply = put(client, path, "a")
    assert (reply.status, reply.reason) == (404, reason)


def test_bodies_that_are_refused(client: Client) -> None:
    at = SESSION + "/resources/NOTES/files/a"
    chunked = client("PUT", at, iter([b"abc"]), RAW, inbody="true")
    assert (chunked.status, "request entity size is -1" in (chunked.reason or "")) == (500, True)
    empty = client("PUT", at, b"", RAW, inbody="true")
    assert (empty.status, "request entity size is 0" in (empty.reason or "")) == (500, True)
    nothing = client("PUT", at, b"")
    assert (nothing.status, "found request entity size of 0" in (nothing.reason or "")) == (400, True)
    strange = client("PUT", at, b"{}", {"Content-Type": "application/json"})
    assert (strange.status, "You tried to PUT a payload of 2 B" in (strange.reason or "")) == (400, True)
    assert put(client, SESSION, "x/../../a").status == 400
    assert client("GET", SESSION + "/resources").rows == []


def test_only_a_zip_may_be_chunked_or_empty(client: Client) -> None:
    zipped = {"Content-Type": "application/zip"}
    assert client("PUT", SESSION + "/resources/N/files/a", iter([b"ab", b"c"]), zipped, inbody="true").status == 200
    assert client("PUT", SESSION + "/resources/N/files/b", b"", zipped, inbody="true").status == 200
    assert [row["Size"] for row in client("GET", SESSION + "/resources/N/files").rows] == ["3", "0"]


def test_a_form_with_a_file(client: Client) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="f"; filename="c:\\d\\a.txt"\r\n\r\nabc\r\n--x--\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client("POST", SESSION + "/resources/NOTES/files", body, form).status == 200
    assert names(client, SESSION) == ["a.txt"]


def test_two_at_once_and_one_loses(site: StandIn, client: Client) -> None:
    """Both read the catalogue before either wrote it: the loser's file is on disk and not listed."""
    put(client, SESSION, "first")
    site.settings.catalog_window = 0.1
    ready = threading.Barrier(2)
    replies: dict[str, Answer] = {}

    def send(name: str) -> None:
        ready.wait()
        replies[name] = put(client, SESSION, name)

    threads = [threading.Thread(target=send, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    site.settings.catalog_window = 0.0
    assert sorted(reply.status for reply in replies.values()) == [200, 500]
    lost = next(name for name, reply in replies.items() if reply.status == 500)
    assert "To avoid overwriting changes" in (replies[lost].reason or "")
    kept = "a" if lost == "b" else "b"
    assert names(client, SESSION) == ["first", kept]
    assert json.loads(put(client, SESSION, lost).text) == {"duplicates": [lost]}
    assert put(client, SESSION, lost, overwrite="true").status == 200
    assert names(client, SESSION) == ["first", kept, lost]


def test_deleting_files(client: Client, owner: Client) -> None:
    """Everything whose path begins so is gone, and it takes an owner's right."""
    for name in ("a", "ab", "d/a", "b"):
        put(client, SESSION, name)
    at = SESSION + "/resources/NOTES/files"
    assert client("DELETE", at + "/a").status == 403
    missing = owner("DELETE", at + "/z")
    assert (missing.status, missing.reason) == (404, "No matched files")
    assert owner("DELETE", at + "/a").status == 200
    assert names(client, SESSION) == ["d/a", "b"]
    assert owner("DELETE", at + "/d/").status == 200
    assert names(client, SESSION) == ["b"]
    assert owner("DELETE", SESSION + "/resources/NONE/files/a").status == 400


def test_making_and_deleting_a_resource(site: StandIn, client: Client, owner: Client) -> None:
    at = SESSION + "/resources/EMPTY"
    assert client("PUT", at, format="TXT").status == 200
    again = client("PUT", at)
    assert (again.status, again.reason) == (409, "Specified resource already exists.")
    put(client, SESSION, "a", label="EMPTY")
    assert client("PUT", at + "/a.txt").status == 400
    assert client("DELETE", at).status == 403
    assert owner("DELETE", at).status == 200
    gone = client("GET", at)
    assert (gone.status, gone.reason) == (404, "Unable to find the specified catalog.")
    assert client("GET", at + "/files").rows == []
    assert owner("DELETE", at).status == 200


def test_the_dicom_resource_is_one_of_them(site: StandIn, client: Client, owner: Client) -> None:
    put(client, SCAN, "more.dcm", dicom(2), label="DICOM")
    put(client, SCAN, "note")
    assert len(client("GET", SCAN + "/resources/DICOM/files").rows) == 2
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    assert "more.dcm" in session.files
    assert [row["label"] for row in client("GET", SESSION + "/resources", all="true").rows] == ["DICOM", "NOTES"]
    assert client("GET", SESSION + "/resources").rows == []
    uri = client.send(series([3])).text.strip()
    assert client("POST", uri, action="commit", AA="true").status == 301
    assert len(names(client, SCAN, "DICOM")) == 3
    assert owner("DELETE", SCAN + "/resources/DICOM").status == 200
    assert [row["label"] for row in client("GET", SCAN + "/resources").rows] == ["NOTES"]
    assert session.files == {}
