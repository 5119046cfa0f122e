"""The faults of a command document, before anybody posts it.

XNAT's container service ignores unknown members. It silently skips an invalid command in an image label. It accepts
much that fails only at launch. So this check is stricter: first the shape (command.schema.json), then what a schema
cannot say. To add a rule, write one function in the module of its subject, and add one line to that module's RULES.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from xnat_ingest.commands.container.lint import command, handlers, templates, wrappers
from xnat_ingest.commands.container.lint.parts import CommandPart, hint
from xnat_ingest.core import nearest, printable
from xnat_ingest.core.json_documents import iter_errors, json_path

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

COMMAND_RULES = command.RULES + templates.RULES
WRAPPER_RULES = wrappers.RULES + handlers.RULES


def check(document: object) -> list[str]:
    """One sentence for each fault, beginning with the path of the field. [] when the command is sound."""
    shape = [fault for error in iter_errors(document, command_schema()) for fault in _sentences(error)]
    if shape or not isinstance(document, Mapping):
        return _once(shape)
    command = CommandPart("", document)
    if (command.text("type") or "docker") != "docker":
        return []  # setup and wrapup commands have only a command line, with the keys of another command
    found = [fault for rule in COMMAND_RULES for fault in rule(command)]
    found += [fault for wrapper in command.parts("xnat") for rule in WRAPPER_RULES for fault in rule(command, wrapper)]
    return _once(found)


def _once(sentences: list[str]) -> list[str]:
    """Sentences quote the document, so control characters in it are made harmless."""
    return list(dict.fromkeys(map(printable, sentences)))


@cache
def command_schema() -> dict[str, Any]:
    """The JSON schema of one command: its members, their types, and the widths of the service's columns."""
    schema: dict[str, Any] = json.loads(
        resources.files("xnat_ingest.commands.container").joinpath("command.schema.json").read_text("utf-8")
    )
    return schema


def _sentences(error: ValidationError) -> Iterator[str]:
    schema: Mapping[str, Any] = error.schema if isinstance(error.schema, Mapping) else {}
    where = json_path(error.absolute_path)
    found: Any = error.instance
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        for member in found:
            if member not in known:
                fix = f"did you mean {near}?" if (near := nearest(str(member), known)) else "leave it out"
                yield f"{_join(where, str(member))}: the service does not know this member and ignores it; {fix}"
    elif error.validator == "required":
        for member in schema["required"]:
            if member not in found:
                yield f"{_join(where, member)}: it is missing; give {_wanted(schema['properties'][member])}"
    elif error.validator == "enum":
        texts = [str(value) for value in schema["enum"] if isinstance(value, str) and value]
        wanted = f"give {schema['description']}" if "description" in schema else hint(str(found), texts)
        yield f"{where}: {_shown(found)} is not known here; {wanted}"
    else:
        wanted = schema.get("description", "something else")
        yield f"{where or 'the document'}: {_shown(found)} is not valid; give {wanted}"


def _join(where: str, member: str) -> str:
    return f"{where}.{member}" if where else member


def _wanted(schema: Mapping[str, Any]) -> str:
    """What a member should be: its own description, or that of the definition to which it refers."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    definition = command_schema()["$defs"][name] if name else schema
    listed = [str(value) for value in definition.get("enum", ()) if value]
    return str(definition.get("description") or f"one of {', '.join(listed)}")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
