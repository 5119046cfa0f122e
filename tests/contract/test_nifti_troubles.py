"""`xnat-ingest nifti` where something is there already, or goes wrong."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.conftest import PASSWORD, Ingest, stored
from tests.dicom_trees import Series, make_session
from tests.nifti_trees import (
    held,
    image,
    make_bids,
    make_subjects,
    mr,
    numbers,
    put,
    scan,
    writes,
)
from tests.standin import Fault, Scan, StandIn
from tests.standin.body import Request
from tests.standin.tables import Reply
from xnat_ingest.commands.nifti import run as nifti
from xnat_ingest.commands.nifti import scan_ids
from xnat_ingest.commands.nifti import send as niftisend
from xnat_ingest.commands.nifti.model import NiftiSession
from xnat_ingest.commands.resources import LocalFile
from xnat_ingest.commands.resources import put as resources
from xnat_ingest.settings.layers import Credentials
from xnat_ingest.xnat.client import XnatClient


@pytest.mark.parametrize("names", [("T\x01", "T\\x01"), ("T\u202e", "T\\u202e"), ("T\n", "T\\n"), ("a\\b", "a\\\\b")])
def test_scans_whose_names_are_shown_alike(ingest: Ingest, tmp_path: Path, names: tuple[str, str]) -> None:
    for number, name in enumerate(names):
        put(tmp_path / "t/s/v" / name / "i.nii", image(seed=str(number)))
    for _ in range(2):
        ended = ingest("nifti", tmp_path / "t", "--modality", "MR")
        assert (ended.code, ended.totals["verified"]) == (0, 2), ended.out


# -- what is on the server already


@pytest.mark.wide
def test_beside_the_dicom_of_the_same_series(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    """The scan that the images were made of: same number, same words."""
    series = [Series("T1-MPRAGE_0002", 3, number=2), Series("other_0005", 2, number=5)]
    make_session(tmp_path / "dicom" / "007" / "pre", series)
    assert ingest("upload", tmp_path / "dicom").code == 0
    session = stored(site, "DEMO", "007", "007_pre")
    dicom = set(session.files)
    scan(tmp_path / "nifti" / "007" / "pre" / "T1" / "t1", mr(2, "T1_MPRAGE"))
    ended = ingest("nifti", tmp_path / "nifti")
    assert ended.code == 0, ended.out
    assert {"2/NIFTI/t1.nii.gz", "2/BIDS/t1.json"} <= set(held(session))
    assert set(session.files) == dicom
    assert set(session.scans) == {"2", "5"}


@pytest.mark.wide
def test_a_number_of_another_series_is_a_conflict(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    """The sidecar says that it is scan 2, and scan 2 is something else: the session or the numbering is wrong."""
    make_session(tmp_path / "dicom" / "007" / "pre", [Series("localizer_0002", 3, number=2)])
    assert ingest("upload", tmp_path / "dicom").code == 0
    since = len(site.requests)
    ended = ingest("nifti", make_subjects(tmp_path / "nifti", ("007", "008")))
    assert (ended.code, ended.kinds()) == (3, ["other-series"])
    assert ended.session("007_pre")["verdict"] == "conflict"
    assert "scan 2 ('localizer', not 'T1 MPRAGE') of 007_pre" in ended.out
    assert ended.session("008_pre")["verdict"] == "verified"
    assert not any("007" in path for path in writes(site, since))


def test_all_numbers_of_other_series_are_told_at_once(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    assert ingest("nifti", root).code == 0
    for one in stored(site, "DEMO", "007", "007_pre").scans.values():
        one.series_description = "other"
    scan(root / "007" / "pre" / "T2" / "t2", mr(9, "T2"))
    problem = ingest("nifti", root).report["problems"][0]
    assert problem["kind"] == "other-series"
    assert "scan 5 ('other', not 'DTI 64'), scan 2 ('other', not 'T1 MPRAGE') of 007_pre" in problem["detail"]


@pytest.mark.wide
def test_a_number_that_was_counted_gives_way(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    make_session(tmp_path / "dicom" / "sub-1", [Series("localizer_0001", 3, number=1)])
    assert ingest("upload", tmp_path / "dicom" / "sub-1", "-S", "sub-1", "-E", "sub-1").code == 0
    scan(tmp_path / "bids" / "sub-1" / "anat" / "sub-1_T1w")
    for there in (0, 1):
        ended = ingest("nifti", tmp_path / "bids")
        assert (ended.code, ended.totals["already_there"]) == (0, there)
        assert ended.session("sub-1")["scans"][0]["id"] == "2"
    found = [name for name in held(stored(site, "DEMO", "sub-1", "sub-1")) if "/DICOM/" not in name]
    assert found == ["2/NIFTI/sub-1_T1w.nii.gz"]


def test_two_uids_are_two_series(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    scan(tmp_path / "study" / "007" / "pre" / "T1" / "t1", mr(2, "T1", SeriesInstanceUID="1.2.3"))
    assert ingest("nifti", tmp_path / "study").code == 0
    assert stored(site, "DEMO", "007", "007_pre").scans["2"].series_uid == "1.2.3"
    put(tmp_path / "study" / "007" / "pre" / "T1" / "t1.json", json.dumps(mr(2, "T1", SeriesInstanceUID="1.2.4")))
    assert ingest("nifti", tmp_path / "study", "--overwrite").kinds() == ["other-series"]


@pytest.mark.wide
def test_another_type_of_scan(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    assert ingest("nifti", root).code == 0
    stored(site, "DEMO", "007", "007_pre").scans["2"].xsi_type = "xnat:ctScanData"
    ended = ingest("nifti", root)
    assert (ended.code, ended.kinds()) == (3, ["other-type"])
    assert "xnat:ctScanData" in ended.out
    assert "xnat:mrScanData" in ended.out


def test_another_type_of_session(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    assert ingest("nifti", root, "--modality", "CT").code == 0
    ended = ingest("nifti", root)
    assert (ended.code, ended.kinds()) == (3, ["other-type"])
    assert "xnat:ctSessionData" in ended.out
    assert "xnat:mrSessionData" in ended.out


def test_a_type_that_changes_meanwhile(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    site.faults.add(Fault("status", match="PUT .*/scans/5", status=409, message="Specified xsiType differs"))
    ended = ingest("nifti", make_subjects(tmp_path / "study", ("007",)))
    assert (ended.code, ended.kinds()) == (3, ["other-type"])
    assert held(stored(site, "DEMO", "007", "007_pre")) == {}


@pytest.mark.parametrize("what", ["session", "scan"])
def test_a_type_that_the_server_has_not(site: StandIn, ingest: Ingest, tmp_path: Path, what: str) -> None:
    """No trouble of the server's that a later run would not have."""
    flags = ("--session-type", "foo:bar") if what == "session" else ()
    site.faults.add(Fault("status", match="PUT .*/scans/5", status=500, message="no such type", times=None))
    ended = ingest("nifti", make_subjects(tmp_path / "study"), *flags)
    assert (ended.code, set(ended.kinds())) == (3, {"unknown-type"})
    wanted = {"session": "session 007_pre of type foo:bar", "scan": "scan 5 of type xnat:mrScanData"}[what]
    assert f"the server refuses to create {wanted} (" in ended.report["problems"][0]["detail"]


@pytest.mark.wide
@pytest.mark.parametrize(("flags", "kind"), [
    (("--subject-label", "X", "--session-label", "{subject}_{session}"), "other-subject"),
    (("--subject-label", "Abc"), "other-subject"),
    (("--session-label", "SAME"), "other-label"),
])  # fmt: skip
def test_labels_that_are_another_session_s(
    site: StandIn, ingest: Ingest, tmp_path: Path, flags: tuple[str, ...], kind: str
) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    assert ingest("nifti", root).code == 0
    site.projects["DEMO"].subjects["ABC"] = "XNAT_S99999"
    assert ingest("nifti", root, "--session-label", "same").code == 0
    count = len(site.sessions("DEMO"))
    ended = ingest("nifti", root, *flags)
    assert (ended.code, ended.kinds()) == (3, [kind])
    assert len(site.sessions("DEMO")) == count


# -- troubles


def test_a_conflict_in_the_tree_stops_its_session_alone(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    scan(root / "009" / "pre" / "x" / "x")
    ended = ingest("nifti", root)
    assert (ended.code, ended.kinds()) == (3, ["unknown-type"])
    assert [session.label for session in site.sessions("DEMO")] == ["007_pre"]
    assert "009" not in site.projects["DEMO"].subjects


def test_a_bad_image_makes_the_run_partial(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    put(root / "007" / "pre" / "T1" / "cut.nii.gz", gzip.compress(image())[:-9])
    ended = ingest("nifti", root)
    assert (ended.code, numbers(ended)) == (3, (6, 6, 0, 0))
    assert "truncated, 1 file:\n  007/pre/T1/cut.nii.gz" in ended.out


@pytest.mark.parametrize("name", ["sub-02_ses-pre", "sub-01_ses-post"])
def test_a_bids_name_in_the_folder_of_another(site: StandIn, ingest: Ingest, tmp_path: Path, name: str) -> None:
    """Whose image it is cannot be told."""
    root = make_bids(tmp_path / "bids")
    scan(root / "sub-01" / "ses-pre" / "anat" / f"{name}_FLAIR", {})
    ended = ingest("nifti", root)
    assert ended.code == 3
    assert f"anat/{name}_FLAIR.nii.gz (its name says {name.replace('_ses-pre', '').replace('sub-01_', '')}" in ended.out
    assert not [one for session in site.sessions("DEMO") for one in held(session) if "FLAIR" in one]
    assert ingest("nifti", root, "--exclude", "path=**/*FLAIR*").code == 0


@pytest.mark.parametrize("what", ["an image", "a folder"])
def test_a_link_out_of_root_may_be_an_image(site: StandIn, ingest: Ingest, tmp_path: Path, what: str) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    (tmp_path / "away").mkdir()
    scan(tmp_path / "away" / "more", {"Modality": "MR"})
    if what == "an image":
        (root / "007" / "pre" / "T1" / "more.nii.gz").symlink_to(tmp_path / "away" / "more.nii.gz")
    else:
        (root / "007" / "pre" / "more").symlink_to(tmp_path / "away")
    ended = ingest("nifti", root)
    assert (ended.code, numbers(ended)) == (3, (6, 6, 0, 0))
    assert "points outside ROOT (--follow-links follows it)" in ended.out
    followed = ingest("nifti", root, "--follow-links")
    assert followed.code == 0
    assert any("more.nii.gz" in name for name in held(stored(site, "DEMO", "007", "007_pre")))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "fault",
    [
        Fault("reset-reply", match="/subjects/007"),
        Fault("status", match="/experiments/007_pre", status=503),
        Fault("status", match="/scans/5", status=502, work=True),
        Fault("reset", match="/files/", after=10),
        Fault("reset-reply", match="/files/"),
        Fault("status", match="/files/", status=500),
    ],
    ids=lambda fault: f"{fault.kind} {fault.match}",
)
def test_what_passes_is_repeated(site: StandIn, ingest: Ingest, tmp_path: Path, fault: Fault) -> None:
    site.faults.add(fault)
    ended = ingest("nifti", make_subjects(tmp_path / "study", ("007",)))
    assert (ended.code, numbers(ended)) == (0, (6, 6, 0, 0)), ended.out + ended.err
    assert fault.hits == 1
    assert list(site.projects["DEMO"].subjects) == ["007"]


def test_a_run_that_ends_early_is_continued(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    site.faults.add(Fault("status", match="/files/", status=503, times=None, skip=2))
    ended = ingest("nifti", root, "--retry-budget", "1")
    assert (ended.code, ended.kinds()) == (5, ["server-fault"])
    assert (ended.totals["verified"], ended.totals["failed"]) == (4, 2)
    site.faults.clear()
    ended = ingest("nifti", root)
    assert (ended.code, ended.totals["verified"]) == (0, 6)
    assert len(held(stored(site, "DEMO", "007", "007_pre"))) == 6


def test_a_signal_ends_the_run_in_order(
    site: StandIn, ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_subjects(tmp_path / "study", ("007",))

    def send_one(*given: Any, **more: Any) -> resources.PutOutcome:
        resources.send(*given, **more)
        os.kill(os.getpid(), signal.SIGTERM)
        while True:  # until the main thread has seen it
            more["check_stop"]()
            threading.Event().wait(0.01)

    monkeypatch.setattr(niftisend, "send", send_one)
    ended = ingest("nifti", root)
    assert (ended.code, ended.totals["unverified"]) == (143, 6)
    monkeypatch.undo()


@pytest.mark.wide
def test_one_request_makes_the_subject_of_many_sessions(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    """Of two at once, XNAT would make two."""
    for number in range(6):
        scan(tmp_path / "study" / "007" / f"v{number}" / "T1" / "t1", mr(1, "T1"))
    assert ingest("nifti", tmp_path / "study", "-w", "6").code == 0
    assert sum(path.endswith("/subjects/007") for path in writes(site)) == 1
    assert len(site.sessions("DEMO")) == 6


def test_a_file_that_changes_is_not_sent(
    site: StandIn, ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    path = root / "007" / "pre" / "T1" / "t1.json"

    def settle(*given: Any) -> NiftiSession:
        os.utime(path, ns=(1, 1))
        return scan_ids.settle_ids(*given)

    monkeypatch.setattr(nifti, "settle_ids", settle)
    ended = ingest("nifti", root)
    assert (ended.code, numbers(ended)) == (3, (6, 5, 1, 0))
    assert "changed" in ended.session("007_pre")["unproven"][0]["why"]
    assert "2/BIDS/t1.json" not in held(stored(site, "DEMO", "007", "007_pre"))


@pytest.mark.parametrize("place", ["007/pre/T1/t1.nii.gz", "007/pre/T1", "007/pre", "007"])
def test_a_link_put_in_a_place_after_the_scan_is_not_followed(
    site: StandIn, ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Although the file behind it has the size and the time of the planned one."""
    root, away, old = tmp_path / "study", tmp_path / "away", tmp_path / "old"
    scan(root / "007/pre/T1/t1", mr(1, "T1"))
    shutil.copytree(root, away)
    for path in filter(Path.is_file, away.rglob("*")):
        since = path.stat()
        path.write_bytes(b"SECRET".ljust(since.st_size, b"z"))
        os.utime(path, ns=(since.st_atime_ns, since.st_mtime_ns))

    def settle(*given: Any) -> NiftiSession:
        (root / place).rename(old)
        (root / place).symlink_to(away / place)
        return scan_ids.settle_ids(*given)

    monkeypatch.setattr(nifti, "settle_ids", settle)
    ended = ingest("nifti", root, "-vv")
    secret = [path.name for path in site.root.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
    assert secret == []
    if place.endswith("gz"):  # a folder that is still open is read, wherever it is now
        assert ended.code == 3, ended.out
        assert "is not the one that was scanned" in ended.session("007_pre")["unproven"][0]["why"]


def test_a_file_that_the_server_loses_is_not_verified(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    site.faults.add(Fault("cut", name="dti.nii.gz", keep=20, times=None))
    ended = ingest("nifti", make_subjects(tmp_path / "study", ("007",)))
    assert (ended.code, numbers(ended)) == (3, (6, 5, 1, 0))
    assert [one["path"] for one in ended.session("007_pre")["unproven"]] == ["007/pre/DTI/dti.nii.gz"]


@pytest.mark.wide
def test_a_scan_that_a_broken_run_has_left_empty(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_bids(tmp_path / "bids")
    site.faults.add(Fault("status", match="/files/", status=503, times=None))
    assert ingest("nifti", root, "--retry-budget", "0", "--exclude", "dwi").code == 5
    assert set(stored(site, "DEMO", "sub-01", "sub-01_ses-pre").scans) == {"1", "2"}
    site.faults.clear()
    assert ingest("nifti", root).code == 0
    scans: dict[str, Scan] = stored(site, "DEMO", "sub-01", "sub-01_ses-pre").scans
    assert set(scans) == {"1", "2"}


@pytest.mark.wide
def test_a_site_that_keeps_no_digests(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    """Then the size has to do."""
    site.settings.checksums = False
    root = make_subjects(tmp_path / "study", ("007",))
    assert numbers(ingest("nifti", root)) == (6, 6, 0, 0)
    image = root / "007" / "pre" / "T1" / "t1.nii.gz"
    scan(image.parent / "other")
    (image.parent / "other.nii.gz").replace(image)
    assert numbers(ingest("nifti", root, "--overwrite")) == (6, 6, 0, 0)
    digest = hashlib.md5(image.read_bytes()).hexdigest()
    assert held(stored(site, "DEMO", "007", "007_pre"))["2/NIFTI/t1.nii.gz"] == digest
    put(root / "007" / "pre" / "DTI" / "dti.bval", "0 10000\n")
    assert numbers(ingest("nifti", root)) == (6, 5, 1, 5)


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_labels_that_are_accession_ids(ingest: Ingest, site: StandIn, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """XNAT would take them for the subject or the session of that id: another person's."""
    scan(tmp_path / "theirs/Zed/pre/T1/t1", mr(1, "T1"))
    assert ingest("nifti", tmp_path / "theirs").code == 0
    subject = site.project("DEMO").subjects["Zed"]
    (session,) = (one.accession for one in site.sessions("DEMO"))
    before = len(site.sessions("DEMO"))
    scan(tmp_path / "one" / subject / "v1/T1/t1", mr(1, "T1"))
    scan(tmp_path / "two/New" / session / "T1/t1", mr(1, "T1"))
    one = ingest("nifti", tmp_path / "one", *flags)
    two = ingest("nifti", tmp_path / "two", "--session-label", "{session}", *flags)
    assert [(ended.code, ended.kinds()) for ended in (one, two)] == [(3, ["subject-exists"]), (3, ["other-study"])]
    assert len(site.sessions("DEMO")) == before
    assert list(site.project("DEMO").subjects) == ["Zed"]


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
@pytest.mark.parametrize("theirs", ["pre", "other"])
def test_a_repaired_label_of_somebody_else(
    ingest: Ingest, site: StandIn, tmp_path: Path, theirs: str, flags: tuple[str, ...]
) -> None:
    """Müller is sent as M_ller, and the project has an M_ller: another person's, as far as anybody can tell."""
    scan(tmp_path / "theirs/M_ller" / theirs / "T1/t1", mr(1, "T1"))
    assert ingest("nifti", tmp_path / "theirs").code == 0
    scan(tmp_path / "ours/Müller/pre/T1/t1", mr(1, "T1", PatientID="another"))
    scan(tmp_path / "ours/Meier/pre/T1/t1", mr(1, "T1"))
    shape = tmp_path / "ours/Müller/pre/T1/t1.nii.gz"
    shape.write_bytes(gzip.compress(gzip.decompress(shape.read_bytes())[:-1] + b"x"))
    before = [dict(one.scans) for one in site.sessions("DEMO")]
    ended = ingest("nifti", tmp_path / "ours", *flags)
    assert (ended.code, ended.kinds().count("subject-exists")) == (3, 1)
    assert "'Müller' becomes the subject label M_ller. The project has such a subject" in ended.out
    assert ended.session("Meier_pre")["verdict"] == ("unverified" if flags else "verified")
    assert [dict(one.scans) for one in site.sessions("DEMO") if one.subject == "M_ller"] == before


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_repaired_label_of_a_run_that_was_broken_off(
    ingest: Ingest, site: StandIn, tmp_path: Path, number: int
) -> None:
    """The tree's own subject is no stranger, wherever a run was broken off; nor is it with a session more."""
    for session in ("pre", "post"):
        scan(tmp_path / "t/Müller" / session / "T1/t1", mr(1, "T1"))
    site.faults.add(Fault("status", match="PUT .*(experiments|files)", status=403, skip=number, times=None))
    ingest("nifti", tmp_path / "t")
    site.faults.clear()
    assert ingest("nifti", tmp_path / "t").code == 0
    scan(tmp_path / "t/Müller/later/T1/t1", mr(1, "T1"))
    assert ingest("nifti", tmp_path / "t").code == 0
    assert {one.subject for one in site.sessions("DEMO")} == {"M_ller"}
    assert len(site.sessions("DEMO")) == 3


def test_a_repaired_label_of_the_same_series(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """The images were made of what was uploaded: their sidecars have the UIDs of its series."""
    make_session(tmp_path / "dicom/Müller/pre", [Series("T1_0002", 3, number=2)])
    assert ingest("upload", tmp_path / "dicom").code == 0
    (uid,) = {one.series_uid for one in stored(site, "DEMO", "M_ller", "M_ller_pre").scans.values()}
    scan(tmp_path / "nifti/Müller/pre/T1/t1", mr(2, "T1", SeriesInstanceUID=uid))
    assert ingest("nifti", tmp_path / "nifti").code == 0
    scan(tmp_path / "stranger/Müller/pre/T1/t1", mr(2, "T1", SeriesInstanceUID="1.2.3"))
    assert ingest("nifti", tmp_path / "stranger").kinds().count("subject-exists") == 1


def test_an_image_that_cannot_be_read_for_a_moment_goes_into_its_own_scan(
    site: StandIn, ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number was counted, and only its sidecar is there. The same command again begins no other scan for it."""
    root = tmp_path / "study"
    scan(root / "007/pre/B/b", {"Modality": "MR"})
    assert ingest("nifti", root).code == 0
    scan(root / "007/pre/A/a", {"Modality": "MR"})
    opened = LocalFile.open
    failed: list[str] = []

    def fail_once(file: LocalFile) -> BinaryIO:
        if file.name == "a.nii.gz" and not failed:
            failed.append(file.name)
            raise OSError(errno.EIO, "Input/output error")
        return opened(file)

    monkeypatch.setattr(LocalFile, "open", fail_once)
    assert ingest("nifti", root).code == 3
    assert failed
    assert ingest("nifti", root).code == 0
    scans = stored(site, "DEMO", "007", "007_pre").scans
    assert sorted(name for one in scans.values() for r in one.resources.values() for name in r.files) == [
        "a.json",
        "a.nii.gz",
        "b.json",
        "b.nii.gz",
    ]
    assert len(scans) == 2


# -- what others make while the run goes on

_DEMO = "/data/projects/DEMO"
_SESSION = {"xsiType": "xnat:mrSessionData"}
_FLAIR = {"xsiType": "xnat:mrScanData", "series_description": "FLAIR"}
_THEIRS: dict[str, tuple[tuple[str, dict[str, str]], ...]] = {
    "of another subject": (
        ("/subjects/ANN", {}),
        ("/subjects/ANN/experiments/007_pre", _SESSION),
        ("/subjects/ANN/experiments/007_pre/scans/9", _FLAIR),
    ),
    "with another series": (
        ("/subjects/007", {}),
        ("/subjects/007/experiments/007_pre", _SESSION),
        ("/subjects/007/experiments/007_pre/scans/2", _FLAIR),
    ),
    "of another type": (
        ("/subjects/007", {}),
        ("/subjects/007/experiments/007_pre", {"xsiType": "xnat:ctSessionData"}),
    ),
    "empty": (("/subjects/007", {}), ("/subjects/007/experiments/007_pre", _SESSION)),
}


def meanwhile(
    site: StandIn, monkeypatch: pytest.MonkeyPatch, before: str, requests: Sequence[tuple[str, dict[str, str]]]
) -> list[str]:
    """Before the first request like this is answered, somebody else creates these. Returns what was answered then."""
    answer, done = site.answer, list[str]()

    def act(request: Request) -> Reply:
        if not done and re.fullmatch(before, f"{request.method} {request.path}"):
            done.append(request.path)
            with closing(XnatClient(Credentials(site.url, "up", PASSWORD))) as rest:
                rest.login()
                for path, query in requests:
                    rest.request("PUT", _DEMO + path, query, accept=(200, 201))
        return answer(request)

    monkeypatch.setattr(site, "answer", act)
    return done


@pytest.mark.parametrize(
    ("theirs", "kind"),
    [
        ("of another subject", "other-subject"),
        ("with another series", "other-series"),
        ("of another type", "other-type"),
        ("empty", ""),
    ],
)
@pytest.mark.parametrize(
    "before",
    [
        "GET .*/experiments/007_pre",
        "PUT .*/subjects/007",
        "PUT .*/experiments/007_pre",
        "PUT .*/006_pre/.*|PUT .*/scans/.*/files/.*",
    ],
)
def test_a_session_that_others_make_meanwhile(
    site: StandIn, ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, theirs: str, kind: str
) -> None:
    """It is judged as if it had been there at the start, though XNAT would take what is put there."""
    root = make_subjects(tmp_path / "study", ("006", "007"))
    done = meanwhile(site, monkeypatch, before, _THEIRS[theirs])
    ended = ingest("nifti", root, "--workers", "1")
    assert done
    assert (ended.code, ended.kinds()) == ((3, [kind]) if kind else (0, [])), ended.out
    (there,) = (one for one in site.sessions("DEMO") if one.label == "007_pre")
    assert there.subject == ("ANN" if theirs == "of another subject" else "007")
    if kind:
        assert held(there) == {}
        assert {one.series_description for one in there.scans.values()} <= {"FLAIR"}
    assert len(held(stored(site, "DEMO", "006", "006_pre"))) == 6


@pytest.mark.parametrize("before", ["GET .*/scans/2", "PUT .*/scans/2", "GET .*/scans/5", "PUT .*/scans/5"])
@pytest.mark.parametrize("description", ["FLAIR", "T1 MPRAGE"])
def test_a_scan_that_others_make_meanwhile(
    site: StandIn,
    ingest: Ingest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    description: str,
) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    path = "/subjects/007/experiments/007_pre/scans/2"
    assert meanwhile(site, monkeypatch, before, [(path, _FLAIR | {"series_description": description})]) == []
    ended = ingest("nifti", root)
    scans = stored(site, "DEMO", "007", "007_pre").scans
    if description == "FLAIR" and before != "PUT .*/scans/2":  # in that very moment nobody can tell who was the last
        assert (ended.code, ended.kinds(), scans["2"].series_description) == (3, ["other-series"], "FLAIR")
        assert held(stored(site, "DEMO", "007", "007_pre")) == {}
    else:
        assert (ended.code, numbers(ended)) == (0, (6, 6, 0, 0)), ended.out
        assert scans["2"].series_description == "T1 MPRAGE"


def test_a_counted_scan_that_others_make_meanwhile(
    site: StandIn, ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its image goes into the next one that is free."""
    scan(tmp_path / "study/007/pre/T1/t1", {"Modality": "MR", "SeriesDescription": "T1"})
    done = meanwhile(site, monkeypatch, "GET .*/scans/1", [("/subjects/007/experiments/007_pre/scans/1", _FLAIR)])
    ended = ingest("nifti", tmp_path / "study")
    assert (done, ended.code, numbers(ended)) == ([done[0]], 0, (2, 2, 0, 0)), ended.out
    session = stored(site, "DEMO", "007", "007_pre")
    assert {one.id: one.series_description for one in session.scans.values()} == {"1": "FLAIR", "2": "T1"}
    assert set(held(session)) == {"2/NIFTI/t1.nii.gz", "2/BIDS/t1.json"}


def test_a_subject_of_a_repaired_label_that_others_make_meanwhile(
    site: StandIn, ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for session in ("post", "pre"):
        scan(tmp_path / "study/Müller" / session / "T1/t1", mr(1, "T1"))
    meanwhile(site, monkeypatch, "PUT .*/subjects/M_ller", [("/subjects/M_ller", {})])
    ended = ingest("nifti", tmp_path / "study")
    assert (ended.code, ended.kinds().count("subject-exists"), site.sessions("DEMO")) == (3, 2, [])


@pytest.mark.parametrize("what", ["subjects/M_ller", "experiments/M_ller_pre", "scans/1"])
def test_what_this_run_has_made_though_no_answer_came_is_its_own(
    site: StandIn, ingest: Ingest, tmp_path: Path, what: str
) -> None:
    scan(tmp_path / "study/Müller/pre/T1/t1", mr(1, "T1"))
    site.faults.add(Fault("status", match=f"PUT .*/{what}", status=502, work=True))
    ended = ingest("nifti", tmp_path / "study")
    assert (ended.code, numbers(ended)) == (0, (2, 2, 0, 0)), ended.out
