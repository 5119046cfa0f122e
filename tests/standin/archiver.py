"""Archiving a prearchive row: validation, merging, moving the files, dropping the row.

Order of the checks and their texts as in PrearcSessionArchiver and MergeSessionsA.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.standin.anonymize import anonymize
from tests.standin.builder import build, session_modality
from tests.standin.model import DICOM, SECONDARY, ArchivedSession, Project, Row, Scan, Secondary, User

if TYPE_CHECKING:
    from tests.standin.server import StandIn

MATCHING_FILES = "Session already exists with matching files."
SAME_RESOURCES = "Session already exists with the same resources."
MODALITY = "Invalid modification of session modality via archive process.  Data may require a manual merge."
SUBJECT = "Invalid modification of session subject via archive process."
STUDY = "Invalid modification of session UID via archive process."


class ArchiveFailedError(Exception):
    """The archiver's own status and reason; 409 leaves the row in CONFLICT, everything else in ERROR."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


_REPLACED = " `~@#$%^&*()+=[]{}|\\/?:;\"',.<>"


def clean_value(label: str) -> str:
    """What labels become on archiving: these marks are replaced, letters of any alphabet stay."""
    return "".join("_" if one in _REPLACED else one for one in label.strip())


def create_subject(site: StandIn, project: Project, label: str) -> str:
    """A new subject with its accession id."""
    project.subjects[label] = f"{site.settings.site_id}_S{site.numbers.next('subject'):05d}"
    return label


def create_session(site: StandIn, project: Project, subject: str, label: str, xsi_type: str) -> ArchivedSession:
    """A session of the archive with its accession id, not yet in the project's list."""
    return ArchivedSession(
        accession=f"{site.settings.site_id}_E{site.numbers.next('experiment'):05d}",
        project=project.id,
        subject=subject,
        label=label,
        study_uid=None,
        xsi_type=xsi_type,
        modality=session_modality(xsi_type),
        directory=site.archive_root / project.id / "arc001" / label,
    )


class Archiver:
    """Archives rows; the locks live in this process only, as in one JVM."""

    def __init__(self, site: StandIn) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._held: set[str] = set()

    @contextmanager
    def _hold(self, what: str, message: str) -> Iterator[None]:
        with self._lock:
            if what in self._held:
                raise ArchiveFailedError(423, message)
            self._held.add(what)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(what)

    def archive(self, row: Row, user: User, params: Mapping[str, str], *, override: bool, overwrite: bool) -> str:
        """Archive one row whose status is ARCHIVING and return its new address."""
        if not self._site.prearchive.lock_row(row, "ARCHIVING"):
            raise ArchiveFailedError(500, "status must be archiving")
        try:
            with self._hold(row.url, "Duplicate archive attempt. Prearchive session already archiving."):
                self._site.faults.during("archive", row)
                session = self._run(row, user, params, override, overwrite)
        except ArchiveFailedError as error:
            status = "CONFLICT" if error.status == 409 else "ERROR"
            row.log(error.reason)
            self._site.prearchive.set_status(row, status, override=True)
            raise
        except Exception as error:
            row.log(str(error))
            self._site.prearchive.set_status(row, "ERROR", override=True)
            raise ArchiveFailedError(500, str(error)) from error
        self._site.prearchive.forget(row)
        self._site.faults.swept(row)
        return session.uri

    def _run(self, row: Row, user: User, params: Mapping[str, str], override: bool, overwrite: bool) -> ArchivedSession:
        project = self._site.projects.get(row.project or "")
        if project is None:
            raise ArchiveFailedError(400, "unable to identify destination project")
        label = clean_value(params.get("session") or params.get("EXPT_LABEL") or params.get("label") or row.label)
        existing = project.sessions.get(label)
        with self._hold(
            existing.accession if existing else f"{project.id}/{label}",
            "Duplicate archive attempt.  Destination session in use.",
        ):
            if existing and not override and existing.accession in self._site.busy:
                raise ArchiveFailedError(
                    409,
                    f"Session processing may already be in progress: {self._site.busy[existing.accession]}."
                    "  Concurrent modification is discouraged.",
                )
            home, subject = self._subject(project, params.get("subject") or params.get("SUBJECT_ID") or row.subject)
            scans = _copies(row)
            if not self._site.may(user, project, "edit"):
                raise ArchiveFailedError(403, "Invalid permissions")
            renumbers = existing is not None and self._compare(row, existing, home, subject, scans, override)
            if not override:
                _validate(row, scans)
            if existing and renumbers:
                correct_scan_ids(existing, scans)
            if not (override or overwrite):
                folder = existing.directory if existing else self._site.archive_root / project.id / "arc001" / label
                _collisions(folder, existing, scans)
            self._site.faults.during("move", row)
            if not row.prevent_anon and project.anon_script is not None:
                scans = self._anonymize(row, project.anon_script)
            session = self._commit(row, project, subject, label, existing, scans, user)
            session.subject_project = home.id
            return session

    def _subject(self, project: Project, label: str | None) -> tuple[Project, str]:
        """The subject and its project: known by label in any case, or by accession id in any project, else a new one.

        A label that looks like an accession id may so find a subject of another project (retrieveMatchingSubject).
        """
        if not label:
            raise ArchiveFailedError(400, "Unable to identify subject.")
        wanted = clean_value(label)
        with self._site.lock:
            known = project.subject(wanted)
            if known is not None:
                return project, known
            for other in self._site.projects.values():
                for name, accession in other.subjects.items():
                    if accession == wanted:
                        return other, name
            return project, create_subject(self._site, project, wanted)

    def _compare(
        self, row: Row, existing: ArchivedSession, home: Project, subject: str, scans: list[Scan], override: bool
    ) -> bool:
        """Refuses what cannot be merged. Returns whether scan ids are to be corrected (needsScanIdCorrection)."""
        if self._site.settings.prevent_cross_modality_merge and existing.xsi_type != row.xsi_type:
            raise ArchiveFailedError(409, MODALITY)
        if (existing.subject_project or existing.project, existing.subject) != (home.id, subject):
            raise ArchiveFailedError(409, f"{SUBJECT}: {existing.label} Already Exists for another Subject")
        differ = existing.study_uid and row.study_uid and existing.study_uid != row.study_uid
        if differ and not override and not self._site.settings.allow_uid_change:
            raise ArchiveFailedError(409, STUDY)
        renumber = False
        for scan in scans:
            match = existing.scans.get(scan.id)
            renumber |= bool(match and match.series_uid and match.series_uid != scan.series_uid)
            by_uid = next((one for one in existing.scans.values() if one.series_uid == scan.series_uid), None)
            if by_uid and match is None and not override:
                raise ArchiveFailedError(
                    409, f"Session already contains a scan with the same UID, but a different number ({by_uid.id})."
                )
        return renumber

    def _anonymize(self, row: Row, script: str) -> list[Scan]:
        """Project anonymisation happens now; it may change bytes, change UIDs, or throw objects away."""
        for path in row.files.values():
            anonymize(script, path)
        if not row.files:
            raise ArchiveFailedError(500, "Something went wrong: nothing is left after anonymization.")
        row.built, row.xsi_type, row.study_uid = build(self._site, row)
        return _copies(row)

    def _commit(
        self,
        row: Row,
        project: Project,
        subject: str,
        label: str,
        existing: ArchivedSession | None,
        scans: list[Scan],
        user: User,
    ) -> ArchivedSession:
        site = self._site
        session = existing
        if session is None:
            session = create_session(site, project, subject, label, row.xsi_type)
            session.insert_user = user.name
        session.date = session.date or row.scan_date
        for scan in scans:
            self._merge(session, scan)
        # An overridden conflict takes the incoming study; an ordinary merge has equal ones.
        session.study_uid = row.study_uid or session.study_uid
        with site.lock:
            project.sessions[label] = session
        return session

    def _merge(self, session: ArchivedSession, scan: Scan) -> None:
        kept = session.scans.get(scan.id)
        if kept is None:
            kept = Scan(scan.id, scan.series_uid, scan.series_description, scan.modality, scan.xsi_type)
        for label, part in scan.catalogues.items():
            into = kept.labelled(label)
            assert into is not None
            grown = bool(into.files)
            _merge_files(session.directory / "SCANS" / scan.id / label, part, into)
            if grown:
                into.sizes.update({name: path.stat().st_size for name, path in into.files.items() if path.exists()})
            if not into.resource_id:
                into.resource_id = self._site.numbers.next("resource")
            if resource := kept.resources.get(label):
                resource.version += 1
        kept.series_uid = kept.series_uid or scan.series_uid
        kept.series_description = kept.series_description or scan.series_description
        session.scans[scan.id] = kept


def _merge_files(folder: Path, part: Scan | Secondary, kept: Scan | Secondary) -> None:
    by_uid = {uid: name for name, uid in kept.uids.items()}
    for name, path in part.files.items():
        uid = part.uids.get(name, "")
        twin = by_uid.get(uid)
        if twin and twin != name:  # the same object under another name replaces its catalogue entry
            kept.files.pop(twin).unlink(missing_ok=True)
            kept.uids.pop(twin)
            kept.digests.pop(twin, None)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _move(path, folder / name)
        by_uid.pop(kept.uids.get(name, ""), None)
        kept.files[name], kept.uids[name] = folder / name, uid
        by_uid[uid] = name
        kept.digests.pop(name, None)


def _move(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError:
        shutil.move(source, target)


def _copies(row: Row) -> list[Scan]:
    return [scan.copy() for scan in (row.built or {}).values()]


def _validate(row: Row, scans: list[Scan]) -> None:
    """Files the session document does not know, and one object stored twice, stop an archiving without override.

    Codes 20 and 22 of PrearcSessionArchiver.validateDicomFiles: warnings by name, refusals in effect.
    """
    for scan in scans:
        for label, part in scan.catalogues.items():
            if strange := _strangers(row, scan, label, part):
                raise ArchiveFailedError(
                    400, f"Scan {scan.id} has {strange} non-{label} (or non-parsable {label}) files"
                )
            twice = [uid for uid, count in Counter(part.uids.values()).items() if count > 1]
            if twice:
                raise ArchiveFailedError(
                    400, f"Scan {scan.id} {label} catalog contains duplicated SOP instance UIDs: {', '.join(twice)}"
                )


def _strangers(row: Row, scan: Scan, label: str, part: Scan | Secondary) -> int:
    """How many files lie beside a catalogue and are not in it.

    The catalogue lies in the folder that its files have in common: the label's, or the scan's where nothing is
    catalogued under DICOM but something was left there, or that of all scans for a scattered series.
    """
    folder = row.directory / "SCANS"
    if not scan.scattered:
        folder /= scan.id
        if not (label == SECONDARY and DICOM not in scan.catalogues):
            folder /= label
    known = set(part.files.values())
    return sum(path.is_file() and path not in known for path in folder.rglob("*"))


def _collisions(folder: Path, existing: ArchivedSession | None, scans: list[Scan]) -> None:
    """Equal names on disk, or else equal objects under other names, in scans of one number.

    The disk is asked, whether there is a session or not: what a deleted one left is in the way of a new one.
    """
    for scan in scans:
        for label, part in scan.catalogues.items():
            if any((folder / "SCANS" / scan.id / label / name).exists() for name in part.files):
                raise ArchiveFailedError(409, MATCHING_FILES)
    if existing is None:
        return
    pairs = [
        (kept.catalogues[label], part)
        for scan in scans
        if (kept := existing.scans.get(scan.id))
        for label, part in scan.catalogues.items()
        if label in kept.catalogues
    ]
    if any(set(kept.uids.values()) & set(part.uids.values()) for kept, part in pairs):
        raise ArchiveFailedError(409, SAME_RESOURCES)


def correct_scan_ids(existing: ArchivedSession, scans: list[Scan]) -> None:
    """Gives a scan whose id another series has a free one (``1-MR1``), and then each known series its archived id.

    As correctScanID does, one scan after the other. Each catalogue is moved to the folder of its new id, over one that
    lies there. So where that is the place of another new scan that has not been moved yet, the catalogue of that scan
    is lost: it then takes the files of the first along, and its own lie in no catalogue.
    """
    folders = _Catalogues(scans)
    used = set(existing.scans)
    known: list[tuple[Scan, Scan]] = []
    for scan in scans:
        code = scan.xsi_type.removeprefix("xnat:")[:2].upper()
        code = "PT" if code == "PE" else code
        by_uid = next((one for one in existing.scans.values() if one.series_uid == scan.series_uid), None)
        if by_uid:
            if by_uid.id != scan.id or f"-{code}" in by_uid.id:
                known.append((scan, by_uid))
            continue
        stem = scan.id.rpartition("-")[0] if re.fullmatch(f".-{code}[0-9]+", scan.id) else scan.id
        new_id, number = scan.id, 1
        while new_id in used:
            new_id, number = f"{stem}-{code}{number}", number + 1
        used.add(new_id)
        if new_id != scan.id:
            folders.move(scan, new_id)
    for scan, match in known:
        folders.move(scan, match.id)
    folders.read_into(scans)


class _Catalogues:
    """Where the catalogue of each new scan lies, and what is in it."""

    def __init__(self, scans: list[Scan]) -> None:
        self._files = {(s.id, label): (part.files, part.uids) for s in scans for label, part in s.catalogues.items()}
        self._places = {id(scan): {label: (scan.id, label) for label in scan.catalogues} for scan in scans}

    def move(self, scan: Scan, new_id: str) -> None:
        """Every catalogue of a scan goes to the place of the first one: the path is worked out once."""
        places = self._places[id(scan)]
        target = (new_id, next(iter(places), DICOM))
        for label, place in places.items():
            if place not in self._files:
                raise ArchiveFailedError(500, "Non-standard prearchive structure (no catalog)- failed scan rename.")
            self._files[target] = self._files.pop(place)
            places[label] = target
        scan.id = new_id

    def read_into(self, scans: list[Scan]) -> None:
        """What each scan has in the end: what its catalogues hold now. A lost one is begun anew, empty."""
        for scan in scans:
            for label, place in self._places[id(scan)].items():
                part = scan.labelled(label)
                assert part is not None
                part.files, part.uids = self._files.get(place, ({}, {}))
