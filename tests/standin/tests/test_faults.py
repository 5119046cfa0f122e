"""Every switchable fault does what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
import urllib3

from tests.standin import KINDS, ArchivedSession, Fault, StandIn
from tests.standin.anonymize import new_uid
from tests.standin.fixtures import client, site
from tests.standin.samples import PARAMS, STUDY, TAR, Client, dicom, series, tar

__all__ = ["client", "site"]

IMPORT = "services/import"
COMMIT = "action=commit"
# Seconds for what must happen, however busy the machine is.
PATIENCE = 60.0
BROKEN = (urllib3.exceptions.ProtocolError, urllib3.exceptions.ReadTimeoutError)


@pytest.fixture
def uri(client: Client) -> str:
    """A row with two files, manual project."""
    return client.send(series([1, 2])).text.strip()


def the(session: ArchivedSession | None) -> ArchivedSession:
    assert session is not None
    return session


def commit(client: Client, uri: str, **more: Any) -> Any:
    return client("POST", uri, action="commit", AA="true", **more)


def has_struck(fault: Fault) -> None:
    """Waits until somebody is held up by the fault."""
    until = time.monotonic() + PATIENCE
    while not fault.hits:
        assert time.monotonic() < until, "it never struck"
        time.sleep(0.005)


def let_go(site: StandIn, held_up: Future[Any]) -> Any:
    """Ends the wait of a fault that has struck, and gives what becomes of it. One release may come too early."""
    while not held_up.done():
        site.faults.release()
        time.sleep(0.005)
    return held_up.result()


def test_unknown_kinds_and_keys_are_errors(site: StandIn) -> None:
    with pytest.raises(ValueError, match="no such fault"):
        Fault("explode")
    with pytest.raises(ValueError, match="unknown keys of a fault: oops"):
        site.faults.add({"kind": "reset", "oops": 1})


def test_match_skip_and_times(site: StandIn, client: Client) -> None:
    fault = site.faults.add(Fault("status", match=r"^GET /data/projects\?.*a=1", status=503, skip=1, times=2))
    statuses = [client("GET", "/data/projects?a=1").status for _ in range(5)]
    assert (statuses, fault.hits) == ([200, 503, 503, 200, 200], 2)
    assert client("GET", "/data/auth").status == 200
    always = site.faults.add({"kind": "status", "times": None})
    assert [client("GET", "/data/auth").status for _ in range(3)] == [503] * 3
    site.faults.remove(always)
    assert client("GET", "/data/auth").status == 200
    site.faults.add(Fault("status", times=None))
    site.faults.clear()
    assert client("GET", "/data/auth").status == 200


def test_reset_before_the_body_is_read(site: StandIn, client: Client) -> None:
    site.faults.add(Fault("reset", match=IMPORT))
    with pytest.raises(BROKEN):
        client.send(series([1]))
    assert (site.requests[-1].status, site.requests[-1].body_bytes, site.rows("DEMO")) == (0, 0, [])
    assert client.send(series([1])).status == 200


def test_reset_inside_the_body_keeps_what_came(site: StandIn, client: Client) -> None:
    site.faults.add(Fault("reset", match=IMPORT, after=300_000))
    members = series([1, 2, 3], PixelData=bytes(200_000))
    with pytest.raises(BROKEN):
        client.send(members)
    assert (site.requests[-1].status, site.requests[-1].body_bytes) == (0, 300_000)
    sizes = [path.stat().st_size for path in site.rows("DEMO")[0].files.values()]
    assert len(sizes) == 2
    assert sizes[1] < 200_000 < sizes[0]
    assert site.rows("DEMO")[0].open_files == set()
    assert client.send(members).status == 200
    assert len({path.stat().st_size for path in site.rows("DEMO")[0].files.values()}) == 1


@pytest.mark.parametrize("kind", ["reset-reply", "status"])
def test_work_done_and_reply_lost(site: StandIn, client: Client, kind: str) -> None:
    def ask(method: str, path: str, **more: Any) -> None:
        fault = site.faults.add(Fault(kind, status=502, work=True))
        if kind == "status":
            assert client(method, path, **more).status == 502
        else:
            with pytest.raises(BROKEN):
                client(method, path, **more)
        assert fault.hits == 1

    ask("POST", "/data/services/import", body=tar(series([1, 2])), headers=TAR, filters=PARAMS)
    row = site.rows("DEMO")[0]
    assert len(row.files) == 2
    ask("POST", "/data" + row.url, action="build")
    assert row.status == "READY"
    ask("POST", "/data" + row.url, action="commit", AA="true")
    assert len(the(site.archived("DEMO", "S1", "E1")).files) == 2
    assert site.rows("DEMO") == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_statuses_without_the_work(site: StandIn, client: Client, status: int) -> None:
    site.faults.add(Fault("status", match=IMPORT, status=status, retry_after="2" if status == 429 else None))
    reply = client.send(series([1]))
    assert (reply.status, site.rows("DEMO")) == (status, [])
    assert reply.headers.get("Retry-After") == ("2" if status == 429 else None)
    assert "nginx" in reply.text


def test_a_status_in_xnats_own_words(site: StandIn, client: Client) -> None:
    site.faults.add(Fault("status", status=500, message="Something broke"))
    reply = client("GET", "/data/auth")
    assert (reply.status, reply.reason, "<h3>Something broke</h3>" in reply.text) == (500, "Something broke", True)


def test_401_from_now_on(site: StandIn, client: Client) -> None:
    site.faults.add(Fault("status", match=IMPORT, status=401, skip=1, times=None))
    replies = [client.send(series([number])) for number in range(1, 4)]
    assert [reply.status for reply in replies] == [200, 401, 401]
    assert "Basic" in replies[-1].headers["WWW-Authenticate"]


def test_413_by_length(site: StandIn, client: Client) -> None:
    site.faults.add(Fault("too-large", match=IMPORT, limit=20_000, times=None))
    assert client.send(series([1])).status == 200
    reply = client.send({"1.dcm": dicom(1, PixelData=bytes(30_000))})
    assert (reply.status, reply.headers["Connection"]) == (413, "close")
    assert client("GET", "/data/auth").status == 200


def test_the_login_page_with_200(site: StandIn, client: Client) -> None:
    site.faults.add(Fault("login-page", match=IMPORT))
    reply = client.send(series([1]))
    assert (reply.status, "<html>" in reply.text, site.rows("DEMO")) == (200, True, [])


def test_an_empty_200_with_nothing_stored(site: StandIn, client: Client) -> None:
    site.faults.add(Fault("empty", match=IMPORT))
    reply = client.send(series([1]))
    assert (reply.status, reply.text, site.rows("DEMO")) == (200, "", [])
    assert site.requests[-1].body_bytes == site.requests[-1].content_length


def test_a_locked_document(site: StandIn, client: Client, uri: str) -> None:
    site.faults.add(Fault("locked", match=COMMIT))
    reply = commit(client, uri)
    assert (reply.status, reply.reason, site.rows("DEMO")[0].status) == (409, "session document locked", "RECEIVING")
    assert commit(client, uri).status == 301


def test_a_timeout_that_archives_later(site: StandIn, client: Client, uri: str) -> None:
    site.faults.add(Fault("timeout", match=COMMIT, seconds=PATIENCE))
    reply = commit(client, uri)
    row = site.rows("DEMO")[0]
    place = "/".join(row.key)
    assert reply.status == 500
    assert reply.reason == (
        f"The session {place} did not return a valid data URI within the timeout interval of 600 seconds."
    )
    assert row.status == "ARCHIVING"
    until = time.monotonic() + PATIENCE
    while site.archived("DEMO", "S1", "E1") is None and time.monotonic() < until:
        site.faults.release()
        time.sleep(0.005)
    assert len(the(site.archived("DEMO", "S1", "E1")).files) == 2


@pytest.mark.parametrize(("status", "ends"), [(409, "CONFLICT"), (400, "ERROR"), (500, "ERROR")])
def test_archiving_that_fails(site: StandIn, client: Client, uri: str, status: int, ends: str) -> None:
    site.faults.add(Fault("archive-fails", status=status, message="the disk array is on fire"))
    reply = commit(client, uri)
    assert reply.status == 500
    assert reply.reason == "FAILED: Unable to archive E1: Operation Failed: the disk array is on fire"
    assert site.rows("DEMO")[0].status == ends
    assert client("GET", uri + "/logs/last").text == "the disk array is on fire"
    assert commit(client, uri).status == 301


def test_a_build_that_fails(site: StandIn, client: Client, uri: str) -> None:
    site.faults.add(Fault("build-fails", message="no session document"))
    assert client("POST", uri, action="build").status == 500
    assert site.rows("DEMO")[0].status == "ERROR"
    assert client("GET", uri + "/logs/last").text == "no session document"
    assert client("POST", uri, action="build").status == 200


def test_an_instance_that_is_accepted_and_lost(site: StandIn, client: Client) -> None:
    fault = site.faults.add(Fault("lose", name="-1-2-"))
    assert client.send(series([1, 2, 3])).status == 200
    assert (len(site.rows("DEMO")[0].files), fault.hits) == (2, 1)


@pytest.mark.parametrize("keep", [200, -50])
def test_a_file_cut_short(site: StandIn, client: Client, keep: int) -> None:
    site.faults.add(Fault("cut", name="-1-2-", keep=keep))
    assert client.send(series([1, 2])).status == 200
    sizes = {name.split("-")[2]: path.stat().st_size for name, path in site.rows("DEMO")[0].files.items()}
    assert sizes == {"1": len(dicom(1)), "2": keep if keep > 0 else len(dicom(1)) + keep}


def test_a_full_disk(site: StandIn, client: Client) -> None:
    site.faults.add(Fault("disk-full", after=70_000, skip=1, times=None))
    members = series([1, 2, 3], PixelData=bytes(200_000))
    reply = client.send(members)
    assert (reply.status, reply.reason) == (400, "unable to read DICOM object 2.dcm")
    sizes = [path.stat().st_size for path in site.rows("DEMO")[0].files.values()]
    assert sizes == [len(members["1.dcm"]), 70_000]
    hidden = client.send(members, **{"Ignore-Unparsable": "true"})
    assert hidden.status == 400
    site.faults.clear()
    assert client.send(members).status == 200


def test_a_poisoned_name(site: StandIn, client: Client) -> None:
    site.faults.add(Fault("poison", name=r"^2\.dcm$", times=None))
    for _ in range(2):
        assert client.send(series([1, 2, 3])).reason == "unable to read DICOM object 2.dcm"
    assert client.send(series([3])).status == 200
    assert len(site.rows("DEMO")[0].files) == 2


@pytest.mark.wide
def test_a_slow_socket(site: StandIn, client: Client) -> None:
    site.faults.add(Fault("slow", match=IMPORT, rate=100_000))
    began = time.monotonic()
    assert client.send({"1.dcm": dicom(1, PixelData=bytes(20_000))}).status == 200
    assert time.monotonic() - began > 0.15


@pytest.mark.wide
def test_a_stalled_socket_goes_on_when_released(site: StandIn, client: Client) -> None:
    stalled = site.faults.add(Fault("stall", match=IMPORT, after=5_000))
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.send, {"1.dcm": dicom(1, PixelData=bytes(20_000))})
        has_struck(stalled)
        assert not sending.done()
        assert let_go(site, sending).status == 200
    site.faults.add(Fault("stall", match=IMPORT, after=5_000, seconds=60))
    client.pool = urllib3.PoolManager(retries=False, timeout=0.2)
    with pytest.raises(BROKEN):
        client.send({"1.dcm": dicom(1, PixelData=bytes(20_000))})
    client.close()


def test_a_delay(site: StandIn, client: Client) -> None:
    site.faults.add(Fault("delay", match="/auth", seconds=0.1))
    began = time.monotonic()
    assert client("GET", "/data/auth").status == 200
    assert time.monotonic() - began > 0.09


@pytest.mark.parametrize(("kind", "seen"), [("slow-build", "_BUILDING"), ("slow-archive", "_ARCHIVING")])
def test_slow_commit_shows_in_the_prearchive_session(
    site: StandIn, client: Client, uri: str, kind: str, seen: str
) -> None:
    slow = site.faults.add(Fault(kind, seconds=PATIENCE))
    other = Client(site.url).login()
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(commit, client, uri)
        has_struck(slow)
        assert other("GET", uri + "?format=json").rows[0]["status"] == seen
        assert commit(other, uri).status == 409
        assert let_go(site, closing).status == 301
    other.close()


def test_files_that_come_while_the_archiver_moves_are_lost(site: StandIn, client: Client, uri: str) -> None:
    slow = site.faults.add(Fault("slow-move", seconds=PATIENCE))
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(commit, client, uri)
        has_struck(slow)
        late = Client(site.url).login()
        assert late.send(series([3])).text.strip() == uri
        late.close()
        assert let_go(site, closing).status == 301
    assert len(the(site.archived("DEMO", "S1", "E1")).files) == 2
    assert site.rows("DEMO") == []
    assert not list(site.prearchive_root.rglob("*.dcm"))


def test_files_that_come_while_it_still_checks_are_an_error(site: StandIn, client: Client, uri: str) -> None:
    slow = site.faults.add(Fault("slow-archive", seconds=PATIENCE))
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(commit, client, uri)
        has_struck(slow)
        late = Client(site.url).login()
        assert late.send(series([3])).status == 200
        late.close()
        assert "has 1 non-DICOM" in (let_go(site, closing).reason or "")
    assert site.rows("DEMO")[0].status == "ERROR"


def test_a_restart(site: StandIn, client: Client, uri: str) -> None:
    before = site.url
    stalled = site.faults.add(Fault("stall", match=IMPORT, after=5_000))
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.send, {"3.dcm": dicom(3, PixelData=bytes(4_000_000))})
        has_struck(stalled)
        site.restart()
        with pytest.raises(BROKEN):
            sending.result()
    assert site.url == before
    assert client("GET", "/data/auth").status == 401
    client.cookie = None
    client.login()
    assert client("GET", uri + "?format=json").rows[0]["status"] == "RECEIVING"
    deadline = time.monotonic() + 30
    while (again := client.send(series([3]))).status != 200:  # the cut request may not have let go of its file yet
        assert time.monotonic() < deadline, again.text
        time.sleep(0.05)
    assert again.text.strip() == uri
    assert commit(client, uri).status == 301


def test_anonymisation_on_receipt_changes_bytes(site: StandIn, client: Client) -> None:
    site.settings.site_anonymization = True
    client.send(series([1]))
    assert pydicom.dcmread(next(iter(site.rows("DEMO")[0].files.values()))).PatientName == "Anonymous"
    client.send(series([1]), EXPT_LABEL="E2", prevent_anon="true")
    assert pydicom.dcmread(next(iter(site.rows("DEMO")[1].files.values()))).PatientName == "Doe^Jane"


def test_anonymisation_on_receipt_can_reject(site: StandIn, client: Client) -> None:
    site.settings.site_anonymization = True
    site.settings.site_script = "name reject:Modality=SR"
    reply = client.send({"1.dcm": dicom(1), "2.dcm": dicom(2, Modality="SR")})
    assert (reply.status, len(site.rows("DEMO")[0].files)) == (200, 1)
    assert client.send({"2.dcm": dicom(2, Modality="SR")}, EXPT_LABEL="E2").text == ""
    site.settings.site_script = "error"
    reply = client.send(series([1]), EXPT_LABEL="E3")
    assert (reply.status, reply.reason) == (400, "unable to read DICOM object 1.dcm")
    assert [row.label for row in site.rows("DEMO") if row.files] == ["E1"]


def test_uids_changed_on_receipt_split_a_session_that_was_built(site: StandIn, client: Client) -> None:
    """The row is found by the sender's study UID until the build writes the new one into it."""
    site.settings.site_anonymization = True
    site.settings.site_script = "uids"
    first = client.send(series([1])).text.strip()
    assert client.send(series([2])).text.strip() == first
    client("POST", first, action="build")
    assert client("GET", first + "?format=json").rows[0]["tag"] == new_uid(STUDY)
    assert client.send(series([3])).text.strip() != first
    assert len(site.rows("DEMO")) == 2
    assert [name.split("-")[0] for name in site.rows("DEMO")[0].files] == [STUDY] * 2


def test_anonymisation_at_archiving(site: StandIn, client: Client) -> None:
    site.project("DEMO").anon_script = "uids reject:InstanceNumber=2"
    uri = client.send(series([1, 2])).text.strip()
    assert commit(client, uri).status == 301
    found = the(site.archived("DEMO", "S1", "E1"))
    assert (found.study_uid, len(found.files)) == (new_uid(STUDY), 1)
    site.project("DEMO").anon_script = "reject:Modality=MR"
    uri = client.send(series([1]), EXPT_LABEL="E2").text.strip()
    assert commit(client, uri).status == 500
    assert site.rows("DEMO")[0].status == "ERROR"


@pytest.mark.parametrize(("keep", "at"), [(0, -1), (-100, -100), (200, 200)])
def test_a_byte_is_stored_wrong(site: StandIn, client: Client, keep: int, at: int) -> None:
    fault = site.faults.add(Fault("flip", name="2.dcm", keep=keep))
    uri = client.send(series([1, 2]), rename="false").text.strip()
    assert client("POST", uri, action="build").status == 200
    wrong = bytearray(dicom(2))
    wrong[at] ^= 0xFF
    base = uri + "/scans/1/resources/DICOM/files/"
    assert client("GET", base + "1.dcm").data == dicom(1)
    assert client("GET", base + "2.dcm").data == bytes(wrong)
    assert fault.hits == 1


def test_the_end_of_the_pixels_is_missing(site: StandIn, client: Client) -> None:
    site.faults.add(Fault("cut", keep=-10))
    uri = client.send(series([1]), rename="false").text.strip()
    assert client("POST", uri, action="commit", AA="true").status == 301
    stored = client("GET", "/data/experiments/XNAT_E00001/scans/1/resources/DICOM/files/1.dcm")
    assert stored.data == dicom(1)[:-10]


def test_archiving_may_take_a_shared_timestamp_away(site: StandIn, client: Client) -> None:
    """One timestamp for several sessions: the folder that looked empty is deleted with what came meanwhile."""
    stamp = {"PREARC_TIMESTAMP": "20240101_101010000"}
    first = client.send(series([1]), **stamp).text.strip()
    client.send(series([1], study="1.2.9"), EXPT_LABEL="E2", **stamp)
    site.faults.add(Fault("swept"))
    assert client("POST", first, action="commit", AA="true").status == 301
    (row,) = site.rows("DEMO")
    assert (row.label, row.files) == ("E2", {})


@pytest.mark.wide
def test_faults_by_command_line_and_environment(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.standin", "--root", str(tmp_path), "--project", '{"id": "DEMO", "code": 0}']
    command += ["--fault", '{"kind": "status", "match": "data/auth", "status": 503}', "--settings", '{"version": "9"}']
    environment = os.environ | {"STANDIN_PASS": "secret", "STANDIN_FAULTS": '[{"kind": "empty", "match": "import"}]'}
    here = Path(__file__).parent.parent.parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True, cwd=here) as process:
        assert process.stdout is not None
        asker = Client(process.stdout.readline().split()[1]).login()
        assert [asker("GET", "/data/auth").status for _ in range(2)] == [503, 200]
        assert [bool(asker.send(series([1])).text) for _ in range(2)] == [False, True]
        assert json.loads(asker("GET", "/xapi/siteConfig/buildInfo").text)["version"] == "9"
        asker.close()
        process.terminate()
        assert process.wait(10) == 0


def test_every_kind_is_tested_here() -> None:
    tested = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in tested] == []
