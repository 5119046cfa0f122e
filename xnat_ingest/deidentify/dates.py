"""Finds a date in all its spellings, in texts and in bytes: by its year, and by what is written around the year."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from xnat_ingest.deidentify.spaced import clusters

# What some languages begin the names of the months with, folded: English, German, French, Spanish, Italian, Portuguese,
# Dutch, Danish. In bytes an accented letter is one or two of ISO 8859-1. Roman numerals are given in full.
_E, _A, _U = "(?:e|é|ã©)", "(?:a|ä|ae|ã¤)", "(?:u|û|ã»)"
_MONTHS = (
    f"j{_A}n|ene|gen", f"f{_E}[bv]", f"m{_A}r|maa|mrt|mrz", "apr|avr|abr", "ma[iyjg]|mei", "jun|juin|giu",
    "jul|juil|lug", f"aug|ago|ao{_U}", "sep|set", "o[ckt]t|out", "nov|nob", f"d{_E}[czs]|dic|dez",
)  # fmt: skip
# The first letters of those names.
_STEMS = (
    ("jan", "jän", "jae", "ene", "gen"), ("feb", "fev", "fév"), ("mar", "mär", "mae", "maa", "mrt", "mrz"),
    ("apr", "avr", "abr"), ("mai", "may", "maj", "mag", "mei"), ("jun", "jui", "giu"), ("jul", "jui", "lug"),
    ("aug", "ago", "aou", "aoû"), ("sep", "set"), ("oct", "okt", "ott", "out"), ("nov", "nob"),
    ("dec", "déc", "dic", "dez", "des"),
)  # fmt: skip
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii")
# Characters on either side of a year that can belong to its date.
_AROUND = 32
_BY, _MAY = "[^0-9a-z]{1,6}", "[^0-9a-z]{0,6}"
_OF = f"{_MAY}(?:(?:de|of|di|del|den){_MAY})?"


@dataclass(frozen=True, slots=True)
class DateSearch:
    """One date.

    year: its four digits, by which every spelling with them is found.
    pattern: matches all spellings with those, in lower case.
    stems: how the names of its month begin, by which spellings with two digits of the year are found.
    anchors: the same in bytes.
    short: matches those spellings.
    """

    year: str
    pattern: re.Pattern[str]
    stems: tuple[str, ...]
    anchors: tuple[bytes, ...]
    short: re.Pattern[str]

    def in_text(self, text: str) -> bool:
        """Whether a folded text contains the date."""
        if self.year in text and self.pattern.search(text):
            return True
        return any(stem in text for stem in self.stems) and self.short.search(text) is not None

    def in_bytes(self, low: bytes) -> Iterator[tuple[int, int]]:
        """(start, end) of the years or months of such dates in bytes whose ASCII letters are in lower case."""
        year = self.year.encode()
        whole = ((year, 1, self.pattern), (self.year.encode("utf-16-le")[:-1], 2, self.pattern))
        for one, width, pattern in (*whole, *((anchor, 1, self.short) for anchor in self.anchors)):
            for places in clusters(low, one, _AROUND * width):
                if _is_around(pattern, low, places[0], places[-1] + len(one), width):
                    ends = ((at, at + len(one)) for at in places)
                    yield from ((at, end) for at, end in ends if _is_around(pattern, low, at, end, width))


def _is_around(pattern: re.Pattern[str], low: bytes, begin: int, end: int, width: int) -> bool:
    """Whether the date is around this place. width: bytes of a character."""
    window = low[max(0, begin - _AROUND * width) : end + _AROUND * width]
    if width > 1:  # between ASCII characters a zero divides a text from a number before it
        window = window.replace(b"\0", b"")
    return pattern.search(window.decode("latin-1").lower()) is not None


def _encoded(stem: str) -> set[bytes]:
    """An accent may be one or two bytes, and big or small. Wide characters are left to the spellings with a whole year:
    each form takes time."""
    return {form.encode(code).lower() for form in (stem, stem.upper()) for code in ("utf-8", "latin-1")}


def date_search(text: str, *, short: bool) -> DateSearch | None:
    """The search for a date in a DICOM value. None when the value is not a whole date.

    short: also with two digits of the year beside the name of the month."""
    digits = re.sub(r"\D", "", text)[:8]
    if len(digits) < 8:
        return None
    year, month, day = digits[:4], digits[4:6], digits[6:]
    if not (1 <= int(month) <= len(_MONTHS) and day.strip("0")):
        return None
    d, m = f"0?{int(day)}", f"0?{int(month)}"
    names = f"(?:(?:{_MONTHS[int(month) - 1]})[a-z\x80-\uffff]{{0,12}}|{_ROMAN[int(month) - 1]}(?![a-z]))"
    ordinal = "(?:st|nd|rd|th|er|e)?"
    time = r"(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?"
    spellings = (
        f"{year}{_BY}{m}{_BY}{d}", f"{d}{_BY}{m}{_BY}{year}", f"{m}{_BY}{d}{_BY}{year}",
        f"{year}{month}{day}(?:{time})?", f"{day}{month}{year}", f"{month}{day}{year}",
        f"{d}{ordinal}{_OF}{names}{_OF}{year}", f"{names}{_MAY}{d}{ordinal}{_MAY}{year}",
        f"{year}{_MAY}{names}{_MAY}{d}",
    )  # fmt: skip
    two = year[2:]
    shorter = (
        f"{d}{ordinal}{_OF}{names}{_OF}{two}", f"{names}{_MAY}{d}{ordinal}{_MAY}{two}", f"{two}{_MAY}{names}{_MAY}{d}",
    )  # fmt: skip
    whole, less = (re.compile(rf"(?<!\d)(?:{'|'.join(some)})(?!\d)") for some in (spellings, shorter))
    stems = _STEMS[int(month) - 1] if short else ()
    anchors = tuple(sorted({anchor for stem in stems for anchor in _encoded(stem)}))
    return DateSearch(year, whole, stems, anchors, less)
