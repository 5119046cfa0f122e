"""What a server's answer says, whoever gave it: XNAT, its login page, or a proxy in front of it.

Nobody knows who writes these texts. They are cut first and searched by `str.find`: a pattern that looks for an end
which never comes would take minutes on a page that was made for that, and no signal would be heard meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape

# Characters: of a page that are looked at, of what it says that is shown, and of one tag in a document.
PAGE = 64 * 1024
SENTENCE = 300
_TAG = 4096
_SILENT = ("script", "style", "head")
_ATTRIBUTE = re.compile(r'\b(\w{1,64})="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def is_page(self) -> bool:
        """A web page where none was asked for: a login page, or a proxy's. No answer that we want is HTML."""
        return self.status == 200 and self.headers.get("Content-Type", "").startswith("text/html")


def sentence(page: str) -> str:
    """What an error page says, without its tags: the heading where there is one, at most 300 characters."""
    page = page[:PAGE]
    # Tomcat's own pages (a 401 is one) give the cause beside the word Message, and their name in a heading.
    told = _between(page, "<b>Message</b>", "</p>") or _between(page, "<h3>", "</h3>") or page
    # Twice as much as is shown, since a character may be written as several.
    return " ".join(unescape(" ".join(_words(told).split())[: 10 * SENTENCE]).split())[:SENTENCE]


def tags(document: str, name: str) -> Iterator[dict[str, str]]:
    """The attributes of every element of this name in an XML document, in order."""
    begin, at = f"<{name}", 0
    while (found := document.find(begin, at)) >= 0:
        end = document.find(">", found)
        if end < 0:
            return
        at = found + len(begin)
        inside = document[at : min(end, at + _TAG)]
        if not inside[:1].isalnum() and not inside.startswith(("-", "_", ":", ".")):  # a longer name
            yield dict(_ATTRIBUTE.findall(inside))


def _between(page: str, begin: str, end: str) -> str:
    """What stands between the first of both; "" where it is not there."""
    start = page.find(begin)
    if start < 0:
        return ""
    stop = page.find(end, start)
    return page[start + len(begin) : stop] if stop >= 0 else ""


def _words(page: str) -> str:
    """The text outside of tags, scripts and styles."""
    lowered = page.lower() if len(page.lower()) == len(page) else page
    words, at = [], 0
    while (begin := page.find("<", at)) >= 0:
        words.append(page[at:begin])
        silent = next((name for name in _SILENT if _is_named(lowered, begin + 1, name)), "")
        end = lowered.find(f"</{silent}", begin) if silent else begin
        end = page.find(">", end) if end >= 0 else -1
        if end < 0:
            return " ".join(words)
        at = end + 1
    return " ".join([*words, page[at:]])


def _is_named(page: str, at: int, name: str) -> bool:
    return page.startswith(name, at) and not page[at + len(name) : at + len(name) + 1].isalnum()
