"""Parts: nothing is lost or doubled, sizes are in bounds, series stay together."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from tests.dicom_trees import Memory
from tests.unit.test_bodies import instance
from xnat_ingest.core.model import Instance
from xnat_ingest.transports.bodies import SMALLEST_PART, Part, TarBody, cut_into_parts


def check_parts(members: list[Instance], part_size: int, workers: int) -> list[Part]:
    """What holds for every cut: nothing lost or doubled, sizes in bounds, the smallest first, series together."""
    parts = cut_into_parts(members, part_size, workers)
    sent = [member.sop_uid for part in parts for member in part.instances]
    assert sorted(sent) == sorted(member.sop_uid for member in members)
    assert all(part.instances for part in parts)
    assert [part.bytes for part in parts] == sorted(part.bytes for part in parts)
    largest = max((member.size for member in members), default=0)
    assert all(part.bytes <= part_size + largest for part in parts)
    homes: dict[str, set[int]] = defaultdict(set)
    weights: dict[str, int] = defaultdict(int)
    for number, part in enumerate(parts):
        for member in part.instances:
            homes[member.series_uid].add(number)
            weights[member.series_uid] += member.size
    floor = min(part_size, SMALLEST_PART)
    assert all(len(homes[series]) == 1 for series, weight in weights.items() if weight <= floor)
    return parts


@pytest.mark.parametrize("seed", range(30))
def test_parts_of_random_sessions(seed: int) -> None:
    """Many series or few, large instances or small, in any order."""
    draw = random.Random(seed)
    scale = draw.choice((1, 1000, 1024**2))
    members = [
        instance(n, draw.randrange(1, 100) * scale, series=str(draw.randrange(draw.choice((1, 3, 40)))))
        for n in range(draw.choice((1, 2, 50, 400)))
    ]
    draw.shuffle(members)
    check_parts(
        members, draw.choice((1, 50, 1000, 10**6, 128 * 1024**2)) * draw.choice((1, scale)), draw.choice((1, 4, 16))
    )


def test_nothing_makes_no_part() -> None:
    """An empty session needs no request."""
    assert cut_into_parts([], 128 * 1024**2, 4) == []


def test_a_small_session_is_one_part() -> None:
    """One more request costs more than it gains."""
    members = [instance(n, 10_000, series=str(n % 7)) for n in range(100)]
    assert len(check_parts(members, 128 * 1024**2, 4)) == 1


def test_a_large_series_is_cut_in_about_equal_pieces() -> None:
    """All workers get something to do, and no part is a leftover."""
    members = [instance(n, 1024**2) for n in range(400)]
    parts = check_parts(members, 128 * 1024**2, 4)
    assert len(parts) == 4
    assert parts[-1].bytes - parts[0].bytes <= 4 * 1024**2


def test_part_sizes_bound_the_request() -> None:
    """--part-size is bytes per request, which a proxy may limit: the archive's own blocks count, too."""
    members = [instance(n, 700) for n in range(2000)]
    source = Memory({member.path: bytes(700) for member in members})
    limit = 100_000
    for part in cut_into_parts(members, limit, 4):
        assert TarBody(source, part).length <= limit * 1.1


@pytest.mark.parametrize("part_size", [1, 1023, 1024, 1025])
def test_tiny_parts_hold_one_instance_each(part_size: int) -> None:
    instances = [instance(number, size=100) for number in range(3)]
    assert [len(part.instances) for part in cut_into_parts(instances, part_size, 4)] == [1, 1, 1]
