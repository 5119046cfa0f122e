"""Whose resources: a project, a subject, a session or a scan; and taking files or resources away from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from xnat_ingest.errors import IngestError, Refused, ServerSaid, Unreachable, UsageError
from xnat_ingest.naming import printable
from xnat_ingest.patience import Patience, is_passing
from xnat_ingest.resources.files import addressable
from xnat_ingest.resources.listings import listing, resources_of
from xnat_ingest.rest import Rest


@dataclass(frozen=True, slots=True)
class Place:
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
    """What became of the names. absent: were not there; failed: with the reason."""

    gone: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


def find(rest: Rest, place: Place) -> str:
    """The address whose resources the place means, from `/data` on, with the server's own ids. Raises Refused."""
    project = _id(rest, f"/data/projects/{place.project}", f"project {place.project}") if place.project else ""
    base = f"/data/projects/{project}" if project else "/data"
    if place.subject:
        subject = _id(rest, f"{base}/subjects/{place.subject}", f"subject {place.subject}")
        base += f"/subjects/{subject}"
    if not place.experiment:
        return base
    session = f"session {place.experiment}"
    if not place.project:
        session += " (without -P, only an accession id will do)"
    address = f"/data/experiments/{_id(rest, f'{base}/experiments/{place.experiment}', session)}"
    if not place.scan:
        return address
    # Where no scan has this id, XNAT looks for a scan of this type.
    known = rest.rows(f"{address}/scans", lambda row: row["ID"])
    if place.scan not in known:
        raise IngestError(f"{session} has no scan {place.scan}; it has {', '.join(sorted(known)) or 'none'}")
    return f"{address}/scans/{place.scan}"


def _id(rest: Rest, address: str, what: str) -> str:
    fields = rest.item(address)
    if fields is None:
        raise Refused(
            f"{what} does not exist on {rest.server}, or user {rest.user} may not see it; check the spelling, or ask "
            "the project's owner for access"
        )
    return str(fields["ID"])


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


def delete_resource(rest: Rest, parent: str, label: str, *, patience: Patience) -> bool:
    """Deletes a whole resource. False: there is none of this label, to which XNAT would answer 200."""

    def is_there() -> bool:
        return label in (one.label for one in resources_of(rest, parent))

    if not is_there():
        return False
    _delete(rest, f"{parent}/resources/{label}", {}, patience, is_there)
    if is_there():
        raise IngestError(f"resource {label} is still there although the server says it deleted it; run the same again")
    return True


def delete_files(
    rest: Rest, parent: str, label: str, names: Sequence[str], *, keep: bool, patience: Patience
) -> Deleted:
    """Deletes files, and folders by a name that ends with a slash; no names: all files.

    keep: they stay on the server's disk, and in no listing. XNAT deletes whatever begins with the path it is given,
    so a name that others begin with is refused unless all of them are named.
    """
    held = set(listing(rest, parent, label))
    wanted = {name: {one for one in held if is_named((name,) if name else (), one)} for name in names or ("",)}
    doomed = set().union(*wanted.values())
    failed: dict[str, str] = {}
    for name in sorted((name for name, found in wanted.items() if found), key=len):
        stem = _stem(name)
        begun = {one for one in held if one.startswith(stem)}
        if others := sorted(begun - doomed):
            failed[name] = f"XNAT would delete {printable(others[0])} with it; name that one too, or rename it"
        elif begun:
            _delete_below(rest, parent, label, stem, keep=keep, patience=patience)
            held -= begun
    left = set(listing(rest, parent, label)) & doomed
    refused = set().union(*(wanted[name] for name in failed))
    failed |= dict.fromkeys(left - refused, "the server says it deleted it and lists it still; run the same again")
    absent = tuple(name for name, found in wanted.items() if name and not found)
    return Deleted(tuple(sorted(doomed - left)), absent, failed)


def _delete_below(rest: Rest, parent: str, label: str, stem: str, *, keep: bool, patience: Patience) -> None:
    def is_there() -> bool:
        return any(name.startswith(stem) for name in listing(rest, parent, label))

    query = {"removeFiles": "false"} if keep else {}
    _delete(rest, f"{parent}/resources/{label}/files/{stem}", query, patience, is_there)


def is_named(names: Sequence[str], file: str) -> bool:
    """Whether the names mean this file: by itself, or by a folder with a slash behind it; no names mean all."""
    return not names or any(file == name or (name.endswith("/") and file.startswith(name)) for name in names)


def _stem(name: str) -> str:
    """As much of a name as XNAT finds in an address: it compares what is encoded there as it stands."""
    while name and not addressable(name):
        name = name[:-1]
    return name


def _delete(
    rest: Rest, address: str, query: dict[str, str], patience: Patience, still_there: Callable[[], bool]
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
            if not is_passing(error):
                raise
            patience.wait(error, attempt)
            if not still_there():
                return
