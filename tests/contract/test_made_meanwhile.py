"""Another upload makes a subject or a session while this one is at work, of which XNAT makes one with ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Ingest
from tests.contract.test_existing_prearchive import Other
from tests.dicom_trees import Series, make_session
from tests.standin import StandIn
from xnat_ingest.delivery import context
from xnat_ingest.delivery.commit import Commit
from xnat_ingest.delivery.sending import Sending

ONE = (Series("T1_0001", 2),)
DIRECT = "--destination=direct-archive"
SAID = ("subject-exists", "other-subject")


@pytest.fixture
def other(site: StandIn) -> Iterator[Other]:
    sender = Other(site)
    yield sender
    sender.client.close()


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str, Callable[[], object]], None]:
    """Lets somebody else act once, before a step of this program."""

    def let(owner: type, step: str, act: Callable[[], object]) -> None:
        usual, acts = getattr(owner, step), iter([act])

        def stepped(*args: object) -> object:
            for one in acts:
                one()
            return usual(*args)

        monkeypatch.setattr(owner, step, stepped)

    return let


def without_old_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KNOWN_AGE", "KNOWN_TIMES"):
        monkeypatch.setattr(context, name, 0.0)


def archived(other: Other, folder: Path, subject: str, label: str, study: str) -> None:
    row = other.send(make_session(folder, ONE, study), SUBJECT_ID=subject, EXPT_LABEL=label)
    assert other.client("POST", f"/data{row.url}", action="commit", AA="true").status == 301


@pytest.mark.parametrize("makes", ["M_ller", "m_ller", "M_LLER"])
@pytest.mark.parametrize("folder", ["Müller", "M_ller"])
def test_what_would_become_another_persons_is_not_archived(
    ingest: Ingest,
    site: StandIn,
    other: Other,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[..., None],
    folder: str,
    makes: str,
) -> None:
    without_old_listings(monkeypatch)
    make_session(tmp_path / "t" / folder / "pre", ONE, "ours")
    meanwhile(Sending, "send", lambda: archived(other, tmp_path / "theirs", makes, "theirs", "theirs"))
    ended = ingest("upload", tmp_path / "t")
    is_one = folder == makes  # the same label is the same subject
    assert (ended.code, "subject-exists" in ended.kinds()) == ((0, False) if is_one else (3, True)), ended.out
    assert len(site.sessions("DEMO")) == (2 if is_one else 1)
    assert len(site.rows("DEMO")) == (0 if is_one else 1)
    if not is_one:
        assert "another upload has made this subject meanwhile" in ended.out
        assert ingest("upload", tmp_path / "t").code == 3


@pytest.mark.parametrize("way", ["--destination=archive", DIRECT])
@pytest.mark.parametrize(("folder", "makes"), [("Müller", "M_ller"), ("M_ller", "m_ller")])
def test_no_session_of_a_subject_becomes_another_persons_without_a_word(
    ingest: Ingest,
    site: StandIn,
    other: Other,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[..., None],
    folder: str,
    makes: str,
    way: str,
) -> None:
    without_old_listings(monkeypatch)
    for label in ("post", "pre", "v3"):
        make_session(tmp_path / "t" / folder / label, ONE, label)
    meanwhile(Sending, "send", lambda: archived(other, tmp_path / "theirs", makes, "theirs", "theirs"))
    ended = ingest("upload", tmp_path / "t", way, "--workers", "1")
    told = {label for one in ended.report["problems"] if one["kind"] in SAID for label in one["sessions"]}
    assert (ended.code, told) == (3, {"M_ller_post", "M_ller_pre", "M_ller_v3"}), ended.out
    assert len(site.sessions("DEMO")) == 1 or way == DIRECT


@pytest.mark.parametrize("way", ["--destination=archive", DIRECT])
@pytest.mark.parametrize(("folder", "makes"), [("Müller", "M_ller"), ("M_ller", "m_ller")])
def test_what_has_become_another_persons_at_the_same_moment_is_told(
    ingest: Ingest,
    site: StandIn,
    other: Other,
    tmp_path: Path,
    meanwhile: Callable[..., None],
    folder: str,
    makes: str,
    way: str,
) -> None:
    make_session(tmp_path / "t" / folder / "pre", ONE, "ours")
    before = (Sending, "send") if way == DIRECT else (Commit, "close")
    meanwhile(*before, lambda: archived(other, tmp_path / "theirs", makes, "theirs", "theirs"))
    ended = ingest("upload", tmp_path / "t", way)
    assert (ended.code, "other-subject" in ended.kinds(), ended.totals["verified"]) == (3, True, 2), ended.out
    assert "another upload has made subject M_ller at the same time" in ended.out
    assert len(site.sessions("DEMO")) == 2


@pytest.mark.parametrize("way", ["--destination=archive", DIRECT])
def test_another_run_of_the_same_tree_makes_the_subject(
    ingest: Ingest, site: StandIn, other: Other, tmp_path: Path, meanwhile: Callable[..., None], way: str
) -> None:
    """It has archived the next session of the same person."""
    for label in ("post", "pre"):
        make_session(tmp_path / "t/Müller" / label, ONE, label)
    meanwhile(Sending, "send", lambda: archived(other, tmp_path / "theirs", "M_ller", "M_ller_pre", "pre"))
    ended = ingest("upload", tmp_path / "t", way, "--workers", "1")
    assert (ended.code, ended.totals["verified"]) == (0, 4), ended.out
    assert len(site.sessions("DEMO")) == 2


def test_a_study_that_another_has_archived_meanwhile_is_not_archived_twice(
    ingest: Ingest,
    site: StandIn,
    other: Other,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[..., None],
) -> None:
    without_old_listings(monkeypatch)
    make_session(tmp_path / "t/S/pre", ONE, "study")
    meanwhile(Sending, "send", lambda: archived(other, tmp_path / "theirs", "S", "another", "study"))
    for kind in ("other-label", "other-label"):
        ended = ingest("upload", tmp_path / "t")
        assert (ended.code, kind in ended.kinds()) == (3, True), ended.out
    assert [one.label for one in site.sessions("DEMO")] == ["another"]
