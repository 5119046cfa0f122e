"""XNAT's REST API: requests, one login for all connections, and HTTP statuses as errors."""

from __future__ import annotations

import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

from xnat_ingest.core import IngestError, Refused, ServerSaid, Unreachable
from xnat_ingest.core.about import __version__
from xnat_ingest.core.secrets import HIDDEN, called, redact, remember, remember_login
from xnat_ingest.settings.layers import Credentials
from xnat_ingest.settings.options import ServerSettings
from xnat_ingest.xnat import documents, login, tables
from xnat_ingest.xnat.cookies import Cookies
from xnat_ingest.xnat.exchange import LOGIN_LIMIT, Body, Call, Wire
from xnat_ingest.xnat.replies import Reply, sentence
from xnat_ingest.xnat.retry_policy import LOGIN_ATTEMPTS, MOST_ATTEMPTS, RetryPolicy, is_transient

# XNAT demands CSRF tokens from browsers and redirects them to a login page. This name is not taken for a browser.
USER_AGENT = f"xnat-ingest/{__version__}"
# A commit gets no bytes while the server works, up to its own limit of 600 s (sessionArchiveTimeoutInterval).
CLOSING_TIMEOUT = 660.0
# Seconds. A server session expires after 15 minutes without requests by default, and sites may shorten that.
KEEP_ALIVE = 60.0
# Questions that are asked at the same time. Each takes a thread and a connection. More of them would save no round
# trip.
AT_ONCE = 4
T = TypeVar("T")
# What an open site answers when the session is lost, and a logged-in user would get another answer.
_NOT_FOR_GUESTS = (403, 404)
# How often a login may be lost while one question is asked.
_LOGINS_LOST = 3
# Parts of an address that lead out of it.
_UPWARD = frozenset({".", ".."})
_GUEST = "guest"
# Cookies of load balancers with values this long may be secrets. Shorter ones are names, such as `node12`.
_LONG = 8


def _whole(row: tables.JsonRow) -> Any:
    return row


class XnatClient:
    """One user's connection to one server. Safe to use from several threads.

    user: the user's name, for messages
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        ca_bundle: str = "",
        insecure: bool = False,
        timeout: float = 60.0,
        connections: int = 8,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        self.server = credentials.server
        self.user = called(credentials.user)
        self._credentials = credentials
        self._timeout = timeout
        self._retry_policy = retry_policy or RetryPolicy()
        self._lock = threading.Lock()  # held while logging in
        self._guest_lock = threading.Lock()  # held while finding out whether the site answers without a login
        self._cookies = Cookies()
        self.logins = 0
        self._has_guests: bool | None = None
        self._refusal: Refused | None = None
        remember_login(credentials.user, credentials.password)
        self._wire = Wire(credentials.server, ca_bundle, insecure=insecure, timeout=timeout, connections=connections)
        self.traffic = self._wire.traffic

    def close(self) -> None:
        """Ends the server session, if there is one, and closes the connections."""
        if self._cookies.session:
            with suppress(IngestError):  # a session that is left open expires
                self._once(Call("DELETE", "/data/JSESSION", timeout=min(self._timeout, 3.0)), self._cookies)
        self._wire.close()

    def abandon(self) -> None:
        """Aborts all running requests, to end a run although the server does not answer."""
        self._wire.abandon()

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Keeps the server session alive while long bodies are sent, which do not count as activity.

        If it expires all the same, logs in again before the next request.
        """
        ended = threading.Event()

        def touch() -> None:
            while not ended.wait(KEEP_ALIVE):
                with suppress(IngestError):
                    self.mend_login()

        thread = threading.Thread(target=touch, name="keep-alive", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()

    def login(self) -> None:
        """Logs in, if there is no session. Raises Refused, from then on always: retrying wrong credentials locks the
        account."""
        self._renew(None)

    def mend_login(self) -> bool:
        """Asks the server who is logged in, and logs in again when the session was lost. Returns whether it was.

        A site that admits guests answers 200 to a lost session, as the user `guest`.
        """
        cookies = self._cookies
        if not cookies.session:
            return False
        reply = self._once(Call("GET", "/data/auth", timeout=self._timeout), cookies)
        if reply.status != 401 and not self._is_guest(reply):
            return False
        self._renew(cookies)
        return True

    def as_user(self, ask: Callable[[], T]) -> T:
        """The answer to a question that a guest gets answered, too, but in part. Asks again when the login was lost.

        Raises what ask raises, and Refused when the server keeps taking us for a guest.
        """
        for _ in range(_LOGINS_LOST):
            found = ask()
            if not self._lets_guests_in():
                return found  # without a login, it would not have been answered
            cookies = self._cookies
            who = self.request("GET", "/data/auth", accept=(200, 404))
            if not self._is_guest(who):
                return found
            self._renew(cookies)
        raise login.only_guest(self.server)

    @contextmanager
    def asking(self) -> Iterator[ThreadPoolExecutor]:
        """Threads for questions that can be asked at the same time. Each of them waits for the server's whole answer,
        and on a slow line that adds up.

        The block ends when all of them are answered, or have failed.
        """
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ask") as pool:
            yield pool

    def get(self, path: str, **query: str) -> Reply:
        return self.request("GET", path, query)

    def rows(
        self,
        path: str,
        pick: Callable[[tables.JsonRow], T] = _whole,
        *,
        most: int = 0,
        if_more: str = "look at it in XNAT",
        **query: str,
    ) -> list[T]:
        """The rows of a table, each reduced by pick when it arrives. All values are text; absent ones are empty.

        most: rows that are taken; an answer with more is refused. By default as many as any table may have.
        if_more: what to do about such an answer.

        Raises ServerSaid when a row is of another session, scan or project.
        """
        picked: list[T] = []
        is_stray = documents.stray_finder(path)

        def ours(row: tables.JsonRow) -> tables.JsonRow:
            if is_stray(row):
                why = f"a row of the answer is about {row['URI']}: is there a cache or a proxy in between?"
                raise ServerSaid(f"GET {path}", 200, why)
            return row

        def read(chunks: Iterator[bytes]) -> str:
            try:
                picked[:] = [pick(ours(row)) for row in tables.table_rows(chunks, most)]
            except tables.TooManyRowsError as error:
                raise ServerSaid(f"GET {path}", 200, f"{error}; {if_more}") from error
            except KeyError as error:
                raise ValueError(f"a row of the table has no {error}") from error
            return ""

        self.request("GET", path, {"format": "json", **query}, read=read)
        return picked

    def item(self, path: str) -> dict[str, Any] | None:
        """The data fields and the xsiType of one object; None when it does not exist or this user may not see it.

        See read_document. Raises IngestError for the document of another object.
        """
        reply = self.request("GET", path, {"format": "json"}, accept=(200, 404))
        if reply.status == 404:
            return None
        try:
            fields = documents.read_document(reply.text)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise self._not_data(path, reply) from error
        documents.refuse_stranger(path, fields)
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
        """Sends one request. Logs in again once when the session has expired.

        path: decoded, below the server's address.
        read: receives the body of a 200 while it arrives.

        Raises Unreachable, Refused, ServerSaid for any status not in accept, and what reading the body raises.
        """
        if _UPWARD & set(path.split("/")):
            raise ServerSaid(f"{method} {path}", 200, "it gave a name that leads to another address")
        call = Call(method, path, query or {}, body, sent, read, timeout or self._timeout)
        return self._repeat(lambda: self._signed(call, accept), repeatable=method == "GET")

    def _repeat(self, once: Callable[[], Reply], *, repeatable: bool, most: int = MOST_ATTEMPTS) -> Reply:
        since: float | None = None
        for attempt in count(1):
            try:
                reply = once()
                self._retry_policy.succeeded()
                return reply
            except (ServerSaid, Unreachable) as error:
                if not (repeatable and is_transient(error)):
                    raise
                since = since or time.monotonic()
                self._retry_policy.wait(error, attempt, most, since)
        raise AssertionError("unreachable")

    def _signed(self, call: Call, accept: tuple[int, ...]) -> Reply:
        """One request with the login, which is renewed once when it has expired."""
        if not self._cookies.session:
            self.login()
        cookies = self._cookies
        reply = self._once(call, cookies)
        if self._is_lost(call, reply, cookies):
            self._renew(cookies)
            cookies = self._cookies
            reply = self._once(call, cookies)
            if reply.status in _NOT_FOR_GUESTS and self._is_lost(call, reply, cookies):
                raise login.only_guest(self.server)
        if reply.status in accept and not _is_page(call, reply):
            return reply
        if reply.status == 401:
            raise self._ousted("")
        if reply.status in login.REDIRECTS and reply.headers.get("Location"):
            raise login.redirected(reply, self.server, self.user, call.path)
        action = f"{call.method} {call.path}"
        if reply.status == 200:
            raise ServerSaid(f"{action} (a web page instead of an answer)", reply.status, sentence(reply.text))
        raise ServerSaid(action, reply.status, sentence(reply.text), reply.headers.get("Retry-After", ""))

    def _is_lost(self, call: Call, reply: Reply, cookies: Cookies) -> bool:
        """Whether the cause of an answer may be a lost session. For a guest, much is refused or invisible."""
        if reply.status == 401 or (call.repeatable and _is_page(call, reply)):
            return True
        if reply.status not in _NOT_FOR_GUESTS or not self._lets_guests_in():
            return False
        with suppress(IngestError):
            return self._is_guest(self._once(Call("GET", "/data/auth", timeout=self._timeout), cookies))
        return False

    def _lets_guests_in(self) -> bool:
        """Whether the site answers without a login. Asked once, when an answer first makes it matter."""
        with self._guest_lock:
            if self._has_guests is None:
                with suppress(IngestError):
                    nobody = self._once(Call("GET", "/data/auth", timeout=self._timeout), Cookies())
                    self._has_guests = bool(login.user_of(nobody))
            return self._has_guests is not False

    def _is_guest(self, reply: Reply) -> bool:
        return login.user_of(reply).casefold() == _GUEST != self._credentials.user.casefold()

    def _renew(self, lost: Cookies | None) -> None:
        """Starts a new session, in the first thread that sees this one expire. None: there was none yet."""
        with self._lock:
            if self._cookies is lost or (lost is None and not self._cookies.session):
                self._repeat(self._login, repeatable=True, most=LOGIN_ATTEMPTS)

    def _login(self) -> Reply:
        if self._refusal:
            raise self._refusal
        cookies = Cookies()
        basic = b64encode(f"{self._credentials.user}:{self._credentials.password}".encode()).decode()
        call = Call("POST", "/data/JSESSION", timeout=self._timeout, most=LOGIN_LIMIT)
        try:
            reply = self._once(call, cookies, {"Authorization": f"Basic {basic}"})
        except Unreachable as error:
            if self.logins or not self.server.startswith("http:") or not error.maybe_done or error.timed_out:
                raise
            raise Unreachable(f"{error}; if this port expects TLS, use https:// instead of http://") from error
        if reply.status == 407:
            raise self._wire.wants_proxy_login()
        if reply.status in (401, 403):
            self._refusal = (
                self._ousted(sentence(reply.text))
                if self.logins
                else login.refused(reply, self.server, self.user, self._credentials.password)
            )
            raise self._refusal
        if reply.status in login.REDIRECTS:
            sent_on = login.redirected(reply, self.server, self.user, call.path)
            self._refusal = sent_on if isinstance(sent_on, Refused) else None
            raise sent_on
        if reply.status not in (200, 404):
            said = sentence(reply.text)
            raise ServerSaid(f"login at {self.server}", reply.status, said, reply.headers.get("Retry-After", ""))
        if reply.is_page and login.is_sign_on_page(reply.text):
            raise login.single_sign_on(self.server, "another page")
        if reply.status == 404 or not re.fullmatch(r"[\w.!-]{8,256}", reply.text.strip()):
            raise IngestError(f"{self.server} does not answer like an XNAT server; check the address")
        cookies.session = cookies.session or reply.text.strip()
        remember(*_long(cookies))
        remember_login(self._credentials.user, self._credentials.password)  # the oldest secrets are dropped
        self._cookies = cookies
        self.logins += 1
        return reply

    def _once(self, call: Call, cookies: Cookies, extra: Mapping[str, str] | None = None) -> Reply:
        headers = {"User-Agent": USER_AGENT, **(extra or {})}
        if cookie := cookies.header():
            headers["Cookie"] = cookie
        # Only the answer to a login starts a session of ours.
        reply = self._wire.exchange(call, headers, lambda lines: cookies.take(lines, with_session=bool(extra)))
        if reply.status == 200 and not reply.is_page:
            return reply
        # An error page may repeat what was sent. A password that may be an ordinary word, so short is it, is hidden
        # here alone, and so is a cookie that was set after the login.
        said, password = redact(reply.text), self._credentials.password
        for secret in (password, *_long(cookies)):
            said = said.replace(secret, HIDDEN) if secret else said
        return replace(reply, text=said)

    def _ousted(self, said: str) -> Refused:
        return login.ousted(self.server, self.user, said)

    def _not_data(self, path: str, reply: Reply) -> IngestError:
        return ServerSaid(f"GET {path} (no data in the answer)", reply.status, sentence(reply.text))


def _long(cookies: Cookies) -> list[str]:
    return [value for value in cookies.secrets() if len(value) >= _LONG]


def _is_page(call: Call, reply: Reply) -> bool:
    """Whether it is JSON labelled as HTML, which is XNAT's answer when a file already exists."""
    return reply.is_page and not (call.body is not None and reply.text.lstrip().startswith("{"))


def client_of(
    settings: ServerSettings, credentials: Credentials, retry_policy: RetryPolicy, *, connections: int = 8
) -> XnatClient:
    """A client with the certificates and the timeout of the settings. connections: how many at once."""
    return XnatClient(
        credentials,
        ca_bundle=settings.ca_bundle,
        insecure=settings.insecure,
        timeout=settings.timeout,
        connections=connections,
        retry_policy=retry_policy,
    )
