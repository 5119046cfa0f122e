"""C-STORE to XNAT's receiver as a whole run: routed, found again, closed, proven; and without a server to ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import LOGIN_NAMES, Ingest, stored
from tests.dicom_trees import MR, PATIENT, Series, make_session
from tests.standin import StandIn
from tests.standin.receiver import Receiver, ReceiverFaults
from xnat_ingest.cli import main
from xnat_ingest.delivery import deliver


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("007/pre", "008/pre"):
        series = [Series("T1_1", 4), Series("RLE_2", 2, "MR_small_RLE.dcm"), Series("SR_3", 1, "test-SR.dcm")]
        make_session(tmp_path / "tree" / name, series, name)
    return tmp_path / "tree"


@pytest.fixture
def receiver(site: StandIn) -> Iterator[Receiver]:
    with site.receive(check_title=True) as receiver:
        yield receiver


def by_dicom(receiver: Receiver, *more: str) -> list[str]:
    return ["--transport", "cstore", "--dicom-host", "127.0.0.1", "--dicom-port", str(receiver.port), *more]


@pytest.mark.wide
def test_sent_closed_and_proven(root: Path, site: StandIn, ingest: Ingest, receiver: Receiver) -> None:
    ended = ingest("upload", root, *by_dicom(receiver))
    assert ended.code == 0, ended.out
    assert ended.totals["verified"] == 14
    assert {s["verdict"] for s in ended.report["sessions"]} == {"verified"}
    session = stored(site, "DEMO", "007", "007_pre")
    assert len(session.files) == 7
    assert not site.rows("DEMO")
    again = ingest("upload", root, *by_dicom(receiver))
    assert ended.totals["bytes_sent"] >= ended.totals["bytes_planned"] * 0.9
    assert (again.code, again.totals["already_there"], again.totals["bytes_sent"]) == (0, 14, 0)
    assert len(receiver.received) == 14


@pytest.mark.wide
def test_what_was_replaced_is_told_and_never_its_text(
    root: Path, site: StandIn, ingest: Ingest, receiver: Receiver
) -> None:
    make_session(root / "009" / "pre", [Series("T1_1", 3, MR, tags={"PatientComments": PATIENT})], "009/pre")
    ended = ingest("upload", root, *by_dicom(receiver))
    assert ended.code == 0
    (note,) = (p["detail"] for p in ended.report["problems"] if p["kind"] == "receiver-note")
    assert note == "DEMO/009/009_pre: PatientComments replaced, 3 instances"
    assert PATIENT not in ended.out + ended.err + json.dumps(ended.report)


@pytest.mark.wide
def test_into_the_prearchive(root: Path, site: StandIn, ingest: Ingest, receiver: Receiver) -> None:
    ended = ingest("upload", root, *by_dicom(receiver, "--destination", "prearchive"))
    assert ended.code == 0, ended.out
    assert sorted((row.label, row.status) for row in site.rows("DEMO")) == [("007_pre", "READY"), ("008_pre", "READY")]
    assert not site.sessions("DEMO")


@pytest.mark.wide
@pytest.mark.parametrize("destination", ["archive", "direct-archive"])
def test_a_receiver_that_archives_by_itself(
    root: Path, site: StandIn, ingest: Ingest, receiver: Receiver, destination: str
) -> None:
    with site.receive(direct_archive=True) as receiver:
        ended = ingest("upload", root, *by_dicom(receiver, "--destination", destination))
        assert (ended.code, ended.totals["verified"]) == (0, 14), ended.out
        assert len(receiver.received) == 14
    assert not site.direct.rows()
    assert not site.rows("DEMO")


@pytest.mark.wide
def test_what_lacks_is_merged(root: Path, site: StandIn, ingest: Ingest, receiver: Receiver) -> None:
    assert ingest("upload", root, "--exclude", "RLE").code == 0
    ended = ingest("upload", root, *by_dicom(receiver))
    assert (ended.code, ended.totals["already_there"], len(receiver.received)) == (0, 10, 4)
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 7


FAULTS = {
    "out of resources": ReceiverFaults(refuse_every=3),
    "aborts": ReceiverFaults(abort_after=2),
    "aborts, stored": ReceiverFaults(abort_after=2, abort_keeps=True),
    "warns": ReceiverFaults(warning=0xB007),
}


@pytest.mark.wide
@pytest.mark.parametrize("name", FAULTS)
def test_under_troubles(root: Path, site: StandIn, ingest: Ingest, name: str) -> None:
    with site.receive(faults=FAULTS[name]) as receiver:
        ended = ingest("upload", root, *by_dicom(receiver, "--retry-budget", "60"))
        if ended.code:
            receiver.faults = ReceiverFaults()
            ended = ingest("upload", root, *by_dicom(receiver))
    assert ended.code == 0, ended.out
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 7


def test_a_wrong_title(root: Path, site: StandIn, ingest: Ingest, receiver: Receiver) -> None:
    ended = ingest("upload", root, *by_dicom(receiver, "-aec", "OTHER"))
    assert ended.code in (3, 6)
    assert "OTHER" in ended.out
    assert not site.sessions("DEMO")


def test_nobody_listens(root: Path, ingest: Ingest) -> None:
    words = ["--transport", "cstore", "--dicom-host", "127.0.0.1", "--dicom-port", "9", "--retry-budget", "1"]
    ended = ingest("upload", root, *words)
    assert ended.code == 5
    assert "127.0.0.1:9" in ended.out


@pytest.mark.wide
def test_routed_elsewhere(root: Path, site: StandIn, ingest: Ingest, receiver: Receiver) -> None:
    """A receiver that is not told the place: nothing is found in the project, and the run says why."""
    ended = ingest("upload", root, *by_dicom(receiver, "--route", "none", "--part-size", "12K"))
    assert ended.code == 3
    assert "rerouted" in ended.kinds()
    assert ended.totals["failed"] == 14
    assert len(receiver.received) == 6  # of each session three parts, one by one, and no more
    assert not site.rows("DEMO")


@pytest.mark.wide
def test_a_first_part_that_is_refused_costs_itself_alone(root: Path, site: StandIn, ingest: Ingest) -> None:
    with site.receive(faults=ReceiverFaults(refuse_every=7, refuse_status=0xC000)) as receiver:
        ended = ingest("upload", root, *by_dicom(receiver, "--part-size", "12K", "-w", "1"))
    assert ended.code == 3
    assert (ended.totals["verified"], ended.totals["failed"]) == (12, 2)


@pytest.mark.wide
def test_by_study_description(root: Path, site: StandIn, ingest: Ingest) -> None:
    from tests.standin.identify import Routing

    one = r"(0008,1030):xnat://([^/]+)/([^/]+)/([^/]+)"
    with site.receive(routing=Routing(project=f"{one}:1", subject=f"{one}:2", session=f"{one}:3")) as receiver:
        ended = ingest("upload", root, *by_dicom(receiver, "--route", "study-description"))
    assert ended.code == 0, ended.out
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 7


@pytest.mark.wide
def test_with_the_right_to_read_alone(
    root: Path, site: StandIn, ingest: Ingest, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server archives by itself when nothing has come for a while; until then, nothing is to be seen."""
    site.project("DEMO").access["up"] = "read"
    site.settings.rebuilder_interval = 0.3
    monkeypatch.setattr(deliver, "ARCHIVE_LIMIT", 20.0)
    ended = ingest("upload", root, *by_dicom(receiver))
    assert ended.code == 0, ended.out
    assert ended.totals["verified"] == 14


@pytest.mark.wide
def test_with_the_right_to_read_and_nothing_archived(
    root: Path, site: StandIn, ingest: Ingest, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.project("DEMO").access["up"] = "read"
    monkeypatch.setattr(deliver, "ARCHIVE_LIMIT", 0.3)
    ended = ingest("upload", root, *by_dicom(receiver))
    assert ended.code == 3
    assert {s["verdict"] for s in ended.report["sessions"]} == {"unverified"}


@pytest.fixture
def no_server(site: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LOGIN_NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.wide
def test_without_a_server(root: Path, site: StandIn, ingest: Ingest, receiver: Receiver, no_server: None) -> None:
    ended = ingest("upload", root, *by_dicom(receiver))
    assert ended.code == 3
    assert {s["verdict"] for s in ended.report["sessions"]} == {"unverified"}
    assert ended.totals["unverified"] == 14
    assert len(receiver.received) == 14
    assert ingest("upload", root, *by_dicom(receiver, "--no-verify")).code == 0
    assert not site.requests


@pytest.mark.wide
def test_without_a_server_and_refused(root: Path, site: StandIn, ingest: Ingest, no_server: None) -> None:
    with site.receive(faults=ReceiverFaults(refuse_every=1, refuse_status=0xC000)) as receiver:
        ended = ingest("upload", root, *by_dicom(receiver))
    assert ended.code == 3
    assert ended.totals["failed"] == 14


def test_ping_echoes(site: StandIn, receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--transport", "cstore", "--dicom-host", "127.0.0.1", "--dicom-port", str(receiver.port)]
    assert main(["ping", "-P", "DEMO", *words]) == 0
    assert f"XNAT@127.0.0.1:{receiver.port} answers C-ECHO" in capsys.readouterr().out


def test_ping_without_a_server(
    site: StandIn, receiver: Receiver, no_server: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--transport", "cstore", "--dicom-host", "127.0.0.1", "--dicom-port", str(receiver.port)]
    assert main(["ping", *words]) == 0
    assert main(["ping", *words[:-1], "9"]) == 5


@pytest.mark.wide
def test_every_transfer_syntax(tmp_path: Path, site: StandIn, ingest: Ingest, receiver: Receiver) -> None:
    from tests.dicom_trees import KINDS

    for number, kind in enumerate(KINDS):
        make_session(tmp_path / "t" / f"S{number}" / "E", [Series("A_1", 1, kind)], kind)
    ended = ingest("upload", tmp_path / "t", *by_dicom(receiver))
    assert (ended.code, ended.totals["verified"]) == (0, len(KINDS)), ended.out


def test_ping_looks_at_the_certificates_first(
    site: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    words = ["--transport", "cstore", "--dicom-host", "127.0.0.1", "--dicom-tls-ca", str(tmp_path / "ca.pem")]
    assert main(["ping", "-P", "DEMO", *words]) == 2
    assert not site.requests
    assert not capsys.readouterr().out
