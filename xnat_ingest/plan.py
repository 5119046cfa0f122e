"""Groups instances into sessions and finds every conflict before a byte is sent."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from xnat_ingest.labels import LAYOUTS, BadLabel, Template, legal
from xnat_ingest.model import Instance, Plan, Problem, Session, SetAside
from xnat_ingest.naming import printable
from xnat_ingest.rules import RuleSet

SameBytes = Callable[[Instance, Instance], bool]


@dataclass(frozen=True, slots=True)
class Labelling:
    """How sessions get their names. fixed: (subject, label) verbatim, for ROOT as one session; subject_given: the
    one subject of layout `session`."""

    project: str
    layout: str
    subject: Template
    session: Template
    subject_given: str = ""
    fixed: tuple[str, str] | None = None

    @property
    def levels(self) -> tuple[str, ...]:
        return LAYOUTS[self.layout]

    def folders(self, parts: tuple[str, ...]) -> dict[str, str]:
        """Placeholder -> folder name."""
        named = dict(zip(self.levels, parts, strict=True))
        if self.subject_given:
            named["subject"] = self.subject_given
        return named


@dataclass(frozen=True, slots=True)
class _Draft:
    """A session with the words its labels were made of."""

    session: Session
    subject_source: str
    notes: tuple[Problem, ...]


def build(found: Iterable[Instance | SetAside], rules: RuleSet, labelling: Labelling, same_bytes: SameBytes) -> Plan:
    """The plan for everything a scan found. same_bytes may raise OSError: the second file is then unreadable."""
    depth = len(labelling.levels)
    aside: list[SetAside] = []
    folders: dict[tuple[str, ...], list[Instance]] = defaultdict(list)
    seen = 0
    for seen, item in enumerate(found, 1):  # noqa: B007 - the last number is the count
        if isinstance(item, SetAside):
            aside.append(item)
        elif len(parts := tuple(item.path.split("/"))) <= depth:
            aside.append(SetAside(item.path, "outside-layout", f"lies above the session folders of {labelling.layout}"))
        else:
            folders[parts[:depth]].append(item)
    drafts = []
    for above, instances in folders.items():
        kept = _drop_duplicates(_apply_rules(instances, rules, aside), same_bytes, aside)
        if kept:
            drafts.append(_draft(above, tuple(kept), labelling))
    problems = [note for draft in drafts for note in draft.notes]
    sessions, conflicts = _mark_conflicts(drafts)
    problems += conflicts + [_unused(name, near) for name, near in rules.unused().items()]
    return Plan(labelling.project, tuple(sessions), tuple(aside), tuple(problems), seen)


def _apply_rules(instances: list[Instance], rules: RuleSet, aside: list[SetAside]) -> list[Instance]:
    in_series = Counter({i.sop_uid: i.series_uid for i in instances}.values())
    kept = []
    for instance in instances:
        if reason := rules.judge(instance, in_series[instance.series_uid]):
            aside.append(SetAside(instance.path, reason))
        else:
            kept.append(instance)
    return kept


def _drop_duplicates(instances: list[Instance], same_bytes: SameBytes, aside: list[SetAside]) -> list[Instance]:
    first: dict[str, Instance] = {}
    for instance in instances:
        other = first.setdefault(instance.sop_uid, instance)
        if other is instance:
            continue
        try:
            same = same_bytes(other, instance)
        except OSError as error:
            aside.append(SetAside(instance.path, "unreadable", error.strerror or "cannot be read"))
            continue
        reason = "duplicate" if same else "conflicting-duplicate"
        aside.append(SetAside(instance.path, reason, f"same SOPInstanceUID as {printable(other.path)}"))
    return list(first.values())


def _draft(parts: tuple[str, ...], instances: tuple[Instance, ...], labelling: Labelling) -> _Draft:
    folder = "/".join(parts) or "."
    conflicts: list[Problem] = []
    notes: list[Problem] = []
    if labelling.fixed:
        subject, label = source, _ = labelling.fixed
    else:
        source = _fill(labelling.subject, instances, labelling, parts, conflicts)
        wanted = _fill(labelling.session, instances, labelling, parts, conflicts)
        subject, label = _legal("subject", source, folder, notes, conflicts), ""
        label = _legal("session", wanted, folder, notes, conflicts)
    studies = sorted({i.study_uid for i in instances})
    if len(studies) > 1:
        conflicts.append(
            Problem(
                "two-studies",
                f"folder {printable(folder)} holds {len(studies)} studies ({', '.join(studies)}); move one to a folder "
                "of its own, leave one out with --exclude, or upload it alone with -S SUBJECT -E LABEL",
            )
        )
    if twice := _stored_twice(instances):
        conflicts.append(
            Problem(
                "name-collision",
                f"XNAT would store two instances of {printable(folder)} under one name ({twice}); upload one of "
                "their series alone, leaving the other out with --exclude",
            )
        )
    session = Session(
        labelling.project, subject, label, studies[0], folder, instances, tuple(_about(label, c) for c in conflicts)
    )
    return _Draft(session, source, tuple(_about(label, n) for n in notes))


def _stored_twice(instances: tuple[Instance, ...]) -> str:
    """A name that two instances share, "" when there is none. Numbers, not names, are kept: sessions can be large."""
    seen: set[int] = set()
    for instance in instances:
        if (number := hash(instance.name)) in seen:
            names = Counter(i.name for i in instances)
            return next((name for name, times in names.items() if times > 1), "")
        seen.add(number)
    return ""


def _fill(
    template: Template,
    instances: tuple[Instance, ...],
    labelling: Labelling,
    parts: tuple[str, ...],
    conflicts: list[Problem],
) -> str:
    if len(values := {template.values(i) for i in instances}) > 1:
        conflicts.append(
            Problem(
                "ambiguous-label",
                f"the files of {printable('/'.join(parts) or '.')} give {len(values)} different labels by "
                f"{template.text}; use a template that is the same for the whole session",
            )
        )
    return template.fill(labelling.folders(parts), instances[0])


def _legal(what: str, text: str, folder: str, notes: list[Problem], conflicts: list[Problem]) -> str:
    try:
        label = legal(text)
    except BadLabel as error:
        flag = f"--{what}-label"
        conflicts.append(
            Problem("illegal-label", f"{what} label of {printable(folder)}: {error}; give another with {flag}")
        )
        return printable(text)
    if label != text:
        notes.append(
            Problem("illegal-label", f"{what} label of {printable(folder)}: {printable(text)!r} is sent as {label}")
        )
    return label


def _about(label: str, problem: Problem) -> Problem:
    return replace(problem, sessions=(label,))


def _mark_conflicts(drafts: list[_Draft]) -> tuple[list[Session], list[Problem]]:
    """The sessions, each with its conflicts, and all conflicts."""
    across = [*_split_studies(drafts), *_label_collisions(drafts), *_subject_spellings(drafts)]
    marked: dict[int, list[Problem]] = defaultdict(list)
    problems = [conflict for draft in drafts for conflict in draft.session.conflicts]
    for members, problem in across:
        problems.append(problem)
        for draft in members:
            marked[id(draft)].append(problem)
    sessions = [replace(d.session, conflicts=(*d.session.conflicts, *marked[id(d)])) for d in drafts]
    return sessions, problems


_Conflicts = Iterable[tuple[list[_Draft], Problem]]


def _grouped(drafts: list[_Draft], keys: Callable[[_Draft], Iterable[object]]) -> list[list[_Draft]]:
    groups: dict[object, list[_Draft]] = defaultdict(list)
    for draft in drafts:
        for key in keys(draft):
            groups[key].append(draft)
    return [group for group in groups.values() if len(group) > 1]


def _split_studies(drafts: list[_Draft]) -> _Conflicts:
    for group in _grouped(drafts, lambda d: {i.study_uid for i in d.session.instances}):
        yield (
            group,
            _problem("split-study", group, "hold one study", "put it into one folder, or leave one out with --exclude"),
        )


def _label_collisions(drafts: list[_Draft]) -> _Conflicts:
    for group in _grouped(drafts, lambda d: [(d.session.project, d.session.label.casefold())]):
        yield (
            group,
            _problem(
                "label-collision",
                group,
                f"share the session label {group[0].session.label} (XNAT labels are unique in a project, and letters "
                "differing only in case do not count)",
                "rename a folder, or tell them apart with --session-label",
            ),
        )


def _subject_spellings(drafts: list[_Draft]) -> _Conflicts:
    for group in _grouped(drafts, lambda d: [(d.session.project, d.session.subject.casefold())]):
        if len({d.subject_source for d in group}) > 1:
            yield (
                group,
                _problem(
                    "label-collision",
                    group,
                    f"reach the subject label {group[0].session.subject} by different spellings",
                    "rename the folders, or give --subject-label",
                ),
            )


def _problem(kind: str, group: list[_Draft], fact: str, fix: str) -> Problem:
    names = ", ".join(printable(d.session.folder) for d in group)
    return Problem(kind, f"folders {names} {fact}; {fix}", tuple(dict.fromkeys(d.session.label for d in group)))


def _unused(rule: str, near: list[str]) -> Problem:
    hint = f"; folders that differ only in case: {', '.join(map(printable, near))} (see --ignore-case)" if near else ""
    return Problem("rule-unused", f"the rule {printable(rule)} matched nothing{hint}")
