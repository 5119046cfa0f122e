"""A transport that retries another one's parts when that is useful. docs/guarantees.md has the table.

Sending a part again is always safe: the stored name of an instance depends only on the instance, so it overwrites its
own earlier copy. Only parts are retried here, never a commit.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from xnat_ingest.core import IngestError, Instance, Receipt, ServerSaid, Session, Unreachable
from xnat_ingest.transports.bodies import Part
from xnat_ingest.transports.concurrency import ConcurrencyLimiter
from xnat_ingest.transports.protocol import Transport
from xnat_ingest.xnat.retry_policy import RetryPolicy, is_transient

# 400s about one file of a part.
_BLAMED = re.compile(r"unable to read DICOM object (.+)|object (.+) contains no SOP (?:Class|Instance) UID")
# 400s that mean that two requests collided. Neither of them is wrong.
_RACES = ("Concurrent file sends of the same data is not supported",)


@dataclass(slots=True)
class _History:
    """The history of one part.

    blamed: the member that the server said it could not read.
    since: when it first failed, by time.monotonic().
    """

    blamed: str = ""
    since: float | None = None
    failures: int = 0
    resets: int = 0
    attempts: int = 0


class Retrying:
    """Wraps a transport.

    check_alive: raises when the server or the login is gone.
    settle: waits until the server has finished a request that timed out.
    last_resort: the transport for a last attempt before a part is given up.
    """

    def __init__(
        self,
        inner: Transport,
        check_alive: Callable[[], object],
        retry_policy: RetryPolicy,
        limiter: ConcurrencyLimiter,
        settle: Callable[[Session], None],
        last_resort: Transport | None = None,
    ) -> None:
        self._inner = inner
        self._check_alive = check_alive
        self._retry_policy = retry_policy
        self._limiter = limiter
        self._settle = settle
        self._last_resort = last_resort
        self._limit = 0  # bytes of the smallest part that was too large so far; 0: none was

    @property
    def names_session(self) -> bool:
        return self._inner.names_session

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        return self._inner.parts(instances)

    def send(self, session: Session, part: Part, sent: Callable[[int], None]) -> Receipt:
        return self._send(session, part, sent, _History())

    def _send(self, session: Session, part: Part, sent: Callable[[int], None], history: _History) -> Receipt:
        while True:
            if self._limit and part.bytes >= self._limit and len(part.instances) > 1:
                return self._send_pieces(session, _halves(part), sent, history)
            history.attempts += 1
            try:
                with self._limiter.slot():
                    receipt = self._inner.send(session, part, sent)
                self._limiter.on_success()
                if not self.names_session:  # a DICOM receiver: HTTP requests are counted elsewhere
                    self._retry_policy.succeeded()
                disturbed = receipt.disturbed or history.failures > 0
                return replace(receipt, attempts=history.attempts, disturbed=disturbed)
            except (ServerSaid, Unreachable) as error:
                history.failures += 1
                history.since = history.since or time.monotonic()
                try:
                    pieces = self._remedy(session, part, error, history)
                except (_RefusedAlone, Unreachable) as given_up:
                    fallback = _fallback_may_help(given_up, error)
                    if fallback and (last := self._send_by_fallback(session, part, sent, history)):
                        return last
                    if isinstance(given_up, Unreachable):
                        raise
                    refused = {part.instances[0].sop_uid: str(given_up)}
                    return Receipt((), (), 0, refused, history.attempts, disturbed=True)
            if pieces:
                return self._send_pieces(session, pieces, sent, history)

    def _remedy(
        self, session: Session, part: Part, error: ServerSaid | Unreachable, history: _History
    ) -> list[Part] | None:
        """Waits for another attempt (returns None), or splits the part (returns pieces), or raises."""
        if isinstance(error, ServerSaid) and error.status == 413:
            # Halving comes to an end, so it takes nothing from the budget. Later parts are split in advance.
            self._limit = min(self._limit or part.bytes, part.bytes)
            if len(part.instances) == 1:
                raise _RefusedAlone(
                    f"{part.bytes} bytes in one request are more than the server, or a proxy in front of it, accepts; "
                    "its administrator must raise the limit",
                    is_final=True,
                )
            return _halves(part)
        if isinstance(error, ServerSaid) and error.status == 400:
            return self._isolate_rejected_file(part, error, history)
        if not is_transient(error):
            raise error
        self._limiter.on_trouble()
        self._retry_policy.wait(error, history.failures, since=history.since)
        if isinstance(error, ServerSaid):
            if error.status == 504:
                self._watch(session)
            return None
        if error.maybe_done:
            history.resets += 1
            with self._retry_policy.in_trouble():
                self._check_alive()  # so that a lost login shows here, not with the next body
            if error.timed_out:
                self._watch(session)
            if history.resets >= 2 and len(part.instances) > 1:
                return _halves(part)
        return None

    def _watch(self, session: Session) -> None:
        with self._retry_policy.in_trouble():
            self._settle(session)

    def _isolate_rejected_file(self, part: Part, error: ServerSaid, history: _History) -> list[Part] | None:
        """The server blames one member. Sends the part once more, then that member separately."""
        if any(race in error.sentence for race in _RACES):
            self._retry_policy.wait(error, history.failures, since=history.since)
            return None
        blame = _BLAMED.search(error.sentence)
        name = (blame[1] or blame[2]).strip() if blame else ""
        # In a part of one instance there is no doubt. A member sent to its own address is blamed by that address.
        alone = len(part.instances) == 1
        culprit = next((i for i in part.instances if blame and (alone or i.name == name)), None)
        if alone and culprit and culprit.flaw == "study-date":
            why = f"XNAT refuses a StudyDate that does not begin with a year ({error.sentence})"
            raise _RefusedAlone(why, is_final=True)
        if culprit is None or (history.blamed and history.blamed != culprit.name):
            raise error
        if not history.blamed:
            history.blamed = culprit.name
            self._retry_policy.wait(error, history.failures, since=history.since)
            return None
        if alone:
            raise _RefusedAlone(f"the server also refuses this file on its own ({error.sentence})")
        self._retry_policy.spend(error)
        others = tuple(i for i in part.instances if i is not culprit)
        return [Part(others), Part((culprit,))]

    def _send_pieces(
        self, session: Session, pieces: list[Part], sent: Callable[[int], None], history: _History
    ) -> Receipt:
        """Sends the pieces one after the other. If a second member is blamed, the fault is the server's."""
        return _joined([self._send(session, piece, sent, _History(history.blamed)) for piece in pieces], history)

    def _send_by_fallback(
        self, session: Session, part: Part, sent: Callable[[int], None], history: _History
    ) -> Receipt | None:
        """Sends the part by the last resort, once. None when there is none, or when it does not send everything.

        A content filter may let small requests through although it breaks off archives. Then single files may pass.
        """
        if self._last_resort is None:
            return None
        receipts: list[Receipt] = []
        try:
            self._check_alive()  # so that a server that is gone is not tried once per file
            for piece in self._last_resort.parts(part.instances):
                history.attempts += 1
                with self._limiter.slot():
                    receipts.append(replace(self._last_resort.send(session, piece, sent), attempts=0))
        except (ServerSaid, Unreachable):
            return None
        return _joined(receipts, history)


def _fallback_may_help(given_up: _RefusedAlone | Unreachable, error: ServerSaid | Unreachable) -> bool:
    """Whether the last resort may help: the part was refused on its own, but not for its size, or always reset.

    given_up: the final error. If it differs from the error itself, it comes from checking the server.
    """
    if isinstance(given_up, _RefusedAlone):
        return not given_up.is_final
    return given_up is error and given_up.maybe_done and not given_up.timed_out


def _joined(receipts: Sequence[Receipt], history: _History) -> Receipt:
    """The receipt of a part that was sent in pieces. history: of the whole part."""
    refused: dict[str, str] = {}
    notes: Counter[str] = Counter()
    for receipt in receipts:
        refused |= receipt.refused
        notes.update(receipt.notes)
    return Receipt(
        tuple(dict.fromkeys(uri for receipt in receipts for uri in receipt.uris)),
        tuple(instance for receipt in receipts for instance in receipt.instances),
        sum(receipt.bytes for receipt in receipts),
        refused,
        history.attempts + sum(receipt.attempts for receipt in receipts),
        disturbed=True,
        notes=notes,
    )


class _RefusedAlone(IngestError):
    """A part of one instance that the server will never accept."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


def _halves(part: Part) -> list[Part]:
    middle = len(part.instances) // 2
    return [Part(part.instances[:middle]), Part(part.instances[middle:])]
