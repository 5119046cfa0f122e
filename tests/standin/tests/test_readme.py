"""The stand-in's README names modules and tests that exist, and every switch."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from tests.standin.model import Reality

HERE = Path(__file__).parent
README = (HERE.parent / "README.md").read_text("utf-8")
LINES = re.findall(r"^\| .+ \| ([a-z, ]+) \| (test_\w+)::(test_\w+) \|$", README, re.MULTILINE)


def test_its_table_names_what_exists() -> None:
    assert len(LINES) > 50
    for modules, file, test in LINES:
        assert f"def {test}(" in (HERE / f"{file}.py").read_text("utf-8"), test
        for module in modules.split(", "):
            assert (HERE.parent / f"{module}.py").is_file(), module


def test_every_line_of_the_table_is_read() -> None:
    assert len(LINES) == README.count("::test_")


def test_it_names_every_switch() -> None:
    named = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    assert named == [one.name for one in fields(Reality)]


def test_off_is_the_default_of_a_switch_and_the_environment_turns_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STANDIN_REALITY", raising=False)
    assert Reality.here() == Reality()
    monkeypatch.setenv("STANDIN_REALITY", "secondary,ids")
    assert Reality.here() == Reality(secondary=True, ids=True)
    monkeypatch.setenv("STANDIN_REALITY", "all")
    assert Reality.here() == Reality.full()
