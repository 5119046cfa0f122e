"""Where a file belongs: layouts of a tree, and the templates that make XNAT labels of folder names and headers."""

from __future__ import annotations

import string
from dataclasses import dataclass

from xnat_ingest import naming
from xnat_ingest.errors import UsageError
from xnat_ingest.model import Instance

# layout -> what the leading folders of a path are; `fixed` is ROOT as one session (-S and -E given).
LAYOUTS: dict[str, tuple[str, ...]] = {
    "subject/session": ("subject", "session"),
    "session": ("session",),
    "fixed": (),
}
MAX_LABEL = 64


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
            if name in ("subject", "session", "project") and name not in levels:
                raise UsageError(f"label template {text!r}: this layout has no {{{name}}} folder")
        names = frozenset(name for name, _, _ in fields)
        return cls(text, names & levels, names - levels)

    def values(self, instance: Instance) -> tuple[str, ...]:
        return tuple(instance.tags[keyword] for keyword in sorted(self.keywords))

    def fill(self, folders: dict[str, str], instance: Instance) -> str:
        """The label as the template says, legal or not."""
        tags = {keyword: instance.tags[keyword].strip() for keyword in self.keywords}
        return self.text.format_map(folders | tags)


def legal(label: str) -> str:
    """The label with illegal characters replaced. Raises BadLabel when it is empty or too long: never cut."""
    if not label:
        raise BadLabel("the label is empty")
    made = naming.legal_label(label)
    if len(made) > MAX_LABEL:
        raise BadLabel(f"the label {made} is longer than {MAX_LABEL} characters")
    return made


def require_legal(label: str, flag: str) -> None:
    """Raises UsageError when a label given on the command line is not legal: those are taken verbatim or not."""
    if not naming.LABEL.fullmatch(label):
        raise UsageError(f"{flag} {naming.printable(label)!r}: a label has 1 to 64 of the characters A-Z a-z 0-9 _ -")
