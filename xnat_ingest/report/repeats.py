"""Repeated notes are shown once, with a count."""

from __future__ import annotations

import re
from collections.abc import Iterator

# How many notes are shown that differ only in their session.
MOST_ALIKE = 3
_SESSION = re.compile(r"^[^\s/]+/[^\s/]+/[^\s/:]+: |(?<=/data/)\S+|(?<=/prearchive/)\S+")


class Repeats:
    """The notes that were shown. Not thread-safe: its owner holds the lock.

    alike: whether notes that differ only in their session count as the same.
    """

    def __init__(self, *, alike: bool) -> None:
        self._alike = alike
        self._told: dict[str, list[str]] = {}
        self._times: dict[str, int] = {}

    def is_new(self, text: str) -> bool:
        """Whether to show the note now."""
        key = _SESSION.sub("", text) if self._alike else text
        told = self._told.setdefault(key, [])
        self._times[key] = self._times.get(key, 0) + 1
        if text in told or len(told) == MOST_ALIKE:
            return False
        told.append(text)
        return True

    def counted(self) -> Iterator[tuple[str, int]]:
        """The notes that came more often than they were shown, each with its total count. Returns them only once."""
        for key, told in self._told.items():
            if self._times[key] > len(told):
                yield told[0], self._times[key]
        self._told.clear()
        self._times.clear()
