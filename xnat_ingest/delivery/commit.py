"""Commits a prearchive session once. If that fails, or the reply is lost, the session is checked before another try."""

from __future__ import annotations

from xnat_ingest.core import Event, ServerSaid, Session, SessionTrouble, Unreachable
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.decision import commits_again
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.retry_policy import is_transient

# What the archiver says when a session of that name was archived after we looked.
LOG_EXISTS = "Session already exists"
# What it says when a file was still being received, into any resource: `non-DICOM (or non-parsable DICOM) files`.
LOG_INCOMPLETE = "(or non-parsable "
# What it says while it archives the session for another run.
LOG_DUPLICATE = "Duplicate archive attempt"
# How often a commit may be requested. Before each further request the session is checked.
TRIES = 3
# Seconds to watch a session when it is not known whether the server has begun to archive it.
WATCH = 5.0


class ConcurrentUpload(Exception):
    """Another client seems to be sending this session, so the server must be asked again.

    What is left of a lost connection of our own looks the same.

    is_damaged: the server cannot read a file in it, which another run is sending or has left behind; or files came
        into it beside those that a build had moved meanwhile.
    existing: the server's words that the session exists, though the archive did not have it when it was asked.
    """

    def __init__(
        self,
        uri: str,
        sign: str = "another run, or a lost connection of this one, is sending this session into it",
        *,
        is_damaged: bool = False,
        existing: str = "",
    ) -> None:
        super().__init__(uri)
        self.uri = uri
        self.sign = sign
        self.is_damaged = is_damaged
        self.existing = existing


class Commit:
    """The commit of one prearchive session.

    overwrite: files of the same names in the archive are to be replaced
    is_archived: the session is in the archive already
    """

    def __init__(self, context: RunContext, session: Session, uri: str, *, overwrite: bool, is_archived: bool) -> None:
        self.context = context
        self.title = session.title
        self.uri = uri
        self._overwrite = overwrite
        self._is_archived = is_archived

    def close(self) -> None:
        """Archives the session, or builds it where it is to stay. Raises SessionTrouble when the server does not."""
        self.context.control.check()
        self.context.control.emit(Event("closing", {"session": self.title, "destination": self.context.destination}))
        for attempt in range(1, TRIES + 1):
            try:
                self._once()
                return
            except (ServerSaid, Unreachable) as error:
                if self._is_closed(error, attempt):
                    return

    def _once(self) -> None:
        rest, uri = self.context.rest, self.uri
        if self.context.destination == "prearchive":
            prearchive.build(rest, uri)
            entry = prearchive.settle(rest, uri, self.context.retry_policy.pause)
            if entry is None or entry.status != "READY":
                state = entry.status if entry else "gone"
                raise SessionTrouble("server-fault", f"prearchive session {uri} is {state} after building, not READY")
        elif not prearchive.commit(rest, uri, overwrite_files=self._overwrite):
            text = f"XNAT left {uri} in the prearchive instead of archiving it; run again"
            raise SessionTrouble("server-fault", text)

    def _is_closed(self, error: ServerSaid | Unreachable, attempt: int) -> bool:
        """After a commit that failed, or whose reply was lost: did the server archive the session all the same?

        True: it has left the prearchive. False: it is still open, so another commit does no harm. Raises
        SessionTrouble when the server keeps it busy, or when it is stuck for a reason that no other commit mends.
        """
        entry = self._session_after(error)
        if entry is None and self.context.destination != "prearchive":
            return True
        state = entry.status if entry else "gone"
        log = prearchive.last_log(self.context.rest, self.uri)
        said = f" The server's log says: {log}" if log else ""
        trouble = SessionTrouble(
            "server-fault", f"{error}. Prearchive session {self.uri} is left in status {state}.{said}"
        )
        said_why = log or str(error)
        stuck = entry is not None and entry.status in prearchive.STUCK
        trouble.exit_code = trouble.exit_code if stuck else error.exit_code
        mendable = commits_again(said_why) if stuck else is_transient(error) or error.status in (409, 500)
        if entry is None or entry.is_busy or not mendable or attempt >= TRIES:
            raise trouble from error
        if stuck and LOG_INCOMPLETE in said_why:
            sign = f"XNAT finds files in it that it does not list or cannot read ({said_why})"
            raise ConcurrentUpload(self.uri, sign, is_damaged=True) from error
        exists = LOG_EXISTS in said_why and not self._is_archived
        if stuck and (LOG_DUPLICATE in said_why or exists):
            # Another run is archiving it, or has archived the session since we looked.
            raise ConcurrentUpload(self.uri, existing=said_why if exists else "") from error
        if stuck:
            self._overwrite |= self._is_archived
            prearchive.build(self.context.rest, entry.uri)
        self.context.retry_policy.wait(trouble, attempt)
        return False

    def _session_after(self, error: ServerSaid | Unreachable) -> prearchive.PrearchiveSession | None:
        """The session once the server has finished with it. Without a reply it may not have begun, so we watch it."""
        rest, uri, pause = self.context.rest, self.uri, self.context.retry_policy.pause
        entry = prearchive.settle(rest, uri, pause)
        watched = 0.0
        while entry and entry.status in prearchive.OPEN and error.status in (0, 502, 504) and watched < WATCH:
            pause(WATCH / 10)
            watched += WATCH / 10
            entry = prearchive.settle(rest, uri, pause)
        return entry
