"""The table of wide grids, and which of their rows `make test` leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.wide import GRIDS, mark_wide

TESTS = Path(__file__).parent.parent


@pytest.mark.parametrize("name", GRIDS)
def test_there_is_such_a_test(name: str) -> None:
    file, _, function = name.partition("::")
    assert f"\ndef {function}(" in (TESTS / file).read_text("utf-8")


class Row:
    """What is asked of an item."""

    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid
        self.is_wide = False

    def add_marker(self, mark: Any) -> None:
        self.is_wide = mark.name == "wide"


@pytest.mark.parametrize(
    ("number", "rows", "kept"),
    [(0, 1, []), (1, 1, [0]), (1, 4, [2]), (2, 8, [2, 6]), (3, 8, [1, 4, 6]), (9, 4, [0, 1, 2, 3])],
)
def test_rows_are_kept_evenly(monkeypatch: pytest.MonkeyPatch, number: int, rows: int, kept: list[int]) -> None:
    monkeypatch.setitem(GRIDS, "x.py::test", number)
    items: list[Any] = [Row(f"tests/x.py::test[{index}]") for index in range(rows)]
    other: Any = Row("tests/x.py::test_other[1]")
    mark_wide([*items, other])
    assert [index for index, item in enumerate(items) if not item.is_wide] == kept
    assert not other.is_wide
