"""`xnat-ingest resource put`: what the server holds afterwards, and what the user is told."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PASSWORD
from tests.dicom_trees import MR, SAMPLES
from tests.standin import Fault, StandIn
from tests.standin.model import Resource
from tests.standin.samples import Client
from xnat_ingest.cli import main, resource, signals
from xnat_ingest.commands.resources import files as resourcefiles
from xnat_ingest.commands.resources import target
from xnat_ingest.core.stop import Stop
from xnat_ingest.xnat.client import XnatClient

Run = Callable[..., tuple[int, str, str]]
SESSION = ("-P", "DEMO", "-S", "S1", "-E", "E1")


@pytest.fixture
def run(site: StandIn, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """`resource ...` in this process, against a site with one session of one scan; signal handlers are put back."""
    client = Client(site.url, user="up", password=PASSWORD).login()
    session = "/data/projects/DEMO/subjects/S1/experiments/E1"
    assert client("PUT", session, xsiType="xnat:mrSessionData").status == 201
    assert client("PUT", session + "/scans/3", xsiType="xnat:mrScanData", type="T1").status == 200
    client.close()
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

    def call(*words: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["resource", *map(str, words)])
        said = capsys.readouterr()
        return code, said.out, said.err

    yield call
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(
        tmp_path / "results", {"a.txt": b"abc", "d/b.txt": b"0123456789", "d/.empty": b"", "z.bin": bytes(5000)}
    )


@pytest.fixture
def stop(site: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Sends SIGTERM to the command that runs, once, and returns when it has been handled.

    A command that hangs is left behind by its signal. It is waited for here, while the server and what the test has
    replaced are still there. It would go on in the next test otherwise, and ask for a second signal there.
    """
    catch = signals.catch_signals
    caught: list[Stop] = []

    def catch_and_keep(stop: Stop) -> None:
        caught.append(stop)
        catch(stop)

    def send() -> None:
        if not caught[-1].signum:
            os.kill(os.getpid(), signal.SIGTERM)
        while not caught[-1].signum:
            time.sleep(0.001)

    monkeypatch.setattr(resource, "catch_signals", catch_and_keep)
    yield send
    for thread in threading.enumerate():
        if thread.name.startswith("run_"):  # as stop.run_interruptibly names it
            thread.join(30)
            assert not thread.is_alive()


def make(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def kept(site: StandIn, label: str = "NOTES") -> Resource:
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    return session.resources[label]


def contents(resource: Resource) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in resource.files.items()}


def local(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def writes(site: StandIn) -> list[tuple[str, str]]:
    """(file path, kind of body) of every write of files."""
    return [
        (one.path.partition("/files/")[2], "archive" if "extract" in one.query else "file")
        for one in site.requests
        if one.method == "PUT" and "/files/" in one.path
    ]


# -- put


def test_one_file_as_it_is(site: StandIn, run: Run, folder: Path) -> None:
    words = ("--format", "TXT", "--content", "REPORT", "--tags", "a, b")
    code, out, err = run("put", folder / "a.txt", "--label", "NOTES", *SESSION, *words)
    assert (code, out) == (0, "1 sent, 0 already there, 0 different, 0 failed: exit 0\n"), err
    resource = kept(site)
    assert contents(resource) == {"a.txt": b"abc"}
    assert (resource.format, resource.content, resource.tags) == ("TXT", "REPORT", ["a", "b"])
    assert writes(site) == [("a.txt", "file")]


def test_a_folder_travels_as_one_archive_and_again_sends_nothing(site: StandIn, run: Run, folder: Path) -> None:
    code, out, err = run("put", folder, "--label", "NOTES", *SESSION)
    assert (code, out) == (0, "4 sent, 0 already there, 0 different, 0 failed: exit 0\n"), err
    assert contents(kept(site)) == local(folder)
    assert writes(site) == [("files.tar", "archive")]
    code, out, _ = run("put", folder, "--label", "NOTES", *SESSION)
    assert (code, out) == (0, "0 sent, 4 already there, 0 different, 0 failed: exit 0\n")
    assert len(writes(site)) == 1


def test_only_what_lacks_is_sent(site: StandIn, run: Run, folder: Path) -> None:
    run("put", folder / "a.txt", "--label", "NOTES", *SESSION)
    (folder / "z.bin").unlink()
    (folder / "d/.empty").unlink()
    code, out, _ = run("put", folder, "--label", "NOTES", *SESSION)
    assert (code, out) == (0, "1 sent, 1 already there, 0 different, 0 failed: exit 0\n")
    assert writes(site) == [("a.txt", "file"), ("d/b.txt", "file")]


def test_big_files_go_by_themselves(site: StandIn, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resourcefiles, "BIG", 5000)
    assert run("put", folder, "--label", "NOTES", *SESSION)[0] == 0
    assert sorted(writes(site)) == [("files.tar", "archive"), ("z.bin", "file")]
    assert contents(kept(site)) == local(folder)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("same_size", "overwrite"), [(True, False), (False, False), (True, True), (False, True)])
def test_other_content(site: StandIn, run: Run, folder: Path, same_size: bool, overwrite: bool) -> None:
    run("put", folder, "--label", "NOTES", *SESSION)
    (folder / "a.txt").write_bytes(b"xyz" if same_size else b"longer")
    code, out, err = run("put", folder, "--label", "NOTES", *SESSION, *(["--overwrite"] if overwrite else []))
    if overwrite:
        assert (code, out) == (0, "1 sent, 3 already there, 0 different, 0 failed: exit 0\n")
        assert contents(kept(site)) == local(folder)
    else:
        assert (code, out) == (3, "0 sent, 3 already there, 1 different, 0 failed: exit 3\n")
        assert "different a.txt: already exists with different content; --overwrite replaces it" in err
        assert contents(kept(site))["a.txt"] == b"abc"


def test_without_digests_the_size_decides(site: StandIn, run: Run, folder: Path) -> None:
    site.settings.checksums = False
    assert run("put", folder, "--label", "NOTES", *SESSION)[0] == 0
    (folder / "a.txt").write_bytes(b"xyz")
    assert run("put", folder, "--label", "NOTES", *SESSION)[1].startswith("0 sent, 4 already there")
    assert run("put", folder, "--label", "NOTES", "--overwrite", *SESSION)[1].startswith("4 sent, 0 already there")
    assert contents(kept(site)) == local(folder)
    (folder / "a.txt").write_bytes(b"longer")
    assert run("put", folder, "--label", "NOTES", *SESSION)[0] == 3


@pytest.mark.wide
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("action", "fault"),
    [
        ("put", Fault("delay", match="PUT /data/experiments", seconds=60)),
        ("put", Fault("stall", match="/files/", after=50_000, seconds=60)),
        ("list", Fault("delay", match="/resources", seconds=60)),
        ("delete", Fault("delay", match="/resources", seconds=60)),
    ],
)
def test_a_signal_ends_it_while_the_server_is_silent(
    site: StandIn,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
    fault: Fault,
    number: signal.Signals,
) -> None:
    one = Fault(**{name: getattr(fault, name) for name in fault.__dataclass_fields__})
    site.faults.add(one)
    monkeypatch.setattr("xnat_ingest.cli.resource.GRACE", 0.1)
    path = make(tmp_path / "r", {"x": bytes(300_000)}) / "x"

    def send() -> None:
        while not one.hits:
            threading.Event().wait(0.01)
        os.kill(os.getpid(), number)
        if not ended.wait(10):
            held_up.append(action)
        site.faults.release()

    held_up: list[str] = []
    ended = threading.Event()
    sender = threading.Thread(target=send)
    sender.start()
    words = {"put": ("put", path), "list": ("list",), "delete": ("delete", "--yes")}[action]
    code, out, err = run(*words, "--label", "NOTES", *SESSION)
    ended.set()
    sender.join()
    told = f"0 sent, 0 already there, 0 different, 1 failed: exit {128 + number}\n" if action == "put" else ""
    assert (held_up, code, out) == ([], 128 + number, told)
    assert "interrupted" in err or "terminated" in err


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("words", "holder"),
    [
        (("-P", "DEMO"), "/data/projects/DEMO"),
        (("-P", "demo-alias"), "/data/projects/DEMO"),
        (("-P", "DEMO", "-S", "S1"), "/data/projects/DEMO/subjects/XNAT_S00001"),
        (("-S", "XNAT_S00001"), "/data/subjects/XNAT_S00001"),
        (("-P", "DEMO", "-E", "E1"), "/data/experiments/XNAT_E00001"),
        (("-E", "XNAT_E00001"), "/data/experiments/XNAT_E00001"),
        (("-E", "XNAT_E00001", "--scan", "3"), "/data/experiments/XNAT_E00001/scans/3"),
    ],
)
def test_every_level(site: StandIn, run: Run, folder: Path, words: tuple[str, ...], holder: str) -> None:
    site.project("DEMO").access["up"] = "delete"
    code, out, err = run("put", folder, "--label", "NOTES", "--json", *words)
    assert code == 0, err
    result = json.loads(out)
    assert (result["resource"], len(result["sent"])) == (f"{holder}/resources/NOTES", 4)
    listed = json.loads(run("list", "--label", "NOTES", "--json", *words)[1])
    assert {row["name"]: row["digest"] for row in listed} == {
        name: hashlib.md5(data).hexdigest() for name, data in local(folder).items()
    }


def test_several_paths(site: StandIn, run: Run, folder: Path, tmp_path: Path) -> None:
    more = make(tmp_path / "more", {"c": b"c"})
    assert run("put", folder, more, "--label", "NOTES", *SESSION)[0] == 0
    assert contents(kept(site)) == local(folder) | {"c": b"c"}
    before = len(site.requests)
    (more / "a.txt").write_bytes(b"other")
    code, _, err = run("put", folder, more, "--label", "NOTES", *SESSION)
    assert (code, "would both be stored as a.txt" in err) == (2, True)
    (more / "a.txt").unlink()
    (more / "d").write_bytes(b"")
    code, _, err = run("put", folder, more, "--label", "NOTES", *SESSION)
    assert (code, "d would be a file and a folder" in err) == (2, True)
    assert len(site.requests) == before


def test_a_folder_as_one_tar(site: StandIn, run: Run, folder: Path) -> None:
    words = ("put", folder, "--label", "NOTES", "--archive-name", "all results.tar", *SESSION)
    assert run(*words)[0] == 0
    (stored,) = kept(site).files.values()
    with tarfile.open(stored) as archive:
        assert {one.name: archive.extractfile(one).read() for one in archive} == local(folder)  # type: ignore[union-attr]
    assert list(kept(site).files) == ["all results.tar"]
    assert run(*words)[1].startswith("0 sent, 1 already there")
    (folder / "a.txt").write_bytes(b"xyz")
    assert run(*words)[0] == 3


def test_nothing_to_put(site: StandIn, run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = run("put", tmp_path / "empty", "--label", "NOTES", *SESSION)
    assert (code, "there are no files" in err) == (4, True)


def test_dicom_is_noticed(site: StandIn, run: Run, folder: Path) -> None:
    (folder / "d/scan").write_bytes((SAMPLES / MR).read_bytes())
    before = len(site.requests)
    code, out, err = run("put", folder, "--label", "NOTES", *SESSION)
    assert (code, out) == (2, "")
    assert "d/scan is DICOM (1 of 5 files are)" in err
    assert f"xnat-ingest upload {folder} -P DEMO -S S1 -E E1;" in err
    file = folder / "d/scan"
    assert f"upload {file.parent} -P PROJECT --layout headers;" in run("put", file, "--label", "N", "-E", "X1")[2]
    assert len(site.requests) == before
    assert run("put", folder, "--label", "NOTES", "--force", *SESSION)[0] == 0
    assert contents(kept(site)) == local(folder)


@pytest.mark.parametrize("name", ["PROJECT", "SUBJECT", "EXPERIMENT"])
@pytest.mark.parametrize("source", ["environment", "config"])
def test_an_empty_setting_does_not_widen_a_deletion(
    site: StandIn, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str
) -> None:
    words = ["delete", "--label", "NOTES", "--yes", *(("-E", "E1") if name == "PROJECT" else ("-P", "DEMO"))]
    if source == "environment":
        monkeypatch.setenv(f"XNAT_INGEST_{name}", "")
    else:
        (tmp_path / "c.json").write_text(json.dumps({name.lower(): ""}))
        words += ["--config", str(tmp_path / "c.json")]
    before = len(site.requests)
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "is empty" in err
    assert len(site.requests) == before


@pytest.mark.parametrize(
    "words",
    [
        ("put", "NOWHERE", "--label", "NOTES", *SESSION),
        ("put", ".", "--label", "12", *SESSION),
        ("put", ".", "--label", "a b", *SESSION),
        ("put", ".", "--label", "a/b", *SESSION),
        ("put", ".", *SESSION),
        ("put", ".", "--label", "NOTES"),
        ("put", ".", "--label", "NOTES", "-P", "DEMO", "--scan", "3"),
        ("put", ".", "--label", "NOTES", "-E", "E1", "--scan", "ALL"),
        ("put", ".", "--label", "NOTES", "-S", "S1", "-E", "E1"),
        ("put", ".", "--label", "NOTES", "-P", "DEMO,MANUAL"),
        ("put", ".", "--label", "NOTES", "--archive-name", "a.zip", *SESSION),
        ("delete", "--label", "12", *SESSION),
        ("delete", *SESSION),
        ("delete", "", "--label", "NOTES", "--yes", *SESSION),
        ("delete", "x", "", "--label", "NOTES", "--yes", *SESSION),
        ("delete", "--label", "NOTES", "--yes", "-P", "DEMO", "-S", ""),
        ("delete", "--label", "NOTES", "--yes", "-P", "DEMO", "-S", "", "-E", ""),
        ("delete", "--label", "NOTES", "--yes", "-P", "DEMO", "--subject="),
        ("delete", "--label", "NOTES", "--yes", "--scan", "", *SESSION),
        ("delete", "--label", "NOTES", "--yes", "--scan=", *SESSION),
        ("list", "--label", "x,y", *SESSION),
    ],
)
def test_usage(
    site: StandIn, run: Run, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make(tmp_path / "here", {"x": b""}))
    before = len(site.requests)
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("xnat-ingest: ")
    assert len(site.requests) == before


@pytest.mark.parametrize(
    ("action", "at", "kept"),
    [("put", "PUT .*/files/", 4), ("delete", "DELETE .*/files/a.txt", 3)],
)
def test_a_signal_at_the_end_is_told(
    site: StandIn,
    run: Run,
    stop: Callable[[], None],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
    at: str,
    kept: int,
) -> None:
    """The last request has been answered. It is looked at, no more is begun, and the code is the signal's."""
    site.project("DEMO").access["up"] = "delete"
    if action == "delete":
        assert run("put", folder, "--label", "NOTES", *SESSION)[0] == 0
    ask = XnatClient.request

    def then_stopped(rest: XnatClient, method: str, path: str, *given: Any, **more: Any) -> Any:
        reply = ask(rest, method, path, *given, **more)
        if re.search(at, f"{method} {path}"):
            stop()
        return reply

    monkeypatch.setattr(XnatClient, "request", then_stopped)
    words = {"put": ("put", folder), "delete": ("delete", "a.txt", "z.bin", "--yes")}[action]
    code, out, err = run(*words, "--label", "NOTES", *SESSION)
    assert code == 143
    expected = "4 sent, 0 already there, 0 different, 0 failed: exit 143" if action == "put" else "deleted a.txt"
    assert out.strip() == expected
    assert ("failed z.bin: not deleted: the command was stopped before" in err) == (action == "delete")
    monkeypatch.setattr(XnatClient, "request", ask)
    assert run("list", "--label", "NOTES", *SESSION)[1].count("\n") == kept + 1


def test_deleted_is_said_of_what_was_deleted(
    run: Run, site: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resource was seen once. A later list without it, of another session perhaps, does not make it deleted."""
    site.project("DEMO").access["up"] = "delete"
    assert run("put", folder, "--label", "NOTES", *SESSION)[0] == 0
    monkeypatch.setattr(target, "resources_of", lambda *_: [])
    assert run("delete", "--label", "NOTES", "--yes", *SESSION)[:2] == (0, "deleted resource NOTES with its files\n")
    deleted = [request.path for request in site.requests if request.method == "DELETE"]
    assert any(path.endswith("/resources/NOTES") for path in deleted)
