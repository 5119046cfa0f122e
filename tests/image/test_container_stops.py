"""`docker stop` and `docker kill` at a run's first process, and the same command again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PASSWORD, hold_laws
from tests.contract.test_signals import until, whole
from tests.dicom_trees import Series, make_session
from tests.image.containers import Running, start
from tests.image.engine import Engine
from tests.standin import Fault, StandIn

pytestmark = pytest.mark.real

PARTS = "POST /data/services/import"
# More than the system's buffers between two sockets take: the rest of a body is still in the container when it ends.
LARGE: dict[str, object] = {"Rows": 4096, "Columns": 4096, "PixelData": bytes(2 * 4096 * 4096)}
SERIES = (Series("T1_1", 6), Series("large_2", 2, tags=LARGE))
WORDS = ("upload", "/input", "-P", "DEMO", "--report", "/output/report.json", "--part-size", "1M", "-w", "2")


class Runs:
    """The same container again and again."""

    def __init__(self, engine: Engine, image: str, site: StandIn, folder: Path) -> None:
        self.tree = folder / "tree"
        self.site = site
        self._engine = engine
        self._image = image
        self._output = folder / "output"
        self._output.mkdir()
        os.chown(self._output, 12345, 12345)
        self._all: list[Running] = []

    def start(self, *words: str) -> Running:
        made = start(
            self._engine,
            self._image,
            *(words or WORDS),
            user="12345:12345",
            read_only=True,
            env={"XNAT_HOST": self.site.url, "XNAT_USER": "up", "XNAT_PASS": PASSWORD},
            mounts=[f"{self.tree}:/input:ro", f"{self._output}:/output"],
        )
        self._all.append(made)
        return made

    @property
    def has_report(self) -> bool:
        return (self._output / "report.json").exists()

    def report(self, ended: Running) -> dict[str, Any]:
        """What the run left; it tells the code that the container ended with."""
        report: dict[str, Any] = json.loads((self._output / "report.json").read_text())
        hold_laws(report)
        assert report["exit_code"] == ended.inspect()["State"]["ExitCode"]
        assert ended.logs()[0].splitlines()[-1].endswith(f"exit {report['exit_code']}")
        return report

    def remove(self) -> None:
        for one in self._all:
            one.remove()


@pytest.fixture
def runs(engine: Engine, image: str, site: StandIn, tmp_path: Path) -> Iterator[Runs]:
    made = Runs(engine, image, site, tmp_path)
    make_session(made.tree / "007" / "pre", SERIES, "stops")
    yield made
    made.remove()


def in_the_middle(runs: Runs) -> Running:
    """A run of whose parts one has arrived whole, and two stay where they are."""
    stall = runs.site.faults.add(Fault("stall", PARTS, skip=1, after=30_000, times=None))
    ran = runs.start()
    until(lambda: stall.hits == 2 and arrived(runs))
    return ran


def arrived(runs: Runs) -> list[Path]:
    """Instances that are whole on the server's disk."""
    sizes = {path.stat().st_size for path in runs.tree.rglob("IM*")}
    paths = [path for row in runs.site.rows("DEMO") for path in row.files.values()]
    return [path for path in paths if path.stat().st_size in sizes]


def quiet(site: StandIn) -> None:
    """Nothing holds the server back any more, and it has seen that its clients are gone."""
    site.faults.clear()
    until(lambda: site._server is not None and not site._server.connections())


def finishes(runs: Runs) -> None:
    """The same command: it sends what lacks and nothing else."""
    there = {path.name: path.stat().st_size for path in arrived(runs)}
    assert there
    ran = runs.start()
    assert ran.wait() == 0, ran.logs()
    report = runs.report(ran)
    sizes = [path.stat().st_size for path in runs.tree.rglob("IM*")]
    assert report["totals"]["verified"] == report["totals"]["planned"] == len(sizes) == 8
    assert report["totals"]["already_there"] == len(there)
    assert report["totals"]["bytes_sent"] == sum(sizes) - sum(there.values())
    whole(runs.site, runs.tree)


def test_docker_stop_in_the_middle(runs: Runs) -> None:
    """Docker waits ten seconds and would kill then, which were code 137. The report is there."""
    ran = in_the_middle(runs)
    assert ran.stop() == 143, ran.logs()
    report = runs.report(ran)
    assert report["totals"]["planned"] == report["totals"]["unverified"] == 8
    assert runs.site.sessions("DEMO") == []
    quiet(runs.site)
    finishes(runs)


def test_docker_kill_in_the_middle(runs: Runs) -> None:
    """Nothing is left of the run, neither a report nor a half of one."""
    ran = in_the_middle(runs)
    ran.kill()
    assert ran.wait() == 137
    assert not runs.has_report
    quiet(runs.site)
    finishes(runs)


CATCHES_TERM = 1 << (signal.SIGTERM - 1)


def catches(ran: Running) -> bool:
    """Whether the container's first process has a handler for SIGTERM; before it, the system drops the signal."""
    status = Path("/proc", str(ran.inspect()["State"]["Pid"]), "status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) & CATCHES_TERM)


LAUNCH = ("command", "run", "--input=/input", "--parent-uri=/archive/projects/DEMO")


@pytest.mark.parametrize("words", [WORDS, LAUNCH], ids=["upload", "launch"])
def test_stop_as_soon_as_it_can_be_heard(runs: Runs, words: tuple[str, ...]) -> None:
    """The first process of a container is deaf to a signal that it has no handler for; ours has one from the start."""
    runs.site.faults.add(Fault("delay", "JSESSION", seconds=60, times=None))
    ran = runs.start(*words)
    until(lambda: catches(ran))
    assert ran.stop() == 143, ran.logs()
    assert runs.site.rows("DEMO") == []


@pytest.mark.parametrize("words", [WORDS, LAUNCH], ids=["upload", "launch"])
def test_stop_while_the_server_is_silent(runs: Runs, words: tuple[str, ...]) -> None:
    """A login that is never answered does not hold the run until Docker kills it."""
    silent = runs.site.faults.add(Fault("delay", "JSESSION", seconds=60, times=None))
    ran = runs.start(*words)
    until(lambda: silent.hits)
    assert ran.stop() == 143, ran.logs()
