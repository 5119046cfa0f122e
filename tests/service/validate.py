"""What the service finds wrong with a document before it stores it, and what its database then refuses."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from tests.service.command import WRAPPER_TYPES, Command, CommandInput, Handler, Output, Wrapper, WrapperInput
from tests.service.errors import Unreadable
from tests.service.reading import read
from tests.service.splitter import is_blank

LONGEST = 255
_DELIMITERS = ("quoted-space", "space", "comma", "flag")
_RESERVED = ("XNAT_USER", "XNAT_PASS", "XNAT_HOST")
_EMPTY_IN_SETUP = ("mounts", "inputs", "outputs", "xnat", "environment_variables", "ports", "secrets")
# The columns that hold more than 255 characters; secrets and metadata are kept as JSON.
_TEXT_COLUMNS = {
    ("Command", "description"),
    ("Command", "command_line"),
    ("Command", "command_metadata"),
    ("Command", "secrets"),
    ("CommandInput", "description"),
    ("CommandInput", "default_value"),
    ("WrapperInput", "description"),
    ("WrapperInput", "default_value"),
    ("Output", "description"),
    ("Wrapper", "description"),
}


def validate(document: str | Mapping[str, Any]) -> list[str]:
    """Every complaint about a document that is POSTed; a crash or an unreadable document is a complaint too.

    The service says nothing of names in ``provides-…`` members, of contexts, properties or name collisions.
    """
    try:
        return list(_command(read(document)))
    except Unreadable as error:
        return [f"{error.status}: {error}"]


def too_long(document: str | Mapping[str, Any] | Command) -> list[str]:
    """Where a document does not fit its columns, so that storing it fails although it is valid."""
    return list(_columns("", document if isinstance(document, Command) else read(document)))


def _columns(where: str, record: object) -> Iterator[str]:
    for member in fields(record) if is_dataclass(record) else ():
        if (type(record).__name__, member.name) in _TEXT_COLUMNS:
            continue
        value = getattr(record, member.name)
        path = f"{where}{member.name.replace('_', '-')}"
        texts: Iterable[object] = (
            [*value, *value.values()] if isinstance(value, Mapping) else value if isinstance(value, tuple) else [value]
        )
        for position, text in enumerate(texts):
            if isinstance(text, str) and len(text) > LONGEST:
                yield f"{path}: {len(text)} characters"
            yield from _columns(f"{path}[{position}].", text)


def _command(command: Command) -> Iterator[str]:
    if is_blank(command.name):
        yield "command without a name"
    if is_blank(command.image):
        yield "command without an image"
    if command.type in (None, "docker"):
        yield from _docker(command)
    elif command.type in ("docker-setup", "docker-wrapup"):
        yield from (f"{command.type} with {name}" for name in _EMPTY_IN_SETUP if getattr(command, name))
    else:
        yield f"unknown type of command: {command.type}"
    if command.visibility not in (None, "public", "private", "protected"):
        yield f"unknown visibility: {command.visibility}"


def _docker(command: Command) -> Iterator[str]:
    yield from _ulimits(command)
    yield from _secrets(command)
    for mount in command.mounts:
        if is_blank(mount.name) or is_blank(mount.path):
            yield f"mount {mount.name}: neither name nor path may be blank"
    yield from _repeated("mount", (mount.name or "" for mount in command.mounts))
    for given in command.inputs:
        yield from _command_input(given)
    yield from _repeated("input", (given.name for given in command.inputs))
    mounts = {mount.name or "" for mount in command.mounts}
    for output in command.outputs:
        yield from _output(output, mounts)
    yield from _repeated("output", (output.name or "" for output in command.outputs))
    for wrapper in command.xnat:
        yield from (f"wrapper {wrapper.name}: {complaint}" for complaint in _wrapper(wrapper, command))
    yield from _repeated("wrapper", (wrapper.name or "" for wrapper in command.xnat))


def _repeated(what: str, names: Iterable[str]) -> Iterator[str]:
    yield from (f"{what} name not unique: {name}" for name, count in Counter(names).items() if count > 1)


def _name(what: str, name: str | None) -> Iterator[str]:
    """The name of an input, output or handler. Mounts and wrappers may be called anything that is not blank."""
    if name is None:
        raise Unreadable(500, f"{what} without a name")
    if is_blank(name):
        yield f"{what} name blank"
    if re.search(r"[^A-Za-z0-9_-]", name):
        yield f"{what} name with other characters than A-Z a-z 0-9 _ -: {name}"


def _ulimits(command: Command) -> Iterator[str]:
    for name, limit in (command.ulimits or {}).items():
        if limit is None:
            raise Unreadable(500, f"ulimit {name} is null")
        # Colons at the end do not count.
        if not limit or len(limit.rstrip(":").split(":")) > 2:
            yield f"ulimit {name} is neither soft:hard nor one number: {limit}"


def _secrets(command: Command) -> Iterator[str]:
    for secret in command.secrets:
        if secret.destination is None:
            raise Unreadable(500, "secret without a destination")
        name = secret.destination.identifier
        if name in _RESERVED:
            yield f"secret for a reserved variable: {name}"
        if name in command.environment_variables:
            yield f"secret and environment variable of one name: {name}"


def _command_input(given: CommandInput) -> Iterator[str]:
    what = f"input {given.name}"
    yield from _name("input", given.name)
    if given.multiple_delimiter is not None and given.multiple_delimiter not in _DELIMITERS:
        yield f"{what}: unknown multiple-delimiter {given.multiple_delimiter}"
    is_select = given.type in ("select-one", "select-many")
    if is_select != bool(given.select_values):
        yield f"{what}: select-values belong to the types select-one and select-many, and to them only"
    if given.select_values and not set(_defaults(given)) <= set(given.select_values):
        yield f"{what}: default-value {given.default_value} is not among the select-values"


def _defaults(given: CommandInput) -> list[str]:
    """The default, or the defaults that a JSON list in a string names for select-many."""
    if given.type == "select-many":
        if given.default_value is None:
            raise Unreadable(500, f"select-many input {given.name} without a default-value")
        try:
            listed = json.loads(given.default_value)
        except ValueError:
            listed = None
        if isinstance(listed, list):
            return [str(value) for value in listed]
    return [] if given.default_value is None else [given.default_value]


def _output(output: Output, mounts: set[str]) -> Iterator[str]:
    yield from _name("output", output.name)
    if is_blank(output.mount):
        yield f"output {output.name}: mount blank"
    if output.mount not in mounts:
        yield f"output {output.name}: unknown mount {output.mount}"


def _wrapper(wrapper: Wrapper, command: Command) -> Iterator[str]:
    if is_blank(wrapper.name):
        yield "name blank"
    yield from _repeated("input", (given.name for given in wrapper.inputs))
    commands = {given.name: given for given in command.inputs}
    for given in wrapper.inputs:
        yield from _wrapper_input(given)
        fed = commands.get(given.provides_value_for_command_input or "")
        if fed and (fed.type in ("select-one", "select-many") or fed.select_values):
            yield f"input {given.name} provides a value for the select {fed.name}"
    known = {given.name for given in wrapper.external_inputs}
    for given in wrapper.derived_inputs:
        known.add(given.name)
        yield from _derived(given, known)
    outputs = {output.name for output in command.outputs}
    yield from _handlers(wrapper, outputs)
    handled = {handler.accepts_command_output for handler in wrapper.output_handlers}
    yield from (f"output {name} has no handler" for name in sorted(str(name) for name in outputs - handled))


def _wrapper_input(given: WrapperInput) -> Iterator[str]:
    yield from _name("wrapper input", given.name)
    if (given.type or "string") not in WRAPPER_TYPES:
        yield f"input {given.name}: unknown type {given.type}"
    if not is_blank(given.via_setup_command) and is_blank(given.provides_files_for_command_mount):
        yield f"input {given.name}: via-setup-command without provides-files-for-command-mount"


def _derived(given: WrapperInput, known: set[str]) -> Iterator[str]:
    """``known`` has the external inputs, the derived ones before this one, and this one."""
    parent = given.derived_from_wrapper_input
    if is_blank(parent):
        yield f"derived input {given.name}: derived-from-wrapper-input blank"
    if parent == given.name:
        yield f"derived input {given.name} is derived from itself"
    if parent not in known:
        yield f"derived input {given.name} is derived from {parent}, which does not stand before it"
    if given.multiple and not is_blank(given.provides_files_for_command_mount):
        yield f"multiple input {given.name} provides files"
    if given.multiple and is_blank(given.provides_value_for_command_input):
        yield f"multiple input {given.name} provides no value"


def _handlers(wrapper: Wrapper, outputs: set[str | None]) -> Iterator[str]:
    derived = {given.name: given for given in wrapper.derived_inputs}
    targets = {given.name for given in wrapper.inputs}
    for handler in wrapper.output_handlers:
        target = handler.as_a_child_of
        what = f"handler {handler.name}"
        yield from _handler(handler)
        if handler.accepts_command_output not in outputs:
            yield f"{what}: unknown output {handler.accepts_command_output}"
        if target not in targets:
            yield f"{what}: {target} is neither an input nor an earlier handler"
        source = derived.get(target or "")
        if source and source.multiple:
            yield f"{what}: {target} may have several values"
        if source and source.derived_from_xnat_object_property not in (None, "uri"):
            yield f"{what}: the value of {target} is not a uri"
        targets.add(str(handler.name))
    yield from _repeated("handler", (str(handler.name) for handler in wrapper.output_handlers))


def _handler(handler: Handler) -> Iterator[str]:
    what = f"handler {handler.name}"
    yield from _name("handler", handler.name)
    if is_blank(handler.accepts_command_output) or is_blank(handler.as_a_child_of):
        yield f"{what}: neither accepts-command-output nor as-a-child-of may be blank"
    if handler.type not in (None, "Resource", "Assessor", "Scan"):
        yield f"{what}: unknown type {handler.type}"
    if handler.type in (None, "Resource") and is_blank(handler.label):
        yield f"{what}: a Resource needs a label"
