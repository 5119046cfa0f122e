"""The same inputs for xnatctl and for this program: ``python -m tests.real.compare_inputs`` prints a Markdown table.

Each line is a stand-in of its own, on the loopback interface, and one session in some form; the receiver takes the
transfer syntaxes that XNAT's takes. xnatctl's C-STORE tells nobody where files belong, so the headers do, but for one
line. Both programs leave the session in the prearchive; what is there is counted on its disk, element by element.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.contract.table import STAMPED, Elements, held
from tests.contract.test_archives import to_tgz, to_zip
from tests.dicom_trees import Series, make_session
from tests.real.clients import PACKAGES, ROOT, RUNNING, Client, install
from tests.real.compare_xnatctl import PASSWORD, Outcome, Trouble, _site
from tests.real.compare_xnatctl import SERIES as PLAIN
from tests.standin import StandIn
from tests.standin.contexts import XNAT_SYNTAXES

PLACE = {"PatientComments": "Project:DEMO Subject:007 Session:007_pre"}
JPEG = (
    Series("T1_0001", 12, "MR_small_jp2klossless.dcm", tags=PLACE),
    Series("T2_0002", 12, "JPEG-lossy.dcm", tags=PLACE),
)
ENCODED = (
    Series("deflated_0001", 12, "image_dfl.dcm", tags=PLACE),
    Series("big_endian_0002", 12, "MR_small_bigendian.dcm", tags=PLACE),
)
Change = Callable[[Path, Sequence[Path]], Path]


def as_it_is(folder: Path, paths: Sequence[Path]) -> Path:
    return folder


def named_by_uid(folder: Path, paths: Sequence[Path]) -> Path:
    for number, path in enumerate(paths, 1):
        path.rename(path.with_name(f"1.2.826.0.1.3680043.8.498.{number}"))
    return folder


def with_junk(folder: Path, paths: Sequence[Path]) -> Path:
    """An empty file, a text and a thumbnail that say they were DICOM."""
    junk = {
        "blank": b" \n",
        "readme": b"Exported from the scanner console.\n",
        "thumb": b"\xff\xd8\xff\xe0" + bytes(5000),
    }
    for name, content in junk.items():
        (paths[0].parent / f"{name}.dcm").write_bytes(content)
    return folder


def with_duplicates(folder: Path, paths: Sequence[Path]) -> Path:
    shutil.copytree(paths[0].parent, folder / "copy" / paths[0].parent.name)
    return folder


def colliding(folder: Path, paths: Sequence[Path]) -> Path:
    """Each series lies in two folders, with the same names in both."""
    for number, path in enumerate(paths):
        moved = path.parent / f"echo{number % 2 + 1}" / f"IM{number // 2 + 1:06d}"
        moved.parent.mkdir(exist_ok=True)
        path.rename(moved)
    return folder


def as_tgz(folder: Path, paths: Sequence[Path]) -> Path:
    to_tgz(folder, archive := folder.with_name("session.tar.gz"))
    return archive


def as_zip(folder: Path, paths: Sequence[Path]) -> Path:
    to_zip(folder, archive := folder.with_name("session.zip"))
    return archive


@dataclass(frozen=True)
class Input:
    """A line of the table. change: what a session that was laid out becomes, and what of it is given to a program."""

    name: str
    change: Change = as_it_is
    series: tuple[Series, ...] = PLAIN
    by_dicom: bool = False


STAMPED_PLAIN = tuple(Series(one.name, one.files, one.sample, tags=PLACE) for one in PLAIN)
INPUTS = (
    Input("folder"),
    Input("zip", as_zip),
    Input("tar.gz", as_tgz),
    Input("files named by their UID, without suffix", named_by_uid),
    Input("files that are not DICOM, with suffix .dcm", with_junk),
    Input("a series twice", with_duplicates),
    Input("same file names in two folders of a series", colliding),
    Input("deflated and big endian", series=ENCODED),
    Input("C-STORE: folder", series=STAMPED_PLAIN, by_dicom=True),
    Input("C-STORE: headers that name no project", by_dicom=True),
    Input("C-STORE: files that are not DICOM, with suffix .dcm", with_junk, STAMPED_PLAIN, by_dicom=True),
    Input("C-STORE: JPEG and JPEG 2000", series=JPEG, by_dicom=True),
    Input("C-STORE: big endian", series=ENCODED[1:], by_dicom=True),
    Input("C-STORE: deflated", series=ENCODED[:1], by_dicom=True),
)


def xnatctl(site: StandIn, folder: Path, what: Path, port: int) -> tuple[int | None, str]:
    """port: of the DICOM receiver; 0 for an upload by REST."""
    environ = {"XNAT_URL": site.url, "XNAT_USER": "up", "XNAT_PASS": PASSWORD, "XNAT_NO_UPDATE_CHECK": "1"}
    run = Client(install("xnatctl"), folder, environ | {"NO_COLOR": "1"})
    if port:
        words = ["upload-dicom", str(what), "--host", "127.0.0.1", "--port", str(port), "--called-aet", "XNAT"]
    else:
        words = ["upload", str(what), "-P", "DEMO", "-S", "007", "-E", "007_pre", "--mode", "tar", "--prearchive"]
    try:
        done = run("xnatctl", "session", *words)
    except subprocess.TimeoutExpired:
        return None, "nothing yet"
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    told = [line.removeprefix("Error: ") for line in lines if line.startswith(("✓", "Error: "))]
    told += [line.partition(": ")[2].partition("<")[0].rstrip(" :") for line in lines if line.startswith("- Batch")]
    return done.returncode, "; ".join(dict.fromkeys(re.sub(r" in [\d.]+s$", "", text) for text in told))


def ours(site: StandIn, folder: Path, what: Path, port: int) -> tuple[int | None, str]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "XNAT_PASS": PASSWORD}
    environ |= {"XNAT_HOST": site.url, "XNAT_USER": "up"}
    report = folder / "report.json"
    words = [str(what), "-P", "DEMO", "-S", "007", "-E", "007_pre", "--destination", "prearchive"]
    words += ["--transport", "cstore", "--dicom-port", str(port)] if port else []
    command = [sys.executable, "-m", "xnat_ingest", "upload", *words, "--report", str(report)]
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=RUNNING, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return None, "nothing yet"
    found = json.loads(report.read_text())
    counts = ", ".join(f"{found['totals'][word]} {word}" for word in ("verified", "missing", "failed"))
    aside = Counter(one["reason"] for one in found["set_aside"])
    why = {re.sub(r" \(.*?\)", "", one["why"]) for session in found["sessions"] for one in session["unproven"]}
    told = [*(f"{number} set aside: {reason}" for reason, number in aside.items()), *sorted(why)]
    return done.returncode, "; ".join([counts, *told])


PROGRAMS = {"xnatctl": xnatctl, "xnat-ingest": ours}


def trial(program: str, given: Input) -> Outcome:
    """One program with one input, on a server and a disk of their own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-")))
        site = stack.enter_context(_site(folder / "xnat", Trouble("none")))
        port = stack.enter_context(site.receive(syntaxes=XNAT_SYNTAXES)).port if given.by_dicom else 0
        paths = make_session(folder / "tree" / "007" / "pre", given.series, "comparison")
        source = {uid: _elements(elements) for uid, _, elements in held(paths, lambda *_: "")}
        what = given.change(folder / "tree" / "007" / "pre", paths)
        started = time.monotonic()
        code, said = PROGRAMS[program](site, folder, what, port)
        seconds = time.monotonic() - started
        if site.errors:
            raise RuntimeError(f"the stand-in failed: {site.errors}")
        rows = [f"prearchive of {row.project or 'no project'} ({row.status})" for row in site.prearchive.rows()]
        archived = [f"archive of {one.project}" for one in site.sessions("DEMO")]
        whole, broken, twice = _counted(site, source)
        return Outcome(code, said, len(source), whole, broken, twice, (*rows, *archived), seconds)


def _counted(site: StandIn, source: dict[str, Elements]) -> tuple[int, int, int]:
    """How many instances the server's disk holds whole, how many files other than the source's, how many twice."""
    files = [path for path in site.root.rglob("SCANS/**/*") if path.is_file() and path.suffix != ".xml"]
    stored = [(uid, _elements(elements)) for uid, _, elements in held(files, lambda *_: "")]
    sound = [uid for uid, elements in stored if source.get(uid) == elements]
    return len(set(sound)), len(stored) - len(sound), len(sound) - len(set(sound))


def _elements(those: Elements) -> Elements:
    """All but the routing stamp, and the lengths of groups, which a data set need not have."""
    return {tag: value for tag, value in those.items() if tag not in STAMPED and tag & 0xFFFF}


def table(inputs: Sequence[Input]) -> str:
    """All trials, a few at once, in the order of the inputs."""
    install("xnatctl")
    with ThreadPoolExecutor(4) as pool:
        running = [[pool.submit(trial, program, given) for program in PROGRAMS] for given in inputs]
        found = [[one.result() for one in line] for line in running]
    titles = ["input", *(cell for program in PROGRAMS for cell in (f"{program} says", "on the server"))]
    lines = [titles, ["---"] * len(titles)]
    for given, outcomes in zip(inputs, found, strict=True):
        lines.append([given.name, *(cell for outcome in outcomes for cell in outcome.cells())])
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.real.compare_inputs", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="the inputs whose name contains this")
    wanted = parser.parse_args(argv).only
    inputs = [given for given in INPUTS if wanted in given.name]
    if not inputs:
        parser.error("no such input; there are: " + "; ".join(given.name for given in INPUTS))
    words = "`session upload --mode tar --prearchive`, `session upload-dicom`"
    print(f"{', '.join(PACKAGES['xnatctl'])} ({words}) and `xnat-ingest upload`\n")
    print(table(inputs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
