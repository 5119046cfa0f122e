"""What is known of a project's archive: each session finds its own among however many, and the listing's age."""

from __future__ import annotations

import pytest

from xnat_ingest.delivery.known_sessions import KnownSessions
from xnat_ingest.xnat.archive import ArchivedSession


def archived(label: str, study: str) -> ArchivedSession:
    return ArchivedSession(f"E_{label}", label, "S", study, "xnat:mrSessionData")


LISTING = [archived("B", "2"), archived("a_MR1", "1"), archived("A_mr1", ""), archived("C", "3"), archived("3", "")]


@pytest.mark.parametrize(
    ("label", "study", "found"),
    [
        ("a_mr1", "9", ["a_MR1", "A_mr1"]),
        ("a_mr1", "2", ["B", "a_MR1", "A_mr1"]),
        ("x", "3", ["C"]),
        ("3", "9", ["3"]),
        ("x", "b", []),
    ],
)
def test_a_session_finds_those_of_its_label_or_study(label: str, study: str, found: list[str]) -> None:
    """In the listing's order; a label is no study, and a study no label."""
    assert [known.label for known in KnownSessions(LISTING, 0.0).matching(label, study)] == found
