"""Where a file belongs: layouts of a tree, templates that make XNAT labels, sheets (CSV) that give them."""

from __future__ import annotations

import csv
import io
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from xnat_ingest.core import text as naming
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.model import Instance

# layout -> what the leading folders of a path are; `fixed` is ROOT as one session (-S and -E given).
LAYOUTS: dict[str, tuple[str, ...]] = {
    "subject/session": ("subject", "session"),
    "project/subject/session": ("project", "subject", "session"),
    "session": ("session",),
    "headers": (),
    "fixed": (),
}
# With `headers` folders are ignored, one session per study.
HEADER_TEMPLATES = ("{PatientID}", "{PatientID}_{StudyDate}")
MAX_LABEL = 64
_PLACES = ("subject", "session", "project")


class BadLabel(Exception):
    """No legal label can be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Template:
    """A label template: text with placeholders, each a folder level (`subject`, `session`) or a DICOM keyword."""

    text: str
    levels: frozenset[str]
    keywords: frozenset[str]

    @classmethod
    def parse(cls, text: str, levels: frozenset[str]) -> Template:
        """levels: the placeholders that the layout fills. Raises UsageError for what is no placeholder."""
        try:
            fields = [(name, spec, conv) for _, name, spec, conv in string.Formatter().parse(text) if name is not None]
        except ValueError as error:
            raise UsageError(f"label template {text!r}: {error}") from error
        for name, spec, conv in fields:
            if not name.isidentifier() or spec or conv:
                raise UsageError(f"label template {text!r}: {{{name}}} is not a folder level or a DICOM keyword")
            if name in _PLACES and name not in levels:
                raise UsageError(f"label template {text!r}: this layout has no {{{name}}} folder")
            # Keywords begin with a capital: what does not was meant to be a folder level.
            if name not in levels and (name[0].islower() or name.casefold() in levels):
                near = naming.nearest(name, sorted(levels))
                hint = f"; did you mean {{{near}}}?" if near else ""
                raise UsageError(f"label template {text!r}: {{{name}}} is not a folder level or a DICOM keyword{hint}")
        names = frozenset(name for name, _, _ in fields)
        return cls(text, names & levels, names - levels)

    def values(self, instance: Instance) -> tuple[str, ...]:
        return tuple(instance.tags[keyword] for keyword in sorted(self.keywords))

    def fill(self, folders: dict[str, str], instance: Instance) -> str:
        """The label as the template says, legal or not. Raises BadLabel when a header value in it is empty."""
        tags = {keyword: instance.tags[keyword].strip() for keyword in self.keywords}
        if empty := sorted(keyword for keyword, value in tags.items() if not value):
            raise BadLabel(f"{empty[0]} is empty in the headers")
        return self.text.format_map(folders | tags)


def legal(label: str) -> str:
    """The label with illegal characters replaced. Raises BadLabel when it is empty or too long: never cut."""
    if not label:
        raise BadLabel("the label is empty")
    made = naming.legal_label(label)
    if len(made) > MAX_LABEL:
        raise BadLabel(f"the label {made} is longer than {MAX_LABEL} characters")
    return made


def is_project_id(text: str) -> bool:
    """Whether a project may be called so; in an address `.` and `..` would lead elsewhere."""
    return text.isprintable() and not set(text) & set("/?#%") and text.strip() not in ("", ".", "..")


def require_legal(label: str, flag: str) -> None:
    """Raises UsageError when a label given on the command line is not legal: those are taken verbatim or not."""
    if not naming.LABEL.fullmatch(label):
        raise UsageError(f"{flag} {naming.printable(label)!r}: a label has 1 to 64 of the characters A-Z a-z 0-9 _ -")


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A line of a label sheet: a session by its folder and study, and the labels it is to have; "" where the
    templates decide."""

    folder: str
    study_uid: str
    subject: str
    session: str
    instances: int = 0


COLUMNS = ("folder", "study_uid", "subject", "session", "instances")


def read_sheet(path: str, by: str) -> Mapping[str, SheetRow]:
    """A label sheet's rows by `folder` or `study_uid`. Raises UsageError naming the line."""
    rows: dict[str, SheetRow] = {}
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            # Spreadsheets of many countries save with semicolons; the header line tells.
            header = stream.readline()
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=max(",;\t", key=header.count))
            wanted = {by, "subject", "session"}
            if lacking := sorted(wanted - set(reader.fieldnames or ())):
                raise UsageError(f"label sheet {path} has no column {lacking[0]} (see plan --labels-template)")
            for entry in reader:
                folder, study_uid, subject, session = ((entry.get(c) or "").strip() for c in COLUMNS[:4])
                row = SheetRow(folder, study_uid, subject, session)
                key = getattr(row, by)
                if not key or key in rows:
                    fault = "is there twice" if key else "is empty"
                    raise UsageError(f"label sheet {path}, line {reader.line_num}: {by} {key} {fault}")
                rows[key] = row
    except OSError as error:
        raise UsageError(f"cannot read label sheet {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"label sheet {path} is not a CSV file in UTF-8") from error
    except ValueError as error:
        raise UsageError(f"label sheet {naming.printable(path)}: no file has such a name") from error
    return rows


def sheet_text(rows: Iterable[SheetRow]) -> str:
    """A label sheet to be edited."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    writer.writerows((r.folder, r.study_uid, r.subject, r.session, r.instances) for r in rows)
    return stream.getvalue()
