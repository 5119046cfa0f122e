"""From a path to a resource. ``/REST`` is ``/data``; archive addresses may carry ``/archive``; a site may have a
context path. Restlet matches by prefix, longest template first, and the rest of the path is the "file path"."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.standin import (
    account,
    archiverest,
    configrest,
    containers,
    directrest,
    filesrest,
    prearcrest,
    projectrest,
    resourcerest,
    servicesrest,
    tokens,
    writerest,
)
from tests.standin.importservice import import_service
from tests.standin.tables import Reply, RestError, text

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

Resource = Callable[["StandIn", "Request", dict[str, str]], Reply]

_SESSIONS = (
    "/experiments/{assessed}",
    "/projects/{project}/subjects/{subject}/experiments/{assessed}",
)
_HOLDERS = (
    "/projects/{project}",
    "/projects/{project}/subjects/{subject}",
    "/projects/{project}/experiments/{assessed}",
    "/subjects/{subject}",
    *_SESSIONS,
    *(session + "/scans/{scan}" for session in _SESSIONS),
)
_PREARC = "/prearchive/projects/{project}/{timestamp}/{folder}"


def _import(site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    return import_service(site, request)


def _table() -> list[tuple[str, str, Resource]]:
    found: list[tuple[str, str, Resource]] = [
        ("GET POST", "/JSESSION", account.session),
        ("DELETE", "/JSESSION", account.leave),
        ("GET", "/auth", account.who),
        ("GET", "/version", account.version),
        ("POST", "/services/import", _import),
        ("POST", "/services/archive", servicesrest.archive),
        ("POST", "/services/validate-archive", servicesrest.validate),
        ("POST", "/services/prearchive/{what}", servicesrest.batch),
        ("GET", "/prearchive", prearcrest.listing),
        ("GET", "/prearchive/projects/{project}", prearcrest.listing),
        ("PUT", "/prearchive", prearcrest.refresh),
        ("GET", _PREARC, prearcrest.show),
        ("POST", _PREARC, prearcrest.act),
        ("DELETE", _PREARC, prearcrest.delete),
        ("GET", _PREARC + "/scans", prearcrest.scans),
        ("GET", _PREARC + "/resources", prearcrest.resources),
        ("GET", _PREARC + "/scans/{scan}/resources", prearcrest.scan_resources),
        ("GET", _PREARC + "/scans/{scan}/resources/{resource}/files", prearcrest.files),
        ("GET", "/config/{tool}", configrest.show),
        ("GET", "/projects/{project}/config/{tool}", configrest.show),
        ("GET", "/projects", projectrest.listing),
        ("GET", "/projects/{project}", projectrest.show),
        ("PUT", "/projects/{project}", projectrest.change),
        ("GET", "/projects/{project}/users", projectrest.users),
        ("GET", "/projects/{project}/subjects", archiverest.subjects),
        ("GET", "/projects/{project}/subjects/{subject}", archiverest.subject),
        ("GET", "/projects/{project}/subjects/{subject}/experiments", archiverest.experiments),
        ("GET", "/projects/{project}/experiments", archiverest.experiments),
        ("GET", "/projects/{project}/experiments/{assessed}", archiverest.experiment),
        ("GET", "/projects/{project}/subjects/{subject}/experiments/{assessed}", archiverest.experiment),
        ("GET", "/experiments", archiverest.all_experiments),
        ("GET", "/search/elements", archiverest.elements),
        ("GET", "/subjects/{subject}", archiverest.any_subject),
        ("GET", "/experiments/{assessed}", archiverest.experiment),
    ]
    for session in _SESSIONS:
        found += [
            ("GET", session + "/scans", archiverest.scans),
            ("GET", session + "/scans/{scan}", archiverest.scan),
            ("PUT", session + "/scans/{scan}", writerest.put_scan),
            ("DELETE", session + "/scans/{scan}", writerest.delete_scan),
        ]
    return found + _writing() + _resources()


def _writing() -> list[tuple[str, str, Resource]]:
    found: list[tuple[str, str, Resource]] = []
    for subject in ("/subjects/{subject}", "/projects/{project}/subjects/{subject}"):
        found += [("PUT", subject, writerest.put_subject), ("DELETE", subject, writerest.delete_subject)]
    for session in (*_SESSIONS, "/projects/{project}/experiments/{assessed}"):
        found += [("PUT", session, writerest.put_experiment), ("DELETE", session, writerest.delete_experiment)]
    cached = "/user/cache/resources/{name}/files"
    return [
        *found,
        ("PUT POST", cached, resourcerest.put_cached),
        ("GET DELETE", cached, resourcerest.get_cached),
        ("POST", "/services/refresh/catalog", writerest.refresh_catalog),
        ("GET", "/services/tokens/{operation}", tokens.serve),
        ("GET", "/services/tokens/{operation}/user/{user}", tokens.serve),
        ("GET", "/services/tokens/{operation}/{token}", tokens.serve),
        ("GET", "/services/tokens/{operation}/{token}/{secret}", tokens.serve),
    ]


def _resources() -> list[tuple[str, str, Resource]]:
    """The same at every level."""
    found: list[tuple[str, str, Resource]] = []
    for holder in _HOLDERS:
        one = holder + "/resources/{resource}"
        found += [
            ("GET", holder + "/resources", filesrest.resources),
            ("GET", holder + "/files", filesrest.files),
            ("GET", one, resourcerest.show),
            ("PUT POST", one, resourcerest.create),
            ("DELETE", one, resourcerest.delete),
            ("GET", one + "/files", filesrest.files),
            ("PUT POST", one + "/files", resourcerest.put_files),
            ("DELETE", one + "/files", resourcerest.delete_files),
        ]
    return found


def _compiled() -> list[tuple[frozenset[str], re.Pattern[str], Resource]]:
    """Longer templates first: Restlet takes the best score, which is the longest match."""
    table = sorted(_table(), key=lambda entry: -entry[1].count("/"))
    return [
        (
            frozenset(methods.split()),
            re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template) + r"(?:/(?P<rest>.*))?"),
            resource,
        )
        for methods, template, resource in table
    ]


_ROUTES = _compiled()
_CHANGES = {
    writerest.put_subject,
    writerest.delete_subject,
    writerest.put_experiment,
    writerest.delete_experiment,
    writerest.put_scan,
    writerest.delete_scan,
    writerest.refresh_catalog,
    resourcerest.create,
    resourcerest.delete,
    resourcerest.put_files,
    resourcerest.delete_files,
}
_XAPI: list[tuple[str, Resource]] = [
    (r"/users/username", account.username),
    (r"/users/projects", account.editable_projects),
    (r"/users/(?P<user>[^/]+)/groups", account.groups),
    (r"/users/(?P<user>[^/]+)/roles", account.roles),
    (r"/users/(?P<user>[^/]+)", account.profile),
    (r"/siteConfig/buildInfo", account.build_info),
    (r"/siteConfig/buildInfo/(?P<property>[^/]+)", account.build_property),
    (r"/siteConfig", account.site_config),
    (r"/siteConfig/(?P<property>[^/]+)", account.site_preference),
]


def dispatch(site: StandIn, request: Request) -> Reply:
    """Answer an authenticated request."""
    path = _below_context(site, request)
    if path in ("", "/", "/app/template/Login.vm", "/app/template/Index.vm"):
        return text("<html><head><title>XNAT</title></head><body>XNAT</body></html>", content_type="text/html")
    if path.startswith("/xapi/"):
        return _xapi(site, request, path.removeprefix("/xapi"))
    found = re.match(r"/(?:data|REST)(?:/archive(?=/(?:projects|experiments|subjects)(?:/|$)))?(/.*)", path)
    if found is None:
        raise RestError(404)
    return _rest(site, request, found.group(1).rstrip("/"))


def _below_context(site: StandIn, request: Request) -> str:
    context = site.settings.context_path
    if context and not (request.path + "/").startswith(context + "/"):
        raise RestError(404)
    return request.path[len(context) :]


def _rest(site: StandIn, request: Request, path: str) -> Reply:
    known = False
    for methods, pattern, resource in _ROUTES:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        method = "GET" if request.method == "HEAD" else request.method
        if method in methods:
            _justified(site, request, resource)
            return resource(site, request, {k: v for k, v in match.groupdict().items() if v})
        known = True
    raise RestError(405 if known else 404)


def _justified(site: StandIn, request: Request, resource: Resource) -> None:
    """Where the site asks for reasons, a change of an object without one is an error of the server."""
    asks = site.settings.require_justification and request.method != "GET" and resource in _CHANGES
    if not asks or request.query.get("event_reason", "").strip():
        return
    if resource is writerest.refresh_catalog:
        raise RestError(
            400,
            "No justification was provided for the refresh action, but is required by the system configuration.",
        )
    raise RestError(500, "Justification required.")


def _xapi(site: StandIn, request: Request, path: str) -> Reply:
    for answer in (containers.xapi, directrest.xapi):
        if (reply := answer(site, request, path)) is not None:
            return reply
    for pattern, resource in _XAPI:
        match = re.fullmatch(pattern, path)
        if match and request.method in ("GET", "HEAD"):
            return resource(site, request, match.groupdict())
    raise RestError(404)
