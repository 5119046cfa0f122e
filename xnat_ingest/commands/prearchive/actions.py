"""The actions of a user on prearchive sessions: one function per action, with results as data.

Before a change is requested again, the session is checked: a reply may be lost after the server did the work, and
archiving goes on after a timeout of the reply.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from xnat_ingest.commands.prearchive.archive_before import ArchiveBefore, find_archived, is_of_study
from xnat_ingest.commands.prearchive.outcomes import ActionOutcome, changed, failed, is_locked, over, still_there, stuck
from xnat_ingest.commands.prearchive.selection import FEW, RECEIVING, Selection, title, waiting_sessions
from xnat_ingest.core import Exit, IngestError, Refused, ServerSaid, Unreachable, count_of, legal_label, printable
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.archive import (
    NO_FILES,
    ArchivedSession,
    StoredFiles,
    archived_sessions,
    check_home,
    in_archive,
    in_prearchive,
)
from xnat_ingest.xnat.client import CLOSING_TIMEOUT, XnatClient
from xnat_ingest.xnat.prearchive import STUCK, UNASSIGNED, PrearchiveSession
from xnat_ingest.xnat.retry_policy import RetryPolicy, is_transient

# How often an action may be requested, each time after checking the session.
TRIES = 3
# How long a session is watched, in seconds, when it is unknown whether the server has begun.
WATCH = 5.0


@dataclass(frozen=True, slots=True)
class ActionContext:
    """What all actions share.

    limit: seconds to wait for a session.
    say: receives lines for the log.
    """

    rest: XnatClient
    retry_policy: RetryPolicy
    limit: float = prearchive.SETTLE_LIMIT
    say: Callable[[str], None] = field(default=lambda _: None)

    def settle(self, entry: PrearchiveSession) -> PrearchiveSession | None:
        if entry.is_busy:
            self.say(f"{title(entry)}: waiting for the server, at most {self.limit:g} s; the session is {entry.status}")
        return prearchive.settle(self.rest, entry.uri, self.retry_policy.pause, self.limit)


def done_before(
    rest: XnatClient, project: str, selection: Selection, label: str, target: str, subject: str = ""
) -> ActionOutcome | None:
    """What an earlier run, or another person, has already done with the selected session; None: nothing.

    label, subject: of the archived session, "" to skip looking for it. The label must be equal, and the subject, too,
        if one is given.
    target: the project to which it was to be moved.
    """
    where = f"{project} {selection.title}".strip()
    there = [one.entry for one in waiting_sessions(rest, target) if selection.names(one.entry)] if target else []
    if there:
        return _moved_before(where, selection, target, there)
    if label and project not in ("", UNASSIGNED):
        known = next((one for one in archived_sessions(rest, project) if one.label == label), None)
        if known and subject.casefold() in ("", known.subject.casefold()):
            check_home(rest, project, known)
            text = f"nothing left in the prearchive; session {label} is already archived (subject {known.subject})"
            return ActionOutcome(where, "archived", printable(text))
    return None


def _moved_before(where: str, selection: Selection, target: str, there: Sequence[PrearchiveSession]) -> ActionOutcome:
    """XNAT keeps timestamp and folder of what is moved. By a label alone, it cannot be told from another session."""
    if selection.timestamp:
        return ActionOutcome(where, "moved", printable(f"it is already in project {target}, {there[0].status}"))
    known = ", ".join(f"{one.timestamp} {one.folder} ({one.status})" for one in there[:FEW])
    text = f"there is no such session to be moved. Project {target} has {count_of(len(there), 'session')} of this label"
    text += f", moved before or another one: {known}{', ...' if len(there) > FEW else ''}"
    return ActionOutcome(where, "gone", printable(text), Exit.FAILED)


def act(
    context: ActionContext,
    entry: PrearchiveSession,
    action: Callable[[ActionContext, PrearchiveSession], ActionOutcome],
) -> ActionOutcome:
    """Runs one session's action. An error becomes its outcome, so the others go on. Raises Refused on a lost login."""
    try:
        return action(context, entry)
    except Refused:
        raise
    except IngestError as error:
        return failed(context.rest, entry, error)


def archive(
    context: ActionContext, entry: PrearchiveSession, before: ArchiveBefore, subject: str = "", label: str = ""
) -> ActionOutcome:
    """Archives a prearchive session, with another subject or label if given, and checks that all of its files arrived.

    The server merges it into a session with that label. On a conflict it stays in the prearchive.
    before: tells whether somebody else has archived it meanwhile.
    """
    if entry.project == UNASSIGNED:
        way = f"{prearchive.command_for(entry.uri, 'move')} --to-project PROJECT"
        text = f"it has no project, so it cannot be archived; move it to one first: {way}"
        return ActionOutcome(title(entry), "failed", text, Exit.FAILED)
    wanted = legal_label(label or entry.label)
    last = now = prearchive.find_session(context.rest, entry.uri)
    if now is not None and (entry.is_busy or now.is_busy):
        before.look(now, wanted)
        now = context.settle(entry)
    if now is None:
        return _archived_by_another(context.rest, entry, before, subject, wanted, last)
    if hindrance := _hindrance(now, receiving=False):
        return hindrance
    known = next(find_archived(context.rest, entry.project, wanted), None)
    had = in_archive(context.rest, known.accession) if known else NO_FILES
    held = _held(context.rest, now)
    query = {"src": entry.uri} | ({"subject": subject} if subject else {}) | ({"session": label} if label else {})
    context.say(f"{title(entry)}: archiving")
    # 303: for sessions with automatic archiving the server redirects to the new page.
    left, error = _ask(context, now, "POST", "/data/services/archive", query)
    if left is not None:
        return still_there(context.rest, now, left, error)
    known = next(find_archived(context.rest, entry.project, wanted), None)
    there = in_archive(context.rest, known.accession) if known else NO_FILES
    if known is None:
        return _gone(entry, wanted, known)
    # Without the server's word that it did it, the files must show it.
    if error and not _has_come(now, known, held, had, there, may_be_done=_may_be_done(error)):
        return _gone(entry, wanted, known)
    before.remember(known.accession, there)
    counts = f"{_count(held)} files in the prearchive, {_count(had)} in the archive before, {_count(there)} now"
    return _archived(entry, known, subject, counts, held.sizes.keys() - there.sizes.keys() if held else ())


def _archived_by_another(
    rest: XnatClient,
    entry: PrearchiveSession,
    before: ArchiveBefore,
    subject: str,
    label: str,
    last: PrearchiveSession | None,
) -> ActionOutcome:
    """The outcome of a session that has left the prearchive before it was to be archived. last: as it was last seen."""
    known = next(find_archived(rest, entry.project, label), None)
    if known is None:
        return _gone(entry, label, known)
    there = in_archive(rest, known.accession)
    if not before.has_taken(entry, known, there, archiving=last is not None and _is_archiving(last)):
        return _gone(entry, label, known)
    return _archived(entry, known, subject, f"{_count(there)} files", ())


def _has_come(
    entry: PrearchiveSession,
    known: ArchivedSession,
    held: StoredFiles | None,
    had: StoredFiles,
    there: StoredFiles,
    *,
    may_be_done: bool,
) -> bool:
    """Whether an archived session has got files of a prearchive session.

    held: its files.
    had, there: what the archived session had before, and what it has now.
    may_be_done: the server may have archived it. Then it may have replaced files under their names.
    """
    new = there.sizes.keys() - had.sizes.keys()
    if held is None:
        return is_of_study(entry, known, new)
    if held.sizes.keys() - had.sizes.keys():
        return bool(new & held.sizes.keys())
    return may_be_done


def _gone(entry: PrearchiveSession, label: str, known: ArchivedSession | None) -> ActionOutcome:
    """known: the archived session of that label, which is not seen to have taken its files."""
    text = f"it is gone, and project {entry.project} has no session {label}: another user moved or deleted it"
    if known:
        text = f"it is gone, and nothing shows that session {known.label} of project {entry.project} has its files: "
        text += "another user moved, deleted or archived it"
    return ActionOutcome(title(entry), "gone", printable(f"{text}; see `xnat-ingest prearchive list`"), Exit.FAILED)


def _archived(
    entry: PrearchiveSession, known: ArchivedSession, subject: str, counts: str, lost: Collection[str]
) -> ActionOutcome:
    """The outcome when the archive has the session. lost: names of its files that are not there."""
    text = f"subject {known.subject}, session {known.label}: {counts}"
    if lost:
        text += f"; {len(lost)} of its files are not there under their names: compare with `xnat-ingest verify`"
    is_other = bool(subject) and known.subject.casefold() != subject.casefold()
    if is_other:
        text += f"; it should have gone to subject {subject}: check it in XNAT"
    return ActionOutcome(title(entry), "archived", text, Exit.PARTIAL if lost or is_other else Exit.OK)


def _is_archiving(entry: PrearchiveSession) -> bool:
    return "ARCHIVING" in entry.status


def _count(holding: StoredFiles | None) -> str:
    return str(holding.number) if holding is not None else "an unknown number of"


def _held(rest: XnatClient, entry: PrearchiveSession) -> StoredFiles | None:
    """The files of a session; None when it was never built, or has files that no scan's DICOM resource lists."""
    try:
        return in_prearchive(rest, entry.uri)
    except ServerSaid as error:
        if error.status != 404:
            raise
        return None


def delete(context: ActionContext, entry: PrearchiveSession, before: ArchiveBefore) -> ActionOutcome:
    """Deletes a session with its files. If it has changed since it was listed, it is kept.

    before: tells whether somebody else has archived it meanwhile.
    """
    now = context.settle(entry)
    if now is None and _at(context.rest, entry.project, entry):
        text = "the server still lists it, but does not know its address; nothing was deleted. Look at it in XNAT"
        return ActionOutcome(title(entry), "failed", text, Exit.FAILED)
    if now is None:
        return _gone_before_deletion(context.rest, entry, before)
    if hindrance := _hindrance(now, receiving=entry.status in RECEIVING):
        return hindrance
    if not entry.is_busy and (now.status, now.touched) != (entry.status, entry.touched):
        return changed(entry, now)
    # Deleting a session that does not exist is also answered by 200. Only checking afterwards shows what happened.
    left, error = _ask(context, now, "DELETE", now.uri, {})
    return ActionOutcome(title(entry), "deleted", "") if left is None else still_there(context.rest, now, left, error)


def _gone_before_deletion(rest: XnatClient, entry: PrearchiveSession, before: ArchiveBefore) -> ActionOutcome:
    """Somebody else has deleted it, or its files are elsewhere. XNAT keeps timestamp and folder of what is moved."""
    key = (entry.timestamp, entry.folder)
    for one in (listed.entry for listed in waiting_sessions(rest, "")):
        if (one.timestamp, one.folder) == key and one.project != entry.project:
            way = prearchive.command_for(one.uri, "delete")
            text = f"another user moved it to project {one.project} ({one.status}); nothing was deleted"
            text += f". To delete it there: {way}"
            return ActionOutcome(title(entry), "gone", printable(text), Exit.FAILED)
    archived = list(find_archived(rest, entry.project, entry.label, entry.study_uid))
    for known in archived:
        if before.has_taken(entry, known, in_archive(rest, known.accession)):
            text = f"another user archived it (subject {known.subject}, session {known.label}); nothing was deleted"
            return ActionOutcome(title(entry), "gone", printable(text), Exit.FAILED)
    if archived:
        return ActionOutcome(title(entry), "gone", "another user deleted it, or archived it")
    return ActionOutcome(title(entry), "deleted", "it was already gone")


def rebuild(context: ActionContext, entry: PrearchiveSession) -> ActionOutcome:
    """Lets the server build a session again. It is READY afterwards, or in ERROR."""
    now = context.settle(entry)
    if now is None:
        return ActionOutcome(title(entry), "gone", "the session disappeared before it was built", Exit.FAILED)
    if hindrance := _hindrance(now, receiving=True):
        return hindrance
    left, error = _ask(context, now, "POST", now.uri, {"action": "build"})
    if left is not None and left.status == "READY" and (error is None or now.status != "READY"):
        return ActionOutcome(title(entry), "rebuilt", f"it is READY, {_count(_held(context.rest, left))} files")
    if left is None:
        return ActionOutcome(title(entry), "gone", "the session disappeared while it was built", Exit.FAILED)
    return still_there(context.rest, now, left, error)


def move(context: ActionContext, entry: PrearchiveSession, target: str) -> ActionOutcome:
    """Moves a session to another project. target: the project's id. XNAT keeps timestamp and folder."""
    if entry.project == target:
        return ActionOutcome(title(entry), "moved", f"it is in project {target} already")
    now = context.settle(entry)
    if now is not None:
        if hindrance := _hindrance(now, receiving=False):
            return hindrance
        if _at(context.rest, target, entry):
            there = f"{entry.timestamp} {entry.folder}"
            text = f"project {target} already has a prearchive session {there}; archive or delete one"
            return ActionOutcome(title(entry), "failed", printable(text), Exit.FAILED)
        left, error = _ask(context, now, "POST", now.uri, {"action": "move", "newProject": target})
        if left is not None:
            return still_there(context.rest, now, left, error)
    found = _at(context.rest, target, entry)
    if found is None:
        text = f"it is gone, and project {target} does not have it: another user moved or deleted it"
        return ActionOutcome(title(entry), "gone", f"{text}; see `xnat-ingest prearchive list`", Exit.FAILED)
    return ActionOutcome(title(entry), "moved", f"it is in project {target}, {found.status}")


def _at(rest: XnatClient, project: str, entry: PrearchiveSession) -> PrearchiveSession | None:
    """The session with the same timestamp and folder in a project."""
    key = (entry.timestamp, entry.folder)
    return next((one for one in prearchive.list_sessions(rest, project) if (one.timestamp, one.folder) == key), None)


def wait(
    context: ActionContext, project: str, rows: Iterable[PrearchiveSession], before: ArchiveBefore
) -> Iterator[ActionOutcome]:
    """Waits until the server has finished with the sessions and no client sends into them. Yields each when it ends.

    It waits at most context.limit seconds. It only reads listings, so it also works for users who may not change
    anything.
    """
    pending = {entry.uri: entry for entry in rows}
    for entry in pending.values():
        if entry.is_busy or entry.status in RECEIVING:
            before.look(entry, entry.label)
    deadline = time.monotonic() + context.limit
    interval, shown = 0.2, 0
    while pending:
        now = {one.entry.uri: one.entry for one in waiting_sessions(context.rest, project)}
        for uri, entry in list(pending.items()):
            pending[uri] = now.get(uri, entry)
            if uri not in now or not (now[uri].is_busy or now[uri].status in RECEIVING):
                del pending[uri]
                yield _ended(context, now[uri]) if uri in now else _went(context.rest, entry, before)
        if not pending or time.monotonic() >= deadline:
            break
        if len(pending) != shown:
            shown = len(pending)
            context.say(f"waiting for {shown} sessions, at most {context.limit:g} s")
        context.retry_policy.pause(min(interval, max(deadline - time.monotonic(), 0)))
        interval = min(interval * 1.5, 5.0)
    yield from (over(entry) for entry in pending.values())


def _ended(context: ActionContext, entry: PrearchiveSession) -> ActionOutcome:
    return stuck(context.rest, entry) if entry.status in STUCK else ActionOutcome(title(entry), "ready", "")


def _went(rest: XnatClient, entry: PrearchiveSession, before: ArchiveBefore) -> ActionOutcome:
    """entry: as it was last seen."""
    archived = list(find_archived(rest, entry.project, entry.label, entry.study_uid))
    for known in archived:
        if before.has_taken(entry, known, in_archive(rest, known.accession), archiving=_is_archiving(entry)):
            return ActionOutcome(title(entry), "archived", f"subject {known.subject}, session {known.label}")
    text = "it was moved, deleted, or archived under another label"
    if archived:
        text = f"nothing shows that session {archived[0].label} has its files: it was moved, deleted, or archived"
    return ActionOutcome(title(entry), "gone", printable(text), Exit.PARTIAL)


def _hindrance(entry: PrearchiveSession, *, receiving: bool) -> ActionOutcome | None:
    """Why a session must not be touched now. receiving: it may be one that still receives files."""
    if entry.is_busy or (entry.status in RECEIVING and not receiving):
        return over(entry)
    return None


def _ask(
    context: ActionContext, entry: PrearchiveSession, method: str, path: str, query: Mapping[str, str]
) -> tuple[PrearchiveSession | None, ServerSaid | Unreachable | None]:
    """Requests a change. Returns the session afterwards (None when it is gone) and the error of the last attempt.

    It tries again only when the session is unchanged and the cause may be temporary.
    """
    for attempt in count(1):
        error: ServerSaid | Unreachable | None = None
        try:
            context.rest.request(method, path, query, accept=(200, 301, 303), timeout=CLOSING_TIMEOUT)
        except (ServerSaid, Unreachable) as failure:
            error = failure
        now = _after(context, entry, error)
        changed = now is None or now.status != entry.status
        if error is None or changed or not (is_transient(error) or is_locked(error)) or attempt == TRIES:
            return now, error
        context.say(f"{title(entry)}: {error}; the session is unchanged, trying again")
        context.retry_policy.wait(error, attempt)
    raise AssertionError("unreachable")


def _may_be_done(error: ServerSaid | Unreachable | None) -> bool:
    """Whether the server may have done what was asked for, though no usable answer came."""
    return error is not None and error.status in (0, 502, 504) and getattr(error, "maybe_done", True)


def _after(
    context: ActionContext, entry: PrearchiveSession, error: ServerSaid | Unreachable | None
) -> PrearchiveSession | None:
    """The session when the server has finished with it.

    Without a reply the work may not have begun: then it watches.
    """
    now = prearchive.settle(context.rest, entry.uri, context.retry_policy.pause, context.limit)
    unsure = _may_be_done(error)
    until = time.monotonic() + WATCH
    while unsure and now is not None and now.status == entry.status and time.monotonic() < until:
        context.retry_policy.pause(WATCH / 10)
        now = prearchive.settle(context.rest, entry.uri, context.retry_policy.pause, context.limit)
    return now
