"""TLS that fails: each cause has its sentence, and what is the user's setting is a usage error."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.dicomscp import make_certificates
from tests.scripted import Asked, Scripted, http
from xnat_ingest.cli import main
from xnat_ingest.core.errors import IngestError, Unreachable, UsageError
from xnat_ingest.settings.layers import Credentials
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.retry_policy import RetryPolicy

SESSION = "A" * 32


def answer(asked: Asked, _connection: socket.socket) -> bytes:
    return http(200, SESSION if "JSESSION" in asked.line else "data")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    (folder / "wrong").mkdir()
    make_certificates(folder / "wrong", "DNS:elsewhere.example.org")
    return folder


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


def context(folder: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / "scp.pem", folder / "scp.key")
    return made


@pytest.fixture
def server(certificates: Path) -> Iterator[Scripted]:
    with Scripted(answer, tls=context(certificates)) as running:
        yield running


def rest_for(server: Scripted, ca: str | Path = "", scheme: str = "https", *, insecure: bool = False) -> XnatClient:
    login = Credentials(f"{scheme}://127.0.0.1:{server.port}", "up", "secret")
    return XnatClient(login, ca_bundle=str(ca), insecure=insecure, timeout=3.0, retry_policy=RetryPolicy(0))


def said(rest: XnatClient) -> str:
    with pytest.raises(IngestError) as caught:
        rest.login()
    return str(caught.value)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("variable", ["", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificates_to_trust(
    server: Scripted, certificates: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv(variable, str(certificates / "ca.pem"))
    with closing(rest_for(server, "" if variable else certificates / "ca.pem")) as rest:
        assert rest.get("/data/x").text == "data"


def test_the_flag_goes_before_the_environment(
    server: Scripted, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "wrong" / "ca.pem"))
    with closing(rest_for(server, certificates / "ca.pem")) as rest:
        rest.login()


def test_a_certificate_that_nobody_vouches_for(server: Scripted) -> None:
    assert "cannot be verified" in said(rest_for(server))
    assert not server.asked


def test_a_certificate_for_another_host(certificates: Path) -> None:
    with Scripted(answer, tls=context(certificates / "wrong")) as server:
        text = said(rest_for(server, certificates / "wrong" / "ca.pem"))
    assert "cannot be verified" in text
    assert "mismatch" in text


def make_empty(path: Path) -> None:
    path.write_text("")


def make_key(path: Path) -> None:
    path.write_text("-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n")


def make_cut(path: Path) -> None:
    make_certificates(path.parent)
    whole = (path.parent / "ca.pem").read_bytes()
    path.write_bytes(whole + whole[:400])


def make_binary(path: Path) -> None:
    path.write_bytes(os.urandom(2000))


def make_circle(path: Path) -> None:
    path.symlink_to(path)


BUNDLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "absent": (lambda path: None, "does not exist"),
    "a directory": (lambda path: path.mkdir(), "is a directory|a directory"),
    "unreadable": (make_circle, "cannot be read|Too many levels"),
    "a pipe": (os.mkfifo, "cannot be read|not a regular file"),
    "empty": (make_empty, "contains no PEM certificate"),
    "no certificate": (make_key, "contains a certificate that is damaged"),
    "a cut one behind a whole one": (make_cut, "contains a certificate that is damaged or cut; fetch the file again"),
    "no text": (make_binary, "contains no PEM certificate"),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_of_no_use_is_a_usage_error(server: Scripted, tmp_path: Path, name: str) -> None:
    """Before anything is contacted, and not as the server's fault."""
    make, says = BUNDLES[name]
    make(tmp_path / "bundle.pem")
    with pytest.raises(UsageError, match=says) as caught:
        rest_for(server, tmp_path / "bundle.pem")
    assert "--ca-bundle" in str(caught.value)
    assert "bundle.pem" in str(caught.value)
    assert not server.asked


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_bundle_that_the_environment_names_wrongly(
    server: Scripted, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "/nowhere/ca.pem")
    with pytest.raises(UsageError, match=f"{variable} /nowhere/ca.pem does not exist"):
        rest_for(server)
    rest_for(server, scheme="http")  # not looked for without TLS


def test_a_bundle_of_no_use_ends_with_2(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("HOST", f"https://127.0.0.1:{server.port}"), ("USER", "up"), ("PASS", "secret")):
        monkeypatch.setenv(f"XNAT_{name}", value)
    assert main(["ping", "--ca-bundle", "a" * 5000]) == 2
    assert "File name too long" in capsys.readouterr().err
    assert main(["ping", "--ca-bundle", str(tmp_path)]) == 2
    assert "--ca-bundle" in capsys.readouterr().err


def test_a_server_of_old_tls_alone(certificates: Path) -> None:
    old = context(certificates)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with Scripted(answer, tls=old) as server:
        text = said(rest_for(server, certificates / "ca.pem"))
    assert "1.2 or newer" in text
    assert "verify" not in text


def test_no_tls_where_tls_was_asked_for() -> None:
    with Scripted(answer, greeting=http(400, "what?")) as server:
        assert "does not use TLS" in said(rest_for(server))


def test_plain_http_to_a_port_for_tls(server: Scripted, certificates: Path) -> None:
    """A connection that breaks may have this cause; an alert leaves no doubt."""
    assert "if this port expects TLS, use https://" in said(rest_for(server, scheme="http"))
    with Scripted(answer, greeting=b"\x15\x03\x01\x00\x02\x02\x0a") as alert:
        assert "expects TLS on this port; use https://" in said(rest_for(alert, scheme="http"))


@pytest.mark.parametrize(
    "page",
    [
        "Bad Request\r\nThis combination of host and port requires TLS.\r\n",
        "<html><h1>400 Bad Request</h1>The plain HTTP request was sent to HTTPS port</html>",
        "<p>You're speaking plain HTTP to an SSL-enabled server port.<br />",
        "Client sent an HTTP request to an HTTPS server.",
    ],
    ids=["Tomcat", "nginx", "Apache", "Go"],
)
def test_servers_that_say_so_themselves(page: str) -> None:
    with Scripted(lambda *_: http(400, page, kind="text/html")) as server:
        assert "use https://" in said(rest_for(server, scheme="http"))


@pytest.mark.wide
def test_tls_that_is_cut_is_worth_another_try(certificates: Path) -> None:
    """In the handshake, and in the answer."""
    with Scripted(lambda asked, connection: connection.close()) as server:
        with pytest.raises(IngestError) as caught:
            rest_for(server).login()
        assert isinstance(caught.value, Unreachable)

    def half(_asked: Asked, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 O\r\nContent-Length: 32\r\n\r\nAAAA")

    with Scripted(half, tls=context(certificates)) as server, pytest.raises(Unreachable):
        rest_for(server, certificates / "ca.pem").login()


def test_insecure(server: Scripted) -> None:
    with closing(rest_for(server, insecure=True)) as rest:
        assert rest.get("/data/x").text == "data"
