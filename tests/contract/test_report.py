"""The report file and the two reporters: what they hold, how they are written, and what they never show."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ingest
from tests.contract.test_totals import E1, E2, OK, outcome, plan
from tests.dicom_trees import PATIENT, Series, make_session, no_privileges, open_folder
from tests.schemas import check_event
from tests.unit.test_plan import plan_source
from xnat_ingest import __version__
from xnat_ingest.cli import outputs
from xnat_ingest.core.atomic_file import check_writable
from xnat_ingest.core.errors import IngestError, UsageError
from xnat_ingest.core.model import Event, Outcome, Problem, Result, SetAside, VerdictWord
from xnat_ingest.delivery.totals import count_verdicts
from xnat_ingest.inputs import open_source
from xnat_ingest.report import make_reporter, write
from xnat_ingest.report.document import document
from xnat_ingest.report.lines import result_lines
from xnat_ingest.report.progress import ProgressDisplay, amount
from xnat_ingest.report.reporters import JsonReporter, TextReporter
from xnat_ingest.settings.options import Settings

BAD_NAME = os.fsdecode(b"caf\xe9\n\x1b[31m")
KEYS = "schema tool command started finished exit_code server project destination transport totals"
TOTALS = "files_seen planned set_aside excluded verified counted missing failed unverified already_there bytes_planned"
TRAFFIC = "bytes_sent requests retries seconds"
SESSION = "project subject label study_uid uri verdict instances bytes attempts scans missing problems seconds"
SCAN = "id series_uid description modality instances verified"


def result_of(*outcomes: Outcome, code: int = 0, command: str = "upload", **changes: Any) -> Result:
    """A run that ended with these outcomes."""
    of = plan([one.session for one in outcomes], "not-dicom", "truncated")
    made = Result(command, of, outcomes, (), {}, code, "2024-01-01T00:00:00+00:00", "2024-01-01T00:00:09+00:00")
    made = replace(made, server="https://x", destination="archive", transport="archive", **changes)
    return replace(made, totals={**count_verdicts(made.plan, outcomes), **dict.fromkeys(TRAFFIC.split(), 0)})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_document_has_the_keys_of_the_contract() -> None:
    """Added to, never changed: `began`, `folder` and `unproven` are this program's own."""
    problem = Problem("stale-row", "a row is left", ("e2",))
    verdict = replace(outcome(E2, "missing").verdict, problems=(problem,), uri="/prearchive/x")
    made = document(result_of(OK, Outcome(E2, verdict, 1.23456, 2), code=3, problems=(problem,)))
    assert list(made) == f"{KEYS} sessions set_aside problems".split()
    assert (made["schema"], made["tool"]) == (1, {"name": "xnat-ingest-container", "version": __version__})
    assert set(made["totals"]) == set(f"{TOTALS} {TRAFFIC}".split())
    first, second = made["sessions"]
    assert set(first) == {*SESSION.split(), "began", "folder", "unproven"}
    assert [set(scan) for scan in first["scans"]] == [{*SCAN.split(), "study_uid", "folder"}]
    assert made["set_aside"][0] == {"path": "aside0", "reason": "not-dicom", "detail": ""}
    assert made["problems"] == [{"kind": "stale-row", "detail": "a row is left", "sessions": ["e2"]}]
    assert second["problems"] == made["problems"]
    assert (second["verdict"], second["uri"], second["attempts"], second["seconds"]) == (
        "missing",
        "/prearchive/x",
        2,
        1.235,
    )
    assert second["missing"] == sorted(i.sop_uid for i in E2.instances)
    assert (first["missing"], first["scans"][0]["verified"], second["scans"][0]["verified"]) == ([], 2, 0)


def test_every_instance_that_is_not_proven_is_named_with_its_reason() -> None:
    """Missing, failed and unverified ones, with their files; in a plan nothing could be proven yet."""
    words: list[VerdictWord] = ["missing", "failed", "unverified"]
    for word in words:
        unproven = document(result_of(outcome(E1, word)))["sessions"][0]["unproven"]
        named = [tuple(item[key] for key in ("sop_uid", "path", "state", "why")) for item in unproven]
        assert named == [(i.sop_uid, i.path, word, "why") for i in E1.instances]
    assert document(result_of(outcome(E1, "unverified"), command="plan"))["sessions"][0]["unproven"] == []


def test_the_file_is_the_document_and_private(tmp_path: Path) -> None:
    """Mode 0600, or what the container service needs; nothing else is left in the folder."""
    path = tmp_path / "report.json"
    for mode in (0o600, 0o644):
        write(str(path), result_of(OK), mode=mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert json.loads(path.read_text("utf-8")) == document(result_of(OK))
    write(str(path), result_of(OK))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["report.json"]


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 200 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_leaves_the_old_report(tmp_path: Path) -> None:
    """Complete or not at all, and no scraps beside it."""
    path = tmp_path / "report.json"
    path.write_text("old")
    with full_disk(), pytest.raises(IngestError, match="could not be written"):
        write(str(path), result_of(OK))
    with pytest.raises(TypeError):
        write(str(path), replace(result_of(OK), totals={"planned": object()}))  # type: ignore[dict-item]
    assert path.read_text() == "old"
    assert names(tmp_path) == ["report.json"]


@pytest.mark.parametrize("kind", ["folder", "no-folder", "below-a-file", "pipe", "device"])
def test_a_path_that_can_hold_no_report_is_refused_beforehand(kind: str, tmp_path: Path) -> None:
    """Exit 2 before anything is contacted; a pipe or device must not be replaced by a file."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    paths = {"folder": ".", "no-folder": "none/report.json", "below-a-file": "file/report.json", "pipe": "pipe"}
    before = names(tmp_path)
    with pytest.raises(UsageError, match="--report") as caught:
        check_writable("/dev/null" if kind == "device" else str(tmp_path / paths[kind]), "--report")
    assert caught.value.exit_code == 2
    assert names(tmp_path) == before


def test_a_folder_without_permission_is_refused_beforehand() -> None:
    """And a path that will do leaves nothing behind, not even an emptied old report."""
    with open_folder() as root:
        (root / "shut").mkdir(mode=0o555)
        with no_privileges(), pytest.raises(UsageError, match="--report"):
            check_writable(str(root / "shut/report.json"), "--report")
        (root / "shut").rmdir()
        (root / "old.json").write_text("old")
        for name in ("old.json", "new.json"):
            check_writable(str(root / name), "--report")
        assert (names(root), (root / "old.json").read_text()) == (["old.json"], "old")


def test_names_that_are_no_unicode_give_valid_json(tmp_path: Path) -> None:
    """In paths, folders, reasons and problems; one line each, no escape sequences."""
    one = replace(E1, folder=BAD_NAME, instances=tuple(replace(i, path=BAD_NAME) for i in E1.instances))
    made = result_of(outcome(one, "failed"), code=3)
    aside = (SetAside(BAD_NAME, f"excluded:{BAD_NAME}", "x"), SetAside(BAD_NAME, "unreadable"))
    made = replace(made, plan=replace(made.plan, set_aside=aside))
    path = tmp_path / "report.json"
    write(str(path), made)
    text = path.read_text("ascii")
    assert json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")  # a lone surrogate is no character
    assert json.loads(text)["set_aside"][0]["path"] == "caf\\xe9\\n\\x1b[31m"
    out = io.StringIO()
    TextReporter(io.StringIO(), out).end(made, BAD_NAME)
    assert out.getvalue().encode("utf-8")
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize("reporter", [JsonReporter, TextReporter])
def test_the_last_line_is_the_contract(reporter: type[JsonReporter | TextReporter]) -> None:
    """`N planned, N verified, N missing, N failed, N set aside: exit C`, alone on the last line of stdout."""
    log, out = io.StringIO(), io.StringIO()
    reporter(log, out).end(result_of(OK, outcome(E2, "missing"), code=3), "report.json")
    assert out.getvalue().endswith("\n")
    assert out.getvalue().splitlines()[-1] == "4 planned, 2 verified, 2 missing, 0 failed, 2 set aside: exit 3"


def test_json_lines_end_with_a_summary_and_the_error() -> None:
    """Each line has schema, time, level and event; block by block progress is no line."""
    log = io.StringIO()
    reporter = JsonReporter(log, io.StringIO())
    reporter.emit(Event("warning", {"text": "x\ny"}))
    reporter.emit(Event("progress", {"session": "s", "instances": 1, "bytes": 1}))
    reporter.end(result_of(outcome(E1, "missing"), code=3), "")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["warning", "summary", "exit_error"]
    assert [line["level"] for line in lines] == ["warning", "info", "error"]
    assert all(line["schema"] == 1 and line["time"].endswith("+00:00") for line in lines)
    assert (lines[1]["exit_code"], lines[1]["totals"]["missing"]) == (3, 2)


def test_the_faces_are_chosen_by_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """--log-format json, -q, and -vv for every setting; results go to stdout, all else to stderr."""
    for settings, shown in ((Settings(), 1), (Settings(quiet=True), 0), (Settings(verbose=2), 2)):
        reporter = make_reporter(settings)
        reporter.emit(Event("plan", {"sessions": [], "instances": 0, "bytes": 0, "set_aside": {"not-dicom": 2}}))
        reporter.emit(Event("setting", {"text": "a = b"}))
        assert len(capsys.readouterr().err.splitlines()) == shown
    for verbose in (0, 1, 2):
        make_reporter(Settings(log_format="json", verbose=verbose)).emit(Event("setting", {"text": "a = b"}))
        said = capsys.readouterr()
        assert bool(said.err) is (verbose == 2)
    assert (said.out, json.loads(said.err)["text"]) == ("", "a = b")


NOTES = [f"P/S/E{n}: the server is busy (/data/prearchive/projects/P/2024/E{n}); waiting" for n in range(5)]


def test_notes_that_come_again_are_told_once_and_counted() -> None:
    """For people, notes that differ only in the session count as alike, and three of them are told."""
    log, out = io.StringIO(), io.StringIO()
    reporter = TextReporter(log, out)
    for text in ("same", "same", "other", "same", *NOTES, *NOTES[:2]):
        reporter.emit(Event("warning", {"text": text}))
    told = [f"warning {text}" for text in ("same", "other", *NOTES[:3])]
    assert log.getvalue().splitlines() == told
    reporter.end(result_of(OK), "")
    counted = ["warning same (3 times in all)", f"warning {NOTES[0]} (7 times in all)"]
    assert log.getvalue().splitlines() == [*told, *counted]


def test_equal_notes_are_one_json_line_and_a_count() -> None:
    """Machines get every note that differs."""
    log = io.StringIO()
    reporter = JsonReporter(log, io.StringIO())
    for text in ("same", "same", *NOTES):
        reporter.emit(Event("warning", {"text": text}))
    for text in ("same", "same"):
        reporter.emit(Event("error", {"text": text}))  # an error is never a repetition
    reporter.end(result_of(OK), "")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["text"] for line in lines[:-1]] == ["same", *NOTES, "same", "same", "same"]
    assert [line.get("times") for line in lines[:-1]] == [None] * 8 + [2]
    for line in lines:
        check_event(line)


def test_long_lists_are_cut_on_the_screen_and_say_so() -> None:
    """Five of each kind, the number of all, and the remedy once; the rest is in the report."""
    known = tuple(Problem.advised("two-studies", f"folder {n}", "split it") for n in range(50))
    made = result_of(OK, code=3, problems=known)
    made = replace(made, plan=replace(made.plan, set_aside=tuple(SetAside(f"f{n}", "truncated") for n in range(33))))
    out = io.StringIO()
    TextReporter(io.StringIO(), out).end(made, "")
    lines = out.getvalue().splitlines()
    start = lines.index("note    two-studies, 50 times:")
    assert lines[start + 1 : start + 8] == [
        *(f"  folder {n}" for n in range(5)),
        "  ... and 45 more, all in the report (--report FILE)",
        "  to do: split it",
    ]
    start = lines.index("truncated, 33 files:")
    assert lines[start + 1 : start + 7] == [
        *(f"  f{n}" for n in range(5)),
        "  ... and 28 more, all in the report (--report FILE)",
    ]
    assert lines[start + 7].startswith("  to do: Copy it again")
    assert len(document(made)["problems"]) == 50


def test_nothing_that_identifies_a_patient_is_shown(tmp_path: Path) -> None:
    """A real tree, its plan, report and reporters: no name, id or birth date out of the headers."""
    kinds = [Series("T1_1", 2), Series("x_2", 1, "CT_small.dcm"), Series("r_3", 1, "test-SR.dcm")]
    born = {"PatientBirthDate": "19700102", "PatientComments": "Project: Q; Subject: Janet"}
    make_session(tmp_path / "007/pre", [replace(one, tags=born) for one in kinds])
    make_session(tmp_path / "007/post", [Series("T1_1", 1, tags=born)])
    made = plan_source(open_source(str(tmp_path)), exclude=["PatientName=Nobody", "PatientID=Nobody"])
    outcomes = tuple(outcome(one, "unverified") for one in made.sessions)
    result = replace(result_of(*outcomes), plan=made, problems=made.problems)
    log, out = io.StringIO(), io.StringIO()
    TextReporter(log, out, 2).end(result, "")
    JsonReporter(log, out).end(result, "")
    shown = json.dumps(document(result)) + log.getvalue() + out.getvalue()
    assert "T1" in shown
    ids = {i.tags["PatientID"] for one in made.sessions for i in one.instances}
    for secret in (*PATIENT.split("^")[:2], "19700102", *ids):
        assert secret not in shown


class Terminal(io.StringIO):
    """What a terminal shows: `screen` is the text after its cursor movements."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        lines = [""]
        for piece in re.split(r"(\x1b\[\d+A\x1b\[J|\n)", self.getvalue()):
            if piece.startswith("\x1b"):
                rows = int(piece[2 : piece.index("A")])
                lines = [*lines[: len(lines) - 1 - rows], ""]
            elif piece == "\n":
                lines.append("")
            else:
                lines[-1] += piece
        return lines[:-1]


def display(stream: io.StringIO, *, live: bool) -> ProgressDisplay:
    """One that has a plan of three sessions and two transfers under way."""
    made = ProgressDisplay(stream, live=live)
    made.plan(3, 2000)
    made.begin("a", 10, 1000)
    made.begin("b" * 100, 5, 500)
    return made


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for the whole and one for each session in flight, below what was said; nothing of it stays."""
    monkeypatch.setattr("xnat_ingest.report.progress.REDRAW", -1.0)
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    board = display(stream, live=True)
    board.advance("a", 1, 100)
    whole, first, second = stream.screen()
    assert whole.startswith("send    0/3 sessions  5 %  100 B of 2.0 kB")
    assert first == "  a  1/10  100 B of 1.0 kB"
    assert second.startswith("  bbb")
    assert all(len(line) < 60 for line in stream.screen())
    board.say("hello")
    assert stream.screen() == ["hello"]
    board.advance("a", 9, 900)
    assert stream.screen()[2] == "  a  10/10  waiting for the server"
    board.end("a")
    board.advance("b" * 100, 1, 1)
    assert stream.screen()[1].startswith("send    1/3 sessions  50 %")
    assert len(stream.screen()) == 3
    board.advance("unknown", 1, 1)
    board.close()
    assert stream.screen() == ["hello"]


def test_no_more_lines_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xnat_ingest.report.progress.REDRAW", -1.0)
    monkeypatch.setenv("LINES", "6")
    stream = Terminal()
    board = ProgressDisplay(stream, live=True)
    board.plan(9, 9000)
    for number in range(9):
        board.begin(f"s{number}", 10, 1000)
    board.advance("s8", 1, 100)
    assert len(stream.screen()) == 5
    assert stream.screen()[-1] == "  ... and 6 more sessions"


def test_a_session_that_sends_nothing_counts_as_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xnat_ingest.report.progress.REDRAW", -1.0)
    stream = Terminal()
    board = display(stream, live=True)
    board.end("a")
    board.advance("b" * 100, 5, 500)
    assert "75 %" in stream.screen()[0]


def test_scanning_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xnat_ingest.report.progress.REDRAW", -1.0)
    stream = Terminal()
    board = ProgressDisplay(stream, live=True)
    board.scanned(1500, 1.5)
    assert stream.screen() == ["scan    1500 files  1000 files/s"]
    board.say("plan")
    assert stream.screen() == ["plan"]


def test_progress_is_quiet_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a log file there are no escapes; a long run says a word now and then."""
    stream = io.StringIO()
    board = display(stream, live=False)
    for _ in range(5):
        board.advance("a", 1, 100)
    assert stream.getvalue() == ""
    monkeypatch.setattr("xnat_ingest.report.progress.HEARTBEAT", -1.0)
    board.advance("a", 1, 100)
    board.end("a")
    assert stream.getvalue().count("\n") == 1
    assert "30 %  600 B of 2.0 kB" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_that_knows_no_escapes_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("xnat_ingest.report.progress.REDRAW", -1.0)
    log = Terminal()
    reporter = TextReporter(log, io.StringIO())
    reporter.emit(Event("plan", {"sessions": ["a"], "instances": 1, "bytes": 10, "set_aside": {}}))
    reporter.emit(Event("session_started", {"session": "a", "instances": 1, "bytes": 10}))
    reporter.emit(Event("progress", {"session": "a", "instances": 1, "bytes": 10}))
    assert "\x1b" not in log.getvalue()
    assert log.getvalue().startswith("plan    1 session, 1 instance, 10 B")


AMOUNTS = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_000: "999 kB", 123_456_789: "123 MB", 5e9: "5.0 GB"}


@pytest.mark.parametrize(("number", "text"), AMOUNTS.items())
def test_amounts_for_people(number: float, text: str) -> None:
    """Three digits at most below the largest unit, in powers of 1000."""
    assert amount(number) == text


def shown_lines(*outcomes: Outcome, problems: tuple[Problem, ...] = (), command: str = "upload") -> list[str]:
    """The lines of a result with these outcomes."""
    return result_lines(result_of(*outcomes, problems=problems, command=command))


def test_what_was_held_back_is_told_apart_from_what_was_not_started() -> None:
    """A session in conflict has failed by the counts. One that the run did not come to has no fault of its own."""
    guilty, innocent = outcome(E2, "conflict"), outcome(E1, "unverified")
    uids = {one.sop_uid: "the run stopped" for one in innocent.session.instances}
    innocent = replace(innocent, verdict=replace(innocent.verdict, verified=frozenset(), unverified=uids), attempts=0)
    lines = shown_lines(guilty, innocent)
    held = "1 session held back because of a conflict: nothing of 2 instances was sent"
    assert f"{held} (the last line counts them as failed)" in lines
    assert "1 session without a conflict not started: the run stopped" in lines
    sent = replace(innocent, attempts=1)
    assert not any("not started" in line for line in shown_lines(sent))
    assert not any("held back" in line or "not started" in line for line in shown_lines(OK))
    plan = shown_lines(guilty, innocent, command="plan")
    assert not any("held back" in line or "not started" in line for line in plan)


def test_what_needs_nothing_is_a_note_behind_what_is_wrong() -> None:
    notes = Problem("rule-unused", "the rule X matched nothing"), Problem("receiver-note", "n", ("e1",))
    wrong = (
        Problem("run-failed", "no network"),
        Problem("two-studies", "t", ("e2",)),
        Problem("strict", "s", spoils=True),
    )
    lines = shown_lines(OK, outcome(E2, "conflict"), problems=(*notes, *wrong))
    told = [line for line in lines if any(problem.detail == line.partition(": ")[2] for problem in (*notes, *wrong))]
    assert told == [
        "the run stopped early (run-failed): no network",
        "two-studies: t",
        "strict: s",
        "note    rule-unused: the rule X matched nothing",
        "note    receiver-note: n",
    ]


def test_a_session_is_not_listed_twice_on_one_screen() -> None:
    """On a terminal each session has had its line while the run went on; only those in need are repeated."""

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    made = result_of(OK, outcome(E2, "missing"))
    screen, pipe, log = Screen(), io.StringIO(), Screen()
    for out in (screen, pipe):
        TextReporter(log, out).end(made, "")
    assert "VERIFIED" not in screen.getvalue()
    assert "MISSING" in screen.getvalue()
    assert "VERIFIED" in pipe.getvalue()
    assert "MISSING" in pipe.getvalue()
    quiet = Screen()
    TextReporter(log, quiet, -1).end(made, "")
    assert "VERIFIED" in quiet.getvalue()


@pytest.mark.parametrize("output", ["report", "html", "junit", "csv"])
@pytest.mark.parametrize("what", ["a pipe", "a file"])
def test_an_output_whose_place_is_taken_during_the_run(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, what: str
) -> None:
    """A pipe would be waited for without end, and somebody's file replaced."""
    make_session(tmp_path / "t/S/E", [Series("T1_0001", 1)], "study")
    place = tmp_path / "taken"
    real = outputs.write_outputs

    def taken(*words: Any) -> int:
        os.mkfifo(place) if what == "a pipe" else place.write_text("my own notes")
        return real(*words)

    monkeypatch.setattr("xnat_ingest.cli.upload.write_outputs", taken)
    ended = ingest("upload", tmp_path / "t", f"--{output}", str(place))
    assert ended.code == 1
    assert f"--{output} {place}" in ended.err or "not a regular file" in ended.err
    assert place.is_fifo() if what == "a pipe" else place.read_text() == "my own notes"
