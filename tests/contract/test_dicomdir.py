"""DICOMDIR media: the directory is held against the tree, and never sent."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pydicom
import pytest

from tests.conftest import Ingest
from tests.contract.test_archives import to_tgz, to_zip
from tests.dicom_trees import SAMPLES, Series, make_session

MEDIA = SAMPLES / "dicomdirtests"


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A medium as it is: every file that its directory names is there."""
    root = tmp_path / "media"
    shutil.copytree(MEDIA, root, ignore=shutil.ignore_patterns("DICOMDIR-*", "TINY_ALPHA", "*.txt"))
    return root


def kinds(ingest: Ingest, root: Path) -> dict[str, str]:
    ended = ingest("plan", root, "--layout", "headers")
    return {p["kind"]: p["detail"] for p in ended.report["problems"] if p["kind"].startswith("dicomdir")}


def test_a_whole_medium(media: Path, ingest: Ingest) -> None:
    assert kinds(ingest, media) == {}
    asides = ingest("plan", media, "--layout", "headers").report["set_aside"]
    assert [aside["reason"] for aside in asides if aside["path"] == "DICOMDIR"] == ["dicomdir"]


@pytest.mark.wide
def test_a_file_that_is_absent(media: Path, ingest: Ingest) -> None:
    lost = next(path for path in sorted(media.rglob("*")) if path.is_file() and path.name != "DICOMDIR")
    lost.unlink()
    found = kinds(ingest, media)
    assert (
        found["dicomdir-absent"] == f"DICOMDIR lists 1 files that do not exist: {lost.relative_to(media).as_posix()}; "
        "the medium was only partly copied: copy it again"
    )
    ended = ingest("plan", media, "--layout", "headers")
    assert ended.code == 3
    assert [aside["reason"] for aside in ended.report["set_aside"] if aside["path"] == "DICOMDIR"] == [
        "dicomdir-absent"
    ]


def images(media: Path) -> list[Path]:
    return [path for path in sorted(media.rglob("*")) if path.is_file() and path.name != "DICOMDIR"]


@pytest.mark.parametrize("data", [b"garbage" * 100, b"<html>gone</html>", bytes(range(256)) * 40])
def test_a_file_that_holds_no_image_any_more(media: Path, ingest: Ingest, data: bytes) -> None:
    lost, *_ = images(media)
    lost.write_bytes(data)
    found = kinds(ingest, media)["dicomdir-absent"]
    assert f"DICOMDIR lists 1 files that do not hold their image: {lost.relative_to(media).as_posix()}; the" in found
    assert ingest("plan", media, "--layout", "headers").code == 3
    images(media)[1].unlink()
    assert "1 files that do not exist: " in kinds(ingest, media)["dicomdir-absent"]
    lost.with_name("NOTES").write_bytes(data)  # not listed
    assert "1 files that do not hold their image: " in kinds(ingest, media)["dicomdir-absent"]


@pytest.mark.parametrize("flags", [(), ("--deidentify", "basic")])
def test_a_file_that_holds_another_image_of_the_medium(
    media: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    """Copied twice, under two names. A second copy of an image that the directory lists elsewhere is only a copy."""
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", "k" * 40)
    first, second, *_ = images(media)
    for copy in (first.with_name("COPY"), media / "AAA"):  # behind the image, and before it
        shutil.copy(first, copy)
        asides = ingest("plan", media, "--layout", "headers", *flags).report["set_aside"]
        assert {aside["reason"] for aside in asides} & {"duplicate", "dicomdir-absent"} == {"duplicate"}
        copy.unlink()
    for one, other in ((first, second), (second, first)):  # whichever comes first, and is the one that is sent
        kept = other.read_bytes()
        shutil.copy(one, other)
        report = ingest("plan", media, "--layout", "headers", *flags).report
        assert "1 files that do not hold their image: " in str(report["problems"])
        other.write_bytes(kept)


def test_a_file_that_holds_another_image(media: Path, ingest: Ingest) -> None:
    """Unless no file holds what the directory says: then all UIDs were changed after it was written."""
    make_session(media.parent / "other", [Series("T1_1", 1)])
    (other,) = (path for path in (media.parent / "other").rglob("*") if path.is_file())
    first, *rest = images(media)
    shutil.copy(other, first)
    assert "1 files that do not hold their image: " in kinds(ingest, media)["dicomdir-absent"]
    for number, path in enumerate((first, *rest)):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = f"1.2.3.{number}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path)
    found = kinds(ingest, media)
    assert "dicomdir-absent" not in found
    assert found["dicomdir-unreferenced"].startswith("no file holds an image that DICOMDIR lists: its UIDs are")


def test_a_file_that_is_elsewhere(media: Path, ingest: Ingest) -> None:
    """A link out of the medium is not followed."""
    first = next(one for one, other in pairwise(images(media)) if one.parent == other.parent)
    first.rename(media.parent / "moved")
    first.symlink_to(media.parent / "moved")
    assert "1 files that do not hold their image: " in kinds(ingest, media)["dicomdir-absent"]


def test_a_file_that_a_rule_leaves_out_is_not_lost(media: Path, ingest: Ingest) -> None:
    lost, *_ = images(media)
    lost.write_bytes(b"garbage")
    ended = ingest("plan", media, "--layout", "headers", "--exclude", f"path={lost.relative_to(media).as_posix()}")
    assert [p["kind"] for p in ended.report["problems"] if p["kind"].startswith("dicomdir")] == []


def test_a_listed_document_that_is_no_dicom(media: Path, ingest: Ingest) -> None:
    """A directory may list documents in XML, too."""
    directory = pydicom.dcmread(media / "DICOMDIR")
    record = next(r for r in directory.DirectoryRecordSequence if r.get("ReferencedFileID"))
    name = record.ReferencedFileID
    media.joinpath(*([name] if isinstance(name, str) else name)).write_text("<ClinicalDocument/>")
    assert "dicomdir-absent" in kinds(ingest, media)
    record.DirectoryRecordType = "HL7 STRUC DOC"
    directory.save_as(media / "DICOMDIR")
    assert "dicomdir-absent" not in kinds(ingest, media)


def nest(media: Path, folder: str) -> Path:
    """The medium in a folder of another one, its directory's names counting from the top, as Philips scanners do."""
    inner = media.parent / "outer" / folder
    inner.parent.mkdir()
    media.rename(inner)
    directory = pydicom.dcmread(inner / "DICOMDIR")
    for record in directory.DirectoryRecordSequence:
        if name := record.get("ReferencedFileID"):
            record.ReferencedFileID = [folder, *([name] if isinstance(name, str) else name)]
    directory.save_as(inner / "DICOMDIR")
    return media.parent / "outer"


def test_a_nested_directory_whose_names_count_from_the_top(media: Path, ingest: Ingest) -> None:
    """Nothing is absent, until a file is."""
    outer = nest(media, "98892001")
    assert kinds(ingest, outer) == {}
    lost = next(path for path in sorted(outer.rglob("*")) if path.is_file() and path.name != "DICOMDIR")
    lost.unlink()
    found = kinds(ingest, outer)
    assert list(found) == ["dicomdir-absent"]
    assert "lists 1 files" in found["dicomdir-absent"]
    assert lost.relative_to(outer).as_posix() in found["dicomdir-absent"]


def test_a_file_that_is_not_named(media: Path, ingest: Ingest) -> None:
    make_session(media / "EXTRA", [Series("T1_1", 1)])
    assert (
        "1 DICOM files beside DICOMDIR are not listed in it: EXTRA/T1_1/"
        in kinds(ingest, media)["dicomdir-unreferenced"]
    )


def test_names_in_small_letters(media: Path, ingest: Ingest) -> None:
    """A medium is written in capitals, copies of it are often not."""
    for path in sorted(media.rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.lower()))
    assert kinds(ingest, media) == {}


def test_a_medium_below_root(media: Path, ingest: Ingest) -> None:
    (media.parent / "disks").mkdir()
    media.rename(media.parent / "disks" / "one")
    assert kinds(ingest, media.parent / "disks") == {}


def test_a_medium_in_an_archive(media: Path, tmp_path: Path, ingest: Ingest) -> None:
    for name, pack in (("m.zip", to_zip), ("m.tgz", to_tgz)):
        pack(media, tmp_path / name)
        assert kinds(ingest, tmp_path / name) == {}


def test_a_damaged_directory(media: Path, ingest: Ingest) -> None:
    whole = (media / "DICOMDIR").read_bytes()
    (media / "DICOMDIR").write_bytes(whole[:600])
    found = ingest("plan", media, "--layout", "headers")
    told = {p["kind"] for p in found.report["problems"]} | {a["reason"] for a in found.report["set_aside"]}
    assert told & {"dicomdir-unreadable", "truncated", "dicomdir-unreferenced"}


def test_another_medium_has_the_same_names(media: Path, ingest: Ingest) -> None:
    """Every medium calls its images alike. Only the UIDs tell whether a file elsewhere is the one that is listed."""
    (media / "two").mkdir()
    shutil.copy(media / "DICOMDIR", media / "two" / "DICOMDIR")
    assert kinds(ingest, media) == {}  # a copy of the directory, whose images are all there
    for number, path in enumerate(images(media)):
        if path.name != "DICOMDIR" and "two" not in path.parts:
            dataset = pydicom.dcmread(path)
            dataset.SOPInstanceUID = f"1.2.3.{number}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(path)
    asked = ingest("plan", media, "--layout", "headers")
    assert asked.code == 3
    (told,) = (p["detail"] for p in asked.report["problems"] if p["kind"] == "dicomdir-absent")
    assert told.startswith("two/DICOMDIR lists 31 files that do not exist: ")


@pytest.mark.parametrize("flags", [(), ("--exclude", "Modality=CT")])
def test_files_that_were_given_another_name(media: Path, ingest: Ingest, flags: tuple[str, ...]) -> None:
    """Copies are renamed, compressed and packed. Their images are there."""
    whole = ingest("plan", media, "--layout", "headers", *flags)
    for number, path in enumerate(images(media)):
        match number % 4:
            case 0:
                path.rename(path.with_name(f"{path.name}.dcm"))
            case 1:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
                path.unlink()
            case 2:
                path.with_name(f"{path.name}.dicom.xz").write_bytes(lzma.compress(path.read_bytes()))
                path.unlink()
    found = ingest("plan", media, "--layout", "headers", *flags)
    assert [p["detail"] for p in found.report["problems"] if p["kind"].startswith("dicomdir")] == []
    for count in ("planned", "excluded", "set_aside"):
        assert found.report["totals"][count] == whole.report["totals"][count]


def test_files_that_lie_elsewhere(media: Path, ingest: Ingest) -> None:
    """An image is there, too, where its folder was packed, or where it has quite another name."""
    to_zip(media / "77654033" / "CT2", media / "77654033" / "ct.zip")
    shutil.rmtree(media / "77654033" / "CT2")
    (media / "98892001").rename(media / "second")
    assert kinds(ingest, media) == {}


def test_a_record_that_is_not_in_use(media: Path, ingest: Ingest) -> None:
    """A record that was deleted from the directory lists nothing. Where none is in use, the flag means nothing."""
    directory = pydicom.dcmread(media / "DICOMDIR")
    records = [r for r in directory.DirectoryRecordSequence if r.get("ReferencedFileID")]
    media.joinpath(*records[0].ReferencedFileID).unlink()
    assert "dicomdir-absent" in kinds(ingest, media)
    records[0].RecordInUseFlag = 0
    directory.save_as(media / "DICOMDIR")
    assert kinds(ingest, media) == {}
    for record in records:
        record.RecordInUseFlag = 0
    directory.save_as(media / "DICOMDIR")
    assert "lists 1 files that do not exist" in kinds(ingest, media)["dicomdir-absent"]


def test_two_images_of_one_name(media: Path, ingest: Ingest) -> None:
    """A directory that lists a name twice, with two images: one of them is lost, whichever comes last."""
    directory = pydicom.dcmread(media / "DICOMDIR")
    first, second, *_ = (r for r in directory.DirectoryRecordSequence if r.get("ReferencedFileID"))
    media.joinpath(*first.ReferencedFileID).unlink()
    first.ReferencedFileID = second.ReferencedFileID
    directory.save_as(media / "DICOMDIR")
    assert "1 files that do not hold their image" in kinds(ingest, media)["dicomdir-absent"]


def lower(media: Path, lost: Path) -> None:
    """As a copy of a disc is spelled on some systems. lost: what was not copied."""
    lost.unlink()
    for path in sorted(media.rglob("*"), key=lambda one: -len(one.parts)):
        if path.name != "DICOMDIR":
            path.rename(path.with_name(path.name.lower()))


LOSSES: dict[str, Callable[[Path], object]] = {
    "a file": lambda media: images(media)[0].unlink(),
    "a folder": lambda media: shutil.rmtree(media / "77654033/CR1"),
    "a person's": lambda media: shutil.rmtree(media / "98892003"),
    "the content of a file": lambda media: images(media)[0].write_bytes(b"garbage" * 100),
    "a file, the others in lower case": lambda media: lower(media, images(media)[0]),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("loss", LOSSES)
def test_names_that_only_the_directory_has_are_redacted(media: Path, ingest: Ingest, loss: str) -> None:
    folders = [path.name for path in media.rglob("*") if path.is_dir()]
    LOSSES[loss](media)
    pages = media.parent / "out.html", media.parent / "out.junit"
    flags = ("--layout", "headers", "--redact-paths", "--html", str(pages[0]), "--junit", str(pages[1]))
    ended = ingest("plan", media, *flags)
    (absent,) = (one["detail"] for one in ended.report["problems"] if one["kind"] == "dicomdir-absent")
    assert re.match(r"n-\w+ lists \d+ files that do not (exist|hold their image): n-\w+/n-\w+/n-\w+", absent)
    details = [one["detail"] for one in ended.report["problems"] + ended.report["set_aside"]]
    for text in (ended.out, ended.err, *details, *map(Path.read_text, pages)):
        assert not [name for name in folders if f"{name}/".casefold() in text.casefold()]
