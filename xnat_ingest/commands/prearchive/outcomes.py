"""The outcome of an action on a prearchive session: a message that says what to do, and an exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xnat_ingest.commands.prearchive.selection import title
from xnat_ingest.core import PRECEDENCE, Exit, IngestError, ServerSaid, Unreachable, printable
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import STUCK, PrearchiveSession
from xnat_ingest.xnat.retry_policy import is_transient


@dataclass(frozen=True, slots=True)
class ActionOutcome:
    """The outcome for one session.

    word: archived, deleted, moved, rebuilt, ready, conflict, error, busy, receiving, changed, gone, refused or failed.
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


def over(entry: PrearchiveSession) -> ActionOutcome:
    if entry.is_busy:
        text = f"the server is still working on it ({entry.status}); run the same again later"
        return ActionOutcome(title(entry), "busy", text, Exit.TEMPORARY)
    way = prearchive.command_for(entry.uri, "rebuild")
    text = f"files are still arriving ({entry.status}, last change {entry.touched}); run the same again later, or, if "
    return ActionOutcome(title(entry), "receiving", f"{text}nothing is sending any more, first: {way}", Exit.TEMPORARY)


def changed(entry: PrearchiveSession, now: PrearchiveSession) -> ActionOutcome:
    """It is not the session any more that was listed, and perhaps chosen for its status."""
    text = (
        f"it was {entry.status} when it was listed (last change {entry.touched}), and is {now.status} now (last change "
        f"{now.touched}); nothing was deleted. Look at it, then run the same again"
    )
    return ActionOutcome(title(entry), "changed", text, Exit.TEMPORARY)


def is_locked(error: ServerSaid | Unreachable) -> bool:
    """Whether the server was busy with the session. The archive service reports that with the status 403."""
    return error.status == 409 or (error.status == 403 and "already in progress" in str(error))


def still_there(
    rest: XnatClient, before: PrearchiveSession, entry: PrearchiveSession, error: ServerSaid | Unreachable | None
) -> ActionOutcome:
    """Why a session is unchanged after an action."""
    if entry.is_busy:
        return over(entry)
    unchanged = entry.status == before.status
    if error is not None and unchanged and (error.status == 403 or is_transient(error) or is_locked(error)):
        return failed(rest, entry, error)
    if entry.status in STUCK and not (error is None and unchanged):
        return stuck(rest, entry, error)
    if error is not None:
        return failed(rest, entry, error)
    text = f"the server reported success, but the session still has status {entry.status}; run the same again later"
    return ActionOutcome(title(entry), "failed", text, Exit.TEMPORARY)


def stuck(rest: XnatClient, entry: PrearchiveSession, error: IngestError | None = None) -> ActionOutcome:
    said = prearchive.last_log(rest, entry.uri) or (str(error) if error else "nothing")
    text = f"the session has status {entry.status}; the server's log says: {printable(said).rstrip('.')}"
    if entry.status == "CONFLICT" and entry.project != prearchive.UNASSIGNED:
        keep = prearchive.archive_command(entry, label=f"{entry.label}_2")
        text += f". Archive it under a label that is free ({keep}) or delete it "
        text += f"({prearchive.command_for(entry.uri, 'delete')}). {prearchive.GONE}"
    return ActionOutcome(title(entry), entry.status.lower(), text, Exit.PARTIAL)


def failed(rest: XnatClient, entry: PrearchiveSession, error: IngestError) -> ActionOutcome:
    if isinstance(error, ServerSaid) and error.status == 403 and not is_locked(error):
        text = f"user {rest.user} may not change it in project {entry.project}; ask its owner for member access"
        return ActionOutcome(title(entry), "refused", text, Exit.REFUSED)
    code = Exit.TEMPORARY if isinstance(error, ServerSaid) and is_locked(error) else error.exit_code
    again = "; the session is unchanged, run the same again later" if code == Exit.TEMPORARY else ""
    return ActionOutcome(title(entry), "failed", f"{error}{again}", code)
