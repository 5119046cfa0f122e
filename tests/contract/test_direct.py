"""Destination direct-archive: past the prearchive where the server lets a session, and finished where it does not."""

from __future__ import annotations

import re
import shlex
import threading
from pathlib import Path

import pytest

from tests.conftest import PASSWORD, Ingest, stored
from tests.dicom_trees import CT, Series, make_session
from tests.standin import StandIn
from tests.standin.fault import Fault
from tests.standin.samples import Client
from xnat_ingest.cli import main
from xnat_ingest.xnat import prearchive

FIRST = {"SeriesInstanceUID": "1.1"}  # its files come before the others
DIRECT = ("--destination", "direct-archive")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("007/pre", "008/pre"):
        make_session(tmp_path / "tree" / name, [Series("T1_1", 4), Series("T2_2", 3)], name)
    return tmp_path / "tree"


@pytest.mark.wide
@pytest.mark.parametrize("transport", ["archive", "gradual"])
def test_straight_into_the_archive(root: Path, site: StandIn, ingest: Ingest, transport: str) -> None:
    ended = ingest("upload", root, *DIRECT, "--transport", transport, "--part-size", "30K")
    assert ended.code == 0, ended.out
    assert ended.totals["verified"] == 14
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 7
    assert not site.rows("DEMO")
    assert not site.direct.rows()
    assert not [one for one in site.requests if one.query.get("action") == "commit"]
    assert (again := ingest("upload", root, *DIRECT)).code == 0
    assert again.totals["bytes_sent"] == 0


@pytest.mark.wide
def test_what_fell_back_is_finished_through_the_prearchive(root: Path, site: StandIn, ingest: Ingest) -> None:
    """The session's folder is in the archive already, whatever made it: every file goes into the prearchive."""
    (site.archive_root / "DEMO" / "arc001" / "007_pre").mkdir(parents=True)
    ended = ingest("upload", root, *DIRECT)
    assert ended.code == 0, ended.out
    assert "fell back to the prearchive" in ended.err
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 7


@pytest.mark.wide
def test_a_session_that_is_there_is_merged_into(root: Path, site: StandIn, ingest: Ingest) -> None:
    assert ingest("upload", root, "--exclude", "T2").code == 0
    ended = ingest("upload", root, *DIRECT)
    assert ended.code == 0
    assert ended.totals["already_there"] == 8
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 7


@pytest.mark.wide
def test_archiving_that_fails_leaves_it_in_the_prearchive(root: Path, site: StandIn, ingest: Ingest) -> None:
    site.faults.add(Fault("archive-fails", match="007_pre", status=409, message="Duplicate archive attempt. x"))
    ended = ingest("upload", root, *DIRECT)
    assert ended.code in (0, 3), ended.out
    assert ended.session("008_pre")["verdict"] == "verified"
    assert ingest("upload", root, *DIRECT).totals["verified"] >= 7


@pytest.mark.parametrize("existing", ["resume", "overwrite"])
@pytest.mark.parametrize("action", ["archive", "delete"])
def test_what_the_server_moves_to_the_prearchive_is_named_and_left(
    root: Path, site: StandIn, ingest: Ingest, existing: str, action: str
) -> None:
    """The listing from before does not show it. An upload into it would mix with it, and it commits itself."""
    site.faults.add(Fault("archive-fails", match="007_pre", status=409, message="Conflict: Operation Unsupported"))
    ended = ingest("upload", root, *DIRECT, "--existing", existing)
    assert (ended.code, ended.kinds()) == (3, ["stale-row"])
    (row,) = site.rows("DEMO")
    assert row.status == "ERROR"
    (detail,) = (problem["detail"] for problem in ended.report["problems"])
    assert "direct-archive failed" in detail
    assert ended.session("007_pre")["verdict"] == "conflict"
    (advised,) = re.findall(rf"xnat-ingest (prearchive {action} [^)]*)", detail)
    assert main([*shlex.split(advised), "--server", site.url, "--user", "up"]) == 0
    again = ingest("upload", root, *DIRECT)
    assert again.code == 0
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 7
    assert not site.rows("DEMO")


def test_what_another_run_sends_directly_is_looked_at_once_it_has_failed(
    tmp_path: Path, site: StandIn, ingest: Ingest
) -> None:
    made = make_session(tmp_path / "t" / "S" / "E", [Series("T1_1", 4)])
    site.faults.add(Fault("slow-archive", seconds=1.0))
    site.faults.add(Fault("archive-fails", status=409, message="Conflict: Operation Unsupported"))
    other = Client(site.url, "up", PASSWORD).login()
    names = {"PROJECT_ID": "DEMO", "SUBJECT_ID": "S", "EXPT_LABEL": "S_E", "Direct-Archive": "true"}
    address = other.send({path.name: path.read_bytes() for path in made[:2]}, **names).text.strip()
    assert other("POST", address).status == 200
    ended = ingest("upload", tmp_path / "t", *DIRECT)
    other.close()
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["stale-row"], 0)
    (row,) = site.rows("DEMO")
    assert row.status == "ERROR"


@pytest.mark.wide
@pytest.mark.parametrize(
    "fault",
    [
        Fault("reset", match="/data/services/import", after=20_000),
        Fault("reset-reply", match="/data/services/import"),
        Fault("status", match="/data/services/import", status=503),
        Fault("lose", name=""),
        Fault("reset-reply", match="/xapi/direct-archive"),
    ],
    ids=lambda fault: f"{fault.kind} {fault.match}",
)
def test_under_troubles(root: Path, site: StandIn, ingest: Ingest, fault: Fault) -> None:
    site.faults.add(fault)
    ended = ingest("upload", root, *DIRECT, "--part-size", "30K")
    if ended.code:
        assert ended.code == 3
        ended = ingest("upload", root, *DIRECT)
    assert ended.code == 0, ended.out
    for subject in ("007", "008"):
        assert len(stored(site, "DEMO", subject, f"{subject}_pre").files) == 7


@pytest.mark.wide
def test_a_run_that_was_cut_off_is_taken_up(root: Path, site: StandIn, ingest: Ingest) -> None:
    """What the server holds of it cannot be listed: all is sent again, each file over itself."""
    site.faults.add(Fault("status", match="/data/services/import", status=500, skip=1, times=None))
    assert ingest("upload", root, *DIRECT, "--part-size", "30K", "--retry-budget", "0").code != 0
    site.faults.clear()
    ended = ingest("upload", root, *DIRECT)
    assert ended.code == 0, ended.out
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 7
    assert not site.direct.rows()


@pytest.mark.parametrize("transport", ["archive", "gradual"])
@pytest.mark.parametrize(
    "series",
    [
        (Series("SR_1", 3, "test-SR.dcm", number=1, tags=FIRST), Series("T1_2", 3, number=2)),
        (Series("CT_1", 3, CT, number=1, tags=FIRST), Series("T1_2", 3, number=2)),
    ],
    ids=["a report beside images", "a CT beside MR"],
)
@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_what_the_server_archives_of_a_run_that_was_killed_has_the_type_of_the_whole(
    tmp_path: Path, site: StandIn, ingest: Ingest, transport: str, series: tuple[Series, ...], killed_after: int
) -> None:
    """XNAT would not add MR to a session of a report alone. So an instance of the leading modality goes first."""
    make_session(tmp_path / "tree/007/pre", series)
    flags = (*DIRECT, "--transport", transport, "--part-size", "1K")
    site.faults.add(Fault("status", match="/data/services/import", status=500, skip=killed_after, times=None))
    assert ingest("upload", tmp_path / "tree", *flags, "--retry-budget", "0").code
    site.faults.clear()
    site.settings.rebuilder_interval = 0.0
    site.direct.archive_idle()
    assert len(stored(site, "DEMO", "007", "007_pre").files) == killed_after
    ended = ingest("upload", tmp_path / "tree", *flags)
    assert ended.code == 0, ended.out
    assert ended.totals["verified"] == ended.totals["planned"]


@pytest.mark.parametrize("transport", ["archive", "gradual"])
def test_another_command_takes_up_what_a_killed_run_has_left(
    root: Path, site: StandIn, ingest: Ingest, transport: str
) -> None:
    """The server would archive the rest by itself, later, and take a session that is there by then out again."""
    site.faults.add(Fault("status", match="/data/services/import", status=500, skip=2, times=None))
    flags = ("--transport", transport, "--part-size", "30K")
    assert ingest("upload", root, *DIRECT, *flags, "--retry-budget", "0").code
    site.faults.clear()
    (row, *_) = site.direct.rows()
    path = max(row.files.values())
    path.write_bytes(path.read_bytes()[:-1000])
    ended = ingest("upload", root, *flags)
    assert (ended.code, ended.totals["verified"]) == (0, 14), ended.out
    assert not site.direct.rows()
    site.settings.rebuilder_interval = 0.0
    site.direct.archive_idle()
    for subject in ("007", "008"):
        kept = sorted(
            path.read_bytes()[132:] for path in stored(site, "DEMO", subject, f"{subject}_pre").files.values()
        )
        files = (path for path in (root / subject).rglob("*") if path.is_file())
        assert kept == sorted(path.read_bytes()[132:] for path in files)


@pytest.mark.parametrize("status", [302, 403, 404, 405])
def test_a_server_that_says_nothing_of_the_direct_way(root: Path, site: StandIn, ingest: Ingest, status: int) -> None:
    site.faults.add(Fault("status", match="GET /xapi/direct-archive", status=status, times=None))
    assert ingest("upload", root).code == 0


def test_a_server_that_answers_with_a_page(root: Path, site: StandIn, ingest: Ingest) -> None:
    site.faults.add(Fault("login-page", match="GET /xapi/direct-archive", times=None))
    assert ingest("upload", root).code == 0


def test_what_is_still_coming_on_the_direct_way_is_waited_for(
    root: Path, site: StandIn, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prearchive, "STILL_LIMIT", 1.5)
    client = Client(site.url, "up", PASSWORD).login()
    files = [path for path in sorted((root / "007").rglob("*")) if path.is_file()]
    query = {"PROJECT_ID": "DEMO", "SUBJECT_ID": "007", "EXPT_LABEL": "007_pre", "Direct-Archive": "true"}
    assert client.send({path.name: path.read_bytes() for path in files[:1]}, **query).status == 200
    (row,) = site.direct.rows()
    ended_sending = threading.Event()

    def send_on() -> None:
        while not ended_sending.wait(0.1):
            row.lastmod += 1

    sender = threading.Thread(target=send_on)
    sender.start()
    held = ingest("upload", root)
    ended_sending.set()
    sender.join()
    client.close()
    assert (held.code, held.kinds(), held.session("007_pre")["attempts"]) == (3, ["live-row"], 0)
    assert held.session("008_pre")["verdict"] == "verified"
    assert ingest("upload", root).code == 0
