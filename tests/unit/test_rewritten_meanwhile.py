"""A file that is rewritten in place while it is sent, with its time put back, is no success; a touched one is."""

from __future__ import annotations

import os
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dicom_trees import IDENTITY, PIXELS, part10
from xnat_ingest.core.errors import SourceChanged
from xnat_ingest.core.model import Instance
from xnat_ingest.deidentify.objects import Deidentifier
from xnat_ingest.deidentify.profile import load_profile
from xnat_ingest.deidentify.pseudonyms import Key
from xnat_ingest.inputs import Source, open_source
from xnat_ingest.inputs.dicom_dataset import BLOCK
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.rewritten_meanwhile import SAMPLE, STRIDE, _Samples
from xnat_ingest.transports.bodies import FileBody, Part, TarBody, ZipBody

KINDS = [TarBody, ZipBody, FileBody]
SIZE = 4 * BLOCK
# Seconds in which the clock of a file system may stand still.
TICK = 0.02


def image(pixels: bytes) -> bytes:
    side = struct.pack("<H", 1024)
    shape = {0x00280010: ("US", side), 0x00280011: ("US", side), 0x00280100: ("US", b"\x08\0")}
    return part10({**IDENTITY, **shape, PIXELS: ("OW", pixels)})


def tree(folder: Path, data: bytes) -> tuple[Source, Instance, Path]:
    path = folder / "t/a/x/1"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    time.sleep(TICK)
    source = open_source(str(folder / "t"), 2)
    (found,) = scan(source, lambda _: None)
    assert isinstance(found, Instance)
    return source, found, path


def put_back(path: Path, change: Callable[[Path], object]) -> None:
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def overwrite(data: bytes) -> Callable[[Path], object]:
    """In place: the file is the same one."""

    def change(path: Path) -> None:
        with path.open("r+b") as stream:
            stream.write(data)

    return change


def sent(body: Iterator[bytes], meanwhile: Callable[[], object]) -> bytes:
    """The body, with something done after its first block."""
    data = [next(body)]
    meanwhile()
    return b"".join((*data, *body))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", [b"\xff" * SIZE, bytes(SIZE - 2) + b"\1\1"], ids=["all", "its end"])
def test_a_mix_of_two_files_is_no_success(
    kind: type[TarBody | ZipBody | FileBody], last: bytes, tmp_path: Path
) -> None:
    source, found, path = tree(tmp_path, image(os.urandom(SIZE - 2) + b"\0\0"))
    body = kind(source, Part((found,))).open(lambda _: None)
    with pytest.raises(SourceChanged, match="rewritten while it was sent, and its time put back") as caught:
        sent(body, lambda: put_back(path, overwrite(image(last))))
    assert caught.value.dirty


def test_the_server_never_gets_the_end_of_a_mix(tmp_path: Path) -> None:
    """Sent alone, an object that came to its end would be kept, and counted by the next run."""
    source, found, path = tree(tmp_path, image(os.urandom(SIZE)))
    gone: list[bytes] = []
    body = FileBody(source, Part((found,))).open(lambda _: None)
    gone.append(next(body))
    put_back(path, overwrite(image(b"\xff" * SIZE)))
    with pytest.raises(SourceChanged):
        gone.extend(body)
    assert sum(map(len, gone)) < found.length


HARMLESS: dict[str, Callable[[Path], object]] = {
    "right": lambda path: path.chmod(0o600),
    "link": lambda path: os.link(path, path.with_name("2")),
    "backup": lambda path: os.utime(path, ns=(5, path.stat().st_mtime_ns)),
    "same bytes": lambda path: overwrite(path.read_bytes())(path),
}


@pytest.mark.parametrize("how", HARMLESS)
def test_what_leaves_the_bytes_alone_is_no_alarm(how: str, tmp_path: Path) -> None:
    source, found, path = tree(tmp_path, image(os.urandom(SIZE)))
    body = FileBody(source, Part((found,))).open(lambda _: None)
    since = path.stat().st_ctime_ns
    assert sent(body, lambda: put_back(path, HARMLESS[how])) == path.read_bytes()
    assert path.stat().st_ctime_ns != since


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_that_is_rewritten_meanwhile(kind: str, tmp_path: Path) -> None:
    """An archive with the same directory and other bytes."""

    def packed(pixels: bytes, name: str) -> Path:
        (tmp_path / "one").write_bytes(image(pixels))
        made = tmp_path / name
        if kind == "zip":
            with zipfile.ZipFile(made, "w") as archive:
                archive.write(tmp_path / "one", "a/x/1")
        else:
            with tarfile.open(made, "w:gz" if kind == "tar.gz" else "w") as archive:
                archive.add(tmp_path / "one", "a/x/1")
        return made

    path, other = packed(bytes(SIZE), f"root.{kind}"), packed(b"\1" * SIZE, f"other.{kind}")
    time.sleep(TICK)
    source = open_source(str(path), 2)
    (found,) = scan(source, lambda _: None)
    assert isinstance(found, Instance)
    body = FileBody(source, Part((found,))).open(lambda _: None)
    with pytest.raises(SourceChanged):
        sent(body, lambda: put_back(path, overwrite(other.read_bytes())))


def test_what_is_deidentified_is_compared_as_it_is_sent(tmp_path: Path) -> None:
    source, found, path = tree(tmp_path, image(os.urandom(SIZE)))
    deidentifier = Deidentifier(load_profile("basic"), Key(b"a key of tests, of no other use at all"))
    left = deidentifier.examine(source, found)
    assert isinstance(left, Instance)
    deidentifier._labels[found.path] = "", ""
    part = Part((left,))
    sent(FileBody(source, part, deidentifier.rewrite).open(lambda _: None), lambda: put_back(path, HARMLESS["right"]))
    body = FileBody(source, part, deidentifier.rewrite).open(lambda _: None)
    with pytest.raises(SourceChanged, match="rewritten"):
        sent(body, lambda: put_back(path, overwrite(image(b"\1" * SIZE))))


def test_a_file_that_is_gone_by_then(tmp_path: Path) -> None:
    source, found, path = tree(tmp_path, image(os.urandom(SIZE)))
    body = FileBody(source, Part((found,))).open(lambda _: None)
    with pytest.raises(SourceChanged, match="cannot be read"):
        sent(body, path.unlink)


def test_a_file_of_one_block_is_not_watched(tmp_path: Path) -> None:
    """It is read at once. One byte more is two reads."""
    for number, size in enumerate((BLOCK, BLOCK + 2)):
        empty = len(image(b""))
        source, found, path = tree(tmp_path / str(number), image(os.urandom(size - empty)))
        assert found.size == size
        body = FileBody(source, Part((found,)))
        reads: list[str] = []
        opened = source.open
        source.open = lambda name, opened=opened, reads=reads: (reads.append(name), opened(name))[1]  # type: ignore[method-assign,misc]
        sent(body.open(lambda _: None), lambda path=path: put_back(path, HARMLESS["right"]))  # type: ignore[misc]
        assert len(reads) == 1 + number


def sampled(data: bytes, step: int) -> int:
    samples = _Samples()
    for begin in range(0, len(data), step):
        samples.add(data[begin : begin + step])
    return samples.sum


@pytest.mark.parametrize("step", [1000, SAMPLE, SAMPLE + 1, STRIDE - 1, STRIDE, 3 * STRIDE + 7, 10**6])
def test_samples_do_not_depend_on_blocks(step: int) -> None:
    data = os.urandom(5 * STRIDE + 100)
    assert sampled(data, step) == sampled(data, len(data))


@pytest.mark.parametrize(
    ("place", "seen"),
    [(0, True), (SAMPLE - 1, True), (SAMPLE, False), (STRIDE - 1, False), (STRIDE, True), (5 * STRIDE + 99, True)],
)
def test_which_bytes_are_sampled(place: int, seen: bool) -> None:
    data = bytearray(5 * STRIDE + 100)
    before = sampled(bytes(data), 1000)
    data[place] = 1
    assert (sampled(bytes(data), 1000) != before) == seen
