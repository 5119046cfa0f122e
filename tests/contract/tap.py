"""A tap on a TCP connection: passes everything on, and keeps what the client said."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Tap:
    """Listens on a port of the loopback interface, and passes each connection on to another port there."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._said: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]

    @property
    def said(self) -> bytes:
        """All that clients said so far."""
        return b"".join(self._said)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the server was closed
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            back = threading.Thread(target=self._pass_on, args=(server, client, None), daemon=True)
            back.start()
            self._pass_on(client, server, self._said)
            back.join()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket, kept: list[bytes] | None) -> None:
        with suppress(OSError):
            while block := source.recv(65536):
                if kept is not None:
                    kept.append(block)
                target.sendall(block)
            target.shutdown(socket.SHUT_WR)
