"""What an answer says, whether it is from XNAT, its login page, or a proxy in front of it.

These texts may come from anyone. They are shortened first and searched with `str.find`. A regular expression could take
minutes on a page that was made for that, and a signal could not stop it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape

from xnat_ingest.core.secrets import redact

# The most characters: of a page that are read, of its text that are shown, and of one tag in a document.
PAGE = 64 * 1024
SENTENCE = 300
_TAG = 4096
_SILENT = ("script", "style", "head")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w-]{1,20})", re.IGNORECASE)
_CHARSETS = frozenset(
    {
        "utf-8",
        "utf8",
        "iso-8859-1",
        "latin1",
        "iso-8859-15",
        "windows-1252",
        "us-ascii",
        "utf-16",
        "utf-16le",
        "utf-16be",
    }
)
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_ATTRIBUTE = re.compile(r'\b(\w{1,64})="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def is_page(self) -> bool:
        """Whether it is a web page, from a login or a proxy. No answer that we expect is HTML."""
        return self.status == 200 and self.headers.get("Content-Type", "").startswith("text/html")


def decoded(raw: bytes, content_type: str) -> str:
    """The text of an answer, in the charset that it declares, in UTF-8, or in Latin-1, which Java writes by default.

    A password in it must come out as it is written, or it would not be recognised and hidden. The end may be cut.
    """
    declared = _CHARSET.search(content_type[:_TAG])
    name = next((name for mark, name in _MARKS if raw.startswith(mark)), declared[1].lower() if declared else "utf-8")
    if name not in (*_CHARSETS, "utf-8-sig"):
        name = "utf-8"
    if name == "utf-8" and b"\0" in raw:  # UTF-16 or UTF-32 that nobody declares
        raw = raw.replace(b"\0", b"")
    for one in (name, "utf-8"):
        try:
            return codecs.getincrementaldecoder(one)("strict").decode(raw)
        except UnicodeError:  # also where UTF-16 is declared and its mark is missing
            raw = raw.replace(b"\0", b"")
    return raw.decode("latin-1")


def sentence(page: str) -> str:
    """The text of an error page without its tags, or its heading if there is one; at most 300 characters.

    Secrets are hidden first: without its tags, with other blanks or cut, one would not be recognised.
    """
    page = redact(page)[:PAGE]
    # Tomcat's own pages (such as a 401) give the cause after the word Message, and their name in a heading.
    text = _between(page, "<b>Message</b>", "</p>") or _between(page, "<h3>", "</h3>") or page
    # More than is shown, since one character may be written as several.
    return " ".join(unescape(" ".join(_words(text).split())[: 10 * SENTENCE]).split())[:SENTENCE]


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
    """The text between the first of each; "" when they are absent."""
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
