"""Bringing a catalogue in line with the disk, as ``services/refresh/catalog`` does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.standin.archiverest import find_session
from tests.standin.filesrest import digest_of
from tests.standin.holders import Holder, holders, of_scan
from tests.standin.model import Resource
from tests.standin.tables import RestError

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

_WORDS = {
    "projects": "project",
    "subjects": "subject",
    "experiments": "assessed",
    "scans": "scan",
    "resources": "resource",
}


def refresh(site: StandIn, request: Request, uri: str, options: set[str]) -> None:
    """All resources below an address, those of a session's scans too; editors only.

    ``append`` takes in what is on disk, ``delete`` drops entries without a file, ``checksum`` reads the files anew.
    Sizes are in the catalogue afterwards.
    """
    for at, resource in _below(site, request, uri):
        with site.lock:
            if "append" in options:
                _append(resource)
            if "delete" in options:
                _delete(at, resource)
            if "checksum" in options:
                resource.digests.clear()
            for name, path in resource.files.items():
                digest_of(resource, name, path)
                if path.exists():
                    resource.sizes[name] = path.stat().st_size
            resource.version += 1


def _below(site: StandIn, request: Request, uri: str) -> list[tuple[Holder, Resource]]:
    parts = re.fullmatch(r"(?:/data)?/archive/(.+?)/?", uri)
    words = parts.group(1).split("/") if parts else []
    if not words or len(words) % 2 or any(one not in _WORDS for one in words[::2]):
        raise RestError(400, f"Malformed URI: {uri}")
    found = {_WORDS[key]: value for key, value in zip(words[::2], words[1::2], strict=True)}
    try:
        named = holders(site, request, found)
    except RestError as error:
        raise RestError(400, f"Cannot locate archivable item securing {uri}") from error
    for at in named:
        if not site.may(request.user, at.project, at.edits):
            raise RestError(
                403,
                f"The user {request.user.name} does not have permission to edit the resource {uri} for item "
                f"{at.cat_id or at.label}.",
            )
    if "assessed" in found and "scan" not in found:
        session = find_session(site, request, found)
        named = named + [of_scan(site, session, scan) for scan in session.scans.values()]
    wanted = found.get("resource")
    return [(at, one) for at in named for one in at.all() if wanted in (None, one.label, str(one.id))]


def _append(resource: Resource) -> None:
    for path in sorted(resource.directory.rglob("*")):
        name = path.relative_to(resource.directory).as_posix()
        if path.is_file() and not name.endswith("_catalog.xml"):
            resource.files.setdefault(name, path)


def _delete(at: Holder, resource: Resource) -> None:
    for name in [name for name, path in resource.files.items() if not path.exists()]:
        del resource.files[name]
        resource.digests.pop(name, None)
        resource.sizes.pop(name, None)
        resource.said.pop(name, None)
        at.forget(resource, name)
