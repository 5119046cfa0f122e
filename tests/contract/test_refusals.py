"""Bad input: each gets a sentence that says what to do, its exit code, and leaves the server as it was."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.conftest import PASSWORD, Ingest
from tests.dicom_trees import Series, make_series, make_session
from tests.standin import StandIn
from tests.standin.model import DEFAULT_TEMPLATE

ONE = (Series("T1_0001", 3),)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_session(tmp_path / "t/S/E", ONE)
    return tmp_path / "t"


def uploads(site: StandIn) -> int:
    return sum(request.body_bytes for request in site.requests)


def test_wrong_password(ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt: tried again, wrong credentials lock the account out."""
    monkeypatch.setenv("XNAT_PASS", "wrong-word")
    ended = ingest("upload", tree)
    assert ended.code == 6
    assert "does not accept user up" in ended.err
    assert site.failed_logins("up") == 1
    assert "wrong-word" not in ended.out + ended.err + json.dumps(ended.report)


def test_unknown_project(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """Files for an unknown project would be rerouted by their headers: nothing is sent."""
    ended = ingest("upload", tree, project="NOPE")
    assert (ended.code, uploads(site), site.rows("DEMO")) == (6, 0, [])
    assert "project NOPE does not exist" in ended.err


@pytest.mark.parametrize("project", ["READONLY", "HIDDEN"])
def test_no_right_on_the_project(ingest: Ingest, site: StandIn, tree: Path, project: str) -> None:
    """The import service would take files from a reader, and closing would refuse: found out before."""
    ended = ingest("upload", tree, project=project)
    assert (ended.code, uploads(site)) == (6, 0)
    assert "access" in ended.err or "rights" in ended.err


def test_unreachable_server(ingest: Ingest, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worth another try: 5."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("XNAT_HOST", f"http://127.0.0.1:{unused.getsockname()[1]}")
        ended = ingest("upload", tree)
    assert ended.code == 5
    assert "cannot reach" in ended.err
    assert "HTTPConnection" not in ended.err


def test_not_an_xnat(ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A web server that is none of XNAT's."""
    monkeypatch.setenv("XNAT_HOST", f"{site.url}/somewhere")
    ended = ingest("upload", tree)
    assert ended.code == 1
    assert "check the address" in ended.err


@pytest.mark.wide
def test_empty_tree(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """4; --allow-empty makes it 0."""
    (tmp_path / "empty/S/E").mkdir(parents=True)
    (tmp_path / "empty/S/E/notes.txt").write_text("no images")
    assert ingest("upload", tmp_path / "empty").code == 4
    assert ingest("upload", tmp_path / "empty", "--allow-empty").code == 0
    assert ingest("plan", tmp_path / "empty").code == 4


USAGE = {
    "unknown config key": (["--config", "{c}"], {"Exlude": []}, "did you mean Exclude?"),
    "config case": (["--config", "{c}"], {"WORKERS": 3}, "did you mean workers?"),
    "both excludes": (["--config", "{c}"], {"Exclude": ["a"], "exclude": []}, "both Exclude and exclude"),
    "bad rule": (["--config", "{c}"], {"exclude": [{"foldr": "x"}]}, "did you mean folder?"),
    "bad keyword": (["--exclude", "SeriesDescripton=x"], None, "did you mean SeriesDescription?"),
    "bad pattern": (["--exclude", "Modality=("], None, "not a regular expression"),
    "bad template": (["--session-label", "{nosuch}"], None, "a DICOM keyword"),
    "foreign flag": (["--overwrite"], None, "--existing overwrite"),
    "foreign flag with value": (["--prearchive=x"], None, "--destination prearchive"),
    "unknown flag": (["--no-such-flag"], None, "--no-such-flag"),
    "no abbreviations": (["--work", "3"], None, "--work"),
    "bad number": (["-w", "0"], None, "--workers"),
    "bad size": (["--part-size", "1T"], None, "--part-size"),
    "label alone": (["-E", "X"], None, "give -S SUBJECT"),
    "subject alone": (["-S", "X"], None, "--layout session"),
    "illegal label": (["-S", "a b", "-E", "c"], None, "-S"),
    "session layout without subject": (["--layout", "session"], None, "give -S SUBJECT"),
    "plain http": (["--server", "http://xnat.example.org"], None, "--allow-http"),
    "no scheme": (["--server", "xnat.example.org"], None, "https://"),
    "password in address": (["--server", "https://me:secret@xnat.example.org"], None, "XNAT_USER"),
}


@pytest.mark.parametrize(("flags", "config", "says"), USAGE.values(), ids=USAGE)
def test_usage_errors_contact_nothing(
    ingest: Ingest, site: StandIn, tree: Path, tmp_path: Path, flags: list[str], config: object, says: str
) -> None:
    """2, a sentence that names the way out, no request."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    ended = ingest("upload", tree, *(flag.replace("{c}", str(path)) for flag in flags))
    assert ended.code == 2
    assert says in ended.err
    assert "secret" not in ended.err
    assert site.requests == []


def test_report_that_cannot_be_written(site: StandIn, ingest: Ingest, tree: Path, tmp_path: Path) -> None:
    """Found out before anything is contacted."""
    ended = ingest("upload", tree, "--report", str(tmp_path / "no" / "such" / "folder.json"))
    assert (ended.code, site.requests) == (2, [])


def test_missing_root(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    ended = ingest("upload", tmp_path / "nowhere")
    assert (ended.code, site.requests) == (2, [])
    assert "cannot read ROOT" in ended.err


CONFLICTS = {
    "two studies in a folder": (["S/E/a", "S/E/b"], ["one", "two"], "two-studies"),
    "one study in two folders": (["S/E/a", "S/F/a"], ["one", "one"], "split-study"),
    "labels that differ in case": (["S/E/a", "S/e/a"], ["one", "two"], "label-collision"),
    "labels that collide": (["S/E_F/a", "S_E/F/a"], ["one", "two"], "label-collision"),
    "two spellings of a subject": (["sub/E/a", "SUB/F/a"], ["one", "two"], "label-collision"),
    "label too long": ([f"S/{'x' * 70}/a"], ["one"], "illegal-label"),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("folders", "seeds", "kind"), CONFLICTS.values(), ids=CONFLICTS)
def test_conflicts_stop_their_sessions_alone(
    ingest: Ingest, site: StandIn, tmp_path: Path, folders: list[str], seeds: list[str], kind: str
) -> None:
    """Nothing of a session in conflict is sent, the others go on, exit 3; `plan` says the same."""
    root = tmp_path / "t"
    for folder, seed in zip(folders, seeds, strict=True):
        make_series(root / folder, Series(f"T1-{seed}-{folder[-3:-2]}", 2), seed, 1)
    make_session(root / "good/one", ONE)
    planned = ingest("plan", root)
    assert (planned.code, planned.totals["failed"], planned.totals["unverified"]) == (3, 2 * len(folders), 3)
    ended = ingest("upload", root)
    assert (ended.code, ended.totals["failed"], ended.totals["verified"]) == (3, 2 * len(folders), 3)
    assert kind in ended.kinds()
    assert [s.label for s in site.sessions("DEMO")] == ["good_one"]
    problem = next(p for p in ended.report["problems"] if p["kind"] == kind)
    assert problem["sessions"]
    assert any(flag in problem["detail"] for flag in ("--session-label", "--subject-label", "--exclude", "-S"))


def test_illegal_characters_are_replaced_and_told(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    make_session(tmp_path / "t/sub 1/pre=a", ONE)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, [s.label for s in site.sessions("DEMO")]) == (0, ["sub_1_pre_a"])
    assert ended.kinds() == ["illegal-label", "illegal-label"]


SERVER_CONFLICTS = ["other-subject", "other-label", "other-study", "sent-by-another-tool", "foreign-row"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", SERVER_CONFLICTS)
def test_conflicts_with_the_server(ingest: Ingest, site: StandIn, tmp_path: Path, kind: str) -> None:
    """What is on the server already is never overwritten by something else; nothing is sent."""
    first, second = tmp_path / "first", tmp_path / "second"
    labels = {"other-subject": ("A", "X"), "other-label": ("S", "OTHER")}.get(kind, ("S", "X"))
    make_series(first, Series("T1_0001", 3), "theirs" if kind == "other-study" else "mine", 1)
    make_series(second, Series("T1_0001", 4), "mine", 1)
    if kind == "sent-by-another-tool":
        site.settings.file_name_template = "${SOPInstanceUID}"
    where = ["--destination", "prearchive"] if kind == "foreign-row" else []
    assert ingest("upload", first, "-S", labels[0], "-E", labels[1], *where).code in (0, 3)
    site.settings.file_name_template = DEFAULT_TEMPLATE  # which every user may read, and name files by
    if kind == "foreign-row":
        site.rows("DEMO")[0].source = "somebody"
    before = {path: path.read_bytes() for path in site.root.rglob("*.dcm")}
    ended = ingest("upload", second, "-S", "S", "-E", "X")
    assert (ended.code, ended.totals["failed"], ended.totals["bytes_sent"]) == (3, 4, 0)
    assert ended.kinds() == [kind]
    assert {path: path.read_bytes() for path in site.root.rglob("*.dcm")} == before
    assert ended.session("X")["verdict"] == "conflict"


@pytest.mark.wide
def test_password_shows_nowhere(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """Not at -vv, not in the report, not in the log; its source does."""
    for flags in (["-vv"], ["-vv", "--log-format", "json"]):
        ended = ingest("upload", tree, *flags)
        assert PASSWORD not in ended.out + ended.err + json.dumps(ended.report)
    text = ingest("upload", tree, "-vv").err
    assert "password = *** (environment XNAT_PASS)" in text
    assert "Doe" not in text
