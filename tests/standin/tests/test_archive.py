"""Archiving and merging, and what the archive tells afterwards."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.standin import ArchivedSession, StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import STUDY, Client, dicom, series

__all__ = ["client", "site"]


def archive(client: Client, members: dict[str, bytes], **query: Any) -> tuple[int, str]:
    """Send and commit; the status and reason (or address) of the commit."""
    closing = {key: query.pop(key) for key in list(query) if key == "overwrite_files"}
    uri = client.send(members, **query).text.strip()
    reply = client("POST", uri, action="commit", AA="true", **closing)
    return reply.status, reply.text if reply.status == 301 else reply.reason or ""


def the(session: ArchivedSession | None) -> ArchivedSession:
    assert session is not None
    return session


def test_a_new_session(site: StandIn, client: Client) -> None:
    assert archive(client, series([1, 2]) | {"z": dicom(1, series=2, Modality="SR")})[0] == 301
    found = the(site.archived("DEMO", "S1", "E1"))
    assert (found.accession, found.study_uid, found.xsi_type) == ("XNAT_E00001", STUDY, "xnat:mrSessionData")
    assert {key: (scan.series_uid, scan.modality, len(scan.files)) for key, scan in found.scans.items()} == {
        "1": (STUDY + ".1", "MR", 2),
        "2": (STUDY + ".2", "SR", 1),
    }
    assert all(path.exists() for path in found.files.values())
    assert site.rows("DEMO") == []
    assert list(site.prearchive_root.iterdir()) == []


def test_labels_are_cleaned_and_subjects_found_in_any_case(site: StandIn, client: Client) -> None:
    archive(client, series([1]), SUBJECT_ID="Subj.1", EXPT_LABEL="E 1")
    archive(client, series([1]), SUBJECT_ID="SUBJ_1", EXPT_LABEL="E2")
    assert site.project("DEMO").subjects == {"Subj_1": "XNAT_S00001"}
    assert [session.label for session in site.sessions("DEMO")] == ["E_1", "E2"]
    assert {session.subject for session in site.sessions("DEMO")} == {"Subj_1"}


def test_two_series_of_one_number_become_two_scans(site: StandIn, client: Client) -> None:
    archive(client, {"a": dicom(1), "b": dicom(1, series=2, SeriesNumber=1)})
    found = the(site.archived("DEMO", "S1", "E1"))
    assert {key: scan.series_uid for key, scan in found.scans.items()} == {
        "1-MR1": STUDY + ".1",
        "1-MR2": STUDY + ".2",
    }


def test_merging_new_files_and_series(site: StandIn, client: Client) -> None:
    archive(client, series([1]))
    assert archive(client, series([2]) | {"z": dicom(1, series=2)})[0] == 301
    found = the(site.archived("DEMO", "S1", "E1"))
    assert (found.accession, {key: len(scan.files) for key, scan in found.scans.items()}) == (
        "XNAT_E00001",
        {"1": 2, "2": 1},
    )
    assert archive(client, {"q": dicom(9, series=3, SeriesNumber=1)})[0] == 301
    assert found.scans["1-MR1"].series_uid == STUDY + ".3"
    assert archive(client, {"q": dicom(8, series=3, SeriesNumber=1)})[0] == 301
    assert len(found.scans["1-MR1"].files) == 2


def failed(reason: str, label: str = "E1") -> tuple[int, str]:
    return 500, f"FAILED: Unable to archive {label}: Operation Failed: {reason}"


def test_the_same_files_conflict_unless_they_may_be_replaced(site: StandIn, client: Client) -> None:
    archive(client, series([1, 2]))
    reason = "Session already exists with matching files."
    assert archive(client, series([2, 3])) == failed(reason)
    row = site.rows("DEMO")[0]
    assert row.status == "CONFLICT"
    assert client("GET", "/data" + row.url + "/logs/last").text == reason
    reply = client("POST", "/data" + row.url, action="commit", AA="true", overwrite_files="true")
    assert reply.status == 301
    assert len(the(site.archived("DEMO", "S1", "E1")).files) == 3


def test_the_same_objects_under_other_names_conflict_too(site: StandIn, client: Client) -> None:
    archive(client, {"a.dcm": dicom(1)}, rename="false")
    assert archive(client, {"b.dcm": dicom(1)}, rename="false") == failed(
        "Session already exists with the same resources."
    )
    assert archive(client, {"b.dcm": dicom(1)}, rename="false", overwrite_files="true")[0] == 301
    found = the(site.archived("DEMO", "S1", "E1"))
    assert list(found.files) == ["b.dcm"]
    assert sorted(path.name for path in found.directory.glob("SCANS/1/DICOM/*")) == ["b.dcm"]


def test_code_five_replaces_files_by_itself(site: StandIn, client: Client) -> None:
    site.project("AUTO").code = 5
    archive(client, series([1]), PROJECT_ID="AUTO")
    assert archive(client, series([1]), PROJECT_ID="AUTO")[0] == 301


@pytest.mark.parametrize(
    ("members", "query", "reason"),
    [
        ({"1": dicom(1, study="1.2.3")}, {}, "Invalid modification of session UID via archive process."),
        (
            series([5]),
            {"SUBJECT_ID": "S2"},
            "Invalid modification of session subject via archive process.: E1 Already Exists for another Subject",
        ),
        (
            {"1": dicom(5, Modality="CT")},
            {},
            "Invalid modification of session modality via archive process.  Data may require a manual merge.",
        ),
        (
            {"1": dicom(5, SeriesNumber=7)},
            {},
            "Session already contains a scan with the same UID, but a different number (1).",
        ),
    ],
)
def test_conflicts(
    site: StandIn, client: Client, members: dict[str, bytes], query: dict[str, str], reason: str
) -> None:
    archive(client, series([1]))
    assert archive(client, members, **query) == failed(reason)
    assert site.rows("DEMO")[0].status == "CONFLICT"
    assert len(the(site.archived("DEMO", "S1", "E1")).files) == 1


def test_an_open_workflow_is_a_conflict(site: StandIn, client: Client) -> None:
    archive(client, series([1]))
    site.busy["XNAT_E00001"] = "xnat_tools/AutoRun.xml"
    status, reason = archive(client, series([2]))
    assert (status, "Session processing may already be in progress: xnat_tools/AutoRun.xml." in reason) == (500, True)
    site.busy.clear()
    assert client("POST", "/data" + site.rows("DEMO")[0].url, action="commit", AA="true").status == 301


def test_one_object_twice_or_files_nobody_knows_stop_the_archive(site: StandIn, client: Client) -> None:
    """The row goes to ERROR, not CONFLICT: these are plain 400s of the archiver."""
    status, reason = archive(client, {"a.dcm": dicom(1), "b.dcm": dicom(1)}, rename="false")
    assert (status, "duplicated SOP instance UIDs: " + STUDY + ".1.1" in reason) == (500, True)
    assert site.rows("DEMO")[0].status == "ERROR"
    uri = client.send(series([1]), EXPT_LABEL="E2").text.strip()
    row = site.rows("DEMO")[1]
    (next(iter(row.files.values())).parent / "strange").write_bytes(b"x" * 200)
    reply = client("POST", uri, action="commit", AA="true")
    assert "Scan 1 has 1 non-DICOM (or non-parsable DICOM) files" in (reply.reason or "")


def test_services_archive(site: StandIn, client: Client) -> None:
    line = client.send(series([1])).text
    reply = client("POST", "/data/services/archive", src=line)
    assert reply.status == 500
    client("POST", line.strip(), action="build")
    reply = client("POST", "/data/services/archive", src=line)
    assert (reply.status, reply.text) == (200, "/data/archive/projects/DEMO/subjects/S1/experiments/E1\r\n")
    again = client("POST", "/data/services/archive", src=line)
    assert (again.status, again.reason) == (404, line.strip().removeprefix("/data") + " not found.")
    assert client("POST", "/data/services/archive").reason == "Unknown prearchive session."
    assert client("POST", "/data/services/archive", src="/nonsense").reason == "Invalid src URI (/nonsense)"
    uri = client.send(series([1])).text.strip()
    client("POST", uri, action="build")
    notices = client("POST", "/data/services/validate-archive", src=uri).rows
    assert [(row["code"], row["type"]) for row in notices] == [
        ("1", "CONFLICT"),
        ("16", "CONFLICT"),
        ("14", "CONFLICT"),
    ]
    assert client("POST", "/data/services/archive", src=uri, overwrite_files="true").status == 500
    assert client("POST", "/data/services/archive", src=uri, overwrite="append").status == 200
    uri = client.send(series([1]), PROJECT_ID="AUTO").text.strip()
    client("POST", uri, action="build")
    reply = client("POST", "/data/services/archive", src=uri)
    assert (reply.status, reply.headers["Location"]) == (
        303,
        site.url + "/data/archive/projects/AUTO/subjects/S1/experiments/E1",
    )


def test_experiment_lists(client: Client) -> None:
    archive(client, series([1]))
    archive(client, {"1": dicom(1, study="1.2.9", Modality="CT")}, EXPT_LABEL="E2", SUBJECT_ID="S2")
    rows = client("GET", "/data/projects/DEMO/experiments?format=json").rows
    assert rows[0] | {"insert_date": ""} == {
        "xnat:subjectassessordata/id": "XNAT_E00001",
        "ID": "XNAT_E00001",
        "project": "DEMO",
        "date": "2024-01-31",
        "xsiType": "xnat:mrSessionData",
        "label": "E1",
        "insert_date": "",
        "URI": "/data/experiments/XNAT_E00001",
    }
    assert len(client("GET", "/data/projects/DEMO/subjects/S2/experiments").rows) == 1
    columns = "ID,label,subject_label,project,xnat:imageSessionData/UID,xsiType"
    found = client("GET", "/data/experiments", columns=columns, project="DEMO", label="E2").rows
    assert [(row["label"], row["subject_label"], row["UID"], row["session_ID"]) for row in found] == [
        ("E2", "S2", "1.2.9", "XNAT_E00002")
    ]
    for name in ("UID", "studyInstanceUID", "xnat:imageSessionData/UID", "xnat:imagesessiondata/uid"):
        found = client("GET", "/data/experiments", columns="ID,UID,label", filters={name: STUDY}).rows
        assert [row["label"] for row in found] == ["E1"]
    assert len(client("GET", "/data/experiments", xsiType="xnat:ctSessionData").rows) == 1
    assert len(client("GET", "/data/experiments", label="E*").rows) == 2
    assert client("GET", "/data/experiments", label="E9").rows == []
    assert client("GET", "/data/projects/SECRET/experiments").status == 404
    assert [row["label"] for row in client("GET", "/data/projects/DEMO/subjects?columns=ID,label").rows] == ["S1", "S2"]
    missing = client("GET", "/data/projects/DEMO/subjects/S3?format=json")
    assert missing.status == 404
    assert "The project DEMO does not contain a subject identifiable by the ID or label S3." in missing.text
    assert '"label": "S1"' in client("GET", "/data/projects/DEMO/subjects/S1?format=json").text


@pytest.mark.parametrize(
    "address",
    [
        "/data/experiments/XNAT_E00001",
        "/REST/experiments/XNAT_E00001",
        "/data/archive/projects/DEMO/experiments/E1",
        "/data/projects/DEMO/subjects/S1/experiments/E1",
        "/data/projects/demo-alias/subjects/S1/experiments/XNAT_E00001",
    ],
)
def test_the_experiment_item(client: Client, address: str) -> None:
    archive(client, series([1]))
    item = json.loads(client("GET", address + "?format=json").text)["items"][0]
    assert item["meta"]["xsi:type"] == "xnat:mrSessionData"
    fields = item["data_fields"]
    assert [fields[key] for key in ("ID", "id", "project", "label", "subject_ID", "UID", "modality")] == [
        "XNAT_E00001",
        "XNAT_E00001",
        "DEMO",
        "E1",
        "XNAT_S00001",
        STUDY,
        "MR",
    ]
    scan = item["children"][0]["items"][0]["data_fields"]
    assert item["children"][0]["field"] == "scans/scan"
    assert [scan[key] for key in ("ID", "UID", "type", "series_description", "modality")] == [
        "1",
        STUDY + ".1",
        "series 1",
        "series 1",
        "MR",
    ]


def test_labels_address_nothing_without_a_project(client: Client) -> None:
    archive(client, series([1]))
    assert client("GET", "/data/experiments/E1?format=json").status == 404
    assert client("GET", "/data/projects/AUTO/experiments/E1?format=json").status == 404
    # below /projects/P/experiments/E there are no scans: the rest of the path is taken for the experiment's own
    assert '"items"' in client("GET", "/data/projects/DEMO/experiments/E1/scans?format=json").text


def test_scan_and_file_listings(client: Client) -> None:
    archive(client, series([1, 2]) | {"z": dicom(1, series=2)})
    base = "/data/experiments/XNAT_E00001"
    scans = client("GET", base + "/scans?format=json").rows
    assert [row["URI"] for row in scans] == [base + "/scans/1", base + "/scans/2"]
    assert client("GET", base + "/scans?columns=ID,UID,modality").rows[1] == {
        "ID": "2",
        "UID": STUDY + ".2",
        "modality": "MR",
        "URI": base + "/scans/2",
    }
    assert client("GET", base + "/scans/7?format=json").status == 404
    files = client("GET", base + "/scans/ALL/files?format=json")
    assert '"Columns": [{"key": "URI", "serverRoot": ""}]' in files.text
    first = files.rows[0]
    assert len(files.rows) == 3
    assert first["URI"].startswith(base + "/scans/1/resources/")
    assert (first["Size"], first["digest"]) == (str(len(dicom(1))), hashlib.md5(dicom(1)).hexdigest())
    assert first["Name"] == first["URI"].split("/")[-1]
    assert client("GET", first["URI"]).data == dicom(1)
    assert len(client("GET", base + "/scans/1/files").rows) == 2
    assert len(client("GET", base + "/scans/1/resources/DICOM/files").rows) == 2
    missing = client("GET", base + "/scans/1/resources/DICOM/files/none.dcm")
    assert (missing.status, missing.reason) == (404, "Unable to find file.")
    assert client("GET", base + "/scans/1/resources/DICOM/files/none.dcm?accept-not-found=true").status == 204
    resource = client("GET", base + "/scans/1/resources?format=json&file_stats=true").rows[0]
    assert (resource["label"], resource["file_count"], resource["file_size"]) == ("DICOM", "2", str(2 * len(dicom(1))))
    assert len(client("GET", base + "/resources?all=true").rows) == 2
    assert client("GET", base + "/resources").rows == []
    assert len(client("GET", "/data/projects/DEMO/subjects/S1/experiments/E1/scans/*/files").rows) == 3


def test_names_are_encoded_in_addresses(site: StandIn, client: Client) -> None:
    site.settings.file_name_template = "${PatientName}#${InstanceNumber}"
    archive(client, series([1]))
    row = client("GET", "/data/experiments/XNAT_E00001/scans/ALL/files").rows[0]
    assert (row["Name"], row["URI"].split("/")[-1]) == ("Doe^Jane#1.dcm", "Doe%5EJane%231.dcm")
    assert client("GET", row["URI"]).data == dicom(1)


def test_items_are_json_only_when_asked_for_in_the_address(client: Client) -> None:
    archive(client, series([1]))
    for path in ("/data/projects/DEMO", "/data/projects/DEMO/subjects/S1", "/data/experiments/XNAT_E00001"):
        assert client("GET", path, headers={"Accept": "application/json"}).text.startswith("<?xml")
        assert client("GET", path + "?format=json").text.startswith('{"items"')
