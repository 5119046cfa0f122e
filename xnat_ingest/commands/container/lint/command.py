"""Rules on mounts, inputs, outputs, environment variables and secrets of a command."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterator

from xnat_ingest.commands.container.lint.parts import (
    CommandPart,
    CommandRule,
    as_text,
    hint,
    inputs,
    json_path,
    kind,
    twice,
)

SELECTS = ("select-one", "select-many")
# The service sets these itself. A command that also sets them fails at launch.
RESERVED = ("XNAT_HOST", "XNAT_USER", "XNAT_PASS", "XNAT_WORKFLOW_ID", "XNAT_EVENT_ID")
# A value with one of these stops the launch, wherever it comes from.
ILLEGAL = (";", "&&", "||", "`", "(")
# Mapped values that make the launch form show a ticked box.
_TICKED = ("1", "y", "yes", "true", "t")


def _names(command: CommandPart) -> Iterator[str]:
    for member, what in (("mounts", "mount"), ("inputs", "input"), ("outputs", "output"), ("xnat", "wrapper")):
        yield from twice(command.parts(member), what)


def _keys(command: CommandPart) -> Iterator[str]:
    keys = Counter(each.key for each in command.parts("inputs"))
    for each in command.parts("inputs"):
        if keys[each.key] > 1:
            yield f"{each.at('replacement-key')}: several inputs share the key {each.key}; give each a key of its own"


def _mount_paths(command: CommandPart) -> Iterator[str]:
    seen: dict[str, str] = {}
    feeders = [each for wrapper in command.parts("xnat") for each in inputs(wrapper)]
    starts = ("/", *(each.key for each in command.parts("inputs") + feeders))
    for mount in command.parts("mounts"):
        path, where = posixpath.normpath(mount.text("path")), mount.at("path")
        if not path.startswith(starts):
            yield f"{where}: {path!r} is relative, so no container can be made; give a path that begins with /"
        if path in seen:
            yield f"{where}: {path!r} is the path of {seen[path]} too; give each mount a path of its own"
        seen.setdefault(path, mount.path)


def _select_values(command: CommandPart) -> Iterator[str]:
    for each in command.parts("inputs"):
        values = each.texts("select-values")
        if kind(each) in SELECTS and not values:
            yield f"{each.at('select-values')}: a {kind(each)} input has no values to select; list them"
        if kind(each) not in SELECTS and values:
            fix = "make it a select-one input or leave them out"
            yield f"{each.at('select-values')}: an input of type {kind(each)} takes none; {fix}"


def _select_defaults(command: CommandPart) -> Iterator[str]:
    for each in command.parts("inputs"):
        where, values = each.at("default-value"), each.texts("select-values")
        if kind(each) == "select-many" and not each.given("default-value"):
            yield f'{where}: a select-many input without it makes the service fail; give one, "[]" for none'
        elif values and each.given("default-value"):
            for value in _selected(each):
                if value not in values:
                    yield f"{where}: {value!r} is not among the select-values; {hint(value, values)}"


def _selected(each: CommandPart) -> list[str]:
    """A default of several values is a JSON list in a text."""
    text = each.text("default-value")
    try:
        values = json.loads(text) if kind(each) == "select-many" else None
    except (ValueError, RecursionError):
        values = None
    return [as_text(value) for value in values] if isinstance(values, list) else [text]


def _booleans(command: CommandPart) -> Iterator[str]:
    """The service takes any text but true for false; the form ticks the box by the text that would be passed."""
    for each in command.parts("inputs"):
        default = each.text("default-value").lower()
        if kind(each) != "boolean" or not default:
            continue
        if default not in ("true", "false"):
            yield f"{each.at('default-value')}: {default!r} counts as false; write true or false"
            continue
        member = f"{default}-value"
        mapped = each.text(member) if each.given(member) else default
        if (mapped.lower() in _TICKED) != (default == "true"):
            shown = "unticked" if default == "true" else "ticked"
            fix = f"use {'a text such as yes' if default == 'true' else 'another text'}, or the other default"
            yield f"{each.at(member)}: with {mapped!r} the form shows the default {default} {shown}; {fix}"


def _illegal(command: CommandPart) -> Iterator[str]:
    for each in command.parts("inputs"):
        values = [(member, each.text(member)) for member in ("default-value", "true-value", "false-value")]
        if kind(each) != "boolean":
            values = values[:1]
        values += [(f"select-values[{index}]", text) for index, text in enumerate(each.texts("select-values"))]
        yield from illegal(each, values)


def illegal(part: CommandPart, values: list[tuple[str, str]]) -> Iterator[str]:
    """One fault for each of these members, given with their texts, that would stop the launch."""
    for member, text in values:
        found = [mark for mark in ILLEGAL if mark in text]
        # A JSONPath is looked up first; it has parentheses of its own.
        if found and json_path(text) is None:
            yield f"{part.at(member)}: the service refuses to launch with {found[0]!r} in a value; leave it out"


def _output_places(command: CommandPart) -> Iterator[str]:
    mounts = [mount.name for mount in command.parts("mounts")]
    for output in command.parts("outputs"):
        mount, path = output.text("mount"), output.text("path")
        if mount not in mounts:
            yield f"{output.at('mount')}: there is no mount {mount!r}; {hint(mount, mounts)}"
        if path.startswith("/") or ".." in path.split("/"):
            yield f"{output.at('path')}: {path!r} leaves the mount; give a path inside of it"


def _environment(command: CommandPart) -> Iterator[str]:
    for name in command.table("environment-variables"):
        if name in RESERVED:
            where = command.at("environment-variables") + f".{name}"
            yield f"{where}: the service sets it itself, and the launch fails; leave it out"


def _secrets(command: CommandPart) -> Iterator[str]:
    seen = dict.fromkeys(command.table("environment-variables"), "environment-variables")
    for index, secret in enumerate(command.members.get("secrets") or ()):
        name, where = secret["destination"]["identifier"], f"secrets[{index}].destination.identifier"
        if name in RESERVED:
            yield f"{where}: the service sets {name} itself; use another name"
        if name in seen:
            yield f"{where}: {name!r} is set in {seen[name]} too; keep one of them"
        seen.setdefault(name, f"secrets[{index}]")


RULES: tuple[CommandRule, ...] = (
    _names,
    _keys,
    _mount_paths,
    _select_values,
    _select_defaults,
    _booleans,
    _illegal,
    _output_places,
    _environment,
    _secrets,
)
