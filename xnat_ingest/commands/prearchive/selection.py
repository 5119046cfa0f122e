"""Selects prearchive sessions: by label, by timestamp and folder, or all, and by status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from sys import intern

from xnat_ingest.core import Exit, IngestError, printable
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import STUCK, UNASSIGNED, PrearchiveSession
from xnat_ingest.xnat.projects import fetch_project

RECEIVING = ("RECEIVING", "RECEIVING_INTERRUPT")
_WORK = ("BUILDING", "ARCHIVING", "MOVING", "DELETING", "SEPARATING")
# With an underscore the session is locked: the server refuses to do anything else with it.
STATUSES = (
    *("READY", "CONFLICT", "ERROR", *RECEIVING, *_WORK),
    *(f"QUEUED_{word}" for word in _WORK),
    *(f"_{word}" for word in (*_WORK, "CONFLICT", *RECEIVING)),
)
# The columns that are another for each session.
_OF_ITS_OWN = frozenset(
    ("timestamp", "lastmod", "uploaded", "scan_time", "subject", "folderName", "name", "tag", "url")
)
_NONE: Mapping[str, str] = {}
# How many sessions a message names.
FEW = 5


@dataclass(frozen=True, slots=True)
class Selection:
    """Sessions with a label, or the one with a timestamp and folder; otherwise all. statuses: only these, if any."""

    label: str = ""
    timestamp: str = ""
    folder: str = ""
    statuses: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        words = self.label or f"{self.timestamp} {self.folder}".strip()
        return printable(words + (f" in status {' or '.join(sorted(self.statuses))}" if self.statuses else ""))

    @property
    def is_all(self) -> bool:
        return not (self.label or self.timestamp)

    def names(self, entry: PrearchiveSession) -> bool:
        if self.timestamp:
            return (entry.timestamp, entry.folder) == (self.timestamp, self.folder)
        return not self.label or entry.label == self.label

    def takes(self, entry: PrearchiveSession) -> bool:
        return self.names(entry) and (not self.statuses or entry.status in self.statuses)


@dataclass(frozen=True, slots=True)
class Listed:
    """A prearchive session.

    columns: all of the listing's, when they were asked for.
    log: the server's last log line on a stuck one.
    """

    entry: PrearchiveSession
    columns: Mapping[str, str] = field(default_factory=dict)
    log: str = ""


def title(entry: PrearchiveSession) -> str:
    return printable(f"{entry.project} {entry.timestamp} {entry.folder}")


def project_id(rest: XnatClient, name: str, *, to_change: bool) -> str:
    """The project's canonical id, because the prearchive does not know aliases. Raises Refused without permission."""
    if name.casefold() == UNASSIGNED.casefold():
        return UNASSIGNED
    return fetch_project(rest, name, to_send=to_change).id


def waiting_sessions(rest: XnatClient, project: str, *, columns: bool = False) -> list[Listed]:
    """The prearchive sessions of a project, or all that this user can see, by project and label."""
    keep = _all_columns if columns else _no_columns
    every = project in ("", UNASSIGNED)
    # A site that lets guests in shows them this listing without what is not theirs. That of a project it refuses them.
    ask_all = partial(rest.as_user, partial(prearchive.every_row, rest, keep))
    rows = ask_all() if every else prearchive.rows_of(rest, project, keep)
    mine = [Listed(entry, kept) for entry, kept in rows if not project or entry.project == project]
    return sorted(mine, key=lambda one: (one.entry.project, one.entry.label, one.entry.timestamp, one.entry.folder))


def _no_columns(_: Mapping[str, str]) -> Mapping[str, str]:
    return _NONE


def _all_columns(row: Mapping[str, str]) -> Mapping[str, str]:
    """The row with the names of its columns, and the words that come again and again, only once in memory."""
    return {intern(name): value if name in _OF_ITS_OWN else intern(value) for name, value in row.items()}


def with_logs(rest: XnatClient, found: Iterable[Listed]) -> list[Listed]:
    return [
        Listed(one.entry, one.columns, prearchive.last_log(rest, one.entry.uri)) if one.entry.status in STUCK else one
        for one in found
    ]


def select(
    found: Sequence[Listed],
    selection: Selection,
    project: str,
    *,
    several: bool = False,
    missing: Exit = Exit.FAILED,
) -> list[Listed]:
    """The selected sessions. Raises IngestError when there is none, or more than one where only one is allowed.

    missing: the exit code when there is none.
    """
    chosen = [one for one in found if selection.takes(one.entry)]
    if selection.is_all:
        return chosen
    if not chosen:
        where = f"of project {project}" if project else "that you can see"
        error = IngestError(f"the prearchive {where} has no session {selection.title}; {_what_is_there(found)}")
        error.exit_code = missing
        raise error
    if len(chosen) > 1 and not several:
        rows = "".join(f"\n  {title(one.entry)} ({one.entry.status})" for one in chosen)
        way = "TIMESTAMP and FOLDER" if selection.label else "-P PROJECT"
        raise IngestError(f"{len(chosen)} sessions match {selection.title}; to choose one, give {way}:{rows}")
    return chosen


def _what_is_there(found: Sequence[Listed]) -> str:
    if not found:
        return "it is empty"
    few = ", ".join(f"{printable(one.entry.label)} ({title(one.entry)}, {one.entry.status})" for one in found[:FEW])
    return f"it has: {few}{f' and {len(found) - FEW} more' if len(found) > FEW else ''}"
