"""Folders as a source of files: what is listed, in which order, and what is set aside unread."""

from __future__ import annotations

import io
import os
import random
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from tests.contract.test_archives import Pack, to_tar, to_tgz, to_zip
from tests.dicom_trees import no_privileges, open_folder
from tests.unit.test_handles import open_handles
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.model import SetAside, SourceFile
from xnat_ingest.inputs import FolderSource, one_top_folder, open_source
from xnat_ingest.inputs.zip_archive import ZipSource

PACKERS: dict[str, Pack] = {"zip": to_zip, "tar": to_tar, "tar.gz": to_tgz}


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def listed(root: Path) -> dict[str, str]:
    """path -> "" for a file, else the reason it was set aside for; a path given twice is an error."""
    seen: dict[str, str] = {}
    for item in open_source(str(root)).files():
        assert item.path not in seen
        seen[item.path] = item.reason if isinstance(item, SetAside) else ""
    return seen


def detail(root: Path, path: str) -> str:
    return next(
        item.detail for item in open_source(str(root)).files() if item.path == path and isinstance(item, SetAside)
    )


def test_files_come_in_sorted_order_whatever_the_disk_says(tmp_path: Path) -> None:
    """By the bytes of each path part: the order decides which of two duplicates is sent."""
    names = [f"{a}/{b}" for a in ("b", "a", "B", "a.1", "é", "10", "9") for b in ("2", "10", "Z", "a")] + ["z", "0"]
    random.Random(1).shuffle(names)
    for name in names:
        put(tmp_path / name)
    expected = sorted(names, key=lambda name: [os.fsencode(part) for part in name.split("/")])
    assert list(listed(tmp_path)) == expected


def test_a_file_is_told_with_size_and_time_and_opens_again(tmp_path: Path) -> None:
    """The same bytes each time; stat() tells the same two numbers as the listing."""
    put(tmp_path / "deep/er/file", "12345")
    os.utime(tmp_path / "deep/er/file", ns=(1, 1_500_000_000_123_456_789))
    source = open_source(str(tmp_path))
    (found,) = source.files()
    assert found == SourceFile("deep/er/file", 5, 1_500_000_000_123_456_789)
    assert source.stat(found.path) == (found.size, found.mtime_ns)
    for _ in range(2):
        with source.open(found.path) as stream:
            assert stream.read() == b"12345"


def test_hidden_and_empty_files_are_seen_and_empty_folders_are_not(tmp_path: Path) -> None:
    """Every file counts; a folder is no file."""
    put(tmp_path / ".DS_Store")
    put(tmp_path / ".hidden/._x", "")
    (tmp_path / "empty").mkdir()
    assert listed(tmp_path) == {".DS_Store": "", ".hidden": "system-folder"}


def test_links_inside_root_are_followed(tmp_path: Path) -> None:
    """To a file, to a folder, and through another link."""
    put(tmp_path / "real/file")
    (tmp_path / "file").symlink_to("real/file")
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "twice").symlink_to("folder/file")
    assert listed(tmp_path) == dict.fromkeys(("file", "folder/file", "real/file", "twice"), "")


def test_links_that_leave_root_are_set_aside(tmp_path: Path) -> None:
    """File, folder, by way of a link inside, to a neighbour whose name starts like ROOT's, and to ROOT's parent."""
    put(tmp_path / "root-2/secret")
    root = tmp_path / "root"
    put(root / "a")
    for name, target in {
        "file": tmp_path / "root-2/secret",
        "folder": tmp_path / "root-2",
        "hop": Path("folder"),
        "dots": Path("../root-2/secret"),
        "parent": Path(".."),
        "gone": tmp_path / "nothing",
    }.items():
        (root / name).symlink_to(target)
    seen = listed(root)
    assert seen.pop("a") == ""
    assert seen == dict.fromkeys(("file", "folder", "hop", "dots", "parent", "gone"), "link")


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    """A link to a folder above it, to ROOT, or to itself is set aside; files beside it are seen."""
    put(tmp_path / "a/b/file")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "a/root").symlink_to("..")
    (tmp_path / "self").symlink_to("self")
    assert listed(tmp_path) == {"a/b/file": "", "a/b/up": "link", "a/root": "link", "self": "unreadable"}


def test_two_folders_linking_to_each_other_end(tmp_path: Path) -> None:
    """No circle is walked for ever, though none of the links points straight up."""
    put(tmp_path / "a/file")
    put(tmp_path / "b/file")
    (tmp_path / "a/to-b").symlink_to("../b")
    (tmp_path / "b/to-a").symlink_to("../a")
    seen = listed(tmp_path)
    assert {path for path, reason in seen.items() if not reason} >= {"a/file", "b/file"}
    assert set(seen.values()) <= {"", "link"}
    assert len(seen) < 20


def test_a_dangling_link_is_unreadable(tmp_path: Path) -> None:
    """What it should have held is missing: a problem, not a note."""
    (tmp_path / "gone").symlink_to("nothing")
    assert listed(tmp_path) == {"gone": "unreadable"}
    assert "link" in detail(tmp_path, "gone")


def test_pipes_and_sockets_are_not_opened(tmp_path: Path) -> None:
    """Reading a pipe would never end; a link to one neither."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-pipe").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(tmp_path)  # the name of a socket may have 107 bytes
        try:
            made.bind("socket")
        finally:
            os.chdir(here)
        assert listed(tmp_path) == dict.fromkeys(("pipe", "socket", "to-pipe"), "not-dicom")


@pytest.mark.parametrize(
    "name", [b"caf\xe9", b"\xff\xfe", "é".encode(), b"a\nb", b"tab\t", b"-rf", b'"', b"%s", b"a\\b", b" ", b"\x1b[31m"]
)
def test_every_name_a_disk_can_hold_is_listed_and_opened(name: bytes, tmp_path: Path) -> None:
    """As folder and as file."""
    text = os.fsdecode(name)
    put(tmp_path / text / text, "bytes")
    source = open_source(str(tmp_path))
    (found,) = source.files()
    assert isinstance(found, SourceFile)
    assert os.fsencode(found.path) == name + b"/" + name
    with source.open(found.path) as stream:
        assert stream.read() == b"bytes"


@pytest.mark.wide
def test_very_deep_folders_are_walked(tmp_path: Path) -> None:
    """As deep as a path may be long; the interpreter's own recursion limit is no limit for trees."""
    deep = "d/" * 700
    put(tmp_path / deep / "file")
    put(tmp_path / "stays")
    try:
        assert listed(tmp_path) == {f"{deep}file": "", "stays": ""}
    finally:
        (tmp_path / deep / "file").unlink()
        os.removedirs(tmp_path / deep)  # up to the first folder that is not empty; rmtree would recurse


@pytest.fixture
def guarded() -> Iterator[Path]:
    with open_folder() as root:
        put(root / "shut/file").parent.chmod(0)
        put(root / "no-look/file").parent.chmod(0o311)
        put(root / "no-stat/file").parent.chmod(0o644)
        put(root / "open/closed").chmod(0)
        put(root / "open/file")
        yield root


def test_what_permissions_hide_is_a_problem_and_the_rest_goes_on(guarded: Path) -> None:
    """A folder that cannot be listed or entered is unreadable; a file that cannot be read is still a file here."""
    with no_privileges():
        seen = listed(guarded)
        assert "ermission" in detail(guarded, "shut")
    unreadable = dict.fromkeys(("no-look", "no-stat/file", "shut"), "unreadable")
    assert seen == unreadable | {"open/closed": "", "open/file": ""}


def test_a_root_that_cannot_be_listed_is_not_an_empty_tree(guarded: Path) -> None:
    """It is refused at once, or set aside as a problem; never silence."""
    with no_privileges():
        try:
            seen = listed(guarded / "shut")
        except UsageError:
            return
    assert list(seen.values()) == ["unreadable"]


@pytest.mark.parametrize("form", ["folder", "zip", "tar", "tar.gz"])
def test_a_pipe_in_the_place_of_a_file_that_was_listed(form: str, tmp_path: Path) -> None:
    """To open it would wait for ever for somebody who writes to it."""
    put(tmp_path / "tree/a/b/1", "x" * 200)
    if form != "folder":
        PACKERS[form](tmp_path / "tree", tmp_path / f"tree.{form}")
    root = tmp_path / ("tree" if form == "folder" else f"tree.{form}")
    source = open_source(str(root))
    (listed_file,) = (item for item in source.files() if isinstance(item, SourceFile))
    replaced = root / listed_file.path if form == "folder" else root
    replaced.unlink()
    os.mkfifo(replaced)
    ends: list[object] = []

    def read() -> None:
        try:
            with source.open(listed_file.path) as stream:
                ends.append(stream.read(1))
        except OSError as error:
            ends.append(error.strerror)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(10)
    assert ends == ["it is not a regular file"]


@pytest.mark.parametrize("kind", ["missing", "file", "dangling", "empty", "blank", "pipe"])
def test_a_root_that_is_no_folder_is_a_usage_error(kind: str, tmp_path: Path) -> None:
    """The sentence names ROOT."""
    put(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nothing")
    root = {"empty": "", "blank": "  "}.get(kind, str(tmp_path / kind))
    with pytest.raises(UsageError, match="ROOT"):
        open_source(root)


def test_root_may_be_a_link_and_may_end_in_a_slash(tmp_path: Path) -> None:
    """Links count as outside only when they leave the folder that ROOT stands for."""
    put(tmp_path / "data/file")
    (tmp_path / "data/link").symlink_to(tmp_path / "root/file")
    (tmp_path / "root").symlink_to("data")
    assert list(listed(tmp_path / "root")) == ["file", "link"]
    assert [item.path for item in open_source(f"{tmp_path}/root/").files()] == ["file", "link"]
    assert set(listed(tmp_path / "root").values()) == {""}


def test_the_folder_that_all_lie_in() -> None:
    """A file beside it, or no file at all, and there is none."""
    assert one_top_folder(["study/007/a", "study/b"]) == "study"
    assert one_top_folder(["study/007/a", "study"]) == one_top_folder(["a/b", "c/d"]) == one_top_folder([]) == ""


def _replaced(real: Path, elsewhere: Path) -> None:
    """Puts a link in the place of a file or a folder."""
    real.rename(real.with_name("moved"))
    real.symlink_to(elsewhere)


@pytest.mark.parametrize("place", ["007/pre/T1/IM1", "007/pre/T1", "007/pre", "007"])
def test_what_was_replaced_by_a_link_since_the_scan_is_not_read(tmp_path: Path, place: str) -> None:
    """Outside is a tree of the same names: a link in any part of the path would lead there."""
    put(tmp_path / "root/007/pre/T1/IM1", "planned")
    put(tmp_path / "outside/007/pre/T1/IM1", "strange")
    source = open_source(str(tmp_path / "root"))
    assert [found.path for found in source.files()] == ["007/pre/T1/IM1"]
    _replaced(tmp_path / "root" / place, tmp_path / "outside" / place)
    cold = open_source(str(tmp_path / "root"))  # no folder of it is open
    with pytest.raises(OSError, match="is not the one that was scanned"):
        cold.open("007/pre/T1/IM1")


def test_a_folder_that_was_moved_away_is_still_the_one_that_was_scanned(tmp_path: Path) -> None:
    put(tmp_path / "root/007/IM1", "planned")
    put(tmp_path / "outside/007/IM1", "strange")
    source = open_source(str(tmp_path / "root"))
    source.open("007/IM1").close()
    _replaced(tmp_path / "root/007", tmp_path / "outside/007")
    with source.open("007/IM1") as stream:
        assert stream.read() == b"planned"


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_an_archive_in_a_folder_that_was_replaced_by_a_link_is_not_read(tmp_path: Path, pack: Pack) -> None:
    for side, text in (("root", "planned"), ("outside", "strange")):
        put(tmp_path / side / "packed/T1/IM1", text)
        (tmp_path / side / "007").mkdir()
        pack(tmp_path / side / "packed", tmp_path / side / "007/pre.tar.gz")
    for number in range(5):
        put(tmp_path / f"root/{number}/x")
    source = FolderSource(tmp_path / "root", leaf=2)
    member = next(path for path in [found.path for found in source.files()] if path.startswith("007"))
    with source.open(member) as stream:
        assert stream.read() == b"planned"
    for number in range(5):  # so that the archive's folder does not stay open
        source.open(f"{number}/x").close()
    _replaced(tmp_path / "root/007", tmp_path / "outside/007")
    with pytest.raises(OSError, match="not the one that was scanned"):
        source.open(member).read()


def test_a_link_leads_to_where_it_led_when_it_was_scanned(tmp_path: Path) -> None:
    """Files, folders and links behind links are read through the links of the scan, and through no later ones."""
    put(tmp_path / "root/store/T1/IM1", "planned")
    put(tmp_path / "outside/T1/IM1", "strange")
    (tmp_path / "root/a").symlink_to("store")
    put(tmp_path / "root/b/other")
    (tmp_path / "root/b/one").symlink_to("../store/T1/IM1")
    (tmp_path / "root/store/T1/again").symlink_to("IM1")
    source = open_source(str(tmp_path / "root"))
    paths = [found.path for found in source.files() if isinstance(found, SourceFile)]
    assert {"a/T1/IM1", "a/T1/again", "b/one"} <= set(paths)

    def read(path: str) -> bytes:
        with source.open(path) as stream:
            return stream.read()

    (tmp_path / "root/a").unlink()
    (tmp_path / "root/a").symlink_to(tmp_path / "outside")
    assert [read(path) for path in ("a/T1/IM1", "a/T1/again", "b/one")] == [b"planned"] * 3
    _replaced(tmp_path / "root/store", tmp_path / "outside")
    later = open_source(str(tmp_path / "root"))
    for path in ("a/T1/IM1", "b/one", "store/T1/IM1"):
        assert read(path) == b"planned", "its folder is still open"
        with pytest.raises(OSError, match="not the one that was scanned"):
            later.open(path)


def test_a_folder_that_was_made_again_is_read(tmp_path: Path) -> None:
    put(tmp_path / "007/IM1", "first")
    source = open_source(str(tmp_path))
    source.open("007/IM1").close()
    (tmp_path / "007/IM1").unlink()
    (tmp_path / "007").rmdir()
    put(tmp_path / "007/IM1", "second")
    with source.open("007/IM1") as stream:
        assert stream.read() == b"second"


def test_folders_that_were_read_do_not_stay_open(tmp_path: Path) -> None:
    paths = [f"{number}/deep/IM1" for number in range(12)]
    for path in paths:
        put(tmp_path / path)
    source = open_source(str(tmp_path))
    before = open_handles()
    for path in paths:
        source.open(path).close()
    assert open_handles() <= before + 4


def test_a_zip_on_a_drive_that_gives_a_few_bytes_at_a_time(tmp_path: Path) -> None:
    """A buffered file reads on. One without a buffer gives what a network drive gives."""

    class InPieces(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(7, size) if size and size > 0 else size)

    data = bytes(range(200))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr("f", data)

    def opened(buffering: int) -> BinaryIO:
        raw = InPieces(tmp_path / "a.zip")
        return cast(BinaryIO, io.BufferedReader(raw) if buffering else raw)

    source = ZipSource(tmp_path / "a.zip", opened=opened)
    assert [found.path for found in source.files()] == ["f"]
    with source.open("f") as stream:
        assert stream.read() == data
