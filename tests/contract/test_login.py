"""Logins that fail for a reason, sessions that are lost without a word, and balancers with cookies of their own."""

from __future__ import annotations

import itertools
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Ingest
from tests.dicom_trees import Series, make_session
from tests.scripted import Asked, Scripted, http
from tests.standin import StandIn
from tests.standin.body import Request
from tests.standin.tables import Reply
from xnat_ingest.core.errors import IngestError, Refused, ServerSaid
from xnat_ingest.settings.layers import Credentials
from xnat_ingest.xnat.client import XnatClient

SESSION_ID = "A" * 32


def rest_for(url: str, password: str = "secret", timeout: float = 5.0) -> XnatClient:
    return XnatClient(Credentials(url, "up", password), timeout=timeout)


def said(url: str, password: str = "secret") -> IngestError:
    """What a login there ends in."""
    with pytest.raises(IngestError) as caught:
        rest_for(url, password).login()
    return caught.value


REDIRECTED: dict[str, tuple[str, type[IngestError], tuple[str, ...]]] = {
    "expired password": (
        "{url}/app/template/XDATScreen_UpdateUser.vm",
        Refused,
        ("password of user up", "expired", "with a browser", "choose a new one"),
    ),
    "expired password, short address": ("/app/template/XDATScreen_UpdateUser.vm", Refused, ("expired",)),
    "disabled account": ("{url}/InactiveAccount.vm", Refused, ("account of user up", "disabled", "administrator")),
    "identity provider elsewhere": (
        "https://idp.example.org/idp/profile/SAML2/Redirect/SSO?SAMLRequest=secret-token",
        Refused,
        ("https://idp.example.org/idp/profile/SAML2/Redirect/SSO", "single sign-on", "alias token", "Manage Alias"),
    ),
    "any other host": ("https://login.example.org/", Refused, ("https://login.example.org/", "alias token")),
    "sign-on on the same host": ("/oauth2/authorization/oidc", Refused, ("/oauth2/authorization/oidc", "alias token")),
    "same place, other address": (
        "https://new.example.org/data/JSESSION",
        IngestError,
        ("redirects to https://new.example.org/data/JSESSION", "give the address"),
    ),
    "same host, anything else": ("/welcome", IngestError, ("redirects to", "/welcome", "give the address")),
}


@pytest.mark.parametrize(("location", "kind", "says"), REDIRECTED.values(), ids=REDIRECTED)
def test_redirected_logins(location: str, kind: type[IngestError], says: tuple[str, ...]) -> None:
    with Scripted(lambda *_: http(302, "", f"Location: {location.replace('{url}', server.url)}")) as server:
        error = said(server.url)
        assert type(error) is kind
        assert error.exit_code == (6 if kind is Refused else 1)
        assert all(word in str(error) for word in says), str(error)
        assert "secret-token" not in str(error)
        assert len(server.asked) == 1


def test_a_refused_login_is_not_tried_again() -> None:
    """Each try counts towards the account's lock-out."""
    with Scripted(lambda *_: http(302, "", "Location: /InactiveAccount.vm")) as server:
        rest = rest_for(server.url)
        for _ in range(2):
            with pytest.raises(Refused):
                rest.get("/data/projects")
        assert len(server.asked) == 1


def test_expired_by_403() -> None:
    page = "<html><h3>Your password has expired. Please try again after changing your password.</h3></html>"
    with Scripted(lambda *_: http(403, page, kind="text/html")) as server:
        assert "password of user up" in str(said(server.url))
        assert "expired" in str(said(server.url))


def test_a_sign_on_form_instead_of_a_redirection() -> None:
    page = '<html><form action="https://idp"><input name="SAMLRequest" value="x"></form></html>'
    with Scripted(lambda *_: http(200, page, kind="text/html")) as server:
        error = said(server.url)
        assert isinstance(error, Refused)
        assert "alias token" in str(error)


@pytest.mark.parametrize(
    ("password", "hint"),
    [("word\n", "line break"), ("word\r\n", "line break"), (" word", "blank"), ("wo rd", ""), ("word", "")],
)
def test_a_password_with_an_end_that_nobody_sees(password: str, hint: str) -> None:
    with Scripted(lambda *_: http(401, "<h3>no</h3>")) as server:
        text = str(said(server.url, password))
    assert "does not accept user up" in text
    assert password not in text.replace("this password", "").replace("The password", "")
    assert ("begins or ends with a" in text) == bool(hint)
    assert hint in text


# -- guests


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_session(tmp_path / "t/S/E", (Series("T1_0001", 5), Series("T2_0002", 3)))
    return tmp_path / "t"


class OpenSite:
    """As much of a site that lets guests in as a login meets. lost: sessions that it no longer knows."""

    def __init__(self, *, only_guests: bool = False) -> None:
        self.users: dict[str, str] = {}
        self.only_guests = only_guests
        self.logins = 0
        self.numbers = itertools.count()

    def answer(self, asked: Asked, _connection: socket.socket) -> bytes:
        user = next((self.users[c] for c in cookies(asked).values() if c in self.users), "guest")
        if asked.line.startswith("POST /data/JSESSION"):
            self.logins += 1
            user = "guest" if self.only_guests else "up"
        key = next((c for c in cookies(asked).values() if c in self.users), "")
        fresh = []
        if not key:
            key = f"{next(self.numbers):032d}"
            self.users[key] = user
            fresh = [f"Set-Cookie: JSESSIONID={key}; Path=/; HttpOnly"]
        if asked.path == "/data/JSESSION":
            return http(200, key, *fresh)
        if asked.path == "/data/auth":
            return http(200, f"User '{user}' is logged in", *fresh)
        return http(200, "data", *fresh) if user == "up" else http(404, "<h3>none</h3>", *fresh)


def cookies(asked: Asked) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in asked.headers.get("cookie", "").split("; "))
    return {name: value for name, _, value in pairs if name}


def test_a_guest_is_noticed_by_a_404_and_mended_by_one_login() -> None:
    site = OpenSite()
    with Scripted(site.answer) as server, closing(rest_for(server.url)) as rest:
        assert rest.get("/data/projects/P").text == "data"
        site.users.clear()
        assert rest.get("/data/projects/P").text == "data"
        assert site.logins == 2


def test_what_is_not_there_for_the_user_costs_no_login() -> None:
    def answer(asked: Asked, connection: socket.socket) -> bytes:
        return http(404) if asked.path == "/data/nowhere" else site.answer(asked, connection)

    site = OpenSite()
    with Scripted(answer) as server, closing(rest_for(server.url)) as rest:
        assert rest.request("GET", "/data/nowhere", accept=(404,)).status == 404
        assert site.logins == 1


def test_a_server_that_knows_only_guests_is_refused() -> None:
    """Something in front drops the credentials."""
    site = OpenSite(only_guests=True)
    with Scripted(site.answer) as server, closing(rest_for(server.url)) as rest:
        with pytest.raises(Refused, match="treats us as a guest"):
            rest.get("/data/projects/P")
        assert site.logins == 2


def test_the_keep_alive_mends_a_lost_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xnat_ingest.xnat.client.KEEP_ALIVE", 0.05)
    site = OpenSite()
    with Scripted(site.answer) as server, closing(rest_for(server.url)) as rest:
        rest.login()
        site.users.clear()
        with rest.kept_alive():
            for _ in range(100):
                if site.logins == 2:
                    break
                server.pause(0.05)
        assert site.logins == 2


def test_an_import_as_a_guest_is_sent_again(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """Its files went to no project; the run ends well, and says where the copy lies."""
    site.settings.require_login = False
    lose_before_the_part(site)
    ended = ingest("upload", tree, "-w", "1")
    assert (ended.code, ended.totals["verified"]) == (0, 8), ended.err + ended.out
    assert "as a guest's" in ended.out
    assert "/prearchive/projects/Unassigned/" in ended.out
    assert site.sessions_created >= 2


def lose_before_the_part(site: StandIn) -> None:
    """The server forgets every session right before the first import."""
    arrived = site.faults.arrived
    left = [1]

    def losing(request: Request) -> Reply | None:
        if request.path.endswith("services/import") and left:
            left.pop()
            site.expire_sessions()
        return arrived(request)

    site.faults.arrived = losing  # type: ignore[method-assign]


# -- balancers


class Balancer:
    """In front of two nodes that share what they store and not their logins: one server, whose sessions each of the
    nodes knows only if it began them. A connection's request goes to the node that a cookie of the balancer's names;
    without it, to the next one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._turn = itertools.cycle(range(2))
        self._known: tuple[set[bytes], set[bytes]] = (set(), set())
        self.asked: list[int] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """One request for each connection: the answer closes it, so that the next one is balanced anew."""
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                more = connection.recv(65536)
                if not more:
                    return
                head += more
            head, _, body = head.partition(b"\r\n\r\n")
            named = re.search(rb"ROUTE=n([01])", head)
            node = int(named[1]) if named else next(self._turn)
            self.asked.append(node)
            session = re.search(rb"JSESSIONID=(\w+)", head)
            if session and session[1] not in self._known[node]:
                head = re.sub(rb"\r\nCookie:[^\r]*", b"", head)
            answer = self._forward(connection, head + b"\r\nConnection: close\r\n\r\n" + body)
            self._known[node].update(re.findall(rb"JSESSIONID=(\w+)", answer.partition(b"\r\n\r\n")[0]))
            line, _, rest = answer.partition(b"\r\n")
            fresh = b"Connection: close\r\n" + (b"" if named else b"Set-Cookie: ROUTE=n%d; path=/\r\n" % node)
            connection.sendall(line + b"\r\n" + fresh + rest)

    def _forward(self, connection: socket.socket, begun: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            server.sendall(begun)
            threading.Thread(target=pour, args=(connection, server), daemon=True).start()
            return b"".join(iter(lambda: server.recv(65536), b""))


def pour(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        return


@pytest.mark.wide
def test_a_sticky_balancer(ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All requests of a login reach the node that knows it: one login is enough."""
    with closing(Balancer(site.port)) as balancer:
        monkeypatch.setenv("XNAT_HOST", balancer.url)
        ended = ingest("upload", tree, "--part-size", "30K")
        assert (ended.code, ended.totals["verified"]) == (0, 8), ended.out
        assert site.sessions_created == 1
        assert balancer.asked.count(1) <= 1  # what is asked without a login, to see whether guests are let in


def test_a_cookie_that_is_taken_back_is_not_sent() -> None:
    answers: Iterator[Callable[[], bytes]] = iter(
        [
            lambda: http(200, SESSION_ID, "Set-Cookie: A=1; path=/", "Set-Cookie: B=2", "Set-Cookie: C=3"),
            lambda: http(
                200, "", "Set-Cookie: A=; Max-Age=0", "Set-Cookie: B=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
            ),
            lambda: http(200, "", "Set-Cookie: JSESSIONID=theirs", "Set-Cookie: bad name=1", "Set-Cookie: C=4; Secure"),
            lambda: http(200, ""),
            lambda: http(200, ""),
        ]
    )
    with Scripted(lambda *_: next(answers)()) as server, closing(rest_for(server.url)) as rest:
        for path in ("/a", "/b", "/c"):
            rest.get(path)
        sent = [cookies(asked) for asked in server.asked]
    assert sent[0] == {}
    assert sent[1] == {"JSESSIONID": SESSION_ID, "A": "1", "B": "2", "C": "3"}
    assert sent[2] == {"JSESSIONID": SESSION_ID, "C": "3"}
    assert sent[3] == {"JSESSIONID": SESSION_ID, "C": "4"}


@pytest.mark.parametrize("when", ["with the login", "later"])
def test_an_error_page_that_quotes_a_balancers_cookie(when: str) -> None:
    """Values of eight signs and more are hidden. A word such as node123 stays."""
    fresh = ("Set-Cookie: ROUTE=0a1b2c3d; path=/", "Set-Cookie: NODE=node123")
    answers = itertools.chain(
        [
            http(200, SESSION_ID, *(fresh if when == "with the login" else ())),
            http(200, "", *(fresh if when == "later" else ())),
            http(400, "ROUTE is 0a1b2c3d, NODE is node123"),
        ],
        itertools.repeat(http(200, "")),  # the logout
    )
    with Scripted(lambda *_: next(answers)) as server, closing(rest_for(server.url)) as rest:
        rest.get("/a")
        with pytest.raises(ServerSaid) as error:
            rest.get("/b")
    assert "ROUTE is ***, NODE is node123" in str(error.value)
