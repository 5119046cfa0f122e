"""Copies whose length tells nothing, as where a script changes headers and there are too few to compare."""

from __future__ import annotations

import os
import shutil
import signal
import tarfile
import threading
import time
from collections import Counter
from pathlib import Path

import pydicom
import pytest

from tests.conftest import Ended, Ingest
from tests.dicom_trees import Series, make_session
from tests.standin import StandIn
from tests.standin.fault import Fault
from xnat_ingest.delivery import whole_copies

DIRECT = ("--destination", "direct-archive")
PREARCHIVE = ("--destination", "prearchive")
KINDS = {
    "MR": Series("T1_1", 2),
    "one": Series("T1_1", 1),
    "big endian": Series("T1_1", 2, "MR_small_bigendian.dcm"),
    "implicit": Series("T1_1", 2, "MR_small_implicit.dcm"),
    "RLE": Series("T1_1", 2, "MR_small_RLE.dcm"),
    "JPEG 2000": Series("T1_1", 2, "MR_small_jp2klossless.dcm"),
    "deflated": Series("T1_1", 2, "image_dfl.dcm"),
    "report": Series("SR_1", 2, "test-SR.dcm"),
    "plan": Series("RT_1", 1, "rtplan.dcm"),
}
# Series UIDs in this order are archived as -MR1, -MR2 and so on.
SIBLINGS = tuple(Series(f"T{n}_{n}", 2, number=4, tags={"SeriesInstanceUID": f"1.{n}"}) for n in (1, 2, 3))


def scripted(site: StandIn, where: str) -> None:
    if where == "project":
        site.project("DEMO").anon_script = "name"
    else:
        site.settings.site_anonymization, site.settings.site_script = True, where


def files(site: StandIn) -> list[Path]:
    """The images on the server's disk."""
    return [path for path in site.root.rglob("*.dcm") if "SCANS" in path.parts]


def copies(site: StandIn) -> Counter[str]:
    return Counter(str(pydicom.dcmread(path).SOPInstanceUID) for path in files(site))


def sent_again(ended: Ended) -> bool:
    assert ended.code == 0, ended.out
    return bool(ended.totals["bytes_sent"])


@pytest.mark.parametrize("way", [DIRECT, PREARCHIVE], ids=lambda way: str(way[1]))
@pytest.mark.parametrize("script", ["project", "name", "uids"])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_copies_are_not_sent_again(
    site: StandIn, ingest: Ingest, tmp_path: Path, kind: str, script: str, way: tuple[str, ...]
) -> None:
    scripted(site, script)
    made = make_session(tmp_path / "t/S/E", [KINDS[kind]])
    assert ingest("upload", tmp_path / "t", *way).code == 0
    for proof in ("spot", "listing"):
        assert not sent_again(ingest("upload", tmp_path / "t", *way, "--proof", proof))
    assert len(files(site)) == len(made)


@pytest.mark.parametrize("lost", [1, 9, 700])
@pytest.mark.parametrize("kind", ["MR", "RLE", "JPEG 2000", "report"])
def test_a_copy_that_is_cut_is_sent_again(site: StandIn, ingest: Ingest, tmp_path: Path, kind: str, lost: int) -> None:
    scripted(site, "project")
    make_session(tmp_path / "t/S/E", [KINDS[kind]])
    assert ingest("upload", tmp_path / "t", *DIRECT).code == 0
    path, other = files(site)
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    ended = ingest("upload", tmp_path / "t", *DIRECT)
    assert sent_again(ended)
    assert ended.totals["bytes_sent"] < len(whole) + len(other.read_bytes())
    assert path.read_bytes() == whole
    assert not sent_again(ingest("upload", tmp_path / "t", *DIRECT))


def test_an_archive_that_is_read_in_order(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    scripted(site, "project")
    made = make_session(tmp_path / "made/E", [Series("T1_1", 2)])
    (tmp_path / "t/S").mkdir(parents=True)
    with tarfile.open(tmp_path / "t/S/E.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made/E", "E")
    assert ingest("upload", tmp_path / "t", *DIRECT).code == 0
    assert not sent_again(ingest("upload", tmp_path / "t", *DIRECT))
    assert len(files(site)) == len(made)


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_where_the_server_gives_no_files_they_are_sent_again(
    site: StandIn, ingest: Ingest, tmp_path: Path, status: int
) -> None:
    scripted(site, "project")
    made = make_session(tmp_path / "t/S/E", [KINDS["MR"]])
    assert ingest("upload", tmp_path / "t", *DIRECT).code == 0
    refused = site.faults.add(Fault("status", match="GET .*[.]dcm", status=status, times=None))
    assert sent_again(ingest("upload", tmp_path / "t", *DIRECT))
    assert refused.hits
    assert len(files(site)) == len(made)


@pytest.mark.parametrize(("name", "most"), [("MOST_FILES", 1), ("MOST_BYTES", 15_000)])
def test_no_more_is_read_than_this(
    site: StandIn, ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    scripted(site, "project")
    make_session(tmp_path / "t/S/E", [KINDS["MR"]])
    assert ingest("upload", tmp_path / "t", *DIRECT).code == 0
    monkeypatch.setattr(whole_copies, name, most)
    ended = ingest("upload", tmp_path / "t", *DIRECT)
    assert sent_again(ended)
    assert ended.totals["bytes_sent"] < 15_000


def test_an_answer_without_end_is_not_read_on(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    scripted(site, "project")
    make_session(tmp_path / "t/S/E", [KINDS["one"]])
    assert ingest("upload", tmp_path / "t", *DIRECT).code == 0
    (path,) = files(site)
    path.write_bytes(path.read_bytes() + bytes(3 << 20))
    assert sent_again(ingest("upload", tmp_path / "t", *DIRECT))


def test_a_signal_is_heard_while_a_copy_is_read(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    scripted(site, "project")
    make_session(tmp_path / "t/S/E", [KINDS["MR"]])
    assert ingest("upload", tmp_path / "t", *DIRECT).code == 0
    held = site.faults.add(Fault("delay", match="GET .*[.]dcm", seconds=1, times=None))

    def stop() -> None:
        while not held.hits:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    ended = ingest("upload", tmp_path / "t", *DIRECT, "-w", "1")
    thread.join()
    assert (ended.code, ended.totals["bytes_sent"], held.hits) == (143, 0, 1)


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_siblings_of_one_number_stay_where_they_are(site: StandIn, ingest: Ingest, tmp_path: Path, cut: int) -> None:
    """XNAT corrects scan ids, has the script run, and counts the scans again: only a full company keeps them."""
    scripted(site, "project")
    made = make_session(tmp_path / "t/S/E", SIBLINGS)
    assert ingest("upload", tmp_path / "t", *DIRECT).code == 0
    before = {path: path.read_bytes() for path in files(site)}
    path = sorted(before)[2 * cut]
    path.write_bytes(before[path][:-700])
    assert sent_again(ingest("upload", tmp_path / "t", *DIRECT))
    assert {path: path.read_bytes() for path in files(site)} == before
    assert copies(site) == dict.fromkeys((str(pydicom.dcmread(path).SOPInstanceUID) for path in made), 1)


@pytest.mark.parametrize("script", ["", "project"])
def test_a_new_sibling_comes_to_archived_ones(site: StandIn, ingest: Ingest, tmp_path: Path, script: str) -> None:
    """Where nothing changes headers, no more of them go along than XNAT asks for."""
    if script:
        scripted(site, script)
    make_session(tmp_path / "t/S/E", SIBLINGS[:2])
    assert ingest("upload", tmp_path / "t").code == 0
    made = make_session(tmp_path / "t/S/E", SIBLINGS)
    ended = ingest("upload", tmp_path / "t")
    assert ended.code == 0, ended.out
    assert ended.totals["verified"] == len(made)
    assert copies(site) == dict.fromkeys((str(pydicom.dcmread(path).SOPInstanceUID) for path in made), 1)


def test_what_a_run_stores_twice_is_told(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    """A sibling that is not in the tree cannot go along, so the others get other scan ids. Later it is only a note."""
    scripted(site, "project")
    make_session(tmp_path / "t/S/E", SIBLINGS)
    assert ingest("upload", tmp_path / "t").code == 0
    shutil.rmtree(tmp_path / "t/S/E" / SIBLINGS[1].name)
    path = next(path for path in files(site) if "4-MR3" in path.parts)
    path.write_bytes(path.read_bytes()[:-700])
    ended = ingest("upload", tmp_path / "t", *DIRECT)
    twice = [uid for uid, number in copies(site).items() if number > 1]
    assert (ended.code, ended.kinds(), len(twice)) == (3, ["doubled"], 1)
    assert f"this run has stored 1 instances a second time: {twice[0]}" in ended.out
    again = ingest("upload", tmp_path / "t")
    assert (again.code, again.kinds()) == (0, ["doubled"])
    assert "1 instances are stored twice" in again.out


@pytest.mark.parametrize("template", ["${SOPInstanceUID}", "x-${Modality}-${HashSOPClassUIDWithSOPInstanceUID}"])
def test_what_a_run_stores_twice_is_told_on_sites_with_names_of_their_own(
    site: StandIn, ingest: Ingest, tmp_path: Path, template: str
) -> None:
    """The project's script has a series listed under another of its number. With the next one it comes again."""
    scripted(site, "project")
    site.settings.file_name_template = template
    codes = []
    for number in range(3):
        make_session(tmp_path / "t/S/E", SIBLINGS[: number + 1])
        ended = ingest("upload", tmp_path / "t")
        codes.append(ended.code)
    twice = sorted(uid for uid, number in copies(site).items() if number > 1)
    assert (codes, len(twice) > 0, ended.kinds()) == ([0, 3, 3], True, ["doubled"]), ended.out
    assert f"this run has stored {len(twice)} instances a second time: " in ended.out
    assert all(uid in ended.out for uid in twice)
    assert ingest("verify", tmp_path / "t").kinds() == ["doubled"]
