"""What a server's answer says, whoever gave it: XNAT, its login page, or a proxy in front of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape


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
    # Tomcat's own pages (a 401 is one) give the cause beside the word Message, and their name in a heading.
    told = re.search(r"<b>Message</b>(.*?)</p>", page, re.DOTALL) or re.search(r"<h3>(.*?)</h3>", page, re.DOTALL)
    text = told[1] if told else re.sub(r"(?s)<(script|style|head).*?</\1>", " ", page)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())[:300]
