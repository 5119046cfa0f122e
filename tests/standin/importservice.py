"""``POST /data/services/import``: which body forms are taken, and the DICOM-zip handler for tar bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.standin import closing
from tests.standin.body import BodyCutError
from tests.standin.importer import store
from tests.standin.model import User
from tests.standin.tables import Reply, RestError, text
from tests.standin.tarstream import ArchiveError, Gunzip, Source, entries

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

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


def import_service(site: StandIn, request: Request) -> Reply:
    """Receive one archive; 200 with one address per session, each ended by CRLF."""
    params = dict(request.query)
    handler = params.pop("import-handler", None)
    try:
        name = _file_name(request)
        if params.get("action", "").lower() == "commit":
            params.setdefault("Ignore-Unparsable", "true")
        found = _import(site, request, handler, name, params)
    except RestError as error:
        if request.query.get("format", "").lower() != "html":
            raise
        # the price of asking for HTML: errors come with 200
        return text(f"<html><body>ERROR: {error.message}</body></html>", content_type="text/html")
    if request.headers.get("Accept", "").strip() == "text/plain" and len(found) == 1:
        return text(found[0])
    return text("".join(uri + "\r\n" for uri in found), content_type="text/uri-list")


def _file_name(request: Request) -> str | None:
    """The name that alone decides the archive's type, or None when the request carries no file."""
    kind = (request.content_type or "").strip()
    concrete = IN_BODY.get(kind.lower())
    multipart = kind.lower().startswith("multipart/")
    if request.true("inbody") and multipart:
        raise RestError(
            406,
            "In-body File posts must include the file directly as the body of the message "
            "(not as part of multi-part form data).",
        )
    if multipart or "src" in request.query:
        raise RestError(501, "The stand-in takes no multipart or cached uploads yet.")
    if not request.true("inbody") and concrete is None:
        return None
    size = -1 if request.content_length is None else request.content_length
    if size < 1 and kind.lower() != "application/zip":
        if not kind:
            raise RestError(500)
        raise RestError(
            400,
            "In-body File posts must include the file directly as the body of the message. In this case, the "
            f"request entity size is {size} but the media type is not application/zip "
            "(i.e. streaming compressed upload).",
        )
    tail = request.path.partition("/services/import/")[2]
    return tail or concrete or "upload.unsupported"


def _import(
    site: StandIn, request: Request, handler: str | None, name: str | None, params: dict[str, str]
) -> list[str]:
    if name is None:
        if handler is None:
            raise RestError(500)
        raise RestError(400, "Unable to identify upload format.")
    if params.get("prearchive_code") == "1" and "overwrite" in params:
        raise RestError(400, "Overwrite flag was not set to a valid option. ('append' or 'delete')")
    if handler is None:
        dicom = (request.content_type or "").lower() in ("application/dicom", "application/x-mirc")
        handler = "gradual-DICOM" if dicom else site.settings.default_importer
    if handler not in HANDLERS:
        raise RestError(404, f"Unknown importer implementation specified: {handler}")
    if handler != "DICOM-zip":
        raise RestError(501, f"The stand-in has no {handler} importer yet.")
    if params.get("Direct-Archive", "").lower() == "true":
        raise RestError(501, "The stand-in has no direct archive yet.")
    return DicomZip(site, request.user, params).run(name, request.body)


class DicomZip:
    """The handler for archives; entries are stored one by one and nothing is rolled back."""

    def __init__(self, site: StandIn, user: User, params: dict[str, str]) -> None:
        self._site = site
        self._user = user
        self._params = params
        self._ignore = params.get("Ignore-Unparsable", "").lower() == "true"
        self._unparsable: RestError | None = None
        self._found: dict[str, None] = {}

    def run(self, name: str, body: Source) -> list[str]:
        self._destination()
        for outer, inner in (("project", "PROJECT_ID"), ("subject", "SUBJECT_ID"), ("session", "EXPT_LABEL")):
            if outer in self._params:
                self._params[inner] = self._params[outer]
        try:
            self._archive(name, body)
        except (ArchiveError, BodyCutError) as error:
            raise RestError(400, "unable to read data from file") from error
        if not self._found and self._unparsable:
            raise self._unparsable
        if self._params.get("action") == "commit":
            return closing.inline(self._site, self._user, self._params, list(self._found))
        return ["/data" + uri for uri in self._found]

    def _destination(self) -> None:
        """``dest`` forces the commit and decides about archiving."""
        dest = self._params.get("dest")
        if not dest:
            return
        parts = [part for part in dest.split("/") if part]
        if parts and parts[0] in ("data", "REST"):
            parts = parts[1:]
        if not parts or parts[0] not in ("archive", "prearchive") or (len(parts) > 1 and parts[1] != "projects"):
            raise RestError(400, "Parameter dest format error")
        archive = parts[0] == "archive"
        self._params |= {"action": "commit", "AA": str(archive).lower(), "auto-archive": str(archive).lower()}
        if archive:
            named = dict(zip(parts[1::2], parts[2::2], strict=False))
            words = {"projects": "PROJECT_ID", "subjects": "SUBJECT_ID", "experiments": "EXPT_LABEL"}
            self._params |= {words[key]: value for key, value in named.items() if key in words}
        else:
            words_in_order = ("PROJECT_ID", "PREARC_TIMESTAMP", "PREARC_SESSION_FOLDER")
            self._params |= dict(zip(words_in_order, parts[2:], strict=False))

    def _archive(self, name: str, source: Source) -> None:
        kind = archive_kind(name)
        if kind == "ZIP":
            raise RestError(501, "The stand-in reads no zip archives yet.")
        if kind not in ("TAR", "TGZ"):
            raise RestError(400, f"Unsupported format {kind}")
        for entry in entries(Gunzip(source) if kind == "TGZ" else source):
            if entry.kind == b"5" or entry.name.endswith("/"):
                continue
            try:
                if archive_kind(entry.name) != "UNKNOWN":
                    self._archive(entry.name, entry.member)
                else:
                    self._found |= dict.fromkeys(store(self._site, self._user, self._params, entry.name, entry.member))
            except RestError as error:
                if not self._ignore or error.status == 501:
                    raise
                self._unparsable = error


def archive_kind(name: str) -> str:
    """The type by suffix, which is case-sensitive; the content is never looked at."""
    if name.endswith((".zip", ".zar")):
        return "ZIP"
    if name.endswith((".tar", ".xar")):
        return "TAR"
    if name.endswith((".tgz", ".tar.gz")):
        return "TGZ"
    return "GZ" if name.endswith(".gz") else "UNKNOWN"
