"""Archives that are joined, wiped, cut, damaged or of a kind not read: what they hide is told, and none ends a run."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from tests.conftest import Ingest
from tests.contract.test_archives import member, one_tar, to_tar, to_tgz, to_zip
from tests.dicom_trees import Series, make_session
from tests.standin import StandIn
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.model import Instance, SetAside
from xnat_ingest.inputs import archive_members, open_source
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.tar_archive import tar_members

PACKERS: dict[str, Callable[[Path, Path], None]] = {"tar": to_tar, "tgz": to_tgz, "zip": to_zip}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_session(root := tmp_path / "tree/007/pre", [Series("T1_1", 3)])
    assert root.is_dir()
    return tmp_path / "tree"


def packed(tree: Path, kind: str) -> bytes:
    PACKERS[kind](tree, tree.parent / "packed")
    return (tree.parent / "packed").read_bytes()


def asides(root: Path, leaf: int | None = None) -> dict[str, SetAside]:
    found = scan(open_source(str(root), leaf), lambda _: None)
    return {one.path: one for one in found if isinstance(one, SetAside)}


def alone(archive: Path) -> SetAside:
    """What is set aside of an archive that is itself the only thing set aside."""
    (found,) = asides(archive).values()
    assert found.path == archive.name
    return found


@pytest.mark.parametrize("kind", PACKERS)
def test_what_is_whole_is_set_aside_in_nothing(tree: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "x").write_bytes(packed(tree, kind))
    assert asides(tmp_path / "x") == {}


@pytest.mark.parametrize("kind", PACKERS)
def test_two_archives_joined_are_told(tree: Path, tmp_path: Path, ingest: Ingest, kind: str) -> None:
    data = packed(tree, kind)
    (tree / "007").rename(tree / "008")
    (tmp_path / "x").write_bytes(data + packed(tree, kind))
    found = alone(tmp_path / "x")
    assert found.reason == "truncated"
    assert "joined" in found.detail
    ended = ingest("plan", tmp_path / "x")
    assert (ended.code, ended.totals["planned"]) == (3, 3)
    (tree / "009").mkdir()
    (tmp_path / "x").rename(tree / "009/joined")
    assert asides(tree, 2)["009/joined"].reason == "truncated"


def test_two_tars_in_one_gzip_are_told(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(packed(tree, "tar") * 2))
    assert "joined" in alone(tmp_path / "x").detail


@pytest.mark.parametrize("wrap", [bytes, gzip.compress], ids=["tar", "tgz"])
def test_a_hole_of_zeros_in_a_tar_is_told(tree: Path, tmp_path: Path, wrap: Callable[[bytes], bytes]) -> None:
    data = packed(tree, "tar")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        second = [info for info in tar if info.isreg()][1]
    (tmp_path / "x").write_bytes(wrap(data[: second.offset] + bytes(4096) + data[second.offset + 4096 :]))
    assert "wiped" in alone(tmp_path / "x").detail


@pytest.mark.parametrize("wrap", [bytes, gzip.compress], ids=["tar", "tgz"])
def test_zeros_behind_the_end_mark_are_filling(tree: Path, tmp_path: Path, wrap: Callable[[bytes], bytes]) -> None:
    """Tapes and tar's own blocking fill up with them; behind a gzip they are filling too."""
    (tmp_path / "x").write_bytes(wrap(packed(tree, "tar") + bytes(1 << 20)) + bytes(512))
    assert asides(tmp_path / "x") == {}


@pytest.mark.parametrize("filling", [0, 10240, 5 << 20])
def test_the_checksum_of_a_gzip_is_always_checked(tree: Path, tmp_path: Path, filling: int) -> None:
    """However far it lies behind the last member."""
    whole = packed(tree, "tar") + bytes(filling)
    damaged = bytearray(whole)
    damaged[whole.index(b"DICM") + 2000] ^= 0xFF
    (tmp_path / "x").write_bytes(gzip.compress(damaged, 1)[:-8] + gzip.compress(whole, 1)[-8:])
    found = alone(tmp_path / "x")
    assert found.reason == "truncated"
    assert "CRC" in found.detail


@pytest.mark.parametrize("cut", [1, 8, 12])
def test_a_gzip_cut_in_its_last_bytes_is_told(tree: Path, tmp_path: Path, cut: int) -> None:
    (tmp_path / "x").write_bytes(packed(tree, "tgz")[:-cut])
    assert alone(tmp_path / "x").reason == "truncated"


def test_what_lies_behind_a_zip_is_told(tree: Path, tmp_path: Path) -> None:
    """As far as a comment could reach the directory is still found; a comment itself and filling are no data."""
    data = packed(tree, "zip")
    (tmp_path / "x").write_bytes(data + b"another archive")
    assert alone(tmp_path / "x").reason == "truncated"
    (tmp_path / "x").write_bytes(data + bytes(1000))
    assert asides(tmp_path / "x") == {}
    (tmp_path / "x").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "x", "a") as commented:
        commented.comment = b"from the archive of the clinic"
    assert asides(tmp_path / "x") == {}


def test_a_zip_before_an_empty_one_is_told(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(packed(tree, "zip") + b"PK\5\6" + bytes(18))
    assert alone(tmp_path / "x").reason == "truncated"


@pytest.mark.parametrize("first", ["a", "z"])
def test_a_session_half_in_a_stream_is_sent_whole(
    tree: Path, tmp_path: Path, site: StandIn, ingest: Ingest, first: str
) -> None:
    """Where headers make the sessions, whichever of folder and stream comes first."""
    pre = tree / "007/pre"
    half = tmp_path / "half"
    half.mkdir()
    for image in sorted((pre / "T1_1").iterdir())[::2]:
        image.rename(half / image.name)
    to_tgz(half, tree / f"{first}.tgz")
    pre.rename(tree / "m")
    ended = ingest("upload", tree, "--layout", "headers", "--part-size", "12K")
    assert (ended.code, ended.totals["verified"]) == (0, 3), ended.out


FOREIGN: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "7z": b"7z\xbc\xaf\x27\x1c".__add__,
    "rar": b"Rar!\x1a\x07".__add__,
    "zstd": b"\x28\xb5\x2f\xfd".__add__,
    "lz4": b"\x04\x22\x4d\x18".__add__,
    "lzip": b"LZIP\x01".__add__,
    "lzma": partial(lzma.compress, format=lzma.FORMAT_ALONE),
    "compress": b"\x1f\x9d\x90".__add__,
    "snappy": b"\xff\x06\0\0sNaPpY".__add__,
    "cpio": b"070701".__add__,
    "split zip": b"PK\x07\x08PK\x03\x04".__add__,
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_archive_of_a_kind_that_is_not_read(tree: Path, tmp_path: Path, ingest: Ingest, kind: str) -> None:
    """Whatever place it lies in, it may hide images; as ROOT it is refused."""
    data = FOREIGN[kind](packed(tree, "tar"))
    for place in ("007/more", "007/pre/T1_1/more"):
        (tree / place).write_bytes(data)
    found = asides(tree, 2)
    assert found["007/more"].reason == "unreadable"
    assert f"{kind}, which cannot be read here; repack it as tar.gz or zip" in found["007/more"].detail
    assert found["007/pre/T1_1/more"].reason == "unreadable"
    assert kind in found["007/pre/T1_1/more"].detail
    assert ingest("plan", tree).code == 3
    with pytest.raises(UsageError, match="repack it as"):
        open_source(str(tree / "007/more"))


@pytest.mark.parametrize("folders", [(), ("T1/",)])
def test_a_zip_without_files_in_a_sessions_place(tree: Path, ingest: Ingest, folders: tuple[str, ...]) -> None:
    """It was written in vain. An empty tar is told as well."""
    with zipfile.ZipFile(tree / "007/gone.zip", "w") as archive:
        for folder in folders:
            archive.writestr(zipfile.ZipInfo(folder), b"")
    found = asides(tree, 2)
    assert (found["007/gone.zip"].reason, found["007/gone.zip"].detail[:24]) == (
        "unreadable",
        "an archive without files",
    )
    ended = ingest("plan", tree)
    assert ended.code == 3
    assert ended.totals["files_seen"] == sum(path.is_file() for path in tree.rglob("*"))


HIDING: dict[str, tuple[tarfile.TarInfo, bytes]] = {
    "absolute": (member("/data/T1/1"), b"x"),
    "above": (member("../T1/1"), b"x"),
    "a link": (member("T1/1", tarfile.SYMTYPE, "/data/T1/1"), b""),
    "a hard link": (member("T1/1", tarfile.LNKTYPE, "/data/T1/1"), b""),
}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("place", ["007/pre/more", "007/pre/T1_1/more", "more"])
@pytest.mark.parametrize("form", HIDING)
def test_an_archive_below_a_session_whose_members_are_not_taken(
    tree: Path, form: str, place: str, mode: Literal["w", "w:gz"]
) -> None:
    """What is behind such a name may be a series. A link among files is as usual as harmless."""
    one_tar(tree / place, HIDING[form], mode=mode)
    found = asides(tree, 2)[place]
    assert (found.reason, "names that are not taken" in found.detail) == ("unreadable", True)
    one_tar(tree / place, HIDING[form], (member("notes"), b"words"), mode=mode)
    assert asides(tree, 2)[place].reason == ("nested-archive" if "link" in form else "unreadable")


@pytest.mark.parametrize("others", [(), ("notes",)])
def test_a_zip_of_links_below_a_session(tree: Path, others: tuple[str, ...]) -> None:
    link = zipfile.ZipInfo("T1/1")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tree / "007/pre/more", "w") as archive:
        archive.writestr(link, "/data/T1/1")
        for name in others:
            archive.writestr(name, "words")
    assert asides(tree, 2)["007/pre/more"].reason == ("nested-archive" if others else "unreadable")


def test_an_archive_damaged_from_its_start_is_told(tree: Path) -> None:
    """In a session's place: what cannot be told to be a tar any more may well have been one."""
    (tree / "007/cut.tgz").write_bytes(packed(tree, "tgz")[:30])
    (tree / "007/gone.tar").write_bytes(b"\xff" + packed(tree, "tar")[1:])
    found = asides(tree, 2)
    assert found["007/cut.tgz"].reason == "unreadable"
    assert found["007/gone.tar"].reason == "truncated"
    with pytest.raises(UsageError, match="fetch it again"):
        open_source(str(tree / "007/cut.tgz"))


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("skip", [0, 20])
def test_a_packed_member_that_is_damaged_fails_alone(tree: Path, tmp_path: Path, packing: int, skip: int) -> None:
    to_zip(tree, tmp_path / "x", packing)
    with zipfile.ZipFile(tmp_path / "x") as archive:
        info = next(info for info in archive.infolist() if not info.is_dir())
    data = bytearray((tmp_path / "x").read_bytes())
    start = info.header_offset + 30 + len(info.filename) + skip
    data[start : start + 60] = b"\xff" * 60
    (tmp_path / "x").write_bytes(data)
    (found,) = asides(tmp_path / "x").values()
    assert (found.path, found.reason) == (info.filename, "unreadable")


def test_a_zip_with_an_impossible_local_name(tree: Path, tmp_path: Path) -> None:
    (tree / "007/pre/é").write_bytes(b"x")
    data = packed(tree, "zip").replace("pre/é".encode(), b"pre/\xff\xfe", 1)
    (tmp_path / "x").write_bytes(data)
    (found,) = asides(tmp_path / "x").values()
    assert (found.path, found.reason) == ("007/pre/é", "unreadable")


def big(size: int) -> bytes:
    """A number as tar writes those that its octal digits cannot hold."""
    return (size & ((1 << 96) - 1) | 1 << 95).to_bytes(12, "big")


def sign(header: bytearray) -> None:
    """With its checksum, in which the field itself counts as blanks."""
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * ord(" ") + sum(header[156:]))


def with_size(field: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    header = bytearray(member("b", kind).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = field
    sign(header)
    return bytes(header) + b"and some data".ljust(512, b"\0") + bytes(1024)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize("size", [1 << 90, 1 << 63, 1 << 40, 1 << 33, -1024, -512])
@pytest.mark.parametrize("wrap", [bytes, gzip.compress], ids=["tar", "tgz"])
def test_a_tar_header_of_impossible_size(
    tmp_path: Path, kind: bytes, size: int, wrap: Callable[[bytes], bytes]
) -> None:
    """No header makes the reader fill memory or go in circles; what came before it is still there."""
    first = one_tar(tmp_path / "first", (member("a"), b"one")).read_bytes()[:1024]
    (tmp_path / "x").write_bytes(wrap(first + with_size(big(size), kind)))
    found = {one.path: one for one in open_source(str(tmp_path / "x")).files()}
    assert not isinstance(found.pop("a"), SetAside)
    archive = found["x"]
    assert isinstance(archive, SetAside)
    assert archive.reason == "truncated"


def test_headers_upon_headers_end(tmp_path: Path) -> None:
    """The library follows each long name to the header behind it, deeper with each."""
    name = with_size(b"00000000014\0", tarfile.GNUTYPE_LONGNAME)[:1024]
    (tmp_path / "x").write_bytes(name * 3000)
    with (tmp_path / "x").open("rb") as stream:
        ((_, found),) = tar_members(stream, "x", (tmp_path / "x").stat().st_size)
    assert isinstance(found, SetAside)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_that_are_longer_than_any_path_take_no_memory(tmp_path: Path, form: int) -> None:
    """A packed archive of a few megabytes has room for thousands of them."""
    long, longest = "x" * 500_000, "T1/" + "y" * 4093
    with tarfile.open(tmp_path / "x", "w:gz", format=form, compresslevel=1) as packed:
        for number in range(60):
            packed.addfile(tarfile.TarInfo(f"T1/{long}{number}"))
        packed.addfile(tarfile.TarInfo(longest))
    tracemalloc.start()
    found = {one.path: one for one in open_source(str(tmp_path / "x")).files()}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not isinstance(found.pop(longest), SetAside)
    assert len(found) == 60
    assert {one.reason for one in found.values() if isinstance(one, SetAside)} == {"unsafe-name"}
    assert "a name of 500,004 characters" in {one.detail for one in found.values() if isinstance(one, SetAside)}
    assert peak < 15e6


@pytest.mark.parametrize(("room", "is_whole"), [(20 * 502, True), (20 * 502 - 1, False)])
def test_the_list_of_members_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, is_whole: bool
) -> None:
    """Empty members pack to next to nothing, and each takes memory."""
    to = one_tar(tmp_path / "x", *((member(f"{number:0102}"), b"") for number in range(20)), mode="w:gz")
    monkeypatch.setattr(archive_members, "LIST_SIZE", room - 4 * to.stat().st_size)
    found = list(open_source(str(to)).files())
    assert len(found) == 20
    last = found[-1]
    assert isinstance(last, SetAside) != is_whole
    assert is_whole or (last.path, getattr(last, "reason", "")) == ("x", "too-large")


@pytest.mark.parametrize(
    ("keys", "key", "value", "is_whole"),
    [
        (1, 1, 200_000, True),
        (1, 1, 300_000, False),
        (1, 200_000, 1, True),
        (1, 300_000, 0, False),
        (20, 1, 1, True),
        (21, 1, 1, False),
    ],
)
def test_headers_for_all_members_have_a_limit(tmp_path: Path, keys: int, key: int, value: int, is_whole: bool) -> None:
    """They are gone through for each member. The limits are 1 MiB of names and values, and 100 names."""
    with tarfile.open(tmp_path / "x", "w") as packed:
        for number in range(5):
            words = {f"key{number}-{n}".ljust(key, "k"): "v" * value for n in range(keys)}
            header = tarfile.TarInfo.create_pax_global_header(words)
            packed.fileobj.write(header)
            packed.offset += len(header)
            packed.addfile(tarfile.TarInfo(f"a{number}"))
    found = {one.path: one for one in open_source(str(tmp_path / "x")).files()}
    assert isinstance(found.get("x"), SetAside) != is_whole
    assert ("a4" in found) == is_whole


@pytest.mark.parametrize(("number", "size", "is_whole"), [(32, 1 << 20, True), (33, 1 << 20, False), (500, 7000, True)])
def test_long_headers_have_a_limit_together(tmp_path: Path, number: int, size: int, is_whole: bool) -> None:
    """Each of them is gone through word by word, such as the map of a sparse file."""
    with tarfile.open(tmp_path / "x", "w", format=tarfile.PAX_FORMAT) as packed:
        for one in range(number):
            info = tarfile.TarInfo(f"a{one}")
            info.pax_headers = {"comment": "v" * (size - 2000)}
            packed.addfile(info)
    found = {one.path: one for one in open_source(str(tmp_path / "x")).files()}
    assert isinstance(found.get("x"), SetAside) != is_whole
    assert (f"a{number - 1}" in found) == is_whole


def broken(data: bytes, chance: random.Random) -> bytes:
    """With some bytes changed, mostly in headers, and cut now and then."""
    damaged = bytearray(data)
    places = [at for magic in (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"ustar") if (at := data.rfind(magic)) >= 0]
    for _ in range(chance.randint(1, 5)):
        near = chance.choice(places) + chance.randrange(-257, 60) if places and chance.random() < 0.7 else -1
        at = near if 0 <= near < len(data) else chance.randrange(len(data))
        damaged[at] = chance.choice((0, 1, 47, 48, 55, 128, 255, chance.randrange(256)))
    if chance.random() < 0.1:
        del damaged[chance.randrange(len(data)) :]
    for at in range(0, len(damaged) - 511, 512):  # a header with a wrong checksum would be looked at no further
        if damaged[at + 257 : at + 262] == b"ustar" and chance.random() < 0.9:
            header = damaged[at : at + 512]
            sign(header)
            damaged[at : at + 512] = header
    return bytes(damaged)


@pytest.mark.wide
def test_no_damage_ends_a_scan(tmp_path: Path) -> None:
    """Each of many damaged archives is refused, or read with what is wrong set aside; nothing else is raised."""
    make_session(tmp_path / "tree/007/pre", [Series("T1_1", 2)])
    (tmp_path / "tree/007/pre" / ("long" * 40 + "é")).write_bytes(b"x" * 700)
    seeds = {kind: packed(tmp_path / "tree", kind) for kind in ("zip", "tar")}
    for name, packing in (("lzma", zipfile.ZIP_LZMA), ("bz2", zipfile.ZIP_BZIP2)):
        to_zip(tmp_path / "tree", tmp_path / name, packing)
        seeds[name] = (tmp_path / name).read_bytes()
    chance, read = random.Random(7), 0
    for turn in range(600):
        kind = chance.choice([*seeds, "tgz"])
        data = broken(seeds.get(kind, seeds["tar"]), chance)
        data = broken(gzip.compress(data, 1), chance) if kind == "tgz" and turn % 3 else data
        (tmp_path / "x").write_bytes(gzip.compress(data, 1) if kind == "tgz" and not turn % 3 else data)
        try:
            source = open_source(str(tmp_path / "x"))
            for found in scan(source, lambda _: None):
                read += isinstance(found, Instance)
        except UsageError:
            continue
    assert read > 300
