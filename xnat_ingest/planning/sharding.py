"""Removes from a plan what other shards take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from xnat_ingest.core import OTHER_SHARD, Plan, Session, SetAside
from xnat_ingest.planning.labels import BadLabel, legal
from xnat_ingest.planning.sessions import LabelRules, NameOf
from xnat_ingest.settings.shards import Shard


def keep_shard(plan: Plan, shard: Shard) -> Plan:
    """Keeps the sessions of the shard's subjects, and sets the files of all others aside, without their problems."""
    ours = [session for session in plan.sessions if shard.takes(session.subject)]
    others = [session for session in plan.sessions if not shard.takes(session.subject)]
    aside = (SetAside(i.path, OTHER_SHARD, _whose(session)) for session in others for i in session.instances)
    gone = {session.label for session in others} - {session.label for session in ours}
    problems = (one for one in plan.problems if not one.sessions or not gone.issuperset(one.sessions))
    return replace(
        plan, sessions=tuple(ours), set_aside=(*plan.set_aside, *aside), problems=tuple(dict.fromkeys(problems))
    )


def _whose(session: Session) -> str:
    return f"subject {session.subject} belongs to another shard"


def shard_by_path(labelling: LabelRules, shard: Shard, name_of: NameOf) -> Callable[[str], bool]:
    """Whether a path belongs to another shard. If folders name the subject, such a file need not be read."""
    if labelling.subject.keywords or labelling.sheet or "subject" not in labelling.levels:
        return lambda _: False
    depth = len(labelling.levels)

    def is_other(path: str) -> bool:
        parts = tuple(path.split("/"))
        if len(parts) <= depth:
            return False
        try:
            label = legal(labelling.subject.text.format_map(labelling.folders(parts[:depth], name_of)))
        except BadLabel:
            return False
        return not shard.takes(label)

    return is_other
