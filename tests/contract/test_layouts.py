"""Where sessions get their project, subject and label: project folders, headers, a sheet of labels; end to end."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended, Ingest, stored
from tests.dicom_trees import Series, make_session, uid
from tests.standin import StandIn
from tests.unit.test_plan import real_flags
from xnat_ingest.core.errors import UsageError
from xnat_ingest.planning.label_sheet import read_sheet

ONE = (Series("T1_0001", 2),)
PROJECTS = ("--layout", "project/subject/session")
HEADERS = ("--layout", "headers")
COLUMNS = ["folder", "study_uid", "subject", "session", "instances", "date", "modality", "description"]


def verdicts(ended: Ended) -> dict[str, str]:
    return {f"{s['project']}/{s['subject']}/{s['label']}": s["verdict"] for s in ended.report["sessions"]}


def labels(site: StandIn, project: str = "DEMO") -> list[str]:
    return sorted(f"{session.subject}/{session.label}" for session in site.sessions(project))


def study(folder: Path, seed: str, **tags: Any) -> None:
    """One study of two instances with these header values."""
    make_session(folder, (Series("T1_0001", 2, tags=tags),), seed)


# -- project/subject/session


@pytest.mark.wide
def test_projects_by_folder(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Each session goes to its folder's project; those of projects that cannot be used are refused, the others go."""
    names = ("DEMO", "MANUAL", "NOWHERE", "READONLY", "HIDDEN")
    for name in names:
        make_session(tmp_path / "t" / name / "S1/E", ONE, name)
    make_session(tmp_path / "t/demo-alias/S2/E", ONE, "alias")
    ended = ingest("upload", tmp_path / "t", *PROJECTS, project="")
    assert ended.code == 3
    assert verdicts(ended) == {
        "DEMO/S1/S1_E": "verified",
        "DEMO/S2/S2_E": "verified",
        "MANUAL/S1/S1_E": "verified",
        "NOWHERE/S1/S1_E": "conflict",
        "READONLY/S1/S1_E": "conflict",
        "HIDDEN/S1/S1_E": "conflict",
    }
    assert ended.kinds() == ["refused"] * 3
    assert (ended.totals["verified"], ended.totals["failed"]) == (6, 6)
    assert labels(site) == ["S1/S1_E", "S2/S2_E"]
    assert labels(site, "MANUAL") == ["S1/S1_E"]
    assert [r for name in (*names, None) for r in site.rows(name)] == []
    for name in ("NOWHERE", "HIDDEN"):
        assert f"project {name} does not exist" in ended.out
    assert "may read project READONLY but not add sessions" in ended.out
    again = ingest("upload", tmp_path / "t", *PROJECTS, project="")
    assert (again.code, again.totals["bytes_sent"]) == (3, 0)


def test_all_projects_refused(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Nothing could be delivered for want of rights: exit 6."""
    for name in ("NOWHERE", "READONLY"):
        make_session(tmp_path / "t" / name / "S1/E", ONE, name)
    ended = ingest("upload", tmp_path / "t", *PROJECTS, project="")
    assert (ended.code, ended.totals["verified"], ended.totals["bytes_sent"]) == (6, 0, 0)
    assert ended.totals["planned"] == 4


def test_one_label_in_two_projects_is_no_collision(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Labels are unique in a project only; so are studies."""
    for name in ("DEMO", "MANUAL"):
        make_session(tmp_path / "t" / name / "S1/E", ONE, "one study")
    assert ingest("upload", tmp_path / "t", *PROJECTS, project="").code == 0
    assert labels(site) == labels(site, "MANUAL") == ["S1/S1_E"]


@pytest.mark.parametrize(("seeds", "kind"), [(("a", "b"), "label-collision"), (("a", "a"), "split-study")])
def test_alias_and_id_are_one_project(
    ingest: Ingest, site: StandIn, tmp_path: Path, seeds: Sequence[str], kind: str
) -> None:
    """Two folders that are one project must not send two sources to one label, nor one study to two sessions."""
    make_session(tmp_path / "t/DEMO/S1/E", ONE, seeds[0])
    make_session(tmp_path / "t/demo-alias" / ("S1/E" if kind == "label-collision" else "S1/F"), ONE, seeds[1])
    ended = ingest("upload", tmp_path / "t", *PROJECTS, project="")
    assert (ended.code, set(verdicts(ended).values())) == (3, {"conflict"}), ended.out
    assert kind in ended.kinds()
    assert (ended.totals["bytes_sent"], labels(site)) == (0, [])


def test_what_lies_above_the_session_folders(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """DICOM beside session folders belongs to none: a problem, and the rest is delivered."""
    make_session(tmp_path / "t/DEMO/S1/E", ONE)
    make_session(tmp_path / "x", ONE)[0].rename(tmp_path / "t/DEMO/S1/IM1")
    ended = ingest("upload", tmp_path / "t", *PROJECTS, project="")
    assert (ended.code, ended.totals["verified"]) == (3, 2)
    assert [(a["path"], a["reason"]) for a in ended.report["set_aside"]] == [("DEMO/S1/IM1", "outside-layout")]


# -- headers


@pytest.mark.wide
def test_sessions_by_headers(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Folders do not count: one session per study, named by patient id and date; illegal characters are replaced."""
    study(tmp_path / "t/mixed", "a", PatientID="P1", StudyDate="20240131")
    study(tmp_path / "t/mixed/deeper", "b", PatientID="P 2.x", StudyDate="20240201")
    ended = ingest("upload", tmp_path / "t", *HEADERS)
    assert (ended.code, ended.totals["verified"]) == (0, 4), ended.out
    assert labels(site) == ["P1/P1_20240131", "P_2_x/P_2_x_20240201"]
    assert set(ended.kinds()) == {"illegal-label"}
    assert ingest("verify", tmp_path / "t", *HEADERS).code == 0


def test_one_study_in_many_folders(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Series scattered over folders make one session."""
    for number in range(3):
        series = Series(f"T{number}", 2, tags={"PatientID": "P1", "StudyDate": "20240131"}, number=number + 1)
        make_session(tmp_path / f"t/{number}", (series,), "one")
    ended = ingest("upload", tmp_path / "t", *HEADERS)
    assert (ended.code, labels(site)) == (0, ["P1/P1_20240131"])
    assert len(stored(site, "DEMO", "P1", "P1_20240131").files) == 6


@pytest.mark.wide
def test_two_studies_of_a_patient_on_one_day(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """A collision that names both studies and a way out; other sessions are delivered; the way out leads out."""
    for seed, clock in (("a", "0800"), ("b", "1400")):
        study(tmp_path / "t" / seed, seed, PatientID="P1", StudyDate="20240131", StudyTime=clock)
    study(tmp_path / "t/c", "c", PatientID="P2", StudyDate="20240131")
    ended = ingest("upload", tmp_path / "t", *HEADERS)
    assert (ended.code, ended.kinds()) == (3, ["label-collision"])
    detail = ended.report["problems"][0]["detail"]
    assert uid("a") in detail
    assert uid("b") in detail
    flags = {word.strip(",;.") for word in detail.split() if word.startswith("--")}
    assert flags == {"--session-label", "--labels"} <= real_flags()
    assert labels(site) == ["P2/P2_20240131"]
    mended = ingest("upload", tmp_path / "t", *HEADERS, "--session-label", "{PatientID}_{StudyDate}_{StudyTime}")
    assert mended.code == 3  # P2's study is archived under its first label
    assert mended.kinds() == ["other-label"]
    assert "P1/P1_20240131_0800" in labels(site)
    assert "P1/P1_20240131_1400" in labels(site)


@pytest.mark.wide
@pytest.mark.parametrize("value", ["", "   "])
def test_empty_patient_id(ingest: Ingest, site: StandIn, tmp_path: Path, value: str) -> None:
    """A label cannot be made of nothing: that session is in conflict, the others go on, and a sheet mends it."""
    study(tmp_path / "t/a", "a", PatientID=value, StudyDate="20240131")
    study(tmp_path / "t/b", "b", PatientID="P2", StudyDate="20240131")
    ended = ingest("upload", tmp_path / "t", *HEADERS)
    assert (ended.code, sorted(verdicts(ended).values())) == (3, ["conflict", "verified"])
    assert set(ended.kinds()) == {"illegal-label"}
    assert "PatientID is empty" in ended.out
    sheet = tmp_path / "sheet.csv"
    write(sheet, [["", uid("a"), "P1", "P1_x", ""]])
    assert ingest("upload", tmp_path / "t", *HEADERS, "--labels", str(sheet), "--labels-partial").code == 0
    assert labels(site) == ["P1/P1_x", "P2/P2_20240131"]


# -- sheets


def write(path: Path, rows: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS, mark: str = "") -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(mark)
        csv.writer(stream).writerows([columns, *rows])


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two sessions: 007/pre and 008/post."""
    make_session(tmp_path / "t/007/pre", ONE, "pre")
    make_session(tmp_path / "t/008/post", ONE, "post")
    return tmp_path / "t"


def test_round_trip(ingest: Ingest, site: StandIn, tree: Path, tmp_path: Path) -> None:
    """`plan --labels-template` writes what `--labels` reads: unedited it changes nothing, edited labels are used."""
    sheet = tmp_path / "sheet.csv"
    assert ingest("plan", tree, "--labels-template", str(sheet)).code == 0
    header, *rows = read(sheet)
    assert header == COLUMNS
    assert [row[:5] for row in rows] == [
        ["007/pre", uid("pre"), "'007", "007_pre", "2"],
        ["008/post", uid("post"), "'008", "008_post", "2"],
    ]
    assert [row[5:] for row in rows] == [["20040826", "MR", "T1"]] * 2
    same = ingest("plan", tree, "--labels", str(sheet))
    assert (same.code, sorted(verdicts(same))) == (0, ["DEMO/007/007_pre", "DEMO/008/008_post"])
    rows[0][2:4] = ["sub-7", "MR_7"]
    rows[1][3] = ""
    write(sheet, rows)
    ended = ingest("upload", tree, "--labels", str(sheet))
    assert (ended.code, ended.totals["verified"]) == (0, 4)
    assert labels(site) == ["008/008_post", "sub-7/MR_7"]


def test_sheet_as_a_spreadsheet_saves_it(ingest: Ingest, site: StandIn, tree: Path, tmp_path: Path) -> None:
    """With a byte order mark, other columns in another order, blanks around values; blank cells fall back."""
    sheet = tmp_path / "sheet.csv"
    columns = ["note", "session", "subject", "folder"]
    rows = [["new", " MR_7 ", "", "007/pre"], ["", "", "  ", "008/post"]]
    write(sheet, rows, columns, mark="\N{ZERO WIDTH NO-BREAK SPACE}")
    assert ingest("upload", tree, "--labels", str(sheet)).code == 0
    assert labels(site) == ["007/MR_7", "008/008_post"]


@pytest.mark.wide
def test_session_that_the_sheet_does_not_name(ingest: Ingest, site: StandIn, tree: Path, tmp_path: Path) -> None:
    """It is in conflict; a line without a session ends with 3, too. --labels-partial lifts both, with a note."""
    sheet = tmp_path / "sheet.csv"
    write(sheet, [["007/pre", "", "sub-7", "MR_7", ""], ["008/psot", "", "x", "y", ""]])
    ended = ingest("upload", tree, "--labels", str(sheet))
    assert (ended.code, sorted(ended.kinds())) == (3, ["label-default", "label-unused"])
    assert verdicts(ended) == {"DEMO/sub-7/MR_7": "verified", "DEMO/008/008_post": "conflict"}
    assert "lists 008/psot (line 3), but there is no such session (did you mean 008/post?)" in ended.out
    assert "folder 008/post cannot be found in the label sheet (1 of 2 sessions)" in ended.out
    assert labels(site) == ["sub-7/MR_7"]
    ended = ingest("upload", tree, "--labels", str(sheet), "--labels-partial")
    assert (ended.code, ended.kinds()) == (0, ["label-default", "label-unused"])
    assert labels(site) == ["008/008_post", "sub-7/MR_7"]


@pytest.mark.wide
def test_line_without_a_session_alone(ingest: Ingest, site: StandIn, tree: Path, tmp_path: Path) -> None:
    """Every session is named and sent, and yet a line is left over: that is no success."""
    sheet = tmp_path / "sheet.csv"
    rows = [["007/pre", "", "A", "A_1"], ["008/post", "", "B", "B_1"], ["009/pre", "", "C", "C_1"]]
    write(sheet, rows)
    ended = ingest("upload", tree, "--labels", str(sheet))
    assert (ended.code, ended.totals["verified"], ended.kinds()) == (3, 4, ["label-unused"])
    ended = ingest("upload", tree, "--labels", str(sheet), "--exclude", "path=008/**", "--labels-partial")
    assert ended.code == 0


@pytest.mark.sampled(1)
@pytest.mark.parametrize("separator", [";", "\t"])
def test_sheet_with_another_separator(
    ingest: Ingest, site: StandIn, tree: Path, tmp_path: Path, separator: str
) -> None:
    """What a spreadsheet saves where the comma is the decimal mark."""
    sheet = tmp_path / "sheet.csv"
    rows = ["folder,subject,session", "007/pre,A,A_1", "008/post,B,B_1"]
    sheet.write_text("\N{ZERO WIDTH NO-BREAK SPACE}" + "\r\n".join(rows).replace(",", separator), "utf-8")
    assert ingest("upload", tree, "--labels", str(sheet)).code == 0
    assert labels(site) == ["A/A_1", "B/B_1"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{subjet}", "did you mean {subject}?"),
        ("{Session}", "did you mean {session}?"),
        ("{subject}_{sesion}", "did you mean {session}?"),
        ("{PatientId}", "PatientID"),
        ("{xyzzy}", "{xyzzy} is not a folder level or a DICOM keyword"),
    ],
)
def test_template_with_a_slip(ingest: Ingest, site: StandIn, tree: Path, template: str, says: str) -> None:
    ended = ingest("upload", tree, "--session-label", template)
    assert (ended.code, site.requests) == (2, [])
    assert says in ended.err


@pytest.mark.parametrize(
    ("seeds", "kind"),
    [(("S/one/a", "S/two/a"), "split-study"), (("S/one/a", "S/one/b"), "two-studies"), (("x/a",), "outside-layout")],
)
def test_root_a_level_too_deep_or_too_high(ingest: Ingest, tmp_path: Path, seeds: Sequence[str], kind: str) -> None:
    """The commonest cause of these is named with the way out."""
    for seed in seeds:
        *folders, word = seed.split("/")
        make_session(tmp_path.joinpath("t", *folders), (Series(f"T1_{seed[-1]}{len(folders)}", 1),), word)
    if kind == "outside-layout":
        (tmp_path / "t/x").rename(tmp_path / "u")
        ended = ingest("plan", next((tmp_path / "u").iterdir()))
        details = [aside["detail"] for aside in ended.report["set_aside"]]
    else:
        ended = ingest("plan", tmp_path / "t")
        details = [problem["detail"] for problem in ended.report["problems"] if problem["kind"] == kind]
    assert details
    assert all("one level too deep or too high" in detail and "-S SUBJECT" in detail for detail in details)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("folder,subject\n007/pre,x\n", "no column session"),
        ("subject,session\nx,y\n", "no column folder"),
        ("", "no column"),
        (
            "folder,subject,session\n007/pre,a,b\n007/pre,c,d\n",
            "line 3: another line has the same folder (listed",
        ),
        ("folder,subject,session\n,a,b\n", "line 2: folder is empty, so the session is unknown"),
        (
            b"folder,subject,session\n007/pre,caf\x81,b\n",
            "is neither UTF-8 nor Windows-1252 text; save it as CSV UTF-8",
        ),
        (b"PK\x03\x04rest", "is a workbook, not a CSV file; save it as CSV UTF-8"),
        ("folder,subject,session\n007/pre,a,b\n".encode("utf-16-le"), "is not text in UTF-8; save it as CSV UTF-8"),
        ("folder,subject,subject,session\n007/pre,a,b,c\n", "has the column subject twice"),
        (None, "cannot read label sheet"),
    ],
    ids=[
        "no session",
        "no folder",
        "empty",
        "duplicate",
        "blank folder",
        "odd bytes",
        "workbook",
        "no mark",
        "twice",
        "absent",
    ],
)
def test_sheet_that_cannot_be_used(
    ingest: Ingest, site: StandIn, tree: Path, tmp_path: Path, text: str | bytes | None, says: str
) -> None:
    """A usage error that names the column or the line, before anything is contacted."""
    sheet = tmp_path / "sheet.csv"
    if text is not None:
        sheet.write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = ingest("upload", tree, "--labels", str(sheet))
    assert (ended.code, site.requests) == (2, [])
    assert says in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("path", ["a\0b", "\ud800"])
def test_sheet_of_an_impossible_name(path: str) -> None:
    with pytest.raises(UsageError, match="not a valid file name"):
        read_sheet(path, "folder")


def test_sheet_gives_one_label_to_two_sessions(ingest: Ingest, site: StandIn, tree: Path, tmp_path: Path) -> None:
    """What a sheet says is checked like any label; so is its spelling."""
    sheet = tmp_path / "sheet.csv"
    write(sheet, [["007/pre", "", "S", "MR", ""], ["008/post", "", "S", "mr", ""]])
    ended = ingest("upload", tree, "--labels", str(sheet))
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["label-collision"], 0)
    write(sheet, [["007/pre", "", "S", "x" * 65, ""], ["008/post", "", "S", "é", ""]])
    ended = ingest("upload", tree, "--labels", str(sheet))
    assert (ended.code, ended.kinds()) == (3, ["illegal-label", "illegal-label"])
    assert labels(site) == ["S/_"]


def test_sheet_by_study(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """With headers a line is a study: the sheet tells two studies of one day apart."""
    for seed in ("a", "b"):
        study(tmp_path / "t" / seed, seed, PatientID="P1", StudyDate="20240131")
    sheet = tmp_path / "sheet.csv"
    assert ingest("plan", tmp_path / "t", *HEADERS, "--labels-template", str(sheet)).code == 3
    header, *rows = read(sheet)
    assert (header, sorted(row[1] for row in rows)) == (COLUMNS, sorted([uid("a"), uid("b")]))
    for row in rows:
        row[0] = "moved"  # the folder has no say
        row[3] = "first" if row[1] == uid("a") else "second"
    write(sheet, rows)
    assert ingest("upload", tmp_path / "t", *HEADERS, "--labels", str(sheet)).code == 0
    assert labels(site) == ["P1/first", "P1/second"]
    assert stored(site, "DEMO", "P1", "first").study_uid == uid("a")
