"""What we write replaces nothing that somebody needs."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from tests.dicom_trees import Series, make_session
from xnat_ingest.cli import main
from xnat_ingest.cli.outputs import check_outputs
from xnat_ingest.core.atomic_file import alone, replacing
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.output_file import OUTPUTS, check_output_file, is_ours, keep_better
from xnat_ingest.settings.options import TABLE, Settings

OTHER = b"somebody's file\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_session(tmp_path / "t/007/pre", [Series("T1_1", 1)], "pre")
    return tmp_path / "t"


def plan(tree: Path, *words: str) -> int:
    return main(["plan", str(tree), "-P", "DEMO", *words])


@pytest.mark.parametrize("output", ["report", "html", "junit", "csv"])
def test_only_an_output_of_ours_is_replaced(tree: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tree.parent / "file"
    path.write_bytes(OTHER)
    assert plan(tree, f"--{output}", str(path)) == 2
    assert f"--{output} {path} already exists and is not a {output} of this program" in capsys.readouterr().err
    assert path.read_bytes() == OTHER
    path.unlink()
    assert plan(tree, f"--{output}", str(path)) == 0
    assert plan(tree, f"--{output}", str(path)) == 0
    assert is_ours(str(path), output)
    assert not any(is_ours(str(path), other) for other in OUTPUTS if other != output)


def test_inputs_are_not_replaced(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Source, plan, sheet, config and password file stay as they are, empty or not, under any name of theirs."""
    plan_file, sheet, config = (tmp_path / name for name in ("plan.json", "sheet.csv", "config.json"))
    assert plan(tree, "--json", str(plan_file), "--labels-template", str(sheet)) == 0
    config.write_text("{}")
    (tmp_path / "link").symlink_to(config)
    (tmp_path / "hard").hardlink_to(config)
    (tmp_path / "pass").write_text("")
    source = next(path for path in tree.rglob("*") if path.is_file())
    before = {path: path.read_bytes() for path in (plan_file, sheet, config, source)}
    for words, said in (
        (("--report", str(source)), "is among the files below ROOT"),
        (("--report", str(sheet), "--labels", str(sheet)), "is the label sheet of this run"),
        (("--report", str(config), "--config", str(config)), "is the config file of this run"),
        (("--report", str(tmp_path / "link"), "--config", str(config)), "is the config file of this run"),
        (("--html", str(tmp_path / "hard"), "--config", str(config)), "is the config file of this run"),
        (("--report", str(tmp_path / "pass"), "--password-file", str(tmp_path / "pass")), "is the password file"),
        (("--report", str(tmp_path / "x"), "--csv", str(tmp_path / "x")), "is the file of --report of this run"),
        (("--report", str(plan_file)), "already exists and is not a report"),
    ):
        assert plan(tree, *words) == 2
        assert said in capsys.readouterr().err
    assert main(["upload", "--plan", str(plan_file), "--report", str(plan_file)]) == 2
    assert "is the plan file of this run" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


# Options that name a file which a run reads or writes. `config`, `report` and the other outputs are among them.
FILES = sorted(name for name, row in TABLE.items() if row.metavar == "FILE")


def chosen(files: Mapping[str, Any]) -> Settings:
    return Settings(**files)


@pytest.mark.parametrize("output", OUTPUTS)
def test_no_output_replaces_any_file_of_the_run(tmp_path: Path, output: str) -> None:
    """Each output against each option that names a file, and against ROOT; empty files, which look like nobody's."""
    path = tmp_path / "x"
    path.write_bytes(b"")
    check_outputs(chosen({output: str(path)}), str(tmp_path / "root.zip"))
    for other in {*FILES, "deid_key_file"} - {output}:
        with pytest.raises(UsageError, match=r"of this run, which it would replace"):
            check_outputs(chosen({output: str(path), other: str(path)}), "")
    with pytest.raises(UsageError, match="is ROOT of this run"):
        check_outputs(chosen({output: str(path)}), str(path))
    (tmp_path / "t/007/pre").mkdir(parents=True)
    with pytest.raises(UsageError, match="is among the files below ROOT"):
        check_outputs(chosen({output: str(tmp_path / "t/007/pre/new")}), str(tmp_path / "t"))


@pytest.mark.parametrize("output", OUTPUTS)
def test_each_output_has_room_for_its_temporary_name(tmp_path: Path, output: str) -> None:
    """Before anything is read or sent."""
    for length in range(240, 256):
        check_output_file(str(tmp_path / ("r" * length)), output, ())
    with pytest.raises(UsageError, match="File name too long"):
        check_output_file(str(tmp_path / ("r" * 256)), output, ())
    assert list(tmp_path.iterdir()) == []


def test_archive_as_root_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.zip").write_bytes(b"PK\5\6" + bytes(18))
    assert plan(tmp_path / "t.zip", "--report", str(tmp_path / "t.zip")) == 2
    assert "is ROOT of this run" in capsys.readouterr().err


def test_report_at_the_top_of_root(tree: Path) -> None:
    """Above the session folders nothing is planned; in them a new file would be found by the next run."""
    assert plan(tree, "--report", str(tree / "report.json")) == 0
    assert plan(tree, "--report", str(tree / "report.json")) == 0
    with pytest.raises(UsageError, match="is among the files below ROOT"):
        check_output_file(str(tree / "007/pre/report.json"), "report", (), str(tree), 2)
    check_output_file(str(tree / "007/report.json"), "report", (), str(tree), 2)


@pytest.mark.parametrize("length", [200, 240, 241, 254, 255])
def test_names_as_long_as_names_can_be(tree: Path, tmp_path: Path, length: int) -> None:
    """The temporary name beside each is not longer."""
    paths = {flag: tmp_path / (flag[0] * length) for flag in ("report", "html", "junit", "csv")}
    assert plan(tree, *(word for flag, path in paths.items() for word in (f"--{flag}", str(path)))) == 0
    assert json.loads(paths["report"].read_text())["exit_code"] == 0
    assert all(path.read_bytes() and is_ours(str(path), flag) for flag, path in paths.items())


def test_names_that_are_too_long(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(tree, "--report", str(tmp_path / ("r" * 256))) == 2
    assert "File name too long" in capsys.readouterr().err


def written(path: Path, code: int) -> None:
    text = (
        '{"schema": 1, "tool": {"name": "xnat-ingest-container", "version": "0"}, "command": "upload", "started": "",'
    )
    path.write_text(f'{text} "finished": "", "exit_code": {code}}}')


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        *((0, 3, True), (0, 5, True), (3, 5, True), (3, 70, True), (4, 3, True), (3, 3, False), (5, 3, False)),
        *((3, 0, False), (0, 0, False), (0, 143, True), (143, 130, True)),
    ],
)
def test_a_better_report_is_kept(tmp_path: Path, old: int, new: int, kept: bool) -> None:
    path = tmp_path / "report.json"
    written(path, old)
    assert keep_better(str(path), new) == (str(tmp_path / "report.1.json") if kept else "")
    assert path.exists() != kept


def test_kept_reports_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for number in (1, 2, 3):
        written(path, 0)
        assert keep_better(str(path), 3) == str(tmp_path / f"report.{number}.json")
    assert keep_better(str(path), 3) == ""


def keep_often(path: Path, barrier: Barrier, found: Queue[str]) -> None:
    """Puts a good report there and moves it aside, again and again."""
    mine = path.with_suffix(f".{os.getpid()}")
    barrier.wait()
    for _ in range(200):
        written(mine, 0)
        mine.replace(path)
        found.put(keep_better(str(path), 3))
    found.close()


def test_no_two_runs_keep_reports_under_one_name(tmp_path: Path) -> None:
    """Not even where the disk knows no locks."""
    context = multiprocessing.get_context("fork")
    barrier, found = context.Barrier(3), context.Queue()
    runs = [context.Process(target=keep_often, args=(tmp_path / "report.json", barrier, found)) for _ in range(3)]
    for run in runs:
        run.start()
    kept = [path for _ in range(600) if (path := found.get(timeout=60))]
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0, 0]
    assert len(kept) == len(set(kept)) == len(list(tmp_path.iterdir()))


@pytest.mark.wide
def test_a_report_is_written_while_no_other_run_writes_one(tree: Path, tmp_path: Path) -> None:
    """Between its look at the report that is there and its own, a better one might come and be lost."""
    path = tmp_path / "report.json"
    (tree / "007/pre/T1_1/blank").write_bytes(b"")
    words = [sys.executable, "-m", "xnat_ingest", "plan", str(tree), "-P", "DEMO", "--report", str(path)]
    with alone(str(path)):
        run = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(4)
        assert not path.exists()
        written(path, 0)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 3
    assert f"kept as {tmp_path / 'report.1.json'}" in said
    codes = [json.loads(file.read_text())["exit_code"] for file in (path, tmp_path / "report.1.json")]
    assert codes == [3, 0]


def test_failing_run_beside_a_good_one(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both reports are there, and the run says which is which."""
    path = tmp_path / "report.json"
    assert plan(tree, "--report", str(path)) == 0
    (tree / "007/pre/T1_1/blank").write_bytes(b"")
    assert plan(tree, "--report", str(path)) == 3
    assert f"kept as {tmp_path / 'report.1.json'}" in capsys.readouterr().err
    codes = [json.loads(file.read_text())["exit_code"] for file in (path, tmp_path / "report.1.json")]
    assert codes == [3, 0]


@pytest.fixture
def full_at() -> Iterator[Callable[[int], None]]:
    """Sets the length at which the disk is full for every file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda length: resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_at_any_byte(tmp_path: Path, full_at: Callable[[int], None]) -> None:
    """The file is the old one to its last byte, the reason is told, and nothing else is left."""
    path, text = tmp_path / "report.json", "ä" * 60_000
    path.write_bytes(OTHER)
    whole = len(text.encode())
    for length in (*range(0, whole, 1009), *range(whole - 20, whole)):
        full_at(length)
        with pytest.raises(OSError, match="too large"), replacing(str(path)) as stream:
            stream.write(text)
        assert path.read_bytes() == OTHER
        assert list(tmp_path.iterdir()) == [path]
    full_at(whole)
    with replacing(str(path)) as stream:
        stream.write(text)
    assert path.read_text("utf-8") == text
