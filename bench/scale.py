"""What an instance costs, from a thousand to a million of them: `python -m bench.scale [--svg FILE]`.

Each size is a process of its own that scans, plans and writes the plan file of a tree that exists in memory only, so
that a disk's speed does not show: processor time and memory per instance should not grow with their number.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from xnat_ingest.core.model import SourceFile

SIZES = (1_000, 10_000, 100_000, 1_000_000)
PER_SESSION, PER_SERIES = 1000, 100
_UID = b"1.2.3.4.%018d"


class Synthetic:
    """A tree of so many files, each made when it is opened: one real header, with UIDs and numbers of its own."""

    def __init__(self, files: int) -> None:
        from tests.dicom_trees import SAMPLES, read

        self._files = files
        data, known = (SAMPLES / "MR_small.dcm").read_bytes(), read("MR_small.dcm")
        self._data = data
        self._words = [
            str(word).encode()
            for word in (
                known.StudyInstanceUID,
                known.SeriesInstanceUID,
                known.SOPInstanceUID,
            )
        ]

    def files(self) -> Iterator[SourceFile]:
        for number in range(self._files):
            session, series = number // PER_SESSION, number % PER_SESSION // PER_SERIES
            path = f"S{session:05d}/MR1/t1_mprage_sag_{series:04d}/IM{number % PER_SERIES:06d}.dcm"
            yield SourceFile(path, len(self._data), 1_700_000_000_000_000_000 + number)

    def open(self, path: str) -> BinaryIO:
        subject, _, series, name = path.split("/")
        session, group, member = int(subject[1:]), int(series[-4:]), int(name[2:8])
        numbers = (
            session,
            session * 10 + group,
            (session * 10 + group) * PER_SERIES + member,
        )
        data = self._data
        for word, number in zip(self._words, numbers, strict=True):
            data = data.replace(word, (_UID % number).ljust(len(word), b"0")[: len(word)])
        return io.BytesIO(data)

    def stat(self, _: str) -> tuple[int, int]:
        return len(self._data), 0

    def in_order(self, _: str) -> bool:
        return False

    def name_of(self, folder: str) -> str:
        return folder.rpartition("/")[2]


def resident() -> int:
    """Bytes of memory that this process has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def one(files: int) -> dict[str, float]:
    """Seconds of the processor for scan and plan, and for the plan file; bytes of memory that the plan takes."""
    from xnat_ingest.inputs.dicom_headers import same_bytes, scan
    from xnat_ingest.planning.plan_file import plan_pieces
    from xnat_ingest.planning.prepare import label_rules, rule_set
    from xnat_ingest.planning.sessions import make_plan
    from xnat_ingest.settings.layers import resolve

    source = Synthetic(files)
    settings = resolve("plan", {"project": "DEMO"}, {})
    labels = label_rules(settings)
    rules = rule_set(settings, len(labels.levels))
    list(scan(Synthetic(10), lambda _: None))  # what is loaded and cached once
    before, begun = resident(), time.process_time()
    plan = make_plan(scan(source, rules.skip), rules, labels, lambda a, b: same_bytes(source, a, b))
    planned, after = time.process_time() - begun, resident()
    assert plan.planned == files, plan.problems[:3]
    begun = time.process_time()
    with tempfile.TemporaryFile("w") as stream:
        for piece in plan_pieces(plan, "/tree", "subject/session"):
            stream.write(piece)
    written = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "files": files,
        "plan": planned,
        "write": written,
        "memory": after - before,
        "extra": peak - after,
    }


def table(points: Sequence[dict[str, float]]) -> str:
    lines = [
        "| instances | scan and plan, µs each | plan file, µs each | memory, bytes each | more while writing, MB |"
    ]
    lines.append("|---:|---:|---:|---:|---:|")
    for p in points:
        each = p["files"]
        cells = (
            f"{p['plan'] / each * 1e6:.0f}",
            f"{p['write'] / each * 1e6:.0f}",
            f"{p['memory'] / each:.0f}",
        )
        lines.append(f"| {each:,.0f} | {' | '.join(cells)} | {p['extra'] / 1e6:.1f} |")
    return "\n".join(lines)


def picture(points: Sequence[dict[str, float]]) -> str:
    """An SVG: microseconds and bytes an instance against their number."""
    width, height, left, bottom = 640, 320, 60, 40
    series = (
        (
            "#1b6ca8",
            "µs of one core, scan and plan",
            [p["plan"] / p["files"] * 1e6 for p in points],
        ),
        ("#c0392b", "bytes of memory", [p["memory"] / p["files"] for p in points]),
    )
    most = 1.15 * max(value for _, _, values in series for value in values)
    step = (width - left - 40) / max(1, len(points) - 1)
    frame = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12"'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>']
    out.append(f'<rect width="{width}" height="{height}" fill="white"/>')

    def at(index: int, value: float) -> tuple[float, float]:
        return left + index * step, height - bottom - value / most * (height - bottom - 30)

    for tick in range(0, int(most) + 1, 100):
        _, y = at(0, tick)
        out.append(f'<path d="M{left} {y:.1f}H{width - 40}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    for index, point in enumerate(points):
        x, _ = at(index, 0)
        out.append(f'<text x="{x:.1f}" y="{height - bottom + 18}" text-anchor="middle">{point["files"]:,.0f}</text>')
    for number, (colour, name, values) in enumerate(series):
        places = [at(index, value) for index, value in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        out.append(f'<text x="{left + 10 + 260 * number}" y="18" fill="{colour}">{name}, each instance</text>')
    out.append(f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">instances</text></svg>')
    return "\n".join(out) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--svg", type=Path, help="where to draw the curves")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one)))
        return 0
    points = []
    for size in given.sizes.split(","):
        done = subprocess.run(
            [sys.executable, "-m", "bench.scale", "--one", size],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return 1
        points.append(json.loads(done.stdout))
        print(".", end="", file=sys.stderr, flush=True)
    print(f"\n{table(points)}")
    if given.svg:
        given.svg.write_text(picture(points), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
