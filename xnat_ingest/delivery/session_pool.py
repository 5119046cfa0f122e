"""All sessions of a plan, several at a time. An error of one session becomes its verdict, and the others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

from xnat_ingest.core import Event, IngestError, Outcome, Problem, Session, Stopped, Verdict, error_kind, trace
from xnat_ingest.core.errors import exhausted
from xnat_ingest.core.stop import GRACE, RunControl, await_all
from xnat_ingest.delivery.verdicts import conflict, not_reached

# What is done with one session: its verdict, and how many request bodies that took.
SessionWork = Callable[[Session], tuple[Verdict, int]]


@contextmanager
def thread_pools(control: RunControl, *, sessions: int, parts: int) -> Iterator[tuple[SessionPool, ThreadPoolExecutor]]:
    """Threads for sessions and for their parts. After a signal nothing is waited for."""
    executors: list[ThreadPoolExecutor] = []
    try:
        for threads, name in ((parts, "part"), (sessions, "session")):
            executors.append(_started(threads, name))
        yield SessionPool(control, executors[1]), executors[0]
    finally:
        for executor in executors:
            executor.shutdown(wait=not control.stop.signum, cancel_futures=True)


def _started(threads: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads have begun, so that no session ends because one cannot be had any more.

    Where the machine allows fewer, half of what it allows: others need threads, too. Raises RuntimeError when not even
    one can be had.
    """
    executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
    all_begun = threading.Event()
    begun = 0
    try:
        for begun in range(threads):  # noqa: B007 - it is asked for after a failure
            executor.submit(all_begun.wait)
        return executor
    except RuntimeError:
        if not begun:
            raise
    finally:
        all_begun.set()
    executor.shutdown()
    return _started(begun // 2 or 1, name)


@dataclass(frozen=True, slots=True)
class SessionPool:
    control: RunControl
    executor: ThreadPoolExecutor

    def work_on(self, sessions: Sequence[Session], work: SessionWork, started: float) -> list[Outcome]:
        """An outcome for each session, in their order. started: the run's beginning, by time.monotonic()."""
        futures = [self.executor.submit(self._one, session, work, started) for session in sessions]
        await_all(futures, self.control.stop, GRACE)
        return [self._outcome(*pair) for pair in zip(futures, sessions, strict=True)]

    def _outcome(self, future: Future[Outcome], session: Session) -> Outcome:
        if future.done():
            return future.result()
        error = Stopped(self.control.stop.signum)
        return Outcome(session, replace(not_reached(session, f"{error} before the server answered"), cause=error))

    def _one(self, session: Session, work: SessionWork, started: float) -> Outcome:
        if session.conflicts:
            return self._done(Outcome(session, conflict(session, *session.conflicts)))
        if not session.instances:  # all of them set aside, by --existing skip or a filter
            return self._done(Outcome(session, Verdict("skipped")))
        begun = time.monotonic()
        fields = {"session": session.title, "instances": len(session.instances), "bytes": session.bytes}
        self.control.emit(Event("session_started", fields))
        verdict, attempts = self._verdict(session, work)
        return self._done(Outcome(session, verdict, time.monotonic() - begun, attempts, begun - started))

    def _verdict(self, session: Session, work: SessionWork) -> tuple[Verdict, int]:
        try:
            self.control.check()
            return work(session)
        except Stopped as error:
            return replace(not_reached(session, str(error)), cause=error), 0
        except IngestError as error:
            return _failed(session, str(error), error_kind(error), str(error), error), 0
        except Exception as error:  # noqa: BLE001 - a bug of ours must not cost the verdicts of other sessions
            if known := exhausted(error):
                return _failed(session, str(known), error_kind(known), str(known), known), 0
            self.control.emit(Event("error", {"text": trace(error)}))
            return _failed(session, "a bug in this program", "bug", type(error).__name__, error), 0

    def _done(self, outcome: Outcome) -> Outcome:
        session, verdict = outcome.session, outcome.verdict
        fields = {
            "session": session.title,
            "verdict": verdict.word,
            "instances": len(session.instances),
            "verified": len(verdict.verified),
            "counted": len(verdict.counted),
            "missing": len(verdict.missing),
            "failed": len(verdict.failed),
            "already_there": verdict.already_there,
            "bytes": session.bytes,
            "seconds": round(outcome.seconds, 3),
            "uri": verdict.uri,
            "problems": [problem.detail for problem in verdict.problems],
        }
        self.control.emit(Event("session_done", fields))
        return outcome


def _failed(session: Session, why: str, kind: str, detail: str, error: Exception) -> Verdict:
    problem = Problem(kind, f"{session.title}: {detail}", (session.label,))
    return Verdict("failed", failed={i.sop_uid: why for i in session.instances}, problems=(problem,), cause=error)
