"""The lines for containers in the README and its pages, run as they stand: a newcomer copies them."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import hold_laws
from tests.dicom_trees import Series, make_session
from tests.image.containers import Ended, run
from tests.image.engine import ROOT, Engine
from tests.standin import Project, StandIn, User
from xnat_ingest import __version__

pytestmark = pytest.mark.real

README = "\n".join(
    (ROOT / page).read_text("utf-8") for page in ("README.md", "docs/containers.md", "docs/administrators.md")
)
NAMED = re.compile(rf"(?:registry\.example\.org/me/)?xnat-ingest:{re.escape(__version__)}(?:-unlabelled)?")
# A line may go on after a backslash, and may stand in a list.
LINES = [
    re.sub(r"\\\n\s*", "", found).strip() for found in re.findall(r"^\s*(docker run (?:\\\n|.)*)", README, re.MULTILINE)
]
SECRET = "sec/ret:with%signs"  # no blanks: the original's line has its variables without quotes
LONGEST = 60.0  # seconds
LAST = re.compile(r"5 planned, 5 verified, 0 missing, 0 failed, 2 set aside: exit 0")


@pytest.fixture
def environ(site: StandIn, engine: Engine) -> dict[str, str]:
    """The variables that the lines speak of, for a user of a project of the README's name."""
    site.users["me"] = User("me", SECRET)
    site.projects["MYPROJECT"] = Project("MYPROJECT", access={"me": "edit"})
    of_the_original = {"URL": site.url, "USER": "me", "PASS": SECRET, "PROJECT": "MYPROJECT"}
    login = {"XNAT_HOST": site.url, "XNAT_USER": "me", "XNAT_PASS": SECRET}
    return engine.environment() | login | of_the_original | {"CONFIG": "Exclusions.json"}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """What the lines call /data/study, or study."""
    make_session(tmp_path / "study" / "007" / "pre", (Series("T1_1", 3), Series("CT_2", 2, "CT_small.dcm")), "readme")
    for name in ("a.txt", "b.txt"):
        (tmp_path / "study" / "007" / "pre" / name).write_text("no image")
    (tmp_path / "password").write_text(f"{SECRET}\n")
    return tmp_path / "study"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder that somebody works in: the original's configuration file lies there."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "Exclusions.json").write_text(json.dumps({"Exclude": ["Localizers", "AAHEAD"]}))
    return tmp_path / "here"


def test_there_are_lines_to_run() -> None:
    assert len(LINES) >= 3
    assert all(NAMED.search(line) for line in LINES)


def filled(line: str, engine: Engine, image: str, study: Path) -> str:
    """The line with our tree and our image; the engine of these tests has no network but the machine's own."""
    line = NAMED.sub(image, line).replace("/data/study", shlex.quote(str(study)))
    line = line.replace('"$HOME/.xnat-password"', shlex.quote(str(study.with_name("password"))))
    words = ["docker", "run", "--label", engine.label]
    if "--network" not in line:
        words += ["--network", "host"]
    return shlex.join(words) + line.removeprefix("docker run")


def wants_terminal(line: str) -> bool:
    return bool(re.match(r"docker run (-\S+ )*(--tty|-[a-z]*t[a-z]*) ", line))


def at_a_terminal(line: str, here: Path, environ: Mapping[str, str]) -> Ended:
    """As typed into a terminal, which shows both streams as one."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        line, shell=True, cwd=here, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = bytearray()
    limit = threading.Timer(LONGEST, process.kill)
    limit.start()
    with suppress(OSError):  # EIO: the last one at the other end has gone
        while block := os.read(ours, 4096):
            shown += block
    os.close(ours)
    code = process.wait()
    limit.cancel()
    return Ended(code, shown.decode().replace("\r\n", "\n"), "")


def in_a_script(line: str, here: Path, environ: Mapping[str, str]) -> Ended:
    done = subprocess.run(
        line,
        shell=True,
        cwd=here,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[-40:])
def test_docker_run(
    engine: Engine, image: str, site: StandIn, study: Path, here: Path, environ: dict[str, str], line: str
) -> None:
    how = at_a_terminal if wants_terminal(line) else in_a_script
    done = how(filled(line, engine, image, study), here, environ)
    assert done.code == 0, done
    assert " exit 0" in done.out.splitlines()[-1]
    sends = not re.search(r" (plan|ping|verify|--version|--help|-n|--dry-run)( |$)", line)
    assert len(site.sessions("MYPROJECT")) == int(sends)
    reports = [path for path in here.iterdir() if path.name != "Exclusions.json"]
    assert len(reports) == bool(re.search(r"--report|--workdir", line))
    for path in reports:
        report = json.loads(path.read_text())
        hold_laws(report)
        assert report["totals"]["verified"] == 5
        assert path.stat().st_uid == os.getuid()
    if sends:
        assert LAST.fullmatch(done.out.splitlines()[-1])


def test_the_ci_job(
    engine: Engine, image: str, site: StandIn, study: Path, here: Path, environ: dict[str, str]
) -> None:
    """A runner starts the image without its entrypoint, with a shell in the folder of the checkout."""
    (job,) = re.findall(r"^```yaml\n(ingest:.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert re.search(rf'image: {{name: "{NAMED.pattern}", entrypoint: \[""\]}}', job)
    (script,) = re.findall(r"^  script: (.+)$", job, re.MULTILINE)
    (kept,) = re.findall(r"paths: \[(.+)\]", job)
    login = {name: environ[name] for name in re.findall(r"`(XNAT_[A-Z]+)`", README.split("```yaml\ningest:")[0])[-3:]}
    assert sorted(login) == ["XNAT_HOST", "XNAT_PASS", "XNAT_USER"]
    study.rename(here / "study")
    done = run(
        engine,
        image,
        *("/bin/sh", "-c", script),
        entrypoint="",
        env=login,
        mounts=[f"{here}:/builds"],
        extra=["--workdir", "/builds"],
    )
    assert done.code == 0, done
    assert LAST.fullmatch(done.out.splitlines()[-1])
    assert json.loads((here / kept).read_text())["totals"]["verified"] == 5
    assert len(site.sessions("MYPROJECT")) == 1
