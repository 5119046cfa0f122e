"""Archives as ROOT and as session folders: the same plan as of the folder, nothing unpacked, nothing hostile taken."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import stat
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pydicom
import pytest

from tests.conftest import Ingest, stored
from tests.dicom_trees import Series, make_session
from tests.standin import StandIn
from tests.standin.fault import Fault
from tests.transport_flags import transport_flags
from xnat_ingest.core.model import Instance, SetAside, SourceFile
from xnat_ingest.inputs import archive_members, open_source
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.targz_archive import StreamSource

Pack = Callable[[Path, Path], None]


def to_zip(folder: Path, archive: Path, packing: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(archive, "w", packing) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder))


def to_tar(folder: Path, archive: Path, mode: Literal["w", "w:gz"] = "w") -> None:
    with tarfile.open(archive, mode) as packed:
        for path in sorted(folder.iterdir()):
            packed.add(path, path.name)


def to_tgz(folder: Path, archive: Path) -> None:
    to_tar(folder, archive, "w:gz")


PACKERS: dict[str, Pack] = {
    "study.zip": to_zip,
    "stored.zip": lambda folder, archive: to_zip(folder, archive, zipfile.ZIP_STORED),
    "study.tar": to_tar,
    "study.tar.gz": to_tgz,
    "study.tgz": to_tgz,
    "no suffix": to_zip,
    "wrong.tar": to_tgz,
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in ("007/pre", "008/pre"):
        make_session(
            root / name, [Series("T1_1"), Series("Localizers_2", 2), Series("RLE_3", 2, "MR_small_RLE.dcm")], name
        )
        (root / name / "notes.txt").write_text("no DICOM")
    return root


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", PACKERS)
def test_an_archive_as_root_gives_what_the_folder_gives(tree: Path, tmp_path: Path, ingest: Ingest, name: str) -> None:
    archive = tmp_path / name
    PACKERS[name](tree, archive)
    of_folder, of_archive = ingest("plan", tree), ingest("plan", archive)
    assert of_archive.code == of_folder.code == 0
    assert of_archive.report["sessions"] == of_folder.report["sessions"]
    assert sorted(a["path"] for a in of_archive.report["set_aside"]) == ["007/pre/notes.txt", "008/pre/notes.txt"]


@pytest.mark.wide
@pytest.mark.parametrize("name", PACKERS)
def test_an_archive_as_root_is_uploaded(tree: Path, tmp_path: Path, site: StandIn, ingest: Ingest, name: str) -> None:
    archive = tmp_path / name
    PACKERS[name](tree, archive)
    before = sorted(tmp_path.iterdir())
    ended = ingest("upload", archive, "--exclude", "Localizers")
    assert ended.code == 0, ended.out
    assert ended.totals["verified"] == 10
    sent = sorted(path.read_bytes()[132:] for path in stored(site, "DEMO", "007", "007_pre").files.values())
    own = sorted(p.read_bytes()[132:] for p in tree.glob("007/pre/*/*") if "Localizers" not in str(p))
    assert [len(one) for one in sent] == [len(one) for one in own]
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "report.json"])
    again = ingest("upload", archive, "--exclude", "Localizers")
    assert (again.code, again.totals["bytes_sent"]) == (0, 0)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".ZIP", ""])
def test_an_archive_as_a_session_folder(tree: Path, site: StandIn, ingest: Ingest, suffix: str) -> None:
    pack = to_zip if suffix.lower() in (".zip", "") else to_tar if suffix == ".tar" else to_tgz
    (folder := tree / "007" / "pre").rename(moved := tree.parent / "moved")
    pack(moved, Path(f"{folder}{suffix}"))
    ended = ingest("upload", tree)
    assert ended.code == 0, ended.out
    assert [s["label"] for s in ended.report["sessions"]] == ["007_pre", "008_pre"]
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 7
    assert f"007/pre{suffix}/notes.txt" in [aside["path"] for aside in ended.report["set_aside"]]


def test_a_folder_and_an_archive_of_one_name_collide(tree: Path, ingest: Ingest) -> None:
    to_zip(tree / "008" / "pre", tree / "007" / "pre.zip")
    ended = ingest("plan", tree)
    assert ended.code == 3
    assert "label-collision" in ended.kinds()


def test_an_archive_packed_with_its_folder_is_told(tree: Path, ingest: Ingest) -> None:
    to_tgz(tree.parent, tree.parent.parent / "study.tgz")
    told = ingest(
        "plan", tree.parent.parent / "study.tgz", "--session-label", "{subject}_{session}_{StudyDate}"
    ).kinds()
    assert "one-top-folder" in told
    to_tgz(tree, tree.parent.parent / "study2.tgz")
    assert "one-top-folder" not in ingest("plan", tree.parent.parent / "study2.tgz").kinds()


def test_an_archive_elsewhere_is_set_aside(tree: Path, ingest: Ingest) -> None:
    """Above a session's place: a problem when it holds DICOM. Without any, it is a note everywhere."""
    (tree / "papers").mkdir()
    (tree / "papers" / "a.txt").write_text("no DICOM")
    to_zip(tree / "papers", tree / "007" / "pre" / "more.zip")
    (tree / "007" / "pre" / "one.dcm.gz").write_bytes(gzip.compress(b"x"))
    to_tar(tree / "papers", tree / "papers.tar")
    to_tar(tree / "008", tree / "top.tar")
    asides = {aside["path"]: aside["reason"] for aside in ingest("plan", tree).report["set_aside"]}
    notes = ("007/pre/more.zip", "007/pre/one.dcm.gz", "papers.tar")
    assert {asides[path] for path in notes} == {"nested-archive"}
    assert asides["top.tar"] == "unreadable"


@pytest.mark.parametrize("name", ["study.zip", "study.tar", "study.tgz"])
def test_an_archive_in_an_archive_is_set_aside(tree: Path, tmp_path: Path, ingest: Ingest, name: str) -> None:
    to_zip(tree / "008", tree / "007" / "pre" / "more.zip")
    PACKERS.get(name, to_tgz)(tree, tmp_path / name)
    ended = ingest("plan", tmp_path / name)
    (aside,) = (one for one in ended.report["set_aside"] if one["path"] == "007/pre/more.zip")
    assert aside["reason"] == "unreadable"
    assert "with DICOM in it" in aside["detail"]
    assert ended.code == 3


def test_with_headers_any_archive_is_a_folder(tree: Path, ingest: Ingest) -> None:
    to_zip(tree / "007", tree.parent / "a.zip")
    (tree.parent / "drop").mkdir()
    (tree.parent / "a.zip").rename(tree.parent / "drop" / "a.zip")
    ended = ingest("plan", tree.parent / "drop", "--layout", "headers")
    assert ended.totals["planned"] == 7


def one_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: Literal["w", "w:gz"] = "w") -> Path:
    with tarfile.open(path, mode) as packed:
        for info, data in members:
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


HOSTILE = ["../evil", "a/../../evil", "/etc/passwd", "C:\\evil", "..\\evil", "a//../b"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_hostile_names_are_no_paths(tmp_path: Path, name: str, kind: str) -> None:
    archive = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr(zipfile.ZipInfo(name), "x")
    else:
        one_tar(archive, (member(name), b"x"), mode="w:gz" if kind == "tgz" else "w")
    (found,) = open_source(str(archive)).files()
    assert isinstance(found, SetAside)
    assert found.reason == "unsafe-name"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", HOSTILE)
def test_every_format_of_a_tar_has_the_same_names(tmp_path: Path, name: str, format: int) -> None:  # noqa: A002
    with tarfile.open(tmp_path / "x.tar", "w", format=format) as packed:
        packed.addfile(member(name))
    (found,) = open_source(str(tmp_path / "x.tar")).files()
    assert isinstance(found, SetAside)
    assert found.reason == "unsafe-name"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes, mode: Literal["w", "w:gz"]) -> None:
    archive = one_tar(tmp_path / "x", (member("a", kind, "/etc/passwd"), b""), (member("b"), b"x"), mode=mode)
    first, second = open_source(str(archive)).files()
    assert isinstance(first, SetAside)
    assert first.reason == "unsafe-name"
    assert isinstance(second, SourceFile)


def incremental(header: tarfile.TarInfo) -> bytes:
    """The header as `tar --listed-incremental` writes it in GNU's format: times where others have a prefix."""
    buf = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    buf[345:369] = b"15302633554\0" + b"15302633621\0"
    buf[148:156] = b" " * 8
    buf[148:156] = b"%06o\0 " % sum(buf)
    return bytes(buf)


def packed(header: tarfile.TarInfo, data: bytes) -> bytes:
    header.size = len(data)
    return incremental(header) + data + bytes(-len(data) % 512)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_an_incremental_tar(tree: Path, tmp_path: Path, ingest: Ingest, suffix: str) -> None:
    """Its times are no folder, and its lists of folders are no files. What only looks like such a list is named."""
    files = [path for path in sorted(tree.rglob("*")) if path.is_file()]
    folders = b"".join(packed(member(f"{name}/", b"D"), b"YIM000001\0\0") for name in ("007", "007/pre", "empty"))
    members = b"".join(packed(member(path.relative_to(tree).as_posix()), path.read_bytes()) for path in files)
    data = folders + members + bytes(1024)
    (tmp_path / f"dump{suffix}").write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    found, whole = ingest("plan", tmp_path / f"dump{suffix}"), ingest("plan", tree)
    assert found.code == whole.code
    for key in ("sessions", "set_aside"):
        assert found.report[key] == whole.report[key]
    data = packed(member("007/pre/IM9", b"D"), bytes(128) + files[0].read_bytes()[128:]) + members + bytes(1024)
    (tmp_path / f"dump{suffix}").write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    asides = ingest("plan", tmp_path / f"dump{suffix}").report["set_aside"]
    assert ("007/pre/IM9", "unsafe-name") in [(aside["path"], aside["reason"]) for aside in asides]


def test_links_in_a_zip(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr(info, "/etc/passwd")
    (found,) = open_source(str(tmp_path / "x.zip")).files()
    assert isinstance(found, SetAside)
    assert found.reason == "unsafe-name"


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_bombs(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What packs a thousandfold is not images; small things may pack as they like."""
    monkeypatch.setattr(archive_members, "BOMB_SIZE", 1 << 20)
    archive = tmp_path / f"x.{kind}"
    zeros = bytes(3 << 20)
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("small", zeros[: 1 << 19])
            packed.writestr("zeros", zeros)
    else:
        one_tar(archive, (member("small"), zeros[: 1 << 19]), (member("zeros"), zeros), mode="w:gz")
    found = {one.path: one for one in open_source(str(archive)).files()}
    assert isinstance(found["small"], SourceFile)
    bomb = found["zeros"]
    assert isinstance(bomb, SetAside)
    assert bomb.reason == "too-large"


def test_two_members_of_one_name_are_both_there(tmp_path: Path) -> None:
    archive = one_tar(tmp_path / "x.tar", (member("a"), b"one"), (member("./a"), b"two"))
    source = open_source(str(archive))
    found = [one.path for one in source.files()]
    assert found == ["a", "a#2"]
    assert [source.open(path).read() for path in found] == [b"one", b"two"]


@pytest.mark.parametrize("name", ["study.zip", "study.tar", "study.tgz"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_cut_archive_is_told(tree: Path, tmp_path: Path, ingest: Ingest, name: str, share: float) -> None:
    whole = tmp_path / "whole"
    PACKERS.get(name, to_tgz)(tree, whole)
    data = whole.read_bytes().rstrip(b"\0")  # a tar's end mark and filling are zeros
    (tmp_path / name).write_bytes(data[: int(len(data) * share)])
    ended = ingest("plan", tmp_path / name)
    if name == "study.zip":  # its directory is at its end
        assert ended.code == 2
        assert "truncated or corrupt" in ended.err
    else:
        assert ended.code == 3
        assert name in [aside["path"] for aside in ended.report["set_aside"] if aside["reason"] == "truncated"]


def test_a_cut_archive_as_a_session_folder(tree: Path, tmp_path: Path, ingest: Ingest) -> None:
    to_tgz(tree / "008", tmp_path / "whole")
    (tree / "007" / "cut.tgz").write_bytes((tmp_path / "whole").read_bytes()[:5000])
    (tree / "007" / "cut.zip").write_bytes(b"PK\x03\x04 and then nothing")
    asides = {aside["path"]: aside["reason"] for aside in ingest("plan", tree).report["set_aside"]}
    assert asides["007/cut.tgz"] == "truncated"
    assert asides["007/cut.zip"] == "unreadable"


@pytest.mark.wide
@pytest.mark.parametrize("behind", [True, False])
def test_a_damaged_member_fails_alone(tree: Path, tmp_path: Path, ingest: Ingest, behind: bool) -> None:
    """While it is planned, if something is behind its pixels, and it is read to its end; else while it is sent."""
    if not behind:
        for path in tree.rglob("T1_1/*"):
            data = path.read_bytes()
            path.write_bytes(data[: data.rindex(b"\xfc\xff\xfc\xff")])
    to_zip(tree, tmp_path / "x.zip", zipfile.ZIP_STORED)
    with zipfile.ZipFile(tmp_path / "x.zip") as packed:
        info = next(i for i in packed.infolist() if "T1_1" in i.filename and not i.is_dir())
    with (tmp_path / "x.zip").open("r+b") as raw:
        raw.seek(info.header_offset + 30 + len(info.filename) + info.file_size - 100)
        raw.write(b"damage")
    ended = ingest("upload", tmp_path / "x.zip")
    assert ended.code == 3
    assert ended.totals["failed"] + ended.totals["verified"] == ended.totals["planned"]
    assert info.filename in str(ended.report["set_aside" if behind else "sessions"])


def test_an_encrypted_member_is_unreadable(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("a", "x")
    raw = bytearray((tmp_path / "x.zip").read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(raw)
    (found,) = open_source(str(tmp_path / "x.zip")).files()
    assert found == SetAside("a", "unreadable", "encrypted; unpack it with its password first")


def test_a_stream_is_read_once_for_a_scan(tree: Path, tmp_path: Path) -> None:
    to_tgz(tree, tmp_path / "x.tgz")
    source = StreamSource(tmp_path / "x.tgz")
    found = list(scan(source, lambda _: None))
    assert sum(isinstance(one, Instance) for one in found) == 14
    assert source.passes == 1


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[StreamSource]:
    """Every stream opened during the test, in order, so that its passes can be counted."""
    made: list[StreamSource] = []
    init = StreamSource.__init__

    def watched(self: StreamSource, path: Path, *rest: Any) -> None:
        init(self, path, *rest)
        made.append(self)

    monkeypatch.setattr(StreamSource, "__init__", watched)
    return made


@pytest.mark.wide
@pytest.mark.parametrize("flags", [(), ("--part-size", "30K"), ("--transport", "gradual")], ids=" ".join)
@pytest.mark.parametrize(("proof", "passes"), [("listing", 2), ("spot", 3), ("pixels", 3)])
def test_a_stream_is_read_once_to_be_scanned_once_to_be_sent_and_once_to_be_compared(
    tree: Path, tmp_path: Path, site: StandIn, ingest: Ingest, streams: list[StreamSource], flags: tuple[str, ...],
    proof: str, passes: int,
) -> None:  # fmt: skip
    """However many sessions it holds."""
    to_tgz(tree, tmp_path / "x.tgz")
    ended = ingest("upload", tmp_path / "x.tgz", *flags, "--proof", proof)
    assert (ended.code, ended.totals["verified"]) == (0, 14)
    assert len(ended.report["sessions"]) > 1
    assert [one.passes for one in streams] == [passes]


@pytest.mark.wide
def test_a_stream_is_read_once_to_be_sent_by_dicom(
    tree: Path, tmp_path: Path, site: StandIn, ingest: Ingest, streams: list[StreamSource]
) -> None:
    to_tgz(tree, tmp_path / "x.tgz")
    with site.receive() as receiver:
        flags = ("--transport", "cstore", "--dicom-host", "127.0.0.1", "--dicom-port", str(receiver.port))
        ended = ingest("upload", tmp_path / "x.tgz", *flags, "--part-size", "30K")
    assert (ended.code, ended.totals["verified"]) == (0, 14)
    assert [one.passes for one in streams] == [3]


@pytest.mark.wide
def test_each_retry_is_one_more_pass(
    tree: Path, tmp_path: Path, site: StandIn, ingest: Ingest, streams: list[StreamSource]
) -> None:
    site.faults.add(Fault("reset", match="/data/services/import", skip=2, after=10_000))
    to_tgz(tree, tmp_path / "x.tgz")
    ended = ingest("upload", tmp_path / "x.tgz", "--part-size", "30K")
    assert (ended.code, ended.totals["verified"]) == (0, 14)
    assert 3 < streams[0].passes <= 6


def test_a_member_of_a_stream_is_sought_like_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backward within the backlog for nothing, beyond it by another pass."""
    from xnat_ingest.inputs import targz_archive

    monkeypatch.setattr(targz_archive, "BACKLOG", 1000)
    monkeypatch.setattr(targz_archive, "_BLOCK", 300)
    data = bytes(range(256)) * 40
    archive = one_tar(tmp_path / "x.tgz", (member("a"), b"first"), (member("b"), data), mode="w:gz")
    source = StreamSource(archive)
    list(source.files())
    with source.open("b") as opened:
        assert opened.read(500) == data[:500]
        passes = source.passes
        opened.seek(10)
        assert opened.read(5) == data[10:15]
        assert source.passes == passes
        opened.seek(9000)
        assert opened.read() == data[9000:]
        opened.seek(3)
        assert opened.read(4) == data[3:7]
        assert source.passes == passes + 1
    with source.open("a") as opened:
        assert opened.read() == b"first"


def test_a_file_that_is_no_archive_is_no_root(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "x.zip").write_text("not a zip")
    (tmp_path / "y.gz").write_bytes(gzip.compress(b"no tar"))
    for name in ("x.zip", "y.gz"):
        ended = ingest("plan", tmp_path / name)
        assert ended.code == 2
    assert "cannot read ROOT" in ended.err


def test_an_archive_that_changes_is_noticed(tree: Path, tmp_path: Path, site: StandIn) -> None:
    to_tar(tree, tmp_path / "x.tar")
    source = open_source(str(tmp_path / "x.tar"))
    instance = next(one for one in scan(source, lambda _: None) if isinstance(one, Instance))
    assert source.stat(instance.path) == (instance.size, instance.mtime_ns)
    with (tmp_path / "x.tar").open("ab") as archive:
        archive.write(b"more")
    assert source.stat(instance.path) != (instance.size, instance.mtime_ns)


@pytest.mark.wide
def test_a_session_in_all_forms_is_uploaded_whole(tree: Path, tmp_path: Path, site: StandIn, ingest: Ingest) -> None:
    """A scan as a zip, a scan of compressed files, a plain one: the same bytes as from the folder; --plan likewise."""
    pre = tree / "007" / "pre"
    whole = sorted(path.stat().st_size for path in pre.rglob("IM*"))
    to_zip(pre / "T1_1", pre / "T1_1.zip")
    shutil.rmtree(pre / "T1_1")
    for path in (pre / "RLE_3").iterdir():
        path.with_name(f"{path.name}.dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    shutil.rmtree(tree / "008")
    assert ingest("plan", tree, "--json", str(tmp_path / "plan.json")).code == 0
    ended = ingest("upload", tree, "--plan", str(tmp_path / "plan.json"))
    assert (ended.code, ended.totals["verified"]) == (0, 7), ended.out
    assert (
        sorted(len(one) for one in map(Path.read_bytes, stored(site, "DEMO", "007", "007_pre").files.values())) == whole
    )
    again = ingest("upload", tree)
    assert (again.code, again.totals["bytes_sent"]) == (0, 0)


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
@pytest.mark.parametrize("front", ["./", "././", ".//./", "./a/.//./", "a/././", "a//./", "./././././"])
def test_parts_of_a_name_that_lead_nowhere(tmp_path: Path, kind: str, front: str) -> None:
    """GNU tar writes them: `tar cf x.tar ././T1`. They are no hidden folders."""
    archive = tmp_path / "x"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr(zipfile.ZipInfo(f"{front}T1/1"), "x")
    else:
        one_tar(archive, (member(f"{front}T1/1"), b"x"), mode="w:gz" if kind == "tgz" else "w")
    (found,) = open_source(str(archive)).files()
    assert isinstance(found, SourceFile)
    assert found.path == ("a/" if "a" in front else "") + "T1/1"


@pytest.mark.parametrize("name", [".", "./.", "a/.", "/./a", "./"])
def test_names_that_lead_nowhere_themselves(tmp_path: Path, name: str) -> None:
    one_tar(tmp_path / "x", (member(name), b"x"), (member("b"), b"x"))
    first, second = open_source(str(tmp_path / "x")).files()
    assert isinstance(first, SetAside)
    assert first.is_problem
    assert isinstance(second, SourceFile)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", ["tar", "gradual", "cstore"])
@pytest.mark.parametrize("form", ["tar", "tar.gz"])
def test_a_tar_that_is_packed_anew_in_mid_run(
    tmp_path: Path, site: StandIn, ingest: Ingest, form: str, way: str
) -> None:
    """Its time is put back. Where an image of one person was, there is one of another, and then the first."""
    longer = Series("T1_1", 3, tags={"PatientID": "p0", "ImageComments": "c" * 8000})
    files = make_session(tmp_path / "t/p0/v", [longer], "p0")
    files += make_session(tmp_path / "t/p1/v", [Series("T2_1", 2, tags={"PatientID": "p1"})], "p1")
    root, order = tmp_path / f"root.{form}", [0, 1, 2, 3, 4]

    def pack() -> None:
        with tarfile.open(tmp_path / "new", "w:gz" if form == "tar.gz" else "w") as packed:
            for number in order:
                packed.add(files[number], files[number].relative_to(tmp_path / "t"))
        os.utime(tmp_path / "new", (1_700_000_000, 1_700_000_000))
        (tmp_path / "new").rename(root)

    def pack_anew() -> None:
        while not any(one.path == "/data/projects/DEMO/subjects" for one in site.requests):
            time.sleep(0.005)
        order[:] = [0, 3, 1, 2, 4]
        pack()

    pack()
    for label in ("p0_v", "p1_v"):
        site.faults.add(Fault("delay", match=f"GET /data/projects/DEMO/experiments/{label}", seconds=1))
    with site.receive() as receiver:
        flags = transport_flags(way, receiver.port)
        thread = threading.Thread(target=pack_anew)
        thread.start()
        ended = ingest("upload", root, *flags)
        thread.join()
        assert ended.code == 3
        assert ended.totals["failed"] == 3, ended.out  # the last one is where it was
        assert "changed since it was scanned" in ended.out
        assert {p["kind"] for p in ended.report["problems"]} <= {"new-subject"}
        again = ingest("upload", root, *flags)
    assert (again.code, again.totals["verified"]) == (0, 5), again.out
    for subject, number in (("p0", 3), ("p1", 2)):
        images = [pydicom.dcmread(one) for one in stored(site, "DEMO", subject, f"{subject}_v").files.values()]
        assert [image.PatientID for image in images] == [subject] * number


def test_a_member_that_no_directory_lists_is_redacted(tmp_path: Path, ingest: Ingest) -> None:
    files = make_session(tmp_path / "t/007/pre", [Series("T1_1", 3)])
    with zipfile.ZipFile(tmp_path / "root.zip", "w") as packed:
        for file, name in zip(files, ("007/pre/1", "Xaver; O/pre/2", "007/pre/3"), strict=True):
            packed.write(file, name)
        del packed.filelist[1]
    assert "a member named Xaver; O/pre/2; fetch" in ingest("plan", tmp_path / "root.zip").out
    ended = ingest("plan", tmp_path / "root.zip", "--redact-paths")
    assert re.search(r"a member named n-\w+/n-\w+/n-\w+; fetch", ended.out)
    assert "Xaver" not in ended.out + ended.err + json.dumps(ended.report)
