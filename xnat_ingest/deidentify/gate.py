"""--require-deidentified: sessions that would identify their patient are conflicts, before the first byte is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from xnat_ingest.core import Plan, Problem, Session
from xnat_ingest.deidentify.encoding import NotRewritable
from xnat_ingest.deidentify.identity import Findings, look_for_identity
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.dicom_dataset import NotWalkable
from xnat_ingest.inputs.outgoing import Outgoing, Rewrite

# How many elements are named in one conflict.
_NAMED = 5


def hold_back(plan: Plan, source: Source, rewrite: Rewrite | None, check_stop: Callable[[], None]) -> Plan:
    """The plan with a conflict for each such session. rewrite: what changes objects before they are sent."""
    sessions, problems = [], []
    for session in plan.sessions:
        problem = _judge(session, source, rewrite, check_stop)
        if problem:
            problems.append(problem)
            session = replace(session, conflicts=(*session.conflicts, problem))  # noqa: PLW2901
        sessions.append(session)
    return replace(plan, sessions=tuple(sessions), problems=(*plan.problems, *problems))


def _judge(session: Session, source: Source, rewrite: Rewrite | None, check_stop: Callable[[], None]) -> Problem | None:
    found = Findings()
    for instance in session.instances:
        check_stop()
        try:
            found.add(look_for_identity(Outgoing(source, instance, rewrite), check_stop))
        except (NotRewritable, NotWalkable) as error:
            found.miss(f"the object {error}")
        except OSError as error:
            found.miss(error.strerror or "cannot be read")
    if not (found.identifying or found.unreadable):
        return None
    names = [*found.elements, *(f"private elements of {c}" for c in found.private), *found.risks]
    names += [f"{place} repeats {keyword}" for place, keyword in found.texts]
    names += ["names of files"] if found.named else []
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    unread = f"; {found.unreadable} cannot be looked through ({next(iter(found.reasons))})" if found.unreadable else ""
    detail = (
        f"{session.title}: {found.identifying} of {len(session.instances)} objects tell who the patient is "
        f"({shown}){unread}; rewrite them with --deidentify PROFILE (xnat-ingest identity shows all of it)"
    )
    return Problem("identifying", detail, (session.label,))
