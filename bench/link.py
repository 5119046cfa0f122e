"""A slower way to a server: `python -m bench.link PORT TARGET_PORT --rate BYTES_A_SECOND --delay SECONDS`.

rate: of all connections together, towards the server; delay: of one direction, so that a round trip takes twice that.
A new connection waits one round trip, as its handshake would. What TCP itself does at the start of a connection, or
after a loss, is left out.
"""

from __future__ import annotations

import argparse
import queue
import socket
import threading
import time
from contextlib import suppress

_BLOCK = 64 * 1024
_QUEUED = 128  # blocks on the way in one direction: more than a round trip of 30 ms holds


class Rate:
    """Lets so many bytes a second pass. 0: all of them."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0
        self._lock = threading.Lock()

    def wait(self, size: int) -> None:
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            self._free = max(now, self._free) + size / self._rate
            pause = self._free - now
        if pause > 0.001:
            time.sleep(pause)


def _pump(source: socket.socket, target: socket.socket, rate: Rate, delay: float, first: float) -> None:
    """One direction: what is read now is written a delay later. first: seconds that the first block waits longer."""
    way: queue.Queue[tuple[float, bytes]] = queue.Queue(_QUEUED)

    def deliver() -> None:
        with suppress(OSError):
            while True:
                due, data = way.get()
                if (pause := due - time.monotonic()) > 0:
                    time.sleep(pause)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)

    threading.Thread(target=deliver, daemon=True).start()
    with suppress(OSError):
        while data := source.recv(_BLOCK):
            rate.wait(len(data))
            way.put((time.monotonic() + delay + first, data))
            first = 0.0
    way.put((time.monotonic() + delay, b""))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("target", type=int)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--delay", type=float, default=0.0)
    given = parser.parse_args()
    rate = Rate(given.rate)
    listener = socket.create_server(("127.0.0.1", given.port), backlog=256)
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", given.target))
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _BLOCK)
        for one, other, pace, first in ((client, server, rate, 2 * given.delay), (server, client, Rate(0), 0.0)):
            threading.Thread(target=_pump, args=(one, other, pace, given.delay, first), daemon=True).start()


if __name__ == "__main__":
    main()
