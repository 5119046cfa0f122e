"""The archive's resources: subjects, experiments and scans, as lists with columns and as items."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.standin.columns import ROOTS, SHORTCUTS, column, columns_of, is_a, matches, root_of
from tests.standin.model import DICOM, SECONDARY, ArchivedSession, Details, Project, Scan
from tests.standin.projectrest import NOT_FOUND, visible_project
from tests.standin.tables import Reply, RestError, Value, item, items, table

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:21]


# -- subjects


def subjects(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    project = visible_project(site, request, found["project"], f"Unable to identify project {found['project']}")
    rows = []
    for label, accession in list(project.subjects.items()):
        details = project.details.get(accession) or Details(inserted=0)
        row: dict[str, Value] = {
            "ID": accession,
            "project": project.id,
            "label": label,
            "insert_date": _stamp(details.inserted),
            "insert_user": details.insert_user,
            "URI": f"/data/subjects/{accession}",
            **details.fields,
        }
        if matches(row, request.query):
            rows.append(row)
    columns = columns_of(request, "ID project label insert_date insert_user")
    return table([*columns, "URI"], rows, query=request.query)


def subject(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    project = visible_project(site, request, found["project"], f"Unable to identify project {found['project']}")
    name = found["subject"]
    label = subject_label(project, name)
    if label is None:
        raise RestError(
            404,
            f"Unable to find the specified subject. The project {project.id} does not contain a subject "
            f"identifiable by the ID or label {name}.",
        )
    fields: dict[str, Value] = {"ID": project.subjects[label], "project": project.id, "label": label}
    kept = project.details.get(project.subjects[label]) or Details()
    told = dict(kept.fields)
    demographics = {"gender": told.pop("gender", None)}
    children = {
        "experiments/experiment": [_item(site, one) for one in project.sessions.values() if one.subject == label],
        "demographics": [item("xnat:demographicData", demographics, {})] if demographics["gender"] else [],
    }
    return items(request.query, item("xnat:subjectData", fields | told, children))


def any_subject(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """A subject by its accession id, in whichever readable project it is."""
    for one in site.projects.values():
        if found["subject"] in one.subjects.values() and site.may(request.user, one, "read"):
            return subject(site, request, {**found, "project": one.id})
    raise RestError(404, "Unable to find the specified subject.")


def subject_label(project: Project, name: str) -> str | None:
    """By label, case and all, or by accession id: reading is stricter than archiving."""
    if name in project.subjects:
        return name
    return next((label for label, accession in project.subjects.items() if accession == name), None)


# -- experiments


def _experiment_row(site: StandIn, session: ArchivedSession) -> dict[str, Value]:
    return {
        "ID": session.accession,
        "project": session.project,
        "date": session.date,
        "xsiType": session.xsi_type,
        "label": session.label,
        "insert_date": _stamp(session.inserted),
        "insert_user": session.insert_user,
        "subject_ID": site.subject_id(session),
        "subject_label": session.subject,
        "subject_project": session.project,
        "session_ID": session.accession,
        "session_label": session.label,
        "session_project": session.project,
        "UID": session.study_uid,
        "modality": session.modality,
        "URI": f"/data/experiments/{session.accession}",
        **session.fields,
    }


def experiments(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """A project's or a subject's experiments. Those shared into it have their home's label, and its id as project."""
    project = visible_project(site, request, found["project"], f"Unable to identify project {found['project']}")
    sessions = list(project.sessions.values()) + [site.home(project, label) for label in project.shared]
    if "subject" in found:
        label = subject_label(project, found["subject"])
        if label is None:
            raise RestError(404, f"Unable to identify subject {found['subject']}")
        sessions = [one for one in sessions if one.subject == label]
    return _experiment_table(site, request, sessions, "xnat:subjectassessordata", None)


def all_experiments(site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    """Every experiment the user can read."""
    readable = [one for one in site.projects.values() if site.may(request.user, one, "read")]
    sessions = [session for project in readable for session in project.sessions.values()]
    return _experiment_table(site, request, sessions, "xnat:experimentdata", "Matching experiments")


def _experiment_table(
    site: StandIn, request: Request, sessions: Iterable[ArchivedSession], root: str, title: str | None
) -> Reply:
    """Columns and filters are shortcuts or XML paths; the most special type among them limits the list to it.

    The key of that type comes along under its own name, and unknown shortcuts give no column. Sessions of a type that
    is not set up on the site are archived all the same and appear in no listing (QueryOrganizer joins the rows with the
    types that the user's groups may read).
    """
    root = root_of(root, request.query)
    asked = columns_of(request, "ID project date xsiType label insert_date")
    if "columns" not in request.query and title and ROOTS.get(root, 3) > 0:
        asked += ["subject_ID", "subject_label"]
    key = SHORTCUTS.get(f"{root}/id", f"{root}/id")
    columns = list(dict.fromkeys([key] * (key != "ID") + [name for one in asked if (name := column(one))]))
    rows = []
    for session in sessions:
        row = _experiment_row(site, session)
        if session.xsi_type not in site.settings.set_up_types:
            continue
        if is_a(session.xsi_type, root) and matches(row, request.query):
            row[key] = session.accession
            rows.append(row)
    return table([*columns, "URI"], rows, title=title, query=request.query)


def find_session(site: StandIn, request: Request, found: dict[str, str], message: str = NOT_FOUND) -> ArchivedSession:
    """The session an address names: accession id anywhere, label only below its project."""
    name = found["assessed"]
    project = None
    if "project" in found:
        project = site.readable(request.user, found["project"])
        if project is None:
            raise RestError(404, message)
    for one in [project] if project else site.projects.values():
        if not site.may(request.user, one, "read"):
            continue
        for session in list(one.sessions.values()):
            if session.accession == name or (project and session.label == name):
                return session
        for label in one.shared:
            session = site.home(one, label)
            if session.accession == name or (project and label == name):
                return session
    raise RestError(404, message)


def experiment(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    session = find_session(site, request, found)
    return items(request.query, _item(site, session))


def _item(site: StandIn, session: ArchivedSession) -> dict[str, Any]:
    fields: dict[str, Value] = {
        "ID": session.accession,
        "id": session.accession,
        "project": session.project,
        "label": session.label,
        "subject_ID": site.subject_id(session),
        "UID": session.study_uid,
        "modality": session.modality,
        "date": session.date,
        "prearchivePath": "",
        **session.fields,
    }
    shares = [
        item("xnat:experimentData_share", {"project": project.id, "label": label}, {})
        for project in site.projects.values()
        for label, home in project.shared.items()
        if home == (session.project, session.label)
    ]
    scans = [_scan_item(session, one) for one in session.scans.values()]
    children = {"scans/scan": scans} | ({"sharing/share": shares} if shares else {})
    return item(session.xsi_type, fields, children)


def elements(site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    """The data types that are set up on the site (SearchElementListResource)."""
    names = ("xnat:projectData", "xnat:subjectData", *site.settings.set_up_types)
    rows: list[dict[str, Value]] = [{"ELEMENT_NAME": name, "SINGULAR": name, "SECURED": True} for name in names]
    return table(["ELEMENT_NAME", "SINGULAR", "SECURED"], rows, query=request.query)


# -- scans


def _scan_item(session: ArchivedSession, scan: Scan) -> dict[str, Any]:
    fields: dict[str, Value] = {
        "ID": scan.id,
        "UID": scan.series_uid,
        "type": scan.series_description,
        "series_description": scan.series_description,
        "modality": scan.modality,
        "quality": "usable",
        "image_session_ID": session.accession,
        "frames": len(scan.files),
        **scan.fields,
    }
    kept = [(label, one) for label in (DICOM, SECONDARY) if (one := scan.labelled(label)) and one.resource_id]
    catalogs: list[dict[str, Value]] = [
        {
            "label": label,
            "format": "DICOM",
            "content": "RAW" if label == DICOM else label,
            "file_count": len(one.files),
            "xnat_abstractresource_id": one.resource_id,
            "URI": f"SCANS/{scan.id}/{label}/scan_{scan.id}{'' if label == DICOM else '_' + label}_catalog.xml",
        }
        for label, one in kept
    ]
    return item(scan.xsi_type, fields, {"file": [item("xnat:resourceCatalog", one, {}) for one in catalogs]})


def scans(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    session = find_session(site, request, found, "Unable to find the specified image session.")
    columns = [
        one.rsplit("/", 1)[-1]  # a path of the scan type is shown under its shortcut
        for one in columns_of(request, "xnat_imagescandata_id ID type quality xsiType note series_description")
    ]
    rows = []
    for number, one in enumerate(session.scans.values(), start=1):
        row: dict[str, Value] = {
            "xnat_imagescandata_id": one.resource_id or number,
            "ID": one.id,
            "type": one.series_description,
            "quality": "usable",
            "xsiType": one.xsi_type,
            "series_description": one.series_description,
            "UID": one.series_uid,
            "modality": one.modality,
            "frames": len(one.files),
            **one.fields,
        }
        uri = f"/data/experiments/{session.accession}/scans/{one.id}"
        rows.append(row | {"URI": uri})
    return table([*columns, "URI"], rows, query=request.query)


def scan(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    session = find_session(site, request, found, "Unable to find the specified image session.")
    wanted = session.scans.get(found["scan"])
    if wanted is None:
        raise RestError(404, "Unable to find the specified scan.")
    return items(request.query, _scan_item(session, wanted))
