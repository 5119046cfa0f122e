"""--redact-paths: folders may be named after patients, so their names must stay out of reports and logs.

From the plan on, every folder and file has a made-up name. The source translates it back to the real one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import BinaryIO

from xnat_ingest.core import LABEL, Plan, Problem, SetAside, SourceFile, composed, printable
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.zip_directory import unlisted_name

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


def redacted(plan: Plan, source: RedactedSource, listed: Iterable[str] = ()) -> Plan:
    """The plan with made-up names of folders and files, in messages, too. listed: folders of the label sheet."""
    paths = {i.path for session in plan.sessions for i in session.instances}
    paths |= {aside.path for aside in plan.set_aside} | {session.folder for session in plan.sessions}
    paths |= set(filter(None, listed))
    labels = {word for s in plan.sessions for word in (s.project, s.subject, s.label)}
    say = _sentences(paths, labels, source)

    def problem(one: Problem) -> Problem:
        return replace(one, detail=say(one.detail), fix=say(one.fix))

    sessions = [
        replace(
            session,
            folder=source.redact(session.folder),
            instances=tuple(replace(i, path=source.redact(i.path)) for i in session.instances),
            conflicts=tuple(map(problem, session.conflicts)),
            repaired=source.redact(session.repaired),
        )
        for session in plan.sessions
    ]
    aside = tuple(replace(one, path=source.redact(one.path), detail=say(one.detail)) for one in plan.set_aside)
    problems = tuple(map(problem, plan.problems))
    return replace(plan, sessions=tuple(sessions), set_aside=aside, problems=problems)


def _sentences(paths: Iterable[str], labels: set[str], source: RedactedSource) -> Callable[[str], str]:
    """A function that replaces paths and names in a message. labels: words that are shown anyway."""
    words = {path: source.redact(path) for path in paths if "/" in path}
    for path in paths:
        words |= {part: source.redact(part) for part in path.split("/") if len(part) >= _SHORTEST}
    # Labels are made of composed letters.
    forms = {printable(form): made for word, made in words.items() for form in (word, composed(word))}
    shown = {word: made for word, made in forms.items() if word not in labels}
    by_part = _by_part(shown)

    @lru_cache(maxsize=4096)  # many files have one remedy
    def say(text: str) -> str:
        if name := unlisted_name(text):
            text = text.replace(name, source.redact(name))
        may_be_in = {word for part in ("", *_PARTS.findall(text)) for word in by_part.get(part, ())}
        for word in sorted(may_be_in, key=lambda word: (-len(word), word)):
            if word in text:
                text = _with(shown[word], word, text)
        return text

    return say


# A name stands alone, so each of these parts of it is a whole one in the sentence, too.
_PARTS = re.compile(r"[^\W_]+")


def _by_part(words: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """The words by the rarest of their parts, "" for those without any: not each word is looked for in each text."""
    parts = {word: set(_PARTS.findall(word)) for word in words}
    often = Counter(part for found in parts.values() for part in found)
    by_part: dict[str, list[str]] = defaultdict(list)
    for word, found in parts.items():
        by_part[min(found, key=lambda part: (often[part], part), default="")].append(word)
    return by_part


def _with(made: str, word: str, text: str) -> str:
    """The text with another word in place of a name that is not part of a longer one.

    A name that no label can have stands for itself before or behind `_`, too, where labels are joined of names.
    """
    joining = "_-" if LABEL.fullmatch(word) else ""
    pieces, begin, at = [], 0, text.find(word)
    while at >= 0:
        end = at + len(word)
        beside = text[at - 1 : at] + text[end : end + 1] if at else text[end : end + 1]
        if any(sign.isalnum() or sign in joining for sign in beside):
            at = text.find(word, at + 1)
            continue
        pieces += [text[begin:at], made]
        begin, at = end, text.find(word, end)
    return "".join([*pieces, text[begin:]])
