"""The request that both ways over XNAT's import service share."""

from __future__ import annotations

from collections.abc import Callable

from xnat_ingest.core import Receipt, Session
from xnat_ingest.transports.bodies import Part
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.exchange import Body
from xnat_ingest.xnat.replies import Reply

# The address of prearchive sessions without a project.
_NO_PROJECT = "/prearchive/projects/Unassigned/"
LOST_LOGIN = (
    "the server lost the login and stored a part as a guest's; the part was sent again, and the site's administrator "
    "can delete the copy without a project"
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
    """Sends one part into the prearchive.

    name: the server's name for the body.
    direct: skip the prearchive, if the server allows it.

    When the login is lost, a site that admits guests stores the part as a guest's, without a project. The reply shows
    that. The part is then sent again with a new login, and the guest's copy stays outside every project.
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
    """The query, equal for all parts of a session: the first file decides it for the prearchive session.

    It has no `dest`, `action` or `AA`: each of them would make the server commit the session after this part. It uses
    XNAT's internal names, which every handler reads. Only some handlers know `project`, `subject` and `session`.
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
