"""Tests of the image, in a real engine: only with ``-m real``, and then they fail where no engine can be had."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.image.engine import ROOT, Engine, at_hand, ended_well
from tests.real.conftest import pytest_collection_modifyitems

__all__ = ["pytest_collection_modifyitems"]  # also where these tests alone are collected
BUILDING = 300.0


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine of this run."""
    with at_hand() as found:
        yield found


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The project's image, built once from the checkout, as everybody builds it."""
    tag = engine.tag("xnat-ingest")
    words = [f"IMAGE={tag}", f"BASE_IMAGE={engine.base}", f"DOCKER={engine.docker}", "DOCKER_FLAGS=--network host"]
    done = subprocess.run(
        ["make", "--no-print-directory", "image", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=BUILDING,
        cwd=ROOT,
        env=engine.environment(),
        start_new_session=True,
    )
    ended_well(done)
    return tag
