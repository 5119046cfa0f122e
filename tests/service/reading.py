"""A command document as the service's JSON reader leaves it: known members, coerced, with their defaults."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any, TypeVar

from tests.service.command import Command, Input, Place
from tests.service.errors import Unreadable

R = TypeVar("R")


def read(document: str | Mapping[str, Any]) -> Command:
    """What a POST of the document makes of it. Raises ``Unreadable``."""
    command = _record(Command, _parse(document) if isinstance(document, str) else document)
    image = command.image
    # An image without a tag gets one here; that is why validation never finds one missing.
    if image and not re.fullmatch(r".+:[a-zA-Z0-9_.-]+", image):
        image += ":latest"
    return replace(command, image=image)


class _Real(float):
    """A number with a fraction: where text is wanted, its own spelling is kept."""

    def __new__(cls, text: str) -> typing.Self:
        made = super().__new__(cls, text)
        made.text = text
        return made

    text: str


def _parse(text: str) -> Any:
    """JSON with strings in single quotes and # comments; what follows the first value is not looked at."""

    def refuse(word: str) -> None:
        raise Unreadable(400, f"{word} is not JSON")

    def plain(match: re.Match[str]) -> str:
        if match[0].startswith("#"):
            return " "
        return '"' + re.sub(r'\\.|"', _requote, match[0][1:-1], flags=re.DOTALL) + '"'

    strict = re.sub(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|#[^\r\n]*""", plain, text, flags=re.DOTALL).lstrip()
    try:
        return json.JSONDecoder(parse_float=_Real, parse_constant=refuse).raw_decode(strict)[0]
    except ValueError as error:
        raise Unreadable(400, str(error)) from error


def _requote(match: re.Match[str]) -> str:
    return {'"': '\\"', "\\'": "'"}.get(match[0], match[0])


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)  # slow, and asked for again and again


def _record(cls: type[R], value: object) -> R:
    """One object; members that it does not know are ignored, so that a misspelt one vanishes."""
    if not isinstance(value, Mapping):
        raise Unreadable(400, f"a {cls.__name__} must be an object")
    hints = _hints(cls)  # type: ignore[arg-type]
    made: dict[str, Any] = {}
    for member in fields(cls):  # type: ignore[arg-type]
        names = [member.name.replace("_", "-"), member.metadata.get("also")]
        found = [value[name] for name in names if value.get(name) is not None]
        if found:
            made[member.name] = _member(hints[member.name], found[0])
    if "name" not in made and issubclass(cls, Input):
        raise Unreadable(400, "Null name")
    return cls(**made)


def _member(hint: Any, value: object) -> object:
    if hint in _READERS:
        return _READERS[hint](value)
    if hint == Place | None:
        place = _record(Place, value)
        if place.type not in ("system-property", "environment-variable"):
            raise Unreadable(400, f"secrets know no type {place.type}")
        return place
    (inner, *_) = typing.get_args(hint)
    if not isinstance(value, list):
        raise Unreadable(400, "a list is wanted")
    if None in value:
        raise Unreadable(400, "null in a list")
    return tuple(_text(each) if inner is str else _record(inner, each) for each in value)


def _text(value: object) -> str:
    if isinstance(value, (Mapping, list)):
        raise Unreadable(400, "text is wanted")
    if isinstance(value, bool):
        return str(value).lower()
    return value.text if isinstance(value, _Real) else str(value)


def _flag(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value != 0
    words = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False, "": None}
    if isinstance(value, str) and value.strip() in words:
        return words[value.strip()]
    raise Unreadable(400, f"{value!r} is neither true nor false")


def _number(value: object) -> float | None:
    if isinstance(value, str) and not value.strip():
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise Unreadable(400, "a number is wanted")
    try:
        return float(value)
    except ValueError:
        raise Unreadable(400, f"{value!r} is no number") from None


def _whole(value: object) -> int | None:
    if isinstance(value, str) and value.strip() and not re.fullmatch(r"[+-]?\d+", value.strip()):
        raise Unreadable(400, f"{value!r} is no whole number")
    number = _number(value)
    return None if number is None else int(number)


def _map(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise Unreadable(400, "an object is wanted")
    if None in value.values():
        raise Unreadable(400, "null in an object of texts")
    return {str(name): _text(each) for name, each in value.items()}


def _nullable_map(value: object) -> dict[str, str | None]:
    """Of the objects of texts, ulimits alone lets a null through; validation then crashes on it."""
    if not isinstance(value, Mapping):
        raise Unreadable(400, "an object is wanted")
    return {str(name): None if each is None else _text(each) for name, each in value.items()}


_READERS: dict[Any, Callable[[object], object]] = {
    str: _text,
    str | None: _text,
    bool | None: _flag,
    int | None: _whole,
    float | None: _number,
    Mapping[str, str]: _map,
    Mapping[str, str | None] | None: _nullable_map,
    object: lambda value: value,
}
