"""Writing resources and files at every level, and the user's own cache."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus
from xml.sax.saxutils import quoteattr

from tests.standin.catalog import Catalog, Upload, describe, inside
from tests.standin.forms import uploads
from tests.standin.holders import Holder, holder, holders
from tests.standin.model import Resource
from tests.standin.tables import Reply, RestError, as_json, text

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

_NO_PERMISSION = "User account doesn't have permission to modify this session."
_NO_PATHS = (
    "This resource works at the catalog level only and does not accept file paths.  To work with the resource files, "
    "append '/files' after the resource ID."
)


def file_path(request: Request) -> str:
    """What follows ``/files``: as it stands in the address, undone only where a blank or a plus is encoded in it."""
    found = re.search(r"/resources/[^/]+/files/(.*)$", request.raw_path)
    raw = found.group(1) if found else ""
    return unquote_plus(raw) if "%20" in raw or "%2B" in raw else raw


# -- resources


def create(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """``PUT .../resources/L``: an empty resource."""
    _no_path(found)
    at = holder(site, request, found)
    if not site.may(request.user, at.project, at.edits):
        raise RestError(403, _NO_PERMISSION)
    if at.find(found["resource"]) is not None:
        raise RestError(409, "Specified resource already exists.")
    made = at.create(site, found["resource"])
    describe(made, request.query)
    made.directory.mkdir(parents=True, exist_ok=True)
    return Reply()


def _no_path(found: dict[str, str]) -> None:
    if found.get("rest"):
        raise RestError(400, _NO_PATHS)


def show(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """``GET .../resources/L``: the catalogue itself, XML whatever ``format`` says."""
    _no_path(found)
    for at in holders(site, request, found):
        if resource := at.find(found["resource"]):
            return text(_document(resource), content_type="text/xml")
    raise RestError(404, "Unable to find the specified catalog.")


def _document(resource: Resource) -> str:
    entries = "".join(
        f"<cat:entry name={quoteattr(path.name)} URI={quoteattr(name)} "
        f"digest={quoteattr(resource.digests.get(name, ''))}/>"
        for name, path in resource.files.items()
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<cat:Catalog ID={quoteattr(resource.label)} '
        f'xmlns:cat="http://nrg.wustl.edu/catalog"><cat:entries>{entries}</cat:entries></cat:Catalog>\n'
    )


def delete(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """``DELETE .../resources/L``: files too. What does not exist is deleted without a word."""
    _no_path(found)
    at = holder(site, request, found)
    resource = at.find(found["resource"])
    if resource is None:
        return Reply()
    if not site.may(request.user, at.project, "delete"):
        raise RestError(403, _NO_PERMISSION)
    at.drop(site, resource)
    shutil.rmtree(resource.directory, ignore_errors=True)
    return Reply()


# -- files


def put_files(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """``PUT|POST .../resources/L/files/PATH``. Without the right to edit: 200, and nothing is stored."""
    at = holder(site, request, found)
    path = file_path(request)
    if not site.may(request.user, at.project, at.edits):
        return Reply()
    with ExitStack() as stack:
        sent = uploads(request, path, stack)
        if not sent:
            raise _no_data(request)
        if path:
            inside(at.folder, path)
        resource = at.create(site, found["resource"])
        describe(resource, request.query)
        catalog = Catalog(site, resource, overwrite=request.true("overwrite"))
        for one in sent:
            _store(catalog, one, path, extract=request.true("extract"))
    catalog.write(request, path)
    if catalog.duplicates:
        reply = as_json({"duplicates": catalog.duplicates})
        reply.content_type = "text/html"
        return reply
    return text("")


def _store(catalog: Catalog, upload: Upload, path: str, *, extract: bool) -> None:
    try:
        catalog.store(upload, path, extract=extract)
    except ConnectionError:
        raise  # the client or the network: there is nobody to answer
    except OSError as error:
        raise RestError(500, str(error)) from error


def _no_data(request: Request) -> RestError:
    method, size = request.method, request.content_length or 0
    if not size and not request.body.chunked:
        return RestError(
            400,
            f"You tried to {method} to this service, but didn't provide any data (found request entity size of 0). "
            "Please check the format of your service request.",
        )
    return RestError(
        400,
        f"You tried to {method} a payload of {size} B to this service, but didn't provide any data. If you think you "
        f"sent data to upload, you can try to {method} with the query-string parameter inbody=true or use "
        "multipart/form-data encoding.",
    )


def delete_files(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """``DELETE .../files/PATH``: every entry whose path **begins** so, a folder as well as ``a`` and ``ab``."""
    at = holder(site, request, found)
    resource = at.find(found["resource"])
    if resource is None:
        raise RestError(400, "Unable to determine resource, parent, or security.")
    if not site.may(request.user, at.project, "delete"):
        raise RestError(403, _NO_PERMISSION)
    path = file_path(request)
    gone = [name for name in resource.files if name.startswith(path.removesuffix("*"))]
    if not gone:
        if request.true("accept-not-found"):
            return Reply(204, reason="No matched files")
        raise RestError(404, "No matched files")
    with site.lock:
        for name in gone:
            _forget(at, resource, name, keep=request.query.get("removeFiles", "").lower() in ("false", "0"))
        resource.version += 1
    return Reply()


def _forget(at: Holder, resource: Resource, name: str, *, keep: bool) -> None:
    path = resource.files.pop(name)
    resource.digests.pop(name, None)
    resource.sizes.pop(name, None)
    resource.said.pop(name, None)
    at.forget(resource, name)
    if not keep:
        path.unlink(missing_ok=True)


# -- the user's cache


def put_cached(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """``PUT /user/cache/resources/X/files/F``: in-body of any size and length coding, or a form. Replaces."""
    tail = found.get("rest", "")
    if not tail and request.true("inbody"):
        raise RestError(400, "Please use HTTP PUT request to specify a file name in the URL.")
    folder = site.root / "cache" / request.user.name
    with ExitStack() as stack:
        inbody = request.true("inbody")
        sent = [Upload(tail, request.body)] if inbody else uploads(request, tail, stack)
        for one in sent:
            _keep(inside(folder, f"{found['name']}/{tail or one.name}"), one.source.read)
    return Reply(200 if request.method == "PUT" else 201)


def _keep(target: Path, read: Callable[[int], bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        while block := read(1 << 16):
            out.write(block)


def get_cached(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """One cached file; every user has a cache of their own."""
    target = inside(site.root / "cache" / request.user.name, f"{found['name']}/{found.get('rest', '')}")
    if not target.is_file():
        raise RestError(404, "No matching files found.")
    if request.method == "DELETE":
        target.unlink()
        return Reply()
    return Reply(content_type="application/octet-stream", file=target)
