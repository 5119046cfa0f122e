"""Nobody's data under somebody else's name: what the server holds already, and what is said of patients, end to end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydicom.uid import UltrasoundImageStorage

from tests.conftest import Ingest
from tests.dicom_trees import Series, make_session
from tests.standin import StandIn

ONE = (Series("T1_0001", 2),)
ONLINE: dict[str, tuple[str, ...]] = {"upload": (), "plan": ("--online",)}


def subjects(site: StandIn) -> list[str]:
    return sorted(f"{session.subject}/{session.label}" for session in site.sessions("DEMO"))


@pytest.mark.wide
@pytest.mark.parametrize("command", ["upload", "plan"])
def test_repaired_label_of_somebody_else(ingest: Ingest, site: StandIn, tmp_path: Path, command: str) -> None:
    """Müller is sent as M_ller, and the project has an M_ller: another person's, as far as anybody can tell."""
    make_session(tmp_path / "theirs/M_ller/pre", ONE, "theirs")
    assert ingest("upload", tmp_path / "theirs").code == 0
    make_session(tmp_path / "ours/Müller/post", ONE, "ours")
    make_session(tmp_path / "ours/Meier/post", ONE, "meier")
    ended = ingest(command, tmp_path / "ours", *(["--online"] if command == "plan" else []))
    assert (ended.code, ended.session("M_ller_post")["verdict"]) == (3, "conflict")
    assert ended.session("Meier_post")["verdict"] == ("verified" if command == "upload" else "unverified")
    assert "subject-exists" in ended.kinds()
    assert "'Müller' becomes the subject label M_ller. Project DEMO has such a subject" in ended.out
    assert [name for name in subjects(site) if name.startswith("M_")] == ["M_ller/M_ller_pre"]


@pytest.mark.parametrize("command", ["upload", "plan"])
def test_subject_in_other_upper_and_lower_case(ingest: Ingest, site: StandIn, tmp_path: Path, command: str) -> None:
    """XNAT would store the session under the subject that it has: another person's, as far as anybody can tell."""
    make_session(tmp_path / "theirs/P007/pre", ONE, "theirs")
    assert ingest("upload", tmp_path / "theirs").code == 0
    make_session(tmp_path / "ours/p007/post", ONE, "ours")
    make_session(tmp_path / "ours/Meier/post", ONE, "meier")
    ended = ingest(command, tmp_path / "ours", *ONLINE[command])
    verdicts = {session["label"]: session["verdict"] for session in ended.report["sessions"]}
    assert verdicts["p007_post"] == "conflict"
    assert ended.code == 3
    assert "p007_post" not in str(subjects(site))


def test_subject_in_other_case_with_the_label_that_is_there(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    make_session(tmp_path / "theirs/P007/pre", ONE, "theirs")
    assert ingest("upload", tmp_path / "theirs").code == 0
    make_session(tmp_path / "ours/p007/post", ONE, "ours")
    ended = ingest("upload", tmp_path / "ours")
    assert (ended.code, ended.kinds()) == (3, ["subject-exists"])
    assert "project DEMO has this subject in other upper and lower case, as P007" in ended.out
    assert ingest("upload", tmp_path / "ours", "--subject-label", "P007").code == 0
    assert subjects(site) == ["P007/P007_pre", "P007/p007_post"]


@pytest.mark.wide
def test_repaired_label_of_an_earlier_run(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """The tree's own subject is no stranger: a second run, and one with a session more, go on."""
    make_session(tmp_path / "t/Müller/pre", ONE, "pre")
    assert ingest("upload", tmp_path / "t").code == 0
    assert ingest("upload", tmp_path / "t").code == 0
    make_session(tmp_path / "t/Müller/post", ONE, "post")
    assert ingest("upload", tmp_path / "t").code == 0
    assert subjects(site) == ["M_ller/M_ller_post", "M_ller/M_ller_pre"]


def test_repaired_label_of_a_subject_that_was_made_in_vain(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """XNAT makes the subject, and then cannot archive: files of a session that was deleted lie in its place."""
    make_session(tmp_path / "t/Müller/pre", ONE, "pre")
    assert ingest("upload", tmp_path / "t").code == 0
    project = site.projects["DEMO"]
    project.sessions.clear()
    project.subjects.clear()
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, "files-in-the-way" in ended.kinds(), list(project.subjects)) == (3, True, ["M_ller"])
    shutil.rmtree(site.archive_root / "DEMO")
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, "subject-exists" in ended.kinds()) == (0, False), ended.out
    assert subjects(site) == ["M_ller/M_ller_pre"]


@pytest.mark.parametrize("with_session", [True, False])
@pytest.mark.parametrize("status", ["READY", "ERROR"])
def test_a_subject_that_came_after_ours_was_sent(
    ingest: Ingest, site: StandIn, tmp_path: Path, status: str, with_session: bool
) -> None:
    """While our session waits in the prearchive, another person gets the label that ours has there. Where archiving was
    tried, the subject is the one that this made, unless it has sessions of others."""
    make_session(tmp_path / "ours/Müller/pre", ONE, "ours")
    assert ingest("upload", tmp_path / "ours", "--destination", "prearchive").code == 0
    make_session(tmp_path / "theirs/M_ller/post", ONE, "theirs")
    assert ingest("upload", tmp_path / "theirs").code == 0
    if not with_session:
        site.projects["DEMO"].sessions.clear()
    (row,) = site.rows("DEMO")
    row.status = status
    ended = ingest("upload", tmp_path / "ours")
    assert ended.code == 3
    is_conflict = with_session or status == "READY"
    assert ("subject-exists" in ended.kinds(), "stale-row" in ended.kinds()) == (is_conflict, not is_conflict)
    assert not is_conflict or ("no session that the listing shows" in ended.out) == (not with_session)


ULTRASOUND = Series("US_0001", 2, tags={"Modality": "US", "SOPClassUID": UltrasoundImageStorage})


@pytest.mark.parametrize("command", ["upload", "plan"])
@pytest.mark.parametrize(
    ("folder", "series", "script"),
    [("Müller", ULTRASOUND, ""), ("Müller", ONE[0], "uids"), ("p007", ULTRASOUND, ""), ("p007", ONE[0], "uids")],
)
def test_an_earlier_run_whose_sessions_no_listing_shows(
    ingest: Ingest, site: StandIn, tmp_path: Path, command: str, folder: str, series: Series, script: str
) -> None:
    """Sessions of some types are in no listing, and a script may have changed the study's UID. They are asked for."""
    site.settings.site_anonymization, site.settings.site_script = bool(script), script
    make_session(tmp_path / "t" / folder / "pre", [series], "pre")
    label = ("--subject-label", "P007") if folder == "p007" else ()
    assert ingest("upload", tmp_path / "t", *label).code == 0
    make_session(tmp_path / "t" / folder / "post", [series], "post")
    ended = ingest(command, tmp_path / "t", *ONLINE[command])
    assert (ended.code, "subject-exists" in ended.kinds()) == (0, False), ended.out


@pytest.mark.parametrize("series", [ULTRASOUND, ONE[0]])
def test_a_session_of_this_label_of_somebody_else(
    ingest: Ingest, site: StandIn, tmp_path: Path, series: Series
) -> None:
    """The same label with another study is no sign that the subject is this tree's."""
    make_session(tmp_path / "theirs/M_ller/pre", [series], "theirs")
    assert ingest("upload", tmp_path / "theirs").code == 0
    make_session(tmp_path / "ours/Müller/pre", [series], "ours")
    make_session(tmp_path / "ours/Müller/post", [series], "more")
    ended = ingest("upload", tmp_path / "ours")
    assert (ended.code, ended.kinds().count("subject-exists"), ended.totals["bytes_sent"]) == (3, 2, 0)


@pytest.mark.wide
def test_label_that_a_person_chose(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """A label in a sheet is somebody's decision: the subject on the server is meant."""
    make_session(tmp_path / "theirs/M_ller/pre", ONE, "theirs")
    assert ingest("upload", tmp_path / "theirs").code == 0
    make_session(tmp_path / "ours/Müller/post", ONE, "ours")
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("folder,subject,session\nMüller/post,M_ller,\n", "utf-8")
    assert ingest("upload", tmp_path / "ours", "--labels", str(sheet)).code == 0
    assert subjects(site) == ["M_ller/M_ller_post", "M_ller/M_ller_pre"]


@pytest.mark.wide
def test_root_one_level_too_high(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Every subject of a study would become a session of one: nothing is sent, no PatientID is told."""
    for name in ("S1", "S2"):
        make_session(tmp_path / "t/study" / name, (Series("T1_1", 1, tags={"PatientID": f"PAT-{name}"}),), name)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["bytes_sent"], set(ended.kinds())) == (3, 0, {"mixed-patients"})
    assert "PAT-" not in ended.out + ended.err + str(ended.report)
    assert ingest("upload", tmp_path / "t", "--allow-mixed-patients").code == 0
    assert subjects(site) == ["study/study_S1", "study/study_S2"]


@pytest.mark.parametrize("command", ["upload", "plan"])
@pytest.mark.parametrize("project", ["DEMO", "MANUAL"])
def test_a_subject_label_that_is_an_accession_id(
    ingest: Ingest, site: StandIn, tmp_path: Path, project: str, command: str
) -> None:
    """XNAT finds a subject by it, in any project: the session would be another person's."""
    make_session(tmp_path / "theirs/Zed/pre", ONE, "theirs")
    assert ingest("upload", tmp_path / "theirs", project=project).code == 0
    accession = site.project(project).subjects["Zed"]
    for subject in (accession, "NEW_S00042", "Meier"):
        make_session(tmp_path / "ours" / subject / "post", ONE, subject)
    ended = ingest(command, tmp_path / "ours", *ONLINE[command])
    verdicts = {session["subject"]: session["verdict"] for session in ended.report["sessions"]}
    sent = "verified" if command == "upload" else "unverified"
    assert (ended.code, ended.kinds()) == (3, ["subject-exists"])
    assert verdicts == {accession: "conflict", "NEW_S00042": sent, "Meier": sent}
    assert f"{accession}_post" not in str(subjects(site))


@pytest.mark.parametrize("command", ["upload", "plan"])
def test_a_session_label_that_is_an_accession_id(ingest: Ingest, site: StandIn, tmp_path: Path, command: str) -> None:
    """It must not be taken for the session of that id, and nobody is told to rename that one."""
    make_session(tmp_path / "theirs/Zed/pre", ONE, "theirs")
    assert ingest("upload", tmp_path / "theirs").code == 0
    (accession,) = (session.accession for session in site.sessions("DEMO"))
    for label in (accession, "NEW_E00042"):
        make_session(tmp_path / "ours/Meier" / label, ONE, label)
    ended = ingest(command, tmp_path / "ours", "--session-label", "{session}", *ONLINE[command])
    assert (ended.code, ended.kinds()) == (3, ["other-study"])
    assert ended.session(accession)["verdict"] == "conflict"
    assert ended.session("NEW_E00042")["verdict"] == ("verified" if command == "upload" else "unverified")
    again = ingest(command, tmp_path / "ours", "--session-label", "{session}", *ONLINE[command])
    assert again.kinds() == ["other-study"]


def test_a_subject_label_that_is_an_accession_id_of_a_project_that_cannot_be_seen(
    ingest: Ingest, site: StandIn, tmp_path: Path
) -> None:
    """It can only be told afterwards."""
    make_session(tmp_path / "theirs/Zed/pre", ONE, "theirs")
    assert ingest("upload", tmp_path / "theirs", project="MANUAL").code == 0
    accession = site.project("MANUAL").subjects["Zed"]
    site.project("MANUAL").access.clear()
    make_session(tmp_path / "ours" / accession / "post", ONE, "ours")
    ended = ingest("upload", tmp_path / "ours")
    assert (ended.code, ended.totals["verified"], ended.kinds()) == (3, 0, ["other-subject"])


def test_labels_like_accession_ids_cost_little(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """One look for each new subject and each new session, and none for those that the project has."""
    counted = {}
    for kind, subject, session in (("plain", "Meier{}", "Meier{}_pre"), ("alike", "S_S0001{}", "A_E0003{}")):
        for number in range(3):
            make_session(tmp_path / kind / subject.format(number) / session.format(number), ONE, f"{kind}{number}")
        for run in ("new", "again"):
            before = len(site.requests)
            assert ingest("upload", tmp_path / kind, "--session-label", "{session}").code == 0
            counted[kind, run] = len(site.requests) - before
    assert counted["alike", "new"] == counted["plain", "new"] + 3 + 3
    assert counted["alike", "again"] == counted["plain", "again"]


def test_a_subject_that_is_called_as_its_accession_id(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """XNAT calls one so that was made without a label. It is no stranger."""
    site.project("DEMO").subjects["XNAT_S00077"] = "XNAT_S00077"
    make_session(tmp_path / "XNAT_S00077/post", ONE, "study")
    ended = ingest("upload", tmp_path)
    assert (ended.code, ended.totals["verified"]) == (0, 2)
