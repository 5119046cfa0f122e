"""Direct archive: files go to the session's place in the archive at once, and the session is made of them later.

A table of its own, one row per project, study and label, beside the prearchive's; a refusal sends the file to the
prearchive without a word to the sender. What cannot be archived is moved to the prearchive as a whole.
"""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from tests.standin.anonymize import AnonymizationError, anonymize
from tests.standin.archiver import ArchiveFailedError, create_session, create_subject
from tests.standin.builder import BuildError, build
from tests.standin.closing import rebuild
from tests.standin.model import Project, Row
from tests.standin.tables import RestError

if TYPE_CHECKING:
    from tests.standin.server import StandIn


class RefusedError(Exception):
    """The file must go to the prearchive."""


@dataclass
class DirectRow(Row):
    """A session that is on its way into the archive."""

    id: int = 0
    message: str | None = None

    @property
    def url(self) -> str:
        """The whole address: nothing is put before it."""
        return f"/xapi/direct-archive/{self.project}/{self.study_uid}/{self.label}"


class DirectArchive:
    """The table of the site, and what becomes of its rows."""

    def __init__(self, site: StandIn) -> None:
        self._site = site
        self._lock = threading.RLock()
        self._rows: list[DirectRow] = []

    # -- rows

    def rows(self) -> list[DirectRow]:
        with self._lock:
            return list(self._rows)

    def find(self, project: str | None, study_uid: str | None, label: str) -> DirectRow | None:
        wanted = (project, study_uid, label)
        return next((row for row in self.rows() if (row.project, row.study_uid, row.label) == wanted), None)

    def get_or_create(self, wanted: Row) -> tuple[DirectRow, bool]:
        """The row of the same project, study and label if it is still receiving, or a new one.

        A new one is refused where the session's folder is there already, whatever made it.
        """
        with self._lock:
            row = self.find(wanted.project, wanted.study_uid, wanted.label)
            if row is not None:
                if row.status != "RECEIVING":
                    raise RefusedError(f"no longer in receiving state ({row.status})")
                row.touched, row.lastmod = time.monotonic(), max(row.lastmod, time.time())
                return row, False
            directory = self._site.archive_root / str(wanted.project) / "arc001" / wanted.folder
            if directory.exists():
                raise RefusedError(f"data already exists in {directory}")
            if any(one.directory == directory and one.status != "ERROR" for one in self._rows):
                raise RefusedError(f"another session is received in {directory}")
            values = {one.name: getattr(wanted, one.name) for one in fields(Row)}
            # the table has no column for prevent_auto_commit: the background task takes every idle row
            values |= {"directory": directory, "prevent_auto_commit": False, "autoarchive": None}
            row = DirectRow(**values, id=self._site.numbers.next("direct"))
            self._rows.append(row)
            return row, True

    def forget(self, row: Row) -> None:
        """Drop the row; its files stay where they are."""
        with self._lock:
            self._rows = [one for one in self._rows if one is not row]

    # -- completion

    def trigger(self, row: DirectRow) -> None:
        """Take the row for archiving, which goes on in the background; refused while a file is being written."""
        self._queue(row)
        self._site.spawn(lambda: self._finish(row))

    def archive_idle(self) -> None:
        """One turn of the background task."""
        seconds = self._site.settings.rebuilder_interval
        for row in self.rows():
            idle = seconds is not None and time.monotonic() - row.touched >= seconds
            if row.status == "RECEIVING" and idle and not row.open_files:
                with suppress(RestError):  # a file has come in between: another time
                    self._queue(row)
                self._finish(row)

    def _queue(self, row: DirectRow) -> None:
        with self._lock:
            if row.open_files:
                raise RestError(
                    500,
                    f"Refusing to trigger archive on DirectArchiveSession id={row.id} because it is still receiving "
                    "new files or doesn't have an id",
                )
            row.status = "QUEUED_BUILDING"

    def _finish(self, row: DirectRow) -> None:
        """Build, anonymise, archive. Nothing of this is judged by anybody's rights."""
        with self._lock:
            if row.status != "QUEUED_BUILDING" or not any(one is row for one in self._rows):
                return
            row.status = "BUILDING"
        site = self._site
        try:
            site.faults.during("build", row)
            row.built, row.xsi_type, study_uid = build(site, row)
            row.status = "ARCHIVING"
            if site.petmr_setting(row.project) == "separate" and row.xsi_type == "xnat:petmrSessionData":
                self._move_to_prearchive(row, None)
                return
            site.faults.during("archive", row)
            self._archive(row, site.projects[row.project or ""], study_uid)
        except (BuildError, ArchiveFailedError, AnonymizationError) as error:
            self._move_to_prearchive(row, error)
        else:
            self.forget(row)

    def _archive(self, row: DirectRow, project: Project, study_uid: str | None) -> None:
        site = self._site
        if row.label in project.sessions:
            raise ArchiveFailedError(500, "Unable to save session")
        if not row.subject:
            raise ArchiveFailedError(500, "Unable to save subject")
        if project.anon_script is not None and not row.prevent_anon:
            for path in row.files.values():
                anonymize(project.anon_script, path)
            row.built, row.xsi_type, study_uid = build(site, row)
            row.prevent_anon = True  # not once more, should the session end in the prearchive
        site.faults.during("move", row)
        scans = row.built or {}
        for scan in scans.values():
            for kept in scan.catalogues.values():
                kept.resource_id = site.numbers.next("resource")
        with site.lock:
            # labels are taken as they are here, where the prearchive's archiver cleans them
            subject = project.subject(row.subject) or create_subject(site, project, row.subject)
            session = create_session(site, project, subject, row.label, row.xsi_type)
            session.study_uid, session.directory, session.date = study_uid, row.directory, row.scan_date
            session.scans, session.insert_user = scans, site.receiver.name
            project.sessions[row.label] = session

    def _move_to_prearchive(self, row: DirectRow, error: Exception | None) -> None:
        """The files and a row of the prearchive for them: ERROR when a document was built, else built again there."""
        site = self._site
        stamp = row.timestamp
        directory = site.prearchive.directory(row.project, stamp, row.folder)
        if directory.exists():
            stamp += "_DA"
            directory = site.prearchive.directory(row.project, stamp, row.folder)
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.move(row.directory, directory)
        except OSError as problem:
            row.status, row.message = "ERROR", str(problem)
            return
        values = {one.name: getattr(row, one.name) for one in fields(Row)}
        values |= {"directory": directory, "timestamp": stamp, "autoarchive": "AutoArchive", "open_files": set()}
        moved = Row(**values)
        moved.status = "ERROR" if error is not None and row.built is not None else "RECEIVING"
        for scan in (moved.built or {}).values():
            scan.moved(row.directory, directory)
        if error is not None:
            moved.log(f"Attempt to direct-archive failed\n{error}")
        # where refused files have made a row of this session, that one is kept, and the moved files are nobody's
        kept, _ = site.prearchive.get_or_create(moved)
        self.forget(row)
        if kept.status == "RECEIVING":
            rebuild(site, kept)
