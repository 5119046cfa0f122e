"""Alias tokens: a pair of name and secret that logs in as its user until it ends."""

from __future__ import annotations

import re
import secrets
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.standin.model import User
from tests.standin.tables import Reply, RestError, as_json, text

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

_ALIAS = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True)
class Token:
    """One token. Its life is counted from its making; use does not prolong it."""

    number: int
    alias: str
    secret: str
    user: User
    created: float
    ends: float
    started: float = field(default_factory=time.monotonic)


class Tokens:
    """The tokens of a site."""

    def __init__(self, site: StandIn) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._all: dict[str, Token] = {}

    def issue(self, user: User) -> Token:
        """A new token; earlier ones stay good."""
        now = time.time()
        number = self._site.numbers.next("token")
        alias, secret = str(uuid.uuid4()), secrets.token_hex(32)
        made = Token(number, alias, secret, user, now, now + self._site.settings.alias_token_timeout)
        with self._lock:
            self._all[made.alias] = made
        return made

    def find(self, alias: str) -> Token | None:
        """A token that has not ended."""
        with self._lock:
            found = self._all.get(alias)
            if found and time.monotonic() - found.started >= self._site.settings.alias_token_timeout:
                del self._all[alias]
                return None
            return found

    def of(self, user: User) -> list[Token]:
        with self._lock:
            aliases = [one.alias for one in self._all.values() if one.user is user]
        return [found for alias in aliases if (found := self.find(alias))]

    def login(self, alias: str, secret: str) -> Token | None:
        found = self.find(alias)
        return found if found and secrets.compare_digest(found.secret, secret) else None

    def invalidate(self, alias: str) -> None:
        with self._lock:
            self._all.pop(alias, None)

    def expire(self) -> None:
        """End them all."""
        with self._lock:
            self._all.clear()


def is_alias(name: str) -> bool:
    """Whether a login name has the form of a token's."""
    return _ALIAS.fullmatch(name) is not None


def serve(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """``GET /services/tokens/OPERATION...``: issue, show, validate and invalidate are all GETs."""
    user = _user(site, request, found)
    operation = found["operation"]
    alias = found.get("token", "")
    if alias:
        _own(site, request, alias)
    if operation == "issue":
        return as_json(_json(site.tokens.issue(user)))
    if operation == "show":
        return as_json([_json(one) for one in site.tokens.of(user)])
    if operation == "validate":
        if not alias or "secret" not in found:
            raise RestError(401, "You must specify both token and secret to validate a token.")
        good = site.tokens.login(alias, found["secret"])
        return as_json({"valid": good.user.name} if good else {})
    if operation == "invalidate":
        site.tokens.invalidate(alias)
        return text('{"result": "OK"}', content_type="application/json")
    raise RestError(400, f"Unknown operation: {operation}")


def _user(site: StandIn, request: Request, found: dict[str, str]) -> User:
    """Whose token it is about; only administrators may name another user."""
    name = found.get("user", request.user.name)
    if name == request.user.name:
        return request.user
    if not request.user.all_data:
        raise RestError(403, "Non-admin users can only request operations on alias tokens for their own account")
    if name not in site.users:
        raise RestError(400, f"An error occurred retrieving the user: {name}")
    return site.users[name]


def _own(site: StandIn, request: Request, alias: str) -> None:
    token = site.tokens.find(alias)
    if token is None:
        what = "alias" if is_alias(alias) else "ID"
        raise RestError(404, f"Can't find an alias token with the {what} {alias}")
    if token.user is not request.user and not request.user.all_data:
        raise RestError(403, "Non-admin users can only request operations on alias tokens for their own account")


def _json(token: Token) -> dict[str, object]:
    return {
        "id": token.number,
        "alias": token.alias,
        "secret": token.secret,
        "xdatUserId": token.user.name,
        "singleUse": False,
        "validIPAddresses": [],
        "estimatedExpirationTime": int(token.ends * 1000),
        "created": int(token.created * 1000),
        "timestamp": int(token.created * 1000),
        "enabled": True,
        "disabled": 0,
    }
