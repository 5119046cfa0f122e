"""The table that leads back from pseudonyms: several runs add to it at once."""

from __future__ import annotations

import csv
import fcntl
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xnat_ingest.core import IngestError, Stopped, atomic_file
from xnat_ingest.core.atomic_file import alone
from xnat_ingest.core.stop import Stop
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


def test_who_holds_the_folder_for_long_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `flock FOLDER xnat-ingest ...` does, whose lock ends after the run."""
    monkeypatch.setattr(atomic_file, "LOCK_LIMIT", 0.3)
    path = str(tmp_path / "crosswalk.csv")
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(IngestError, match="another program holds a lock on its folder"):
        write_crosswalk(path, *run(1))
    assert not list(tmp_path.iterdir())
    with alone(path), alone(path):  # what nobody adds to needs no lock
        pass
    os.close(holder)
    write_crosswalk(path, *run(1))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("before", [True, False])
def test_a_signal_ends_the_wait_for_the_folder(tmp_path: Path, before: bool) -> None:
    path, stop = str(tmp_path / "crosswalk.csv"), Stop()
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    threading.Timer(0 if before else 0.3, setattr, (stop, "signum", signal.SIGTERM)).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        write_crosswalk(path, *run(1), stop)
    with alone(path, stop):
        pass
    os.close(holder)
    assert time.monotonic() - began < 4
    assert not list(tmp_path.iterdir())


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
