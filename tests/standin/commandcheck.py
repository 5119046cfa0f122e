"""What the container service's ``validate()`` finds wrong with a command, as far as a small command can be wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_STRANGE = re.compile(r"[^A-Za-z0-9_-]")
_VISIBILITIES = ("public", "private", "protected")
_TYPES = ("docker", "docker-setup", "docker-wrapup")


def errors_of(command: Mapping[str, Any]) -> list[str]:
    """The messages, all of them; empty for a command that may be stored."""
    found = []
    if not _filled(command.get("name")):
        found.append("Command name cannot be blank.")
    intro = f'Command "{command.get("name")}" - '
    if not _filled(command.get("image")):
        found.append(intro + "image name cannot be blank.")
    if command["type"] not in _TYPES:
        known = ", ".join(_TYPES)
        found.append(f'{intro}Cannot validate command of type "{command["type"]}". Known types: {known}')
    if command["visibility"] not in _VISIBILITIES:
        found.append(intro + "has visibility set to an unknown value. Known types: " + ", ".join(_VISIBILITIES))
    found += [intro + one for one in _parts(command)]
    for wrapper in command["xnat"]:
        if not _filled(wrapper.get("name")):
            found.append(intro + "Command wrapper name cannot be blank.")
        found += [f'{intro}wrapper "{wrapper.get("name")}" - {one}' for one in _handlers(command, wrapper)]
    return found


def _filled(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _parts(command: Mapping[str, Any]) -> Iterable[str]:
    """Mounts, inputs, outputs and wrappers: unique names, and outputs on mounts that exist."""
    for member, word in (("mounts", "mount"), ("inputs", "input"), ("outputs", "output"), ("xnat", "wrapper")):
        names = [one.get("name") for one in command[member]]
        for name in dict.fromkeys(names):
            if names.count(name) > 1:
                yield f'{word} name "{name}" is not unique.'
            if member in ("inputs", "outputs") and (not _filled(name) or _STRANGE.search(name)):
                yield f'{word} name "{name}" may contain letters, digits, "_" and "-" only.'
    mounts = [one.get("name") for one in command["mounts"]]
    for output in command["outputs"]:
        if output.get("mount") not in mounts:
            name, mount, known = output.get("name"), output.get("mount"), ", ".join(map(str, mounts))
            yield f'output "{name}" references unknown mount "{mount}". Known mounts: {known}'


def _handlers(command: Mapping[str, Any], wrapper: Mapping[str, Any]) -> Iterable[str]:
    """Every output of the command must be taken by a handler of every wrapper."""
    outputs = [one.get("name") for one in command["outputs"]]
    handled = [one.get("accepts-command-output") for one in wrapper.get("output-handlers") or []]
    for name in handled:
        if name not in outputs:
            known = ", ".join(map(str, outputs))
            yield f'output handler refers to unknown command output "{name}". Known outputs: {known}.'
    for name in outputs:
        if name not in handled:
            yield f'command output "{name}" is not handled by any output handler.'
