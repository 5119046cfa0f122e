"""Notes in a plan about files that are changed before sending, or have a flaw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from xnat_ingest.core import Instance, Problem, Session, printable

_COUNTED: dict[str, tuple[Callable[[Instance], bool], str]] = {
    "inflated": (
        lambda i: i.form == "inflated",
        "{} deflated files are sent inflated: XNAT would store them without their pixels",
    ),
    "header-added": (
        lambda i: i.form == "headed",
        "{} files do not say how they are encoded, or say it wrongly; they are sent with a correct file header",
    ),
    "unended": (
        lambda i: i.flaw == "unended",
        "{} files have no end mark after their compressed pixel data; the pixels are complete, and are sent",
    ),
    "study-date": (
        lambda i: i.flaw == "study-date" and i.sent_tags is None,
        "{} files have a StudyDate that does not begin with four digits; XNAT refuses such files, so correct it",
    ),
}


def form_notes(sessions: Sequence[Session]) -> list[Problem]:
    """One note for each kind of change, with the number of files; one for each truncated file."""
    notes = [_count(kind, sessions) for kind in _COUNTED]
    return [note for note in notes if note] + list(_truncated(sessions))


def _count(kind: str, sessions: Iterable[Session]) -> Problem | None:
    applies, text = _COUNTED[kind]
    numbers = {session.label: sum(map(applies, session.instances)) for session in sessions}
    labels = tuple(label for label, number in numbers.items() if number)
    return Problem(kind, text.format(sum(numbers.values())), labels) if labels else None


def _truncated(sessions: Iterable[Session]) -> Iterator[Problem]:
    for session in sessions:
        for instance in session.instances:
            if instance.flaw == "truncated":
                text = f"{printable(instance.path)} is truncated, but is sent (--accept-truncated)"
                yield Problem("truncated-sent", text, (session.label,))
