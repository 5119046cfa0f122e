"""Resources and files of what is archived: the listings that prove what is stored, and downloads."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.standin.archiverest import find_session
from tests.standin.holders import Holder, holders, of_scan
from tests.standin.model import DICOM, SECONDARY, Resource
from tests.standin.resourcerest import file_path
from tests.standin.tables import Reply, RestError, Value, table, words

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

_FILE_COLUMNS = words("Name Size URI collection file_tags file_format file_content cat_ID digest")
_RESOURCE_COLUMNS = words(
    "xnat_abstractresource_id label element_name category cat_id cat_desc file_count file_size tags content format"
)

_Kept = tuple[Holder, Resource]


def resources(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """The resources of one object; those of a session's scans with ``all=true``."""
    rows: list[dict[str, Value]] = []
    for at, one in _kept(site, request, found):
        sizes = [size for name, path in one.files.items() if (size := size_of(one, name, path)) is not None]
        rows.append(
            {
                "xnat_abstractresource_id": one.id,
                "label": one.label,
                "element_name": "xnat:resourceCatalog",
                "category": at.category,
                "cat_id": "" if request.true("all") and at.scan is None else at.cat_id,
                "cat_desc": at.cat_desc,
                "file_count": len(sizes),
                "file_size": sum(sizes),
                "tags": ",".join(one.tags),
                "content": one.content,
                "format": one.format,
            }
        )
    return table(_RESOURCE_COLUMNS, rows, title="Resources", query=request.query)


def _kept(site: StandIn, request: Request, found: dict[str, str]) -> list[_Kept]:
    """Every resource an address is about, with what it belongs to."""
    named = holders(site, request, found)
    deep = "assessed" in found and "scan" not in found
    if deep and (request.true("all") or found.get("resource", "").isdigit()):
        session = find_session(site, request, found)
        named = named + [of_scan(site, session, one) for one in list(session.scans.values())]
    return [(at, one) for at in named for one in at.all()]


def files(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """The files of the resources an address names; with a path behind it, one file's bytes or a folder's list.

    A label nobody has gives an empty list, not a 404.
    """
    kept = _kept(site, request, found)
    name = found.get("resource")
    if name is not None:
        kept = [(at, one) for at, one in kept if name in (one.label, str(one.id))]
    path = found.get("rest", "")
    if path and not request.path.endswith("/"):
        return _download(request, kept, [file_path(request), path])
    rows = _rows(site, request, kept, path + "/" if path else "")
    if request.query.get("format") in ("zip", "tar", "tar.gz"):
        return _archive(request, kept, path + "/" if path else "")
    return table(_FILE_COLUMNS, list(rows), title="Files", uri_meta=True, query=request.query)


def _archive(request: Request, kept: Iterable[_Kept], folder: str) -> Reply:
    """All files as one zip, as XNAT lays it out."""
    if request.query["format"] != "zip":
        raise RestError(501, "The stand-in packs zip only.")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for at, one in kept:
            for name, path in _below(request, one, folder):
                if path.exists():
                    archive.write(path, f"{at.label}/resources/{one.label}/files/{name}")
        empty = not archive.infolist()
    if empty:
        raise RestError(404)
    return Reply(body=out.getvalue(), content_type="application/zip")


def _below(request: Request, resource: Resource, folder: str) -> Iterator[tuple[str, Path]]:
    """The catalogued files of a folder, with those of its folders unless ``recursive=false``."""
    flat = request.query.get("recursive", "").lower() in ("false", "0")
    for name, path in list(resource.files.items()):
        if name.startswith(folder) and not (flat and "/" in name.removeprefix(folder)):
            yield name, path


def _rows(site: StandIn, request: Request, kept: list[_Kept], folder: str) -> Iterator[dict[str, Value]]:
    for at, one in kept:
        base = at.inside if len(kept) == 1 else at.base
        for name, path in _below(request, one, folder):
            said = one.said.get(name, {})
            dicom = DICOM if one.label in (DICOM, SECONDARY) and name not in one.said else ""
            yield {
                "Name": path.name,
                "Size": size_of(one, name, path),
                # XNAT encodes what an address cannot carry and leaves the rest as it is
                "URI": f"{base}/resources/{one.id}/files/" + quote(name, safe="/!$&'()*+,;=:@~"),
                "collection": one.label,
                "file_tags": said.get("tags", ""),
                "file_format": said.get("format", dicom),
                "file_content": said.get("content", ""),
                "cat_ID": one.id,
                "digest": digest_of(one, name, path) if site.settings.checksums else "",
            }


def size_of(resource: Resource, name: str, path: Path) -> int | None:
    """The size that the catalogue has, else that of the file; None where neither is there.

    An entry whose file has vanished stays, so a listing is no look at the disk (CatalogUtils.getEntryDetails).
    """
    if name in resource.sizes:
        return resource.sizes[name]
    return path.stat().st_size if path.exists() else None


def digest_of(resource: Resource, name: str, path: Path) -> str:
    """MD5 as the catalogue holds it, read once."""
    if name not in resource.digests:
        md5 = hashlib.md5(usedforsecurity=False)
        if path.exists():
            with path.open("rb") as stored:
                while block := stored.read(1 << 20):
                    md5.update(block)
        resource.digests[name] = md5.hexdigest()
    return resource.digests[name]


def _download(request: Request, kept: Iterable[_Kept], names: Iterable[str]) -> Reply:
    for _, one in kept:
        for name in names:
            path = one.files.get(name)
            if path is not None and path.exists():
                return Reply(content_type="application/octet-stream", file=path)
    if request.true("accept-not-found"):
        return Reply(204, reason="Unable to find file.")
    raise RestError(404, "Unable to find file.")
