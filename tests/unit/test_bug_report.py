"""The block that an unexpected error prints: versions, the command without values, where it happened."""

from __future__ import annotations

import json

import pydicom

from xnat_ingest.cli.bug_report import bug_report
from xnat_ingest.core.about import __version__


def broken() -> Exception:
    try:
        json.loads("{Doe^Jane")
    except ValueError as error:
        return error
    raise AssertionError


def test_it_says_versions_and_place() -> None:
    text = bug_report(broken(), ["upload"])
    assert f"xnat-ingest {__version__}, Python 3." in text
    assert f"pydicom {pydicom.__version__}" in text
    assert "test_bug_report.py:" in text
    assert "json/decoder.py:" in text
    assert text.count("-" * 72) == 2


def test_no_value_of_the_command_is_in_it() -> None:
    words = [
        "upload",
        "/data/Doe^Jane",
        "-P",
        "SECRET",
        "--labels=/home/jane/x.csv",
        "-PSECRET",
        "--report",
        "out.json",
    ]
    text = bug_report(broken(), words)
    assert "command: xnat-ingest upload -P --labels -P --report\n" in text


def test_no_path_and_no_message_is_in_it() -> None:
    """The message of a foreign error may hold a header value, a path the user's name."""
    text = bug_report(broken(), ["Doe^Jane"])
    assert "Jane" not in text.replace('json.loads("{Doe^Jane")', "")
    assert __file__ not in text
    assert "command: xnat-ingest \n" in text
