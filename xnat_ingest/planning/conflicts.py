"""Conflicts between sessions of one tree: one study in two folders, two sources for one label."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from xnat_ingest.core import NO_LABEL, Instance, Problem, Session, composed, count_of, few_of, printable
from xnat_ingest.planning.label_sheet import SheetRow


@dataclass(frozen=True, slots=True)
class LabelledSession:
    """A session with the texts that its labels were made from.

    row: its line in the label sheet.
    changed: labels there that a spreadsheet seems to have changed.
    old_subject: the subject that the templates give, where the sheet has another one and the session's label still
        names the old one; "" otherwise.
    """

    session: Session
    subject_source: str
    notes: tuple[Problem, ...] = ()
    row: SheetRow | None = None
    changed: tuple[str, ...] = ()
    old_subject: str = ""


# The sessions, the kind of their conflict, what is wrong, and what to do.
Conflict = tuple[list[LabelledSession], str, str, str]
Conflicts = Iterable[Conflict]

# The most common reason why studies and folders disagree.
TOO_DEEP = (
    "If ROOT is one level too deep or too high, name the folder above or below, or give --layout session -S SUBJECT"
)
# Where several patients are in one place, nobody is told to split or to join it: their files must be moved first.
MIXED = "mixed-patients"
_DIVIDING = ("two-studies", "split-study")
_PATIENTS_FIRST = (
    "move the files first (see mixed-patients). If it is still a conflict then, look at --layout headers, --labels and "
    "--exclude"
)


def mark_conflicts(
    drafts: list[LabelledSession],
    *,
    by_study: bool,
    mixed_patients: bool = False,
    instead: str = "",
    also: Conflicts = (),
) -> tuple[list[Session], list[Problem]]:
    """The sessions, each with its conflicts, and a list of all conflicts.

    instead: the advice to give when flags do not apply.
    also: conflicts that were found earlier.
    mixed_patients: several PatientIDs in one subject are allowed.
    """
    mixed = [] if mixed_patients else list(_mixed_patients(drafts))
    strangers = {id(draft) for members, *_ in mixed for draft in members}
    found = (
        *mixed,
        *also,
        *_split_studies(drafts),
        *_label_collisions(drafts, by_study=by_study),
        *_subject_spellings(drafts),
    )
    problems: dict[Problem, None] = {}  # one that several sessions bring along is told once
    marked: dict[int, list[Problem]] = defaultdict(list)

    def mark(problem: Problem, members: list[LabelledSession]) -> None:
        if problem.kind in _DIVIDING and not instead and not strangers.isdisjoint(map(id, members)):
            problem = Problem.advised(problem.kind, problem.fact, _PATIENTS_FIRST, problem.sessions)
        problems[problem] = None
        for draft in members:
            marked[id(draft)].append(problem)

    for draft in drafts:
        for problem in draft.session.conflicts:
            mark(problem, [draft])
    for members, kind, fact, fix in found:
        mark(_problem(kind, members, fact, _advice(kind, instead, fix)), members)
    sessions = [replace(d.session, conflicts=tuple(sorted(marked[id(d)], key=_is_late))) for d in drafts]
    return sessions, sorted(problems, key=_is_late)


def _is_late(problem: Problem) -> bool:
    """Sorts what endangers patients to the front."""
    return problem.kind != MIXED


def _grouped(
    drafts: list[LabelledSession], keys: Callable[[LabelledSession], Iterable[object]]
) -> list[list[LabelledSession]]:
    groups: dict[object, list[LabelledSession]] = defaultdict(list)
    for draft in drafts:
        for key in keys(draft):
            groups[key].append(draft)
    return [group for group in groups.values() if len(group) > 1]


def _split_studies(drafts: list[LabelledSession]) -> Conflicts:
    for group in _grouped(drafts, lambda d: {(d.session.project, i.study_uid) for i in d.session.instances}):
        fix = "put it into one folder, take sessions from the headers with --layout headers, or leave one out with "
        yield group, "split-study", "contain the same study", f"{fix}--exclude. {TOO_DEEP}"


def _label_collisions(drafts: list[LabelledSession], *, by_study: bool) -> Conflicts:
    named = [draft for draft in drafts if not draft.session.label.startswith(NO_LABEL)]
    for group in _grouped(named, lambda d: [(d.session.project, d.session.label.casefold())]):
        fact = (
            f"get the same session label {group[0].session.label} (in a project XNAT labels must differ by more than "
            "case)"
        )
        fix = "give them different labels with --session-label or --labels"
        if by_study:
            fact = f"of studies {few_of([d.session.study_uid for d in group])} {fact}"
        yield group, "label-collision", fact, fix


def _subject_spellings(drafts: list[LabelledSession]) -> Conflicts:
    named = [draft for draft in drafts if draft.session.subject != NO_LABEL]
    for group in _grouped(named, lambda d: [(d.session.project, d.session.subject.casefold())]):
        if len({d.subject_source for d in group}) > 1:
            fact = f"have different names but get the same subject label {group[0].session.subject}"
            fix = "rename the folders, or give --subject-label or --labels"
            yield group, "label-collision", fact, fix


def _patients(drafts: Iterable[LabelledSession]) -> set[str]:
    return {i.patient for draft in drafts for i in draft.session.instances} - {""}


def _mixed_patients(drafts: list[LabelledSession]) -> Conflicts:
    """Several people's images in one session or one subject: ROOT is too high, or files are in the wrong folder."""
    fix = (
        "move the files that are in the wrong folder. If ROOT is one level too high, name the folder below it. If they "
        "belong to one person with several ids, give --allow-mixed-patients"
    )
    for draft in drafts:
        number = len(_patients([draft]))
        is_reported = any(conflict.kind == "ambiguous-label" for conflict in draft.session.conflicts)
        if number > 1 and not is_reported:
            fact = f"contains images of {number} patients (by PatientID): {_files_of_others(draft.session)}"
            yield [draft], MIXED, fact, fix
    subjects: dict[tuple[str, str], list[LabelledSession]] = defaultdict(list)
    # A subject that is named in a sheet was decided by the user.
    for draft in (d for d in drafts if not d.session.subject_given and d.session.subject != NO_LABEL):
        subjects[draft.session.project, draft.session.subject.casefold()].append(draft)
    for group in subjects.values():
        if (number := len(_patients(group))) > 1 and len(group) > 1:
            whose = f"would be one subject, {group[0].session.subject}"
            yield group, MIXED, f"{whose}, but contain {number} different PatientIDs", fix


def _files_of_others(session: Session) -> str:
    """Which files are not of the patient to whom most of a session's files belong. Folders, or files in shared ones."""
    members: dict[str, list[Instance]] = defaultdict(list)
    for instance in session.instances:
        members[instance.patient].append(instance)
    usual, *others = sorted((m for patient, m in members.items() if patient), key=len, reverse=True)
    shared = {_folder_of(instance) for instance in usual}
    others_files = list(itertools.chain(*others))
    folders = Counter(folder for i in others_files if (folder := _folder_of(i)) not in shared)
    files = [i.path for i in others_files if _folder_of(i) in shared]
    places = [(folder, f" ({count_of(number, 'file')})") for folder, number in folders.most_common()]
    places += [(path, "") for path in files]
    named = few_of([printable(place.removeprefix(f"{session.folder}/")) + number for place, number in places])
    whose = "another" if len(others) == 1 else f"{len(others)} others"
    return f"{count_of(len(usual), 'file')} of one, and these of {whose}: {named}"


def _folder_of(instance: Instance) -> str:
    return instance.path.rpartition("/")[0]


def split_notes(drafts: list[LabelledSession]) -> list[Problem]:
    """Notes on the folders whose studies were split."""
    folders: dict[str, list[Session]] = defaultdict(list)
    for draft in drafts:
        folders[draft.session.folder].append(draft.session)
    return [
        Problem(
            "studies-split",
            f"folder {printable(folder)} contains {len(found)} studies, in order of time: "
            + few_of([f"{session.label} ({len(session.instances)} instances)" for session in found]),
            tuple(session.label for session in found),
        )
        for folder, found in folders.items()
        if len(found) > 1
    ]


def subject_notes(drafts: list[LabelledSession], levels: Sequence[str]) -> Iterable[Problem]:
    """Notes on what looks odd about the subjects of a tree but is not a conflict. levels: the layout's folders."""
    if "subject" not in levels:
        return
    at = levels.index("subject")
    spellings: dict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        name = "/".join(draft.session.folder.split("/")[: at + 1])
        spellings[composed(name)].add(name)
    for name, spelled in spellings.items():
        if len(spelled) > 1:
            text = f"the subject folders {printable(name)} differ only in how accents are written; they are one subject"
            yield Problem("one-spelling", text)
    one_series = all(len({i.series_uid for i in draft.session.instances}) == 1 for draft in drafts)
    patients = {i.patient for draft in drafts for i in draft.session.instances}
    if len(spellings) > 1 and one_series and len(patients) == 1 and patients != {""}:
        text = f"all {len(spellings)} subjects have the same PatientID, and every session has only one series"
        yield Problem("one-patient", f"{text}; if ROOT is one level too deep, name the folder above it")


def _advice(kind: str, instead: str, fix: str) -> str:
    lifted = ", or allow it with the flag allow-mixed-patients" if kind == MIXED else ""
    return f"{instead}{lifted}" if instead else fix


def _problem(kind: str, group: list[LabelledSession], fact: str, fix: str) -> Problem:
    folders = list(dict.fromkeys(printable(d.session.folder) for d in group))
    names = few_of(folders)
    word = "folders" if len(folders) > 1 else "folder"
    sessions = tuple(dict.fromkeys(d.session.label for d in group))
    return Problem.advised(kind, f"{word} {names} {fact}", fix, sessions)
