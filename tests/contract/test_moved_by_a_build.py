"""What a build moves: objects that are no primary images, series that share their number, and sites that change UIDs.

XNAT takes no second copy of them after a build. Whatever happens, the disk holds each instance once in the end.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import RTStructureSetStorage, SecondaryCaptureImageStorage, XRayRadiationDoseSRStorage

from tests.conftest import PASSWORD, Ended, Ingest, stored
from tests.dicom_trees import Series, make_series, make_session
from tests.standin import Fault, StandIn
from tests.standin.samples import Client
from xnat_ingest.cli import main

MR = Series("T1_0001", 3)
CAPTURES = Series("capture_0002", 2, tags={"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"})
DOSE = Series("dose_0003", 2, "test-SR.dcm", tags={"SOPClassUID": XRayRadiationDoseSRStorage})
STRUCTURES = Series("rtstruct_0004", 1, "rtplan.dcm", tags={"SOPClassUID": RTStructureSetStorage})
MIXED = (MR, CAPTURES, DOSE, STRUCTURES)
ONLY_CAPTURES = (CAPTURES,)
TREES = {"mixed": MIXED, "captures alone": ONLY_CAPTURES}
PART = "POST /data/services/import"


def bodies(paths: Sequence[Path]) -> list[bytes]:
    return sorted(path.read_bytes()[132:] for path in paths)


def on_disk(site: StandIn) -> list[bytes]:
    """Everything in archive and prearchive, without preambles, which say nothing."""
    return sorted(path.read_bytes()[132:] for path in site.root.rglob("*") if path.is_file())


def delivered(ended: Ended, site: StandIn, paths: Sequence[Path], *, rows: Sequence[str] = ()) -> None:
    """Exit 0, every instance by identity, the disk holds each once, and no row is left but those."""
    assert ended.code == 0, ended.out + ended.err
    assert ended.totals["verified"] == ended.totals["planned"] == len(paths)
    assert on_disk(site) == bodies(paths)
    assert [row.status for row in site.rows("DEMO")] == list(rows)


@pytest.fixture(params=TREES)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    return make_session(tmp_path / "t/S/E", TREES[request.param], "study")


@pytest.mark.wide
@pytest.mark.parametrize("transport", ["archive", "gradual"])
def test_a_session_stays_in_the_prearchive_and_is_archived_later(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, transport: str
) -> None:
    """A second run sends nothing, whether it leaves the row there or archives it."""
    flags = ("--transport", transport)
    delivered(ingest("upload", tmp_path / "t", "--destination", "prearchive", *flags), site, tree, rows=["READY"])
    again = ingest("upload", tmp_path / "t", "--destination", "prearchive", *flags)
    delivered(again, site, tree, rows=["READY"])
    assert again.totals["bytes_sent"] == 0
    assert ingest("verify", tmp_path / "t", "--destination", "prearchive").code == 0
    delivered(ingest("upload", tmp_path / "t", *flags), site, tree)
    assert ingest("verify", tmp_path / "t").code == 0


@pytest.mark.sampled(1)
@pytest.mark.parametrize("destination", ["archive", "prearchive"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_reply_is_lost(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, destination: str, number: int
) -> None:
    site.faults.add(Fault("reset-reply", PART, skip=number - 1))
    ended = ingest("upload", tmp_path / "t", "--part-size", "20K", "--destination", destination)
    delivered(ended, site, tree, rows=["READY"] if destination == "prearchive" else [])


@pytest.mark.sampled(4)
@pytest.mark.parametrize("template", ["${SOPInstanceUID}", "${SeriesNumber}-${SOPInstanceUID}"])
@pytest.mark.parametrize("flags", [(), ("--proof", "listing"), ("--transport", "gradual")])
@pytest.mark.parametrize("skips", [(0, 1), (1, 2), (2, 3)])
def test_transfers_are_cut_where_the_site_has_names_of_its_own(
    ingest: Ingest,
    site: StandIn,
    tree: list[Path],
    tmp_path: Path,
    template: str,
    flags: tuple[str, ...],
    skips: tuple[int, ...],
) -> None:
    """No name shows that a build has moved an object, but it lies in `secondary`. It is not sent again after that."""
    site.settings.file_name_template = template
    for skip in skips:
        site.faults.add(Fault("reset", PART, skip=skip, after=3000))
    ended = ingest("upload", tmp_path / "t", "--part-size", "20K", *flags)
    assert ended.code == 0, ended.out + ended.err
    assert on_disk(site) == bodies(tree)
    assert site.rows("DEMO") == []


@pytest.mark.parametrize("transport", ["archive", "gradual"])
@pytest.mark.parametrize("other", ["prearchive", "archive"])
def test_two_runs_at_once_into_the_prearchive(site: StandIn, tmp_path: Path, transport: str, other: str) -> None:
    """The first to end has XNAT build it. Nothing of the second may be under way then: it would be there twice."""
    tree = make_session(tmp_path / "t/S/E", MIXED, "study")
    site.faults.add(Fault("slow", PART, rate=150_000, times=None))
    site.settings.lastmod_step = 0.75  # the program's own waits are as much shorter (tests/short_waits.py)
    runs = []
    for destination in ("prearchive", other):
        command = ["upload", str(tmp_path / "t"), "-P", "DEMO", "--destination", destination, "--transport", transport]
        runs.append(subprocess.Popen([sys.executable, "-m", "tests.short_waits", *command], stdout=-1, stderr=-2))
        time.sleep(0.1)
    said = [run.communicate(timeout=60)[0].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert on_disk(site) == bodies(tree)
    site.faults.clear()
    command = ["upload", str(tmp_path / "t"), "-P", "DEMO"]
    subprocess.run([sys.executable, "-m", "tests.short_waits", *command], check=True, capture_output=True)
    assert on_disk(site) == bodies(tree)
    assert site.rows("DEMO") == []


@pytest.mark.parametrize("transport", ["archive", "gradual"])
def test_a_second_copy_in_the_prearchive_is_named(
    ingest: Ingest, site: StandIn, tmp_path: Path, transport: str
) -> None:
    """Another run has built it while this one sent. No listing shows the copy that came later. Each run says so."""
    tree = make_session(tmp_path / "t/S/E", ONLY_CAPTURES, "study")
    flags = ("--destination", "prearchive", "--transport", transport)
    delivered(ingest("upload", tmp_path / "t", *flags), site, tree, rows=["READY"])
    left_open(site, tree[:1])
    assert len(on_disk(site)) == len(tree) + 1
    for _ in range(3):
        ended = ingest("upload", tmp_path / "t", *flags)
        assert (ended.code, ended.kinds()) == (3, ["stale-row"])
        assert "while it was built or later" in ended.report["problems"][0]["detail"]
    assert [row.status for row in site.rows("DEMO")] == ["RECEIVING"]


def test_a_built_prearchive_session_goes_on_growing(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """What a killed run has sent after the build explains why it is open again."""
    tree = make_session(tmp_path / "t/S/E", (MR, CAPTURES), "study")
    late = tmp_path / "late.dcm"
    tree[2].rename(late)
    flags = ("--destination", "prearchive")
    assert ingest("upload", tmp_path / "t", *flags).code == 0
    late.rename(tree[2])
    left_open(site, [tree[2]])
    delivered(ingest("upload", tmp_path / "t", *flags), site, tree, rows=["READY"])


def left_open(site: StandIn, paths: Sequence[Path], *, cut: str = "", built: bool = False) -> None:
    """A row of ours that was broken off: with a copy that is cut, or built since."""
    client = Client(site.url, "up", PASSWORD).login()
    ours = {"PROJECT_ID": "DEMO", "SUBJECT_ID": "S", "EXPT_LABEL": "S_E"}
    reply = client.send({f"{path.parent.name}{path.name}": path.read_bytes() for path in paths}, **ours)
    assert reply.status == 200, reply.reason
    (row,) = site.rows("DEMO")
    for name, path in row.files.items():
        if cut and cut in name:
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    if built:
        client("POST", f"/data{row.url}", action="build")
    client.close()


@pytest.mark.wide
@pytest.mark.parametrize("mode", ["resume", "overwrite"])
@pytest.mark.parametrize("built", [False, True], ids=["receiving", "built"])
@pytest.mark.parametrize("cut", ["", "-2-1-"], ids=["whole", "cut"])
@pytest.mark.parametrize("some", [1, 3, 0])
def test_the_prearchive_session_is_found_open(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, mode: str, built: bool, cut: str, some: int
) -> None:
    """Whatever the row holds, and whether it was built or not, the session is whole in the archive."""
    left_open(site, tree[: some or len(tree)], cut=cut, built=built)
    delivered(ingest("upload", tmp_path / "t", "--existing", mode), site, tree)
    assert not [one for one in site.requests if one.method == "DELETE" and "prearchive" in one.path]


@pytest.mark.wide
def test_a_built_prearchive_session_that_stays_in_the_prearchive_cannot_be_overwritten(
    ingest: Ingest, site: StandIn, tmp_path: Path
) -> None:
    """It says so before the first byte, and names what the user can do."""
    make_session(tmp_path / "t/S/E", MIXED, "study")
    flags = ("--destination", "prearchive")
    assert ingest("upload", tmp_path / "t", *flags).code == 0
    ended = ingest("upload", tmp_path / "t", *flags, "--existing", "overwrite")
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["stale-row"], 0)
    (row,) = site.rows("DEMO")
    assert (row.status, len(row.files)) == ("READY", 8)
    for verb in ("archive", "delete"):
        assert f"xnat-ingest prearchive {verb} -P DEMO {row.timestamp} S_E" in ended.out


@pytest.mark.wide
def test_overwrite_replaces_what_is_archived(ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path) -> None:
    assert ingest("upload", tmp_path / "t").code == 0
    for path in tree:
        data = pydicom.dcmread(path)
        data.StudyDescription = "anew"
        data.save_as(path)
    delivered(ingest("upload", tmp_path / "t", "--existing", "overwrite"), site, tree)


def test_a_moved_copy_that_the_disk_lost_part_of_is_named(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """XNAT refuses to archive such a row. Nothing is lost and nothing is claimed."""
    tree = make_session(tmp_path / "t/S/E", (MR, DOSE), "study")
    left_open(site, tree, built=True)
    (row,) = site.rows("DEMO")
    path = next(path for name, path in row.files.items() if "-2-2-" in name)
    path.write_bytes(path.read_bytes()[:3000])
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"]) == (3, 0)
    assert row.url in ended.out


@pytest.mark.wide
def test_verify_and_resume_see_both_labels_in_the_archive(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path
) -> None:
    delivered(ingest("upload", tmp_path / "t"), site, tree)
    again = ingest("upload", tmp_path / "t")
    assert (again.code, again.totals["already_there"], again.totals["bytes_sent"]) == (0, len(tree), 0)


# -- two series of one number


def numbered(name: str, files: int, number: int = 7, sample: str = "MR_small.dcm") -> Series:
    return Series(name, files, sample, number=number)


A, B, C = numbered("A", 3), numbered("B", 3), numbered("C", 2)


def grow(folder: Path, series: Series, files: int) -> list[Path]:
    return make_series(folder, Series(series.name, files, series.sample), "study", series.number or 0)


@pytest.mark.wide
@pytest.mark.parametrize("destination", ["archive", "prearchive"])
def test_two_series_of_one_number(ingest: Ingest, site: StandIn, tmp_path: Path, destination: str) -> None:
    """First upload, second upload, archived later: the ids are the server's."""
    tree = make_session(tmp_path / "t/S/E", (A, B, MR), "study")
    flags = ("--destination", destination)
    rows = ["READY"] if destination == "prearchive" else []
    for _ in range(2):
        delivered(ingest("upload", tmp_path / "t", *flags), site, tree, rows=rows)
    delivered(ingest("upload", tmp_path / "t"), site, tree)
    assert set(stored(site, "DEMO", "S", "S_E").scans) == {"7-MR1", "7-MR2", "3"}


UNNUMBERED = Series("U", 3, tags={"SeriesNumber": None})


GROWING = [(UNNUMBERED,), (A, B), (UNNUMBERED, A, B)]


def in_two_parts(root: Path, series: tuple[Series, ...]) -> int:
    """The first and the second half of a session, in two trees. Returns the number of instances of either."""
    first = make_session(root / "first/S/E", series, "study")
    make_session(root / "second/S/E", tuple(replace(one, files=6) for one in series), "study")
    for path in first:
        (root / "second" / path.relative_to(root / "first")).unlink()
    return len(first)


@pytest.mark.parametrize("transport", ["archive", "gradual"])
@pytest.mark.parametrize("series", GROWING, ids=["no number", "one", "both"])
def test_a_built_prearchive_session_does_not_grow_where_its_files_were_moved(
    ingest: Ingest, site: StandIn, tmp_path: Path, series: tuple[Series, ...], transport: str
) -> None:
    """XNAT could not archive it any more. Once it is archived, the rest may come."""
    number = in_two_parts(tmp_path, series)
    flags = ("--destination", "prearchive", "--transport", transport)
    assert ingest("upload", tmp_path / "first", *flags).code == 0
    ended = ingest("upload", tmp_path / "second", *flags)
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["stale-row"], 0)
    (row,) = site.rows("DEMO")
    assert f"xnat-ingest prearchive archive -P DEMO {row.timestamp} S_E" in ended.out
    assert main(["prearchive", "archive", "-P", "DEMO", row.timestamp, "S_E"]) == 0
    ended = ingest("upload", tmp_path / "second", "--transport", transport)
    assert (ended.code, ended.totals["verified"], site.rows("DEMO")) == (0, number, []), ended.out
    assert len(stored(site, "DEMO", "S", "S_E").files) == 2 * number


@pytest.mark.parametrize("series", GROWING, ids=["no number", "one", "both"])
def test_what_lies_in_the_old_folder_of_its_series_is_read_back_from_there(
    ingest: Ingest, site: StandIn, tmp_path: Path, series: tuple[Series, ...]
) -> None:
    """Somebody else has sent it after the build. The scan's id is not the folder, and the listing tells the folder."""
    number = in_two_parts(tmp_path, series)
    flags = ("--destination", "prearchive")
    assert ingest("upload", tmp_path / "first", *flags).code == 0
    left_open(site, sorted((tmp_path / "second").rglob("IM*")), built=True)
    for tree in ("first", "second"):
        ended = ingest("verify", tmp_path / tree, *flags, "--proof", "pixels")
        assert (ended.code, ended.totals["verified"]) == (0, number), ended.out


@pytest.mark.wide
@pytest.mark.parametrize("grown", ["A", "B", "AB"])
@pytest.mark.parametrize("history", ["together", "A then B", "B then A"])
@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_either_of_two_series_of_one_number_grows(
    ingest: Ingest, site: StandIn, tmp_path: Path, grown: str, history: str, mode: str
) -> None:
    """However the archive came by its scan ids, what is new is merged into the right scan."""
    folder = tmp_path / "t/S/E"
    steps = {"together": ["AB"], "A then B": ["A", "AB"], "B then A": ["B", "AB"]}[history]
    for step in steps:
        for series in (A, B):
            if series.name in step:
                grow(folder, series, 2)
        assert ingest("upload", tmp_path / "t").code == 0
    before = {scan.series_uid: scan.id for scan in stored(site, "DEMO", "S", "S_E").scans.values()}
    for series in (A, B):
        grow(folder, series, 4 if series.name in grown else 2)
    ended = ingest("upload", tmp_path / "t", "--existing", mode)
    delivered(ended, site, sorted(folder.rglob("IM*")))
    assert {scan.series_uid: scan.id for scan in stored(site, "DEMO", "S", "S_E").scans.values()} == before


@pytest.mark.wide
def test_a_third_series_of_the_number_comes_later(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    folder = tmp_path / "t/S/E"
    make_session(folder, (A, B), "study")
    assert ingest("upload", tmp_path / "t").code == 0
    make_session(folder, (C,), "study")
    delivered(ingest("upload", tmp_path / "t"), site, sorted(folder.rglob("IM*")))
    for series in (A, C):
        grow(folder, series, 5)
    delivered(ingest("upload", tmp_path / "t"), site, sorted(folder.rglob("IM*")))


@pytest.mark.wide
@pytest.mark.parametrize("built", [False, True], ids=["receiving", "built"])
@pytest.mark.parametrize("some", [2, 4, 6])
@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_an_interrupted_upload_of_two_series_of_one_number(
    ingest: Ingest, site: StandIn, tmp_path: Path, built: bool, some: int, mode: str
) -> None:
    tree = make_session(tmp_path / "t/S/E", (A, B), "study")
    left_open(site, tree[:some], built=built)
    delivered(ingest("upload", tmp_path / "t", "--existing", mode), site, tree)


@pytest.mark.parametrize(
    "fault",
    [Fault("status", "action=commit", skip=1, status=403), Fault("status", PART, skip=4, status=403)],
    ids=["commit", "import"],
)
def test_overwrite_is_broken_off_between_two_series_of_one_number(
    ingest: Ingest, site: StandIn, tmp_path: Path, fault: Fault
) -> None:
    """They came one after the other, and are overwritten likewise. What is left open is archived first."""
    tree = make_session(tmp_path / "t/S/E", (A,), "study")
    assert ingest("upload", tmp_path / "t").code == 0
    tree += make_session(tmp_path / "t/S/E", (B,), "study")
    assert ingest("upload", tmp_path / "t").code == 0
    site.faults.add(fault)
    flags = ("--existing", "overwrite", "--transport", "gradual")
    assert ingest("upload", tmp_path / "t", *flags).code != 0
    assert site.rows("DEMO") != []
    site.faults.clear()
    delivered(ingest("upload", tmp_path / "t", *flags), site, tree)


@pytest.mark.wide
def test_what_cannot_be_merged_is_named_before_the_first_byte(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """A tree without the other series of that number cannot carry an instance of it."""
    make_session(tmp_path / "old", (A, B), "study")
    assert ingest("upload", tmp_path / "old", "-S", "S", "-E", "S_E").code == 0
    grow(tmp_path / "t/S/E", B, 5)
    for command in ("plan", "upload"):
        flags = ("--online",) if command == "plan" else ()
        ended = ingest(command, tmp_path / "t", *flags)
        assert (ended.code, ended.kinds()) == (3, ["same-number"]), ended.out
    assert "SeriesNumber 7" in ended.out
    assert (ended.totals["bytes_sent"], site.rows("DEMO")) == (0, [])


@pytest.mark.wide
def test_growth_of_a_built_prearchive_session_is_named_before_the_first_byte(
    ingest: Ingest, site: StandIn, tmp_path: Path
) -> None:
    make_session(tmp_path / "t/S/E", (A, B), "study")
    assert ingest("upload", tmp_path / "t", "--destination", "prearchive").code == 0
    paths = [*grow(tmp_path / "t/S/E", A, 5), *grow(tmp_path / "t/S/E", B, 3)]
    ended = ingest("upload", tmp_path / "t", "--destination", "prearchive")
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["stale-row"], 0)
    delivered(ingest("upload", tmp_path / "t"), site, paths)


@pytest.mark.parametrize("template", ["${SeriesInstanceUID}-${InstanceNumber}", "${SeriesNumber}-${InstanceNumber}-x"])
@pytest.mark.parametrize(("renumbers", "lost"), [(True, 0), (True, 700), (False, 0)])
def test_a_broken_off_upload_is_exported_again_with_other_numbers(
    ingest: Ingest, site: StandIn, tmp_path: Path, template: str, renumbers: bool, lost: int
) -> None:
    """The site's names hold the number, so a second copy would lie beside the first. Whole copies stay."""
    site.settings.file_name_template = template
    tree = make_session(tmp_path / "t/S/E", (MR,), "study")
    site.faults.add(Fault("status", PART, skip=2, status=503, times=None))
    assert ingest("upload", tmp_path / "t", "--transport", "gradual", "--retry-budget", "0").code == 5
    site.faults.clear()
    path = max(path for path in site.root.rglob("*.dcm"))
    path.write_bytes(path.read_bytes()[: -lost or None])
    for path in tree if renumbers else []:
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber += 100
        dataset.save_as(path)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds()) == ((3, ["stale-row"]) if lost else (0, []))
    if lost:
        return
    assert ingest("upload", tmp_path / "t").code == 0
    assert len(on_disk(site)) == len(tree)
    assert site.rows("DEMO") == []


@pytest.mark.parametrize("transport", ["gradual", "archive"])
def test_pieces_without_a_series_number_are_not_archived(
    ingest: Ingest, site: StandIn, tmp_path: Path, transport: str
) -> None:
    """The disk was full, and a build has put what is left of the second series into a scan `NA`."""
    series = (Series("T1_1", 4), Series("CT_2", 3, "CT_small.dcm"))
    tree = make_session(tmp_path / "t/S/E", series, "study")
    site.faults.add(Fault("disk-full", after=1000, skip=4, times=None))
    flags = ("--transport", transport)
    assert ingest("upload", tmp_path / "t", *flags).code == 3
    site.faults.clear()
    for _ in range(2):
        ended = ingest("upload", tmp_path / "t", *flags)
        assert (ended.code, ended.kinds(), site.sessions("DEMO")) == (3, ["stale-row"], [])
        assert "in another scan than that of their series" in ended.out
    (row,) = site.rows("DEMO")
    assert main(["prearchive", "delete", "-P", "DEMO", row.timestamp, row.folder, "--yes"]) == 0
    delivered(ingest("upload", tmp_path / "t", *flags), site, tree)
