"""The promises of docs/guarantees.md that need no server, held against anything that hypothesis thinks of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as any_of

from tests.unit.test_delivery_thresholds import instance, row, session
from tests.unit.test_retrying import RESET, TIMEOUT, Bench, Scripted, said, unreadable
from xnat_ingest.core.errors import Exit, IngestError, SourceChanged, Unreachable
from xnat_ingest.core.model import Instance, Outcome, Plan, Receipt, Session, SetAside, Verdict, VerdictWord
from xnat_ingest.core.stop import RunControl, Stop
from xnat_ingest.core.text import LABEL, from_cell, inert_cell, legal_label, printable, spreadsheet_cell
from xnat_ingest.delivery.decision import Decision, ServerState, decide
from xnat_ingest.delivery.sending import Sending
from xnat_ingest.delivery.totals import check_laws, count_verdicts, exit_code
from xnat_ingest.transports.bodies import Part, cut_into_parts
from xnat_ingest.xnat.archive import ArchivedSession, StoredFiles, compare_stored, least_size

# Equal in every run: a build must not fail for what somebody else has written.
settings.register_profile("ours", max_examples=60, deadline=None, derandomize=True, database=None)
settings.load_profile("ours")

FILES = [instance(series, number) for series in (1, 2, 3) for number in (1, 2, 3)]
UIDS = {one.sop_uid for one in FILES}
SIZES = any_of.dictionaries(
    any_of.sampled_from([one.name for one in FILES] + ["other.dcm"]), any_of.sampled_from([0, 599, 600, 1000, 2000])
)
COUNTS = any_of.dictionaries(
    any_of.sampled_from(["1.2.1", "1.2.2", "1.2.3", "9"]),
    any_of.lists(any_of.sampled_from([0, 599, 600, 1000]), max_size=5),
)
HELD = any_of.builds(lambda sizes, series: StoredFiles("/data/experiments/X", sizes, series), SIZES, COUNTS)
KNOWN = any_of.builds(
    ArchivedSession,
    any_of.just("X"),
    any_of.sampled_from(["S_E", "s_e", "T"]),
    any_of.sampled_from(["S", "s", "T"]),
    any_of.sampled_from(["1.2", "9.9", ""]),
    any_of.sampled_from(["xnat:mrSessionData", "xnat:petmrSessionData", "xnat:subjectAssessorData", ""]),
)
ROWS = any_of.builds(
    row,
    status=any_of.sampled_from(["READY", "RECEIVING", "ERROR", "CONFLICT", "BUILDING"]),
    subject=any_of.sampled_from(["S", "T"]),
    tag=any_of.sampled_from(["1.2", "9.9"]),
    SOURCE=any_of.sampled_from(["uploader", ""]),
)
SOME = any_of.sets(any_of.sampled_from(sorted(UIDS))).map(frozenset)


@pytest.mark.wide
@given(HELD)
def test_every_instance_is_stored_or_absent(held: StoredFiles) -> None:
    """In one way only. By its name and a plausible size, or by the number of its series."""
    found = compare_stored(FILES, held)
    assert not found.verified & found.counted
    assert found.verified | found.counted | found.absent.keys() == UIDS
    assert not found.seen & found.absent.keys()
    for one in FILES:
        if one.sop_uid in found.verified:
            assert held.sizes[one.name] >= least_size(one)
        if one.sop_uid in found.counted:
            assert len(held.series[one.series_uid]) == 3
            assert min(held.series[one.series_uid]) >= least_size(one)
            assert one.name not in held.sizes


@pytest.mark.wide
@given(
    any_of.lists(KNOWN, max_size=2),
    HELD,
    any_of.lists(ROWS, max_size=2),
    any_of.booleans(),
    any_of.booleans(),
    any_of.sampled_from(["resume", "overwrite"]),
    SOME,
    SOME,
)
def test_a_decision_loses_nothing(
    known: Sequence[ArchivedSession],
    held: StoredFiles,
    rows: Sequence[Any],
    custom: bool,
    changes: bool,
    mode: str,
    doubtful: frozenset[str],
    replaced: frozenset[str],
) -> None:
    """What is neither stored nor in conflict is sent, now or in a later round; a foreign row is never joined."""
    state = ServerState(known, held, rows, template="${SOPInstanceUID}" * custom, changes_uids=changes)
    decision = decide(session(*FILES), state, mode, doubtful, replaced)
    sent = {one.sop_uid for one in decision.to_send}
    assert sent <= UIDS
    assert not decision.archive.seen & (doubtful | decision.archive.absent.keys())
    _holds(decision, sent, replaced - doubtful if mode == "overwrite" else decision.archive.seen)


def _holds(decision: Decision, sent: set[str], done: frozenset[str]) -> None:
    if decision.conflict:
        return
    assert UIDS - done <= sent or decision.later
    if decision.entry:
        assert (decision.entry.subject, decision.entry.study_uid) == ("S", "1.2")
        assert decision.entry.status in ("READY", "RECEIVING", "BUILDING")


TROUBLES = any_of.one_of(
    any_of.none(),
    any_of.sampled_from([said(503), said(504), said(413), said(500), said(400), RESET, TIMEOUT, Unreachable("gone")]),
    any_of.integers(1, 5).map(unreadable),
)


@pytest.mark.wide
@given(any_of.lists(TROUBLES, max_size=12), any_of.integers(0, 6), any_of.booleans())
def test_a_part_is_taken_refused_or_given_up(troubles: list[IngestError | None], budget: int, with_last: bool) -> None:
    """No instance is forgotten, whatever the server answers, and none is claimed twice. Only what was cut is resent."""
    bench = Bench(Scripted(*troubles), Scripted() if with_last else None, budget)
    wanted = {f"1.2.{number}" for number in range(1, 6)}
    try:
        receipt = bench.send(1, 2, 3, 4, 5)
    except IngestError:
        return
    taken = [one.sop_uid for one in receipt.instances]
    assert len(taken) == len(set(taken))
    assert set(taken) | receipt.refused.keys() == wanted
    assert not set(taken) & receipt.refused.keys()
    assert receipt.disturbed == (len(bench.inner.asked) > 1)
    assert bench.policy.repeats <= budget + 1


class Fickle:
    """A transport: of some files it says that they have changed; it refuses some; of others it keeps silent."""

    names_session = True

    def __init__(self, fates: Mapping[str, str]) -> None:
        self.fates = fates

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        return cut_into_parts(instances, 2500, 1)

    def send(self, _session: Session, part: Part, _sent: Any) -> Receipt:
        for one in part.instances:
            if self.fates.get(one.sop_uid) == "changed":
                raise SourceChanged(one.path, "changed", dirty=False)
        refused = {i.sop_uid: "no" for i in part.instances if self.fates.get(i.sop_uid) == "refused"}
        taken = tuple(i for i in part.instances if i.sop_uid not in self.fates)
        uris = ("/data/prearchive/projects/P1/20240101_101010000/S_E",) if taken else ()
        return Receipt(uris, taken, 1, refused)


@pytest.mark.wide
@given(any_of.dictionaries(any_of.sampled_from(sorted(UIDS)), any_of.sampled_from(["changed", "refused", "ignored"])))
def test_what_is_sent_ends_in_one_way(fates: Mapping[str, str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        one = Sending(session(*FILES), Fickle(fates), pool, RunControl(Stop(), lambda _: None))
        one.send(FILES, lambda: True)
    assert one.taken == UIDS - fates.keys()
    assert one.failed.keys() == {uid for uid, fate in fates.items() if fate != "ignored"}
    assert one.ignored == {uid for uid, fate in fates.items() if fate == "ignored"}


WORDS: tuple[VerdictWord, ...] = ("verified", "counted", "missing", "failed", "conflict", "unverified", "skipped")
REASONS = ("not-dicom", "duplicate", "truncated", "no-uid", "excluded:x")


@pytest.mark.wide
@given(any_of.lists(any_of.sampled_from(WORDS), max_size=4), any_of.lists(any_of.sampled_from(REASONS), max_size=3))
def test_exit_0_is_for_the_whole(words: list[VerdictWord], reasons: list[str]) -> None:
    """If and only if all that is planned is there, and no file of interest was left out."""
    sessions = [replace(session(instance(n, 1)), label=str(n)) for n, word in enumerate(words) if word != "skipped"]
    outcomes = []
    for one, word in zip(sessions, [word for word in words if word != "skipped"], strict=True):
        (uid,) = (i.sop_uid for i in one.instances)
        ends: dict[str, Any] = {word: frozenset({uid}) if word in ("verified", "counted") else {uid: "why"}}
        if word == "conflict":
            ends = {"failed": {uid: "why"}}
        outcomes.append(Outcome(one, Verdict(word, **ends)))
    aside = tuple(SetAside(str(n), reason) for n, reason in enumerate(reasons))
    plan = Plan("P1", tuple(sessions), aside, (), len(sessions) + len(aside))
    check_laws(count_verdicts(plan, outcomes))
    whole = bool(sessions) and all(o.verdict.word in ("verified", "counted") for o in outcomes)
    whole &= not any(one.is_problem for one in aside)
    assert (exit_code(plan, outcomes, sending=True) == Exit.OK) == whole


@pytest.mark.wide
@given(any_of.lists(any_of.tuples(any_of.integers(1, 4), any_of.integers(0, 9000)), max_size=30), any_of.integers(1, 9))
def test_parts_hold_every_instance_once(given_ones: list[tuple[int, int]], workers: int) -> None:
    files = [instance(series, n, size=size) for n, (series, size) in enumerate(given_ones)]
    parts = cut_into_parts(files, 10_000, workers)
    assert sorted(i.sop_uid for part in parts for i in part.instances) == sorted(i.sop_uid for i in files)
    assert all(part.bytes <= 10_000 for part in parts if len(part.instances) > 1)


@pytest.mark.wide
@given(any_of.text())
def test_texts_are_harmless_and_cells_come_back(text: str) -> None:
    assert printable(text).isprintable()
    printable(text).encode()
    assert not inert_cell(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert not spreadsheet_cell(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    read = from_cell(text)
    assert from_cell(spreadsheet_cell(read)) == read
    assert not text or len(legal_label(text)) > 64 or LABEL.fullmatch(legal_label(text))
