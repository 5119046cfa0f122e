"""Launches as the container service makes them, with the image itself: its words, its variables, its mount."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PASSWORD, stored
from tests.contract.test_launch import COMMAND, Xnat
from tests.dicom_trees import Series, make_session
from tests.image.containers import Ended, Options, run, start
from tests.image.engine import Engine
from tests.service.form import form, post
from tests.service.resolve import Launch, resolve
from tests.standin import Fault, StandIn
from tests.standin.tokens import Token

pytestmark = pytest.mark.real

TOMCAT = 999
SERIES = (Series("T1_1"), Series("Localizers_2", 2))
SUBJECT = "XNAT_S00007"


class Service:
    """The container service in front of a stand-in: what it would tell the engine, with a login of its own."""

    def __init__(self, engine: Engine, image: str, xnat: Xnat) -> None:
        self.xnat = xnat
        self.site = xnat.site
        self.token: Token = self.site.tokens.issue(self.site.user("up"))
        self._engine = engine
        self._image = image

    def resolve(self, wrapper: str, root: str, **values: str) -> Launch:
        name, model = f"xnat-ingest-{wrapper}", self.xnat.model()
        login = {"XNAT_HOST": self.site.url, "XNAT_USER": self.token.alias, "XNAT_PASS": self.token.secret}
        posted = post(form(COMMAND, name, model, root), **values)
        made = resolve(COMMAND, name, model, root, posted, environment=login)
        # Nothing else may be left for the engine to be told.
        assert made.working_directory is made.container_name is None
        assert made.ports == made.labels == {}
        return made

    def options(self, launch: Launch, user: str | None = None) -> Options:
        assert not any(mount.writable for mount in launch.mounts)
        mounts = [f"{mount.host}:{mount.container}:ro" for mount in launch.mounts]
        return {"env": launch.environment, "mounts": mounts, "user": user}

    def run(self, wrapper: str, root: str, user: str | None = None, **values: str) -> Ended:
        launch = self.resolve(wrapper, root, **values)
        return run(self._engine, self._image, *launch.argv, **self.options(launch, user))

    def report(self, root: str) -> dict[str, Any]:
        """The one that is stored with the object launched from."""
        files = self.xnat._resources(root)["XNAT-INGEST"].files
        (report,) = (path for name, path in files.items() if name.endswith("/report.json"))
        found: dict[str, Any] = json.loads(report.read_text())
        return found


@pytest.fixture
def service(
    engine: Engine,
    image: str,
    site: StandIn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Service:
    made = Service(engine, image, Xnat(site, tmp_path, capsys, monkeypatch))
    site.project("DEMO").subjects["S7"] = SUBJECT
    return made


def from_project(service: Service) -> str:
    make_session(service.xnat.mount / "007" / "pre", SERIES, "launch")
    return "/archive/projects/DEMO"


def from_subject(service: Service) -> str:
    make_session(service.xnat.mount / "pre", SERIES, "launch")
    return f"/archive/subjects/{SUBJECT}"


def from_session(service: Service) -> str:
    """The session holds the same study already, with one series less."""
    (service.xnat.mount / "007" / "pre").mkdir(parents=True)
    make_session(service.xnat.mount / "007" / "pre", SERIES[:1], "launch")
    assert service.run("project", "/archive/projects/DEMO").code == 0
    make_session(service.xnat.mount / "007" / "pre", SERIES[1:], "launch")
    (service.xnat.mount / "007" / "pre").rename(service.xnat.mount / "more")
    return f"/archive/experiments/{stored(service.site, 'DEMO', '007', '007_pre').accession}"


def from_resource(service: Service) -> str:
    return f"{from_project(service)}/resources/UPLOAD"


WRAPPERS: dict[str, Callable[[Service], str]] = {
    "project": from_project,
    "subject": from_subject,
    "session": from_session,
    "resource": from_resource,
}


def test_every_wrapper_is_launched_here() -> None:
    assert {f"xnat-ingest-{name}" for name in WRAPPERS} == {wrapper["name"] for wrapper in json.loads(COMMAND)["xnat"]}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_launch(service: Service, wrapper: str) -> None:
    """The words, variables and mount that the service gives are enough, and the report comes back to where it began."""
    root = WRAPPERS[wrapper](service)
    done = service.run(wrapper, root)
    assert done.code == 0, (done.out, done.err)
    assert done.out.splitlines()[-1] == "5 planned, 5 verified, 0 missing, 0 failed, 1 set aside: exit 0"
    assert service.token.secret not in done.out + done.err
    report = service.report(root)
    assert report["launch"]["launched_from"] == root.partition("/resources/")[0]
    assert report["exit_code"] == 0
    if wrapper == "session":
        (row,) = service.site.rows("DEMO")
        assert (row.label, row.status) == ("007_pre", "READY")
        return
    names = ("S7", "S7_pre") if wrapper == "subject" else ("007", "007_pre")
    assert len(stored(service.site, "DEMO", *names).files) == 5


def test_values_of_the_form_arrive(service: Service) -> None:
    done = service.run("project", from_project(service), exclude="Localizers, two words", dry_run="true")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "3 planned, 0 verified, 0 missing, 0 failed, 3 set aside: exit 0"
    assert "two words" in done.out
    assert service.site.sessions("DEMO") == []


def closed(folder: Path) -> None:
    """As Tomcat's default umask leaves an archive: for its own user and group, and nobody else."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, TOMCAT, TOMCAT)
        path.chmod(0o750 if path.is_dir() else 0o640)


@pytest.mark.parametrize("user", [None, f"{TOMCAT}:{TOMCAT}"], ids=["as it comes", "as Tomcat's user"])
def test_an_archive_that_is_closed_to_others(service: Service, user: str | None) -> None:
    """The image names no user, so it runs as root, who reads it; an administrator may say Tomcat's uid instead."""
    root = from_project(service)
    closed(service.xnat.mount)
    done = service.run("project", root, user)
    assert done.code == 0, done.err
    assert len(stored(service.site, "DEMO", "007", "007_pre").files) == 5


def test_an_archive_that_is_closed_to_the_container(service: Service) -> None:
    root = from_project(service)
    closed(service.xnat.mount)
    done = service.run("project", root, "12345:12345")
    assert done.code == 1
    (line,) = (line for line in done.err.splitlines() if line.startswith("error"))
    assert "/input cannot be read (Permission denied)" in line
    assert "the container's user must be root or the one that Tomcat runs as" in line
    assert done.out.splitlines()[-1] == "0 planned, 0 verified, 0 missing, 0 failed, 0 set aside: exit 1"
    assert "Permission denied" in service.report(root)["problems"][0]["detail"]


def test_the_log_is_read_while_it_runs(service: Service, engine: Engine, image: str) -> None:
    """Each line reaches the log as it is said: XNAT shows it on the container's page."""
    root = from_project(service)
    stall = service.site.faults.add(Fault("stall", "POST /data/services/import"))
    launch = service.resolve("project", root)
    ran = start(engine, image, *launch.argv, **service.options(launch))
    ran.until("plan    1 session, 5 instances")
    assert ran.inspect()["State"]["Running"]
    assert PASSWORD not in json.dumps(ran.inspect())
    assert not service.site.sessions("DEMO")
    service.site.faults.clear()
    assert ran.wait() == 0, ran.logs()
    assert stall.hits == 1
    ran.remove()


def test_a_launch_that_is_stopped_stores_its_report(service: Service, engine: Engine, image: str) -> None:
    """The service's kill button, and a host that shuts down: TERM, and ten seconds."""
    root = from_project(service)
    stall = service.site.faults.add(Fault("stall", "POST /data/services/import"))
    launch = service.resolve("project", root)
    ran = start(engine, image, *launch.argv, **service.options(launch))
    ran.until("plan ")
    while not stall.hits:
        assert ran.inspect()["State"]["Running"], ran.logs()
    assert ran.stop() == 143, ran.logs()
    assert service.report(root)["exit_code"] == 143
    ran.remove()
