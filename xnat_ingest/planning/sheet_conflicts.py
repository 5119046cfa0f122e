"""Conflicts between a label sheet and a tree. A wrong label puts one person's data under another's name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from xnat_ingest.core import Problem, nearest, printable
from xnat_ingest.planning.conflicts import Conflict, LabelledSession
from xnat_ingest.planning.label_sheet import Sheet, SheetRow, cell_key

_FEW = 5
# A foreign sheet may have very many lines for nobody.
_MOST_UNUSED = 100
# So many letters are compared with letters to find the session that a line may mean; it takes a second or two.
_MOST_COMPARED = 8_000_000


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Sessions and lines that have not found each other.

    unnamed: sessions that no line names.
    doubtful: sessions whose folder is named, by lines that do not tell which of several they mean.
    lines: those that name nothing in the tree.
    doubtful_lines: those that name a folder of the doubtful sessions.
    """

    unnamed: list[LabelledSession]
    doubtful: list[LabelledSession]
    lines: list[SheetRow]
    doubtful_lines: list[SheetRow]

    @classmethod
    def of(cls, drafts: Iterable[LabelledSession], unused: Sequence[SheetRow], *, by_study: bool) -> Self:
        """unused: lines without a session. by_study: folders were not compared."""
        found = cls([], [], [], [])
        without = [draft for draft in drafts if draft.row is None]
        listed = set[str]() if by_study else {cell_key(row.folder) for row in unused} - {""}
        held = {_key(draft) for draft in without} & listed
        for draft in without:
            (found.doubtful if _key(draft) in held else found.unnamed).append(draft)
        for row in unused:
            (found.doubtful_lines if cell_key(row.folder) in held else found.lines).append(row)
        return found


def _key(draft: LabelledSession) -> str:
    return cell_key(printable(draft.session.folder))


def sheet_conflicts(
    drafts: list[LabelledSession], sheet: Sheet, unmatched: Unmatched, *, partial: bool
) -> Iterator[Conflict]:
    """Sessions that a sheet leaves out, does not tell from others, lists with another study, or gives a label that a
    spreadsheet has changed.

    partial: the sheet need not list every session.
    """
    if not sheet:
        return
    if unmatched.doubtful:
        few = ", ".join(f"line {row.line}" for row in unmatched.doubtful_lines[:_FEW])
        fact = f"is in the label sheet ({few}), but holds several sessions, and the sheet does not tell them apart"
        fix = "give each of them a line with its study_uid (plan --labels-template writes it)"
        yield unmatched.doubtful, "label-default", fact, fix
    unnamed = unmatched.unnamed
    if unnamed and not partial:
        fact = f"cannot be found in the label sheet ({len(unnamed)} of {len(drafts)} sessions)"
        fix = "add them (plan --labels-template writes every session), or give --labels-partial to use the templates"
        yield unnamed, "label-default", fact, fix
    other_studies = [draft for draft in drafts if _is_of_another_study(draft)]
    if other_studies:
        rows = ", ".join(f"line {draft.row.line}" for draft in other_studies[:_FEW] if draft.row)
        fact = f"got another study in the label sheet ({rows})"
        fix = "check whether columns were sorted separately; to match by folder only, empty the column study_uid"
        yield other_studies, "label-study", fact, fix
    changed = [draft for draft in drafts if draft.changed]
    if changed:
        few = ", ".join(
            f"{printable(draft.changed[0])} (line {draft.row.line})" for draft in changed[:_FEW] if draft.row
        )
        fact = f"got labels in the sheet that a spreadsheet seems to have changed: {few}"
        fix = "write them as text, with their zeros; if they are correct, put an apostrophe before them ('7)"
        yield changed, "label-changed", fact, fix


def _is_of_another_study(draft: LabelledSession) -> bool:
    studies = {instance.study_uid for instance in draft.session.instances}
    return draft.row is not None and draft.row.study_uid not in ("", *studies)


def sheet_notes(
    sheet: Sheet, drafts: list[LabelledSession], unmatched: Unmatched, left_out: Collection[str], *, partial: bool
) -> Iterator[Problem]:
    """Lines without a session, and other notes on a sheet.

    left_out: folders with files that were set aside.
    partial: lines without a session are allowed.
    """
    if sheet.note:
        yield Problem("label-sheet", sheet.note)
    for draft in drafts:
        if draft.row and draft.old_subject and not draft.changed:
            session = draft.session
            text = f"line {draft.row.line}: the subject is {session.subject}, but the session is still {session.label}"
            fix = "change the column session, too, unless the old subject is to stay in the session's label"
            yield Problem.advised("label-subject", text, fix, (session.label,))
    unnamed = sorted(printable(draft.session.folder) for draft in unmatched.unnamed)
    if unnamed and partial:
        text = f"the label sheet does not list {len(unnamed)} of {len(drafts)} sessions; they get default labels"
        yield Problem("label-default", f"{text}; the first is {unnamed[0]}")
    keys = {cell_key(printable(folder)) for folder in left_out}
    if more := unmatched.lines[_MOST_UNUSED:]:
        text = f"the label sheet has {len(more)} more lines without a session, first line {more[0].line}"
        yield Problem("label-unused", text, spoils=not partial)
    letters, compared = sum(map(len, unnamed)), 0
    for row in unmatched.lines[:_MOST_UNUSED]:
        name = printable(row.folder or row.study_uid)
        if cell_key(row.folder) in keys:
            text = f"the label sheet lists {name} (line {row.line}), but nothing of it is sent"
            yield Problem("label-unused", text)
            continue
        compared += len(name) * letters
        near = nearest(name, unnamed) if compared <= _MOST_COMPARED else None
        hint = f" (did you mean {near}?)" if near else ""
        fix = "" if partial else "; correct or remove the line, or give --labels-partial"
        text = f"the label sheet lists {name} (line {row.line}), but there is no such session{hint}{fix}"
        yield Problem("label-unused", text, spoils=not partial)
