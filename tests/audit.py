"""`python -m tests.audit`: known vulnerabilities of the locked packages. Exit 1 for one, and for half an answer.

pip-audit asks a database, which may be out of reach: a package mirror need not have it. Then nothing is known. This
says so, and ends with 0. Where the database answers, a package that it does not know is a failure, too. So is anything
else that keeps pip-audit from its work.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.environments import make_environment

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv-audit"
AUDITOR = "pip-audit==2.10.1"
SERVICES = ("pypi", "osv")
LOCKED = ("requirements.txt", "requirements-build.txt", "requirements-dev.txt")
# Vulnerabilities that cannot be reached here: id -> why.
UNREACHABLE: Mapping[str, str] = {}
# What pip-audit ends with where nobody answers.
NO_NETWORK = re.compile(r"ConnectionError|ConnectTimeout|ReadTimeout|Could not connect|Failed to resolve|Max retries")


def judge(answer: Mapping[str, Any] | None) -> tuple[int | None, list[str]]:
    """answer: pip-audit's document, None where it could ask nobody. An exit code, None for no data, and lines."""
    packages: Sequence[Mapping[str, Any]] = (answer or {}).get("dependencies", ())
    asked = [one for one in packages if "skip_reason" not in one]
    if not asked:
        return None, ["no data: no database of vulnerabilities answers here"]
    lines = [f"{one['name']}: not checked ({one['skip_reason']})" for one in packages if "skip_reason" in one]
    known = [(one, vulnerability) for one in asked for vulnerability in one["vulns"]]
    for one, vulnerability in known:
        text = f"{one['name']} {one['version']}: {vulnerability['id']}"
        mended = ", ".join(vulnerability["fix_versions"]) or "no version"
        why = UNREACHABLE.get(vulnerability["id"], "")
        lines.append(f"{text}, cannot be reached: {why}" if why else f"{text}, mended in {mended}")
    bad = [vulnerability for _, vulnerability in known if vulnerability["id"] not in UNREACHABLE]
    failed = bool(bad) or len(asked) < len(packages)
    return int(failed), lines or [f"{len(asked)} packages, no known vulnerability"]


def ask(service: str) -> Mapping[str, Any] | None:
    """pip-audit's answer; None where the service cannot be asked. Exits with 1 for any other trouble."""
    words = [
        str(_auditor()),
        "--vulnerability-service",
        service,
        "--disable-pip",
        "--require-hashes",
        "--timeout",
        "10",
    ]
    words += ["--progress-spinner", "off", "--format", "json"]
    words += [word for name in LOCKED for word in ("--requirement", str(ROOT / name))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return answer(done.stdout, done.stderr)


def answer(said: str, errors: str) -> Mapping[str, Any] | None:
    """What pip-audit's two streams say; see ask."""
    try:
        found: Mapping[str, Any] = json.loads(said)
    except ValueError:
        if NO_NETWORK.search(errors):
            return None
        last = (errors.strip().splitlines() or ["it said nothing"])[-1]
        sys.exit(f"pip-audit itself failed: {last}")
    return found


def _auditor() -> Path:
    program = ENVIRONMENT / "bin" / "pip-audit"
    if not program.exists():
        make_environment(ENVIRONMENT, "--only-binary=:all:", AUDITOR)
    return program


def main() -> int:
    for service in SERVICES:
        code, lines = judge(ask(service))
        print("\n".join(f"{service}: {line}" for line in lines))
        if code is not None:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
