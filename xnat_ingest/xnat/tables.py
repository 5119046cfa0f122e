"""XNAT's JSON tables, read row by row: a listing of a hundred thousand files is never in memory as a whole."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping

from xnat_ingest.core import IngestError

# The envelope is {"ResultSet":{..., "Result":[{row}, ...], ...}}; a row's values are text or numbers, never nested.
_START = re.compile(r'"Result"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")
_SIZE = re.compile(r"-?[0-9]{1,16}")
# The most characters before the first row, and of one row; the most rows of a table, and its most characters. The
# largest session that we know has a few hundred thousand files, and a listing of a hundred megabytes.
HEAD_LIMIT = 256 * 1024
ROW_LIMIT = 1024**2
MOST_ROWS = 2_000_000
TABLE_LIMIT = 1024**3
# No file has so many bytes.
NO_SIZE = 1 << 53
JsonRow = dict[str, str]


class TooManyRowsError(IngestError):
    """A table has more rows than are read."""


class CutOffError(ValueError):
    """The text ends before the table does."""


def bytes_of(row: Mapping[str, str]) -> int:
    """A file's size, 0 when the row has none, or one below zero. Raises ValueError when it is no number of bytes."""
    size = row.get("Size") or "0"
    if not _SIZE.fullmatch(size) or int(size) >= NO_SIZE:
        raise ValueError("a size in the table is no number of bytes")
    return max(0, int(size))


def table_rows(chunks: Iterable[bytes], most: int = 0) -> Iterator[JsonRow]:
    """The rows of a table. All values become text.

    most: rows, MOST_ROWS by default.

    Raises TooManyRowsError, ValueError when the text is not a table or exceeds the other limits, CutOffError when it
    ends too soon.
    """
    decoder = json.JSONDecoder()
    texts = _bounded(codecs.iterdecode(chunks, "utf-8", "replace"))
    head, text = _first_row(texts)
    at = number = 0
    while True:
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            _check_end(head, text[at:], texts)
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
        if number > (most or MOST_ROWS):
            raise TooManyRowsError(f"the listing has more than {most or MOST_ROWS:,} rows, and no more are read")
        yield {whole(key): "" if value is None else whole(str(value)) for key, value in row.items()}


def whole(text: str) -> str:
    """The text without lone surrogates, which are possible only in JSON."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _check_end(head: str, text: str, texts: Iterator[str]) -> None:
    """Raises ValueError unless the text goes on to the end of the JSON. What follows that is not read.

    head: what came before the rows.
    """
    decoder = json.JSONDecoder(strict=False)
    while len(text) <= HEAD_LIMIT:
        try:
            decoder.raw_decode((head + text).lstrip("\ufeff \t\r\n"))
            return
        except json.JSONDecodeError:
            text += _more(texts)
    raise ValueError("the text after the table is too long")


def _first_row(texts: Iterator[str]) -> tuple[str, str]:
    """What comes before the first row, and the text that starts with it."""
    text = ""
    while not (start := _START.search(text)):
        if len(text) > HEAD_LIMIT:
            raise ValueError("the text is not a table")
        text += _more(texts, ValueError)
    return text[: start.end()], text[start.end() :]


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


def _more(texts: Iterator[str], ended: type[ValueError] = CutOffError) -> str:
    try:
        return next(texts)
    except StopIteration:
        raise ended("the table ends too soon") from None
