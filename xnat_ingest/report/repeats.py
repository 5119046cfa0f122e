"""Notes that come again and again are told once, and counted."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Of notes that differ only in the session that they are about, so many are told.
MOST_ALIKE = 3
_SESSION = re.compile(r"^[^\s/]+/[^\s/]+/[^\s/:]+: |(?<=/data/)\S+|(?<=/prearchive/)\S+")


class Repeats:
    """Which notes were told. Not thread-safe: its owner holds the lock.

    alike: whether notes that differ only in their session count as one.
    """

    def __init__(self, *, alike: bool) -> None:
        self._alike = alike
        self._told: dict[str, list[str]] = {}
        self._times: dict[str, int] = {}

    def is_new(self, text: str) -> bool:
        """Whether the note is to be told now."""
        key = _SESSION.sub("", text) if self._alike else text
        told = self._told.setdefault(key, [])
        self._times[key] = self._times.get(key, 0) + 1
        if text in told or len(told) == MOST_ALIKE:
            return False
        told.append(text)
        return True

    def counted(self) -> Iterator[tuple[str, int]]:
        """The notes that came more often than they were told, each with how often it came in all; once."""
        for key, told in self._told.items():
            if self._times[key] > len(told):
                yield told[0], self._times[key]
        self._told.clear()
        self._times.clear()
