"""Which rows of a sampled grid `make test` leaves out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wide import mark_wide


class Row:
    """What is asked of an item."""

    def __init__(self, nodeid: str, number: int | None) -> None:
        self.nodeid = nodeid
        self.number = number
        self.is_wide = False

    def get_closest_marker(self, name: str) -> Any:
        return getattr(pytest.mark, name)(self.number).mark if name == "sampled" and self.number else None

    def add_marker(self, mark: Any) -> None:
        self.is_wide = mark.name == "wide"


@pytest.mark.parametrize(
    ("number", "rows", "kept"),
    [(1, 1, [0]), (1, 4, [2]), (2, 8, [2, 6]), (3, 8, [1, 4, 6]), (9, 4, [0, 1, 2, 3])],
)
def test_rows_are_kept_evenly(number: int, rows: int, kept: list[int]) -> None:
    items: list[Any] = [Row(f"tests/x.py::test[{index}]", number) for index in range(rows)]
    other: Any = Row("tests/x.py::test_other[1]", None)
    mark_wide([*items, other])
    assert [index for index, item in enumerate(items) if not item.is_wide] == kept
    assert not other.is_wide
