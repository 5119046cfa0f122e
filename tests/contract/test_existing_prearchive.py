"""What is in the prearchive already: our rows, stuck rows, other tools' rows, rows that somebody is working on."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.conftest import PASSWORD, Ingest, stored
from tests.dicom_trees import Series, make_series, make_session
from tests.standin import Fault, Row, StandIn
from tests.standin.samples import Client
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.client import XnatClient

T1 = Series("T1_0001", 4)
SR = Series("SR_0002", 2, "test-SR.dcm")
MODES = ("resume", "skip", "overwrite", "fail")
OURS = {"PROJECT_ID": "DEMO", "SUBJECT_ID": "S", "EXPT_LABEL": "S_E"}
OTHER_NAMES = "${SOPInstanceUID}"
PART = "POST /data/services/import.*PREARC_TIMESTAMP"
Acting = Callable[[Callable[[], object]], None]


class Other:
    """Somebody else who sends to the site: another run of this program, or another tool."""

    def __init__(self, site: StandIn) -> None:
        self.site = site
        self.client = Client(site.url, "up", PASSWORD).login()

    def send(self, paths: Iterable[Path], *, build: bool = False, **query: Any) -> Row:
        """The row that took these files; with the parameters of this program, unless others are given."""
        reply = self.client.send({path.name + path.parent.name: path.read_bytes() for path in paths}, **(OURS | query))
        assert reply.status == 200
        row = self.site.prearchive.find(*reply.text.strip().split("/")[4:7])
        assert row is not None
        if build:
            assert self.client("POST", f"/data{row.url}", action="build").status == 200
        return row


@pytest.fixture
def other(site: StandIn) -> Iterator[Other]:
    sender = Other(site)
    yield sender
    sender.client.close()


@pytest.fixture
def tree(tmp_path: Path) -> list[Path]:
    """The files of S/E: 4 with pixels, then 2 without."""
    return make_session(tmp_path / "t/S/E", (T1, SR), "study")


def size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def cut(row: Row, mark: str, keep: int) -> None:
    """Leaves of one stored file what an interrupted transfer may leave."""
    path = next(path for name, path in row.files.items() if mark in name)
    path.write_bytes(path.read_bytes()[:keep])


def whole(site: StandIn, tree: list[Path]) -> None:
    """Every instance exactly once, as in its file; no row left."""
    kept = sorted(path.read_bytes()[132:] for session in site.sessions("DEMO") for path in session.files.values())
    assert kept == sorted(path.read_bytes()[132:] for path in tree)
    assert site.rows("DEMO") == []


# what our row holds: how many files of the tree, and the part of the tree that is still to be sent
HOLDS: dict[str, tuple[str, slice, tuple[str, int] | None, slice]] = {
    "receiving, all": ("RECEIVING", slice(6), None, slice(4, 6)),
    "receiving, some": ("RECEIVING", slice(3), None, slice(3, 6)),
    "receiving, a cut file": ("RECEIVING", slice(4), ("-1-4-", 3000), slice(3, 6)),
    "receiving, an object without pixels cut": ("RECEIVING", slice(6), ("-2-2-", 5000), slice(4, 6)),
    "interrupted, all": ("RECEIVING_INTERRUPT", slice(6), None, slice(4, 6)),
    "ready, all": ("READY", slice(6), None, slice(0)),
    "ready, some": ("READY", slice(5), None, slice(5, 6)),
    "ready, a cut file": ("READY", slice(6), ("-1-4-", 3000), slice(3, 4)),
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("name", "mode"), [*((name, "resume") for name in HOLDS), *(("ready, some", mode) for mode in MODES[1:])]
)
def test_our_prearchive_session_is_completed(
    ingest: Ingest, site: StandIn, other: Other, tree: list[Path], tmp_path: Path, name: str, mode: str
) -> None:
    """What a row of ours holds whole is not sent again, the rest is; then it is closed. With overwrite all is sent,
    since what lies in the row may be old copies: what it holds whole is sent once it is archived, into a row of its
    own. Until then nothing tells a new copy from an old one."""
    status, holds, broken, lacks = HOLDS[name]
    row = other.send(tree[holds], build=status == "READY")
    row.status = status
    if broken:
        cut(row, *broken)
        row.built = None if status != "READY" else row.built
    ended = ingest("upload", tmp_path / "t", "--existing", mode)
    assert (ended.code, ended.session("S_E")["verdict"], ended.kinds()) == (0, "verified", []), ended.out
    assert ended.totals["bytes_sent"] == size(tree if mode == "overwrite" else tree[lacks])
    whole(site, tree)


@pytest.mark.parametrize("destination", ["archive", "prearchive"])
@pytest.mark.parametrize("there", [2, 3, 4])
def test_an_open_one_that_another_client_has_named_is_completed(
    ingest: Ingest, site: StandIn, other: Other, tmp_path: Path, destination: str, there: int
) -> None:
    """Its copies would stay beside ours, which have other names. Their headers tell that they are there."""
    tree = make_session(tmp_path / "t/S/E", [T1], "study")
    row = other.send(tree[:there], rename="false")
    assert not any(name.startswith("1.2") for name in row.files)
    ended = ingest("upload", tmp_path / "t", "--destination", destination)
    assert ended.code == 0, ended.out
    assert ended.totals["bytes_sent"] == size(tree[there:])
    on_disk = [path.read_bytes()[132:] for path in site.root.rglob("*") if path.is_file()]
    assert sorted(on_disk) == sorted(path.read_bytes()[132:] for path in tree)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", HOLDS)
def test_old_copies_in_our_prearchive_session_are_overwritten(
    ingest: Ingest, site: StandIn, other: Other, tree: list[Path], tmp_path: Path, name: str
) -> None:
    """None of them is left, and what is whole there is not sent into the row first. Only what a build will move is,
    while that can be."""
    status, holds, broken, _ = HOLDS[name]
    twice = slice(0) if status == "READY" else slice(4, 6)
    old = [tmp_path / "old" / path.relative_to(tmp_path) for path in tree]
    for path, copy in zip(tree, old, strict=True):
        copy.parent.mkdir(parents=True, exist_ok=True)
        dataset = pydicom.dcmread(path)
        dataset.InstitutionName = dataset.get("InstitutionName", "")[::-1]
        dataset.save_as(copy)
        dataset.InstitutionName = dataset.InstitutionName[::-1]
        dataset.save_as(path)
    row = other.send(old[holds], build=status == "READY")
    row.status = status
    if broken:
        cut(row, *broken)
        row.built = None if status != "READY" else row.built
    ended = ingest("upload", tmp_path / "t", "--existing", "overwrite")
    assert (ended.code, ended.session("S_E")["verdict"], ended.kinds()) == (0, "verified", []), ended.out
    assert ended.totals["bytes_sent"] == size([*tree, *tree[twice]])
    whole(site, tree)


@pytest.mark.wide
def test_our_prearchive_session_with_nothing_of_the_plan(
    ingest: Ingest, site: StandIn, other: Other, tree: list[Path], tmp_path: Path
) -> None:
    """What else a row of ours holds goes into the archive with it: nothing is deleted."""
    extra = make_series(tmp_path / "extra", Series("T9_0009", 2), "study", 9)
    other.send(extra)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"], ended.totals["bytes_sent"]) == (0, 6, size(tree))
    whole(site, tree + extra)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("keep", [5000, 6700])
def test_row_built_by_a_run_that_was_then_killed(
    ingest: Ingest, site: StandIn, other: Other, tree: list[Path], tmp_path: Path, keep: int
) -> None:
    """READY does not mean undisturbed: a run may have built the row, and been killed before it sent again what was
    cut off. An object without pixels that is cut must not reach the archive as verified."""
    row = other.send(tree)
    cut(row, "-2-2-", keep)
    assert other.client("POST", f"/data{row.url}", action="build").status == 200
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"]) == (0, 6)
    whole(site, tree)


@pytest.mark.wide
def test_names_in_the_prearchive_session_that_the_archive_has_are_overwritten_at_the_first_commit(
    ingest: Ingest, site: StandIn, other: Other, tmp_path: Path
) -> None:
    """overwrite_files is asked for as soon as one name in the row is in the archive, not after a CONFLICT."""
    files = make_session(tmp_path / "t/S/E", (T1, Series("T2_0002", 3)), "study")
    row = other.send(files[:4], build=True)
    assert other.client("POST", f"/data{row.url}", action="commit", AA="true").status == 301
    other.send(files)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["bytes_sent"]) == (0, 0)
    whole(site, files)
    commits = [r.query.get("overwrite_files") for r in site.requests if r.query.get("action") == "commit"]
    assert commits == [None, "true"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("status", ["CONFLICT", "ERROR"])
@pytest.mark.parametrize(
    "log",
    [
        "Session processing may already be in progress: Transfer.  Concurrent modification is discouraged.",
        "Duplicate archive attempt. Prearchive session already archiving.",
        "Session already exists with matching files.",
    ],
)
def test_stuck_for_a_cause_that_passed(
    ingest: Ingest, site: StandIn, other: Other, tree: list[Path], tmp_path: Path, status: str, log: str
) -> None:
    """Such a row is built, compared and closed once more."""
    row = other.send(tree, build=True)
    row.status = status
    row.log(log)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"]) == (0, 6), ended.out
    whole(site, tree)


def archived_and_deleted(ingest: Ingest, site: StandIn, root: Path) -> None:
    assert ingest("upload", root).code == 0
    site.project("DEMO").access["up"] = "delete"
    person = Client(site.url, "up", PASSWORD).login()
    assert person("DELETE", "/data/projects/DEMO/experiments/S_E").status == 200
    person.close()


@pytest.mark.parametrize("destination", ["archive", "direct-archive"])
def test_overwrite_replaces_what_a_deleted_session_left(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, destination: str
) -> None:
    """In the first run already."""
    root = tmp_path / "t"
    archived_and_deleted(ingest, site, root)
    ended = ingest("upload", root, "--existing", "overwrite", "--destination", destination)
    assert (ended.code, ended.kinds(), ended.totals["verified"]) == (0, ["live-row"], 6), ended.out
    whole(site, tree)


@pytest.mark.parametrize("transport", ["archive", "gradual"])
def test_what_a_deleted_session_left_is_in_the_way(
    ingest: Ingest, site: StandIn, tree: list[Path], tmp_path: Path, transport: str
) -> None:
    """XNAT deletes a session without its files, unless it is told otherwise. Nobody else is sending anything."""
    root = tmp_path / "t"
    archived_and_deleted(ingest, site, root)
    for _ in range(2):
        ended = ingest("upload", root, "--transport", transport)
        assert (ended.code, ended.session("S_E")["verdict"], "files-in-the-way" in ended.kinds()) == (3, "failed", True)
        assert "Session already exists with matching files" in ended.out
        assert [(row.status, len(row.files)) for row in site.rows("DEMO")] == [("CONFLICT", 6)]
        commits = [r.query.get("overwrite_files") for r in site.requests if r.query.get("action") == "commit"]
        assert "true" not in commits
    assert ingest("upload", root, "--existing", "overwrite").code == 0
    assert ingest("verify", root).code == 0
    whole(site, tree)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("status", "mode"), [("ERROR", "resume"), *(("CONFLICT", mode) for mode in MODES)])
def test_stuck_for_another_cause(
    ingest: Ingest, site: StandIn, other: Other, tree: list[Path], tmp_path: Path, status: str, mode: str
) -> None:
    """A conflict with the server's own words; the row and what it holds stay as they are."""
    row = other.send(tree, build=True)
    row.status = status
    row.log("Invalid modification of session modality via archive process.")
    ended = ingest("upload", tmp_path / "t", "--existing", mode)
    assert (ended.code, ended.session("S_E")["verdict"], ended.kinds()) == (3, "conflict", ["stale-row"])
    assert "Invalid modification of session modality" in ended.out
    assert row.url in ended.out
    assert "Files that only the prearchive session holds are gone then" in ended.out
    untouched(site, row, status, ended.totals["bytes_sent"])


@pytest.mark.parametrize(
    ("log", "way"),
    [
        ("Invalid modification of session UID via archive process.", "delete the archived session in XNAT"),
        ("Invalid modification of session modality via archive process.", "images of the session's own type"),
        ("Session already contains a scan with the same UID, but a different number (3).", "series of that Series"),
    ],
)
def test_what_helps_where_xnat_would_refuse_it_again(
    ingest: Ingest, other: Other, tree: list[Path], tmp_path: Path, log: str, way: str
) -> None:
    """Deleting it and running again would end in the same place."""
    row = other.send(tree, build=True)
    row.status = "CONFLICT"
    row.log(log)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds()) == (3, ["stale-row"])
    assert "If XNAT refuses it again" in ended.out
    assert way in ended.out


def untouched(site: StandIn, row: Row, status: str, sent: int) -> None:
    assert sent == 0
    assert [(one.url, one.status, len(one.files)) for one in site.rows("DEMO")] == [(row.url, status, len(row.files))]
    assert site.sessions("DEMO") == []
    assert "DELETE" not in [r.method for r in site.requests if "JSESSION" not in r.path]


FOREIGN: dict[str, dict[str, Any]] = {
    "another tool's": {"SOURCE": ""},
    "the desktop client's": {"prevent_anon": "true"},
    "closing by itself": {"prevent_auto_commit": "false"},
    "of another subject": {"SUBJECT_ID": "T"},
    "of the same study under another label": {"EXPT_LABEL": "other"},
}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("name", "mode"),
    [*((name, "resume") for name in [*FOREIGN, "of another study"]), *(("another tool's", m) for m in MODES[1:])],
)
def test_row_that_is_not_ours(
    ingest: Ingest, site: StandIn, other: Other, tree: list[Path], tmp_path: Path, name: str, mode: str
) -> None:
    """Nothing is sent into it, and it is not closed: that would archive it under somebody else's terms."""
    paths = tree if name in FOREIGN else make_series(tmp_path / "x", T1, "another study", 1)
    row = other.send(paths, build=True, **FOREIGN.get(name, {}))
    ended = ingest("upload", tmp_path / "t", "--existing", mode)
    assert (ended.code, ended.session("S_E")["verdict"], ended.kinds()) == (3, "conflict", ["foreign-row"])
    assert row.url in ended.out
    untouched(site, row, "READY", ended.totals["bytes_sent"])


BUSY = ["BUILDING", "ARCHIVING", "MOVING", "SEPARATING", "DELETING"]
BUSY = [*BUSY, *(f"_{word}" for word in BUSY), *(f"QUEUED_{word}" for word in BUSY)]
BUSY = [*BUSY, "_CONFLICT", "_RECEIVING", "_RECEIVING_INTERRUPT"]


@pytest.mark.parametrize("status", [*BUSY, "RECEIVING", "RECEIVING_INTERRUPT", "READY", "CONFLICT", "ERROR"])
def test_which_prearchive_sessions_the_server_works_on(status: str) -> None:
    """In these statuses files that are sent can be lost."""
    row = prearchive.PrearchiveSession("DEMO", "1", "S_E", "S_E", "S", "1.2", status, "uploader", False, True, "")
    assert row.is_busy == (status in BUSY)


@contextmanager
def later(act: Callable[[], object], seconds: float = 0.25) -> Iterator[None]:
    timer = threading.Timer(seconds, act)
    timer.start()
    yield
    timer.join()


@pytest.mark.wide
@pytest.mark.parametrize("status", ["BUILDING", "_ARCHIVING", "QUEUED_ARCHIVING", "_RECEIVING"])
def test_row_the_server_works_on(
    ingest: Ingest, site: StandIn, other: Other, tree: list[Path], tmp_path: Path, status: str
) -> None:
    """Nothing is sent while the server works on it; when it has done, the row is compared and closed."""
    row = other.send(tree, build=True)
    row.status = status
    with later(lambda: setattr(row, "status", "READY")):
        ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"], ended.totals["bytes_sent"]) == (0, 6, 0)
    whole(site, tree)


@pytest.mark.wide
def test_row_being_archived_is_waited_for(
    ingest: Ingest, site: StandIn, other: Other, tree: list[Path], tmp_path: Path
) -> None:
    """What was a row becomes the archived session while we wait: everything is there already."""
    row = other.send(tree, build=True)
    site.faults.add(Fault("slow-archive", seconds=0.6))
    closing = threading.Thread(target=other.client, args=("POST", f"/data{row.url}"), kwargs={"action": "commit"})
    closing.start()
    while row.status != "_ARCHIVING":
        time.sleep(0.005)
    ended = ingest("upload", tmp_path / "t")
    closing.join()
    assert (ended.code, ended.totals["already_there"], ended.totals["bytes_sent"]) == (0, 6, 0)
    whole(site, tree)


@pytest.mark.parametrize("step", ["build", "files", "was_built"])
@pytest.mark.parametrize("destination", ["archive", "prearchive"])
def test_row_that_another_run_archives_between_two_looks(
    ingest: Ingest,
    site: StandIn,
    other: Other,
    tree: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    destination: str,
) -> None:
    """It has gone while its files are being listed. All of them are in the archive by then."""
    row = other.send(tree)
    work = getattr(prearchive, step)

    def then_archived(rest: XnatClient, uri: str) -> Any:
        found = work(rest, uri)
        first = [next(found)] if step == "files" else []
        if site.rows("DEMO"):
            assert other.client("POST", f"/data{row.url}", action="commit").status == 301
        return itertools.chain(first, found) if step == "files" else found

    monkeypatch.setattr(prearchive, step, then_archived)
    ended = ingest("upload", tmp_path / "t", "--destination", destination)
    assert (ended.code, ended.session("S_E")["verdict"], ended.totals["verified"]) == (0, "verified", 6), ended.out
    assert ended.kinds() == ["live-row"]
    whole(site, tree)


@pytest.fixture
def after_each_build(monkeypatch: pytest.MonkeyPatch) -> Acting:
    """Lets somebody else act on the site each time that the program has let it build a row."""
    build = prearchive.build

    def let(act: Callable[[], object]) -> None:
        def built(rest: XnatClient, uri: str) -> None:
            build(rest, uri)
            act()

        monkeypatch.setattr(prearchive, "build", built)

    return let


@pytest.mark.parametrize("changed", [{"subject": "strange"}, {"label": "renamed"}, {"subject": "s"}])
def test_row_that_is_given_other_labels_before_the_last_look(
    ingest: Ingest,
    site: StandIn,
    tree: list[Path],
    tmp_path: Path,
    after_each_build: Acting,
    changed: dict[str, str],
) -> None:
    """It is to stay in the prearchive, and would be archived under them. The case of a subject tells nothing."""
    after_each_build(lambda: vars(site.rows("DEMO")[0]).update(changed))
    ended = ingest("upload", tmp_path / "t", "--destination", "prearchive")
    if changed == {"subject": "s"}:
        assert (ended.code, ended.totals["verified"]) == (0, 6)
        return
    assert (ended.code, ended.totals["failed"], ended.kinds()) == (3, 6, ["foreign-row"]), ended.out
    assert next(iter(changed.values())) in ended.out
    assert "xnat-ingest prearchive archive -P DEMO" in ended.out


def test_row_that_somebody_deletes_between_two_looks(
    ingest: Ingest,
    site: StandIn,
    other: Other,
    tree: list[Path],
    tmp_path: Path,
    after_each_build: Acting,
) -> None:
    """What has gone with it is sent again."""
    row = other.send(tree)

    def delete() -> None:
        if row in site.rows("DEMO"):
            assert other.client("DELETE", f"/data{row.url}").status == 200

    after_each_build(delete)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"], ended.kinds()) == (0, 6, ["live-row"]), ended.out
    whole(site, tree)


@pytest.mark.wide
def test_row_that_stays_busy(
    ingest: Ingest,
    site: StandIn,
    other: Other,
    tree: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Past the limit the run says so and leaves everything as it is."""
    monkeypatch.setattr(prearchive, "SETTLE_LIMIT", 0.3)
    row = other.send(tree, build=True)
    row.status = "_ARCHIVING"
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds()) == (3, ["live-row"])
    untouched(site, row, "_ARCHIVING", ended.totals["bytes_sent"])


@pytest.mark.wide
@pytest.mark.parametrize("query", [{}, {"SOURCE": ""}], ids=["ours", "foreign"])
def test_leftover_prearchive_session_beside_a_complete_archive(
    ingest: Ingest, site: StandIn, other: Other, tree: list[Path], tmp_path: Path, query: dict[str, Any]
) -> None:
    """The archive alone holds everything: the row is named and never closed."""
    ingest("upload", tmp_path / "t")
    row = other.send(tree[:2], **query)
    commits = sum(r.query.get("action") == "commit" for r in site.requests)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.session("S_E")["verdict"], ended.kinds()) == (0, "verified", ["stale-row"])
    assert (ended.totals["bytes_sent"], row.url in ended.out) == (0, True)
    assert [(one.url, one.status) for one in site.rows("DEMO")] == [(row.url, "RECEIVING")]
    assert sum(r.query.get("action") == "commit" for r in site.requests) == commits
    assert len(stored(site, "DEMO", "S", "S_E").files) == 6


@pytest.mark.parametrize("archived", [0, 2])
def test_verify_names_the_prearchive_session_that_holds_the_rest(
    ingest: Ingest, site: StandIn, tmp_path: Path, archived: int
) -> None:
    """The session has an address in the archive, too, where the others are not."""
    folder = tmp_path / "t/S/E"
    if archived:
        make_session(folder, [Series("T1_0001", archived)], "study")
        assert ingest("upload", tmp_path / "t").code == 0
    make_session(folder, [T1], "study")
    ingest("upload", tmp_path / "t", "--destination", "prearchive")
    (row,) = site.rows("DEMO")
    ended = ingest("verify", tmp_path / "t")
    assert (ended.code, ended.totals["verified"]) == (0, 4)
    (note,) = (problem["detail"] for problem in ended.report["problems"] if problem["kind"] == "not-archived")
    assert f"{4 - archived} instances are in the prearchive (/data{row.url}), not in the archive" in note
