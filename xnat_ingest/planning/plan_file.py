"""The plan file: written by `plan --json`, reviewed and edited by people, carried out by `upload --plan`.

People may drop sessions and change labels. Headers are not read again: their values come from the plan file. Each file
must still have its size and time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from xnat_ingest.core import INFLATED, Instance, Plan, Problem, Session, SetAside, UsageError, legal_label, printable
from xnat_ingest.core.about import __version__
from xnat_ingest.core.json_documents import best_error, json_path, read_json, read_text
from xnat_ingest.core.read_small import MEGABYTE
from xnat_ingest.planning.conflicts import LabelledSession, mark_conflicts
from xnat_ingest.planning.labels import BadLabel, is_project_id, legal
from xnat_ingest.planning.sessions import session_conflicts

Stat = Callable[[str], tuple[int, int]]
# Header values that rules and labels used may identify a patient. They are never needed from a plan file.
_FIELDS = tuple(field.name for field in fields(Instance) if field.name not in ("tags", "sent_tags"))
_NUMBERS = ("size", "mtime_ns", "pixel_bytes", "sent_size", "head_size")
# A plan of a million instances takes about 600 MB.
_LIMIT = 4096 * MEGABYTE
_EDIT = "edit the plan file: change labels, or take a session or some of its instances out"
# Conflicts that only the label sheet or the templates show. They are in the file, all others are found again.
_BY_LABELS = ("ambiguous-label", "label-changed", "label-default", "label-study")
_EDIT_LABELS = "edit the plan file: change the labels. If they are right, take label_conflicts out of the session"
# Conflicts of several sessions. Where one of them is not in the file, the others cannot be found again.
_AMONG_SESSIONS = ("label-collision", "split-study")
_OUTSIDE = (
    "not all of them are in the plan file. Plan the whole tree without --shard, and give --shard to upload. If the "
    "others are not sent, take outside_conflicts out of the session"
)
# key of a session in the file -> what to do about the conflicts in it.
_KEPT = {"label_conflicts": _EDIT_LABELS, "outside_conflicts": _OUTSIDE}


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan that was read from its file.

    root: ROOT when the plan was made, absolute.
    deidentified: fingerprint of the de-identification profile and key, "" without de-identification.
    gated: made with --require-deidentified.
    """

    root: str
    layout: str
    plan: Plan
    deidentified: str = ""
    gated: bool = False


class _Made(list[Any]):
    """A list of JSON values, each made when it is written: those of a million instances would take gigabytes."""

    def __init__(self, make: Callable[[Any], Any], items: Sequence[Any]) -> None:
        super().__init__(items)
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return map(self._make, super().__iter__())


def plan_text(plan: Plan, root: str, layout: str, deidentified: str = "", *, gated: bool = False) -> str:
    """The text of a plan file in one piece."""
    return "".join(plan_pieces(plan, root, layout, deidentified, gated=gated))


def plan_pieces(plan: Plan, root: str, layout: str, deidentified: str = "", *, gated: bool = False) -> Iterator[str]:
    """The text of a plan file, in ASCII, piece by piece. deidentified, gated: see PlanFile.

    Header values in it: only UIDs, numbers, modalities and descriptions.
    """
    document = {
        "schema": 1,
        "tool": {"name": "xnat-ingest-container", "version": __version__},
        "root": str(Path(root).absolute()),
        "layout": layout,
        "files_seen": plan.files_seen,
        "sessions": _Made(lambda one: _session(*one), list(zip(plan.sessions, _outside(plan, layout), strict=True))),
        "set_aside": _Made(asdict, plan.set_aside),
        "problems": [asdict(problem) for problem in plan.problems],
        **({"deidentified": deidentified} if deidentified else {}),
        **({"require_deidentified": True} if gated else {}),
    }
    yield from json.JSONEncoder(indent=1).iterencode(document)
    yield "\n"


def _outside(plan: Plan, layout: str) -> list[list[Problem]]:
    """For each session its conflicts with sessions that are not in the plan, such as those of another shard."""
    among = [[one for one in session.conflicts if one.kind in _AMONG_SESSIONS] for session in plan.sessions]
    if not any(among):
        return among
    again = _marked([replace(session, conflicts=()) for session in plan.sessions], layout, mixed_patients=True)[0]
    facts = [{(one.kind, one.fact) for one in session.conflicts} for session in again]
    return [[one for one in ours if (one.kind, one.fact) not in f] for ours, f in zip(among, facts, strict=True)]


def _marked(sessions: Iterable[Session], layout: str, *, mixed_patients: bool) -> tuple[list[Session], list[Problem]]:
    """See mark_conflicts."""
    drafts = [LabelledSession(session, session.repaired or session.subject) for session in sessions]
    return mark_conflicts(drafts, by_study=layout == "headers", mixed_patients=mixed_patients, instead=_EDIT)


def _session(session: Session, outside: Iterable[Problem]) -> dict[str, Any]:
    """outside: its conflicts with sessions that are not in the file."""
    document = {name: getattr(session, name) for name in ("project", "subject", "label", "folder", "study_uid")}
    studies = {instance.study_uid for instance in session.instances}
    if studies and session.study_uid not in studies:  # after a filter only another study of it is left
        document["study_uid"] = min(studies)
    document["repaired"] = session.repaired
    document |= {"subject_given": True} if session.subject_given else {}
    # For the reader only. These are found again when the edited file is read, except for those that follow.
    document["conflicts"] = [conflict.detail for conflict in session.conflicts]
    labels = {"subject": session.subject, "label": session.label}
    by_labels = [one for one in session.conflicts if one.kind in _BY_LABELS]
    for key, found in zip(_KEPT, (by_labels, outside), strict=True):
        kept = [{"kind": one.kind, "fact": one.fact} | labels for one in found]
        document |= {key: kept} if kept else {}
    document["instances"] = _Made(lambda i: {n: getattr(i, n) for n in _FIELDS}, session.instances)
    return document


def read_plan(path: str, *, mixed_patients: bool = False) -> PlanFile:
    """The plan in a file, with the conflicts of its current content. Raises UsageError that names what is wrong.

    mixed_patients: see mark_conflicts.
    """
    document = read_json(read_text(path, "plan file", _LIMIT), f"plan file {path}")
    if error := best_error(
        document, json.loads(resources.files("xnat_ingest.planning").joinpath("plan.schema.json").read_text())
    ):
        raise UsageError(
            f"plan file {path}: {json_path(error.absolute_path) or 'the whole file'}: {error.message[:300]}"
        )
    _check_texts(path, document)
    entries = [entry for entry in document["sessions"] if entry["instances"]]
    sessions = [_read_session(path, entry) for entry in entries]
    _once(path, sessions)
    for key, fix in _KEPT.items():
        sessions = _with_kept_conflicts(sessions, entries, key, fix)
    marked, problems = _marked(sessions, document.get("layout", ""), mixed_patients=mixed_patients)
    aside = tuple(SetAside(**entry) for entry in document["set_aside"])
    files_seen = int(document["files_seen"])
    dropped = files_seen - len(aside) - sum(len(s.instances) for s in marked)
    if dropped < 0:
        raise UsageError(
            f"plan file {path}: it lists more files than files_seen says; files must not be added to a plan"
        )
    project = marked[0].project if marked else ""
    # Files that were dropped by hand are no longer part of this plan.
    spoiling = [
        Problem(one["kind"], one["detail"], spoils=True) for one in document.get("problems", ()) if one.get("spoils")
    ]
    plan = Plan(project, tuple(marked), aside, (*problems, *spoiling), files_seen - dropped)
    gated = document.get("require_deidentified", False)
    return PlanFile(document["root"], document.get("layout", ""), plan, document.get("deidentified", ""), gated)


def _read_session(path: str, entry: dict[str, Any]) -> Session:
    for name in ("subject", "label"):
        try:
            if legal(entry[name]) != entry[name]:
                raise BadLabel("a label must be 1 to 64 of the characters A-Z a-z 0-9 _ -")
        except BadLabel as error:
            raise UsageError(
                f"plan file {path}: {name} {printable(entry[name])!r}: {error}; change it there, or remove the session"
            ) from error
    if not is_project_id(entry["project"]):
        raise UsageError(f"plan file {path}: {printable(entry['project'])!r} cannot be a project's id")
    # JSON has one kind of number, so 9912.0 passes as an integer in the schema.
    instances = tuple(
        Instance(**{**one, "tags": {}} | {n: int(one.get(n, 0)) for n in _NUMBERS}) for one in entry["instances"]
    )
    label, folder = entry["label"], entry["folder"]
    _check_instances(f"plan file {path}: session {label}", entry["study_uid"], instances)
    conflicts = session_conflicts(folder, label, instances, instead=_EDIT)
    # A label that was changed by hand is the user's choice.
    was = entry.get("repaired", "")
    repaired = was if legal_label(was) == entry["subject"] != was else ""
    subject, study_uid = entry["subject"], entry["study_uid"]
    given = entry.get("subject_given", False)
    return Session(entry["project"], subject, label, study_uid, folder, instances, conflicts, repaired, given)


def _with_kept_conflicts(
    sessions: Sequence[Session], entries: Sequence[dict[str, Any]], key: str, fix: str
) -> list[Session]:
    """The sessions with the conflicts that are in the file under this key.

    They stand as long as a session has the same labels. One study in two sessions stands under all labels.
    """
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, (session, entry) in enumerate(zip(sessions, entries, strict=True)):
        for one in entry.get(key, ()):
            if one["kind"] == "split-study" or (one["subject"], one["label"]) == (session.subject, session.label):
                members[one["kind"], printable(one["fact"])].append(index)
    marked = list(sessions)
    for (kind, fact), indices in members.items():
        labels = tuple(dict.fromkeys(sessions[index].label for index in indices))
        problem = Problem.advised(kind, fact, fix, labels)
        for index in indices:
            marked[index] = replace(marked[index], conflicts=(*marked[index].conflicts, problem))
    return marked


def _check_instances(what: str, study_uid: str, instances: tuple[Instance, ...]) -> None:
    """Raises UsageError for entries that a scan never writes. So nothing outside ROOT is read, or sent twice."""
    found: set[str] = set()
    for instance in instances:
        if {"", ".", ".."} & set(instance.path.split("/")) or "\0" in instance.path:
            raise UsageError(f"{what}: {printable(instance.path)!r} is not a path below ROOT")
        if (instance.form == "inflated") != (instance.transfer_syntax in INFLATED) or not instance.transfer_syntax:
            raise UsageError(f"{what}: {printable(instance.path)} was planned by another version; plan again")
        if instance.sop_uid in found:
            raise UsageError(f"{what}: two files have the SOPInstanceUID {instance.sop_uid}; keep one of them")
        found.add(instance.sop_uid)
    studies = {instance.study_uid for instance in instances}
    if study_uid not in studies:
        raise UsageError(f"{what}: study_uid {printable(study_uid)} is not that of its instances, {min(studies)}")


def _check_texts(path: str, document: dict[str, Any]) -> None:
    """Raises UsageError for text that cannot be in a file name or a header: JSON can escape half a character."""
    for where, text in _texts(document):
        try:
            # Only these surrogates are valid: they are bytes of a file name that are not UTF-8.
            text.encode("utf-8", "surrogateescape" if where.endswith(("root", ".path")) else "strict")
        except UnicodeEncodeError as error:
            raise UsageError(f"plan file {path}: {where}: {printable(text)!r} is not valid text") from error
    if "\0" in document["root"]:
        raise UsageError(f"plan file {path}: root: not a valid folder name")


def _texts(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(position, text) of everything that becomes a name, here or on the server."""
    yield "root", document["root"]
    for number, session in enumerate(document["sessions"]):
        for at, instance in enumerate(session["instances"]):
            yield from ((f"sessions[{number}].instances[{at}].{name}", str(value)) for name, value in instance.items())


def _once(path: str, sessions: Iterable[Session]) -> None:
    seen: set[str] = set()
    for instance in (i for session in sessions for i in session.instances):
        if instance.path in seen:
            raise UsageError(f"plan file {path}: {printable(instance.path)} is listed twice; keep only one")
        seen.add(instance.path)


def without_changed(plan: Plan, stat: Stat) -> Plan:
    """Sets aside the files that have changed since the plan was written."""
    changed: list[SetAside] = []

    def same(instance: Instance) -> bool:
        if why := _change(instance, stat):
            changed.append(SetAside(instance.path, "source-changed", f"{why} since it was planned; plan again"))
        return not why

    kept = [replace(s, instances=tuple(i for i in s.instances if same(i))) for s in plan.sessions]
    problems = plan.problems
    if changed:
        problems += (Problem("source-changed", f"{len(changed)} files have changed since they were planned"),)
    return replace(
        plan,
        sessions=tuple(session for session in kept if session.instances),
        set_aside=(*plan.set_aside, *changed),
        problems=problems,
    )


def _change(instance: Instance, stat: Stat) -> str:
    try:
        size, mtime_ns = stat(instance.path)
    except (OSError, KeyError):
        return "is missing or unreadable"
    if size != instance.size:
        return "changed its size"
    return "was modified" if mtime_ns != instance.mtime_ns else ""
