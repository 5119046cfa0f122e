"""Every kind of object through every stage, by one way; `make contract` goes all the ways."""

from __future__ import annotations

import pytest

from tests.contract.stages import STAGES, Way, is_kept, told


@pytest.mark.wide
@pytest.mark.parametrize("way", [Way("folder", "tar", "archive"), Way("folder", "gradual", "prearchive")], ids=str)
def test_every_kind_of_object_through_every_stage(way: Way) -> None:
    found = told(way)
    assert tuple(stage for stage, _, _ in found) == STAGES
    assert [one for one in found if not is_kept(way, *one)] == []
