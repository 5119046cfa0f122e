"""Runs that are stopped, killed, or meet each other: what is on the server, what the report says, what a rerun does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import hold_laws
from tests.dicom_trees import CT, Series, make_session
from tests.killing import drive
from tests.standin import Fault, StandIn
from xnat_ingest.cli import main
from xnat_ingest.core.errors import IngestError
from xnat_ingest.core.stop import GRACE, Stop
from xnat_ingest.inputs import thumbnail
from xnat_ingest.report.document import write as write_report

SERIES = (Series("T1_0001", 8), Series("CT_0002", 5, CT), Series("SR_0003", 2, "test-SR.dcm"))
PARTS = "POST /data/services/import"
SIGNALS = [signal.SIGINT, signal.SIGTERM]


class Runs:
    """The program as processes of their own, with reports."""

    def __init__(self, site: StandIn, tree: Path) -> None:
        self.site = site
        self.tree = tree
        self._all: list[subprocess.Popen[str]] = []

    def start(self, name: str, *flags: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "tests.short_waits",
            "upload",
            str(self.tree),
            "-P",
            "DEMO",
            "--part-size",
            "40K",
        ]
        command += ["--report", str(self.report_of(name)), *flags]
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._all.append(process)
        return process

    def report_of(self, name: str) -> Path:
        return self.tree.parent / f"{name}.json"

    def end(self, name: str, process: subprocess.Popen[str], seconds: float = 30.0) -> dict[str, Any]:
        """The report of a run that ended by itself; its laws hold and its code is the process's."""
        out, err = process.communicate(timeout=seconds)
        report: dict[str, Any] = json.loads(self.report_of(name).read_text())
        hold_laws(report)
        assert report["exit_code"] == process.returncode, err
        assert out.splitlines()[-1].endswith(f"exit {process.returncode}")
        return report

    def clean_up(self) -> None:
        for process in self._all:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_waiting_for_a_password_is_ended_by_a_signal(tmp_path: Path, signum: int, code: int) -> None:
    """From a pipe that says nothing, such as a shell's <(...) of a password manager that wants to be unlocked."""
    os.mkfifo(pipe := tmp_path / "pipe")
    words = [sys.executable, "-m", "xnat_ingest", "verify", str(tmp_path), "-P", "DEMO", "--password-file", str(pipe)]
    process = subprocess.Popen(words, env={**os.environ, "XNAT_HOST": "http://127.0.0.1:9", "XNAT_USER": "up"})
    writer = os.open(pipe, os.O_WRONLY)  # returns when the program has opened the other end
    try:
        process.send_signal(signum)
        assert process.wait(10) == code
    finally:
        process.kill()
        process.wait()
        os.close(writer)


@pytest.mark.parametrize("command", [("ping",), ("prearchive", "list"), ("prearchive", "delete", "--all", "--yes")])
@pytest.mark.parametrize("often", [1, 2])
def test_a_name_server_that_is_silent_does_not_hold_up_a_signal(command: tuple[str, ...], often: int) -> None:
    """The C library asks it for up to 40 s, and Python calls no handler meanwhile. A lock can do the same."""
    script = """
import ctypes, socket, sys
def getaddrinfo(*words, **named):
    lock, c = ctypes.create_string_buffer(256), ctypes.CDLL(None)
    c.pthread_mutex_lock(lock)
    print("asked", flush=True)
    c.pthread_mutex_lock(lock)
socket.getaddrinfo = getaddrinfo
from xnat_ingest.__main__ import start
start()
"""
    words = [sys.executable, "-c", script, *command, "-P", "DEMO"]
    login = {"XNAT_HOST": "https://xnat.invalid", "XNAT_USER": "up", "XNAT_PASS": "secret"}
    with subprocess.Popen(words, env={**os.environ, **login}, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "asked\n"
            for _ in range(often):
                process.send_signal(signal.SIGTERM)
                time.sleep(0.2)
            # The last signal may come when Python has ended the program and its handlers. A shell says 143 then, too.
            assert process.wait(GRACE / often + 3) in ((143, -signal.SIGTERM) if often > 1 else (143,))
        finally:
            process.kill()


def test_signal_just_before_a_pipe_is_read(tmp_path: Path) -> None:
    """Such a signal does not end the read. One that another thread receives does not either, and comes on time."""
    os.mkfifo(pipe := tmp_path / "pipe")
    script = f"""
import signal, sys, threading
from xnat_ingest.core.read_small import read_small
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
threading.Timer(0.1, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
read_small({str(pipe)!r}, "password file", 100, pipes=True)
"""
    writer = os.open(pipe, os.O_RDWR)
    assert subprocess.run([sys.executable, "-c", script], timeout=20).returncode == 143
    os.close(writer)


@pytest.fixture
def runs(site: StandIn, tmp_path: Path) -> Iterator[Runs]:
    site.settings.lastmod_step = 0.75  # the program's own waits are as much shorter (tests/short_waits.py)
    made = Runs(site, tmp_path / "tree")
    yield made
    made.clean_up()


def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def whole(site: StandIn, tree: Path) -> None:
    """Every instance exactly once, as in its file; nothing else on the disk, no row left."""
    sources = sorted(path.read_bytes()[132:] for path in tree.rglob("IM*"))
    kept = sorted(path.read_bytes()[132:] for path in site.archive_root.rglob("*.dcm"))
    assert len(kept) == len(sources)
    assert kept == sources
    assert site.rows("DEMO") == []


def finishes(runs: Runs) -> None:
    """The same command once more."""
    runs.site.faults.clear()
    report = runs.end("again", runs.start("again"))
    assert report["exit_code"] == 0
    assert report["totals"]["verified"] == report["totals"]["planned"]
    whole(runs.site, runs.tree)


@pytest.mark.wide
@pytest.mark.parametrize("number", SIGNALS)
def test_signal_while_parts_travel(runs: Runs, site: StandIn, number: signal.Signals) -> None:
    """The run ends soon, with its report and its code, and closes nothing; the same command then finishes."""
    for name in ("a", "b", "c"):
        make_session(runs.tree / "S" / name, SERIES)
    site.faults.add(Fault("slow", PARTS, rate=60_000, times=None))
    process = runs.start("first", "-w", "2")
    until(lambda: any(row.files for row in site.rows("DEMO")))
    process.send_signal(number)
    begun = time.monotonic()
    report = runs.end("first", process)
    assert time.monotonic() - begun < 5
    assert process.returncode == 128 + number
    assert report["totals"]["planned"] == 45
    assert report["totals"]["verified"] == 0
    assert {session["verdict"] for session in report["sessions"]} <= {"unverified", "failed"}
    assert site.sessions("DEMO") == []
    finishes(runs)


@pytest.mark.wide
@pytest.mark.parametrize("sessions", [1, 3])
@pytest.mark.parametrize("number", SIGNALS)
def test_signal_while_closing(runs: Runs, site: StandIn, number: signal.Signals, sessions: int) -> None:
    """The server goes on archiving whatever we do; the run ends with its report and the signal's code."""
    for name in ("a", "b", "c")[:sessions]:
        make_session(runs.tree / "S" / name, SERIES)
    site.faults.add(Fault("slow-archive", seconds=0.8, times=None))
    process = runs.start("first", "-w", "1")
    until(lambda: any(row.status == "_ARCHIVING" for row in site.rows("DEMO")))
    process.send_signal(number)
    report = runs.end("first", process)
    assert process.returncode == 128 + number
    assert report["totals"]["planned"] == 15 * sessions
    assert report["totals"]["unverified"] >= 15 * (sessions - 1)
    until(lambda: not any(row.status == "_ARCHIVING" for row in site.rows("DEMO")))
    finishes(runs)


@pytest.mark.wide
@pytest.mark.parametrize("number", SIGNALS)
def test_second_signal_ends_at_once(runs: Runs, site: StandIn, number: signal.Signals) -> None:
    """Whoever asks twice does not wait for the server."""
    make_session(runs.tree / "S/a", SERIES)
    site.faults.add(Fault("slow-archive", seconds=60))
    process = runs.start("first")
    until(lambda: any(row.status == "_ARCHIVING" for row in site.rows("DEMO")))
    process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.4)
    process.send_signal(number)
    assert process.wait(2) == 128 + number
    assert process.stderr is not None
    assert "a second signal: ended at once, without a report" in process.stderr.read()
    site.faults.release()
    until(lambda: site.rows("DEMO") == [])
    finishes(runs)


def test_signals_when_the_report_is_there(runs: Runs) -> None:
    """Whoever reads stdout is slow, and the signals come meanwhile. The process ends with the report's code."""
    make_session(runs.tree / "S/a", SERIES[:1])
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    report = runs.report_of("first")
    words = [sys.executable, "-m", "xnat_ingest", "plan", str(runs.tree), "-P", "DEMO", "--report", str(report)]
    with subprocess.Popen(words, text=True, stdout=writing, stderr=subprocess.PIPE) as process:
        until(report.exists)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=10)[1]
    assert (process.returncode, json.loads(report.read_text())["exit_code"]) == (0, 0)
    assert "a second signal: ended at once. The result was told before: exit 0" in said
    os.close(writing)
    os.close(reading)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_pictures_end_with_a_signal(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at: int
) -> None:
    """The signal comes while picture number `at` is drawn, or before all of them. All files are there all the same."""
    make_session(runs.tree / "S/a", [Series(f"T{n}_000{n}", 1) for n in range(4)])
    outputs = {flag: tmp_path / f"out.{flag}" for flag in ("report", "junit", "csv", "html")}
    opened: list[str] = []
    real, draw = write_report, thumbnail.thumbnail

    def write(*given: Any, **mode: Any) -> None:
        real(*given, **mode)
        if not at:
            os.kill(os.getpid(), signal.SIGTERM)

    def drawn(*given: Any) -> bytes:
        opened.append(str(given[1]))
        assert {flag for flag, path in outputs.items() if path.exists()} == {"report", "junit", "csv"}
        if len(opened) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(*given)

    monkeypatch.setattr("xnat_ingest.report.write", write)
    monkeypatch.setattr(thumbnail, "thumbnail", drawn)
    words = ["plan", str(runs.tree), "-P", "DEMO"]
    for flag, path in outputs.items():
        words += [f"--{flag}", str(path)]
    before = {signum: signal.getsignal(signum) for signum in (*SIGNALS, signal.SIGHUP)}
    try:
        code = main(words)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert (code, json.loads(outputs["report"].read_text())["exit_code"]) == (0, 0)
    assert capsys.readouterr().out.splitlines()[-1].endswith("exit 0")
    assert len(opened) == outputs["html"].read_text().count("data:image/png") == at


def test_the_code_of_a_corrected_report_is_known(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another output failed after the report was written, so the report was written once more."""
    made: list[Stop] = []
    told: list[object] = []

    class Remembered(Stop):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    def fail(*_given: Any, **_more: Any) -> None:
        raise IngestError("No space left on device")

    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setattr("xnat_ingest.cli.upload.Stop", Remembered)
    monkeypatch.setattr("xnat_ingest.report.html.write_html", fail)
    monkeypatch.setattr("xnat_ingest.cli.outputs._tell_github", lambda *_: told.append(made[-1].told()))
    make_session(runs.tree / "S/a", SERIES[:1])
    report = runs.report_of("first")
    words = ["plan", str(runs.tree), "-P", "DEMO", "--report", str(report), "--html", str(tmp_path / "x.html")]
    assert main(words) == 1
    assert "No space left" in capsys.readouterr().err
    assert told == [json.loads(report.read_text())["exit_code"]] == [1]


@pytest.mark.parametrize("flags", [(), ("--report",)])
def test_the_code_that_was_told_is_known(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    """In the report or on stdout; an earlier report is none."""
    made: list[Stop] = []
    before: list[object] = []

    class Remembered(Stop):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    def write(*given: Any, **mode: Any) -> None:
        before.append(made[-1].told())
        write_report(*given, **mode)

    monkeypatch.setattr("xnat_ingest.cli.upload.Stop", Remembered)
    monkeypatch.setattr("xnat_ingest.report.write", write)
    make_session(runs.tree / "S/a", SERIES[:1])
    words = ["plan", str(runs.tree), "-P", "DEMO", *(word for flag in flags for word in (flag, str(tmp_path / "r")))]
    for _ in range(2):
        assert main(words) == 0
        assert made[-1].told() == 0
    assert before == [None, None] * bool(flags)


@pytest.mark.wide
def test_signal_while_the_tree_is_read(runs: Runs, site: StandIn) -> None:
    """Before anything is planned there is a report, too: nothing was sent."""
    (path,) = make_session(runs.tree / "S/a", (Series("T1_0001", 1),))
    for number in range(4000):
        (path.parent / f"copy{number}").hardlink_to(path)
    process = runs.start("first", "--log-format", "json")
    assert process.stderr is not None
    for line in process.stderr:
        if '"scanning"' in line:
            break
    process.send_signal(signal.SIGTERM)
    report = runs.end("first", process)
    assert process.returncode == 143
    assert (report["totals"]["bytes_sent"], report["totals"]["verified"]) == (0, 0)
    assert site.rows("DEMO") == []


@pytest.mark.wide
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """SIGTERM and SIGKILL by turns, each followed by a rerun: at the end nothing lacks, nothing is there twice."""
    seed = time.time_ns()
    figures = drive(3, tmp_path, seed=seed, seconds=90)
    assert figures.clean, f"seed {seed}: {figures}"
    assert figures.kills.total() >= 3


@pytest.mark.wide
def test_killed_while_headers_are_rewritten(tmp_path: Path) -> None:
    """The same with --deidentify: equal bytes every time, so nothing is there twice under another UID."""
    seed = time.time_ns()
    figures = drive(3, tmp_path, seed=seed, seconds=60, profile="basic")
    assert figures.clean, f"seed {seed}: {figures}"
    assert figures.kills.total() >= 1


# -- two at once


def told(site: StandIn, *reports: dict[str, Any]) -> None:
    """No row is left that no report names, and who did not finish says why."""
    text = json.dumps(reports)
    for row in site.rows("DEMO"):
        assert row.url in text
    for report in reports:
        kinds = {problem["kind"] for problem in report["problems"]}
        assert report["exit_code"] == 0 or kinds & {"live-row", "server-fault"}, kinds
        assert report["exit_code"] in (0, 3, 5)
    sent = [report["totals"]["bytes_sent"] for report in reports]
    loser = reports[sent.index(min(sent))]
    there = loser["totals"]["already_there"] > 0
    assert there or any(problem["kind"] == "live-row" for report in reports for problem in report["problems"]), [
        (r["exit_code"], r["totals"], r["problems"]) for r in reports
    ]


@pytest.mark.wide
@pytest.mark.parametrize("attempt", range(2))
def test_two_runs_started_together(runs: Runs, site: StandIn, attempt: int) -> None:
    """No damage: every instance is there exactly once; the one that came second says so."""
    for name in ("a", "b"):
        make_session(runs.tree / "S" / name, SERIES)
    site.faults.add(Fault("slow", PARTS, rate=400_000, times=None))
    site.faults.add(Fault("slow-archive", seconds=0.2, times=None))
    started = {name: runs.start(name) for name in ("one", "two")}
    reports = [runs.end(name, process) for name, process in started.items()]
    told(site, *reports)
    assert 0 in [report["exit_code"] for report in reports], [report["problems"] for report in reports]
    finishes(runs)


@pytest.mark.wide
@pytest.mark.parametrize("moment", ["sending", "archiving"])
def test_run_started_in_the_middle_of_another(runs: Runs, site: StandIn, moment: str) -> None:
    """The first one is not disturbed so that it fails; the second one waits, or says that it came second."""
    for name in ("a", "b"):
        make_session(runs.tree / "S" / name, SERIES)
    site.faults.add(Fault("slow", PARTS, rate=120_000, times=None))
    site.faults.add(Fault("slow-archive", seconds=0.8, times=None))
    first = runs.start("one")
    if moment == "sending":
        until(lambda: any(row.files for row in site.rows("DEMO")))
    else:
        until(lambda: any(row.status == "_ARCHIVING" for row in site.rows("DEMO")))
    second = runs.start("two")
    reports = [runs.end("one", first), runs.end("two", second)]
    told(site, *reports)
    assert 0 in [report["exit_code"] for report in reports], [report["problems"] for report in reports]
    finishes(runs)


LOST = """
import gc, os, signal, sys, weakref
import xnat_ingest.cli as cli
class Pool: pass
def presets(words, environ):
    for number in cli.ending_signals():
        signal.signal(number, cli._leave)
    print("the list")
    pool = Pool()
    weakref.finalize(pool, os.kill, os.getpid(), signal.SIGTERM)
    del pool
    gc.collect()
    print("after the signal")
    return 0
cli._run = presets
sys.argv[1:] = ["presets"]
cli.script()
"""


def test_a_signal_that_comes_while_something_is_finalised() -> None:
    """Python only prints what is raised there, and goes on."""
    ended = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (143, "the list\n", "")
