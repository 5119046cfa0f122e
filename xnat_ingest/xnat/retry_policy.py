"""Whether and when a request is retried: limited by tries and time per request, and by a budget for the run."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

from xnat_ingest.core import IngestError, ServerSaid, Unreachable

# Waits double from BASE up to CAP, in seconds. Each is a random part of that, so that clients which failed at the same
# time do not return at the same time.
BASE = 0.5
CAP = 30.0
LONGEST_RETRY_AFTER = 300.0
# Waits from this length on are reported.
WORTH_A_WORD = 10.0
# How long one operation may be retried after its first failure. On a slow line a part of 128 MB takes a quarter of an
# hour, and may fail more than once.
LONGEST_TROUBLE = 3600.0
# How many successes give one retry back. A run can go on forever if no more than one in this many requests fails.
SUCCESSES = 10
# Tries of one request, including the first. One that fails this often will not succeed the next time.
MOST_ATTEMPTS = 8
# Tries of a login. A person at a terminal, or a scheduler with its own retries, should get the error soon.
LOGIN_ATTEMPTS = 4
TRANSIENT = frozenset({408, 429, 502, 503, 504})


def is_transient(error: IngestError) -> bool:
    """Whether trying again later may help: there was no answer, or a status that means "later"."""
    return isinstance(error, Unreachable) or (isinstance(error, ServerSaid) and error.status in TRANSIENT)


class RetryPolicy:
    """Shared by everything in a run that retries a request.

    budget: how many retries the run has. Each retry takes one, and SUCCESSES give one back, so a long run does not end
        because of many small failures.
    pause: waits, and raises Stopped when the run is to end.
    say: gets a message when a wait is long.
    """

    def __init__(
        self,
        budget: int = 20,
        pause: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.pause = pause
        self.repeats = 0
        self._say = say
        self._budget = self._left = budget * SUCCESSES
        self._lock = threading.Lock()
        self._here = threading.local()
        self._random = random.SystemRandom()

    def wait(self, error: IngestError, attempt: int, most: int = MOST_ATTEMPTS, since: float | None = None) -> None:
        """Waits before the next attempt, or raises the error when there is to be none.

        attempt: how many have failed, from 1.
        most: how many there may be.
        since: when the first one failed, by time.monotonic().
        """
        asked, capped = _retry_after(error)
        wait = asked + self._random.uniform(0, min(CAP, BASE * 2 ** (attempt - 1)))
        if attempt >= most or (since is not None and time.monotonic() + wait - since > LONGEST_TROUBLE):
            raise error
        self.spend(error)
        if wait >= WORTH_A_WORD:
            longer = f" (the server asked for more than the limit of {LONGEST_RETRY_AFTER:.0f})" if capped else ""
            self._say(f"{error}; trying again in {wait:.0f} seconds{longer}")
        self.pause(wait)

    def spend(self, error: IngestError) -> None:
        """Takes one retry from the budget without waiting. Raises the error when none is left."""
        with self._lock:
            if self._left < SUCCESSES:
                raise error
            self._left -= SUCCESSES
            self.repeats += 1

    def succeeded(self) -> None:
        """Notes that a request succeeded."""
        if getattr(self._here, "in_trouble", False):
            return
        with self._lock:
            self._left = min(self._budget, self._left + 1)

    @contextmanager
    def in_trouble(self) -> Iterator[None]:
        """Successes of this thread give nothing back. While the server is watched after a failure, there are many of
        them, and none is progress."""
        self._here.in_trouble = True
        try:
            yield
        finally:
            self._here.in_trouble = False


def _retry_after(error: IngestError) -> tuple[float, bool]:
    """(seconds to wait, whether the server asked for more). 0 for a missing or invalid Retry-After."""
    text = error.retry_after.strip()[:100] if isinstance(error, ServerSaid) else ""
    if text.isdecimal():
        wanted = float(text)
    else:
        try:
            wanted = parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            wanted = 0.0
    return min(max(wanted, 0.0), LONGEST_RETRY_AFTER), wanted > LONGEST_RETRY_AFTER
