"""Accounts that may do nothing, sites that ask nobody, several servers behind a balancer, reasons for changes."""

from __future__ import annotations

import json
import re

import pytest

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import PARAMS, TAR, Client, dicom, series, tar

__all__ = ["client", "site"]


# -- accounts


@pytest.mark.parametrize("path", ["/data/auth", "/data/JSESSION", "/data/projects", "/xapi/users/username"])
def test_an_expired_password_leads_to_the_page_for_a_new_one(site: StandIn, client: Client, path: str) -> None:
    """Logging in works, and every answer is a redirect: by Basic as well as with a session."""
    site.user("uploader").password_expired = True
    basic = Client(site.url)
    for asker in (basic, client):
        sent = asker("GET", path)
        assert (sent.status, sent.headers["Location"]) == (302, site.url + "/app/template/XDATScreen_UpdateUser.vm")
    basic.close()


def test_nothing_is_stored_for_an_expired_password(site: StandIn, client: Client) -> None:
    site.user("uploader").password_expired = True
    assert client.send(series([1])).status == 302
    assert site.rows("DEMO") == []


def test_a_wrong_password_is_a_401_all_the_same(site: StandIn) -> None:
    site.user("uploader").password_expired = True
    wrong = Client(site.url, password="no")
    assert wrong("GET", "/data/auth").status == 401
    wrong.close()


def test_a_disabled_account_leads_to_its_page(site: StandIn) -> None:
    site.user("uploader").enabled = False
    asker = Client(site.url)
    sent = asker("POST", "/data/JSESSION")
    assert (sent.status, sent.headers["Location"]) == (302, site.url + "/app/template/InactiveAccount.vm")
    asker.close()


# -- open sites


def test_a_lost_session_is_the_guests_on_an_open_site(site: StandIn, client: Client) -> None:
    site.settings.require_login = False
    assert client("GET", "/data/auth").text == "User 'uploader' is logged in"
    site.expire_sessions()
    lost = client("GET", "/data/auth")
    assert (lost.status, lost.text) == (200, "User 'guest' is logged in")
    assert client("GET", "/xapi/users/username").text == "guest"


def test_what_a_guest_sends_has_no_project(site: StandIn, client: Client) -> None:
    """The project asked for is not the guest's to see, so the headers decide, and they name none."""
    site.settings.require_login = False
    site.expire_sessions()
    reply = client.send(series([1]))
    assert reply.status == 200
    assert reply.text.startswith("/data/prearchive/projects/Unassigned/")
    assert site.rows("DEMO") == []


def test_a_guest_sees_public_projects_only(site: StandIn) -> None:
    site.settings.require_login = False
    site.project("AUTO").access["guest"] = "read"
    nobody = Client(site.url, user="")
    assert [row["ID"] for row in nobody("GET", "/data/projects", format="json").rows] == ["AUTO"]
    assert nobody("GET", "/data/projects/DEMO", format="json").status == 404
    browser = Client(site.url, user="", agent="Mozilla/5.0")
    assert browser("GET", "/data/auth").text == "User 'guest' is logged in"
    for one in (nobody, browser):
        one.close()


def test_a_wrong_password_is_no_guest(site: StandIn) -> None:
    site.settings.require_login = False
    wrong = Client(site.url, password="no")
    assert wrong("GET", "/data/auth").status == 401
    wrong.close()


# -- several servers


def cookies(reply_headers: object) -> str:
    """All cookies of an answer as a request sends them back."""
    pairs = re.findall(r"(JSESSIONID|SERVERID)=([^;,\s]+)", str(reply_headers))
    return "; ".join(f"{name}={value}" for name, value in pairs)


def test_the_balancer_keeps_a_client_by_its_cookie(site: StandIn) -> None:
    site.settings.nodes = 2
    asker = Client(site.url)
    login = asker("POST", "/data/JSESSION")
    kept = {"Cookie": cookies(login.headers)}
    assert "SERVERID=node" in kept["Cookie"]
    asker.user = ""
    assert [asker("GET", "/data/auth", headers=kept).status for _ in range(4)] == [200] * 4
    assert "SERVERID" not in str(asker("GET", "/data/auth", headers=kept).headers)
    asker.close()


def test_without_it_every_other_request_is_a_strangers(site: StandIn) -> None:
    site.settings.nodes = 2
    client = Client(site.url).login()
    assert sorted(client("GET", "/data/auth").status for _ in range(4)) == [200, 200, 401, 401]
    client.close()


def test_the_servers_share_what_they_store(site: StandIn) -> None:
    site.settings.nodes = 2
    basic = Client(site.url)
    replies = [basic.send({f"{number}.dcm": dicom(number)}) for number in range(1, 5)]
    assert {reply.status for reply in replies} == {200}
    assert len({reply.text for reply in replies}) == 1
    assert len(site.rows("DEMO")[0].files) == 4
    assert len({re.search(r"SERVERID=(\w+)", str(reply.headers))[1] for reply in replies}) == 2  # type: ignore[index]  # every answer has one
    basic.close()


def test_one_server_needs_no_balancer(client: Client) -> None:
    assert "SERVERID" not in str(client("GET", "/data/auth").headers)


# -- reasons


def test_changes_need_a_reason_where_the_site_asks_for_one(site: StandIn) -> None:
    site.settings.require_justification = True
    owner = Client(site.url, "owner").login()
    session = "/data/projects/DEMO/subjects/S1/experiments/E1"
    changes: list[tuple[str, str, dict[str, str], bytes | None]] = [
        ("PUT", "/data/projects/DEMO/subjects/S1", {}, None),
        ("PUT", session, {"xsiType": "xnat:mrSessionData"}, None),
        ("PUT", session + "/scans/1", {"xsiType": "xnat:mrScanData"}, None),
        ("PUT", session + "/resources/NOTES", {}, None),
        ("PUT", session + "/resources/NOTES/files/a.txt", {"inbody": "true"}, b"a"),
        ("DELETE", session + "/resources/NOTES/files/a.txt", {}, None),
        ("DELETE", session, {}, None),
    ]
    for method, path, query, body in changes:
        refused = owner(method, path, body, filters=query)
        assert (refused.status, refused.reason) == (500, "Justification required.")
        blank = owner(method, path, body, filters=query | {"event_reason": " "})
        assert blank.status == 500
        assert owner(method, path, body, filters=query | {"event_reason": "upload"}).status in (200, 201)
    catalog = "/data/services/refresh/catalog?resource=/archive/projects/DEMO/subjects/S1"
    assert owner("POST", catalog).status == 400
    assert owner("POST", catalog + "&event_reason=x").status == 200
    owner.close()


def test_imports_and_archiving_need_none(site: StandIn, client: Client) -> None:
    site.settings.require_justification = True
    uri = client.send(series([1])).text.strip()
    assert client("POST", uri, action="commit", AA="true").status == 301
    assert client("GET", "/data/projects/DEMO/subjects/S1", format="json").status == 200
    assert client("POST", "/data/services/import", tar(series([2])), TAR, **PARAMS).status == 200


# -- preferences


@pytest.mark.parametrize(
    "name",
    [
        "dicomFileNameTemplate",
        "sitewidePetMr",
        "enableSitewideAnonymizationScript",
        "sitewideAnonymizationScript",
        "enableSitewideSeriesImportFilter",
        "sitewideSeriesImportFilter",
        "sitewideSeriesImportFilterMode",
        "failMergeOn",
        "sessionXmlRebuilderInterval",
        "sessionXmlRebuilderRepeat",
        "scanTypeMapping",
    ],
)
def test_preferences_that_every_user_may_read(site: StandIn, name: str) -> None:
    stranger = Client(site.url, "stranger").login()
    assert stranger("GET", f"/xapi/siteConfig/{name}").status == 200
    stranger.close()


@pytest.mark.parametrize("name", ["", "/siteId", "/checksums", "/requireLogin"])
def test_preferences_for_administrators(site: StandIn, client: Client, name: str) -> None:
    assert client("GET", "/xapi/siteConfig" + name).status == 403
    boss = Client(site.url, "boss").login()
    assert boss("GET", "/xapi/siteConfig" + name).status == 200
    boss.close()


def test_what_the_preferences_say(site: StandIn, client: Client) -> None:
    site.settings.site_anonymization, site.settings.site_script = True, "uids"
    site.settings.site_filter = {"enabled": True, "mode": "whitelist", "list": "T1"}

    def read(name: str) -> str:
        return client("GET", f"/xapi/siteConfig/{name}").text

    assert json.loads(read("enableSitewideAnonymizationScript")) is True
    assert "(0020,000D) := hashUID[(0020,000D)]" in read("sitewideAnonymizationScript")
    assert json.loads(read("enableSitewideSeriesImportFilter")) is True
    assert (read("sitewideSeriesImportFilterMode"), read("sitewideSeriesImportFilter")) == ("whitelist", "T1")
