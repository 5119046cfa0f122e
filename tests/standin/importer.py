"""Storing one DICOM object: what GradualDicomImporter does with each entry of an archive."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tests.standin import filters, identify
from tests.standin.anonymize import AnonymizationError, anonymize
from tests.standin.dicomhead import STUDY_COMMENTS, Head, Header, NotDicomError, head_of
from tests.standin.directarchive import DirectRow, RefusedError
from tests.standin.faults import ResetError
from tests.standin.gradual import read_object
from tests.standin.identify import NO_ROUTING, Routing
from tests.standin.model import AUTO_ARCHIVE_NAMES, Project, Row, User
from tests.standin.namer import below, file_name_chars, make_file_name, scan_directory, valid_name, value_of
from tests.standin.receipt import pre_compress, received, torn
from tests.standin.tables import RestError
from tests.standin.tarstream import Source

if TYPE_CHECKING:
    from tests.standin.server import StandIn

_BLOCK = 1 << 16


def store(
    site: StandIn,
    user: User,
    params: Mapping[str, str],
    name: str | None,
    source: Source,
    routing: Routing = NO_ROUTING,
) -> list[str]:
    """Store one object and return the address of its session, or nothing when a filter drops it.

    Every trouble, a full disk included, is ``unable to read DICOM object NAME``; what was written stays. What comes
    by C-STORE has no name.
    """
    try:
        return _store(site, user, params, name, source, routing)
    except (RestError, ResetError):
        raise
    except Exception as error:
        raise RestError(400, f"unable to read DICOM object {name or 'null'}") from error


def _store(
    site: StandIn, user: User, params: Mapping[str, str], name: str | None, source: Source, routing: Routing
) -> list[str]:
    site.faults.refuse_name(name or "null")
    asked = identify.project_asked(params)
    project = site.readable(user, asked) if asked else None
    head = _read(site, project, params, source, routing)
    if project is None:
        project = identify.project_of(site, head.data, routing)
    if not _accepted(site, project, head.data):
        return []
    for keyword, words in (("SOPClassUID", "SOP Class UID"), ("SOPInstanceUID", "SOP Instance UID")):
        if value_of(head.data, keyword) is None:
            raise RestError(400, f"object {name or 'null'} contains no {words}")
    row, new = _row(site, project, _wanted(site, project, head.data, params, routing), params)
    scan = scan_directory(head.data)
    target = _target(site, row, scan, name, head.data, params.get("rename", "").lower() == "true")
    target.parent.mkdir(parents=True, exist_ok=True)
    claim = scan + target.name
    if not site.prearchive.open_file(row, claim):
        raise RestError(400, "Concurrent file sends of the same data is not supported.")
    try:
        rejected = _write(site, row, target, head, source)
    except AnonymizationError:
        # a new row goes with its file, an older one loses the file only
        if new:
            _forget(site, row)
        target.unlink(missing_ok=True)
        raise
    finally:
        site.prearchive.close_file(row, claim)
    if rejected:
        if new and not row.files:
            _forget(site, row)
        return []
    return [row.url]


def _row(site: StandIn, project: Project | None, wanted: Row, params: Mapping[str, str]) -> tuple[Row, bool]:
    """The row that this object joins or makes. Where the archive refuses it, this object goes to the prearchive."""
    if project is not None and params.get("Direct-Archive", "").lower() == "true":
        try:
            return site.direct.get_or_create(wanted)
        except RefusedError:
            pass  # a line in the server's log, nothing else
    return site.prearchive.get_or_create(wanted)


def _forget(site: StandIn, row: Row) -> None:
    if isinstance(row, DirectRow):
        site.direct.forget(row)
    else:
        site.prearchive.forget(row)


def _read(site: StandIn, project: Project | None, params: Mapping[str, str], source: Source, routing: Routing) -> Head:
    stop = max(STUDY_COMMENTS, filters.last_tag(site.settings.site_filter), identify.last_tag(site, routing))
    stop = max(stop, filters.last_tag(project.series_filter) if project else 0)
    return received(site, read_object(source, params, stop))


def _accepted(site: StandIn, project: Project | None, header: Header) -> bool:
    return filters.accepts(site.settings.site_filter, header) and (
        project is None or filters.accepts(project.series_filter, header)
    )


def _wanted(site: StandIn, project: Project | None, header: Header, params: Mapping[str, str], routing: Routing) -> Row:
    """The row this object would make; only the first object of a session sees its row created."""
    label = params["EXPT_LABEL"] if "EXPT_LABEL" in params else identify.session_of(site, header, routing)
    folder = params.get("PREARC_SESSION_FOLDER", label)
    stamp = params.get("PREARC_TIMESTAMP") or site.prearchive.timestamp()
    return Row(
        project=project.id if project else None,
        timestamp=stamp,
        folder=folder,
        label=label,
        subject=params["SUBJECT_ID"] if "SUBJECT_ID" in params else identify.subject_of(site, header, routing),
        study_uid=value_of(header, "StudyInstanceUID"),
        directory=site.prearchive.directory(project.id if project else None, stamp, folder),
        autoarchive=_auto_archive(project, header),
        prevent_anon=params.get("prevent_anon", "").lower() == "true",
        prevent_auto_commit=params.get("prevent_auto_commit", "").lower() == "true",
        source=params.get("SOURCE", ""),
        visit=params.get("VISIT", ""),
        protocol=params.get("SUBTYPE", ""),
        scan_date=_date(_study_date(header)),
        scan_time=_time(value_of(header, "StudyTime")),
    )


def _auto_archive(project: Project | None, header: Header) -> str | None:
    """The header's wish, else the project's code: an AA parameter on import counts for nothing."""
    if project is None:
        return None
    asked = identify.auto_archive_of(header)
    if asked is not None:
        return "AutoArchive" if asked else "Manual"
    return AUTO_ARCHIVE_NAMES.get(project.code)


def _study_date(header: Header) -> str | None:
    """The date as it stands there; one that does not begin with a year makes the whole object unreadable."""
    value = value_of(header, "StudyDate")
    if value is not None and re.match(r"[0-9]{4}", value) is None:
        raise ValueError("StudyDate")
    return value


def _date(value: str | None) -> str:
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if value and value[:8].isdigit() and len(value) >= 8 else ""


def _time(value: str | None) -> str:
    return f"{value[:2]}:{value[2:4]}:{value[4:6]}" if value and value[:6].isdigit() and len(value) >= 6 else ""


def _target(site: StandIn, row: Row, scan: str, name: str | None, header: Header, rename: bool) -> Path:
    """The namer's name when asked for, else the entry's own unless another object has it already."""
    folder = row.directory / "SCANS" / scan / "DICOM"
    safe = below(folder, make_file_name(site.settings.file_name_template, header))
    wanted = file_name_chars(name or "")
    if rename or not valid_name(wanted):
        return safe
    asked = folder / wanted
    if not asked.exists():
        return asked
    try:
        stored = head_of(asked).data
    except (NotDicomError, OSError):
        return safe
    same = all(value_of(stored, k) == value_of(header, k) for k in ("SOPInstanceUID", "SOPClassUID"))
    return asked if same else safe


def _write(site: StandIn, row: Row, target: Path, head: Head, source: Source) -> bool:
    """Write head and rest; True when anonymisation threw the object away."""
    with target.open("wb") as out:
        for block in site.faults.stored(target, _blocks(head, source)):
            out.write(block)
    site.faults.after_file(target)
    if target.exists():
        pre_compress(site, target)
    if row.prevent_anon or not site.settings.site_anonymization or not target.exists():
        return False
    if torn(site, head):
        raise AnonymizationError("the stored object is of two encodings")
    return anonymize(site.settings.site_script, target)


def _blocks(head: Head, source: Source) -> Iterator[bytes]:
    yield head.raw
    while block := source.read(_BLOCK):
        yield block
