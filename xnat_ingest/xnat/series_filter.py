"""XNAT's series import filter, evaluated like the server does on receipt. It never guesses when it is not certain."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache

from xnat_ingest.core import Instance

# The elements that can be evaluated here: short text in every file. The server reads others in its own way (numbers,
# bytes), and refuses every file when a filter names a sequence.
ELEMENTS = {
    "AccessionNumber": "00080050",
    "AngioFlag": "00180025",
    "BodyPartExamined": "00180015",
    "BurnedInAnnotation": "00280301",
    "ContrastBolusAgent": "00180010",
    "ConversionType": "00080064",
    "ImageType": "00080008",
    "InstitutionName": "00080080",
    "Laterality": "00200060",
    "Manufacturer": "00080070",
    "ManufacturerModelName": "00081090",
    "MRAcquisitionType": "00180023",
    "Modality": "00080060",
    "PatientPosition": "00185100",
    "PerformedProcedureStepDescription": "00400254",
    "PhotometricInterpretation": "00280004",
    "PresentationIntentType": "00080068",
    "ProtocolName": "00181030",
    "QualityControlImage": "00280300",
    "SOPClassUID": "00080016",
    "ScanOptions": "00180022",
    "ScanningSequence": "00180020",
    "SequenceName": "00180024",
    "SequenceVariant": "00180021",
    "SeriesDescription": "0008103E",
    "SeriesInstanceUID": "0020000E",
    "SeriesNumber": "00200011",
    "StationName": "00081010",
    "StudyDescription": "00081030",
    "StudyID": "00200010",
}
_KEYWORDS = {tag: keyword for keyword, tag in ELEMENTS.items()}
# Values that every instance has anyway. Filters use these most.
_FIELDS = {
    "Modality": "modality",
    "SOPClassUID": "sop_class",
    "SeriesDescription": "series_description",
    "SeriesInstanceUID": "series_uid",
}
NOT_LISTED = "not-in-whitelist"
# The most characters of a filter. To compile a long pattern takes much memory, and to try many patterns much time.
_LONGEST_LIST = 128 * 1024
# The most characters of a pattern that a sentence quotes.
_QUOTED = 80
# The characters that Java trims. Python's strip would remove more.
_BLANKS = "".join(map(chr, range(33)))
# The server passes only this many characters of a value to the filter.
_LONGEST = 300
# About how many steps Python may take for a filter and a value. With more a run would seem to hang, unstoppably.
_MOST_TRIES = (_LONGEST + 1) ** 3
_TAG = re.compile(r"(\(?)([0-9A-Za-z]{4}),([0-9A-Za-z]{4})(\)?)")
# The common part of Java's and Python's regular expressions, for patterns without control characters. Left out are
# possessive quantifiers, \p{...}, \Q...\E, named and atomic groups, inline flags, nested classes, `&&`, octal, hex and
# Unicode escapes, group references, and \B (which differs on empty text).
_COMMON = re.compile(
    r"""(?:
        (?:[*+?]|\{[0-9]{1,3}(?:,[0-9]{0,3})?\})\??(?![*+?{])       # quantifier
      | \((?:\?(?:[:=!]|<[=!])|(?!\?)) | \)                         # group, look-around
      | \\[dDwWsSb] | \\[ -/:-@\[-`{-~]                             # class of characters, quoted character
      | \[\^?(?:[^\[\]\\&^]|\\[dDwWsS]|\\[ -/:-@\[-`{-~])+\]        # class in brackets
      | [.^$|] | [^\\\[(){*+?.^$|]                                  # the rest stands for itself
    )*+""",
    re.VERBOSE,
)
_PIECE = re.compile(
    r"""(?P<open>\((?:\?(?:<?[=!]|:))?) | (?P<close>\)) | (?P<bar>\|)
      | (?:\[\^?(?:[^\]\\]|\\.)+\] | \\. | [^*+?{])          # one character
    """,
    re.VERBOSE,
)
_QUANTIFIER = re.compile(r"(?:(?P<sign>[*+?])|\{(?P<low>[0-9]+)(?P<range>,(?P<high>[0-9]*))?\})\??")


@dataclass(frozen=True, slots=True)
class NotEvaluated:
    """A filter, or values, that cannot be evaluated here. reason: why, as the end of a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of a filter, about one element."""

    keyword: str
    text: str
    regex: re.Pattern[str]

    @property
    def rule(self) -> str:
        return self.text if self.keyword == "SeriesDescription" else f"{self.keyword}={self.text}"

    def matches(self, value: str | None) -> bool:
        """value: None for an absent element, which only !EXISTS matches."""
        if value is None:
            return self.text == "!EXISTS"
        return self.text == "EXISTS" or self.regex.search(value) is not None

    def can_judge(self, value: str | None) -> bool:
        """Whether Java gives the same result: its `.` and `$` know more line ends, its \\b more letters."""
        if not value:
            return True
        return len(value) <= _LONGEST and value.isprintable() and (value.isascii() or r"\b" not in self.text)


@dataclass(frozen=True, slots=True)
class Filter:
    """A whitelist keeps what any pattern matches, a blacklist drops it.

    Without patterns, a whitelist drops everything and a blacklist nothing.
    """

    whitelist: bool
    patterns: tuple[Pattern, ...]

    @property
    def mode(self) -> str:
        return "whitelist" if self.whitelist else "blacklist"

    @property
    def keywords(self) -> frozenset[str]:
        """The elements that must be in Instance.tags."""
        return frozenset(pattern.keyword for pattern in self.patterns) - _FIELDS.keys()

    def drops(self, instance: Instance) -> str | NotEvaluated | None:
        """The rule by which the server drops the instance, None when it keeps it."""
        keywords = tuple(dict.fromkeys(pattern.keyword for pattern in self.patterns))
        return _decide(self, tuple((keyword, _value(instance, keyword)) for keyword in keywords))


def _value(instance: Instance, keyword: str) -> str | None:
    """None for an element that the file is known not to have."""
    field = _FIELDS.get(keyword)
    return str(getattr(instance, field)) if field else instance.leaving.get(keyword)


@lru_cache(maxsize=4096)
def _decide(chosen: Filter, values: tuple[tuple[str, str | None], ...]) -> str | NotEvaluated | None:
    unsure = ""
    for keyword, value in values:
        patterns = [pattern for pattern in chosen.patterns if pattern.keyword == keyword]
        found = [_first(patterns, reading) for reading in _readings(value)]
        if all(isinstance(first, Pattern) for first in found):
            assert isinstance(found[0], Pattern)  # noqa: S101 - just looked
            return None if chosen.whitelist else found[0].rule
        if any(found):
            unsure = unsure or keyword
    if unsure:
        return NotEvaluated(f"some values of {unsure} are ambiguous")
    return NOT_LISTED if chosen.whitelist else None


def _first(patterns: list[Pattern], value: str | None) -> Pattern | NotEvaluated | None:
    """The first pattern that certainly matches; None when certainly none matches."""
    certain = [pattern for pattern in patterns if pattern.can_judge(value)]
    found = next((pattern for pattern in certain if pattern.matches(value)), None)
    return found if found or len(certain) == len(patterns) else NotEvaluated("")


def _readings(value: str | None) -> tuple[str | None, ...]:
    """The values that the server may see.

    Our scan does not distinguish absent from empty elements. It trims each of several values, while the server trims
    only the ends of all, so a padded `DERIVED ` keeps its blank there.
    """
    if value == "":
        return None, ""
    if value and "\\" in value:
        *padded, last = (part + " " * (len(part) % 2) for part in value.split("\\"))
        return value, "\\".join((*padded, last.rstrip()))
    return (value,)


def parse_filter(contents: str) -> Filter | NotEvaluated:
    """The filter in a configuration's contents.

    Only the configuration's status says whether it is switched on. The word `enabled` in the contents has no effect.
    """
    try:
        found = json.loads(contents) if contents.strip(_BLANKS) else {"mode": "blacklist", "list": ""}
        nested = found.get("contents", found.get("content"))
    except (ValueError, AttributeError, RecursionError):
        return NotEvaluated("its contents are not a JSON object")
    if isinstance(nested, str):
        return parse_filter(nested)
    mode, listing = found.get("mode"), found.get("list")
    if mode == "modalityMap":
        return NotEvaluated("its mode is modalityMap, which is written in JavaScript")
    if mode not in ("blacklist", "whitelist") or not isinstance(listing, str):
        return NotEvaluated("its mode or its list is not known here")
    patterns = _patterns(listing)
    return patterns if isinstance(patterns, NotEvaluated) else Filter(mode == "whitelist", patterns)


def _patterns(listing: str) -> tuple[Pattern, ...] | NotEvaluated:
    """The lines. They are about SeriesDescription until a line in brackets names another element."""
    if len(listing) > _LONGEST_LIST:
        return NotEvaluated(f"it has more than {_LONGEST_LIST} characters")
    keyword = "SeriesDescription"
    patterns, tries = [], 0
    # If a backslash and an n occur anywhere, only they are line ends.
    for raw in listing.split("\\n" if "\\n" in listing else "\n"):
        line = raw.strip(_BLANKS)
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            keyword = _element(line[1:-1])
            if keyword not in ELEMENTS:
                return NotEvaluated(f"it uses {_shown(line)}, which is not evaluated here")
            continue
        regex = _regex(line)
        if regex is None:
            return NotEvaluated(f"its pattern {_shown(line)} may mean something else in Java")
        tries += _tries(regex.pattern)
        if tries > _MOST_TRIES:
            return NotEvaluated(f"its pattern {_shown(line)} may take too long")
        patterns.append(Pattern(keyword, line, regex))
    return tuple(patterns)


def _shown(line: str) -> str:
    return line if len(line) <= _QUOTED else f"{line[:_QUOTED]}..."


def _element(name: str) -> str:
    """The keyword of an element given as keyword, `gggg,eeee` or `(gggg,eeee)`. Other text is returned unchanged."""
    tag = _TAG.fullmatch(name)
    if tag and bool(tag[1]) == bool(tag[4]):
        return _KEYWORDS.get((tag[2] + tag[3]).upper(), name)
    return name


def _regex(text: str) -> re.Pattern[str] | None:
    """The pattern as Java compiles it, ignoring the case of ASCII letters; None when it may differ in Python."""
    same = text.removeprefix("(?i)")  # it is the default anyway
    if not same.isprintable() or not _COMMON.fullmatch(same):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return re.compile(same, re.IGNORECASE | re.ASCII)
    except (re.error, FutureWarning, RecursionError, OverflowError):
        return None


def _tries(pattern: str) -> int:
    """A rough upper bound for the number of ways in which a pattern can match a value.

    Parts in a sequence multiply, alternatives add up, and a repeated part is raised to the power of its repetitions, so
    (a+)+ explodes.
    """
    waiting: list[tuple[int, int]] = []  # for each open bracket: its alternatives so far, and what comes before it
    ways, in_row, at = 0, 1, 0
    while piece := _PIECE.match(pattern, at):
        at, one = piece.end(), 1
        if piece["open"]:
            waiting.append((ways, in_row))
            ways, in_row = 0, 1
            continue
        if piece["bar"]:
            ways, in_row = ways + in_row, 1
            continue
        if piece["close"]:
            one = ways + in_row
            ways, in_row = waiting.pop()
        if quantifier := _QUANTIFIER.match(pattern, at):
            at = quantifier.end()
            low, high = _repetitions(quantifier)
            one = (high - low + 1) * one**high
        in_row = min(in_row * one, _MOST_TRIES + 1)
    return ways + in_row


def _repetitions(quantifier: re.Match[str]) -> tuple[int, int]:
    if sign := quantifier["sign"]:
        return int(sign == "+"), 1 if sign == "?" else _LONGEST
    low = min(int(quantifier["low"]), _LONGEST)
    if not quantifier["range"]:
        return low, low
    return low, min(int(quantifier["high"] or _LONGEST), _LONGEST)
