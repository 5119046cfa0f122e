"""The comparison's own column: what this program says of each input is what is on the server's disk."""

from __future__ import annotations

import pytest

from tests.real.compare_inputs import INPUTS, Input, main, trial, with_junk

pytestmark = pytest.mark.real


@pytest.mark.parametrize("given", INPUTS, ids=lambda given: given.name)
def test_what_is_said_is_there(given: Input) -> None:
    outcome = trial("xnat-ingest", given)
    assert outcome.said.startswith(f"{outcome.whole} verified, 0 missing, {outcome.planned - outcome.whole} failed")
    assert (outcome.broken, outcome.twice) == (0, 0)
    assert outcome.is_delivered, outcome
    # Beside images, a file that is named like one and holds no DICOM is a problem.
    assert outcome.code == (3 if given.change is with_junk else 0)


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "files named by their UID"]) == 0
    *_, titles, _, line = capsys.readouterr().out.splitlines()
    assert titles == "| input | xnatctl says | on the server | xnat-ingest says | on the server |"
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert cells[0].startswith("exit 1: ")
    assert cells[1] == "0 of 24; nowhere"
    assert cells[2:] == ["exit 0: 24 verified, 0 missing, 0 failed", "24 of 24; prearchive of DEMO (READY)"]
