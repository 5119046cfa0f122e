"""`xnat-ingest prearchive`: which rows are meant, what is listed, archived, deleted, rebuilt and moved."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import PASSWORD, stored
from tests.standin import Fault, Row, StandIn
from tests.standin.prearchive import COLUMNS
from tests.standin.samples import Client, series
from xnat_ingest.cli import main
from xnat_ingest.commands.prearchive import actions


class Prearchive:
    """Rows made by somebody else, and the command that handles them."""

    def __init__(self, site: StandIn, capture: pytest.CaptureFixture[str]) -> None:
        self.site = site
        self.client = Client(site.url, "up", PASSWORD).login()
        self._capture = capture

    def row(self, label: str, numbers: tuple[int, ...] = (1, 2), project: str = "DEMO", **more: Any) -> Row:
        """A row with these instances, built unless status RECEIVING is asked for."""
        built = more.pop("built", True)
        study = f"1.2.826.0.1.3680043.8.498.{sum(map(ord, label))}"
        query = {"PROJECT_ID": project, "SUBJECT_ID": "S", "EXPT_LABEL": label} | more
        reply = self.client.send(series(numbers, study=study), **query)
        row = self.site.prearchive.find(*reply.text.strip().split("/")[4:7])
        assert row is not None, reply
        if built:
            self.site.prearchive.build(row)
        return row

    def __call__(self, *words: str) -> tuple[int, str, str]:
        self._capture.readouterr()
        code = main(["prearchive", *words])
        said = self._capture.readouterr()
        return code, said.out, said.err

    def posts(self, mark: str) -> int:
        """How often the server was asked for something that changes."""
        asked = [r for r in self.site.requests if r.method in ("POST", "DELETE")]
        return sum(bool(re.search(mark, f"{r.method} {r.path} {r.query}")) for r in asked)


@pytest.fixture
def desk(site: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Prearchive]:
    monkeypatch.setattr(actions, "WATCH", 0.15)
    made = Prearchive(site, capsys)
    yield made
    made.client.close()


def stuck(row: Row, status: str = "CONFLICT", log: str = "Session already exists with matching files.") -> Row:
    row.status = status
    row.log(log)
    return row


@pytest.mark.wide
def test_list_is_a_table_by_project_and_label(desk: Prearchive) -> None:
    desk.row("B")
    stuck(desk.row("A"))
    desk.row("C", project="MANUAL")
    code, out, _ = desk("list")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["PROJECT", "SUBJECT", "LABEL", "STATUS", "TIMESTAMP", "FOLDER", "LASTMOD"]
    assert [line.split()[:4] for line in lines[1:] if "log:" not in line] == [
        ["DEMO", "S", "A", "CONFLICT"],
        ["DEMO", "S", "B", "READY"],
        ["MANUAL", "S", "C", "READY"],
    ]
    assert lines[2] == "  log: Session already exists with matching files."
    assert desk("list", "-P", "demo-alias", "--status", "ready,ERROR")[1].split()[7:10] == ["DEMO", "S", "B"]
    assert desk("list", "A")[1].split()[7:10] == ["DEMO", "S", "A"]
    assert desk("list", "-P", "READONLY")[:2] == (0, "no sessions\n")


def test_list_as_json_has_every_column_and_the_log(desk: Prearchive) -> None:
    stuck(desk.row("A"), "ERROR", "what went wrong")
    desk.row("B")
    rows = json.loads(desk("list", "--json")[1])
    assert [list(row) for row in rows] == [[*COLUMNS, "log"]] * 2
    assert [(row["name"], row["status"], row["log"]) for row in rows] == [
        ("A", "ERROR", "what went wrong"),
        ("B", "READY", ""),
    ]
    assert json.loads(desk("list", "-P", "MANUAL", "--json")[1]) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("delete",), "name the sessions"),
        (("archive", "A", "--all"), "one or the other"),
        (("archive", "--all"), "-P PROJECT or --status"),
        (("archive", "--all", "-P", "DEMO", "--label", "X"), "for one session"),
        (("archive", "A", "--label", "a b"), "--label 'a b'"),
        (("archive", "A", "--subject", "ä"), "--subject"),
        (("delete", "A", "B"), "TIMESTAMP"),
        (("delete", "A", "B", "C"), "TIMESTAMP"),
        (("list", "--status", "REDAY"), "RECEIVING_INTERRUPT"),
        (("list", "--status", ""), "is empty"),
        (("delete", "", "--yes", "-P", "DEMO"), "is empty"),
        (("delete", " ", "--yes"), "is empty"),
        (("delete", "A", "--yes", "-P", ""), "is empty"),
        (("delete", "--all", "--yes", "--status=", "-P", "DEMO"), "--status= is empty"),
        (("archive", "", "-P", "DEMO"), "is empty"),
        (("move", "", "-P", "DEMO", "--to-project", "MANUAL"), "is empty"),
        (("rebuild", "20240131_101112000", "", "-P", "DEMO"), "is empty"),
        (("wait", "A", "--limit", "soon"), "--limit"),
        (("move", "A"), "--to-project"),
        (("list", "--yes"), "--yes"),
    ],
)
def test_usage_errors_contact_nobody(desk: Prearchive, words: tuple[str, ...], says: str) -> None:
    before = len(desk.site.requests)
    code, out, err = desk(*words)
    assert (code, out) == (2, "")
    assert says in err
    assert len(desk.site.requests) == before


@pytest.mark.sampled(2)
@pytest.mark.parametrize("action", ["archive", "delete --yes", "rebuild", "move --to-project MANUAL"])
def test_a_label_of_several_prearchive_sessions_is_refused_with_what_to_choose_from(
    desk: Prearchive, action: str
) -> None:
    rows = [desk.row("A"), desk.row("A", project="MANUAL")]
    rows[1].timestamp = "20240131_101112000"
    code, _, err = desk(*action.split(), "A")
    assert code == 1
    assert "2 sessions match A" in err
    assert all(f"{row.project} {row.timestamp} A (READY)" in err for row in rows)
    assert [len(desk.site.rows(project)) for project in ("DEMO", "MANUAL")] == [1, 1]


@pytest.mark.wide
def test_nothing_that_matches(desk: Prearchive) -> None:
    row = desk.row("A")
    code, out, err = desk("delete", "-P", "DEMO", "B", "--yes")
    assert (code, out) == (1, "")
    assert f"no session B; it has: A (DEMO {row.timestamp} A, READY)" in err
    assert "it is empty" in desk("delete", "-P", "MANUAL", row.timestamp, "A", "--yes")[2]
    assert desk("archive", "A", "--status", "CONFLICT")[0] == 1
    code, out, _ = desk("archive", "--all", "--status", "CONFLICT")
    assert (code, out) == (0, "no session in status CONFLICT in the prearchive: nothing to archive\n")
    assert desk("archive", "--all", "-P", "MANUAL")[:2] == (0, "no session in the prearchive: nothing to archive\n")


def test_archive_proves_it(desk: Prearchive) -> None:
    desk.row("A", (1, 2, 3))
    code, out, err = desk("archive", "A")
    assert code == 0, err
    assert "3 files in the prearchive, 0 in the archive before, 3 now" in out
    assert len(stored(desk.site, "DEMO", "S", "A").files) == 3
    assert desk.site.rows("DEMO") == []


@pytest.mark.wide
def test_archive_under_other_labels(desk: Prearchive) -> None:
    row = desk.row("A")
    code, out, _ = desk("archive", "-P", "DEMO", row.timestamp, "A", "--subject", "T", "--label", "T_1")
    assert code == 0
    assert "subject T, session T_1" in out
    assert len(stored(desk.site, "DEMO", "T", "T_1").files) == 2
    code, out, _ = desk("archive", "-P", "DEMO", "A", "--subject", "T", "--label", "T_1")
    assert code == 0, "an interrupted run is told that it was done"
    assert "session T_1 is already archived" in out


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "words",
    [
        *(("a",), ("A", "--label", "B"), ("A", "-S", "OTHER"), ("20200101_000000000", "A")),
        ("20200101_000000000", "A", "--label", "A"),
    ],
    ids=["case", "label", "subject", "timestamp", "timestamp and label"],
)  # fmt: skip
def test_archived_is_said_only_of_the_prearchive_session_that_was_named(
    desk: Prearchive, words: tuple[str, ...]
) -> None:
    """Another label, subject or timestamp is another row: exit 3, with the rows that are there."""
    desk.row("A")
    assert desk("archive", "-P", "DEMO", "A")[0] == 0
    desk.row("C")
    code, out, err = desk("archive", "-P", "DEMO", *words)
    assert (code, out) == (3, "")
    assert "it has: C (DEMO" in err
    assert desk("archive", "-P", "DEMO", "A")[0] == 0


def test_archive_merges(desk: Prearchive) -> None:
    desk.row("A", (1, 2))
    assert desk("archive", "A")[0] == 0
    desk.row("A", (3,))
    code, out, _ = desk("archive", "A")
    assert code == 0
    assert "1 files in the prearchive, 2 in the archive before, 3 now" in out


def test_a_conflict_leaves_the_prearchive_session(desk: Prearchive) -> None:
    desk.row("A", (1, 2))
    assert desk("archive", "A")[0] == 0
    desk.row("A", (2, 3))
    code, out, _ = desk("archive", "A")
    assert code == 3
    assert out.startswith("conflict  DEMO ")
    assert "log says: Session already exists with matching files." in out
    assert [row.status for row in desk.site.rows("DEMO")] == ["CONFLICT"]


def test_files_that_archiving_threw_away_are_told(desk: Prearchive) -> None:
    """The project's anonymisation may reject objects: then the archive has fewer files than the row had."""
    desk.site.projects["DEMO"].anon_script = "reject:InstanceNumber=2"
    desk.row("A", (1, 2, 3))
    code, out, _ = desk("archive", "A")
    assert code == 3
    assert "3 files in the prearchive, 0 in the archive before, 2 now; 1 of its files are not there" in out


@pytest.mark.wide
def test_archive_all_goes_on_after_a_conflict(desk: Prearchive) -> None:
    desk.row("A")
    desk.row("B")
    desk.row("C", project="MANUAL")
    desk.site.faults.add(Fault("archive-fails", "services/archive", status=409, message="no room for A"))
    code, out, _ = desk("archive", "--all", "-P", "DEMO")
    assert code == 3
    assert [line.split()[0] for line in out.splitlines()] == ["conflict", "archived"]
    assert "no room for A" in out
    assert len(desk.site.rows("MANUAL")) == 1


@pytest.mark.wide
@pytest.mark.parametrize("action", ["archive", "move --to-project MANUAL"])
def test_a_prearchive_session_that_files_come_into_is_left_alone(desk: Prearchive, action: str) -> None:
    row = desk.row("A", built=False)
    code, out, _ = desk(*action.split(), "A")
    assert code == 5
    assert f"xnat-ingest prearchive rebuild -P DEMO {row.timestamp} A" in out
    assert row.status == "RECEIVING"
    code, out, _ = desk("rebuild", "-P", "DEMO", row.timestamp, "A")
    assert (code, row.status) == (0, "READY")
    assert "2 files" in out
    assert desk(*action.split(), "A")[0] == 0


@pytest.mark.wide
def test_delete_wants_yes(desk: Prearchive) -> None:
    rows = [desk.row("A"), desk.row("B"), desk.row("C", project="MANUAL")]
    code, out, err = desk("delete", "--all", "-P", "DEMO")
    assert code == 2
    assert [line.split()[2] for line in out.splitlines()] == ["LABEL", "A", "B"]
    assert "nothing was deleted" in err
    assert len(desk.site.prearchive.rows()) == 3
    assert desk("delete", "-P", "DEMO", rows[0].timestamp, "A", "--yes")[0] == 0
    assert [row.label for row in desk.site.rows("DEMO")] == ["B"]
    code, out, _ = desk("delete", "--all", "-P", "DEMO", "--yes")
    assert (code, len(out.splitlines())) == (0, 1)
    assert [row.label for row in desk.site.prearchive.rows()] == ["C"]
    assert desk("delete", "--all", "-P", "DEMO", "--yes")[0] == 0


def test_delete_keeps_what_has_come_since(desk: Prearchive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was READY when it was chosen, and takes files now, is not the row that was meant."""
    row = desk.row("A")
    real = actions.ActionContext.settle

    def late(self: actions.ActionContext, chosen: Any) -> Any:
        row.status = "RECEIVING"
        return real(self, chosen)

    monkeypatch.setattr(actions.ActionContext, "settle", late)
    code, out, _ = desk("delete", "A", "--yes")
    assert code == 5
    assert "files are still arriving" in out
    assert desk.site.rows("DEMO") == [row]
    assert desk("delete", "A", "--yes")[0] == 0, "one that was RECEIVING when it was chosen is meant"


@pytest.mark.parametrize("now", [{"status": "READY"}, {"lastmod": 2e9}, {}])
def test_delete_keeps_what_has_changed_since(
    desk: Prearchive, monkeypatch: pytest.MonkeyPatch, now: dict[str, Any]
) -> None:
    """Another upload has gone on with a session that was stuck, while the first one was deleted."""
    rows = [desk.row("A"), desk.row("B")]
    for row in rows:
        stuck(row)
    real = actions.ActionContext.settle

    def late(self: actions.ActionContext, chosen: Any) -> Any:
        if chosen.label == "A":
            vars(rows[1]).update(now)
        return real(self, chosen)

    monkeypatch.setattr(actions.ActionContext, "settle", late)
    code, out, _ = desk("delete", "-P", "DEMO", "--all", "--status", "CONFLICT", "--yes")
    assert (code, len(desk.site.rows("DEMO"))) == ((3, 1) if now else (0, 0)), out
    assert ("nothing was deleted. Look at it" in out) == bool(now)
    if now:
        assert desk("delete", "-P", "DEMO", "B", "--yes")[0] == 0


def test_rebuild_tells_why_it_failed(desk: Prearchive) -> None:
    desk.row("A")
    desk.site.faults.add(Fault("build-fails", "action=build", message="no DICOM in scan 4"))
    code, out, _ = desk("rebuild", "A")
    assert code == 3
    assert out.startswith("error     DEMO")
    assert "no DICOM in scan 4" in out
    stuck(desk.site.rows("DEMO")[0])
    assert desk("rebuild", "--all", "--status", "CONFLICT")[0] == 0
