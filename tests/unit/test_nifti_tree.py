"""Which files of a NIfTI tree make which scan, and what is left out."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from tests.dicom_trees import no_privileges, open_folder
from tests.nifti_trees import (
    PLAIN,
    image,
    kinds,
    make_bids,
    make_subjects,
    mr,
    only,
    planned,
    put,
    reasons,
    scan,
    scans,
)
from xnat_ingest.commands.nifti.plan import NiftiOptions, template
from xnat_ingest.commands.nifti.tree import BESIDE, read_tree
from xnat_ingest.core.model import SetAside
from xnat_ingest.inputs import FolderSource
from xnat_ingest.planning.rules import RuleSet, make_rule

# -- layouts


def test_a_tree_by_subject_session_and_scan(tmp_path: Path) -> None:
    plan = planned(make_subjects(tmp_path, ("007",)))
    session = only(plan)
    assert (session.subject, session.label, session.folder, session.conflicts) == ("007", "007_pre", "007/pre", ())
    assert session.xsi_type == "xnat:mrSessionData"
    assert scans(session) == {
        "5": (
            "xnat:mrScanData",
            "DTI 64",
            "DTI 64",
            ["NIFTI/dti.nii.gz", "BIDS/dti.bval", "BIDS/dti.bvec", "BIDS/dti.json"],
        ),
        "2": ("xnat:mrScanData", "T1 MPRAGE", "T1 MPRAGE", ["NIFTI/t1.nii.gz", "BIDS/t1.json"]),
    }
    assert plan.set_aside == ()


def test_a_bids_tree(tmp_path: Path) -> None:
    plan = planned(make_bids(tmp_path))
    first, second = plan.sessions
    assert (first.subject, first.label) == ("sub-01", "sub-01_ses-pre")
    assert (second.subject, second.label) == ("sub-02", "sub-02")
    assert scans(first) == {
        "1": (
            "xnat:mrScanData",
            "T1w",
            "T1 MPRAGE",
            ["NIFTI/sub-01_ses-pre_T1w.nii.gz", "BIDS/sub-01_ses-pre_T1w.json"],
        ),
        "2": (
            "xnat:mrScanData",
            "bold",
            "task-rest_bold",
            [
                "NIFTI/sub-01_ses-pre_task-rest_bold.nii.gz",
                "BIDS/sub-01_ses-pre_task-rest_bold.json",
                "BIDS/sub-01_ses-pre_task-rest_events.tsv",
            ],
        ),
    }
    assert scans(second)["1"][1:3] == ("dwi", "dwi")
    assert set(reasons(plan).values()) == {BESIDE}
    assert "derivatives/mask.nii.gz" in reasons(plan)
    assert "sub-01/ses-pre/sub-01_ses-pre_scans.tsv" in reasons(plan)


def test_a_bids_tree_is_known_by_its_folders_alone(tmp_path: Path) -> None:
    scan(tmp_path / "sub-1" / "pet" / "sub-1_pet")
    session = only(planned(tmp_path))
    assert (session.label, session.xsi_type, session.scans[0].xsi_type) == (
        "sub-1",
        "xnat:petSessionData",
        "xnat:petScanData",
    )


def test_root_as_one_session(tmp_path: Path) -> None:
    scan(tmp_path / "T1" / "a", mr(1, "T1"))
    fixed = NiftiOptions(template("{subject}"), template("{session}"), ("S1", "E1"))
    session = only(planned(tmp_path, fixed))
    assert (session.subject, session.label, len(session.scans)) == ("S1", "E1", 1)


def test_root_as_one_bids_session(tmp_path: Path) -> None:
    scan(tmp_path / "anat" / "sub-1_T1w")
    scan(tmp_path / "anat" / "sub-1_T2w")
    fixed = NiftiOptions(template("{subject}"), template("{session}"), ("S1", "E1"))
    assert [one.type for one in only(planned(tmp_path, fixed)).scans] == ["T1w", "T2w"]


def test_images_that_lie_in_the_session_folder(tmp_path: Path) -> None:
    """Each is a scan of its own; one above the session folders is a problem."""
    scan(tmp_path / "a" / "pre" / "x", mr(3, "X"))
    scan(tmp_path / "a" / "pre" / "y", mr(4, "Y"))
    scan(tmp_path / "a" / "z")
    plan = planned(tmp_path)
    assert set(scans(only(plan))) == {"3", "4"}
    assert reasons(plan) == {"a/z.nii.gz": "outside-layout"}
    assert plan.set_aside[0].is_problem


def test_deeper_folders_are_part_of_the_scan(tmp_path: Path) -> None:
    put(tmp_path / "a" / "pre" / "T1" / "echo1" / "i.nii", image())
    put(tmp_path / "a" / "pre" / "T1" / "echo2" / "i.nii", image())
    session = only(planned(tmp_path, NiftiOptions(PLAIN.subject, PLAIN.session, modality="MR")))
    assert scans(session)["1"][3] == ["NIFTI/echo1/i.nii", "NIFTI/echo2/i.nii"]


def test_an_image_whose_name_begins_with_a_dot(tmp_path: Path) -> None:
    """Only macOS's `._` files, and folders that begin with a dot, are left out."""
    put(tmp_path / "007/pre/T1/.t1.nii", image())
    put(tmp_path / "007/pre/T1/.DS_Store", "x")
    put(tmp_path / "007/pre/.T2/t2.nii", image())
    plan = planned(tmp_path)
    assert [file for one in scans(only(plan)).values() for file in one[3]] == ["NIFTI/.t1.nii"]
    assert reasons(plan) == {"007/pre/T1/.DS_Store": BESIDE, "007/pre/.T2": "system-folder"}


# -- what is an image


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("zipped", [False, True])
def test_images(tmp_path: Path, version: int, order: str, zipped: bool) -> None:
    content = image(version=version, order=order)
    put(
        tmp_path / "a" / "b" / "c" / ("i.nii.gz" if zipped else "i.NII"),
        gzip.compress(content, mtime=0) if zipped else content,
    )
    assert planned(tmp_path).as_plan("P").planned == 1


PACKED = gzip.compress(image((40, 40, 9)), mtime=0)


def flipped(data: bytes, at: int) -> bytes:
    """The bytes with one bit changed."""
    changed = bytearray(data)
    changed[at] ^= 16
    return bytes(changed)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("i.nii", b"", "empty"),
        ("i.nii.gz", b"", "empty"),
        ("i.nii", b"no image at all", "bad-nifti"),
        ("i.nii", image()[:348].replace(b"n+1", b"xyz") + bytes(200), "bad-nifti"),
        ("i.nii.gz", gzip.compress(b"text" * 300, mtime=0), "bad-nifti"),
        ("i.nii.gz", image(), "bad-nifti"),
        ("i.nii", gzip.compress(image(), mtime=0), "bad-nifti"),
        ("i.nii", image()[:-1], "truncated"),
        ("i.nii.gz", gzip.compress(image(), mtime=0)[:-9], "truncated"),
        ("i.nii.gz", gzip.compress(image(), mtime=0)[:40], "truncated"),
        ("i.nii.gz", gzip.compress(image()[:-1], mtime=0), "truncated"),
        ("i.nii.gz", gzip.compress(image(), mtime=0)[:120] + b"\0" * 99, "truncated"),
        ("i.nii.gz", flipped(PACKED, 20_000), "truncated"),
        ("i.nii.gz", flipped(gzip.compress(image(), mtime=0), -6), "truncated"),
        ("i.nii.gz", PACKED[:9000] + PACKED[-9000:], "truncated"),
        ("i.hdr", image(mark="ni"), "truncated"),
    ],
)
def test_what_is_no_whole_image(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    """Its sidecars go with it, and it is a problem: whoever named it so believes that it is an image."""
    put(tmp_path / "a" / "b" / "c" / name, content)
    put(tmp_path / "a" / "b" / "c" / "i.json", "{}")
    plan = planned(tmp_path)
    assert reasons(plan) == {f"a/b/c/{name}": reason, "a/b/c/i.json": reason}
    assert all(aside.is_problem for aside in plan.set_aside)
    assert plan.sessions == ()


def test_an_image_gzipped_in_pieces(tmp_path: Path) -> None:
    """The last four bytes then speak of the last piece alone."""
    content = image()
    put(tmp_path / "a" / "b" / "c" / "i.nii.gz", gzip.compress(content[:400], mtime=0) + gzip.compress(content[400:]))
    assert planned(tmp_path).as_plan("P").planned == 1


def test_a_header_and_its_voxels(tmp_path: Path) -> None:
    put(tmp_path / "a" / "b" / "c" / "i.hdr", image(mark="ni"))
    put(tmp_path / "a" / "b" / "c" / "i.img", bytes(96))
    session = only(planned(tmp_path, NiftiOptions(PLAIN.subject, PLAIN.session, modality="CT")))
    assert scans(session)["1"][3] == ["NIFTI/i.hdr", "NIFTI/i.img"]


def test_an_unreadable_image() -> None:
    with open_folder() as root:
        scan(root / "a" / "b" / "c" / "i")
        (root / "a" / "b" / "c" / "i.nii.gz").chmod(0)
        with no_privileges():
            assert reasons(planned(root)) == {"a/b/c/i.nii.gz": "unreadable"}


# -- what lies beside


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    make_subjects(tmp_path, ("007",))
    put(tmp_path / "README", "x")
    put(tmp_path / "007" / "pre" / "T1" / "._t1.nii.gz", "x")
    put(tmp_path / "007" / "pre" / "T1" / "log.txt", "x")
    put(tmp_path / "007" / "pre" / ".git" / "t1.nii.gz", "x")
    put(tmp_path / "007" / "pre" / "lost.json", "{}")
    put(tmp_path / "007" / "pre" / "log" / "run.json", "{}")
    put(tmp_path / "007" / "pre" / "T1" / "more.bval", "")
    assert reasons(planned(tmp_path)) == {
        "README": BESIDE,
        "007/pre/T1/._t1.nii.gz": BESIDE,
        "007/pre/T1/log.txt": BESIDE,
        "007/pre/.git": "system-folder",
        "007/pre/lost.json": "no-image",
        "007/pre/log/run.json": "no-image",
        "007/pre/T1/more.bval": "empty",
    }
    assert not SetAside("README", BESIDE).is_problem


def test_gzipped_sidecars(tmp_path: Path) -> None:
    scan(tmp_path / "a" / "b" / "c" / "i", diffusion=True)
    put(tmp_path / "a" / "b" / "c" / "i.json.gz", gzip.compress(json.dumps(mr(9, "X")).encode()))
    assert scans(only(planned(tmp_path)))["9"][3] == [
        "NIFTI/i.nii.gz",
        "BIDS/i.bval",
        "BIDS/i.bvec",
        "BIDS/i.json.gz",
    ]


def test_one_resource(tmp_path: Path) -> None:
    session = only(planned(make_subjects(tmp_path, ("1",)), NiftiOptions(PLAIN.subject, PLAIN.session, together=True)))
    assert {file.resource for one in session.scans for file in one.files} == {"NIFTI"}


# What takes much memory in a sidecar of a few packed bytes: a text, one with wide signs, a list, many keys.
LARGE: dict[str, object] = {
    "text": "a" * (1 << 20),
    "wide text": "\U0001f600" + "a" * (1 << 20),
    "list": [""] * (1 << 18),
}


@pytest.mark.parametrize("key", ["Other", "PatientID", "SeriesDescription", "Ruled"])
@pytest.mark.parametrize("what", LARGE)
def test_sidecars_take_little_memory(tmp_path: Path, what: str, key: str) -> None:
    said = {"Modality": "MR", key: LARGE[what]} | ({str(n): "" for n in range(1 << 15)} if key == "Other" else {})
    packed = gzip.compress(json.dumps(said, ensure_ascii=False).encode())
    for number in range(4):
        put(tmp_path / f"007/pre/T{number}/t.nii", image())
        put(tmp_path / f"007/pre/T{number}/t.json.gz", packed)
    rules = RuleSet([make_rule({"tag": "Ruled", "in": ["x"]})], [])
    tracemalloc.start()
    try:
        tree = read_tree(FolderSource(tmp_path), rules, lambda: None, fixed=False)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    (series,) = tree.sessions.values()
    assert [one["Modality"] for scan in series for one in scan.said] == ["MR"] * 4
    assert held < 4 * 5 * 65536


def test_a_rule_asks_a_long_value_to_its_end(tmp_path: Path) -> None:
    put(tmp_path / "007/pre/T/t.nii", image())
    put(tmp_path / "007/pre/T/t.json", json.dumps({"Modality": "MR", "Ruled": "a" * 65535 + "b"}))
    assert reasons(planned(tmp_path, PLAIN, {"tag": "Ruled", "matches": "b$"})).keys() >= {"007/pre/T/t.nii"}


def test_a_sidecar_that_is_no_json_is_sent_and_told(tmp_path: Path) -> None:
    scan(tmp_path / "a" / "b" / "c" / "i")
    put(tmp_path / "a" / "b" / "c" / "i.json", "{")
    plan = planned(tmp_path, NiftiOptions(PLAIN.subject, PLAIN.session, modality="MR"))
    assert scans(only(plan))["1"][3] == ["NIFTI/i.nii.gz", "BIDS/i.json"]
    assert kinds(plan) == ["bad-sidecar"]


def test_sidecars_that_name_the_patient_are_told_without_the_name(tmp_path: Path) -> None:
    scan(tmp_path / "a" / "b" / "c" / "i", mr(1, "X", PatientName="Doe^Janet"))
    (problem,) = planned(tmp_path).problems
    assert problem.kind == "identifying-sidecar"
    assert "PatientName" in problem.detail
    assert "Doe" not in problem.detail


def test_events_of_two_echoes_go_with_the_first(tmp_path: Path) -> None:
    for echo in (1, 2):
        scan(tmp_path / "sub-1" / "func" / f"sub-1_task-x_echo-{echo}_bold")
    put(tmp_path / "sub-1" / "func" / "sub-1_task-x_events.tsv", "onset\n")
    put(tmp_path / "sub-1" / "func" / "sub-1_task-y_events.tsv", "onset\n")
    plan = planned(tmp_path)
    assert [len(one.files) for one in only(plan).scans] == [2, 1]
    assert reasons(plan) == {"sub-1/func/sub-1_task-y_events.tsv": BESIDE}


def test_a_name_that_the_server_would_not_keep(tmp_path: Path) -> None:
    scan(tmp_path / "a" / "b" / "c" / "i\n")
    assert reasons(planned(tmp_path)) == {"a/b/c/i\n.nii.gz": "illegal-name"}


# -- rules


def test_rules(tmp_path: Path) -> None:
    make_subjects(tmp_path, ("007",))
    plan = planned(tmp_path, PLAIN, {"folder": "DTI"})
    assert set(scans(only(plan))) == {"2"}
    assert set(reasons(plan).values()) == {"excluded:DTI"}
    assert len(plan.set_aside) == 4
    plan = planned(tmp_path, PLAIN, {"path": "**/*.nii.gz"})
    assert plan.sessions == ()
    assert set(reasons(plan).values()) == {"excluded:path=**/*.nii.gz"}
    plan = planned(tmp_path, PLAIN, include=({"folder": "T1"},))
    assert set(scans(only(plan))) == {"2"}


def test_rules_on_content_ask_the_sidecar(tmp_path: Path) -> None:
    plan = planned(make_subjects(tmp_path, ("007",)), PLAIN, {"tag": "SeriesDescription", "matches": "DTI"})
    assert set(scans(only(plan))) == {"2"}
    assert set(reasons(plan).values()) == {"excluded:SeriesDescription=DTI"}


def test_folder_rules_mean_folders_below_the_session(tmp_path: Path) -> None:
    """In BIDS, a subject may have session folders or none."""
    plan = planned(make_bids(tmp_path), PLAIN, {"folder": "pre"}, {"folder": "dwi"})
    assert [one.label for one in plan.sessions] == ["sub-01_ses-pre"]


@pytest.mark.parametrize("place", ["Sub-02/anat/", "sub03/", "patient7/ses-1/anat/", "derivates/", ""])
def test_an_image_of_no_subject_of_a_bids_tree(tmp_path: Path, place: str) -> None:
    """A folder that is misspelt may be a whole subject. What BIDS keeps beside the subjects is left out."""
    scan(tmp_path / "sub-1" / "anat" / "sub-1_T1w")
    scan(tmp_path / f"{place}T1w")
    for folder in (
        "derivatives",
        "Derivatives",
        "sourcedata",
        "rawdata",
        "code",
        "stimuli",
        "phenotype",
        "docs",
        "logs",
        "tpl-MNI",
    ):
        scan(tmp_path / folder / "sub-2" / "T1w")
    plan = planned(tmp_path)
    problems = {one.path: one.detail for one in plan.set_aside if one.is_problem}
    assert list(problems) == [f"{place}T1w.nii.gz"]
    assert "sub-LABEL" in problems[f"{place}T1w.nii.gz"]
    assert [session.label for session in plan.sessions] == ["sub-1"]


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize(
    ("ids", "mixed"),
    [
        ({"007/pre": "P1 ", "007/post": "P2"}, ["007_pre", "007_post"]),
        ({"007/pre": "P1", "007/post": "P1", "008/pre": "P2"}, []),
        ({"007/pre": "P1", "007/post": "", "008/pre": "P2"}, []),
        ({"007/pre": "P1\x1fP2", "008/pre": "P2"}, ["007_pre"]),
        ({"007/pre": "P1\x1fP2", "007/post": "P1"}, ["007_pre"]),
        ({"007/pre": "P1\x1f P1", "008/pre": "P2"}, []),
    ],
)
def test_sidecars_that_name_several_patients(
    tmp_path: Path, ids: dict[str, str], mixed: list[str], *, allowed: bool
) -> None:
    """In one session, or in the sessions of one subject: data of one person must not become another's."""
    for place, several in ids.items():
        for number, patient in enumerate(several.split("\x1f"), 1):
            scan(tmp_path / place / f"T{number}" / "t", mr(number, "T", PatientID=patient))
    plan = planned(tmp_path, replace(PLAIN, mixed_patients=allowed))
    found = [s.label for s in plan.sessions if "mixed-patients" in [c.kind for c in s.conflicts]]
    assert sorted(found) == sorted([] if allowed else mixed)
    told = [problem for problem in plan.problems if problem.kind == "mixed-patients"]
    assert len(told) == bool(mixed and not allowed)
    assert all("name 2 patients" in problem.detail and "P1" not in problem.detail for problem in told)
