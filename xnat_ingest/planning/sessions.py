"""Groups instances into sessions, and finds every conflict before anything is sent."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from xnat_ingest.core import (
    NO_LABEL,
    Instance,
    Plan,
    Problem,
    Session,
    SetAside,
    composed,
    count_of,
    is_made_a_date,
    is_rewritten,
    is_rounded,
    printable,
    without_zeros,
)
from xnat_ingest.core.text import read_as_utf8
from xnat_ingest.planning.blank_files import mark_blank
from xnat_ingest.planning.conflicts import (
    TOO_DEEP,
    LabelledSession,
    mark_conflicts,
    split_notes,
    subject_notes,
)
from xnat_ingest.planning.label_sheet import NO_SHEET, Sheet, SheetRow
from xnat_ingest.planning.labels import LAYOUTS, MAX_LABEL, BadLabel, Template, legal
from xnat_ingest.planning.rules import RuleSet
from xnat_ingest.planning.sheet_conflicts import Unmatched, sheet_conflicts, sheet_notes

SameBytes = Callable[[Instance, Instance], bool]
# An instance -> the instance as it will be sent, or the reason why it is not. May raise OSError.
Leave = Callable[[Instance], Instance | SetAside]
# A folder's path -> its name for labels. An archive that stands for a folder loses its suffix.
NameOf = Callable[[str], str]
# How many studies a message names.
_FEW = 10


def last_name(folder: str) -> str:
    return folder.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class LabelRules:
    """How sessions get their labels.

    fixed: (subject, label) as given, when ROOT is one session.
    subject_given: the one subject of layout `session`.
    sheet: labels for single sessions, found by folder, or by study when by_study is set.
    labels_partial: the sheet need not list every session.
    mixed_patients: a subject may have several PatientIDs.
    split_studies: each study in a session's folder is a session.
    """

    project: str
    layout: str
    subject: Template
    session: Template
    subject_given: str = ""
    fixed: tuple[str, str] | None = None
    sheet: Sheet = NO_SHEET
    labels_partial: bool = False
    mixed_patients: bool = False
    split_studies: bool = False

    @property
    def by_study(self) -> bool:
        return self.layout == "headers"

    @property
    def levels(self) -> tuple[str, ...]:
        return LAYOUTS[self.layout]

    def folders(self, parts: tuple[str, ...], name_of: NameOf) -> dict[str, str]:
        """Placeholder -> folder name."""
        names = (name_of("/".join(parts[: depth + 1])) for depth in range(len(parts)))
        named = dict(zip(self.levels, names, strict=True))
        if self.subject_given:
            named["subject"] = self.subject_given
        return {level: composed(read_as_utf8(name)) for level, name in named.items()}


def make_plan(
    found: Iterable[Instance | SetAside],
    rules: RuleSet,
    labelling: LabelRules,
    same_bytes: SameBytes,
    name_of: NameOf = last_name,
    leave: Leave = lambda instance: instance,
) -> Plan:
    """The plan for everything a scan found. If same_bytes raises OSError, the second file is unreadable."""
    depth = len(labelling.levels)
    aside: list[SetAside] = []
    folders: dict[tuple[str, ...], list[Instance]] = defaultdict(list)
    seen = 0
    for seen, item in enumerate(found, 1):  # noqa: B007 - the last number is the count
        if isinstance(item, SetAside):
            aside.append(item)
        elif len(parts := tuple(item.path.split("/"))) <= depth:
            detail = f"is above the session folders of layout {labelling.layout}. {TOO_DEEP}"
            aside.append(SetAside(item.path, "outside-layout", detail))
        else:
            folders[(item.study_uid,) if labelling.by_study else parts[:depth]].append(item)
    groups = []
    for above, instances in folders.items():
        single = _drop_duplicates(_apply_rules(instances, rules, aside), same_bytes, aside)
        if kept := _leaving(single, leave, aside):
            groups += _groups(() if labelling.by_study else above, kept, split=labelling.split_studies)
    rows, unused = labelling.sheet.matched([(g.folder, g.study_uid) for g in groups], by_study=labelling.by_study)
    drafts = [_draft(group, labelling, name_of, rows.get(index)) for index, group in enumerate(groups)]
    problems = [note for draft in drafts for note in draft.notes]
    problems += split_notes(drafts) if labelling.split_studies else []
    unmatched = Unmatched.of(drafts, unused, by_study=labelling.by_study)
    also = sheet_conflicts(drafts, labelling.sheet, unmatched, partial=labelling.labels_partial)
    sessions, conflicts = mark_conflicts(
        drafts, by_study=labelling.by_study, mixed_patients=labelling.mixed_patients, also=also
    )
    words = {rule.folder for rule in (*rules.include, *rules.exclude)}
    problems += conflicts
    problems += subject_notes(drafts, labelling.levels)
    problems += [_unused(name, near, name in words) for name, near in rules.unused().items()]
    if labelling.sheet:
        left_out = {"/".join(item.path.split("/")[:depth]) for item in aside}
        problems += sheet_notes(labelling.sheet, drafts, unmatched, left_out, partial=labelling.labels_partial)
    aside = mark_blank(aside, sessions, depth, rules.counting)
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


def _leaving(instances: list[Instance], leave: Leave, aside: list[SetAside]) -> list[Instance]:
    kept = []
    for instance in instances:
        try:
            left = leave(instance)
        except OSError as error:
            left = SetAside(instance.path, "unreadable", error.strerror or "cannot be read")
        if isinstance(left, SetAside):
            aside.append(left)
        else:
            kept.append(left)
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


@dataclass(frozen=True, slots=True)
class _Group:
    """The instances of one session. parts: the folders above its files that the layout names."""

    parts: tuple[str, ...]
    folder: str
    study_uid: str
    instances: tuple[Instance, ...]
    number: int = 1

    @classmethod
    def of(cls, parts: tuple[str, ...], instances: Iterable[Instance], number: int = 1) -> _Group:
        """number: the position of its study among those of the folder."""
        kept = tuple(instances)
        folder = "/".join(parts) or _common_folder(kept)
        return cls(parts, folder, min(i.study_uid for i in kept), kept, number)


def _groups(parts: tuple[str, ...], instances: list[Instance], *, split: bool) -> list[_Group]:
    """The sessions of one folder: one, or with --split-studies one per study, by study date and time."""
    studies: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        studies[instance.study_uid].append(instance)
    if not split or len(studies) == 1:
        return [_Group.of(parts, instances)]

    def begun(members: list[Instance]) -> tuple[str, str, str]:
        tags = [(i.tags.get("StudyDate", ""), i.tags.get("StudyTime", "")) for i in members]
        return (*min(tags), members[0].study_uid)

    return [_Group.of(parts, members, number) for number, members in enumerate(sorted(studies.values(), key=begun), 1)]


def _draft(group: _Group, labelling: LabelRules, name_of: NameOf, row: SheetRow | None) -> LabelledSession:
    found = _Labels(labelling, labelling.folders(group.parts, name_of), group.folder, group.instances)
    source, subject, label = found.make(row)
    if group.number > 1 and not (row and row.session):
        label = found.numbered(label, group.number)
    own = session_conflicts(group.folder, label, group.instances)
    conflicts = (*(_about(label, c) for c in found.conflicts), *own)
    project = found.folders.get("project", labelling.project)
    repaired = source if source != subject else ""
    session = Session(
        project,
        subject,
        label,
        group.study_uid,
        group.folder,
        group.instances,
        conflicts,
        repaired,
        subject_given=bool(row and row.subject),
    )
    notes = tuple(_about(label, n) for n in found.notes)
    old = found.old_subject(subject, label) if row else ""
    return LabelledSession(session, source, notes, row, tuple(found.changed), old)


def session_conflicts(
    folder: str, label: str, instances: tuple[Instance, ...], *, instead: str = ""
) -> tuple[Problem, ...]:
    """Conflicts between the instances of one session, whatever its label. instead: see mark_conflicts."""
    conflicts = []
    studies: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        studies[instance.study_uid].append(instance)
    if len(studies) > 1:
        # The most common causes are a console that was restarted, and a misplaced screen capture.
        few = sorted(studies)[:_FEW]
        where = "; ".join(f"{study} in {_places(folder, studies[study])}" for study in few)
        where += f"; and {len(studies) - _FEW} more" if len(studies) > _FEW else ""
        fact = f"folder {printable(folder)} contains {len(studies)} studies ({where})"
        fix = (
            "make one session per study with --split-studies, take sessions from the headers with --layout headers, "
            f"move one study to a folder of its own, or leave it out with --exclude. {TOO_DEEP}"
        )
        conflicts.append(Problem.advised("two-studies", fact, instead or fix, (label,)))
    if twice := _stored_twice(instances):
        fact = f"XNAT would store two instances of {printable(folder)} under the same name ({twice})"
        fix = "leave one of their series out with --exclude"
        conflicts.append(Problem.advised("name-collision", fact, instead or fix, (label,)))
    return tuple(conflicts)


def _places(folder: str, instances: Iterable[Instance]) -> str:
    """The folders of one of a session's studies, and how many files are in them."""
    found = Counter(i.path.rpartition("/")[0].removeprefix(f"{folder}/") for i in instances)
    named = [f"{printable(place)} ({count_of(number, 'file')})" for place, number in found.most_common(3)]
    return ", ".join(named) + (f" and {len(found) - 3} more folders" if len(found) > 3 else "")


def _common_folder(instances: tuple[Instance, ...]) -> str:
    first, *others = ({i.path.rpartition("/")[0] for i in instances}) or {""}
    common = first.split("/")
    for other in others:
        same = zip(common, other.split("/"), strict=False)
        common = [one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], same)]
    return "/".join(common) or "."


class _Labels:
    """The labels of one session, and their problems."""

    def __init__(
        self, labelling: LabelRules, folders: dict[str, str], folder: str, instances: tuple[Instance, ...]
    ) -> None:
        self.labelling = labelling
        self.folders = folders
        self.folder = printable(folder)
        self.instances = instances
        self.conflicts: list[Problem] = []
        self.notes: list[Problem] = []
        self.changed: list[str] = []

    def make(self, given: SheetRow | None) -> tuple[str, str, str]:
        """(text that the subject label was made from, subject label, session label)."""
        if self.labelling.fixed:
            subject, label = self.labelling.fixed
            return subject, subject, label
        for what, template in (("subject", self.labelling.subject), ("session", self.labelling.session)):
            if given and what not in given.as_written and self._is_changed(getattr(given, what), what, template):
                self.changed.append(getattr(given, what))
        source, subject = self._label("subject", given.subject if given else "", self.labelling.subject)
        _, label = self._label("session", given.session if given else "", self.labelling.session)
        return source, subject, label

    def old_subject(self, subject: str, label: str) -> str:
        """The subject that the templates give, when a sheet changed it and the session's label still names it."""
        with suppress(BadLabel):
            was = legal(self.labelling.subject.fill(self.folders, self.instances[0]))
            same = label == legal(self.labelling.session.fill(self.folders, self.instances[0]))
            if same and subject != was and was in label:
                return was
        return ""

    def numbered(self, label: str, number: int) -> str:
        """The label of the second or a later study of a folder."""
        made = f"{label}_{number}"
        if len(made) > MAX_LABEL and label != NO_LABEL:
            fact = f"session label of {self.folder}: the label {made} is longer than {MAX_LABEL} characters"
            self.conflicts.append(Problem.advised("illegal-label", fact, "list the session in a sheet (--labels)"))
        return made

    def _is_changed(self, text: str, what: str, template: Template) -> bool:
        """Whether a label in the sheet looks like the folder's name, or the template's label, after a spreadsheet."""
        if not text:
            return False
        known = {self.folders[what]} if what in self.folders else set[str]()
        with suppress(BadLabel):
            known.add(template.fill(self.folders, self.instances[0]))
        if text in known:
            return False
        shortened = any(without_zeros(text) == without_zeros(one) for one in known)
        return (
            shortened or is_rewritten(text) or any(is_rounded(text, one) or is_made_a_date(text, one) for one in known)
        )

    def _fill(self, template: Template) -> str:
        if len(values := {template.values(i) for i in self.instances}) > 1:
            self.conflicts.append(
                Problem.advised(
                    "ambiguous-label",
                    f"template {template.text} gives {len(values)} different labels for the files of {self.folder}",
                    "use a template that is the same for the whole session, or give its labels with --labels",
                )
            )
        return template.fill(self.folders, self.instances[0])

    def _label(self, what: str, given: str, template: Template) -> tuple[str, str]:
        """(text that the label was made from, the label)."""
        text = given
        try:
            text = composed(given or self._fill(template))
            return text, self._legal(what, text)
        except BadLabel as error:
            where = f" of {len(self.instances)} files (the first is {printable(self.instances[0].path)})"
            whose = where if str(error).endswith("headers") else ""
            fix = f"give another template with --{what}-label, or list the session in a sheet (--labels)"
            self.conflicts.append(
                Problem.advised("illegal-label", f"{what} label of {self.folder}: {error}{whose}", fix)
            )
            return text, printable(text) or NO_LABEL

    def _legal(self, what: str, text: str) -> str:
        label = legal(text)
        if label != text:
            detail = (
                f"{what} label of {self.folder}: {printable(text)!r} has characters that XNAT does not take in labels, "
                f"so it becomes {label}"
            )
            self.notes.append(Problem("illegal-label", detail))
        return label


def _stored_twice(instances: tuple[Instance, ...]) -> str:
    """A stored name that two instances share, or "". It keeps hashes, not names, because sessions can be large."""
    seen: set[int] = set()
    for instance in instances:
        if (number := hash(instance.name)) in seen:
            names = Counter(i.name for i in instances)
            return next((name for name, times in names.items() if times > 1), "")
        seen.add(number)
    return ""


def _about(label: str, problem: Problem) -> Problem:
    return replace(problem, sessions=(label,))


def sheet(plan: Plan) -> list[SheetRow]:
    """The plan's labels as a sheet to edit and give back with --labels.

    The instances' tags must contain StudyDate and StudyDescription.
    """
    return [
        SheetRow(
            printable(session.folder),
            session.study_uid,
            "" if session.subject == NO_LABEL else session.subject,
            "" if session.label.startswith(NO_LABEL) else session.label,
            len(session.instances),
            _first(i.leaving.get("StudyDate", "") for i in session.instances),
            " ".join(sorted({i.modality for i in session.instances} - {""})),
            _first(i.leaving.get("StudyDescription", "") for i in session.instances)
            or _first(i.series_description for i in session.instances),
        )
        for session in plan.sessions
    ]


def _first(texts: Iterable[str]) -> str:
    return printable(next(filter(None, texts), ""))


def _unused(rule: str, near: list[str], is_folder: bool) -> Problem:
    hint = f"; folders that differ only in case: {', '.join(map(printable, near))} (see --ignore-case)" if near else ""
    if is_folder and set(rule) & set("*? "):
        hint += "; a folder rule is part of a name, without wildcards, and commas separate several rules"
    return Problem("rule-unused", f"the rule {printable(rule)} matched nothing{hint}")
