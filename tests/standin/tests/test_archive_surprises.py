"""What stands in the way of archiving, and what the archive's listings tell that is not on the disk."""

from __future__ import annotations

from typing import Any

import pytest

from tests.standin import Fault, StandIn
from tests.standin.archiver import clean_value
from tests.standin.fixtures import client, site
from tests.standin.samples import STUDY, Client, dicom, series

__all__ = ["client", "site"]

FILES = "/data/experiments/XNAT_E00001/scans/1/resources/DICOM/files"


def commit(client: Client, members: dict[str, bytes], **query: Any) -> tuple[int, str]:
    closing = {key: query.pop(key) for key in list(query) if key == "overwrite_files"}
    uri = client.send(members, **query).text.strip()
    reply = client("POST", uri, action="commit", AA="true", **closing)
    return reply.status, reply.text if reply.status == 301 else reply.reason or ""


def sizes(client: Client) -> dict[str, str]:
    return {row["Name"]: row["Size"] for row in client("GET", FILES, format="json").rows}


# -- listings


def test_sizes_are_live_until_a_catalogue_has_them(site: StandIn, client: Client) -> None:
    commit(client, series([1, 2]), rename="false")
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    session.files["1.dcm"].write_bytes(b"short")
    assert sizes(client)["1.dcm"] == "5"
    session.files["1.dcm"].unlink()
    assert sizes(client) == {"1.dcm": "", "2.dcm": str(len(dicom(2)))}


@pytest.mark.parametrize("how", ["refresh", "merge"])
def test_a_listing_is_no_look_at_the_disk_afterwards(site: StandIn, client: Client, how: str) -> None:
    """Sizes are what they were when the catalogue was written, of vanished files too."""
    commit(client, series([1, 2]), rename="false")
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    if how == "refresh":
        resource = "/archive/projects/DEMO/subjects/S1/experiments/E1"
        assert client("POST", "/data/services/refresh/catalog", resource=resource, options="checksum").status == 200
    else:
        assert commit(client, series([3]), rename="false")[0] == 301
    session.files["1.dcm"].write_bytes(b"short")
    session.files["2.dcm"].unlink()
    found = sizes(client)
    assert (found["1.dcm"], found["2.dcm"]) == (str(len(dicom(1))), str(len(dicom(2))))
    (row,) = client("GET", FILES.removesuffix("/DICOM/files"), format="json", file_stats="true").rows
    assert row["file_count"] == str(len(found))
    assert client("GET", FILES + "/2.dcm").status == 404
    assert client("GET", FILES + "/1.dcm").data == b"short"


def test_a_refresh_may_drop_what_has_vanished(site: StandIn, client: Client) -> None:
    commit(client, series([1, 2]), rename="false")
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    session.files["1.dcm"].unlink()
    resource = "/archive/projects/DEMO/subjects/S1/experiments/E1"
    client("POST", "/data/services/refresh/catalog", resource=resource, options="delete")
    assert list(sizes(client)) == ["2.dcm"]


def test_prearchive_sizes_are_live(site: StandIn, client: Client) -> None:
    uri = client.send(series([1]), rename="false").text.strip()
    client("POST", uri, action="build")
    site.rows("DEMO")[0].files["1.dcm"].write_bytes(b"short")
    (row,) = client("GET", uri + "/scans/1/resources/DICOM/files", format="json").rows
    assert row["Size"] == "5"


def test_the_last_log_is_bare_text(site: StandIn, client: Client) -> None:
    uri = client.send(series([1])).text.strip()
    client("POST", uri, action="build")
    site.faults.add(Fault("archive-fails", message="no room", status=500))
    client("POST", uri, action="commit", AA="true")
    for more in ({}, {"format": "json"}):
        assert client("GET", uri + "/logs/last", filters=more).text == "no room"


# -- leftovers


@pytest.mark.parametrize("label", ["DICOM", "secondary"])
def test_what_a_deleted_session_left_is_in_the_way(site: StandIn, client: Client, label: str) -> None:
    """No experiment is there, only its files."""
    kind = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"} if label == "secondary" else {}
    members = series([1], **kind)
    assert commit(client, members)[0] == 301
    owner = Client(site.url, "owner").login()
    assert owner("DELETE", "/data/projects/DEMO/experiments/E1").status == 200
    owner.close()
    assert client("GET", "/data/projects/DEMO/experiments/E1", format="json").status == 404
    status, reason = commit(client, members)
    assert (status, site.rows("DEMO")[0].status) == (500, "CONFLICT")
    assert "Session already exists with matching files." in reason
    client("DELETE", "/data" + site.rows("DEMO")[0].url)
    assert commit(client, members, overwrite_files="true")[0] == 301


def test_other_files_of_a_deleted_session_are_not(site: StandIn, client: Client) -> None:
    commit(client, series([1]))
    owner = Client(site.url, "owner").login()
    owner("DELETE", "/data/projects/DEMO/experiments/E1")
    owner.close()
    assert commit(client, series([2]))[0] == 301


# -- subjects


def test_a_label_that_is_an_accession_id_finds_any_subject(site: StandIn, client: Client) -> None:
    """The subject is another project's, and the session hangs on it; its own project has none of that name."""
    commit(client, series([1]), PROJECT_ID="AUTO", SUBJECT_ID="foreign")
    accession = site.project("AUTO").subjects["foreign"]
    assert commit(client, series([1]), SUBJECT_ID=accession)[0] == 301
    assert site.project("DEMO").subjects == {}
    (row,) = client("GET", "/data/projects/DEMO/experiments?columns=label,subject_ID", format="json").rows
    assert (row["label"], row["subject_ID"]) == ("E1", accession)
    assert client("GET", f"/data/projects/DEMO/subjects/{accession}", format="json").status == 404


def test_a_label_of_the_project_comes_first(site: StandIn, client: Client) -> None:
    commit(client, series([1]), PROJECT_ID="AUTO", SUBJECT_ID="foreign")
    accession = site.project("AUTO").subjects["foreign"]
    site.project("DEMO").subjects[accession] = "XNAT_S00077"
    commit(client, series([1]), SUBJECT_ID=accession)
    (row,) = client("GET", "/data/projects/DEMO/experiments?columns=label,subject_ID", format="json").rows
    assert row["subject_ID"] == "XNAT_S00077"


def test_labels_keep_letters_of_every_alphabet() -> None:
    marks = " `~@#$%^&*()+=[]{}|\\/?:;\"',.<>"
    assert clean_value("a" + marks + "b") == "a" + "_" * len(marks) + "b"
    assert clean_value("Müller-Österreich_ß!") == "Müller-Österreich_ß!"
    assert clean_value("  A_b-9 ") == "A_b-9"


# -- shared sessions


def test_sessions_shared_into_a_project_show_their_home(site: StandIn, client: Client) -> None:
    """A listing names them by their label at home; under the label of this project they are found all the same."""
    commit(client, series([1]), PROJECT_ID="AUTO")
    session = site.archived("AUTO", "S1", "E1")
    assert session is not None
    site.share(session, "DEMO", "E1_here")
    columns = {"xsiType": "xnat:imageSessionData", "columns": "ID,label,project,xsiType,UID", "format": "json"}
    (row,) = client("GET", "/data/projects/DEMO/experiments", filters=columns).rows
    assert (row["label"], row["project"], row["UID"]) == ("E1", "AUTO", STUDY)
    assert {"session_ID", "ID", "label", "project", "xsiType", "UID", "URI"} <= row.keys()
    assert client("GET", "/data/projects/DEMO/experiments/E1_here", format="json").status == 200
    assert client("GET", "/data/projects/DEMO/experiments/E1", format="json").status == 404


# -- prearchive folders


def test_without_that_chance_the_other_session_stays(site: StandIn, client: Client) -> None:
    stamp = {"PREARC_TIMESTAMP": "20240101_101010000"}
    first = client.send(series([1]), **stamp).text.strip()
    second = client.send(series([1], study="1.2.9"), EXPT_LABEL="E2", **stamp).text.strip()
    assert client("POST", first, action="commit", AA="true").status == 301
    assert client("POST", second, action="commit", AA="true").status == 301


# -- words and numbers


@pytest.mark.parametrize("word", ["petmr", " PETMR ", "PetMR\n"])
def test_words_about_petmr_are_stripped_and_lower_cased(site: StandIn, client: Client, word: str) -> None:
    site.project("DEMO").petmr = word
    client.send({"1.dcm": dicom(1), "2.dcm": dicom(1, series=2, Modality="PT")}, action="commit", AA="true")
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    assert session.xsi_type == "xnat:petmrSessionData"


@pytest.mark.parametrize(("version", "scan"), [("1.8.10", "+5"), ("1.9.3", "+5"), ("1.10.0", "_5")])
def test_a_plus_before_a_series_number(site: StandIn, client: Client, version: str, scan: str) -> None:
    site.settings.version = version
    content = dicom(1, SeriesNumber=15).replace(b"IS\2\00015", b"IS\2\0+5")
    uri = client.send({"1.dcm": content}).text.strip()
    client("POST", uri, action="build")
    assert [row["ID"] for row in client("GET", uri + "/scans", format="json").rows] == [scan]
