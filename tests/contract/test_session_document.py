"""The server shows the document or the listing of another session or project, or of a session that is shared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PASSWORD, Ingest, stored
from tests.dicom_trees import Series, make_session
from tests.standin import StandIn, archiverest, filesrest
from tests.standin.body import Request
from tests.standin.model import ArchivedSession, Project
from tests.standin.projectrest import visible_project
from xnat_ingest.commands.container.target import find_target
from xnat_ingest.commands.resources.target import ResourceOwner, find_owner
from xnat_ingest.core.errors import IngestError, SessionTrouble
from xnat_ingest.settings.layers import Credentials
from xnat_ingest.xnat.archive import archived_session
from xnat_ingest.xnat.client import XnatClient


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_session(tmp_path / "t/S/E", (Series("T1_0001", 2),), "study")
    return tmp_path / "t"


def lie(patch: pytest.MonkeyPatch, **fields: str) -> None:
    honest = archiverest._item

    def lying(site: StandIn, session: ArchivedSession) -> dict[str, Any]:
        document = honest(site, session)
        document["data_fields"] |= fields
        return document

    patch.setattr(archiverest, "_item", lying)


@pytest.mark.parametrize("fields", [{"project": "DEMO2"}, {"label": "S_E_2"}])
def test_another_session_does_not_count(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str]
) -> None:
    lie(monkeypatch, **fields)
    ended = ingest("upload", tree)
    assert (ended.code, ended.totals["verified"], ended.totals["failed"]) == (3, 0, 2)
    assert ended.kinds() == ["server-fault"]
    assert "asked for session S_E of project DEMO, the server answers with" in ended.out


@pytest.mark.parametrize(("study_uid", "code"), [("1.2.3", 3), ("", 0)])
def test_another_study_does_not_count_where_no_name_tells(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch, study_uid: str, code: int
) -> None:
    site.settings.file_name_template = "${SOPInstanceUID}"
    lie(monkeypatch, UID=study_uid)
    ended = ingest("upload", tree)
    assert (ended.code, ended.totals["counted"]) == (code, 0 if code else 2)
    assert ("holds another study (1.2.3) than was sent" in ended.out) == bool(code)


def test_names_tell_the_study_whatever_a_script_made_of_it(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie(monkeypatch, UID="1.2.3")
    ended = ingest("upload", tree)
    assert (ended.code, ended.totals["verified"]) == (0, 2)


@pytest.mark.parametrize("label", [None, "S_E_here"])
def test_a_shared_session_is_found_by_its_label_here(
    ingest: Ingest, site: StandIn, tree: Path, label: str | None
) -> None:
    """Its document names its home, and where it is shared to."""
    assert ingest("upload", tree, project="MANUAL").code == 0
    session = stored(site, "MANUAL", "S", "S_E")
    site.share(session, "DEMO", label)
    with closing(XnatClient(Credentials(site.url, "up", PASSWORD))) as rest:
        for asked in (label or "S_E", session.accession):
            found = archived_session(rest, "DEMO", asked)
            assert found is not None
            assert found.accession == session.accession


@pytest.mark.parametrize("command", ["upload", "verify"])
def test_the_listing_of_another_project_does_not_count(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """It has a session of the same label and study. A cache, or a connection that is out of step, may mix answers."""
    assert ingest("upload", tree, project="MANUAL").code == 0

    def lying(site: StandIn, request: Request, name: str, refusal: str) -> Project:
        return visible_project(site, request, "MANUAL" if request.path.endswith("/experiments") else name, refusal)

    monkeypatch.setattr(archiverest, "visible_project", lying)
    ended = ingest(command, tree)
    assert (ended.code, ended.totals["verified"]) == (3, 0)
    assert "the server lists session S_E for project DEMO, but does not find it there" in ended.out


def test_a_shared_session_in_the_listing_counts(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """The listing names its home as project."""
    assert ingest("upload", tree, project="MANUAL").code == 0
    site.share(stored(site, "MANUAL", "S", "S_E"), "DEMO", "S_E")
    ended = ingest("verify", tree)
    assert (ended.code, ended.totals["verified"]) == (0, 2)


def test_a_deletion_does_not_follow_the_document_of_another_session(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ingest("upload", tree).code == 0
    lie(monkeypatch, project="MANUAL")
    with closing(XnatClient(Credentials(site.url, "up", PASSWORD))) as rest:
        for find in (
            lambda: find_owner(rest, ResourceOwner("DEMO", experiment="S_E")),
            lambda: find_target(rest, "/archive/projects/DEMO/experiments/S_E"),
        ):
            with pytest.raises(SessionTrouble, match="answers with session S_E of project MANUAL"):
                find()


def test_a_launch_from_a_shared_session_is_refused(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """Its images would go into a project from which nobody has launched anything."""
    assert ingest("upload", tree, project="MANUAL").code == 0
    session = stored(site, "MANUAL", "S", "S_E")
    site.share(session, "DEMO", "S_E")
    with closing(XnatClient(Credentials(site.url, "up", PASSWORD))) as rest:
        with pytest.raises(IngestError, match="belongs to project MANUAL"):
            find_target(rest, "/archive/projects/DEMO/experiments/S_E")
        for address in (f"/archive/experiments/{session.accession}", "/archive/projects/MANUAL/experiments/S_E"):
            assert find_target(rest, address).project == "MANUAL"


def test_rows_of_another_session_are_refused(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of equal names and sizes in another session are no proof."""
    assert ingest("upload", tree).code == 0
    honest = filesrest._rows

    def lying(*given: Any) -> Iterator[dict[str, Any]]:
        for row in honest(*given):
            yield row | {"URI": str(row["URI"]).replace("/experiments/XNAT_E", "/experiments/OTHER_E")}

    monkeypatch.setattr(filesrest, "_rows", lying)
    ended = ingest("verify", tree)
    assert (ended.code, ended.totals["verified"]) == (3, 0)
    assert "a row of the answer is about /data/experiments/OTHER_E" in ended.out + ended.err
