"""The prearchive: rows, the one lock around get-or-create, statuses, build, move, delete, the idle timer."""

from __future__ import annotations

import shutil
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.standin.builder import BuildError, NothingReadableError, build
from tests.standin.model import UNASSIGNED, Row
from tests.standin.tables import words

if TYPE_CHECKING:
    from tests.standin.server import StandIn

COLUMNS = words(
    "project timestamp lastmod uploaded scan_date scan_time subject folderName name tag status url autoarchive "
    "prevent_anon prevent_auto_commit SOURCE VISIT PROTOCOL TIMEZONE"
)

PLAIN = {"RECEIVING", "RECEIVING_INTERRUPT", "READY", "CONFLICT", "ERROR"}
BUSY = {"BUILDING", "ARCHIVING", "MOVING", "DELETING", "SEPARATING"}
STATUSES = PLAIN | BUSY | {f"QUEUED_{name}" for name in BUSY}
LOCKED = {f"_{name}" for name in BUSY | {"CONFLICT", "RECEIVING", "RECEIVING_INTERRUPT"}}


class LockedError(Exception):
    """The row is in a locked status."""


class Prearchive:
    """All rows of the site."""

    def __init__(self, site: StandIn) -> None:
        self._site = site
        self._lock = threading.RLock()
        self._rows: list[Row] = []
        self._last_stamp = ""

    # -- rows

    def timestamp(self) -> str:
        """``yyyyMMdd_HHmmssSSS``; two of the same millisecond are told apart by folder only, as in XNAT."""
        return datetime.now().astimezone().strftime("%Y%m%d_%H%M%S%f")[:18]

    def rows(self) -> list[Row]:
        with self._lock:
            return list(self._rows)

    def of(self, project: str | None) -> list[Row]:
        return [row for row in self.rows() if row.project == project]

    def find(self, project: str, timestamp: str, folder: str) -> Row | None:
        with self._lock:
            return next((row for row in self._rows if row.key == (project, timestamp, folder)), None)

    def get_or_create(self, wanted: Row) -> tuple[Row, bool]:
        """The row of the same project, study and label whatever its status, or ``wanted`` as a new one.

        A row that was READY, CONFLICT, ERROR, locked or archiving goes back to RECEIVING; one that is BUILDING is
        interrupted. The timestamp of a later sender is dropped when the row exists.
        """
        with self._lock:
            for row in self._rows:
                if (row.project, row.study_uid, row.label) == (wanted.project, wanted.study_uid, wanted.label):
                    if row.status == "BUILDING":
                        row.status = "RECEIVING_INTERRUPT"
                    elif row.status not in ("RECEIVING", "RECEIVING_INTERRUPT"):
                        row.status = "RECEIVING"
                    self._touch(row)
                    return row, False
            self._add(wanted)
            return wanted, True

    def _add(self, row: Row) -> None:
        """A row is unique by timestamp, project and folder.

        The database says so for rows of a project, which fails the object; rows without one are counted by hand, and
        get a number behind their names.
        """
        if row.project is not None:
            if self.find(*row.key) is not None:
                raise ValueError("duplicate key value violates unique constraint")
            self._rows.append(row)
            return
        base_folder, base_label = row.folder, row.label
        for attempt in range(1, 4):
            if self.find(*row.key) is None:
                break
            row.folder, row.label = f"{base_folder}_{attempt}", f"{base_label}_{attempt}"
            row.directory = row.directory.parent / row.folder
        self._rows.append(row)

    def _touch(self, row: Row) -> None:
        """``lastmod`` moves at most every 15 seconds, or as set; the idle timer here is not that coarse."""
        row.touched = time.monotonic()
        if time.time() - row.lastmod > self._site.settings.lastmod_step:
            row.lastmod = time.time()

    def forget(self, row: Row) -> None:
        """Drop the row and its files; what another request is still writing there is lost."""
        with self._lock:
            self._rows = [one for one in self._rows if one is not row]
            row.gone = True
        shutil.rmtree(row.directory, ignore_errors=True)
        _remove_empty(row.directory.parent, self._site.prearchive_root)

    def directory(self, project: str | None, timestamp: str, folder: str) -> Path:
        root = self._site.prearchive_root
        return (root / project if project else root) / timestamp / folder

    # -- files being written

    def open_file(self, row: Row, name: str) -> bool:
        """Claim a scan's file name; False when another request is writing it."""
        with self._lock:
            if name in row.open_files:
                return False
            row.open_files.add(name)
            return True

    def close_file(self, row: Row, name: str) -> None:
        with self._lock:
            row.open_files.discard(name)
            self._touch(row)

    # -- statuses

    def set_status(self, row: Row, status: str, *, override: bool = False) -> bool:
        """False when the row is locked."""
        with self._lock:
            if row.status in LOCKED and not override:
                return False
            row.status = status
            return True

    def lock_row(self, row: Row, status: str) -> bool:
        """Take the row for an operation: the underscore form of the status."""
        with self._lock:
            if row.status in LOCKED:
                return False
            row.status = f"_{status}"
            return True

    def build(self, row: Row) -> None:
        """Write the session document (here: ``row.built``); READY afterwards.

        When nothing can be read, the document is empty (XNATSessionBuilder only logs the exception). The build is a
        success all the same, and the row is made anew from the empty document (PrearcUtils.resetStatus,
        PrearcTableBuilder.Session): ERROR, its subject forgotten, no line in its log.

        What arrives meanwhile is not in the document, and the row is READY all the same. The row's study UID is the
        document's from now on: where anonymisation on receipt changed it, later parts make another row.
        """
        if not self.lock_row(row, "BUILDING"):
            raise LockedError
        try:
            self._site.faults.during("build", row)
            row.built, row.xsi_type, row.study_uid = build(self._site, row)
            row.is_empty = False
        except NothingReadableError:
            row.built, row.is_empty, row.subject = None, True, ""
            self.set_status(row, "ERROR", override=True)
            return
        except BuildError as error:
            row.log(str(error))
            self.set_status(row, "ERROR", override=True)
            raise
        with self._lock:
            row.status = "READY"
            row.lastmod = time.time()

    def move(self, row: Row, project: str) -> None:
        with self._lock:
            target = self.directory(project, row.timestamp, row.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if row.directory.exists():
                shutil.move(row.directory, target)
            _remove_empty(row.directory.parent, self._site.prearchive_root)
            if row.built is not None:
                for scan in row.built.values():
                    scan.moved(row.directory, target)
            row.project, row.directory, row.status = project, target, "READY" if row.built else "RECEIVING"

    # -- the background task

    def idle_rows(self, seconds: float) -> list[Row]:
        """What SessionXMLRebuilder picks: receiving, idle, no file open, not kept by the uploader."""
        now = time.monotonic()
        with self._lock:
            return [
                row
                for row in self._rows
                if row.status == "RECEIVING"
                and not row.prevent_auto_commit
                and row.source != "uploader"
                and not row.open_files
                and now - row.touched >= seconds
            ]


def describe(row: Row) -> dict[str, str | bool | None]:
    """A row as the listing shows it."""
    return {
        "project": row.project,
        "timestamp": row.timestamp,
        "lastmod": _stamp(row.lastmod),
        "uploaded": _stamp(row.uploaded),
        "scan_date": row.scan_date,
        "scan_time": row.scan_time,
        "subject": row.subject,
        "folderName": row.folder,
        "name": row.label,
        "tag": row.study_uid,
        "status": row.status,
        "url": row.url,
        "autoarchive": row.autoarchive,
        "prevent_anon": row.prevent_anon,
        "prevent_auto_commit": row.prevent_auto_commit,
        "SOURCE": row.source,
        "VISIT": row.visit,
        "PROTOCOL": row.protocol,
        "TIMEZONE": row.timezone,
    }


def _stamp(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:21]


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and folder.exists():
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def project_name(row: Row) -> str:
    return row.project or UNASSIGNED
