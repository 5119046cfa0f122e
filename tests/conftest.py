"""What most tests stand on: a site with a project, and the program run on a tree against it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.schemas import check_report
from tests.standin import ArchivedSession, Project, StandIn, User
from tests.wide import mark_wide
from xnat_ingest.cli import main
from xnat_ingest.core import secrets
from xnat_ingest.delivery import commit, prearchive_session
from xnat_ingest.xnat import prearchive, retry_policy

PASSWORD = "pass word/with:signs%"
LOGIN_NAMES = ("XNAT_HOST", "XNAT_USER", "XNAT_PASS", "XNAT_URL", "XNAT_SERVER", "XNAT_USERNAME", "XNAT_PASSWORD")


@dataclass(frozen=True)
class Ended:
    """How a run of the program ended."""

    code: int
    out: str
    err: str
    report: dict[str, Any]

    @property
    def totals(self) -> dict[str, Any]:
        totals: dict[str, Any] = self.report["totals"]
        return totals

    def session(self, label: str) -> dict[str, Any]:
        found: dict[str, Any] = next(s for s in self.report["sessions"] if s["label"] == label)
        return found

    def kinds(self) -> list[str]:
        return [problem["kind"] for problem in self.report["problems"]]


class Ingest:
    """Runs commands in this process, with a report, and holds the laws of the report on every run."""

    def __init__(self, site: StandIn, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.site = site
        self._report = folder / "report.json"
        self._capture = capture

    def __call__(self, command: str, root: Path | str, *flags: str, project: str = "DEMO") -> Ended:
        self._report.unlink(missing_ok=True)
        self._capture.readouterr()
        named = ("-P", project) if project else ()
        code = main([command, str(root), *named, "--report", str(self._report), *flags])
        said = self._capture.readouterr()
        report = json.loads(self._report.read_text()) if self._report.exists() else {}
        if report:
            hold_laws(report)
            assert report["exit_code"] == code
            assert said.out.splitlines()[-1].endswith(f"exit {code}")
        return Ended(code, said.out, said.err, report)


def hold_laws(report: dict[str, Any]) -> None:
    """The two laws of docs/design.md, section 2, recounted from the report's own lists; and the published schema."""
    check_report(report)
    totals = report["totals"]
    assert totals["files_seen"] == totals["planned"] + totals["set_aside"]
    assert totals["planned"] == sum(totals[k] for k in ("verified", "counted", "missing", "failed", "unverified"))
    assert totals["set_aside"] == len(report["set_aside"])
    assert totals["planned"] == sum(session["instances"] for session in report["sessions"])
    assert totals["missing"] == sum(len(session["missing"]) for session in report["sessions"])
    scans = [scan for session in report["sessions"] for scan in session["scans"]]
    assert report.get("proof", {}).get("read_back", 0) == sum(scan.get("read_back", 0) for scan in scans)


def pytest_configure() -> None:
    """A shell that starts the tests in the background, or nohup, has them ignore signals that many tests send."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_wide(items)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's waits, shortened together: their proportions stay."""
    monkeypatch.setattr(retry_policy, "BASE", 0.01)
    monkeypatch.setattr(prearchive, "STILL", 0.6)
    monkeypatch.setattr(prearchive, "STILL_LIMIT", 6.0)
    monkeypatch.setattr(prearchive_session, "WATCH", 0.15)
    monkeypatch.setattr(commit, "WATCH", 0.15)


@pytest.fixture(autouse=True)
def _no_secrets_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test made a secret is hidden for the rest of the process, also where another test expects it."""
    monkeypatch.setattr(secrets, "_known", {})
    monkeypatch.setattr(secrets, "_logins", {})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A running site: DEMO archives by itself, MANUAL does not, READONLY may be read, HIDDEN may not."""
    projects = [
        Project("DEMO", code=4, aliases=("demo-alias",), access={"up": "edit"}),
        Project("MANUAL", code=0, access={"up": "edit"}),
        Project("READONLY", code=4, access={"up": "read"}),
        Project("HIDDEN", code=4),
    ]
    for name in LOGIN_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with StandIn(tmp_path / "xnat", projects, [User("up", PASSWORD)]) as running:
        monkeypatch.setenv("XNAT_HOST", running.url)
        monkeypatch.setenv("XNAT_USER", "up")
        monkeypatch.setenv("XNAT_PASS", PASSWORD)
        yield running
        assert running.errors == []


@pytest.fixture
def ingest(site: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Ingest]:
    """Runs the program against the site; signal handlers are put back."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield Ingest(site, tmp_path, capsys)
    for signum, handler in before.items():
        signal.signal(signum, handler)


def stored(site: StandIn, project: str, subject: str, label: str) -> ArchivedSession:
    """An archived session on the server's disk."""
    session = site.archived(project, subject, label)
    assert session is not None, f"no session {label}"
    return session
