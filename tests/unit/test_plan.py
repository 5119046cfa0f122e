"""Sessions out of folders: labels, duplicates, and every conflict found before a byte is sent."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.dicom_trees import IDENTITY, KINDS, Memory, Series, make_session, part10
from xnat_ingest.cli import make_parser
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.model import Instance, Plan, Problem
from xnat_ingest.inputs import Source, open_source
from xnat_ingest.inputs.dicom_headers import same_bytes, scan
from xnat_ingest.planning.prepare import label_rules, rule_set
from xnat_ingest.planning.sessions import make_plan
from xnat_ingest.settings.layers import resolve

TAGS = {"PatientID": (0x00100020, "LO"), "StudyDate": (0x00080020, "DA")}
TAGS |= {"StudyTime": (0x00080030, "TM"), "ImageComments": (0x00204000, "LT"), "ImageType": (0x00080008, "CS")}
TAGS |= {"SpecificCharacterSet": (0x00080005, "CS")}


def dicom(study: str, number: int = 1, series: str = "1", **values: str) -> bytes:
    """One instance; study and series: their UIDs in short; values: of the keywords in TAGS."""
    texts = {TAGS[word][0]: (TAGS[word][1], text.encode()) for word, text in values.items()}
    words = {0x00080018: (study, series, number), 0x0020000D: (study,), 0x0020000E: (study, series)}
    uids = {tag: ("UI", ".".join(map(str, (1, 2, *parts))).encode()) for tag, parts in words.items()}
    return part10({**IDENTITY, **uids, **texts})


def plan_source(source: Source, **options: object) -> Plan:
    """The plan that `plan -P DEMO` makes; options: as on the command line, an underscore for a dash."""
    settings = resolve("plan", {"project": "DEMO", **options}, {})
    naming = label_rules(settings)
    rules = rule_set(settings, len(naming.levels))
    keywords = rules.keywords | naming.subject.keywords | naming.session.keywords
    keywords |= {"StudyDate", "StudyTime"} if naming.split_studies else set()
    found = scan(source, rules.skip, keywords)
    return make_plan(found, rules, naming, lambda one, other: same_bytes(source, one, other))


def plan_of(files: Mapping[str, bytes], **options: object) -> Plan:
    """The plan of a tree in memory."""
    plan = plan_source(Memory(files), **options)
    assert plan.files_seen == plan.planned + len(plan.set_aside) == len(files)
    return plan


def titles(plan: Plan) -> list[str]:
    return [f"{session.subject}/{session.label}" for session in plan.sessions]


def conflicts(plan: Plan) -> list[tuple[str, str]]:
    return [(session.folder, problem.kind) for session in plan.sessions for problem in session.conflicts]


def reasons(plan: Plan) -> dict[str, str]:
    return {aside.path: aside.reason for aside in plan.set_aside}


def real_flags() -> set[str]:
    """What `xnat-ingest upload --help` offers."""
    actions = make_parser()._subparsers._group_actions[0].choices["upload"].format_help()  # type: ignore[union-attr,index]
    return set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", actions))


def check_advice(problem: Problem, *folders: str) -> None:
    """A conflict names its folders, and a way out by flags that exist."""
    for folder in folders:
        assert folder in problem.detail
    named = set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", problem.detail))
    assert named
    assert named <= real_flags()


TWO = {
    "007/pre/a/1": dicom("1"),
    "007/post/a/1": dicom("2"),
    "008/pre/a/1": dicom("3"),
    "008/pre/b/deep/er/1": dicom("3", 2),
}


def test_the_usual_tree() -> None:
    """ROOT/SUBJECT/SESSION/anything: session labels carry the subject, since they are unique in a project."""
    three = {"007/pre/a/1": dicom("1"), "007/post/a/1": dicom("2"), "008/pre/a/1": dicom("3")}
    plan = plan_of({**three, "008/pre/b/deep/er/1": dicom("3", 2)})
    assert titles(plan) == ["007/007_post", "007/007_pre", "008/008_pre"]
    assert [len(session.instances) for session in plan.sessions] == [1, 1, 2]
    assert {session.project for session in plan.sessions} == {"DEMO"}
    assert (plan.problems, plan.set_aside) == ((), ())


BY_ID = {"subject_label": "{PatientID}", "session_label": "{session}"}


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        ({"a/s/1": dicom("1")}, {"session_label": "{session}"}, "a/s"),
        ({"a/s/1": dicom("1")}, {"subject_label": "X-{subject}", "session_label": "{subject}__{session}"}, "X-a/a__s"),
        ({"s/x/1": dicom("1")}, {"layout": "session", "subject": "P1"}, "P1/P1_s"),
        ({"s/1": dicom("1", PatientID="Q1 ")}, {"layout": "session", **BY_ID}, "Q1/s"),
        ({"s/1": dicom("1", PatientID="Q1")}, {"subject": "P1", "experiment": "E1"}, "P1/E1"),
        ({"1": dicom("1")}, {"subject": "P1", "experiment": "E1"}, "P1/E1"),
        ({"a/s/1": dicom("1", StudyDate="20200102")}, {"session_label": "{subject}-{StudyDate}"}, "a/a-20200102"),
    ],
    ids=["session-alone", "text", "layout-session", "keyword", "root-is-a-session", "files-in-root", "date"],
)  # fmt: skip
def test_labels_follow_layout_and_templates(files: dict[str, bytes], options: dict[str, str], expected: str) -> None:
    """Folder levels and keywords fill the templates; -S and -E are taken verbatim."""
    plan = plan_of(files, **options)
    assert titles(plan) == [expected]
    assert conflicts(plan) == []


LAYOUTS = {"subject/session": ("a/", {}), "session": ("", {"layout": "session", "subject": "P1"})}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_studies_in_one_session_folder(layout: str) -> None:
    """That session is in conflict; the others go on."""
    above, options = LAYOUTS[layout]
    plan = plan_of({f"{above}x/1": dicom("1"), f"{above}x/deep/2": dicom("2"), f"{above}y/1": dicom("3")}, **options)
    assert conflicts(plan) == [(f"{above}x", "two-studies")]
    check_advice(plan.sessions[0].conflicts[0], f"{above}x")
    assert [problem.kind for problem in plan.problems] == ["two-studies"]
    assert plan.problems[0].sessions == (plan.sessions[0].label,)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_study_in_two_session_folders(layout: str) -> None:
    """Both sessions are in conflict, by one problem that names both folders."""
    above, options = LAYOUTS[layout]
    plan = plan_of({f"{above}x/1": dicom("1"), f"{above}y/2": dicom("1", 2), f"{above}z/1": dicom("3")}, **options)
    assert conflicts(plan) == [(f"{above}x", "split-study"), (f"{above}y", "split-study")]
    check_advice(plan.problems[0], f"{above}x", f"{above}y")
    assert len(plan.problems) == 1
    assert len(plan.problems[0].sessions) == 2


def test_two_studies_with_root_as_one_session() -> None:
    """-S and -E give one label; two studies do not fit under it."""
    plan = plan_of({"x/1": dicom("1"), "y/2": dicom("2")}, subject="P1", experiment="E1")
    assert conflicts(plan) == [(".", "two-studies")]
    check_advice(plan.problems[0])


@pytest.mark.parametrize(
    ("one", "other", "options"),
    [
        ("a/b_c", "a_b/c", {}),
        ("a/x y", "a/x_y", {}),
        ("a/x", "a/X", {}),
        ("a/x", "b/x", {"session_label": "{session}"}),
        ("x y", "x_y", LAYOUTS["session"][1]),
        ("x", "X", LAYOUTS["session"][1]),
    ],
    ids=["underscores", "illegal", "case", "template", "session-illegal", "session-case"],
)
def test_two_sources_on_one_session_label(one: str, other: str, options: dict[str, str]) -> None:
    """Labels are unique in a project, letter case aside: both sessions are in conflict."""
    plan = plan_of({f"{one}/1": dicom("1"), f"{other}/1": dicom("2")}, **options)
    assert set(conflicts(plan)) == {(one, "label-collision"), (other, "label-collision")}
    (problem,) = {problem for problem in plan.problems if problem.kind == "label-collision"}
    check_advice(problem, one, other)


@pytest.mark.parametrize(
    ("one", "other"), [("sub 1", "sub_1"), ("S1", "s1"), ("é", "è")], ids=["illegal", "case", "accents"]
)
def test_one_subject_label_reached_by_two_spellings(one: str, other: str) -> None:
    """Two folders would become one subject without anybody saying so."""
    plan = plan_of({f"{one}/pre/1": dicom("1"), f"{other}/post/1": dicom("2"), "zz/pre/1": dicom("3")})
    assert set(conflicts(plan)) == {(f"{one}/pre", "label-collision"), (f"{other}/post", "label-collision")}
    check_advice(next(problem for problem in plan.problems if problem.kind == "label-collision"), one, other)


def test_illegal_characters_are_replaced_and_reported() -> None:
    """Not a conflict: one character for one, named with the folder."""
    plan = plan_of({"sub 1/ses+2/1": dicom("1")})
    assert titles(plan) == ["sub_1/sub_1_ses_2"]
    assert conflicts(plan) == []
    assert {problem.kind for problem in plan.problems} == {"illegal-label"}
    assert all("sub 1/ses+2" in problem.detail and problem.sessions == ("sub_1_ses_2",) for problem in plan.problems)


@pytest.mark.parametrize(
    ("folder", "options", "word"),
    [
        ("a/" + "x" * 63, {}, "longer"),
        ("s" * 65 + "/x", {"session_label": "{session}"}, "longer"),
        ("a/x", {"session_label": "{PatientID}"}, "empty"),
        ("a/x", {"subject_label": "{PatientID}"}, "empty"),
    ],
    ids=["long-session", "long-subject", "empty-session", "empty-subject"],
)
def test_a_label_too_long_or_empty_is_a_conflict(folder: str, options: dict[str, str], word: str) -> None:
    """Never cut, never made up."""
    plan = plan_of({f"{folder}/1": dicom("1"), "b/fine/1": dicom("2", PatientID="P9")}, **options)
    assert set(conflicts(plan)) == {(folder, "illegal-label")}
    assert word in plan.problems[0].detail
    check_advice(plan.problems[0], folder)


def test_a_label_of_64_characters_is_legal() -> None:
    """The limit itself."""
    plan = plan_of({f"a/{'x' * 62}/1": dicom("1")})
    assert (len(plan.sessions[0].label), plan.problems) == (64, ())


def test_a_template_that_differs_inside_a_session_is_a_conflict() -> None:
    """No label is picked by chance."""
    files = {"a/x/1": dicom("1", PatientID="P1"), "a/x/2": dicom("1", 2, PatientID="P2")}
    plan = plan_of(files, session_label="{PatientID}")
    assert [folder for folder, _ in conflicts(plan)] == ["a/x"]
    assert "a/x" in plan.problems[0].detail


WRONG: tuple[dict[str, str], ...] = (
    {"experiment": "E1"}, {"subject": "S1"}, {"layout": "session"}, {"subject": "S 1", "experiment": "E1"},
    {"subject": "S1", "experiment": "x" * 65}, {"subject": "S.1", "layout": "session"}, {"session_label": "{nonsense}"},
    {"session_label": "{seriesdescription}"}, {"session_label": "{subject.__class__}"}, {"session_label": "{}"},
    {"session_label": "{session!r:>10}"}, {"session_label": "{session"},
    {"session_label": "{subject}", "layout": "session", "subject_label": "{PatientID}"},
)  # fmt: skip


@pytest.mark.parametrize("options", WRONG, ids=lambda options: " ".join(f"{k}={v[:20]}" for k, v in options.items()))
def test_wrong_label_options_are_refused_before_any_file_is_read(options: dict[str, str]) -> None:
    """A usage error, not a plan."""
    with pytest.raises(UsageError):
        plan_of({}, **options)


def test_duplicates_and_conflicting_duplicates() -> None:
    """The first in sorted order is planned; the same bytes again are a note, other bytes a problem."""
    one = dicom("1")
    plan = plan_of(
        {"a/x/2/f": one, "a/x/1/f": one, "a/x/3/f": dicom("1", ImageComments="recompressed"), "a/x/1/g": dicom("1", 2)}
    )
    assert [i.path for i in plan.sessions[0].instances] == ["a/x/1/f", "a/x/1/g"]
    assert reasons(plan) == {"a/x/2/f": "duplicate", "a/x/3/f": "conflicting-duplicate"}
    assert [aside.is_problem for aside in plan.set_aside] == [False, True]
    assert all("a/x/1/f" in aside.detail for aside in plan.set_aside)
    assert conflicts(plan) == []


def test_dicom_above_the_session_folders_is_outside_layout() -> None:
    """A problem; what is no DICOM there is just no DICOM."""
    plan = plan_of({"1": dicom("9"), "a/1": dicom("9", 2), "a/notes.txt": b"text", "a/x/1": dicom("1"), "README": b""})
    assert reasons(plan) == {
        "1": "outside-layout",
        "a/1": "outside-layout",
        "a/notes.txt": "not-dicom",
        "README": "not-dicom",
    }
    assert titles(plan) == ["a/a_x"]
    assert reasons(plan_of({"1": dicom("9"), "x/1": dicom("1")}, **LAYOUTS["session"][1])) == {"1": "outside-layout"}


def test_names_from_disk_that_are_no_unicode() -> None:
    """Labels become underscores, messages stay printable."""
    name = os.fsdecode(b"caf\xe9\n")
    plan = plan_of({f"{name}/x/1": dicom("1"), f"{name}/x/2": dicom("2")})
    assert titles(plan) == ["caf__/caf___x"]
    assert all(problem.detail.isprintable() and "caf\\xe9\\n" in problem.detail for problem in plan.problems)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("seed", range(4))
def test_every_file_of_a_messy_tree_is_counted_once(seed: int, tmp_path: Path) -> None:
    """Law 1, on real files of all kinds, copied, cut, moved, linked, and mixed with what is no DICOM."""
    draw = random.Random(seed)
    paths: list[Path] = []
    for subject, session in (("s1", "a"), ("s1", "b"), ("s 2", "a"), ("S1", "c")):
        series = [Series(f"{kind}_{n}", 1, draw.choice(KINDS)) for n, kind in enumerate(("T1", "AAHead", "x"))]
        paths += make_session(tmp_path / subject / session, series, f"{seed}{subject}{session}")
    for number in range(40):
        data = draw.choice(paths).read_bytes()
        folder = tmp_path.joinpath(*draw.sample(["s1", "s1/a", "S1/c/x", "s 2/a/new", "s1/b/AAHead_1", "."], 1))
        folder.mkdir(parents=True, exist_ok=True)
        kinds = [data, data[: draw.randrange(len(data))], b"", draw.randbytes(300), data + b"\0" * 8]
        (folder / f"f{number}").write_bytes(draw.choice(kinds))
    (tmp_path / "s1/link").symlink_to(paths[0])
    (tmp_path / "s1/out").symlink_to("/etc/passwd")
    plan = plan_source(open_source(str(tmp_path)), exclude=["AAHEAD"], ignore_case="true")
    files = [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert plan.files_seen == plan.planned + len(plan.set_aside) == len(files)
    planned: list[Instance] = [instance for session in plan.sessions for instance in session.instances]
    assert len({i.path for i in planned} | {aside.path for aside in plan.set_aside}) == len(files)
    assert not any("AAHead" in i.path for i in planned)


SPLIT = {
    "007/pre/a/1": dicom("9", StudyDate="20240131", StudyTime="080000"),
    "007/pre/a/2": dicom("9", 2, StudyDate="20240131", StudyTime="080000"),
    "007/pre/b/1": dicom("1", StudyDate="20240131", StudyTime="093000"),
    "007/pre/c/1": dicom("5", StudyDate="20240130", StudyTime="170000"),
    "008/pre/a/1": dicom("3"),
}


def test_studies_of_one_folder_become_sessions() -> None:
    """In order of study date and time; the plan says so, and the advice names the flag."""
    plan = plan_of(SPLIT)
    assert conflicts(plan) == [("007/pre", "two-studies")]
    assert "--split-studies" in plan.problems[0].detail
    plan = plan_of(SPLIT, split_studies="true")
    assert [(s.label, s.study_uid, len(s.instances)) for s in plan.sessions] == [
        ("007_pre", "1.2.5", 1),
        ("007_pre_2", "1.2.9", 2),
        ("007_pre_3", "1.2.1", 1),
        ("008_pre", "1.2.3", 1),
    ]
    assert [(p.kind, p.spoils) for p in plan.problems] == [("studies-split", False)]
    assert "007/pre contains 3 studies" in plan.problems[0].detail
    assert conflicts(plan) == []


def test_split_label_of_another_folder() -> None:
    """007/pre_2 has the label already: neither is guessed."""
    plan = plan_of({**SPLIT, "007/pre_2/a/1": dicom("7")}, split_studies="true")
    assert sorted(conflicts(plan)) == [("007/pre", "label-collision"), ("007/pre_2", "label-collision")]


def test_split_label_that_is_too_long() -> None:
    name = "x" * 60
    plan = plan_of({f"007/{name}/1": dicom("1"), f"007/{name}/2": dicom("2")}, split_studies="true")
    assert [kind for _, kind in conflicts(plan)] == ["illegal-label"]


@pytest.mark.parametrize("options", [{"layout": "headers"}, {"subject": "S", "experiment": "E"}])
def test_splitting_where_there_are_no_session_folders(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="--split-studies"):
        plan_of(SPLIT, split_studies="true", **options)


def test_sessions_without_patient_or_date_do_not_collide() -> None:
    """Each is told with its files and the ways out, not as empty labels that are one."""
    files = {f"{name}/{name}1": dicom(name) for name in "12"}
    plan = plan_of(files, layout="headers")
    assert {kind for _, kind in conflicts(plan)} == {"illegal-label"}
    first = plan.problems[0].detail
    assert "PatientID is empty in the headers of 1 files (the first is 1/11)" in first
    assert all(word in first for word in ("--subject-label", "--labels"))
    assert any("StudyDate" in p.detail or "PatientID" in p.detail for p in plan.problems)
    assert all("()" not in title and "(no label)" in title for title in titles(plan))
