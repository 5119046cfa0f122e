"""The program as a process for tests that stop it: `python -m tests.short_waits upload ...`.

Its waits are shortened as in tests/conftest.py, and its send buffers are as small as on a slow network: else the
system would take whole bodies at once, and go on sending them after the process has been killed.
"""

from __future__ import annotations

import socket
import sys

import xnat_ingest.delivery.run  # noqa: F401 - its modules must be there before their waits can be shortened
from xnat_ingest.cli import script
from xnat_ingest.xnat import connections

SHORT = {"BASE": 0.01, "STILL": 1.0, "STILL_LIMIT": 15.0, "WATCH": 0.4}
SEND_BUFFER = 8192


def shorten() -> None:
    """The same names, wherever they live."""
    for name, module in list(sys.modules.items()):
        if name.startswith("xnat_ingest"):
            for constant, seconds in SHORT.items():
                if hasattr(module, constant):
                    setattr(module, constant, seconds)


class _Narrow(connections.Plain):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        return sock


if __name__ == "__main__":
    shorten()
    connections.PlainPool.ConnectionCls = _Narrow
    script()
