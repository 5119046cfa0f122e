"""Prearchive rows: listings, actions, locks, the idle timer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.prearchive import COLUMNS
from tests.standin.samples import STUDY, Client, dicom, series

__all__ = ["client", "site"]


def wait_for(condition: Callable[[], object], seconds: float = 5) -> None:
    """Wait until something the server does by itself has happened."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_the_listing_has_nineteen_columns(client: Client) -> None:
    uri = client.send(series([1])).text.strip()
    row = client("GET", "/data/prearchive/projects/DEMO?format=json").rows[0]
    assert list(row) == COLUMNS
    assert len(COLUMNS) == 19
    assert (row["project"], row["subject"], row["name"], row["tag"]) == ("DEMO", "S1", "E1", STUDY)
    assert (row["status"], row["url"], row["autoarchive"]) == ("RECEIVING", uri.removeprefix("/data"), "Manual")
    assert (row["prevent_anon"], row["prevent_auto_commit"], row["SOURCE"]) == ("false", "true", "uploader")
    assert (row["scan_date"], row["scan_time"], row["VISIT"]) == ("2024-01-31", "10:11:12", "")
    assert client("GET", uri + "?format=json").rows == [row]
    assert client("GET", "/data/prearchive").rows == [row]


def test_who_sees_which_prearchive_sessions(site: StandIn, client: Client) -> None:
    client.send(series([1]))
    client.send(series([1]), PROJECT_ID="NOPE")
    boss, reader, stranger = (Client(site.url, user=name).login() for name in ("boss", "reader", "stranger"))
    assert [row["project"] for row in boss("GET", "/data/prearchive/projects/DEMO").rows] == ["DEMO", ""]
    assert len(boss("GET", f"/data/prearchive?tag={STUDY}").rows) == 2
    assert client("GET", f"/data/prearchive?tag={STUDY}").status == 403
    assert len(reader("GET", "/data/prearchive/projects/DEMO").rows) == 1
    assert reader("GET", "/data/prearchive").rows == []
    refused = stranger("GET", "/data/prearchive/projects/DEMO")
    assert (refused.status, refused.reason) == (
        403,
        "The current user does not have access to the requested project: DEMO",
    )
    uri = "/data" + site.rows("DEMO")[0].url
    assert reader("GET", uri + "?format=json").status == 403
    assert reader("POST", uri + "?action=build").status == 403
    assert stranger("DELETE", uri).status == 403
    for one in (boss, reader, stranger):
        one.close()


def test_nothing_is_listed_inside_a_session_before_it_is_built(client: Client) -> None:
    uri = client.send(series([1, 2]) | {"z.dcm": dicom(1, series=2)}).text.strip()
    for tail in ("/scans", "/resources", "/scans/1/resources", "/scans/1/resources/DICOM/files"):
        reply = client("GET", uri + tail)
        assert (reply.status, reply.reason) == (404, "Unable to locate prearc resource.")
    assert client("GET", uri).status == 404
    built = client("POST", uri + "?action=build")
    assert (built.status, built.text, built.headers["Content-Type"]) == (200, uri, "text/uri-list")
    assert client("GET", uri + "?format=json").rows[0]["status"] == "READY"
    assert 'label="E1"' in client("GET", uri).text
    scans = client("GET", uri + "/scans").rows
    assert [(row["ID"], row["xsiType"], row["series_description"]) for row in scans] == [
        ("1", "xnat:mrScanData", "series 1"),
        ("2", "xnat:mrScanData", "series 2"),
    ]
    files = client("GET", uri + "/scans/1/resources/DICOM/files").rows
    assert [list(row) for row in files] == [["Name", "Size", "URI"]] * 2
    assert {int(row["Size"]) for row in files} == {len(dicom(1))}
    assert client("GET", files[0]["URI"]).data == dicom(1)
    assert [row["file_count"] for row in client("GET", uri + "/resources").rows] == ["2", "1"]
    assert client("GET", uri + "/scans/9/resources").status == 404


def test_what_comes_after_a_build_is_not_listed_until_the_next(client: Client) -> None:
    uri = client.send(series([1])).text.strip()
    client("POST", uri + "?action=build")
    client.send(series([2]))
    assert client("GET", uri + "?format=json").rows[0]["status"] == "RECEIVING"
    assert len(client("GET", uri + "/scans/1/resources/DICOM/files").rows) == 1
    client("POST", uri + "?action=build")
    assert len(client("GET", uri + "/scans/1/resources/DICOM/files").rows) == 2


def test_commit_on_a_manual_project_leaves_the_prearchive_session_ready(site: StandIn, client: Client) -> None:
    uri = client.send(series([1])).text.strip()
    reply = client("POST", uri + "?action=commit&SOURCE=uploader")
    assert (reply.status, reply.text) == (200, uri)
    assert site.rows("DEMO")[0].status == "READY"


@pytest.mark.parametrize(("project", "query"), [("DEMO", "&AA=true"), ("AUTO", ""), ("AUTO", "&AA=false")])
def test_commit_archives_with_301_and_no_location(site: StandIn, client: Client, project: str, query: str) -> None:
    """AA=false cannot stop a project that archives by itself."""
    uri = client.send(series([1]), PROJECT_ID=project).text.strip()
    reply = client("POST", uri + "?action=commit" + query)
    assert (reply.status, reply.headers.get("Location")) == (301, None)
    assert reply.text == f"/data/archive/projects/{project}/subjects/S1/experiments/E1"
    assert site.rows(project) == []
    assert client("GET", uri + "?format=json").rows == []
    assert client("POST", uri + "?action=commit").status == 404


def test_actions_on_a_locked_prearchive_session(site: StandIn, client: Client) -> None:
    uri = client.send(series([1])).text.strip()
    row = site.rows("DEMO")[0]
    row.status = "_ARCHIVING"
    for action in ("build", "commit"):
        reply = client("POST", uri, action=action)
        assert (reply.status, reply.reason) == (409, "session document locked")
    moved = client("POST", uri, action="move", newProject="AUTO")
    assert (moved.status, moved.text) == (200, "")
    assert row.status == "_ARCHIVING"


def test_actions_by_form_and_json_and_wrong_ones(client: Client) -> None:
    uri = client.send(series([1])).text.strip()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client("POST", uri, b"action=build", form).status == 200
    assert client("POST", uri, b'{"action": "build"}', {"Content-Type": "application/json"}).status == 200
    assert client("POST", uri).reason == "No action parameter was specified for the request by user uploader"
    reply = client("POST", uri, action="explode")
    assert (reply.status, reply.reason) == (
        400,
        "User uploader requested an unsupported action on prearchive session: explode",
    )
    assert client("POST", uri, action="set-status", status="ERROR").status == 200
    assert client("GET", uri + "?format=json").rows[0]["status"] == "ERROR"
    assert client("POST", uri, action="set-status", status="_BUILDING").status == 400
    assert client("POST", uri, action="reset-status").text == uri
    assert client("GET", uri + "?format=json").rows[0]["status"] == "READY"


def test_move_and_delete(site: StandIn, client: Client) -> None:
    uri = client.send(series([1])).text.strip()
    assert client("POST", uri, action="move", newProject="SECRET").status == 403
    moved = client("POST", uri, action="move", newProject="AUTO")
    assert (moved.status, moved.text) == (301, uri.replace("DEMO", "AUTO"))
    row = site.rows("AUTO")[0]
    assert len(row.files) == 1
    assert client("DELETE", moved.text + "/x").status == 400
    assert client("DELETE", moved.text).status == 200
    assert (site.rows("AUTO"), row.directory.exists()) == ([], False)
    assert client("DELETE", moved.text).status == 200


def test_an_unassigned_prearchive_session_can_be_built_moved_and_archived(site: StandIn, client: Client) -> None:
    uri = client.send(series([1]), PROJECT_ID="NOPE").text.strip()
    assert client("POST", uri, action="build").status == 200
    moved = client("POST", uri, action="move", newProject="DEMO")
    assert moved.status == 301
    assert client("POST", moved.text, action="commit", AA="true").status == 301
    assert site.archived("DEMO", "S1", "E1") is not None


def test_a_session_without_readable_files_is_an_error(site: StandIn, client: Client) -> None:
    uri = client.send(series([1])).text.strip()
    for path in site.rows("DEMO")[0].files.values():
        path.write_bytes(b"rubbish")
    assert client("POST", uri, action="build").status == 200
    row = client("GET", uri + "?format=json").rows[0]
    assert (row["status"], row["subject"], row["name"], row["SOURCE"]) == ("ERROR", "", "E1", "uploader")
    assert client("GET", uri + "/logs/last").text == ""
    assert client("GET", uri + "/scans").status == 500
    assert client("POST", uri, action="commit", AA="true").status == 500
    client.send(series([1]))
    assert client("GET", uri + "?format=json").rows[0]["status"] == "RECEIVING"
    assert client("POST", uri, action="build").status == 200
    assert len(client("GET", uri + "/scans").rows) == 1


def test_logs_are_a_table_and_the_last_one_is_text(site: StandIn, client: Client) -> None:
    uri = client.send(series([1])).text.strip()
    assert client("GET", uri + "/logs").rows == []
    assert client("GET", uri + "/logs/last").text == ""
    site.rows("DEMO")[0].log("first")
    site.rows("DEMO")[0].log("second")
    rows = client("GET", uri + "/logs?format=json").rows
    assert [row["entry"] for row in rows] == ["first", "second"]
    assert client("GET", uri + "/logs/last").text == "second"
    assert client("GET", f"{uri}/logs/{rows[0]['id']}").text == "first"


@pytest.mark.wide
def test_the_idle_timer_builds_and_archives_what_nobody_keeps(site: StandIn, client: Client) -> None:
    site.settings.rebuilder_interval = 0.05
    client.send(series([1]), prevent_auto_commit="false", SOURCE="other", EXPT_LABEL="A")
    client.send(series([1]), prevent_auto_commit="false", SOURCE="other", EXPT_LABEL="B", PROJECT_ID="AUTO")
    client.send(series([1]), prevent_auto_commit="true", SOURCE="other", EXPT_LABEL="C")
    client.send(series([1]), prevent_auto_commit="false", SOURCE="uploader", EXPT_LABEL="D")
    wait_for(lambda: site.sessions("AUTO"))
    wait_for(lambda: {row.label: row.status for row in site.rows("DEMO")}["A"] == "READY")
    time.sleep(0.2)
    assert {row.label: row.status for row in site.rows("DEMO")} == {"A": "READY", "C": "RECEIVING", "D": "RECEIVING"}


def test_batch_services(site: StandIn, client: Client) -> None:
    uri = client.send(series([1])).text.strip()
    rows = client("POST", "/data/services/prearchive/rebuild", src=uri).rows
    assert rows[0]["status"] == "QUEUED_BUILDING"
    wait_for(lambda: site.rows("DEMO")[0].status == "READY")
    client("POST", "/data/services/prearchive/move", src=uri, newProject="AUTO")
    wait_for(lambda: site.rows("AUTO"))
    client("POST", "/data/services/prearchive/delete", src=uri.replace("DEMO", "AUTO"))
    wait_for(lambda: not site.rows("AUTO"))
    assert client("POST", "/data/services/prearchive/delete", src=uri).status == 404


def test_pet_and_mr_are_separated_by_the_queue_only(site: StandIn, client: Client) -> None:
    """``action=commit`` leaves them together; the idle timer and the rebuild service split them."""
    site.project("DEMO").petmr = "separate"
    both = {"1.dcm": dicom(1), "2.dcm": dicom(1, series=2, Modality="PT")}
    uri = client.send(both).text.strip()
    client("POST", "/data/services/prearchive/rebuild", src=uri)
    wait_for(lambda: [row.label for row in site.rows("DEMO")] == ["E1_MR", "E1_PET"] and site.rows("DEMO")[1].built)
    assert [row.xsi_type for row in site.rows("DEMO")] == ["xnat:mrSessionData", "xnat:petSessionData"]
    uri = client.send(both, EXPT_LABEL="E2").text.strip()
    assert client("POST", uri, action="commit", AA="true").status == 301
    found = site.archived("DEMO", "S1", "E2")
    assert found is not None
    assert found.xsi_type == "xnat:petmrSessionData"


def test_error_pages_are_restlets(client: Client) -> None:
    uri = client.send(series([1])).text.strip()
    reply = client("GET", uri + "/scans?format=json")
    assert reply.text.startswith("<html>\n<head>\n   <title>Status page</title>\n</head>\n<body>\n<h3>")
    with pytest.raises(json.JSONDecodeError):
        json.loads(reply.text)
