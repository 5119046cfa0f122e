"""Tests against real programs: only with ``-m real``, and then they fail where something cannot be installed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import PASSWORD
from tests.dicom_trees import Series, make_session
from tests.real.clients import Client, install
from tests.standin import StandIn

SERIES = (Series("T1-MPRAGE_0001", 3), Series("ep2d_bold_0002", 4, "MR_small_RLE.dcm"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the real tests out of a run whose ``-m`` does not name them."""
    if "real" in config.option.markexpr:
        return
    real = [item for item in items if item.get_closest_marker("real")]
    if real:
        config.hook.pytest_deselected(items=real)
        items[:] = [item for item in items if item not in real]


@pytest.fixture(scope="session")
def programs() -> Callable[[str], Path]:
    """Installs a client when the first test of the run wants it."""
    return cache(install)


@pytest.fixture
def login(site: StandIn) -> dict[str, str]:
    """What a driver script needs to log in."""
    return {"url": site.url, "user": "up", "password": PASSWORD}


@pytest.fixture
def client(programs: Callable[[str], Path], site: StandIn, tmp_path: Path) -> Callable[[str], Client]:
    """Clients by name, pointed at the site by the variables that each of them reads."""
    folder = tmp_path / "home"
    folder.mkdir()
    environ = {"XNAT_HOST": site.url, "XNAT_URL": site.url, "XNAT_USER": "up", "XNAT_PASS": PASSWORD}
    return lambda name: Client(programs(name), folder, environ | {"XNAT_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One session of two series whose files have the same names."""
    make_session(tmp_path / "tree", SERIES, str(tmp_path))
    return tmp_path / "tree"


@pytest.fixture
def tar(tree: Path, tmp_path: Path) -> str:
    """The session as a tar, for clients that send what they are given."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(tree, arcname="session")
    path = tmp_path / "session.tar"
    path.write_bytes(out.getvalue())
    return str(path)
