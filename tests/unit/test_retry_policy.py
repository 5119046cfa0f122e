"""Whether and when a request is repeated, and how many parts travel at once."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from xnat_ingest.core.errors import ServerSaid, Unreachable
from xnat_ingest.transports.concurrency import ConcurrencyLimiter
from xnat_ingest.xnat import retry_policy
from xnat_ingest.xnat.retry_policy import RetryPolicy, is_transient

FIRST_WAIT = retry_policy.BASE  # as it is outside the tests, which shorten it


def said(status: int, retry_after: str = "") -> ServerSaid:
    return ServerSaid("POST /x", status, "", retry_after)


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_statuses_that_say_later(status: int) -> None:
    assert is_transient(said(status))


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 409, 413, 500, 501])
def test_statuses_that_would_be_the_same_again(status: int) -> None:
    assert not is_transient(said(status))


def test_waits_grow_are_drawn_and_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full jitter: anything between nothing and the doubled bound, never above the cap."""
    monkeypatch.setattr(retry_policy, "BASE", 0.5)
    waits: list[float] = []
    patient = RetryPolicy(1000, waits.append)
    for _ in range(100):
        for attempt in range(1, retry_policy.MOST_ATTEMPTS):
            patient.wait(Unreachable("gone"), attempt)
    rounds = [waits[index :: retry_policy.MOST_ATTEMPTS - 1] for index in range(retry_policy.MOST_ATTEMPTS - 1)]
    for index, drawn in enumerate(rounds):
        bound = min(retry_policy.CAP, 0.5 * 2**index)
        assert max(drawn) <= bound
        assert max(drawn) > bound * 0.6
        assert min(drawn) < bound * 0.4


def test_budget_and_attempts_end_in_the_error_itself() -> None:
    patient = RetryPolicy(2, lambda seconds: None)
    error = said(503)
    patient.wait(error, 1)
    patient.wait(error, 1)
    with pytest.raises(ServerSaid) as caught:
        patient.wait(error, 1)
    assert caught.value is error
    assert patient.repeats == 2
    with pytest.raises(ServerSaid):
        RetryPolicy(100, lambda seconds: None).wait(error, retry_policy.MOST_ATTEMPTS)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 7.1),
        ("100000", 300, 300.1),
        (timedelta(seconds=40), 30, 40.1),
        (timedelta(hours=-1), 0, 0.1),
        ("soon", 0, 0.1),
        ("-5", 0, 0.1),
    ],
    ids=["seconds", "too long", "date", "past", "words", "negative"],
)
def test_retry_after(header: str | timedelta, least: float, most: float) -> None:
    """Seconds or a date, within reason; anything else is no word."""
    if isinstance(header, timedelta):
        header = format_datetime(datetime.now(UTC) + header, usegmt=True)
    waits: list[float] = []
    RetryPolicy(1, waits.append).wait(said(503, header), 1)
    assert least <= waits[0] <= most


def test_success_refills_the_budget_by_a_tenth() -> None:
    """Ten successes pay for one repeat, and never more than the budget is saved up."""
    patient = RetryPolicy(2, lambda seconds: None)
    for _ in range(2):
        patient.wait(said(503), 1)
    for _ in range(9):
        patient.succeeded()
    with pytest.raises(ServerSaid):
        patient.spend(said(503))
    patient.succeeded()
    patient.spend(said(503))
    for _ in range(1000):
        patient.succeeded()
    for _ in range(2):
        patient.spend(said(503))
    with pytest.raises(ServerSaid):
        patient.spend(said(503))
    assert patient.repeats == 5


def test_without_a_budget_nothing_is_repeated_whatever_succeeds() -> None:
    patient = RetryPolicy(0, lambda seconds: None)
    for _ in range(100):
        patient.succeeded()
    with pytest.raises(ServerSaid):
        patient.wait(said(503), 1)


@pytest.mark.parametrize(("ago", "again"), [(3500, True), (3700, False)])
def test_an_operation_is_in_trouble_for_an_hour_at_most(ago: float, again: bool) -> None:
    waits: list[float] = []
    patient = RetryPolicy(20, waits.append)
    with nullcontext() if again else pytest.raises(ServerSaid):
        patient.wait(said(503), 1, since=time.monotonic() - ago)
    assert bool(waits) == again
    assert patient.repeats == (1 if again else 0)


def test_the_bounds_that_the_guarantees_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 attempts of a request, 4 of a login, an hour for both, a tenth of a repeat for each success."""
    monkeypatch.setattr(retry_policy, "BASE", 0.0)
    monkeypatch.setattr("xnat_ingest.xnat.retry_policy.time.monotonic", lambda: 10_000.0)
    patient = RetryPolicy(20, lambda seconds: None)
    patient.wait(said(503), 7, since=10_000.0 - 3600.0)
    for attempt, since in ((8, None), (1, 10_000.0 - 3600.5)):
        with pytest.raises(ServerSaid):
            patient.wait(said(503), attempt, since=since)
    assert (retry_policy.LOGIN_ATTEMPTS, retry_policy.SUCCESSES, FIRST_WAIT, retry_policy.CAP) == (4, 10, 0.5, 30.0)


def test_a_wait_that_would_end_too_late_is_not_begun() -> None:
    with pytest.raises(ServerSaid):
        RetryPolicy(20, lambda seconds: None).wait(said(503, "250"), 1, since=time.monotonic() - 3400)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("5", None),
        ("9", None),
        ("10", "trying again in 10 seconds"),
        ("60", "trying again in 60 seconds"),
        ("99999999", "more than the limit of 300"),
        ("9" * 400, "more than the limit of 300"),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "more than the limit of 300"),
        ("Fri, 31 Dec 9999 23:59:59 -2359", "more than the limit of 300"),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_long_waits_are_told_and_capped(monkeypatch: pytest.MonkeyPatch, header: str, says: str | None) -> None:
    monkeypatch.setattr(retry_policy, "BASE", 0.0)
    told: list[str] = []
    waits: list[float] = []
    RetryPolicy(1, waits.append, told.append).wait(said(503, header), 1)
    assert waits[0] <= 301
    assert bool(told) == (says is not None)
    assert says is None or says in told[0]


def test_pace_halves_on_trouble_and_grows_by_one_a_round() -> None:
    limiter = ConcurrencyLimiter(8)
    limiter.on_trouble()
    limiter.on_trouble()
    assert limiter.limit == 2
    limiter.on_success()
    assert limiter.limit == 2
    limiter.on_success()
    assert limiter.limit == 3
    for _ in range(100):
        limiter.on_success()
    assert limiter.limit == 8
    for _ in range(10):
        limiter.on_trouble()
    assert limiter.limit == 1


def test_pace_holds_back_what_is_too_much() -> None:
    """Never more in flight than the limit, and all get their turn."""
    limiter = ConcurrencyLimiter(3)
    flying, most, done = 0, 0, 0
    lock = threading.Lock()

    def fly() -> None:
        nonlocal flying, most, done
        with limiter.slot():
            with lock:
                flying += 1
                most = max(most, flying)
            time.sleep(0.005)
            with lock:
                flying -= 1
                done += 1

    threads = [threading.Thread(target=fly) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, done) == (3, 20)


def test_pace_counts_a_whole_round_each_time() -> None:
    """As many successes as the limit is, for each step."""
    limiter = ConcurrencyLimiter(8)
    for _ in range(3):
        limiter.on_trouble()
    limits = []
    for _ in range(1 + 2 + 3):
        limiter.on_success()
        limits.append(limiter.limit)
    assert limits == [2, 2, 3, 3, 3, 4]
    fresh = ConcurrencyLimiter(2)
    fresh.limit = 1
    fresh.on_success()
    assert fresh.limit == 2
    fresh = ConcurrencyLimiter(4)
    fresh.limit = 2
    fresh.on_success()
    assert fresh.limit == 2


def test_pace_lets_a_waiting_one_in_as_soon_as_it_grows() -> None:
    limiter, entered = ConcurrencyLimiter(2), threading.Event()
    limiter.on_trouble()

    def wait() -> None:
        with limiter.slot():
            entered.set()

    with limiter.slot():
        thread = threading.Thread(target=wait)
        thread.start()
        assert not entered.wait(0.1)
        limiter.on_success()
        assert entered.wait(10)
    thread.join()
