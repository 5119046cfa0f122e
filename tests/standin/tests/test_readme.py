"""The stand-in's README names modules and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

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
