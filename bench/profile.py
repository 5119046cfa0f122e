"""Where the time goes when `upload` sends a data set of the bench: `python -m bench.profile --sets e --links "30 ms"`.

py-spy looks at the program from outside, and counts the threads that hold Python's lock. So waiting does not count, and
neither does what runs in C without the lock: packing, checksums, and bytes on their way between kernel and network.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bench.__main__ import LINKS, prepared, serving, way
from bench.contenders import ENVIRONMENT, Work, environ, install, ours
from bench.data import SETS

EVERY = 0.0025  # seconds between two looks
# Rows, in the order of a run. A function belongs to the first row whose modules it is in; a row without names ends it.
ROWS: Mapping[str, tuple[str, ...]] = {
    "loading modules": (),
    "folders, zip directories, opening files": (
        "inputs/folder",
        "inputs/zip_",
        "inputs/tar",
        "inputs/archive",
        "inputs/open_archive",
        "core/regular_file",
        "inputs/source",
        "inputs/views",
        "inputs/system_names",
    ),
    "headers": ("inputs/",),
    "plan": ("planning/", "core/model", "core/stored_name"),
    "bodies": ("transports/bodies", "transports/tar_members", "transports/archive"),
    "requests and their answers": (
        "xnat/connections",
        "xnat/exchange",
        "xnat/client",
        "xnat/replies",
        "xnat/watch",
        "xnat/cookies",
        "xnat/login",
    ),
    "listings, comparing, reading back": ("xnat/", "delivery/read_back", "delivery/verdicts"),
    "deciding what to send": ("delivery/", "transports/", "core/stop"),
    "report and what is printed": ("report/", "cli/", "core/text", "core/secrets", "core/atomic_file"),
    "the rest": ("",),
}


def row_of(stack: Iterable[str]) -> str:
    """stack: functions with their files, from the outermost to the innermost, as py-spy writes them."""
    found = list(stack)
    if any("importlib" in function for function in found):
        return "loading modules"
    own = (function.partition("xnat_ingest/")[2] for function in reversed(found))
    place = next(filter(None, own), "")
    return next(row for row, modules in ROWS.items() if any(map(place.startswith, modules)))


def shares(lines: Iterable[str]) -> tuple[Mapping[str, float], float]:
    """(row -> its share, seconds in all) of what py-spy wrote in its raw format."""
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, number = line.rpartition(" ")
        found[row_of(stack.split(";"))] += int(number)
    total = found.total()
    return {row: found[row] / max(total, 1) for row in ROWS}, total * EVERY


def profile(name: str, link: str, folder: Path) -> tuple[Mapping[str, float], float]:
    """Runs `upload` once. Raises CalledProcessError when that fails."""
    data = SETS[name]
    root, sessions, tar = prepared(data, folder)
    with (
        serving("bench.sink", "0", str(folder / name / "index.json")) as sink,
        way(link, sink) as port,
        tempfile.TemporaryDirectory() as place,
    ):
        work, out = Work(root, sessions, tar, port), Path(place) / "stacks"
        spy = [str(ENVIRONMENT / "bin" / "py-spy"), "record", "--gil", "--format", "raw", "--output", str(out)]
        command = [*spy, "--rate", f"{1 / EVERY:.0f}", "--", *ours(work)]
        environment = {**os.environ, **environ(work)}
        subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True)
        return shares(out.read_text().splitlines())


def table(found: Mapping[str, tuple[Mapping[str, float], float]]) -> Iterator[str]:
    """found: title of a column -> what profile() told."""
    yield f"| | {' | '.join(found)} |"
    yield f"|---|{'---:|' * len(found)}"
    for row in ROWS:
        yield f"| {row} | {' | '.join(f'{share[row]:.0%}' for share, _ in found.values())} |"
    yield f"| all, seconds | {' | '.join(f'{seconds:.1f}' for _, seconds in found.values())} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", default="a,b,e", help="which data sets (default: %(default)s)")
    parser.add_argument("--links", default=",".join(LINKS), help="default: %(default)s")
    parser.add_argument("--work", type=Path, help="a folder for the data, to be kept (needs 8 GB)")
    given = parser.parse_args()
    install()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = given.work or Path(name)
        pairs = [(data, link) for data in given.sets.split(",") for link in given.links.split(",")]
        found = {f"({data}), {link}": profile(data, link, folder) for data, link in pairs}
    print("\n".join(table(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
