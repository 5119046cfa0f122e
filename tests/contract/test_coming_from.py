"""docs/coming-from.md: each of its commands is run against the stand-in, and what it says to do is seen to be done.

The tables of flags are made from xnat_ingest/foreign.py: `python -m tests.contract.test_coming_from` writes them anew.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import PASSWORD, stored
from tests.dicom_trees import Series, make_session
from tests.nifti_trees import make_bids, make_subjects
from tests.standin import StandIn
from tests.standin.identify import Routing
from tests.standin.receiver import Receiver
from tests.standin.samples import Client, series
from xnat_ingest.cli import main
from xnat_ingest.cli.other_tools import FLAGS
from xnat_ingest.commands.prearchive import actions as staging

PATH = Path(__file__).parent.parent.parent / "docs" / "coming-from.md"
TEXT = PATH.read_text("utf-8")
LINES = tuple(dict.fromkeys(re.findall(r"`(xnat-ingest [^`]+)`", TEXT)))
MARKED = re.compile(r"(<!-- flags: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
TIMESTAMP = "20240131_101112000"
SCANS = [Series("T1_1", 3), Series("Localizer_2", 2)]


def coded(text: str) -> str:
    """The text with flags, their values and variables as code."""
    values = "tar|zip|gradual|archive|direct-archive|prearchive|fail|resume|overwrite|json|/dev/stdin"
    return re.sub(rf"(?<![\w-])(-{{1,2}}[A-Za-z][\w/-]*(?: (?:{values})\b)?|XNAT_[A-Z_]+(?:=\d)?)", r"`\1`", text)


def flag_table(tool: str) -> str:
    """The rows of one tool's flags."""
    rows = [row for row in FLAGS if tool in row.tools]
    lines = [f"| flag of {tool} | here | |", "|---|---|---|"]
    for row in rows:
        names = ", ".join(f"`{name.replace('=', ' ')}`" for name in row.names)
        notes = ["in " + ", ".join(f"`{command}`" for command in row.commands)] if row.commands else []
        notes += [coded(row.why)] if row.why else []
        lines.append(f"| {names} | {coded(row.here) or 'nothing'} | {'; '.join(notes)} |")
    return "\n" + "\n".join(lines) + "\n\n"


def regenerated(text: str) -> str:
    return MARKED.sub(lambda found: found[1] + flag_table(found[2]) + found[3], text)


def test_the_tables_of_flags_are_those_of_the_program() -> None:
    assert regenerated(TEXT) == TEXT, "write them anew with: python -m tests.contract.test_coming_from"


def test_every_tool_has_its_table() -> None:
    assert TEXT.count("xnat-ingest ") == TEXT.count("`xnat-ingest ") > len(LINES) > 50
    assert {tool for _, tool, _ in MARKED.findall(TEXT)} == {tool for row in FLAGS for tool in row.tools}


# -- the commands of the document


@dataclass
class World:
    """A site, and a folder with everything that the document's commands speak of."""

    site: StandIn
    home: Path
    client: Client
    receiver: Receiver

    def words(self, line: str) -> list[str]:
        """A command of the document as it is typed here: placeholders become what they are in this world."""
        session = self.site.archived("DEMO", "007", "007_pre")
        rows = self.site.rows("DEMO")
        here = {
            "MYPROJECT": "DEMO",
            "OTHER": "MANUAL",
            "https://xnat.example.org --user me": f"{self.site.url} --user up",
            "https://xnat.example.org me PASSWORD": shlex.join([self.site.url, "up", PASSWORD]),
            "xnat.example.org": "127.0.0.1",
            "8104": str(self.receiver.port),
            "/data/": f"{self.home}/data/",
            "XNAT_E00001": session.accession if session else "",
            TIMESTAMP: rows[0].timestamp if rows else "",
        }
        for placeholder, text in here.items():
            line = line.replace(placeholder, text)
        return shlex.split(line)[1:]

    def session(self) -> None:
        """The session 007_pre in the archive, with a resource of its own and one of its scan 1."""
        assert main(self.words("xnat-ingest upload /data/session -P MYPROJECT -S 007 -E 007_pre -q")) == 0
        for scan in ("", " --scan 1"):
            put = "xnat-ingest resource put results notes.txt -P MYPROJECT -E 007_pre --label QC -q"
            assert main(self.words(put + scan)) == 0

    def row(self, status: str) -> None:
        """A row 007_pre of somebody else in the prearchive."""
        reply = self.client.send(series((1, 2)), PROJECT_ID="DEMO", SUBJECT_ID="007", EXPT_LABEL="007_pre")
        row = self.site.prearchive.find(*reply.text.strip().split("/")[4:7])
        assert row is not None, reply
        self.site.prearchive.build(row)
        row.status = status

    def resource(self, words: list[str]) -> dict[str, bytes]:
        """The files of the resource that a command names, by name."""
        given = dict(pairwise(words))
        where = self.site.project("DEMO").resources
        if {"-E", "--experiment"} & given.keys():
            session = stored(self.site, "DEMO", "007", "007_pre")
            where = session.scans[given["--scan"]].resources if "--scan" in given else session.resources
        elif "-S" in given:
            project = self.site.project("DEMO")
            where = project.details[project.subjects["007"]].resources
        found = where.get(given["--label"])
        return {name: path.read_bytes() for name, path in found.files.items()} if found else {}


def make_files(home: Path) -> None:
    """The folders and files that the document names."""
    data = home / "data"
    (data / "work").mkdir(parents=True)
    make_session(data / "session", SCANS, "007/pre")
    make_session(data / "exam" / "DICOM", SCANS, "007/pre")
    for subject in ("007", "008"):
        make_session(data / "study" / subject / "pre", SCANS, f"{subject}/pre")
        make_session(data / "export" / subject / "all", [Series(f"{subject}_1", 2)], f"{subject}/export")
        pack(data / "study" / subject / "pre", data / "zips" / subject / "pre.zip")
    pack(data / "session", data / "session.zip")
    with tarfile.open(data / "session.tar.gz", "w:gz") as archive:
        archive.add(data / "session", "session")
    make_subjects(data / "nifti")
    make_bids(data / "bids")
    for folder in (data / "exam" / "QC", home / "results"):
        folder.mkdir()
        (folder / "motion.csv").write_text("1,2\n")
    (home / "notes.txt").write_text("seen\n")
    (home / "Exclusions.json").write_text(json.dumps({"Exclude": ["Localizer"]}))


def pack(folder: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))


@pytest.fixture
def world(site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(staging, "WATCH", 0.15)
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path)
    site.project("DEMO").access["up"] = "delete"
    site.user("up").container_manager = True
    client = Client(site.url, "up", PASSWORD).login()
    assert client("PUT", "/data/projects/DEMO/subjects/007").status == 201
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    one = r"(0008,1030):xnat://([^/]+)/([^/]+)/([^/]+)"
    routing = Routing(project=f"{one}:1", subject=f"{one}:2", session=f"{one}:3")
    with site.receive(check_title=True, routing=routing) as receiver:
        monkeypatch.setenv("XNAT_INGEST_DICOM_PORT", str(receiver.port))
        yield World(site, tmp_path, client, receiver)
    client.close()
    for signum, handler in before.items():
        signal.signal(signum, handler)


def prepare(world: World, line: str) -> None:
    """What must be there before a command."""
    if " resource " in line or " verify " in line:
        world.session()
    if " prearchive " in line:
        world.row("ERROR" if "ERROR" in line else "READY")
    if "--plan plan.json" in line:
        assert main(world.words("xnat-ingest plan /data/study -P MYPROJECT --json plan.json -q")) == 0
    if "--labels labels.csv" in line:
        assert main(world.words("xnat-ingest plan /data/study -P MYPROJECT --labels-template labels.csv -q")) == 0


def see_upload(world: World, words: list[str], out: str) -> None:
    """All that was planned lies where it was to go, whole sessions under their labels."""
    planned, verified = (int(number) for number in re.findall(r"(\d+) (?:planned|verified)", out.splitlines()[-1])[:2])
    sessions = world.site.sessions("DEMO")
    if "-n" in words:
        assert planned == 5
        assert not sessions
        assert not world.site.rows("DEMO")
        return
    assert planned == verified
    if "prearchive" in words:
        assert [(row.label, row.status, len(row.files)) for row in world.site.rows("DEMO")] == [("007_pre", "READY", 5)]
        assert not sessions
        return
    assert sum(len(session.files) for session in sessions) == planned
    assert not world.site.rows("DEMO")
    many = any(mark in " ".join(words) for mark in ("/data/study", "/data/zips", "/data/export", "--plan"))
    assert len(sessions) == (2 if many else 1)
    excluding = {"--exclude", "Exclusions.json"} & set(words)
    assert planned == (4 if "export" in " ".join(words) else 5 * len(sessions) - 2 * len(sessions) * bool(excluding))
    if "headers" not in words:
        assert "007_pre" in {session.label for session in sessions}


def see_prearchive(world: World, words: list[str], out: str) -> None:
    rows = world.site.rows("DEMO")
    match words[1]:
        case "list":
            assert "007_pre" in out
        case "archive":
            label = "007_baseline" if "--label" in words else "007_pre"
            assert len(stored(world.site, "DEMO", "007", label).files) == 2
        case "move":
            assert [row.label for row in world.site.rows("MANUAL")] == ["007_pre"]
        case "rebuild":
            assert re.search(r"^rebuilt +DEMO", out)
    assert bool(rows) == (words[1] in ("list", "rebuild"))


def see_resource(world: World, words: list[str], out: str) -> None:
    held = world.resource(words) if "--label" in words else {}
    match words[1]:
        case "put":
            name = "results.tar" if "--archive-name" in words else Path(words[2]).name
            name = {"results": "motion.csv", "QC": "motion.csv"}.get(name, name)
            assert name in held
            assert "1 sent" in out or "1 already there" in out
        case "list":
            assert ("notes.txt" if "--label" in words else "QC") in out
        case "delete":
            assert set(held) == ({"motion.csv"} if "notes.txt" in words else set())


def see_nifti(world: World, words: list[str], out: str) -> None:
    assert re.search(r"(\d+) planned, \1 verified", out)
    sessions = world.site.sessions("DEMO")
    assert len(sessions) == 2
    assert all("NIFTI" in scan.resources for session in sessions for scan in session.scans.values())


def see_plan(world: World, words: list[str], out: str) -> None:
    assert not world.site.sessions("DEMO")
    assert all(Path(name).is_file() for name in words if name in ("plan.json", "labels.csv"))


def see_verify(world: World, words: list[str], out: str) -> None:
    assert "5 planned, 5 verified" in out


def see_ping(world: World, words: list[str], out: str) -> None:
    assert ("answers C-ECHO" if "cstore" in words else "up, logged in") in out
    assert "cstore" in words or "-P" not in words or "archive  code 4" in out


def see_command(world: World, words: list[str], out: str) -> None:
    assert len(world.site.containers.commands) == 1


SEEN: dict[str, Callable[[World, list[str], str], None]] = {
    "upload": see_upload,
    "dicomUpload": see_upload,
    "plan": see_plan,
    "verify": see_verify,
    "nifti": see_nifti,
    "ping": see_ping,
    "prearchive": see_prearchive,
    "resource": see_resource,
    "command": see_command,
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_document(world: World, capsys: pytest.CaptureFixture[str], line: str) -> None:
    prepare(world, line)
    words = world.words(line)
    capsys.readouterr()
    code = main(words)
    said = capsys.readouterr()
    assert code == 0, said.out + said.err
    SEEN[words[0]](world, words, said.out)
    if "--report" in words:
        assert json.loads(Path("report.json").read_text())["exit_code"] == 0


if __name__ == "__main__":
    PATH.write_text(regenerated(TEXT), "utf-8")
