"""The command line's way into words, when the entrypoint is not overridden."""

from __future__ import annotations

# Java's Character.isWhitespace leaves out the non-breaking spaces and NEL, which str.isspace takes.
_NOT_IN_JAVA = "\x85\xa0\u2007\u202f"


def is_blank(text: str | None) -> bool:
    """Nothing, or nothing but what Java calls white space."""
    return not text or all(is_space(character) for character in text)


def is_space(character: str) -> bool:
    return character.isspace() and character not in _NOT_IN_JAVA


def split(line: str) -> list[str]:
    """Words as the service cuts them: quotes and backslashes work, nothing is expanded.

    Unlike a shell it drops an empty quoted word, lets a backslash escape any character between double quotes, and
    takes an unclosed quote or a trailing backslash without a word of complaint.
    """
    words: list[str] = []
    word = ""
    quote = ""
    escaped = False
    for character in line:
        if escaped:
            word += character
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote and character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        elif not quote and is_space(character):
            words += [word] if word else []
            word = ""
        else:
            word += character
    return [*words, word] if word else words
