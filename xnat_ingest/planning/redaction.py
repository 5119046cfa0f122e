"""--redact-paths: folders may be named after patients, so their names must stay out of reports and logs.

From the plan on, every folder and file has a made-up name. The source translates it back to the real one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import BinaryIO

from xnat_ingest.core import Plan, Problem, SetAside, SourceFile, composed, printable
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.source import go_on, heard
from xnat_ingest.inputs.zip_directory import unlisted_name
from xnat_ingest.planning.standing_words import StandingWords

# Shorter names are replaced in paths, but not in sentences, where they may be ordinary words.
_SHORTEST = 3


class RedactedSource:
    """A source that also knows its files by made-up names."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._real: dict[str, str] = {}
        self._secret = secrets.token_bytes(32)

    def files(self) -> Iterator[SourceFile | SetAside]:
        return self._source.files()

    def open(self, path: str) -> BinaryIO:
        return self._source.open(self._real.get(path, path))

    def stat(self, path: str) -> tuple[int, int]:
        return self._source.stat(self._real.get(path, path))

    def changed_ns(self, path: str) -> int:
        return self._source.changed_ns(self._real.get(path, path))

    def in_order(self, path: str) -> bool:
        return self._source.in_order(self._real.get(path, path))

    def name_of(self, folder: str) -> str:
        return self._source.name_of(folder)

    def redact(self, path: str) -> str:
        """The made-up path of a file. A name is replaced by the same made-up one throughout a run."""
        redacted = "/".join(self._name(part) for part in path.split("/"))
        self._real[redacted] = path
        return redacted

    def _name(self, part: str) -> str:
        if part in ("", "."):
            return part
        digest = hmac.new(self._secret, part.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
        return f"n-{digest[:12]}"


def redacted(
    plan: Plan, source: RedactedSource, listed: Iterable[str] = (), check_stop: Callable[[], None] = go_on
) -> Plan:
    """The plan with made-up names of folders and files, in messages, too.

    listed: folders of the label sheet.
    check_stop: called now and then; may raise.
    """
    paths = {i.path for session in plan.sessions for i in session.instances}
    paths |= {aside.path for aside in plan.set_aside} | {session.folder for session in plan.sessions}
    paths |= set(filter(None, listed))
    labels = {word for s in plan.sessions for word in (s.project, s.subject, s.label)}
    say = _sentences(paths, labels, source, check_stop)

    def problem(one: Problem) -> Problem:
        return replace(one, detail=say(one.detail), fix=say(one.fix))

    sessions = [
        replace(
            session,
            folder=source.redact(session.folder),
            instances=tuple(replace(i, path=source.redact(i.path)) for i in heard(session.instances, check_stop)),
            conflicts=tuple(map(problem, session.conflicts)),
            repaired=source.redact(session.repaired),
        )
        for session in plan.sessions
    ]
    aside = tuple(replace(one, path=source.redact(one.path), detail=say(one.detail)) for one in plan.set_aside)
    problems = tuple(map(problem, plan.problems))
    return replace(plan, sessions=tuple(sessions), set_aside=aside, problems=problems)


def _sentences(
    paths: Iterable[str], labels: set[str], source: RedactedSource, check_stop: Callable[[], None]
) -> Callable[[str], str]:
    """A function that replaces paths and names in a message. labels: words that are shown anyway."""
    words = {path: source.redact(path) for path in heard(paths, check_stop) if "/" in path}
    for path in heard(paths, check_stop):
        words |= {part: source.redact(part) for part in path.split("/") if len(part) >= _SHORTEST}
    # Labels are made of composed letters.
    forms = {printable(form): made for word, made in words.items() for form in (word, composed(word))}
    shown = {word: made for word, made in forms.items() if word not in labels}
    names = StandingWords(shown, check_stop)

    @lru_cache(maxsize=4096)  # many files have one remedy
    def say(text: str) -> str:
        check_stop()
        if name := unlisted_name(text):
            text = text.replace(name, source.redact(name))
        return names.replaced(text)

    return say
