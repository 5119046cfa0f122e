"""The comparison's own column: what this program says under each trouble is what is on the server's disk."""

from __future__ import annotations

import re

import pytest

from tests.real.compare_xnatctl import TROUBLES, Trouble, main, trial

pytestmark = pytest.mark.real


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_exit_0_is_delivery(trouble: Trouble) -> None:
    outcome = trial("xnat-ingest", trouble)
    assert (outcome.code == 0) == outcome.is_delivered, outcome


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "none"]) == 0
    *_, titles, _, line = capsys.readouterr().out.splitlines()
    assert titles == "| trouble | xnatctl says | on the server | xnat-ingest says | on the server |"
    there = "24 of 24; prearchive of DEMO (READY)"
    said = ("exit 0: ✓ Uploaded 24 files (0.3 MB)", "exit 0: 24 verified, 0 missing, 0 failed")
    line = re.sub(r" after \d+ s:", ":", line)  # said on a slow machine
    assert line == f"| none | {said[0]} | {there} | {said[1]} | {there} |"
