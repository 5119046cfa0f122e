"""Which of the prearchive's rows are meant: by label, by timestamp and folder, or all; of some statuses only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xnat_ingest.core.errors import Exit, IngestError
from xnat_ingest.core.text import printable
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import STUCK, UNASSIGNED, PrearchiveSession
from xnat_ingest.xnat.projects import fetch_project

RECEIVING = ("RECEIVING", "RECEIVING_INTERRUPT")
_WORK = ("BUILDING", "ARCHIVING", "MOVING", "DELETING", "SEPARATING")
# With an underscore the row is locked: the server refuses to do anything else with it.
STATUSES = (
    *("READY", "CONFLICT", "ERROR", *RECEIVING, *_WORK),
    *(f"QUEUED_{word}" for word in _WORK),
    *(f"_{word}" for word in (*_WORK, "CONFLICT", *RECEIVING)),
)
# How many rows a sentence names.
_FEW = 5


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of a label, or the one of a timestamp and folder; without either, all. statuses: of these only, if any."""

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

    def names(self, row: PrearchiveSession) -> bool:
        if self.timestamp:
            return (row.timestamp, row.folder) == (self.timestamp, self.folder)
        return not self.label or row.label == self.label

    def takes(self, row: PrearchiveSession) -> bool:
        return self.names(row) and (not self.statuses or row.status in self.statuses)


@dataclass(frozen=True, slots=True)
class Listed:
    """A row with all columns of the listing. log: the server's last word on a stuck row."""

    row: PrearchiveSession
    columns: Mapping[str, str]
    log: str = ""


def title(row: PrearchiveSession) -> str:
    return printable(f"{row.project} {row.timestamp} {row.folder}")


def project_id(rest: XnatClient, name: str, *, to_change: bool) -> str:
    """The project's canonical id: the prearchive knows no aliases. Raises Refused without the right that it takes."""
    if name.casefold() == UNASSIGNED.casefold():
        return UNASSIGNED
    return fetch_project(rest, name, to_send=to_change).id


def waiting_sessions(rest: XnatClient, project: str) -> list[Listed]:
    """The rows of a project, or all that this user sees, by project and label."""
    path = "/data/prearchive" if project in ("", UNASSIGNED) else f"/data/prearchive/projects/{project}"
    found = [Listed(prearchive.as_session(entry), entry) for entry in rest.rows(path, dict)]
    mine = [one for one in found if not project or one.row.project == project]
    return sorted(mine, key=lambda one: (one.row.project, one.row.label, one.row.timestamp, one.row.folder))


def with_logs(rest: XnatClient, found: Iterable[Listed]) -> list[Listed]:
    return [
        Listed(one.row, one.columns, prearchive.last_log(rest, one.row.uri)) if one.row.status in STUCK else one
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
    """The rows that are meant. Raises IngestError when words name none, or, unless several may be meant, more than
    one. missing: the exit code when words name none."""
    chosen = [one for one in found if selection.takes(one.row)]
    if selection.is_all:
        return chosen
    if not chosen:
        where = f"of project {project}" if project else "that you see"
        error = IngestError(f"the prearchive {where} has no row {selection.title}; {_what_is_there(found)}")
        error.exit_code = missing
        raise error
    if len(chosen) > 1 and not several:
        rows = "".join(f"\n  {title(one.row)} ({one.row.status})" for one in chosen)
        way = "TIMESTAMP and FOLDER" if selection.label else "-P PROJECT, too"
        raise IngestError(f"{len(chosen)} rows are meant by {selection.title}; to choose one, give {way}:{rows}")
    return chosen


def _what_is_there(found: Sequence[Listed]) -> str:
    if not found:
        return "it is empty"
    few = ", ".join(f"{printable(one.row.label)} ({title(one.row)}, {one.row.status})" for one in found[:_FEW])
    return f"there are: {few}{f' and {len(found) - _FEW} more' if len(found) > _FEW else ''}"
