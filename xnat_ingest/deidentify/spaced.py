"""Finds an address, a telephone number or an identifier with other blanks, dashes, dots or brackets in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

# Between two words of an address. A backslash divides values. No letter or digit is in it, so there is one way to read
# a text: with two, it would take years.
_BETWEEN_WORDS = r"(?:[^\w\\]|_){0,6}"
# No digit before a number, but for a zero; no letter or digit before an identifier.
_NONE_BEFORE = {"0-9": r"(?<![1-9])(?<![0-9]0)", "0-9a-z": "(?<![0-9a-z])"}
_NONE_BEFORE_WIDE = {"0-9": r"(?<![1-9]\x00)(?<![0-9]\x000\x00)", "0-9a-z": r"(?<![0-9a-z]\x00)"}
_DIGITS, _LETTERS = b"0123456789", b"abcdefghijklmnopqrstuvwxyz"
_AROUND = 192  # bytes on either side of an anchor that can belong to its address


@dataclass(frozen=True, slots=True)
class AddressSearch:
    """One line of an address.

    anchors: its longest run of letters, encoded, by which it is found.
    pattern: matches the folded line.
    fold: how texts are folded.
    """

    anchors: tuple[bytes, ...]
    pattern: re.Pattern[str]
    fold: Callable[[str], str]

    def in_text(self, text: str) -> bool:
        """Whether a folded text contains the line."""
        return self.pattern.search(text) is not None

    def in_bytes(self, low: bytes) -> Iterator[tuple[int, int]]:
        """(start, end) of the longest run of letters of such lines in bytes whose ASCII letters are in lower case."""
        for anchor in self.anchors:
            for places in clusters(low, anchor, _AROUND):
                if self._is_in(low, places[0], places[-1] + len(anchor)):
                    ends = ((at, at + len(anchor)) for at in places)
                    yield from ((at, end) for at, end in ends if self._is_in(low, at, end))

    def _is_in(self, low: bytes, begin: int, end: int) -> bool:
        """Whether the line is around this place."""
        around = low[max(0, begin - _AROUND) : end + _AROUND].replace(b"\0", b"")
        return any(self.in_text(self.fold(around.decode(code, "replace"))) for code in ("utf-8", "latin-1"))


def clusters(low: bytes, anchor: bytes, around: int) -> Iterator[list[int]]:
    """The places of an anchor, those together that are near one another: each byte is looked at once then.

    around: how many bytes on either side of one belong to it.
    """
    places: list[int] = []
    at = low.find(anchor)
    while at >= 0:
        if places and at - places[-1] > 2 * around:
            yield places
            places = []
        places.append(at)
        at = low.find(anchor, at + len(anchor))
    if places:
        yield places


@dataclass(frozen=True, slots=True)
class SpacedSearch:
    """One telephone number or identifier.

    text: matches it in folded text.
    data: matches it in bytes, also where each character takes two. None of one that is not ASCII: there are too many
    encodings.
    joined: its letters and digits.
    others: every byte that is none of its kind. Without them, bytes that hold it hold what is joined.
    """

    text: re.Pattern[str]
    data: re.Pattern[bytes] | None
    joined: bytes
    others: bytes

    def in_text(self, text: str) -> bool:
        """Whether a folded text contains it."""
        return self.text.search(text) is not None

    def in_bytes(self, low: bytes) -> Iterator[tuple[int, int]]:
        """(start, end) of its places in bytes whose ASCII letters are in lower case."""
        if self.data and self.joined in low.translate(None, self.others):  # much faster than the pattern
            yield from (match.span() for match in self.data.finditer(low))


def address_search(
    line: str, plain: Sequence[str], fold: Callable[[str], str], *, bounded: bool
) -> AddressSearch | None:
    """The search for a line of an address. None when it has one word only, or no letters.

    plain: the line without accents, in each way in which that is done.
    bounded: it counts only where it is not part of a longer word or number.
    """
    lines = [words for form in plain if len(words := re.findall(r"[^\W\d_]+|\d+", form)) > 1]
    anchors = tuple(sorted({anchor for form in (line, *plain) for anchor in _anchors(form)}))
    if not lines or not anchors:
        return None
    pattern = "|".join(_BETWEEN_WORDS.join(map(re.escape, words)) for words in lines)
    if bounded:
        pattern = rf"(?<![^\W_])(?:{pattern})(?![^\W_])"
    return AddressSearch(anchors, re.compile(pattern), fold)


def _anchors(line: str) -> set[bytes]:
    """The longest run of ASCII letters, which all encodings write alike; else the longest word."""
    runs = re.findall(r"[a-z]{2,}", line.lower())
    words = re.findall(r"[^\W\d_]+", line)
    longest = max(runs or words, key=len, default="")
    forms = {longest, longest.lower(), longest.upper(), longest.capitalize()} if longest else set()
    encoded = {code for form in forms for code in (form.encode(), form.encode("utf-16-le")[:-1])}
    return {code.lower() for code in encoded}


def phone_search(digits: str, most: int) -> SpacedSearch:
    """The search for a number. Of one with more than `most` digits the last ones count, wherever they stand.

    A shorter one also occurs by chance, with a point as a fraction has it, so it must have no point in it.
    """
    return _spaced(list(digits[-most:]), "" if len(digits) >= most else ".,", bounded=len(digits) <= most)


def identifier_search(words: Sequence[str]) -> SpacedSearch | None:
    """The search for an identifier of letters and digits in groups. None for one group, and for digits alone.

    words: folded.
    """
    groups = [group for word in words for group in re.findall(r"[0-9]+|[^0-9]+", word)]
    if len(groups) < 2 or all(group.isdecimal() for group in groups):
        return None
    if not all(map(str.isascii, groups)):
        return SpacedSearch(re.compile(_in_any_script(groups)), None, b"", b"")
    return _spaced(groups, "", bounded=True)


def _in_any_script(groups: Sequence[str]) -> str:
    """A pattern for groups of letters and digits. Between signs of Chinese, Japanese and Korean there is no blank."""
    pattern = r"(?:[^\w\\]|_){0,4}".join(map(re.escape, groups))
    is_spaced = not any(unicodedata.east_asian_width(c) == "W" for group in groups for c in group)
    return rf"(?<![^\W_]){pattern}(?![^\W_])" if is_spaced else pattern


def _spaced(groups: Sequence[str], never: str, *, bounded: bool) -> SpacedSearch:
    """never: signs that are not between two groups."""
    sign = rf"0-9a-z\\{never}"
    text = f"[^{sign}]{{0,4}}".join(groups)
    # A dash or a blank takes up to three bytes in UTF-8. Of those only the first is no continuation, so there is one
    # way to read them.
    narrow = rf"[\x80-\xbf]{{0,2}}(?:[^{sign}\x00\x80-\xbf][\x80-\xbf]{{0,2}}){{0,4}}".join(groups)
    # UTF-16, with the lower byte first or last.
    doubled = ["\\x00".join(group) for group in groups]
    first = rf"\x00(?:[^{sign}\x00][\x00\x20]){{0,4}}".join(doubled)
    last = rf"(?:[\x00\x20][^{sign}\x00]){{0,4}}\x00".join(doubled)
    if bounded:
        own = "0-9" if all(group.isdecimal() for group in groups) else "0-9a-z"
        text, narrow = (f"{_NONE_BEFORE[own]}{one}(?![{own}])" for one in (text, narrow))
        first, last = (f"{_NONE_BEFORE_WIDE[own]}{one}(?!\\x00[{own}])" for one in (first, last))
    joined = "".join(groups).encode()
    others = bytes(set(range(256)) - set(_DIGITS if joined.isdigit() else _DIGITS + _LETTERS))
    return SpacedSearch(re.compile(text), re.compile(f"{narrow}|{first}|{last}".encode("latin-1")), joined, others)
