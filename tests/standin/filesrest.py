"""Resources and files of archived sessions: the listings that prove what is stored, and downloads."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.standin.archiverest import find_session
from tests.standin.model import ArchivedSession, Scan
from tests.standin.tables import Reply, RestError, Value, table, words

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

_FILE_COLUMNS = words("Name Size URI collection file_tags file_format file_content cat_ID digest")
_RESOURCE_COLUMNS = words(
    "xnat_abstractresource_id label element_name category cat_id cat_desc file_count file_size tags content format"
)


def _selected(session: ArchivedSession, wanted: str) -> list[Scan]:
    """``ALL`` and ``*`` are every scan; else ids or types, several with commas."""
    if wanted in ("ALL", "*"):
        return list(session.scans.values())
    names = wanted.split(",")
    return [one for one in session.scans.values() if one.id in names or one.series_description in names]


def resources(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """Scan resources below a scan or with ``all=true``; session-level ones do not exist here."""
    session = find_session(site, request, found)
    scans: Iterable[Scan] = ()
    if "scan" in found:
        scans = _selected(session, found["scan"])
    elif request.true("all"):
        scans = session.scans.values()
    rows: list[dict[str, Value]] = []
    for one in scans:
        present = [path for path in one.files.values() if path.exists()]
        rows.append(
            {
                "xnat_abstractresource_id": one.resource_id,
                "label": "DICOM",
                "element_name": "xnat:resourceCatalog",
                "category": "scans",
                "cat_id": one.id,
                "cat_desc": one.series_description,
                "file_count": len(present),
                "file_size": sum(path.stat().st_size for path in present),
                "content": "RAW",
                "format": "DICOM",
            }
        )
    return table(_RESOURCE_COLUMNS, rows, title="Resources", query=request.query)


def files(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """The files of one resource, one scan or all scans; with a path behind it, one file's bytes."""
    session = find_session(site, request, found)
    name = found.get("resource")
    scans = _selected(session, found["scan"]) if "scan" in found else []
    if "scan" not in found and (name or request.true("all")):
        scans = list(session.scans.values()) if request.true("all") else _by_number(session, name)
    if name and "scan" in found:
        scans = [one for one in scans if name in ("DICOM", str(one.resource_id))]
        if not scans:
            raise RestError(404, "Unable to find the specified catalog.")
    if rest := found.get("rest"):
        return _download(request, scans, rest)
    if request.query.get("format") in ("zip", "tar", "tar.gz"):
        return _archive(request, session, scans)
    rows = list(_rows(site, session, scans))
    return table(_FILE_COLUMNS, rows, title="Files", uri_meta=True, query=request.query)


def _archive(request: Request, session: ArchivedSession, scans: Iterable[Scan]) -> Reply:
    """All files as one zip, as XNAT lays it out."""
    if request.query["format"] != "zip":
        raise RestError(501, "The stand-in packs zip only.")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for one in scans:
            folder = f"{session.label}/scans/{one.id}-{one.series_description}/resources/DICOM/files/"
            for name, path in one.files.items():
                if path.exists():
                    archive.write(path, folder + name)
    return Reply(body=out.getvalue(), content_type="application/zip")


def _by_number(session: ArchivedSession, name: str | None) -> list[Scan]:
    return [one for one in session.scans.values() if str(one.resource_id) == name]


def _rows(site: StandIn, session: ArchivedSession, scans: Iterable[Scan]) -> Iterator[dict[str, Value]]:
    for one in scans:
        base = f"/data/experiments/{session.accession}/scans/{one.id}/resources/{one.resource_id}/files/"
        for name, path in list(one.files.items()):
            yield {
                "Name": path.name,
                "Size": path.stat().st_size if path.exists() else 0,
                # XNAT encodes what an address cannot carry and leaves the rest as it is
                "URI": base + quote(name, safe="/!$&'()*+,;=:@~"),
                "collection": "DICOM",
                "file_tags": "",
                "file_format": "DICOM",
                "file_content": "",
                "cat_ID": one.resource_id,
                "digest": _digest(one, name, path) if site.settings.checksums else "",
            }


def _digest(scan: Scan, name: str, path: Path) -> str:
    """MD5 as the catalogue holds it, read once."""
    if name not in scan.digests:
        md5 = hashlib.md5(usedforsecurity=False)
        if path.exists():
            with path.open("rb") as stored:
                while block := stored.read(1 << 20):
                    md5.update(block)
        scan.digests[name] = md5.hexdigest()
    return scan.digests[name]


def _download(request: Request, scans: Iterable[Scan], name: str) -> Reply:
    for one in scans:
        path = one.files.get(name)
        if path is not None and path.exists():
            return Reply(content_type="application/octet-stream", file=path)
    if request.true("accept-not-found"):
        return Reply(204, reason="Unable to find file.")
    raise RestError(404, "Unable to find file.")
