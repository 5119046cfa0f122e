"""XNAT's prearchive: its sessions, their files, and the commit after all parts were sent."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from sys import intern
from typing import TypeVar
from urllib.parse import unquote

from xnat_ingest.core import ServerSaid, Session, printable
from xnat_ingest.xnat.client import CLOSING_TIMEOUT, XnatClient
from xnat_ingest.xnat.replies import sentence, tags
from xnat_ingest.xnat.tables import JsonRow, bytes_of

OPEN = frozenset({"RECEIVING", "RECEIVING_INTERRUPT", "READY"})
STUCK = frozenset({"CONFLICT", "ERROR"})
# The name for prearchive sessions without a project. In listings their project is empty.
UNASSIGNED = "Unassigned"
# The most sessions of a listing: each takes up to two kilobytes of memory. A busy site has thousands.
MOST_SESSIONS = 200_000
# The resources, in lower case, into which XNAT puts the DICOM files that a scan receives (CatalogBuilder). Others may
# hold DICOM that was made of them, such as defaced copies under the same names.
DICOM_RESOURCES = ("dicom", "secondary")
# SETTLE_LIMIT: how long the server may work on a prearchive session before we give up.
# STILL: how long a session that another client sends into must be unchanged. STILL_LIMIT: how long we wait for that.
# All in seconds. The server updates the time of a session only every 15 s.
SETTLE_LIMIT = 900.0
STILL = 20.0
STILL_LIMIT = 300.0
# Folders below a listing, none of which leads upwards.
_BELOW = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[^/]+)+")
_ADDRESS = re.compile(r"/data/prearchive/projects/[^/]+/[^/]+/[^/?]+")

_LISTING = "/data/prearchive"

Pause = Callable[[float], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a listing.

    size: bytes.
    scan: the id of its scan.
    folder: the address of its folder, below the session's.
    label: of its resource, mostly DICOM or secondary.
    own: the last part of its address. It is the name, unless the server says otherwise.
    counts: whether it counts as DICOM where names do not tell instances.
    received: whether it lies where XNAT puts what it receives. No other file is one of the scan's own.
    """

    name: str
    size: int
    scan: str
    folder: str
    label: str
    own: str = ""
    counts: bool = True
    received: bool = True


@dataclass(frozen=True, slots=True)
class PrearchiveSession:
    """A session in the prearchive, as the listing shows it.

    touched: when the last file arrived, as the server writes it.
    changed_uid: the site's script gave it another study UID, which shows once it is built. study_uid is then the UID
        under which it was sent. More files sent under that UID make another prearchive session.
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
        """Whether files arrived since it was last built, or it was never built."""
        return self.status.startswith("RECEIVING")

    @property
    def is_busy(self) -> bool:
        """Whether the server is working on it: files sent to it now can be lost."""
        return self.status not in OPEN and self.status not in STUCK

    def is_ours(self, session: Session, *, by_dicom: bool = False) -> bool:
        """Whether an upload like ours made it: with anonymisation left to the server, and the commit left to us.

        by_dicom: accept one from a DICOM receiver, too, which says nothing about either.
        """
        uploaded = self.source == "uploader" and self.prevent_auto_commit
        received = by_dicom and not self.source
        return self.belongs_to(session) and not self.prevent_anon and (uploaded or received)

    def is_refused(self, session: Session, log: str) -> bool:
        """Whether an upload like ours went straight into the archive, and the server then moved it here.

        log: the server's words on it
        """
        is_moved = self.status in STUCK and "direct-archive" in log
        return self.belongs_to(session) and self.source == "uploader" and is_moved

    def is_unreadable(self, session: Session) -> bool:
        """Whether a build found no file in it that XNAT can read. XNAT then forgets its subject.

        Its document is empty, and XNAT makes the row from it (PrearcTableBuilder.Session, PrearcUtils.resetStatus).
        """
        is_this = self.label == session.label and self.study_uid == session.study_uid
        return is_this and self.status == "ERROR" and not self.subject

    def belongs_to(self, session: Session) -> bool:
        return (
            self.label == session.label
            and self.subject.casefold() == session.subject.casefold()
            and self.study_uid == session.study_uid
        )


def list_sessions(rest: XnatClient, project: str) -> list[PrearchiveSession]:
    """The project's prearchive sessions. Raises ServerSaid when the answer is about another project."""
    return [one for one, _ in rows_of(rest, project, lambda _: None)]


def every_row(
    rest: XnatClient, keep: Callable[[JsonRow], T], path: str = _LISTING
) -> list[tuple[PrearchiveSession, T]]:
    """All prearchive sessions that this user can see, each with what is to be kept of its row."""
    narrower = "name one project (-P), or " if path == _LISTING else ""
    advice = f"{narrower}archive or delete in XNAT what nobody needs in the prearchive any more, then run again"
    return rest.rows(path, lambda row: (as_session(row), keep(row)), most=MOST_SESSIONS, if_more=advice)


def rows_of(rest: XnatClient, project: str, keep: Callable[[JsonRow], T]) -> list[tuple[PrearchiveSession, T]]:
    """The project's prearchive sessions, each with what is to be kept of its row.

    Users with access to all data see unassigned sessions in every listing. Those are left out. Raises ServerSaid when
    the answer is about another project.
    """
    path = f"{_LISTING}/projects/{project}"
    found = every_row(rest, keep, path)
    if others := {one.project for one, _ in found} - {UNASSIGNED, project}:
        why = f"is there a cache or a proxy in between, or is {project} an alias?"
        raise ServerSaid(f"GET {path}", 200, f"the answer is about project {min(others)}: {why}")
    return [(one, kept) for one, kept in found if one.project == project]


def find_session(rest: XnatClient, uri: str) -> PrearchiveSession | None:
    """One session now, or None when it is gone. format=json works even before the session document exists.

    Raises ServerSaid when the answer is about another session, which must not be taken for this one.
    """
    found = rest.rows(uri, as_session)
    this = next((one for one in found if one.uri == uri), None)
    if found and this is None:
        why = "the answer is about another prearchive session: is there a cache or a proxy in between?"
        raise ServerSaid(f"GET {uri}", 200, why)
    return this


def as_session(entry: Mapping[str, str]) -> PrearchiveSession:
    """An entry of a listing."""
    return PrearchiveSession(
        project=intern(entry.get("project", "") or UNASSIGNED),
        timestamp=entry.get("timestamp", ""),
        folder=entry.get("folderName", ""),
        label=entry.get("name", ""),
        subject=entry.get("subject", ""),
        study_uid=entry.get("tag", ""),
        status=intern(entry.get("status", "").upper()),
        source=intern(entry.get("SOURCE", "")),
        prevent_anon=entry.get("prevent_anon", "").lower() == "true",
        prevent_auto_commit=entry.get("prevent_auto_commit", "").lower() == "true",
        touched=entry.get("lastmod", ""),
    )


# Why a session without a readable file cannot be gone on with.
UNREADABLE = "XNAT finds no DICOM file in it that it can read, and has forgotten its subject"
# What every advice to delete one must say.
GONE = "Deleting it also deletes what only it holds"


def command_for(uri: str, action: str) -> str:
    """The command for an action on a session, to quote in advice."""
    project, timestamp, folder = uri.split("/")[-3:]
    sure = ["--yes"] if action == "delete" else []
    return printable(shlex.join(["xnat-ingest", "prearchive", action, "-P", project, timestamp, folder, *sure]))


def archive_command(row: PrearchiveSession, subject: str = "", label: str = "") -> str:
    """The command that archives a session, under another subject or label where one is given that differs."""
    words = [command_for(row.uri, "archive")]
    words += ["--subject", subject] if subject not in ("", row.subject) else []
    words += ["--label", label] if label not in ("", row.label) else []
    return printable(" ".join(words))


def build(rest: XnatClient, uri: str) -> None:
    """Lets the server build the session, so that its files can be listed. Leaves it READY."""
    rest.request("POST", uri, {"action": "build"}, timeout=CLOSING_TIMEOUT)


def commit(rest: XnatClient, uri: str, *, overwrite_files: bool) -> str:
    """Commits the session to the archive. Returns the archived session's URI, or "" when it stayed in the prearchive.

    Success is a 301 without Location. AA is sent here because the project's own code replaces it at import.
    """
    query = {"action": "commit", "AA": "true", "SOURCE": "uploader"}
    if overwrite_files:
        query["overwrite_files"] = "true"
    reply = rest.request("POST", uri, query, accept=(200, 301), timeout=CLOSING_TIMEOUT)
    if reply.status == 301 and reply.headers.get("Location"):
        raise ServerSaid(f"POST {uri}", 301, "redirected to another place: is there a proxy in between?")
    return reply.text.strip() if reply.status == 301 else ""


def was_built(rest: XnatClient, uri: str) -> bool:
    """Whether a session was ever built. Its listings then show the files from the last build."""
    return rest.request("GET", f"{uri}/scans", {"format": "json"}, accept=(200, 404)).status == 200


def files(rest: XnatClient, uri: str) -> Iterator[StoredFile]:
    """Every file in a built session, in all resources: a scan without primary images has no resource DICOM."""
    for scan in rest.rows(f"{uri}/scans", lambda one: one["ID"]):
        for label in rest.rows(f"{uri}/scans/{scan}/resources", lambda one: one["label"]):
            folder, counts = f"/scans/{scan}/resources/{label}/files", label.lower() in DICOM_RESOURCES
            for name, size, below in rest.rows(f"{uri}{folder}", _file_in(f"{uri}{folder}")):
                yield StoredFile(name, size, scan, intern(folder + below), label, name, counts, counts)


def _file_in(listed: str) -> Callable[[Mapping[str, str]], tuple[str, int, str]]:
    """Name, bytes and folder of a file, from its row in the listing at this address.

    A build leaves files where they came in when their scan lies in several places. Such a file is found only below its
    folder's name. "" when it has none, or when the row gives an address that is not below the listing's.
    """

    def file(entry: Mapping[str, str]) -> tuple[str, int, str]:
        name = unquote(entry["Name"])
        above, _, last = unquote(entry.get("URI", "")).rpartition("/")
        below = above.partition(listed)[2]
        is_below = last == name and _BELOW.fullmatch(below)
        return name, bytes_of(entry), below if is_below else ""

    return file


def scan_uids(rest: XnatClient, uri: str) -> dict[str, str]:
    """Scan id -> SeriesInstanceUID, from the document of a built session. The listings do not have the UIDs."""
    document = rest.request("GET", uri, {"format": "xml"}, accept=(200, 404)).text
    return {found.get("ID", ""): found.get("UID", "") for found in tags(document, "xnat:scan")}


def last_log(rest: XnatClient, uri: str) -> str:
    """The last line of the server's log on a session, or "". A single log is plain text in any requested format."""
    try:
        return sentence(rest.get(f"{uri}/logs/last").text)
    except ServerSaid:
        return ""


def vanished(rest: XnatClient, error: ServerSaid, pause: Pause) -> str:
    """The address of the prearchive session that the server did not find, if it has gone; "" otherwise."""
    asked = _ADDRESS.search(error.action) if error.status == 404 else None
    return asked[0] if asked and settle(rest, asked[0], pause) is None else ""


def settle(rest: XnatClient, uri: str, pause: Pause, limit: float | None = None) -> PrearchiveSession | None:
    """Waits until the server has finished with a session. Returns it, or None when it is gone.

    limit: seconds, SETTLE_LIMIT by default.
    """
    deadline = time.monotonic() + (SETTLE_LIMIT if limit is None else limit)
    wait = 0.2
    while (found := find_session(rest, uri)) and found.is_busy and time.monotonic() < deadline:
        pause(wait)
        wait = min(wait * 1.5, 5.0)
    return found


def wait_until_still(rest: XnatClient, uri: str, pause: Pause) -> bool:
    """Waits until a session is unchanged for STILL seconds, or is gone. False when STILL_LIMIT was reached first."""
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
