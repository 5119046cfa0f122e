"""The verbs as Python functions: each example of docs/api.md is run, and what they raise."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import xnat_ingest
from tests.conftest import LOGIN_NAMES, PASSWORD, hold_laws, stored
from tests.dicom_trees import Series, make_session
from tests.standin import Fault, StandIn
from xnat_ingest import IngestError, UsageError, as_report, plan, put_resource, upload, verify
from xnat_ingest.cli import main
from xnat_ingest.core.errors import Refused
from xnat_ingest.core.model import Event
from xnat_ingest.core.stop import Stop

TEXT = (Path(__file__).parent.parent.parent / "docs" / "api.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_session(tmp_path / "study" / "007" / "pre", [Series("T1_1"), Series("Localizers_2", 2)])
    return tmp_path / "study"


@pytest.mark.wide
def test_the_examples(
    root: Path, tmp_path: Path, site: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they stand, one after the other, with the folder and the project filled in."""
    site.project("DEMO").access["up"] = "delete"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "one.csv").write_text("1,2")
    assert len(EXAMPLES) == 5
    names: dict[str, Any] = {}
    for example in EXAMPLES:
        exec(example.replace("/data/study", str(root)).replace("MYPROJECT", "DEMO"), names)
    out = capsys.readouterr().out
    assert "DEMO/007/007_pre verified 3" in out
    assert "['notes.pdf', 'one.csv'] []" in out or "['notes.pdf', 'tables/one.csv'] []" in out
    assert (tmp_path / "report.json").exists()
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 5


@pytest.mark.wide
def test_arguments_beat_the_environment(root: Path, site: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LOGIN_NAMES:
        monkeypatch.delenv(name, raising=False)
    result = upload(root, "DEMO", server=site.url, user="up", password=PASSWORD)
    assert result.exit_code == 0
    report = as_report(result)
    hold_laws(report)
    assert PASSWORD not in str(report)
    assert verify(root, "DEMO", server=site.url, user="up", password=PASSWORD).exit_code == 0


EMPTY = ("deidentify", "plan", "labels", "shard", "exclude", "config", "password_file")


@pytest.mark.parametrize(("name", "value"), [*((name, "") for name in EMPTY), ("include", [""]), ("deidentify", "  ")])
def test_an_empty_argument_is_an_unset_variable(root: Path, site: StandIn, name: str, value: Any) -> None:
    """As on the command line. It would send more than was meant."""
    with pytest.raises(UsageError, match=f"the argument {name} is empty"):
        upload(root, "DEMO", **{name: value})
    assert not site.requests


@pytest.mark.parametrize("host", ["https://a.example", ""])
def test_a_password_that_is_given_is_the_one_that_is_sent(
    root: Path, tmp_path: Path, site: StandIn, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """The environment is set up for another server, whose password must not be sent to this one."""
    site.project("DEMO").access["up"] = "delete"
    (other := tmp_path / "password").write_text("of another server\n")
    for name in LOGIN_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XNAT_HOST", host)
    monkeypatch.setenv("XNAT_INGEST_PASSWORD_FILE", str(other))
    (note := tmp_path / "note.txt").write_text("x")
    assert upload(root, "DEMO", server=site.url, user="up", password=PASSWORD).exit_code == 0
    sent = put_resource(note, "NOTES", "DEMO", server=site.url, user="up", password=PASSWORD)
    assert sent.sent
    assert main(["dicomUpload", site.url, "up", PASSWORD, "DEMO", str(root), "--workdir", str(tmp_path)]) == 0


def test_plan_opens_no_socket(root: Path, site: StandIn) -> None:
    assert plan(root, "DEMO").totals["planned"] == 5
    assert not site.requests
    assert plan(root, "DEMO", online=True).exit_code == 0
    assert site.requests


def test_options_of_every_kind(root: Path, site: StandIn) -> None:
    result = upload(
        root,
        "DEMO",
        exclude=["T1", {"tag": "Modality", "in": ["SR"]}],
        part_size="20K",
        timeout=30.0,
        ignore_case=True,
        layout="subject/session",
        destination="prearchive",
    )
    assert result.exit_code == 0
    assert [row.status for row in site.rows("DEMO")] == ["READY"]


@pytest.mark.parametrize("rule", [5, [5], {"a": 1}, [{}], [None]])
def test_what_is_no_rule_is_misuse(root: Path, rule: Any) -> None:
    with pytest.raises(UsageError, match="is not a rule"):
        plan(root, "DEMO", exclude=rule)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (
            {"series_instances": {"fewer": 3}},
            "exclude[1].series_instances: unknown key 'fewer'; did you mean fewer_than",
        ),
        ({"folder": ""}, "exclude[1].folder: "),
        ({"folder": "x", "nope": 1}, "exclude[1]: unknown key 'nope'"),
        ({"folder": "x", "path": "y"}, "exclude[1]: unknown key "),
        ({"fodler": Path("x")}, "is not a rule; did you mean folder?"),
        ({"tag": "Modality", "in": "SR"}, "exclude[1].in: "),
        ({"tag": "Modality", "matches": re.compile("SR")}, "exclude[1].matches: "),
        ({"tag": "Modality"}, "exclude[1]: a tag rule needs exactly one of matches and in"),
        ({"image_type": "MPR"}, "exclude[1].image_type: "),
        ({"series_instances": 5}, "exclude[1].series_instances: "),
        ({"path": None}, "exclude[1].path: "),
    ],
)
def test_a_rule_is_checked_as_in_a_config_file(root: Path, rule: Any, said: str) -> None:
    """A slip must not send what was to be left out."""
    with pytest.raises(UsageError, match=re.escape(said)):
        plan(root, "DEMO", exclude=["Localizers", rule])


def test_rules_may_hold_tuples(root: Path) -> None:
    assert plan(root, "DEMO", exclude=({"tag": "Modality", "in": ("MR", "SR")},)).totals["planned"] == 0
    assert plan(root, "DEMO", exclude=({"tag": "Modality", "in": ("XX",)}, "T1")).totals["planned"] == 2


def test_trouble_is_in_the_result_and_misuse_is_raised(root: Path, site: StandIn) -> None:
    assert upload(root, "HIDDEN").exit_code == 6
    assert upload(root, "DEMO", password="wrong").exit_code == 6
    with pytest.raises(UsageError, match="exlude is not an option of upload; did you mean exclude"):
        upload(root, "DEMO", exlude=["x"])
    with pytest.raises(UsageError, match="no project"):
        upload(root)
    with pytest.raises(IngestError, match="cannot read ROOT"):
        plan(root / "absent", "DEMO")
    with pytest.raises(UsageError, match="workers"):
        upload(root, "DEMO", workers=0)


@pytest.mark.wide
def test_stop(root: Path, site: StandIn) -> None:
    from tests.standin.fault import Fault

    site.faults.add(Fault("stall", match="/data/services/import", seconds=30))
    stop = Stop()
    threading.Timer(0.5, setattr, (stop, "signum", signal.SIGTERM)).start()
    result = upload(root, "DEMO", stop=stop)
    site.faults.release()
    assert result.exit_code == 143


def test_an_error_in_on_event_costs_no_verdict(root: Path, site: StandIn) -> None:
    """It is the caller's own, and told; what is on the server is there all the same."""

    def tell(_event: Event) -> None:
        raise RuntimeError("a bug of the caller's")

    result = upload(root, "DEMO", on_event=tell)
    assert (result.exit_code, result.totals["verified"]) == (0, 5)
    (problem,) = result.problems
    assert problem.kind == "event-handler"
    assert "RuntimeError" in problem.detail


@pytest.mark.wide
def test_after_a_stop_the_process_ends_although_a_request_hangs(root: Path, site: StandIn) -> None:
    """In a process of its own: a thread that waits for the server would keep it for --timeout seconds."""
    site.faults.add(Fault("delay", "POST .*services/import", seconds=50, times=None))
    code = (
        "import signal, sys, threading, time, xnat_ingest\n"
        "from xnat_ingest.core.stop import Stop\n"
        "stop = Stop()\n"
        "threading.Timer(1.5, lambda: setattr(stop, 'signum', signal.SIGTERM)).start()\n"
        "print(xnat_ingest.upload(sys.argv[1], 'DEMO', stop=stop, timeout=50).exit_code)\n"
    )
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "143", done.stderr
    assert time.monotonic() - begun < 25


@pytest.mark.wide
@pytest.mark.parametrize(
    "fault",
    [
        Fault("stall", "POST /data/services/import", seconds=60, times=None),
        Fault("stall", "GET /data/projects/DEMO/experiments", seconds=60, times=None),
        Fault("delay", "POST /data/services/import", seconds=0.3, times=None),
    ],
    ids=["sending", "asking", "a slow server"],
)
def test_ctrl_c_ends_a_program_that_catches_no_signal(tmp_path: Path, site: StandIn, fault: Fault) -> None:
    """The interrupt is raised, no more is sent, and the process ends although a request hangs."""
    for number in range(12):
        make_session(tmp_path / f"t/{number}/pre", [Series("T1_1", 2)], f"{number}")
    site.faults.add(fault)
    code = f"import xnat_ingest as x; x.upload({str(tmp_path / 't')!r}, 'DEMO', workers=1)"
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not fault.hits and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=15)
    assert run.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in said.decode()
    assert len(site.sessions("DEMO")) < 6


def test_put_resource(tmp_path: Path, site: StandIn, root: Path) -> None:
    assert upload(root, "DEMO").exit_code == 0
    (tmp_path / "a.txt").write_text("one")
    sent = put_resource(tmp_path / "a.txt", "NOTES", "DEMO", subject="007", experiment="007_pre", tags=["x"])
    assert sent.sent == {"a.txt"}
    assert put_resource([tmp_path / "a.txt"], "NOTES", "DEMO", subject="007", experiment="007_pre").already == {"a.txt"}
    (tmp_path / "a.txt").write_text("two")
    assert put_resource(tmp_path / "a.txt", "NOTES", "DEMO", experiment="007_pre").different == {"a.txt"}
    assert put_resource(tmp_path / "a.txt", "NOTES", "DEMO", experiment="007_pre", overwrite=True).sent == {"a.txt"}
    with pytest.raises(Refused):
        put_resource(tmp_path / "a.txt", "NOTES", "READONLY")
    other = tmp_path / "other"
    make_session(other / "008" / "pre", [Series("T1_1")], "other")
    assert upload(other, "DEMO").exit_code == 0
    with pytest.raises(IngestError, match="session 007_pre belongs to subject 007, not 008"):
        put_resource(tmp_path / "a.txt", "NOTES", "DEMO", subject="008", experiment="007_pre")
    with pytest.raises(UsageError, match=r"is DICOM \(5 of 5 files are\).*: force=True"):
        put_resource(root, "IMAGES", "DEMO", experiment="007_pre")
    assert len(put_resource(root, "IMAGES", "DEMO", experiment="007_pre", force=True).sent) == 5
    with pytest.raises(UsageError, match="no target"):
        put_resource(tmp_path / "a.txt", "NOTES")


@pytest.mark.wide
def test_the_package_loads_nothing_until_it_is_asked() -> None:
    code = (
        "import xnat_ingest, sys; print('urllib3' in sys.modules); xnat_ingest.upload; print('urllib3' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said == ["False", "True"]
    assert set(xnat_ingest.__all__) <= set(dir(xnat_ingest)) | set(xnat_ingest.__all__)
    with pytest.raises(AttributeError):
        _ = xnat_ingest.nothing


@pytest.mark.wide
def test_a_program_that_calls_many_times_keeps_no_thread(root: Path, site: StandIn) -> None:
    """Each call has a thread that watches its requests. It ended only a minute after the call."""
    before = set(threading.enumerate())
    verify(root, "DEMO")
    deadline = time.monotonic() + 5
    while left := [t.name for t in set(threading.enumerate()) - before if t.name == "watchdog"]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
