"""What is sent of odd files, read by DCMTK, which takes nothing that is not as the standard says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.debian import program
from tests.unit.test_outgoing import FILES, instance_of, sent

pytestmark = pytest.mark.real
# Its pixel data is native in both: no file of the wild, but one more without a preamble.
NAMES = [name for name in FILES if name != "no preamble, compressed"]


@pytest.mark.parametrize("name", NAMES)
def test_dcmtk_reads_what_is_sent(name: str, tmp_path: Path) -> None:
    raw, _, _, syntax = FILES[name]
    instance = instance_of(raw)
    path = tmp_path / "sent.dcm"
    path.write_bytes(sent(raw, instance))
    dump = [program("dcmdump"), "-Un", "-q", "+P", "0002,0010", "+P", "0008,0018", "+P", "7fe0,0010", str(path)]
    done = subprocess.run(dump, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    syntax_line, uid_line, pixel_line = done.stdout.splitlines()
    assert f"[{syntax}]" in syntax_line
    assert f"[{instance.sop_uid}]" in uid_line
    assert f"# {instance.pixel_bytes}, 1 PixelData" in " ".join(pixel_line.split())
