"""The object a command was launched from, by its address: a project, a subject or a session, and its labels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from xnat_ingest.core import IngestError, Refused
from xnat_ingest.xnat.client import XnatClient

_PROJECT = r"/projects/(?P<project>[^/]+)"
_ADDRESS = re.compile(
    rf"(?:/data|/REST)?/archive(?:{_PROJECT})?(?:/subjects/(?P<subject>[^/]+))?(?:/experiments/(?P<session>[^/]+))?/?"
)


@dataclass(frozen=True, slots=True)
class Target:
    """The object that a command was launched from.

    uri: from `/data` on
    project: its id
    subject, session: labels, "" above their level
    """

    kind: Literal["project", "subject", "session"]
    uri: str
    project: str
    subject: str = ""
    session: str = ""


def find_target(rest: XnatClient, address: str) -> Target:
    """The object at an address as the container service writes it (`/archive/...`), with labels or accession ids.

    Raises IngestError for anything else, Refused for what this user may not see.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not any(match.groupdict().values()):
        raise IngestError(
            f"{address!r} is not the address of a project, subject or session; launch the command from one"
        )
    uri = "/data" + address[address.index("/archive") :].rstrip("/")
    fields = rest.item(uri)
    if fields is None:
        raise Refused(f"{address} does not exist on {rest.server}, or user {rest.user} may not see it")
    if match["subject"] or match["session"]:
        _refuse_shared(match["project"] or "", _field(fields, "project", address), address)
    if match["session"]:
        subject = rest.item(f"/data/archive/subjects/{_field(fields, 'subject_ID', address)}")
        if subject is None:
            raise Refused(f"user {rest.user} may not see the subject of {address}")
        project, label = _field(fields, "project", address), _field(fields, "label", address)
        return Target("session", uri, project, _field(subject, "label", address), label)
    if match["subject"]:
        return Target("subject", uri, _field(fields, "project", address), _field(fields, "label", address))
    return Target("project", uri, _field(fields, "ID", address))


def _refuse_shared(named: str, home: str, address: str) -> None:
    """Raises IngestError for what is shared into the project that the address names: it belongs to another one.

    home: the id of the project to which it belongs.
    """
    if named.casefold() in ("", home.casefold()):
        return
    raise IngestError(
        f"{address} is only shared into project {named}: it belongs to project {home}, and all images would go there. "
        f"Launch the command from it in project {home}"
    )


def parent_of(resource: str) -> str:
    """The address of the object that a resource belongs to."""
    return resource.partition("/resources/")[0]


def _field(fields: dict[str, Any], name: str, address: str) -> str:
    if not fields.get(name):
        raise IngestError(f"the server does not say the {name} of {address}")
    return str(fields[name])
