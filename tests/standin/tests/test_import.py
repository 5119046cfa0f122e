"""The import service: body forms, rows, names, what is kept after an error."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.namer import list_hash, make_file_name, string_hash
from tests.standin.samples import PARAMS, STUDY, TAR, Client, dicom, series, tar

__all__ = ["client", "site"]


def test_a_tar_makes_one_prearchive_session_and_one_crlf_line(site: StandIn, client: Client) -> None:
    reply = client.send(series(range(1, 4)))
    row = site.rows("DEMO")[0]
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/uri-list")
    assert reply.text == f"/data/prearchive/projects/DEMO/{row.timestamp}/E1\r\n"
    assert (row.status, row.label, row.subject, row.study_uid) == ("RECEIVING", "E1", "S1", STUDY)
    assert (row.source, row.prevent_auto_commit, row.prevent_anon, row.autoarchive) == (
        "uploader",
        True,
        False,
        "Manual",
    )
    assert len(row.timestamp) == 18
    assert len(row.files) == 3
    stored = pydicom.dcmread(next(iter(row.files.values())))
    assert stored.PixelData == bytes([1]) * 128


def test_project_subject_session_are_other_names(site: StandIn, client: Client) -> None:
    wanted: dict[str, Any] = {"import-handler": "DICOM-zip", "project": "demo-alias", "subject": "S9", "session": "E9"}
    reply = client("POST", "/data/services/import", tar(series([1])), TAR, **wanted)
    assert "/DEMO/" in reply.text
    assert (site.rows("DEMO")[0].subject, site.rows("DEMO")[0].label) == ("S9", "E9")


def test_a_gzipped_tar_is_read_too(site: StandIn, client: Client) -> None:
    reply = client(
        "POST", "/data/services/import", tar(series([1, 2]), "w:gz"), {"Content-Type": "application/x-gtar"}, **PARAMS
    )
    assert (reply.status, len(site.rows("DEMO")[0].files)) == (200, 2)
    named = client(
        "POST", "/data/services/import/x.tgz", tar(series([3]), "w:gz"), {"Content-Type": "text/weird"}, **PARAMS
    )
    assert (named.status, len(site.rows("DEMO")[0].files)) == (200, 3)


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        ("application/octet-stream", 400, "Unsupported format UNKNOWN"),
        ("application/x-gzip", 400, "Unsupported format UNKNOWN"),
        ("application/x-tar; charset=x", 400, "Unsupported format UNKNOWN"),
        ("application/gzip", 400, "Unsupported format UNKNOWN"),
        ("multipart/form-data; boundary=x", 406, "not as part of multi-part form data"),
    ],
)
def test_only_exact_media_types_are_archives(client: Client, kind: str, status: int, message: str) -> None:
    reply = client("POST", "/data/services/import", tar({}), {"Content-Type": kind}, **PARAMS)
    assert (reply.status, message in reply.text) == (status, True)


def test_suffixes_are_case_sensitive(client: Client) -> None:
    reply = client("POST", "/data/services/import/x.TAR", tar({}), TAR, **PARAMS)
    assert "Unsupported format UNKNOWN" in reply.text
    assert "Unsupported format GZ" in client("POST", "/data/services/import/x.gz", tar({}), TAR, **PARAMS).text


def test_chunked_is_for_zip_only(site: StandIn, client: Client) -> None:
    reply = client("POST", "/data/services/import", iter([tar(series([1]))]), TAR, **PARAMS)
    assert reply.status == 400
    assert "the request entity size is -1 but the media type is not application/zip" in reply.text
    assert site.rows("DEMO") == []
    empty = client("POST", "/data/services/import", b"", TAR, **PARAMS)
    assert (empty.status, "entity size is 0" in empty.text) == (400, True)


def test_unknown_handlers_and_missing_files(client: Client) -> None:
    reply = client.send({}, **{"import-handler": "dicom-zip"})
    assert (reply.status, reply.reason) == (404, "Unknown importer implementation specified: dicom-zip")
    query: dict[str, Any] = {"import-handler": "DICOM-zip"}
    reply = client("POST", "/data/services/import", b"x", {"Content-Type": "text/html"}, **query)
    assert (reply.status, reply.reason) == (400, "Unable to identify upload format.")


def test_what_is_not_built_says_so(client: Client) -> None:
    assert client.send({}, **{"import-handler": "SI"}).status == 501


def test_all_parts_share_the_first_prearchive_session(site: StandIn, client: Client) -> None:
    def part(number: int) -> str:
        return client.send(
            series([number]), PREARC_TIMESTAMP=f"20240101_00000000{number}", SUBJECT_ID=f"S{number}"
        ).text

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(part, range(1, 5)))
    row = site.rows("DEMO")[0]
    assert len(found) == len(site.rows("DEMO")) == 1
    assert row.timestamp.startswith("20240101_00000000")
    assert len(row.files) == 4
    first = row.timestamp[-1]
    assert row.subject == f"S{first}"


def test_another_label_or_study_is_another_prearchive_session(
    site: StandIn, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another millisecond: two of one are refused (see test_two_of_one_millisecond)."""
    numbers = itertools.count()
    monkeypatch.setattr(site.prearchive, "timestamp", lambda: f"20240131_{next(numbers):09}")
    lines = client.send(series([1]) | {"other.dcm": dicom(1, study=STUDY + ".9")}).text.split("\r\n")
    assert len([line for line in lines if line]) == 2
    client.send(series([1]), EXPT_LABEL="E2")
    assert len(site.rows("DEMO")) == 3
    assert len({row.key for row in site.rows("DEMO")}) == 3


def test_two_of_one_millisecond(site: StandIn, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database knows a prearchive session by time, project and folder."""
    monkeypatch.setattr(site.prearchive, "timestamp", lambda: "20240131_101112131")
    reply = client.send(series([1]) | {"other.dcm": dicom(1, study=STUDY + ".9")})
    assert (reply.status, reply.reason) == (400, "unable to read DICOM object other.dcm")
    assert len(site.rows("DEMO")) == 1


def test_an_old_prearchive_session_is_joined_and_reset(site: StandIn, client: Client) -> None:
    first = client.send(series([1]))
    for status in ("READY", "CONFLICT", "ERROR", "_BUILDING", "ARCHIVING"):
        site.rows("DEMO")[0].status = status
        assert client.send(series([2]), prevent_anon="true").text == first.text
        assert site.rows("DEMO")[0].status == "RECEIVING"
    assert site.rows("DEMO")[0].prevent_anon is False
    site.rows("DEMO")[0].status = "BUILDING"
    client.send(series([2]))
    assert site.rows("DEMO")[0].status == "RECEIVING_INTERRUPT"


def test_a_file_that_is_no_dicom_stops_the_import_and_keeps_what_came_before(site: StandIn, client: Client) -> None:
    members = {"a/1.dcm": dicom(1), "a/notes.txt": b"hello " * 100, "a/2.dcm": dicom(2)}
    reply = client.send(members)
    assert (reply.status, reply.reason) == (400, "unable to read DICOM object notes.txt")
    assert len(site.rows("DEMO")[0].files) == 1
    again = client.send(members, **{"Ignore-Unparsable": "true"})
    assert (again.status, len(site.rows("DEMO")[0].files)) == (200, 2)
    nothing = client.send({"notes.txt": b"x" * 200}, **{"Ignore-Unparsable": "true"})
    assert (nothing.status, nothing.reason) == (400, "unable to read DICOM object notes.txt")
    html = client.send(members, format="html")
    assert (html.status, "unable to read DICOM object" in html.text) == (200, True)


def test_objects_without_identity_are_refused(client: Client) -> None:
    assert client.send({"x.dcm": dicom(SOPInstanceUID=None)}).reason == "object x.dcm contains no SOP Instance UID"
    assert client.send({"x.dcm": dicom(SOPClassUID=None)}).reason == "object x.dcm contains no SOP Class UID"


def test_a_cut_body_leaves_a_partial_file_and_a_retry_replaces_it(site: StandIn, client: Client) -> None:
    body = tar(series([1, 2], PixelData=bytes(400_000)))
    with socket.create_connection(("127.0.0.1", site.port), timeout=5) as connection:
        query = "&".join(f"{key}={value}" for key, value in PARAMS.items())
        connection.sendall(
            f"POST /data/services/import?{query} HTTP/1.1\r\nHost: x\r\nCookie: JSESSIONID={client.cookie}\r\n"
            f"Content-Type: application/x-tar\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body[:600_000]
        )
    deadline = time.monotonic() + 5
    while not (site.requests[-1].path.endswith("/import")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (site.requests[-1].status, site.requests[-1].body_bytes) == (400, 600_000)
    sizes = [path.stat().st_size for path in site.rows("DEMO")[0].files.values()]
    assert len(sizes) == 2
    assert sizes[0] > 400_000 > sizes[1]
    assert client("POST", "/data/services/import", body, TAR, **PARAMS).status == 200
    assert {path.stat().st_size for path in site.rows("DEMO")[0].files.values()} == {sizes[0]}


def test_truncated_tars(site: StandIn, client: Client) -> None:
    """No end-of-archive blocks is fine, an end inside an entry is not."""
    body = tar(series([1, 2]))
    whole = (512 + -(-len(dicom(1)) // 512) * 512) * 2
    reply = client("POST", "/data/services/import", body[:whole], TAR, **PARAMS)
    assert (reply.status, len(site.rows("DEMO")[0].files)) == (200, 2)
    reply = client("POST", "/data/services/import", body[: whole - 800], TAR, **PARAMS)
    assert (reply.status, reply.reason) == (400, "unable to read DICOM object 2.dcm")
    reply = client("POST", "/data/services/import", b"no tar at all" * 100, TAR, **PARAMS)
    assert (reply.status, reply.reason) == (400, "unable to read data from file")
    assert client("POST", "/data/services/import", tar({}), TAR, **PARAMS).text == ""


def test_truncated_pixels_are_accepted(site: StandIn, client: Client) -> None:
    whole = dicom(1)
    assert client.send({"1.dcm": whole[:-100]}).status == 200
    assert next(iter(site.rows("DEMO")[0].files.values())).stat().st_size == len(whole) - 100


def test_names_without_rename(site: StandIn, client: Client) -> None:
    """The base name, unless another object has it; then the namer's."""
    client.send({"a/IM 1": dicom(1), "b\\IM 1": dicom(2)}, rename="false")
    row = site.rows("DEMO")[0]
    made = make_file_name(site.settings.file_name_template, pydicom.dcmread(row.files["IM_1"]))
    assert sorted(row.files) == sorted(
        ["IM_1", made.replace("-1-1-", "-1-2-")[:-12] + next(n for n in row.files if n != "IM_1")[-12:]]
    )
    client.send({"IM 1": dicom(1)}, rename="false")
    assert len(site.rows("DEMO")[0].files) == 2


def test_default_names_follow_java() -> None:
    assert string_hash("polygenelubricants") == -(2**31)
    assert list_hash(["a", "b"]) == "34y"
    data = pydicom.Dataset()
    data.StudyInstanceUID = "1.2"
    template = "${StudyInstanceUID}-${SeriesNumber}-${HashSOPClassUIDWithSOPInstanceUID}"
    blank = list_hash(["no-value-for-SOPClassUID", "no-value-for-SOPInstanceUID"])
    assert make_file_name(template, data) == f"1.2-no-value-for-SeriesNumber-{blank}.dcm"
    assert make_file_name("..${StudyInstanceUID}.ima", data) == "1.2.ima"


def test_a_custom_naming_template(site: StandIn, client: Client) -> None:
    site.settings.file_name_template = "${Modality}.${InstanceNumber}.img"
    client.send(series([7]))
    assert list(site.rows("DEMO")[0].files) == ["MR.7.img"]


@pytest.mark.parametrize(
    ("more", "folder"),
    [({}, "1"), ({"SeriesNumber": None}, STUDY + ".1"), ({"SeriesNumber": None, "SeriesInstanceUID": None}, "NA")],
)
def test_scan_directories(site: StandIn, client: Client, more: dict[str, Any], folder: str) -> None:
    client.send({"1.dcm": dicom(1, **more)})
    assert next(iter(site.rows("DEMO")[0].files.values())).parts[-3] == folder


def test_an_unreadable_project_is_silently_rerouted(site: StandIn, client: Client) -> None:
    reply = client.send(series([1]), PROJECT_ID="SECRET")
    assert (reply.status, "/projects/Unassigned/" in reply.text) == (200, True)
    assert site.rows("Unassigned")[0].autoarchive is None
    reply = client.send(series([1], StudyDescription="AUTO"), PROJECT_ID="TYPO")
    assert "/projects/AUTO/" in reply.text
    reply = client.send(series([1], PatientComments="x; Project: SECRET Subject:a"), PROJECT_ID="TYPO")
    assert "/projects/SECRET/" in reply.text


def test_labels_from_headers(site: StandIn, client: Client) -> None:
    body = tar({"1.dcm": dicom(1)})
    client("POST", "/data/services/import?import-handler=DICOM-zip&PROJECT_ID=DEMO", body, TAR)
    row = site.rows("DEMO")[0]
    assert (row.subject, row.label, row.folder) == ("Doe_Jane", "P_1", "P_1")
    body = tar({"1.dcm": dicom(1, PatientComments="Session:x1, AA:true Subject:y1")})
    client("POST", "/data/services/import?import-handler=DICOM-zip&PROJECT_ID=DEMO", body, TAR)
    row = site.rows("DEMO")[1]
    assert (row.subject, row.label, row.autoarchive) == ("y1", "x1", "AutoArchive")


def test_filtered_objects_vanish_without_a_word(site: StandIn, client: Client) -> None:
    site.project("DEMO").series_filter = {"enabled": True, "mode": "blacklist", "list": "^loc\n[Modality]\nSR"}
    reply = client.send({"1.dcm": dicom(1, SeriesDescription="LOCALIZER"), "2.dcm": dicom(2, Modality="SR")})
    assert (reply.status, reply.text, site.rows("DEMO")) == (200, "", [])
    client.send({"1.dcm": dicom(1, SeriesDescription="LOCALIZER"), "3.dcm": dicom(3)})
    assert len(site.rows("DEMO")[0].files) == 1
    site.settings.site_filter = {"enabled": "true", "mode": "whitelist", "list": "t1"}
    assert client.send(series([4])).text == ""


def test_the_same_name_in_flight_is_refused(site: StandIn, client: Client) -> None:
    client.send(series([1]))
    row = site.rows("DEMO")[0]
    assert site.prearchive.open_file(row, "1" + next(iter(row.files)))
    reply = client.send(series([1]))
    assert (reply.status, reply.reason) == (400, "Concurrent file sends of the same data is not supported.")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_transfer_syntaxes(site: StandIn, client: Client, syntax: str) -> None:
    assert client.send({"1.dcm": dicom(1, syntax=syntax)}).status == 200
    assert pydicom.dcmread(next(iter(site.rows("DEMO")[0].files.values()))).InstanceNumber == 1


def test_a_file_without_preamble_gets_one(site: StandIn, client: Client) -> None:
    bare = dicom(1)[132:]
    assert client.send({"1.dcm": bare}).status == 200
    stored = next(iter(site.rows("DEMO")[0].files.values())).read_bytes()
    assert stored == bytes(128) + b"DICM" + bare
    header = pydicom.dcmread(next(iter(site.rows("DEMO")[0].files.values())))
    naked = stored[144 + int(header.file_meta.FileMetaInformationGroupLength) :]
    assert client.send({"1.dcm": naked}).status == 200
    assert len(site.rows("DEMO")[0].files) == 1


def test_an_inline_commit_archives_in_the_request(site: StandIn, client: Client) -> None:
    reply = client.send(series([1, 2]), action="commit", AA="true")
    assert reply.text == "/data/archive/projects/DEMO/subjects/S1/experiments/E1\r\n"
    assert site.archived("DEMO", "S1", "E1") is not None
    reply = client.send(series([2]), dest="/archive/projects/DEMO/subjects/S1/experiments/E1")
    assert (reply.status, reply.reason) == (400, "unable to archive for the Prearchive session")
    assert site.rows("DEMO")[0].status == "CONFLICT"
    reply = client.send(series([2]), dest="/archive/projects/DEMO/subjects/S1/experiments/E1", overwrite="delete")
    assert (reply.status, site.rows("DEMO")) == (200, [])
    reply = client.send(series([1]), dest="/prearchive/projects/DEMO", EXPT_LABEL="E5")
    assert (site.rows("DEMO")[0].status, "/prearchive/" in reply.text) == ("READY", True)
    assert client.send(series([1]), dest="/nowhere").reason == "Parameter dest format error"


@pytest.mark.wide
def test_two_gigabytes_worth_of_members_stream(site: StandIn, client: Client) -> None:
    """Not two gigabytes, but more than any buffer here: the receiver's memory does not grow with the body."""
    import tracemalloc

    big = dicom(1, PixelData=bytes(30_000_000))
    body = tar({"1.dcm": big})
    tracemalloc.start()
    base = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    assert client("POST", "/data/services/import", body, TAR, **PARAMS).status == 200
    peak = tracemalloc.get_traced_memory()[1] - base
    tracemalloc.stop()
    assert peak < 3_000_000
    assert json.dumps(len(site.rows("DEMO")[0].files)) == "1"


def test_keep_alive_over_many_imports(site: StandIn, client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)
    query = "&".join(f"{key}={value}" for key, value in PARAMS.items())
    for number in range(1, 6):
        headers = TAR | {"Cookie": f"JSESSIONID={client.cookie}"}
        connection.request("POST", "/data/services/import?" + query, tar(series([number])), headers)
        reply = connection.getresponse()
        assert (reply.status, bool(reply.read()), reply.will_close) == (200, True, False)
    connection.close()
    assert len(site.rows("DEMO")[0].files) == 5


@pytest.mark.parametrize(
    ("number", "name"), [("0007", "0007"), ("+7", "+7"), ("x7", "x7"), ("-1", "-1"), ("1.5", "1.5")]
)
def test_numbers_are_taken_as_they_stand(site: StandIn, client: Client, number: str, name: str) -> None:
    written = dicom(1, InstanceNumber=11_111_111_11).replace(b"1111111111", number.encode().ljust(10))
    client.send({"1.dcm": written})
    assert f"-1-{name}-" in next(iter(site.rows("DEMO")[0].files))


def test_a_slash_in_a_made_name_makes_a_folder_and_nothing_leads_up(site: StandIn, client: Client) -> None:
    site.settings.file_name_template = "${PatientName}/${InstanceNumber}"
    uri = client.send(series([1], PatientName="/a/b")).text.strip()
    row = site.rows("DEMO")[0]
    assert list(row.files) == ["a/b/1.dcm"]
    client("POST", uri, action="build")
    (listed,) = client("GET", uri + "/scans/1/resources/DICOM/files").rows
    assert (listed["Name"], listed["URI"].endswith("/files/a/b/1.dcm")) == ("1.dcm", True)
    assert client("GET", listed["URI"]).data == dicom(1, PatientName="/a/b")
    assert client("POST", uri, action="commit", AA="true").status == 301
    (listed,) = client("GET", "/data/experiments/XNAT_E00001/scans/ALL/files").rows
    assert (listed["Name"], client("GET", listed["URI"]).status) == ("1.dcm", 200)
    assert client.send(series([1], PatientName="x/../../../y")).reason == "unable to read DICOM object 1.dcm"
