"""The table of changes that `make mutants` tries."""

from __future__ import annotations

from tests.mutants import CHOSEN, NAMED, named


def test_each_change_has_its_place_in_the_code() -> None:
    assert len(named()) == len(NAMED) + len(CHOSEN)
