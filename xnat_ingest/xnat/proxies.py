"""The proxy between us and the server, from the same environment variables that curl and requests read."""

from __future__ import annotations

import ipaddress
import os
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from xnat_ingest.core import UsageError
from xnat_ingest.settings.layers import is_loopback, refuse_bytes

# A scheme behind which a slash is missing. Read as a name, it would send the connection to a host named http.
_TORN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/(?!/)")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy.

    url: without its login.
    name: the variable that named it.
    headers: its login, sent only to the proxy.
    """

    url: str
    name: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        return f"{urlsplit(self.url).netloc} (from {self.name})"


def proxy_for(server: str) -> Proxy | None:
    """The proxy for a server; None when none is named or NO_PROXY lists the server. Raises UsageError."""
    parts = urlsplit(server)
    if is_loopback(parts.hostname or "") or _is_exception(parts.hostname or "", parts.netloc):
        return None
    known = getproxies()
    kind = next((kind for kind in (parts.scheme, "all") if known.get(kind)), "")
    if not kind:
        return None
    name = next((name for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY") if os.environ.get(name)), f"{kind} proxy")
    return _proxy(known[kind].strip(), name)


def _proxy(text: str, name: str) -> Proxy:
    refuse_bytes(text, name)
    address = text if "://" in text else f"http://{text}"
    try:
        if _TORN.match(text):
            raise ValueError
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
        parse_url(address)  # has more to say of what no host is called
    except (ValueError, LocationParseError):
        host = ""
    if not host:
        raise UsageError(f"{name} is not the address of a proxy; it must look like http://host:port")
    if parts.scheme.startswith("socks"):
        raise UsageError(
            f"{name} names a SOCKS proxy ({host}), which this program does not support; name an HTTP proxy, or add "
            "the server to NO_PROXY"
        )
    if parts.scheme not in ("http", "https"):
        raise UsageError(f"{name} names a proxy of the kind {parts.scheme}://; it must look like http://host:port")
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    login = b64encode(f"{user}:{password}".encode()).decode()
    headers = {"proxy-authorization": f"Basic {login}"} if user else {}
    return Proxy(f"{parts.scheme}://{netloc}", name, headers, user, password)


def _is_exception(host: str, netloc: str) -> bool:
    """Whether NO_PROXY names the server: by name, by suffix, with its port, or by network."""
    if proxy_bypass(netloc):
        return True
    words = os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).split(",")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for word in words if (network := _network(word.strip())) is not None)


def _network(word: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(word, strict=False) if "/" in word else None
    except ValueError:
        return None
