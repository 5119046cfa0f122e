"""What is left behind is said: blank files, hidden folders, links; and what --strict takes for a problem."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.dicom_trees import Series, make_session
from tests.unit.test_plan import conflicts, dicom, plan_of, plan_source, reasons, titles
from xnat_ingest.cli import main
from xnat_ingest.core.model import Plan, SetAside
from xnat_ingest.delivery.strict import without_a_rule
from xnat_ingest.inputs import open_source, zeros
from xnat_ingest.inputs.folder import FolderSource
from xnat_ingest.inputs.system_names import is_system_folder

ZEROS = bytes(5000)


@pytest.mark.parametrize("data", [b"", ZEROS, bytes(2_000_001), b"\0"], ids=["empty", "zeros", "many", "one"])
def test_blank_file_among_images_is_a_problem(data: bytes) -> None:
    plan = plan_of({"a/x/T1/1": dicom("1"), "a/x/T1/2": data})
    assert reasons(plan) == {"a/x/T1/2": "blank"}
    assert plan.set_aside[0].is_problem


def test_a_file_that_is_not_all_zeros_is_no_blank() -> None:
    assert reasons(plan_of({"a/x/T1/1": dicom("1"), "a/x/T1/2": bytes(2_000_000) + b"x"})) == {"a/x/T1/2": "not-dicom"}


def test_a_file_of_many_zeros_is_blank_whatever_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with a hole can be larger than any disk."""
    monkeypatch.setattr(zeros, "ENOUGH", 2 * 1024**2)
    far, near = bytes(2 * 1024**2) + b"x", bytes(2 * 1024**2 - 1) + b"x"
    plan = plan_of({"a/x/T1/1": dicom("1"), "a/x/T1/2": far, "a/x/T1/3": near})
    assert reasons(plan) == {"a/x/T1/2": "blank", "a/x/T1/3": "not-dicom"}


def test_series_of_nothing_but_blanks() -> None:
    """Its folder holds no DICOM any more; its session's does."""
    plan = plan_of({"a/x/T1/1": dicom("1"), "a/x/T2/1": ZEROS, "a/x/T2/2": b""})
    assert reasons(plan) == {"a/x/T2/1": "blank", "a/x/T2/2": "blank"}


@pytest.mark.parametrize("place", ["T1/", ""], ids=["in series", "without series"])
def test_a_session_of_nothing_but_blanks(place: str) -> None:
    """As after a copy to a full disk: the other sessions show where images are."""
    lost = {f"b/y/{place}1": b"", f"b/y/{place}2": ZEROS}
    plan = plan_of({f"a/x/{place}1": dicom("1"), **lost})
    assert reasons(plan) == dict.fromkeys(lost, "blank")
    assert reasons(plan_of(lost)) == dict.fromkeys(lost, "not-dicom"), "no image shows that one is expected"
    junk = {f"b/y/{place}{name}": b"x" for name in ("Thumbs.db", ".DS_Store")}
    assert (
        reasons(plan_of({f"a/x/{place}1": dicom("1"), **lost, **junk})).items() >= dict.fromkeys(lost, "blank").items()
    )


@pytest.mark.parametrize("place", ["", "T1/", "T1/deep/"])
def test_a_session_of_nothing_but_blanks_in_another_form(place: str) -> None:
    """The other sessions have series folders. This one has lost all, wherever its files are."""
    lost = {f"b/y/{place}1": b"", f"b/y/{place}2": ZEROS}
    assert reasons(plan_of({"a/x/T1/1": dicom("1"), **lost})) == dict.fromkeys(lost, "blank")
    beside = {f"b/y/{place}notes.txt": b"words"}
    assert set(reasons(plan_of({"a/x/T1/1": dicom("1"), **lost, **beside})).values()) == {"not-dicom"}
    in_sent = {f"b/y/{place}1": b"", "b/y/T2/1": dicom("2")}
    assert reasons(plan_of({"a/x/T1/1": dicom("1"), **in_sent})) == {f"b/y/{place}1": "blank" if place else "not-dicom"}


@pytest.mark.parametrize("place", ["b/y", "b", "b/y/T1/deep/deeper", "a"])
def test_folders_of_nothing_but_files_named_like_images(place: str) -> None:
    """Encrypted files, or web pages in place of them: a whole session may be lost, wherever its files are."""
    lost = {f"{place}/IM{number}.dcm": b"\x85\x02noise" for number in range(3)}
    assert reasons(plan_of({"a/x/T1/1": dicom("1"), **lost})) == dict.fromkeys(lost, "unreadable")
    assert set(reasons(plan_of(lost)).values()) == {"not-dicom"}, "there is nothing to send at all"
    beside = reasons(plan_of({"a/x/T1/1": dicom("1"), **lost, f"{place}/notes.txt": b"words"}))
    assert set(beside.values()) == {"not-dicom"}


def test_a_pointer_without_its_content(tmp_path: Path) -> None:
    """As a clone has it before `git lfs pull`. A text that is none may be anything."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n"
    files = {
        "a/x/T1/1": dicom("1"),
        "b/y/T1/1": pointer,
        "c/z/T1/1": b"/annex/objects/SHA256E-s5--12",
        "d/z/T1/1": b"a",
    }
    plan = plan_of(files)
    assert reasons(plan) == {"b/y/T1/1": "blank", "c/z/T1/1": "blank", "d/z/T1/1": "not-dicom"}
    assert "git lfs pull" in plan.set_aside[0].detail
    assert reasons(plan_of({"a/x/T1/1": dicom("1"), "a/x/T1/notes.txt": pointer})) == {"a/x/T1/notes.txt": "not-dicom"}


@pytest.mark.parametrize("beside", [(), ("notes.txt",)])
def test_a_session_of_nothing_but_links_out_of_root(tmp_path: Path, beside: Sequence[str]) -> None:
    """One link among images may be anything. With a text beside them, the folder may be no session at all."""
    write(tmp_path, {"t/a/x/T1/1": dicom("1"), "elsewhere/1": dicom("2"), "t/b/y/T1/2": b""})
    write(tmp_path, {f"t/b/y/T1/{name}": b"text" for name in beside})
    (tmp_path / "t/b/y/T1/2").unlink()
    for number in (1, 2):
        (tmp_path / f"t/b/y/T1/{number}").symlink_to(tmp_path / "elsewhere/1")
    (tmp_path / "t/a/x/T1/3").symlink_to(tmp_path / "elsewhere/1")
    found = reasons(plan_source(open_source(str(tmp_path / "t"), 2)))
    links = {"b/y/T1/1", "b/y/T1/2"}
    assert {path for path, reason in found.items() if reason == "unreadable"} == (set() if beside else links)
    assert found["a/x/T1/3"] == "link"


@pytest.mark.parametrize(
    "files",
    [
        {"a/x/T1/1": dicom("1"), "a/x/T1/done.flag": b"", "a/x/T1/.hidden": b"", "a/x/T1/Thumbs.db": ZEROS},
        {"a/x/T1/1": dicom("1"), "a/x/T1/scan.nii": b"", "a/x/T1/notes.TXT": b""},
        {"a/x/T1/1": dicom("1"), "README": b"", "a/README": b"", "a/x/1": ZEROS, "b/1": b""},
        {"a/x/T1/1": dicom("1"), "a/x/docs/page": b"text", "a/x/docs/empty": b""},
    ],
    ids=["junk", "other kinds", "elsewhere", "folder of other files"],
)
def test_empty_files_that_were_no_images(files: dict[str, bytes]) -> None:
    assert set(reasons(plan_of(files)).values()) == {"not-dicom"}


@pytest.mark.parametrize(
    "names",
    [
        ("s2/logs/1.err", "s2/logs/1.out"),
        ("s2/notes/COMPLETE",),
        ("code/pkg/__init__.py", "code/pkg/py.typed"),
        ("s2/y/READY",),
        ("s2/y/.touch",),
        ("s2/y/_SUCCESS", "s2/y/job.pid"),
        ("a/x/run/Makefile", "a/x/run/run.sh", "a/x/run/License"),
        ("a/x/T1/done", "a/x/T1/README.gz", "a/x/T1/NOTES;1", "a/x/T1/1.ERR;1"),
    ],
)
def test_empty_files_of_usual_trees(names: Sequence[str]) -> None:
    """Marks, logs and programs. What is lost beside them is told all the same: they say nothing about their folder."""
    empty = dict.fromkeys(names, b"")
    assert reasons(plan_of({"a/x/T1/1": dicom("1"), **empty})) == dict.fromkeys(names, "not-dicom")
    for lost in ("1", "IM0001", "1.2.3"):
        path = f"{names[0].rpartition('/')[0]}/{lost}"
        found = reasons(plan_of({"a/x/T1/0": dicom("1"), **empty, path: ZEROS}))
        assert found == {**dict.fromkeys(names, "not-dicom"), path: "blank"}


@pytest.mark.parametrize("name", ["2", "IM2.dcm"])
def test_a_blank_file_among_copies_of_images(name: str) -> None:
    """The images of the folder are sent from another place, so nothing is sent from it."""
    files = {"a/x/T1/1": dicom("1"), "a/x/copy/1": dicom("1"), f"a/x/copy/{name}": b""}
    assert reasons(plan_of(files))["a/x/copy/1"] == "duplicate"
    assert reasons(plan_of(files))[f"a/x/copy/{name}"] == "blank"
    assert reasons(plan_of({**files, "a/x/copy/list": b"words"}))[f"a/x/copy/{name}"] == "blank"
    assert reasons(plan_of({**files, "a/x/copy/list.txt": b""}))["a/x/copy/list.txt"] == "not-dicom"


def test_a_rule_leaves_blank_files_out() -> None:
    plan = plan_of({"a/x/T1/1": dicom("1"), "a/x/T1/2": ZEROS}, exclude=["path=**/2"])
    assert reasons(plan) == {"a/x/T1/2": "excluded:path=**/2"}
    plan = plan_of({"a/x/T1/1": dicom("1", ImageComments="no"), "a/x/T1/2": ZEROS}, exclude=["ImageComments=no"])
    assert reasons(plan)["a/x/T1/2"] == "not-dicom"


FEW: dict[str, object] = {"series_instances": {"fewer_than": 3}}
MANY: dict[str, object] = {"series_instances": {"more_than": 2}}


@pytest.mark.parametrize("rules", [{"exclude": [FEW]}, {"include": [MANY]}])
@pytest.mark.parametrize("name", ["3", "IM3.dcm"])
def test_a_blank_file_that_a_rule_on_the_number_does_not_count(rules: dict[str, object], name: str) -> None:
    """Had it not been lost, the rule would have let the series pass."""
    files = {f"a/x/T1/{number}": dicom("1", number, "8") for number in (1, 2, 3)}
    files |= {f"a/x/T2/{number}": dicom("1", number, "9") for number in (1, 2)}
    assert "blank" not in reasons(plan_of(files, **rules)).values()
    for data in (ZEROS, b""):
        assert reasons(plan_of({**files, f"a/x/T2/{name}": data}, **rules))[f"a/x/T2/{name}"] == "blank"
    assert reasons(plan_of({**files, "a/x/T2/notes.txt": b""}, **rules))["a/x/T2/notes.txt"] == "not-dicom"


@pytest.mark.parametrize("rules", [{"exclude": [FEW]}, {"include": [MANY]}])
def test_a_link_out_of_root_that_a_rule_on_the_number_does_not_count(tmp_path: Path, rules: dict[str, object]) -> None:
    """It may be the third image of a series that is left out for having two. Without the rule they are sent."""
    write(tmp_path / "elsewhere", {"3": dicom("1", 3, "9"), "list.txt": b"words"})
    write(root := tmp_path / "tree", {f"a/x/T1/{number}": dicom("1", number, "8") for number in (1, 2, 3)})
    write(root, {f"a/x/T2/{number}": dicom("1", number, "9") for number in (1, 2)})
    (root / "a/x/T2/list.txt").symlink_to(tmp_path / "elsewhere/list.txt")
    (root / "a/x/T1/4").symlink_to(tmp_path / "elsewhere/3")
    assert not [one for one in plan_source(open_source(str(root), 2), **rules).set_aside if one.is_problem]
    (root / "a/x/T2/3").symlink_to(tmp_path / "elsewhere/3")
    (told,) = [one for one in plan_source(open_source(str(root), 2), **rules).set_aside if one.is_problem]
    assert (told.path, told.reason, "did not count it" in told.detail) == ("a/x/T2/3", "unreadable", True)
    assert reasons(links(root))["a/x/T2/3"] == "link"
    followed = plan_source(open_source(str(root), 2, follow_links=True), **rules)
    assert (followed.planned, [one for one in followed.set_aside if one.is_problem]) == (6, [])


SYSTEM = (".git", ".snapshot", "@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN", "__MACOSX", ".Trashes")


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


@pytest.mark.parametrize("name", SYSTEM)
def test_system_folders_are_no_subjects(tmp_path: Path, name: str) -> None:
    """Left out and named once, at the top and below; DICOM in them is old copies."""
    write(tmp_path, {"a/x/1": dicom("1"), f"{name}/a/x/1": dicom("1"), f"{name}/a/x/2": dicom("2")})
    write(tmp_path, {f"a/x/{name}/1": dicom("3")})
    plan = plan_source(open_source(str(tmp_path)))
    assert titles(plan) == ["a/a_x"]
    assert reasons(plan) == {name: "system-folder", f"a/x/{name}": "system-folder"}
    assert plan.files_seen == 3
    assert without_a_rule(plan) is None


def test_names_that_only_look_alike_are_taken() -> None:
    assert not any(map(is_system_folder, ("git", "recycle", "eaDir", "lost", "MACOSX")))


def test_resources_take_hidden_folders(tmp_path: Path) -> None:
    write(tmp_path, {".hidden/a": b"x"})
    assert [f.path for f in FolderSource(tmp_path, all_folders=True).files()] == [".hidden/a"]


def links(root: Path) -> Plan:
    return plan_source(open_source(str(root), 2))


@pytest.mark.parametrize(
    ("link", "to"), [("007/latest", "post"), ("007/latest/T1", "../post/T1"), ("007/latest/1", "../post/T1/1")]
)
def test_link_to_another_session(tmp_path: Path, link: str, to: str) -> None:
    """The same session under a second name blocks neither: the link is set aside, named as what it is."""
    write(tmp_path, {"007/post/T1/1": dicom("1"), "007/pre/T1/1": dicom("2")})
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(to)
    plan = links(tmp_path)
    assert sorted(titles(plan)) == ["007/007_post", "007/007_pre"]
    assert conflicts(plan) == []
    assert reasons(plan) == {link: "link"}
    assert "points to 007/post" in plan.set_aside[0].detail


def test_link_to_a_store_is_followed(tmp_path: Path) -> None:
    """A farm of links into a hidden store, or within the session: nothing else leads there."""
    write(tmp_path, {".store/abc": dicom("1"), "007/pre/T1/1": dicom("1", 2)})
    (tmp_path / "007/pre/T1/2").symlink_to("../../../.store/abc")
    (tmp_path / "007/pre/T2").symlink_to("T1")
    plan = links(tmp_path)
    assert [len(s.instances) for s in plan.sessions] == [2]


@pytest.mark.parametrize(
    ("link", "to"), [("007/pre/T2", "../post/.store/T2"), ("007/pre/T2/2", "../../post/.store/T2/2")]
)
def test_link_to_a_store_in_another_session_is_followed(tmp_path: Path, link: str, to: str) -> None:
    """It is hidden there, so nothing else leads to it."""
    write(tmp_path, {"007/pre/T1/1": dicom("1"), "007/post/T1/1": dicom("2"), "007/post/.store/T2/2": dicom("1", 2)})
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(to)
    plan = links(tmp_path)
    assert {s.title.rpartition("/")[2]: len(s.instances) for s in plan.sessions} == {"007_pre": 2, "007_post": 1}
    assert reasons(plan) == {"007/post/.store": "system-folder"}


def test_links_out_of_root(tmp_path: Path) -> None:
    """They are followed when asked for: an annexed tree keeps its files beside ROOT."""
    write(tmp_path, {"annex/objects/k1": dicom("1"), "away/T2/1": dicom("1", 2), "root/007/pre/T1/1": dicom("1", 3)})
    (tmp_path / "root/007/pre/T1/2").symlink_to("../../../../annex/objects/k1")
    (tmp_path / "root/007/pre/T2").symlink_to("../../../away/T2")
    (tmp_path / "away/T2/loop").symlink_to("../T2")
    plan = links(tmp_path / "root")
    assert reasons(plan) == {"007/pre/T1/2": "link", "007/pre/T2": "link"}
    assert all("--follow-links" in aside.detail for aside in plan.set_aside)
    outside: list[str] = []
    plan = plan_source(open_source(str(tmp_path / "root"), 2, follow_links=True, outside=outside))
    assert [len(s.instances) for s in plan.sessions] == [3]
    assert outside == ["007/pre/T1/2", "007/pre/T2"]
    assert reasons(plan) == {"007/pre/T2/loop": "link"}


def test_annexed_file_without_content(tmp_path: Path) -> None:
    write(tmp_path, {"007/pre/T1/1": dicom("1")})
    (tmp_path / "007/pre/T1/2").symlink_to("../../../.git/annex/objects/aa/bb/key/key")
    plan = links(tmp_path)
    assert reasons(plan) == {"007/pre/T1/2": "unreadable"}
    assert "datalad get" in plan.set_aside[0].detail


def test_data_set_as_root(tmp_path: Path) -> None:
    """A DataLad data set: files are links into .git/annex, which is no subject."""
    write(tmp_path, {".git/annex/objects/k": dicom("1"), ".datalad/config": b"x", "007/pre/T1/x": dicom("1", 2)})
    (tmp_path / "007/pre/T1/1").symlink_to("../../../.git/annex/objects/k")
    plan = links(tmp_path)
    assert [len(s.instances) for s in plan.sessions] == [2]
    assert reasons(plan) == {".datalad": "system-folder", ".git": "system-folder"}


def aside_plan(paths: Sequence[tuple[str, str]]) -> Plan:
    return Plan("P", (), tuple(SetAside(*pair) for pair in paths), (), len(paths))


@pytest.mark.parametrize(
    ("path", "reason", "stray"),
    [
        ("a/x/notes.pdf", "not-dicom", True), ("a/x/1", "duplicate", True), ("a/x/2", "server-filter:r", True),
        ("a/x/l", "link", True), ("a/.private", "system-folder", True), ("a/x/b.zip", "nested-archive", True),
        ("a/.DS_Store", "not-dicom", False), ("Thumbs.db", "not-dicom", False), ("a/._1", "not-dicom", False),
        ("DICOMDIR", "dicomdir", False), ("a/scan_4_catalog.xml", "not-dicom", False), ("a", "excluded:r", False),
        ("a/x/1", "session-exists", False), ("a/x/1", "other-shard", False), (".git", "system-folder", False),
        ("__MACOSX/a/1", "system-folder", False),
    ],
)  # fmt: skip
def test_strict(path: str, reason: str, stray: bool) -> None:
    """A file needs a rule of the user's to be left out; junk that systems leave behind does not."""
    problem = without_a_rule(aside_plan([(path, reason)]))
    assert (problem is not None) == stray
    assert problem is None or (problem.spoils and path in problem.detail and reason.partition(":")[0] in problem.detail)


def test_unreadable_folder_names_survive(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xe9")).mkdir()
    assert plan_source(open_source(str(tmp_path))).sessions == ()


def test_empty_folders_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A session whose disk is not mounted, or whose copy never began, looks like this."""
    make_session(tmp_path / "t/a/x", (Series("T1_0001", 1),))
    assert main(["plan", str(tmp_path / "t"), "-P", "DEMO"]) == 0
    assert "empty-folder" not in capsys.readouterr().out
    (tmp_path / "t/a/Erika").mkdir()
    assert main(["plan", str(tmp_path / "t"), "-P", "DEMO"]) == 0
    assert "empty-folder: 1 folder is empty: a/Erika" in capsys.readouterr().out
    (tmp_path / "t/b/y/T1").mkdir(parents=True)
    assert main(["plan", str(tmp_path / "t"), "-P", "DEMO"]) == 0
    assert "empty-folder: 2 folders are empty, among them: a/Erika" in capsys.readouterr().out


def test_places_are_not_named_where_paths_are_hidden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders are often called like patients."""
    make_session(tmp_path / "t/a/x", (Series("T1_0001", 1),))
    make_session(tmp_path / "store/x", (Series("T1_0001", 1),))
    (tmp_path / "t/a/Erika").mkdir()
    (tmp_path / "t/a/Mustermann").symlink_to(tmp_path / "store/x")
    words = ["plan", str(tmp_path / "t"), "-P", "DEMO", "--follow-links", "--redact-paths"]
    assert main([*words, "--subject-label", "S", "--session-label", "S_{StudyInstanceUID}"]) in (0, 3)
    said = "".join(capsys.readouterr())
    assert "empty-folder: 1 folder is empty: n-" in said
    assert "the first is n-" in said
    assert "Erika" not in said
    assert "Mustermann" not in said
