"""Label sheets: CSV files with one line per session, as people and spreadsheets write them."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xnat_ingest.core import UsageError, composed, from_cell, printable, spreadsheet_cell
from xnat_ingest.core.read_small import MEGABYTE, read_small

COLUMNS = ("folder", "study_uid", "subject", "session", "instances", "date", "modality", "description")
_LIMIT = 32 * MEGABYTE
# Rows of sessions: each takes about a kilobyte of memory. A spreadsheet may save its million empty rows beside them.
MOST_ROWS, _MOST_LINES = 100_000, 2_000_000
_MOST_COLUMNS = 10_000
_SEPARATORS = ",;\t"
# The start of spreadsheet files that are not text: a zip (xlsx, ods), or an old xls.
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_SAVE = "save it as CSV UTF-8 (in LibreOffice: Text CSV, character set UTF-8)"


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A line of a label sheet: it names a session by folder and study, and gives its labels.

    line: its number in the file.
    subject, session: "" to use the templates.
    as_written: the labels whose cell is marked as text, by an apostrophe or as ="007", so no spreadsheet changed them.
    instances, date, modality, description: for people, not read.
    """

    folder: str
    study_uid: str
    subject: str
    session: str
    instances: int = 0
    date: str = ""
    modality: str = ""
    description: str = ""
    line: int = 0
    as_written: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sheet:
    """A label sheet that was read. note: a sentence about how it was read, or ""."""

    path: str = ""
    rows: tuple[SheetRow, ...] = ()
    note: str = ""

    def __bool__(self) -> bool:
        return bool(self.path)  # a sheet without rows counts as given

    def matched(
        self, sessions: Sequence[tuple[str, str]], *, by_study: bool
    ) -> tuple[dict[int, SheetRow], list[SheetRow]]:
        """Index of a session -> its row, and the rows without a session.

        A row is matched by folder and study, then by folder, then by study: spreadsheets change how a folder is
        spelled, but not its UID. A row that fits two sessions is given to neither.

        sessions: (folder, study UID).
        by_study: match by study only.
        """
        places = [_Place(cell_key(printable(folder)), printable(study)) for folder, study in sessions]
        open_sessions = dict(enumerate(places))
        open_rows = dict(enumerate(_Place(cell_key(row.folder), row.study_uid) for row in self.rows))
        found: dict[int, SheetRow] = {}
        for key_of in _KEYS[-1:] if by_study else _KEYS:
            rows = _by_key(open_rows, key_of)
            for key, members in _by_key(open_sessions, key_of).items():
                if len(members) == 1 and len(rows[key]) == 1:
                    found[members[0]] = self.rows[rows[key][0]]
                    del open_sessions[members[0]], open_rows[rows[key][0]]
        return found, [self.rows[index] for index in open_rows]


NO_SHEET = Sheet()


@dataclass(frozen=True, slots=True)
class _Place:
    folder: str
    study: str


_KeyOf = Callable[[_Place], tuple[str, ...]]
_KEYS: tuple[_KeyOf, ...] = (
    lambda place: (place.folder, place.study),
    lambda place: (place.folder,),
    lambda place: (place.study,),
)


def _by_key(places: Mapping[int, _Place], key_of: _KeyOf) -> dict[tuple[str, ...], list[int]]:
    """Key -> the indices of the places with this key. A key with an empty part is left out."""
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, place in places.items():
        if all(key := key_of(place)):
            found[key].append(index)
    return found


def cell_key(text: str) -> str:
    """A folder's name in the form used for comparing."""
    return composed(text).strip().strip("/")


def read_sheet(path: str, by: str = "folder") -> Sheet:
    """The sheet in a file. Raises UsageError that names the line and what to do.

    by: the column that identifies a session, `folder` or `study_uid`. With `folder`, the study is used, too.
    """
    data = read_small(path, "label sheet", _LIMIT)
    name = f"label sheet {printable(path)}"
    text, note = _decoded(data, name)
    if "\0" in text:
        raise UsageError(f"{name} is not text: it contains a null byte; {_SAVE}")
    lines = io.StringIO(text, newline="")
    separator, before = _separator(lines)
    _check_size(lines, separator, name)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        header = [from_cell(cell).casefold() for cell in next(reader, [])]
        _check_header(header, by, name)
        numbered = ((before + reader.line_num, dict(zip(header, cells, strict=False))) for cells in reader)
        return Sheet(path, tuple(_rows(numbered, by, name)), note)
    except csv.Error as error:
        where = f"near line {before + reader.line_num}: {error}"
        raise UsageError(
            f"{name} is not a CSV file ({where}). Is a quotation mark not closed? If not, {_SAVE}"
        ) from error


def _decoded(data: bytes, name: str) -> tuple[str, str]:
    """A sheet's text, and a note when it was not UTF-8. Raises UsageError."""
    if data.startswith(_WORKBOOKS):
        raise UsageError(f"{name} is a workbook, not a CSV file; {_SAVE}")
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16"), ""
        if b"\0" in data[:4096]:
            raise UsageError(f"{name} is not text in UTF-8; {_SAVE}")
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        pass
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is neither UTF-8 nor Windows-1252 text; {_SAVE}") from error
    return text, f"{name} is not UTF-8 and was read as Windows-1252; if letters in it are wrong, {_SAVE}"


def _separator(lines: io.StringIO) -> tuple[str, int]:
    """(separator, lines before the header). The separator is in a first line `sep=;`, or the most common one."""
    first = lines.readline()
    if declared := re.fullmatch(r'"?sep=([^\w\s"]|\t)"?\s*', first, re.IGNORECASE):
        return declared[1], 1
    lines.seek(0)
    # In many countries spreadsheets save with semicolons.
    return max(_SEPARATORS, key=first.count), 0


def _check_size(lines: io.StringIO, separator: str, name: str) -> None:
    """Raises UsageError for what would take very long, or very much memory. Leaves the place in the lines as it was."""
    begin = lines.tell()
    for number, line in enumerate(lines, 1):
        if number > _MOST_LINES or line.count(separator) > _MOST_COLUMNS:
            what = f"{_MOST_LINES:,} lines" if number > _MOST_LINES else f"{_MOST_COLUMNS:,} columns (line {number})"
            raise UsageError(f"{name} has more than {what}: this must be the wrong file")
    lines.seek(begin)


def _check_header(header: Sequence[str], by: str, name: str) -> None:
    wanted = ["subject", "session"]
    if by == "study_uid" or not {"folder", "study_uid"} & set(header):
        wanted.insert(0, by)
    for column in wanted:
        if column not in header:
            raise UsageError(f"{name} has no column {column} (see plan --labels-template)")
    for column in COLUMNS[:4]:
        if header.count(column) > 1:
            raise UsageError(f"{name} has the column {column} twice; keep only one")


def _rows(numbered: Iterable[tuple[int, Mapping[str, str]]], by: str, name: str) -> Iterator[SheetRow]:
    """The rows that are not empty. numbered: (line, column -> cell)."""
    seen = set[str]()
    for line, cells in numbered:
        if not any(cell.strip() for cell in cells.values()):
            continue
        if any(_swallows(column, cell) for column, cell in cells.items()):
            raise UsageError(f"{name}, line {line}: a cell goes over several lines; is a quotation mark not closed?")
        folder, study_uid, subject, session = (from_cell(cells.get(column, "")) for column in COLUMNS[:4])
        as_written = frozenset(column for column in ("subject", "session") if _is_marked(cells.get(column, "")))
        key = study_uid if by == "study_uid" else " ".join(filter(None, (cell_key(folder), study_uid)))
        if not key:
            raise UsageError(
                f"{name}, line {line}: {by} is empty, so the session is unknown; fill it in or delete the line"
            )
        if key in seen:
            column = "folder" if by == "folder" and folder else "study_uid"
            raise UsageError(
                f"{name}, line {line}: another line has the same {column} (listed twice); keep only one of them"
            )
        seen.add(key)
        if len(seen) > MOST_ROWS:
            raise UsageError(
                f"{name} lists more than {MOST_ROWS:,} sessions; divide the tree and the sheet, and run each part alone"
            )
        yield SheetRow(folder, study_uid, subject, session, line=line, as_written=as_written)


def _swallows(column: str, cell: str) -> bool:
    """Whether a cell has taken in lines of the sheet. A remark may have several lines, but no cells of others."""
    lines = cell.splitlines()
    if column in COLUMNS[:4]:
        return not {"\r", "\n"}.isdisjoint(cell)
    return len(lines) > 1 and any(line.count(separator) > 1 for line in lines for separator in _SEPARATORS)


def _is_marked(cell: str) -> bool:
    """Whether a cell is marked as text."""
    return cell.strip().startswith(("'", '="'))


def sheet_text(rows: Iterable[SheetRow]) -> str:
    """The text of a label sheet, for editing."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([spreadsheet_cell(printable(str(getattr(row, column)))) for column in COLUMNS])
    return stream.getvalue()
