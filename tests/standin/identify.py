"""Where an object belongs when the request does not say: XNAT's default identifier (section 2.1 and 2.2).

Routing expressions come first: those of the receiver that took the object, then those of the site. An expression is
``(gggg,eeee):REGEX``, optionally with ``:N`` (which group counts, 1 by default) and ``t:FROM r:TO`` (a replacement in
it); the regular expression must match the whole value, of which only the first 64 characters are looked at. Several
expressions are one a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.datadict import keyword_for_tag

from tests.standin.dicomhead import Header
from tests.standin.model import Project
from tests.standin.namer import label_chars, value_of
from tests.standin.tables import RestError

if TYPE_CHECKING:
    from tests.standin.server import StandIn

_COMMENTS = ("PatientComments", "StudyComments", "AdditionalPatientHistory")
_EXPRESSION = re.compile(r"\(([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\):(.+?)(?::(\d+))?(?: t:(.*) r:(.*))?")
_VALUE_LIMIT = 64


@dataclass(frozen=True)
class Routing:
    """A receiver's routing expressions, by what they find."""

    project: str = ""
    subject: str = ""
    session: str = ""


NO_ROUTING = Routing()


@dataclass(frozen=True)
class _Expression:
    tag: int
    pattern: str
    group: int
    replacement: tuple[str, str] | None

    def value(self, header: Header) -> str | None:
        value = value_of(header, keyword_for_tag(self.tag))
        if value is None:
            return None
        if self.replacement is None:  # the limit holds for expressions without a replacement
            value = value[:_VALUE_LIMIT]
        found = re.fullmatch(self.pattern, value)
        if found is None:
            return None
        text = found.group(self.group) or ""
        return re.sub(self.replacement[0], self.replacement[1], text) if self.replacement else text


def _expressions(site: StandIn, routing: Routing, what: str) -> list[_Expression]:
    """The receiver's own expressions, then the site's."""
    listing = [getattr(routing, what), site.settings.config.get(("dicom", f"{what}Rules"), "")]
    return [_parse(line.strip()) for text in listing for line in text.splitlines() if line.strip()]


def _parse(line: str) -> _Expression:
    found = _EXPRESSION.fullmatch(line)
    if found is None:
        raise ValueError(f"Failed to parse routing expression '{line}'")
    group, element, pattern, number, old, new = found.groups()
    return _Expression(int(group + element, 16), pattern, int(number or 1), None if old is None else (old, new))


def last_tag(site: StandIn, routing: Routing) -> int:
    """The highest element a routing expression looks at: the head must be read so far."""
    found = [one for what in ("project", "subject", "session") for one in _expressions(site, routing, what)]
    return max((one.tag for one in found), default=0)


def _routed(site: StandIn, header: Header, routing: Routing, what: str) -> list[str]:
    return [value for one in _expressions(site, routing, what) if (value := one.value(header))]


def project_asked(params: Mapping[str, str]) -> str | None:
    """The project the request names: ``PROJECT_ID``, else the one in ``dest``."""
    if "PROJECT_ID" in params:
        return params["PROJECT_ID"]
    found = re.fullmatch(r"(?:/data|/REST)?/(?:pre)?archive(?:/projects/([^/]+).*)?/?", dest := params.get("dest", ""))
    if dest and found is None:
        raise RestError(400)
    return found.group(1) if found else None


def assignment(header: Header, name: str) -> str | None:
    """``Project:P1 Subject:S1 ...`` in one of the comment elements."""
    pattern = r"(?:\A|(?:.*[\s,;]))" + name + r"\s*\:\s*([\w\-]*)(?:(?:[\s,;].*\Z)|\Z)"
    for keyword in _COMMENTS:
        found = re.fullmatch(pattern, value_of(header, keyword) or "", re.IGNORECASE | re.ASCII)
        if found and found.group(1):
            return found.group(1)
    return None


def project_of(site: StandIn, header: Header, routing: Routing = NO_ROUTING) -> Project | None:
    """The project the headers name; the identifier runs as the receiver's user, who sees every project."""
    candidates = [
        *_routed(site, header, routing, "project"),
        assignment(header, "Project"),
        value_of(header, "StudyDescription"),
        value_of(header, "AccessionNumber"),
    ]
    return next((found for name in candidates if name and (found := site.any_project(name))), None)


def subject_of(site: StandIn, header: Header, routing: Routing = NO_ROUTING) -> str | None:
    routed = next(iter(_routed(site, header, routing, "subject")), None)
    found = routed or assignment(header, "Subject") or value_of(header, "PatientName")
    return label_chars(found) if found else None


def session_of(site: StandIn, header: Header, routing: Routing = NO_ROUTING) -> str:
    routed = next(iter(_routed(site, header, routing, "session")), None)
    found = routed or assignment(header, "Session") or value_of(header, "PatientID")
    return label_chars(found) if found else "dicom_upload"


def auto_archive_of(header: Header) -> bool | None:
    """The ``AA:`` assignment, which overrides the project's code for a new row."""
    found = (assignment(header, "AA") or "").lower()
    return {"t": True, "true": True, "f": False, "false": False}.get(found)
