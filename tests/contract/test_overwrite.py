"""`--existing overwrite`: only what the server was seen to hold anew counts; an old copy is never called verified."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from tests.conftest import Ended, Ingest
from tests.contract.test_contract import by
from tests.dicom_trees import Series, make_session
from tests.standin import Fault, StandIn
from xnat_ingest.transports import bodies

OVERWRITE = ("--existing", "overwrite")


@pytest.fixture
def root(tmp_path: Path, ingest: Ingest) -> Path:
    """A session that is archived already, with other pixels than its files have now."""
    make_session(tmp_path / "t" / "S" / "E", [Series("T1_1", 3), Series("T2_2", 3)])
    assert ingest("upload", tmp_path / "t").code == 0
    for path in tmp_path.glob("t/S/E/*/*"):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = bytes(len(dataset.PixelData))
        dataset.save_as(path)
    return tmp_path / "t"


def old_copies(folder: Path) -> int:
    """How many stored files still have the pixels that they had at first."""
    stored = [pydicom.dcmread(io.BytesIO(path.read_bytes()), force=True) for path in folder.rglob("*.dcm")]
    return sum(bool(dataset.get("PixelData", b"").strip(b"\0")) for dataset in stored)


def told_as_it_is(ended: Ended, old: int) -> None:
    assert old
    assert ended.code == 3
    assert ended.totals["verified"] == 6 - old
    unproven = [row for session in ended.report["sessions"] for row in session["unproven"]]
    assert len(unproven) == old


@pytest.mark.wide
def test_all_of_it_is_replaced(root: Path, site: StandIn, ingest: Ingest) -> None:
    ended = ingest("upload", root, *OVERWRITE)
    assert (ended.code, ended.totals["verified"], ended.totals["already_there"]) == (0, 6, 0)
    assert old_copies(site.archive_root) == 0


@pytest.mark.wide
@pytest.mark.parametrize("flags", [(), ("--part-size", "12K"), ("--transport", "gradual")], ids=" ".join)
def test_dropped_by_a_filter_that_cannot_be_judged_here(
    root: Path, site: StandIn, ingest: Ingest, flags: tuple[str, ...]
) -> None:
    site.settings.site_filter = {"enabled": True, "mode": "blacklist", "list": r"T\x32"}
    told_as_it_is(ingest("upload", root, *OVERWRITE, *flags), old_copies(site.archive_root))


@pytest.mark.wide
@pytest.mark.parametrize("fault", ["poison", "lose"])
def test_an_instance_that_did_not_get_there(root: Path, site: StandIn, ingest: Ingest, fault: str) -> None:
    name = next(path.name for path in sorted(site.archive_root.rglob("*.dcm")))
    site.faults.add(Fault(fault, name=name, times=None))
    told_as_it_is(ingest("upload", root, *OVERWRITE), old_copies(site.archive_root))


@pytest.mark.wide
def test_a_file_that_changed_under_way(
    root: Path, site: StandIn, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Callable[..., object] = bodies.TarBody.open
    gone = max(root.rglob("*"))

    def spoiled(self: bodies.TarBody, sent: Callable[[int], None]) -> object:
        gone.unlink(missing_ok=True)
        return opened(self, sent)

    monkeypatch.setattr(bodies.TarBody, "open", spoiled)
    told_as_it_is(ingest("upload", root, *OVERWRITE), old_copies(site.archive_root))


@pytest.mark.wide
def test_into_the_prearchive_only_that_session_counts(root: Path, site: StandIn, ingest: Ingest) -> None:
    name = next(path.name for path in sorted(site.archive_root.rglob("*.dcm")))
    site.faults.add(Fault("lose", name=name, times=None))
    ended = ingest("upload", root, *OVERWRITE, "--destination", "prearchive")
    assert (ended.code, ended.totals["verified"]) == (3, 5)


@pytest.mark.wide
def test_a_run_that_fails_has_replaced_nothing(root: Path, site: StandIn, ingest: Ingest) -> None:
    site.faults.add(Fault("status", match="/data/services/import", status=500, times=None))
    ended = ingest("upload", root, *OVERWRITE)
    assert ended.code in (3, 5)
    assert (ended.totals["verified"], ended.totals["failed"]) == (0, 6)


@pytest.mark.parametrize(
    "refusal",
    [
        "Duplicate archive attempt. Prearchive session already archiving.",
        "Scan 3 has 1 non-secondary (or non-parsable secondary) files",
    ],
)
def test_a_refused_commit_has_replaced_nothing(root: Path, site: StandIn, ingest: Ingest, refusal: str) -> None:
    """The prearchive session still holds the new copies, and the archive the old ones. The same run goes on."""
    site.faults.add(Fault("archive-fails", status=409, message=refusal))
    ended = ingest("upload", root, *OVERWRITE)
    assert (ended.code, ended.kinds(), ended.totals["verified"]) == (0, ["live-row"], 6), ended.out
    assert (old_copies(site.archive_root), site.rows("DEMO")) == (0, [])


@pytest.mark.wide
def test_straight_into_the_archive_is_sent_once(tmp_path: Path, site: StandIn, ingest: Ingest) -> None:
    make_session(tmp_path / "t" / "S" / "E", [Series("T1_1", 3)])
    ended = ingest("upload", tmp_path / "t", *OVERWRITE, "--destination", "direct-archive")
    assert (ended.code, ended.totals["verified"], ended.totals["already_there"]) == (0, 3, 0)
    assert ended.totals["bytes_sent"] < 2 * ended.totals["bytes_planned"]


@pytest.mark.wide
def test_a_direct_upload_that_was_cut_off_is_mended(tmp_path: Path, site: StandIn, ingest: Ingest) -> None:
    """The server archives what it got by itself, a cut file among it, whose length alone looks plausible."""
    make_session(tmp_path / "t" / "S" / "E", [Series("T1_1", 4)])
    for path in tmp_path.glob("t/S/E/*/*"):
        dataset = pydicom.dcmread(path)
        dataset.add_new(0x7FE20011, "LO", "ours")
        dataset.add_new(0x7FE21101, "OB", bytes(300_000))
        dataset.save_as(path)
    site.faults.add(Fault("reset", match="/data/services/import", after=200_000, times=None))
    direct = ("--destination", "direct-archive")
    assert ingest("upload", tmp_path / "t", *direct, "--retry-budget", "0").code != 0
    site.faults.clear()
    for row in site.direct.rows():
        site.direct.trigger(row)
    assert ingest("upload", tmp_path / "t", *direct).code == 0
    stored = [path.stat().st_size for path in site.archive_root.rglob("*.dcm")]
    assert len(stored) == 4
    assert min(stored) > 300_000


def changed(root: Path) -> None:
    for path in root.glob("S/E/*/*"):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = bytes(len(dataset.PixelData))
        dataset.save_as(path)


@pytest.mark.wide
@pytest.mark.parametrize("transport", ["archive", "gradual", "cstore"])
def test_old_copies_in_a_prearchive_session_that_was_left_open(
    tmp_path: Path, site: StandIn, ingest: Ingest, transport: str
) -> None:
    root = tmp_path / "t"
    make_session(root / "S" / "E", [Series("T1_1", 3)])
    with site.receive() as receiver:
        way: tuple[str, ...] = ("--transport", transport)
        if transport == "cstore":
            way += ("--dicom-host", "127.0.0.1", "--dicom-port", str(receiver.port))
        assert ingest("upload", root, *way, "--destination", "prearchive").code == 0
        changed(root)
        ended = ingest("upload", root, *way, *OVERWRITE)
    assert (ended.code, ended.totals["verified"]) == (0, 3)
    assert old_copies(site.archive_root) == 0


@pytest.mark.wide
def test_by_dicom_without_edit_right_nothing_tells_old_from_new(root: Path, site: StandIn, ingest: Ingest) -> None:
    site.project("DEMO").access["up"] = "read"
    with site.receive() as receiver:
        way = ("--transport", "cstore", "--dicom-host", "127.0.0.1", "--dicom-port", str(receiver.port))
        ended = ingest("upload", root, *way, *OVERWRITE)
    assert (ended.code, ended.totals["unverified"], ended.totals["verified"]) == (3, 6, 0)


@pytest.mark.wide
def test_a_dry_run_of_it_adds_up(root: Path, site: StandIn, ingest: Ingest) -> None:
    ended = ingest("upload", root, *OVERWRITE, "--dry-run")
    assert (ended.code, ended.totals["unverified"], ended.totals["verified"]) == (0, 6, 0)


@pytest.mark.parametrize("destination", ["archive", "prearchive"])
@pytest.mark.parametrize("transport", ["tar", "gradual", "cstore"])
def test_old_copies_in_the_prearchive(
    site: StandIn, ingest: Ingest, tmp_path: Path, transport: str, destination: str
) -> None:
    """Some are dropped without a word, as by a script: their old copies are still there, under the same names."""
    make_session(tmp_path / "t" / "S" / "E", [Series("T1_1", 3), Series("T2_2", 3)])
    assert ingest("upload", tmp_path / "t", "--destination", "prearchive").code == 0
    for path in tmp_path.glob("t/S/E/*/*"):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = bytes(len(dataset.PixelData))
        dataset.save_as(path)
    site.settings.site_filter = {"enabled": True, "mode": "blacklist", "list": r"T\x32"}  # cannot be judged here
    with by(transport, site) as (flags, _):
        ended = ingest("upload", tmp_path / "t", *OVERWRITE, *flags, "--destination", destination)
    assert ended.code == 3, ended.out
    if destination == "prearchive":
        assert ended.kinds()[-1] == "stale-row"
        assert "Deleting it also deletes what only it holds" in ended.out
        assert (ended.totals["bytes_sent"], ended.totals["verified"]) == (0, 0)
    else:
        told_as_it_is(ended, old_copies(site.archive_root))
    site.settings.site_filter = {}
    if destination == "archive":
        assert ingest("upload", tmp_path / "t", *OVERWRITE).code == 0
        assert old_copies(site.archive_root) == 0


@pytest.mark.parametrize("transport", ["tar", "cstore"])
@pytest.mark.parametrize("destination", ["archive", "prearchive"])
def test_a_build_that_fails_once_makes_no_copies_old(
    site: StandIn, ingest: Ingest, tmp_path: Path, transport: str, destination: str
) -> None:
    """The run joins its own prearchive session again. What it holds was sent by this run."""
    make_session(tmp_path / "t" / "S" / "E", [Series("T1_1", 3)])
    site.faults.add(Fault("status", match="POST .*action=build", status=500))
    with by(transport, site) as (flags, _):
        ended = ingest("upload", tmp_path / "t", *OVERWRITE, *flags, "--destination", destination)
    assert (ended.code, ended.totals["verified"]) == (0, 3), ended.out
