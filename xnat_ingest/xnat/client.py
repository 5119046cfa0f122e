"""XNAT's REST interface: one login for all connections, requests, and statuses as errors. The only user of urllib3."""

from __future__ import annotations

import json
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import urllib3
from urllib3 import exceptions as http

from xnat_ingest.core.about import __version__
from xnat_ingest.core.errors import IngestError, Refused, ServerSaid, Unreachable
from xnat_ingest.settings.layers import Credentials
from xnat_ingest.xnat import tables
from xnat_ingest.xnat.connections import failure, make_pool
from xnat_ingest.xnat.replies import Reply, sentence
from xnat_ingest.xnat.retry_policy import LOGIN_ATTEMPTS, MOST_ATTEMPTS, Patience, is_passing

# XNAT asks whatever calls itself a browser for CSRF tokens and redirects it to a login page; this name does neither.
USER_AGENT = f"xnat-ingest/{__version__}"
# A closing request is silent while the server works, up to its own limit of 600 s (sessionArchiveTimeoutInterval).
CLOSING_TIMEOUT = 660.0
# Seconds; a server session lives 15 minutes without requests by default, and sites shorten that.
KEEP_ALIVE = 60.0
T = TypeVar("T")
_CHUNK = 64 * 1024


class Body(Protocol):
    """A request body that can be opened again for another attempt. length: in bytes; None: it travels in chunks."""

    content_type: str

    @property
    def length(self) -> int | None: ...

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    sent: Callable[[int], None] | None = None
    read: Callable[[Iterator[bytes]], str] | None = None
    timeout: float = 60.0

    @property
    def repeatable(self) -> bool:
        """Whether doing it twice is doing it once: reading, and sending instances under their own names."""
        return self.method == "GET" or self.body is not None


@dataclass(slots=True)
class Traffic:
    """What went over the wire. bytes_sent counts what bodies say of themselves, repeats included: the files' bytes."""

    requests: int = 0
    bytes_sent: int = 0


def _whole(row: tables.Row) -> Any:
    return row


class Rest:
    """One user's connection to one server; safe to use from several threads."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        ca_bundle: str = "",
        insecure: bool = False,
        timeout: float = 60.0,
        connections: int = 8,
        patience: Patience | None = None,
    ) -> None:
        self.server = credentials.server
        self.user = credentials.user
        self.traffic = Traffic()
        self._credentials = credentials
        self._timeout = timeout
        self._patience = patience or Patience()
        self._lock = threading.Lock()  # held while logging in
        self._counting = threading.Lock()
        self._cookie = ""
        self._was_in = False
        self._refusal: Refused | None = None
        self._pool = make_pool(credentials.server, ca_bundle, insecure, connections)

    def close(self) -> None:
        """Ends the server session, if one was begun, and the connections."""
        if self._cookie:
            with suppress(IngestError):  # a session left behind ends by itself
                self._once(_Call("DELETE", "/data/JSESSION", timeout=min(self._timeout, 3.0)))
        self._pool.clear()

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Keeps the server's session from expiring while long bodies travel, which alone do not touch it."""
        ended = threading.Event()

        def touch() -> None:
            while not ended.wait(KEEP_ALIVE):
                with suppress(IngestError):
                    self._once(_Call("GET", "/data/auth", timeout=self._timeout))

        thread = threading.Thread(target=touch, name="keep-alive", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()

    def login(self) -> None:
        """Begins a session, if there is none. Raises Refused, once and for all: wrong credentials tried again lock
        the account out."""
        self._renew("")

    def get(self, path: str, **query: str) -> Reply:
        return self.request("GET", path, query)

    def rows(self, path: str, pick: Callable[[tables.Row], T] = _whole, **query: str) -> list[T]:
        """The rows of a table, each reduced by pick as it arrives. All values are text, absent ones empty."""
        picked: list[T] = []

        def read(chunks: Iterator[bytes]) -> str:
            try:
                picked[:] = [pick(row) for row in tables.rows(chunks)]
            except KeyError as error:
                raise ValueError(f"a row of the table lacks {error}") from error
            return ""

        self.request("GET", path, {"format": "json", **query}, read=read)
        return picked

    def item(self, path: str) -> dict[str, Any] | None:
        """The data fields of a single project or experiment; None when there is none that this user may see."""
        reply = self.request("GET", path, {"format": "json"}, accept=(200, 404))
        if reply.status == 404:
            return None
        try:
            fields = dict(json.loads(reply.text)["items"][0]["data_fields"])
            fields["ID"]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise self._not_data(path, reply) from error
        return fields

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Body | None = None,
        sent: Callable[[int], None] | None = None,
        read: Callable[[Iterator[bytes]], str] | None = None,
        accept: tuple[int, ...] = (200,),
        timeout: float | None = None,
    ) -> Reply:
        """One request, with one new login when the session has expired.

        path: decoded, below the server's address; read: takes the body of a 200 as it arrives. Raises Unreachable,
        Refused, ServerSaid for any status that is not
        in accept, and whatever the body raises.
        """
        call = _Call(method, path, query or {}, body, sent, read, timeout or self._timeout)
        return self._repeat(lambda: self._signed(call, accept), repeatable=method == "GET")

    def _repeat(self, once: Callable[[], Reply], *, repeatable: bool, most: int = MOST_ATTEMPTS) -> Reply:
        for attempt in count(1):
            try:
                return once()
            except (ServerSaid, Unreachable) as error:
                if not (repeatable and is_passing(error)):
                    raise
                self._patience.wait(error, attempt, most)
        raise AssertionError("unreachable")

    def _signed(self, call: _Call, accept: tuple[int, ...]) -> Reply:
        """One request under the login, which is renewed once when it has expired."""
        if not self._cookie:
            self.login()
        cookie = self._cookie
        reply = self._once(call)
        if reply.status == 401 or (call.repeatable and _is_page(call, reply)):
            self._renew(cookie)
            reply = self._once(call)
        if reply.status in accept and not _is_page(call, reply):
            return reply
        if reply.status == 401:
            raise self._ousted("")
        action = f"{call.method} {call.path}"
        if reply.status == 200:
            raise ServerSaid(f"{action} (a web page instead of an answer)", reply.status, sentence(reply.text))
        raise ServerSaid(action, reply.status, sentence(reply.text), reply.headers.get("Retry-After", ""))

    def _renew(self, cookie: str) -> None:
        """A new session, begun by the first of all threads that saw this cookie expire."""
        with self._lock:
            if self._cookie == cookie:
                self._repeat(self._login, repeatable=True, most=LOGIN_ATTEMPTS)

    def _login(self) -> Reply:
        if self._refusal:
            raise self._refusal
        self._cookie = ""
        basic = b64encode(f"{self.user}:{self._credentials.password}".encode()).decode()
        reply = self._once(_Call("POST", "/data/JSESSION", timeout=self._timeout), {"Authorization": f"Basic {basic}"})
        if reply.status in (401, 403):
            said = sentence(reply.text)
            self._refusal = (
                self._ousted(said)
                if self._was_in
                else Refused(
                    f"{self.server} does not accept user {self.user} with this password{f' ({said})' if said else ''}"
                )
            )
            raise self._refusal
        if reply.status in (301, 302, 303, 307, 308):
            target = reply.headers.get("Location", "").split("?")[0]
            raise IngestError(f"{self.server} redirects to {target}; give the address that it redirects to")
        if reply.status not in (200, 404):
            said = sentence(reply.text)
            raise ServerSaid(f"login at {self.server}", reply.status, said, reply.headers.get("Retry-After", ""))
        if reply.status == 404 or not re.fullmatch(r"[\w.!-]{8,256}", reply.text.strip()):
            raise IngestError(f"{self.server} does not answer as an XNAT server; is the address right?")
        self._cookie = reply.text.strip()
        self._was_in = True
        return reply

    def _once(self, call: _Call, extra: Mapping[str, str] | None = None) -> Reply:
        headers = {"User-Agent": USER_AGENT, **(extra or {})}
        if self._cookie:
            headers["Cookie"] = f"JSESSIONID={self._cookie}"
        stream = None
        if call.body is not None:
            headers["Content-Type"] = call.body.content_type
            if call.body.length is not None:  # without it, urllib3 sends what it iterates over in chunks
                headers["Content-Length"] = str(call.body.length)
            stream = call.body.open(self._counted(call.sent))
        with self._counting:
            self.traffic.requests += 1
        url = self.server + quote(call.path) + (f"?{urlencode(call.query)}" if call.query else "")
        try:
            reply = self._pool.request(
                call.method,
                url,
                body=stream,
                headers=headers,
                redirect=False,
                preload_content=call.read is None,
                retries=False,  # its own would send an opened body again as an empty one and call that success
                timeout=urllib3.Timeout(connect=self._timeout, read=call.timeout),
            )
            page = reply.headers.get("Content-Type", "").startswith("text/html")
            if call.read is None or reply.status != 200 or page:
                return Reply(reply.status, reply.data.decode("utf-8", "replace"), reply.headers)
            with closing(reply):
                text = call.read(reply.stream(_CHUNK))
                reply.drain_conn()
            return Reply(reply.status, text, reply.headers)
        except http.HTTPError as error:
            raise failure(error, self.server) from error
        except (ValueError, RecursionError) as error:  # what call.read expected is not there
            raise ServerSaid(f"GET {call.path}", 200, "no data in the answer") from error

    def _counted(self, sent: Callable[[int], None] | None) -> Callable[[int], None]:
        def count(number: int) -> None:
            with self._counting:
                self.traffic.bytes_sent += number
            if sent:
                sent(number)

        return count

    def _ousted(self, said: str) -> Refused:
        return Refused(
            f"{self.server} no longer accepts user {self.user}{f' ({said})' if said else ''}; run the same again with "
            "a valid login (one that XNAT gives to a container lives two days from the launch): what is on the server "
            "is not sent again"
        )

    def _not_data(self, path: str, reply: Reply) -> IngestError:
        return ServerSaid(f"GET {path} (no data in the answer)", reply.status, sentence(reply.text))


def _is_page(call: _Call, reply: Reply) -> bool:
    """XNAT's answer to a file that is there already is JSON that calls itself HTML."""
    return reply.is_page and not (call.body is not None and reply.text.lstrip().startswith("{"))
