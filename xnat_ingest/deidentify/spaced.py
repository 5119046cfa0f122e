"""Finds an address or a telephone number however it is spaced: with other blanks, hyphens, dots, commas or brackets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Between two words of an address, folded. A backslash divides values.
_BETWEEN_WORDS = r"[^0-9a-z\\]{1,6}"
_AROUND = 96  # characters on either side of the longest word that can belong to its address


@dataclass(frozen=True, slots=True)
class AddressSearch:
    """One line of an address.

    anchors: its longest run of letters, encoded, by which it is found.
    pattern: matches the line, in lower case.
    """

    anchors: tuple[bytes, ...]
    pattern: re.Pattern[str]

    def in_text(self, text: str) -> bool:
        """Whether a folded text contains the line."""
        return self.pattern.search(text) is not None

    def in_bytes(self, low: bytes) -> Iterator[tuple[int, int]]:
        """(start, end) of the longest run of letters of such lines in bytes whose ASCII letters are in lower case."""
        for anchor in self.anchors:
            at = low.find(anchor)
            while at >= 0:
                end = at + len(anchor)
                window = low[max(0, at - 2 * _AROUND) : end + 2 * _AROUND].replace(b"\0", b"")
                if self.pattern.search(window.decode("latin-1").lower()):
                    yield at, end
                at = low.find(anchor, end)


@dataclass(frozen=True, slots=True)
class PhoneSearch:
    """One telephone number. text: matches it in text. data: matches it in bytes, also in two bytes for each digit."""

    text: re.Pattern[str]
    data: re.Pattern[bytes]

    def in_text(self, text: str) -> bool:
        """Whether a folded text contains the number."""
        return self.text.search(text) is not None

    def in_bytes(self, low: bytes) -> Iterator[tuple[int, int]]:
        """(start, end) of such numbers in bytes whose ASCII letters are in lower case."""
        yield from (match.span() for match in self.data.finditer(low))


def address_search(line: str, plain: Sequence[str], *, bounded: bool) -> AddressSearch | None:
    """The search for a line of an address. None when it has one word only, or no letters.

    plain: the line without accents, in each way in which that is done.
    bounded: it counts only where it is not part of a longer word or number.
    """
    lines = [re.findall(r"[^\W_]+", form) for form in (line.lower(), *plain)]
    lines += [[_as_latin(word) for word in words] for words in lines]
    lines = list({tuple(words): words for words in lines if len(words) > 1}.values())
    if not lines or not any(map(str.isalpha, line)):
        return None
    pattern = "|".join(_BETWEEN_WORDS.join(map(re.escape, words)) for words in lines)
    if bounded:
        pattern = rf"(?<![0-9a-z])(?:{pattern})(?![0-9a-z])"
    anchors = {form for one in (line.lower(), *plain) for form in _anchors(one)}
    return AddressSearch(tuple(sorted(anchors)), re.compile(pattern))


def _anchors(line: str) -> tuple[bytes, bytes]:
    """The longest run of letters and digits in one byte, and in two. All encodings write those of ASCII alike."""
    runs = re.findall(r"[0-9a-z]+", line)
    longest = max(runs, key=len) if any(run.isalpha() for run in runs) else max(re.findall(r"\w+", line), key=len)
    return longest.encode(), longest.encode("utf-16-le")[:-1]


def _as_latin(word: str) -> str:
    """How UTF-8 looks to a reader of ISO 8859-1."""
    return word.encode("utf-8", "surrogatepass").decode("latin-1").lower()


def phone_search(digits: str, most: int) -> PhoneSearch:
    """The search for a number. Of one with more than `most` digits the last ones count, wherever they stand.

    A shorter one also occurs by chance, with a point as a fraction has it, so it must have no point in it.
    """
    wanted, is_part = digits[-most:], len(digits) > most
    sign = "0-9a-z\\\\" if len(digits) >= most else "0-9a-z\\\\.,"
    text = _bounded(f"[^{sign}]{{0,4}}".join(wanted), r"(?<![0-9])", r"(?![0-9])", is_part)
    # A dash or a blank takes up to three bytes in UTF-8.
    gap = rf"(?:[\x80-\xff]{{2,3}}|[^{sign}\0]){{0,4}}"
    narrow = _bounded(gap.join(wanted), r"(?<![0-9])", r"(?![0-9])", is_part)
    # In UTF-16, with either byte first.
    gap = rf"(?:\0(?:[^{sign}\0][\0\x20]){{0,4}}|(?:[\0\x20][^{sign}\0]){{0,4}}\0)"
    wide = _bounded(gap.join(wanted), r"(?<![0-9]\0)", r"(?!\0[0-9])", is_part)
    return PhoneSearch(re.compile(text), re.compile(f"{narrow}|{wide}".encode("latin-1")))


def _bounded(pattern: str, before: str, after: str, is_part: bool) -> str:
    return pattern if is_part else f"{before}{pattern}{after}"
