"""The prearchive timestamps of a run, one for each session.

XNAT uses such a timestamp as the name of a folder, and removes that folder when it looks empty: two sessions in one
folder could lose each other.
"""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime

from xnat_ingest.core.model import Session


def timestamp(moment: datetime) -> str:
    """yyyyMMdd_HHmmssSSS. The milliseconds are drawn, so that two runs of one moment differ."""
    return f"{moment:%Y%m%d_%H%M%S}{random.SystemRandom().randrange(1000):03d}"


class Timestamps:
    """The timestamps drawn so far. Another run's timestamp of the same session differs, and tells whose row it is."""

    def __init__(self) -> None:
        self._drawn: dict[str, str] = {}
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def of(self, session: Session) -> str:
        """The session's timestamp: the same one until it is renewed."""
        with self._lock:
            if session.title not in self._drawn:
                self._drawn[session.title] = self._draw()
            return self._drawn[session.title]

    def renew(self, session: Session) -> None:
        """The session's next row gets another timestamp."""
        with self._lock:
            self._drawn.pop(session.title, None)

    def _draw(self) -> str:
        while True:
            drawn = timestamp(datetime.now(UTC))
            if drawn not in self._used:
                self._used.add(drawn)
                return drawn
