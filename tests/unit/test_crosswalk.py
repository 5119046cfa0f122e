"""The table that leads back from pseudonyms: several runs add to it at once."""

from __future__ import annotations

import csv
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from xnat_ingest.deidentify.setup import write_crosswalk

RUNS, ROUNDS = 6, 12


def run(number: int) -> tuple[Any, Any]:
    """(de-identifier, plan) of a run with one study."""
    study = f"2.25.{number}"
    original = SimpleNamespace(patient_id=f"P{number}", study_uid=f"1.2.{number}", study_date="20240101", days=-number)
    session = SimpleNamespace(
        project="DEMO", subject=f"S{number}", label=f"S{number}_a", instances=[SimpleNamespace(study_uid=study)]
    )
    return SimpleNamespace(originals={study: {(original.patient_id, original.days): original}}), SimpleNamespace(
        sessions=[session]
    )


def test_no_row_is_lost_when_several_runs_end_at_the_same_moment(tmp_path: Path) -> None:
    path = tmp_path / "crosswalk.csv"
    start = threading.Barrier(RUNS)

    def add(first: int) -> None:
        for number in range(first, first + ROUNDS):
            start.wait()
            write_crosswalk(str(path), *run(number))

    threads = [threading.Thread(target=add, args=(one * 100,)) for one in range(RUNS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert {row[0] for row in rows[1:]} == {f"P{one * 100 + n}" for one in range(RUNS) for n in range(ROUNDS)}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
