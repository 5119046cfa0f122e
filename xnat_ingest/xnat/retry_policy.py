"""Whether a request is repeated, and when: by tries and time for each, by the share of failures for the run."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from xnat_ingest.core.errors import IngestError, ServerSaid, Unreachable

# Waits grow from BASE by doubling up to CAP; each is drawn between nothing and that, so that clients which failed
# together do not come back together. Seconds.
BASE = 0.5
CAP = 30.0
LONGEST_RETRY_AFTER = 300.0
# Waits that are worth a word to whoever watches the run.
WORTH_A_WORD = 10.0
# How long one operation may be in trouble, from its first failure on: a part of 128 MB takes a quarter of an hour on a
# slow line, and may fail more than once.
LONGEST_TROUBLE = 3600.0
# Successes that earn one repeat back: a run may repeat one request in so many for ever.
SUCCESSES = 10
# Of one request, the first included: a request that fails so often will not be mended by one more.
MOST_ATTEMPTS = 8
# Of a login: whoever waits at a terminal, or a scheduler that has its own retries, is told soon.
LOGIN_ATTEMPTS = 4
TRANSIENT = frozenset({408, 429, 502, 503, 504})


def is_transient(error: IngestError) -> bool:
    """Whether the cause may go away by itself: no answer, or a status that says "later"."""
    return isinstance(error, Unreachable) or (isinstance(error, ServerSaid) and error.status in TRANSIENT)


class RetryPolicy:
    """Shared by everything in a run that repeats a request.

    budget: repeats that may follow one another without a success; each repeat takes one, SUCCESSES give one back, so
        that a night of small troubles does not end at its end.
    pause: waits, and raises Stopped when the run is to end.
    say: told what is waited for, when that takes long.
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
        self._random = random.SystemRandom()

    def wait(self, error: IngestError, attempt: int, most: int = MOST_ATTEMPTS, since: float | None = None) -> None:
        """Waits before another attempt, or raises the error when there is to be none.

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
            longer = f"; the server asked for more, {LONGEST_RETRY_AFTER:.0f} seconds are the most" if capped else ""
            self._say(f"{error}; trying again in {wait:.0f} seconds{longer}")
        self.pause(wait)

    def spend(self, error: IngestError) -> None:
        """Takes one repeat from the budget without waiting; raises the error when it is used up."""
        with self._lock:
            if self._left < SUCCESSES:
                raise error
            self._left -= SUCCESSES
            self.repeats += 1

    def succeeded(self) -> None:
        """A request was answered as it should be."""
        with self._lock:
            self._left = min(self._budget, self._left + 1)


def _retry_after(error: IngestError) -> tuple[float, bool]:
    """Seconds that the server asked for, and whether it asked for more; 0 without a word, or with one that is neither a
    number nor a date."""
    text = error.retry_after.strip()[:100] if isinstance(error, ServerSaid) else ""
    if text.isdecimal():
        wanted = float(text)
    else:
        try:
            wanted = parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            wanted = 0.0
    return min(max(wanted, 0.0), LONGEST_RETRY_AFTER), wanted > LONGEST_RETRY_AFTER
