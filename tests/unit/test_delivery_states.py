"""Each state of a delivery by itself, and how a session's verdict follows from what was seen."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from tests.unit.test_delivery_thresholds import instance, row, session
from xnat_ingest.core.errors import IngestError, SessionTrouble, Stopped
from xnat_ingest.core.model import Event, Session, Verdict
from xnat_ingest.core.stop import RunControl, Stop
from xnat_ingest.delivery import deliver
from xnat_ingest.delivery.commit import ConcurrentUpload
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.decision import ServerState
from xnat_ingest.delivery.deliver import Delivery
from xnat_ingest.delivery.session_pool import thread_pools
from xnat_ingest.delivery.timestamps import Timestamps
from xnat_ingest.delivery.verdicts import (
    NOT_LOOKED_FOR,
    NOT_TAKEN,
    OLD_COPY,
    given_up,
    joined,
    not_reached,
    proven,
    unproven,
    without_old_copies,
)
from xnat_ingest.inputs import Source
from xnat_ingest.transports import Transport
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.archive import ArchivedSession, Comparison, StoredFiles
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import GONE
from xnat_ingest.xnat.projects import Project
from xnat_ingest.xnat.retry_policy import RetryPolicy

ONE, TWO = instance(1, 1), instance(1, 2)
A, B = ONE.sop_uid, TWO.sop_uid


class NamesRows:
    names_session = True


def delivery(events: list[Event] | None = None, **fields: Any) -> Delivery:
    """A delivery of two instances. No state that is called here asks a server."""
    context = RunContext(
        rest=cast(XnatClient, None),
        source=cast(Source, None),
        transport=cast(Transport, NamesRows()),
        parts=cast(ThreadPoolExecutor, None),
        retry_policy=RetryPolicy(0),
        destination="archive",
        existing="resume",
        verify=True,
        proof="listing",
        timestamps=Timestamps(),
        control=RunControl(Stop(), (events if events is not None else []).append),
        projects={"P1": Project("P1", "4", may_edit=True)},
    )
    for name, value in fields.items():
        setattr(context, name, value)
    return Delivery(context, session(ONE, TWO))


def archived(*names: str) -> ServerState:
    known = ArchivedSession("X", "S_E", "S", "1.2", "xnat:mrSessionData")
    return ServerState([known], StoredFiles("/data/experiments/X", dict.fromkeys(names, 1000)))


def test_nothing_there_is_sent() -> None:
    made = delivery()
    assert made.decide(ServerState()) == made.finish_what_came_directly


def test_nothing_there_goes_directly_where_that_is_wanted() -> None:
    made = delivery(direct=NamesRows())
    assert made.decide(ServerState()) == made.send_directly


@pytest.mark.parametrize("state", [archived(ONE.name), ServerState(entries=[row()])])
def test_what_is_there_already_goes_through_the_prearchive(state: ServerState) -> None:
    """Direct archive is for sessions of which the server has nothing."""
    made = delivery(direct=NamesRows())
    assert made.decide(state) == (made.send if state.sessions else made.finish_what_came_directly)


def test_everything_there_is_verified() -> None:
    made = delivery()
    assert made.decide(archived(ONE.name, TWO.name)) == made.all_there
    verdict = made.all_there()
    assert (verdict.word, set(verdict.verified), verdict.already_there) == ("verified", {A, B}, 2)
    assert verdict.uri == "/data/experiments/X"


def test_a_conflict_ends_it_and_is_told() -> None:
    events: list[Event] = []
    other = ArchivedSession("X", "S_E", "T", "1.9", "xnat:mrSessionData")
    verdict = delivery(events).decide(ServerState([other]))
    assert isinstance(verdict, Verdict)
    assert (verdict.word, verdict.failed) == ("conflict", {A: "other-subject", B: "other-subject"})
    assert [event.name for event in events] == ["warning"]


def test_another_study_in_the_prearchive_is_nothing_to_delete() -> None:
    """It is somebody's data. Another label is the way out."""
    verdict = delivery().decide(ServerState(entries=[row(tag="1.9")]))
    assert isinstance(verdict, Verdict)
    (problem,) = verdict.problems
    assert problem.kind == "foreign-row"
    assert "holds another study under this label; give this session another label" in problem.detail
    assert "delete" not in problem.detail


def test_the_same_study_of_another_sender_can_be_archived_or_deleted() -> None:
    verdict = delivery().decide(ServerState(entries=[row(SOURCE="", prevent_auto_commit="")]))
    assert isinstance(verdict, Verdict)
    assert "was not made by this program" in verdict.problems[0].detail
    assert "prearchive delete" in verdict.problems[0].detail


def test_a_delivery_goes_from_state_to_state() -> None:
    """Each state names the next. A verdict ends it."""
    made, verdict = delivery(), Verdict("verified")
    seen: list[str] = []

    def state(name: str, following: Any) -> Callable[[], Any]:
        def step() -> Any:
            seen.append(name)
            return following

        return step

    made.ask = state("ask", state("decide", state("send", verdict)))  # type: ignore[method-assign]
    assert made.run() is verdict
    assert seen == ["ask", "decide", "send"]


def stored(verified: str = "", counted: str = "", **absent: str) -> Comparison:
    names = {"a": A, "b": B}
    sure, listed = (frozenset(names[c] for c in text) for text in (verified, counted))
    return Comparison(sure, listed, {names[c]: why for c, why in absent.items()}, {})


@pytest.mark.parametrize(
    ("now", "refused", "word", "missing", "failed"),
    [
        (stored("ab"), {}, "verified", {}, {}),
        (stored("a", "b"), {}, "counted", {}, {}),
        (stored("a", b="gone"), {}, "missing", {B: "gone"}, {}),
        (stored("a", b="gone"), {B: "cut"}, "failed", {}, {B: "cut"}),
        (stored("ab"), {B: "cut"}, "verified", {}, {}),  # an older copy of it is there
    ],
)
def test_verdict_by_what_is_stored(
    now: Comparison, refused: dict[str, str], word: str, missing: dict[str, str], failed: dict[str, str]
) -> None:
    verdict = proven(now, refused, "/u", 1, ())
    assert (verdict.word, verdict.missing, verdict.failed, verdict.already_there) == (word, missing, failed, 1)


@pytest.mark.parametrize(
    ("ignored", "refused", "word"),
    [([], {}, "unverified"), ([B], {}, "missing"), ([B], {B: "cut"}, "failed"), ([], {A: "cut"}, "failed")],
)
def test_verdict_without_looking(ignored: list[str], refused: dict[str, str], word: str) -> None:
    """Nothing counts as stored but what was archived before and was not sent again."""
    verdict = unproven([A, B], ignored, refused, stored("ab"), "/u", 0, ())
    assert (verdict.word, verdict.verified, verdict.failed) == (word, frozenset(), refused)
    assert verdict.missing == dict.fromkeys(set(ignored) - refused.keys(), NOT_TAKEN)
    assert verdict.unverified == dict.fromkeys({A, B} - set(ignored) - refused.keys(), NOT_LOOKED_FOR)


def test_an_old_copy_is_no_new_one() -> None:
    now = without_old_copies(stored("ab"), [A])
    assert now.verified == {A}
    assert now.absent == {B: OLD_COPY}


def test_both_places_together() -> None:
    now = joined(stored("a", b="not here"), stored("", "b"))
    assert (set(now.verified), set(now.counted), dict(now.absent)) == ({A}, {B}, {})
    assert joined(stored("", "a"), stored("a")).counted == frozenset()


def test_an_error_leaves_what_was_there() -> None:
    error = SessionTrouble("server-fault", "broken off")
    verdict = given_up(session(ONE, TWO), error, stored("a"), {A: "cut", B: "cut"}, "/u", 1, ())
    assert (verdict.word, set(verdict.verified), dict(verdict.failed)) == ("failed", {A}, {B: "cut"})
    assert [problem.kind for problem in verdict.problems] == ["server-fault"]
    assert verdict.cause is error


@pytest.mark.parametrize(
    ("error", "word", "kind"),
    [
        (SessionTrouble("rerouted", "no"), "failed", "rerouted"),
        (KeyError("x"), "failed", "bug"),
        (Stopped(15), "unverified", None),
    ],
)
def test_an_error_of_one_session_costs_no_other(error: Exception, word: str, kind: str | None) -> None:
    first, second = session(ONE), session(TWO)

    def work(one: Session) -> tuple[Verdict, int]:
        if one is first:
            raise error
        return Verdict("verified"), 1

    with thread_pools(RunControl(Stop(), lambda _: None), sessions=2, parts=1) as (pool, _):
        outcomes = pool.work_on([first, second], work, 0.0)
    assert [outcome.verdict.word for outcome in outcomes] == [word, "verified"]
    assert outcomes[0].verdict.cause is error
    assert [problem.kind for problem in outcomes[0].verdict.problems] == ([kind] if kind else [])


def test_not_reached_names_everything() -> None:
    assert not_reached(session(ONE, TWO), "why").unverified == {A: "why", B: "why"}
    assert issubclass(SessionTrouble, IngestError)


def test_copies_of_refused_files_are_not_called_broken_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver may store a file whole and refuse it. Its copy may be the only one: look before it is deleted."""
    one = delivery().prearchived
    one.sending.uri = "/data/prearchive/projects/P1/20240101_101010000/S_E"
    one.sending.failed = {A: "the DICOM receiver answers with status 0xC000"}
    monkeypatch.setattr(one, "built", lambda _: StoredFiles("", {ONE.name: 1}))
    with pytest.raises(SessionTrouble, match="may be broken") as caught:
        one.refuse_broken_copies([ONE, TWO])
    said = str(caught.value)
    assert "refused, or changed since" in said
    assert said.index("Look at them") < said.index("prearchive archive -P P1") < said.index("prearchive delete -P P1")
    one.refuse_broken_copies([TWO])


@pytest.mark.parametrize(
    ("differs", "found"), [({}, True), ({"timestamp": "20240101_101010001"}, False), ({"SOURCE": ""}, False)]
)
def test_only_our_own_session_is_taken_when_replies_were_empty(
    monkeypatch: pytest.MonkeyPatch, differs: dict[str, str], found: bool
) -> None:
    """What another run is sending into is left to it. Then everything was filtered, as the replies say."""
    made = delivery()
    made.sending.ignored = {A, B}
    waiting = row(**{"timestamp": made.context.timestamps.of(made.session), **differs})
    monkeypatch.setattr(prearchive, "list_sessions", lambda *_: [waiting])
    assert made.prearchived.find_unnamed() is found
    assert (made.sending.uri, made.sending.disturbed) == (waiting.uri if found else "", found)


def test_the_advice_to_delete_says_what_is_lost_with_it() -> None:
    damaged = ConcurrentUpload("/data/prearchive/projects/P1/1/S_E", is_damaged=True)
    advice = deliver._when_to_go_on(damaged)
    assert "xnat-ingest prearchive delete" in advice
    assert advice.endswith(GONE)
    assert "delete" not in deliver._when_to_go_on(ConcurrentUpload(damaged.uri))
