"""Whether a request is repeated, and when: one budget for a whole run, full jitter, Retry-After."""

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
# Of one request, the first included: a request that fails so often will not be mended by one more.
MOST_ATTEMPTS = 8
# Of a login: whoever waits at a terminal, or a scheduler that has its own retries, is told soon.
LOGIN_ATTEMPTS = 4
PASSING = frozenset({408, 429, 502, 503, 504})


def is_passing(error: IngestError) -> bool:
    """Whether the cause may go away by itself: no answer, or a status that says "later"."""
    return isinstance(error, Unreachable) or (isinstance(error, ServerSaid) and error.status in PASSING)


class Patience:
    """Shared by everything in a run that repeats a request. pause: waits, and raises Stopped when the run is to end."""

    def __init__(self, budget: int = 20, pause: Callable[[float], None] = time.sleep) -> None:
        self.pause = pause
        self.repeats = 0
        self._budget = budget
        self._lock = threading.Lock()
        self._random = random.SystemRandom()

    def wait(self, error: IngestError, attempt: int, most: int = MOST_ATTEMPTS) -> None:
        """Waits before another attempt, or raises the error when there is to be none.

        attempt: how many have failed, from 1; most: how many there may be.
        """
        if attempt >= most:
            raise error
        self.spend(error)
        asked = _retry_after(error)
        self.pause(asked + self._random.uniform(0, min(CAP, BASE * 2 ** (attempt - 1))))

    def spend(self, error: IngestError) -> None:
        """Takes one repeat from the budget without waiting; raises the error when it is used up."""
        with self._lock:
            if self.repeats >= self._budget:
                raise error
            self.repeats += 1


def _retry_after(error: IngestError) -> float:
    """Seconds that the server asked for; 0 without a word, or with one that is neither a number nor a date."""
    text = error.retry_after.strip() if isinstance(error, ServerSaid) else ""
    if text.isdecimal():
        return min(float(text), LONGEST_RETRY_AFTER)
    try:
        wanted = parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError):
        return 0.0
    return min(max(wanted, 0.0), LONGEST_RETRY_AFTER)
