"""`xnat-ingest prearchive`: moving, and what a user without the right is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import PASSWORD
from tests.contract.test_prearchive_verbs import Prearchive, desk
from tests.standin import Fault, User
from tests.standin.body import Request
from tests.standin.samples import Client

__all__ = ["desk"]


@pytest.mark.wide
def test_move_is_seen_in_the_target(desk: Prearchive) -> None:
    row = desk.row("A")
    code, out, _ = desk("move", "-P", "DEMO", "A", "--to-project", "MANUAL")
    assert (code, row.project) == (0, "MANUAL")
    assert "it is in project MANUAL, READY" in out
    again = desk("move", "-P", "DEMO", row.timestamp, "A", "--to-project", "MANUAL")
    assert (again[0], "it is already in project MANUAL, READY" in again[1]) == (0, True), "an interrupted run is told"
    assert desk("move", "A", "--to-project", "MANUAL")[0] == 0
    assert desk("move", "A", "--to-project", "demo-alias")[0] == 0
    assert (row.project, desk.posts("action.*move")) == ("DEMO", 2)


@pytest.mark.wide
def test_a_session_of_that_label_in_the_target_is_not_called_moved(desk: Prearchive) -> None:
    """A slip in the label or the project looks like a move that was made before."""
    row = desk.row("A", project="MANUAL")
    code, out, _ = desk("move", "-P", "DEMO", "A", "--to-project", "MANUAL")
    assert (code, out.split()[0]) == (1, "gone")
    assert f"Project MANUAL has 1 session of this label, moved before or another one: {row.timestamp} A (READY)" in out
    for number in range(6):
        desk.row("B", project="MANUAL").study_uid = f"2.25.{number}"
    code, out, _ = desk("move", "-P", "DEMO", "B", "--to-project", "MANUAL")
    assert (code, "has 6 sessions of this label" in out, out.count("B (READY)"), "..." in out) == (1, True, 5, True)
    code, _, err = desk("move", "-P", "DEMO", "20200101_101010101", "A", "--to-project", "MANUAL")
    assert (code, "has no session 20200101_101010101 A" in err) == (1, True)
    assert desk.posts("action.*move") == 0


def test_move_onto_a_prearchive_session_of_the_same_name(desk: Prearchive) -> None:
    row, other = desk.row("A"), desk.row("A", project="MANUAL")
    other.timestamp = row.timestamp
    code, out, _ = desk("move", "-P", "DEMO", "A", "--to-project", "MANUAL")
    assert code == 1
    assert "already has a prearchive session" in out
    assert row.project == "DEMO"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("target", ["READONLY", "HIDDEN", "NOWHERE"])
def test_move_where_the_user_may_not(desk: Prearchive, target: str) -> None:
    row = desk.row("A")
    code, _, err = desk("move", "A", "--to-project", target)
    assert (code, row.project) == (6, "DEMO")
    assert f"project {target}" in err
    assert "owner" in err


@pytest.mark.sampled(2)
@pytest.mark.parametrize("action", ["archive", "delete --yes", "rebuild", "move --to-project DEMO"])
def test_who_may_only_read(desk: Prearchive, action: str) -> None:
    row = desk.row("A")
    row.project = "READONLY"
    assert desk("list", "-P", "READONLY")[1].count("READY") == 1
    code, _, err = desk(*action.split(), "-P", "READONLY", "A")
    assert code == 6
    assert "may read project READONLY but not add sessions" in err
    assert desk.posts(r"services/archive|DELETE \S+prearchive|action") == 0


def test_a_right_that_is_lost_under_way(desk: Prearchive) -> None:
    desk.row("A")
    desk.site.faults.add(Fault("status", "services/archive", status=403, message="denied"))
    code, out, _ = desk("archive", "A")
    assert code == 6
    assert out.startswith("refused   DEMO")
    assert "ask its owner for member access" in out
    assert desk.posts("services/archive") == 1


@pytest.mark.wide
def test_unassigned_prearchive_sessions_are_moved_first(desk: Prearchive, monkeypatch: pytest.MonkeyPatch) -> None:
    row = desk.row("A", project="NOPE")
    assert row.key[0] == "Unassigned"
    assert "no sessions" in desk("list", "-P", "Unassigned")[1]
    desk.site.users["boss"] = User("boss", "pw", all_data=True)
    monkeypatch.setenv("XNAT_USER", "boss")
    monkeypatch.setenv("XNAT_PASS", "pw")
    assert desk("list")[1].split()[7:11] == ["Unassigned", "S", "A", "READY"]
    assert desk("list", "-P", "unassigned")[1].split()[7] == "Unassigned"
    assert desk("list", "-P", "DEMO")[1] == "no sessions\n"
    code, out, _ = desk("archive", "A")
    assert code == 1
    assert (
        f"move it to one first: xnat-ingest prearchive move -P Unassigned {row.timestamp} A --to-project PROJECT" in out
    )
    assert desk("move", "-P", "Unassigned", row.timestamp, "A", "--to-project", "DEMO")[0] == 0
    assert row.project == "DEMO"
    assert desk("archive", "A")[0] == 0


SITE_WIDE = {
    "list": (("list",), "READY"),
    "wait": (("wait", "LABEL"), "ready"),
    "delete": (("delete", "--all", "--status", "READY", "--yes"), "deleted"),
    "archive": (("archive", "--all", "--status", "READY"), "archived"),
    "rebuild": (("rebuild", "LABEL"), "rebuilt"),
    "move": (("move", "LABEL", "--to-project", "MANUAL"), "moved"),
}


@pytest.mark.parametrize("name", SITE_WIDE)
@pytest.mark.parametrize("reads", [False, True])
def test_a_login_that_a_site_with_guests_has_lost_is_noticed(
    desk: Prearchive, monkeypatch: pytest.MonkeyPatch, name: str, reads: bool
) -> None:
    """The listing of all projects is answered to a guest, too, without what is not his."""
    words, says = SITE_WIDE[name]
    desk.site.settings.require_login = False
    if reads:
        desk.site.project("DEMO").access["guest"] = "read"
    honest, asked, lost_at = desk.site.gate.enter, 0, 0

    def enter(request: Request) -> Any:
        nonlocal asked
        asked += 1
        if asked == lost_at:
            desk.site.gate.forget_all()
        return honest(request)

    monkeypatch.setattr(desk.site.gate, "enter", enter)
    first = 9 if name == "move" else 2  # a move first asks about the project
    for lost_at in range(first, first + 5):
        asked, label = 100, f"S_{lost_at}"
        desk.client = Client(desk.site.url, "up", PASSWORD).login()
        desk.row(label)
        asked = 0
        code, out, err = desk(*(label if word == "LABEL" else word for word in words))
        line = next((one for one in out.splitlines() if label in one), "")
        assert (code, says in line) == (0, True), (lost_at, out, err)


@pytest.mark.wide
def test_a_login_that_is_lost_while_it_waits(desk: Prearchive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest sees the archived session of that label, and not that the server is building another one."""
    desk.site.settings.require_login = False
    desk.site.project("DEMO").access["guest"] = "read"
    desk.row("A")
    assert desk("archive", "A")[0] == 0
    desk.row("A", (3,)).status = "_BUILDING"
    honest = desk.site.gate.enter
    before = listings(desk)

    def enter(request: Request) -> Any:
        if listings(desk) == before + 2:
            desk.site.gate.forget_all()
        return honest(request)

    monkeypatch.setattr(desk.site.gate, "enter", enter)
    code, out, err = desk("wait", "--all", "--limit", "0.6")
    assert (code, "still working on it" in out) == (5, True), out + err
    assert listings(desk) > before + 3


def listings(desk: Prearchive) -> int:
    return sum(one.path == "/data/prearchive" for one in desk.site.requests)


@pytest.mark.wide
def test_who_is_logged_in_is_asked_once_where_no_guest_is_let_in(desk: Prearchive) -> None:
    desk.row("A").status = "_BUILDING"
    assert desk("wait", "--all", "--limit", "0.5")[0] == 5
    assert listings(desk) > 2
    assert sum(one.path == "/data/auth" for one in desk.site.requests) == 1
