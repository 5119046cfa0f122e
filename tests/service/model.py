"""A site as the container service sees it: objects with their properties, their URIs and their directories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.service.errors import Unresolvable


@dataclass(frozen=True)
class Resource:
    """A folder of files. ``directory`` is where its catalogue file lies; ``number`` is unique on the site."""

    label: str
    directory: Path
    number: int = 1


@dataclass(frozen=True)
class Scan:
    """One scan of a session."""

    id: str
    type: str = ""
    directory: Path | None = None
    resources: tuple[Resource, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)
    """Further properties under the service's own names: ``series-description``, ``modality``, ``uid`` and so on."""


@dataclass(frozen=True)
class Session:
    """An imaging session; ``id`` is the accession id."""

    id: str
    label: str
    directory: Path | None = None
    scans: tuple[Scan, ...] = ()
    resources: tuple[Resource, ...] = ()
    xsi_type: str = "xnat:mrSessionData"
    visit_id: str | None = None


@dataclass(frozen=True)
class Subject:
    """A subject; ``id`` is the accession id. It has no directory of its own."""

    id: str
    label: str
    sessions: tuple[Session, ...] = ()
    resources: tuple[Resource, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)
    """``group``, ``source``, ``initials``."""


@dataclass(frozen=True)
class Project:
    """A project; ``directory`` is its arc001, in which its own resources do not lie."""

    id: str
    name: str = ""
    directory: Path | None = None
    subjects: tuple[Subject, ...] = ()
    resources: tuple[Resource, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)
    """``running-title``, ``description``, ``keywords``, ``accessibility``."""


Held = Project | Subject | Session | Scan | Resource | Path


@dataclass(frozen=True)
class XnatObject:
    """An object together with the way by which it was reached: its URI depends on that.

    ``owners`` are the objects above it, outermost first, under their own URIs.
    """

    held: Held
    uri: str
    owners: tuple[XnatObject, ...] = ()
    parent_uri: str = ""
    load_children: bool = True

    @property
    def type(self) -> str:
        return "File" if isinstance(self.held, Path) else type(self.held).__name__

    @property
    def label(self) -> str:
        return self.properties().get("label", self.uri)

    @property
    def directory(self) -> Path | None:
        """What a mount shows of it."""
        return self.held if isinstance(self.held, Path) else getattr(self.held, "directory", None)

    def above(self, type_: str) -> XnatObject:
        return next(owner for owner in self.owners if owner.type == type_)

    def properties(self) -> dict[str, str]:
        """The members of the object's JSON that are text; absent ones are left out of it."""
        found = {"type": self.type, "uri": self.uri, **dict(self._own())}
        directory = None if isinstance(self.held, Path) else self.directory
        return found | ({"directory": str(directory)} if directory else {})

    def _own(self) -> Iterator[tuple[str, str]]:
        match self.held:
            case Project(id=id_, name=name, more=more):
                yield from {"id": id_, "label": name or id_, "xsiType": "xnat:projectData", **more}.items()
                if name:
                    yield "title", name
            case Subject(id=id_, label=label, more=more):
                yield from {"id": id_, "label": label, "xsiType": "xnat:subjectData", **more}.items()
                yield "project-id", self._id("Project")
            case Session(id=id_, label=label, xsi_type=xsi_type, visit_id=visit):
                yield from {"id": id_, "label": label, "xsiType": xsi_type}.items()
                yield from {"project-id": self._id("Project"), "subject-id": self._id("Subject")}.items()
                if visit is not None:
                    yield "visit-id", visit
            case Scan(id=id_, type=type_, more=more):
                yield from {"id": id_, "label": f"{id_} - {type_}", "scan-type": type_, **more}.items()
                yield from {"project-id": self._id("Project"), "session-id": self._id("Session")}.items()
            case Resource(label=label, number=number):
                yield from {"id": label, "label": label, "xsiType": "xnat:resourceCatalog"}.items()
                yield from {"integer-id": str(number), "parent-uri": self.parent_uri}.items()
            case Path() as path:
                name = self.uri.split("/files/", 1)[1]
                yield from {"name": name, "label": name, "path": str(path), "size": str(path.stat().st_size)}.items()

    def _id(self, type_: str) -> str:
        return self.above(type_).properties()["id"]

    def children(self, kind: str) -> list[XnatObject]:
        """``resources``, ``subjects``, ``sessions``, ``scans`` or ``files`` below it, in the order of the site."""
        if not self.load_children:
            return []
        if isinstance(self.held, Resource):
            return [XnatObject(path, f"{self.uri}/files/{name}", self.owners) for name, path in _files(self.held)]
        owners = (*self.owners, XnatObject(self.held, _own_uri(self), self.owners))
        words = {"sessions": "experiments"}
        return [
            XnatObject(
                each, f"{self.uri}/{words.get(kind, kind)}/{getattr(each, 'id', '') or each.label}", owners, self.uri
            )
            for each in getattr(self.held, kind, ())
        ]


def _files(resource: Resource) -> Iterator[tuple[str, Path]]:
    """Catalogued files; the catalogue itself is not one of them, though it lies beside them."""
    for path in sorted(resource.directory.rglob("*")):
        if path.is_file() and not path.name.endswith("_catalog.xml"):
            yield path.relative_to(resource.directory).as_posix(), path


def _own_uri(found: XnatObject) -> str:
    """The URI that an object has when nobody says by which way to go: by accession id, without the project."""
    match found.held:
        case Project(id=id_):
            return f"/archive/projects/{id_}"
        case Subject(id=id_):
            return f"/archive/subjects/{id_}"
        case Session(id=id_):
            return f"/archive/experiments/{id_}"
        case Scan(id=id_):
            return f"{found.above('Session').uri}/scans/{id_}"
    return found.uri


@dataclass(frozen=True)
class Site:
    """All that a launch reads: projects, the build directory, uploads of the user, properties of the Java process."""

    build: Path
    projects: tuple[Project, ...] = ()
    cache: Path | None = None
    """Holds ``<time>/<name>`` for what the form uploaded to ``/user/cache/resources/<time>/files/<name>``."""
    properties: Mapping[str, str] = field(default_factory=dict)

    def find(self, type_: str, value: str) -> XnatObject | None:
        """The object that a value names: by URI, or by id; None when there is none of that type.

        A page names its object by the id; a form, once open, posts the URI that was found for it.
        """
        if value.startswith("{") or type_ in ("ProjectAsset", "SubjectAssessor", "Assessor"):
            raise NotImplementedError(f"this model finds no {type_} by {value}")
        found = self._by_uri(value) if value.startswith("/") else self._by_id(type_, value)
        return found if found and found.type == type_ else None

    def all(self) -> Iterator[XnatObject]:
        """Every object above files, under its own URI."""
        level = [XnatObject(project, f"/archive/projects/{project.id}") for project in self.projects]
        while level:
            yield from level
            reached = [each for found in level for each in _below(found)]
            level = [XnatObject(each.held, _own_uri(each), each.owners, each.parent_uri) for each in reached]

    def _by_id(self, type_: str, value: str) -> XnatObject | None:
        """Resources by their number, and then their URI is their catalogue's path; scans not at all."""
        for found in self.all():
            if isinstance(found.held, Resource) and type_ == "Resource" and str(found.held.number) == value:
                catalogue = found.held.directory / f"{found.held.label}_catalog.xml"
                return XnatObject(found.held, str(catalogue), found.owners, found.parent_uri)
            if type_ == found.type != "Scan" and found.properties()["id"] == value:
                return None if type_ == "Resource" else found
        return None

    def _by_uri(self, value: str) -> XnatObject:
        uri = value if value.startswith("/archive") else "/archive" + value
        words = uri.split("/")[2:]
        level = list(self.all())
        found: XnatObject | None = None
        for kind, name in zip(words[::2], words[1::2], strict=False):
            steps = {"projects": "Project", "subjects": "Subject", "experiments": "Session"}
            type_ = steps.get(kind, kind.rstrip("s").capitalize())
            below = [each for each in level if each.type == type_ and (found is None or _is_in(each, found))]
            found = next((each for each in below if name in _names(each, by_label=found is not None)), None)
            if found is None:
                break
        if found is None or len(words) % 2:
            raise Unresolvable(f"no object at {value}")
        # Sessions go by their own URI whatever way was asked; the others keep the one they were asked by.
        kept = found.uri if isinstance(found.held, Session) else uri
        return XnatObject(found.held, kept, found.owners, found.parent_uri)


def _below(found: XnatObject) -> list[XnatObject]:
    kinds = () if isinstance(found.held, Resource) else ("subjects", "sessions", "scans", "resources")
    return [each for kind in kinds for each in found.children(kind)]


def _is_in(found: XnatObject, owner: XnatObject) -> bool:
    """Resources and scans lie right below their owner; a session is found below its project, too."""
    near = found.owners[-1:] if found.type in ("Resource", "Scan") else found.owners
    return any(each.held == owner.held for each in near)


def _names(found: XnatObject, *, by_label: bool) -> set[str]:
    own = found.properties()
    names = {own["id"], own.get("integer-id", own["id"])}
    return names | {own["label"]} if by_label and found.type in ("Subject", "Session") else names
