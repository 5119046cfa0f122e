"""The demo's tree goes with every layout that the README names, and its server can be kept to play with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Ingest
from tests.demo import EXCLUDED
from tests.dicom_trees import make_demo
from xnat_ingest.cli import main

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text("utf-8")
# The flags of a layout -> what of study/DEMO is its ROOT, and how many sessions there are.
LAYOUTS = {
    "": ("DEMO", 4),
    "--layout session -S 007": ("DEMO/007", 2),
    "--layout project/subject/session": ("", 4),
    "--layout headers": ("DEMO", 4),
    "-S 007 -E 007_pre": ("DEMO/007/pre", 1),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "study"
    make_demo(folder / "DEMO")
    return folder


def test_every_layout_of_the_readme_is_here() -> None:
    named = {found.strip() for found in re.findall(r"`((?:--layout|-S) [^`]+)`", README)}
    assert named == LAYOUTS.keys() - {""}


@pytest.mark.wide
@pytest.mark.parametrize("flags", LAYOUTS)
def test_the_tree_goes_with_each(ingest: Ingest, study: Path, flags: str) -> None:
    root, sessions = LAYOUTS[flags]
    """No conflict and no problem: `make demo` itself uploads it."""
    done = ingest("plan", study / root, *flags.split())
    assert done.code == 0, done.out
    assert len(done.report["sessions"]) == sessions


@pytest.mark.wide
def test_the_sample_in_the_readme_is_what_plan_shows(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "Exclusions.json"
    config.write_text(json.dumps({"Exclude": EXCLUDED}))
    assert main(["plan", str(study / "DEMO"), "-P", "DEMO", "--config", str(config)]) == 0
    (sample,) = re.findall(r"^```\n(SUBJECT .*?)^```", README, re.MULTILINE | re.DOTALL)
    assert capsys.readouterr().out == sample


def test_plan_says_which_files_it_wrote_and_what_to_do_with_them(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["plan", str(study / "DEMO"), "-P", "DEMO", "--labels-template", "labels.csv", "--json", "plan.json"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "label sheet: labels.csv; edit its columns subject and session, then give it with --labels" in out
    assert "plan file: plan.json; give it to upload with --plan" in out
    (header,) = re.findall(r"^(folder,.*description)$", README, re.MULTILINE)
    assert Path("labels.csv").read_text("utf-8-sig").splitlines()[0] == header


@pytest.mark.wide
def test_the_server_stays_until_it_is_ended(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.serve_standin"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        said = ""
        while "prearchive list" not in said:
            line = server.stdout.readline()
            assert line, said
            said += line
        (host, password) = re.findall(r"export XNAT_HOST=(\S+) XNAT_USER=demo XNAT_PASS=(\S+)", said)[0]
        assert host.startswith("http://127.0.0.1:")
        login = {"XNAT_HOST": host, "XNAT_USER": "demo", "XNAT_PASS": password}
        stuck = [sys.executable, "-m", "xnat_ingest", "prearchive", "list", "-P", "DEMO", "--status", "CONFLICT"]
        done = subprocess.run(stuck, cwd=tmp_path, env=environ | login, capture_output=True, text=True)
        assert done.returncode == 0, done
        assert "009_pre" in done.stdout
        assert "Invalid modification of session UID" in done.stdout
        for more, code in ((("009_pre",), 3), (("009_pre", "--label", "009_pre_2"), 0)):
            again = [sys.executable, "-m", "xnat_ingest", "prearchive", "archive", "-P", "DEMO", *more]
            done = subprocess.run(again, cwd=tmp_path, env=environ | login, capture_output=True, text=True)
            assert done.returncode == code, done
            assert ("--label 009_pre_2" in done.stdout) == (code == 3)
        assert sum(path.is_file() for path in (tmp_path / "demo" / "study").rglob("*")) == 143
        second = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert second.returncode == 1
        assert second.stderr == "the demo or its server already runs in this folder; end it first\n"
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0
