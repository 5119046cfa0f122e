"""Whether a text holds a date, whichever day it is: in numbers however they are divided, or with a month's name.

A year has four digits (19xx, 20xx), or two where a whole date is written. Months and days must be possible ones.
"""

from __future__ import annotations

import re

from xnat_ingest.core.months import MONTHS

# Names that mean something else, too: T1 mar, dec 2. They count beside a year, or a day of two digits.
DOUBTFUL = frozenset("mar mars marco may mayo sep oct dec".split())  # noqa: SIM905
# Names that are other words of sequences: out 10, mag 12, FEV1. They count beside a year alone.
OTHER_WORDS = frozenset("abr ago dic ene fev gen lug mag maj mrt out set".split())  # noqa: SIM905

# A digit with a letter before it is no day and no month: T1 feb.
_DAY = r"(?<!\d)(?:0[1-9]|[12]\d|3[01]|(?<![a-z])[1-9])(?!\d)"
_MONTH = r"(?<!\d)(?:0[1-9]|1[0-2]|(?<![a-z])[1-9])(?!\d)"
_D, _M = r"(?:0?[1-9]|[12]\d|3[01])(?!\d)", r"(?:0?[1-9]|1[0-2])(?!\d)"
_DD, _MM = r"(?:0[1-9]|[12]\d|3[01])", r"(?:0[1-9]|1[0-2])"
_YEAR = r"(?<!\d)(?:19|20)\d\d(?!\d)"
_YEAR_OR_TWO = r"(?:(?:19|20)\d\d|\d\d)(?!\d)"
_BY, _MAY = "[^0-9a-z]{1,3}", "[^0-9a-z]{0,3}"
# Three numbers of two digits between colons are a time of day.
_SAME = "([^0-9a-z:]{1,3})"
# Between a month and a year. Numbers with blanks, commas or brackets between them are mostly a list.
_NEXT_TO = r"\s?[^0-9a-z\s,;:()=+*\[\]]\s?"
_ORDINAL = "(?:st|nd|rd|th|er|[aeo])?"
_OF = f"{_MAY}(?:(?:de|of|di|del|den){_BY})?"
_ROMAN = "(?:i{1,3}|iv|vi{0,3}|ix|xi{0,2})"


def _one_of(names: frozenset[str]) -> str:
    return rf"(?<![^\W\d_])(?:{'|'.join(sorted(names, key=lambda name: (-len(name), name)))})(?![^\W\d_])"


_NAMES = frozenset().union(*MONTHS)
_NAME, _DOUBTFUL, _CLEAR = _one_of(_NAMES), _one_of(DOUBTFUL), _one_of(_NAMES - DOUBTFUL - OTHER_WORDS)
_FROM_DIGIT = (
    # Of any four digits and with any numbers, as it has always been: dates of other calendars are among them.
    r"(?<!\d)\d{4}[./-]\d{1,2}[./-]\d{1,2}(?!\d)", r"(?<!\d)\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})(?!\d)",
    f"{_YEAR}{_BY}{_M}{_BY}{_D}", f"{_DAY}{_BY}{_M}{_BY}{_YEAR}", f"{_MONTH}{_BY}{_D}{_BY}{_YEAR}",
    rf"(?<!\d){_DD}{_SAME}{_MM}\1\d\d(?!\d)", rf"(?<!\d){_MM}{_SAME}{_DD}\2\d\d(?!\d)",
    rf"(?<!\d)\d\d{_SAME}{_MM}\3{_DD}(?!\d)",
    rf"(?<!\d[.,]){_MONTH}{_NEXT_TO}{_YEAR}", rf"{_YEAR}{_NEXT_TO}{_M}(?![.,]\d)",
    rf"{_MONTH}\s?[月월]\s?{_D}", f"{_DAY}{_BY}{_ROMAN}{_BY}{_YEAR}",
    f"{_YEAR}{_OF}{_NAME}", f"{_DAY}{_ORDINAL}{_OF}{_NAME}{_OF}{_YEAR_OR_TWO}",
    f"{_DAY}{_ORDINAL}{_OF}{_CLEAR}", rf"(?<!\d){_DD}{_ORDINAL}{_OF}{_DOUBTFUL}",
)  # fmt: skip
_FROM_NAME = (
    f"{_NAME}{_OF}{_YEAR}", f"{_NAME}{_OF}{_D}{_ORDINAL}{_MAY}{_YEAR_OR_TWO}",
    rf"{_CLEAR}{_OF}(?:[1-9]|\d\d)(?!\d)", rf"{_DOUBTFUL}{_OF}\d\d(?!\d)",
)  # fmt: skip
_DATE = re.compile(rf"(?=\d)(?:{'|'.join(_FROM_DIGIT)})|(?=[a-z])(?:{'|'.join(_FROM_NAME)})")


def holds_date(text: str) -> bool:
    """Whether a text in small letters, or a folded one, holds a date."""
    return _DATE.search(text) is not None
