"""Sheets (CSV) that give sessions their labels one by one, as people and spreadsheets write them."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.read_small import MEGABYTE, read_small
from xnat_ingest.core.text import composed, from_cell, printable, spreadsheet_cell

COLUMNS = ("folder", "study_uid", "subject", "session", "instances", "date", "modality", "description")
_LIMIT = 64 * MEGABYTE
# What a spreadsheet saves that is not text: a zip (xlsx, ods), or an old xls.
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_SAVE = "save it as CSV UTF-8 (in LibreOffice: Text CSV, character set UTF-8)"


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A line of a label sheet: a session by its folder and study, and the labels it is to have.

    line: its number in the file.
    subject, session: "" where the templates decide.
    as_written: the labels whose cell says that it is text, by an apostrophe or as ="007", so that no spreadsheet has
        changed it.
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
    """A label sheet that was read. note: a sentence about how it was read, "" when there is nothing to say."""

    path: str = ""
    rows: tuple[SheetRow, ...] = ()
    note: str = ""

    def __bool__(self) -> bool:
        return bool(self.path)  # one without a row was given, too

    def matched(
        self, sessions: Sequence[tuple[str, str]], *, by_study: bool
    ) -> tuple[dict[int, SheetRow], list[SheetRow]]:
        """Which row each session has, by its index, and the rows that none has. sessions: (folder, study UID).

        A row is found by folder and study, else by its folder, else by its study: spreadsheets change how a folder is
        spelled, not its UID. by_study: the folder has no say. A row that fits two sessions fits none of them.
        """
        places = [_Place(cell_key(printable(folder)), study) for folder, study in sessions]
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
    """Indices of the places that have the same key, all of it."""
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, place in places.items():
        if all(key := key_of(place)):
            found[key].append(index)
    return found


def cell_key(text: str) -> str:
    """A folder's name as it is compared."""
    return composed(text).strip().strip("/")


def read_sheet(path: str, by: str = "folder") -> Sheet:
    """The sheet in a file. by: the column that finds a session, `folder` or `study_uid`; with `folder` the other one
    does, too. Raises UsageError naming the line and what to do."""
    data = read_small(path, "label sheet", _LIMIT)
    name = f"label sheet {printable(path)}"
    text, note = _decoded(data, name)
    if "\0" in text:
        raise UsageError(f"{name} is not text: there is a null in it; {_SAVE}")
    lines = io.StringIO(text, newline="")
    separator, before = _separator(lines)
    reader = csv.reader(lines, delimiter=separator)
    try:
        header = [from_cell(cell).casefold() for cell in next(reader, [])]
        _check_header(header, by, name)
        numbered = ((before + reader.line_num, dict(zip(header, cells, strict=False))) for cells in reader)
        return Sheet(path, tuple(_rows(numbered, by, name)), note)
    except csv.Error as error:
        raise UsageError(f"{name} is not a CSV file ({error}); {_SAVE}") from error


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
    """(the cells' separator, lines before the header). A first line `sep=;` tells, or what the header has most of."""
    first = lines.readline()
    if told := re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE):
        return told[1], 1
    lines.seek(0)
    # Spreadsheets of many countries save with semicolons.
    return max(",;\t", key=first.count), 0


def _check_header(header: Sequence[str], by: str, name: str) -> None:
    wanted = ["subject", "session"]
    if by == "study_uid" or not {"folder", "study_uid"} & set(header):
        wanted.insert(0, by)
    for column in wanted:
        if column not in header:
            raise UsageError(f"{name} has no column {column} (see plan --labels-template)")
    for column in COLUMNS[:4]:
        if header.count(column) > 1:
            raise UsageError(f"{name} has two columns {column}; keep one of them")


def _rows(numbered: Iterable[tuple[int, Mapping[str, str]]], by: str, name: str) -> Iterator[SheetRow]:
    """The rows that say something. numbered: (line, column -> cell)."""
    seen = set[str]()
    for line, cells in numbered:
        if not any(cell.strip() for cell in cells.values()):
            continue
        folder, study_uid, subject, session = (from_cell(cells.get(column, "")) for column in COLUMNS[:4])
        as_written = frozenset(column for column in ("subject", "session") if _is_marked(cells.get(column, "")))
        key = study_uid if by == "study_uid" else " ".join(filter(None, (cell_key(folder), study_uid)))
        if not key:
            raise UsageError(f"{name}, line {line}: {by} is empty; nothing says which session this is")
        if key in seen:
            column = "folder" if by == "folder" and folder else "study_uid"
            raise UsageError(f"{name}, line {line}: {column} {printable(key)} is there twice; keep one of the lines")
        seen.add(key)
        yield SheetRow(folder, study_uid, subject, session, line=line, as_written=as_written)


def _is_marked(cell: str) -> bool:
    """Whether a cell says of itself that it is text."""
    return cell.strip().startswith(("'", '="'))


def sheet_text(rows: Iterable[SheetRow]) -> str:
    """A label sheet to be edited."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([spreadsheet_cell(str(getattr(row, column))) for column in COLUMNS])
    return stream.getvalue()
