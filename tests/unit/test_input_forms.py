"""Compressed files, archives below a session, archives that are none, links out of ROOT: read, or told as a problem."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.dicom_trees import IDENTITY, PIXELS, deflated, encode, part10
from xnat_ingest.core.model import Instance, SetAside
from xnat_ingest.inputs import Source, archive_members, open_source
from xnat_ingest.inputs.dicom_headers import scan

COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def image(number: int, size: int = 5000) -> bytes:
    """An instance of its own with so many bytes of pixels."""
    return part10({**IDENTITY, 0x00080018: ("UI", b"1.2.3.%06d" % number), PIXELS: ("OW", bytes(size))})


def zipped(contents: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return made.getvalue()


def tarred(contents: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


PACK: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    ".zip": zipped,
    ".tar": tarred,
    ".tar.gz": lambda contents: gzip.compress(tarred(contents)),
    ".tgz": lambda contents: gzip.compress(tarred(contents)),
}


def put(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def seen(source: Source) -> dict[str, str]:
    """path -> "" for an instance, whose bytes are then as many as promised; else why it is set aside."""
    found = {}
    for item in scan(source, lambda _: None):
        assert item.path not in found
        if isinstance(item, SetAside):
            found[item.path] = f"{'problem' if item.is_problem else 'note'} {item.reason}: {item.detail}"
            continue
        assert source.stat(item.path) == (item.size, item.mtime_ns)
        with source.open(item.path) as stream:
            assert len(stream.read()) == item.size
        found[item.path] = ""
    return found


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_file_is_what_it_holds(tmp_path: Path, suffix: str) -> None:
    """Beside plain ones or alone; its bytes and their number are those of what it holds."""
    data = image(2, 700_000)
    put(tmp_path, {"007/pre/a.dcm": image(1), f"007/pre/b.dcm{suffix}": COMPRESS[suffix](data)})
    put(tmp_path, {f"008/pre/IM1{suffix.upper()}": COMPRESS[suffix](image(3))})
    source = open_source(str(tmp_path), 2)
    found = {one.path: one for one in scan(source, lambda _: None)}
    only = found[f"007/pre/b.dcm{suffix}"]
    assert isinstance(only, Instance)
    assert (only.size, only.pixel_bytes) == (len(data), 700_000)
    with source.open(only.path) as stream:
        assert stream.read() == data
    assert set(seen(source).values()) == {""}


@pytest.mark.parametrize("wrap", PACK)
def test_a_compressed_member_of_an_archive(tmp_path: Path, wrap: str) -> None:
    put(
        tmp_path,
        {f"x{wrap}": PACK[wrap]({"007/pre/a.dcm.gz": gzip.compress(image(1, 3_000_000)), "007/pre/b": image(2)})},
    )
    assert seen(open_source(str(tmp_path / f"x{wrap}"))) == {"007/pre/a.dcm.gz": "", "007/pre/b": ""}


@pytest.mark.parametrize("wrap", PACK)
def test_a_second_file_behind_a_deflated_one(tmp_path: Path, wrap: str) -> None:
    """In a folder, compressed, in an archive: both have to be sent, and only one would be."""
    one = deflated(encode({**IDENTITY, 0x00080018: ("UI", b"1.2.9\0"), PIXELS: ("OW", bytes(5000))}))
    both = {"007/pre/a": one + image(1), "007/pre/b.gz": gzip.compress(one + bytes(900_000) + image(2, 900_000))}
    for root in (put(tmp_path / "folder", both), put(tmp_path, {f"x{wrap}": PACK[wrap](both)}) / f"x{wrap}"):
        found = seen(open_source(str(root), 2 if root.is_dir() else None))
        assert list(found) == ["007/pre/a", "007/pre/b.gz"]
        assert all(why.startswith("problem unreadable: several DICOM files") for why in found.values())


def test_a_compressed_file_that_changes_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, {"007/pre/a.gz": gzip.compress(image(1))})
    source = open_source(str(tmp_path), 2)
    (found,) = scan(source, lambda _: None)
    assert isinstance(found, Instance)
    put(tmp_path, {"007/pre/a.gz": gzip.compress(image(2, 6000))})
    assert source.stat("007/pre/a.gz") != (found.size, found.mtime_ns)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("cut", [3, 100])
@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_file_that_is_damaged(tmp_path: Path, suffix: str, cut: int) -> None:
    """In its data or in the checksum behind them: a problem."""
    noise = bytes(n * n % 251 for n in range(400_000))
    whole = COMPRESS[suffix](part10({**IDENTITY, PIXELS: ("OW", noise)}))
    put(tmp_path, {f"007/pre/a.dcm{suffix}": whole[:-cut]})
    assert seen(open_source(str(tmp_path), 2))[f"007/pre/a.dcm{suffix}"].startswith("problem ")


def test_a_gzip_damaged_from_its_start_is_a_problem(tmp_path: Path) -> None:
    """Nobody knows what it held; NIfTI is not what is asked for here."""
    start = gzip.compress(image(1))[:12]
    put(tmp_path, {"007/pre/a.dcm.gz": start, "007/pre/b.nii.gz": start})
    found = seen(open_source(str(tmp_path), 2))
    assert found["007/pre/a.dcm.gz"].startswith("problem unreadable")
    assert found["007/pre/b.nii.gz"].startswith("note not-dicom")


@pytest.mark.parametrize("size", [700, 5000, 70_000])
def test_a_damaged_gzip_of_something_else_is_called_so(tmp_path: Path, size: int) -> None:
    """It is no member of an archive."""
    data = bytearray(gzip.compress(bytes(n % 251 for n in range(size))))
    data[-8] ^= 1  # of the checksum
    put(tmp_path, {"007/pre/table": bytes(data), "007/pre/b": image(1)})
    found = seen(open_source(str(tmp_path), 2))["007/pre/table"]
    assert found.startswith("problem unreadable: a gzip file that is")
    assert "its archive" not in found


def test_compressed_nifti_stays_what_it_is(tmp_path: Path) -> None:
    nifti = gzip.compress((348).to_bytes(4, "little") + bytes(500))
    put(tmp_path, {"007/pre/a.nii.gz": nifti, "007/pre/b": image(1)})
    source = open_source(str(tmp_path), 2)
    assert seen(source)["007/pre/a.nii.gz"] == "note nested-archive: a gzip file"
    assert source.stat("007/pre/a.nii.gz")[0] == len(nifti)


def test_compressed_files_that_are_not_read_are_problems(tmp_path: Path) -> None:
    """DICOM under a name that does not tell, and what the standard library cannot read."""
    put(tmp_path, {"007/pre/a": gzip.compress(image(1)), "007/pre/b.dcm.zst": b"\x28\xb5\x2f\xfd" + bytes(90)})
    put(tmp_path, {"007/pre/notes.gz": gzip.compress(b"words"), "007/pre/c.xz": lzma.compress(tarred({"a": image(2)}))})
    found = seen(open_source(str(tmp_path), 2))
    assert "rename it" in found["007/pre/a"]
    assert (
        found["007/pre/b.dcm.zst"] == "problem unreadable: packed as zstd, which cannot be read here; unpack it there"
    )
    assert found["007/pre/c.xz"].startswith("problem unreadable")
    assert found["007/pre/notes.gz"] == "note nested-archive: a gzip file"


def test_a_compressed_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_members, "BOMB_SIZE", 1 << 20)
    put(tmp_path, {"007/pre/a.dcm.gz": gzip.compress(image(1, 8 << 20))})
    assert seen(open_source(str(tmp_path), 2))["007/pre/a.dcm.gz"].startswith("problem too-large")


def test_a_stop_is_heard_while_a_compressed_file_is_measured(tmp_path: Path) -> None:
    class Heard(Exception):
        pass

    def stop() -> None:
        raise Heard

    put(tmp_path, {"007/pre/a.dcm.gz": gzip.compress(image(1, 1 << 20))})
    with pytest.raises(Heard):
        list(open_source(str(tmp_path), 2, stop).files())


@pytest.mark.parametrize("leaf", [2, None])
@pytest.mark.parametrize("suffix", PACK)
def test_an_archive_below_a_session_is_read_there(tmp_path: Path, suffix: str, leaf: int | None) -> None:
    """A scan as T1.zip, also where -S and -E make ROOT the session."""
    put(tmp_path, {f"007/pre/T1{suffix}": PACK[suffix]({"IM1": image(1), "a.txt": b"x"}), "007/pre/b": image(2)})
    assert seen(open_source(str(tmp_path), leaf)) == {
        f"007/pre/T1{suffix}/IM1": "",
        f"007/pre/T1{suffix}/a.txt": "note not-dicom: ",
        "007/pre/b": "",
    }


@pytest.mark.parametrize("suffix", PACK)
def test_an_archive_without_dicom_below_a_session_is_a_note(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, {f"007/pre/papers{suffix}": PACK[suffix]({"a.txt": b"x", "b.gz": gzip.compress(b"words")})})
    (told,) = seen(open_source(str(tmp_path), 2)).values()
    assert told.startswith("note nested-archive")


@pytest.mark.parametrize("name", ["007/pre/T1", "study.zip", "007/pre/outer.zip", "007/pre.zip"])
def test_an_archive_with_dicom_that_is_not_read_is_a_problem(tmp_path: Path, name: str) -> None:
    """Under a name that does not tell, above the sessions, in another archive."""
    inner = zipped({"IM1": image(1)})
    data = zipped({"T1.zip": inner, "b": image(2)}) if name in ("007/pre/outer.zip", "007/pre.zip") else inner
    told = seen(open_source(str(put(tmp_path, {name: data})), 2))
    told.pop(f"{name}/b", "")
    (why,) = told.values()
    assert why.startswith("problem unreadable")
    assert "with DICOM in it" in why


def test_a_damaged_archive_below_a_session_is_a_problem(tmp_path: Path) -> None:
    """Nobody can tell what it held."""
    put(
        tmp_path, {"007/pre/T1.tgz": PACK[".tgz"]({"a.txt": b"x"})[:-9], "007/pre/T2.zip": zipped({"a.txt": b"x"})[:-9]}
    )
    found = seen(open_source(str(tmp_path), 2))
    assert {why.partition(":")[0] for why in found.values()} == {"problem unreadable"}


NO_ARCHIVE = {
    "damaged": b"\xff\xff\xff\xff and so on",
    "zeros": bytes(2000),
    "empty": b"",
    "web page": b"\n<!DOCTYPE html><html>404</html>",
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    "git-annex": b"/annex/objects/MD5E-s1--00.zip\n",
    "gzip": gzip.compress(b"words"),
}


@pytest.mark.parametrize("kind", NO_ARCHIVE)
@pytest.mark.parametrize("name", ["007/pre.zip", "007/pre.TAR", "007/pre.tar.gz", "007/pre.tgz", "007/pre/T1.zip"])
@pytest.mark.parametrize("leaf", [2, 0])
def test_an_archive_by_name_that_is_none_is_a_problem(tmp_path: Path, kind: str, name: str, leaf: int) -> None:
    """It may stand for a whole session. What macOS lays beside files is no archive."""
    put(tmp_path, {name: NO_ARCHIVE[kind], "007/._pre.zip": b"\0\5\x16\7" + bytes(100)})
    found = seen(open_source(str(tmp_path), leaf))
    assert found.pop("007/._pre.zip").startswith("note")
    (why,) = found.values()
    assert why.startswith("problem unreadable: named like an archive, but ")
    words = {
        "empty": "empty",
        "zeros": "zeros",
        "web page": "web page",
        "git-lfs": "git lfs pull",
        "gzip": "without a tar",
    }
    assert words.get(kind, "") in why


def test_a_member_that_damage_has_made_no_dicom_is_a_problem(tmp_path: Path) -> None:
    """Its checksum speaks, though nothing in its first bytes does."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("IM1", image(1))
        archive.writestr("notes.txt", b"words" * 200_000)
    data = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(data.replace(b"DICM", b"DICN").replace(b"words", b"wards", 1))
    found = seen(open_source(str(tmp_path / "x.zip")))
    assert {path: why.partition(":")[0] for path, why in found.items()} == {
        "IM1": "problem unreadable",
        "notes.txt": "problem unreadable",
    }


@pytest.mark.parametrize("name", ["009", "007/pre", "007/post.zip"])
def test_a_link_out_of_root_in_a_sessions_or_subjects_place_is_a_problem(tmp_path: Path, name: str) -> None:
    put(tmp_path, {"else/IM1": image(1), "x.zip": b"", "root/007/x/IM1": image(2), "root/008/a/b": image(3)})
    (tmp_path / "root" / name).symlink_to(tmp_path / ("x.zip" if name.endswith("zip") else "else"))
    told = seen(open_source(str(tmp_path / "root"), 2))[name]
    assert told.startswith("problem unreadable: a link in the place of a ")


@pytest.mark.parametrize("name", ["readme", "007/pre/T1", "007/pre/deep/IM1"])
def test_another_link_out_of_root_is_a_note(tmp_path: Path, name: str) -> None:
    put(tmp_path, {"else/IM1": image(1), "root/007/pre/deep/b": image(2)})
    (tmp_path / "root" / name).symlink_to(tmp_path / ("else" if name.endswith("T1") else "else/IM1"))
    assert seen(open_source(str(tmp_path / "root"), 2))[name].startswith("note link: points outside ROOT")
