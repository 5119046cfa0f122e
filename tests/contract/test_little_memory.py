"""A start with next to no memory ends with a sentence, wherever it runs out."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from tests.dicom_trees import IDENTITY, part10


def started(tree: Path, kilobytes: int) -> subprocess.CompletedProcess[str]:
    """`plan` with so much memory. A shell's `ulimit -v` does the same."""
    limit = kilobytes << 10
    return subprocess.run(
        [sys.executable, "-m", "xnat_ingest", "plan", str(tree), "-P", "DEMO"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )


def test_the_program_says_that_it_has_no_memory(tmp_path: Path) -> None:
    """Below some point the interpreter itself does not start. How much each step takes depends on the machine."""
    (tmp_path / "a/x").mkdir(parents=True)
    (tmp_path / "a/x/1").write_bytes(part10(IDENTITY))
    said = 0
    for kilobytes in (28_000, 34_000, 42_000):
        ended = started(tmp_path, kilobytes)
        if "there is not enough memory" in ended.stderr:
            said += 1
            assert ended.returncode == 1
        elif ended.returncode:
            assert "xnat_ingest/" not in ended.stderr
        assert "a bug" not in ended.stderr
    assert said


def test_even_the_sentence_may_find_no_memory() -> None:
    """Then the handlers of the program fail, too."""
    lines = "import xnat_ingest.cli as cli", "def script(): raise MemoryError", "cli.script = script"
    run = "from xnat_ingest.__main__ import start", "start()"
    ended = subprocess.run(
        [sys.executable, "-c", "\n".join((*lines, *run))], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, "xnat-ingest: there is not enough memory; allow more (ulimit -v)\n")
