"""The outcome of an action on a prearchive session: a message that says what to do, and an exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xnat_ingest.commands.prearchive.selection import title
from xnat_ingest.core.errors import PRECEDENCE, Exit, IngestError, ServerSaid, Unreachable
from xnat_ingest.core.text import printable
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import STUCK, PrearchiveSession
from xnat_ingest.xnat.retry_policy import is_transient


@dataclass(frozen=True, slots=True)
class ActionOutcome:
    """The outcome for one session.

    word: archived, deleted, moved, rebuilt, ready, conflict, error, busy, receiving, gone, refused or failed.
    """

    title: str
    word: str
    detail: str
    exit_code: Exit = Exit.OK


def total(outcomes: Iterable[ActionOutcome], *, waited: bool = False) -> Exit:
    """The exit code of several outcomes: partial when only some succeeded, temporary when a wait timed out."""
    codes = {outcome.exit_code for outcome in outcomes} or {Exit.OK}
    if waited or len(codes) == 1:
        return min(codes, key=PRECEDENCE.index)
    return Exit.PARTIAL


def over(row: PrearchiveSession) -> ActionOutcome:
    if row.is_busy:
        text = f"the server is still working on it ({row.status}); run the same again later"
        return ActionOutcome(title(row), "busy", text, Exit.TEMPORARY)
    way = prearchive.command_for(row.uri, "rebuild")
    text = f"files are still arriving ({row.status}, last change {row.touched}); run the same again later, or, if "
    return ActionOutcome(title(row), "receiving", f"{text}nothing is sending any more, first: {way}", Exit.TEMPORARY)


def is_locked(error: ServerSaid | Unreachable) -> bool:
    """Whether the server was busy with the session. The archive service reports that with the status 403."""
    return error.status == 409 or (error.status == 403 and "already in progress" in str(error))


def still_there(
    rest: XnatClient, before: PrearchiveSession, row: PrearchiveSession, error: ServerSaid | Unreachable | None
) -> ActionOutcome:
    """Why a session is unchanged after an action."""
    if row.is_busy:
        return over(row)
    unchanged = row.status == before.status
    if error is not None and unchanged and (error.status == 403 or is_transient(error) or is_locked(error)):
        return failed(rest, row, error)
    if row.status in STUCK and not (error is None and unchanged):
        return stuck(rest, row, error)
    if error is not None:
        return failed(rest, row, error)
    text = f"the server reported success, but the session still has status {row.status}; run the same again later"
    return ActionOutcome(title(row), "failed", text, Exit.TEMPORARY)


def stuck(rest: XnatClient, row: PrearchiveSession, error: IngestError | None = None) -> ActionOutcome:
    said = prearchive.last_log(rest, row.uri) or (str(error) if error else "nothing")
    text = f"the session has status {row.status}; the server's log says: {printable(said)}"
    if row.status == "CONFLICT" and row.project != prearchive.UNASSIGNED:
        keep = prearchive.archive_command(row, label=f"{row.label}_2")
        text += f". Archive it under a label that is free ({keep}) or delete it "
        text += f"({prearchive.command_for(row.uri, 'delete')})"
    return ActionOutcome(title(row), row.status.lower(), text, Exit.PARTIAL)


def failed(rest: XnatClient, row: PrearchiveSession, error: IngestError) -> ActionOutcome:
    if isinstance(error, ServerSaid) and error.status == 403 and not is_locked(error):
        text = f"user {rest.user} may not change it in project {row.project}; ask its owner for member access"
        return ActionOutcome(title(row), "refused", text, Exit.REFUSED)
    code = Exit.TEMPORARY if isinstance(error, ServerSaid) and is_locked(error) else error.exit_code
    again = "; the session is unchanged, run the same again later" if code == Exit.TEMPORARY else ""
    return ActionOutcome(title(row), "failed", f"{error}{again}", code)
