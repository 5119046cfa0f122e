"""A relay between the program and a server, which breaks what goes through it: requests of HTTP, associations of DICOM.

It may speak TLS towards the program; towards the server it never does.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import unquote

_BLOCK = 1 << 16
# Seconds after which a stall, a drip or a storm ends at the latest.
LONGEST = 12.0


@dataclass
class Trouble:
    """What happens, and to what. act: does it, and says whether the connection goes on; at: found in `METHOD
    /path?query` of a request (decoded); skip: of those pass first; hits: how often it has struck."""

    act: Callable[[Struck], bool]
    at: str
    skip: int = 0
    times: int = 1
    hits: int = 0


@dataclass
class Struck:
    """A request that a trouble strikes. stream: where its body comes from; head: as it came."""

    relay: Relay
    client: socket.socket
    server: socket.socket
    stream: BinaryIO
    head: bytes

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode("latin-1")

    def body(self) -> Iterator[bytes]:
        """What follows the head, as it is framed."""
        return _body(self.stream, self.head)

    def forward(self) -> bytes:
        """The work is done: what the server answers."""
        self.server.sendall(self.head)
        for piece in self.body():
            self.server.sendall(piece)
        return _answer(self.server)


class Relay:
    """upstream: port of the server; tls: towards the program, may be exchanged while it runs; raw: bytes of no HTTP;
    break_after: of those, so many towards the server before the trouble strikes."""

    def __init__(
        self, upstream: int, trouble: Trouble | None = None, tls: ssl.SSLContext | None = None, *, raw: bool = False
    ) -> None:
        self.trouble = trouble
        self.tls = tls
        self.connections = 0
        self.break_after = 0
        self.slow: set[socket.socket] = set()
        self._upstream = upstream
        self._raw = raw
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._open: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

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

    def pause(self, seconds: float) -> bool:
        """A wait; True when the relay has ended meanwhile."""
        return self._ended.wait(seconds)

    def takes(self, line: str) -> bool:
        """Whether the trouble strikes this request."""
        with self._lock:
            trouble = self.trouble
            if trouble is None or trouble.times <= 0 or not re.search(trouble.at, line):
                return False
            if trouble.skip > 0:
                trouble.skip -= 1
                return False
            trouble.times -= 1
            trouble.hits += 1
            return True

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.append(client)
        with contextlib.suppress(OSError, ValueError), client:
            if self.tls is not None:
                client = self.tls.wrap_socket(client, server_side=True)
            with client, socket.create_connection(("127.0.0.1", self._upstream)) as server:
                self._open.append(server)
                (self._pump if self._raw else self._converse)(client, server)

    def _converse(self, client: socket.socket, server: socket.socket) -> None:
        with client.makefile("rb") as stream:
            while head := _head(stream):
                struck = Struck(self, client, server, stream, head)
                method, target = head.split(b" ", 2)[:2]
                if self.takes(f"{method.decode()} {unquote(target.decode('latin-1'))}"):
                    assert self.trouble is not None
                    if not self.trouble.act(struck):
                        return
                    continue
                answer = struck.forward()
                client.sendall(answer)
                if not answer or b"\r\nconnection: close" in answer.split(b"\r\n\r\n")[0].lower():
                    return

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        """DICOM: both ways at once. A trouble strikes when enough has gone to the server."""
        back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
        back.start()
        sent = 0
        while data := client.recv(_BLOCK):
            sent += len(data)
            if sent > self.break_after and self.takes(f"DICOM {data[0]}"):
                assert self.trouble is not None
                with client.makefile("rb") as stream:
                    if not self.trouble.act(Struck(self, client, server, stream, data)):
                        return
                continue
            server.sendall(data)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)
        back.join(LONGEST)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BLOCK):
                slow = target in self.slow
                for piece in (bytes([byte]) for byte in data) if slow else (data,):
                    target.sendall(piece)
                    if slow and self.pause(0.1):
                        return
            target.shutdown(socket.SHUT_WR)


def _head(stream: BinaryIO) -> bytes:
    lines = []
    for line in stream:
        lines.append(line)
        if line in (b"\r\n", b"\n"):
            return b"".join(lines)
    return b""


def header(head: bytes, name: str) -> str:
    """A header's value, "" for none."""
    found = re.search(rb"\r\n" + name.encode() + rb":[ \t]*([^\r]*)", head, re.IGNORECASE)
    return found[1].decode("latin-1") if found else ""


def _body(stream: BinaryIO, head: bytes) -> Iterator[bytes]:
    if header(head, "transfer-encoding") == "chunked":
        while line := stream.readline():
            yield line
            size = int(line.split(b";")[0], 16)
            yield stream.read(size + 2)
            if not size:
                return
    left = int(header(head, "content-length") or "0")
    while left and (piece := stream.read(min(left, _BLOCK))):
        left -= len(piece)
        yield piece


def _answer(server: socket.socket) -> bytes:
    with server.makefile("rb") as stream:
        head = _head(stream)
        if head.split(b" ", 2)[1:2] == [b"204"] or not head:
            return head
        framed = header(head, "transfer-encoding") or header(head, "content-length")
        return head + (b"".join(_body(stream, head)) if framed else stream.read())


# -- what may happen


def reset(client: socket.socket) -> None:
    """The connection is gone at once, whatever is under way."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # under TLS closing would say so first
    socket.socket(fileno=client.detach()).close()


def a_reset(struck: Struck) -> bool:
    """In the middle of a body."""
    next(struck.body(), b"")
    reset(struck.client)
    return False


def a_lost_answer(struck: Struck) -> bool:
    """The work is done, and nobody hears of it."""
    struck.forward()
    reset(struck.client)
    return False


def a_stall(struck: Struck) -> bool:
    next(struck.body(), b"")
    struck.relay.pause(LONGEST)
    return False


def a_drip(struck: Struck) -> bool:
    """The work is done; its answer comes byte by byte."""
    for byte in struck.forward():
        struck.client.sendall(bytes([byte]))
        if struck.relay.pause(0.1):
            break
    return False


def a_storm(struck: Struck) -> bool:
    """100 Continue for ever."""
    until = time.monotonic() + LONGEST
    while time.monotonic() < until and not struck.relay.pause(0.005):
        struck.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
    return False


def half_closed(struck: Struck) -> bool:
    """The server has nothing more to say, and goes on reading."""
    struck.client.shutdown(socket.SHUT_WR)
    until = time.monotonic() + LONGEST
    while time.monotonic() < until and struck.client.recv(_BLOCK):
        pass
    return False


@dataclass(frozen=True)
class Early:
    """An answer before the body was read; the connection is closed with what is left of it."""

    status: int

    def __call__(self, struck: Struck) -> bool:
        page = f"<html><h1>{self.status}</h1></html>"
        lines = (f"HTTP/1.1 {self.status} No", "Content-Type: text/html", f"Content-Length: {len(page)}")
        struck.client.sendall("\r\n".join((*lines, "Connection: close", "", page)).encode())
        struck.client.shutdown(socket.SHUT_WR)
        struck.relay.pause(0.2)
        return False


def too_long(struck: Struck) -> bool:
    """The answer is said to be longer than it is."""
    struck.client.sendall(_with_length(struck.forward(), 10))
    return False


def too_short(struck: Struck) -> bool:
    """The answer is said to be shorter than it is; the rest stands before the next one."""
    struck.client.sendall(_with_length(struck.forward(), -3))
    return True


def _with_length(answer: bytes, more: int) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    body = body or b"none"
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"content-length", b"transfer-enc"))]
    return b"\r\n".join((*lines, b"Content-Length: %d" % max(0, len(body) + more), b"", body))


def packed(struck: Struck) -> bool:
    """The answer is called packed, and is not."""
    struck.client.sendall(struck.forward().replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1))
    return True


def no_chunks(struck: Struck) -> bool:
    """The answer is said to come in chunks, and does not."""
    answer = struck.forward()
    struck.client.sendall(answer.replace(b"\r\n", b"\r\nTransfer-Encoding: chunked\r\n", 1))
    return False


@dataclass(frozen=True)
class Redirect:
    """The answer is an address, and nothing is done. to: scheme, host and port."""

    to: str
    status: int = 307

    def __call__(self, struck: Struck) -> bool:
        for _ in struck.body():
            pass
        lines = (f"HTTP/1.1 {self.status} Elsewhere", f"Location: {self.to}{struck.path}", "Content-Length: 0", "", "")
        struck.client.sendall("\r\n".join(lines).encode())
        return True


def cut_tls(struck: Struck) -> bool:
    """The connection ends within TLS, without its farewell."""
    answer = struck.forward()
    struck.client.sendall(answer[: len(answer) // 2])
    _end(struck.client, b"")
    return False


def garbled_tls(struck: Struck) -> bool:
    """A record that nobody has signed, in the place of an answer."""
    struck.forward()
    _end(struck.client, b"\x17\x03\x03\0\x40" + b"\x55" * 64)
    return False


def _end(client: socket.socket, data: bytes) -> None:
    """The bytes as they are, beside TLS, and no more."""
    with socket.socket(fileno=client.detach()) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_RDWR)


# -- what may happen to an association


def slow_replies(struck: Struck) -> bool:
    """What the receiver says over this association comes byte by byte from now on."""
    struck.relay.slow.add(struck.client)
    struck.server.sendall(struck.head)
    return True


@dataclass(frozen=True)
class Flood:
    """The same PDU again and again."""

    pdu: bytes

    def __call__(self, struck: Struck) -> bool:
        until = time.monotonic() + LONGEST
        while time.monotonic() < until and not struck.relay.pause(0.02):
            struck.client.sendall(self.pdu)
        return False


@dataclass(frozen=True)
class Said:
    """Bytes that no receiver would send, and then the end."""

    data: bytes
    cut: bool = False

    def __call__(self, struck: Struck) -> bool:
        if self.cut:
            _end(struck.client, self.data)
        else:
            struck.client.sendall(self.data)
            half_closed(struck)
        return False


A_LONG_PDU = Said(b"\x04\0\x7f\xff\xff\xff" + b"\0" * 10)
NO_PDU = Said(b"\xff" * 64)
A_CUT_PDU = Said(b"\x17\x03\x03\0\x40" + b"\x55" * 20, cut=True)
A_GARBLED_PDU = Said(b"\x17\x03\x03\0\x40" + b"\x55" * 64, cut=True)
