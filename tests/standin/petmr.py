"""Separating a PET/MR row into two, where the project or the site asks for it.

Only the queue's rebuild does this (the idle timer, the rebuild service, the inline commit of an import):
``action=build`` and ``action=commit`` on a row leave a PET/MR session whole.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.standin.builder import build
from tests.standin.model import Row

if TYPE_CHECKING:
    from tests.standin.server import StandIn


def separate(site: StandIn, row: Row) -> list[Row]:
    """The row itself, or the two rows made of it; the old one is gone then."""
    if site.petmr_setting(row.project) != "separate" or row.xsi_type != "xnat:petmrSessionData":
        return [row]
    site.prearchive.set_status(row, "SEPARATING")
    parts = [_part(site, row, "MR"), _part(site, row, "PET")]
    site.prearchive.forget(row)
    return parts


def unique_label(site: StandIn, project: str | None, label: str, kind: str) -> str:
    """``PETMR`` in the label becomes the kind, else the kind is appended; a number makes it new in the archive."""
    if "PETMR" in label:
        stem = label.replace("PETMR", kind)
    elif "petmr" in label:
        stem = label.replace("petmr", kind.lower())
    else:
        stem = f"{label}_{kind}"
    taken = site.projects[project].sessions if project in site.projects else {}
    number = 0
    while stem + (str(number) if number else "") in taken:
        number += 1
    return stem + (str(number) if number else "")


def _part(site: StandIn, row: Row, kind: str) -> Row:
    """One half under a timestamp of its own; the row's settings go along."""
    label = unique_label(site, row.project, row.label, kind)
    stamp = site.prearchive.timestamp()
    while site.prearchive.timestamp() == stamp:  # the halves differ in their timestamps
        time.sleep(0.001)
    part = Row(
        project=row.project,
        timestamp=stamp,
        folder=label,
        label=label,
        subject=row.subject,
        study_uid=row.study_uid,
        directory=site.prearchive.directory(row.project, stamp, label),
        autoarchive=row.autoarchive,
        prevent_anon=row.prevent_anon,
        prevent_auto_commit=row.prevent_auto_commit,
        source=row.source,
        visit=row.visit,
        protocol=row.protocol,
        scan_date=row.scan_date,
        scan_time=row.scan_time,
    )
    scans = [scan for scan in (row.built or {}).values() if (scan.modality == "MR") == (kind == "MR")]
    for scan in scans:
        for path in scan.paths:
            target = part.directory / path.relative_to(row.directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    part, _ = site.prearchive.get_or_create(part)
    part.built, part.xsi_type, _ = build(site, part)
    part.status = "READY"
    part.log(f"Moved {len(scans)} scans from {row.label} to {label}")
    return part
