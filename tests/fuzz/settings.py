"""Files that people write or edit: config, label sheet, plan."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from tests.fuzz.target import Target, as_file, folder, text_of
from xnat_ingest.core import UsageError, printable
from xnat_ingest.core.model import Instance, Plan, Session, SetAside
from xnat_ingest.deidentify.profile import parse_profile
from xnat_ingest.planning.label_sheet import SheetRow, read_sheet, sheet_text
from xnat_ingest.planning.plan_file import plan_text, read_plan
from xnat_ingest.settings.layers import resolve


def _shown(error: UsageError) -> None:
    assert str(error).isprintable(), str(error)


def config(data: bytes) -> None:
    with suppress(UsageError):
        resolve("upload", {"config": "x.json"}, {}, lambda _: text_of(data)).shown()


def environment(data: bytes) -> None:
    """The same words as variables, one a line."""
    pairs = (line.partition("=") for line in text_of(data).splitlines())
    with suppress(UsageError):
        resolve("upload", {}, {name: value for name, _, value in pairs}).shown()


def profile(data: bytes) -> None:
    with suppress(UsageError):
        parse_profile(text_of(data), "x.json")


def _shown_row(row: SheetRow) -> SheetRow:
    """The row as it is written: controls are shown, and not written raw."""
    fields: dict[str, Any] = {"line": 0, "as_written": frozenset()}
    fields |= {name: printable(value) for name, value in dataclasses.asdict(row).items() if isinstance(value, str)}
    return dataclasses.replace(row, **fields)


def sheet(data: bytes) -> None:
    """What is read is written, and read again as it was shown."""
    path = as_file(data, "sheet.csv")
    for by in ("folder", "study_uid"):
        try:
            found = read_sheet(str(path), by)
        except UsageError as error:
            _shown(error)
            continue
        rows = [_shown_row(row) for row in found.rows]
        again = read_sheet(str(as_file(sheet_text(found.rows).encode("utf-8"), "again.csv")), by)
        assert [_shown_row(row) for row in again.rows] == rows


def plan(data: bytes) -> None:
    """What is read is written, and read again as the same."""
    try:
        found = read_plan(str(as_file(data, "plan.json")))
    except UsageError as error:
        _shown(error)
        return
    if not found.plan.sessions:
        return
    text = plan_text(found.plan, found.root, found.layout, found.deidentified)
    again = read_plan(str(as_file(text.encode(), "plan.json")))
    assert again.plan.planned == found.plan.planned
    assert again.plan.set_aside == found.plan.set_aside
    assert [s.instances for s in again.plan.sessions] == [s.instances for s in found.plan.sessions]


def _configs() -> Iterator[bytes]:
    rules = [{"folder": "LOC*"}, {"tag": "Modality", "in": ["SR"]}, {"series_instances": {"fewer_than": 3}}, "AAA"]
    yield json.dumps({"exclude": rules, "layout": "subject/session", "workers": 4, "part_size": "64M"}).encode()
    yield json.dumps({"Exclude": ["x"], "server": "https://x.org", "timeout": 1.5, "dry_run": True}).encode()
    yield json.dumps({"include": [{"image_type": ["M"]}, {"file_size": {"less_than": 9}}, {"preset": "mr"}]}).encode()


def _environments() -> Iterator[bytes]:
    yield b"XNAT_INGEST_SERVER=https://x.org\nXNAT_INGEST_WORKERS=3\nXNAT_INGEST_EXCLUDE=a,b\nXNAT_INGEST_PART_SIZE=8M"
    yield b"XNAT_INGEST_DICOM_PORT=104\nXNAT_INGEST_CALLED_AET=A\nXNAT_INGEST_TIMEOUT=1e3\nXNAT_INGEST_DRY_RUN=yes"


def _profiles() -> Iterator[bytes]:
    rules = [{"keyword": "StudyDescription", "action": "K"}, {"tag": "0010xxxx", "action": "X"}, {"vr": "PN"}]
    yield json.dumps({"base": "basic", "dates": "shift", "uids": "keep", "rules": rules}).encode()
    yield json.dumps({"base": "basic", "options": ["retain safe private"], "burned_in": "allow"}).encode()


def _sheets() -> Iterator[bytes]:
    yield b'folder,study_uid,subject,session\na/b,1.2.3,"\'007",S1\nc,1.2.4,="08",\n'
    yield "\ufeffsep=;\nfolder;subject;session\nKästner;S;T\n".encode()
    yield "folder\tsubject\tsession\na\tb\tc\n".encode("utf-16")


def _plans() -> Iterator[bytes]:
    one = Instance("a/b", 1000, 1, "1.2", "1.3", "1.4", "1.5", "1", "2", "MR", "T1", "1.2.840.10008.1.2.1", 8, {})
    two = dataclasses.replace(one, path="a/c", sop_uid="1.6", form="headed", sent_size=1200, head_size=300)
    session = Session("P", "S", "L", "1.4", "a", (one, two))
    whole = Plan("P", (session,), (SetAside("x", "not-dicom"),), (), 3)
    yield plan_text(whole, str(folder()), "subject/session").encode()
    yield plan_text(whole, str(folder()), "headers", "f").encode()


TARGETS = (
    Target("config", config, _configs, longest=4096),
    Target("environment", environment, _environments, longest=2048),
    Target("profile", profile, _profiles, longest=4096),
    Target("label-sheet", sheet, _sheets, longest=4096),
    Target("plan-file", plan, _plans, longest=8192),
)
