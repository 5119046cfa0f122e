"""Making, changing and deleting subjects, experiments and scans by PUT and DELETE; refreshing catalogues."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from tests.standin.archiver import create_session, create_subject
from tests.standin.archiverest import find_session, subject_label
from tests.standin.holders import of_scan, of_subject
from tests.standin.model import ArchivedSession, Details, Project, Scan
from tests.standin.refresh import refresh
from tests.standin.tables import Reply, RestError, text

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

_LABEL = re.compile(r"[A-Za-z0-9_-]+")
_DATES = ("%m/%d/%Y", "%Y-%m-%d")
_NO_FIELDS = {
    "xsiType",
    "format",
    "inbody",
    "req_format",
    "label",
    "subject_ID",
    "project",
    "ID",
    "allowDataDeletion",
    "loadExisting",
    "event_id",
    "event_reason",
    "event_type",
    "event_action",
    "triggerPipelines",
    "fixScanTypes",
    "pullDataFromHeaders",
    "removeFiles",
    "populateFromDB",
    "XNAT_CSRF",
}
_CREATE = "Specified user account has insufficient create privileges for {what} in this project."
_EDIT = "Specified user account has insufficient edit privileges for {what} in this project."
_NO_PROJECT = "Submitted {what} record must include the project attribute."


def fields_of(query: Mapping[str, str]) -> dict[str, str]:
    """The fields a query sets, by the last part of their paths; dates are kept as ISO dates."""
    found = {key.rsplit("/", 1)[-1]: value for key, value in query.items() if key not in _NO_FIELDS}
    if found.get("date"):
        found["date"] = _date(found["date"])
    return found


def _date(value: str) -> str:
    for form in _DATES:
        try:
            return datetime.strptime(value, form).date().isoformat()  # noqa: DTZ007 - a date has no zone
        except ValueError:
            continue
    raise RestError(400)


def _nothing_behind(found: dict[str, str]) -> None:
    if "rest" in found:
        raise RestError(400)


# -- subjects


def put_subject(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """201 with the accession id of a new subject, 200 with that of a known one. ``label=`` renames."""
    _nothing_behind(found)
    project = _project(site, request, found, "subject")
    name, fields = found["subject"], fields_of(request.query)
    with site.lock:
        label = subject_label(project, name)
        new = label is None
        if not site.may(request.user, project, "edit"):
            raise RestError(403, (_CREATE if new else _EDIT).format(what="subjects"))
        if label is None:
            label = create_subject(site, project, _checked(request.query.get("label") or name, "subject"))
            project.details[project.subjects[label]] = Details(insert_user=request.user.name)
        wanted = request.query.get("label")
        if wanted and not new:
            _rename_subject(project, label, _checked(wanted, "subject"))
            return Reply()
        accession = project.subjects[label]
        project.details.setdefault(accession, Details()).fields.update(fields)
    return text(accession, 201 if new else 200)


def _project(site: StandIn, request: Request, found: dict[str, str], what: str) -> Project:
    """The address's project. One that cannot be seen is like none at all, which is an incomplete record."""
    if "project" in found:
        project = site.readable(request.user, found["project"])
    else:
        readable = (one for one in site.projects.values() if site.may(request.user, one, "read"))
        project = next((one for one in readable if found.get("subject") in one.subjects.values()), None)
    if project is None:
        raise RestError(422, _NO_PROJECT.format(what=what))
    return project


def _checked(label: str, what: str) -> str:
    if not _LABEL.fullmatch(label):
        raise RestError(417, f"Invalid character in {what} label.")
    return label


def _rename_subject(project: Project, label: str, wanted: str) -> None:
    if wanted == label:
        return
    if wanted in project.subjects:
        raise RestError(409, "Specified label is already in use.")
    project.subjects = {(wanted if key == label else key): value for key, value in project.subjects.items()}
    for session in project.sessions.values():
        if session.subject == label:
            session.subject = wanted


def delete_subject(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """The subject and all its experiments; files only with ``removeFiles``."""
    readable = [one for one in site.projects.values() if site.may(request.user, one, "read")]
    if "project" in found:
        project = site.readable(request.user, found["project"])
        readable = [project] if project else []
    for one in readable:
        label = subject_label(one, found["subject"]) if "project" in found else None
        by_id = next((key for key, value in one.subjects.items() if value == found["subject"]), None)
        if (label := label or by_id) is not None:
            return _delete_subject(site, request, one, label)
    raise RestError(404, "Unable to find the specified subject.")


def _delete_subject(site: StandIn, request: Request, project: Project, label: str) -> Reply:
    if not site.may(request.user, project, "delete"):
        raise RestError(403, f"User cannot delete subjects for project {project.id}")
    with site.lock:
        for session in [one for one in project.sessions.values() if one.subject == label]:
            _drop(project, session, files=request.true("removeFiles"))
        if request.true("removeFiles"):
            shutil.rmtree(of_subject(site, project, label).folder, ignore_errors=True)
        project.details.pop(project.subjects.pop(label), None)
    return Reply()


# -- experiments


def put_experiment(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """201 with the accession id of a new experiment, 200 with that of a known one; a missing subject is made.

    A known one is moved to the subject of the address. Without its own record (``populateFromDB=false``) it seems to be
    without a project, which may not be changed here (SubjAssessmentResource.handlePut).
    """
    _nothing_behind(found)
    session = _known(site, request, found)
    kind = request.query.get("xsiType") or (session.xsi_type if session else None)
    if kind is None:
        raise RestError(417, "Need PUT Contents")
    if not kind.startswith("xnat:"):
        raise RestError(500)
    if kind in ("xnat:subjectData", "xnat:projectData") or kind.endswith("ScanData"):
        raise RestError(422, "Only xnat:Subject documents can be PUT to this address.")
    project = site.projects[session.project] if session else _project(site, request, found, "experiment")
    fields = fields_of(request.query)
    if not site.may(request.user, project, "edit"):
        raise RestError(403, (_EDIT if session else _CREATE).format(what="experiments"))
    with site.lock:
        if session is None:
            session = _new(site, request, project, found, kind)
            status = 201
        else:
            status = 200
            if request.query.get("populateFromDB", "true") != "true":
                raise RestError(409, "Project must be modified through separate URI.")
            if "subject" in found:
                session.subject = _subject_of(site, project, found["subject"])
            if "subject_ID" in request.query:
                session.subject = _subject_of(site, project, request.query["subject_ID"])
            if (label := request.query.get("label")) and label != session.label:
                _rename(project, session, _checked(label, "experiment"))
                return Reply()
        session.date = fields.pop("date", session.date)
        session.fields.update(fields)
    return text(session.accession, status)


def _known(site: StandIn, request: Request, found: dict[str, str]) -> ArchivedSession | None:
    try:
        return find_session(site, request, found)
    except RestError:
        return None


def _new(site: StandIn, request: Request, project: Project, found: dict[str, str], kind: str) -> ArchivedSession:
    name = found.get("subject") or request.query.get("subject_ID")
    if not name:
        raise RestError(422, "Submitted experiment record must include the subject.")
    label = _checked(found["assessed"], "experiment")
    session = create_session(site, project, _subject_of(site, project, name), label, kind)
    session.insert_user = request.user.name
    project.sessions[label] = session
    return session


def _subject_of(site: StandIn, project: Project, name: str) -> str:
    """The subject of this label or accession id, made if need be."""
    return subject_label(project, name) or create_subject(site, project, _checked(name, "subject"))


def _rename(project: Project, session: ArchivedSession, label: str) -> None:
    """The folder keeps its name here; its address does not."""
    if label in project.sessions:
        raise RestError(409, "Specified label is already in use.")
    del project.sessions[session.label]
    session.label = label
    project.sessions[label] = session


def delete_experiment(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    session = find_session(site, request, found)
    project = site.projects[session.project]
    if not site.may(request.user, project, "delete"):
        raise RestError(403, f"User cannot delete experiments for project {project.id}")
    with site.lock:
        _drop(project, session, files=request.true("removeFiles"))
    return Reply()


def _drop(project: Project, session: ArchivedSession, *, files: bool) -> None:
    project.sessions.pop(session.label, None)
    if files:
        shutil.rmtree(session.directory, ignore_errors=True)


# -- scans


def put_scan(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """200 with nothing, for a new scan as for a known one."""
    _nothing_behind(found)
    session = _known(site, request, found)
    known = session.scans.get(found["scan"]) if session else None
    kind = request.query.get("xsiType") or (known.xsi_type if known else None)
    if kind is None:
        raise RestError(417, "Need PUT Contents")
    if not kind.endswith("ScanData"):
        raise RestError(
            400,
            f"Only Scan documents can be PUT to this address. Expected: xnat:imageScanData Received: {kind}",
        )
    if kind == "xnat:imageScanData":
        raise RestError(
            400,
            "Multiple scan modalities can be associated here.  Please retry with the specification of a particular "
            "modality (i.e. ?xsiType=xnat:mrScanData).",
        )
    if session is None:  # the session is looked for in the record, too, and is not there
        raise RestError(417, "Specified scan must reference a valid image session.")
    if not site.may(request.user, site.projects[session.project], "edit"):
        raise RestError(403, (_EDIT if known else _CREATE).format(what="sessions"))
    if known and known.xsi_type != kind:
        raise RestError(409, "Specified xsiType differs from existing xsiType")
    fields = fields_of(request.query)
    with site.lock:
        scan = known or Scan(found["scan"], "", xsi_type=kind)
        scan.series_uid = fields.pop("UID", scan.series_uid)
        scan.series_description = fields.pop("series_description", scan.series_description)
        scan.modality = fields.pop("modality", scan.modality)
        scan.fields.update(fields)
        session.scans.setdefault(scan.id, scan)
    return Reply()


def delete_scan(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """The scan's folder goes in any case."""
    session = _known(site, request, found)
    scan = session.scans.get(found["scan"]) if session else None
    if session is None or scan is None:
        raise RestError(404, "Unable to find the specified scan.")
    _nothing_behind(found)
    if not site.may(request.user, site.projects[session.project], "delete"):
        raise RestError(403, "User account doesn't have permission to modify this session.")
    with site.lock:
        del session.scans[scan.id]
    shutil.rmtree(of_scan(site, session, scan).folder, ignore_errors=True)
    return Reply()


# -- catalogues


def refresh_catalog(site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    """``POST /services/refresh/catalog?resource=/archive/...&options=append,delete,checksum``."""
    options = set(request.query.get("options", "").split(","))
    options |= {name for name in ("append", "delete", "checksum", "populateStats") if request.true(name)}
    for uri in [value for key, value in request.pairs if key == "resource"]:
        refresh(site, request, uri, options)
    return Reply()
