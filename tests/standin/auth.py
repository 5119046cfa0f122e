"""Logins: Basic on any request, the JSESSIONID cookie, lock-out, and what an unauthenticated request gets."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.standin.balancer import cookie, node_cookie
from tests.standin.model import User
from tests.standin.tables import Reply
from tests.standin.tokens import is_alias

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

_DATA = re.compile(r"/(data|REST|xapi|fs)(/|$)")
"""The default data paths: everything else leads to the login page, whoever asks."""

_BROWSER = re.compile(r".*(MSIE|Mozilla|AppleWebKit|Opera)")
"""The default interactive agents: they are sent to the login page instead of getting a 401."""


NEW_PASSWORD = "/app/template/XDATScreen_UpdateUser.vm"
INACTIVE = "/app/template/InactiveAccount.vm"


@dataclass
class HttpSession:
    id: str
    user: User
    by_token: bool = False
    node: int = 0
    used: float = field(default_factory=time.monotonic)


class Gate:
    """Knows who is asking."""

    def __init__(self, site: StandIn) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._sessions: dict[str, HttpSession] = {}
        self.created = 0

    def enter(self, request: Request) -> Reply | None:
        """Set the request's user, or answer for it: 401, or 302 to the login page for a browser."""
        session = self._by_cookie(request)
        if session is None:
            given = request.headers.get("Authorization")
            if given is None:
                if self._site.settings.require_login:
                    return self._stranger(request)
                self._admit_guest(request)
                return None
            user, by_token = self._by_credentials(given)
            if user is None:
                return self.refuse("Login attempt failed. Please try again.")
            session = self._create(user, request, by_token=by_token)
            if session is None:
                return self.refuse("Maximum sessions of 1000 for this principal exceeded")
            request.session_id = session.id
        session.used = time.monotonic()
        request.user = session.user
        request.session_id = session.id
        return self._elsewhere(request)

    def _elsewhere(self, request: Request) -> Reply | None:
        """Who is logged in and may do nothing is sent to a page for people (XnatExpiredPasswordFilter)."""
        path = request.path.removeprefix(self._site.settings.context_path)
        for sent, page in ((not request.user.enabled, INACTIVE), (request.user.password_expired, NEW_PASSWORD)):
            if sent and path != page:
                return Reply(302, headers=[("Location", self._site.url + page)])
        return None

    def _admit_guest(self, request: Request) -> None:
        """An open site asks nobody who they are: the request is the guest's, with a session of its own."""
        session = self._create(request.user, request)
        if session is not None:
            request.session_id = session.id

    def refuse(self, message: str) -> Reply:
        """401 with the page of Tomcat itself: no XNAT page is mapped to it."""
        title = "HTTP Status 401 \u2013 Unauthorized"
        rule = '<hr class="line" />'
        why = "The request has not been applied because it lacks valid credentials for the target resource."
        body = (
            f'<!doctype html><html lang="en"><head><title>{title}</title><style type="text/css">h1 {{color:white}}'
            f"</style></head><body><h1>{title}</h1>{rule}<p><b>Type</b> Status Report</p>"
            f"<p><b>Message</b> {message}</p><p><b>Description</b> {why}</p>{rule}"
            f"<h3>Apache Tomcat/9.0.45</h3></body></html>"
        )
        realm = [("WWW-Authenticate", f'Basic realm="{self._site.settings.site_id}"')]
        return Reply(401, body.encode(), "text/html;charset=utf-8", realm)

    def _stranger(self, request: Request) -> Reply:
        path = request.path.removeprefix(self._site.settings.context_path)
        if not _DATA.match(path) or _BROWSER.match(request.user_agent or ""):
            return Reply(302, headers=[("Location", self._site.url + "/app/template/Login.vm")])
        return self.refuse("Full authentication is required to access this resource")

    def _by_cookie(self, request: Request) -> HttpSession | None:
        found = cookie(request, "JSESSIONID")
        with self._lock:
            session = self._sessions.get(found or "")
            if session and session.node != request.node:
                return None  # another server's session
            if session and time.monotonic() - session.used > self._site.settings.session_timeout:
                del self._sessions[session.id]
                return None
            return session

    def _by_credentials(self, header: str) -> tuple[User | None, bool]:
        """The user, and whether an alias token stood for name and password. A token has no lock-out."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "basic":
            return None, False
        try:
            name, _, password = base64.b64decode(token).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None, False
        if is_alias(name):
            found = self._site.tokens.login(name, password)
            return (found.user if found else None), True
        return self.login(name, password), False

    def login(self, name: str, password: str) -> User | None:
        """The user, or None; failures count towards the lock-out, which a right password does not end."""
        user = self._site.users.get(name)
        if user is None:
            return None
        with self._lock:
            if user.failed_logins >= self._site.settings.max_failed_logins:
                return None
            if not secrets.compare_digest(user.password.encode(), password.encode()):
                user.failed_logins += 1
                return None
            user.failed_logins = 0
            return user

    def _create(self, user: User, request: Request, *, by_token: bool = False) -> HttpSession | None:
        with self._lock:
            mine = [one for one in self._sessions.values() if one.user is user]
            if len(mine) >= self._site.settings.max_sessions:
                return None
            session = HttpSession(secrets.token_hex(16).upper(), user, by_token, request.node)
            self._sessions[session.id] = session
            self.created += 1
            return session

    def admit(self, request: Request, user: User) -> bool:
        """Give the request a session of its own, as ``services/auth`` does."""
        session = self._by_cookie(request)
        if session is None or session.user is not user:
            session = self._create(user, request)
        if session is None:
            return False
        request.user, request.session_id = user, session.id
        return True

    def leave(self, request: Request) -> None:
        """Invalidate the request's session."""
        with self._lock:
            self._sessions.pop(request.session_id or "", None)

    def touch(self, request: Request) -> None:
        """The end of a request counts as use too."""
        with self._lock:
            if session := self._sessions.get(request.session_id or ""):
                session.used = time.monotonic()

    def forget_all(self) -> None:
        with self._lock:
            self._sessions.clear()

    def forget_tokens(self) -> None:
        """Forget the sessions that alias tokens made."""
        with self._lock:
            self._sessions = {key: one for key, one in self._sessions.items() if not one.by_token}

    def count(self) -> int:
        with self._lock:
            return len(self._sessions)

    def cookies(self, request: Request) -> list[tuple[str, str]]:
        """SESSION_EXPIRATION_TIME on every answer, JSESSIONID when the client does not have it yet."""
        path = self._site.settings.context_path or "/"
        timeout = int(self._site.settings.session_timeout * 1000)
        expires = f'SESSION_EXPIRATION_TIME="{int(time.time() * 1000)},{timeout}"; Version=1; Path={path}'
        found = [("Set-Cookie", expires), *node_cookie(self._site, request)]
        if request.session_id and cookie(request, "JSESSIONID") != request.session_id:
            found.append(("Set-Cookie", f"JSESSIONID={request.session_id}; Path={path}; HttpOnly"))
        return found
