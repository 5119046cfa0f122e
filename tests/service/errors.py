"""Why the service does not take a document, does not open its form, or does not start a container."""

from __future__ import annotations


class Unreadable(Exception):
    """The document never becomes a command: ``status`` is what the POST answers, 400 (reader) or 500 (crash)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Refusal(Exception):
    """A launch that ends as "Failed (Command resolution)", or a form that does not open."""


class IllegalInput(Refusal):
    """A value holds one of the five strings that are never let through."""


class MissingInput(Refusal):
    """A required input has no value."""


class Ambiguous(Refusal):
    """A required input, or the source of a mount, has several values."""


class Collision(Refusal):
    """Two inputs, or two environment variables, of one name."""


class NotMountable(Refusal):
    """The input that should give its files to a mount cannot."""


class TooLong(Refusal):
    """A value does not fit its database column of 255 characters."""


class JsonPath(Refusal):
    """Text between two carets is searched as JSONPath in the command itself."""


class Unresolvable(Refusal):
    """An object, a wrapper or a secret that the site does not have."""


class NoCommandLine(Refusal):
    """A command without a line: the word splitter is called with nothing."""
