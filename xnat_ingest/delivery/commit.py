"""The one closing of a row. When it fails, or its reply is lost, the row is looked at before it is asked for again."""

from __future__ import annotations

from xnat_ingest.core.errors import ServerSaid, SessionTrouble, Unreachable
from xnat_ingest.core.model import Event, Session
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.decision import commits_again
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.retry_policy import is_transient

# What the archiver says when a session of that name has come to be since we looked.
ALREADY = "Session already exists"
# What it says when a file was still being received.
HALF = "non-parsable DICOM"
# How often a closing may be asked for, each time after a look.
TRIES = 3
# How long a row is watched, in seconds, when it is not known whether the server has begun to close it.
WATCH = 5.0


class ConcurrentUpload(Exception):
    """Somebody else is at work on this session, it seems: what is there must be looked at afresh."""

    def __init__(self, uri: str, sign: str = "another run is sending this session into it") -> None:
        super().__init__(uri)
        self.uri = uri
        self.sign = sign


class Commit:
    """overwrite: the archive's files of the same names are to be replaced; is_archived: there is such a session."""

    def __init__(self, context: RunContext, session: Session, uri: str, *, overwrite: bool, is_archived: bool) -> None:
        self.context = context
        self.title = session.title
        self.uri = uri
        self._overwrite = overwrite
        self._is_archived = is_archived

    def close(self) -> None:
        """Closes the row once. Raises SessionTrouble when it cannot be closed, or the row is not what it must be."""
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
            row = prearchive.settle(rest, uri, self.context.retry_policy.pause)
            if row is None or row.status != "READY":
                state = row.status if row else "gone"
                raise SessionTrouble("server-fault", f"prearchive session {uri} is {state} after building, not READY")
        elif not prearchive.commit(rest, uri, overwrite_files=self._overwrite):
            text = f"XNAT left {uri} in the prearchive instead of archiving it; run again"
            raise SessionTrouble("server-fault", text)

    def _is_closed(self, error: ServerSaid | Unreachable, attempt: int) -> bool:
        """After a closing that failed, or whose reply was lost: the row tells whether the server did it all the same.

        True when it is gone; False when it stands open, so that one more closing does no harm. Raises when the server
        does not let go of it, or when it is stuck for a cause that another closing does not mend.
        """
        row = self._row_after(error)
        if row is None and self.context.destination != "prearchive":
            return True
        state = row.status if row else "gone"
        log = prearchive.last_log(self.context.rest, self.uri)
        said = f" The server's log says: {log}" if log else ""
        trouble = SessionTrouble(
            "server-fault", f"{error}. Prearchive session {self.uri} is left in status {state}.{said}"
        )
        said_why = log or str(error)
        stuck = row is not None and row.status in prearchive.STUCK
        trouble.exit_code = trouble.exit_code if stuck else error.exit_code
        mendable = commits_again(said_why) if stuck else is_transient(error) or error.status in (409, 500)
        if row is None or row.is_busy or not mendable or attempt >= TRIES:
            raise trouble from error
        if stuck and (HALF in said_why or (ALREADY in said_why and not self._is_archived)):
            raise ConcurrentUpload(
                self.uri
            ) from error  # another run is sending into it, or has archived it since we looked
        if stuck:
            self._overwrite |= self._is_archived
            prearchive.build(self.context.rest, row.uri)
        self.context.retry_policy.wait(trouble, attempt)
        return False

    def _row_after(self, error: ServerSaid | Unreachable) -> prearchive.PrearchiveSession | None:
        """The row when the server has done with it. Without a reply it may not even have begun: then we watch."""
        rest, uri, pause = self.context.rest, self.uri, self.context.retry_policy.pause
        row = prearchive.settle(rest, uri, pause)
        watched = 0.0
        while row and row.status in prearchive.OPEN and error.status in (0, 502, 504) and watched < WATCH:
            pause(WATCH / 10)
            watched += WATCH / 10
            row = prearchive.settle(rest, uri, pause)
        return row
