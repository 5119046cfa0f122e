"""A request as the resources see it, and its body as a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.standin.faults import ResetError
from tests.standin.model import User

if TYPE_CHECKING:
    from tests.standin.wire import Handler

MAX_SWALLOW = 2 << 20
"""Tomcat's maxSwallowSize: a larger unread body costs the connection."""

_BLOCK = 1 << 16


class BodyCutError(ConnectionError):
    """The client went away inside the body."""


class Body:
    """A request body, read in blocks; counts what arrived."""

    def __init__(self, handler: Handler, length: int | None, chunked: bool) -> None:
        self._handler = handler
        self.length = length
        self.chunked = chunked
        self.received = 0
        self._left = 0 if chunked else (length or 0)
        self._ended = not chunked and not self._left
        self.cut = False

    def read(self, size: int, /) -> bytes:
        """Exactly ``size`` bytes unless the body ends first."""
        parts = []
        while size > 0 and not self._ended:
            if self.chunked and not self._left and not self._next_chunk():
                break
            data = self._pull(min(size, self._left, _BLOCK))
            parts.append(data)
            size -= len(data)
            self._left -= len(data)
            if self.chunked and not self._left:
                self._line()
            elif not self.chunked:
                self._ended = not self._left
        return b"".join(parts)

    def _pull(self, size: int) -> bytes:
        try:
            data = self._handler.pull(size)
        except ResetError:
            self._ended = self.cut = True
            raise
        except OSError as error:
            self._ended = self.cut = True
            raise BodyCutError(str(error)) from error
        if not data:
            self._ended = self.cut = True
            raise BodyCutError("the client closed the connection inside the body")
        self.received += len(data)
        return data

    def _line(self) -> bytes:
        try:
            line = self._handler.rfile.readline(1024)
        except OSError as error:
            self._ended = self.cut = True
            raise BodyCutError(str(error)) from error
        if not line.endswith(b"\n"):
            self._ended = self.cut = True
            raise BodyCutError("the client closed the connection inside the body")
        return line

    def _next_chunk(self) -> bool:
        try:
            self._left = int(self._line().split(b";")[0], 16)
        except ValueError as error:
            self._ended = self.cut = True
            raise BodyCutError("bad chunk") from error
        if not self._left:
            while self._line().strip():
                pass
            self._ended = True
        return not self._ended

    def swallow(self) -> bool:
        """Read what the application left, up to Tomcat's limit; False when the connection must go."""
        if not self.chunked and self._left > MAX_SWALLOW:
            return False
        swallowed = 0
        try:
            while not self._ended and swallowed <= MAX_SWALLOW:
                swallowed += len(self.read(_BLOCK))
        except BodyCutError:
            return False
        return self._ended

    def all(self, limit: int = 1 << 20) -> bytes:
        """A small body as a whole (forms, JSON)."""
        return self.read(limit)


class Request:
    """One request as the resources see it."""

    def __init__(self, handler: Handler) -> None:
        split = urlsplit(handler.path)
        self.method = str(handler.command)
        self.path = unquote(split.path)
        self.raw_path = split.path
        self.pairs = parse_qsl(split.query, keep_blank_values=True)
        self.query = dict(reversed(self.pairs))  # the first of several values counts, as in getFirstValue
        self.headers = handler.headers
        self.user_agent: str | None = self.headers.get("User-Agent")
        self.content_type: str | None = self.headers.get("Content-Type")
        length = self.headers.get("Content-Length")
        self.content_length = int(length) if length and length.isdigit() else None
        chunked = "chunked" in (self.headers.get("Transfer-Encoding") or "").lower()
        self.body = Body(handler, self.content_length, chunked)
        self.handler = handler
        self.user = User("guest")
        self.session_id: str | None = None
        self.node = 0
        """Which of the site's servers answers."""

    def true(self, name: str) -> bool:
        """XNAT's boolean parameters: present, and neither ``false`` nor ``0``."""
        return name in self.query and self.query[name].lower() not in ("false", "0")
