"""What the machine does to an upload, the cheap ones; `make faults` runs all."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from functools import cache

import pytest

from tests.contract.surroundings import CASES, a_folder, judged


@cache
def may_mount() -> bool:
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return False
    words = ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


CHEAP = [name for name, case in CASES.items() if case.cheap]


@pytest.mark.wide
@pytest.mark.parametrize("name", CHEAP)
def test_surroundings(name: str) -> None:
    """The run ends with its code and sentence, exit 0 is true, and the same command finishes the job."""
    case = CASES[name]
    if case.needs_root and not may_mount():
        pytest.skip("needs root that may mount, and util-linux")
    with a_folder() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs, _, wrong = judged(case, folder)
    assert not wrong, runs
