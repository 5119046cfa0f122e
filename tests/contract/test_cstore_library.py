"""Why the program has an association of its own: pynetdicom's does not end when a receiver stops reading.

When the second test fails because a new pynetdicom ends, `transports/dicom_association.py` can go.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.contract.relay import Relay, Struck, Trouble
from tests.dicom_trees import Memory
from tests.dicomscp import Scp
from tests.dicomscu import made, send
from xnat_ingest.core.errors import Unreachable

LARGE = 20_000_000  # more than the sockets of both sides take
LIMIT = 0.5


def stop_reading(struck: Struck) -> bool:
    struck.relay.pause(60)
    return False


@pytest.mark.wide
def test_ours_ends() -> None:
    source = Memory({"a": made(1, size=LARGE)})
    with (
        Scp() as scp,
        Relay(scp.port, Trouble(stop_reading, "DICOM 4"), raw=True) as relay,
        pytest.raises(Unreachable),
    ):
        send(source, relay.port, timeout=LIMIT)


@pytest.mark.wide
@pytest.mark.parametrize("queue", [0, 8])
def test_that_of_the_library_does_not(tmp_path: Path, queue: int) -> None:
    """Eight times its timeouts later it is still at it. With a bounded queue, it waits for a place in the queue."""
    path = tmp_path / "a.dcm"
    dcmread(io.BytesIO(made(1, size=LARGE))).save_as(path, enforce_file_format=True)
    words = [sys.executable, "-m", "tests.contract.drive_pynetdicom"]
    with Scp() as scp, Relay(scp.port, Trouble(stop_reading, "DICOM 4"), raw=True) as relay:
        command = [*words, str(relay.port), str(path), str(LIMIT), str(queue)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "established\n"
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(8 * LIMIT)
            finally:
                process.kill()
