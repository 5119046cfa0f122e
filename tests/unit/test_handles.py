"""Few handles: a run keeps none for what it has read, and one for its report."""

from __future__ import annotations

import errno
import os
import resource
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.dicom_trees import Series, make_session
from tests.unit.test_input_forms import PACK, image, put
from xnat_ingest import cli
from xnat_ingest.cli import outputs
from xnat_ingest.core.atomic_file import check_writable, replacing
from xnat_ingest.core.model import Instance
from xnat_ingest.core.stop import RunControl, Stop
from xnat_ingest.delivery.run import Run
from xnat_ingest.delivery.session_pool import thread_pools
from xnat_ingest.inputs import open_source, targz_archive
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.targz_archive import StreamSource
from xnat_ingest.settings.options import Settings


def open_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def no_handle_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(int(one.name) for one in Path("/proc/self/fd").iterdir()) + 3, hard)
    )
    taken: list[int] = []
    try:
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        for one in taken:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_report_can_be_written_when_no_handle_is_left(tmp_path: Path) -> None:
    """The path was tried before; since then something has taken all of them."""
    check_writable(str(tmp_path / "report.json"), "--report")
    with no_handle_left():
        with pytest.raises(OSError, match="Too many open files"):
            (tmp_path / "other").open("w")
        for text in ("first", "second"):
            with replacing(str(tmp_path / "report.json")) as stream:
                stream.write(text)
    assert (tmp_path / "report.json").read_text() == "second"


def test_a_whole_run_replaces_its_older_report_when_no_handle_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is looked at once more before it is replaced."""
    make_session(tmp_path / "t/S/E", (Series("T1_0001", 1),), "study")
    command = ["plan", str(tmp_path / "t"), "-P", "DEMO", "--report", str(tmp_path / "report.json")]
    assert cli.main(command) == 0
    first = (tmp_path / "report.json").stat().st_ino
    real = outputs.write_outputs

    def without_handles(*words: Any) -> int:
        with no_handle_left():
            return real(*words)

    monkeypatch.setattr("xnat_ingest.cli.upload.write_outputs", without_handles)
    assert cli.main(command) == 0
    assert (tmp_path / "report.json").stat().st_ino != first


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EMFILE, "x"), "too many files are open"),
        (OSError(errno.ENFILE, "x"), "too many files are open"),
        (OSError(errno.ENOMEM, "x"), "not enough memory"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("can't start new thread"), "no other thread can be started"),
        (ImportError("x.so: failed to map segment from shared object"), "not enough memory"),
        (SystemError("error return without exception set"), "not enough memory"),
    ],
)
def test_a_machine_that_gives_no_more_is_not_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    """Whatever wanted a handle or memory, an import of ours among them."""

    def fail(*_: object, **__: object) -> None:
        raise error

    put(tmp_path, {"007/pre/IM1": image(1)})
    run = Run("plan", str(tmp_path), Settings(project="DEMO"), lambda _: None, Stop())
    monkeypatch.setattr(run.planning, "make", fail)
    result = run.execute(None)
    assert result.exit_code == 1
    assert says in result.problems[0].detail


@pytest.mark.parametrize("most", [1, 2, 3, 5, 9, 16, 40])
def test_fewer_threads_than_wanted(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """All threads of the pools begin at once, so that none fails in mid-session. Fewer do, and one of each must."""
    start, alive = threading.Thread.start, {t for t in threading.enumerate() if t.is_alive()}

    def start_if_allowed(thread: threading.Thread) -> None:
        if len({t for t in threading.enumerate() if t.is_alive()} - alive) >= most:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_allowed)
    if most == 1:
        with pytest.raises(RuntimeError), thread_pools(RunControl(Stop(), lambda _: None), sessions=12, parts=4):
            pass
        return
    with thread_pools(RunControl(Stop(), lambda _: None), sessions=12, parts=4) as (_, parts):
        assert sorted(parts.map(abs, range(-50, 0))) == list(range(1, 51))


def test_a_command_without_memory_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Also outside of a run, as while a command is loaded. Another error of the interpreter is a bug."""
    for error, code in ((MemoryError(), 1), (SystemError("bad argument"), 70), (ImportError("no x"), 70)):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(cli, "_run", fail)
        assert cli.main(["plan", "x"]) == code
        assert ("not enough memory" in capsys.readouterr().err) == (code == 1)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("suffix", PACK)
def test_archives_are_open_only_while_they_are_read(tmp_path: Path, suffix: str) -> None:
    """Sixty archives, more than the handles that a run of 64 has to spare, listed and read to their ends."""
    for number in range(60):
        files = {f"IM{n}": image(10 * number + n) for n in range(3)}
        put(tmp_path, {f"{number:03}/pre{suffix}": PACK[suffix](files)})
    source = open_source(str(tmp_path), 2)
    before = open_handles()
    found = [one for one in scan(source, lambda _: None) if isinstance(one, Instance)]
    assert len(found) == 180
    assert open_handles() <= before + 4, "folders that may be needed again"
    for instance in found:
        with source.open(instance.path) as stream:
            assert len(stream.read()) == instance.size
    assert open_handles() <= before + 4


def test_streams_that_are_left_in_the_middle_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where rules leave their last members out: the oldest gives up handle and memory, and is begun anew."""
    monkeypatch.setattr(targz_archive, "_IDLE", targz_archive._Idle(4))
    files = {"IM0": image(0), "IM1": image(1)}
    sources = []
    before = open_handles()
    for number in range(10):
        (tmp_path / f"{number}.tgz").write_bytes(PACK[".tgz"](files))
        sources.append(source := StreamSource(tmp_path / f"{number}.tgz"))
        list(source.files())
        with source.open("IM0") as stream:
            assert stream.read() == files["IM0"]
    assert open_handles() == before + 4
    for source in sources:
        with source.open("IM1") as stream:
            assert stream.read() == files["IM1"]
    assert [source.passes for source in sources] == [3] * 6 + [2] * 4
    assert open_handles() == before


def test_the_bound_on_streams_left_in_the_middle() -> None:
    """Half of 64 handles, and 32 MB."""
    assert targz_archive.MOST_IDLE * targz_archive.BACKLOG == 32 << 20
    assert targz_archive.MOST_IDLE == 32


@pytest.mark.parametrize("name", ["report.json", "my report.json"])
def test_a_report_that_is_mounted_as_a_file_is_refused_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    """As with `docker run -v ./report.json:/output/report.json`. It cannot be replaced, so it would be lost."""
    put(tmp_path / "t", {"007/pre/IM1": image(1)})
    report = tmp_path / name
    report.touch()
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    quoted = shlex.quote(str(report))
    mount = f"mount --bind {quoted} {quoted}"
    if not shutil.which("unshare") or subprocess.run([*alone, mount], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a file")
    check = (
        f"import sys; from xnat_ingest.core.atomic_file import check_writable; check_writable({str(report)!r}, 'it')"
    )
    code = f"{mount} && {sys.executable} -c {shlex.quote(check)}"
    ended = subprocess.run([*alone, code], capture_output=True, text=True, check=False)
    assert "is mounted as a file of its own" in ended.stderr
    check_writable(str(report), "it")
