"""Sends the same data with several tools, and prints what each of them took: `make bench`.

A sink takes everything and stores nothing, in a process of its own (bench/sink.py), so that what is measured is the
sender. Links that are slower than this machine are made by a small proxy (bench/link.py). Tools run in turn, several
rounds; the table has medians. `--small` is a short form for continuous integration, without the other tools.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import CONTENDERS, FLOOR, OURS, ROOT, Work, environ, install, pack
from bench.data import SETS, SMALL, DataSet, make
from bench.measure import Measured, measure

# Name -> what the proxy is told; none for the loopback interface itself.
LINKS: dict[str, Sequence[str]] = {
    "unlimited": (),
    "12.5 MB/s": ("--rate", "12500000"),
    "30 ms": ("--delay", "0.015"),
}
SMALL_TOOLS = (OURS, "zip + curl", FLOOR)
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


def run(data: DataSet, links: Sequence[str], tools: Sequence[str], rounds: int, folder: Path) -> None:
    root, sessions, tar = prepared(data, folder)
    for link in links:
        with serving("bench.sink", "0", str(folder / data.name / "index.json")) as sink:
            found: dict[str, list[Trial]] = {tool: [] for tool in tools}
            with _way(link, sink) as port:
                work = Work(root, sessions, tar, port)
                for _ in range(rounds):
                    for tool in tools:
                        found[tool].append(trial(tool, work, sink, folder))
                        print(".", end="", file=sys.stderr, flush=True)
            print(f"\r{table(data, link, found)}\n", flush=True)


@contextmanager
def _way(link: str, sink: int) -> Iterator[int]:
    if not LINKS[link]:
        yield sink
        return
    with serving("bench.link", "0", str(sink), *LINKS[link]) as port:
        yield port


def _median(trials: Sequence[Trial], what: str) -> float:
    return float(statistics.median(getattr(one.measured, what) for one in trials))


def table(data: DataSet, link: str, found: dict[str, list[Trial]]) -> str:
    """Markdown. Beside each tool its wall time as a multiple of ours, or ours of it: below 1, ours is faster."""
    titles = ("", "wall s", "ours / this", "CPU s", "memory MB", "temporary MB", "sent MB", "requests")
    lines = [f"**{data.title}; {link}**\n", "| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    own = _median(found[OURS], "wall")
    for tool, trials in found.items():
        failed = any(one.measured.code for one in trials)
        wall = _median(trials, "wall")
        cells = (
            f"{tool}{' (failed)' if failed else ''}",
            f"{wall:.2f}",
            f"{own / wall:.2f}",
            f"{_median(trials, 'cpu'):.2f}",
            f"{_median(trials, 'memory') / MB:.0f}",
            f"{_median(trials, 'temporary') / MB:.0f}",
            f"{statistics.median(one.received for one in trials) / MB:.0f}",
            f"{statistics.median(one.requests for one in trials):.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="small data, this machine alone: for CI")
    parser.add_argument("--sets", default="a,b,c,d,e", help="which data sets (default: %(default)s)")
    parser.add_argument("--links", default=",".join(LINKS), help="default: %(default)s")
    parser.add_argument("--tools", default=",".join(CONTENDERS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="a folder for the data, to be kept (needs 8 GB)")
    given = parser.parse_args()
    tools = SMALL_TOOLS if given.small else given.tools.split(",")
    sets = SMALL if given.small else SETS
    if any(tool.startswith("xnat") for tool in tools if tool != OURS):
        install()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    load = os.getloadavg()[0]
    print(f"commit {commit.stdout.strip()}, {os.cpu_count()} cores, load {load:.1f} before it began\n", flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = given.work or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        for one in given.sets.split(","):
            if one in sets:
                links = ("unlimited",) if given.small else given.links.split(",")
                run(sets[one], links, tools, 1 if given.small else given.rounds, folder)
    print(f"{time.monotonic() - begun:.0f} s in all, load {os.getloadavg()[0]:.1f} at its end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
