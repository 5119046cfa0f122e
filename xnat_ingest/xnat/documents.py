"""XNAT's documents of projects, subjects and experiments; whether they, and rows of tables, are of what was asked for.

A cache, a proxy or a connection that is out of step may give the answer to another request. What such an answer names
must not be sent to, counted or deleted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from xnat_ingest.core import IngestError, SessionTrouble, printable
from xnat_ingest.xnat import tables

_ADDRESS = re.compile(
    r"/data(?:/archive)?(?:/projects/(?P<project>[^/]+))?(?:/subjects/(?P<subject>[^/]+))?"
    r"(?:/experiments/(?P<session>[^/]+))?"
)
# What an address below an object begins with: /xnat/data/archive/experiments/ACCESSION/scans/SCAN/...
_PLACE = re.compile(
    r"(?:/[^/]+)?(?:/(?:data|REST|archive))+"
    r"(?:(?P<owner>/experiments/[^/]+|/projects/[^/]+(?=/resources/))|/prearchive/projects/(?P<row>[^/]+/[^/]+/[^/]+))"
    r"(?:/scans/(?P<scan>[^/]+))?/"
)


def read_document(text: str) -> dict[str, Any]:
    """The data fields and the xsiType of one object.

    A project has its aliases, too, as a list of names. The others have their shares: the project and the label of each,
    where either may be empty.

    Raises ValueError, KeyError, TypeError, IndexError, AttributeError or RecursionError for what is no such document.
    """
    item = json.loads(text)["items"][0]
    aliases = [str(one["alias"]) for one in _children(item, "aliases/alias")]
    shares = [(text_of(one, "project"), text_of(one, "label")) for one in _children(item, "sharing/share")]
    kind = str(dict(item.get("meta", {})).get("xsi:type", ""))
    found = {"xsiType": kind, **item["data_fields"], "aliases": aliases, "shares": shares}
    fields = {key: tables.whole(value) if isinstance(value, str) else value for key, value in found.items()}
    if fields["ID"] in (None, ""):
        raise ValueError("an object without an ID")
    return fields


def _children(item: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    """The data fields of the objects below this one that its document lists under a field."""
    children = (child for child in item.get("children") or () if child["field"] == field)
    return [one["data_fields"] for child in children for one in child["items"]]


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """A field of a document as text, "" when it is absent or empty."""
    value = fields.get(name)
    return "" if value is None else str(value)


def refuse_stranger(path: str, fields: Mapping[str, Any]) -> None:
    """Raises IngestError when a document is that of another object than its address names.

    Without a project, an address has the id of a subject or a session. Below a project it may also have the label. What
    is shared into a project has its home's name in its document, and says where it is shared to. What a document leaves
    out is not held against it.
    """
    named = _ADDRESS.fullmatch(path)
    if named is None:
        return
    project, kind = named["project"], "session" if named["session"] else "subject"
    asked = named["session"] or named["subject"]
    if asked:
        _refuse_other_member(kind, asked, project or "", fields)
    elif project:
        _refuse_other_project(project, fields)


def _refuse_other_project(asked: str, fields: Mapping[str, Any]) -> None:
    found = str(fields["ID"])
    if not _is_among(asked, (found, *fields["aliases"])):
        raise IngestError(
            f"asked for project {asked}, the server answers with project {printable(found)}, which has no such alias; "
            f"nothing was done. If that one is meant, give -P {printable(found)}"
        )


def _refuse_other_member(kind: str, asked: str, project: str, fields: Mapping[str, Any]) -> None:
    """Whether it is this subject or session. In each project that it is in, it has a label."""
    is_id, label = _is_among(asked, [str(fields["ID"])]), text_of(fields, "label")
    home = text_of(fields, "project")
    places = [(home, label), *((there, called or label) for there, called in fields["shares"])]
    if is_id and not project:
        return
    if project and any(_agree(project, there) and (is_id or _agree(asked, called)) for there, called in places):
        return
    where = f" of project {project}" if project else ""
    raise SessionTrouble(
        "server-fault",
        f"asked for {kind} {asked}{where}, the server answers with {kind} {printable(label or str(fields['ID']))} of "
        f"project {printable(home)}{', which is not shared into it' if project else ''}; nothing of it counts. Look at "
        f"the {kind} in XNAT, then run verify",
    )


def _is_among(asked: str, names: Iterable[str]) -> bool:
    return asked.casefold() in {name.casefold() for name in names}


def _agree(asked: str, found: str) -> bool:
    return not found or asked.casefold() == found.casefold()


def stray_finder(path: str) -> Callable[[Mapping[str, str]], bool]:
    """What tells whether a row of the table at this path names another session, scan or project by its address.

    XNAT gives a file's whole address, so a row without one is no file of the session. In other tables a relative
    address, or none, names nothing else.
    """
    asked = _PLACE.match(path + "/")
    if asked is None:
        return lambda _: False
    parts = [part for part in ("owner", "row", "scan") if asked[part] not in (None, "ALL")]
    of_files = path.endswith("/files")
    usual = path[: max(asked.end(part) for part in parts)] + ("/scans/" if asked["scan"] == "ALL" else "/")

    def is_stray(row: Mapping[str, str]) -> bool:
        uri = row.get("URI", "")
        if uri.startswith(usual) and "%" not in uri and "/../" not in uri:
            return False
        address = unquote(uri) + "/"
        found = _PLACE.match(address)
        if found is None or "/../" in address:
            return of_files
        if of_files and asked["scan"] and not found["scan"]:
            return True
        return any(found[part] and found[part].casefold() != asked[part].casefold() for part in parts)

    return is_stray
