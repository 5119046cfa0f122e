"""The dialog that a person fills in, and what it posts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.service.command import Command, CommandInput, WrapperInput
from tests.service.errors import MissingInput
from tests.service.inputs import Inputs, Node
from tests.service.model import Site
from tests.service.resolve import chosen, request
from tests.service.splitter import is_blank
from tests.service.templates import Order, legal

_TRUE = ("1", "y", "yes", "true", "t")


@dataclass(frozen=True)
class Choice:
    """One entry of a drop-down."""

    value: str
    label: str


@dataclass(frozen=True)
class Field:
    """``kind`` is text, password, boolean, select-one, select-many, file or static (seen, but not to be changed).

    ``default`` is what is posted if nobody touches the field. ``shown`` is false for command inputs that the wrapper
    feeds: the dialog leaves them out altogether. ``ticked`` concerns booleans alone.
    """

    name: str
    label: str
    description: str | None
    kind: str
    choices: tuple[Choice, ...] = ()
    default: str = ""
    required: bool = False
    shown: bool = True
    ticked: bool | None = None


def form(
    document: str | Mapping[str, Any] | Command, wrapper_name: str, site: Site, root_uri: str, *, order: Order = tuple
) -> list[Field]:
    """The fields from top to bottom. Raises a ``Refusal`` where the dialog answers with an error instead."""
    command, wrapper = chosen(document, wrapper_name)
    inputs = Inputs(command, wrapper, site, request(wrapper, root_uri, {}), order, full=False)
    nodes = inputs.resolve()
    fields = [field for node in nodes for field in _fields([node])]
    seen = {field.name for field in fields}
    fed = [given for given in command.inputs if given.name not in seen]
    return [*fields, *(Field(given.name, _label(given), given.description, "static", shown=False) for given in fed)]


def post(fields: Iterable[Field], **changes: str) -> dict[str, str]:
    """The values that the dialog sends, with dashes for underscores in the names of ``changes``.

    A boolean is sent as true or false. The dialog looks for illegal strings itself, and for required fields left empty.
    """
    asked = {name.replace("_", "-"): value for name, value in changes.items()}
    values: dict[str, str] = {}
    for field in fields:
        if not field.shown:
            continue
        value = asked.pop(field.name, field.default)
        if field.required and field.kind in ("text", "password") and is_blank(value):
            raise MissingInput(field.name)
        legal(field.name, value)
        values[field.name] = value
    if asked:
        raise KeyError(f"the dialog has no field {', '.join(asked)}")
    return values


def _fields(same: list[Node]) -> Iterator[Field]:
    """One field for an input, however many branches of the tree it stands on, and those derived from it below."""
    yield _field(same)
    below: dict[str, list[Node]] = {}
    for child in (child for node in same for value in node.values for child in value.nodes):
        if not isinstance(child.input, CommandInput):
            below.setdefault(child.input.name, []).append(child)
    for nodes in below.values():
        yield from _fields(nodes)


def _field(same: list[Node]) -> Field:
    given = same[0].input
    texts = [
        Choice(value.text, value.label or value.text)
        for node in same
        for value in node.values
        if value.text is not None
    ]
    kind = _kind(same)
    choices: tuple[Choice, ...] = ()
    default = texts[0].value if len(texts) == 1 else ""
    if isinstance(given, CommandInput) and given.select_values:
        choices = tuple(Choice(value, value) for value in given.select_values)
        default = _selected(given, default)
    elif kind in ("select-one", "select-many"):
        choices = tuple(texts)
    ticked = None
    if kind == "boolean":
        # It is the word that true stands for which is looked at, not true itself.
        ticked = default.lower() in _TRUE
        default = str(ticked).lower()
    if kind == "file":
        default = ""
    if isinstance(given, WrapperInput) and given.user_settable is False:
        kind, choices, ticked = "static", (), None
        default = texts[0].value if len(texts) == 1 else ""
        if given.multiple and len(texts) > 1:
            default = json.dumps([text.value for text in texts])
    return Field(given.name, _label(given), given.description, kind, choices, default, given.is_required, ticked=ticked)


def _selected(given: CommandInput, default: str) -> str:
    """A default that is not among the choices selects nothing."""
    if given.stored_type == "select-one":
        return default if default in given.select_values else ""
    try:
        listed = json.loads(default)
    except ValueError:
        listed = [default]
    return json.dumps([value for value in given.select_values if value in listed])


def _kind(same: list[Node]) -> str:
    given = same[0].input
    if given.stored_type == "boolean":
        return "boolean"
    if isinstance(given, CommandInput):
        if given.stored_type in ("select-one", "select-many", "file"):
            return given.stored_type
        return "password" if given.sensitive else "text"
    counts = [len(node.values) for node in same]
    if max(counts) > 1:
        return "select-many" if given.multiple else "select-one"
    return "text" if min(counts) == 0 else "static"


def _label(given: CommandInput | WrapperInput) -> str:
    return given.name if is_blank(given.label) else str(given.label)
