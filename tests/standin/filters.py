"""Series import filters: what XNAT drops on receipt without saying so (regular-expression modes and, roughly,
the modality map)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from tests.standin.dicomhead import Header
from tests.standin.namer import value_of

_DEFAULT_FIELD = "SeriesDescription"


def _patterns(listing: str) -> dict[str, list[str]]:
    """Patterns by keyword; a ``[TagName]`` line switches the element the following lines look at. Where a backslash
    and an n stand anywhere, these alone end lines."""
    found: dict[str, list[str]] = {}
    keyword = _DEFAULT_FIELD
    for line in (part.strip() for part in listing.split("\\n" if "\\n" in listing else "\n")):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            keyword = line[1:-1]
        else:
            found.setdefault(keyword, []).append(line)
    return found


def enabled(config: Mapping[str, Any] | None) -> bool:
    return config is not None and str(config.get("enabled", True)).lower() == "true"


def _tag(name: str) -> int | None:
    """An element by keyword, or as ``gggg,eeee`` with or without parentheses."""
    number = re.fullmatch(r"\(?([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)?", name)
    return int(number[1] + number[2], 16) if number else tag_for_keyword(name)


def _whole(header: Header, tag: int) -> str:
    """The text of an element with all its values, as it stands in the file but for the blanks at both ends."""
    vr, raw = header.values[tag]
    if (vr or dictionary_VR(tag)) in ("US", "SS", "UL", "SL", "FL", "FD"):
        return header.text(keyword_for_tag(tag)) or ""
    return raw.decode(header._encoding(), "replace").strip(" \0")


def last_tag(config: Mapping[str, Any] | None) -> int:
    """The highest element a filter looks at: the head must be read so far."""
    if not config or not enabled(config):
        return 0
    keywords = list(_patterns(str(config.get("list", "")))) or [_DEFAULT_FIELD]
    if config.get("mode") == "modalityMap":
        keywords = re.findall(r"#(\w+)#", " ".join(str(value) for value in config.values()))
    return max((_tag(keyword) or 0 for keyword in keywords), default=0)


def accepts(config: Mapping[str, Any] | None, header: Header) -> bool:
    """Whether an object passes. The first match decides: taken by a whitelist, dropped by a blacklist."""
    if not config or not enabled(config):
        return True
    if config.get("mode") == "modalityMap":
        exclude = str(config.get("exclude", ""))
        return not (exclude and _script(exclude, header))
    whitelist = config.get("mode") == "whitelist"
    for keyword, patterns in _patterns(str(config.get("list", ""))).items():
        tag = _tag(keyword)
        value = _whole(header, tag) if tag is not None and tag in header else None
        if any(_matches(pattern, value) for pattern in patterns):
            return whitelist
    return not whitelist


def _matches(pattern: str, value: str | None) -> bool:
    if pattern == "EXISTS" and value is not None:
        return True
    if pattern == "!EXISTS" and value is None:
        return True
    return value is not None and re.search(pattern, value, re.IGNORECASE | re.ASCII) is not None


def _script(script: str, header: Header) -> bool:
    """The one shape of modality-map script that can be judged without JavaScript: comparisons joined by ``||``."""
    for part in script.split("||"):
        found = re.fullmatch(r"\s*'?#(\w+)#'?\s*={2,3}\s*'([^']*)'\s*", part)
        if found and (value_of(header, found.group(1)) or "") == found.group(2):
            return True
    return False
