"""Conflicts between sessions of one tree: one study in two folders, two sources for one label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from xnat_ingest.core.model import Problem, Session
from xnat_ingest.core.text import printable
from xnat_ingest.planning.label_sheet import SheetRow

# How many folders a sentence names.
_FEW = 10


@dataclass(frozen=True, slots=True)
class Draft:
    """A session with the words its labels were made of.

    row: its line in the label sheet; changed: labels there that differ from the tree's as a spreadsheet changes them.
    """

    session: Session
    subject_source: str
    notes: tuple[Problem, ...] = ()
    row: SheetRow | None = None
    changed: tuple[str, ...] = ()


# Sessions, the kind of their conflict, what is wrong, and what to do.
Conflict = tuple[list[Draft], str, str, str]
Conflicts = Iterable[Conflict]

# What makes studies and folders disagree most often.
TOO_DEEP = (
    "if ROOT lies a level too deep or too high, name the folder above or below, or give --layout session -S SUBJECT"
)


def mark_conflicts(
    drafts: list[Draft], *, by_study: bool, instead: str = "", also: Conflicts = ()
) -> tuple[list[Session], list[Problem]]:
    """The sessions, each with its conflicts, and all conflicts. instead: the advice where flags have no say; also:
    conflicts that were found before."""
    found = (
        *also,
        *_split_studies(drafts),
        *_label_collisions(drafts, by_study=by_study),
        *_subject_spellings(drafts),
    )
    across = [(members, _problem(kind, members, fact, instead or fix)) for members, kind, fact, fix in found]
    marked: dict[int, list[Problem]] = defaultdict(list)
    problems = [conflict for draft in drafts for conflict in draft.session.conflicts]
    for members, problem in across:
        problems.append(problem)
        for draft in members:
            marked[id(draft)].append(problem)
    sessions = [replace(d.session, conflicts=(*d.session.conflicts, *marked[id(d)])) for d in drafts]
    return sessions, problems


def _grouped(drafts: list[Draft], keys: Callable[[Draft], Iterable[object]]) -> list[list[Draft]]:
    groups: dict[object, list[Draft]] = defaultdict(list)
    for draft in drafts:
        for key in keys(draft):
            groups[key].append(draft)
    return [group for group in groups.values() if len(group) > 1]


def _split_studies(drafts: list[Draft]) -> Conflicts:
    for group in _grouped(drafts, lambda d: {(d.session.project, i.study_uid) for i in d.session.instances}):
        fix = "put it into one folder, take sessions from the headers with --layout headers, or leave one out with "
        yield group, "split-study", "hold one study", f"{fix}--exclude; {TOO_DEEP}"


def _label_collisions(drafts: list[Draft], *, by_study: bool) -> Conflicts:
    for group in _grouped(drafts, lambda d: [(d.session.project, d.session.label.casefold())]):
        fact = (
            f"share the session label {group[0].session.label} (XNAT labels are unique in a project, and letters "
            "differing only in case do not count)"
        )
        fix = "tell them apart with --session-label or --labels"
        if by_study:
            fact = f"of studies {', '.join(d.session.study_uid for d in group)} {fact}"
        yield group, "label-collision", fact, fix


def _subject_spellings(drafts: list[Draft]) -> Conflicts:
    for group in _grouped(drafts, lambda d: [(d.session.project, d.session.subject.casefold())]):
        if len({d.subject_source for d in group}) > 1:
            fact = f"reach the subject label {group[0].session.subject} by different spellings"
            fix = "rename the folders, or give --subject-label or --labels"
            yield group, "label-collision", fact, fix


def _problem(kind: str, group: list[Draft], fact: str, fix: str) -> Problem:
    folders = list(dict.fromkeys(printable(d.session.folder) for d in group))
    names = ", ".join(folders[:_FEW]) + (f" and {len(folders) - _FEW} more" if len(folders) > _FEW else "")
    word = "folders" if len(folders) > 1 else "folder"
    return Problem(kind, f"{word} {names} {fact}; {fix}", tuple(dict.fromkeys(d.session.label for d in group)))
