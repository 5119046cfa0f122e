"""What the server holds of a NIfTI tree's sessions, and which of its scans are ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from urllib.parse import unquote

from xnat_ingest.commands.nifti.model import NIFTI, NiftiFile, NiftiScan, NiftiSession
from xnat_ingest.core.errors import ServerSaid, SessionTrouble
from xnat_ingest.xnat.archive import ArchivedSession
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.tables import JsonRow

# A session of the first type may be given scans of a tree that would by itself have made one of the second.
_TAKES = {("xnat:petmrSessionData", "xnat:mrSessionData"), ("xnat:petmrSessionData", "xnat:petSessionData"),
          ("xnat:petSessionData", "xnat:ctSessionData")}  # fmt: skip
_SCAN = re.compile(r"/scans/([^/]+)/resources/")
Place = tuple[str, str]  # a resource's label, and the last part of a name in it


@dataclass(frozen=True, slots=True)
class ServerScan:
    """A scan as the server lists it. files: where they are -> bytes."""

    id: str
    xsi_type: str
    description: str
    uid: str
    files: Mapping[Place, int]


def scans_of(rest: XnatClient, accession: str) -> dict[str, ServerScan]:
    """Every scan of a session and its files, in two requests."""
    base = f"/data/experiments/{accession}/scans"
    rows = rest.rows(base, _scan, columns="ID,xsiType,series_description,UID")
    files: dict[str, dict[Place, int]] = {row[0]: {} for row in rows}
    for scan, place, size in _files(rest, base) if rows else ():
        files.setdefault(scan, {})[place] = size
    return {row[0]: ServerScan(*row, files[row[0]]) for row in rows}


def _scan(row: JsonRow) -> tuple[str, str, str, str]:
    return row["ID"], row["xsiType"], row.get("series_description", ""), row.get("UID", "")


def _files(rest: XnatClient, base: str) -> Iterable[tuple[str, Place, int]]:
    try:
        return [found for found in rest.rows(f"{base}/ALL/files", _file) if found]
    except ServerSaid as error:
        if error.status == 404:  # no scan has a resource yet
            return []
        raise


def _file(row: JsonRow) -> tuple[str, Place, int] | None:
    found = _SCAN.search(row["URI"])
    return (unquote(found[1]), (row["collection"], row["Name"]), int(row["Size"] or 0)) if found else None


def place(file: NiftiFile) -> Place:
    return file.resource, file.name.rpartition("/")[2]


def check_session(
    session: NiftiSession, known: Iterable[ArchivedSession], subjects: Iterable[str]
) -> ArchivedSession | None:
    """The session as the server has it; None when it has none. Raises SessionTrouble for one that must not be added
    to. subjects: labels of the project's."""
    alike = [subject for subject in subjects if subject.casefold() == session.subject.casefold()]
    if alike and session.subject not in alike:
        text = f"the project has subject {alike[0]}, which differs from {session.subject} only in case"
        raise SessionTrouble("other-subject", f"{text}; rename the folder, or give --subject-label")
    mine = next((one for one in known if one.label.casefold() == session.label.casefold()), None)
    if mine is None:
        return None
    if mine.label != session.label:
        text = f"session {mine.label} is there, which differs from {session.label} only in case; give --session-label"
        raise SessionTrouble("other-label", text)
    if mine.subject != session.subject:
        text = f"session {mine.label} is there under subject {mine.subject}, not {session.subject}"
        raise SessionTrouble("other-subject", f"{text}; give --subject-label or --session-label")
    if mine.xsi_type != session.xsi_type and (session.typed or (mine.xsi_type, session.xsi_type) not in _TAKES):
        text = f"session {mine.label} is there as {mine.xsi_type}, and this would be {session.xsi_type}"
        raise SessionTrouble("other-type", f"{text}; give another --session-label, or --modality if the tree is wrong")
    return mine


def settle_ids(session: NiftiSession, server: Mapping[str, ServerScan]) -> NiftiSession:
    """The session with the ids that its scans have or are to have on the server. Raises SessionTrouble.

    A scan that holds another series is never written into. Where our id is a SeriesNumber, that is a contradiction,
    and a person has to look: the session or its numbering may be wrong. Where it was only counted, it says nothing,
    and the next free one does as well.
    """
    ours: dict[str, str] = {}
    for scan in session.scans:
        if (found := _known_as(scan, server, taken=set(ours.values()))) is not None:
            ours[scan.key] = found.id
    taken = {*server, *ours.values(), *(scan.id for scan in session.scans if scan.numbered)}
    free = (str(number) for number in count(1) if str(number) not in taken)
    others = [(one, server[one.id]) for one in session.scans if one.numbered and one.id in server]
    if others := [(one, other) for one, other in others if one.key not in ours]:
        raise SessionTrouble("other-series", _other_series(session, others))
    scans = []
    for scan in session.scans:
        wanted = ours.get(scan.key)
        if wanted is None:
            wanted = scan.id if scan.numbered else next(free)
        if (there := server.get(wanted)) and there.xsi_type != scan.xsi_type:
            text = f"scan {wanted} of {session.label} is {there.xsi_type} on the server, and would be {scan.xsi_type}"
            raise SessionTrouble("other-type", f"{text}; give --modality if the tree is wrong")
        scans.append(scan.renumbered(wanted))
    return replace(session, scans=tuple(scans))


def _other_series(session: NiftiSession, others: Sequence[tuple[NiftiScan, ServerScan]]) -> str:
    listed = ", ".join(f"scan {scan.id} ({other.description!r}, not {scan.description!r})" for scan, other in others)
    return (
        f"{listed} of {session.label} holds another series on the server, and is not written into; give another "
        "--session-label, or leave out with --exclude what does not belong there"
    )


def _known_as(scan: NiftiScan, server: Mapping[str, ServerScan], taken: set[str]) -> ServerScan | None:
    """The server's scan that is this series: the one of our number or, where that was only counted, any."""
    first = server.get(scan.id)
    rest = () if scan.numbered else server.values()
    candidates = [one for one in (first, *rest) if one and one.id not in taken]
    return next((one for one in candidates if _same(scan, one)), None)


def _same(scan: NiftiScan, other: ServerScan) -> bool:
    """By its UID where both know one; else like words, and a number from the sidecar: it is the DICOM series that the
    images were made of, or what another run has left. A number that was only counted needs images under our names."""
    if scan.uid and other.uid:
        return scan.uid == other.uid
    if _words(scan.description) != _words(other.description):
        return False
    images = {place(file) for file in scan.files if file.resource == NIFTI}
    return scan.numbered or not other.files or not images.isdisjoint(other.files)


def _words(text: str) -> str:
    """What converters leave of a description: they replace whatever is no letter or digit."""
    return re.sub(r"[\W_]+", "_", text).strip("_").casefold()
