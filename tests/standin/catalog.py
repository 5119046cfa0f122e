"""Putting files into a resource: the catalogue is read first, the files are written, then the catalogue is.

Nothing is locked between reading and writing. Who finds that another wrote the catalogue meanwhile gets an error; the
files of the loser are on disk and in no catalogue.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tests.standin import tarstream, zipstream
from tests.standin.importservice import archive_kind
from tests.standin.model import Resource, Written
from tests.standin.tables import RestError
from tests.standin.tarstream import ArchiveError, Gunzip, Source

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

_BLOCK = 1 << 16
_KEPT = ("format", "content", "tags", "description")


@dataclass(frozen=True)
class Upload:
    """One file of a request."""

    name: str
    source: Source


class Catalog:
    """A resource's catalogue as one request sees it."""

    def __init__(self, site: StandIn, resource: Resource, *, overwrite: bool) -> None:
        self._site = site
        self._resource = resource
        self._overwrite = overwrite
        self._read = resource.version
        self._added: dict[str, str] = {}
        self.duplicates: list[str] = []

    def store(self, upload: Upload, path: str, *, extract: bool) -> None:
        """One file, or the members of an archive: those go to the resource's root, whatever the path is."""
        kind = archive_kind(upload.name)
        if not extract or kind == "UNKNOWN":
            self._save(upload.source, path or upload.name, may_hide=False)
        elif kind == "GZ":
            self._save(Gunzip(upload.source), upload.name.removesuffix(".gz"))
        else:
            for name, member in _members(upload.source, kind):
                self._save(member, name)

    def _save(self, source: Source, path: str, *, may_hide: bool = True) -> None:
        target = inside(self._resource.directory, path)
        hidden = path.endswith("_catalog.xml")
        if hidden and not may_hide and target.is_file():
            raise RestError(500, f"XNAT cannot catalog {target.name}")
        if target.exists() and not self._overwrite:
            self.duplicates.append(path)  # what is on disk counts, catalogued or not
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.md5(usedforsecurity=False)
        with target.open("wb") as out:
            for block in self._site.faults.stored(target, _blocks(source)):
                digest.update(block)
                out.write(block)
        self._site.faults.after_file(target)
        if not (hidden and may_hide):
            self._added[path] = digest.hexdigest()

    def write(self, request: Request, path: str) -> None:
        """Refused when another request wrote since this one read. One that changes nothing is like none."""
        if self._site.settings.catalog_window:
            time.sleep(self._site.settings.catalog_window)
        resource = self._resource
        with self._site.lock:
            if resource.version != self._read:
                catalog = resource.directory / f"{resource.label}_catalog.xml"
                raise RestError(
                    500,
                    f"Another thread or process modified {catalog} since I last read it or I don't have a previous "
                    "checksum to compare. To avoid overwriting changes, I'm throwing an exception.",
                )
            said = {key: request.query[key] for key in _KEPT if request.query.get(key)}
            for added, digest in self._added.items():
                resource.files[added] = resource.directory / added
                resource.digests[added] = digest if self._site.settings.checksums else ""
                resource.sizes.pop(added, None)
                resource.said[added] = resource.said.get(added, {}) | said
            resource.version += bool(self._added)
            if self._added:
                resource.written.append(Written(path, request.user.name, dict(request.query)))


def describe(resource: Resource, query: Mapping[str, str]) -> None:
    """The resource's own format, content, tags and description: every write may set them."""
    resource.format = query.get("format") or resource.format
    resource.content = query.get("content") or resource.content
    resource.description = query.get("description") or resource.description
    resource.tags += [tag for tag in query.get("tags", "").split(",") if tag]


def inside(folder: Path, path: str) -> Path:
    """A path below a folder; one that leaves it is refused."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if ".." in parts or path.startswith("/") or not parts:
        raise RestError(400, f"Illegal file path: {path}")
    return folder.joinpath(*parts)


def _blocks(source: Source) -> Iterator[bytes]:
    while block := source.read(_BLOCK):
        yield block


def _members(source: Source, kind: str) -> Iterator[tuple[str, Source]]:
    """The files of an archive with their whole paths."""
    try:
        if kind == "ZIP":
            for name, member in zipstream.entries(source):
                if not name.endswith("/"):
                    yield name, member
            return
        for entry in tarstream.entries(Gunzip(source) if kind == "TGZ" else source):
            if entry.kind != b"5" and not entry.name.endswith("/"):
                yield entry.name.removeprefix("./"), entry.member
    except (ArchiveError, tarstream.TruncatedEntryError, zipstream.MalformedNameError) as error:
        raise RestError(500, str(error)) from error
