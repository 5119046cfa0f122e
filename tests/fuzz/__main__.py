"""`python -m tests.fuzz --seconds 60 [TARGET ...]`: every target in turn, then a table. Exit 1 for findings.

The work is done in an environment of its own, .venv-fuzz, with atheris where it can be had for this Python: it looks
which lines an input reaches. Else inputs are only mutated, and the table says so. What was found lies in
.fuzz/findings; the inputs that reached something new stay in .fuzz/corpus, and the next run begins with them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.environments import NotMadeError, add_packages, make_environment
from tests.fuzz.registry import TARGETS

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = ROOT / ".venv-fuzz"
WORK = ROOT / ".fuzz"
ATHERIS = "atheris==3.0.0"
# Seconds beyond its time after which a target is taken to hang: it has seeds to go through, and modules to import.
GRACE = 90


@dataclass(frozen=True)
class Result:
    target: str
    driver: str
    executions: int
    seconds: float
    findings: Sequence[dict[str, str]] = field(default_factory=tuple)


def python() -> Path:
    """The Python of the environment; it is made once, and again when what it needs has changed."""
    stamp, wanted = ENVIRONMENT / ".ready", f"{sys.version}\n{ATHERIS}\n{(ROOT / 'requirements.txt').read_text()}"
    found = ENVIRONMENT / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        make_environment(ENVIRONMENT, "--only-binary=:all:", "--require-hashes", "-r", str(ROOT / "requirements.txt"))
        try:
            add_packages(found, "--only-binary=:all:", "--no-deps", ATHERIS)
        except NotMadeError:
            print(f"{ATHERIS} is not to be had for this Python: inputs are mutated without looking at what they reach")
        stamp.write_text(wanted)
    return found


def fuzz(name: str, seconds: float, program: Path, *, mutations: bool = False) -> Result:
    """One target in a process of its own. mutations: without atheris."""
    findings = WORK / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    written = findings / f"{name}.json"
    written.unlink(missing_ok=True)
    command = [str(program), "-m", "tests.fuzz.worker", name, str(seconds), str(findings)]
    command += ["mutations"] if mutations else []
    environ = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    why = ""
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, errors="replace", timeout=seconds + GRACE
        )
        if done.returncode:
            why = f"the process ended with {done.returncode}: {done.stderr.strip()[-300:]}"
    except subprocess.TimeoutExpired:
        why = "the process does not end"
    if written.exists() and not why:
        return Result(name, **json.loads(written.read_text()))
    return Result(
        name, "-", 0, seconds, [{"what": why or "no result", "text": "", "input": str(_last(findings, name))}]
    )


def _last(findings: Path, name: str) -> Path:
    """The input at which the process ended, cut out of what it left."""
    last = findings / f"{name}.last"
    if last.exists():
        held = last.read_bytes()
        (findings / f"{name}-last").write_bytes(held[8 : 8 + int.from_bytes(held[:8], "little")])
    return findings / f"{name}-last"


def table(results: Sequence[Result]) -> str:
    rows = [("target", "driver", "executions", "per second", "findings")]
    for one in results:
        rate = f"{one.executions / max(one.seconds, 0.001):,.0f}"
        rows.append((one.target, one.driver, f"{one.executions:,}", rate, str(len(one.findings))))
    total, found = sum(one.executions for one in results), sum(len(one.findings) for one in results)
    rows.append(("all", "", f"{total:,}", "", str(found)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  "
        + "  ".join(f"{c:>{w}}" for c, w in zip(row[2:], widths[2:], strict=True))
        for row in rows
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__.partition("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of all targets together")
    parser.add_argument("--mutations", action="store_true", help="without atheris, which is many times faster")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    given = parser.parse_args()
    if unknown := set(given.targets) - TARGETS.keys():
        parser.error(f"no target is called {', '.join(sorted(unknown))}")
    names, program = given.targets or list(TARGETS), python()
    results = [fuzz(name, given.seconds / len(names), program, mutations=given.mutations) for name in names]
    print(table(results))
    for one in results:
        for finding in one.findings:
            print(f"\n{one.target}: {finding['what']}\n  {finding['text']}\n  input: {finding['input']}")
    return 1 if any(one.findings for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
