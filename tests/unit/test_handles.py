"""Few handles: a run keeps none for what it has read, and one for its report."""

from __future__ import annotations

import errno
import os
import resource
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
from xnat_ingest.core.stop import Stop
from xnat_ingest.delivery.run import Run
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
