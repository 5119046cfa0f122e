"""pytest fixtures for the stand-in's own tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standin.model import Project, User
from tests.standin.samples import Client
from tests.standin.server import StandIn


@pytest.fixture
def site(tmp_path: Path) -> Iterator[StandIn]:
    """A site with a manual project, an auto-archive one, and users of every kind."""
    levels = {"uploader": "edit", "owner": "delete", "reader": "read"}
    site = StandIn(
        tmp_path,
        [
            Project("DEMO", code=0, aliases=("demo-alias",), access=dict(levels)),
            Project("AUTO", code=4, access=dict(levels)),
            Project("SECRET", code=4),
        ],
        [User(name) for name in ("uploader", "owner", "reader", "stranger")] + [User("boss", all_data=True)],
    )
    with site:
        yield site
    assert site.errors == []


@pytest.fixture
def client(site: StandIn) -> Iterator[Client]:
    """A logged-in member of DEMO and AUTO."""
    client = Client(site.url).login()
    yield client
    client.close()
