"""Our archives, read by what XNAT reads them with: Java's own zip reader, and the tar reader of commons-compress.

Both get the body through a pipe, so that nothing in it can be looked up, as on a server's socket.
"""

from __future__ import annotations

import random
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from tests.debian import JAVA_TAR_READER, install, program
from tests.dicom_trees import Memory
from tests.unit.test_bodies import any_bytes_will_do, instance
from xnat_ingest.core.model import Instance
from xnat_ingest.inputs import open_source
from xnat_ingest.transports.bodies import ZIP_LIMIT, Part, TarBody, ZipBody

pytestmark = pytest.mark.real

READING = 60.0
BODIES = (ZipBody, TarBody)

Entries = list[tuple[str, int, int]]
Read = Callable[[str, Iterable[bytes]], Entries]


class RefusedError(Exception):
    """The reader gave the archive up; what it said."""


__all__ = ["any_bytes_will_do"]  # the files here are no DICOM


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Gives an archive to a reader ("zip", "tar"): name, size and CRC of each entry."""
    javac = program("javac")
    install([JAVA_TAR_READER])
    folder = tmp_path_factory.mktemp("java")
    source = Path(__file__).parent / "java" / "ReadArchive.java"
    subprocess.run([javac, "-cp", JAVA_TAR_READER, "-d", folder, source], check=True, timeout=READING)
    command = ["java", "-cp", f"{folder}:{JAVA_TAR_READER}", "ReadArchive"]

    def reading(kind: str, blocks: Iterable[bytes]) -> Entries:
        with (folder / "out").open("w+b") as out, (folder / "err").open("w+b") as err:
            with subprocess.Popen([*command, kind], stdin=subprocess.PIPE, stdout=out, stderr=err) as java:
                assert java.stdin
                _feed(java.stdin, blocks)
                code = java.wait(READING)
            for said in (out, err):
                said.seek(0)
            if code:
                raise RefusedError(err.read().decode())
            return [_entry(line) for line in out.read().decode().splitlines()]

    return reading


def _feed(stdin: IO[bytes], blocks: Iterable[bytes]) -> None:
    try:
        with stdin:
            for block in blocks:
                stdin.write(block)
    except BrokenPipeError:
        pass  # it has said why


def _entry(line: str) -> tuple[str, int, int]:
    size, crc, name = line.split(" ", 2)
    return name, int(size), int(crc)


def check(read: Read, pack: type[ZipBody | TarBody], members: list[Instance], contents: list[bytes]) -> None:
    """What comes out is what went in, under the names that XNAT will store it by, in the order sent."""
    body = pack(Memory({m.path: data for m, data in zip(members, contents, strict=True)}), Part(tuple(members)))
    found = read("zip" if pack is ZipBody else "tar", body.open(lambda number: None))
    expected = [(m.name, len(data), zlib.crc32(data)) for m, data in zip(members, contents, strict=True)]
    assert found == expected


@pytest.mark.parametrize("pack", BODIES)
def test_sizes_of_all_kinds(read: Read, pack: type[ZipBody | TarBody]) -> None:
    """One byte, a block and its neighbours, more than one block; pixels that do not shrink, and such that vanish."""
    draw = random.Random(1)
    sizes = (1, 2, 511, 512, 513, 65_535, 65_536, 262_144, 262_145, 3_000_000)
    contents = [make(size) for size in sizes for make in (draw.randbytes, bytes)]
    check(read, pack, [instance(n, len(data)) for n, data in enumerate(contents)], contents)


@pytest.mark.parametrize("pack", BODIES)
def test_many_members(read: Read, pack: type[ZipBody | TarBody]) -> None:
    contents = [random.Random(n).randbytes(n % 700 + 1) for n in range(5000)]
    check(read, pack, [instance(n, len(data)) for n, data in enumerate(contents)], contents)


@pytest.mark.parametrize("pack", BODIES)
def test_names_beyond_ascii_and_beyond_a_tar_header(read: Read, pack: type[ZipBody | TarBody]) -> None:
    """Whatever the locale of the server."""
    members = [
        replace(instance(1, 3), series_number="é"),
        replace(instance(2, 3), series_number="序列"),
        replace(instance(3, 3), study_uid="1." + "2" * 62, instance_number="9" * 60),
        replace(instance(4, 3), study_uid="1." + "2" * 62, instance_number="ß" * 60),
    ]
    check(read, pack, members, [b"abc", b"def", b"ghi", b"jkl"])


@pytest.mark.parametrize("pack", BODIES)
def test_nothing(read: Read, pack: type[ZipBody | TarBody]) -> None:
    """No entry, and no error."""
    check(read, pack, [], [])


def test_the_largest_member_that_is_zipped(read: Read, tmp_path: Path) -> None:
    """Just below where sizes would be told in 64 bits, between two small ones."""
    members = []
    for number, size in enumerate((5, ZIP_LIMIT, 7)):
        with (tmp_path / f"f{number}").open("wb") as file:
            file.truncate(size)  # takes no room on the disk
        members.append(instance(number, size, mtime_ns=(tmp_path / f"f{number}").stat().st_mtime_ns))
    crc = 0
    for _ in range(ZIP_LIMIT // 1024**2):
        crc = zlib.crc32(bytes(1024**2), crc)
    assert ZIP_LIMIT % 1024**2 == 0
    body = ZipBody(open_source(str(tmp_path)), Part(tuple(members)))
    assert read("zip", body.open(lambda number: None)) == [
        (members[0].name, 5, zlib.crc32(bytes(5))),
        (members[1].name, ZIP_LIMIT, crc),
        (members[2].name, 7, zlib.crc32(bytes(7))),
    ]


def test_a_large_member_of_a_tar(read: Read, tmp_path: Path) -> None:
    """What no zip holds goes this way."""
    size = 2 * 1024**3 + 1
    with (tmp_path / "f1").open("wb") as file:
        file.truncate(size)
    member = instance(1, size, mtime_ns=(tmp_path / "f1").stat().st_mtime_ns)
    body = TarBody(open_source(str(tmp_path)), Part((member,)))
    assert [(name, found) for name, found, _ in read("tar", body.open(lambda number: None))] == [(member.name, size)]


def test_a_zip_that_is_cut(read: Read) -> None:
    """Inside a member it is an error; between two it is a smaller archive, which only the transfer can tell."""
    members = [instance(n, 100_000) for n in range(3)]
    source = Memory({member.path: random.Random(member.path).randbytes(100_000) for member in members})
    data = b"".join(ZipBody(source, Part(tuple(members))).open(lambda number: None))
    with pytest.raises(RefusedError, match="EOFException"):
        read("zip", [data[:150_000]])
    second = data.index(b"PK\3\4", 1)
    assert [name for name, _, _ in read("zip", [data[:second]])] == [members[0].name]


def test_the_reader_is_as_strict_as_xnats(read: Read, tmp_path: Path) -> None:
    """Stored members with their sizes behind them are refused: that is why ours are deflated."""
    with (tmp_path / "pipe").open("wb") as file:
        file.seekable = lambda: False  # type: ignore[method-assign]
        file.tell = _unknown  # type: ignore[method-assign]
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("f", b"abc")
    with pytest.raises(RefusedError, match="only DEFLATED entries can have EXT descriptor"):
        read("zip", [(tmp_path / "pipe").read_bytes()])


def _unknown() -> int:
    raise OSError("a pipe")
