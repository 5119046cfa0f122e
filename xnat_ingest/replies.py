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
    heading = re.search(r"<h3>(.*?)</h3>", page, re.DOTALL | re.IGNORECASE)
    text = heading[1] if heading else re.sub(r"(?s)<(script|style|head).*?</\1>", " ", page)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())[:300]
