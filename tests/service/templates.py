"""Values in the place of their keys: plain text for plain text, with nothing escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping

from tests.service.command import CommandInput
from tests.service.errors import IllegalInput, JsonPath
from tests.service.splitter import is_blank

Order = Callable[[list[str]], Iterable[str]]
"""In which order keys are replaced. The service's is that of a hash map, so a test may choose any."""

ILLEGAL = (";", "&&", "||", "`", "(")


def no_jsonpath(text: str | None) -> None:
    """Text between carets is looked up in the command as JSONPath; this model takes it for the failure it mostly is."""
    if text and not is_blank(text) and re.search(r"\^(wrapper:)?(.+)\^", text):
        raise JsonPath(text)


def legal(name: str, value: str | None) -> None:
    """Values are held to this wherever they come from: typed, derived, or the URI of an uploaded file."""
    for text in ILLEGAL:
        if value is not None and text in value:
            raise IllegalInput(f"{name} holds {text}")


def fill(template: str, values: Mapping[str, str | None], order: Order) -> str:
    """The template with each key replaced in turn, so that a value which holds a later key is replaced in its turn."""
    if is_blank(template) or not values:
        return template
    no_jsonpath(template)
    for key in order(list(values)):
        template = template.replace(key, values[key] or "")
    return template


def for_command_line(given: CommandInput, value: str) -> str:
    """What a value becomes in the line: with its flag, and a list of select-many joined."""
    if is_blank(value):
        return ""
    if given.stored_type == "select-many":
        try:
            listed = json.loads(value)
        except ValueError:
            listed = None
        if isinstance(listed, list):
            return joined(given, [str(each) for each in listed])
    if is_blank(given.command_line_flag):
        return value
    separator = " " if given.command_line_separator is None else given.command_line_separator
    return f"{given.command_line_flag}{separator}{value}"


def joined(given: CommandInput, values: list[str]) -> str:
    """Several values in the line. A blank separator becomes a space here, which a single value does not see."""
    if not values:
        return ""
    flag = given.command_line_flag or ""
    separator = given.command_line_separator or ""
    prefix = (" " if is_blank(flag) else flag) + (" " if is_blank(separator) else separator)
    prefix = "" if is_blank(prefix) else prefix
    match given.multiple_delimiter:
        case "quoted-space":
            return f"{prefix}'{' '.join(values)}'"
        case "comma":
            return prefix + ",".join(values)
        case "flag":
            return prefix + f" {prefix}".join(values)
    return prefix + " ".join(values)
