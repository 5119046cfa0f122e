"""`xnat-ingest nifti` against the stand-in: what it creates, again, and what it refuses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.conftest import Ingest, stored
from tests.dicom_trees import no_privileges, open_folder
from tests.nifti_trees import (
    held,
    image,
    local,
    make_bids,
    make_subjects,
    mr,
    numbers,
    put,
    scan,
    writes,
)
from tests.standin import StandIn
from xnat_ingest.cli import main

# -- what is created


def test_subjects_sessions_scans_and_files(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study")
    ended = ingest("nifti", root, "--quality", "questionable")
    assert (ended.code, numbers(ended)) == (0, (12, 12, 0, 0)), ended.out + ended.err
    session = stored(site, "DEMO", "007", "007_pre")
    assert session.xsi_type == "xnat:mrSessionData"
    assert {one.id: (one.xsi_type, one.series_description, one.fields) for one in session.scans.values()} == {
        "2": ("xnat:mrScanData", "T1 MPRAGE", {"type": "T1 MPRAGE", "quality": "questionable"}),
        "5": ("xnat:mrScanData", "DTI 64", {"type": "DTI 64", "quality": "questionable"}),
    }
    folder = root / "007" / "pre"
    (t1, t1_json) = local(folder / "T1", "t1.nii.gz", "t1.json")
    (dti, bval, bvec, dti_json) = local(folder / "DTI", "dti.nii.gz", "dti.bval", "dti.bvec", "dti.json")
    assert held(session) == {
        "2/NIFTI/t1.nii.gz": t1,
        "2/BIDS/t1.json": t1_json,
        "5/NIFTI/dti.nii.gz": dti,
        "5/BIDS/dti.bval": bval,
        "5/BIDS/dti.bvec": bvec,
        "5/BIDS/dti.json": dti_json,
    }
    assert set(site.projects["DEMO"].subjects) == {"007", "008"}


def test_the_report(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    put(root / "007" / "pre" / "T1" / "notes.txt", "x")
    report = ingest("nifti", root).report
    assert (report["command"], report["project"], report["transport"]) == ("nifti", "DEMO", "resources")
    (session,) = report["sessions"]
    assert (session["subject"], session["label"], session["folder"]) == ("007", "007_pre", "007/pre")
    assert (session["verdict"], session["instances"], session["unproven"]) == ("verified", 6, [])
    assert session["uri"] == f"/data/experiments/{stored(site, 'DEMO', '007', '007_pre').accession}"
    assert {one["id"]: (one["description"], one["instances"], one["verified"]) for one in session["scans"]} == {
        "5": ("DTI 64", 4, 4),
        "2": ("T1 MPRAGE", 2, 2),
    }
    assert report["set_aside"] == [{"path": "007/pre/T1/notes.txt", "reason": "excluded:not-nifti", "detail": ""}]


def test_bids_and_one_resource(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    ended = ingest("nifti", make_bids(tmp_path / "bids"), "--one-resource", "--modality", "mr")
    assert ended.code == 0, ended.out + ended.err
    first = stored(site, "DEMO", "sub-01", "sub-01_ses-pre")
    assert {one.id: one.fields["type"] for one in first.scans.values()} == {"1": "T1w", "2": "bold"}
    assert {name.split("/")[1] for name in held(first)} == {"NIFTI"}
    assert len(stored(site, "DEMO", "sub-02", "sub-02").scans) == 1


@pytest.mark.wide
def test_a_session_type_of_ones_own(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    assert ingest("nifti", root, "--session-type", "xnat:petmrSessionData").code == 0
    assert stored(site, "DEMO", "007", "007_pre").xsi_type == "xnat:petmrSessionData"
    assert ingest("nifti", root).code == 0  # an MR scan belongs into a PET/MR session


def test_root_as_one_session(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    assert ingest("nifti", root / "007" / "pre", "-S", "S1", "-E", "E1").code == 0
    assert set(stored(site, "DEMO", "S1", "E1").scans) == {"2", "5"}


def test_an_alias_of_the_project(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    ended = ingest("nifti", make_subjects(tmp_path / "study", ("007",)), project="demo-alias")
    assert (ended.code, ended.report["sessions"][0]["project"]) == (0, "DEMO")


# -- again


@pytest.mark.wide
def test_again_sends_nothing(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_bids(tmp_path / "bids")
    assert ingest("nifti", root).code == 0
    since = len(site.requests)
    ended = ingest("nifti", root)
    assert (ended.code, numbers(ended)) == (0, (9, 9, 0, 9))
    assert writes(site, since) == []


@pytest.mark.wide
def test_again_with_more_keeps_the_numbers_of_what_is_there(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    """A counted number would shift when an image comes before others; what is on the server says whose it is."""
    root = make_bids(tmp_path / "bids")
    assert ingest("nifti", root).code == 0
    before = held(stored(site, "DEMO", "sub-01", "sub-01_ses-pre"))
    scan(root / "sub-01" / "ses-pre" / "anat" / "sub-01_ses-pre_FLAIR")
    ended = ingest("nifti", root)
    assert (ended.code, ended.totals["already_there"]) == (0, 9)
    after = held(stored(site, "DEMO", "sub-01", "sub-01_ses-pre"))
    assert before.items() <= after.items()
    assert set(after) - set(before) == {"3/NIFTI/sub-01_ses-pre_FLAIR.nii.gz"}
    assert {one["id"] for one in ended.session("sub-01_ses-pre")["scans"]} == {"1", "2", "3"}


def small(stem: Path, seed: str, number: int = 0) -> None:
    """number: of the sidecar; 0: none."""
    put(Path(f"{stem}.nii.gz"), gzip.compress(image(seed=seed), mtime=0))
    if number:
        put(Path(f"{stem}.json"), json.dumps(mr(number, seed)))


BOTH = (("T1/a", "T1", 5), ("T2/a", "T2", 5))
# A tree, the tree that comes later, and which scan each of its images is in.
CHANGED = {
    "alone": (BOTH, (("T2/a", "T2", 5),), {"2"}),
    "with a sidecar": ((("T1/a", "T1", 0),), (("T1/a", "T1", 5),), {"1"}),
    "in another folder": ((("T1/a", "T1", 0),), (("Tx/a", "T1", 0),), {"1"}),
    "other bytes": ((("T1/a", "T1", 0),), (("Tx/a", "T2", 0),), {"2"}),
    "a copy beside it": ((("T1/a", "T1", 0),), (("T1/a", "T1", 0), ("Tx/a", "T1", 0)), {"1", "2"}),
}


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize("how", CHANGED)
def test_a_tree_that_changed_stores_no_image_twice(
    site: StandIn, ingest: Ingest, tmp_path: Path, how: str, digests: bool
) -> None:
    site.settings.checksums = digests
    *trees, scans = CHANGED[how]
    for number, files in enumerate(trees):
        for place, seed, said in files:
            small(tmp_path / str(number) / "007/pre" / place, seed, said)
        ended = ingest("nifti", tmp_path / str(number), "--modality", "MR")
        assert ended.code == 0, ended.out
    images = [md5 for name, md5 in held(stored(site, "DEMO", "007", "007_pre")).items() if "/NIFTI/" in name]
    if not digests:
        return
    assert {one["id"] for one in ended.session("007_pre")["scans"]} == scans
    assert len(images) == len(set(images)) + (how == "a copy beside it")
    assert ended.totals["already_there"] >= (how != "other bytes")


R1, R2, JOINED = ("R1/a", "A", 0), ("R2/b", "B", 0), (("R/a", "A", 0), ("R/b", "B", 0), ("R/c", "C", 0))
# The trees that come one after the other, and which images are in which scan then.
REARRANGED = {
    "joined": (((R1, R2), JOINED, JOINED), {"1": "a", "2": "b", "3": "c"}),
    "joined, and then apart again": (((R1, R2), JOINED, (R1, R2, ("R3/c", "C", 0))), {"1": "a", "2": "b", "3": "c"}),
    "split": ((JOINED[:2], (R1, R2, ("R3/c", "C", 0)), (R2,)), {"1": "ab", "2": "c"}),
    "two scans of one folder": ((JOINED[:2], JOINED[2:], JOINED), {"1": "ab", "2": "c"}),
    "another series by its sidecar": (((("R1/a", "A", 5),), (("X/a", "A", 9), ("X/c", "C", 9))), {"5": "a", "9": "ac"}),
    "a series stays together": ((((R1,)), (("R/a", "A", 0), ("R/c", "C", 9))), {"1": "a", "9": "ac"}),
    "a copy in one folder": (((R1,), (R1, ("R2/a", "A", 0), ("R2/b", "B", 0))), {"1": "a", "2": "ab"}),
}


@pytest.mark.parametrize("how", REARRANGED)
def test_images_that_came_in_other_folders_are_not_stored_twice(
    site: StandIn, ingest: Ingest, tmp_path: Path, how: str
) -> None:
    """An image counts as there wherever it lies in the session, unless sidecars make two series of it."""
    trees, expected = REARRANGED[how]
    for number, files in enumerate(trees):
        for place, seed, said in files:
            small(tmp_path / str(number) / "007/pre" / place, seed, said)
        ended = ingest("nifti", tmp_path / str(number), "--modality", "MR")
        assert (ended.code, ended.totals["verified"]) == (0, len(files) + sum(1 for one in files if one[2])), ended.out
    found: dict[str, str] = {}
    for name in sorted(held(stored(site, "DEMO", "007", "007_pre"))):
        scan_id, resource, image_ = name.split("/")
        if resource == "NIFTI":
            found[scan_id] = found.get(scan_id, "") + image_[0]
    assert found == expected
    again = ingest("nifti", tmp_path / str(len(trees) - 1), "--modality", "MR", "--dry-run")
    assert not any(line.startswith("+") for line in again.out.splitlines()), again.out


def test_tables_and_sidecars_go_with_their_images(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    """FSL's tables have no image's name. Where they lie beside an image with these bytes, they are there."""
    for number, files in enumerate((("R1/a", "R2/b"), ("R/a", "R/b", "R/c"))):
        for place in files:
            small(tmp_path / str(number) / "007/pre" / place, place[-1])
        put(tmp_path / str(number) / "007/pre" / files[0][:-1] / "bvals", "0 1000\n")
        ended = ingest("nifti", tmp_path / str(number), "--modality", "MR")
        assert ended.code == 0, ended.out
    images = {"1/NIFTI/a.nii.gz", "1/BIDS/bvals", "2/NIFTI/b.nii.gz", "3/NIFTI/c.nii.gz"}
    assert set(held(stored(site, "DEMO", "007", "007_pre"))) == images
    assert {(one["id"], one["instances"]) for one in ended.session("007_pre")["scans"]} == {
        ("1", 2),
        ("2", 1),
        ("3", 1),
    }


def test_texts_of_a_sidecar_have_a_limit(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    small(tmp_path / "007/pre/T1/a", "T1", 5)
    put(tmp_path / "007/pre/T1/a.json", json.dumps(mr(5, "x" * 300_000)))
    small(tmp_path / "008/pre/T1/a", "T1")
    put(tmp_path / "008/pre/T1/a.json", json.dumps({"Modality": "Y" * 100_000}))
    ended = ingest("nifti", tmp_path)
    assert (ended.code, ended.session("007_pre")["verdict"], len(ended.out) < 5000) == (3, "verified", True)
    (scan_,) = stored(site, "DEMO", "007", "007_pre").scans.values()
    assert scan_.series_description == "x" * 255


def test_equal_images_of_two_series_stay_apart(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    """As masks are: the same bytes under the same name, and each has its own sidecar."""
    for number, place in ((5, "R1"), (6, "R2")):
        small(tmp_path / place / "007/pre" / place / "mask", "mask", number)
        ended = ingest("nifti", tmp_path / place)
        assert (ended.code, {one["id"] for one in ended.session("007_pre")["scans"]}) == (0, {str(number)}), ended.out
    names = {"NIFTI/mask.nii.gz", "BIDS/mask.json"}
    assert set(held(stored(site, "DEMO", "007", "007_pre"))) == {f"{scan}/{name}" for scan in (5, 6) for name in names}


@pytest.mark.wide
def test_fields_of_a_scan_that_is_there_are_left_alone(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    assert ingest("nifti", root).code == 0
    scans = stored(site, "DEMO", "007", "007_pre").scans
    scans["2"].fields["quality"] = "unusable"  # somebody has looked at it
    assert ingest("nifti", root).code == 0
    assert scans["2"].fields["quality"] == "unusable"


@pytest.mark.wide
def test_other_bytes_are_replaced_only_when_asked(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    assert ingest("nifti", root).code == 0
    before = held(stored(site, "DEMO", "007", "007_pre"))
    put(root / "007" / "pre" / "T1" / "t1.json", json.dumps(mr(2, "T1 MPRAGE", EchoTime=3)))
    ended = ingest("nifti", root)
    assert (ended.code, numbers(ended)) == (3, (6, 5, 1, 5))
    assert "--overwrite" in ended.session("007_pre")["unproven"][0]["why"]
    (problem,) = ended.report["problems"]
    assert (problem["kind"], problem["sessions"]) == ("existing", ["007_pre"])
    assert "007/pre/T1/t1.json: the server has other bytes under this name" in problem["detail"]
    assert "--overwrite" in problem["detail"]
    assert held(stored(site, "DEMO", "007", "007_pre")) == before
    ended = ingest("nifti", root, "--overwrite")
    assert (ended.code, numbers(ended)) == (0, (6, 6, 0, 5))
    (wanted,) = local(root / "007" / "pre" / "T1", "t1.json")
    assert held(stored(site, "DEMO", "007", "007_pre"))["2/BIDS/t1.json"] == wanted


# -- dry run


def test_a_dry_run_tells_the_tree_and_writes_nothing(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    ended = ingest("nifti", root, "-n")
    assert (ended.code, ended.report["command"], ended.totals["unverified"]) == (0, "plan", 6)
    assert ended.out.splitlines()[:6] == [
        "+ subject 007",
        "+   session 007_pre  xnat:mrSessionData",
        "+     scan 5  xnat:mrScanData  DTI 64  DTI 64",
        "+       NIFTI/dti.nii.gz",
        "+       BIDS/dti.bval",
        "+       BIDS/dti.bvec",
    ]
    assert writes(site) == []
    assert site.sessions("DEMO") == []


@pytest.mark.wide
def test_a_dry_run_shows_what_is_there(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    assert ingest("nifti", root).code == 0
    scan(root / "007" / "pre" / "T2" / "t2", mr(9, "T2"))
    ended = ingest("nifti", root, "--dry-run")
    assert [line for line in ended.out.splitlines() if line.startswith("+")] == [
        "+     scan 9  xnat:mrScanData  T2  T2",
        "+       NIFTI/t2.nii.gz",
        "+       BIDS/t2.json",
    ]
    assert ended.totals["already_there"] == 6


# -- usage and refusals


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("-S", "S1"), "-S and -E go together"),
        (("-E", "E1"), "-S and -E go together"),
        (("-S", "S 1", "-E", "E1"), "a label must be"),
        (("--modality", "SR"), "one of MR, PT, CT, NM"),
        (("--session-type", "mr"), "xnat:mrSessionData"),
        (("--subject-label", "{PatientID}"), "no headers"),
    ],
)
def test_usage(site: StandIn, ingest: Ingest, tmp_path: Path, flags: tuple[str, ...], sentence: str) -> None:
    ended = ingest("nifti", make_subjects(tmp_path / "study", ("007",)), *flags)
    assert ended.code == 2
    assert sentence in ended.err
    assert not site.requests


def test_root_must_be_a_folder(site: StandIn, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = put(tmp_path / "x.nii", image())
    for root, said in (
        (path, "is not a folder; unpack it"),
        (tmp_path / "none", "No such file or directory"),
        (tmp_path / ("x" * 256), "File name too long"),
        ("a\0b", "is not the name of a folder"),
    ):
        capsys.readouterr()
        assert main(["nifti", str(root), "-P", "DEMO"]) == 2
        assert said in capsys.readouterr().err
    assert not site.requests


def test_root_in_a_folder_that_may_not_be_entered(site: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    with open_folder() as folder:
        (folder / "in" / "S").mkdir(parents=True)
        (folder / "in").chmod(0)
        with no_privileges():
            code = main(["nifti", str(folder / "in" / "S"), "-P", "DEMO"])
        (folder / "in").chmod(0o755)
    assert code == 2
    assert "Permission denied" in capsys.readouterr().err
    assert not site.requests


def test_nothing_to_send(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    assert ingest("nifti", tmp_path / "study").code == 4
    assert ingest("nifti", tmp_path / "study", "--allow-empty").code == 0


@pytest.mark.parametrize("project", ["READONLY", "HIDDEN"])
def test_no_right(site: StandIn, ingest: Ingest, tmp_path: Path, project: str) -> None:
    ended = ingest("nifti", make_subjects(tmp_path / "study", ("007",)), project=project)
    assert ended.code == 6
    assert writes(site) == []


def test_no_server(ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XNAT_HOST", "http://127.0.0.1:1")
    assert ingest("nifti", make_subjects(tmp_path / "study", ("007",)), "--retry-budget", "0").code == 5


def test_rules(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    root = make_subjects(tmp_path / "study", ("007",))
    ended = ingest("nifti", root, "--exclude", "SeriesDescription=DTI", "--exclude", "nowhere")
    assert (ended.code, ended.kinds()) == (0, ["rule-unused"])
    assert set(stored(site, "DEMO", "007", "007_pre").scans) == {"2"}
