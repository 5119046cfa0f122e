"""Other ways than tars: each instance in a request of its own, and zips. What is on the server must be the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ended, Ingest, stored
from tests.dicom_trees import CT, IDENTITY, Series, make_session, part10
from tests.standin import Exchange, Fault, StandIn
from xnat_ingest.core.model import Instance
from xnat_ingest.transports import archive, bodies, link_speed

SERIES = (Series("T1_0001", 8), Series("T2_0002", 6, CT), Series("SR_0003", 2, "test-SR.dcm"))
TOTAL = 16
PARTS = "POST /data/services/import"
GRADUAL = ("--transport", "gradual")
ZIP = ("--archive-format", "zip", "--part-size", "40K")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_session(tmp_path / "t/S/E", SERIES)
    return tmp_path / "t"


def parts(site: StandIn) -> list[Exchange]:
    return [request for request in site.requests if request.path.startswith("/data/services/import")]


def held(site: StandIn) -> list[tuple[str, int]]:
    """Names and sizes of what the archive holds of the session."""
    return sorted((path.name, path.stat().st_size) for path in site.archive_root.rglob("*.dcm"))


@pytest.mark.wide
def test_one_request_for_each_instance(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """All with the same parameters, by XNAT's inner names alone, since this handler knows no others."""
    ended = ingest("upload", tree, *GRADUAL)
    assert (ended.code, ended.totals["verified"], ended.report["transport"]) == (0, TOTAL, "gradual")
    sent = parts(site)
    assert len({request.path for request in sent}) == len(sent) == ended.session("S_E")["attempts"] == TOTAL
    assert {request.content_type for request in sent} == {"application/dicom"}
    queries = [request.query for request in sent]
    assert all(query == queries[0] for query in queries)
    assert queries[0] == {
        "import-handler": "gradual-DICOM",
        "inbody": "true",
        "PROJECT_ID": "DEMO",
        "SUBJECT_ID": "S",
        "EXPT_LABEL": "S_E",
        "rename": "true",
        "prevent_auto_commit": "true",
        "SOURCE": "uploader",
        "PREARC_TIMESTAMP": queries[0]["PREARC_TIMESTAMP"],
    }
    assert [len(session.files) for session in site.sessions("DEMO")] == [TOTAL]
    assert site.rows("DEMO") == []
    assert ended.totals["bytes_sent"] == ended.totals["bytes_planned"] == sum(request.body_bytes for request in sent)


@pytest.mark.wide
@pytest.mark.parametrize("flags", [GRADUAL, ZIP], ids=["gradual", "zip"])
def test_the_server_holds_the_same(ingest: Ingest, site: StandIn, tree: Path, flags: tuple[str, ...]) -> None:
    """As after a tar: another run by the default way finds nothing to send."""
    assert ingest("upload", tree, *flags).code == 0
    assert len(held(site)) == TOTAL
    assert len(stored(site, "DEMO", "S", "S_E").files) == TOTAL
    again = ingest("upload", tree)
    assert (again.code, again.totals["already_there"], again.totals["bytes_sent"]) == (0, TOTAL, 0)


@pytest.mark.wide
def test_an_interrupted_tar_run_is_finished_by_single_files(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """The row is the same one: it is joined, and only what lacks travels."""
    fault = site.faults.add(Fault("status", PARTS, status=503, times=None, skip=3))
    assert ingest("upload", tree, "--part-size", "40K", "-w", "1", "--retry-budget", "0").code != 0
    site.faults.remove(fault)
    before = len(parts(site))
    ended = ingest("upload", tree, *GRADUAL)
    assert (ended.code, ended.totals["verified"]) == (0, TOTAL)
    assert 0 < len(parts(site)) - before < TOTAL
    assert [len(session.files) for session in site.sessions("DEMO")] == [TOTAL]


FAULTS: dict[str, Callable[[], Fault]] = {
    "reset within a body": lambda: Fault("reset", PARTS, after=3000, skip=2),
    "reply lost": lambda: Fault("reset-reply", PARTS, skip=2),
    "503": lambda: Fault("status", PARTS, status=503, times=2),
    "504 after the work": lambda: Fault("status", PARTS, status=504, work=True, skip=1),
    "session expired": lambda: Fault("status", PARTS, status=401, skip=1),
    "disk full once": lambda: Fault("disk-full", after=3000, skip=3),
}


@pytest.mark.wide
@pytest.mark.parametrize("flags", [GRADUAL, ZIP], ids=["gradual", "zip"])
@pytest.mark.parametrize("name", FAULTS)
def test_faults(ingest: Ingest, site: StandIn, tree: Path, name: str, flags: tuple[str, ...]) -> None:
    """Repeated as tars are, and whole in the end."""
    fault = site.faults.add(FAULTS[name]())
    ended = ingest("upload", tree, *flags, "--timeout", "5")
    assert fault.hits
    assert (ended.code, ended.totals["verified"]) == (0, TOTAL), ended.err
    assert [len(session.files) for session in site.sessions("DEMO")] == [TOTAL]


def test_an_instance_that_is_refused_names_itself(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """The others are delivered."""
    make_session(tmp_path / "t/S/E", [Series("T1_0001", 3), Series("T2_0002", 1)])
    site.faults.add(Fault("poison", name="-1-2-", times=None))
    ended = ingest("upload", tmp_path / "t", *GRADUAL)
    assert (ended.code, ended.totals["verified"], ended.totals["failed"]) == (3, 3, 1)
    assert "refuses this file on its own" in ended.session("S_E")["unproven"][0]["why"]


def test_a_name_that_no_address_holds(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """It is sent under a plainer one, and what the server says of that is understood."""
    folder = tmp_path / "t/S/E"
    folder.mkdir(parents=True)
    for number in (b"1", b"2"):
        unlike = {0x00080018: ("UI", b"1.2.3.4.5." + number), 0x00200011: ("IS", b"4;%A"), 0x00200013: ("IS", number)}
        (folder / number.decode()).write_bytes(part10({**IDENTITY, **unlike}))
    site.faults.add(Fault("poison", name="-2-", times=None))
    ended = ingest("upload", tmp_path / "t", *GRADUAL)
    assert {request.path.rpartition("/")[2][:14] for request in parts(site)} == {"1.2.3.4-4__A-1", "1.2.3.4-4__A-2"}
    assert (ended.code, ended.totals["verified"], ended.totals["failed"]) == (3, 1, 1)
    assert "refuses this file on its own" in ended.session("S_E")["unproven"][0]["why"]


@pytest.mark.wide
@pytest.mark.parametrize("flags", [GRADUAL, ("--archive-format", "zip")], ids=["gradual", "zip"])
def test_a_file_that_changes_before_its_turn_fails_alone(
    ingest: Ingest, site: StandIn, tree: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are delivered, as by tar."""
    victim = tree / "S/E/T1_0001/IM000003"

    def spoilt(source: object, instance: Instance) -> str:
        if victim.name in instance.path and "T1" in instance.path:
            return "the file changed since it was scanned"
        return ""

    monkeypatch.setattr(bodies, "change_since_scan", spoilt)
    ended = ingest("upload", tree, *flags)
    assert (ended.code, ended.totals["verified"], ended.totals["failed"]) == (3, TOTAL - 1, 1)
    assert len(held(site)) == TOTAL - 1


def zips(site: StandIn, ended: Ended) -> list[Exchange]:
    sent = parts(site)
    assert ended.code == 0
    return [request for request in sent if request.content_type == "application/zip"]


@pytest.mark.wide
def test_zips(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """In chunks, smaller than the files; what is counted are the files' bytes."""
    ended = ingest("upload", tree, *ZIP)
    sent = zips(site, ended)
    assert len(sent) == len(parts(site)) > 1
    assert {request.content_length for request in sent} == {None}
    assert sum(request.body_bytes for request in sent) < ended.totals["bytes_sent"] * 0.9
    assert ended.totals["bytes_sent"] == ended.totals["bytes_planned"]


@pytest.mark.wide
@pytest.mark.parametrize("flags", [(), ("--archive-format", "auto"), ("--archive-format", "tar")])
def test_tars(ingest: Ingest, site: StandIn, tree: Path, flags: tuple[str, ...]) -> None:
    ended = ingest("upload", tree, *flags)
    assert zips(site, ended) == []
    assert {request.content_type for request in parts(site)} == {"application/x-tar"}


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every link counts as slow, after the first body."""
    for name, value in (("SLOW", 1e12), ("BUFFERED", 0), ("LEAST", 1)):
        monkeypatch.setattr(link_speed, name, value)


AUTO = ("--part-size", "40K", "--workers", "1")


def kinds(site: StandIn) -> list[str]:
    return [str(request.content_type).partition("/")[2] for request in parts(site)]


@pytest.mark.wide
@pytest.mark.usefixtures("slow")
def test_a_slow_link_gets_zips_after_the_first_tar(ingest: Ingest, site: StandIn, tree: Path) -> None:
    ended = ingest("upload", tree, *AUTO)
    assert (ended.code, ended.totals["verified"]) == (0, TOTAL)
    first, *others = kinds(site)
    assert first == "x-tar"
    assert set(others) == {"zip"}
    assert len(others) > 3


@pytest.mark.wide
@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("status", [411, 400, 503])
def test_who_takes_no_zips_gets_tars(ingest: Ingest, site: StandIn, tree: Path, status: int) -> None:
    """A proxy may want a length, for instance. One zip is tried, no more, and nothing is lost."""
    site.faults.add(
        Fault("status", "POST /data/services/import", skip=1, status=status, message="a length is required")
    )
    ended = ingest("upload", tree, *AUTO)
    assert (ended.code, ended.totals["verified"]) == (0, TOTAL)
    assert kinds(site)[:3] == ["x-tar", "zip", "x-tar"]
    assert set(kinds(site)[2:]) == {"x-tar"}


@pytest.mark.wide
@pytest.mark.usefixtures("slow")
def test_tar_means_tar_on_any_link(ingest: Ingest, site: StandIn, tree: Path) -> None:
    assert ingest("upload", tree, *AUTO, "--archive-format", "tar").code == 0
    assert set(kinds(site)) == {"x-tar"}


@pytest.mark.wide
def test_what_no_zip_holds_goes_as_a_tar_of_its_own(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Java reads no small zip64, so large instances travel alone, and the rest is zipped all the same."""
    for module in (bodies, archive):
        monkeypatch.setattr(module, "ZIP_LIMIT", 20_000)
    ended = ingest("upload", tree, "--archive-format", "zip")
    large = 6  # the CTs have 39 kB
    assert len(parts(site)) - len(zips(site, ended)) == large
    assert ended.totals["verified"] == TOTAL


@pytest.mark.wide
def test_a_zip_has_so_many_members_at_most(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that is longer than what Tomcat swallows would cost the reply."""
    monkeypatch.setattr(archive, "ZIP_MEMBERS", 5)
    ended = ingest("upload", tree, "--archive-format", "zip")
    assert len(zips(site, ended)) == 4
    assert ended.totals["verified"] == TOTAL
