"""Subjects, experiments and scans by PUT and DELETE, and alias tokens."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.standin import ArchivedSession, StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import STUDY, Answer, Client, series

__all__ = ["client", "site"]

PROJECT = "/data/projects/DEMO"
SUBJECT = PROJECT + "/subjects/S1"
SESSION = SUBJECT + "/experiments/E1"
SCAN = SESSION + "/scans/1"


def said(reply: Answer) -> tuple[int, str]:
    """Status, and the text or the reason."""
    return reply.status, reply.text if reply.status < 300 else reply.reason or ""


def fields(client: Client, path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client("GET", path, format="json").text)["items"][0]["data_fields"]
    return found


def made(client: Client) -> None:
    """A session with one scan, by PUT alone."""
    assert client("PUT", SESSION, xsiType="xnat:mrSessionData").status == 201
    assert client("PUT", SCAN, xsiType="xnat:mrScanData").status == 200


def the(session: ArchivedSession | None) -> ArchivedSession:
    assert session is not None
    return session


# -- making


def test_a_subject(site: StandIn, client: Client) -> None:
    assert said(client("PUT", SUBJECT, gender="female", group="control")) == (201, "XNAT_S00001")
    assert said(client("PUT", SUBJECT, group="patient")) == (200, "XNAT_S00001")
    assert said(client("PUT", PROJECT + "/subjects/XNAT_S00001")) == (200, "XNAT_S00001")
    item = json.loads(client("GET", SUBJECT, format="json").text)["items"][0]
    assert item["data_fields"] == {"ID": "XNAT_S00001", "project": "DEMO", "label": "S1", "group": "patient"}
    assert item["children"][0]["items"][0]["data_fields"] == {"gender": "female"}
    (row,) = client("GET", PROJECT + "/subjects", columns="label,group,insert_user").rows
    assert (row["label"], row["group"], row["insert_user"]) == ("S1", "patient", "uploader")


def test_renaming_a_subject(client: Client) -> None:
    client("PUT", SESSION, xsiType="xnat:mrSessionData")
    client("PUT", PROJECT + "/subjects/S2")
    assert said(client("PUT", SUBJECT, label="S2")) == (409, "Specified label is already in use.")
    assert client("PUT", SUBJECT, label="S3").status == 200
    assert fields(client, PROJECT + "/subjects/S3/experiments/E1")["subject_ID"] == "XNAT_S00001"


@pytest.mark.parametrize(
    ("user", "path", "query", "wanted"),
    [
        (
            "reader",
            SUBJECT,
            {},
            (403, "Specified user account has insufficient create privileges for subjects in this project."),
        ),
        (
            "reader",
            SESSION,
            {"xsiType": "xnat:mrSessionData"},
            (403, "Specified user account has insufficient create privileges for experiments in this project."),
        ),
        ("stranger", SUBJECT, {}, (422, "Submitted subject record must include the project attribute.")),
        ("uploader", PROJECT + "/subjects/a%20b", {}, (417, "Invalid character in subject label.")),
        ("uploader", SESSION, {}, (417, "Need PUT Contents")),
        (
            "uploader",
            SUBJECT + "/experiments/a.b",
            {"xsiType": "xnat:mrSessionData"},
            (417, "Invalid character in experiment label."),
        ),
        (
            "uploader",
            SESSION,
            {"xsiType": "xnat:subjectData"},
            (422, "Only xnat:Subject documents can be PUT to this address."),
        ),
        (
            "uploader",
            PROJECT + "/experiments/E1",
            {"xsiType": "xnat:mrSessionData"},
            (422, "Submitted experiment record must include the subject."),
        ),
        (
            "uploader",
            SCAN,
            {"xsiType": "xnat:mrScanData"},
            (417, "Specified scan must reference a valid image session."),
        ),
    ],
)
def test_what_is_not_made(site: StandIn, user: str, path: str, query: dict[str, str], wanted: tuple[int, str]) -> None:
    assert said(Client(site.url, user=user)("PUT", path, filters=query)) == wanted
    assert (site.project("DEMO").sessions, site.project("DEMO").subjects) == ({}, {})


def test_an_experiment_is_in_every_listing(site: StandIn, client: Client) -> None:
    sent = {"xsiType": "xnat:petSessionData", "date": "02/28/2024", "xnat:petSessionData/note": "by hand"}
    assert said(client("PUT", SESSION, filters=sent)) == (201, "XNAT_E00001")
    assert said(client("PUT", "/data/experiments/XNAT_E00001", note="again")) == (200, "XNAT_E00001")
    found = fields(client, SESSION)
    assert {key: found[key] for key in ("ID", "label", "subject_ID", "modality", "date", "note")} == {
        "ID": "XNAT_E00001",
        "label": "E1",
        "subject_ID": "XNAT_S00001",
        "modality": "PT",
        "date": "2024-02-28",
        "note": "again",
    }
    for path in (PROJECT + "/experiments", SUBJECT + "/experiments", "/data/experiments"):
        (row,) = client("GET", path, format="json").rows
        assert (row["ID"], row["label"], row["xsiType"], row["date"]) == (
            "XNAT_E00001",
            "E1",
            "xnat:petSessionData",
            "2024-02-28",
        )
    assert client("GET", PROJECT + "/experiments", columns="label,note").rows[0]["note"] == "again"
    assert client("PUT", SESSION, date="soon").status == 400


def test_renaming_and_moving_an_experiment(client: Client) -> None:
    made(client)
    client("PUT", SUBJECT + "/experiments/E2", xsiType="xnat:mrSessionData")
    assert said(client("PUT", SESSION, label="E2")) == (409, "Specified label is already in use.")
    assert client("PUT", SESSION, label="E3").status == 200
    assert client("GET", SESSION, format="json").status == 404
    assert said(client("PUT", SUBJECT + "/experiments/E3", subject_ID="S2")) == (200, "XNAT_E00001")
    assert fields(client, PROJECT + "/subjects/S2/experiments/E3")["subject_ID"] == "XNAT_S00002"


def test_an_experiment_below_the_address_of_another_subject(site: StandIn, client: Client) -> None:
    """It is moved there, unless its own record is to be left out."""
    made(client)
    client("PUT", PROJECT + "/subjects/S2")
    path, sent = PROJECT + "/subjects/S2/experiments/E1", {"xsiType": "xnat:mrSessionData"}
    refused = 409, "Project must be modified through separate URI."
    assert said(client("PUT", path, filters=sent | {"populateFromDB": "false"})) == refused
    assert fields(client, SESSION)["subject_ID"] == "XNAT_S00001"
    assert said(client("PUT", path, filters=sent)) == (200, "XNAT_E00001")
    assert fields(client, SESSION)["subject_ID"] == "XNAT_S00002"
    new = PROJECT + "/subjects/S2/experiments/E2"
    assert client("PUT", new, filters=sent | {"populateFromDB": "false"}).status == 201


def test_a_scan(site: StandIn, client: Client) -> None:
    made(client)
    more = {"series_description": "t1", "xnat:mrScanData/note": "good", "quality": "questionable"}
    assert said(client("PUT", SCAN, filters={"xsiType": "xnat:mrScanData"} | more)) == (200, "")
    assert said(client("PUT", SCAN, type="T1w")) == (200, "")
    found = fields(client, SCAN)
    assert (found["series_description"], found["type"], found["note"], found["quality"]) == (
        "t1",
        "T1w",
        "good",
        "questionable",
    )
    (row,) = client("GET", SESSION + "/scans").rows
    assert (row["ID"], row["xsiType"], row["type"], row["note"]) == ("1", "xnat:mrScanData", "T1w", "good")
    differs = client("PUT", SCAN, xsiType="xnat:petScanData")
    assert said(differs) == (409, "Specified xsiType differs from existing xsiType")
    assert client("PUT", SESSION + "/scans/2", xsiType="xnat:imageScanData").status == 400
    assert said(client("PUT", SESSION + "/scans/2")) == (417, "Need PUT Contents")
    reading = Client(site.url, user="reader")("PUT", SCAN, type="x")
    assert said(reading)[0] == 403
    assert client("GET", SCAN + "/resources").rows == []


def test_dicom_comes_into_what_was_made_by_hand(site: StandIn, client: Client) -> None:
    made(client)
    client("PUT", SESSION + "/resources/NOTES/files/a", b"1", {"Content-Type": "text/plain"})
    uri = client.send(series([1, 2])).text.strip()
    reply = client("POST", uri, action="commit", AA="true")
    assert (reply.status, reply.text) == (301, SESSION.replace("/data", "/data/archive"))
    session = the(site.archived("DEMO", "S1", "E1"))
    assert (session.accession, session.study_uid, list(session.scans)) == ("XNAT_E00001", STUDY, ["1"])
    assert len(client("GET", SCAN + "/resources/DICOM/files").rows) == 2
    assert fields(client, SCAN)["UID"] == STUDY + ".1"
    labels = [row["label"] for row in client("GET", SESSION + "/resources", all="true").rows]
    assert labels == ["NOTES", "DICOM"]


def test_dicom_of_another_modality_does_not(client: Client) -> None:
    client("PUT", SESSION, xsiType="xnat:petSessionData")
    uri = client.send(series([1])).text.strip()
    reply = client("POST", uri, action="commit", AA="true")
    assert (reply.status, "session modality" in (reply.reason or "")) == (500, True)


# -- deleting


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (SUBJECT, "User cannot delete subjects for project DEMO"),
        (SESSION, "User cannot delete experiments for project DEMO"),
        (SCAN, "User account doesn't have permission to modify this session."),
    ],
)
def test_deleting_takes_an_owners_right(site: StandIn, client: Client, path: str, reason: str) -> None:
    made(client)
    assert said(client("DELETE", path)) == (403, reason)
    owner = Client(site.url, user="owner")
    assert owner("DELETE", path).status == 200
    assert client("GET", path, format="json").status == 404
    assert owner("DELETE", path).status == 404


@pytest.mark.parametrize("path", [SUBJECT, SESSION])
def test_files_stay_unless_asked_for(site: StandIn, client: Client, path: str) -> None:
    owner = Client(site.url, user="owner").login()
    for query, stays in ({}, True), ({"removeFiles": "true"}, False):
        made(client)
        client("PUT", SESSION + "/resources/N/files/a", b"1", {"Content-Type": "text/plain"}, overwrite="true")
        folder = the(site.archived("DEMO", "S1", "E1")).directory
        assert owner("DELETE", path, filters=query).status == 200
        assert folder.exists() == stays


# -- alias tokens


def issue(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client("GET", "/data/services/tokens/issue").text)
    return found


def by_token(site: StandIn, token: dict[str, Any]) -> Client:
    return Client(site.url, user=token["alias"], password=token["secret"])


def test_a_token_is_its_user(site: StandIn, client: Client) -> None:
    token = issue(client)
    assert (token["xdatUserId"], token["singleUse"]) == ("uploader", False)
    other = by_token(site, token)
    assert other("GET", "/xapi/users/username").text == "uploader"
    assert other("PUT", SUBJECT).status == 201
    assert other("DELETE", SUBJECT).status == 403
    assert other("GET", "/data/projects/SECRET", format="json").status == 404
    valid = client("GET", f"/data/services/tokens/validate/{token['alias']}/{token['secret']}")
    assert json.loads(valid.text) == {"valid": "uploader"}
    wrong = client("GET", f"/data/services/tokens/validate/{token['alias']}/x")
    assert json.loads(wrong.text) == {}
    assert by_token(site, token | {"secret": "x"})("GET", "/data/auth").status == 401


def test_a_token_ends_by_word(site: StandIn, client: Client) -> None:
    token = issue(client)
    done = client("GET", f"/data/services/tokens/invalidate/{token['alias']}")
    assert done.text == '{"result": "OK"}'
    assert by_token(site, token)("GET", "/data/auth").status == 401
    assert client("GET", f"/data/services/tokens/invalidate/{token['alias']}").status == 404


def test_expired_tokens_take_their_http_sessions_along(site: StandIn, client: Client) -> None:
    other = by_token(site, issue(client)).login()
    assert other("GET", "/data/auth").status == 200
    site.expire_tokens()
    assert other("GET", "/data/auth").status == 401
    assert client("GET", "/data/auth").status == 200


def test_a_token_lives_as_long_as_the_site_says(site: StandIn, client: Client) -> None:
    site.settings.alias_token_timeout = 0.05
    token = issue(client)
    time.sleep(0.06)
    assert by_token(site, token)("GET", "/data/auth").status == 401


def test_foreign_tokens(site: StandIn, client: Client) -> None:
    token = issue(Client(site.url, user="owner"))
    mine = "Non-admin users can only request operations on alias tokens for their own account"
    assert said(client("GET", f"/data/services/tokens/invalidate/{token['alias']}")) == (403, mine)
    assert said(client("GET", "/data/services/tokens/issue/user/owner")) == (403, mine)
    boss = Client(site.url, user="boss")
    assert json.loads(boss("GET", "/data/services/tokens/issue/user/owner").text)["xdatUserId"] == "owner"
    assert len(json.loads(boss("GET", "/data/services/tokens/show/user/owner").text)) == 2
    assert said(client("GET", "/data/services/tokens/what")) == (400, "Unknown operation: what")
