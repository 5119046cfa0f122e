"""The published schemas, made strict: what a report or a log line has, the schema must name."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator


def published(name: str) -> dict[str, Any]:
    """`report` or `events`, as it lies in the package."""
    found: dict[str, Any] = json.loads(
        (resources.files("xnat_ingest.report") / f"{name}.schema.json").read_text("utf-8")
    )
    return found


@cache
def _validator(name: str) -> Draft202012Validator:
    schema = published(name)
    Draft202012Validator.check_schema(schema)
    parts = [schema, *schema["$defs"].values()] if name == "report" else [schema["$defs"]["planned"]]
    for part in parts:
        if "properties" in part:
            part["additionalProperties"] = False
    if name == "events":
        schema["unevaluatedProperties"] = False
    return Draft202012Validator(schema)


def check_report(report: object) -> None:
    """Fails with the place of each fault."""
    faults = [f"{error.json_path}: {error.message[:200]}" for error in _validator("report").iter_errors(report)]
    assert not faults, faults


def check_event(line: object) -> None:
    """One line of `--log-format json`."""
    faults = [f"{error.json_path}: {error.message[:300]}" for error in _validator("events").iter_errors(line)]
    assert not faults, (faults, line)
