"""Defects that were found by reading: each with the sentence, code or count that it should have had."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.unit.test_plan import dicom, plan_of
from xnat_ingest.cli import main
from xnat_ingest.core.errors import is_bug
from xnat_ingest.inputs import pydicom_header
from xnat_ingest.settings.layers import resolve
from xnat_ingest.settings.options import TABLE


def test_no_words_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Help, and the code of a usage error."""
    assert main([]) == 2
    said = capsys.readouterr()
    assert "usage: xnat-ingest" in said.out
    assert said.err == ""


NUMBERS = {"dicom_port": 8104, "workers": 2, "part_size": 1048576, "timeout": 30.5, "retry_budget": 0, "verbose": 1}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_a_config_file_may_be_json_numbers(name: str) -> None:
    settings = resolve("upload", {"config": "c"}, {}, lambda _: json.dumps({name: NUMBERS[name]}))
    assert getattr(settings, name) == NUMBERS[name]
    assert name in TABLE


@pytest.mark.wide
def test_importing_leaves_the_dicom_library_alone() -> None:
    """Its settings are the whole process's, where we may be a guest; after a scan they are as before, too."""
    code = (
        "import pydicom; before = pydicom.config.settings.reading_validation_mode\n"
        "import xnat_ingest, xnat_ingest.inputs.dicom_headers, xnat_ingest.delivery.run\n"
        "assert pydicom.config.settings.reading_validation_mode == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    import pydicom

    before = pydicom.config.settings.reading_validation_mode
    plan_of({"a/x/1": dicom("1")})
    assert pydicom.config.settings.reading_validation_mode == before


def test_a_mistake_of_ours_is_no_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the run with 70, and is not told as the user's broken file."""

    def mistake(*_: object) -> object:
        return None + ""  # type: ignore[operator]

    def from_here(*_: object) -> object:
        raise NotImplementedError

    assert not is_bug(TypeError())
    from_here.__code__ = from_here.__code__.replace(co_filename=pydicom_header.__file__)
    monkeypatch.setattr(pydicom_header._Header, "_instance", from_here)
    bare = dicom("1")[132:]  # what the library is asked for
    with pytest.raises(NotImplementedError):
        plan_of({"a/x/1": bare})
    monkeypatch.setattr(pydicom_header._Header, "_instance", mistake)  # as if the library had raised it
    assert plan_of({"a/x/1": bare}).set_aside[0].reason == "unreadable"


def test_a_name_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes two hashes over the UIDs, and is asked for all over a run."""
    (session,) = plan_of({"a/x/1": dicom("1")}).sessions
    first = session.instances[0].name
    monkeypatch.setattr("xnat_ingest.core.model.uid_hash", lambda *_: pytest.fail("computed again"))
    assert all(session.instances[0].name == first for _ in range(15))
