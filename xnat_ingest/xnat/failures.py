"""Turns the HTTP library's errors into clear messages, when a request gets no answer."""

from __future__ import annotations

import re

from urllib3 import exceptions as http

from xnat_ingest.core import IngestError, Unreachable
from xnat_ingest.xnat.proxies import Proxy
from xnat_ingest.xnat.replies import SENTENCE

# OpenSSL's names for a peer whose TLS is too old for us, and for one that does not use TLS.
_TOO_OLD = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "VERSION_TOO_LOW", "NO_PROTOCOLS_AVAILABLE")
_NO_TLS = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
# How errors of the library begin that name a connection object.
_CONNECTION = re.compile(r"\A<?[\w.]*(?:Connection|Pool)(?:\([^)]{0,500}\)| object at 0x[0-9a-f]{1,16}>): ")
# The first bytes of a TLS alert, as the library shows them in place of a status line.
_ALERT = ("\\x15\\x03", "\x15\x03")
# What servers say in plain text on a TLS port.
_WANTS_TLS = ("https port", "requires tls", "ssl-enabled server port", "tls-enabled", "http request to an https")


def failure(error: http.HTTPError, server: str, proxy: Proxy | None) -> IngestError:
    """One of our errors, with a message, for an error of urllib3."""
    cause = getattr(error, "reason", None) or error
    by_way = _by_way(proxy)
    if isinstance(cause, http.ProxyError) and proxy:
        return _proxy_failure(cause, server, proxy)
    if isinstance(cause, http.SSLError):
        return _tls_failure(str(cause), server, by_way)
    if isinstance(cause, http.NewConnectionError | http.ConnectTimeoutError):
        return Unreachable(f"cannot reach {server}{by_way}: {_short(cause)}", maybe_done=False)
    if isinstance(cause, http.TimeoutError):
        return Unreachable(f"{server} did not answer in time{by_way}: {_short(cause)}", timed_out=True)
    if any(alert in str(cause) for alert in _ALERT):
        return needs_tls(server)
    return Unreachable(f"the connection to {server} broke{by_way}: {_short(cause)}")


def late(error: http.HTTPError, what: str, server: str, proxy: Proxy | None) -> IngestError:
    """The error when an answer did not come in time. what: that was late"""
    cause = getattr(error, "reason", None) or error
    # Otherwise it is the server that was late: the connection that we ended looks like one to the proxy.
    while_connecting = isinstance(getattr(cause, "original_error", None), http.SSLError | http.TimeoutError)
    if proxy and isinstance(cause, http.ProxyError) and while_connecting:
        text = f"the proxy {proxy.shown} on the way to {server} did not answer in time: {what}"
    else:
        text = f"{server} did not answer in time{_by_way(proxy)}: {what}"
    return Unreachable(text + _maybe_plain(proxy), timed_out=True)


def _by_way(proxy: Proxy | None) -> str:
    return f" through the proxy {proxy.shown}" if proxy else ""


def _maybe_plain(proxy: Proxy | None) -> str:
    """A proxy without TLS may wait for ever for the rest of what it takes for a request."""
    if proxy is None or not proxy.url.startswith("https:"):
        return ""
    return f". If the proxy does not use TLS, its address in {proxy.name} must begin with http://"


def needs_tls(server: str) -> IngestError:
    return IngestError(f"{server} expects TLS on this port; use https:// instead of http://")


def wants_tls(page: str) -> bool:
    """Whether an error page says that plain http was used on a TLS port."""
    return any(word in page[:4000].casefold() for word in _WANTS_TLS)


def wants_login(proxy: Proxy | None, server: str) -> IngestError:
    """The error for a 407, which always comes from a proxy. proxy: None when it is not one of ours"""
    shown = proxy.shown if proxy else "on the way"
    if proxy and proxy.headers:
        return IngestError(
            f"the proxy {shown} does not accept the login of {proxy.name} for connections to {server}; correct it "
            "there. Special characters in it are written as in an address (@ as %40)"
        )
    return IngestError(
        f"the proxy {shown} wants a login for connections to {server}; put it into the variable: "
        "http://user:password@host:port"
    )


def _proxy_failure(cause: http.ProxyError, server: str, proxy: Proxy) -> IngestError:
    error = cause.original_error
    text = str(error)
    if isinstance(error, http.SSLError) and proxy.url.startswith("https:"):
        return _proxy_tls_failure(text, server, proxy)
    if " 407 " in f" {text} ":
        return wants_login(proxy, server)
    if "Tunnel connection failed" in text:
        status = text.partition("failed:")[2].strip()[:SENTENCE]
        return Unreachable(f"the proxy {proxy.shown} refuses the connection to {server}: it answered {status}")
    if isinstance(error, http.NewConnectionError | http.ConnectTimeoutError):
        return Unreachable(
            f"cannot reach the proxy {proxy.shown} on the way to {server}: {_short(error)}", maybe_done=False
        )
    if isinstance(error, http.TimeoutError):
        return late(cause, _short(error), server, proxy)
    # The library also says so when a connection breaks that has carried a request.
    return Unreachable(f"the connection to {server} broke{_by_way(proxy)}: {_short(error)}")


def _proxy_tls_failure(text: str, server: str, proxy: Proxy) -> IngestError:
    reason = text.upper().replace(" ", "_")
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return IngestError(
            f"the certificate of the proxy {proxy.shown} on the way to {server} cannot be verified ({text}); see "
            "--ca-bundle, and check the proxy's address"
        )
    if any(word in reason for word in _NO_TLS):
        return IngestError(
            f"the proxy {proxy.shown} on the way to {server} does not use TLS; its address in {proxy.name} must begin "
            "with http://"
        )
    return Unreachable(f"the TLS connection to the proxy {proxy.shown} on the way to {server} broke: {text}")


def _tls_failure(text: str, server: str, by_way: str) -> IngestError:
    # OpenSSL gives reasons as [SSL: REASON] in some versions and as words in others.
    reason = text.upper().replace(" ", "_")
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return IngestError(f"the certificate of {server} cannot be verified ({text}); see --ca-bundle")
    if any(word in reason for word in _NO_TLS) and by_way:
        return IngestError(
            f"what answers for {server}{by_way} does not use TLS; check the proxy, and the server's port"
        )
    if any(word in reason for word in _NO_TLS):
        return IngestError(f"{server} does not use TLS on this port; should the address begin with http://?")
    if any(word in reason for word in _TOO_OLD):
        return IngestError(
            f"{server} does not offer TLS 1.2 or newer ({text}); its administrator must update it, or the proxy in "
            "front "
            "of it"
        )
    if "CERTIFICATE_REQUIRED" in reason:
        return IngestError(f"{server} asks for a client certificate, which this program does not support ({text})")
    if "HANDSHAKE" in reason or "_ALERT_" in reason:
        return IngestError(f"{server} refuses our TLS connection ({text}); ask its administrator")
    return Unreachable(f"the TLS connection to {server} broke{by_way}: {text}")


def _short(error: BaseException) -> str:
    """The innermost reason, without the repr of connection objects before it. It may quote the server."""
    return _CONNECTION.sub("", str(error.__cause__ or error.__context__ or error))[:SENTENCE]
