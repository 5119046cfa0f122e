"""The same trouble for xnatctl and for this program: ``python -m tests.real.compare_xnatctl`` prints a Markdown table.

Each line is a stand-in of its own, on the loopback interface, with one session of 24 instances and one trouble. Both
programs leave the session in the prearchive. What is on the server is counted on its disk, byte by byte.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.dicom_trees import Series, make_session
from tests.real.clients import PACKAGES, ROOT, RUNNING, Client, install
from tests.real.holdings import PREAMBLE, held
from tests.standin import Project, StandIn, User

SERIES = (Series("T1-MPRAGE_0001", 12), Series("ep2d_bold_0002", 12))
IMPORT = "^POST /data/services/import"
CLOSING = r"services/import\?.*dest=|action=(build|commit)"  # with dest= an import closes what it brings
PASSWORD = "pass word"


@dataclass(frozen=True)
class Trouble:
    """A line of the table. faults: of the stand-in; filter: the project's series filter; uids: a series named so."""

    name: str
    faults: tuple[dict[str, Any], ...] = ()
    filter: str = ""
    project: str = "DEMO"
    uids: bool = False


TROUBLES = (
    Trouble("none"),
    Trouble("connection reset in the middle of a body", ({"kind": "reset", "match": IMPORT, "after": 30_000},)),
    Trouble("reply lost after the work was done", ({"kind": "reset-reply", "match": IMPORT},)),
    Trouble("503 once", ({"kind": "status", "match": IMPORT},)),
    Trouble("HTTP session expired: 401 once", ({"kind": "status", "status": 401, "match": IMPORT},)),
    Trouble("proxy takes 50 kB: 413", ({"kind": "too-large", "match": IMPORT, "limit": 50_000, "times": None},)),
    Trouble("project's filter drops a series", filter="bold"),
    Trouble("project's filter drops everything: 200, empty", filter="."),
    Trouble("import answers 200, empty, stores nothing", ({"kind": "empty", "match": IMPORT, "times": None},)),
    Trouble("a stored file is cut short", ({"kind": "cut", "skip": 5, "keep": -2000},)),
    Trouble("an instance is accepted and lost", ({"kind": "lose", "skip": 5},)),
    Trouble("disk full during one file", ({"kind": "disk-full", "skip": 5, "after": 500},)),
    Trouble("project does not exist", project="NONE"),
    Trouble("closing answers 500, but is done", ({"kind": "status", "status": 500, "work": True, "match": CLOSING},)),
    Trouble("closing fails each time", ({"kind": "build-fails", "message": "no room", "times": None},)),
    Trouble("files of a series named by their UID", uids=True),
)


@dataclass(frozen=True)
class Outcome:
    """How a program ended under a trouble. whole, broken, twice: files on the server; places: where."""

    code: int | None
    said: str
    planned: int
    whole: int
    broken: int
    twice: int
    places: tuple[str, ...]
    seconds: float

    @property
    def is_delivered(self) -> bool:
        """Every file is there whole, in one row of the project that can be archived."""
        return (self.whole, self.broken + self.twice, self.places) == (self.planned, 0, ("prearchive of DEMO (READY)",))

    def cells(self) -> tuple[str, str]:
        code = "not ended" if self.code is None else f"exit {self.code}"
        code += f" after {self.seconds:.0f} s" if self.seconds >= 10 else ""
        more = f" and {self.broken} broken" if self.broken else ""
        more += f" and {self.twice} twice" if self.twice else ""
        places = ", ".join(self.places) or "nowhere"
        return f"{code}: {self.said}", f"{self.whole} of {self.planned}{more}; {places}"


def xnatctl(site: StandIn, folder: Path, trouble: Trouble) -> tuple[int | None, str]:
    environ = {"XNAT_URL": site.url, "XNAT_USER": "up", "XNAT_PASS": PASSWORD, "XNAT_NO_UPDATE_CHECK": "1"}
    run = Client(install("xnatctl"), folder, environ | {"NO_COLOR": "1"})
    words = ["session", "upload", str(folder / "tree" / "007" / "pre"), "-P", trouble.project, "-S", "007"]
    try:
        done = run("xnatctl", *words, "-E", "007_pre", "--mode", "tar", "--prearchive")
    except subprocess.TimeoutExpired:
        return None, "nothing yet"
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    told = [line.removeprefix("Error: ") for line in lines if line.startswith(("✓", "Error: "))]
    told += [line.partition(": ")[2].partition("<")[0].rstrip(" :") for line in lines if line.startswith("- Batch")]
    return done.returncode, "; ".join(dict.fromkeys(re.sub(r" in [\d.]+s$", "", text) for text in told))


def ours(site: StandIn, folder: Path, trouble: Trouble) -> tuple[int | None, str]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "XNAT_PASS": PASSWORD}
    environ |= {"XNAT_HOST": site.url, "XNAT_USER": "up"}
    report = folder / "report.json"
    words = ["upload", str(folder / "tree"), "-P", trouble.project, "--destination", "prearchive"]
    if trouble.filter:  # what it knows of a filter beforehand it would set aside
        words.append("--ignore-server-filter")
    command = [sys.executable, "-m", "xnat_ingest", *words, "--report", str(report)]
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=RUNNING, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return None, "nothing yet"
    if not report.exists():
        return done.returncode, (done.stderr.splitlines() or ["nothing"])[-1]
    found = json.loads(report.read_text())
    counts = ", ".join(f"{found['totals'][word]} {word}" for word in ("verified", "missing", "failed"))
    told = [problem["detail"] for problem in found["problems"]]
    told = told or sorted({one["why"] for session in found["sessions"] for one in session["unproven"]})
    details = re.sub(r"\d{8}_\d{9}", "TIME", "; ".join(told)).replace(site.url, "the server")
    return done.returncode, counts + (f"; {textwrap.shorten(details, 240, placeholder=' ...')}" if details else "")


PROGRAMS = {"xnatctl": xnatctl, "xnat-ingest": ours}


def trial(program: str, trouble: Trouble) -> Outcome:
    """One program under one trouble, on a server and a disk of their own."""
    with tempfile.TemporaryDirectory(prefix="compare-") as name, _site(Path(name) / "xnat", trouble) as site:
        folder = Path(name)
        source = _tree(folder / "tree" / "007" / "pre", uids=trouble.uids)
        started = time.monotonic()
        code, said = PROGRAMS[program](site, folder, trouble)
        seconds = time.monotonic() - started
        if site.errors:
            raise RuntimeError(f"the stand-in failed: {site.errors}")
        rows = [f"prearchive of {row.project or 'no project'} ({row.status})" for row in site.prearchive.rows()]
        archived = [f"archive of {one.project}" for one in site.sessions("DEMO")]
        files = [path for path in site.root.rglob("SCANS/**/*") if path.is_file() and path.suffix != ".xml"]
        stored = [path.read_bytes()[PREAMBLE:] for path in files]
        whole, broken = len(source & set(stored)), sum(content not in source for content in stored)
        twice = len(stored) - whole - broken
        return Outcome(code, said, len(source), whole, broken, twice, (*rows, *archived), seconds)


def _tree(folder: Path, *, uids: bool) -> set[bytes]:
    """Lays the session out; what its files hold."""
    paths = make_session(folder, SERIES, "comparison")
    if uids:
        for number, path in enumerate(paths[SERIES[0].files :], 1):
            path.rename(path.with_name(f"1.2.826.0.1.3680043.8.498.{number}"))
    return set(held(folder).values())


@contextmanager
def _site(root: Path, trouble: Trouble) -> Iterator[StandIn]:
    rules = {"enabled": True, "mode": "blacklist", "list": trouble.filter} if trouble.filter else None
    project = Project("DEMO", code=0, access={"up": "edit"}, series_filter=rules)
    with StandIn(root, [project], [User("up", PASSWORD)]) as site:
        for fault in trouble.faults:
            site.faults.add(fault)
        yield site


def table(troubles: Sequence[Trouble]) -> str:
    """All trials, a few at once, in the order of the troubles."""
    install("xnatctl")
    with ThreadPoolExecutor(4) as pool:
        running = [[pool.submit(trial, program, trouble) for program in PROGRAMS] for trouble in troubles]
        try:
            found = [[one.result() for one in line] for line in running]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    titles = ["trouble", *(cell for program in PROGRAMS for cell in (f"{program} says", "on the server"))]
    lines = [titles, ["---"] * len(titles)]
    for trouble, outcomes in zip(troubles, found, strict=True):
        lines.append([trouble.name, *(cell for outcome in outcomes for cell in outcome.cells())])
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.real.compare_xnatctl", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="the troubles whose name contains this")
    wanted = parser.parse_args(argv).only
    troubles = [trouble for trouble in TROUBLES if wanted in trouble.name]
    if not troubles:
        parser.error("no such trouble; there are: " + "; ".join(trouble.name for trouble in TROUBLES))
    print(f"{', '.join(PACKAGES['xnatctl'])} (`session upload --mode tar --prearchive`) and `xnat-ingest upload`\n")
    print(table(troubles))
    return 0


if __name__ == "__main__":
    sys.exit(main())
