"""What a delivery takes care of: what is there twice, others at work, unfinished uploads, a tree that goes away."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from tests.conftest import PASSWORD, Ingest, stored
from tests.contract.test_existing_prearchive import Other
from tests.contract.test_moved_by_a_build import left_open
from tests.dicom_trees import Series, make_session
from tests.standin import Fault, StandIn
from tests.standin.archiver import create_session, create_subject
from tests.standin.samples import Client
from xnat_ingest.delivery import commit

T1, SR = Series("T1_0001", 4), Series("SR_0002", 2, "test-SR.dcm")
IMPORT = "POST /data/services/import"


@pytest.fixture
def tree(tmp_path: Path) -> list[Path]:
    return make_session(tmp_path / "t/S/E", (T1, SR), "study")


@pytest.fixture
def other(site: StandIn) -> Iterator[Other]:
    sender = Other(site)
    yield sender
    sender.client.close()


@pytest.mark.wide
@pytest.mark.parametrize("short", [False, True], ids=["both whole", "one cut"])
@pytest.mark.parametrize("command", ["upload", "verify"])
def test_an_instance_that_is_listed_twice_is_named(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, short: bool, command: str
) -> None:
    """Both copies must be plausible: the last line of a listing does not win."""
    assert ingest("upload", tmp_path / "t").code == 0
    scans = stored(site, "DEMO", "S", "S_E").scans
    name, path = next((n, p) for n, p in scans["1"].files.items() if "-1-3-" in n)
    copy = path.parent.parent.parent / "2/DICOM" / name
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(path.read_bytes()[: 3000 if short else None])
    scans["2"].files[name], scans["2"].resource_id = copy, 99
    ended = ingest(command, tmp_path / "t")
    assert "doubled" in ended.kinds()
    assert ended.code == (3 if short and command == "verify" else ended.code)
    if command == "verify":
        assert ended.totals["missing"] == (1 if short else 0)


@pytest.mark.wide
def test_two_sessions_of_a_run_have_timestamps_of_their_own(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    for number in range(3):
        make_session(tmp_path / f"t/S/{number}", (T1,), f"study {number}")
    assert ingest("upload", tmp_path / "t", "--destination", "prearchive").code == 0
    assert len({row.timestamp for row in site.rows("DEMO")}) == 3


@pytest.mark.wide
def test_a_prearchive_session_that_receives_is_not_to_be_deleted(
    ingest: Ingest, site: StandIn, other: Other, tree: list[Path], tmp_path: Path
) -> None:
    """Another run may be sending into it, for example one that was left behind by direct archive."""
    assert ingest("upload", tmp_path / "t").code == 0
    row = other.send(tree[:2])
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds()) == (0, ["stale-row"])
    assert row.url in ended.out
    assert "delete" not in ended.out
    row.status = "READY"
    assert f"xnat-ingest prearchive delete -P DEMO {row.timestamp}" in ingest("upload", tmp_path / "t").out


@pytest.mark.wide
def test_a_foreign_prearchive_session_that_receives_is_not_to_be_deleted(
    ingest: Ingest, other: Other, tree: list[Path], tmp_path: Path
) -> None:
    row = other.send(tree[:2], SOURCE="scanner")
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds()) == (3, ["foreign-row"])
    assert "delete" not in ended.out
    row.status = "READY"
    assert "prearchive delete" in ingest("upload", tmp_path / "t").out


@pytest.mark.parametrize("built", [False, True], ids=["never built", "built"])
def test_verify_names_an_unfinished_upload(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, built: bool
) -> None:
    """It sends nothing and builds nothing: it says what XNAT shows."""
    left_open(site, tree[:3], built=built)
    (row,) = site.rows("DEMO")
    row.status = "RECEIVING"
    ended = ingest("verify", tmp_path / "t")
    assert (ended.code, ended.kinds(), ended.totals["missing"]) == (3, ["unfinished"], 6)
    assert row.url in ended.out
    assert ("it held 3 of the 6 planned instances" in ended.out) == built
    assert row.status == "RECEIVING"


def test_verify_by_a_reader_tells_what_is_archived(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path
) -> None:
    """XNAT shows a prearchive session to editors only. What the archive has is said all the same."""
    late = [path.rename(tmp_path / path.name) for path in tree[:2]]
    assert ingest("upload", tmp_path / "t").code == 0
    for path, old in zip(late, tree[:2], strict=True):
        path.rename(old)
    assert ingest("upload", tmp_path / "t", "--destination", "prearchive").code == 0
    site.projects["DEMO"].access["up"] = "read"
    ended = ingest("verify", tmp_path / "t")
    assert (ended.code, ended.totals["verified"], ended.totals["missing"]) == (3, len(tree) - 2, 2)
    assert ended.kinds() == ["unfinished"]
    assert "only to users who may edit the project" in ended.out


@pytest.mark.wide
def test_a_tree_that_goes_away_leaves_its_session_open(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path
) -> None:
    """An unmounted disk is not a session with fewer files: nothing is closed, and the same command finishes it."""
    held = site.faults.add(Fault("delay", IMPORT, seconds=0.3))

    def unmount() -> None:
        while not held.hits:
            time.sleep(0.01)
        (tmp_path / "t/S").rename(tmp_path / "away")

    thread = threading.Thread(target=unmount)
    thread.start()
    ended = ingest("upload", tmp_path / "t", "--part-size", "10K", "-w", "1")
    thread.join()
    assert (ended.code, ended.kinds()) == (3, ["source-changed"]), ended.out
    assert "unmounted" in ended.out
    assert {row.status for row in site.rows("DEMO")} <= {"RECEIVING"}  # none, when it went before the first file
    assert site.sessions("DEMO") == []
    (tmp_path / "away").rename(tmp_path / "t/S")
    assert ingest("upload", tmp_path / "t").code == 0
    assert site.rows("DEMO") == []


@pytest.mark.wide
def test_a_session_without_some_of_its_files_is_delivered_without_them(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path
) -> None:
    held = site.faults.add(Fault("delay", IMPORT, seconds=0.3))

    def remove() -> None:
        while not held.hits:
            time.sleep(0.01)
        shutil.rmtree(tmp_path / "t/S/E/SR_0002")

    thread = threading.Thread(target=remove)
    thread.start()
    ended = ingest("upload", tmp_path / "t", "--part-size", "10K", "-w", "1")
    thread.join()
    assert ended.code == 3
    assert ended.totals["failed"] in (1, 2)
    assert site.rows("DEMO") == []


@pytest.mark.wide
@pytest.mark.parametrize("status", [502, 504])
def test_a_commit_that_a_proxy_gives_up_on_is_watched_before_it_is_repeated(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The server may not even have begun. It begins a moment later here, and one commit of ours is enough."""
    monkeypatch.setattr(commit, "WATCH", 20.0)
    given_up = site.faults.add(Fault("status", "POST .*action=commit", status=status))
    server = Client(site.url, "up", PASSWORD).login()

    def begin() -> None:
        while not given_up.hits:
            time.sleep(0.01)
        time.sleep(1.0)  # less than the watch's first pause; enough for one that does not watch, on a busy machine
        server("POST", f"/data{site.rows('DEMO')[0].url}", action="commit", AA="true", by="server")

    thread = threading.Thread(target=begin)
    thread.start()
    ended = ingest("upload", tmp_path / "t")
    thread.join()
    server.close()
    assert ended.code == 0, ended.out
    ours = [one for one in site.requests if one.query.get("action") == "commit" and "by" not in one.query]
    assert len(ours) == 1


@pytest.mark.parametrize("first", [True, False])
def test_of_two_labels_in_other_case_the_own_one_counts(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, first: bool
) -> None:
    assert ingest("upload", tmp_path / "t").code == 0
    project = site.project("DEMO")
    own = project.sessions["S_E"]
    create_subject(site, project, "other")
    other = create_session(site, project, "other", "s_e", own.xsi_type)
    project.sessions = {"s_e": other, "S_E": own} if first else {"S_E": own, "s_e": other}
    ended = ingest("verify", tmp_path / "t")
    assert (ended.code, ended.totals["verified"]) == (0, len(tree))


@pytest.mark.parametrize("template", ["", "${SOPInstanceUID}", "${StudyInstanceUID}-${SeriesNumber}-${InstanceNumber}"])
def test_instances_that_the_site_holds_twice_are_named(
    ingest: Ingest, site: StandIn, tmp_path: Path, template: str
) -> None:
    """Captures were moved to `secondary` until the site's setting was changed. Now they stay where they come."""
    site.settings.file_name_template = template or site.settings.file_name_template
    captures = Series("capture_0002", 2, tags={"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"})
    make_session(tmp_path / "u/S/E", (Series("T1_0001", 2), captures), "study")
    assert ingest("upload", tmp_path / "u").kinds() == []
    site.settings.separate_secondary = False
    assert ingest("upload", tmp_path / "u", "--existing", "overwrite").kinds() == ["doubled"]
    assert ingest("verify", tmp_path / "u").kinds() == ["doubled"]
