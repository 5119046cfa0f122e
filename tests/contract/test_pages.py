"""The command lines of the pages: each is one that the program takes, and those below are run in their page's order.

docs/coming-from.md and docs/api.md have tests of their own; lines that begin with `docker` are run by tests/image.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dicom_trees import Series, make_session
from tests.nifti_trees import scan
from tests.standin import Project, StandIn
from xnat_ingest.cli import main
from xnat_ingest.cli.parser import parse
from xnat_ingest.report.advice import PROBLEMS, REASONS

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *(p for p in sorted(ROOT.glob("docs/*.md")) if p.name != "coming-from.md")]
IDENTIFIED = 3  # identity found something
# Lines whose exit code is not 0, by their beginning.
CODES = {
    "xnat-ingest identity /data/study": IDENTIFIED,
    "xnat-ingest command remove 7 ": 2,
    "xnat-ingest upload /data/study -P MYPROJECT --deidentify basic": 3,  # the same is there with its identities
    "xnat-ingest report merge report-*.json": 3,  # seven of eight shards are not there
}
# Lines that need what these pages do not make; tests/contract/test_prearchive_verbs.py and others run their like.
TAKEN_ONLY = (
    "xnat-ingest prearchive move 2024",
    "xnat-ingest prearchive delete -P MYPROJECT 2024",
    "xnat-ingest resource put mask.nii.gz",
    "xnat-ingest nifti /data/one",
)


def blocks(page: Path) -> Iterator[str]:
    yield from re.findall(r"^```\w*\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def lines(page: Path) -> list[str]:
    """The program's lines of a page's blocks, without their comments."""
    found = (line.strip() for block in blocks(page) for line in block.splitlines())
    return [re.split(r"\s+#\s", line)[0] for line in found if line.startswith("xnat-ingest ")]


def inline(page: Path) -> list[str]:
    """Whole lines in the text; those with only a command's name, or with placeholders in brackets, are none."""
    found = re.findall(r"`(xnat-ingest [^`\n]+)`", page.read_text("utf-8"))
    return [line for line in found if len(line.split()) > 3 and "[" not in line and "|" not in line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_program_takes_every_line(page: Path) -> None:
    for line in [*lines(page), *inline(page)]:
        given, stray = parse(shlex.split(line.partition(" > ")[0])[1:])
        assert given["command"]
        assert not stray


World = Callable[[str], list[int]]


@pytest.fixture
def run(site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> World:
    """Runs the lines of a page in a folder of their own, with /data/study made; returns nothing that is not as said."""
    site.user("up").container_manager = True
    for name in ("MYPROJECT", "OTHER"):
        site.projects[name] = Project(name, code=4, access={"up": "delete"})
    for session in ("pre", "post"):
        make_session(tmp_path / "study" / "007" / session, (Series("T1_1", 2, tags={"PatientID": "7"}),), session)
    scan(tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T1w", {"Modality": "MR"})
    (tmp_path / "bids" / "dataset_description.json").write_text("{}")
    (tmp_path / "results" / "old").mkdir(parents=True)
    for name in ("old/a.txt", "notes.txt", "keep.txt"):
        (tmp_path / "results" / name).write_text(name)
    (tmp_path / "Exclusions.json").write_text(json.dumps({"Exclude": ["Localizers"]}))
    monkeypatch.chdir(tmp_path)
    assert main(["identity", "new-key", "key"]) == 0

    def one(line: str) -> int:
        line = line.replace("/data/", f"{tmp_path}/").replace("/secure/", f"{tmp_path}/")
        if line.startswith("xnat-ingest command") and " 7" in line:
            line = line.replace(" 7", f" {max(site.containers.commands)}")
        given = shlex.split(line)[1:]
        return main(
            [word for part in given for word in (sorted(map(str, Path().glob(part))) if "*" in part else [part])]
        )

    def whole(name: str) -> list[int]:
        codes = []
        for line in lines(ROOT / name):
            if line.startswith(TAKEN_ONLY) or " > " in line:
                continue
            wanted = next((code for start, code in CODES.items() if f"{line} ".startswith(start)), 0)
            wanted = 0 if "--yes" in line else wanted
            assert (line, one(line)) == (line, wanted), capsys.readouterr()
            codes.append(wanted)
        return codes

    return whole


RUN = ("README.md", "quick-start.md", "using.md", "deidentify.md", "containers.md", "administrators.md", "report.md")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("page", [*RUN, "nifti.md"])
def test_the_lines_of_a_page(run: World, page: str) -> None:
    if page == "report.md":
        run("docs/using.md")
    assert len(run(page if page == "README.md" else f"docs/{page}")) >= 1


@pytest.mark.wide
@pytest.mark.parametrize("page", ["prearchive.md", "resources.md"])
def test_the_lines_about_what_is_there(run: World, page: str) -> None:
    flags = ["--destination", "prearchive"] if page == "prearchive.md" else []
    assert main(["upload", "study", "-P", "MYPROJECT", *flags]) == 0
    assert len(run(f"docs/{page}")) >= 3


def test_the_complaints_are_answered_with_words_that_exist() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8").partition("## What people ask most often")[2]
    assert [int(number) for number in re.findall(r"^\*\*(\d+)\. ", text, re.MULTILINE)] == list(range(1, 16))
    words = set(re.findall(r"`([a-z]+-[a-z-]+[a-z])`", text)) - {"xnat-ingest"}
    assert words
    assert words <= PROBLEMS.keys() | REASONS.keys()
