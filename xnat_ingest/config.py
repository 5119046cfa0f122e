"""The config file: JSON whose keys are the long flags with underscores, checked against a schema."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xnat_ingest.errors import UsageError
from xnat_ingest.options import TABLE, count, is_list, natural, seconds, size, switch, whole_number


def config_schema() -> dict[str, Any]:
    """The JSON schema of a config file: the options that belong to a tree, and the rules."""
    from importlib import resources

    rule = json.loads(resources.files("xnat_ingest").joinpath("rules.schema.json").read_text("utf-8"))
    properties: dict[str, Any] = {}
    for name, row in TABLE.items():
        if name == "config":
            continue
        if is_list(name):
            properties[name] = {"type": "array", "items": {"if": {"type": "object"}, "then": rule, "else": _WORD}}
        elif row.parse is switch:
            properties[name] = {"type": "boolean"}
        elif row.parse in (whole_number, natural, count, size, seconds):
            properties[name] = {"type": ["integer", "number", "string"]}
        else:
            properties[name] = {"type": "string"}
    properties["Exclude"] = {"type": "array", "items": _WORD}
    return {"type": "object", "properties": properties, "additionalProperties": False}


_WORD = {"type": "string", "minLength": 1}


def read_config(path: str) -> dict[str, Any]:
    """A config file's options. The original tool's `Exclude` list becomes folder rules. Raises UsageError."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read config file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"config file {path} is not UTF-8 text") from error
    try:
        config = json.loads(text, object_pairs_hook=_without_doubles)
    except json.JSONDecodeError as error:
        raise UsageError(f"config file {path} is not JSON: {error.msg}, line {error.lineno}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise UsageError(f"config file {path} is not JSON that can be read") from error
    _check_config(path, config)
    if "Exclude" in config:
        if "exclude" in config:
            raise UsageError(f"config file {path} has both Exclude and exclude; keep one of them")
        config["exclude"] = [{"folder": word} for word in config.pop("Exclude")]
    return dict(config)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON lets the last of two equal keys win without a word; a list of exclusions must not vanish so."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise UsageError(f"a config file has the key {next(k for k in keys if keys.count(k) > 1)!r} twice; join them")
    return found


def _check_config(path: str, config: object) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(config_schema()).iter_errors(config))
    if error is None:
        return
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path).lstrip(".")
    known = list(error.schema.get("properties", ())) if isinstance(error.schema, Mapping) else []
    unknown = [key for key in error.instance if key not in known] if error.validator == "additionalProperties" else []
    if unknown:
        near = nearest(unknown[0], known)
        hint = f"; did you mean {near}?" if near else f"; known keys: {', '.join(known)}"
        raise UsageError(f"config file {path}: {where + ': ' if where else ''}unknown key {unknown[0]!r}{hint}")
    if error.validator == "anyOf" and isinstance(error.instance, Mapping):
        near = next((n for key in error.instance if (n := nearest(str(key), _MATCHERS))), None)
        hint = f"did you mean {near}?" if near else f"a rule has one of {', '.join(_MATCHERS)}"
        raise UsageError(f"config file {path}: {where}: {json.dumps(error.instance)} is no rule; {hint}")
    if error.validator == "oneOf":
        raise UsageError(f"config file {path}: {where}: a tag rule has either matches or in")
    raise UsageError(f"config file {path}: {where or 'the whole'}: {error.message}")


_MATCHERS = ("folder", "path", "tag", "series_instances")


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word most like this one, compared without case."""
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), folded, n=1)
    return folded[near[0]] if near else None
