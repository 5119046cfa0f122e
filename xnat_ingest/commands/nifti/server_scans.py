"""What the server holds of a NIfTI tree's sessions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from xnat_ingest.commands.nifti.model import NiftiFile, NiftiScan, NiftiSession
from xnat_ingest.core import ServerSaid, SessionTrouble
from xnat_ingest.xnat.archive import ArchivedSession
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.tables import JsonRow, bytes_of

# A session of the first type may get scans from a tree that would itself make one of the second type.
_TAKES = {("xnat:petmrSessionData", "xnat:mrSessionData"), ("xnat:petmrSessionData", "xnat:petSessionData"),
          ("xnat:petSessionData", "xnat:ctSessionData")}  # fmt: skip
_SCAN = re.compile(r"/scans/([^/]+)/resources/")
Place = tuple[str, str]  # a resource's label, and the last part of a name in it


@dataclass(frozen=True, slots=True)
class ServerScan:
    """A scan as the server lists it.

    files: address -> bytes
    digests: address -> MD5, "" on sites without digests
    """

    id: str
    xsi_type: str
    description: str
    uid: str
    files: Mapping[Place, int]
    digests: Mapping[Place, str]


def scans_of(rest: XnatClient, accession: str) -> dict[str, ServerScan]:
    """Every scan of a session and its files, in two requests."""
    base = f"/data/experiments/{accession}/scans"
    rows = rest.rows(base, _scan, columns="ID,xsiType,series_description,UID")
    files: dict[str, dict[Place, int]] = {row[0]: {} for row in rows}
    digests: dict[str, dict[Place, str]] = {row[0]: {} for row in rows}
    for scan, place, size, digest in _files(rest, base) if rows else ():
        files.setdefault(scan, {})[place] = size
        digests.setdefault(scan, {})[place] = digest
    return {row[0]: ServerScan(*row, files[row[0]], digests[row[0]]) for row in rows}


def _scan(row: JsonRow) -> tuple[str, str, str, str]:
    return row["ID"], row["xsiType"], row.get("series_description", ""), row.get("UID", "")


def _files(rest: XnatClient, base: str) -> Iterable[tuple[str, Place, int, str]]:
    try:
        return [found for found in rest.rows(f"{base}/ALL/files", _file) if found]
    except ServerSaid as error:
        if error.status == 404:  # no scan has a resource yet
            return []
        raise


def _file(row: JsonRow) -> tuple[str, Place, int, str] | None:
    if not (found := _SCAN.search(row["URI"])):
        return None
    return unquote(found[1]), (row["collection"], row["Name"]), bytes_of(row), row.get("digest", "").lower()


def place(file: NiftiFile) -> Place:
    return file.resource, file.name.rpartition("/")[2]


def holds_of(scan: NiftiScan, there: Iterable[ServerScan], digest: Callable[[NiftiFile], str]) -> bool:
    """Whether scans on the server are surely of this tree: one has this series' UID, or one of its files.

    digest: MD5 of one of our files, "" when it cannot be read.
    """

    def has(one: ServerScan, file: NiftiFile) -> bool:
        where = place(file)
        return one.files.get(where) == file.size and one.digests.get(where, "") in ("", digest(file))

    return any((scan.uid and scan.uid == one.uid) or any(has(one, file) for file in scan.files) for one in there)


def check_session(
    session: NiftiSession, known: Iterable[ArchivedSession], subjects: Iterable[str]
) -> ArchivedSession | None:
    """The session on the server, or None. Raises SessionTrouble for one that nothing may be added to.

    subjects: labels of the project's subjects
    """
    alike = [subject for subject in subjects if subject.casefold() == session.subject.casefold()]
    if alike and session.subject not in alike:
        text = f"the project already has this subject in other upper and lower case, as {alike[0]}"
        raise SessionTrouble("other-subject", f"{text}; rename the folder, or give --subject-label")
    mine = next((one for one in known if one.label.casefold() == session.label.casefold()), None)
    if mine is None:
        return None
    if mine.label != session.label:
        text = f"the project already has session {session.label} in other upper and lower case, as {mine.label}"
        raise SessionTrouble("other-label", f"{text}; give --session-label")
    if mine.subject != session.subject:
        text = f"session {mine.label} exists under subject {mine.subject}, not {session.subject}"
        raise SessionTrouble("other-subject", f"{text}; give --subject-label or --session-label")
    if mine.xsi_type != session.xsi_type and (session.typed or (mine.xsi_type, session.xsi_type) not in _TAKES):
        text = f"session {mine.label} exists with type {mine.xsi_type}, and this one would be {session.xsi_type}"
        raise SessionTrouble("other-type", f"{text}; give another --session-label, or --modality if the tree is wrong")
    return mine
