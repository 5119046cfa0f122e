"""The counts of a run: two laws, and the exit code that follows."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from tests.unit.test_bodies import instance
from xnat_ingest.core.errors import (
    EXIT_MEANING,
    PRECEDENCE,
    Exit,
    IngestError,
    LawBroken,
    Refused,
    ServerSaid,
    SourceChanged,
    Stopped,
    Unreachable,
    UsageError,
)
from xnat_ingest.core.model import NOTES, Outcome, Plan, Problem, Session, SetAside, Verdict, VerdictWord
from xnat_ingest.delivery.totals import check_laws, count_verdicts, exit_code

NOTE_REASONS = (
    "excluded:AAHEAD", "not-dicom", "duplicate", "dicomdir", "server-filter:x", "session-exists", "link", "other-shard",
    "nested-archive",
)  # fmt: skip
PROBLEM_REASONS = (
    "unreadable", "truncated", "conflicting-duplicate", "no-uid", "outside-layout", "unsafe-name", "too-large",
)  # fmt: skip


def session(label: str, instances: int = 2, *, conflict: bool = False) -> Session:
    members = tuple(instance(n, 10, series=label) for n in range(instances))
    conflicts = (Problem("two-studies", "two", (label,)),) if conflict else ()
    return Session("DEMO", "s", label, f"1.{label}", f"s/{label}", members, conflicts)


def plan(sessions: Sequence[Session], *reasons: str) -> Plan:
    aside = tuple(SetAside(f"aside{n}", reason) for n, reason in enumerate(reasons))
    return Plan("DEMO", tuple(sessions), aside, (), sum(len(s.instances) for s in sessions) + len(aside))


def outcome(of: Session, word: VerdictWord, cause: Exception | None = None) -> Outcome:
    """All instances of the session end as the word says."""
    uids = [i.sop_uid for i in of.instances]
    ends = {"verified": frozenset(uids), "counted": frozenset(uids)}
    whys = {word: dict.fromkeys(uids, "why")} if word in ("missing", "failed", "unverified") else {}
    whys |= {"failed": dict.fromkeys(uids, "conflict")} if word == "conflict" else {}
    verdict = Verdict(
        word,
        verified=ends[word] if word == "verified" else frozenset(),
        counted=ends[word] if word == "counted" else frozenset(),
        missing=whys.get("missing", {}),
        failed=whys.get("failed", {}),
        unverified=whys.get("unverified", {}),
        cause=cause,
    )
    return Outcome(of, verdict)


@pytest.mark.parametrize("reason", NOTE_REASONS)
def test_notes_do_not_spoil_a_run(reason: str) -> None:
    """Set aside, said, and exit 0."""
    assert not SetAside("f", reason).is_problem
    assert reason.partition(":")[0] in NOTES


@pytest.mark.parametrize("reason", PROBLEM_REASONS)
def test_problems_do(reason: str) -> None:
    """Something the user expects on the server will not be there."""
    assert SetAside("f", reason).is_problem


@pytest.mark.parametrize("seed", range(5))
def test_what_is_counted_obeys_the_laws(seed: int) -> None:
    """Any mixture of verdicts and reasons: each file and each instance once."""
    draw = random.Random(seed)
    words: list[VerdictWord] = ["verified", "counted", "missing", "failed", "unverified", "conflict"]
    sessions = [session(f"e{n}", draw.randrange(1, 9)) for n in range(12)]
    outcomes = [outcome(one, draw.choice(words)) for one in sessions]
    reasons = [draw.choice(NOTE_REASONS + PROBLEM_REASONS) for _ in range(20)]
    totals = count_verdicts(plan(sessions, *reasons), outcomes)
    check_laws(totals)
    assert totals["set_aside"] == 20
    assert totals["excluded"] == sum(reason.startswith("excluded:") for reason in reasons)
    assert totals["bytes_planned"] == 10 * totals["planned"]
    conflicted = [o.session for o in outcomes if o.verdict.word in ("conflict", "failed")]
    assert totals["failed"] == sum(len(one.instances) for one in conflicted)


def test_only_a_rule_excludes() -> None:
    assert count_verdicts(plan([], "excluded:x", "excluded-by-nobody"), [])["excluded"] == 1


def test_instances_there_already_count_twice_on_purpose() -> None:
    """As verified, and in already_there; the laws hold all the same."""
    one = session("e")
    verdict = Verdict("verified", verified=frozenset(i.sop_uid for i in one.instances), already_there=2)
    totals = count_verdicts(plan([one]), [Outcome(one, verdict)])
    check_laws(totals)
    assert (totals["verified"], totals["already_there"]) == (2, 2)


@pytest.mark.parametrize(
    "name", ["files_seen", "planned", "set_aside", "verified", "missing", "failed", "unverified", "counted"]
)
@pytest.mark.parametrize("by", [1, -1])
def test_a_count_that_is_wrong_by_one_is_a_bug(name: str, by: int) -> None:
    """Exit 70, not a report that lies."""
    one, two = session("e"), session("f")
    totals = count_verdicts(plan([one, two], "not-dicom"), [outcome(one, "verified"), outcome(two, "missing")])
    totals[name] += by
    with pytest.raises(LawBroken) as caught:
        check_laws(totals)
    assert caught.value.exit_code == 70


def test_a_session_left_out_or_told_twice_breaks_the_law() -> None:
    """An outcome that is forgotten cannot hide."""
    one, two = session("e"), session("f")
    for outcomes in ([outcome(one, "verified")], [outcome(one, "verified")] * 3):
        with pytest.raises(LawBroken):
            check_laws(count_verdicts(plan([one, two]), outcomes))


E1, E2 = session("e1"), session("e2")
OK, OK2 = outcome(E1, "verified"), outcome(E2, "verified")
GONE, NO, BUG = (outcome(E1, "failed", cause) for cause in (Unreachable("x"), Refused("x"), KeyError("x")))
NO2, GONE2, BUG2 = (outcome(E2, "failed", cause) for cause in (Refused("x"), Unreachable("x"), KeyError("x")))
INT2, TERM2 = (outcome(E2, "unverified", Stopped(signum)) for signum in (2, 15))
CODES: dict[str, tuple[Plan, list[Outcome], dict[str, bool], int]] = {
    "all-verified": (plan([E1, E2]), [OK, OK2], {}, 0),
    "counted": (plan([E1]), [outcome(E1, "counted")], {}, 0),
    "notes": (plan([E1], *NOTE_REASONS[:-1]), [OK], {}, 0),
    "problem-aside": (plan([E1], "not-dicom", "truncated"), [OK], {}, 3),
    "missing": (plan([E1, E2]), [OK, outcome(E2, "missing")], {}, 3),
    "failed": (plan([E1, E2]), [OK, outcome(E2, "failed")], {}, 3),
    "conflict": (plan([E1, session("e3", conflict=True)]), [OK, outcome(session("e3"), "conflict")], {}, 3),
    "unverified": (plan([E1]), [outcome(E1, "unverified")], {}, 3),
    "no-verify": (plan([E1]), [outcome(E1, "unverified")], {"no_verify": True}, 0),
    "no-verify-missing": (plan([E1]), [outcome(E1, "missing")], {"no_verify": True}, 3),
    "skipped": (plan([E1]), [OK, outcome(E2, "skipped")], {}, 0),
    "nothing": (plan([]), [], {}, 4),
    "nothing-but-notes": (plan([], "not-dicom", "excluded:x"), [], {}, 4),
    "nothing-but-sessions-that-exist": (plan([], "session-exists", "not-dicom"), [], {}, 0),
    "nothing-but-problems": (plan([], "truncated"), [], {}, 3),
    "nothing-allowed": (plan([], "not-dicom"), [], {"allow_empty": True}, 0),
    "nothing-allowed-but-problems": (plan([], "truncated"), [], {"allow_empty": True}, 3),
    "planned": (plan([E1]), [outcome(E1, "unverified")], {"sending": False}, 0),
    "planned-conflict": (plan([session("e", conflict=True)]), [outcome(E1, "conflict")], {"sending": False}, 3),
    "planned-problem": (plan([E1], "no-uid"), [outcome(E1, "unverified")], {"sending": False}, 3),
    "unreachable": (plan([E1]), [GONE], {}, 5),
    "unreachable-in-part": (plan([E1, E2]), [OK, GONE2], {}, 3),
    "unreachable-after-counted": (plan([E1, E2]), [outcome(E1, "counted"), GONE2], {}, 3),
    "unreachable-without-a-check": (plan([E1]), [GONE], {"no_verify": True}, 5),
    "unreachable-after-one-unchecked": (plan([E1, E2]), [outcome(E1, "unverified"), GONE2], {"no_verify": True}, 3),
    "unreachable-after-nothing": (plan([E1, E2]), [outcome(E1, "unverified"), GONE2], {}, 5),
    "conflict-on-the-server": (plan([E1, E2]), [OK, outcome(E2, "conflict")], {}, 3),
    "unavailable": (plan([E1]), [outcome(E1, "failed", ServerSaid("GET /", 503, ""))], {}, 5),
    "busy": (plan([E1]), [outcome(E1, "failed", ServerSaid("GET /", 429, ""))], {}, 5),
    "refused": (plan([E1]), [NO], {}, 6),
    "refused-by-status": (plan([E1]), [outcome(E1, "failed", ServerSaid("GET /", 403, ""))], {}, 6),
    "refused-in-part": (plan([E1, E2]), [NO, OK2], {}, 3),
    "refused-beats-temporary": (plan([E1, E2]), [GONE, NO2], {}, 6),
    "other-status": (plan([E1]), [outcome(E1, "failed", ServerSaid("GET /", 400, ""))], {}, 3),
    "source-changed": (plan([E1]), [outcome(E1, "failed", SourceChanged("f", "why", dirty=False))], {}, 3),
    "interrupted": (plan([E1, E2]), [OK, INT2], {}, 130),
    "terminated": (plan([E1, E2]), [OK, TERM2], {}, 143),
    "bug": (plan([E1, E2], "truncated"), [OK, BUG2], {}, 70),
    "bug-beats-signal": (plan([E1, E2]), [BUG, INT2], {}, 70),
    "signal-beats-refused": (plan([E1, E2]), [NO, TERM2], {}, 143),
    "temporary-beats-problem": (plan([E1], "truncated"), [GONE], {}, 5),
}  # fmt: skip


@pytest.mark.parametrize("name", CODES)
def test_the_strongest_code_that_applies(name: str) -> None:
    """70, 130/143, 2, 6, 5, 3, 1, 4, 0; temporary and refused only where nothing was delivered."""
    of, outcomes, options, code = CODES[name]
    assert exit_code(of, outcomes, **{"sending": True, **options}) == code


def test_the_order_and_the_table_are_complete() -> None:
    """Every code has a place and a meaning; the order is the contract's."""
    assert [int(code) for code in PRECEDENCE] == [70, 130, 143, 2, 6, 5, 3, 1, 4, 0]
    assert set(EXIT_MEANING) == set(Exit) == set(PRECEDENCE)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IngestError("x"), 1),
        (UsageError("x"), 2),
        (Unreachable("x"), 5),
        (Refused("x"), 6),
        (ServerSaid("x", 401, ""), 6),
        (ServerSaid("x", 404, ""), 1),
        (ServerSaid("x", 408, ""), 5),
        (ServerSaid("x", 500, ""), 5),
        (SourceChanged("x", "y", dirty=True), 1),
        (Stopped(2), 130),
        (Stopped(15), 143),
        (LawBroken("x"), 70),
    ],
    ids=lambda value: f"{type(value).__name__}-{value}" if isinstance(value, Exception) else "",
)
def test_each_error_knows_its_code(error: IngestError, code: int) -> None:
    """The tree of errors is told apart by what the user can do."""
    assert error.exit_code == code
