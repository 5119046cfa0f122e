"""The HTTP side: sockets, keep-alive, answers, the request log."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.standin.body import Request
from tests.standin.faults import ResetError
from tests.standin.model import Exchange
from tests.standin.tables import Reply

if TYPE_CHECKING:
    from tests.standin.server import StandIn

_BLOCK = 1 << 16


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.site.settings.read_timeout)
        self.server.opened(self.connection)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def pull(self, size: int) -> bytes:
        """Body bytes from the socket; faults slow this down or break it."""
        size = self.server.site.faults.reading(self.current, size)
        data: bytes = self.rfile.read1(size)
        return data

    def version_string(self) -> str:
        return "Apache-Coyote/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing on standard error: the request log is ``StandIn.requests``."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ResetError:
            self.server.reset(self.connection)
            self.close_connection = True
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _any(self) -> None:
        started = time.monotonic()
        request = self.current = Request(self)
        reply: Reply | None = None
        try:
            reply = self.server.site.answer(request)
            # Tomcat swallows the rest of a small body before it answers and gives up the connection for a large one.
            keep = not reply.close and request.body.swallow()
        finally:
            # before the answer goes out: a test that has its answer finds it in the log
            self._log(request, reply, started)
        self._send(request, reply, keep)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = _any  # noqa: N815 - http.server's names

    def _log(self, request: Request, reply: Reply | None, started: float) -> None:
        self.server.site.record(
            Exchange(
                method=request.method,
                path=request.path,
                query=request.query,
                status=reply.status if reply else 0,
                body_bytes=request.body.received,
                content_type=request.content_type,
                content_length=request.content_length,
                user_agent=request.user_agent,
                started=started,
                finished=time.monotonic(),
                user=request.user.name,
                reply=reply.body if reply else b"",
            )
        )

    def _send(self, request: Request, reply: Reply, keep: bool) -> None:
        if self.server.marked(self.connection):
            raise ResetError
        size = reply.file.stat().st_size if reply.file else len(reply.body)
        self.send_response(reply.status, reply.reason)
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.content_type and reply.status != 204:
            self.send_header("Content-Type", reply.content_type)
        if reply.status != 204:
            self.send_header("Content-Length", str(size))
        if not keep:
            self.send_header("Connection", "close")
            self.close_connection = True
        head = b"".join(self._headers_buffer) + b"\r\n"  # one packet with the body
        self._headers_buffer: list[bytes] = []
        bodiless = request.method == "HEAD" or reply.status == 204
        self.wfile.write(head if bodiless else head + reply.body)
        if reply.file and not bodiless:
            with reply.file.open("rb") as stored:
                while block := stored.read(_BLOCK):
                    self.wfile.write(block)


class Server(ThreadingHTTPServer):
    """Listens on the loopback interface only and can drop every connection at once."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024
    allow_reuse_address = True

    def __init__(self, site: StandIn, port: int) -> None:
        self.site = site
        self._open: set[socket.socket] = set()
        self._marked: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)

    def opened(self, connection: socket.socket) -> None:
        with self.site.lock:
            self._open.add(connection)

    def reset(self, connection: socket.socket) -> None:
        """Mark a connection: it will be reset instead of ended politely."""
        with self.site.lock:
            self._marked.add(connection)

    def marked(self, connection: socket.socket) -> bool:
        with self.site.lock:
            return connection in self._marked

    def shutdown_request(self, request: Any) -> None:
        """Close a connection; with SO_LINGER at zero the close is a reset."""
        if self.marked(request):
            with contextlib.suppress(OSError):
                request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.close()
        else:
            super().shutdown_request(request)
        with self.site.lock:
            self._open.discard(request)
            self._marked.discard(request)

    def drop_all(self, *, hard: bool = False) -> None:
        """Wake every connection's thread and make it close; ``hard`` makes that a reset."""
        with self.site.lock:
            connections = list(self._open)
            self._marked |= set(connections) if hard else set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD if hard else socket.SHUT_RDWR)

    def connections(self) -> int:
        with self.site.lock:
            return len(self._open)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else must be seen by the test."""
        import sys

        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError | OSError):
            super().handle_error(request, client_address)
            self.site.errors.append(repr(error))

    def server_bind(self) -> None:
        # ThreadingHTTPServer looks up a host name here, which can take seconds
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]
