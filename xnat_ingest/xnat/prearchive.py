"""XNAT's staging area: its rows, what they hold, and the one closing request after all parts."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from xnat_ingest.core.errors import ServerSaid
from xnat_ingest.core.model import Session
from xnat_ingest.core.text import printable
from xnat_ingest.xnat.client import CLOSING_TIMEOUT, XnatClient
from xnat_ingest.xnat.replies import sentence, tags

OPEN = frozenset({"RECEIVING", "RECEIVING_INTERRUPT", "READY"})
STUCK = frozenset({"CONFLICT", "ERROR"})
# Under this name the server keeps rows that belong to no project; in listings their project is empty.
UNASSIGNED = "Unassigned"
# How long the server may work on a row before we give up on it; how long a row that somebody else sends into must
# stand still, and how long we wait for that. Seconds. The server refreshes a row's time only every 15 s.
SETTLE_LIMIT = 900.0
STILL = 20.0
STILL_LIMIT = 300.0

Pause = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a listing.

    size: bytes
    scan: the id of its scan
    folder: the address of the folder that it lies in, below the session's
    label: of its resource, DICOM or secondary
    """

    name: str
    size: int
    scan: str
    folder: str
    label: str


@dataclass(frozen=True, slots=True)
class PrearchiveSession:
    """A session in the prearchive, as the listing shows it.

    touched: when a file last came, in the server's words
    changed_uid: the site's script gave it another study UID, which shows once it is built; study_uid is then the one
    under which it was sent, and what is sent under that UID makes another row
    """

    project: str
    timestamp: str
    folder: str
    label: str
    subject: str
    study_uid: str
    status: str
    source: str
    prevent_anon: bool
    prevent_auto_commit: bool
    touched: str
    changed_uid: bool = False

    @property
    def uri(self) -> str:
        return f"/data/prearchive/projects/{self.project}/{self.timestamp}/{self.folder}"

    @property
    def is_receiving(self) -> bool:
        """Files came since it was built last, or it never was."""
        return self.status.startswith("RECEIVING")

    @property
    def is_busy(self) -> bool:
        """The server works on it: files sent to it now can be lost."""
        return self.status not in OPEN and self.status not in STUCK

    def is_ours(self, session: Session, *, by_dicom: bool = False) -> bool:
        """Made by an upload of this session that left anonymisation to the server and closing to us; by_dicom: or by
        a DICOM receiver, which says nothing of either."""
        uploaded = self.source == "uploader" and self.prevent_auto_commit
        received = by_dicom and not self.source
        return self.belongs_to(session) and not self.prevent_anon and (uploaded or received)

    def belongs_to(self, session: Session) -> bool:
        return (
            self.label == session.label
            and self.subject.casefold() == session.subject.casefold()
            and self.study_uid == session.study_uid
        )


def list_sessions(rest: XnatClient, project: str) -> list[PrearchiveSession]:
    """The project's rows. Users with access to all data see unassigned rows in every listing: those are left out."""
    return [
        find_session
        for find_session in rest.rows(f"/data/prearchive/projects/{project}", as_session)
        if find_session.project == project
    ]


def find_session(rest: XnatClient, uri: str) -> PrearchiveSession | None:
    """One row now, or None when it is gone. format=json answers even before the session document exists."""
    return next(iter(rest.rows(uri, as_session)), None)


def as_session(entry: Mapping[str, str]) -> PrearchiveSession:
    """An entry of a listing."""
    return PrearchiveSession(
        project=entry.get("project", "") or UNASSIGNED,
        timestamp=entry.get("timestamp", ""),
        folder=entry.get("folderName", ""),
        label=entry.get("name", ""),
        subject=entry.get("subject", ""),
        study_uid=entry.get("tag", ""),
        status=entry.get("status", "").upper(),
        source=entry.get("SOURCE", ""),
        prevent_anon=entry.get("prevent_anon", "").lower() == "true",
        prevent_auto_commit=entry.get("prevent_auto_commit", "").lower() == "true",
        touched=entry.get("lastmod", ""),
    )


def command_for(uri: str, action: str) -> str:
    """What to type for an action on a row, for the sentence that advises it."""
    project, timestamp, folder = uri.split("/")[-3:]
    sure = ["--yes"] if action == "delete" else []
    return printable(shlex.join(["xnat-ingest", "prearchive", action, "-P", project, timestamp, folder, *sure]))


def build(rest: XnatClient, uri: str) -> None:
    """Has the server read what the row holds, so that it can be listed; leaves it READY."""
    rest.request("POST", uri, {"action": "build"}, timeout=CLOSING_TIMEOUT)


def commit(rest: XnatClient, uri: str, *, overwrite_files: bool) -> str:
    """Closes the row into the archive; the archived session's URI, or "" when the row was left in the prearchive.

    Archived is answered by 301 without Location; AA goes here, since at import the project's own code replaces it.
    """
    query = {"action": "commit", "AA": "true", "SOURCE": "uploader"}
    if overwrite_files:
        query["overwrite_files"] = "true"
    reply = rest.request("POST", uri, query, accept=(200, 301), timeout=CLOSING_TIMEOUT)
    if reply.status == 301 and reply.headers.get("Location"):
        raise ServerSaid(f"POST {uri}", 301, "redirected elsewhere: is a proxy in the way?")
    return reply.text.strip() if reply.status == 301 else ""


def was_built(rest: XnatClient, uri: str) -> bool:
    """Whether a row was ever built. Its listings then show what it held when it was built last."""
    return rest.request("GET", f"{uri}/scans", {"format": "json"}, accept=(200, 404)).status == 200


def files(rest: XnatClient, uri: str) -> Iterator[StoredFile]:
    """Every file in a row that is built, under whichever labels its scans have: one without primary images has no
    resource DICOM."""
    for scan in rest.rows(f"{uri}/scans", lambda one: one["ID"]):
        for label in rest.rows(f"{uri}/scans/{scan}/resources", lambda one: one["label"]):
            folder = f"/scans/{scan}/resources/{label}/files"
            for name, size in rest.rows(f"{uri}{folder}", _file):
                yield StoredFile(name, size, scan, folder, label)


def _file(entry: Mapping[str, str]) -> tuple[str, int]:
    return unquote(entry["Name"]), int(entry.get("Size") or 0)


def scan_uids(rest: XnatClient, uri: str) -> dict[str, str]:
    """Scan id -> SeriesInstanceUID, from the session document of a row that is built; the listings lack them."""
    document = rest.request("GET", uri, {"format": "xml"}, accept=(200, 404)).text
    return {found.get("ID", ""): found.get("UID", "") for found in tags(document, "xnat:scan")}


def last_log(rest: XnatClient, uri: str) -> str:
    """The server's last word on a row; "" when it has none. A single log is bare text, whatever was asked for."""
    try:
        return sentence(rest.get(f"{uri}/logs/last").text)
    except ServerSaid:
        return ""


def settle(rest: XnatClient, uri: str, pause: Pause, limit: float | None = None) -> PrearchiveSession | None:
    """Waits until the server has done with a row; the row then, None when it is gone.

    limit: seconds, SETTLE_LIMIT unless given.
    """
    deadline = time.monotonic() + (SETTLE_LIMIT if limit is None else limit)
    wait = 0.2
    while (found := find_session(rest, uri)) and found.is_busy and time.monotonic() < deadline:
        pause(wait)
        wait = min(wait * 1.5, 5.0)
    return found


def wait_until_still(rest: XnatClient, uri: str, pause: Pause) -> bool:
    """Waits until nobody has sent into a row for STILL seconds, or it is gone. False when STILL_LIMIT came first."""
    deadline = time.monotonic() + STILL_LIMIT
    last, since = find_session(rest, uri), time.monotonic()
    while last is not None and time.monotonic() < deadline:
        if time.monotonic() - since >= STILL:
            return True
        pause(STILL / 20)
        now = find_session(rest, uri)
        if now != last:
            last, since = now, time.monotonic()
    return last is None
