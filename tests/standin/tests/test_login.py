"""Logins, HTTP sessions and rights, as a client of XNAT meets them."""

from __future__ import annotations

import http.client
import socket

import pytest

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import PARAMS, Client, dicom

__all__ = ["client", "site"]


def test_login_gives_a_session_by_text_and_cookie(site: StandIn) -> None:
    asker = Client(site.url)
    reply = asker("POST", "/data/JSESSION")
    assert (reply.status, len(reply.text)) == (200, 32)
    assert reply.headers["Content-Type"] == "text/plain"
    assert f"JSESSIONID={reply.text}; Path=/; HttpOnly" in reply.headers["Set-Cookie"]
    assert 'SESSION_EXPIRATION_TIME="' in reply.headers["Set-Cookie"]
    asker.close()


def test_a_cookie_keeps_the_session_and_basic_makes_one_each_time(site: StandIn, client: Client) -> None:
    assert site.sessions_created == 1
    assert client("GET", "/data/auth").text == "User 'uploader' is logged in"
    assert client("GET", "/xapi/users/username").text == "uploader"
    assert client("POST", "/data/JSESSION").text == client.cookie
    assert site.sessions_created == 1
    client.cookie = None
    assert client("GET", "/data/auth").status == 200
    assert client("GET", "/REST/auth").status == 200
    assert site.sessions_created == 3


def test_logout_and_expiry_end_the_session(site: StandIn, client: Client) -> None:
    assert client("DELETE", "/data/JSESSION").status == 200
    assert client("GET", "/data/auth").status == 401
    client.cookie = None
    client.login()
    site.expire_sessions()
    assert client("GET", "/data/auth").status == 401
    client.cookie = None
    client.login()
    site.settings.session_timeout = 0
    assert client("GET", "/data/auth").status == 401


def test_a_stranger_gets_401_and_a_browser_the_login_page(site: StandIn) -> None:
    nobody = Client(site.url, user="")
    reply = nobody("GET", "/data/projects")
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"].startswith("Basic")
    browser = Client(site.url, user="", agent="Mozilla/5.0")
    reply = browser("GET", "/data/projects")
    assert (reply.status, reply.headers["Location"]) == (302, site.url + "/app/template/Login.vm")
    assert "<html" in browser("GET", "/app/template/Login.vm").text
    nobody.close()
    browser.close()


def test_failed_logins_lock_the_account(site: StandIn) -> None:
    site.settings.max_failed_logins = 3
    wrong = Client(site.url, password="no")
    assert [wrong("GET", "/data/auth").status for _ in range(3)] == [401] * 3
    assert site.failed_logins("uploader") == 3
    wrong.password = "secret"
    assert wrong("GET", "/data/auth").status == 401
    wrong.close()


def test_a_disabled_user_is_refused_even_with_a_session(site: StandIn, client: Client) -> None:
    site.user("uploader").enabled = False
    sent = client("GET", "/data/auth")
    assert (sent.status, sent.headers["Location"]) == (302, site.url + "/app/template/InactiveAccount.vm")


def test_an_unauthenticated_large_upload_loses_its_connection(site: StandIn) -> None:
    """Tomcat swallows two megabytes of an unread body, not more."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=5) as connection:
        connection.sendall(
            b"POST /data/services/import HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
            b"Content-Length: 50000000\r\n\r\n" + bytes(1000)
        )
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert (reply.status, reply.headers["Connection"]) == (401, "close")
        assert reply.read()
        reply.close()


def test_a_small_unread_body_keeps_the_connection(site: StandIn) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)
    for _ in range(2):
        connection.request("POST", "/data/services/import", bytes(100_000), {"Content-Type": "application/x-tar"})
        reply = connection.getresponse()
        reply.read()
        assert (reply.status, reply.headers["Connection"]) == (401, None)
    connection.close()


def test_services_auth_takes_a_form(site: StandIn) -> None:
    nobody = Client(site.url, user="")
    reply = nobody("PUT", "/data/services/auth", b"username=uploader&password=secret")
    assert (reply.status, len(reply.text)) == (200, 32)
    reply = nobody("PUT", "/data/services/auth", b"username=uploader&password=wrong")
    assert (reply.status, "Authentication failed." in reply.text) == (401, True)
    nobody.close()


def test_what_the_server_is(site: StandIn, client: Client) -> None:
    assert client("GET", "/xapi/siteConfig/buildInfo").text.startswith('{"version": "1.8.10"')
    assert client("GET", "/xapi/siteConfig/buildInfo/version").text == "1.8.10"
    assert client("GET", "/data/version").text.startswith("1.8.10")
    assert client("GET", "/").status == 200
    assert client("GET", "/data/nonsense").status == 404
    assert client("GET", "/data/services/import").status == 405


def test_a_context_path_comes_before_everything(site: StandIn, client: Client) -> None:
    site.settings.context_path = "/xnat"
    assert client("GET", "/data/auth").status == 404
    assert client("GET", "/xnat/data/auth").status == 200
    assert site.url.endswith("/xnat")


@pytest.mark.parametrize(
    ("name", "editable", "users", "project"),
    [
        ("owner", '["AUTO", "DEMO"]', 200, 200),
        ("uploader", '["AUTO", "DEMO"]', 403, 200),
        ("reader", "[]", 403, 200),
        ("stranger", "[]", 404, 404),
        ("boss", '["AUTO", "DEMO", "SECRET"]', 200, 200),
    ],
)
def test_rights_can_be_asked_for(site: StandIn, name: str, editable: str, users: int, project: int) -> None:
    asker = Client(site.url, user=name).login()
    assert asker("GET", "/xapi/users/projects").text == editable
    permitted = asker("GET", "/data/projects?permissions=edit&dataType=xnat:subjectData").rows
    assert str([row["id"] for row in permitted]).replace("'", '"') == editable
    assert asker("GET", "/data/projects/DEMO/users").status == users
    assert asker("GET", "/data/projects/DEMO?format=json").status == project
    asker.close()


def test_project_listings(site: StandIn, client: Client) -> None:
    assert [row["ID"] for row in client("GET", "/data/projects?format=json").rows] == ["DEMO", "AUTO"]
    roles = client("GET", "/data/projects?accessible=true&prearc_code=true").rows
    assert [(row["id"], row["user_role_2"], row["project_prearchive_code"]) for row in roles] == [
        ("DEMO", "Members", "0"),
        ("AUTO", "Members", "4"),
    ]
    assert client("GET", "/data/projects?owner=true").rows == []
    assert client("GET", "/xapi/users/uploader/groups").text == '["AUTO_member", "DEMO_member"]'
    assert client("GET", "/xapi/users/owner/groups").status == 403
    assert (
        client("GET", "/data/projects?columns=ID&format=csv").text
        == 'ID,URI\n"DEMO","/data/projects/DEMO"\n"AUTO","/data/projects/AUTO"\n'
    )


def test_a_project_by_alias_and_its_codes(client: Client) -> None:
    assert '"ID": "DEMO"' in client("GET", "/data/projects/demo-alias?format=json").text
    codes = [
        client("GET", f"/data/archive/projects/AUTO/{one}").text
        for one in ("prearchive_code", "quarantine_code", "current_arc")
    ]
    assert codes == ["4", "0", "arc001"]
    missing = client("GET", "/data/projects/NOPE?format=json")
    assert (missing.status, missing.reason) == (404, "Unable to find the specified experiment.")
    assert "<h3>Unable to find the specified experiment.</h3>" in missing.text
    assert client("GET", "/data/projects/SECRET/prearchive_code").status == 404


def test_configuration_is_there_or_404_or_204(site: StandIn, client: Client) -> None:
    path = "/data/projects/DEMO/config/seriesImportFilter/config"
    assert client("GET", path + "?format=json").status == 404
    assert client("GET", path + "?format=json&accept-not-found=true").status == 204
    site.project("DEMO").series_filter = {"enabled": True, "mode": "blacklist", "list": "localizer"}
    row = client("GET", path + "?format=json").rows[0]
    assert (row["status"], row["path"]) == ("enabled", "config")
    assert row["contents"].startswith('{"enabled": true')
    assert client("GET", path + "?contents=true").text == row["contents"]
    site.project("DEMO").petmr = "separate"
    assert client("GET", "/data/projects/DEMO/config/separatePETMR/config?contents=true").text == "separate"
    assert client("GET", "/data/config/separatePETMR/config?contents=true").status == 404
    site.project("DEMO").config["applet", "allow-create-subject"] = "false"
    assert client("GET", "/data/projects/DEMO/config/applet/allow-create-subject?contents=true").text == "false"
    assert client("GET", "/data/projects/demo-alias/config/applet/require-date").status == 404


def test_requests_are_recorded(site: StandIn, client: Client) -> None:
    client.send({"a.dcm": dicom(1)}, note="a b")
    last = site.requests[-1]
    assert (last.method, last.path, last.query["note"], last.status) == ("POST", "/data/services/import", "a b", 200)
    assert (last.body_bytes, last.content_length, last.content_type) == (10240, 10240, "application/x-tar")
    assert (last.user_agent, last.user) == ("standin-test/1", "uploader")
    assert last.finished >= last.started
    assert last.query.keys() >= PARAMS.keys()
