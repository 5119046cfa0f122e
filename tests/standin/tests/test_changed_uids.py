"""Scripts of the site or a project that change UIDs, and what they do to rows and names."""

from __future__ import annotations

from typing import Any

import pytest

from tests.standin import StandIn
from tests.standin.anonymize import new_uid
from tests.standin.fixtures import client, site
from tests.standin.samples import STUDY, Client, series

__all__ = ["client", "site"]

SENT: dict[str, Any] = {"prevent_anon": "false"}
HASHED = new_uid(STUDY)


@pytest.fixture
def _hashing(site: StandIn) -> None:
    site.settings.site_anonymization, site.settings.site_script = True, "uids"


@pytest.mark.usefixtures("_hashing")
def test_files_are_named_before_the_script_runs(site: StandIn, client: Client) -> None:
    client.send(series([1]), **SENT)
    (row,) = site.rows("DEMO")
    assert [name.split("-")[0] for name in row.files] == [STUDY]
    assert row.study_uid == STUDY


@pytest.mark.usefixtures("_hashing")
def test_a_build_takes_the_scripts_uid(site: StandIn, client: Client) -> None:
    """The document and the tag have the new UID; what the sender said of the row stays."""
    uri = client.send(series([1]), **SENT).text.strip()
    client("POST", uri, action="build")
    (row,) = client("GET", uri, format="json").rows
    assert (row["tag"], row["name"], row["subject"]) == (HASHED, "E1", "S1")
    assert (row["SOURCE"], row["prevent_auto_commit"], row["autoarchive"]) == ("uploader", "true", "Manual")
    assert f'UID="{HASHED}"' in client("GET", uri).text
    assert client("POST", uri, action="commit", AA="true").status == 301
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    assert session.study_uid == HASHED
    assert [name.split("-")[0] for name in session.files] == [STUDY]


@pytest.mark.usefixtures("_hashing")
def test_a_session_that_grows_is_merged(site: StandIn, client: Client) -> None:
    """The server compares what the script made of both."""
    for number in (1, 2):
        uri = client.send(series([number]), **SENT).text.strip()
        assert client("POST", uri, action="commit", AA="true").status == 301
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    assert len(session.files) == 2


@pytest.mark.usefixtures("_hashing")
def test_a_part_after_the_build_makes_a_prearchive_session_of_its_own(site: StandIn, client: Client) -> None:
    """The first row has another UID by then."""
    first = client.send(series([1]), **SENT).text.strip()
    client("POST", first, action="build")
    second = client.send(series([2]), **SENT).text.strip()
    assert second != first
    assert len(site.rows("DEMO")) == 2


@pytest.mark.usefixtures("_hashing")
def test_and_with_the_same_timestamp_it_is_refused(site: StandIn, client: Client) -> None:
    """Timestamp, project and folder are unique: the database refuses a second row, and so the object."""
    stamp = {"PREARC_TIMESTAMP": "20240101_101010000"}
    first = client.send(series([1]), **SENT, **stamp).text.strip()
    client("POST", first, action="build")
    refused = client.send(series([2]), **SENT, **stamp)
    assert (refused.status, refused.reason) == (400, "unable to read DICOM object 2.dcm")
    assert len(site.rows("DEMO")) == 1


def test_rows_without_a_project_get_another_name(site: StandIn, client: Client) -> None:
    stamp = {"PREARC_TIMESTAMP": "20240101_101010000", "PROJECT_ID": "NOPE"}
    client.send(series([1]), **stamp)
    assert client.send(series([1], study="1.2.9"), **stamp).status == 200
    assert sorted(row.folder for row in site.rows("Unassigned")) == ["E1", "E1_1"]


def test_a_project_script_that_changes_uids_lets_no_session_grow(site: StandIn, client: Client) -> None:
    """It runs when the session is archived, after the comparison: raw against changed."""
    site.project("DEMO").anon_script = "uids"
    uri = client.send(series([1]), **SENT).text.strip()
    assert client("POST", uri, action="commit", AA="true").status == 301
    uri = client.send(series([2]), **SENT).text.strip()
    refused = client("POST", uri, action="commit", AA="true")
    assert refused.status == 500
    assert "Invalid modification of session UID via archive process." in (refused.reason or "")
    assert site.rows("DEMO")[0].status == "CONFLICT"
