"""A pattern that would take years ends a run that talks to a server, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Ingest
from tests.dicom_trees import MR, Series, make_session
from tests.standin import StandIn
from xnat_ingest.planning import timed_search


@pytest.mark.parametrize("command", ["upload", "verify"])
def test_a_pattern_that_would_take_years(
    ingest: Ingest, site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(timed_search, "LONGEST", 0.05)
    make_session(tmp_path / "t/S/E", (Series("T1_0001", 1, MR, tags={"SeriesDescription": "a" * 60 + "!"}),), "study")
    ended = ingest(command, tmp_path / "t", "--exclude", "SeriesDescription=([a-z]+)*$")
    assert ended.code == 2
    assert "its pattern was not done after 0.05 s" in ended.err
    assert not site.sessions("DEMO")
