"""The layouts of a tree, and the templates that make XNAT labels."""

from __future__ import annotations

import string
from dataclasses import dataclass

from xnat_ingest.core import LABEL, Instance, UsageError, legal_label, nearest, printable

# layout -> the meaning of the leading folders of a path. `fixed` means ROOT is one session (-S and -E given).
LAYOUTS: dict[str, tuple[str, ...]] = {
    "subject/session": ("subject", "session"),
    "project/subject/session": ("project", "subject", "session"),
    "session": ("session",),
    "headers": (),
    "fixed": (),
}
# With `headers` folders are ignored, and each study is a session.
HEADER_TEMPLATES = ("{PatientID}", "{PatientID}_{StudyDate}")
MAX_LABEL = 64
_PLACES = ("subject", "session", "project")


class BadLabel(Exception):
    """No valid label can be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Template:
    """A label template: text with placeholders, each a folder level (`subject`, `session`) or a DICOM keyword."""

    text: str
    levels: frozenset[str]
    keywords: frozenset[str]

    @classmethod
    def parse(cls, text: str, levels: frozenset[str]) -> Template:
        """levels: the placeholders that the layout fills. Raises UsageError for an unknown placeholder."""
        try:
            fields = [(name, spec, conv) for _, name, spec, conv in string.Formatter().parse(text) if name is not None]
        except ValueError as error:
            raise UsageError(f"label template {text!r}: {error}") from error
        for name, spec, conv in fields:
            if not name.isidentifier() or spec or conv:
                raise UsageError(f"label template {text!r}: {{{name}}} is not a folder level or a DICOM keyword")
            if name in _PLACES and name not in levels:
                raise UsageError(f"label template {text!r}: this layout has no {{{name}}} folder")
            # DICOM keywords begin with a capital. Other words were meant to be a folder level.
            if name not in levels and (name[0].islower() or name.casefold() in levels):
                near = nearest(name, sorted(levels))
                hint = f"; did you mean {{{near}}}?" if near else ""
                raise UsageError(f"label template {text!r}: {{{name}}} is not a folder level or a DICOM keyword{hint}")
        names = frozenset(name for name, _, _ in fields)
        return cls(text, names & levels, names - levels)

    def values(self, instance: Instance) -> tuple[str, ...]:
        return tuple(instance.leaving[keyword] for keyword in sorted(self.keywords))

    def fill(self, folders: dict[str, str], instance: Instance) -> str:
        """The label from the template, valid or not. Raises BadLabel when a header value in it is empty."""
        tags = {keyword: instance.leaving[keyword].strip() for keyword in self.keywords}
        if empty := sorted(keyword for keyword, value in tags.items() if not value):
            if instance.tags[empty[0]].strip():
                raise BadLabel(f"{empty[0]} is removed by --deidentify, so a label cannot use it")
            raise BadLabel(f"{empty[0]} is empty in the headers")
        return self.text.format_map(folders | tags)


def legal(label: str) -> str:
    """The label with illegal characters replaced. Raises BadLabel when it is empty or too long; it is never cut."""
    if not label:
        raise BadLabel("the label is empty")
    made = legal_label(label)
    if len(made) > MAX_LABEL:
        raise BadLabel(f"the label {made} is longer than {MAX_LABEL} characters")
    return made


def is_project_id(text: str) -> bool:
    """Whether this can be a project's id. In a URL `.` and `..` would address something else."""
    return text.isprintable() and not set(text) & set("/?#%") and text.strip() not in ("", ".", "..")


def require_legal(label: str, flag: str) -> None:
    """Raises UsageError when a label from the command line is not valid. Such labels are never changed."""
    if not LABEL.fullmatch(label):
        raise UsageError(f"{flag} {printable(label)!r}: a label must be 1 to 64 of the characters A-Z a-z 0-9 _ -")
