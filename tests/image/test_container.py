"""The program in a container that may do next to nothing: any uid, no capability, nothing to write but the report."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Unpack

import pytest

from tests.conftest import PASSWORD, hold_laws
from tests.contract.test_signals import whole
from tests.dicom_trees import Series, make_session
from tests.image.containers import Options, run, start
from tests.image.engine import Engine
from tests.standin import StandIn

pytestmark = pytest.mark.real

NOBODY = 12345  # a uid that the image has no passwd entry for


def tight(**more: Unpack[Options]) -> Options:
    """As little as a container can be given, and what the test gives it."""
    return {
        "user": f"{NOBODY}:{NOBODY}",
        "read_only": True,
        "extra": ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"],
        **more,
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("007/pre", "008/pre"):
        make_session(tmp_path / "tree" / name, [Series("T1_1"), Series("RLE_2", 2, "MR_small_RLE.dcm")], name)
    return tmp_path / "tree"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Belongs to the container's user, and is closed to all others."""
    folder = tmp_path / "output"
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    return folder


@pytest.fixture
def login(site: StandIn) -> dict[str, str]:
    return {"XNAT_HOST": site.url, "XNAT_USER": "up", "XNAT_PASS": PASSWORD}


def report_in(folder: Path) -> dict[str, Any]:
    """The report, which is all that the run has left in the folder."""
    assert [path.name for path in folder.iterdir()] == ["report.json"]
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    hold_laws(report)
    return report


def test_plan_needs_nothing(engine: Engine, image: str, tree: Path) -> None:
    """No network, no home, no folder that can be written, not even a /tmp."""
    mounts = [f"{tree}:/input:ro"]
    words = ("-u", "HOME", "xnat-ingest", "plan", "/input", "-P", "DEMO")
    done = run(engine, image, *words, **tight(network="none", mounts=mounts, entrypoint="env"))
    assert done.code == 0, done.err
    assert re.fullmatch(r"plan    2 sessions, 10 instances, .*; set aside 0\n", done.err)
    assert done.out.splitlines()[-1] == "10 planned, 0 verified, 0 missing, 0 failed, 0 set aside: exit 0"


def test_a_password_that_nobody_gave(engine: Engine, image: str, tree: Path, login: dict[str, str]) -> None:
    """It might be in a file of the user's home; there is neither user nor home."""
    del login["XNAT_PASS"]
    words = ("-u", "HOME", "xnat-ingest", "upload", "/input", "-P", "DEMO")
    done = run(engine, image, *words, **tight(mounts=[f"{tree}:/input:ro"], env=login, entrypoint="env"))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("xnat-ingest: ")
    assert "set XNAT_PASS" in done.err


@pytest.mark.parametrize("form", ["folder", "zip", "gztar"])
def test_upload(
    engine: Engine, image: str, site: StandIn, tree: Path, output: Path, login: dict[str, str], form: str
) -> None:
    """The tree itself, or in an archive: all of it is on the server's disk, and the report is the user's alone."""
    root = tree if form == "folder" else Path(shutil.make_archive(str(tree.parent / "study"), form, tree))
    target = "/input" if form == "folder" else f"/input/{root.name}"
    words = ("upload", target, "-P", "DEMO", "--report", "/output/report.json")
    mounts = [f"{root}:{target}:ro", f"{output}:/output"]
    done = run(engine, image, *words, **tight(mounts=mounts, env=login))
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "10 planned, 10 verified, 0 missing, 0 failed, 0 set aside: exit 0"
    whole(site, tree)
    assert report_in(output)["totals"]["verified"] == 10
    status = (output / "report.json").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (NOBODY, NOBODY, 0o600)


HOSTILE = ("two\nlines", b"surrogate-\xff\xfe".decode("utf-8", "surrogateescape"), "-rf", "--report", "tab\there")


@pytest.mark.parametrize("spoken", ["C.UTF-8", "C", "POSIX"])
def test_hostile_names(
    engine: Engine, image: str, site: StandIn, tmp_path: Path, output: Path, login: dict[str, str], spoken: str
) -> None:
    """Names that break lines, are no text, or look like flags: the instances arrive, and each is told on one line."""
    tree = tmp_path / "tree"
    made = make_session(tree / "007" / "pre", [Series(f"T{number}_{number}", 1) for number in range(len(HOSTILE))])
    for name, path in zip(HOSTILE, made, strict=True):
        (path.parent / name).write_text("no image")
        path.rename(path.with_name(f"IM{name}"))
        path.parent.rename(path.parent.with_name(name))
    words = ("upload", "/input", "-P", "DEMO", "--report", "/output/report.json", "--log-format", "json", "-vv")
    mounts = [f"{tree}:/input:ro", f"{output}:/output"]
    done = run(engine, image, *words, **tight(mounts=mounts, env=login | {"LC_ALL": spoken}))
    assert done.code == 0, done.err
    assert [json.loads(line)["schema"] for line in done.err.splitlines()]
    whole(site, tree)
    report = report_in(output)
    assert report["totals"]["verified"] == report["totals"]["set_aside"] == len(HOSTILE)
    assert not any(sign in aside["path"] for aside in report["set_aside"] for sign in "\n\t\udcff")


def test_a_report_that_does_not_fit(
    engine: Engine, image: str, site: StandIn, tree: Path, login: dict[str, str]
) -> None:
    """The disk is full when all is sent: the code says that not all is well, and the last line says the same code."""
    for number in range(100):
        (tree / "007" / "pre" / f"note-{number:03d}.txt").write_text("no image")
    words = ("upload", "/input", "-P", "DEMO", "--report", "/output/report.json")
    done = run(
        engine, image, *words, **tight(mounts=[f"{tree}:/input:ro"], env=login, tmpfs=["/output:size=4k,mode=1777"])
    )
    assert done.code == 1
    sentence = "xnat-ingest: the report could not be written to /output/report.json: No space left on device"
    assert sentence in done.err.splitlines()
    assert done.out.splitlines()[-1] == "10 planned, 10 verified, 0 missing, 0 failed, 100 set aside: exit 1"
    assert "report: " not in done.out
    whole(site, tree)


@pytest.mark.parametrize("way", ["mounted read-only", "another user's", "not mounted"])
def test_a_report_that_cannot_be_written(
    engine: Engine, image: str, site: StandIn, tree: Path, output: Path, login: dict[str, str], way: str
) -> None:
    """It is found before anything is sent."""
    os.chown(output, NOBODY, NOBODY) if way != "another user's" else os.chown(output, 0, 0)
    mounts = [f"{tree}:/input:ro"]
    if way != "not mounted":
        mounts.append(f"{output}:/output" + (":ro" if way == "mounted read-only" else ""))
    words = ("upload", "/input", "-P", "DEMO", "--report", "/output/report.json")
    done = run(engine, image, *words, **tight(mounts=mounts, env=login))
    assert (done.code, done.out) == (2, "")
    why = {
        "mounted read-only": "Read-only file system",
        "another user's": "Permission denied",
        "not mounted": "No such file or directory",
    }[way]
    assert done.err == f"xnat-ingest: cannot write --report /output/report.json: {why}\n"
    assert site.requests == []
    assert list(output.iterdir()) == []


def test_the_password_is_in_its_variable_only(
    engine: Engine, image: str, tree: Path, output: Path, login: dict[str, str]
) -> None:
    """Neither the container's words, nor its log, nor its report hold it, however talkative the run is."""
    words = ("upload", "/input", "-P", "DEMO", "--report", "/output/report.json", "-vv")
    ran = start(engine, image, *words, **tight(mounts=[f"{tree}:/input:ro", f"{output}:/output"], env=login))
    assert ran.wait() == 0, ran.logs()
    known = ran.inspect()
    environment = known["Config"].pop("Env")
    assert f"XNAT_PASS={PASSWORD}" in environment
    told = [json.dumps(known), *ran.logs(), (output / "report.json").read_text()]
    ran.remove()
    for text in told:
        assert PASSWORD not in text
        assert json.dumps(PASSWORD)[1:-1] not in text
    assert "password = ***" in told[2]
