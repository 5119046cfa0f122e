"""Proxies as the environment names them, over a real one on the loopback interface, which alone knows the server."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Any, cast

import pytest
from urllib3.exceptions import ProxyError, ReadTimeoutError, SSLError

from tests.dicomscp import make_certificates
from tests.scripted import Asked, Scripted, http
from xnat_ingest.core.errors import IngestError, Unreachable, UsageError
from xnat_ingest.settings.layers import Credentials
from xnat_ingest.xnat import failures, proxies
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.retry_policy import RetryPolicy

SESSION = "A" * 32
HOST = "xnat.test"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Proxy:
    """Forwards everything to one port, whatever host is asked for. status: answers so instead; login: wants it;
    inside: says this itself in a tunnel."""

    def __init__(
        self, port: int, *, status: str = "", login: str = "", inside: bytes = b"", tls: ssl.SSLContext | None = None
    ) -> None:
        self._port = port
        self._inside = inside
        self._status = status
        self._login = b64encode(login.encode()).decode() if login else ""
        self._scripted = Scripted(self._answer, tls=tls)
        self.port = self._scripted.port

    def close(self) -> None:
        self._scripted.__exit__(None, None, None)

    @property
    def lines(self) -> list[str]:
        return [asked.line for asked in self._scripted.asked]

    def _answer(self, asked: Asked, connection: socket.socket) -> bytes | None:
        if self._login and asked.headers.get("proxy-authorization") != f"Basic {self._login}":
            return http(407, "", "Proxy-Authenticate: Basic")
        if self._status:
            return f"HTTP/1.1 {self._status}\r\nContent-Length: 0\r\n\r\n".encode()
        if self._inside:
            connection.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
            connection.recv(1)  # the greeting of TLS begins
            return self._inside
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            if asked.line.startswith("CONNECT"):
                connection.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
                threading.Thread(target=_pour, args=(server, connection), daemon=True).start()
                _pour(connection, server)
                return None
            method, address, version = asked.line.split()
            path = "/" + address.partition("://")[2].partition("/")[2]
            server.sendall(f"{method} {path} {version}\r\nConnection: close\r\n\r\n".encode())
            return server.recv(65536) or None


def _pour(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def answer(asked: Asked, _connection: socket.socket) -> bytes:
    return http(200, SESSION if "JSESSION" in asked.line else "data")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder, f"DNS:{HOST},IP:127.0.0.1")
    return folder


@pytest.fixture
def tls(certificates: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "scp.pem", certificates / "scp.key")
    return context


@pytest.fixture
def secure(tls: ssl.SSLContext) -> Iterator[Scripted]:
    with Scripted(answer, tls=tls) as server:
        yield server


@pytest.fixture
def plain() -> Iterator[Scripted]:
    with Scripted(answer) as server:
        yield server


def rest_for(url: str, ca: str = "", timeout: float = 5.0) -> XnatClient:
    return XnatClient(Credentials(url, "up", "secret"), ca_bundle=ca, timeout=timeout, retry_policy=RetryPolicy(0))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["", "http://"])
def test_https_through_a_tunnel(
    secure: Scripted, certificates: Path, variable: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Proxy(secure.port)) as proxy:
        monkeypatch.setenv(variable, f"{scheme}127.0.0.1:{proxy.port}")
        with closing(rest_for(f"https://{HOST}:8443", str(certificates / "ca.pem"))) as rest:
            assert rest.get("/data/x").text == "data"
        assert proxy.lines[0].startswith(f"CONNECT {HOST}:8443 ")


def test_http_by_absolute_address(plain: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Proxy(plain.port)) as proxy:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        with closing(rest_for(f"http://{HOST}/xnat")) as rest:
            assert rest.get("/data/x").text == "data"
        assert f"GET http://{HOST}/xnat/data/x HTTP/1.1" in proxy.lines


def test_a_tunnel_to_something_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the proxy's own doing, so nobody is advised to go without TLS."""
    with closing(Proxy(0, inside=http(200, "data"))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.port}")
        with (
            closing(rest_for(f"https://{HOST}:8443")) as rest,
            pytest.raises(IngestError, match=r"through the proxy .*127\.0\.0\.1.* does not use TLS; check") as caught,
        ):
            rest.get("/data/x")
    assert "http://?" not in str(caught.value)


def test_a_proxy_with_a_login(secure: Scripted, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written as in an address; the server never sees it."""
    with closing(Proxy(secure.port, login="me:p@ss/word")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss%2Fword@127.0.0.1:{proxy.port}")
        with closing(rest_for(f"https://{HOST}", str(certificates / "ca.pem"))) as rest:
            assert rest.get("/data/x").text == "data"
        assert not any("proxy-authorization" in asked.headers for asked in secure.asked)


@pytest.mark.parametrize(
    ("login", "says"), [("", "wants a login"), ("me:wrong-word@", "does not accept the login of {}_proxy")]
)
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_proxy_that_wants_a_login(
    plain: Scripted, login: str, says: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Proxy(plain.port, login="me:word")) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://{login}127.0.0.1:{proxy.port}")
        with pytest.raises(IngestError, match=says.format(scheme)) as caught:
            rest_for(f"{scheme}://{HOST}").login()
        assert f"127.0.0.1:{proxy.port} (from {scheme}_proxy)" in str(caught.value)
        assert "wrong-word" not in str(caught.value)


def test_a_proxy_that_refuses(plain: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Proxy(plain.port, status="403 Forbidden")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:word@127.0.0.1:{proxy.port}")
        with pytest.raises(Unreachable) as caught:
            rest_for(f"https://{HOST}").login()
        says = f"the proxy 127.0.0.1:{proxy.port} (from HTTPS_PROXY) refuses the connection to https://{HOST}"
        assert says in str(caught.value)
        assert "403" in str(caught.value)
        assert "me:" not in str(caught.value)


def test_the_words_of_a_proxy_are_cut(plain: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Proxy(plain.port, status=f"502 {'A' * 60_000}")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(Unreachable, match=r"502 A{200}") as caught:
            rest_for(f"https://{HOST}").login()
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_proxy_that_is_not_there(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    monkeypatch.setenv(f"{scheme}_proxy", f"http://me:word@127.0.0.1:{port}")
    with pytest.raises(Unreachable) as caught:
        rest_for(f"{scheme}://{HOST}").login()
    assert f"127.0.0.1:{port} (from {scheme}_proxy)" in str(caught.value)
    assert "refused" in str(caught.value)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_proxy_whose_certificate_is_not_trusted(
    plain: Scripted, tls: ssl.SSLContext, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no passing trouble, and nothing is sent over such a connection."""
    with closing(Proxy(plain.port, tls=tls)) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"https://me:word@127.0.0.1:{proxy.port}")
        with pytest.raises(IngestError, match="certificate of the proxy") as caught:
            rest_for(f"{scheme}://{HOST}").login()
        assert proxy.lines == []
    said = str(caught.value)
    assert (caught.value.exit_code, "word" in said) == (1, False)
    assert f"the proxy 127.0.0.1:{proxy.port} (from {scheme}_proxy) on the way to {scheme}://{HOST} cannot" in said
    assert "([SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed" in said


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize(
    ("says_something", "says", "code"), [(True, "does not use TLS", 1), (False, "did not answer in time", 5)]
)
def test_a_plain_proxy_named_https(
    scheme: str, says_something: bool, says: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the rest of what it takes for a request, or says that it is none."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1)
            if says_something:
                connection.sendall(http(400, "no request"))
            ended.wait(10)

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        monkeypatch.setenv(f"{scheme}_proxy", f"https://127.0.0.1:{port}")
        with pytest.raises(IngestError, match=says) as caught:
            rest_for(f"{scheme}://{HOST}", timeout=0.4).login()
        ended.set()
        thread.join()
    assert caught.value.exit_code == code
    said = str(caught.value)  # of two clocks that end at the same time, either may tell
    assert f"the proxy 127.0.0.1:{port} (from {scheme}_proxy)" in said
    assert f"{scheme}://{HOST} {says}" in said
    assert f"its address in {scheme}_proxy must begin with http://" in str(caught.value)


@pytest.mark.parametrize(
    ("original", "who"),
    [
        (RemoteDisconnected("closed"), "^https://xnat.test did not answer in time through the proxy"),
        (SSLError("closed"), "^the proxy .* did not answer in time"),
        (ReadTimeoutError(cast(Any, None), "", "late"), "^the proxy .* did not answer in time"),
    ],
)
def test_who_was_late(original: Exception, who: str) -> None:
    """A connection that we ended ourselves looks as if the proxy were not there."""
    proxy = proxies.Proxy("https://proxy:3128", "HTTPS_PROXY")
    said = failures.late(ProxyError("cannot connect", original), "no answer", f"https://{HOST}", proxy)
    assert re.search(who, str(said))
    assert isinstance(said, Unreachable)
    assert said.timed_out


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_connection_that_breaks_behind_the_proxy_may_have_carried_a_request(
    certificates: Path, tls: ssl.SSLContext, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what was sent counts as disturbed."""

    def gone(asked: Asked, _connection: socket.socket) -> bytes | None:
        return http(200, SESSION) if "JSESSION" in asked.line else None

    with (
        Scripted(gone, tls=tls if scheme == "https" else None) as server,
        closing(Proxy(server.port)) as proxy,
    ):
        monkeypatch.setenv(f"{scheme}_proxy", f"127.0.0.1:{proxy.port}")
        with closing(rest_for(f"{scheme}://{HOST}", str(certificates / "ca.pem"))) as rest:
            with pytest.raises(Unreachable, match="broke through the proxy") as caught:
                rest.request("POST", "/data/x")
            assert caught.value.maybe_done


BAD = {
    "http:/me:word@127.0.0.1:3128": "not the address of a proxy",
    "https:/127.0.0.1:3128": "not the address of a proxy",
    "socks5://127.0.0.1:1080": "SOCKS",
    "socks5h://127.0.0.1:1080": "SOCKS",
    "socks4://me:word@127.0.0.1": "SOCKS",
    "ftp://127.0.0.1:1": "kind ftp://",
    "http://": "not the address of a proxy",
    "host:port": "not the address of a proxy",
    "http://bad host:9": "not the address of a proxy",
    "http://%00:9": "not the address of a proxy",
    "http://x\u202ey:9": "not the address of a proxy",
    "http://127.0.0.1:99999": "not the address of a proxy",
    "http://me:word\udce4@127.0.0.1:9": "must be text in UTF-8",
    "http://w\udce4:word@127.0.0.1:9": "must be text in UTF-8",
    "http://\udce4word:9": "must be text in UTF-8",
}


@pytest.mark.parametrize("value", BAD)
def test_what_is_no_proxy_of_ours_is_a_usage_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(UsageError, match=BAD[value]) as caught:
        rest_for(f"https://{HOST}")
    assert "HTTPS_PROXY" in str(caught.value)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    ("exceptions", "goes_by_proxy"),
    [
        (HOST, False),
        ("test", False),
        (".test", False),
        (f"other,{HOST}:8080", False),
        ("*", False),
        ("10.1.2.0/24", True),
        (f"{HOST}:81", True),
        ("other.test", True),
        ("", True),
    ],
)
def test_no_proxy(exceptions: str, goes_by_proxy: bool, plain: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Proxy(plain.port)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", exceptions)
        rest = rest_for(f"http://{HOST}:8080")
        if goes_by_proxy:
            rest.login()
        else:
            with pytest.raises(Unreachable, match="cannot reach") as caught:
                rest.login()
            assert "proxy" not in str(caught.value)
        assert bool(proxy.lines) == goes_by_proxy


@pytest.mark.parametrize(
    ("network", "by_proxy"), [("192.0.2.0/24", False), ("192.0.3.0/24", True), ("192.0.2.7/40", True)]
)
def test_no_proxy_for_a_network(network: str, by_proxy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from xnat_ingest.xnat.proxies import proxy_for

    monkeypatch.setenv("HTTPS_PROXY", "proxy:3128")
    monkeypatch.setenv("NO_PROXY", network)
    assert (proxy_for("https://192.0.2.9") is not None) == by_proxy


def test_this_machine_is_never_asked_for_by_a_proxy(plain: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "127.0.0.1:9")
    with closing(rest_for(plain.url)) as rest:
        assert rest.get("/data/x").text == "data"
