"""What threads reserve where addresses are limited."""

from __future__ import annotations

import subprocess
import sys

import pytest

# MB of addresses that eight threads reserve, each of which takes some memory.
THREADS = """
import threading
from pathlib import Path
from xnat_ingest.cli.addresses import save_addresses

def size():
    return int(Path("/proc/self/statm").read_text().split()[0]) * 4096 // 2**20

save_addresses()
before, ready, done = size(), threading.Barrier(9), threading.Event()

def work():
    taken = [bytes(1000) for _ in range(10)]
    ready.wait()
    done.wait()

for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
ready.wait()
print(size() - before)
done.set()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc, and ulimit -v")
def test_threads_reserve_their_stacks_alone() -> None:
    """With a heap each, they would reserve 500 MB more, which is more than there is here."""
    limited = ["sh", "-c", 'ulimit -v 1000000; exec "$@"', "sh", sys.executable, "-c", THREADS]
    assert int(subprocess.run(limited, capture_output=True, text=True, check=True).stdout) in range(16, 20)
