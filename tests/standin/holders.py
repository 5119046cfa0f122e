"""What has resources: a project, a subject, a session or a scan, as an address names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.standin.archiverest import find_session, subject_label
from tests.standin.model import DICOM, SECONDARY, ArchivedSession, Details, Project, Resource, Scan
from tests.standin.tables import RestError

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn


@dataclass(frozen=True)
class Holder:
    """One object with its resources."""

    project: Project
    own: dict[str, Resource]
    folder: Path
    """Where the folders of its resources are."""
    base: str
    """What the addresses of its resources begin with when they are listed with others."""
    inside: str
    """The same when one resource is asked for by an address that names project and subject."""
    label: str
    """What a zip calls it."""
    edits: str = "edit"
    """The level that writing needs: members of a project may not edit the project itself, owners may."""
    category: str = "resources"
    cat_id: str = ""
    cat_desc: str = " "
    scan: Scan | None = None

    def all(self) -> list[Resource]:
        """Its resources; of a scan, those of archiving first."""
        self.built()
        return list(self.own.values())

    def built(self) -> None:
        """Make what archiving left in a scan its resources, with the same catalogues."""
        if self.scan is None:
            return
        for label, content in ((DICOM, "RAW"), (SECONDARY, SECONDARY)):
            kept = self.scan.labelled(label)
            if kept is not None and kept.resource_id and label not in self.own:
                made = Resource(kept.resource_id, label, self.folder / label, DICOM, content)
                made.files, made.digests, made.sizes = kept.files, kept.digests, kept.sizes
                self.own[label] = made

    def find(self, name: str) -> Resource | None:
        """By label or by number."""
        return next((one for one in self.all() if name in (one.label, str(one.id))), None)

    def create(self, site: StandIn, label: str) -> Resource:
        """The resource of this label, made if need be."""
        with site.lock:
            found = self.find(label)
            if found is None:
                found = Resource(site.numbers.next("resource"), label, self.folder / label)
                kept = self.scan.labelled(label) if self.scan is not None else None
                if kept is not None:
                    kept.resource_id = found.id
                    found.files, found.digests, found.sizes = kept.files, kept.digests, kept.sizes
                self.own[label] = found
            return found

    def drop(self, site: StandIn, resource: Resource) -> None:
        with site.lock:
            self.own.pop(resource.label, None)
            kept = self.scan.labelled(resource.label) if self.scan is not None else None
            if kept is not None:
                kept.resource_id = 0
                for listing in (kept.files, kept.uids, kept.digests, kept.sizes):
                    listing.clear()

    def forget(self, resource: Resource, name: str) -> None:
        """An entry has left a catalogue: the scan forgets whose object it was."""
        kept = self.scan.labelled(resource.label) if self.scan is not None else None
        if kept is not None:
            kept.uids.pop(name, None)


def of_project(site: StandIn, project: Project) -> Holder:
    base = f"/data/projects/{project.id}"
    folder = site.archive_root / project.id / "resources"
    return Holder(project, project.resources, folder, base, base, project.id, edits="delete")


def of_subject(site: StandIn, project: Project, label: str) -> Holder:
    accession = project.subjects[label]
    base = f"/data/projects/{project.id}/subjects/{accession}"
    folder = site.archive_root / project.id / "subjects" / label
    details = project.details.setdefault(accession, Details())
    return Holder(project, details.resources, folder, base, base, label)


def of_session(site: StandIn, session: ArchivedSession, inside: str = "/data") -> Holder:
    project = site.projects[session.project]
    tail = f"/experiments/{session.accession}"
    folder = session.directory / "RESOURCES"
    return Holder(
        project,
        session.resources,
        folder,
        "/data" + tail,
        inside + tail,
        session.label,
        cat_id=session.accession,
    )


def of_scan(site: StandIn, session: ArchivedSession, scan: Scan, inside: str = "/data") -> Holder:
    project = site.projects[session.project]
    tail = f"/experiments/{session.accession}/scans/{scan.id}"
    return Holder(
        project,
        scan.resources,
        session.directory / "SCANS" / scan.id,
        "/data" + tail,
        inside + tail,
        f"{session.label}/scans/{scan.id}-{scan.series_description}",
        category="scans",
        cat_id=scan.id,
        cat_desc=scan.series_description,
        scan=scan,
    )


def selected(session: ArchivedSession, wanted: str) -> list[Scan]:
    """``ALL`` and ``*`` are every scan; else ids or types, several with commas."""
    if wanted in ("ALL", "*"):
        return list(session.scans.values())
    names = wanted.split(",")
    return [one for one in session.scans.values() if one.id in names or one.series_description in names]


def holders(site: StandIn, request: Request, found: dict[str, str]) -> list[Holder]:
    """Everything an address names: one object, or several scans."""
    if "assessed" in found:
        session = find_session(site, request, found)
        inside = "/data"
        if "project" in found and "subject" in found:
            project = site.projects[session.project]
            inside += f"/projects/{project.id}/subjects/{site.subject_id(session)}"
        if "scan" in found:
            return [of_scan(site, session, one, inside) for one in selected(session, found["scan"])]
        return [of_session(site, session, inside)]
    if "subject" in found:
        return [of_subject(site, *_subject(site, request, found))]
    project_found = site.readable(request.user, found["project"])
    if project_found is None:
        raise RestError(404, "Unable to identify project")
    return [of_project(site, project_found)]


def _subject(site: StandIn, request: Request, found: dict[str, str]) -> tuple[Project, str]:
    """The subject: by accession id anywhere, by label only below its project."""
    if "project" in found:
        project = site.readable(request.user, found["project"])
        if project is None:
            raise RestError(404, "Unable to identify project")
        label = subject_label(project, found["subject"])
        if label is not None:
            return project, label
    else:
        for one in site.projects.values():
            for label, accession in one.subjects.items():
                if accession == found["subject"] and site.may(request.user, one, "read"):
                    return one, label
    raise RestError(404, "Unable to identify subject")


def holder(site: StandIn, request: Request, found: dict[str, str]) -> Holder:
    """The one object that a writing address names, with the words of a write for what is missing."""
    if "project" in found and site.readable(request.user, found["project"]) is None:
        raise RestError(404, "Unable to identify project")
    if "assessed" in found:
        if "project" in found and "subject" in found:
            _subject(site, request, found)
        what = "image session" if "scan" in found else "experiment"
        find_session(site, request, found, f"Unable to identify {what}")
    named = holders(site, request, found)
    if len(named) != 1:
        raise RestError(404, "Unable to identify scan")
    return named[0]
