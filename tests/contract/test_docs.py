"""Documentation that can fail: what the README names exists, and what exists is named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from xnat_ingest.cli import COMMANDS, main
from xnat_ingest.core.about import __version__
from xnat_ingest.core.errors import EXIT_MEANING, Exit
from xnat_ingest.settings.layers import _HOSTS, _PASSWORDS, _USERS
from xnat_ingest.settings.options import TABLE, env_name, flag

HOME = Path(__file__).parent.parent.parent
README = (HOME / "README.md").read_text("utf-8")
DROP_IN_FLAGS = {"--workdir"}
COMMAND_FLAGS = {
    "--image",
    "--labels",
    "--enable-site",
    "--enable-project",
    "--all",
    "--status",
    "--limit",
    "--label",
    "--yes",
    "--to-project",
    "--scan",
    "--keep-files",
    "--overwrite",
    "--archive-name",
    "--format",
    "--content",
    "--tags",
    "--force",
    "--modality",
    "--session-type",
    "--quality",
    "--one-resource",
    "--show-values",
}
STANDARD_FLAGS = {"--help", "--version"}


def test_flags_in_the_readme_are_the_programs_flags() -> None:
    ours = re.sub(r"^docker run .*? xnat-ingest:\S+", "", README, flags=re.MULTILINE)  # the engine has flags, too
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours)) - DROP_IN_FLAGS - STANDARD_FLAGS
    assert named - COMMAND_FLAGS == {flag(name) for name in TABLE} - COMMAND_FLAGS
    assert named >= COMMAND_FLAGS


def test_short_flags_stand_beside_their_long_ones() -> None:
    for name, row in TABLE.items():
        if row.short:
            assert f"{row.short}/{flag(name)}" in README


def test_commands_in_the_readme_are_the_programs_commands() -> None:
    assert set(re.findall(r"xnat-ingest ([a-zU]+) ", README)) - {"is"} == set(COMMANDS)


def test_exit_codes() -> None:
    rows = dict(re.findall(r"^\| ([0-9, ]+) \| (.+?) \|$", README, re.MULTILINE))
    codes = {int(code) for cell in rows for code in cell.split(",")}
    assert codes == {int(code) for code in Exit} == {int(code) for code in EXIT_MEANING}
    for code in (0, 1, 2, 3, 5, 6, 70):
        assert rows[str(code)] == EXIT_MEANING[Exit(code)]


def test_variables() -> None:
    named = set(re.findall(r"XNAT_[A-Z_]+[A-Z]\b(?!_)", README))
    assert named == {*_HOSTS, *_USERS, *_PASSWORDS, env_name("part_size")}


def test_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"{code:>3}  {meaning}" in text for code, meaning in EXIT_MEANING.items())


def test_make_targets_in_the_readme_exist() -> None:
    makefile = (HOME / "Makefile").read_text("utf-8")
    for target in re.findall(r"^make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_requirements_name_no_index() -> None:
    for path in HOME.glob("requirements*"):
        assert not re.search(r"://|--(extra-)?index|--find-links|--trusted", path.read_text("utf-8")), path


def test_one_version() -> None:
    """The package's version stands in pyproject.toml and in the code."""
    assert tomllib.loads((HOME / "pyproject.toml").read_text("utf-8"))["project"]["version"] == __version__
