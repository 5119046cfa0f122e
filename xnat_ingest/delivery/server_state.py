"""What the server holds of one session: asked before anything is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xnat_ingest.core import Instance, Problem, Session, SessionTrouble
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.decision import ServerState
from xnat_ingest.delivery.known_sessions import with_label_of
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.archive import NO_FILES, StoredFiles, compare_stored, in_archive, in_prearchive
from xnat_ingest.xnat.prearchive import PrearchiveSession
from xnat_ingest.xnat.site_names import among, may_repeat, of_instance

# How often to wait for a prearchive session that the server is working on.
ROUNDS = 3


def fetch_server_state(context: RunContext, session: Session, *, reads_uids: bool = True) -> ServerState:
    """What the archive and the prearchive hold of a session. Waits while the server works on it.

    reads_uids: files whose names do not tell their instance are looked into.

    Raises SessionTrouble when the server stays busy.
    """
    waiting, waited = _prearchive_sessions(context, session)
    # A prearchive session that has gone may just have been archived: then the listing must be fresh.
    archived = context.sessions(session, fresh=waited)
    same_label = with_label_of(session, (one for one in archived if one.is_imaging))
    files_held = (
        in_archive(context.rest, same_label.accession, context.uids, reads_all=reads_uids) if same_label else NO_FILES
    )
    log = next((prearchive.last_log(context.rest, one.uri) for one in waiting if one.status in prearchive.STUCK), "")
    project = context.projects[session.project]
    return ServerState(
        archived,
        files_held,
        waiting,
        log,
        project.template,
        project.splits_petmr,
        by_dicom=not context.transport.names_session,
        changes_uids=context.changes_uids,
        makes_petmr=project.makes_petmr,
        stays_open=context.destination == "prearchive",
        recounts=project.anonymises is not False,
    )


def _prearchive_sessions(context: RunContext, session: Session) -> tuple[list[PrearchiveSession], bool]:
    """Those with the session's label or study, and whether the server was busy with one of them."""
    busy: list[PrearchiveSession] = []
    for attempt in range(ROUNDS):
        waiting = [
            _recognised(context, session, one)
            for one in context.prearchive_entries(session.project, fresh=attempt > 0)
            if one.label.casefold() == session.label.casefold() or one.study_uid == session.study_uid
        ]
        busy = [one for one in waiting if one.is_busy]
        if not busy:
            return waiting, attempt > 0
        for one in busy:
            prearchive.settle(context.rest, one.uri, context.retry_policy.pause)
        context.retry_policy.pause(prearchive.STILL / 20)
    text = f"the server is still busy with prearchive session {busy[0].uri} ({busy[0].status}); run again later"
    raise SessionTrouble("live-row", text)


def own_prearchive_sessions(context: RunContext, session: Session) -> list[PrearchiveSession]:
    """The session's own ones now, including those of which a script has changed the study UID."""
    found = (_recognised(context, session, one) for one in context.prearchive_entries(session.project, fresh=True))
    return [one for one in found if one.belongs_to(session)]


def doubled_instances(session: Session, files_held: StoredFiles, template: str) -> list[Instance]:
    """Those that the server lists twice. The smaller copy is the one that was judged.

    template: of the site's file names, "" for XNAT's own.
    """
    return (
        [i for i in session.instances if files_held.is_doubled(i)]
        or _doubled_by_header(session, files_held)
        or _doubled_by_template(session, files_held, template)
    )


def doubled(session: Session, instances: Sequence[Instance], *, by_this_run: bool = False) -> list[Problem]:
    """A note on instances that the server lists twice; more than a note where this run has stored the second copy."""
    if not instances:
        return []
    uids = ", ".join(i.sop_uid for i in instances[:10])
    if by_this_run:
        text = f"{session.title}: this run has stored {len(instances)} instances a second time: {uids}"
    else:
        text = f"{session.title}: {len(instances)} instances are stored twice: {uids}"
    problem = Problem.advised("doubled", text, "delete one copy of each in XNAT", (session.label,))
    return [replace(problem, spoils=by_this_run)]


def _doubled_by_template(session: Session, files_held: StoredFiles, template: str) -> list[Instance]:
    """Those of which the site's own names tell it."""
    if not (template and files_held.doubled) or may_repeat(template):
        return []
    return [i for i in session.instances if among(files_held.doubled, of_instance(template, i), i)]


def _doubled_by_header(session: Session, files_held: StoredFiles) -> list[Instance]:
    """Those of which several files are known by their headers, where names do not tell instances."""
    if files_held.uids is None or files_held.number <= len(session.instances):
        return []
    told = compare_stored(session.instances, files_held).told
    names = ((i, told.get(i.sop_uid, frozenset())) for i in session.instances)
    return [i for i, known_as in names if len(known_as) > 1 or known_as & files_held.doubled]


def _recognised(context: RunContext, session: Session, found: PrearchiveSession) -> PrearchiveSession:
    """The prearchive session under the study UID with which it was sent.

    Where the site's script changes UIDs, a build gives the prearchive session another study UID. The names of its
    files still hold the one under which they were sent.
    """
    same = replace(found, study_uid=session.study_uid, changed_uid=True)
    if found.study_uid == session.study_uid or found.is_busy or not same.belongs_to(session):
        return found
    if not context.projects[session.project].may_edit or not prearchive.was_built(context.rest, found.uri):
        return found
    return same if in_prearchive(context.rest, found.uri).has_study(session.study_uid) else found
