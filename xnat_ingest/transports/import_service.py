"""The request that both ways over XNAT's import service share."""

from __future__ import annotations

from collections.abc import Callable

from xnat_ingest.core.model import Receipt, Session
from xnat_ingest.transports.bodies import Part
from xnat_ingest.xnat.client import Body, Rest


def import_part(
    rest: Rest,
    session: Session,
    part: Part,
    body: Body,
    sent: Callable[[int], None],
    *,
    handler: str,
    timestamp: str,
    name: str = "",
    direct: bool = False,
) -> Receipt:
    """One part into the session's prearchive row. name: what the server is to call the body; direct: past the
    prearchive, straight into the archive, if the server will.

    The parameters are the same on every part of a session: the first file decides them for the row. They hold no
    `dest`, `action` or `AA`, each of which would make the server close the session after this part. Their names are
    XNAT's inner ones, which every handler reads; `project`, `subject` and `session` are known to some only.
    """
    reply = rest.request(
        "POST",
        f"/data/services/import/{name}" if name else "/data/services/import",
        {
            "import-handler": handler,
            "inbody": "true",
            "PROJECT_ID": session.project,
            "SUBJECT_ID": session.subject,
            "EXPT_LABEL": session.label,
            "rename": "true",
            "prevent_auto_commit": "true",
            "SOURCE": "uploader",
            "PREARC_TIMESTAMP": timestamp,
            **({"Direct-Archive": "true"} if direct else {}),
        },
        body=body,
        sent=sent,
    )
    uris = tuple(reply.text.split())
    return Receipt(uris, part.instances if uris else (), part.bytes)
