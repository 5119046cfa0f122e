"""Whose resources: a project, a subject, a session or a scan; and taking files or resources away from it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from xnat_ingest.commands.resources.files import Gathered, addressable, dicom_among
from xnat_ingest.commands.resources.listings import resources_of, stored_files
from xnat_ingest.core.errors import IngestError, Refused, ServerSaid, Unreachable, UsageError
from xnat_ingest.core.text import printable
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.retry_policy import RetryPolicy, is_transient


@dataclass(frozen=True, slots=True)
class ResourceOwner:
    """What the user named. experiment: label or accession id; without a project, an accession id alone, as is the
    subject then."""

    project: str = ""
    subject: str = ""
    experiment: str = ""
    scan: str = ""

    def check(self) -> None:
        """Raises UsageError for what names nothing, or several things at once."""
        if not (self.project or self.subject or self.experiment):
            raise UsageError("whose resource? give -P PROJECT, with -S SUBJECT or -E SESSION, or -E ACCESSION_ID")
        if self.subject and self.experiment and not self.project:
            raise UsageError("-S with -E needs the project: give -P, or -E with an accession id alone")
        if self.scan and not self.experiment:
            raise UsageError("--scan needs the session: give -E")
        for text in (self.project, self.subject, self.experiment, self.scan):
            # XNAT takes commas, * and ALL for several at once.
            if re.search(r"[/\\,*?#%]", text) or text in ("ALL", ".", ".."):
                raise UsageError(f"{printable(text)} does not name one project, subject, session or scan; give its id")


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of the names.

    absent: were not there.
    failed: with the reason.
    """

    gone: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


def find_owner(rest: XnatClient, place: ResourceOwner) -> str:
    """The address whose resources the place means, from `/data` on, with the server's own ids. Raises Refused."""
    project = _id(rest, f"/data/projects/{place.project}", f"project {place.project}") if place.project else ""
    base = f"/data/projects/{project}" if project else "/data"
    subject = ""
    if place.subject:
        what = f"subject {place.subject}"
        if not project:
            what += " (without -P, only a subject's id will do: to name a label, give its project with -P)"
        subject = _id(rest, f"{base}/subjects/{place.subject}", what)
    if not place.experiment:
        return f"{base}/subjects/{subject}" if subject else base
    session = f"session {place.experiment}"
    if not place.project:
        session += " (without -P, only an accession id will do)"
    fields = _item(rest, f"{base}/experiments/{place.experiment}", session)
    if subject:
        _check_subject(rest, fields, subject, place)
    address = f"/data/experiments/{fields['ID']}"
    if not place.scan:
        return address
    # Where no scan has this id, XNAT looks for a scan of this type.
    known = rest.rows(f"{address}/scans", lambda row: row["ID"])
    if place.scan not in known:
        raise IngestError(f"{session} has no scan {place.scan}; it has {', '.join(sorted(known)) or 'none'}")
    return f"{address}/scans/{place.scan}"


def _check_subject(rest: XnatClient, session: Mapping[str, Any], subject: str, place: ResourceOwner) -> None:
    """Below a subject's address, XNAT finds the sessions of the project's other subjects, too. Raises IngestError."""
    if (owner := str(session.get("subject_ID", ""))) == subject:
        return
    named = (rest.item(f"/data/subjects/{owner}") or {}).get("label", owner) if owner else "nobody that is told"
    raise IngestError(
        f"session {place.experiment} belongs to subject {named}, not {place.subject}; nothing was done: give the "
        "right -S, or none"
    )


def _id(rest: XnatClient, address: str, what: str) -> str:
    return str(_item(rest, address, what)["ID"])


def _item(rest: XnatClient, address: str, what: str) -> dict[str, Any]:
    fields = rest.item(address)
    if fields is None:
        raise Refused(
            f"{what} does not exist on {rest.server}, or user {rest.user} may not see it; check the spelling, or ask "
            "the project's owner for access"
        )
    return fields


def check_no_dicom(found: Gathered, paths: Sequence[str], place: ResourceOwner, *, instead: str) -> None:
    """Raises UsageError that tells how DICOM comes into the scans of a session. instead: what stores it as files."""
    dicom = dicom_among(found.files)
    if not dicom:
        return
    root = Path(paths[0]) if Path(paths[0]).is_dir() else Path(paths[0]).parent
    upload = ["xnat-ingest", "upload", str(root), "-P", place.project or "PROJECT"]
    known = place.subject and place.experiment
    upload += ["-S", place.subject, "-E", place.experiment] if known else ["--layout", "headers"]
    raise UsageError(
        f"{printable(dicom[0].name)} is DICOM ({len(dicom)} of {len(found.files)} files are), which XNAT keeps in the "
        f"scans of sessions; to have it there: {printable(shlex.join(upload))}; to store it as plain files: {instead}"
    )


def check_label(label: str, *, new: bool = False) -> None:
    """Raises UsageError. A number is taken for the id of a resource, which may be somebody else's; a comma for
    several labels."""
    if label.isdecimal():
        raise UsageError(f"XNAT takes the label {label} for a resource's number; give one that has a letter")
    if not label.strip() or re.search(r"[/\\,*?#%]|[\x00-\x1f]", label) or label in (".", ".."):
        raise UsageError(f"{printable(label) or 'nothing'} is no label of a resource")
    if new and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", label):
        raise UsageError(
            f"{printable(label)} is no good label for a resource: use letters, digits, _ . and -, at most 64"
        )


def delete_resource(rest: XnatClient, parent: str, label: str, *, retry_policy: RetryPolicy) -> bool:
    """Deletes a whole resource. False: there is none of this label, to which XNAT would answer 200."""

    def is_there() -> bool:
        return label in (one.label for one in resources_of(rest, parent))

    if not is_there():
        return False
    _delete(rest, f"{parent}/resources/{label}", {}, retry_policy, is_there)
    if is_there():
        raise IngestError(f"resource {label} is still there although the server says it deleted it; run the same again")
    return True


def delete_files(
    rest: XnatClient, parent: str, label: str, names: Sequence[str], *, keep: bool, retry_policy: RetryPolicy
) -> Deleted:
    """Deletes files, and folders by a name that ends with a slash; no names: all files.

    keep: they stay on the server's disk, and in no listing. XNAT deletes whatever begins with the path it is given,
    so a name that others begin with is refused unless all of them are named.
    """
    held = set(stored_files(rest, parent, label))
    wanted = {name: {one for one in held if is_named((name,) if name else (), one)} for name in names or ("",)}
    doomed = set().union(*wanted.values())
    failed: dict[str, str] = {}
    for name in sorted((name for name, found in wanted.items() if found), key=len):
        stem = _stem(name)
        begun = {one for one in held if one.startswith(stem)}
        if others := sorted(begun - doomed):
            failed[name] = _too_much(stem, others)
        elif begun:
            _delete_below(rest, parent, label, stem, keep=keep, retry_policy=retry_policy)
            held -= begun
    left = set(stored_files(rest, parent, label)) & doomed
    refused = set().union(*(wanted[name] for name in failed))
    failed |= dict.fromkeys(left - refused, "the server says it deleted it and lists it still; run the same again")
    absent = tuple(name for name, found in wanted.items() if name and not found)
    return Deleted(tuple(sorted(doomed - left)), absent, failed)


def _too_much(stem: str, others: Sequence[str]) -> str:
    """Why a name cannot be deleted alone. stem: what XNAT is told of it. Naming what goes with it is consent."""
    listed = ", ".join(map(printable, others[:5])) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    begins = f"whatever begins with {printable(stem)}" if stem else "all files of the resource"
    return (
        f"XNAT would delete {begins}, {listed} with it; name these, too, only if all of them are to go; to keep "
        "them, put them into another resource first"
    )


def _delete_below(
    rest: XnatClient, parent: str, label: str, stem: str, *, keep: bool, retry_policy: RetryPolicy
) -> None:
    def is_there() -> bool:
        return any(name.startswith(stem) for name in stored_files(rest, parent, label))

    query = {"removeFiles": "false"} if keep else {}
    _delete(rest, f"{parent}/resources/{label}/files/{stem}", query, retry_policy, is_there)


def is_named(names: Sequence[str], file: str) -> bool:
    """Whether the names mean this file: by itself, or by a folder with a slash behind it; no names mean all."""
    return not names or any(file == name or (name.endswith("/") and file.startswith(name)) for name in names)


def _stem(name: str) -> str:
    """As much of a name as XNAT finds in an address: it compares what is encoded there as it stands."""
    while name and not addressable(name):
        name = name[:-1]
    return name


def _delete(
    rest: XnatClient, address: str, query: dict[str, str], retry_policy: RetryPolicy, still_there: Callable[[], bool]
) -> None:
    """One deletion; after a lost reply, again only if it is still there."""
    for attempt in count(1):
        try:
            rest.request("DELETE", address, query)
            return
        except (ServerSaid, Unreachable) as error:
            if error.status == 403:
                raise Refused(
                    f"user {rest.user} may not delete here; ask an owner of the project (members may add, not delete)"
                ) from error
            if not is_transient(error):
                raise
            retry_policy.wait(error, attempt)
            if not still_there():
                return
