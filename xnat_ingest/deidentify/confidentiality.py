"""The standard's table of confidential attributes (confidentiality.txt), and what a choice of options makes of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

PRIVATE = "private"
# The standard's name of each option, without its last word, "Option" -> (its column in the table, its code in PS3.16).
OPTIONS: dict[str, tuple[str, str]] = {
    "retain safe private": ("private", "113111"),
    "retain uids": ("uids", "113110"),
    "retain device identity": ("device", "113109"),
    "retain institution identity": ("institution", "113112"),
    "retain patient characteristics": ("patient", "113108"),
    "retain longitudinal temporal information with full dates": ("full-dates", "113106"),
    "retain longitudinal temporal information with modified dates": ("modified-dates", "113107"),
    "clean descriptors": ("descriptors", "113105"),
    "clean structured content": ("content", "113104"),
}
FULL_DATES = "retain longitudinal temporal information with full dates"
MODIFIED_DATES = "retain longitudinal temporal information with modified dates"
KEEP_UIDS = "retain uids"
# How the standard calls each code (PS3.16, CID 7050).
BASIC_CODE = ("113100", "Basic Application Confidentiality Profile")
CODE_MEANINGS = {
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}


@dataclass(frozen=True, slots=True)
class Attribute:
    """A line of the table. key: the tag in hexadecimal digits, x for any; options: column -> action."""

    key: str
    basic: str
    options: Mapping[str, str]

    def action(self, columns: Collection[str]) -> str:
        """With these options: what one keeps is kept, what one cleans is cleaned, else the basic profile decides."""
        chosen = {self.options[column] for column in columns if column in self.options}
        return "K" if "K" in chosen else "C" if "C" in chosen else self.basic


@cache
def attributes() -> tuple[Attribute, ...]:
    """Every line of the table."""
    text = resources.files("xnat_ingest.deidentify").joinpath("confidentiality.txt").read_text("utf-8")
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        Attribute(key, basic, {column: action for column, _, action in (o.partition("=") for o in options)})
        for key, basic, *options in lines
    )


def settled(action: str, *, is_sequence: bool) -> str:
    """One action of a choice (X/Z/D): the one that keeps the object valid whatever its kind demands.

    A value that may be demanded gets a dummy, an element that may be demanded stays empty; U* maps the UIDs of a
    sequence's items. A sequence is emptied where that is among the choices.
    """
    choices = action.split("/")
    if "U*" in choices:
        return "R"
    if is_sequence and "Z" in choices:
        return "Z"
    return choices[-1]
