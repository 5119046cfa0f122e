"""The prearchive's resources: listings, one session and its actions, what a built session holds."""

from __future__ import annotations

import io
import json
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl
from zipfile import ZIP_DEFLATED, ZipFile

from tests.standin.closing import build_action, commit_action
from tests.standin.model import UNASSIGNED, Row, Scan
from tests.standin.prearchive import COLUMNS, LOCKED, STATUSES, describe
from tests.standin.tables import Reply, RestError, Value, table, text

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

NO_DOCUMENT = (
    "The named session exists, but its XNAT session document is not available. "
    "The session is likely invalid or incomplete."
)


def listing(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """The rows of the named projects, or of all editable ones; users with access to all data see Unassigned too."""
    user = request.user
    if "tag" in request.query:
        if not user.all_data:
            raise RestError(403, "Only site or data administrators and reviewers can query by tag")
        rows = [row for row in site.prearchive.rows() if row.study_uid == request.query["tag"]]
        return table(COLUMNS, map(describe, rows), total=False, query=request.query)
    if "project" in found:
        name = found["project"]
        if not user.all_data and not all(site.readable(user, one) for one in name.split(",")):
            raise RestError(403, f"The current user does not have access to the requested project: {name}")
        wanted: list[str | None] = [one.strip() for one in name.split(",")]
    else:
        wanted = [one.id for one in site.projects.values() if site.may(user, one, "edit")]
    if user.all_data:
        wanted.append(None)
    rows = [row for row in site.prearchive.rows() if row.project in wanted]
    return table(COLUMNS, map(describe, rows), total=False, query=request.query)


def refresh(_site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    if not request.user.all_data:
        raise RestError(403, "Only site or data administrators can request a rebuild of the prearchive.")
    return Reply()


def _enter(site: StandIn, request: Request, found: dict[str, str], *, unassigned: bool = False) -> Row | None:
    """Check the right to edit and find the row; the row's absence is for the caller to judge."""
    name = found["project"]
    if name.lower() == UNASSIGNED.lower():
        if not unassigned and not request.user.all_data:
            raise RestError(500, f"The user {request.user.name} has insufficient privileges on {UNASSIGNED}.")
        return site.prearchive.find(UNASSIGNED, found["timestamp"], found["folder"])
    if site.any_project(name) is None:
        raise RestError(500, f"No project named {name}")
    project = site.projects.get(name)  # an alias passes the look-up but never the check of the right
    if project is None or not site.may(request.user, project, "edit"):
        raise RestError(
            403, f"The user {request.user.name} has insufficient privileges for xnat:projectData in project {name}."
        )
    return site.prearchive.find(name, found["timestamp"], found["folder"])


def show(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """The session document by default (XML), the row with ``format=json``, logs under ``/logs``."""
    row = _enter(site, request, found)
    rest = found.get("rest", "")
    if rest == "logs" or rest.startswith("logs/"):
        return _logs(request, row, rest)
    kind = request.query.get("format", "xml")  # an Accept header never gives JSON here
    if kind == "json":
        return table(COLUMNS, [describe(row)] if row else [], total=False)
    if kind == "zip" and row is not None:
        return Reply(body=_zip(row), content_type="application/zip")
    if kind != "xml":
        raise RestError(400, f"Requested type {kind} is not supported")
    if row is None or row.built is None:
        raise RestError(404, NO_DOCUMENT)
    return text(_document(row), content_type="text/xml")


class _Unseekable(io.BytesIO):
    """As Java writes a zip: sizes stand behind each entry."""

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation


def _zip(row: Row) -> bytes:
    """The session's folder, built or not."""
    out = _Unseekable()
    with ZipFile(out, "w", ZIP_DEFLATED) as found:
        for path in sorted(row.directory.glob("**/*")):
            if path.is_file():
                found.write(path, f"{row.folder}/{path.relative_to(row.directory)}")
    return out.getvalue()


def _document(row: Row) -> str:
    """The outline of the session document: the session and its scans."""
    kind = row.xsi_type.removeprefix("xnat:").removesuffix("Data")
    scans = "".join(
        f'<xnat:scan ID="{scan.id}" UID="{scan.series_uid}" xsi:type="{scan.xsi_type}"/>\n'
        for scan in (row.built or {}).values()
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<xnat:{kind} project="{row.project or ""}" label="{row.label}" '
        f'UID="{row.study_uid or ""}" xmlns:xnat="http://nrg.wustl.edu/xnat" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n<xnat:scans>\n{scans}</xnat:scans>\n</xnat:{kind}>\n'
    )


def _logs(request: Request, row: Row | None, rest: str) -> Reply:
    """``logs`` is a table; one log, ``logs/last`` included, is bare text whatever type was asked for."""
    entries = row.logs if row else []
    if rest == "logs":
        rows: list[dict[str, Value]] = [
            {"id": key, "date": datetime.fromtimestamp(when).astimezone().ctime(), "entry": entry}
            for key, when, entry in entries
        ]
        return table(["id", "date", "entry"], rows, total=False)
    wanted = rest.removeprefix("logs/")
    found = entries[-1:] if wanted == "last" else [one for one in entries if one[0] == wanted]
    kind = "application/json" if request.query.get("format") == "json" else "text/xml"
    return text(found[0][2] if found else "", content_type=kind)


def _params(request: Request) -> dict[str, str]:
    """Parameters of an action: query, form or JSON body."""
    body = request.body.all()
    given: dict[str, str] = {}
    if body and (request.content_type or "").startswith("application/x-www-form-urlencoded"):
        given = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    elif body:
        try:
            given = {key: str(value) for key, value in json.loads(body).items()}
        except (ValueError, AttributeError):
            raise RestError(400) from None
    return given | request.query


def act(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """build, commit, move, reset-status, set-status."""
    params = _params(request)
    row = _enter(site, request, found, unassigned=True)
    action = params.pop("action", None)
    if action == "build":
        return build_action(site, row)
    if action == "commit":
        return commit_action(site, row, request.user, params)
    if action == "move":
        return _move(site, request, row, params)
    if action == "reset-status":
        if row is None or row.built is None:
            raise RestError(500)
        site.prearchive.set_status(row, "READY", override=True)
        return text("/data" + row.url, content_type="text/uri-list")
    if action == "set-status":
        return _set_status(site, row, params.get("status", ""))
    name = request.user.name
    if action is None:
        raise RestError(400, f"No action parameter was specified for the request by user {name}")
    raise RestError(400, f"User {name} requested an unsupported action on prearchive session: {action}")


def _move(site: StandIn, request: Request, row: Row | None, params: dict[str, str]) -> Reply:
    """301 with the new address as body; a locked row gives 200 and nothing."""
    target = site.projects.get(params.get("newProject", ""))  # ids only
    if target is None or not site.may(request.user, target, "edit"):
        raise RestError(403, "Unable to modify session data for destination project.")
    if row is None:
        raise RestError(404)
    if row.status in LOCKED:
        return Reply()
    site.prearchive.move(row, target.id)
    return text("/data" + row.url, 301, "text/uri-list")


def _set_status(site: StandIn, row: Row | None, status: str) -> Reply:
    if status not in STATUSES or row is None:
        raise RestError(400, f"Cannot set session status to {status}")
    site.prearchive.set_status(row, status)
    return Reply()


def delete(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """200, also for a row that is not there; a path behind the session is 400."""
    if found.get("rest"):
        raise RestError(400)
    row = _enter(site, request, found)
    if row is None:
        return Reply()
    if row.status in LOCKED:
        raise RestError(500)
    site.prearchive.forget(row)
    return Reply()


# -- what a built session holds


def _built(site: StandIn, request: Request, found: dict[str, str]) -> dict[str, Scan]:
    """The scans; before the first build every one of these listings is 404, later they show the last build.

    An empty document cannot be parsed.
    """
    row = _enter(site, request, found)
    if row is not None and row.is_empty:
        raise RestError(500, "Premature end of file.")
    if row is None or row.built is None:
        raise RestError(404, "Unable to locate prearc resource.")
    return row.built


def scans(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    built = _built(site, request, found)
    rows: list[dict[str, Value]] = [
        {"ID": one.id, "xsiType": one.xsi_type, "series_description": one.series_description} for one in built.values()
    ]
    return table(["ID", "xsiType", "series_description"], rows, total=False, query=request.query)


def _stats(scan: Scan) -> list[dict[str, Value]]:
    """The labels that a scan has, with counts and live sizes."""
    rows: list[dict[str, Value]] = []
    for label, one in scan.catalogues.items():
        present = [path for path in one.files.values() if path.exists()]
        rows.append({"label": label, "file_count": len(present), "file_size": sum(p.stat().st_size for p in present)})
    return rows


def resources(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """Every scan's resources with their file counts, in one table."""
    built = _built(site, request, found)
    rows = [line | {"category": "scans", "cat_id": one.id} for one in built.values() for line in _stats(one)]
    return table(["category", "cat_id", "label", "file_count", "file_size"], rows, total=False, query=request.query)


def _scan(site: StandIn, request: Request, found: dict[str, str]) -> Scan:
    scan = _built(site, request, found).get(found["scan"])
    if scan is None:
        raise RestError(404)
    return scan


def scan_resources(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """The labels that the scan has: DICOM, secondary or both."""
    rows = _stats(_scan(site, request, found))
    return table(["label", "file_count", "file_size"], rows, total=False, query=request.query)


def files(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """The catalogued files of a label that the scan has: what came after the build is not listed."""
    kept = _scan(site, request, found).catalogues.get(found["resource"])
    if kept is None:
        raise RestError(404)
    if rest := found.get("rest"):
        path = kept.files.get(rest)
        if path is None:
            raise RestError(400, f"Unable to access the file at: {rest}")
        if not path.exists():
            return Reply()
        return Reply(content_type="application/octet-stream", file=path)
    base = request.path.removeprefix(site.settings.context_path).rstrip("/")
    rows: list[dict[str, Value]] = [
        {"Name": path.name, "Size": path.stat().st_size, "URI": f"{base}/{name}"}
        for name, path in kept.files.items()
        if path.exists()
    ]
    return table(["Name", "Size", "URI"], rows, total=False, query=request.query)
