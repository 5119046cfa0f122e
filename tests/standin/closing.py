"""Closing a row: build, commit, the archive service, the inline commit of an import, the background task."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.standin.archiver import ArchiveFailedError
from tests.standin.builder import BuildError
from tests.standin.model import AUTO_ARCHIVE_NAMES, Row, User
from tests.standin.petmr import separate
from tests.standin.prearchive import LockedError
from tests.standin.tables import Reply, RestError, text

if TYPE_CHECKING:
    from tests.standin.server import StandIn

_AUTO = ("AutoArchive", "AutoArchiveOverwrite")


def auto_archive(site: StandIn, row: Row, params: Mapping[str, str]) -> bool:
    """The row's own setting first, then the request's AA, then the project's code."""
    if row.project is None:
        return False
    if row.autoarchive in _AUTO:
        return True
    asked = next((value for key, value in params.items() if "AA" in key or "auto-archive" in key), None)
    if asked is not None:
        return asked.lower() in ("true", "t", "yes", "y", "on")
    project = site.projects.get(row.project)
    return project is not None and project.code >= 4


def overwrite_files(site: StandIn, row: Row, params: Mapping[str, str]) -> bool:
    project = site.projects.get(row.project or "")
    return (
        params.get("overwrite_files", "").lower() == "true"
        or row.autoarchive == "AutoArchiveOverwrite"
        or (project is not None and project.code == 5)
    )


def build_action(site: StandIn, row: Row | None) -> Reply:
    """``action=build``: 200 with the row's address; a row that is not there is a plain 500 here."""
    if row is None:
        raise RestError(500)
    _build(site, row)
    return text("/data" + row.url, content_type="text/uri-list")


def _build(site: StandIn, row: Row) -> None:
    try:
        site.prearchive.build(row)
    except LockedError:
        raise RestError(409, "session document locked") from None
    except BuildError:
        raise RestError(500) from None


def commit_action(site: StandIn, row: Row | None, user: User, params: Mapping[str, str]) -> Reply:
    """``action=commit``: 200 and READY, or 301 without Location once archived, or 500 ``FAILED: ...``."""
    if row is None:
        raise RestError(404)
    if row.autoarchive is None and row.project is not None:
        row.autoarchive = AUTO_ARCHIVE_NAMES.get(site.projects[row.project].code)
    _build(site, row)
    if row.is_empty:
        row.log("Premature end of file.")
        raise RestError(500, "Premature end of file.")
    if not auto_archive(site, row, params):
        return text("/data" + row.url, content_type="text/uri-list")
    if "http-session-listener" in params:
        site.spawn(lambda: _quiet_archive(site, row, user, params))
        return Reply(200, reason="Archival initiated")
    uri = queued_archive(site, row, user, params, override=False)
    return text(uri, status=301)


def _quiet_archive(site: StandIn, row: Row, user: User, params: Mapping[str, str]) -> None:
    try:
        queued_archive(site, row, user, params, override=False)
    except RestError:
        return  # the row's status and log tell


def queued_archive(site: StandIn, row: Row, user: User, params: Mapping[str, str], *, override: bool) -> str:
    """Archive through the queue: whatever the archiver's own status was, the caller sees 500."""
    if not site.prearchive.set_status(row, "ARCHIVING"):
        raise RestError(500, f"FAILED: Unable to archive {row.folder}: Unable to lock session for archiving.")
    site.faults.timeout(timeout_text(site, row), lambda: _finish(site, row, user, params, override))
    return _finish(site, row, user, params, override)


def _finish(site: StandIn, row: Row, user: User, params: Mapping[str, str], override: bool) -> str:
    overwrite = overwrite_files(site, row, params)
    started = time.monotonic()
    try:
        uri = site.archiver.archive(row, user, params, override=override, overwrite=overwrite)
    except ArchiveFailedError as error:
        message = f"FAILED: Unable to archive {row.folder}: Operation Failed: {error.reason}"
        raise RestError(500, message) from None
    if time.monotonic() - started > site.settings.archive_timeout:
        raise RestError(500, timeout_text(site, row))
    return "/data" + uri


def timeout_text(site: StandIn, row: Row) -> str:
    seconds = f"{site.settings.archive_timeout:g}"
    return (
        f"The session {'/'.join(row.key)} did not return a valid data URI within the timeout interval of "
        f"{seconds} seconds."
    )


def inline(site: StandIn, user: User, params: Mapping[str, str], uris: list[str]) -> list[str]:
    """The commit inside an import request: build each session, archive with AA; any failure is one 400."""
    archive = any(params.get(key, "").lower() == "true" for key in ("AA", "auto-archive"))
    archived = []
    for uri in uris:
        row = site.prearchive.find(*uri.split("/")[3:6])
        try:
            if row is None:
                raise BuildError("the session is gone")
            site.prearchive.build(row)
            if row.is_empty:
                raise BuildError("its document is empty")
            parts = separate(site, row)
            if archive:
                archived += [_inline_archive(site, part, user, params) for part in parts]
        except LockedError:
            continue
        except (ArchiveFailedError, BuildError):
            raise RestError(400, "unable to archive for the Prearchive session") from None
    return archived if archive else ["/data" + uri for uri in uris]


def _inline_archive(site: StandIn, row: Row, user: User, params: Mapping[str, str]) -> str:
    """Merging needs an auto-archive row here; overwrite words mean append or delete."""
    word = params.get("overwrite", "").lower()
    override = word in ("delete", "override")
    if not site.prearchive.set_status(row, "ARCHIVING"):
        raise ArchiveFailedError(500, "Unable to lock session for archiving.")
    project = site.projects.get(row.project or "")
    merge = bool(word) or row.autoarchive in _AUTO
    if project and row.label in project.sessions and not merge:
        site.prearchive.set_status(row, "CONFLICT")
        row.log("Session already exists, retry with overwrite enabled")
        raise ArchiveFailedError(409, "Session already exists, retry with overwrite enabled")
    overwrite = overwrite_files(site, row, params)
    return "/data" + site.archiver.archive(row, user, {}, override=override, overwrite=overwrite)


def rebuild_idle(site: StandIn) -> None:
    """One turn of the background task: build idle rows, split PET/MR, archive what archives by itself."""
    seconds = site.settings.rebuilder_interval
    if seconds is None:
        return
    for row in site.prearchive.idle_rows(seconds):
        rebuild(site, row)


def rebuild(site: StandIn, row: Row, *, block_archive: bool = False) -> None:
    """Build as the queue does, with auto-archiving unless the batch service blocks it."""
    try:
        site.prearchive.build(row)
        if row.is_empty:
            return
        for part in separate(site, row):
            if not block_archive and auto_archive(site, part, {}):
                queued_archive(site, part, site.receiver, {}, override=False)
    except (LockedError, BuildError, RestError):
        return  # status and log of the row say what happened
