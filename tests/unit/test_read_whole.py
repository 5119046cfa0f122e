"""Files that are read whole have a limit: what has no end fills no memory."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from xnat_ingest.commands.container.document import load_command
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
        (_read_password, 16),
        (load_command, 16),
        (lambda path: read_key(path, {}), 1),
    ],
)
def test_an_endless_file_is_refused(read: Callable[[str], object], limit: int) -> None:
    """A device that gives zeros for ever. limit: MB."""
    with pytest.raises(UsageError, match=f"/dev/zero is larger than {limit} MB"):
        read("/dev/zero")


@pytest.mark.parametrize("read", [read_file, read_plan, read_sheet, load_profile, saved.read_report])
def test_a_pipe_or_device_is_no_file(tmp_path: Path, read: Callable[[str], object]) -> None:
    """A device has no end, and a pipe that nobody writes to would hold the program for ever."""
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", str(tmp_path / "pipe")):
        with pytest.raises(IngestError, match=f"{path} is not a regular file; give the file itself"):
            read(path)
    with pytest.raises(IngestError, match="Is a directory"):
        read(str(tmp_path))


def test_a_plan_and_a_report_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be large."""
    (tmp_path / "x").write_bytes(b" " * (1 << 20) + b" ")
    monkeypatch.setattr("xnat_ingest.planning.plan_file._LIMIT", 1 << 20)
    monkeypatch.setattr(saved, "LIMIT", 1 << 20)
    for read in (read_plan, saved.read_report):
        with pytest.raises(IngestError, match="x is larger than 1 MB"):
            read(str(tmp_path / "x"))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """Its size says so."""
    with (tmp_path / "x").open("wb") as stream:
        stream.truncate(1 << 36)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="larger than 32 MB"):
            read_sheet(str(tmp_path / "x"))
        with pytest.raises(UsageError, match="larger than 16 MB"):
            _read_password(str(tmp_path / "x"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("read", [_read_password, lambda path: read_key(path, {})])
def test_a_secret_may_come_through_a_pipe(tmp_path: Path, read: Callable[[str], object]) -> None:
    """As a shell's <(...) gives it."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("k" * 40))
    writer.start()
    assert read(str(tmp_path / "pipe"))
    writer.join()


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
