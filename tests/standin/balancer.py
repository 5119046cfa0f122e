"""Several servers behind a balancer that keeps a client at one of them by a cookie of its own.

The servers share database and storage. HTTP sessions are each server's own: a request that comes without the balancer's
cookie goes to the next server in turn, which knows nothing of a session that another one made.
"""

from __future__ import annotations

import itertools
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

COOKIE = "SERVERID"
_turns = itertools.count()


def choose_node(site: StandIn, request: Request) -> None:
    """Give the request to the server that its cookie names, or to the next one."""
    nodes = site.settings.nodes
    named = cookie(request, COOKIE) or ""
    known = named.removeprefix("node")
    request.node = int(known) if known.isdigit() and int(known) < nodes else next(_turns) % nodes


def node_cookie(site: StandIn, request: Request) -> list[tuple[str, str]]:
    """The balancer's cookie for an answer, where there is a balancer and the client does not have it yet."""
    name = f"node{request.node}"
    if site.settings.nodes == 1 or cookie(request, COOKIE) == name:
        return []
    return [("Set-Cookie", f"{COOKIE}={name}; Path=/")]


def cookie(request: Request, name: str) -> str | None:
    """A cookie of the request; malformed headers have none."""
    for line in request.headers.get_all("Cookie") or ():
        try:
            found: SimpleCookie = SimpleCookie(line)
        except CookieError:
            continue
        if name in found:
            return str(found[name].value)
    return None
