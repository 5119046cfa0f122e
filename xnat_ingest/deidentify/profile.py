"""A de-identification profile: JSON that starts from the standard's basic one. It decides on each element."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from xnat_ingest.core import UsageError, nearest, printable
from xnat_ingest.core.json_documents import best_error, json_path, read_json, read_text
from xnat_ingest.deidentify.confidentiality import (
    BASIC_CODE,
    CODE_MEANINGS,
    FULL_DATES,
    KEEP_UIDS,
    MODIFIED_DATES,
    OPTIONS,
    PRIVATE,
    attributes,
    settled,
    unnamed,
)
from xnat_ingest.inputs.dicom_dictionary import name_of, nearest_keyword, tag_of, vr_of

READY = ("basic", "research-mr", "dates-kept")
# Actions on private elements that are on the list of safe ones: kept if they hold nothing but numbers, or a code.
NUMBER, CODE = "N", "S"
# The elements that a template of labels is written to.
PATIENT_NAME, PATIENT_ID = 0x00100010, 0x00100020
# What the program itself writes. No rule may change it.
_WRITTEN = frozenset({0x00120062, 0x00120063, 0x00120064, 0x00280303})
_STRUCTURE = frozenset({0x00080005, 0x00080016, 0x00080018, 0x0020000D, 0x0020000E})
_TEXT_VALUE = 0x0040A160
_PLACES = frozenset({"subject", "session"})


@dataclass(frozen=True, slots=True)
class Boxes:
    """Where one kind of image shows text.

    modality, rows, columns: "" and 0 match any.
    boxes: (left, top, right, bottom) in pixels. The right and bottom edges are outside of the box."""

    modality: str
    rows: int
    columns: int
    boxes: tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """What happens to each element.

    name: as it was given.
    sha256: of its text, hexadecimal.
    dates: shift, remove or keep.
    uids: map or keep.
    burned_in: refuse, allow, or boxes.
    codes: of the standard's profile and options. None when rules keep more than those.
    written: tag -> template of {subject} and {session}.
    private: (creator, group, element) -> action. None matches any.
    is_cleaning: descriptions may be kept when nothing is found in them.
    decided: (tag, VR) -> the actions that were asked for so far.
    """

    name: str
    sha256: str
    dates: str
    uids: str
    burned_in: str | tuple[Boxes, ...]
    codes: tuple[tuple[str, str], ...]
    written: Mapping[int, str]
    private: Mapping[tuple[str, int | None, int | None], str]
    is_cleaning: bool
    _by_tag: Mapping[int, str]
    _by_rule: Mapping[int, str]
    _by_vr: Mapping[str, str]
    decided: dict[tuple[int, str], str] = field(default_factory=dict)

    @property
    def needs_key(self) -> bool:
        return self.uids == "map" or self.dates == "shift"

    @property
    def keeps_uids(self) -> bool:
        """Whether objects keep their UIDs, so that a copy that was not de-identified has the same ones."""
        return self.uids == "keep"

    def action(self, tag: int, vr: str) -> str:
        """The action for a standard element: X, Z, D, U, K, C, or R (its items are processed).

        An element that the dictionary does not know is removed, since nobody knows what is in it.
        """
        found = self.decided.get((tag, vr))
        if found is None:
            found = self.decided[tag, vr] = self._decide(tag, vr)
        return found

    def _decide(self, tag: int, vr: str) -> str:
        action = self._by_rule.get(tag) or (self._by_vr.get(vr) if tag not in _STRUCTURE else None)
        action = action or self._by_tag.get(tag)
        if action is None and tag not in _STRUCTURE:
            action = unnamed(tag, vr, dates=self.dates, uids=self.uids, is_cleaning=self.is_cleaning)
        if action is None:
            action = "K" if vr_of(tag) else "X"
        return settled(action, is_sequence=vr == "SQ")

    def private_action(self, creator: str, tag: int) -> str:
        """The action for a private element of a creator's block: X, K, C, NUMBER or CODE."""
        group, element = tag >> 16, tag & 0xFF
        for key in ((creator, group, element), (creator, None, element), (creator, group, None), (creator, None, None)):
            if found := self.private.get(key):
                return found
        return "X"


def load_profile(name: str) -> Profile:
    """The ready profile of that name, or the one in a file. Raises UsageError."""
    if name in READY:
        text = resources.files("xnat_ingest.deidentify").joinpath(f"profiles/{name}.json").read_text("utf-8")
    elif re.fullmatch(r"[a-z-]+", name) and (near := nearest(name, READY)):
        raise UsageError(f"no profile is called {name}; did you mean {near}? A file needs its path, such as ./{name}")
    else:
        text = read_text(name, "profile")
    return parse_profile(text, name)


def parse_profile(text: str, name: str) -> Profile:
    """A profile's JSON. name: how it is called in messages. Raises UsageError naming what is wrong."""
    what = f"profile {printable(name)}"
    document = read_json(text, what)
    _check(what, document)
    options = [_option(what, word) for word in document.get("options", ())]
    dates = _chosen(what, document, options, "dates", {"keep": FULL_DATES, "shift": MODIFIED_DATES}, "remove")
    uids = _chosen(what, document, options, "uids", {"keep": KEEP_UIDS}, "map")
    rules = _Rules(what, document.get("rules", ()), "retain safe private" in options)
    for key, tag in (("patient_id", PATIENT_ID), ("patient_name", PATIENT_NAME)):
        if tag in rules.by_tag and key in document:
            raise UsageError(f"{what}: {key} and a rule both decide on {name_of(tag)}; keep one")
        if tag not in rules.by_tag:
            rules.written.setdefault(tag, document.get(key, "{subject}"))
            _check_template(what, rules.written[tag])
    columns = {OPTIONS[option][0] for option in options}
    by_tag = {int(a.key, 16): a.action(columns) for a in attributes() if a.key != PRIVATE and "x" not in a.key}
    if "content" in columns:
        by_tag[_TEXT_VALUE] = "C"  # no row names it: without the option the whole content is made of dummies
    codes = tuple((OPTIONS[o][1], CODE_MEANINGS[OPTIONS[o][1]]) for o in sorted(options, key=lambda o: OPTIONS[o][1]))
    return Profile(
        name=name,
        sha256=hashlib.sha256(text.encode("utf-8")).hexdigest(),
        dates=dates,
        uids=uids,
        burned_in=_burned_in(document.get("burned_in", "refuse")),
        codes=() if rules.weaken(by_tag) else (BASIC_CODE, *codes),
        written=rules.written,
        private=(safe_private() if "retain safe private" in options else {}) | rules.private,
        is_cleaning="descriptors" in columns,
        _by_tag=by_tag,
        _by_rule=rules.by_tag,
        _by_vr=rules.by_vr,
    )


def _check(what: str, document: object) -> None:
    schema = json.loads(resources.files("xnat_ingest.deidentify").joinpath("profile.schema.json").read_text("utf-8"))
    error = best_error(document, schema)
    if error is None:
        return
    where = json_path(error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = list(error.schema["properties"]) if isinstance(error.schema, Mapping) else []
        unknown = next(key for key in error.instance if key not in known)
        near = nearest(unknown, known)
        hint = f"did you mean {near}?" if near else f"known keys: {', '.join(known)}"
        raise UsageError(f"{what}: {where + ': ' if where else ''}unknown key {unknown!r}; {hint}")
    if error.validator in ("oneOf", "anyOf") and where.startswith("rules"):
        raise UsageError(
            f"{what}: {where}: a rule has one of keyword, tag, creator, vr, and an action or a value to set; this one "
            f"has {', '.join(error.instance) if isinstance(error.instance, Mapping) else 'none'}"
        )
    raise UsageError(f"{what}: {where or 'the whole'}: {error.message[:300]}")


def _option(what: str, word: str) -> str:
    """An option by the standard's name, however it is written."""
    name = re.sub(r"[\s_-]+", " ", word.casefold()).strip().removesuffix(" option")
    if name in OPTIONS:
        return name
    if name in ("clean pixel data", "clean recognizable visual features", "clean graphics"):
        raise UsageError(
            f"{what}: options: {word!r} cannot be done here; graphics are removed, for pixels see burned_in"
        )
    near = nearest(name, list(OPTIONS))
    raise UsageError(f"{what}: options: {word!r} is no option; did you mean {near or ', '.join(OPTIONS)}?")


def _chosen(
    what: str, document: Mapping[str, Any], options: list[str], key: str, words: Mapping[str, str], default: str
) -> str:
    """What a key says, or the options say for it; adds the option that the key stands for."""
    said = {word for word, option in words.items() if option in options}
    given = document.get(key)
    if len(said | ({given} if given else set())) > 1:
        raise UsageError(f"{what}: {key} and the options contradict each other ({', '.join(sorted(said))}); keep one")
    value = str(given or next(iter(said), default))
    if value in words and words[value] not in options:
        options.append(words[value])
    return value


def _check_template(what: str, text: str) -> None:
    fields = re.findall(r"\{([^{}]*)\}", text)
    if strange := [name for name in fields if name not in _PLACES]:
        raise UsageError(f"{what}: {{{strange[0]}}} is no place; a value may use {{subject}} and {{session}}")
    if re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", text)) or not (text.isascii() and text.isprintable()):
        raise UsageError(f"{what}: {printable(text)!r} cannot be written; a value is printable ASCII, braces in pairs")


def filled(template: str, subject: str, session: str) -> str:
    """A checked template with the labels in it."""
    return template.replace("{subject}", subject).replace("{session}", session)


class _Rules:
    """The rules of a profile. written: tag -> template."""

    def __init__(self, what: str, rules: list[Mapping[str, Any]] | tuple[()], keeps_private: bool) -> None:
        self._what = what
        self._keeps_private = keeps_private
        self.by_tag: dict[int, str] = {}
        self.by_vr: dict[str, str] = {}
        self.private: dict[tuple[str, int | None, int | None], str] = {}
        self.written: dict[int, str] = {}
        for number, rule in enumerate(rules):
            self._add(f"{what}: rules[{number}]", rule)

    def _add(self, where: str, rule: Mapping[str, Any]) -> None:
        if "set" in rule and ("action" in rule or not {"keyword", "tag"} & rule.keys()):
            raise UsageError(f"{where}: set goes with a keyword or a tag, and without an action")
        if ("group" in rule or "elements" in rule) and "creator" not in rule:
            raise UsageError(f"{where}: group and elements belong to a creator's private elements")
        if "creator" in rule:
            group = int(rule["group"], 16) if "group" in rule else None
            for element in rule.get("elements") or [None]:
                key = rule["creator"].strip().upper(), group, None if element is None else int(element, 16)
                self.private[key] = rule["action"]
        elif "vr" in rule:
            self.by_vr[rule["vr"]] = rule["action"]
        else:
            self._add_tag(where, _tag(where, rule), rule)

    def _add_tag(self, where: str, tag: int, rule: Mapping[str, Any]) -> None:
        if tag in _WRITTEN or tag in _STRUCTURE or tag >> 16 in (0x0002, 0x7FE0):
            raise UsageError(f"{where}: this element is the program's own affair; uids and burned_in have a say in it")
        if "set" in rule:
            _check_template(where, rule["set"])
            if vr_of(tag) not in ("AE", "CS", "DA", "DS", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "DT", "UC", "UT"):
                raise UsageError(
                    f"{where}: only text can be set, and this element holds {vr_of(tag) or 'who knows what'}"
                )
            self.written[tag] = rule["set"]
        else:
            self.by_tag[tag] = rule["action"]

    def weaken(self, by_tag: Mapping[int, str]) -> bool:
        """Whether a rule keeps what the profile and its options would not: then no code may claim that they were
        followed."""
        kept = [tag for tag, action in self.by_tag.items() if action in ("K", "C")]
        private = "K" in self.private.values() and not self._keeps_private
        return private or "K" in self.by_vr.values() or any(by_tag.get(t, "K") not in ("K", "C") for t in kept)


def _tag(where: str, rule: Mapping[str, Any]) -> int:
    if "keyword" in rule:
        tag = tag_of(rule["keyword"])
        if tag is None:
            near = nearest_keyword(rule["keyword"])
            raise UsageError(
                f"{where}: {rule['keyword']} is not a DICOM keyword{f'; did you mean {near}?' if near else ''}"
            )
        return tag
    digits = re.sub(r"[(),\s]", "", rule["tag"])
    if not re.fullmatch(r"[0-9A-Fa-f]{8}", digits) or int(digits[3], 16) % 2:
        raise UsageError(f"{where}: {rule['tag']!r} is no tag of a standard element, such as (0008,1030)")
    return int(digits, 16)


def _burned_in(value: Any) -> str | tuple[Boxes, ...]:
    if isinstance(value, str):
        return value
    return tuple(
        Boxes(
            entry.get("modality", ""),
            entry.get("rows", 0),
            entry.get("columns", 0),
            tuple((a, b, c, d) for a, b, c, d in entry["boxes"]),
        )
        for entry in value
    )


@cache
def safe_private() -> dict[tuple[str, int | None, int | None], str]:
    """What `retain safe private` keeps: (creator, group, element) -> NUMBER, CODE, or C for a cleaned text."""
    text = resources.files("xnat_ingest.deidentify").joinpath("safe_private.json").read_text("utf-8")
    listed = json.loads(text)
    return {
        (creator.upper(), int(group, 16), int(element, 16)): action
        for kind, action in (("numbers", NUMBER), ("codes", CODE), ("texts", "C"))
        for creator, groups in listed[kind].items()
        for group, elements in groups.items()
        for element in elements.split()
    }
