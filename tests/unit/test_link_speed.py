"""When a link counts as slow, and when packing pays. Time is real; sizes and speeds are far from the limits."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.unit.test_bodies import instance
from xnat_ingest.transports import link_speed
from xnat_ingest.transports.archive import _small_first
from xnat_ingest.transports.bodies import SMALLEST_PART, Part
from xnat_ingest.transports.link_speed import BUFFERED, LEAST, SLOW, LinkSpeed

BLOCK = 1 << 20
ZEROS, NOISE = bytes(BLOCK), os.urandom(BLOCK)


def blocks(block: bytes, number: int, seconds: float = 0.0) -> Iterator[bytes]:
    """seconds: to make each."""
    for _ in range(number):
        time.sleep(seconds)
        yield block


def taken(body: Iterator[bytes], seconds: float = 0.0) -> None:
    """Takes a body as a link does that needs so many seconds for each block."""
    for _ in body:
        time.sleep(seconds)


@pytest.mark.wide
@pytest.mark.parametrize(
    ("block", "number", "rate", "expected"),
    [
        (ZEROS, 12, SLOW / 1.5, True),
        (ZEROS, 12, SLOW * 10, False),
        (NOISE, 12, SLOW / 1.5, False),
        (ZEROS, 11, SLOW / 1.5, False),
    ],
    ids=["slow", "fast", "packed already", "too little to tell"],
)
def test_what_counts_as_slow(block: bytes, number: int, rate: float, expected: bool) -> None:
    assert (BUFFERED + LEAST) // BLOCK == 12
    speed = LinkSpeed()
    taken(speed.measured(blocks(block, number)), BLOCK / rate)
    assert speed.favours_zip is expected


@pytest.mark.wide
def test_slow_files_are_no_slow_link() -> None:
    speed = LinkSpeed()
    taken(speed.measured(blocks(ZEROS, 12, BLOCK / SLOW * 1.5)))
    assert not speed.favours_zip


@pytest.mark.wide
def test_bodies_at_the_same_time_share_the_link() -> None:
    """Two bodies that each take half of a fast link do not make it a slow one."""
    speed = LinkSpeed()
    both = [speed.measured(blocks(ZEROS, 16)) for _ in range(2)]
    for _ in range(16):
        for body in both:
            next(body)
        time.sleep(BLOCK / SLOW * 1.3)  # two blocks in this time
    assert not speed.favours_zip


@pytest.mark.wide
def test_who_refuses_zips_is_not_asked_again() -> None:
    speed = LinkSpeed()
    taken(speed.measured(blocks(ZEROS, 12)), BLOCK / SLOW * 1.5)
    speed.give_up_zip()
    assert not speed.favours_zip


def test_the_limits() -> None:
    assert (link_speed.SLOW, link_speed.WORTH, BUFFERED, LEAST) == (20e6, 0.85, 4 << 20, 8 << 20)


def test_the_first_part_is_small() -> None:
    """It travels alone; the others wait for it."""
    large = Part(tuple(instance(number, 5 << 20) for number in range(20)))
    first, rest, other = _small_first([large, large])
    assert (len(first.instances), len(rest.instances)) == (4, 16)
    assert first.bytes >= SMALLEST_PART > first.bytes - (5 << 20)
    assert first.instances + rest.instances == large.instances
    assert other is large


@pytest.mark.parametrize("sizes", [(SMALLEST_PART, SMALLEST_PART), (SMALLEST_PART * 9,)])
def test_a_small_part_or_the_only_one_stays(sizes: tuple[int, ...]) -> None:
    parts = [Part((instance(number, size),)) for number, size in enumerate(sizes)]
    assert _small_first(parts) == parts
