"""Patterns that people wrote, tried for a limited time: some expressions would take years for one short value."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable
from functools import lru_cache
from types import FrameType

from xnat_ingest.core import UsageError

# Seconds of processor time that a pattern may take for one value.
LONGEST = 1.0
# To limit the time costs more than the usual match, which cannot take long for so few characters.
_SHORT = 300


class _TooLong(Exception):
    """The time is over."""


def timed_search(pattern: re.Pattern[str], rule: str, what: str, *, is_simple: bool) -> Callable[[str], bool]:
    """Makes a function that searches a value for the pattern, and raises UsageError when that takes too long.

    rule: the rule's name, for the message
    what: the element or the like whose values it is tried on
    is_simple: the pattern cannot take long for a short value
    """

    @lru_cache(maxsize=4096)
    def repeated(value: str) -> bool:
        return tried(value)

    def tried(value: str) -> bool:
        try:
            return _limited(lambda: pattern.search(value) is not None)
        except _TooLong:
            raise UsageError(
                f"rule {rule}: its pattern was not done after {LONGEST:g} s with one {what} of {len(value)} "
                "characters. Repetitions that can divide a text in many ways, such as (a+)+, take years; write it "
                "without them"
            ) from None

    def search(value: str) -> bool:
        if len(value) > _SHORT:
            return tried(value)
        return pattern.search(value) is not None if is_simple else repeated(value)

    return search


def _limited(match: Callable[[], bool]) -> bool:
    """Raises _TooLong after LONGEST. Only the main thread gets signals, and only if nobody else needs this timer."""
    alone = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if not alone or any(signal.getitimer(signal.ITIMER_VIRTUAL)):
        return match()
    before = signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)
    try:
        return match()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _TooLong
