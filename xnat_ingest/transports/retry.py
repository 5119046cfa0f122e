"""A transport that repeats another one's parts where that is safe and useful: docs/guarantees.md has the table.

Sending a part again is always safe: the stored name of an instance depends on the instance alone, so what is there
already is overwritten by itself. Only parts are repeated here; a closing never is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from xnat_ingest.errors import IngestError, ServerSaid, Unreachable
from xnat_ingest.model import Instance, Receipt, Session
from xnat_ingest.pace import Pace
from xnat_ingest.pack import Part
from xnat_ingest.patience import Patience, is_passing
from xnat_ingest.rest import Rest
from xnat_ingest.transports.protocol import Transport

_UNREADABLE = re.compile(r"unable to read DICOM object (.+)")
# 400s that say that two requests met, not that this one is wrong.
_RACES = ("Concurrent file sends of the same data is not supported",)


@dataclass(slots=True)
class _History:
    """What has happened to one part. blamed: the member that the server said it could not read."""

    blamed: str = ""
    failures: int = 0
    resets: int = 0
    attempts: int = 0


class Retrying:
    """Wraps a transport. settle: waits until the server has done with a request whose reply was given up on."""

    def __init__(
        self, inner: Transport, rest: Rest, patience: Patience, pace: Pace, settle: Callable[[Session], None]
    ) -> None:
        self._inner = inner
        self._rest = rest
        self._patience = patience
        self._pace = pace
        self._settle = settle
        self._limit = 0  # the smallest part that was ever too large, in bytes; 0 while none was

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        return self._inner.parts(instances)

    def check(self) -> str:
        return self._inner.check()

    def send(self, session: Session, part: Part, sent: Callable[[int], None]) -> Receipt:
        return self._send(session, part, sent, _History())

    def _send(self, session: Session, part: Part, sent: Callable[[int], None], history: _History) -> Receipt:
        while True:
            if self._limit and part.bytes >= self._limit and len(part.instances) > 1:
                return self._send_pieces(session, _halves(part), sent, history)
            history.attempts += 1
            try:
                with self._pace.slot():
                    receipt = self._inner.send(session, part, sent)
                self._pace.good()
                disturbed = receipt.disturbed or history.failures > 0
                return replace(receipt, attempts=history.attempts, disturbed=disturbed)
            except (ServerSaid, Unreachable) as error:
                history.failures += 1
                try:
                    pieces = self._remedy(session, part, error, history)
                except _RefusedAlone as refusal:
                    refused = {part.instances[0].sop_uid: str(refusal)}
                    return Receipt((), (), 0, refused, history.attempts, disturbed=True)
            if pieces:
                return self._send_pieces(session, pieces, sent, history)

    def _remedy(
        self, session: Session, part: Part, error: ServerSaid | Unreachable, history: _History
    ) -> list[Part] | None:
        """Waits for another attempt at the part (None), or cuts it (pieces), or raises."""
        if isinstance(error, ServerSaid) and error.status == 413:
            # Halving ends by itself, so it takes nothing from the budget; parts to come are cut beforehand.
            self._limit = min(self._limit or part.bytes, part.bytes)
            if len(part.instances) == 1:
                raise _RefusedAlone(
                    f"{part.bytes} bytes in one request are more than the server, or a proxy in front of it, takes; "
                    "its administrator must raise that limit"
                )
            return _halves(part)
        if isinstance(error, ServerSaid) and error.status == 400:
            return self._after_400(part, error, history)
        if not is_passing(error):
            raise error
        self._pace.bad()
        self._patience.wait(error, history.failures)
        if isinstance(error, ServerSaid):
            if error.status == 504:
                self._settle(session)
            return None
        if error.maybe_done:
            history.resets += 1
            self._rest.get("/data/auth")  # a broken login shows here, not under the next body
            if error.timed_out:
                self._settle(session)
            if history.resets >= 2 and len(part.instances) > 1:
                return _halves(part)
        return None

    def _after_400(self, part: Part, error: ServerSaid, history: _History) -> list[Part] | None:
        """The server blames one member, whatever its trouble is: once more, then that member alone."""
        if any(race in error.sentence for race in _RACES):
            self._patience.wait(error, history.failures)
            return None
        blame = _UNREADABLE.search(error.sentence)
        culprit = next((i for i in part.instances if blame and i.name == blame[1].strip()), None)
        if culprit is None or (history.blamed and history.blamed != culprit.name):
            raise error
        if not history.blamed:
            history.blamed = culprit.name
            self._patience.wait(error, history.failures)
            return None
        if len(part.instances) == 1:
            raise _RefusedAlone(f"the server refuses this file alone, too ({error.sentence})")
        self._patience.spend(error)
        others = tuple(i for i in part.instances if i is not culprit)
        return [Part(others), Part((culprit,))]

    def _send_pieces(
        self, session: Session, pieces: list[Part], sent: Callable[[int], None], history: _History
    ) -> Receipt:
        """The pieces one after the other; a second member to be blamed means that the trouble is the server's."""
        receipts = [self._send(session, piece, sent, _History(history.blamed)) for piece in pieces]
        refused: dict[str, str] = {}
        for receipt in receipts:
            refused |= receipt.refused
        return Receipt(
            tuple(dict.fromkeys(uri for receipt in receipts for uri in receipt.uris)),
            tuple(instance for receipt in receipts for instance in receipt.instances),
            sum(receipt.bytes for receipt in receipts),
            refused,
            history.attempts + sum(receipt.attempts for receipt in receipts),
            disturbed=True,
        )


class _RefusedAlone(IngestError):
    """A part of one instance that will never be taken."""


def _halves(part: Part) -> list[Part]:
    middle = len(part.instances) // 2
    return [Part(part.instances[:middle]), Part(part.instances[middle:])]
