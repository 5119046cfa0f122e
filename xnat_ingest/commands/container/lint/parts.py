"""The objects of a command document with their paths, and texts as the service reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xnat_ingest.core import nearest


@dataclass(frozen=True, slots=True)
class CommandPart:
    """A JSON object of the document.

    path: its path, "" for the whole document
    """

    path: str
    members: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.text("name")

    @property
    def key(self) -> str:
        """The placeholder of an input's value in templates."""
        own = self.text("replacement-key")
        return own if own.strip() else f"#{self.name}#"

    def at(self, member: str) -> str:
        return f"{self.path}.{member}" if self.path else member

    def given(self, member: str) -> bool:
        """Null is the same as absent."""
        return self.members.get(member) is not None

    def text(self, member: str) -> str:
        return as_text(self.members.get(member))

    def flag(self, member: str, default: bool = False) -> bool:
        text = self.text(member).lower()
        return text == "true" if text else default

    def texts(self, member: str) -> list[str]:
        return [as_text(value) for value in self.members.get(member) or ()]

    def table(self, member: str) -> dict[str, str]:
        return {name: as_text(value) for name, value in (self.members.get(member) or {}).items()}

    def parts(self, member: str) -> list[CommandPart]:
        listed = self.members.get(member) or ()
        return [CommandPart(f"{self.at(member)}[{index}]", item) for index, item in enumerate(listed)]


CommandRule = Callable[[CommandPart], Iterator[str]]
WrapperRule = Callable[[CommandPart, CommandPart], Iterator[str]]

# Two carets in a text that is filled in mark a JSONPath into the document; what the service takes is from the first
# caret to the last.
_PATH = re.compile(r"\^(?:wrapper:)?(.+)\^")


def as_text(value: object) -> str:
    """The service turns numbers and booleans into text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def json_path(text: str) -> str | None:
    """What the service would look up in the document when it fills in this text; None when nothing."""
    found = _PATH.search(text)
    return found[1] if found else None


def inputs(wrapper: CommandPart) -> list[CommandPart]:
    """External and derived ones, in the order in which the service reads them."""
    return wrapper.parts("external-inputs") + wrapper.parts("derived-inputs")


def kind(part: CommandPart) -> str:
    """An input's type; without one it is a string."""
    return part.text("type") or "string"


def twice(parts: list[CommandPart], what: str) -> Iterator[str]:
    """One fault for each part that is named as an earlier one."""
    seen: dict[str, str] = {}
    for part in parts:
        if part.name in seen:
            yield f"{part.at('name')}: {seen[part.name]} is named {part.name!r} too; give each {what} a name of its own"
        seen.setdefault(part.name, part.path)


def hint(word: str, known: Collection[str]) -> str:
    """What to write instead of a name that is not known."""
    near = nearest(word, list(known))
    if near:
        return f"did you mean {near}?"
    return f"known: {', '.join(known)}" if known else "there are none"
