"""Connections: proxies, certificates, and what urllib3 says when one fails, in our words."""

from __future__ import annotations

import socket
from typing import Any
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import exceptions as http

from xnat_ingest.core.errors import IngestError, Unreachable
from xnat_ingest.settings.layers import is_loopback


def failure(error: http.HTTPError, server: str) -> IngestError:
    """An error of urllib3 as one of ours, with a sentence."""
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, http.SSLError) and "WRONG_VERSION_NUMBER" in str(cause):
        return IngestError(f"{server} does not speak TLS; is it to be http:// instead of https://?")
    if isinstance(cause, http.SSLError):
        return IngestError(f"the certificate of {server} does not verify ({cause}); see --ca-bundle")
    if isinstance(cause, http.NewConnectionError | http.ConnectTimeoutError | http.ProxyError):
        return Unreachable(f"cannot reach {server}: {_short(cause)}", maybe_done=False)
    if isinstance(cause, http.TimeoutError):
        return Unreachable(f"{server} did not answer in time: {_short(cause)}", timed_out=True)
    return Unreachable(f"the connection to {server} broke: {_short(cause)}")


def _short(error: BaseException) -> str:
    """The innermost reason, without the repr of connection objects in front of it."""
    text = str(error.__cause__ or error.__context__ or error)
    return text.rpartition("object at 0x")[2].partition(": ")[2] or text


def make_pool(server: str, ca_bundle: str, insecure: bool, connections: int) -> urllib3.PoolManager:
    """Connections to one server, through a proxy where the environment names one."""
    host = urllib3.util.parse_url(server).host or ""
    # Proxies and firewalls forget a connection that is silent for minutes, as it is while the server archives.
    keep_alive = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    options: dict[str, Any] = {"maxsize": connections, "socket_options": keep_alive}
    if insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        options |= {"cert_reqs": "CERT_NONE"}
    elif ca_bundle:
        options |= {"ca_certs": ca_bundle}
    proxy = getproxies().get(server.partition(":")[0])
    if proxy and not is_loopback(host.strip("[]")) and not proxy_bypass(host):
        login = urllib3.util.parse_url(proxy).auth
        headers = urllib3.make_headers(proxy_basic_auth=login) if login else None
        return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
    return urllib3.PoolManager(**options)
