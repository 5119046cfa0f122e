"""A server on the loopback interface whose answers a test writes byte by byte: what no honest server would send."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came. line: such as `GET /data/auth HTTP/1.1`."""

    line: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.line.split()[1]


Answer = Callable[[Asked, socket.socket], bytes | Iterable[bytes] | None]


class Scripted:
    """answer: what to send back; an iterable is sent piece by piece; None ends the connection; tls: as a server;
    greeting: sent at once, whatever is asked, and nothing else."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None, greeting: bytes = b"") -> None:
        self._answer = answer
        self._greeting = greeting
        self._tls = tls
        self.asked: list[Asked] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for one in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def pause(self, seconds: float) -> None:
        """A wait that the end of the test ends."""
        self._ended.wait(seconds)

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._greeting:
                connection.sendall(self._greeting)
                connection.recv(65536)
                return
            if self._tls is None:
                self._converse(connection)
                return
            with self._tls.wrap_socket(connection, server_side=True) as encrypted:
                self._converse(encrypted)

    def _converse(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while not self._ended.is_set() and (asked := _read(stream)):
                self.asked.append(asked)
                answer = self._answer(asked, connection)
                if answer is None:
                    return
                for piece in [answer] if isinstance(answer, bytes) else answer:
                    connection.sendall(piece)


def _read(stream: BinaryIO) -> Asked | None:
    lines = []
    for line in stream:
        if not line.strip():
            break
        lines.append(line.decode("latin-1").strip())
    if not lines:
        return None
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    size = int(headers.get("content-length", "0"))
    body = stream.read(size) if size else b""
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(_chunks(stream))
    return Asked(lines[0], headers, body)


def _chunks(stream: BinaryIO) -> Iterable[bytes]:
    while size := int(stream.readline().split(b";")[0], 16):
        yield stream.read(size + 2)[:-2]
    stream.readline()


def http(status: int = 200, body: bytes | str = b"", *headers: str, kind: str = "text/plain") -> bytes:
    """An answer with its length."""
    raw = body.encode() if isinstance(body, str) else body
    lines = (f"HTTP/1.1 {status} Said", f"Content-Type: {kind}", f"Content-Length: {len(raw)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw
