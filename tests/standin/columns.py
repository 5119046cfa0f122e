"""Which columns a table has, what they are called, and which rows a query means."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tests.standin.tables import Value

if TYPE_CHECKING:
    from tests.standin.body import Request

SHORTCUTS = {
    "xnat:experimentdata/id": "ID",
    "xnat:experimentdata/label": "label",
    "xnat:experimentdata/project": "project",
    "xnat:experimentdata/date": "date",
    "xnat:experimentdata/time": "time",
    "xnat:experimentdata/note": "note",
    "xnat:experimentdata/meta/insert_date": "insert_date",
    "xnat:experimentdata/meta/insert_user/login": "insert_user",
    "xnat:experimentdata/meta/last_modified": "last_modified",
    "xnat:experimentdata/extension_item/element_name": "xsiType",
    "xnat:imagesessiondata/id": "session_ID",
    "xnat:imagesessiondata/label": "session_label",
    "xnat:imagesessiondata/project": "session_project",
    "xnat:imagesessiondata/modality": "modality",
    "xnat:imagesessiondata/scanner": "scanner",
    "xnat:imagesessiondata/uid": "UID",
    "xnat:subjectassessordata/subject_id": "subject_ID",
    "xnat:subjectdata/label": "subject_label",
    "xnat:subjectdata/project": "subject_project",
}
"""XML path -> the shortcut a table's column is named by. ``studyInstanceUID`` is a second name of ``UID``."""

_BY_NAME = {name: path for path, name in SHORTCUTS.items()} | {"studyInstanceUID": "xnat:imagesessiondata/uid"}
ROOTS = {"xnat:experimentdata": 0, "xnat:subjectassessordata": 1, "xnat:imagesessiondata": 2}


def column(asked: str) -> str | None:
    """What a column is called in the answer, whichever way it was asked for."""
    path = _BY_NAME.get(asked, asked.lower() if "/" in asked else None)
    return SHORTCUTS.get(path, path) if path else None


def root_of(root: str, query: Mapping[str, str]) -> str:
    """The type the query is about: ``xsiType``, else the most special one any column or filter needs."""
    asked = query.get("xsiType")
    if asked and "," not in asked:
        return asked.lower()
    for name in [*query.get("columns", "").split(","), *query]:
        kind = _BY_NAME.get(name, name.lower()).split("/")[0]
        if "/" in _BY_NAME.get(name, name) and kind != "xnat:subjectdata" and ROOTS.get(kind, 3) > ROOTS.get(root, 3):
            root = kind
    return root


def is_a(xsi_type: str, wanted: str) -> bool:
    return wanted == xsi_type.lower() or wanted in ROOTS


def columns_of(request: Request, default: str) -> list[str]:
    asked = request.query.get("columns")
    return asked.split(",") if asked and asked != "DEFAULT" else default.split()


def matches(row: Mapping[str, Value], query: Mapping[str, str]) -> bool:
    """Query by field: commas mean "or", ``*`` and ``%`` are wildcards, other parameters are no filters."""
    for key, wanted in query.items():
        name = column(key)
        if key in ("xsiType", "columns", "format") or name is None or name not in row:
            continue
        value = str(row[name] or "")
        patterns = [one.replace("%", "*") for one in wanted.split(",")]
        if not any(fnmatchcase(value, one) if "*" in one else value == one for one in patterns):
            return False
    return True
