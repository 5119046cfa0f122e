"""Files that are read whole have a limit: what has no end fills no memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from xnat_ingest.core import json_documents
from xnat_ingest.core.errors import IngestError, UsageError
from xnat_ingest.core.json_documents import read_text
from xnat_ingest.core.read_small import read_small
from xnat_ingest.deidentify.profile import load_profile
from xnat_ingest.deidentify.pseudonyms import read_key
from xnat_ingest.planning.label_sheet import read_sheet
from xnat_ingest.planning.plan_file import read_plan
from xnat_ingest.report import saved
from xnat_ingest.settings.config_file import read_file
from xnat_ingest.settings.layers import _read_password


@pytest.mark.parametrize(
    ("read", "limit"),
    [
        (read_file, 4),
        (_read_password, 16),
        (lambda path: read_text(path, "command file"), 16),
        (read_sheet, 64),
        (lambda path: read_key(path, {}), 1),
        (load_profile, 16),
    ],
)
def test_an_endless_file_is_refused(read: Callable[[str], object], limit: int) -> None:
    """A device that gives zeros for ever. limit: MB."""
    with pytest.raises(UsageError, match=f"/dev/zero is larger than {limit} MB"):
        read("/dev/zero")


def test_an_endless_plan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan may be large; it has a limit all the same."""
    monkeypatch.setattr("xnat_ingest.planning.plan_file._LIMIT", 1 << 20)
    with pytest.raises(UsageError, match="plan file /dev/zero is larger than 1 MB"):
        read_plan("/dev/zero")


def test_an_endless_report_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "LIMIT", 1 << 20)
    with pytest.raises(IngestError, match="the report /dev/zero is larger than 1 MB"):
        saved.read_report("/dev/zero")


def test_the_limit_is_the_last_size_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b" " * json_documents.LIMIT)
    assert len(read_text(str(tmp_path / "x"), "file")) == 16 << 20
    (tmp_path / "x").write_bytes(b" " * (json_documents.LIMIT + 1))
    with pytest.raises(UsageError, match="larger than 16 MB"):
        read_text(str(tmp_path / "x"), "file")


def test_a_small_file_takes_little_memory_whatever_the_limit(tmp_path: Path) -> None:
    """One large read would ask for all of it beforehand, which a machine with a limit on addresses refuses."""
    (tmp_path / "x").write_bytes(b"{}")
    tracemalloc.start()
    try:
        assert read_small(str(tmp_path / "x"), "plan file", 1 << 30) == b"{}"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
