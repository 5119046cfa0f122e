"""Subject labels whose illegal characters were replaced. On the server they may belong to another person."""

from __future__ import annotations

from dataclasses import replace

from xnat_ingest.core import Plan, Problem, Session, printable
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.xnat.tables import JsonRow


def refuse_strange_subjects(context: RunContext, plan: Plan) -> Plan:
    """Puts sessions in conflict whose repaired subject label is another subject's on the server.

    `Müller` becomes `M_ller`. If the server already has a subject M_ller that this tree did not make, two people could
    become one subject. A subject is this tree's if one of its archived sessions has a study that is in the plan, too.
    """
    made = {(s.project, s.subject.casefold()) for s in plan.sessions if s.repaired and not s.conflicts}
    strange = {key for key in made if key[1] in _subjects(context, key[0])} - _own(context, plan, made)
    found: dict[int, Problem] = {}
    for session in plan.sessions:
        if session.repaired and (session.project, session.subject.casefold()) in strange:
            found[id(session)] = _conflict(session)
    sessions = tuple(replace(s, conflicts=(*s.conflicts, found[id(s)])) if id(s) in found else s for s in plan.sessions)
    return replace(plan, sessions=sessions, problems=(*plan.problems, *found.values()))


def _subjects(context: RunContext, project: str) -> set[str]:
    return set(context.rest.rows(f"/data/projects/{project}/subjects", _label, columns="label"))


def _label(row: JsonRow) -> str:
    return row["label"].casefold()


def _own(context: RunContext, plan: Plan, made: set[tuple[str, str]]) -> set[tuple[str, str]]:
    studies = {(s.project, s.subject.casefold(), s.study_uid) for s in plan.sessions}
    return {
        (project, known.subject.casefold())
        for project in {project for project, _ in made}
        for known in context.known(project).listing
        if (project, known.subject.casefold(), known.study_uid) in studies
    }


def _conflict(session: Session) -> Problem:
    text = (
        f"{session.title}: {printable(session.repaired)!r} becomes the subject label {session.subject}. Project "
        f"{session.project} has such a subject, with none of these sessions, so two people could become one"
    )
    fix = "if it is the same person, give the label yourself (--labels, --subject-label). If not, rename the folder"
    return Problem.advised("subject-exists", text, fix, (session.label,))
