"""A list of rules in one text, as a flag, a variable or the launch form gives it: commas separate the rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from xnat_ingest.core import UsageError, printable

# KEYWORD=pattern, or path=GLOB.
_HEAD = re.compile(r"\s*([^\W\d]\w*)=")
# A regular expression in pieces. What belongs together: an escaped character, a character class, a count.
_EXPRESSION = re.compile(r"\\.|\[\^?\]?(?:\\.?|[^\]\\])*(?:\]|\Z)|\{\d*,\d*\}|.", re.DOTALL)
# A glob in pieces. It has no brackets of its own, but the name of a folder may have some.
_GLOB = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|.", re.DOTALL)
# An element by its number, as other tools name it.
_NUMBERED = re.compile(r"(?:\A|,)\s*\([0-9a-f]{4},\s*[0-9a-f]{4}\)\s*=", re.IGNORECASE)
# A comma within a pattern, and behind it what looks like another rule.
_SWALLOWED = re.compile(r"(?<!\\),\s*((?:[^\W\d]\w*=|preset:).*)", re.DOTALL)


def split_rules(text: str, where: str) -> list[str]:
    """The rules in a text.

    A comma within brackets, or behind a backslash, belongs to the pattern of a rule. Raises UsageError where a word
    could be a rule or a part of the pattern before it: what it names must not be sent by mistake.
    """
    if _NUMBERED.search(text):
        raise UsageError(f"{where}: {printable(text)!r}: name the element by its keyword, as in Modality=SR")
    if "," not in text and _HEAD.match(text):
        return [text.lstrip()]  # a pattern may end with a blank
    rules: list[str] = []
    for rule in filter(None, map(str.strip, _pieces(text))):
        is_word = not (_HEAD.match(rule) or rule.startswith("preset:"))
        if is_word and rules and _HEAD.match(rules[-1]):
            raise _unclear(text, where, rule)
        if _HEAD.match(rule) and (swallowed := _SWALLOWED.search(rule)):
            raise _unclear(text, where, swallowed[1])
        rules.append(rule)
    return rules


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start <= len(text):
        end = _end(text, start)
        yield text[start:end]
        start = end + 1


def _end(text: str, start: int) -> int:
    """Where the rule that starts there ends: at the next comma that does not belong to its pattern, or with the text.

    A group that is never closed takes all the rest, so that the pattern is refused.
    """
    head = _HEAD.match(text, start)
    if head is None:
        comma = text.find(",", start)
        return comma if comma >= 0 else len(text)
    is_glob, depth = head[1] == "path", 0
    for piece in (_GLOB if is_glob else _EXPRESSION).finditer(text, head.end()):
        if piece[0] == "," and depth <= 0:
            return piece.start()
        if not is_glob:
            depth += {"(": 1, ")": -1}.get(piece[0], 0)
    return len(text)


def _unclear(text: str, where: str, word: str) -> UsageError:
    return UsageError(
        f"{where}: in {printable(text)!r}, {printable(word)} may be a rule of its own, or the rest of the pattern "
        "before it. Write rules that are plain words first, and close the brackets of a pattern. Or write the comma of "
        "a pattern as \\, and that of a path as ?"
    )
