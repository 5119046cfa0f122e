"""The files of a request: the body itself, or the file parts of a form."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.standin.catalog import Upload
from tests.standin.importservice import IN_BODY
from tests.standin.multipart import FormError, parts
from tests.standin.tables import RestError

if TYPE_CHECKING:
    from tests.standin.body import Request

_IN_BODY = "In-body File posts must include the file directly as the body of the message"


def uploads(request: Request, path: str, stack: ExitStack) -> list[Upload]:
    """What was sent; empty when nothing of it is a file. The errors of an upload are the server's own here, 500."""
    kind = (request.content_type or "").strip()
    multipart = kind.lower().startswith("multipart/form-data")
    if request.true("inbody") or kind.lower() in IN_BODY:
        if multipart:
            raise RestError(406, f"{_IN_BODY} (not as part of multi-part form data).")
        size = -1 if request.content_length is None else request.content_length
        if size < 1 and not kind:
            raise RestError(500)
        if size < 1 and kind.lower() != "application/zip":
            raise RestError(
                500,
                f"{_IN_BODY}. In this case, the request entity size is {size} but the media type is not "
                "application/zip (i.e. streaming compressed upload).",
            )
        name = path.rsplit("/", 1)[-1] or IN_BODY.get(kind.lower(), "upload.unsupported")
        return [Upload(name, request.body)]
    return _form(request, kind, stack) if multipart else []


def _form(request: Request, kind: str, stack: ExitStack) -> list[Upload]:
    """File parts by their file names, cut behind the last backslash."""
    try:
        found = parts(kind, request.body, stack)
    except FormError as error:
        raise RestError(500, str(error)) from error
    if any(one.file_name is None and one.name == "reference" for one in found):
        raise RestError(500, "multi-part form posts may not be used to upload files via reference.")
    return [Upload(one.file_name.rsplit("\\", 1)[-1], one.data) for one in found if one.file_name is not None]
