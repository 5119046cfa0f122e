"""Sends the same data with several tools, and prints what each of them took: `make bench`.

A sink takes everything and stores nothing, in a process of its own (bench/sink.py), so that what is measured is the
sender. Links that are slower than this machine are made by a small proxy (bench/link.py). Tools run in turn, several
rounds; the table has medians. Rows are printed as soon as they are measured. `--small` is a short form for continuous
integration, without the other tools; `--whole` is all that docs/performance.md shows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cells import WHOLE, Cell
from bench.contenders import CONTENDERS, FLOOR, OURS, ROOT, ZIP_AND_CURL, Work, environ, install, pack
from bench.data import SETS, SMALL, DataSet, make
from bench.measure import Measured, measure

# Name -> what the proxy is told; none for the loopback interface itself.
LINKS: dict[str, Sequence[str]] = {
    "unlimited": (),
    "12.5 MB/s": ("--rate", "12500000"),
    "30 ms": ("--delay", "0.015"),
}
SMALL_TOOLS = (OURS, ZIP_AND_CURL, FLOOR)
MB = 1e6


@dataclass(frozen=True)
class Trial:
    """One run of one tool: what it took, and what the sink saw."""

    measured: Measured
    requests: int
    received: int
    sessions: int


@contextmanager
def serving(module: str, *words: str) -> Iterator[int]:
    """A process of ours that listens; its port."""
    process = subprocess.Popen([sys.executable, "-m", module, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def _asked(port: int, what: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/bench/{what}") as answer:
        return str(answer.read().decode())


def trial(name: str, work: Work, sink: int, folder: Path) -> Trial:
    place = Path(tempfile.mkdtemp(dir=folder))
    _asked(sink, "reset")
    measured = measure(CONTENDERS[name](work), environ(work), place)
    seen = json.loads(_asked(sink, "stats"))
    if measured.code:
        print(f"{name} ended with {measured.code}: {measured.said}", file=sys.stderr)
    shutil.rmtree(place)
    return Trial(measured, seen["requests"], seen["received"], seen["sessions"])


def prepared(data: DataSet, folder: Path) -> tuple[Path, dict[str, Path], Path]:
    """(what is sent, its sessions, the tar of it). What is there from an earlier run is used again."""
    place = folder / data.name
    if not (place / "index.json").exists():
        shutil.rmtree(place, ignore_errors=True)
        make(data, place)
    root = place / ("zips" if data.zipped else "tree")
    found = {one.name: one / ("MR1.zip" if data.zipped else "MR1") for one in sorted(root.iterdir())}
    work = Work(root, found, place / "all.tar", 0)
    pack(work)
    return root, found, work.tar


def run(data: DataSet, link: str, rounds: Mapping[str, int], folder: Path) -> None:
    """Prints the rows of one data set on one link. rounds: tool -> how often it runs, in turn with the others."""
    root, sessions, tar = prepared(data, folder)
    found: dict[str, list[Trial]] = {tool: [] for tool in rounds}
    begun = time.monotonic()
    with serving("bench.sink", "0", str(folder / data.name / "index.json")) as sink, way(link, sink) as port:
        work = Work(root, sessions, tar, port)
        for number in range(max(rounds.values())):
            for tool in (tool for tool, times in rounds.items() if number < times):
                found[tool].append(trial(tool, work, sink, folder))
                print(".", end="", file=sys.stderr, flush=True)
    print(f" ({data.name}) {link}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    print("\n".join(rows(data, link, found)), flush=True)


@contextmanager
def way(link: str, sink: int) -> Iterator[int]:
    if not LINKS[link]:
        yield sink
        return
    with serving("bench.link", "0", str(sink), *LINKS[link]) as port:
        yield port


def _median(trials: Sequence[Trial], what: str) -> float:
    return float(statistics.median(getattr(one.measured, what) for one in trials))


HEAD = ("data", "tool", "rounds", "wall s", "ours / this", "CPU s", "memory MB", "temporary MB", "sent MB", "requests")


def head(sets: Iterable[DataSet]) -> str:
    """What the data sets are, and the first lines of a table in Markdown. Below 1 in "ours / this": ours is faster."""
    titles = "\n".join(f"- {data.title}" for data in sets)
    return f"{titles}\n\n| {' | '.join(HEAD)} |\n|---|---|{'---:|' * (len(HEAD) - 2)}"


def rows(data: DataSet, link: str, found: Mapping[str, Sequence[Trial]]) -> Iterator[str]:
    own = _median(found[OURS], "wall")
    for tool, trials in found.items():
        failed = any(one.measured.code for one in trials)
        wall = _median(trials, "wall")
        cells = (
            f"({data.name}), {link}" if tool == OURS else "",
            f"{tool}{' (failed)' if failed else ''}",
            str(len(trials)),
            f"{wall:.2f}",
            "" if tool == OURS else f"{own / wall:.2f}",
            f"{_median(trials, 'cpu'):.2f}",
            f"{_median(trials, 'memory') / MB:.0f}",
            f"{_median(trials, 'temporary') / MB:.0f}",
            f"{statistics.median(one.received for one in trials) / MB:.0f}",
            f"{statistics.median(one.requests for one in trials):.0f}",
        )
        yield f"| {' | '.join(cells)} |"


def chosen(given: argparse.Namespace) -> list[Cell]:
    """What is measured, in order."""
    if given.whole:
        return list(WHOLE)
    tools = SMALL_TOOLS if given.small else given.tools.split(",")
    links = ["unlimited"] if given.small else given.links.split(",")
    rounds = dict.fromkeys((OURS, *(tool for tool in tools if tool != OURS)), 1 if given.small else given.rounds)
    names = [name for name in given.sets.split(",") if name in (SMALL if given.small else SETS)]
    return [Cell(name, link, rounds) for name in names for link in links]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="small data, this machine alone: for CI")
    parser.add_argument("--whole", action="store_true", help="the table of docs/performance.md: 45 minutes")
    parser.add_argument("--sets", default="a,b,c,d,e", help="which data sets (default: %(default)s)")
    parser.add_argument("--links", default=",".join(LINKS), help="default: %(default)s")
    parser.add_argument("--tools", default=",".join(CONTENDERS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="a folder for the data, to be kept (needs 8 GB)")
    given = parser.parse_args()
    cells, sets = chosen(given), SMALL if given.small else SETS
    if any(tool.startswith("xnat") for cell in cells for tool in cell.rounds if tool != OURS):
        install()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    load = os.getloadavg()[0]
    print(f"commit {commit.stdout.strip()}, {os.cpu_count()} cores, load {load:.1f} before it began\n", flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = given.work or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        print(head(sets[name] for name in dict.fromkeys(cell.data for cell in cells)), flush=True)
        for cell in cells:
            run(sets[cell.data], cell.link, cell.rounds, folder)
    print(f"\n{time.monotonic() - begun:.0f} s in all, load {os.getloadavg()[0]:.1f} at its end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
