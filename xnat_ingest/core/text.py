"""Text from outside, turned into legal labels, harmless spreadsheet cells, and names that can be printed."""

from __future__ import annotations

import difflib
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence

from xnat_ingest.core.months import months_of

LABEL = re.compile(r"[A-Za-z0-9_-]{1,64}")
# A placeholder for a label that cannot be made. Two sessions without a label do not share it.
NO_LABEL = "(no label)"


def legal_label(text: str) -> str:
    """The text with an underscore for every character that XNAT does not accept in a label."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", composed(text))


def composed(text: str) -> str:
    """The text in NFC: file systems and spreadsheets write accented letters in two ways."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def read_as_utf8(name: str, encoding: str = sys.getfilesystemencoding()) -> str:
    """A file name in UTF-8, where the locale took it for something else.

    Disks hold UTF-8, whatever the locale is: a label that depends on it would make two subjects of one person.

    encoding: the locale's. A name that is no UTF-8 is returned as it is.
    """
    try:
        return name.encode(encoding, "surrogateescape").decode("utf-8")
    except UnicodeError:
        return name


# Blanks around the text of a cell mean nothing.
_BLANKS = " \t\r\n\xa0"
# What spreadsheets run as a formula, or a blank that is part of the text; then what they turn into a number or a date:
# 007, 1E5, 3-4, 3/4, 1.2.03. Other dates: _dates.
_FORMULA = re.compile(r"[=+\-@\t\r\n\xa0']")
_CHANGED = re.compile(r"0\d+|\d{12,}|\d+[eE]\d+|\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4})?")
# Spreadsheets keep so many digits of a number.
_DIGITS = 15
# What stands between the parts of a date, or behind them: 1-2, 01. Mrz, Mar '24, 3月.
_BETWEEN = "/.,' \xa0年月日-"
_DATE_PART = re.compile(rf"\d+|[^\W\d_{_BETWEEN}]+")


# Where a spreadsheet divides a cell in two if it takes this sign for the separator, so that the rest is a formula. The
# second one has the apostrophe that inert_cell puts there.
_DIVIDED, _GUARDED = re.compile(r"([;\t])(?='*[=+\-@])"), re.compile(r"([;\t])'(?='*[=+\-@])")


def inert_cell(text: str) -> str:
    """A cell that no spreadsheet runs: an apostrophe is put before a formula, other text stays as it is."""
    text = _DIVIDED.sub(r"\1'", text)
    return f"'{text}" if re.match(r"[=+\-@\t\r]", text) else text


def spreadsheet_cell(text: str) -> str:
    """A cell that no spreadsheet runs or changes: an apostrophe is put before text that it would."""
    text = _DIVIDED.sub(r"\1'", text)
    changes = _CHANGED.fullmatch(text) or _dates(text)
    return f"'{text}" if _FORMULA.match(text) or changes else text


def from_cell(cell: str) -> str:
    """The text of a cell, without blanks around it, the apostrophes of spreadsheet_cell, or ="..." ."""
    text = cell.strip(_BLANKS)
    if text.startswith('="') and text.endswith('"') and len(text) > 2:
        return text[2:-1].replace('""', '"').strip()
    return _GUARDED.sub(r"\1", text.removeprefix("'")).strip(" ")


def without_zeros(text: str) -> str:
    """The text without leading zeros in its numbers, and without decimals of zero, as a spreadsheet writes it."""
    text = re.sub(r"(?<=\d)[.,]0+\Z", "", text)
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def is_rewritten(text: str) -> bool:
    """Whether a spreadsheet seems to have rewritten a long number or 1E5: as in 1.23E+05, or with zeros at its end.

    Spreadsheets keep 15 digits of a number. One zero behind them may be right.
    """
    return re.fullmatch(r"\d([.,]\d+)?[Ee]\+\d+|[1-9]\d{14}0{2,}", text) is not None


def is_rounded(text: str, known: str) -> bool:
    """Whether text is a number of which a spreadsheet has kept 15 digits. known: as it was written."""
    if not (text != known and len(text) == len(known) > _DIGITS and f"{text}{known}".isdecimal()):
        return False
    near = abs(int(text[:_DIGITS]) - int(known[:_DIGITS])) <= 1
    return near and not text[_DIGITS:].strip("0")


def is_made_a_date(text: str, known: str) -> bool:
    """Whether text is a date that a spreadsheet has made of known, such as 1-Feb of 1-2 or 01.03.2026 of MAR1.

    It has the numbers of known, in any order, and maybe one more: a year, or the first of the month.
    """
    if text == known or re.fullmatch(r"\d+-\d+", text):  # no spreadsheet shows a date as 3-4
        return False
    return any(not was - now and (now - was).total() <= 1 for was in _dates(known) for now in _dates(text))


def _dates(text: str) -> list[Counter[int]]:
    """The numbers of the dates that text can be taken for. A month's name is its number; years have two digits.

    A spreadsheet decides by its language which number is the month.
    """
    text = composed(text)
    parts = _DATE_PART.findall(text)
    if not 2 <= len(parts) <= 3 or _DATE_PART.sub("", text).strip(_BETWEEN):
        return []
    numbers = [part for part in parts if part.isdecimal()]
    names = [part for part in parts if not part.isdecimal()]
    years = [number for number in numbers if len(number) > 2]
    if len(names) > 1 or len(years) > 1 or any(len(year) != 4 for year in years):
        return []
    found = Counter(int(number) % 100 for number in numbers)
    if names:
        return [found + Counter([month]) for month in months_of(names[0])]
    return [] if re.search(r"\d[ ,'\xa0]+\d", text) else [found]


def count_of(number: float, what: str) -> str:
    """A number with its word: 1 scan, 2 scans. number: a whole one."""
    return f"{number:g} {what}{'' if number == 1 else 's'}" if number < 1e6 else f"{number:.0f} {what}s"


# How many folders, studies or sessions a message names. There may be thousands.
_FEW = 10


def few_of(words: Sequence[str]) -> str:
    """The first of these words, and how many more there are."""
    more = f" and {len(words) - _FEW} more" if len(words) > _FEW else ""
    return ", ".join(words[:_FEW]) + more


def printable(text: str) -> str:
    """A file name that is safe in a terminal, a log or a report: one line, valid Unicode, no escape sequences.

    Undecodable bytes come as surrogates (os.fsdecode); they and control characters are shown as \\xNN.
    """
    if text.isascii() and text.isprintable():
        return text
    try:
        safe = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that is not a byte comes from JSON, not from a file system
        safe = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in safe)


# A text from outside may be longer than any word, and comparing it takes long.
_LONGEST_WORD = 1000


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word most similar to this one, ignoring case. Takes time with the letters of both, multiplied."""
    if len(word) > _LONGEST_WORD:
        return None
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), folded, n=1)
    return folded[near[0]] if near else None
