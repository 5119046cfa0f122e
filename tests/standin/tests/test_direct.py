"""Direct archive: files at once in the archive, silent refusals, completion by the timer or by order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import STUDY, Client, dicom, series

__all__ = ["client", "site"]

DIRECT: dict[str, Any] = {"Direct-Archive": "true"}
URI = f"/xapi/direct-archive/DEMO/{STUDY}/E1"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def finish(site: StandIn, client: Client, uri: str = URI) -> None:
    """Trigger, and wait until the row is gone."""
    reply = client("POST", uri)
    assert (reply.status, reply.data) == (200, b"")
    until(lambda: not site.direct.rows())


def test_files_go_to_the_archive_at_once(site: StandIn, client: Client) -> None:
    """One row, no line in the prearchive, no session until the order comes; labels are taken as they are."""
    reply = client.send(series([1, 2]), **DIRECT)
    assert (reply.status, reply.text) == (200, URI + "\r\n")
    (row,) = site.direct.rows()
    assert (row.status, row.subject, row.source, row.prevent_auto_commit) == ("RECEIVING", "S1", "uploader", False)
    assert (site.rows("DEMO"), site.sessions("DEMO")) == ([], [])
    assert len(list((site.archive_root / "DEMO" / "arc001" / "E1").rglob("*.dcm"))) == 2
    finish(site, client)
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    assert (len(session.files), session.study_uid, session.xsi_type) == (2, STUDY, "xnat:mrSessionData")
    reply = client("GET", "/data/projects/DEMO/subjects/S1/experiments/E1", format="json")
    assert (reply.status, json.loads(reply.text)["items"][0]["data_fields"]["label"]) == (200, "E1")
    listed = client("GET", "/data/projects/DEMO/subjects/S1/experiments/E1/scans/1/resources/DICOM/files").rows
    assert len(listed) == 2
    assert client("GET", listed[0]["URI"]).data in (dicom(1), dicom(2))
    assert client("GET", URI).status == 404


def test_gradual_parts_share_the_prearchive_session(site: StandIn, client: Client) -> None:
    given: dict[str, Any] = DIRECT | {"import-handler": "gradual-DICOM", "PROJECT_ID": "DEMO", "SUBJECT_ID": "S 2"}
    given |= {"EXPT_LABEL": "E.2", "rename": "true"}

    def send(number: int) -> str:
        return client(
            "POST", "/data/services/import", dicom(number), {"Content-Type": "application/dicom"}, **given
        ).text

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(send, range(1, 21)))
    assert found == {f"/xapi/direct-archive/DEMO/{STUDY}/E.2\r\n"}
    finish(site, client, found.pop().strip())
    session = site.archived("DEMO", "S 2", "E.2")
    assert session is not None
    assert len(session.files) == 20


def test_what_is_refused_goes_to_the_prearchive_without_a_word(site: StandIn, client: Client) -> None:
    """A row that is no longer receiving, a session that exists, a folder that is there; file by file."""
    client.send(series([1]), **DIRECT)
    site.direct.rows()[0].status = "BUILDING"
    late = client.send(series([2]), **DIRECT)
    assert late.text == f"/data{site.rows('DEMO')[0].url}\r\n"
    site.direct.rows()[0].status = "RECEIVING"
    finish(site, client)
    again = client.send(series([3]), **DIRECT)
    assert again.text == late.text
    assert len(site.rows("DEMO")[0].files) == 2
    other = STUDY + ".2"
    both = client.send({"a.dcm": dicom(1), "b.dcm": dicom(1, study=other)}, **(DIRECT | {"EXPT_LABEL": "E9"}))
    # the second study has the same folder: it is another row, and its place is taken
    assert [line.split("/")[1] for line in both.text.split()] == ["xapi", "data"]
    nowhere = client.send(series([1]), **(DIRECT | {"PROJECT_ID": "NONE"}))
    assert nowhere.text.startswith("/data/prearchive/projects/Unassigned/")


def test_a_commit_with_it_is_400_though_all_is_stored(site: StandIn, client: Client) -> None:
    for more in ({"action": "commit"}, {"dest": "/archive/projects/DEMO/subjects/S1/experiments/E1"}):
        reply = client.send(series([1]), **(DIRECT | more))
        assert (reply.status, reply.reason) == (400, "unable to archive for the Prearchive session")
    (row,) = site.direct.rows()
    assert (len(row.files), site.sessions("DEMO")) == (1, [])


def test_the_timer_takes_idle_prearchive_sessions_whatever_the_sender_said(site: StandIn, client: Client) -> None:
    assert client.send(series([1]), **(DIRECT | {"prevent_auto_commit": "true", "SOURCE": "uploader"})).status == 200
    (row,) = site.direct.rows()
    row.open_files.add("1x.dcm")
    site.settings.rebuilder_interval = 0.02
    time.sleep(0.1)
    assert row.status == "RECEIVING"
    row.open_files.clear()
    until(lambda: site.archived("DEMO", "S1", "E1") and not site.direct.rows())


def test_the_endpoints(site: StandIn, client: Client) -> None:
    client.send(series([1]), **DIRECT)
    client.send(series([1], study=STUDY + ".5"), **(DIRECT | {"EXPT_LABEL": "E5", "PROJECT_ID": "AUTO"}))
    shown = json.loads(client("GET", URI).text)
    assert (shown["project"], shown["tag"], shown["name"], shown["status"]) == ("DEMO", STUDY, "E1", "RECEIVING")
    listed = json.loads(client("POST", "/xapi/direct-archive", b"{}").text)
    assert sorted(row["name"] for row in listed) == ["E1", "E5"]
    asked = {"sort_col": "name", "sort_dir": "asc", "page": 2, "size": 1}
    assert [r["name"] for r in json.loads(client("POST", "/xapi/direct-archive", json.dumps(asked)).text)] == ["E5"]
    assert client("POST", "/xapi/direct-archive").status == 400
    assert client("GET", URI + "x").reason == "No matching direct archive session"
    assert client("POST", URI + "x").status == 404
    stranger, reader, owner = (Client(site.url, name).login() for name in ("stranger", "reader", "owner"))
    assert json.loads(stranger("POST", "/xapi/direct-archive", b"{}").text) == []
    assert (stranger("GET", URI).status, reader("GET", URI).status, reader("POST", URI).status) == (403, 200, 403)
    assert client("DELETE", f"/xapi/direct-archive/{shown['id']}").status == 403
    assert owner("DELETE", f"/xapi/direct-archive/{shown['id']}").status == 200
    assert owner("DELETE", f"/xapi/direct-archive/{shown['id']}").status == 404
    # the files stay, and are in the way of the next try
    assert client.send(series([1]), **DIRECT).text.startswith("/data/prearchive/")
    for one in (stranger, reader, owner):
        one.close()


def test_no_order_while_a_file_is_written(site: StandIn, client: Client) -> None:
    client.send(series([1]), **DIRECT)
    site.direct.rows()[0].open_files.add("1x.dcm")
    reply = client("POST", URI)
    assert (reply.status, "Refusing to trigger archive" in reply.text) == (500, True)
    assert site.direct.rows()[0].status == "RECEIVING"


@pytest.mark.parametrize(
    "fault", [{"kind": "archive-fails", "message": "no"}, {"kind": "build-fails", "message": "no"}]
)
def test_what_cannot_be_archived_is_moved_to_the_prearchive(
    site: StandIn, client: Client, fault: dict[str, Any]
) -> None:
    """ERROR when a document was built; without one it is built there, and archived as its row says."""
    client.send(series([1, 2]), **DIRECT)
    site.faults.add(fault)
    if fault["kind"] == "archive-fails":
        finish(site, client)
        (row,) = site.rows("DEMO")
        assert (row.status, row.autoarchive, len(row.files)) == ("ERROR", "AutoArchive", 2)
        assert row.logs[-1][2].startswith("Attempt to direct-archive failed")
        assert not (site.archive_root / "DEMO" / "arc001" / "E1").exists()
        assert client("POST", "/data" + row.url, action="commit").status == 301
    else:
        assert client("POST", URI).status == 200
    until(lambda: site.archived("DEMO", "S1", "E1"))
    assert len(site.sessions("DEMO")[0].files) == 2


def test_anonymisation_comes_with_archiving(site: StandIn, client: Client) -> None:
    site.project("DEMO").anon_script = "name uids"
    client.send(series([1]), **DIRECT)
    finish(site, client)
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    assert session.study_uid != STUDY
    (path,) = session.files.values()
    assert b"Anonymous" in path.read_bytes()


def test_petmr_to_be_separated_goes_through_the_prearchive(site: StandIn, client: Client) -> None:
    site.settings.site_petmr = "separate"
    client.send({"1.dcm": dicom(1), "2.dcm": dicom(2, series=2, Modality="PT")}, **DIRECT)
    finish(site, client)
    until(lambda: len(site.sessions("DEMO")) == 2)
    assert sorted(one.label for one in site.sessions("DEMO")) == ["E1_MR", "E1_PET"]


def test_an_error_of_anonymisation_on_receipt_takes_the_prearchive_session(site: StandIn, client: Client) -> None:
    site.settings.site_anonymization = True
    site.settings.site_script = "error"
    assert client.send(series([1]), **DIRECT).status == 400
    assert site.direct.rows() == []
