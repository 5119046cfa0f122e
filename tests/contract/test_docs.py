"""Documentation that can fail: what the README names exists, and what exists is named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.make_docs import PAGES
from xnat_ingest.cli import COMMANDS, main
from xnat_ingest.core.about import __version__
from xnat_ingest.core.errors import EXIT_MEANING, Exit
from xnat_ingest.settings.layers import _HOSTS, _PASSWORDS, _USERS, DEID_KEY
from xnat_ingest.settings.options import TABLE, env_name, flag
from xnat_ingest.settings.shards import SHARDS

HOME = Path(__file__).parent.parent.parent
README = (HOME / "README.md").read_text("utf-8")
# What users read; coming-from.md is full of other tools' flags, and has a test of its own.
MANUAL = "\n".join(
    [
        README,
        *(
            p.read_text("utf-8")
            for p in sorted(HOME.glob("docs/*.md"))
            if p.name not in ("coming-from.md", "design.md")
        ),
    ]
)
OTHERS_FLAGS = {"--array", "--mode", "--prearchive"}
DROP_IN_FLAGS = {"--workdir"}
COMMAND_FLAGS = {
    "--image",
    "--labels",
    "--enable-site",
    "--enable-project",
    "--beside",
    "--in-project",
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


def words_of_engines(text: str) -> str:
    """The text without what stands in other programs' command lines."""
    text = re.sub(r"^docker run .*? (?=xnat-ingest:)", "", text, flags=re.MULTILINE)
    return re.sub(r"^(tar|sbatch|pip|nohup|make|git) .*$", "", text, flags=re.MULTILINE)


def test_flags_in_the_manual_are_the_programs_flags() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", words_of_engines(MANUAL)))
    ours = {flag(name) for name in TABLE} | COMMAND_FLAGS | DROP_IN_FLAGS | STANDARD_FLAGS
    assert named - ours - OTHERS_FLAGS == set()
    assert ours - named - STANDARD_FLAGS == set()


def test_short_flags_stand_beside_their_long_ones() -> None:
    for name, row in TABLE.items():
        if row.short:
            assert f"{row.short}/{flag(name)}" in MANUAL


def test_commands_in_the_manual_are_the_programs_commands() -> None:
    assert set(re.findall(r"^xnat-ingest ([a-zU]+)\b", MANUAL, re.MULTILINE)) <= set(COMMANDS)
    assert set(re.findall(r"xnat-ingest ([a-zU]+)\b", MANUAL)) >= set(COMMANDS)


@pytest.mark.parametrize("name", PAGES)
def test_pages_made_from_the_program_are_up_to_date(name: str) -> None:
    """`make pages` writes them anew."""
    assert (HOME / name).read_text("utf-8") == PAGES[name]()


@pytest.mark.parametrize("path", [*HOME.glob("*.md"), *HOME.glob("docs/**/*.md")], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


def test_every_page_is_linked() -> None:
    linked = set(re.findall(r"\]\(docs/([a-z-]+\.md)\)", README))
    assert {path.name for path in (HOME / "docs").glob("*.md")} - linked == {"performance.md"}


def test_the_readme_is_short() -> None:
    """Its words, without its samples."""
    assert len(re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL).split()) < 920


def test_exit_codes() -> None:
    rows = dict(re.findall(r"^\| ([0-9, ]+) \| (.+?) \|$", README, re.MULTILINE))
    codes = {int(code) for cell in rows for code in cell.split(",")}
    assert codes == {int(code) for code in Exit} == {int(code) for code in EXIT_MEANING}
    for code in (0, 1, 2, 3, 5, 6, 70):
        assert rows[str(code)] == EXIT_MEANING[Exit(code)]


def test_variables() -> None:
    named = set(re.findall(r"XNAT_[A-Z_]+[A-Z]\b(?!_)", MANUAL))
    ours = {*_HOSTS, *_USERS, *_PASSWORDS, *map(env_name, TABLE), DEID_KEY, SHARDS}
    assert ours - named == set()
    assert named - ours <= {"XNAT_INGEST", "XNAT_WORKFLOW_ID", "XNAT_EVENT_ID"}


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
