"""Whose document a server sends when it is asked for an archived session."""

from __future__ import annotations

from typing import Any

import pytest

from xnat_ingest.core.errors import SessionTrouble
from xnat_ingest.xnat.archive import refuse_stranger

HERE = [("DEMO", "007_pre")]


def document(project: object, label: object, *shares: tuple[str, str]) -> dict[str, Any]:
    return {"ID": "XNAT_E00001", "project": project, "label": label, "shares": list(shares)}


@pytest.mark.parametrize(
    "fields",
    [
        document("DEMO", "007_pre"),
        document("demo", "007_PRE"),
        document("DEMO", ""),
        document(None, "007_pre"),
        {"ID": "XNAT_E00001", "shares": []},
        document("HOME", "007_at_home", ("THIRD", "x"), ("DEMO", "007_pre")),
        document("HOME", "007_at_home", ("demo", "007_Pre")),
        document("HOME", "007_at_home", ("DEMO", "")),
    ],
)
def test_the_session_that_was_asked_for(fields: dict[str, Any]) -> None:
    """Shared sessions show their home. What is not said is no contradiction."""
    refuse_stranger("DEMO", "007_pre", fields)


@pytest.mark.parametrize(
    "fields",
    [
        document("DEMO2", "007_pre"),
        document("DEMO", "007_pre_2"),
        document("OTHER", ""),
        document("", "008_pre"),
        document(5, 5),
        document("HOME", "007_pre", ("THIRD", "007_pre")),
        document("HOME", "x", ("DEMO", "008_pre"), ("THIRD", "007_pre")),
        document("HOME", "007_pre", ("DEMO", "008_pre")),
    ],
)
def test_another_session_is_not_taken_for_it(fields: dict[str, Any]) -> None:
    with pytest.raises(SessionTrouble, match="asked for session 007_pre of project DEMO, the server answers with"):
        refuse_stranger("DEMO", "007_pre", fields)
