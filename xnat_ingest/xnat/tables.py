"""XNAT's JSON tables, read row by row: a listing of a hundred thousand files never stands in memory whole."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator

# The envelope is {"ResultSet":{..., "Result":[{row}, ...], ...}}; a row's values are text or numbers, never nested.
_START = re.compile(r'"Result"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")
Row = dict[str, str]


def rows(chunks: Iterable[bytes]) -> Iterator[Row]:
    """The rows of a table. All values become text. Raises ValueError when the text is no table or ends too soon."""
    decoder = json.JSONDecoder()
    texts = codecs.iterdecode(chunks, "utf-8", "replace")
    text = ""
    while not (start := _START.search(text)):
        text += _more(texts)
    text = text[start.end() :]
    at = 0
    while True:
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            return
        try:
            row, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            text, at = text[at:] + _more(texts), 0
            continue
        if not isinstance(row, dict):
            raise ValueError("a row of the table is none")
        yield {key: "" if value is None else str(value) for key, value in row.items()}


def _skip(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _more(texts: Iterator[str]) -> str:
    try:
        return next(texts)
    except StopIteration:
        raise ValueError("the table ends too soon") from None
