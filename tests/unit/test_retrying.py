"""Which parts are sent again, cut, or given up, by what the server answered: docs/guarantees.md has the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from xnat_ingest.core.errors import IngestError, ServerSaid, Unreachable
from xnat_ingest.core.model import Instance, Receipt, Session
from xnat_ingest.transports.bodies import Part
from xnat_ingest.transports.concurrency import ConcurrencyLimiter
from xnat_ingest.transports.retrying import Retrying
from xnat_ingest.xnat.retry_policy import LONGEST_TROUBLE, RetryPolicy

RESET = Unreachable("reset")
TIMEOUT = Unreachable("timeout", timed_out=True)
REFUSED_CONNECTION = Unreachable("nobody listens", maybe_done=False)
URI = "/data/prearchive/projects/P1/20240101_101010000/S_E"


def said(status: int, sentence: str = "") -> ServerSaid:
    return ServerSaid("POST /x", status, sentence)


def unreadable(number: int) -> ServerSaid:
    return said(400, f"unable to read DICOM object {instance(number).name}")


def instance(number: int) -> Instance:
    text = ("1", str(number), "MR", "", "1.2.840.10008.1.2.1")
    return Instance(f"1/{number}", 1000, 0, "1.2.3", f"1.2.{number}", "1.2", "1.2.1", *text, 600, {})


def part(*numbers: int) -> Part:
    return Part(tuple(instance(number) for number in numbers))


class Scripted:
    """A transport that answers with these errors, one for each part that is sent, and then takes all; asked: what was
    sent, by the numbers of the instances."""

    names_session = True

    def __init__(self, *errors: IngestError | None, always: Callable[[list[int]], IngestError | None] | None = None):
        self.errors = list(errors)
        self.always = always or (lambda _: None)
        self.asked: list[list[int]] = []
        self.notes: Counter[str] = Counter()

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        return [Part((one,)) for one in instances]

    def check(self) -> str:
        return ""

    def send(self, session: Session, part: Part, sent: Callable[[int], None]) -> Receipt:
        numbers = [int(one.instance_number) for one in part.instances]
        self.asked.append(numbers)
        if error := self.errors.pop(0) if self.errors else self.always(numbers):
            raise error
        return Receipt((URI,), part.instances, part.bytes, notes=self.notes)


class Bench:
    """A transport with its retries; calls: what was asked of the server beside it."""

    def __init__(self, inner: Scripted, last: Scripted | None = None, budget: int = 20) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self.policy = RetryPolicy(budget, lambda _: None)
        self.limiter = ConcurrencyLimiter(4)
        ask, settle = (lambda: self.calls.append("ask")), (lambda _: self.calls.append("settle"))
        self.transport = Retrying(inner, ask, self.policy, self.limiter, settle, last)

    def send(self, *numbers: int) -> Receipt:
        session = Session("P1", "S", "S_E", "1.2", "S/E", tuple(map(instance, numbers)))
        return self.transport.send(session, part(*numbers), lambda _: None)


def test_parts_are_those_of_the_transport() -> None:
    assert Bench(Scripted()).transport.parts((instance(1), instance(2))) == [part(1), part(2)]


def test_what_goes_well_is_sent_once() -> None:
    bench = Bench(Scripted())
    receipt = bench.send(1, 2)
    assert (receipt.attempts, receipt.disturbed, bench.calls) == (1, False, [])
    assert bench.limiter.limit == 4


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (said(503), []),
        (said(504), ["settle"]),
        (RESET, ["ask"]),
        (TIMEOUT, ["ask", "settle"]),
        (REFUSED_CONNECTION, []),
    ],
    ids=["503", "504", "reset", "timeout", "refused"],
)
def test_what_may_pass_is_repeated_as_it_is(error: IngestError, calls: list[str]) -> None:
    """A body that may have arrived: the server is asked whether it lives, and waited for when it may be at work."""
    bench = Bench(Scripted(error))
    receipt = bench.send(1, 2, 3, 4)
    assert bench.inner.asked == [[1, 2, 3, 4]] * 2
    assert (receipt.attempts, receipt.disturbed, bench.calls) == (2, True, calls)
    assert bench.limiter.limit == 2
    assert bench.policy.repeats == 1


def test_a_part_is_halved_when_its_connection_breaks_twice() -> None:
    bench = Bench(Scripted(RESET, RESET))
    receipt = bench.send(1, 2, 3, 4, 5)
    assert bench.inner.asked == [[1, 2, 3, 4, 5]] * 2 + [[1, 2], [3, 4, 5]]
    assert (receipt.attempts, len(receipt.instances), receipt.uris, receipt.bytes) == (4, 5, (URI,), 5000)


def test_one_break_and_another_trouble_halve_nothing() -> None:
    bench = Bench(Scripted(RESET, said(503), REFUSED_CONNECTION, RESET))
    bench.send(1, 2)
    assert bench.inner.asked == [[1, 2]] * 4 + [[1], [2]]


def test_one_instance_is_not_halved() -> None:
    bench = Bench(Scripted(RESET, RESET, RESET))
    assert bench.send(1).attempts == 4
    assert bench.inner.asked == [[1]] * 4


def test_a_part_that_is_too_large_is_halved_and_later_ones_beforehand() -> None:
    bench = Bench(Scripted(always=lambda numbers: said(413) if len(numbers) > 2 else None))
    bench.send(1, 2, 3, 4)
    assert bench.inner.asked == [[1, 2, 3, 4], [1, 2], [3, 4]]
    bench.send(5, 6, 7, 8)
    bench.send(9, 10, 11)
    assert bench.inner.asked[3:] == [[5, 6], [7, 8], [9, 10, 11], [9], [10, 11]]
    assert bench.policy.repeats == 0


def test_a_part_of_two_that_is_too_large_is_halved_beforehand() -> None:
    bench = Bench(Scripted(always=lambda numbers: said(413) if len(numbers) > 1 else None))
    bench.send(1, 2)
    bench.send(3, 4)
    assert bench.inner.asked == [[1, 2], [1], [2], [3], [4]]


def test_after_trouble_successes_raise_the_limit_again() -> None:
    bench = Bench(Scripted(said(503)))
    bench.send(1)
    bench.send(2)
    assert bench.limiter.limit == 3


def test_a_part_is_in_trouble_since_its_first_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour it is given up. A later failure does not begin the hour again."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def later(_: list[int]) -> IngestError:
        now[0] += LONGEST_TROUBLE / 3
        return said(503)

    bench = Bench(Scripted(always=later))
    with pytest.raises(ServerSaid):
        bench.send(1)
    assert len(bench.inner.asked) == 4


def test_what_the_pieces_were_told_is_told_of_the_whole() -> None:
    bench = Bench(Scripted(RESET, RESET))
    bench.inner.notes = Counter({"coerced": 1})
    assert bench.send(1, 2).notes == {"coerced": 2}


def test_one_instance_that_is_too_large_is_refused_and_not_tried_otherwise() -> None:
    last = Scripted()
    bench = Bench(Scripted(always=lambda numbers: said(413) if 2 in numbers else None), last)
    receipt = bench.send(1, 2)
    assert list(receipt.refused) == ["1.2.2"]
    assert "1000 bytes in one request are more than the server" in receipt.refused["1.2.2"]
    assert [one.sop_uid for one in receipt.instances] == ["1.2.1"]
    assert last.asked == []
    bench.send(3)  # as large, and nothing to be halved
    assert bench.inner.asked[-1] == [3]


def test_a_member_that_is_blamed_twice_goes_alone() -> None:
    bench = Bench(Scripted(always=lambda numbers: unreadable(2) if 2 in numbers else None))
    receipt = bench.send(1, 2, 3)
    assert bench.inner.asked == [[1, 2, 3]] * 2 + [[1, 3], [2]]
    assert list(receipt.refused) == ["1.2.2"]
    assert receipt.refused["1.2.2"].startswith("the server also refuses this file on its own (")
    assert receipt.refused["1.2.2"].endswith(")")
    assert receipt.bytes == 2000
    assert [one.sop_uid for one in receipt.instances] == ["1.2.1", "1.2.3"]
    assert receipt.disturbed
    assert bench.policy.repeats == 2


def test_a_member_that_is_blamed_once_was_an_accident() -> None:
    bench = Bench(Scripted(unreadable(2)))
    assert not bench.send(1, 2).refused
    assert bench.inner.asked == [[1, 2]] * 2


def test_two_members_that_are_blamed_mean_that_the_server_is_ill() -> None:
    with pytest.raises(ServerSaid, match="unable to read"):
        Bench(Scripted(unreadable(2), unreadable(1))).send(1, 2)


def test_the_blame_goes_on_in_the_pieces() -> None:
    """The others are sent without the culprit; when one of them is blamed then, that is the server's trouble."""
    with pytest.raises(ServerSaid, match="unable to read"):
        Bench(Scripted(unreadable(2), unreadable(2), unreadable(1))).send(1, 2)


@pytest.mark.parametrize("sentence", ["", "object 9 contains no SOP Class UID", "something else"])
def test_a_400_that_blames_nobody_is_not_repeated(sentence: str) -> None:
    bench = Bench(Scripted(said(400, sentence)))
    with pytest.raises(ServerSaid):
        bench.send(1, 2)
    assert len(bench.inner.asked) == 1


def test_two_requests_that_met_are_repeated() -> None:
    bench = Bench(Scripted(said(400, "Concurrent file sends of the same data is not supported, it seems")))
    assert bench.send(1).attempts == 2
    assert bench.policy.repeats == 1  # it waited before


def test_a_study_date_that_xnat_cannot_read_is_told_at_once() -> None:
    dated: Any = replace(instance(1), flaw="study-date")
    last = Scripted()
    bench = Bench(Scripted(said(400, f"unable to read DICOM object {dated.name}")), last)
    session = Session("P1", "S", "S_E", "1.2", "S/E", (dated,))
    receipt = bench.transport.send(session, Part((dated,)), lambda _: None)
    assert "StudyDate" in receipt.refused["1.2.1"]
    assert receipt.refused["1.2.1"].endswith(")")
    assert (receipt.disturbed, receipt.bytes) == (True, 0)
    assert (len(bench.inner.asked), last.asked) == (1, [])


@pytest.mark.parametrize("status", [401, 403, 404, 409, 500])
def test_what_would_be_the_same_again_is_not_repeated(status: int) -> None:
    bench = Bench(Scripted(said(status)))
    with pytest.raises(ServerSaid):
        bench.send(1, 2)
    assert (len(bench.inner.asked), bench.limiter.limit) == (1, 4)


# -- the last resort


def test_what_is_broken_off_each_time_goes_the_other_way_once() -> None:
    last = Scripted()
    bench = Bench(Scripted(always=lambda _: RESET), last, budget=1)
    receipt = bench.send(1, 2)
    assert (bench.inner.asked, last.asked) == ([[1, 2]] * 2, [[1], [2]])
    assert (receipt.attempts, len(receipt.instances), receipt.disturbed) == (4, 2, True)
    assert bench.calls == ["ask", "ask"]


def test_what_is_refused_alone_goes_the_other_way_once() -> None:
    last = Scripted()
    bench = Bench(Scripted(always=lambda numbers: unreadable(2) if 2 in numbers else None), last)
    assert not bench.send(1, 2).refused
    assert last.asked == [[2]]


def test_when_the_other_way_fails_too_the_first_reason_is_told() -> None:
    last = Scripted(said(500))
    with pytest.raises(Unreachable, match="reset"):
        Bench(Scripted(always=lambda _: RESET), last, budget=1).send(1, 2)
    assert last.asked == [[1]]


@pytest.mark.parametrize("error", [TIMEOUT, REFUSED_CONNECTION], ids=["timeout", "refused"])
def test_a_server_that_is_slow_or_gone_is_not_tried_otherwise(error: Unreachable) -> None:
    last = Scripted()
    with pytest.raises(Unreachable):
        Bench(Scripted(always=lambda _: error), last, budget=1).send(1)
    assert last.asked == []


def test_only_a_dicom_receivers_successes_earn_repeats_here() -> None:
    """What goes by HTTP has been counted by the client."""
    for names_session, left in ((True, 1), (False, 2)):
        inner = Scripted(always=lambda numbers: said(503) if numbers == [99] else None)
        inner.names_session = names_session
        bench = Bench(inner, budget=2)
        bench.policy.spend(said(503))
        for number in range(10):
            bench.send(number)
        with pytest.raises(ServerSaid):
            bench.send(99)
        assert bench.policy.repeats == 1 + left


def test_looks_at_a_server_in_trouble_give_no_retry_back() -> None:
    """They succeed, many in a row, and nothing is sent."""
    bench = Bench(Scripted(always=lambda _: TIMEOUT), budget=2)

    def look(*_: Session) -> None:
        for _number in range(100):
            bench.policy.succeeded()

    bench.transport = Retrying(bench.inner, look, bench.policy, bench.limiter, look)
    with pytest.raises(Unreachable):
        bench.send(1)
    assert len(bench.inner.asked) == 3
    bench.policy.succeeded()  # afterwards they count again: ten of them are a retry
    with pytest.raises(Unreachable):
        bench.policy.spend(RESET)
    for _ in range(9):
        bench.policy.succeeded()
    bench.policy.spend(RESET)
