"""The server's series import filters in whole runs: what they drop is set aside beforehand, and told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended, Ingest, stored
from tests.dicom_trees import Series, make_session
from tests.standin import Fault, Project, StandIn
from xnat_ingest.cli import main

SERIES = (
    Series("T1_0001", 4),
    Series("Localizers_0002", 3),
    Series("T2_0003", 2, tags={"ImageType": ["DERIVED", "PRIMARY"]}),
)


def blacklist(listing: str) -> dict[str, Any]:
    return {"enabled": True, "mode": "blacklist", "list": listing}


def reasons(ended: Ended) -> Counter[str]:
    return Counter(aside["reason"] for aside in ended.report["set_aside"])


@pytest.mark.sampled(1)
@pytest.mark.parametrize("where", ["site", "project"])
def test_what_the_server_would_drop_is_set_aside(ingest: Ingest, site: StandIn, tmp_path: Path, where: str) -> None:
    """Exit 0, said in the summary, and nothing of it travels."""
    if where == "site":
        site.settings.site_filter = blacklist("localizer\n[ImageType]\nPRIMARY")
    else:
        site.project("DEMO").series_filter = blacklist("localizer\n[ImageType]\nPRIMARY")
    make_session(tmp_path / "t/S/E", SERIES)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"], ended.totals["excluded"]) == (0, 4, 0)
    assert reasons(ended) == {"server-filter:localizer": 3, "server-filter:ImageType=PRIMARY": 2}
    assert len(stored(site, "DEMO", "S", "S_E").files) == 4
    assert ended.kinds() == ["server-filter", "server-filter"]
    assert "would drop 3 instances by localizer" in ended.out
    size = sum(path.stat().st_size for path in (tmp_path / "t/S/E/T1_0001").iterdir())
    assert ended.totals["bytes_sent"] < 1.5 * size + 20000


@pytest.mark.wide
def test_plan_asks_for_the_filters_only_online(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    site.project("DEMO").series_filter = blacklist("localizer")
    make_session(tmp_path / "t/S/E", SERIES)
    ended = ingest("plan", tmp_path / "t")
    assert (ended.code, ended.totals["planned"], len(site.requests)) == (0, 9, 0)
    ended = ingest("plan", tmp_path / "t", "--online")
    assert (ended.code, ended.totals["planned"], reasons(ended)) == (0, 6, {"server-filter:localizer": 3})
    assert ingest("plan", tmp_path / "t", "--online", "--ignore-server-filter").totals["planned"] == 9


def test_ignored_filter_shows_as_missing(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Sent anyway: what the server drops is missing, exit 3."""
    site.project("DEMO").series_filter = blacklist("localizer")
    make_session(tmp_path / "t/S/E", SERIES)
    ended = ingest("upload", tmp_path / "t", "--ignore-server-filter")
    assert (ended.code, ended.totals["verified"], ended.totals["missing"]) == (3, 6, 3)
    assert "server-filter" not in ended.kinds()


@pytest.mark.parametrize("where", ["site", "project"])
def test_verify_says_what_the_filter_drops(ingest: Ingest, site: StandIn, tmp_path: Path, where: str) -> None:
    """It looks for all instances. What the filter would drop and is there all the same is verified."""
    make_session(tmp_path / "t/S/E", SERIES)
    assert ingest("upload", tmp_path / "t").code == 0
    make_session(tmp_path / "t/S/F", SERIES, "another")
    if where == "site":
        site.settings.site_filter = blacklist("localizer")
    else:
        site.project("DEMO").series_filter = blacklist("localizer")
    assert ingest("upload", tmp_path / "t").code == 0
    ended = ingest("verify", tmp_path / "t")
    assert (ended.code, ended.totals["verified"], ended.totals["missing"]) == (3, 15, 3)
    (note,) = ended.report["problems"]
    assert (note["kind"], note["sessions"]) == ("server-filter", ["S_F"])
    assert "drops 3 of the missing instances by localizer" in note["detail"]
    ended = ingest("verify", tmp_path / "t", "--exclude", "Localizers")
    assert (ended.code, ended.kinds()) == (0, [])


def test_session_of_which_nothing_is_left_is_told(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    site.settings.site_filter = {"enabled": True, "mode": "whitelist", "list": "t1"}
    make_session(tmp_path / "t/S/E", SERIES)
    make_session(tmp_path / "t/S/F", SERIES[1:])
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"]) == (0, 4)
    assert ended.session("S_F")["instances"] == 0
    assert reasons(ended) == {"server-filter:not-in-whitelist": 10}
    assert [session.label for session in site.sessions("DEMO")] == ["S_E"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "config",
    [
        {"enabled": True, "mode": "modalityMap", "exclude": "'#SeriesDescription#' == 'Localizers'"},
        blacklist("[Ll]ocalizers++"),
    ],
    ids=["map", "java"],
)
def test_what_is_not_evaluated_here_is_missing(
    ingest: Ingest, site: StandIn, tmp_path: Path, config: dict[str, Any]
) -> None:
    """Nobody could foresee it: one note, and the verification decides."""
    site.project("DEMO").series_filter = config
    make_session(tmp_path / "t/S/E", SERIES)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["missing"]) == (3, 3)
    assert ended.kinds() == ["filter-not-evaluated"]
    assert "not evaluated" in ended.out


@pytest.mark.wide
def test_note_alone_leaves_exit_0(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    site.project("DEMO").series_filter = blacklist("nothing++")
    make_session(tmp_path / "t/S/E", SERIES)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds()) == (0, ["filter-not-evaluated"])


def test_filter_that_is_switched_off_drops_nothing(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    site.project("DEMO").series_filter = {**blacklist("."), "enabled": False}
    make_session(tmp_path / "t/S/E", SERIES)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"], ended.kinds()) == (0, 9, [])


def test_projects_named_by_folders(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """The project is known after the scan: a filter on descriptions or modalities is evaluated, another is not."""
    site.project("DEMO").series_filter = blacklist("localizer\n[Modality]\nXX")
    site.project("MANUAL").series_filter = blacklist("[ImageType]\nPRIMARY")
    for project in ("DEMO", "MANUAL"):
        make_session(tmp_path / "t" / project / "S/E", SERIES)
    ended = ingest("plan", tmp_path / "t", "--online", "--layout", "project/subject/session")
    assert reasons(ended) == {"server-filter:localizer": 3}
    assert sorted(ended.kinds()) == ["filter-not-evaluated", "server-filter"]
    assert "it looks at ImageType" in ended.out


def test_hint_not_to_create_subjects(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """A note, since the server takes them all the same; none for a subject that is there."""
    site.project("DEMO").config["applet", "allow-create-subject"] = "false"
    make_session(tmp_path / "t/S/E", SERIES[:1])
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds()) == (0, ["new-subject"])
    assert "S are new" in ended.out
    make_session(tmp_path / "u/S/F", SERIES[:1])
    assert ingest("upload", tmp_path / "u").kinds() == []


def test_requests_that_the_rules_take(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """One for the site, three for each project, however many sessions there are."""
    for name in ("E", "F", "G"):
        make_session(tmp_path / "t/S" / name, SERIES[:1])
    ingest("upload", tmp_path / "t")
    asked = Counter(r.path for r in site.requests if "/config/" in r.path and "separatePETMR" not in r.path)
    assert set(asked.values()) == {1}
    assert len(asked) == 4


def test_ping_tells_what_the_server_does(site: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    site.settings.site_filter = {"enabled": True, "mode": "modalityMap"}
    site.settings.site_anonymization = True
    site.settings.config["anon", "script"] = "name"
    demo: Project = site.project("DEMO")
    demo.series_filter, demo.petmr = blacklist("loc\nscout"), "separate"
    demo.config["applet", "allow-create-subject"] = "false"
    assert main(["ping", "-P", "DEMO"]) == 0
    said = capsys.readouterr().out
    assert "the site's series import filter is not evaluated here: its mode is modalityMap" in said
    assert "the project's series import filter is on: it silently drops series (blacklist, 2 patterns)" in said
    assert "split into a PET and an MR session" in said
    assert "by the site on receipt: yes; by the project at archiving: no" in said
    assert "subjects should exist before an upload" in said


@pytest.mark.parametrize("status", [403, 500])
def test_ping_of_what_a_plain_user_may_not_read(site: StandIn, capsys: pytest.CaptureFixture[str], status: int) -> None:
    for hidden in ("/data/config/", "/xapi/siteConfig/enableSitewideAnonymizationScript"):
        site.faults.add(Fault("status", hidden, times=None, status=status))
    assert main(["ping", "-P", "DEMO"]) == 0
    said = capsys.readouterr().out
    assert "the site's series import filter is not evaluated here: the server does not show it to user up" in said
    assert "by the site on receipt: unknown" in said
