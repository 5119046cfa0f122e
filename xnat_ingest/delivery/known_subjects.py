"""The subjects that a project already has, and what they mean for a plan."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from xnat_ingest.core import Plan, Problem, ServerSaid, Session, SessionTrouble, printable
from xnat_ingest.delivery.accession_ids import SESSION_ID, AccessionIds
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.known_sessions import with_label_of
from xnat_ingest.xnat.archive import ArchivedSession, archived_session, in_archive
from xnat_ingest.xnat.prearchive import STUCK
from xnat_ingest.xnat.tables import JsonRow

# Folded label -> the labels of a project that fold to it.
Subjects = Mapping[str, set[str]]


def check_subjects(context: RunContext, plan: Plan) -> Plan:
    """Puts sessions in conflict that XNAT would give to another person, and notes subjects that are new where a project
    asks uploads not to create any.

    XNAT finds a subject whatever the case of its label: `p007` would be stored under the P007 that it has. And `Müller`
    becomes `M_ller`, as another person may be called. A label that is the accession id of a subject, of any project, is
    that subject to XNAT. A subject is this tree's if one of its archived sessions has a study that is in the plan, too,
    or if XNAT made it for a session of this tree and then failed to archive that.
    """
    subjects = {project: _known_subjects(context, project) for project in context.projects}
    context.new_subjects = NewSubjects(context, plan, subjects)
    ids = AccessionIds(context.rest)
    own = _OwnSubjects(context, plan)
    found: dict[int, Problem] = {}
    for session in plan.sessions:
        alike = subjects.get(session.project, {}).get(session.subject.casefold(), set())
        if other := _accession_conflict(context, ids, session, is_known=bool(alike)):
            found[id(session)] = other
            continue
        if session.conflicts or not alike or (session.subject in alike and not session.repaired):
            continue
        if not own.have(session.project, session.subject):
            is_bare = session.subject.casefold() not in context.known(session.project).of_subject
            found[id(session)] = _repaired(session, is_bare) if session.repaired else _other_case(session, min(alike))
    sessions = tuple(replace(s, conflicts=(found[id(s)],)) if id(s) in found else s for s in plan.sessions)
    plan = replace(plan, sessions=sessions, problems=(*plan.problems, *found.values()))
    return _note_new(context, subjects, plan)


def _accession_conflict(context: RunContext, ids: AccessionIds, session: Session, *, is_known: bool) -> Problem | None:
    """is_known: the project has the subject."""
    if session.conflicts:
        return None
    other = None if is_known else ids.subject_conflict(session)
    if other or not SESSION_ID.fullmatch(session.label):
        return other
    label = session.label.casefold()
    is_listed = any(known.label.casefold() == label for known in context.known(session.project).listing)
    return None if is_listed else ids.session_conflict(session)


def _known_subjects(context: RunContext, project: str) -> Subjects:
    found: dict[str, set[str]] = {}
    for label in context.rest.rows(f"/data/projects/{project}/subjects", _label, columns="label"):
        found.setdefault(label.casefold(), set()).add(label)
    return found


def _label(row: JsonRow) -> str:
    return row["label"]


def _other_case(session: Session, there: str) -> Problem:
    text = (
        f"{session.title}: project {session.project} has this subject in other upper and lower case, as "
        f"{printable(there)}. XNAT takes both for one subject, so two people could become one"
    )
    fix = (
        f"if it is the same person, give that label (--subject-label, --labels, or -S {printable(there)} with -E). If "
        "not, rename the folder"
    )
    return Problem.advised("subject-exists", text, fix, (session.label,))


class NewSubjects:
    """The subjects that their project did not have when the run began. Another upload may make one meanwhile.

    That may be for somebody else: XNAT takes `p007` and `P007` for one subject, and `Müller` and `Möller` both become
    `M_ller`.
    """

    def __init__(self, context: RunContext, plan: Plan, subjects: Mapping[str, Subjects]) -> None:
        self._context = context
        self._sessions: dict[tuple[str, str], list[Session]] = defaultdict(list)
        for session in plan.sessions:
            if session.subject.casefold() not in subjects.get(session.project, {}):
                self._sessions[_key(session)].append(session)
        self._locks = {key: threading.Lock() for key in self._sessions}
        self._refusals: dict[tuple[str, str], str] = {}  # how another has made it, "" when nobody has
        self._shared: dict[tuple[str, str], bool] = {}  # whether another has sessions of it

    def refuse_others(self, session: Session) -> None:
        """Before a session is archived. Raises SessionTrouble where its subject is another's by now."""
        key = _key(session)
        if key not in self._sessions:
            return
        with self._locks[key]:
            if key not in self._refusals:  # afterwards it is ours
                self._refusals[key] = self._refusal(session)
        if how := self._refusals[key]:
            raise SessionTrouble(
                "subject-exists",
                f"another upload has made this subject meanwhile{how}. Two people could become one, so the session was "
                "not archived. If it is the same person, give the label yourself (--labels, --subject-label), then run "
                "again. If not, delete its prearchive session and rename the folder",
            )

    def _refusal(self, session: Session) -> str:
        # No request tells of a subject in other upper and lower case but a listing, and that may be long.
        listed = self._listed(session, fresh=bool(session.repaired))
        other = next((one.subject for one in listed if one.subject != session.subject), "")
        if other:
            return f", as {printable(other)}, in other upper and lower case"
        if session.repaired and self._strangers(session, listed):  # another run of this tree may have made it
            return f", and {printable(session.repaired)!r} becomes that label"
        return ""

    def tell_others(self, session: Session) -> list[Problem]:
        """After a session is archived: two uploads may have made its subject at the same moment."""
        key = _key(session)
        if key not in self._sessions:
            return []
        with self._locks[key]:
            if key not in self._shared:
                self._shared[key] = self._is_shared(session)
        if not self._shared[key]:
            return []
        self._refusals[key] = " at the same time"  # nothing more is archived for it
        text = (
            f"{session.title}: another upload has made subject {printable(session.subject)} at the same time, so two "
            "people may have become one"
        )
        fix = "look at the subject in XNAT. If they are two, give this session another subject there (open it, Edit)"
        return [replace(Problem.advised("other-subject", text, fix, (session.label,)), spoils=True)]

    def _is_shared(self, session: Session) -> bool:
        try:
            archived = archived_session(self._context.rest, session.project, session.label)
        except ServerSaid:  # what is stored is proven all the same
            return False
        if archived is not None and archived.subject not in ("", session.subject):
            return True
        return bool(session.repaired) and bool(self._strangers(session, self._listed(session, fresh=True)))

    def _listed(self, session: Session, *, fresh: bool) -> Sequence[ArchivedSession]:
        """The subject's archived sessions."""
        known = self._context.known(session.project, fresh=fresh)
        return known.of_subject.get(session.subject.casefold(), [])

    def _strangers(self, session: Session, listed: Sequence[ArchivedSession]) -> Sequence[ArchivedSession]:
        own = self._sessions[_key(session)]
        labels, studies = {one.label.casefold() for one in own}, {one.study_uid for one in own}
        return [one for one in listed if one.label.casefold() not in labels and one.study_uid not in studies]


def _key(session: Session) -> tuple[str, str]:
    return session.project, session.subject.casefold()


class _OwnSubjects:
    """The archived subjects that have a study of the plan."""

    def __init__(self, context: RunContext, plan: Plan) -> None:
        self._context = context
        self._sessions: dict[tuple[str, str], list[Session]] = defaultdict(list)
        for session in plan.sessions:
            self._sessions[session.project, session.subject.casefold()].append(session)
        self._found: dict[tuple[str, str], bool] = {}

    def have(self, project: str, subject: str) -> bool:
        """The listing is looked through first. It has no sessions of some types, and the study may have another UID."""
        key = project, subject.casefold()
        if key not in self._found:
            sessions = self._sessions[key]
            archived = self._is_listed(key, sessions) or any(map(self._is_archived, sessions))
            self._found[key] = archived or self._was_made_in_vain(key, sessions)
        return self._found[key]

    def _is_listed(self, subject: tuple[str, str], sessions: Sequence[Session]) -> bool:
        project, label = subject
        studies = {session.study_uid for session in sessions}
        listing = self._context.known(project).listing
        return any(known.study_uid in studies and known.subject.casefold() == label for known in listing)

    def _was_made_in_vain(self, subject: tuple[str, str], sessions: Sequence[Session]) -> bool:
        """Whether nothing is archived for a subject, and archiving one of these sessions for it was tried and failed.

        XNAT makes the subject first. One that is somebody else's has stopped an upload before anything was sent.
        """
        project, label = subject
        if label in self._context.known(project).of_subject:
            return False
        rows = [row for row in self._context.prearchive_entries(project) if row.status in STUCK]
        return any(row.is_ours(one, by_dicom=True) for row in rows for one in sessions)

    def _is_archived(self, session: Session) -> bool:
        subject = session.subject.casefold()
        try:
            known = with_label_of(session, self._context.sessions(session))
        except SessionTrouble:  # a listing that contradicts itself says nothing
            return False
        if known is None or known.subject.casefold() != subject:
            return False
        # A script of the site may have changed the study's UID. The names of the files still have it.
        return known.study_uid == session.study_uid or (
            known.is_imaging and in_archive(self._context.rest, known.accession).has_study(session.study_uid)
        )


def _repaired(session: Session, is_bare: bool) -> Problem:
    """is_bare: the listing has no session of the subject."""
    with_what = "with none of these sessions"
    if is_bare:
        with_what = (
            "with no session that the listing shows. An upload that failed, or whose session was deleted, may have "
            "left it; or it is somebody else's"
        )
    text = (
        f"{session.title}: {printable(session.repaired)!r} becomes the subject label {session.subject}. Project "
        f"{session.project} has such a subject, {with_what}, so two people could become one"
    )
    fix = "if it is the same person, give the label yourself (--labels, --subject-label). If not, rename the folder"
    return Problem.advised("subject-exists", text, fix, (session.label,))


def _note_new(context: RunContext, subjects: Mapping[str, Subjects], plan: Plan) -> Plan:
    """Notes subjects that are new to a project which is set not to get new ones by uploads. XNAT takes them anyway."""
    notes = []
    for project in context.projects.values():
        if project.takes_subjects:
            continue
        known = subjects[project.id]
        new = [s for s in plan.sessions if s.project == project.id and s.subject.casefold() not in known]
        if new:
            names = ", ".join(dict.fromkeys(session.subject for session in new))
            text = f"project {project.id} is set not to let uploads create subjects; {names} are new"
            notes.append(Problem("new-subject", text, tuple(session.label for session in new)))
    return replace(plan, problems=(*plan.problems, *notes))
