"""Who is who: several patients in one subject, one subject in two spellings; no PatientID in any output."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.dicom_trees import Memory, read
from tests.unit.test_plan import check_advice, conflicts, dicom, plan_of, titles
from xnat_ingest.core.model import Instance
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.planning.plan_file import plan_pieces, plan_text, read_plan

PEOPLE = {
    "study/S1/1": dicom("1", PatientID="ALPHA"),
    "study/S2/1": dicom("2", PatientID="BETA"),
    "other/S3/1": dicom("3", PatientID="GAMMA"),
    "other/S4/1": dicom("4", PatientID="GAMMA"),
}


def test_subject_folder_of_several_patients() -> None:
    """ROOT one level too high: what is taken for a subject is a study of many."""
    plan = plan_of(PEOPLE)
    assert sorted(conflicts(plan)) == [("study/S1", "mixed-patients"), ("study/S2", "mixed-patients")]
    (problem,) = plan.problems
    check_advice(problem, "study/S1", "study/S2")
    assert "would be one subject, study, but contain 2 different PatientIDs" in problem.detail
    assert "If ROOT is one level too high, name the folder below it" in problem.detail
    assert (conflicts(plan_of(PEOPLE, allow_mixed_patients="true")), plan.project) == ([], "DEMO")


def test_session_folder_of_several_patients() -> None:
    """Two people's files in one study."""
    files = {"a/x/1": dicom("1", PatientID="ALPHA"), "a/x/2": dicom("1", 2, PatientID="BETA")}
    plan = plan_of(files)
    assert conflicts(plan) == [("a/x", "mixed-patients")]
    text = "folder a/x contains images of 2 patients (by PatientID): 1 file of one, and these of another: 2"
    assert plan.problems[0].fact == text
    assert plan.problems[0].fix.startswith("move the files")
    assert conflicts(plan_of(files, allow_mixed_patients="1")) == []


def test_it_says_which_files_are_whose() -> None:
    """By folder, and by file where a folder has files of both. The patient with most files is not listed."""
    files = {f"a/x/T1/{n}": dicom("1", n, PatientID="ALPHA") for n in range(1, 5)}
    files |= {f"a/x/T2/{n}": dicom("1", n, PatientID="BETA") for n in range(5, 7)}
    files |= {"a/x/T1/7": dicom("1", 7, PatientID="GAMMA")}
    (problem,) = plan_of(files).problems
    assert problem.fact.endswith("3 patients (by PatientID): 4 files of one, and these of 2 others: T2 (2 files), T1/7")


@pytest.mark.parametrize("second", ["a/x/2", "a/y/2"], ids=["two-studies", "split-study"])
def test_files_of_two_patients_are_to_be_moved_before_anything_is_split_or_joined(second: str) -> None:
    """The patients come first, and nothing beside it advises to make two sessions, or one, of their files."""
    kind = "two-studies" if second == "a/x/2" else "split-study"
    study = "2" if kind == "two-studies" else "1"
    files = {"a/x/1": dicom("1", PatientID="ALPHA"), second: dicom(study, 2, PatientID="BETA")}
    plan = plan_of(files)
    assert [problem.kind for problem in plan.problems] == ["mixed-patients", kind]
    for session in plan.sessions:
        assert [problem.kind for problem in session.conflicts] == ["mixed-patients", kind]
    assert plan.problems[1].fix.startswith("move the files first (see mixed-patients)")
    assert "--split-studies" not in plan.problems[1].detail
    (lifted,) = plan_of(files, allow_mixed_patients="1").problems
    assert (lifted.kind, "--layout headers" in lifted.fix, "move the files" in lifted.fix) == (kind, True, False)


@pytest.mark.parametrize("layout", ["session", "headers"])
def test_one_subject_given_for_several_patients(layout: str) -> None:
    files = {"x/1": dicom("1", PatientID="ALPHA", StudyDate="20240131"), "y/1": dicom("2", PatientID="BETA")}
    options = {"layout": layout, "subject_label": "S", "session_label": "{StudyInstanceUID}"}
    plan = plan_of(files, **options)
    assert {kind for _, kind in conflicts(plan) if kind != "illegal-label"} == {"mixed-patients"}


def test_subject_that_a_sheet_names(tmp_path: Path) -> None:
    """Whoever writes one subject beside two sessions has decided that it is one."""
    path = tmp_path / "sheet.csv"
    path.write_text("folder,subject,session\nstudy/S1,P,\nstudy/S2,P,\n", "utf-8")
    plan = plan_of({name: data for name, data in PEOPLE.items() if name.startswith("study")}, labels=str(path))
    assert conflicts(plan) == []


def test_an_absent_patient_id_is_no_other_patient() -> None:
    plan = plan_of({"a/x/1": dicom("1", PatientID="ALPHA"), "a/y/1": dicom("2"), "a/z/1": dicom("3", PatientID=" ")})
    assert conflicts(plan) == []


def test_patients_are_numbered_and_not_named() -> None:
    """The instances carry a number in the order in which the scan met the patients, and no value."""
    files = {f"{name}/x/1": dicom(name, PatientID=value) for name, value in (("1", "A "), ("2", "B"), ("3", "A"))}
    found = list(scan(Memory({**files, "4/x/1": dicom("4")}), lambda _: None))
    assert [getattr(one, "patient", None) for one in found] == ["1", "2", "1", ""]


def test_plan_file_keeps_the_conflict_and_names_nobody(tmp_path: Path) -> None:
    """What was a conflict when it was planned is one when the plan is executed."""
    text = plan_text(plan_of(PEOPLE), "/data", "subject/session")
    assert not any(word in text for word in ("ALPHA", "BETA", "GAMMA"))
    path = tmp_path / "plan.json"
    path.write_text(text)
    again = read_plan(str(path)).plan
    assert sorted(conflicts(again)) == [("study/S1", "mixed-patients"), ("study/S2", "mixed-patients")]
    assert "flag allow-mixed-patients" in again.problems[0].detail
    assert conflicts(read_plan(str(path), mixed_patients=True).plan) == []
    document = json.loads(text)
    del document["sessions"][-1]
    path.write_text(json.dumps(document))
    assert conflicts(read_plan(str(path)).plan) == []


def test_plan_file_keeps_what_a_label_was_made_of(tmp_path: Path) -> None:
    """Unless somebody has changed the label in it."""
    path = tmp_path / "plan.json"
    path.write_text(plan_text(plan_of({"Müller/x/1": dicom("1"), "a/x/1": dicom("2")}), "/data", "subject/session"))
    assert [s.repaired for s in read_plan(str(path)).plan.sessions] == ["Müller", ""]
    path.write_text(path.read_text().replace('"M_ller"', '"Mueller"'))
    assert [s.repaired for s in read_plan(str(path)).plan.sessions] == ["", ""]


def test_one_name_in_two_forms_is_one_subject() -> None:
    """An accent on its letter, or beside it: the same name, and the report says so."""
    plan = plan_of({"Ren\u00e9/pre/1": dicom("1"), "Rene\u0301/post/1": dicom("2")})
    assert titles(plan) == ["Ren_/Ren__pre", "Ren_/Ren__post"] or sorted(titles(plan)) == [
        "Ren_/Ren__post",
        "Ren_/Ren__pre",
    ]
    assert conflicts(plan) == []
    assert [p.kind for p in plan.problems].count("one-spelling") == 1
    both = plan_of({"Ren\u00e9/pre/1": dicom("1"), "Rene\u0301/pre/1": dicom("2")})
    assert {kind for _, kind in conflicts(both)} == {"label-collision"}


def test_accents_of_a_header_value() -> None:
    plan = plan_of({"x/1": dicom("1", PatientID="Rene\u0301", StudyDate="20240131")}, layout="headers")
    assert len(titles(plan)[0].partition("/")[0]) <= 6


def test_root_a_level_too_deep_is_said() -> None:
    """Sessions taken for subjects and series for sessions, where each session has one series: cannot be told for
    certain, so it is a note."""
    files = {f"{name}/T1/1": dicom(name, PatientID="A") for name in ("pre", "post")}
    assert [(p.kind, p.spoils) for p in plan_of(files).problems] == [("one-patient", False)]
    assert "if ROOT is one level too deep, name the folder above it" in plan_of(files).problems[0].detail
    more = {**files, "pre/T1/2": dicom("pre", 2, "2", PatientID="A")}
    assert plan_of(more).problems == ()


def test_a_plan_is_not_changed_by_its_numbers() -> None:
    """The number says nothing about the instance: two scans may count differently."""
    (session,) = plan_of({"a/x/1": dicom("1", PatientID="A")}).sessions
    assert replace(session.instances[0], patient="7").name == session.instances[0].name


def test_a_plan_file_is_written_piece_by_piece() -> None:
    """Of a million instances its text has 600 MB: no part of it is held."""
    plan = plan_of(PEOPLE)
    pieces = list(plan_pieces(plan, "/data", "subject/session"))
    text = plan_text(plan, "/data", "subject/session")
    assert "".join(pieces) == text == json.dumps(json.loads(text), indent=1) + "\n"
    assert len(json.loads(text)["sessions"]) == len(plan.sessions) > 1
    assert max(map(len, pieces)) < len(text) / 5


@pytest.mark.parametrize("patient_id", ["IDMüller", "A\\B"])
@pytest.mark.parametrize("keywords", [(), ("PatientID",)], ids=["nothing looks at it", "a template looks at it"])
def test_a_patient_is_one_whoever_reads_the_file(patient_id: str, keywords: tuple[str, ...]) -> None:
    """The library reads what the quick reader leaves to it, such as big endian. It converts what a rule looks at."""
    files = {}
    for name in ("MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"):
        dataset = read(name)
        dataset.SpecificCharacterSet, dataset.PatientID = "ISO_IR 192", patient_id
        stream = io.BytesIO()
        dataset.save_as(stream)
        files[name] = stream.getvalue()
    found = [one for one in scan(Memory(files), lambda _: None, keywords) if isinstance(one, Instance)]
    assert len(found) == len(files)
    assert len({one.patient for one in found}) == 1
