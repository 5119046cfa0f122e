"""Whose document a server sends when it is asked for a project."""

from __future__ import annotations

import pytest

from xnat_ingest.core.errors import IngestError
from xnat_ingest.xnat.projects import id_of


@pytest.mark.parametrize(
    ("asked", "aliases", "found"), [("DEMO", [], "DEMO"), ("demo", [], "DEMO"), ("Old-Demo", ["x", "old-demo"], "DEMO")]
)
def test_the_id_of_the_project_that_was_asked_for(asked: str, aliases: list[str], found: str) -> None:
    assert id_of(asked, {"ID": "DEMO", "aliases": aliases}) == found


@pytest.mark.parametrize("aliases", [[], ["DEM", "DEMO2", ""]])
def test_another_project_is_not_taken_for_it(aliases: list[str]) -> None:
    """A mixed-up answer would send all images, or aim a deletion, at a stranger's project."""
    with pytest.raises(IngestError, match="answers with project OTHER, which has no such alias; nothing was done"):
        id_of("DEMO", {"ID": "OTHER", "aliases": aliases})
