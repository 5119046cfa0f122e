"""``/xapi/direct-archive``: the sessions on their way into the archive, and the order to finish one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.standin.directarchive import DirectRow
from tests.standin.tables import Reply, RestError, as_json

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn


def xapi(site: StandIn, request: Request, path: str) -> Reply | None:
    """The answer to a request below ``/xapi``, or None when it is about something else."""
    for method, pattern, resource in _TABLE:
        if request.method == method and (found := re.fullmatch("/direct-archive" + pattern, path)):
            return resource(site, request, found.groupdict())
    return None


def listing(site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    """One page of the rows in projects that the user can read; the request is JSON, ``{}`` is enough."""
    try:
        asked: dict[str, Any] = json.loads(request.body.all())
        page, size = int(asked.get("page") or 1), int(asked.get("size") or 50)
    except (ValueError, AttributeError):
        raise RestError(400) from None
    rows = [row for row in site.direct.rows() if site.readable(request.user, row.project or "") is not None]
    found = sorted(map(_shown, rows), key=_order(asked.get("sort_col") or "lastBuiltDate"))
    if (asked.get("sort_dir") or "desc") == "desc":
        found.reverse()
    return as_json(found[(page - 1) * size : page * size])


def _order(column: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: f"{row.get(column):>20}" if isinstance(row.get(column), int) else str(row.get(column))


def show(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    if site.readable(request.user, found["project"]) is None:
        raise RestError(403)
    return as_json(_shown(_row(site, found)))


def trigger(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """200 at once; the row is gone from the listing when the session is in the archive, or in the prearchive."""
    project = site.projects.get(found["project"])
    if project is None or not site.may(request.user, project, "edit"):
        raise RestError(403, f"User cannot trigger archive for project {found['project']}")
    site.direct.trigger(_row(site, found))
    return Reply()


def delete(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """The row only: the files stay in the archive, where they keep the session from being sent again."""
    row = next((one for one in site.direct.rows() if str(one.id) == found["id"]), None)
    if row is None:
        raise RestError(404, f"Could not find entity with ID {found['id']}")
    if not site.may(request.user, site.projects[row.project or ""], "delete"):
        raise RestError(403, str(row.project))
    site.direct.forget(row)
    return Reply()


def _row(site: StandIn, found: dict[str, str]) -> DirectRow:
    row = site.direct.find(found["project"], found["tag"], found["name"])
    if row is None:
        raise RestError(404, "No matching direct archive session")
    return row


def _shown(row: DirectRow) -> dict[str, Any]:
    triple = {"folderName": row.folder, "timestamp": row.timestamp, "project": row.project}
    return {
        "id": row.id,
        **triple,
        "name": row.label,
        "subject": row.subject,
        "tag": row.study_uid,
        "status": row.status,
        "message": row.message,
        "uploadDate": None,
        "lastBuiltDate": int(row.lastmod * 1000),
        "scan_date": row.scan_date or None,
        "scan_time": row.scan_time or None,
        "url": str(row.directory),
        "externalUrl": "/prearchive/projects/" + "/".join(row.key),
        "source": row.source or None,
        "visit": row.visit or None,
        "protocol": row.protocol or None,
        "timeZone": row.timezone or None,
        "autoArchive": None,
        "preventAnon": row.prevent_anon,
        "preventAutoCommit": False,
        "sessionDataTriple": triple,
    }


_ONE = r"/(?P<project>[^/]+)/(?P<tag>[^/]+)/(?P<name>[^/]+)"
_TABLE: list[tuple[str, str, Callable[[StandIn, Request, dict[str, str]], Reply]]] = [
    ("POST", "", listing),
    ("GET", _ONE, show),
    ("POST", _ONE, trigger),
    ("DELETE", r"/(?P<id>\d+)", delete),
]
