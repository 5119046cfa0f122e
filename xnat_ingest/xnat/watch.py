"""Watches running requests: it limits how long each may go without progress, and can end all of them."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

# Seconds between two checks of the running requests.
LOOK = 0.2


class Watch:
    """One request. Its socket is shut down after the deadline, which ends every wait on it.

    seconds: for each step until the request is sent.
    answer: seconds from then until the header of the answer is complete.
    overdue: no progress was made in time.
    late: what that was, for a sentence.
    abandoned: the run has ended.
    """

    def __init__(self, seconds: float, answer: float, shut: Callable[[Any], None]) -> None:
        self.seconds = seconds
        self.answer = answer
        self.overdue = False
        self.late = f"no progress for {seconds:g} seconds"
        self.abandoned = False
        self._shut = shut
        self._lock = threading.Lock()
        self._socket: Any = None
        self._ours = False
        self._ended = False
        self.deadline = math.inf  # while a name is looked up and addresses are tried, which have their own limits

    def renew(self, seconds: float) -> None:
        """Notes progress: something was sent or received, or we are busy ourselves. Extends the deadline."""
        self.deadline = time.monotonic() + seconds

    def sent(self) -> None:
        """The request is sent; the header of its answer is to come."""
        self.late = f"no answer within {self.answer:g} seconds"
        self.renew(self.answer)

    def hold(self, sock: Any, *, ours: bool) -> None:
        """Sets the socket that the request uses. ours: close it with the watch."""
        with self._lock:
            self._let_go()
            self._socket, self._ours = sock, ours
            self.renew(self.seconds)
            if self.overdue or self.abandoned:
                self._shut(sock)

    def end(self) -> None:
        """The request is done. Another one may use its socket now."""
        with self._lock:
            self._ended = True
            self._let_go()

    def break_off(self, *, abandoned: bool = False) -> None:
        with self._lock:
            if self._ended:
                return
            self.abandoned |= abandoned
            self.overdue |= not abandoned
            if self._socket is not None:
                self._shut(self._socket)

    def _let_go(self) -> None:
        if self._ours and isinstance(self._socket, socket.socket):
            with suppress(OSError):
                self._socket.close()
        self._socket, self._ours = None, False


class Watchdog:
    """Checks all requests of one client, in a thread that runs while there are any."""

    def __init__(self, shut: Callable[[Any], None]) -> None:
        self._shut = shut
        self._watches: set[Watch] = set()
        self._changed = threading.Condition()
        self._runs = False
        self._closed = False
        self.abandoned = False

    @contextmanager
    def watch(self, seconds: float, answer: float) -> Iterator[Watch]:
        """Watches what is done in the block."""
        watch = Watch(seconds, answer, self._shut)
        watch.abandoned = self.abandoned
        with self._changed:
            self._watches.add(watch)
            starts, self._runs = not self._runs, True
            self._changed.notify()
        try:
            if starts:  # without the lock: where no thread can be had, the others go on
                self._start()
            yield watch
        finally:
            watch.end()
            with self._changed:
                self._watches.discard(watch)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._look, name="watchdog", daemon=True).start()
        except RuntimeError:
            self._runs = False
            raise

    def abandon(self) -> None:
        """Ends every running request, and every later one."""
        self.abandoned = True
        with self._changed:
            watches = list(self._watches)
        for watch in watches:
            watch.break_off(abandoned=True)

    def close(self) -> None:
        """Ends the thread, once there are no more requests."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _look(self) -> None:
        while True:
            with self._changed:
                if not self._watches and not self._closed:
                    self._changed.wait(60.0)  # requests are frequent: a thread for each would cost more
                if not self._watches:
                    self._runs = False
                    return
                now = time.monotonic()
                due = [watch for watch in self._watches if watch.deadline <= now and not watch.overdue]
            for watch in due:
                watch.break_off()
            time.sleep(LOOK)
