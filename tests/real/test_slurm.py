"""Real Slurm on one node: eight array tasks share a tree, one is requeued midway, and the merged report is whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import hold_laws
from tests.debian import program
from tests.real.clients import ROOT

pytestmark = pytest.mark.real
COUNTS = ("files_seen", "planned", "set_aside", "verified", "missing", "failed")


def test_an_array_job(tmp_path: Path) -> None:
    for name in ("slurmctld", "munged", "ip"):
        program(name)
    apart = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    # The first process of the namespace must reap what Slurm's steps leave behind: a shell that waits does.
    first = ["sh", "-c", '"$@" & wait $!', "sh"]
    words = [*apart, *first, sys.executable, "-m", "tests.real.drive_slurm", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=420, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert seen["merge"][0] == 0, seen["merge"][1]
    assert seen["verify"][0] == 0, seen["verify"][1]
    assert (seen["sessions"], seen["stored"]) == (200, 400)
    merged, whole = (json.loads((tmp_path / name).read_text()) for name in ("all.json", "whole.json"))
    hold_laws(merged)
    assert {key: merged["totals"][key] for key in COUNTS} == {key: whole["totals"][key] for key in COUNTS}
    assert [one["label"] for one in merged["sessions"]] == [one["label"] for one in whole["sessions"]]
    assert {one["shard"] for one in merged["merged"]} == {f"{k}/8" for k in range(1, 9)}
