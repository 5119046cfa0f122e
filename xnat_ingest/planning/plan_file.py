"""A plan as a file: written by `plan --json`, reviewed and edited by people, executed by `upload --plan`.

Sessions may be dropped and labels changed. What was read from the headers is taken from the file, not read again; that
the files are still those is checked by size and time, one by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from xnat_ingest.core.about import __version__
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.json_documents import best_error, json_path, read_json, read_text
from xnat_ingest.core.model import INFLATED, Instance, Plan, Problem, Session, SetAside
from xnat_ingest.core.read_small import MEGABYTE
from xnat_ingest.core.text import legal_label, printable
from xnat_ingest.planning.conflicts import LabelledSession, mark_conflicts
from xnat_ingest.planning.labels import BadLabel, is_project_id, legal
from xnat_ingest.planning.sessions import session_conflicts

Stat = Callable[[str], tuple[int, int]]
# Values of header elements that rules and labels looked at may name a patient; nothing reads them from a plan.
_FIELDS = tuple(field.name for field in fields(Instance) if field.name not in ("tags", "sent_tags"))
_NUMBERS = ("size", "mtime_ns", "pixel_bytes", "sent_size", "head_size")
# A plan of a million instances takes some 600 MB.
_LIMIT = 4096 * MEGABYTE
_EDIT = "edit the plan file: change labels, or take a session or some of its instances out"


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan that was written.

    root: ROOT of then, absolute.
    deidentified: fingerprint of what headers were rewritten by, "" when they were not.
    """

    root: str
    layout: str
    plan: Plan
    deidentified: str = ""


def plan_text(plan: Plan, root: str, layout: str, deidentified: str = "") -> str:
    """A plan as a file holds it, ASCII: without header values but UIDs, numbers, modalities and descriptions."""
    document = {
        "schema": 1,
        "tool": {"name": "xnat-ingest-container", "version": __version__},
        "root": str(Path(root).absolute()),
        "layout": layout,
        "files_seen": plan.files_seen,
        "sessions": [_session(session) for session in plan.sessions],
        "set_aside": [asdict(aside) for aside in plan.set_aside],
        "problems": [asdict(problem) for problem in plan.problems],
        **({"deidentified": deidentified} if deidentified else {}),
    }
    return json.dumps(document, indent=1) + "\n"


def _session(session: Session) -> dict[str, Any]:
    document = {name: getattr(session, name) for name in ("project", "subject", "label", "folder", "study_uid")}
    studies = {instance.study_uid for instance in session.instances}
    if studies and session.study_uid not in studies:  # a filter has left another of its studies
        document["study_uid"] = min(studies)
    # For whoever reads it; what conflicts there are is found again from what the file says then.
    document["repaired"] = session.repaired
    document["conflicts"] = [conflict.detail for conflict in session.conflicts]
    document["instances"] = [{n: getattr(i, n) for n in _FIELDS} for i in session.instances]
    return document


def read_plan(path: str, *, mixed_patients: bool = False) -> PlanFile:
    """The plan in a file, with the conflicts that it has as it is now. mixed_patients: see mark_conflicts. Raises
    UsageError naming what is wrong."""
    document = read_json(read_text(path, "plan file", _LIMIT), f"plan file {path}")
    if error := best_error(
        document, json.loads(resources.files("xnat_ingest.planning").joinpath("plan.schema.json").read_text())
    ):
        raise UsageError(f"plan file {path}: {json_path(error.absolute_path) or 'the whole'}: {error.message[:300]}")
    _check_texts(path, document)
    sessions = [_read_session(path, entry) for entry in document["sessions"] if entry["instances"]]
    _once(path, sessions)
    drafts = [LabelledSession(session, session.repaired or session.subject) for session in sessions]
    by_study = document.get("layout") == "headers"
    marked, problems = mark_conflicts(drafts, by_study=by_study, mixed_patients=mixed_patients, instead=_EDIT)
    aside = tuple(SetAside(**entry) for entry in document["set_aside"])
    files_seen = int(document["files_seen"])
    dropped = files_seen - len(aside) - sum(len(s.instances) for s in marked)
    if dropped < 0:
        raise UsageError(f"plan file {path}: it holds more files than files_seen says; nothing may be added to a plan")
    project = marked[0].project if marked else ""
    # What was dropped by hand is no file of this plan any more.
    plan = Plan(project, tuple(marked), aside, tuple(problems), files_seen - dropped)
    return PlanFile(document["root"], document.get("layout", ""), plan, document.get("deidentified", ""))


def _read_session(path: str, entry: dict[str, Any]) -> Session:
    for name in ("subject", "label"):
        try:
            if legal(entry[name]) != entry[name]:
                raise BadLabel("a label has 1 to 64 of the characters A-Z a-z 0-9 _ -")
        except BadLabel as error:
            raise UsageError(f"plan file {path}: {name} {printable(entry[name])!r}: {error}") from error
    if not is_project_id(entry["project"]):
        raise UsageError(f"plan file {path}: {printable(entry['project'])!r} cannot be a project's id")
    # JSON knows one kind of number: 9912.0 is the whole number that a schema asks for.
    instances = tuple(
        Instance(**{**one, "tags": {}} | {n: int(one.get(n, 0)) for n in _NUMBERS}) for one in entry["instances"]
    )
    label, folder = entry["label"], entry["folder"]
    _check_instances(f"plan file {path}: session {label}", entry["study_uid"], instances)
    conflicts = session_conflicts(folder, label, instances, instead=_EDIT)
    # Whoever changes the label by hand has chosen it.
    was = entry.get("repaired", "")
    repaired = was if legal_label(was) == entry["subject"] != was else ""
    subject, study_uid = entry["subject"], entry["study_uid"]
    return Session(entry["project"], subject, label, study_uid, folder, instances, conflicts, repaired)


def _check_instances(what: str, study_uid: str, instances: tuple[Instance, ...]) -> None:
    """Raises UsageError for what no scan writes: nothing outside of ROOT is read, nothing is sent twice."""
    found: set[str] = set()
    for instance in instances:
        if {"", ".", ".."} & set(instance.path.split("/")) or "\0" in instance.path:
            raise UsageError(f"{what}: {printable(instance.path)!r} is no path below ROOT")
        if (instance.form == "inflated") != (instance.transfer_syntax in INFLATED) or not instance.transfer_syntax:
            raise UsageError(f"{what}: {printable(instance.path)} was planned by another version; plan again")
        if instance.sop_uid in found:
            raise UsageError(f"{what}: two files have the SOPInstanceUID {instance.sop_uid}; keep one of them")
        found.add(instance.sop_uid)
    studies = {instance.study_uid for instance in instances}
    if study_uid not in studies:
        raise UsageError(f"{what}: study_uid {printable(study_uid)} is not its instances', {min(studies)}")


def _check_texts(path: str, document: dict[str, Any]) -> None:
    """Raises UsageError for a text that no file name and no header can hold: JSON may escape halves of characters."""
    for where, text in _texts(document):
        try:
            # Bytes of a file name that are no UTF-8 are surrogates of their own kind.
            text.encode("utf-8", "surrogateescape" if where.endswith(("root", ".path")) else "strict")
        except UnicodeEncodeError as error:
            raise UsageError(f"plan file {path}: {where}: {printable(text)!r} is no text") from error
    if "\0" in document["root"]:
        raise UsageError(f"plan file {path}: root: no folder has such a name")


def _texts(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(place, text) of what is made a name of, here or on the server."""
    yield "root", document["root"]
    for number, session in enumerate(document["sessions"]):
        for at, instance in enumerate(session["instances"]):
            yield from ((f"sessions[{number}].instances[{at}].{name}", str(value)) for name, value in instance.items())


def _once(path: str, sessions: Iterable[Session]) -> None:
    seen: set[str] = set()
    for instance in (i for session in sessions for i in session.instances):
        if instance.path in seen:
            raise UsageError(f"plan file {path}: {printable(instance.path)} is in it twice")
        seen.add(instance.path)


def without_changed(plan: Plan, stat: Stat) -> Plan:
    """The plan without the files that are not what they were when it was written: those are set aside."""
    changed: list[SetAside] = []

    def same(instance: Instance) -> bool:
        if why := _change(instance, stat):
            changed.append(SetAside(instance.path, "source-changed", f"{why} since it was planned; plan again"))
        return not why

    kept = [replace(s, instances=tuple(i for i in s.instances if same(i))) for s in plan.sessions]
    problems = plan.problems
    if changed:
        problems += (Problem("source-changed", f"{len(changed)} files are not what they were when they were planned"),)
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
        return "is gone or cannot be read"
    if size != instance.size:
        return "has another size"
    return "was written to" if mtime_ns != instance.mtime_ns else ""
