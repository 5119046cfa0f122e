"""What NIfTI scans and sessions are called: numbers, types, labels; the word to whoever gave them to `upload`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nifti_trees import (
    PLAIN,
    kinds,
    make_subjects,
    mr,
    only,
    planned,
    put,
    scan,
)
from xnat_ingest.commands.nifti.plan import NiftiOptions, template
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.model import Plan, SetAside
from xnat_ingest.inputs import FolderSource
from xnat_ingest.inputs.nifti_file import guidance

# -- numbers and types


def test_numbers_that_two_scans_share_tell_neither(tmp_path: Path) -> None:
    for name, number in (("A", 1), ("B", 7), ("C", 7), ("D", -3), ("E", "abc")):
        scan(tmp_path / "a" / "b" / name / "i", {**mr(1, name), "SeriesNumber": number})
    session = only(planned(tmp_path))
    assert [(one.key, one.id, one.numbered) for one in session.scans] == [
        ("A/", "1", True),
        ("B/", "2", False),
        ("C/", "3", False),
        ("D/", "4", False),
        ("E/", "5", False),
    ]


@pytest.mark.parametrize(
    ("words", "session_type"),
    [
        (("MR", "MR"), "xnat:mrSessionData"),
        (("CT",), "xnat:ctSessionData"),
        (("PT", "CT"), "xnat:petSessionData"),
        (("PET", "mr"), "xnat:petmrSessionData"),
    ],
)
def test_types_of_sessions(tmp_path: Path, words: tuple[str, ...], session_type: str) -> None:
    for number, word in enumerate(words, 1):
        scan(tmp_path / "a" / "b" / str(number) / "i", {"Modality": word})
    session = only(planned(tmp_path))
    assert (session.xsi_type, session.conflicts) == (session_type, ())


def test_a_modality_that_nothing_tells_is_a_conflict(tmp_path: Path) -> None:
    scan(tmp_path / "a" / "b" / "c" / "i")
    session = only(planned(tmp_path))
    assert [problem.kind for problem in session.conflicts] == ["unknown-type"]
    assert "--modality" in session.conflicts[0].detail
    assert only(planned(tmp_path, NiftiOptions(PLAIN.subject, PLAIN.session, modality="MR"))).conflicts == ()


@pytest.mark.parametrize("words", [("MR", "CT"), ("XX",)])
def test_types_that_do_not_exist(tmp_path: Path, words: tuple[str, ...]) -> None:
    for number, word in enumerate(words, 1):
        scan(tmp_path / "a" / "b" / str(number) / "i", {"Modality": word})
    plan = planned(tmp_path)
    assert kinds(plan) == ["unknown-type"]
    assert only(plan).conflicts == plan.problems


def test_two_modalities_in_one_scan(tmp_path: Path) -> None:
    scan(tmp_path / "a" / "b" / "c" / "i", {"Modality": "MR"})
    scan(tmp_path / "a" / "b" / "c" / "j", {"Modality": "CT"})
    assert kinds(planned(tmp_path)) == ["unknown-type"]


# -- labels


def test_labels(tmp_path: Path) -> None:
    scan(tmp_path / "p 1" / "pre" / "c" / "i", mr(1, "X"))
    plan = planned(tmp_path)
    assert (only(plan).subject, only(plan).label) == ("p_1", "p_1_pre")
    assert kinds(plan) == ["illegal-label", "illegal-label"]
    assert only(plan).conflicts == ()


def test_a_label_that_is_too_long(tmp_path: Path) -> None:
    scan(tmp_path / ("s" * 60) / "session" / "c" / "i", mr(1, "X"))
    session = only(planned(tmp_path))
    assert [problem.kind for problem in session.conflicts] == ["illegal-label"]
    assert "--session-label" in session.conflicts[0].detail


@pytest.mark.parametrize(("subject", "session"), [("{subject}", "{subject}"), ("X", "{subject}")])
def test_sessions_that_share_a_label(tmp_path: Path, subject: str, session: str) -> None:
    for folder in ("pre", "post"):
        scan(tmp_path / "a" / folder / "c" / "i", mr(1, "X"))
    plan = planned(tmp_path, NiftiOptions(template(subject), template(session)))
    assert kinds(plan) == ["label-collision"]
    assert all(one.conflicts == plan.problems for one in plan.sessions)


def test_subjects_that_differ_only_in_case(tmp_path: Path) -> None:
    for folder, session in (("a_1", "x"), ("A_1", "y")):
        scan(tmp_path / folder / session / "c" / "i", mr(1, "X"))
    plan = planned(tmp_path, NiftiOptions(template("{subject}"), template("{session}")))
    assert kinds(plan) == ["label-collision"]
    assert "--subject-label" in plan.problems[0].detail


def test_one_subject_of_all_is_no_collision(tmp_path: Path) -> None:
    plan = planned(make_subjects(tmp_path), NiftiOptions(template("X"), template("{subject}_{session}")))
    assert [one.subject for one in plan.sessions] == ["X", "X"]
    assert kinds(plan) == []


def test_a_template_of_header_values_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no headers with \{PatientID\}"):
        template("{PatientID}")


def test_no_session_folder_for_the_template(tmp_path: Path) -> None:
    scan(tmp_path / "sub-1" / "anat" / "sub-1_T1w")
    plan = planned(tmp_path, NiftiOptions(template("{subject}"), template("X_{session}")))
    assert kinds(plan) == ["illegal-label"]
    assert "no session folder" in plan.problems[0].detail


# -- the word to whoever gave NIfTI to `upload`


def test_guidance(tmp_path: Path) -> None:
    source = FolderSource(make_subjects(tmp_path, ("007",)))
    aside = tuple(SetAside(file.path, "not-dicom") for file in source.files())
    text = guidance(Plan("P", (), aside, (), len(aside)), source)
    assert "2 NIfTI images" in text
    assert "xnat-ingest nifti" in text


def test_no_guidance_without_an_image(tmp_path: Path) -> None:
    put(tmp_path / "x.nii", "no image")
    source = FolderSource(tmp_path)
    assert guidance(Plan("P", (), (SetAside("x.nii", "not-dicom"),), (), 1), source) == ""
