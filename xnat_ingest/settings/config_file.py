"""The config file: JSON whose keys are the long flags with underscores, checked against a schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, cast

from xnat_ingest.core import UsageError, nearest
from xnat_ingest.core.json_documents import best_error, json_path, read_json, read_text
from xnat_ingest.core.read_small import MEGABYTE
from xnat_ingest.settings.options import (
    TABLE,
    count,
    is_list,
    non_negative_integer,
    port,
    positive_integer,
    seconds,
    size,
    switch,
    worker_count,
)


def config_schema() -> dict[str, Any]:
    """The JSON schema of a config file: all options, and the rules."""
    from importlib import resources

    rule = json.loads(resources.files("xnat_ingest.settings").joinpath("rules.schema.json").read_text("utf-8"))
    properties: dict[str, Any] = {}
    for name, row in TABLE.items():
        if name == "config":
            continue
        if is_list(name):
            properties[name] = {"type": "array", "items": {"if": {"type": "object"}, "then": rule, "else": _WORD}}
        elif row.parse is switch:
            properties[name] = {"type": "boolean"}
        elif row.parse in (port, positive_integer, worker_count, non_negative_integer, count, size, seconds):
            properties[name] = {"type": ["integer", "number", "string"]}
        else:
            properties[name] = {"type": "string"}
    properties["Exclude"] = {"type": "array", "items": _WORD}
    return {"type": "object", "properties": properties, "additionalProperties": False}


_WORD = {"type": "string", "minLength": 1}
# Of a file from elsewhere: how many keys of a rule are looked at, and how much of it an error shows.
_FEW, _SHOWN = 10, 300


def read_file(path: str) -> str:
    return read_text(path, "config file", 4 * MEGABYTE)


def parse_config(text: str, path: str) -> dict[str, Any]:
    """A config file's options. The original tool's `Exclude` list becomes folder rules. Raises UsageError."""
    config = read_json(text, f"config file {path}")
    _check(f"config file {path}: ", config)
    if "Exclude" in config:
        if "exclude" in config:
            raise UsageError(f"config file {path} has both Exclude and exclude; keep only one of them")
        config["exclude"] = [{"folder": word} for word in config.pop("Exclude")]
    return dict(config)


def _begin(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def check_rules(option: str, entries: Iterable[object]) -> list[object]:
    """The entries of a list that a program gives, its rules as a config file would have them. Raises UsageError."""
    found = [_as_json(one) if isinstance(one, Mapping) else one for one in entries]
    _check("", {option: [one if isinstance(one, Mapping) else "another" for one in found]})
    return found


def _as_json(rule: Mapping[str, object]) -> dict[str, object]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in rule.items()}


def _check(what: str, config: object) -> None:
    error = best_error(config, config_schema())
    if error is None:
        return
    where = json_path(error.absolute_path)
    schema: Any = error.schema
    instance: Any = error.instance
    known = list(schema.get("properties", ())) if isinstance(schema, Mapping) else []
    if error.validator == "additionalProperties":
        unknown = next(key for key in instance if key not in known)
        near = nearest(unknown, known)
        hint = f"; did you mean {near}?" if near else f"; known keys: {', '.join(known)}"
        raise UsageError(f"{what}{where + ': ' if where else ''}unknown key {_begin(repr(unknown))}{hint}")
    if error.validator == "anyOf" and isinstance(instance, Mapping):
        matchers = [branch["required"][0] for branch in cast("list[dict[str, list[str]]]", error.validator_value)]
        near = next((n for key in islice(instance, _FEW) if (n := nearest(str(key), matchers))), None)
        hint = f"did you mean {near}?" if near else f"a rule has one of {', '.join(matchers)}"
        raise UsageError(f"{what}{where}: {_begin(json.dumps(instance, default=str))} is not a rule; {hint}")
    if error.validator == "oneOf":
        raise UsageError(f"{what}{where}: a tag rule needs exactly one of matches and in")
    raise UsageError(f"{what}{where or 'the whole file'}: {error.message}")
