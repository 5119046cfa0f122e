"""How a run is stopped from outside, and what all its steps share: a flag set by a signal, waits and events."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

from xnat_ingest.core.errors import Stopped
from xnat_ingest.core.model import Emit, Event

# Seconds that running requests get to finish after a signal. `docker stop` kills after 10.
GRACE = 4.0
T = TypeVar("T")


class Stop:
    """Set by a signal, and checked by everything that can take long.

    told: the exit code that the run has told, in its report or in its last line. None before.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.told: Callable[[], int | None] = lambda: None

    def check(self) -> None:
        if self.signum:
            raise Stopped(self.signum)


@dataclass(frozen=True, slots=True)
class RunControl:
    """What every step of a run shares: may it go on, and whom does it tell what it does?

    stop: set by a signal
    emit: receives the events
    """

    stop: Stop
    emit: Emit

    def check(self) -> None:
        """Raises Stopped after a signal."""
        self.stop.check()

    def pause(self, seconds: float) -> None:
        """Waits. Raises Stopped when a signal comes meanwhile."""
        interruptible_sleep(self.check)(seconds)

    def warn(self, text: str) -> None:
        self.emit(Event("warning", {"text": text}))


def interruptible_sleep(check_stop: Callable[[], None]) -> Callable[[float], None]:
    """A sleep function that a signal ends early."""

    def pause(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            check_stop()

    return pause


def run_interruptibly(work: Callable[[], T], stop: Stop, grace: float) -> T:
    """Runs the work in a thread, so that a signal ends it even while a request hangs. Raises Stopped.

    A KeyboardInterrupt, in a program that catches no signals itself, ends the work alike, and is raised again.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="run")
    future = pool.submit(work)
    try:
        await_all([future], stop, grace)
        if not future.done():
            raise Stopped(stop.signum)
        return future.result()
    except (KeyboardInterrupt, SystemExit):
        stop.signum = stop.signum or signal.SIGINT
        await_all([future], stop, grace)
        raise
    finally:
        pool.shutdown(wait=not stop.signum)


def await_all(futures: Sequence[Future[Any]], stop: Stop, grace: float) -> None:
    """Waits for all of them, but only grace seconds after a signal: one may hang in a request without an answer."""
    deadline = math.inf
    for future in futures:  # one after the other: to wait for all of them costs time for each, five times a second
        while not future.done() and time.monotonic() < deadline:
            wait([future], timeout=0.2)
            if stop.signum:
                deadline = min(deadline, time.monotonic() + grace)
