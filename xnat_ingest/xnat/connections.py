"""Connections to one server: certificates, a proxy, and sockets that another thread can close."""

from __future__ import annotations

import http.client
import io
import os
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from xnat_ingest.core import UsageError, printable
from xnat_ingest.core.regular_file import open_regular
from xnat_ingest.xnat.proxies import Proxy
from xnat_ingest.xnat.watch import Watch

_here = threading.local()


def watched_by(watch: Watch | None) -> None:
    """From now on this watch can end the requests of this thread, on any connection."""
    _here.watch = watch


# How often a server may say `100 Continue` to one request. An honest one says it once.
_MOST_CONTINUES = 16
# Bytes of a line that the library reads without a limit, as older versions of urllib3 do the length of a chunk.
_LONGEST_LINE = 64 * 1024


class Lines(io.BufferedReader):
    """What an answer is read from. A connection that is cut inside a line, or before the empty line that ends a header,
    looks like the end of it to the library.

    in_header: the empty line has not come yet.
    """

    in_header = False

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size if size is not None and size >= 0 else _LONGEST_LINE)
        is_cut = not line.endswith(b"\n") and len(line) != size
        if is_cut and (line or self.in_header):
            where = "its header" if self.in_header else "a line"
            raise http.client.HTTPException(f"the answer ended inside {where}")
        return line


class _Answer(http.client.HTTPResponse):
    fp: Any

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self.fp = self._lines = Lines(self.fp.detach())
        self._continues = 0

    def begin(self) -> None:
        super().begin()
        self._lines.in_header = False
        if self.headers.defects and self.length is None and not self.chunked:  # then nothing says where it ends
            raise http.client.HTTPException("the answer's header holds a line that is no header line")

    def _read_status(self) -> tuple[str, int, str]:
        """The next status line. After it, a header must follow."""
        self._lines.in_header = False
        found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        self._lines.in_header = True
        self._continues += found[1] == http.client.CONTINUE
        if self._continues > _MOST_CONTINUES:
            raise http.client.HTTPException("100 Continue without end")
        return found

    def _safe_read(self, amt: int) -> bytes:
        """Refuses a negative chunk size: the library would read to the end of the connection, into memory."""
        if amt < 0:
            raise http.client.HTTPException("a chunk of a negative size")
        data: bytes = super()._safe_read(amt)  # type: ignore[misc]
        return data


class _Watched(HTTPConnection):
    """Gives its socket to the watch of its thread."""

    response_class = _Answer

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        if watch := getattr(_here, "watch", None):
            watch.hold(sock.dup(), ours=True)  # the TLS handshake replaces the socket object
        return sock

    def connect(self) -> None:
        super().connect()
        self._tell()

    def request(self, *words: Any, **named: Any) -> None:
        self._tell()
        super().request(*words, **named)
        if watch := getattr(_here, "watch", None):
            watch.sent()

    def _tell(self) -> None:
        if self.sock is not None and (watch := getattr(_here, "watch", None)):
            watch.hold(self.sock, ours=False)


class Plain(_Watched):
    pass


class Encrypted(_Watched, HTTPSConnection):
    pass


class PlainPool(HTTPConnectionPool):
    ConnectionCls = Plain


class EncryptedPool(HTTPSConnectionPool):
    ConnectionCls = Encrypted


def make_pool(
    server: str, ca_bundle: str, proxy: Proxy | None, *, insecure: bool, connections: int
) -> urllib3.PoolManager:
    """Connections to one server, through a proxy if there is one. Raises UsageError for unusable certificates."""
    # Proxies and firewalls drop a connection after minutes without data, and archiving can take minutes.
    keep_alive = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    options: dict[str, Any] = {"maxsize": connections, "socket_options": keep_alive}
    if server.startswith("https:") or ca_bundle:
        options["ssl_context"] = trust(ca_bundle, insecure=insecure)
    if insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        options["cert_reqs"] = "CERT_NONE"
    pool = (
        urllib3.ProxyManager(
            proxy.url, proxy_headers=proxy.headers, proxy_ssl_context=options.get("ssl_context"), **options
        )
        if proxy
        else urllib3.PoolManager(**options)
    )
    pool.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}
    return pool


def trust(ca_bundle: str, *, insecure: bool) -> ssl.SSLContext:
    """The TLS context with the certificates of --ca-bundle, or of the environment, or of the system."""
    name, path = next(
        (
            (name, path)
            for name, path in (
                ("--ca-bundle", ca_bundle),
                ("REQUESTS_CA_BUNDLE", os.environ.get("REQUESTS_CA_BUNDLE", "")),
                ("SSL_CERT_FILE", os.environ.get("SSL_CERT_FILE", "")),
            )
            if path
        ),
        ("", ""),
    )
    shown = f"{name} {printable(path)}"
    is_folder = os.path.isdir(path)  # noqa: PTH112 - Path raises for a name that is too long
    try:
        if not path:
            context = ssl.create_default_context()
        elif is_folder and name == "REQUESTS_CA_BUNDLE":  # as requests does, where the name comes from
            context = ssl.create_default_context(capath=path)
        else:
            open_regular(path).close()  # a pipe without a writer would be waited for
            context = ssl.create_default_context(cafile=path)
    except FileNotFoundError as error:
        raise UsageError(f"{shown} does not exist; name a file with PEM certificates") from error
    except IsADirectoryError as error:
        raise UsageError(f"{shown} is a directory; name one file with PEM certificates") from error
    except ssl.SSLError as error:
        # What OpenSSL says of an empty file, and of one without a line that begins a certificate.
        is_empty = error.reason in ("NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE")
        fault = "no PEM certificate" if is_empty else "a certificate that is damaged or cut; fetch the file again"
        raise UsageError(f"{shown} contains {fault}") from error
    except (OSError, ValueError) as error:
        reason = "a directory" if is_folder else getattr(error, "strerror", None) or "not a valid name"
        raise UsageError(f"{shown} cannot be read ({reason}); name a file with PEM certificates") from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def shut(sock: Any) -> None:
    """Shuts a connection down, even while another thread waits on it."""
    inner = getattr(sock, "socket", sock)  # TLS inside TLS is not a socket
    with suppress(OSError, ValueError):
        socket.socket.shutdown(inner, socket.SHUT_RDWR)
