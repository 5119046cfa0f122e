"""``POST /data/services/import``: which body forms are taken, and which handler gets what they hold."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.standin.body import BodyCutError
from tests.standin.dicomzip import DicomZip, archive_kind
from tests.standin.importer import store
from tests.standin.multipart import FormError, parts
from tests.standin.namer import below
from tests.standin.tables import Reply, RestError, text
from tests.standin.tarstream import Source

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

__all__ = ["IN_BODY", "archive_kind", "import_service"]

IN_BODY = {
    "application/zip": "upload.zip",
    "application/x-tar": "upload.tar",
    "application/x-gtar": "upload.tar.gz",
    "application/x-gzip": "upload.gzip",
    "application/octet-stream": "upload",
    "application/dicom": "upload.dcm",
    "application/xar": "upload.xar",
    "text/plain": "upload.txt",
    "text/xml": "upload.xml",
    "text/csv": "upload.csv",
    "application/pdf": "upload.pdf",
}
"""Media types that make a body a file, compared with their parameters; multipart is a form."""

HANDLERS = {"SI", "DICOM-zip", "gradual-DICOM", "XAR", "inbox", "automation"}
_FOR_GRADUAL = ("application/dicom", "application/x-mirc", "application/x-mirc-dicom")


@dataclass(frozen=True)
class _Upload:
    """A file that came with the request, under the name that alone decides what it is."""

    name: str
    source: Source


def import_service(site: StandIn, request: Request) -> Reply:
    """Receive one file; 200 with one address per session, each ended by CRLF."""
    try:
        with ExitStack() as stack:
            found = _import(site, request, stack)
    except RestError as error:
        if request.query.get("format", "").lower() != "html":
            raise
        # the price of asking for HTML: errors come with 200
        return text(f"<html><body>ERROR: {error.message}</body></html>", content_type="text/html")
    if _kind(request) == "application/x-mirc":
        return text("OK")
    if request.headers.get("Accept", "").strip() == "text/plain" and len(found) == 1:
        return text(found[0])
    return text("".join(uri + "\r\n" for uri in found), content_type="text/uri-list")


def _kind(request: Request) -> str:
    return (request.content_type or "").strip().lower()


def _import(site: StandIn, request: Request, stack: ExitStack) -> list[str]:
    """Body first, then the query's parameters, of which the last of several values counts; then the handler."""
    params: dict[str, str] = {}
    uploads = _uploads(request, params, stack)
    params |= dict(request.pairs)
    handler = params.pop("import-handler", None)
    if (src := params.pop("src", None)) is not None:
        uploads.append(_cached(site, request, src, stack))
    if params.get("action", "").lower() == "commit":
        params.setdefault("Ignore-Unparsable", "true")
    if params.get("prearchive_code") == "1" and "overwrite" in params:
        raise RestError(400, "Overwrite flag was not set to a valid option. ('append' or 'delete')")
    if not uploads:
        if handler is None:
            raise RestError(500)
        raise RestError(400, "Unable to identify upload format.")
    if len(uploads) > 1:
        raise RestError(400, "Importer is limited to one uploaded resource at a time.")
    if handler is None:
        handler = "gradual-DICOM" if _kind(request) in _FOR_GRADUAL else site.settings.default_importer
    if handler not in HANDLERS:
        raise RestError(404, f"Unknown importer implementation specified: {handler}")
    upload = uploads[0]
    if handler == "DICOM-zip":
        found = DicomZip(site, request.user, params).run(upload.name, upload.source)
    elif handler == "gradual-DICOM":
        found = store(site, request.user, params, upload.name, upload.source)
    else:
        raise RestError(501, f"The stand-in has no {handler} importer yet.")
    return [uri if uri.startswith(("/data", "/xapi/")) else "/data" + uri for uri in found]


def _cached(site: StandIn, request: Request, src: str, stack: ExitStack) -> _Upload:
    """A file that the user put into the cache before; it stays there."""
    found = re.fullmatch("/user/cache/resources/([^/]+)/files/(.+)", src)
    if found is None:
        raise RestError(400, "src uri is invalid.")
    try:
        path = below(site.root / "cache" / request.user.name, "/".join(found.groups()))
    except ValueError:
        raise RestError(404, "Unknown src file.") from None
    if not path.is_file():
        raise RestError(404, "Unknown src file.")
    return _Upload(path.name, stack.enter_context(path.open("rb")))


def _uploads(request: Request, params: dict[str, str], stack: ExitStack) -> list[_Upload]:
    """The files of the request: its body, or the parts of a form that have a file name; fields become parameters."""
    multipart = _kind(request).startswith("multipart/form-data")
    if request.true("inbody") or _kind(request) in IN_BODY:
        if multipart:
            raise RestError(
                406,
                "In-body File posts must include the file directly as the body of the message "
                "(not as part of multi-part form data).",
            )
        return [_in_body(request)]
    return _form(request, params, stack) if multipart else []


def _in_body(request: Request) -> _Upload:
    """The path behind the service names the file, else its media type does."""
    kind = _kind(request)
    size = -1 if request.content_length is None else request.content_length
    if size < 1 and kind != "application/zip":
        if not kind:
            raise RestError(500)
        raise RestError(
            400,
            "In-body File posts must include the file directly as the body of the message. In this case, the "
            f"request entity size is {size} but the media type is not application/zip "
            "(i.e. streaming compressed upload).",
        )
    tail = request.path.partition("/services/import/")[2]
    return _Upload(tail or IN_BODY.get(kind, "upload.unsupported"), request.body)


def _form(request: Request, params: dict[str, str], stack: ExitStack) -> list[_Upload]:
    """A form is read to its end before anything is imported."""
    try:
        found = parts(request.content_type or "", request.body, stack)
    except (FormError, BodyCutError) as error:
        raise RestError(400, str(error)) from error
    uploads = []
    for part in found:
        if part.file_name is not None:
            uploads.append(_Upload(part.file_name.rpartition("\\")[2], part.data))
        elif part.name == "reference":
            raise RestError(400, "multi-part form posts may not be used to upload files via reference.")
        else:
            params[part.name] = part.data.read().decode("utf-8", "replace")
    return uploads
