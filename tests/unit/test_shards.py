"""Which shard takes a subject, by flag and by the engines' variables; and shards' reports joined into one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.unit.test_page import report, session
from xnat_ingest.core.errors import IngestError, UsageError
from xnat_ingest.report.saved import merge
from xnat_ingest.settings.layers import resolve
from xnat_ingest.settings.shards import Shard, parse_shard, shard_of_engine


def test_each_subject_is_in_one_shard() -> None:
    for count in (1, 2, 3, 8):
        shards = [Shard(number, count) for number in range(1, count + 1)]
        taken = Counter(shard.number for n in range(400) for shard in shards if shard.takes(f"sub{n}"))
        assert taken.total() == 400
        assert min(taken.values()) > 400 / count / 2


def test_labels_that_differ_only_in_case_meet() -> None:
    for n in range(50):
        assert [Shard(k, 7).takes(f"Sub{n}A") for k in range(1, 8)] == [
            Shard(k, 7).takes(f"sUB{n}a") for k in range(1, 8)
        ]


def test_the_shard_of_a_subject_never_changes() -> None:
    """SHA-256 of the label: a run of another version, or on another machine, divides alike."""
    assert [next(k for k in range(1, 9) if Shard(k, 8).takes(s)) for s in ("007", "008", "Ä")] == [5, 7, 5]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/", "/2", "a/b", "1/0", "-1/2", "1/1000000", "1 / 2", ""])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UsageError, match="give K/N"):
        parse_shard(text)


ENGINES: list[tuple[dict[str, str], str]] = [
    ({"JOB_COMPLETION_INDEX": "0", "XNAT_INGEST_SHARDS": "4"}, "1/4"),
    ({"JOB_COMPLETION_INDEX": "3", "XNAT_INGEST_SHARDS": "4"}, "4/4"),
    ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "8"}, "1/8"),
    ({"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "8"}, "8/8"),
    ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "2"}, "1/2"),
]


@pytest.mark.parametrize(("environ", "shard"), ENGINES)
def test_auto(environ: dict[str, str], shard: str) -> None:
    assert str(shard_of_engine(environ)) == shard
    assert resolve("upload", {"shard": "auto"}, environ).shard == shard
    assert resolve("upload", {}, environ).shard == ""  # never without being asked


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({}, "neither"),
        ({"JOB_COMPLETION_INDEX": "1"}, "XNAT_INGEST_SHARDS"),
        ({"JOB_COMPLETION_INDEX": "4", "XNAT_INGEST_SHARDS": "4"}, "shard 5 of 4"),
        ({"JOB_COMPLETION_INDEX": "x", "XNAT_INGEST_SHARDS": "4"}, "must be numbers"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "must be numbers"),
        ({"SLURM_ARRAY_TASK_ID": "6", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "4"}, "without steps"),
    ],
)
def test_auto_without_an_engine(environ: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        resolve("upload", {"shard": "auto"}, environ)


def aside(path: str, reason: str) -> dict[str, str]:
    return {"path": path, "reason": reason, "detail": ""}


def shard(number: int, *sessions: dict[str, Any], set_aside: list[dict[str, str]], **changes: Any) -> tuple[str, Any]:
    """A shard's report that adds up."""
    made = report(*sessions, set_aside=set_aside, shard=f"{number}/2", **changes)
    made["totals"] |= {"set_aside": len(set_aside), "files_seen": made["totals"]["planned"] + len(set_aside)}
    made["totals"] |= {"bytes_planned": 1, "requests": 5, "retries": 1}
    return f"r{number}.json", made


def one(label: str, study: str = "", **changes: Any) -> dict[str, Any]:
    return session(label, subject=label, study_uid=study or f"1.{label}", **changes)


def test_two_shards_are_one_run() -> None:
    """Files that one left to the other are planned once, and each junk file is there once."""
    unused = {"kind": "rule-unused", "detail": "the rule X matched nothing", "sessions": []}
    everywhere = {"kind": "rule-unused", "detail": "the rule Y matched nothing", "sessions": []}
    first = [aside("b/1", "other-shard"), aside("junk", "not-dicom"), aside("b/x.txt", "other-shard")]
    second = [aside("a/1", "other-shard"), aside("junk", "not-dicom"), aside("b/x.txt", "not-dicom")]
    merged = merge(
        [
            shard(1, one("a"), set_aside=first, problems=[unused, everywhere]),
            shard(2, one("b", verdict="missing", unproven=2), set_aside=second, problems=[everywhere], code=3),
        ]
    )
    assert [(a["path"], a["reason"]) for a in merged["set_aside"]] == [("b/x.txt", "not-dicom"), ("junk", "not-dicom")]
    totals = merged["totals"]
    assert (totals["planned"], totals["verified"], totals["missing"]) == (20, 18, 2)
    assert totals["files_seen"] == totals["planned"] + totals["set_aside"] == 22
    assert (totals["requests"], totals["retries"]) == (10, 2)
    assert merged["problems"] == [everywhere]
    assert [s["label"] for s in merged["sessions"]] == ["a", "b"]
    assert merged["exit_code"] == 3
    assert "shard" not in merged
    assert [m["shard"] for m in merged["merged"]] == ["1/2", "2/2"]


def test_a_shard_that_ran_twice_counts_once() -> None:
    early = shard(
        1, one("a", verdict="failed", unproven=10), set_aside=[], code=3, finished="2024-01-01T00:00:01+00:00"
    )
    late = shard(1, one("a"), set_aside=[], finished="2024-01-01T09:00:00+00:00")
    merged = merge([late, early, shard(2, one("b"), set_aside=[])])
    assert (merged["totals"]["verified"], merged["exit_code"]) == (20, 0)


EARLY, LATE = "2024-01-01T00:00:01+00:00", "2024-01-01T09:00:00+00:00"


@pytest.mark.parametrize("older", [one("c", verdict="failed", unproven=10), one("d")])
@pytest.mark.parametrize("roots", [("/data/A", "/data/B"), ("/data/A", "/data/A"), ("", "")])
def test_a_report_of_another_tree_is_not_passed_over(older: dict[str, Any], roots: tuple[str, str]) -> None:
    """Two trees were sent with the same number of shards. The failures of the first must not vanish."""
    named = [{"root": root} if root else {} for root in roots]
    early = shard(1, one("a"), older, set_aside=[], code=3, finished=EARLY, **named[0])
    late = shard(
        1, one("a"), set_aside=[aside(f"007/pre/b{n}", "other-shard") for n in range(10)], finished=LATE, **named[1]
    )
    other = shard(
        2, one("b"), set_aside=[aside(f"007/pre/a{n}", "other-shard") for n in range(10)], finished=LATE, **named[1]
    )
    for order in ([early, late, other], [other, late, early]):
        with pytest.raises(
            IngestError, match=r"r1\.json and r1\.json are both of shard 1/2, .*leave the earlier one out"
        ):
            merge(order)
    assert merge([late, other])["exit_code"] == 0


def test_a_report_of_another_place_without_sessions_is_not_passed_over() -> None:
    early = shard(1, set_aside=[aside("x/1", "unreadable")], code=3, finished=EARLY, root="/data/A")
    with pytest.raises(IngestError, match=r"of different ROOTs \(/data/A, /data/B\)"):
        merge([early, shard(1, one("a"), set_aside=[], finished=LATE, root="/data/B")])


def test_a_shard_that_ran_again_may_have_other_labels_or_break_off() -> None:
    early, other = shard(1, one("a", "1.5"), set_aside=[], finished=EARLY), shard(2, one("b"), set_aside=[])
    assert merge([early, shard(1, one("x", "1.5"), set_aside=[], finished=LATE), other])["exit_code"] == 0
    assert merge([early, shard(1, one("a", "1.6"), set_aside=[], finished=LATE), other])["exit_code"] == 0
    broken = merge([early, shard(1, set_aside=[], code=143, finished=LATE), other])
    assert (broken["exit_code"], broken["problems"][0]["kind"]) == (3, "run-failed")


def test_a_shard_that_is_absent() -> None:
    merged = merge([shard(1, one("a"), set_aside=[aside("b/1", "other-shard")])])
    assert [p["kind"] for p in merged["problems"]] == ["shard-absent"]
    assert "shard 2 of 2" in merged["problems"][0]["detail"]
    assert merged["exit_code"] == 3
    assert merged["set_aside"] == [aside("b/1", "other-shard")]


def left(*paths: str) -> list[dict[str, str]]:
    return [aside(path, "other-shard") for path in paths]


IN_B = [f"b/e/{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("left_by_1", "aside_in_2", "lacking"),
    [
        (IN_B, [], 0),
        ([*IN_B, "b/e/notes"], [aside("b/e/notes", "not-dicom")], 0),
        ([*IN_B, "b/e.zip/x/notes"], [aside("b/e.zip", "unreadable")], 0),
        ([*IN_B, "b/e/10"], [], 1),
        ([*IN_B, "b/f/1"], [], 1),
        ([*IN_B, "b/ee/1"], [], 1),
        ([*IN_B, "b/e/notes"], left("b/e/notes"), 1),
        (["c/1", "c/2"], left("c/1", "c/2"), 2),
    ],
)
def test_what_no_shard_has_taken(left_by_1: list[str], aside_in_2: list[dict[str, str]], lacking: int) -> None:
    """As when a tree grows between two shards, or when they were run with different options."""
    b = one("b", folder="b/e")
    merged = merge(
        [
            shard(1, one("a", folder="a/e"), set_aside=left(*left_by_1), root="/t"),
            shard(2, b, set_aside=aside_in_2, root="/t"),
        ]
    )
    kinds = [problem["kind"] for problem in merged["problems"]]
    assert (merged["exit_code"], set(kinds)) == ((3, {"not-taken"}) if lacking else (0, set()))
    if lacking:
        assert merged["problems"][0]["detail"].startswith(f"{lacking} files that shard 1/2 left to another shard")
        assert f"(in {left_by_1[-1].rpartition('/')[0]}): the" in merged["problems"][0]["detail"]


def test_sessions_in_one_anothers_folders() -> None:
    """Where headers make the sessions, a session's folder is the one that all its files are in."""
    sessions = [one("b", folder="."), one("c", folder="x"), one("d", folder="x/y")]
    paths = [*(f"x/y/{number}" for number in range(24)), *(f"z/{number}" for number in range(6))]
    other = shard(2, *sessions, set_aside=[], root="/t")
    assert merge([shard(1, one("a", folder="a/e"), set_aside=left(*paths), root="/t"), other])["exit_code"] == 0
    much = [*paths, "z/6"]
    merged = merge([shard(1, one("a", folder="a/e"), set_aside=left(*much), root="/t"), other])
    assert "(in z)" in merged["problems"][0]["detail"]
    merged = merge(
        [shard(1, one("a", folder="a/e"), set_aside=left(*much[6:], *(f"x/{n}" for n in range(7))), root="/t"), other]
    )
    assert merged["problems"][0]["detail"].startswith("2 files")


def test_the_first_ten_folders_are_named() -> None:
    paths = [f"c{number:02}/1" for number in range(12)]
    merged = merge(
        [shard(1, one("a", folder="a"), set_aside=left(*paths), root="/t"), shard(2, one("b"), set_aside=[], root="/t")]
    )
    assert "(in c00, c01, c02, c03, c04, c05, c06, c07, c08, c09, ...)" in merged["problems"][0]["detail"]


@pytest.mark.parametrize(("number", "lacking"), [(11, 0), (12, 1)])
def test_what_no_shard_has_taken_where_names_are_made_up(number: int, lacking: int) -> None:
    """Then only their number tells."""
    paths = [f"made/up/{n}" for n in range(number)]
    other = shard(2, one("b", folder="n/m"), set_aside=[aside("x", "not-dicom"), *left("y")], root="")
    merged = merge([shard(1, one("a", folder="a/e"), set_aside=left(*paths), root=""), other])
    assert [problem["kind"] for problem in merged["problems"]] == ["not-taken"] * lacking
    if lacking:
        assert "1 files that shard 1/2 left to another shard are in no other report: the tree" in str(
            merged["problems"]
        )


def holding(label: str, *studies: str) -> dict[str, Any]:
    """A session in whose folder are images of several studies."""
    made = one(label)
    return {**made, "scans": [{**made["scans"][0], "study_uid": study} for study in studies]}


@pytest.mark.parametrize(
    ("sessions", "kinds"),
    [
        ((one("a"), one("b", study="1.a")), ["split-study"]),
        ((one("a"), one("A", study="1.z")), ["label-collision"]),
        ((one("a"), one("A", study="1.a")), ["split-study", "label-collision"]),
        ((holding("a", "1.a"), holding("b", "1.b", "1.a")), ["split-study"]),
        ((holding("a", "1.a", "1.x"), holding("b", "1.x", "1.b")), ["split-study"]),
        ((one("a"), one("b", study="1.a", project="Q")), []),  # as one run sees it
        ((one("a"), one("a", study="1.z", project="Q")), []),
        ((one("(no label)"), one("(no label)", study="1.z")), []),
        ((one("(no label)_2"), one("(no label)_2", study="1.z")), []),
    ],
)
def test_conflicts_that_no_shard_sees_alone(sessions: tuple[dict[str, Any], dict[str, Any]], kinds: list[str]) -> None:
    for first, second in (sessions, sessions[::-1]):
        merged = merge([shard(1, first, set_aside=[]), shard(2, second, set_aside=[])])
        assert [p["kind"] for p in merged["problems"]] == kinds
        assert merged["exit_code"] == (3 if kinds else 0)


def test_what_one_shard_has_told_is_not_told_again() -> None:
    merged = merge([shard(1, one("a"), one("b", study="1.a"), set_aside=[]), shard(2, one("c"), set_aside=[])])
    assert merged["problems"] == []


def test_a_message_names_few_of_very_many_folders() -> None:
    reports = [shard(k, *(one(f"{k}{n}", study="1.a") for n in range(6)), set_aside=[]) for k in (1, 2)]
    (problem,) = merge(reports)["problems"]
    assert problem["detail"].endswith("007/pre (23) and 2 more")
    assert len(problem["sessions"]) == 12


@pytest.mark.parametrize(("codes", "verdicts", "code"), [
    ((0, 0), ("verified", "verified"), 0),
    ((0, 5), ("verified", "failed"), 3),
    ((5, 5), ("failed", "failed"), 5),
    ((0, 6), ("verified", "failed"), 3),
    ((0, 143), ("verified", "unverified"), 3),
    ((130, 130), ("unverified", "unverified"), 3),
    ((0, 70), ("verified", "failed"), 3),
    ((70, 2), ("verified", "failed"), 2),
    ((0, 4), ("verified", "verified"), 0),
])  # fmt: skip
def test_the_exit_code_of_both(codes: tuple[int, int], verdicts: tuple[str, str], code: int) -> None:
    made = [
        shard(k, one("ab"[k - 1], verdict=word, unproven=0 if word == "verified" else 10), set_aside=[], code=one_code)
        for k, (one_code, word) in enumerate(zip(codes, verdicts, strict=True), 1)
    ]
    assert merge(made)["exit_code"] == code


@pytest.mark.parametrize(("code", "why"), [(70, "an error in the program"), (130, "interrupted"), (143, "terminated")])
def test_a_run_that_broke_off_is_named(code: int, why: str) -> None:
    """The joining itself neither has a bug nor was it stopped, so it does not end with that code."""
    merged = merge([shard(1, one("a"), set_aside=[]), shard(2, one("b"), set_aside=[], code=code)])
    (problem,) = merged["problems"]
    assert (merged["exit_code"], problem["kind"]) == (3, "run-failed")
    assert why in problem["detail"]
    assert f"(exit {code})" in problem["detail"]


@pytest.mark.parametrize("key", ["command", "server", "project", "destination", "transport"])
def test_reports_of_two_runs_are_not_merged(key: str) -> None:
    with pytest.raises(IngestError, match=f"differ in {key}"):
        merge([shard(1, one("a"), set_aside=[]), shard(2, one("b"), set_aside=[], **{key: "other"})])


def deidentified(profile: str = "basic", key: str = "k1", **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "profile": profile,
        "profile_sha256": profile * 9,
        "key_fingerprint": key,
        "objects": 10,
        "blackened": 1,
        "actions": {"X": {"PatientName": 10, "PatientID": 2}},
        "refused": {"burned-in": 1},
        "not_searched": [{"keyword": "StudyID", "why": "too short", "objects": 4}],
    }
    return made | changes


@pytest.mark.parametrize("other", [{}, deidentified(key="k2"), deidentified(profile="research-mr")])
def test_shards_that_were_not_de_identified_alike_are_not_merged(other: dict[str, Any]) -> None:
    first = shard(1, one("a"), set_aside=[], deidentification=deidentified())
    with pytest.raises(IngestError, match=r"differ in deidentification: .*profile basic"):
        merge([first, shard(2, one("b"), set_aside=[], **({"deidentification": other} if other else {}))])
    path, old = shard(2, one("b"), set_aside=[])
    last = shard(2, one("b"), set_aside=[], deidentification=deidentified())
    with pytest.raises(IngestError, match="differ in deidentification"):
        merge([first, (path, {**old, "finished": "2020-01-01T00:00:00+00:00"}), last])
    plain = shard(1, one("a"), set_aside=[])
    assert "deidentification" not in merge([shard(2, set_aside=[], code=4, deidentification=deidentified()), plain])
    empty = shard(2, set_aside=[], code=4)
    assert merge([first, empty])["deidentification"]["objects"] == 10


def test_what_was_done_to_the_headers_is_added_up() -> None:
    other = deidentified(
        actions={"X": {"PatientName": 3}, "Z": {"PatientID": 1}}, blackened=0, refused={}, restored={"PatientName": 2},
        not_searched=[{"keyword": "StudyID", "why": "too short", "objects": 1}],
    )  # fmt: skip
    merged = merge(
        [
            shard(1, one("a"), set_aside=[], deidentification=deidentified()),
            shard(2, one("b"), set_aside=[], deidentification=other),
        ]
    )
    assert merged["deidentification"] == deidentified(
        objects=20, restored={"PatientName": 2},
        actions={"X": {"PatientName": 13, "PatientID": 2}, "Z": {"PatientID": 1}},
        not_searched=[{"keyword": "StudyID", "why": "too short", "objects": 5}],
    )  # fmt: skip


@pytest.mark.parametrize(("levels", "said"), [(("pixels", "spot"), "spot"), (("listing", "spot"), "listing")])
def test_the_shallowest_look_is_that_of_all(levels: tuple[str, str], said: str) -> None:
    look = {"read_back": 1, "bytes": 2, "skipped": [], "changed": {}}
    for order in (levels, levels[::-1]):
        made = [
            shard(k, one("ab"[k - 1]), set_aside=[], proof={"level": level, **look}) for k, level in enumerate(order, 1)
        ]
        assert merge(made)["proof"] == {"level": said, "read_back": 2, "bytes": 4, "skipped": [], "changed": {}}


@pytest.mark.parametrize("key", ["command", "server", "project", "destination"])
def test_an_older_report_of_another_run_is_not_passed_over(key: str) -> None:
    """It may hold the failures of that run. A shard that ran again by another transport is the same run's."""
    path, old = shard(1, one("a"), set_aside=[])
    newer = [shard(1, one("a"), set_aside=[]), shard(2, one("b"), set_aside=[])]
    assert merge([(path, {**old, "transport": "other"}), *newer])["exit_code"] == 0
    with pytest.raises(IngestError, match=f"differ in {key}"):
        merge([(path, {**old, key: "other"}), *newer])


def test_reports_of_two_divisions_are_not_merged() -> None:
    path, other = shard(1, one("b"), set_aside=[])
    with pytest.raises(IngestError, match="2 and of 3 shards"):
        merge([shard(1, one("a"), set_aside=[]), (path, {**other, "shard": "1/3"})])


@pytest.mark.parametrize("key", ["planned", "verified", "set_aside", "files_seen"])
def test_an_edited_report_is_refused(key: str) -> None:
    path, made = shard(1, one("a"), set_aside=[])
    made["totals"][key] += 1
    with pytest.raises(IngestError, match=r"r1\.json does not add up"):
        merge([(path, made)])


def test_half_a_report_is_refused() -> None:
    with pytest.raises(IngestError, match="not a complete report"):
        merge([("x.json", {"schema": 1, "sessions": []})])
