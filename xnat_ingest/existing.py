"""What is already on the server decides what is sent: the table of docs/design.md 5.3, as one pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xnat_ingest.model import Instance, Problem, Session
from xnat_ingest.prearchive import STUCK, Row
from xnat_ingest.verify import NOWHERE, Comparison, Holding, Known, compare


@dataclass(frozen=True, slots=True)
class Standing:
    """What was found about one session. sessions: archived ones with its label or its study; holding: the files of
    the archived one with its label; rows: prearchive rows with its label or study; log: the server's last word on a
    row that is stuck."""

    sessions: Sequence[Known] = ()
    holding: Holding = NOWHERE
    rows: Sequence[Row] = ()
    log: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """conflict: why nothing is sent; lacks: what the archive lacks; row: ours, to be joined and closed; overwrite:
    a closing must replace files that the archive has."""

    archive: Comparison
    lacks: tuple[Instance, ...] = ()
    conflict: Problem | None = None
    row: Row | None = None
    overwrite: bool = False
    notes: tuple[Problem, ...] = ()


def judge(session: Session, standing: Standing) -> Decision:
    """Archive and rows are judged together; no mode deletes anything."""
    archive = compare(session.instances, standing.holding)
    if conflict := _archive_conflict(session, standing, archive):
        return Decision(archive, conflict=conflict)
    lacks = tuple(i for i in session.instances if i.sop_uid in archive.lacking)
    if not lacks:
        return Decision(archive, notes=tuple(_stale(session, row) for row in standing.rows))
    row, conflict = _our_row(session, standing)
    overwrite = any(i.name in standing.holding.sizes for i in lacks)
    return Decision(archive, lacks, conflict, row, overwrite)


def _archive_conflict(session: Session, standing: Standing, archive: Comparison) -> Problem | None:
    for known in standing.sessions:
        if known.label.casefold() != session.label.casefold():
            return _problem(
                session,
                "other-label",
                f"its study is already archived as session {known.label} of subject {known.subject}; "
                "upload it under that label (-S and -E), or remove that session in XNAT first",
            )
        if known.subject.casefold() != session.subject.casefold():
            return _problem(
                session,
                "other-subject",
                f"the label {known.label} already belongs to subject {known.subject}; "
                "give another label (--session-label, or -S and -E)",
            )
        all_there = len(archive.verified) == len(session.instances)
        if known.study_uid and known.study_uid != session.study_uid and not all_there:
            return _problem(
                session,
                "other-study",
                f"the archived session {known.label} holds another study; "
                "give another label (--session-label, or -S and -E)",
            )
    if archive.other_names:
        numbers = "; ".join(f"{uid}: {there} of {planned}" for uid, (there, planned) in archive.other_names.items())
        return _problem(
            session,
            "sent-by-another-tool",
            f"the archived session has series under file names that do not tell instances, in other numbers "
            f"({numbers}); check them in XNAT, or leave them out with --exclude SeriesInstanceUID=...",
        )
    return None


def _our_row(session: Session, standing: Standing) -> tuple[Row | None, Problem | None]:
    for row in standing.rows:
        where = f"the prearchive row {row.uri}"
        if not row.is_ours(session):
            return None, _problem(
                session,
                "foreign-row",
                f"{where} (subject {row.subject}, session {row.label}, status {row.status}) was not made by this "
                "program for this session; archive or delete it on XNAT's prearchive page, then run again",
            )
        if row.status in STUCK:
            said = f" ({standing.log})" if standing.log else ""
            return None, _problem(
                session,
                "stale-row",
                f"{where} is in status {row.status}{said}; archive or delete it on XNAT's prearchive page, then run "
                "again",
            )
    if len(standing.rows) > 1:
        uris = ", ".join(row.uri for row in standing.rows)
        return None, _problem(
            session, "stale-row", f"several prearchive rows hold this session ({uris}); delete all but one in XNAT"
        )
    return (standing.rows[0] if standing.rows else None), None


def _stale(session: Session, row: Row) -> Problem:
    return _problem(session, "stale-row", f"the archive holds everything; the prearchive row {row.uri} is left over")


def _problem(session: Session, kind: str, detail: str) -> Problem:
    return Problem(kind, f"{session.title}: {detail}", (session.label,))
