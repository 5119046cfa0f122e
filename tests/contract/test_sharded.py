"""Several processes share a tree: together they do what one would have done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ingest, hold_laws
from tests.dicom_trees import Series, make_session, part10, uid
from tests.standin import StandIn
from xnat_ingest.cli import main

SUBJECTS = ("007", "008", "009", "010", "Bob", "bob2")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "study"
    for subject in SUBJECTS:
        make_session(root / subject / "pre", (Series("T1_1", 2), Series("Localizers_2", 1)), subject)
    (root / "notes.txt").write_text("x")
    (root / "007" / "pre" / "notes.txt").write_text("x")
    return root


def shards(ingest: Ingest, tree: Path, folder: Path, count: int, *flags: str) -> list[Path]:
    reports = []
    for number in range(1, count + 1):
        ended = ingest("upload", tree, "--shard", f"{number}/{count}", "--exclude", "Localizers,XYZ", *flags)
        assert ended.code == 0, ended.err
        path = folder / f"shard-{number}.json"
        path.write_text(json.dumps(ended.report))
        reports.append(path)
    return reports


def comparable(report: dict[str, Any]) -> dict[str, Any]:
    """A report but for times, attempts and accession ids, which depend on who came first."""
    totals = {k: v for k, v in report["totals"].items() if k not in ("seconds", "requests", "retries")}
    sessions = [
        {k: v for k, v in one.items() if k not in ("began", "seconds", "attempts", "uri")} for one in report["sessions"]
    ]
    aside = sorted((one["path"], one["reason"]) for one in report["set_aside"])
    return {"totals": totals, "sessions": sessions, "aside": aside, "problems": report["problems"]}


@pytest.mark.wide
@pytest.mark.parametrize("count", [1, 3, 8])
def test_shards_do_what_one_run_does(ingest: Ingest, tree: Path, tmp_path: Path, site: StandIn, count: int) -> None:
    reports = shards(ingest, tree, tmp_path, count)
    joined = tmp_path / "all.json"
    assert main(["report", "merge", *map(str, reports), "--report", str(joined)]) == 0
    merged = json.loads(joined.read_text())
    hold_laws(merged)
    assert sum(len(one.files) for one in site.sessions("DEMO")) == 2 * len(SUBJECTS)
    again = ingest("verify", tree, "--exclude", "Localizers,XYZ")
    assert again.code == 0
    expected = comparable(again.report)
    found = comparable(merged)
    for one in (expected, found):
        one["totals"] = {k: one["totals"][k] for k in ("files_seen", "planned", "set_aside", "excluded", "verified")}
        one["sessions"] = [s["label"] for s in one["sessions"]]
    assert found == expected


RAW_DATA = b"1.2.840.10008.5.1.4.1.1.66"  # needs no pixels


def image(study: str, number: int, patient: str = "") -> bytes:
    """An object whose series is its own. patient: its PatientID."""
    sop, study_uid, series = (uid(*words).encode() for words in ((study, number), (study,), ("series", number)))
    return part10(
        {
            0x00080016: ("UI", RAW_DATA),
            0x00080018: ("UI", sop),
            0x00100020: ("LO", patient.encode()),
            0x0020000D: ("UI", study_uid),
            0x0020000E: ("UI", series),
        }
    )


# Path below ROOT -> the study and the PatientID of its image. Some have a foreign study that sorts before their own.
CONFLICTS: dict[str, tuple[Mapping[str, tuple[str, str]], tuple[str, ...]]] = {
    "foreign image": ({"007/a/1": ("X", ""), "s2/b/1": ("Y", ""), "s2/b/2": ("X", "")}, ()),
    "foreign image, sorted otherwise": ({"007/a/1": ("Y", ""), "s2/b/1": ("X", ""), "s2/b/2": ("Y", "")}, ()),
    "foreign images of each other": (
        {"007/a/1": ("X", ""), "007/a/2": ("Z", ""), "s2/b/1": ("Z", ""), "s2/b/2": ("Y", "")},
        (),
    ),
    "one study": ({"007/a/1": ("X", ""), "s2/b/1": ("X", ""), "s3/c/1": ("Z", "")}, ()),
    "one label": ({"007/a/1": ("X", ""), "s2/A/1": ("Y", "")}, ("--session-label", "{session}")),
    "one label, one study": ({"007/a/1": ("X", ""), "s2/A/1": ("X", "")}, ("--session-label", "{session}")),
    "no label": (
        {"007/a/1": ("X", ""), "s2/b/1": ("Y", "")},
        ("--session-label", "{AccessionNumber}"),
    ),
    "one patient": ({"007/a/1": ("X", "p"), "s2/b/1": ("Y", "p")}, ()),
    "two patients": ({"007/a/1": ("X", "p"), "007/b/1": ("Y", "q"), "s2/c/1": ("Z", "q")}, ()),
    "projects": ({"P/007/a/1": ("X", ""), "Q/s2/a/1": ("X", "")}, ("--layout", "project/subject/session")),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_shards_name_the_conflicts_of_one_run(ingest: Ingest, tmp_path: Path, name: str) -> None:
    files, flags = CONFLICTS[name]
    for number, (path, (study, patient)) in enumerate(files.items()):
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / path).write_bytes(image(study, number, patient))
    project = "" if name == "projects" else "DEMO"
    whole = ingest("plan", tmp_path / "tree", *flags, project=project)
    reports = []
    for number in range(1, 6):
        part = ingest("plan", tmp_path / "tree", *flags, "--shard", f"{number}/5", "--allow-empty", project=project)
        reports.append(tmp_path / f"{number}.json")
        reports[-1].write_text(json.dumps(part.report))
    joined = tmp_path / "all.json"
    code = main(["report", "merge", *map(str, reports), "--report", str(joined)])
    assert set(_conflicts(json.loads(joined.read_text()))) == set(_conflicts(whole.report))
    assert code == whole.code


def _conflicts(report: dict[str, Any]) -> list[tuple[str, frozenset[str]]]:
    """The conflicts with their sessions."""
    return [(one["kind"], frozenset(one["sessions"])) for one in report["problems"] if one["sessions"]]


@pytest.mark.parametrize("flags", [(), ("--redact-paths",)])
def test_a_tree_that_grows_between_two_shards(
    ingest: Ingest, tree: Path, tmp_path: Path, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the first shard should have taken came too late for it. Run again, both are complete."""
    reports: list[Path] = []
    for number in (1, 2, 1):
        ended = ingest("upload", tree, "--shard", f"{number}/2", *flags)
        reports.append(tmp_path / f"{len(reports)}.json")
        reports[-1].write_text(json.dumps(ended.report))
        for subject in ("011", "012", "013", "014"):
            make_session(tree / subject / "pre", (Series("T1_1", 2),), subject)
    joined = tmp_path / "all.json"
    assert main(["report", "merge", *map(str, reports[:2]), "--report", str(joined)]) == 3
    merged = json.loads(joined.read_text())
    hold_laws(merged)
    assert [problem["kind"] for problem in merged["problems"]] == ["not-taken"]
    assert "that shard 2/2 left to another shard are in no other report" in capsys.readouterr().out
    assert main(["report", "merge", *map(str, reports), "--report", str(joined)]) == 0


def test_shards_with_different_options(ingest: Ingest, tree: Path, tmp_path: Path) -> None:
    reports = []
    for number, template in ((1, "{subject}"), (2, "x{subject}")):
        ended = ingest("upload", tree, "--shard", f"{number}/2", "--subject-label", template)
        reports.append(tmp_path / f"{number}.json")
        reports[-1].write_text(json.dumps(ended.report))
    assert main(["report", "merge", *map(str, reports), "--report", str(tmp_path / "all.json")]) == 3


def test_only_its_own_part_is_read(ingest: Ingest, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where folders name the subject, the headers of other shards' files are never opened."""
    from xnat_ingest.inputs.folder import FolderSource

    opened: list[str] = []
    real = FolderSource.open

    def watch(self: FolderSource, path: str) -> Any:
        opened.append(path)
        return real(self, path)

    monkeypatch.setattr(FolderSource, "open", watch)
    ended = ingest("plan", tree, "--shard", "1/3")
    ours = {session["subject"] for session in ended.report["sessions"]}
    assert 0 < len(ours) < len(SUBJECTS)
    assert {path.split("/")[0] for path in opened if "/" in path} == ours


@pytest.mark.wide
def test_an_empty_shard_is_no_failure(ingest: Ingest, tree: Path) -> None:
    codes = [ingest("upload", tree, "--shard", f"{k}/40").code for k in range(1, 41)]
    assert set(codes) == {0}


@pytest.mark.wide
def test_one_plan_and_many_shards(ingest: Ingest, tree: Path, tmp_path: Path, site: StandIn) -> None:
    plan = tmp_path / "plan.json"
    assert ingest("plan", tree, "--json", str(plan)).code == 0
    for number in (1, 2, 3):
        ended = ingest("upload", "", "--plan", str(plan), "--shard", f"{number}/3", project="DEMO")
        assert ended.code == 0
        assert {a["reason"] for a in ended.report["set_aside"]} <= {"other-shard", "not-dicom"}
    assert len(site.sessions("DEMO")) == len(SUBJECTS)


@pytest.mark.parametrize(("flags", "code"), [((), 4), (("--allow-empty",), 0)])
def test_a_tree_without_dicom_in_all_shards(ingest: Ingest, tmp_path: Path, flags: tuple[str, ...], code: int) -> None:
    """As of an unmounted disk. One shard may be empty, so it says 0; all of them together end as one run would."""
    (tmp_path / "t/007/pre").mkdir(parents=True)
    (tmp_path / "t/007/pre/notes.txt").write_text("x")
    reports = []
    for number in (1, 2):
        ended = ingest("upload", tmp_path / "t", "--shard", f"{number}/2", *flags)
        assert (ended.code, "shard-empty" in ended.kinds()) == (0, code == 4)
        reports.append(tmp_path / f"{number}.json")
        reports[-1].write_text(json.dumps(ended.report))
    assert main(["report", "merge", *map(str, reports), "--report", str(tmp_path / "all.json")]) == code
    assert ingest("upload", tmp_path / "t", *flags).code == code


@pytest.mark.parametrize("redacts", [False, True])
def test_a_rule_that_only_one_shard_had(ingest: Ingest, tree: Path, tmp_path: Path, redacts: bool) -> None:
    """It sets the files of the others aside, too. With made-up names nobody can tell that they are the same files."""
    reports = []
    for number, rules in ((1, ()), (2, ("--exclude", "T1_1"))):
        flags = (*rules, *(("--redact-paths",) if redacts else ()))
        ended = ingest("upload", tree, "--shard", f"{number}/2", *flags)
        assert ended.code == 0
        reports.append(tmp_path / f"{number}.json")
        reports[-1].write_text(json.dumps(ended.report))
    code = main(["report", "merge", *map(str, reports), "--report", str(tmp_path / "all.json")])
    merged = json.loads((tmp_path / "all.json").read_text())
    told = [one["detail"] for one in merged["problems"] if one["kind"] == "not-taken"]
    assert (code, len(told)) == ((0, 0) if redacts else (3, 1))
    assert all("planned in one shard and set aside in another" in one for one in told)
