"""What the server holds of a NIfTI tree's sessions, and which of its scans belong to the tree."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from urllib.parse import unquote

from xnat_ingest.commands.nifti.model import NIFTI, NiftiFile, NiftiScan, NiftiSession
from xnat_ingest.core import ServerSaid, SessionTrouble
from xnat_ingest.xnat.archive import ArchivedSession
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.tables import JsonRow, bytes_of

# A session of the first type may get scans from a tree that would itself make one of the second type.
_TAKES = {("xnat:petmrSessionData", "xnat:mrSessionData"), ("xnat:petmrSessionData", "xnat:petSessionData"),
          ("xnat:petSessionData", "xnat:ctSessionData")}  # fmt: skip
_SCAN = re.compile(r"/scans/([^/]+)/resources/")
Place = tuple[str, str]  # a resource's label, and the last part of a name in it
Digest = Callable[[NiftiFile], str]


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


def settle_ids(session: NiftiSession, server: Mapping[str, ServerScan], digest: Digest) -> NiftiSession:
    """The session with the ids that its scans have or are to have on the server. Raises SessionTrouble.

    Nothing is ever written into a scan that holds another series. If our id is a SeriesNumber, the two contradict each
    other, and a person has to look: the session or its numbering may be wrong. If it was only counted, the next free id
    will do. A scan that holds just our images already is used whatever its id: no image is stored twice.

    digest: MD5 of one of our files, "" when it cannot be read.
    """
    ours: dict[str, str] = {}
    for scan in session.scans:
        if (found := _known_as(scan, server, taken=set(ours.values()))) is not None:
            ours[scan.key] = found.id
    for scan in session.scans:
        if scan.key not in ours and (found := _holding(scan, server, set(ours.values()), digest)) is not None:
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
        f"{listed} of {session.label} holds another series on the server, so nothing was written into it; give another "
        "--session-label, or leave out with --exclude what does not belong there"
    )


def _known_as(scan: NiftiScan, server: Mapping[str, ServerScan], taken: set[str]) -> ServerScan | None:
    """The server's scan that is this series: the one of our number or, where that was only counted, any."""
    first = server.get(scan.id)
    rest = () if scan.numbered else server.values()
    candidates = [one for one in (first, *rest) if one and one.id not in taken]
    return next((one for one in candidates if _same(scan, one)), None)


def _holding(scan: NiftiScan, server: Mapping[str, ServerScan], taken: set[str], digest: Digest) -> ServerScan | None:
    """A scan on the server with exactly our images, under our names, and without another sidecar. If its id is our
    SeriesNumber and it still is not known as ours, a person has to look."""
    files = {place(file): file for file in scan.files}
    images = {where: file for where, file in files.items() if file.resource == NIFTI}
    for one in server.values():
        is_other = (scan.uid and one.uid and scan.uid != one.uid) or (scan.numbered and one.id == scan.id)
        if is_other or one.id in taken or one.xsi_type != scan.xsi_type or not images:
            continue
        alike = all(one.files.get(where) == file.size and one.digests.get(where) for where, file in images.items())
        there = {where: file for where, file in files.items() if where in one.files}
        if alike and all(one.digests.get(where) == digest(file) for where, file in there.items()):
            return one
    return None


def _same(scan: NiftiScan, other: ServerScan) -> bool:
    """Whether a scan on the server is this series.

    Both UIDs decide if they are known. Else the descriptions must be alike, and the number must come from the sidecar:
    then the scan is the DICOM series from which the images were made, or what another run has left. If the number was
    only counted, the scan must have images under our names.
    """
    if scan.uid and other.uid:
        return scan.uid == other.uid
    if _words(scan.description) != _words(other.description):
        return False
    images = {place(file) for file in scan.files if file.resource == NIFTI}
    return scan.numbered or not other.files or not images.isdisjoint(other.files)


def _words(text: str) -> str:
    """What converters leave of a description. They replace all but letters and digits."""
    return re.sub(r"[\W_]+", "_", text).strip("_").casefold()
