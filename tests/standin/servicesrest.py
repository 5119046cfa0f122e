"""``services/archive``, ``services/validate-archive`` and the batch services of the prearchive."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from tests.standin.archiver import MODALITY, STUDY, SUBJECT, clean_value
from tests.standin.closing import auto_archive, queued_archive, rebuild
from tests.standin.model import UNASSIGNED, Row
from tests.standin.prearchive import COLUMNS, describe
from tests.standin.tables import Reply, RestError, Value, table, text

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn


def _pairs(request: Request) -> list[tuple[str, str]]:
    form = (request.content_type or "").startswith("application/x-www-form-urlencoded")
    body = request.body.all().decode("utf-8", "replace")
    return request.pairs + (parse_qsl(body, keep_blank_values=True) if form else [])


def _rows(site: StandIn, request: Request, pairs: list[tuple[str, str]]) -> list[Row]:
    """The rows the ``src`` parameters name, all of them editable by the user."""
    sources = [value.strip() for key, value in pairs if key == "src"]
    params = dict(pairs)
    if not sources and {"project", "PREARC_TIMESTAMP", "PREARC_SESSION_FOLDER"} <= params.keys():
        names = (params["project"], params["PREARC_TIMESTAMP"], params["PREARC_SESSION_FOLDER"])
        sources = ["/prearchive/projects/" + "/".join(names)]
    if not sources:
        raise RestError(404, "Unknown prearchive session.")
    rows = []
    for source in sources:
        parts = [part for part in source.split("/") if part and part not in ("data", "REST")]
        if len(parts) != 5 or parts[:2] != ["prearchive", "projects"]:
            raise RestError(400, f"Invalid src URI ({source})")
        address = "/" + "/".join(parts)
        project = site.projects.get(parts[2])
        if project is not None and not site.may(request.user, project, "edit"):
            raise RestError(403, address)
        row = site.prearchive.find(parts[2], parts[3], parts[4])
        if row is None:
            raise RestError(404, f"{address} not found.")
        rows.append(row)
    return rows


def archive(site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    """One row: wait and answer 200 with its new address, or 303 when the row archives by itself.

    ``overwrite=append`` overrides conflicts as ``delete`` does; ``overwrite_files`` is swallowed for a single row.
    """
    pairs = _pairs(request)
    params = dict(reversed(pairs))
    rows = _rows(site, request, pairs)
    word = params.pop("overwrite", "").lower()
    if any(row.project is None for row in rows):
        raise RestError(400, f"Cannot archive sessions from the {UNASSIGNED} folder.")
    if len(rows) > 1:
        return _several(site, request, rows, params, override=word == "delete")
    row = rows[0]
    if row.built is None:
        raise RestError(500, f"FAILED: Unable to archive {row.folder}: no session document")
    if not site.prearchive.set_status(row, "ARCHIVING"):
        raise RestError(403, "Operation already in progress on this prearchive entry.")
    params.pop("overwrite_files", None)
    uri = queued_archive(site, row, request.user, params, override=word in ("append", "delete"))
    row.autoarchive = None  # its line of the table is gone by now: only the request and the project can tell
    if auto_archive(site, row, params) or params.get("redirect", "").lower() == "true":
        return Reply(303, headers=[("Location", site.url + uri)])
    return text(uri + "\r\n", content_type="text/uri-list")


def _several(site: StandIn, request: Request, rows: list[Row], params: dict[str, str], *, override: bool) -> Reply:
    """Several rows go to a thread of their own; the answer is the table of rows."""
    found = list(map(describe, rows))

    def work() -> None:
        for row in rows:
            try:
                queued_archive(site, row, request.user, params, override=override)
            except RestError:
                continue  # the row's status and log tell

    site.spawn(work)
    return table(COLUMNS, found, total=False)


def batch(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """``services/prearchive/move|delete|rebuild``: queued, so the table shows ``QUEUED_...`` at first."""
    what = found["what"]
    if what not in ("move", "delete", "rebuild"):
        raise RestError(404)
    pairs = _pairs(request)
    rows = _rows(site, request, pairs)
    target = site.projects.get(dict(pairs).get("newProject", ""))
    if what == "move" and (target is None or not site.may(request.user, target, "edit")):
        raise RestError(403, "Invalid permissions for new project.")
    words = {"move": "QUEUED_MOVING", "delete": "QUEUED_DELETING", "rebuild": "QUEUED_BUILDING"}
    rows = [row for row in rows if site.prearchive.set_status(row, words[what])]
    answer = table(COLUMNS, list(map(describe, rows)), total=False)

    def work() -> None:
        for row in rows:
            if what == "delete":
                site.prearchive.forget(row)
            elif what == "rebuild":
                rebuild(site, row, block_archive=True)
            elif target is not None:
                site.prearchive.move(row, target.id)

    site.spawn(work)
    return answer


def validate(site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    """What archiving would say, as codes: 4 subject, 5 study, 14 files, 16 to 18 scans, 19 modality."""
    notices: list[dict[str, Value]] = []
    found = _rows(site, request, _pairs(request))
    if len(found) > 1:
        raise RestError(400, "Cannot validate multiple sessions in one request.")

    def note(code: int, kind: str, message: str) -> None:
        notices.append({"code": code, "type": kind, "message": message})

    for row in found:
        project = site.projects.get(row.project or "")
        if project is None:
            note(6, "FAIL", "unable to identify destination project")
            continue
        existing = project.sessions.get(clean_value(row.label))
        if existing is None:
            continue
        note(1, "CONFLICT", "Session already exists, retry with overwrite enabled")
        if existing.subject != project.subject(clean_value(row.subject or "")):
            note(4, "FAIL", f"{SUBJECT}: {existing.label} Already Exists for another Subject")
        if existing.study_uid and row.study_uid and existing.study_uid != row.study_uid:
            note(5, "CONFLICT", STUDY)
        if existing.xsi_type != row.xsi_type:
            note(19, "FAIL", MODALITY)
        for scan in (row.built or {}).values():
            kept = existing.scans.get(scan.id)
            if kept is None:
                continue
            same = kept.series_uid == scan.series_uid
            tail = "UID and number." if same else "number, but a different UID."
            note(16 if same else 17, "CONFLICT", f"Session already contains a scan ({kept.id}) with the same {tail}")
            if any(
                label in kept.catalogues and kept.catalogues[label].files.keys() & one.files.keys()
                for label, one in scan.catalogues.items()
            ):
                note(14, "CONFLICT", "Session already exists with matching files.")
    return table(["code", "type", "message"], notices, total=False)
