"""The owner of a resource: a project, subject, session or scan. Also deletes files and resources."""

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
from xnat_ingest.core import IngestError, Refused, ServerSaid, Unreachable, UsageError, printable
from xnat_ingest.core.regular_file import is_folder
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.retry_policy import RetryPolicy, is_transient


@dataclass(frozen=True, slots=True)
class ResourceOwner:
    """What the user named.

    experiment: a label or an accession id. Without a project only an accession id works, and only an id as subject.
    """

    project: str = ""
    subject: str = ""
    experiment: str = ""
    scan: str = ""

    def check(self) -> None:
        """Raises UsageError when nothing is named, or several things at once."""
        if not (self.project or self.subject or self.experiment):
            raise UsageError("no target: give -P PROJECT, with -S SUBJECT or -E SESSION, or only -E ACCESSION_ID")
        if self.subject and self.experiment and not self.project:
            raise UsageError("-S with -E needs the project: give -P, or only -E with an accession id")
        if self.scan and not self.experiment:
            raise UsageError("--scan needs the session: give -E")
        for text in (self.project, self.subject, self.experiment, self.scan):
            # For XNAT, commas, * and ALL mean several at once.
            if re.search(r"[/\\,*?#%]", text) or text in ("ALL", ".", ".."):
                raise UsageError(f"{printable(text)} does not name one project, subject, session or scan; give its id")


@dataclass(frozen=True, slots=True)
class Deleted:
    """What happened to the names.

    absent: they did not exist.
    failed: name -> why.
    """

    gone: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


def find_owner(rest: XnatClient, place: ResourceOwner) -> str:
    """The address of the owner, from `/data` on, with the server's own ids. Raises Refused."""
    project = ""
    if place.project:
        project = _id(rest, f"/data/projects/{place.project}", f"project {place.project}")
    base = f"/data/projects/{project}" if project else "/data"
    subject = ""
    if place.subject:
        what = f"subject {place.subject}"
        if not project:
            what += " (without -P this must be the subject's id; for a label, also give -P)"
        subject = _id(rest, f"{base}/subjects/{place.subject}", what)
    if not place.experiment:
        return f"{base}/subjects/{subject}" if subject else base
    session = f"session {place.experiment}"
    if not place.project:
        session += " (without -P this must be an accession id)"
    fields = _item(rest, f"{base}/experiments/{place.experiment}", session)
    if subject:
        _check_subject(rest, fields, subject, place)
    address = f"/data/experiments/{fields['ID']}"
    if not place.scan:
        return address
    # If no scan has this id, XNAT looks for a scan of this type.
    known = rest.rows(f"{address}/scans", lambda row: row["ID"])
    if place.scan not in known:
        raise IngestError(f"{session} has no scan {place.scan}; it has {', '.join(sorted(known)) or 'none'}")
    return f"{address}/scans/{place.scan}"


def _check_subject(rest: XnatClient, session: Mapping[str, Any], subject: str, place: ResourceOwner) -> None:
    """Checks the subject: below its address XNAT also finds sessions of the project's other subjects.

    Raises IngestError.
    """
    if (owner := str(session.get("subject_ID", ""))) == subject:
        return
    named = (rest.item(f"/data/subjects/{owner}") or {}).get("label", owner) if owner else "(unknown)"
    raise IngestError(
        f"session {place.experiment} belongs to subject {named}, not {place.subject}; nothing was done. Give the "
        "right -S, or leave it out"
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
    """Raises UsageError that explains how to upload DICOM. instead: the command that stores it as plain files."""
    dicom = dicom_among(found.files)
    if not dicom:
        return
    root = Path(paths[0]) if is_folder(paths[0]) else Path(paths[0]).parent
    upload = ["xnat-ingest", "upload", str(root), "-P", place.project or "PROJECT"]
    known = place.subject and place.experiment
    upload += ["-S", place.subject, "-E", place.experiment] if known else ["--layout", "headers"]
    raise UsageError(
        f"{printable(dicom[0].name)} is DICOM ({len(dicom)} of {len(found.files)} files are), which belongs in "
        f"the scans of sessions; to put it there: {printable(shlex.join(upload))}; to store it as plain files: "
        f"{instead}"
    )


def check_label(label: str, *, new: bool = False) -> None:
    """Raises UsageError for an invalid label. XNAT takes a number as the id of any resource, and a comma as several
    labels."""
    if label.isdecimal():
        raise UsageError(f"XNAT takes the label {label} as a resource's id; give a label with a letter in it")
    if not label.strip() or re.search(r"[/\\,*?#%]|[\x00-\x1f]", label) or label in (".", ".."):
        raise UsageError(f"{printable(label) or 'nothing'} is not the label of a resource")
    if new and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", label):
        raise UsageError(
            f"{printable(label)} is not a valid label for a resource: use at most 64 letters, digits, _ . and -"
        )


def delete_resource(rest: XnatClient, parent: str, label: str, *, retry_policy: RetryPolicy) -> None:
    """Deletes a whole resource, which must have been seen: XNAT answers 200 also when there is none with this label."""

    def is_there() -> bool:
        return label in (one.label for one in resources_of(rest, parent))

    _delete(rest, f"{parent}/resources/{label}", {}, retry_policy, is_there)
    if is_there():
        raise IngestError(f"resource {label} still exists although the server reported success; run the same again")


def delete_files(
    rest: XnatClient,
    parent: str,
    label: str,
    names: Sequence[str],
    *,
    keep: bool,
    retry_policy: RetryPolicy,
    stopped: Callable[[], bool] = lambda: False,
) -> Deleted:
    """Deletes files, and folders when a name ends with a slash. Without names: all files.

    XNAT deletes everything that begins with the given path. So a name that others begin with is refused, unless all of
    them are named. Others may come meanwhile, so that is looked at before each deletion.

    keep: only remove them from the listing; they stay on the server's disk.
    stopped: whether to delete no more of them.
    """
    if not all(names):
        raise UsageError("a file's name is empty; nothing was deleted")
    held = set(stored_files(rest, parent, label))
    wanted = {name: {one for one in held if is_named((name,) if name else (), one)} for name in names or ("",)}
    doomed = set().union(*wanted.values())
    failed: dict[str, str] = {}
    for number, name in enumerate(sorted((name for name, found in wanted.items() if found), key=len)):
        stem = _stem(name)
        held = set(stored_files(rest, parent, label)) if number and not stopped() else held
        begun = {one for one in held if one.startswith(stem)}
        if stopped():
            failed[name] = "not deleted: the command was stopped before"
        elif others := sorted(begun - doomed):
            failed[name] = _too_much(stem, others)
        elif begun:
            _delete_below(rest, parent, label, stem, keep=keep, retry_policy=retry_policy)
    left = set(stored_files(rest, parent, label)) & doomed
    refused = set().union(*(wanted[name] for name in failed))
    failed |= dict.fromkeys(left - refused, "the server reported success but still lists it; run the same again")
    absent = tuple(name for name, found in wanted.items() if name and not found)
    return Deleted(tuple(sorted(doomed - left)), absent, failed)


def _too_much(stem: str, others: Sequence[str]) -> str:
    """Why a name cannot be deleted separately. stem: the part that XNAT uses. Naming the others, too, is consent."""
    listed = ", ".join(map(printable, others[:5])) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    begins = f"everything that begins with {printable(stem)}" if stem else "all files of the resource"
    return (
        f"XNAT would delete {begins}, including {listed}. Name these, too, if all of them should go. To keep them, put "
        "them into another resource first"
    )


def _delete_below(
    rest: XnatClient, parent: str, label: str, stem: str, *, keep: bool, retry_policy: RetryPolicy
) -> None:
    def is_there() -> bool:
        return any(name.startswith(stem) for name in stored_files(rest, parent, label))

    query = {"removeFiles": "false"} if keep else {}
    _delete(rest, f"{parent}/resources/{label}/files/{stem}", query, retry_policy, is_there)


def is_named(names: Sequence[str], file: str) -> bool:
    """Whether the names include this file, directly or by a folder that ends with a slash. No names mean all."""
    return not names or any(file == name or (name.endswith("/") and file.startswith(name)) for name in names)


def _stem(name: str) -> str:
    """The part of a name that XNAT uses from an address: it compares encoded characters without decoding them."""
    while name and not addressable(name):
        name = name[:-1]
    return name


def _delete(
    rest: XnatClient, address: str, query: dict[str, str], retry_policy: RetryPolicy, still_there: Callable[[], bool]
) -> None:
    """One deletion. After a lost reply it is repeated only if the file still exists."""
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
