"""JSONPath filters of the form that commands use on the objects they derive: comparisons joined by && and ||."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_COMPARISON = re.compile(r"\s*@\.([A-Za-z-]+)\s*(==|!=)\s*'([^'\\]*)'\s*")
_MEMBER = re.compile(r"\s*@\.([A-Za-z-]+)\s+in\s+(\[.*\])\s*")


def matches(filter_: str, properties: Mapping[str, str]) -> bool:
    """Whether an object passes. ``&&`` binds tighter than ``||``; an absent property differs from every text.

    A filter of any other form is an error of the test: the service itself would evaluate it.
    """
    return any(all(_compare(term, properties) for term in part.split("&&")) for part in filter_.split("||"))


def _compare(term: str, properties: Mapping[str, str]) -> bool:
    if found := _COMPARISON.fullmatch(term):
        name, operator, text = found.groups()
        return (properties.get(name) == text) == (operator == "==")
    if found := _MEMBER.fullmatch(term):
        return properties.get(found[1]) in json.loads(found[2])
    raise NotImplementedError(f"a filter that this model does not evaluate: {term.strip()}")


def picks(name: str, value: str, matcher: str, properties: Mapping[str, str], *, multiple: bool) -> bool:
    """Whether a value of the launch request picks an object that the matcher lets through.

    Both are written into one filter as they are: a quote in the value ends its text there, and of a matcher with
    ``||`` only the first part is tied to the value.
    """
    asked = f"@.{name} in {value}" if multiple and _is_list(value) else f"@.{name} == '{value}'"
    try:
        return matches(f"{asked} && {matcher}" if matcher.strip() else asked, properties)
    except NotImplementedError:
        if "'" in value or "\\" in value:
            return False  # no valid filter any more, which finds nothing
        raise


def _is_list(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False
