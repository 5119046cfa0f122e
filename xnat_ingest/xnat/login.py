"""What an answer means for a login: expired, disabled, passed to a single sign-on, or refused."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from xnat_ingest.core import IngestError, Refused
from xnat_ingest.xnat.replies import Reply, sentence

REDIRECTS = (301, 302, 303, 307, 308)
# The pages to which XNAT redirects a known user who may not log in.
_NEW_PASSWORD = "XDATScreen_UpdateUser.vm"  # noqa: S105 - a page
_INACTIVE = "InactiveAccount.vm"
_SIGN_ON = re.compile(r"saml|oidc|openid|oauth|shibboleth|adfs|/sso|/cas/|/auth/realms/", re.IGNORECASE)
_NAMED = re.compile(r"User '([^']{1,256})' is logged in")


def user_of(reply: Reply) -> str:
    """The user that `GET /data/auth` names as logged in; "" when it names none."""
    found = _NAMED.search(reply.text[:1000]) if reply.status == 200 else None
    return found[1] if found else ""


def redirected(reply: Reply, server: str, user: str, path: str) -> IngestError:
    """The error for a redirect of a request for path, with what to do about it."""
    try:
        there = urljoin(f"{server}/", reply.headers.get("Location", ""))
        target, ours = urlsplit(there), urlsplit(server)
    except ValueError:  # half an IPv6 address
        return IngestError(
            f"{server} redirects to an invalid address; is it the right server, or is there a proxy in between?"
        )
    shown = f"{target.scheme}://{target.netloc}{target.path}"[:300]
    if target.path.endswith(_NEW_PASSWORD):
        return Refused(
            f"the password of user {user} on {server} has expired; log in there with a browser, choose a new one, and "
            "run again with that"
        )
    if target.path.endswith(_INACTIVE):
        return Refused(f"the account of user {user} on {server} is disabled; ask the site's administrator to enable it")
    if target.path.endswith(path):  # the same path at another address
        return IngestError(f"{server} redirects to {shown}; give the address that it redirects to")
    if target.netloc != ours.netloc or _SIGN_ON.search(target.path):
        return single_sign_on(server, shown)
    return IngestError(f"{server} redirects to {shown}; give the address that it redirects to")


def single_sign_on(server: str, shown: str) -> Refused:
    return Refused(
        f"{server} sends logins to {shown}, a single sign-on that needs a browser. Use an alias token instead: log in "
        "to XNAT with a browser, click on your name at the top, open Manage Alias Tokens, and give the alias as user "
        "name and the secret as password"
    )


def is_sign_on_page(page: str) -> bool:
    """Whether a web page is the form with which a single sign-on forwards a browser."""
    return "SAMLRequest" in page or "openid-connect" in page


def refused(reply: Reply, server: str, user: str, password: str) -> Refused:
    """The error for a first login that was answered with 401 or 403."""
    said = sentence(reply.text)
    if "password has expired" in said:
        return Refused(
            f"the password of user {user} on {server} has expired; log in there with a browser, choose a new one, and "
            "run again with that"
        )
    if "disabled" in said.lower():
        return Refused(
            f"the account of user {user} on {server} is disabled ({said}); ask the site's administrator to enable it"
        )
    hint = ""
    if password != password.strip():
        ending = "line break" if {"\n", "\r"} & set(password) else "blank"
        hint = f". The password begins or ends with a {ending}: is that part of it?"
    return Refused(f"{server} does not accept user {user} with this password{f' ({said})' if said else ''}{hint}")


def ousted(server: str, user: str, said: str) -> Refused:
    """The error for a login that worked before."""
    return Refused(
        f"{server} no longer accepts user {user}{f' ({said})' if said else ''}; run the same again with "
        "a valid login (one that XNAT gives to a container lives two days from the launch): what is on the server "
        "is not sent again"
    )


def only_guest(server: str) -> Refused:
    return Refused(
        f"{server} treats us as a guest in spite of the login. Perhaps a proxy in front of it drops the Authorization "
        "header; ask the site's administrator"
    )
