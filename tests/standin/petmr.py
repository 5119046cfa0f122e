"""Separating a PET/MR row into two, where the project or the site asks for it.

Only the queue's rebuild does this (the idle timer, the rebuild service, the inline commit of an import):
``action=build`` and ``action=commit`` on a row leave a PET/MR session whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.standin.builder import build
from tests.standin.model import Row

if TYPE_CHECKING:
    from tests.standin.server import StandIn


def separate(site: StandIn, row: Row) -> list[Row]:
    """The row itself, or the two rows made of it."""
    if site.petmr_setting(row.project) != "separate" or row.xsi_type != "xnat:petmrSessionData":
        return [row]
    site.prearchive.set_status(row, "SEPARATING")
    parts = []
    for suffix, wanted in (("MR", {"MR"}), ("PET", None)):
        parts.append(_part(site, row, suffix, wanted))
    site.prearchive.forget(row)
    return parts


def _part(site: StandIn, row: Row, suffix: str, wanted: set[str] | None) -> Row:
    label = f"{row.label}_{suffix}"
    part = Row(
        project=row.project,
        timestamp=row.timestamp,
        folder=f"{row.folder}_{suffix}",
        label=label,
        subject=row.subject,
        study_uid=row.study_uid,
        directory=row.directory.parent / f"{row.folder}_{suffix}",
        autoarchive=row.autoarchive,
        prevent_anon=row.prevent_anon,
        prevent_auto_commit=row.prevent_auto_commit,
        source=row.source,
        scan_date=row.scan_date,
        scan_time=row.scan_time,
    )
    for scan in (row.built or {}).values():
        if (scan.modality in wanted) if wanted else scan.modality != "MR":
            for path in scan.files.values():
                target = part.directory / path.relative_to(row.directory)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
    part, _ = site.prearchive.get_or_create(part)
    part.built, part.xsi_type, _ = build(site, part)
    part.status = "READY"
    return part
