"""Labels that are accession ids of what the server has already. XNAT takes them for that, in any project."""

from __future__ import annotations

import re

from xnat_ingest.core import Problem, Session
from xnat_ingest.xnat.client import XnatClient

# How XNAT writes accession ids: the site's id, a letter, and a number of five digits or more.
SUBJECT_ID = re.compile(r".*_S\d{4,}", re.IGNORECASE)
SESSION_ID = re.compile(r".*_E\d{4,}", re.IGNORECASE)


class AccessionIds:
    """The accession ids of a server, as far as they are asked for."""

    def __init__(self, rest: XnatClient) -> None:
        self._rest = rest
        self._known: dict[str, bool] = {}

    def subject_conflict(self, session: Session) -> Problem | None:
        """The conflict of a session whose subject is new to its project, when the subject's label is such an id."""
        if not (SUBJECT_ID.fullmatch(session.subject) and self._is_there(f"/data/subjects/{session.subject}")):
            return None
        text = (
            f"{session.title}: the subject label {session.subject} is the accession id of a subject, perhaps of "
            "another project. XNAT would store the session there"
        )
        fix = (
            "give the label of that subject, if it is the same person. If not, give another one (--subject-label, "
            "--labels)"
        )
        return Problem.advised("subject-exists", text, fix, (session.label,))

    def session_conflict(self, session: Session) -> Problem | None:
        """The conflict of a session that is new to its project, when its label is such an id."""
        if not (SESSION_ID.fullmatch(session.label) and self._is_there(f"/data/experiments/{session.label}")):
            return None
        text = (
            f"{session.title}: the session label {session.label} is the accession id of a session, perhaps of another "
            "project. XNAT could take it for that one"
        )
        fix = "give another label (--session-label, --labels)"
        return Problem.advised("other-study", text, fix, (session.label,))

    def _is_there(self, path: str) -> bool:
        """Whether something has this id, also what the user may not see."""
        if path not in self._known:
            reply = self._rest.request("GET", path, {"format": "json"}, accept=(200, 403, 404))
            self._known[path] = reply.status != 404
        return self._known[path]
