"""What `make test` leaves to `make test-wide`: slow tests, and most rows of wide grids.

A test marked `wide` is left out. Of a test marked `sampled(n)`, n rows are run, spread evenly over the grid.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import pytest


def mark_wide(items: Iterable[pytest.Item]) -> None:
    """Marks the rows of sampled grids that `make test` leaves out."""
    grids = defaultdict(list)
    for item in items:
        if mark := item.get_closest_marker("sampled"):
            grids[item.nodeid.partition("[")[0], mark.args[0]].append(item)
    for (_, number), rows in grids.items():
        kept = {(2 * index + 1) * len(rows) // (2 * number) for index in range(number)}
        for index, row in enumerate(rows):
            if index not in kept:
                row.add_marker(pytest.mark.wide)
