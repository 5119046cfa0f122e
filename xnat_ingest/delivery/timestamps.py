"""The prearchive timestamps of a run, one for each session.

XNAT uses the timestamp as the name of a folder, and removes the folder when it looks empty. With two sessions in one
folder, the end of one could delete the other.
"""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime

from xnat_ingest.core import Session


def timestamp(moment: datetime) -> str:
    """yyyyMMdd_HHmmssSSS. The milliseconds are random, so that two runs that start together almost always differ."""
    return f"{moment:%Y%m%d_%H%M%S}{random.SystemRandom().randrange(1000):03d}"


class Timestamps:
    """The timestamps in use. Another run has another one for the same session, so it tells whose session that is."""

    def __init__(self) -> None:
        self._drawn: dict[str, str] = {}
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def of(self, session: Session) -> str:
        """The session's timestamp. It stays the same until it is renewed."""
        with self._lock:
            if session.title not in self._drawn:
                self._drawn[session.title] = self._draw()
            return self._drawn[session.title]

    def renew(self, session: Session) -> None:
        """The session's next prearchive session gets another timestamp."""
        with self._lock:
            self._drawn.pop(session.title, None)

    def _draw(self) -> str:
        while True:
            drawn = timestamp(datetime.now(UTC))
            if drawn not in self._used:
                self._used.add(drawn)
                return drawn
