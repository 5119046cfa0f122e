"""One request and its answer over the wire, with limits on time and memory."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from urllib3 import exceptions as http

from xnat_ingest.core import IngestError, ServerSaid, Unreachable
from xnat_ingest.core.secrets import remember_login
from xnat_ingest.xnat import failures
from xnat_ingest.xnat.connections import make_pool, shut, watched_by
from xnat_ingest.xnat.proxies import proxy_for
from xnat_ingest.xnat.replies import Reply, decoded
from xnat_ingest.xnat.tables import CutOffError
from xnat_ingest.xnat.watch import Watch, Watchdog

# The most bytes read of an answer. A session document or an item has kilobytes; listings are read by row (tables.py).
TEXT_LIMIT = 16 * 1024**2
ERROR_LIMIT = 64 * 1024
LOGIN_LIMIT = 1024**2
# Progress means one of these within --timeout seconds.
_CHUNK = 16 * 1024
# Each piece of an answer takes some time, however small it is. Beyond so many, they must have so many bytes on average.
_MOST_PIECES = 10_000
_LEAST_PIECE = 64
# How many chunks may follow the end of a table before its connection is given up.
_REST = 4


class Body(Protocol):
    """A request body that can be opened again for another attempt. length: in bytes; None: sent in chunks."""

    content_type: str

    @property
    def length(self) -> int | None: ...

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Call:
    """A request.

    path: decoded, below the server's address.
    read: receives the body of a 200 while it arrives.
    timeout: seconds until the server must answer.
    most: the most bytes that the answer may have.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    sent: Callable[[int], None] | None = None
    read: Callable[[Iterator[bytes]], str] | None = None
    timeout: float = 60.0
    most: int = TEXT_LIMIT

    @property
    def repeatable(self) -> bool:
        """Whether it can be repeated safely: reading, and sending instances under their own names."""
        return self.method == "GET" or self.body is not None


@dataclass(slots=True)
class Traffic:
    """What went over the wire. bytes_sent: the files' bytes in all bodies, including retries."""

    requests: int = 0
    bytes_sent: int = 0


class Wire:
    """Connections to one server. timeout: seconds without progress. Raises UsageError for unusable settings."""

    def __init__(self, server: str, ca_bundle: str, *, insecure: bool, timeout: float, connections: int) -> None:
        self.server = server
        self.traffic = Traffic()
        self.proxy = proxy_for(server)
        if self.proxy:
            remember_login(self.proxy.user, self.proxy.password)
        self._timeout = timeout
        self._counting = threading.Lock()
        self._watchdog = Watchdog(shut)
        self._pool = make_pool(server, ca_bundle, self.proxy, insecure=insecure, connections=connections)
        self._direct: Callable[..., urllib3.BaseHTTPResponse] | None = None

    def close(self) -> None:
        self._watchdog.close()
        self._pool.clear()

    def abandon(self) -> None:
        """Ends all running requests, in every thread. Later ones fail at once."""
        self._watchdog.abandon()

    def wants_proxy_login(self) -> IngestError:
        return failures.wants_login(self.proxy, self.server)

    def exchange(self, call: Call, headers: dict[str, str], take_cookies: Callable[[list[str]], None]) -> Reply:
        """The answer, with any status. Raises Unreachable and other IngestErrors when there is none."""
        with self._counting:
            self.traffic.requests += 1
        with self._watchdog.watch(self._timeout, call.timeout) as watch:
            watched_by(watch)
            try:
                answer = self._answer(call, self._begin(call, headers, watch), watch, take_cookies)
                if watch.overdue or watch.abandoned:  # a connection that we shut down looks like the end of the answer
                    raise http.ProtocolError("cut")
                return answer
            except http.HTTPError as error:
                raise self._failure(error, watch) from error
            except (OverflowError, MemoryError) as error:
                raise Unreachable(f"{self.server} announces an impossible number of bytes") from error
            finally:
                watched_by(None)

    def _begin(self, call: Call, headers: dict[str, str], watch: Watch) -> urllib3.BaseHTTPResponse:
        if watch.abandoned:
            raise IngestError("the run has ended")
        stream = None
        # Otherwise a server or a proxy may compress the answer, and a small one can unpack to any size.
        headers["Accept-Encoding"] = "identity"
        if call.body is not None:
            headers["Content-Type"] = call.body.content_type
            if call.body.length is not None:  # without it, urllib3 sends what it iterates over in chunks
                headers["Content-Length"] = str(call.body.length)
            stream = _paced(call.body.open(self._counted(call.sent)), watch)
        # A name from the server may contain a lone surrogate, which cannot be encoded.
        query = f"?{urlencode(call.query, errors='replace')}" if call.query else ""
        urlopen, prefix = self._way()
        return urlopen(
            call.method,
            prefix + quote(call.path, errors="replace") + query,
            body=stream,
            headers=headers,
            redirect=False,
            preload_content=False,
            decode_content=False,
            retries=False,  # urllib3 would repeat a used-up body as an empty one and report success
            timeout=urllib3.Timeout(connect=self._timeout, read=call.timeout),
        )

    def _way(self) -> tuple[Callable[..., urllib3.BaseHTTPResponse], str]:
        """What sends a request, and what its path is put behind.

        The connections to the server itself are looked up once: the library would take its address apart each time.
        """
        if self.proxy:
            return self._pool.urlopen, self.server
        if self._direct is None:
            self._direct = self._pool.connection_from_url(self.server).urlopen
        return self._direct, urlsplit(self.server).path

    def _answer(
        self,
        call: Call,
        reply: urllib3.BaseHTTPResponse,
        watch: Watch,
        take_cookies: Callable[[list[str]], None],
    ) -> Reply:
        whole = False
        try:
            take_cookies(reply.headers.getlist("Set-Cookie"))
            chunks = _arriving(reply, watch, self._timeout)
            packed = reply.headers.get("Content-Encoding", "identity").lower() not in ("identity", "")
            if packed and reply.status == 200:
                raise ServerSaid(
                    f"{call.method} {call.path}", 200, "the answer is compressed, though that was not requested"
                )
            page = reply.headers.get("Content-Type", "").startswith("text/html")
            if call.read is None or reply.status != 200 or page:
                most = ERROR_LIMIT if page or reply.status != 200 else call.most
                raw, whole = _up_to(chunks, most)
                if reply.status == 200 and not whole and not page:
                    raise ServerSaid(f"{call.method} {call.path}", 200, f"an answer of more than {most} bytes")
                text = "" if packed else decoded(raw, reply.headers.get("Content-Type", ""))
                if reply.status == 400 and self.server.startswith("http:") and failures.wants_tls(text):
                    raise failures.needs_tls(self.server)
                return Reply(reply.status, text, reply.headers)
            text = _read(call, chunks)
            whole = len(list(islice(chunks, _REST))) < _REST
            return Reply(reply.status, text, reply.headers)
        finally:
            if not whole:
                reply.close()
            reply.release_conn()

    def _failure(self, error: http.HTTPError, watch: Watch) -> IngestError:
        if watch.abandoned:
            return IngestError("the run has ended")
        if watch.overdue or isinstance(error, http.ReadTimeoutError):
            return failures.late(error, watch.late, self.server, self.proxy)
        return failures.failure(error, self.server, self.proxy)

    def _counted(self, sent: Callable[[int], None] | None) -> Callable[[int], None]:
        def count(number: int) -> None:
            with self._counting:
                self.traffic.bytes_sent += number
            if sent:
                sent(number)

        return count


def _read(call: Call, chunks: Iterator[bytes]) -> str:
    assert call.read is not None  # noqa: S101 - asked for by the caller
    try:
        return call.read(chunks)
    except CutOffError as error:
        raise Unreachable(f"GET {call.path}: the answer ends too soon") from error
    except (ValueError, RecursionError) as error:  # it did not find what it expected
        raise ServerSaid(f"GET {call.path}", 200, "no data in the answer") from error


def _paced(chunks: Iterator[bytes], watch: Watch) -> Iterator[bytes]:
    """The chunks of a body. The server must take each in time; our own time to make one does not count."""
    watch.renew(math.inf)
    for chunk in chunks:
        watch.renew(watch.seconds)
        yield chunk
        watch.renew(math.inf)


def _arriving(reply: urllib3.BaseHTTPResponse, watch: Watch, seconds: float) -> Iterator[bytes]:
    """The chunks of an answer. This many bytes must arrive in time, in any number of pieces."""
    stream = reply.stream(_CHUNK, decode_content=False)
    left, come, pieces, total = seconds, 0, 0, 0
    watch.late = f"less than {_CHUNK // 1024} kB of its answer within {seconds:g} seconds"
    while True:
        begun = time.monotonic()
        watch.renew(left)
        chunk = next(stream, None)
        left -= time.monotonic() - begun
        watch.renew(math.inf)
        if chunk is None:
            return
        if watch.overdue or watch.abandoned:  # there may be more to read although we shut the connection down
            raise http.ProtocolError("cut")
        come += len(chunk)
        total += len(chunk)
        pieces += 1
        if pieces > _MOST_PIECES and pieces * _LEAST_PIECE > total:
            raise http.ProtocolError("the answer came in too many tiny pieces")
        if come >= _CHUNK:
            left, come = seconds, 0
        yield chunk


def _up_to(chunks: Iterator[bytes], most: int) -> tuple[bytes, bool]:
    """Up to this many bytes, and whether the answer ended there."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        if len(held) > most:
            return bytes(held[:most]), False
    return bytes(held), True
