"""The files in a resource, as the server lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from xnat_ingest.core import ServerSaid
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.tables import JsonRow


@dataclass(frozen=True, slots=True)
class Stored:
    """A file as the server lists it.

    size: -1 when it is unknown.
    digest: MD5, "" on sites without digests.
    """

    size: int
    digest: str


Listing = dict[str, Stored]


@dataclass(frozen=True, slots=True)
class Resource:
    """A line of the table of resources. files and bytes: "" until the server has counted them."""

    label: str
    files: str
    bytes: str
    format: str
    content: str
    tags: str

    @property
    def is_dicom(self) -> bool:
        """Whether it contains a scan's images. XNAT archives secondary captures into their own resource."""
        return "DICOM" in (self.label.upper(), self.format.upper())


def stored_files(rest: XnatClient, parent: str, label: str) -> Listing:
    """The files of one resource by their paths in it; empty without such a resource. parent: from `/data` on."""
    try:
        rows = rest.rows(f"{parent}/resources/{label}/files", _entry)
    except ServerSaid as error:
        if error.status == 404:
            return {}
        raise
    return {name: stored for owner, name, stored in rows if owner == label}


def resources_of(rest: XnatClient, parent: str) -> list[Resource]:
    """The resources of one project, subject, session or scan."""
    return rest.rows(f"{parent}/resources", _resource, file_stats="true")


def _resource(row: JsonRow) -> Resource:
    # Every write adds its tags to those of the resource, including duplicates.
    tags = ",".join(dict.fromkeys(tag for tag in row.get("tags", "").split(",") if tag))
    return Resource(
        row["label"],
        row.get("file_count", ""),
        row.get("file_size", ""),
        row.get("format", ""),
        row.get("content", ""),
        tags,
    )


def _entry(row: JsonRow) -> tuple[str, str, Stored]:
    return row["collection"], _name(row), Stored(int(row["Size"] or -1), row.get("digest", "").lower())


def _name(row: JsonRow) -> str:
    """A file's path in its resource.

    Some versions of XNAT encode it in the address, others do not. The last part shows which, because Name has it
    unencoded. Characters that cannot be in an address show it, too.
    """
    tail = row["URI"].partition("/files/")[2]
    last = tail.rpartition("/")[2]
    plain = ("%" in last and last == row["Name"]) or re.search(r'[^!-~]|[#?"<>]', tail)
    return tail if plain else unquote(tail)
