"""Reading JSON, and checking it against a JSON schema. The only user of jsonschema."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Never

from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.read_small import MEGABYTE, read_small
from xnat_ingest.core.text import printable

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

# Files written by hand are far smaller.
LIMIT = 16 * MEGABYTE


def best_error(document: object, schema: dict[str, Any]) -> ValidationError | None:
    """The error that is most likely the cause; None when the document is valid."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    found: ValidationError | None = best_match(Draft202012Validator(schema).iter_errors(document))
    return found


def iter_errors(document: object, schema: dict[str, Any]) -> Iterator[ValidationError]:
    """Every error, in document order."""
    from jsonschema import Draft202012Validator

    yield from sorted(Draft202012Validator(schema).iter_errors(document), key=lambda error: list(map(str, error.path)))


def json_path(steps: Iterable[str | int]) -> str:
    """A position in a document, such as `inputs[3].type`; "" for the whole."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")


def read_json(text: str, what: str) -> Any:
    """The value. what: names the text in messages. Raises UsageError, also for a duplicate key."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # With equal keys JSON silently keeps the last one. A list of exclusions must not vanish like that.
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, number in Counter(key for key, _ in pairs).items() if number > 1)
            raise UsageError(f"{what} has a duplicate key {twice!r}; merge the entries")
        return found

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=_no_number, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise UsageError(f"{what} is not JSON: {error.msg}, line {error.lineno}") from error
    except (ValueError, RecursionError) as error:  # NaN, 1e999, a number of thousands of digits, endless nesting
        raise UsageError(
            f"{what} is not JSON that can be read: it is nested too deeply, or a number in it is too long or none at "
            "all, such as NaN"
        ) from error


def _no_number(word: str) -> Never:
    """NaN and Infinity are no JSON, although Python's reader takes them."""
    raise ValueError(word)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def read_text(path: str, what: str, limit: int = LIMIT, *, pipes: bool = False) -> str:
    """A file's text, UTF-8. limit: the most bytes it may have. pipes: see read_small. Raises UsageError."""
    try:
        return read_small(path, what, limit, pipes=pipes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} {printable(path)} is not UTF-8 text") from error
