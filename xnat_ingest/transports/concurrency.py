"""How many parts are sent at once: one more after a round of successes, half after trouble, from 1 up to a limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ConcurrencyLimiter:
    """Additive increase, multiplicative decrease; safe to use from several threads."""

    def __init__(self, most: int) -> None:
        self.limit = most
        self._most = most
        self._in_flight = 0
        self._good = 0
        self._changed = threading.Condition()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Waits until one more may be sent."""
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight < self.limit)
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def on_success(self) -> None:
        with self._changed:
            self._good += 1
            if self._good >= self.limit < self._most:
                self._good = 0
                self.limit += 1
                self._changed.notify_all()

    def on_trouble(self) -> None:
        with self._changed:
            self._good = 0
            self.limit = max(1, self.limit // 2)
