"""The request that both ways over XNAT's import service share."""

from __future__ import annotations

from collections.abc import Callable

from xnat_ingest.core.model import Receipt, Session
from xnat_ingest.transports.bodies import Part
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.exchange import Body
from xnat_ingest.xnat.replies import Reply

# Where the server files what is no project's.
_NO_PROJECT = "/prearchive/projects/Unassigned/"
LOST_LOGIN = (
    "the server lost the login and took a part as a guest's; it was sent again, and the copy without a project is left "
    "for the site's administrator"
)


def import_part(
    rest: XnatClient,
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
    """One part into the session's prearchive row.

    name: what the server is to call the body.
    direct: past the prearchive, straight into the archive, if the server will.

    A site that lets guests in files what comes under a lost login as a guest's, for no project. The reply shows it:
        the part is sent once more under a new login, and what the guest sent stays where no project sees it.
    """
    logins = rest.logins

    def post() -> Reply:
        path = f"/data/services/import/{name}" if name else "/data/services/import"
        return rest.request("POST", path, _query(session, handler, timestamp, direct=direct), body=body, sent=sent)

    reply = post()
    notes: dict[str, int] = {}
    stray = next((uri for uri in reply.text.split() if _NO_PROJECT in uri), "")
    if stray and (rest.logins > logins or rest.mend_login()):
        notes[f"{LOST_LOGIN}: {stray[:200]}"] = len(part.instances)
        reply = post()
    uris = tuple(reply.text.split())
    return Receipt(uris, part.instances if uris else (), part.bytes, notes=notes)


def _query(session: Session, handler: str, timestamp: str, *, direct: bool) -> dict[str, str]:
    """The same on every part of a session: the first file decides them for the row.

    They hold no `dest`, `action` or `AA`, each of which would make the server close the session after this part.
    Their names are XNAT's inner ones, which every handler reads; `project`, `subject` and `session` are known to some
    only.
    """
    return {
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
    }
