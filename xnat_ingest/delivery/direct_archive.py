"""Straight into the archive, past the prearchive, as far as the server allows.

XNAT silently falls back to the prearchive, file by file: where the session's folder exists already, where the session
no longer receives, where PET and MR are to be separated. And it cannot list what it has received this way. So nothing
is proven here. The ordinary way finds afterwards what is missing, and sends it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from xnat_ingest.core import Event, Instance, ServerSaid, Session, SessionTrouble
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.sending import Sending
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.client import CLOSING_TIMEOUT, XnatClient
from xnat_ingest.xnat.prearchive import SETTLE_LIMIT

# The server also completes such a session by itself when nothing has come for some minutes.
RECEIVING = "RECEIVING"


def address_of(session: Session) -> str:
    return f"/xapi/direct-archive/{session.project}/{session.study_uid}/{session.label}"


def status_of(rest: XnatClient, session: Session) -> str:
    """The status of the session on its way into the archive, or "" if it is not on it."""
    return _status(rest, session)[0]


def _status(rest: XnatClient, session: Session) -> tuple[str, str]:
    """The same, and the time of the last file that came."""
    address = address_of(session)
    reply = rest.request("GET", address, accept=(200, 404))
    if reply.status == 404:
        return "", ""
    try:
        row = json.loads(reply.text)
        return str(row["status"]).upper(), str(row.get("lastBuiltDate"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ServerSaid(f"GET {address} (the answer names no session)", reply.status, "") from error


def is_receiving(rest: XnatClient, session: Session) -> bool:
    return status_of(rest, session) == RECEIVING


class _FellBack(Exception):
    """The first files went into the prearchive, so no more are sent this way."""


class DirectArchive:
    """Sends one session straight into the archive. sending: what became of its parts."""

    def __init__(self, context: RunContext, session: Session, *, in_order: bool) -> None:
        assert context.direct is not None  # noqa: S101 - only made where there is such a transport
        self._context = context
        self._session = session
        self._sending = Sending(
            session,
            context.direct,
            context.parts,
            context.control,
            direct=address_of(session),
            in_order=in_order,
        )

    @property
    def sending(self) -> Sending:
        return self._sending

    def send(self, instances: Sequence[Instance]) -> None:
        """Sends, has the server archive what it took, and waits for that. Raises IngestError."""
        if status_of(self._context.rest, self._session) not in ("", RECEIVING):
            _wait(self._context, self._session)  # another run's, which is being archived just now
            return
        try:
            self._sending.send(instances, self._fall_back)
        except _FellBack:
            text = f"{self._session.title}: the server fell back to the prearchive"
            self._context.control.emit(Event("warning", {"text": text}))
        if self._sending.used_direct_archive:
            finish_direct_archive(self._context, self._session)

    def _fall_back(self) -> bool:
        raise _FellBack


def finish_left_over(context: RunContext, session: Session) -> bool:
    """Has the server archive what a run that was killed, or a DICOM sender, has left on the direct way.

    The server does so by itself, later. Should the session be archived by then, it takes all of it out of the archive.

    Returns whether there was anything. Raises IngestError, also where more is still coming.
    """
    try:
        last = _status(context.rest, session)
    except ServerSaid as error:
        if error.status < 500:
            return False  # this user may not ask, or this server does not know of it, and answers with a page
        raise
    if last[0] in ("", "ERROR"):
        return False
    text = f"{address_of(session)}: another run, or a DICOM sender, is sending this session straight into the archive"
    context.control.warn(f"{session.title}: {text}; waiting until nothing more comes")
    deadline, since = time.monotonic() + prearchive.STILL_LIMIT, time.monotonic()
    while last[0] == RECEIVING and time.monotonic() - since < prearchive.STILL:
        if time.monotonic() > deadline:
            raise SessionTrouble("live-row", f"{text}; nothing was sent. Run again when that has ended")
        context.retry_policy.pause(prearchive.STILL / 20)
        now = _status(context.rest, session)
        last, since = (now, since) if now == last else (now, time.monotonic())
    if last[0] == RECEIVING:
        finish_direct_archive(context, session)
    else:
        _wait(context, session)
    return True


def finish_direct_archive(context: RunContext, session: Session) -> None:
    """Has the server archive what it took, and waits until it has. Raises IngestError.

    If the user may not ask for it, or a file is still under way, the server does it when nothing more comes.
    """
    context.control.check()
    try:
        context.rest.request("POST", address_of(session), accept=(200, 404), timeout=CLOSING_TIMEOUT)
    except ServerSaid as error:
        if error.status < 500 and error.status != 403:  # without the right to ask for it, the server's own turn comes
            raise
        context.control.warn(f"{session.title}: {error}; waiting for the server")
    _wait(context, session)


def _wait(context: RunContext, session: Session) -> None:
    """Waits until the session is in the archive or, if that failed, in the prearchive. Then looks at both afresh."""
    deadline = time.monotonic() + SETTLE_LIMIT
    wait = 0.2
    while (status := status_of(context.rest, session)) and status != "ERROR":
        if time.monotonic() > deadline:
            raise SessionTrouble(
                "server-fault",
                f"the server is still busy archiving {address_of(session)} ({status}); run again later",
            )
        context.retry_policy.pause(wait)
        wait = min(wait * 1.5, 5.0)
    context.known(session.project, fresh=True)
    context.prearchive_entries(session.project, fresh=True)
