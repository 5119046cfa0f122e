"""Zips of very many members: a stop is heard while they are listed, and their directory has a limit."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from xnat_ingest.core import SetAside
from xnat_ingest.inputs import archive_members, open_source
from xnat_ingest.inputs.dicom_headers import scan


class Stopped(BaseException):
    """What a run that is stopped raises."""


def _zip(to: Path, members: int) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(to, "w") as packed:
        for number in range(members):
            packed.writestr(f"T/{number:07d}", b"")
    return to


def test_a_stop_is_looked_for_every_thousand_members(tmp_path: Path) -> None:
    """While the directory is read, compared, added up, named, judged and scanned: six times through."""
    to = _zip(tmp_path / "x.zip", 20_000)
    heard: list[None] = []
    source = open_source(str(to), check_stop=lambda: heard.append(None))
    assert len(heard) >= 3 * 20
    found = list(scan(source, lambda _: None, check_stop=lambda: heard.append(None)))
    assert len(found) == 20_000
    assert 6 * 20 <= len(heard) < 2000


def test_a_stop_ends_the_reading_of_a_directory(tmp_path: Path) -> None:
    to = _zip(tmp_path / "x.zip", 3000)
    calls = iter(range(9))

    def stop() -> None:
        if next(calls) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        open_source(str(to), check_stop=stop)
    assert next(calls) == 3


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_directory_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_whole: bool) -> None:
    _zip(tmp_path / "007/pre.zip", 100)
    monkeypatch.setattr(archive_members, "LIST_SIZE", 5500 if is_whole else 5499)
    found = list(open_source(str(tmp_path), 2).files())
    assert len(found) == (100 if is_whole else 1)
    first = found[0]
    assert isinstance(first, SetAside) != is_whole
    assert is_whole or (first.path, getattr(first, "reason", "")) == ("007/pre.zip", "too-large")
