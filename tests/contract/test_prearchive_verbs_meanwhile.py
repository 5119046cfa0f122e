"""`xnat-ingest prearchive` when another user archives, moves or deletes what it was about to work on.

An archived session of the same label is no proof: it may be older.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.test_prearchive_verbs import Prearchive, desk
from tests.standin import Row, StandIn

__all__ = ["desk"]

ARCHIVE = "POST /data/services/archive"
LISTED = r"GET /data/prearchive/projects/DEMO\Z"


def archived(site: StandIn, row: Row) -> None:
    site.prearchive.build(row)
    site.archiver.archive(row, site.user("up"), {}, override=False, overwrite=False)


def replaced(site: StandIn, row: Row) -> None:
    """Archived so that its files replace others of their names, as a project may have it."""
    row.status = "READY"
    site.archiver.archive(row, site.user("up"), {}, override=True, overwrite=True)


def moved(site: StandIn, row: Row) -> None:
    site.prearchive.move(row, "MANUAL")


def deleted(site: StandIn, row: Row) -> None:
    site.prearchive.forget(row)


Event = Callable[[StandIn, Row], None]


def at(
    desk: Prearchive, patch: pytest.MonkeyPatch, asked: str, event: Event, row: Row, *, turn: int = 1, after: bool
) -> None:
    """Lets something happen before or after the server answers a request for the given time."""
    answer, seen = desk.site.answer, []

    def act(request: Any) -> Any:
        is_this = bool(re.match(asked, f"{request.method} {request.path}"))
        if is_this:
            seen.append(request)
        is_turn = is_this and len(seen) == turn
        if is_turn and not after:
            event(desk.site, row)
        reply = answer(request)
        if is_turn and after:
            event(desk.site, row)
        return reply

    patch.setattr(desk.site, "answer", act)


def known(desk: Prearchive, label: str, numbers: tuple[int, ...] = (1, 2)) -> None:
    desk.row(label, numbers)
    assert desk("archive", "-P", "DEMO", label)[0] == 0


def words(out: str) -> list[str]:
    return [line.split()[0] for line in out.splitlines()]


@pytest.mark.parametrize("project", [("-P", "DEMO"), ("--status", "READY")], ids=["project", "status"])
@pytest.mark.parametrize(
    ("event", "merges", "word", "says"),
    [
        (deleted, True, "gone", "nothing shows that session B of project DEMO has its files"),
        (moved, True, "gone", "nothing shows that session B of project DEMO has its files"),
        (archived, True, "gone", "moved, deleted or archived it"),
        (deleted, False, "gone", "project DEMO has no session B"),
        (archived, False, "archived", "subject S, session B: 1 files"),
    ],
    ids=["deleted", "moved", "archived", "deleted new", "archived new"],
)
def test_before_its_turn_comes(
    desk: Prearchive,
    monkeypatch: pytest.MonkeyPatch,
    project: tuple[str, str],
    event: Event,
    merges: bool,
    word: str,
    says: str,
) -> None:
    if merges:
        known(desk, "B")
    desk.row("A")
    row = desk.row("B", (3,))
    at(desk, monkeypatch, ARCHIVE, event, row, after=True)
    code, out, _ = desk("archive", *project, "--all")
    assert (code, words(out)) == (0 if word == "archived" else 3, ["archived", word])
    assert says in out


@pytest.mark.parametrize(
    ("event", "numbers", "merges", "word"),
    [
        (deleted, (3,), True, "gone"),
        (moved, (3,), True, "gone"),
        (archived, (3,), True, "archived"),
        (deleted, (1, 2), True, "gone"),
        (deleted, (2, 3), True, "gone"),
        (deleted, (3,), False, "gone"),
        (archived, (3,), False, "archived"),
    ],
)
@pytest.mark.parametrize("asked", [ARCHIVE, r"GET /data/prearchive/projects/DEMO/\w+/B/scans\Z"])
def test_just_before_it_is_archived(
    desk: Prearchive,
    monkeypatch: pytest.MonkeyPatch,
    event: Event,
    numbers: tuple[int, ...],
    merges: bool,
    word: str,
    asked: str,
) -> None:
    """The order comes too late: the server does not know the session any more. New files must be in the archive."""
    if merges:
        known(desk, "B")
    row = desk.row("B", numbers)
    at(desk, monkeypatch, asked, event, row, after=False)
    code, out, _ = desk("archive", "-P", "DEMO", "B")
    assert (code, words(out)) == (0 if word == "archived" else 1, [word]), out


@pytest.mark.parametrize(
    ("status", "event", "numbers", "merges", "word"),
    [
        ("RECEIVING", deleted, (3,), True, "gone"),
        ("RECEIVING", moved, (3,), True, "gone"),
        ("RECEIVING", archived, (3,), True, "archived"),
        ("RECEIVING", deleted, (3,), False, "gone"),
        ("RECEIVING", archived, (3,), False, "archived"),
        ("_DELETING", deleted, (3,), True, "gone"),
        ("ARCHIVING", replaced, (1, 2), True, "archived"),
    ],
)
@pytest.mark.parametrize("turn", [1, 3], ids=["at once", "later"])
def test_waited_for(
    desk: Prearchive,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    event: Event,
    numbers: tuple[int, ...],
    merges: bool,
    word: str,
    turn: int,
) -> None:
    if merges:
        known(desk, "B")
    row = desk.row("B", numbers)
    row.status = status
    at(desk, monkeypatch, LISTED, event, row, turn=turn, after=True)
    code, out, _ = desk("wait", "-P", "DEMO", "--all")
    if turn == 1 and event is archived and merges:
        assert (code, words(out)) == (3, ["gone"]), "its files were not there to be compared"
        return
    assert (code, words(out)) == (0 if word == "archived" else 3, [word]), out


def test_of_two_sessions_with_one_label_one_is_archived(desk: Prearchive, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the archive has got of the first does not count for the second."""
    known(desk, "B")
    first = desk.row("B", (3,))
    study, first.study_uid = first.study_uid, "2.25.1"  # else the files of both come into one
    second = desk.row("B", (4,))
    first.study_uid = study
    assert first.url < second.url
    at(desk, monkeypatch, ARCHIVE, deleted, second, after=True)
    code, out, _ = desk("archive", "-P", "DEMO", "--all")
    assert (code, words(out)) == (3, ["archived", "gone"])


@pytest.mark.parametrize(
    ("event", "merges", "code", "word", "says"),
    [
        (deleted, False, 0, "deleted", "it was already gone"),
        (deleted, True, 0, "gone", "another user deleted it, or archived it"),
        (moved, True, 3, "gone", "moved it to project MANUAL (READY); nothing was deleted"),
        (archived, False, 3, "gone", "archived it (subject S, session B); nothing was deleted"),
    ],
)
def test_deleted_is_not_said_of_what_is_elsewhere(
    desk: Prearchive, monkeypatch: pytest.MonkeyPatch, event: Event, merges: bool, code: int, word: str, says: str
) -> None:
    if merges:
        known(desk, "B")
    desk.row("A")
    row = desk.row("B", (3,))
    at(desk, monkeypatch, "DELETE /data/prearchive", event, row, after=True)
    ended, out, _ = desk("delete", "-P", "DEMO", "--all", "--yes")
    assert (ended, words(out)) == (code, ["deleted", word])
    assert says in out
