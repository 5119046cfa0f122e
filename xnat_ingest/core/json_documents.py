"""What a JSON document has against a JSON schema. The only user of jsonschema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.read_small import MEGABYTE, read_small
from xnat_ingest.core.text import printable

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

# What people write by hand is far below this.
LIMIT = 16 * MEGABYTE


def best_error(document: object, schema: dict[str, Any]) -> ValidationError | None:
    """The fault that most likely is the cause, None when the document is sound."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    found: ValidationError | None = best_match(Draft202012Validator(schema).iter_errors(document))
    return found


def iter_errors(document: object, schema: dict[str, Any]) -> Iterator[ValidationError]:
    """Every fault, in the document's order."""
    from jsonschema import Draft202012Validator

    yield from sorted(Draft202012Validator(schema).iter_errors(document), key=lambda error: list(map(str, error.path)))


def json_path(steps: Iterable[str | int]) -> str:
    """Where in a document: `inputs[3].type`; "" for the whole."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")


def read_json(text: str, what: str) -> Any:
    """The value. what: names the text in the sentence. Raises UsageError, also for a key that stands twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # JSON lets the last of two equal keys win without a word; a list of exclusions must not vanish so.
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(k for k in keys if keys.count(k) > 1)
            raise UsageError(f"{what} has the key {twice!r} twice; join them")
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise UsageError(f"{what} is not JSON: {error.msg}, line {error.lineno}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise UsageError(f"{what} is not JSON that can be read") from error


def read_text(path: str, what: str, limit: int = LIMIT) -> str:
    """A file's text, UTF-8. limit: of how many bytes it may be. Raises UsageError."""
    try:
        return read_small(path, what, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} {printable(path)} is not UTF-8 text") from error
