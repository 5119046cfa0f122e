"""Exclude and include rules. Each rule is one matcher, and decides which files are set aside.

A rule on paths is checked before a file is read, a rule on content after that. Both sides are compared in NFC: file
systems and headers write accented letters in two ways. To add a matcher, write one factory
below, one line in MATCHERS, one key and one branch in rules.schema.json, and rows in the tests.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from xnat_ingest.core import Instance, UsageError, composed
from xnat_ingest.planning import rule_presets
from xnat_ingest.planning.timed_search import timed_search
from xnat_ingest.settings.options import non_negative_integer, size

RuleConfig = Mapping[str, object]
EXCLUDED = "excluded:"
NOT_INCLUDED = f"{EXCLUDED}not-included"
# With more of these, it may take long to try a glob or an expression.
_FEW_STARS = 2
_WAYS = re.compile(r"(?<!\()[*+?{]|\\[1-9]|\(\?P=|\|")


@dataclass(frozen=True, slots=True)
class SeriesPlace:
    """Where a file is.

    path: relative to ROOT, in NFC.
    below: names of the folders below the session folder, in NFC.
    """

    path: str
    below: tuple[str, ...]

    @classmethod
    def of(cls, path: str, depth: int) -> SeriesPlace:
        """depth: number of path parts above the files of a session."""
        compared = composed(path)
        return cls(compared, tuple(compared.split("/")[depth:-1]))


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. Exactly one of on_path and on_content is set.

    name: its name in reports.
    on_content: gets an instance and the number of instances in its series.
    counts: whether it depends on that number.
    """

    name: str
    on_path: Callable[[SeriesPlace], bool] | None = None
    on_content: Callable[[Instance, int], bool] | None = None
    keywords: frozenset[str] = frozenset()
    folder: str = ""
    counts: bool = False


def parse_rule(text: str) -> RuleConfig:
    """A rule from the command line.

    A plain word is a folder rule, KEYWORD=pattern a tag rule, and preset:NAME a preset.
    """
    if text.startswith(rule_presets.PREFIX):
        return {"preset": text.removeprefix(rule_presets.PREFIX)}
    keyword, equals, pattern = text.partition("=")
    if equals and keyword == "path":
        return {"path": pattern}
    if equals and keyword.isidentifier():
        return {"tag": keyword, "matches": pattern}
    return {"folder": text}


def folder_rule(config: RuleConfig, ignore_case: bool) -> Rule:
    """Matches when the name of any folder below the session folder contains the text."""
    name = str(config["folder"])
    word = composed(name)
    fold = str.casefold if ignore_case else str

    def matches(place: SeriesPlace) -> bool:
        return any(fold(word) in fold(folder) for folder in place.below)

    return Rule(name, on_path=matches, folder=word)


def path_rule(config: RuleConfig, _ignore_case: bool) -> Rule:
    """Matches a glob against the path relative to ROOT: `*` stays in one folder, `**` crosses folders."""
    glob = str(config["path"])
    name = f"path={glob}"
    is_simple = len(re.findall(r"\*+", glob)) <= _FEW_STARS
    matches = timed_search(re.compile(_glob_pattern(composed(glob))), name, "path", is_simple=is_simple)
    return Rule(name, on_path=lambda place: matches(place.path))


def tag_rule(config: RuleConfig, _ignore_case: bool) -> Rule:
    """Matches the value of a DICOM element with a regular expression (anywhere in it) or a list of values.

    An absent element counts as empty text.
    """
    keyword = str(config["tag"])
    keywords = frozenset({keyword})
    if "matches" in config:
        name = f"{keyword}={config['matches']}"
        pattern = _regex(str(config["matches"]))
        is_simple = len(_WAYS.findall(pattern.pattern)) <= 1
        found = timed_search(pattern, name, keyword, is_simple=is_simple)
        return Rule(name, on_content=lambda instance, _: found(_text(instance, keyword)), keywords=keywords)
    listed = config["in"]
    assert isinstance(listed, list)  # noqa: S101 - the schema says so
    values = frozenset(composed(str(value)) for value in listed)

    def is_listed(instance: Instance, _: int) -> bool:
        text = _text(instance, keyword)
        return text in values or not values.isdisjoint(text.split("\\"))

    return Rule(f"{keyword} in {','.join(map(str, listed))}", on_content=is_listed, keywords=keywords)


def image_type_rule(config: RuleConfig, _ignore_case: bool) -> Rule:
    """Matches when ImageType has any of the values, in any position. Case matters, as DICOM defines it."""
    listed = config["image_type"]
    assert isinstance(listed, list)  # noqa: S101 - the schema says so
    return Rule(
        f"image_type={','.join(listed)}",
        on_content=lambda instance, _: not set(listed).isdisjoint(instance.tags.get("ImageType", "").split("\\")),
        keywords=frozenset({"ImageType"}),
    )


def series_instances_rule(config: RuleConfig, _ignore_case: bool) -> Rule:
    """Matches every instance of a series with fewer instances than one number, or more than another."""
    outside = _Outside.of(config, "series_instances", ("fewer_than", "more_than"), non_negative_integer)
    return Rule(outside.name, on_content=lambda _, in_series: outside.has(in_series), counts=True)


def file_size_rule(config: RuleConfig, _ignore_case: bool) -> Rule:
    """Matches files that are smaller than one size, or larger than another; K, M and G are powers of 1024."""
    outside = _Outside.of(config, "file_size", ("smaller_than", "larger_than"), size)
    return Rule(outside.name, on_content=lambda instance, _: outside.has(instance.size))


@dataclass(frozen=True, slots=True)
class _Outside:
    """Numbers below one limit or above another; None: no limit."""

    name: str
    below: int | None
    above: int | None

    @classmethod
    def of(cls, config: RuleConfig, matcher: str, words: tuple[str, str], parse: Callable[[str], int]) -> _Outside:
        """The limits in an entry, under these two words. Raises UsageError."""
        limits = config[matcher]
        assert isinstance(limits, dict)  # noqa: S101 - the schema says so
        found: list[int | None] = []
        for word in words:
            try:
                found.append(parse(str(limits[word])) if word in limits else None)
            except ValueError as error:
                raise UsageError(f"{matcher}: {word}: {limits[word]!r} is not valid; it {error}") from error
        below, above = found
        if below is not None and above is not None and below > above:
            low, high = (f"{word} {limits[word]}" for word in words)
            raise UsageError(f"{matcher}: {low} with {high} matches everything; change one of them")
        parts = [f"{sign}{limits[word]}" for sign, word in zip("<>", words, strict=True) if word in limits]
        return cls(matcher + " or ".join(parts), below, above)

    def has(self, number: int) -> bool:
        return (self.below is not None and number < self.below) or (self.above is not None and number > self.above)


def preset_rule(config: RuleConfig, ignore_case: bool) -> Rule:
    """Matches what any rule of a preset matches. It is one rule with one name, to keep reports short."""
    name = str(config["preset"])
    parts = [make_rule(part, ignore_case) for part in rule_presets.find_preset(name).rules]
    return Rule(
        rule_presets.PREFIX + name,
        on_content=lambda instance, in_series: any(
            part.on_content(instance, in_series) for part in parts if part.on_content
        ),
        keywords=frozenset().union(*(part.keywords for part in parts)),
        counts=any(part.counts for part in parts),
    )


MATCHERS: dict[str, Callable[[RuleConfig, bool], Rule]] = {
    "folder": folder_rule,
    "path": path_rule,
    "tag": tag_rule,
    "image_type": image_type_rule,
    "series_instances": series_instances_rule,
    "file_size": file_size_rule,
    "preset": preset_rule,
}


def make_rule(config: RuleConfig, ignore_case: bool = False) -> Rule:
    """The rule that one schema-checked entry describes. Raises UsageError."""
    matcher = next(name for name in MATCHERS if name in config)
    return MATCHERS[matcher](config, ignore_case)


@dataclass
class RuleSet:
    """All rules of a run, in order, and what they matched.

    `include` comes first: files that no include rule matches are left out. Then `exclude`: files that any exclude rule
    matches are left out.

    depth: number of path parts above the files of a session.
    """

    exclude: Sequence[Rule]
    include: Sequence[Rule] = ()
    depth: int = 2
    hits: Counter[str] = field(default_factory=Counter)
    folders: set[str] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        return not (self.exclude or self.include)

    @property
    def keywords(self) -> frozenset[str]:
        return frozenset().union(*(rule.keywords for rule in (*self.exclude, *self.include)))

    @property
    def counting(self) -> frozenset[str]:
        """The reasons for setting a file aside that depend on the number of instances in its series."""
        found = {EXCLUDED + rule.name for rule in self.exclude if rule.counts}
        return frozenset(found | {NOT_INCLUDED} if any(rule.counts for rule in self.include) else found)

    def skip(self, path: str) -> str | None:
        """The reason to set a file aside by its path alone, or None."""
        if self.is_empty:
            return None
        place = SeriesPlace.of(path, self.depth)
        self.folders.update(place.below)
        excluded = self._first(r for r in self.exclude if r.on_path and self._hit(r, r.on_path(place)))
        # Include rules on content may still match what no path rule matches.
        includes = [rule for rule in self.include if rule.on_path]
        if includes and len(includes) == len(self.include) and not self._any(includes, place):
            return NOT_INCLUDED
        return excluded

    def judge(self, instance: Instance, in_series: int) -> str | None:
        """The reason to set a scanned instance aside, or None."""
        if self.is_empty:
            return None
        if any(rule.on_content for rule in self.include) and not self._included(instance, in_series):
            return NOT_INCLUDED
        return self._first(
            rule for rule in self.exclude if rule.on_content and self._hit(rule, rule.on_content(instance, in_series))
        )

    def unused(self) -> dict[str, list[str]]:
        """Rules that matched nothing -> folder names that would match if case were ignored."""
        return {
            rule.name: sorted(name for name in self.folders if _differs_in_case(rule.folder, name))
            for rule in (*self.include, *self.exclude)
            if not self.hits[rule.name]
        }

    def _included(self, instance: Instance, in_series: int) -> bool:
        place = SeriesPlace.of(instance.path, self.depth)
        return self._any([rule for rule in self.include if rule.on_path], place) or any(
            self._hit(rule, rule.on_content(instance, in_series)) for rule in self.include if rule.on_content
        )

    def _any(self, rules: list[Rule], place: SeriesPlace) -> bool:
        return sum(self._hit(rule, rule.on_path(place)) for rule in rules if rule.on_path) > 0

    def _hit(self, rule: Rule, matched: bool) -> bool:
        self.hits[rule.name] += matched
        return matched

    @staticmethod
    def _first(matched: Iterable[Rule]) -> str | None:
        """Checks all rules, so that a rule overlapping another one is not reported as unused."""
        names = [rule.name for rule in matched]
        return EXCLUDED + names[0] if names else None


def _differs_in_case(word: str, name: str) -> bool:
    return bool(word) and word not in name and word.casefold() in name.casefold()


def _text(instance: Instance, keyword: str) -> str:
    return composed(instance.tags.get(keyword, ""))


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(composed(text))
    except (re.error, OverflowError) as error:
        raise UsageError(f"the pattern {text!r} is not a regular expression: {error}") from error
    except RecursionError as error:
        raise UsageError(f"the pattern {text[:60]!r}... is nested too deeply") from error


def _glob_pattern(glob: str) -> str:
    """The regular expression of a glob. `**/` also matches no folder at all."""
    folded = re.sub(r"\*{2,}", "**", glob)  # more stars mean the same, and would take very long
    parts = re.split(r"(\*\*/|/\*\*$|\*\*|\*|\?)", folded)
    known = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return r"(?s:\A" + "".join(known.get(part, re.escape(part)) for part in parts) + r"\Z)"
