"""`xnat-ingest prearchive` under trouble: locked rows, lost replies, archiving that goes on, waiting, Ctrl-C."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import stored
from tests.contract.test_prearchive_verbs import Prearchive, desk, stuck
from tests.standin import Fault, StandIn
from xnat_ingest.commands.prearchive import actions as staging
from xnat_ingest.xnat import prearchive

__all__ = ["desk"]

ARCHIVE = "services/archive"
PATIENCE = 30.0


class Meanwhile:
    """Does something when the command has had a certain answer of the server, as another client would just then."""

    def __init__(self, site: StandIn) -> None:
        self._site = site
        self._threads: list[threading.Thread] = []

    def __call__(self, answer: str, action: Callable[[], object], times: int = 1) -> None:
        """answer: a pattern in what is asked for and the answer's text; times: how often it must have come."""
        begin = len(self._site.requests)

        def wait() -> None:
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                told = [f"{one.path} {one.reply.decode()}" for one in self._site.requests[begin:]]
                if sum(bool(re.search(answer, one)) for one in told) >= times:
                    action()
                    return
                time.sleep(0.01)

        self._threads.append(threading.Thread(target=wait))
        self._threads[-1].start()

    def end(self) -> None:
        for thread in self._threads:
            thread.join()


@pytest.fixture
def meanwhile(desk: Prearchive) -> Iterator[Meanwhile]:
    made = Meanwhile(desk.site)
    yield made
    made.end()


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("fault", "asked"),
    [
        (Fault("slow-archive", ARCHIVE, seconds=0.3), 1),
        (Fault("timeout", ARCHIVE, seconds=0.4), 1),
        (Fault("reset-reply", ARCHIVE), 1),
        (Fault("status", ARCHIVE, status=502, work=True), 1),
        (Fault("status", ARCHIVE, status=504), 2),
        (Fault("status", ARCHIVE, status=503), 2),
        (Fault("reset", ARCHIVE), 2),
        (Fault("status", ARCHIVE, status=403, message="Operation already in progress on this prearchive entry."), 2),
    ],
    ids=lambda value: value.kind + str(value.status) if isinstance(value, Fault) else "",
)
def test_archiving_is_followed_and_never_repeated_blindly(desk: Prearchive, fault: Fault, asked: int) -> None:
    desk.row("A", (1, 2))
    desk.site.faults.add(fault)
    code, out, err = desk("archive", "A")
    assert code == 0, out + err
    assert fault.hits == 1
    assert "2 files in the prearchive, 0 in the archive before, 2 now" in out
    assert len(stored(desk.site, "DEMO", "S", "A").files) == 2
    assert desk.posts(ARCHIVE) == asked


@pytest.mark.wide
def test_a_prearchive_session_that_archives_by_itself_is_answered_with_a_redirection(desk: Prearchive) -> None:
    desk.row("A")
    assert desk("archive", "A")[0] == 0
    assert [r.status for r in desk.site.requests if ARCHIVE in r.path] == [303]
    desk.row("B", project="MANUAL")
    assert desk("archive", "B")[0] == 0
    assert [r.status for r in desk.site.requests if ARCHIVE in r.path] == [303, 200]


def test_what_is_listed_under_a_wrong_address_is_not_called_deleted(
    desk: Prearchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = desk.row("A")
    monkeypatch.setattr(desk.site.prearchive, "find", lambda *_: None)
    code, out, _ = desk("delete", "A", "--yes")
    assert (code, desk.posts(row.timestamp)) == (1, 0)
    assert "nothing was deleted. Look at it in XNAT" in out


@pytest.mark.parametrize(
    ("words", "other"),
    [
        ("delete --yes A", ("A", "MANUAL")),
        ("delete --yes A", ("B", "DEMO")),
        ("move --to-project MANUAL A", ("B", "DEMO")),
        ("rebuild A", ("B", "DEMO")),
    ],
)
def test_an_answer_about_another_prearchive_session_is_not_followed(
    desk: Prearchive, monkeypatch: pytest.MonkeyPatch, words: str, other: tuple[str, str]
) -> None:
    """A cache or a proxy may mix up answers. Only what the listing named is changed."""
    desk.row("A")
    wrong = desk.row(other[0], project=other[1])
    monkeypatch.setattr(desk.site.prearchive, "find", lambda *_: wrong)
    code, out, _ = desk(*words.split(), "-P", "DEMO")
    assert (code, desk.posts("DELETE .*prearchive|action=")) == (1, 0), out
    assert "the answer is about another prearchive session" in out
    assert "deleted" not in out


@pytest.mark.parametrize(("status", "word"), [(409, "conflict"), (500, "error")])
def test_a_lost_reply_of_an_archiving_that_failed(desk: Prearchive, status: int, word: str) -> None:
    row = desk.row("A")
    desk.site.faults.add(Fault("reset-reply", ARCHIVE))
    desk.site.faults.add(Fault("archive-fails", ARCHIVE, status=status, message="no room"))
    code, out, _ = desk("archive", "A")
    assert (code, out.split()[0]) == (3, word)
    assert "log says: no room" in out
    assert (desk.posts(ARCHIVE), row.status) == (1, word.upper())


def test_a_server_that_stays_in_trouble(desk: Prearchive) -> None:
    row = desk.row("A")
    desk.site.faults.add(Fault("status", ARCHIVE, status=503, times=None))
    code, out, _ = desk("archive", "A")
    assert code == 5
    assert "the session is unchanged, run the same again later" in out
    assert (desk.posts(ARCHIVE), row.status) == (3, "READY")


def test_an_old_conflict_is_not_taken_for_the_servers_answer(desk: Prearchive) -> None:
    stuck(desk.row("A"), log="an old story")
    desk.site.faults.add(Fault("status", ARCHIVE, status=503, times=None))
    code, out, _ = desk("archive", "A")
    assert (code, out.split()[0]) == (5, "failed")
    assert "an old story" not in out


@pytest.mark.wide
def test_a_server_that_begins_after_the_proxy_gave_up(
    desk: Prearchive, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row still looks untouched when the answer comes; it is watched before anything is asked again."""
    monkeypatch.setattr(staging, "WATCH", 5.0)
    row = desk.row("A")
    desk.site.faults.add(Fault("status", ARCHIVE, status=504))

    def begin() -> None:
        desk.site.archiver.archive(row, desk.site.user("up"), {}, override=False, overwrite=False)

    meanwhile(ARCHIVE, begin)
    assert desk("archive", "A")[0] == 0
    assert desk.posts(ARCHIVE) == 1


def test_an_answer_that_is_not_true(desk: Prearchive) -> None:
    """A proxy's 200, and XNAT's own to the move of a row that has just been locked."""
    desk.row("A")
    desk.site.faults.add(Fault("empty", "action=move"))
    code, out, _ = desk("move", "A", "--to-project", "MANUAL")
    assert code == 5
    assert "reported success, but the session still has status READY" in out
    desk.site.faults.add(Fault("empty", "DELETE .*prearchive"))
    assert desk("delete", "A", "--yes")[0] == 5


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("action", "match", "status"),
    [
        ("delete --yes", "DELETE .*prearchive", "READY"),
        ("move --to-project MANUAL", "action=move", "READY"),
        ("rebuild", "action=build", "CONFLICT"),
    ],
)
@pytest.mark.parametrize("kind", ["reset-reply", "reset", "locked"])
def test_other_actions_are_looked_at_too(desk: Prearchive, action: str, match: str, status: str, kind: str) -> None:
    desk.row("A").status = status
    fault = desk.site.faults.add(Fault(kind, match))
    code, out, err = desk(*action.split(), "A")
    assert code == 0, out + err
    assert fault.hits == 1
    worked = [r for r in desk.site.requests if r.method in ("POST", "DELETE") and r.status in (200, 301)]
    # The request whose reply was lost did the work, and is not among those that were answered.
    assert sum("prearchive" in r.path for r in worked) == (kind != "reset-reply")


@pytest.mark.wide
@pytest.mark.parametrize("action", ["archive", "delete --yes", "rebuild", "move --to-project MANUAL"])
def test_a_locked_prearchive_session_is_waited_for(desk: Prearchive, action: str, meanwhile: Meanwhile) -> None:
    row = desk.row("A")
    row.status = "_BUILDING"
    meanwhile("_BUILDING", lambda: setattr(row, "status", "READY"))
    code, out, err = desk(*action.split(), "A")
    assert code == 0, out + err
    assert "waiting for the server, at most 900 s; the session is _BUILDING" in err


@pytest.mark.sampled(2)
@pytest.mark.parametrize("action", ["archive", "delete --yes", "rebuild", "move --to-project MANUAL", "wait"])
def test_a_prearchive_session_that_stays_locked(desk: Prearchive, action: str) -> None:
    row = desk.row("A")
    row.status = "_ARCHIVING"
    code, out, err = desk(*action.split(), "A", "--limit", "0.1", "-q")
    assert (code, err) == (5, "")
    assert out.startswith("busy      DEMO")
    assert "run the same again later" in out
    assert desk.posts(r"services/archive|DELETE \S+prearchive|action") == 0


@pytest.mark.wide
def test_a_prearchive_session_that_another_archives_meanwhile(desk: Prearchive, meanwhile: Meanwhile) -> None:
    row = desk.row("A")
    row.status = "QUEUED_ARCHIVING"

    def end() -> None:
        desk.site.archiver.archive(row, desk.site.user("up"), {}, override=False, overwrite=False)

    meanwhile("QUEUED_ARCHIVING", end)
    code, out, _ = desk("archive", "-P", "DEMO", "A")
    assert code == 0
    assert out.endswith("subject S, session A: 2 files\n")
    assert desk.posts(ARCHIVE) == 0


@pytest.mark.wide
@pytest.mark.parametrize("action", ["archive", "rebuild", "move --to-project MANUAL"])
def test_a_prearchive_session_that_another_deletes_meanwhile(
    desk: Prearchive, action: str, meanwhile: Meanwhile
) -> None:
    row = desk.row("A")
    row.status = "DELETING"
    meanwhile("DELETING", lambda: desk.site.prearchive.forget(row))
    code, out, _ = desk(*action.split(), "A")
    assert (code, out.split()[0]) == (1, "gone")


@pytest.mark.wide
def test_wait_until_all_is_done(desk: Prearchive, meanwhile: Meanwhile) -> None:
    rows = [desk.row("A"), desk.row("B", built=False), desk.row("C")]
    rows[0].status = "ARCHIVING"

    def end() -> None:
        desk.site.archiver.archive(rows[0], desk.site.user("up"), {}, override=False, overwrite=False)
        desk.site.prearchive.build(rows[1])

    meanwhile(
        "ARCHIVING", end, times=2
    )  # when the command looks for the second time, it has found something to wait for
    code, out, err = desk("wait", "-P", "DEMO", "--all")
    assert code == 0
    assert sorted(line.split()[0] for line in out.splitlines()) == ["archived", "ready", "ready"]
    assert "waiting for 2 sessions" in err
    assert desk("wait", "-P", "DEMO", "A")[:2] == (
        0,
        "archived  DEMO A: nothing left in the prearchive; session A is already archived (subject S)\n",
    )
    assert desk("wait", "-P", "MANUAL", "A")[0] == 1


@pytest.mark.wide
def test_wait_ends_as_the_prearchive_sessions_do(desk: Prearchive, meanwhile: Meanwhile) -> None:
    desk.row("A")
    late = desk.row("B", built=False)
    code, out, _ = desk("wait", "--all", "--limit", "0.1")
    assert code == 5
    assert f"xnat-ingest prearchive rebuild -P DEMO {late.timestamp} B" in out
    stuck(late)
    code, out, _ = desk("wait", "--all")
    assert code == 3
    assert "log says: Session already exists" in out
    late.status = "DELETING"
    meanwhile("DELETING", lambda: desk.site.prearchive.forget(late))
    code, out, _ = desk("wait", "B")
    assert (code, out.split()[0]) == (3, "gone")


def test_who_may_only_read_may_wait(desk: Prearchive) -> None:
    desk.row("A").project = "READONLY"
    assert desk("wait", "-P", "READONLY", "A")[0] == 0
    assert desk("wait", "-P", "HIDDEN", "A")[0] == 6


@pytest.mark.wide
def test_ctrl_c_says_how_to_go_on(desk: Prearchive, monkeypatch: pytest.MonkeyPatch) -> None:
    row = desk.row("A")
    desk.row("B")
    first = prearchive.settle
    seen = []

    def settle(rest: object, uri: str, *rest_of: object) -> object:
        seen.append(uri)
        if uri.endswith("/B"):
            raise KeyboardInterrupt
        return first(rest, uri, *rest_of)  # type: ignore[arg-type]  # what came is passed on

    monkeypatch.setattr(prearchive, "settle", settle)
    code, out, err = desk("archive", "-P", "DEMO", "--all")
    assert code == 130
    assert out.startswith(f"archived  DEMO {row.timestamp} A")
    assert "to go on" in err
    monkeypatch.setattr(prearchive, "settle", first)
    assert desk("archive", "-P", "DEMO", "--all")[0] == 0
    assert len(desk.site.sessions("DEMO")) == 2


def test_a_lost_login_ends_all(desk: Prearchive) -> None:
    desk.row("A")
    desk.row("B")
    desk.site.faults.add(Fault("status", ARCHIVE, status=401, times=None))
    code, _, err = desk("archive", "-P", "DEMO", "--all")
    assert code == 6
    assert "no longer accepts user up" in err
    assert desk.posts(ARCHIVE) <= 2
