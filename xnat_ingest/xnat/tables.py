"""XNAT's JSON tables, read row by row: a listing of a hundred thousand files is never in memory as a whole."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator

# The envelope is {"ResultSet":{..., "Result":[{row}, ...], ...}}; a row's values are text or numbers, never nested.
_START = re.compile(r'"Result"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")
# The most characters before the first row, and of one row; the most rows of a table, and its most characters. The
# largest session that we know has a few hundred thousand files, and a listing of a hundred megabytes.
HEAD_LIMIT = 256 * 1024
ROW_LIMIT = 1024**2
MOST_ROWS = 2_000_000
TABLE_LIMIT = 1024**3
JsonRow = dict[str, str]


def table_rows(chunks: Iterable[bytes]) -> Iterator[JsonRow]:
    """The rows of a table. All values become text.

    Raises ValueError when the text is not a table, ends too soon, or exceeds the limits.
    """
    decoder = json.JSONDecoder()
    texts = _bounded(codecs.iterdecode(chunks, "utf-8", "replace"))
    text = _first_row(texts)
    at = number = 0
    while True:
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            return
        if text[at : at + 1] not in ("{", ""):
            raise ValueError("a row of the table is not an object")
        try:
            row, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            if len(text) - at > ROW_LIMIT:
                raise ValueError("a row of the table has no end") from None
            text, at = text[at:] + _more(texts), 0
            continue
        number += 1
        if number > MOST_ROWS:
            raise ValueError("the table has too many rows")
        yield {whole(key): "" if value is None else whole(str(value)) for key, value in row.items()}


def whole(text: str) -> str:
    """The text without lone surrogates, which are possible only in JSON."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _first_row(texts: Iterator[str]) -> str:
    """The text, starting at the first row."""
    text = ""
    while not (start := _START.search(text)):
        if len(text) > HEAD_LIMIT:
            raise ValueError("the text is not a table")
        text += _more(texts)
    return text[start.end() :]


def _bounded(texts: Iterator[str]) -> Iterator[str]:
    read = 0
    for text in texts:
        read += len(text)
        if read > TABLE_LIMIT:
            raise ValueError("the table has no end")
        yield text


def _skip(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _more(texts: Iterator[str]) -> str:
    try:
        return next(texts)
    except StopIteration:
        raise ValueError("the table ends too soon") from None
