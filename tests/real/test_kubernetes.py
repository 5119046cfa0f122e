"""The example for Kubernetes against the schemas of Kubernetes itself, which a package carries."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
JOB = ROOT / "examples" / "kubernetes-job.yaml"
# The oldest version that knows all of it (success and failure policies of single indexes), and later ones.
VERSIONS = ("1.29", "1.33", "1.37")

pytestmark = pytest.mark.real


@pytest.mark.parametrize("version", VERSIONS)
def test_the_job_is_what_kubernetes_takes(programs: Callable[[str], Path], version: str) -> None:
    assert _validate(programs, version, JOB).returncode == 0


def test_a_job_with_a_misspelt_key_is_not(programs: Callable[[str], Path], tmp_path: Path) -> None:
    wrong = tmp_path / "job.yaml"
    wrong.write_text(JOB.read_text().replace("backoffLimitPerIndex", "backoffLimitPerindex"))
    assert _validate(programs, VERSIONS[-1], wrong).returncode != 0


def _validate(programs: Callable[[str], Path], version: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(programs("kubernetes") / "kubernetes-validate"), "--strict", "-k", version, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
