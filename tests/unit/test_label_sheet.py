"""Label sheets: what spreadsheets do to them, which session a line is for, and what is a conflict."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.test_plan import check_advice, conflicts, dicom, plan_of, titles
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.model import Plan
from xnat_ingest.core.text import from_cell, inert_cell, is_rewritten, nearest, spreadsheet_cell, without_zeros
from xnat_ingest.planning import label_sheet
from xnat_ingest.planning.label_sheet import COLUMNS, SheetRow, read_sheet, sheet_text
from xnat_ingest.planning.sessions import sheet

TREE = {"007/pre/1": dicom("1"), "007/post/1": dicom("2"), "008/pre/1": dicom("3")}
HEAD = "folder,study_uid,subject,session\n"
FULL = HEAD + "007/pre,,A,A1\n007/post,,A,A2\n008/pre,,B,B1\n"


def plan_by(tmp_path: Path, data: str | bytes, files: Mapping[str, bytes] = TREE, **options: object) -> Plan:
    path = tmp_path / "sheet.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return plan_of(files, labels=str(path), **options)


def kinds(plan: Plan) -> list[tuple[str, bool]]:
    return [(problem.kind, problem.spoils) for problem in plan.problems]


ALL = ["A/A2", "A/A1", "B/B1"]
SAVED = {
    "utf-8": FULL.encode(),
    "utf-8 with mark": FULL.encode("utf-8-sig"),
    "utf-16": FULL.encode("utf-16"),
    "utf-16 big endian": b"\xfe\xff" + FULL.encode("utf-16-be"),
    "semicolons": FULL.replace(",", ";").encode(),
    "sep line": b"sep=;\r\n" + FULL.replace(",", ";").encode(),
    "quoted sep line": b'"sep=|"\r\n' + FULL.replace(",", "|").encode(),
    "tabs": FULL.replace(",", "\t").encode("utf-16"),
    "blank rows": (FULL.replace("\n", "\n,,,\n") + "\n , , ,\n").encode(),
    "capitals": FULL.replace("folder", " Folder").replace("subject", "SUBJECT ").encode(),
    "formula text": FULL.replace("A,A1", '"=""A""",A1').encode(),
    "carriage returns": FULL.replace("\n", "\r").encode(),
    "apostrophes": FULL.replace("A,A1", "'A,'A1").replace("007/pre", "'007/pre").encode(),
}


@pytest.mark.parametrize("form", SAVED)
def test_sheet_survives_a_spreadsheet(tmp_path: Path, form: str) -> None:
    """Encodings, separators, blank rows and quotes of the spreadsheets in use."""
    plan = plan_by(tmp_path, SAVED[form])
    assert sorted(titles(plan)) == sorted(ALL)
    assert kinds(plan) == []


def test_windows_letters_are_read_and_said(tmp_path: Path) -> None:
    files = {"Müller/pre/1": dicom("1")}
    plan = plan_by(tmp_path, (HEAD + "Müller/pre,,A,A1\n").encode("cp1252"), files)
    assert (titles(plan), kinds(plan)) == (["A/A1"], [("label-sheet", False)])
    assert "was read as Windows-1252" in plan.problems[0].detail


def test_session_is_found_by_its_study_where_the_folder_was_changed(tmp_path: Path) -> None:
    """A spreadsheet makes a date of a folder's name; the UID it leaves alone."""
    files = {"1/2/1": dicom("1"), "007/pre/1": dicom("2")}
    rows = "01. Feb,1.2.1,A,A1\n007/pre,,B,B1\n"
    plan = plan_by(tmp_path, HEAD + rows, files)
    assert sorted(titles(plan)) == ["A/A1", "B/B1"]
    assert kinds(plan) == []
    plan = plan_by(tmp_path, "study_uid,subject,session\n1.2.1,A,A1\n1.2.2,B,B1\n", files)
    assert sorted(titles(plan)) == ["A/A1", "B/B1"]


def test_accents_are_compared_in_one_form(tmp_path: Path) -> None:
    """A file system writes the accent apart, a spreadsheet with its letter."""
    plan = plan_by(tmp_path, HEAD + "Ren\u00e9/pre,,A,A1\n", {"Rene\u0301/pre/1": dicom("1")})
    assert (titles(plan), kinds(plan)) == (["A/A1"], [])


def test_unnamed_session_is_a_conflict(tmp_path: Path) -> None:
    plan = plan_by(tmp_path, HEAD + "007/pre,,A,A1\n007/post,,A,A2\n")
    assert conflicts(plan) == [("008/pre", "label-default")]
    check_advice(plan.problems[0], "008/pre")
    plan = plan_by(tmp_path, HEAD + "007/pre,,A,A1\n007/post,,A,A2\n", labels_partial="true")
    assert (conflicts(plan), kinds(plan)) == ([], [("label-default", False)])


@pytest.mark.parametrize(
    ("subject", "label", "noted"),
    [("P007", "007_pre", True), ("P007", "", True), ("P007", "P007_pre", False), ("007", "007_pre", False)],
)
def test_a_new_subject_whose_session_keeps_the_old_name_is_told(
    tmp_path: Path, subject: str, label: str, noted: bool
) -> None:
    """The template has filled the column session in, and it does not follow the column subject."""
    files = {"007/pre/1": dicom("1")}
    plan = plan_by(tmp_path, f"{HEAD}007/pre,,'{subject},{label}\n", files)
    assert kinds(plan) == [("label-subject", False)] * noted
    if noted:
        assert plan.problems[0].detail.startswith("line 2: the subject is P007, but the session is still 007_pre; ")


def test_line_without_a_session_spoils(tmp_path: Path) -> None:
    """But not one of which a rule of the user's leaves everything out."""
    plan = plan_by(tmp_path, FULL + "009/pre,,C,C1\n")
    assert (conflicts(plan), kinds(plan)) == ([], [("label-unused", True)])
    assert "lists 009/pre (line 5), but there is no such session" in plan.problems[0].detail
    plan = plan_by(tmp_path, FULL + "009/pre,,C,C1\n", labels_partial="true")
    assert kinds(plan) == [("label-unused", False)]
    plan = plan_by(tmp_path, FULL, exclude=["path=008/**"])
    assert kinds(plan) == [("label-unused", False)]


def test_lines_that_were_sorted_apart(tmp_path: Path) -> None:
    """One column sorted without the others: folder and study contradict each other."""
    rows = "007/pre,1.2.2,A,A1\n007/post,1.2.1,A,A2\n008/pre,1.2.3,B,B1\n"
    plan = plan_by(tmp_path, HEAD + rows)
    assert sorted(conflicts(plan)) == [("007/post", "label-study"), ("007/pre", "label-study")]
    assert "line 2" in plan.problems[0].detail


@pytest.mark.parametrize(
    ("subject", "session", "changed"),
    [
        ("7", "A1", True), ("007", "A1", False), ("A", "7_pre", True), ("0007", "A1", True), ("'7", "A1", False),
        ('"=""7"""', "A1", False), ("17", "A1", False), ("1.23E+11", "A1", True), ("1.23e+19", "A1", True),
        ("7.0", "A1", True), ('"7,00"', "A1", True), ("007.0", "A1", True), ("sub-7", "A1", False),
        ("A", "2.E5", False),
    ],
)  # fmt: skip
def test_label_that_lost_its_zeros(tmp_path: Path, subject: str, session: str, changed: bool) -> None:
    """7 for folder 007 is what a spreadsheet leaves of it; an apostrophe says that it is meant."""
    files = {"007/pre/1": dicom("1")}
    plan = plan_by(tmp_path, f"{HEAD}007/pre,,{subject},{session}\n", files)
    assert conflicts(plan) == ([("007/pre", "label-changed")] if changed else [])


def test_a_label_that_lost_its_zeros_gets_one_remedy(tmp_path: Path) -> None:
    """Who also changed the column session, as for a new subject, would make the wrong label complete."""
    plan = plan_by(tmp_path, f"{HEAD}007/pre,,7,007_pre\n", {"007/pre/1": dicom("1")})
    assert [problem.kind for problem in plan.problems] == ["label-changed"]


@pytest.mark.parametrize(
    ("folder", "subject", "changed"),
    [
        ("12345678901234567890", "12345678901234500000", True), ("12345678901234567890", "12345678901234600000", True),
        ("1234567890123456", "1234567890123450", True), ("1234567890123456", "'1234567890123450", False),
        ("1234567890123456", "1234567890123457", False), ("123456789012345", "123456789012340", False),
        ("1234567890123450", "1234567890123450", False), ("1234567890123456", "9234567890123450", False),
        ("P1", "12345678901234500", True), ("P1", "1234567890123450", False), ("P1", "12345678901234501", False),
        ("1-2", "1-Feb", True), ("3-4", "04-Mar", True),
        ("1-2", "01.02.2026", True), ("MAR1", "1-Mar", True), ("SEP-12", "Sep-12", True),
        ("ses-1", "2026-02-01", False), ("1-2", "P2", False), ("1-2", "'1-Feb", False), ("P1", "1-Feb", False),
        # A month and a year.
        ("3-2024", "Mar-24", True), ("3-2024", "Mrz 24", True), ("12-2024", "Dez 24", True), ("3-2024", "мар.24", True),
        ("3-2024", "2024年3月", True), ("3-2024", "01.03.2024", True), ("2024-01", "Jan-24", True),
        ("3-2024", "03/2024", True), ("1-13", "Jan-13", True), ("2-30", "Feb-30", True), ("MAR2024", "Mar-24", True),
        ("3-2024", "Apr-24", False),
        ("3-2024", "S-2024", False), ("3-2024", "2024-03", False), ("3-2024", "'Mar-24", False),
        # Other languages.
        ("1-3", "01. Mrz", True), ("1-3", "1. Mär", True), ("1-5", "01. Mai", True), ("1-10", "01. Okt", True),
        ("1-12", "01. Dez", True), ("1-2", "1-févr", True), ("1-2", "1-fe\u0301vr.", True), ("1-4", "01-avr", True),
        ("1-8", "1-août", True), ("1-3", "1-mrt", True), ("1-5", "01.maj", True), ("1-2", "1月2日", True),
        ("1-2", "01.ŞUB", True), ("1-7", "1.čvc", True), ("1-6", "01.lip", True), ("1-7", "01.lip", True),
        ("Okt4", "04. Okt", True), ("1-2", "sub-01", False), ("1-2", "sub-1", False), ("1-2", "ses-2", False),
        ("1-2", "2-1", False), ("1-2", "1_2", False),
        # Whole dates.
        ("2024-01-02", "1/2/2024", True), ("2024-01-02", "02.01.2024", True), ("01-02-03", "1/2/2003", True),
        ("1-2-3", "01.02.2003", True), ("2-Jan-2024", "2-Jan-24", True), ("1.2", "01. Feb", True), ("1.2", "1/2", True),
        ("2024-01-02", "2024-01-05", False), ("2024-01-02", "P2", False), ("2024-01-02", "2024", False),
        ("1-2", "5-Jun", False), ("1-2", "12", False), ("1-2-3-4", "1-Feb", False), ("1234-5678", "Dec-34", False),
    ],
)  # fmt: skip
def test_label_that_became_another_number_or_a_date(tmp_path: Path, folder: str, subject: str, changed: bool) -> None:
    """A spreadsheet keeps 15 digits, and makes dates of what looks like one."""
    plan = plan_by(tmp_path, f"{HEAD}{folder}/pre,,{subject},A1\n", {f"{folder}/pre/1": dicom("1")})
    assert conflicts(plan) == ([(f"{folder}/pre", "label-changed")] if changed else [])


@pytest.mark.parametrize("partial", ["true", "false"])
@pytest.mark.parametrize("study", ["", "1.2.9"])
def test_a_line_that_fits_two_studies_of_a_folder(tmp_path: Path, partial: str, study: str) -> None:
    """Neither gets it, so neither must be sent under another label."""
    files = {"007/pre/1": dicom("1"), "007/pre/2": dicom("2"), "008/pre/1": dicom("3")}
    rows = f"007/pre,{study},A,A1\n008/pre,,B,B1\n"
    plan = plan_by(tmp_path, HEAD + rows, files, split_studies="true", labels_partial=partial)
    assert conflicts(plan) == [("007/pre", "label-default")] * 2
    assert [
        (p.kind, "line 2" in p.detail, "study_uid" in p.fix) for p in plan.problems if p.kind != "studies-split"
    ] == [("label-default", True, True)]
    rows = "007/pre,1.2.1,A,A1\n007/pre,1.2.2,A,A2\n008/pre,,B,B1\n"
    assert conflicts(plan_by(tmp_path, HEAD + rows, files, split_studies="true", labels_partial=partial)) == []


def test_label_of_the_headers_that_lost_its_zeros(tmp_path: Path) -> None:
    files = {"x/1": dicom("1", PatientID="0042", StudyDate="20240131")}
    plan = plan_by(tmp_path, f"{HEAD},1.2.1,42,\n", files, layout="headers")
    assert [kind for _, kind in conflicts(plan)] == ["label-changed"]


CELLS = [
    "=1+1",
    "+x",
    "-x",
    "@x",
    "\tx",
    "'x",
    "007",
    "1E5",
    "3/4",
    "1-2",
    "123456789012345",
    "1.2.03",
    "MAR1",
    "1-Sep",
    "3-2024",
    "3/2024",
    "Mar 2024",
    "Okt4",
    "2. Mrz",
    "2-Jan-2024",
]


@pytest.mark.parametrize("text", CELLS)
def test_cells_are_harmless_and_read_back(text: str) -> None:
    """No cell begins as a formula or as what a spreadsheet makes a number or a date of."""
    assert spreadsheet_cell(text) == f"'{text}"
    assert from_cell(spreadsheet_cell(text)) == text


@pytest.mark.parametrize(
    ("text", "cell"),
    [("T1;=1+1", "T1;'=1+1"), ("a;-1;+2", "a;'-1;'+2"), ("a\t@x", "a\t'@x"), ("a;'=1", "a;''=1"), ("a;b", "a;b")],
)
def test_no_part_of_a_cell_is_a_formula(text: str, cell: str) -> None:
    """Where semicolons or tabs divide cells, what stands behind one is a cell of its own."""
    assert (spreadsheet_cell(text), inert_cell(text), from_cell(cell)) == (cell, cell, text)


@pytest.mark.parametrize(
    "text",
    [
        "007_pre",
        "7",
        "1.2.840.10008.1",
        "a=b",
        "x-1",
        "ses-01",
        "mar",
        "",
        "1/2/pre",
        "sub-1",
        "T1 mar 2",
        "1 2",
        "1,2",
        "1234-5678",
        "marker1",
        "3-24000",
    ],
)
def test_plain_cells_stay(text: str) -> None:
    assert spreadsheet_cell(text) == text == from_cell(text)


def test_numbers_of_a_spreadsheet() -> None:
    assert (without_zeros("007_010"), without_zeros("0"), without_zeros("100")) == ("7_10", "0", "100")
    assert [is_rewritten(text) for text in ("1.2E+11", "1,2E+11", "1E+05", "1E5", "12E+5")] == [True] * 3 + [False] * 2


def test_template_of_a_hostile_tree_round_trips(tmp_path: Path) -> None:
    """What folders and headers say stands in no cell as a formula, and the sheet finds its sessions again."""
    names = ["=cmd()", "+1", "-2", "@x", "'q", "007"]
    files = {f"{name}/{name}/1": dicom(str(n), StudyDate="20240131") for n, name in enumerate(names)}
    plan = plan_of(files)
    text = sheet_text(sheet(plan))
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in cells)
    again = plan_by(tmp_path, text, files)
    assert (titles(again), [k for k, _ in kinds(again) if k != "illegal-label"]) == (titles(plan), [])


def test_template_tells_sessions_apart() -> None:
    """Date, modality, description, and the description of the first series where the study has none."""
    row = SheetRow("a/x", "1.2.840.1", "a", "a_x", 3, "20240131", "MR", "=brain")
    head, line = csv.reader(io.StringIO(sheet_text([row])))
    assert tuple(head) == COLUMNS
    assert line == ["a/x", "1.2.840.1", "a", "a_x", "3", "20240131", "MR", "'=brain"]


SHEET = "folder,subject,session,description\n"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('a/x,"A,A_x\nb/y,B,B_y\n', "unexpected end of data). Is a quotation mark not closed?"),
        ('a/x,A,A_x\nb/y,"B,B_y\n', "unexpected end of data"),
        ('a/x,"A,A_x\nb/y,"B,B_y\n', "near line 3: ',' expected after"),
        ('a/x,"A\nA",A_x\nb/y,B,B_y\n', "line 3: a cell goes over several lines"),
        ('"a/x\ra",A,A_x\nb/y,B,B_y\n', "line 3: a cell goes over several lines"),
        ('a/x,A,A_x,"a remark\nb/y,B,B_y,"\n', "line 3: a cell goes over several lines"),
        ('a/x,A,"A_x\nb/y",B,B_y\n', "line 3: a cell goes over several lines"),
    ],
)
def test_a_quotation_mark_that_is_not_closed(tmp_path: Path, lines: str, said: str) -> None:
    """The rest of the sheet must not become a label."""
    with pytest.raises(UsageError) as caught:
        plan_by(tmp_path, SHEET + lines)
    assert said in str(caught.value)


def test_quotation_marks_that_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(SHEET + 'a/x,"A","A""x","two\nlines"\nb/y,B 5" x,B_y,\n')
    assert [(row.subject, row.session) for row in read_sheet(str(path)).rows] == [("A", 'A"x'), ('B 5" x', "B_y")]


def test_sheet_without_an_end() -> None:
    """A device is not read until the memory is full."""
    with pytest.raises(UsageError, match="is not a regular file"):
        read_sheet("/dev/zero")


def test_sheet_and_root_as_one_session(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be combined"):
        plan_by(tmp_path, FULL, subject="S", experiment="E")


def test_very_many_lines_without_a_session_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"z/{n},,s{n},s{n}_1\n" for n in range(103))
    unused = [problem for problem in plan_by(tmp_path, FULL + rows).problems if problem.kind == "label-unused"]
    assert len(unused) == 101
    assert unused[0].detail == "the label sheet has 3 more lines without a session, first line 105"
    assert [problem.spoils for problem in unused] == [True] * 101
    unused = [p for p in plan_by(tmp_path, FULL + rows, labels_partial=True).problems if p.kind == "label-unused"]
    assert [problem.spoils for problem in unused] == [False] * 101


@pytest.mark.parametrize(("sessions", "letters"), [(1000, 40), (200, 180)])
def test_a_sheet_of_another_tree_takes_little_time(tmp_path: Path, sessions: int, letters: int) -> None:
    """Only the first lines are compared with the sessions. All of them took 5 to 30 s here."""
    files = {f"s{n:06d}{'ab' * (letters // 2)}/x/1": dicom(str(n)) for n in range(sessions)}
    rows = "".join(f"z{n:06d}{'ba' * (letters // 2)}/x,,s{n},s{n}_1\n" for n in range(100))
    before = time.process_time()
    plan = plan_by(tmp_path, HEAD + rows, files, labels_partial=True)
    assert time.process_time() - before < 4
    hints = ["did you mean" in problem.detail for problem in plan.problems if problem.kind == "label-unused"]
    assert (len(hints), hints[0], hints[-1]) == (100, True, False)


def test_a_text_longer_than_any_folder_is_not_compared() -> None:
    before = time.process_time()
    assert nearest("abcd" * 30_000, ["abcd" * 29_000]) is None
    assert nearest("a" * 1000, ["a" * 999]) is not None
    assert time.process_time() - before < 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("z/1,,a,b\nz/2,,a,b\nz/3,,a,b\n", "lists more than 2 sessions; divide the tree and the sheet"),
        ("z/1,,a,b\nz/2,,a,b\n,,,\n,,,\n", ""),
        ("z/1,,a,b\n\n\r\r\n\n", "has more than 5 lines: this must be the wrong file"),
        ("z/1,,a,b,,,,\n", ""),
        ("z/1,,a,b,,,,,\n", "has more than 7 columns (line 2): this must be the wrong file"),
    ],
)
def test_a_sheet_that_would_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: str, said: str
) -> None:
    for name, limit in {"MOST_ROWS": 2, "_MOST_LINES": 5, "_MOST_COLUMNS": 7}.items():
        monkeypatch.setattr(label_sheet, name, limit)
    (tmp_path / "x.csv").write_text(HEAD + rows, newline="")
    if not said:
        assert read_sheet(str(tmp_path / "x.csv")).rows
        return
    with pytest.raises(UsageError) as caught:
        read_sheet(str(tmp_path / "x.csv"))
    assert said in str(caught.value)


def test_the_limits_of_a_sheet() -> None:
    limits = (label_sheet._LIMIT, label_sheet.MOST_ROWS, label_sheet._MOST_LINES, label_sheet._MOST_COLUMNS)
    assert limits == (32 << 20, 100_000, 2_000_000, 10_000)
