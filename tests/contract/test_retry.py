"""What the archive transport cannot get through is tried once, file by file, before it is given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Ingest
from tests.dicom_trees import CT, Series, make_session
from tests.standin import Fault, StandIn

SERIES = (Series("T1_0001", 5), Series("T2_0002", 3, CT))
TOTAL = 8
ARCHIVES = "POST .*import-handler=DICOM-zip"
SINGLES = "POST .*import-handler=gradual-DICOM"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_session(tmp_path / "t/S/E", SERIES)
    return tmp_path / "t"


def sent(site: StandIn, handler: str) -> int:
    return sum(request.query.get("import-handler") == handler for request in site.requests)


@pytest.mark.wide
@pytest.mark.parametrize("after", [0, 2000])
def test_archives_that_are_always_broken_off(ingest: Ingest, site: StandIn, tree: Path, after: int) -> None:
    """Something in front lets small requests and single files pass: the run ends well."""
    site.faults.add(Fault("reset", ARCHIVES, after=after, times=None))
    ended = ingest("upload", tree, "--retry-budget", "3", "--part-size", "60K")
    assert (ended.code, ended.totals["verified"]) == (0, TOTAL), ended.err
    assert 3 <= ended.totals["retries"] <= 5  # ten requests that go well earn one more
    assert sent(site, "gradual-DICOM") >= TOTAL
    assert [len(session.files) for session in site.sessions("DEMO")] == [TOTAL]
    assert ended.session("S_E")["attempts"] == sent(site, "gradual-DICOM") + sent(site, "DICOM-zip")


@pytest.mark.wide
def test_one_instance_that_no_archive_may_hold(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """It is refused with others and alone, and taken as a file."""
    site.faults.add(Fault("poison", ARCHIVES, name="-1-3-", times=None))
    ended = ingest("upload", tree)
    assert (ended.code, ended.totals["verified"], sent(site, "gradual-DICOM")) == (0, TOTAL, 1), ended.err


@pytest.mark.wide
def test_one_instance_that_is_refused_everywhere(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """One file more was sent, and the report still says what the server said."""
    site.faults.add(Fault("poison", name="-1-3-", times=None))
    ended = ingest("upload", tree)
    assert (ended.code, ended.totals["verified"], sent(site, "gradual-DICOM")) == (3, TOTAL - 1, 1)
    (unproven,) = ended.session("S_E")["unproven"]
    assert "the server also refuses this file on its own" in unproven["why"]


@pytest.mark.wide
def test_what_breaks_single_files_off_too_ends_the_session(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """One file is enough to see that: the others are not tried, nor is the first one again."""
    fault = site.faults.add(Fault("reset", "POST .*services/import", after=2000, times=None))
    ended = ingest("upload", tree, "--retry-budget", "2", "-w", "1")
    assert (ended.code, ended.totals["verified"], ended.kinds()) == (5, 0, ["server-fault"])
    assert sent(site, "gradual-DICOM") == 1
    site.faults.remove(fault)
    assert ingest("upload", tree).code == 0


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("fault", "flags"),
    [
        (Fault("status", ARCHIVES, status=503, times=None), ()),
        (Fault("too-large", ARCHIVES, limit=3000, times=None), ()),
        (Fault("stall", ARCHIVES, after=2000, seconds=1, times=None), ("--timeout", "0.2", "-w", "1")),
    ],
    ids=["503", "413", "no reply in time"],
)
def test_no_use_for_it(ingest: Ingest, site: StandIn, tree: Path, fault: Fault, flags: tuple[str, ...]) -> None:
    """A server in trouble and a limit on bytes are the same for a file."""
    site.faults.add(fault)
    ended = ingest("upload", tree, "--retry-budget", "1", *flags)
    site.faults.clear()
    assert ended.code in (3, 5)
    assert (sent(site, "gradual-DICOM"), ended.totals["verified"]) == (0, 0)


def test_a_server_that_is_gone_is_not_asked_for_each_file(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """Whether it lives is asked first."""
    site.faults.add(Fault("reset", ARCHIVES, times=None))
    site.faults.add(Fault("reset", "GET /data/auth", times=None))
    assert ingest("upload", tree, "--retry-budget", "0").code == 5
    assert sent(site, "gradual-DICOM") == 0


def test_the_gradual_transport_has_no_last_resort(ingest: Ingest, site: StandIn, tree: Path) -> None:
    site.faults.add(Fault("reset", SINGLES, times=None))
    ended = ingest("upload", tree, "--transport", "gradual", "--retry-budget", "0")
    assert (ended.code, sent(site, "gradual-DICOM"), sent(site, "DICOM-zip")) == (5, 1, 0)
