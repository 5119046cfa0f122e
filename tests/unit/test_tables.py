"""Tables row by row, and the limits that docs/guarantees.md promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from xnat_ingest.xnat import exchange, prearchive, tables

TEXT = (Path(__file__).parent.parent.parent / "docs" / "guarantees.md").read_text("utf-8")


def pieces(text: str, size: int = 50) -> Iterator[bytes]:
    raw = text.encode()
    yield from (raw[at : at + size] for at in range(0, len(raw), size))


def table(*rows: object, head: str = "") -> str:
    return json.dumps({"ResultSet": {"title": head, "Result": list(rows)}})


def test_the_limits_are_those_that_are_promised() -> None:
    assert "error pages are read up to 64 kB, logins 1 MB, other texts 16 MB" in TEXT
    assert "listings row by row (1 MB a row, 2,000,000 rows, 1 GB; 200,000 sessions of the prearchive)" in TEXT
    assert prearchive.MOST_SESSIONS == 200_000
    assert "`--timeout` seconds without 16 kB of progress" in TEXT
    assert (exchange.ERROR_LIMIT, exchange.LOGIN_LIMIT, exchange.TEXT_LIMIT) == (1 << 16, 1 << 20, 1 << 24)
    assert (tables.ROW_LIMIT, tables.MOST_ROWS, tables.TABLE_LIMIT) == (1 << 20, 2_000_000, 1 << 30)
    assert exchange._CHUNK == 1 << 14


@pytest.mark.parametrize("size", [1, 7, 50, 100_000])
def test_rows_come_whatever_the_chunks_are(size: int) -> None:
    """All values become text, absent ones empty."""
    text = table({"a": "ä\u2028\U0001f600", "b": 1}, {"a": None, "b": True}, {})
    assert list(tables.table_rows(pieces(text, size))) == [
        {"a": "ä\u2028\U0001f600", "b": "1"},
        {"a": "", "b": "True"},
        {},
    ]


@pytest.mark.parametrize("before", ["\n", "\ufeff", " \t\r\n"])
def test_blanks_before_a_table_mean_nothing(before: str) -> None:
    assert list(tables.table_rows(pieces(before + table({"a": "b"})))) == [{"a": "b"}]


def test_lone_surrogates_are_replaced_and_pairs_are_not() -> None:
    text = '{"ResultSet":{"Result":[{"a\\ud800":"x\\udfffy", "b":"\\ud83d\\ude00"}]}}'
    assert list(tables.table_rows(pieces(text))) == [{"a\ufffd": "x\ufffdy", "b": "\U0001f600"}]


@pytest.mark.parametrize(("length", "fits"), [(900, True), (1200, False)])
def test_a_row_has_a_limit(length: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROW_LIMIT", 1000)
    read = tables.table_rows(pieces(table({"a": "x" * length})))
    if fits:
        assert len(next(read)["a"]) == length
    else:
        with pytest.raises(ValueError, match="no end"):
            next(read)


@pytest.mark.parametrize(("number", "fits"), [(10, True), (11, False)])
def test_a_table_has_a_limit_of_rows(number: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_ROWS", 10)
    read = tables.table_rows(pieces(table(*[{"a": "b"}] * number)))
    if fits:
        assert len(list(read)) == number
    else:
        with pytest.raises(tables.TooManyRowsError, match="more than 10 rows, and no more are read"):
            list(read)


@pytest.mark.parametrize(("length", "fits"), [(900, True), (1300, False)])
def test_what_comes_before_the_rows_has_a_limit(length: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "HEAD_LIMIT", 1000)
    read = tables.table_rows(pieces(table({"a": "b"}, head="x" * length)))
    if fits:
        assert list(read) == [{"a": "b"}]
    else:
        with pytest.raises(ValueError, match="not a table"):
            list(read)


def test_a_table_has_a_limit_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TABLE_LIMIT", 1000)
    assert len(list(tables.table_rows(pieces(table(*[{"a": "b"}] * 50))))) == 50
    with pytest.raises(ValueError, match="no end"):
        list(tables.table_rows(pieces(table(*[{"a": "b"}] * 100))))


@pytest.mark.parametrize("left", [1, 2, 14, 30, 60])
def test_a_table_that_was_cut_anywhere(left: int) -> None:
    """Also behind its last row: a proxy may cut an answer, and then the request is repeated."""
    text = json.dumps({"ResultSet": {"Result": [{"a": "b"}] * 9, "title": "x" * 10, "totalRecords": "9"}})
    assert len(list(tables.table_rows(pieces(text)))) == 9
    with pytest.raises(tables.CutOffError):
        list(tables.table_rows(pieces(text[:-left])))


def test_what_comes_after_the_rows_has_a_limit() -> None:
    with pytest.raises(ValueError, match="too long"):
        list(tables.table_rows(pieces('{"Result":[]' + " " * (tables.HEAD_LIMIT + 100), 1 << 14)))


@pytest.mark.parametrize(
    ("size", "found"),
    [
        ({}, 0),
        ({"Size": ""}, 0),
        ({"Size": "-1"}, 0),
        ({"Size": "007"}, 7),
        ({"Size": str((1 << 53) - 1)}, (1 << 53) - 1),
    ],
)
def test_sizes(size: dict[str, str], found: int) -> None:
    assert tables.bytes_of(size) == found


@pytest.mark.parametrize("size", [str(1 << 53), "9" * 400, "1e9", "NaN", "{}", "\u0663", "1 2", "12\n"])
def test_what_is_no_size(size: str) -> None:
    with pytest.raises(ValueError, match="no number of bytes"):
        tables.bytes_of({"Size": size})


@pytest.mark.parametrize("text", ["", "[]", '{"ResultSet":{"Result":[', table({"a": "b"})[:-6], table([1]), table("x")])
def test_what_is_no_table(text: str) -> None:
    with pytest.raises(ValueError, match=r"too soon|not an object"):
        list(tables.table_rows(pieces(text)))
