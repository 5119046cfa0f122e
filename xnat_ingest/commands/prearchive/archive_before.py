"""What the archive held before: it tells whether a session that has left the prearchive has come into it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress

from xnat_ingest.core import ServerSaid
from xnat_ingest.xnat.archive import (
    ArchivedSession,
    StoredFiles,
    archived_session,
    archived_sessions,
    check_home,
    in_archive,
)
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import UNASSIGNED, PrearchiveSession


class ArchiveBefore:
    """The archive as it was when it was last looked at.

    A session of the same label or study proves nothing about a prearchive session that has left: it may be older, and
    the other one may have been deleted, or moved to another project. What cannot be listed proves nothing either.
    """

    def __init__(self, rest: XnatClient) -> None:
        self._rest = rest
        # Project -> label in lower case, or study UID -> accessions.
        self._listed: dict[str, dict[str, set[str]]] = {}
        # Accession -> names of its files.
        self._names: dict[str, Collection[str]] = {}
        # Projects and labels for which there was no session.
        self._absent: set[tuple[str, str]] = set()

    def list_sessions(self, projects: Collection[str]) -> None:
        """Remembers which sessions the projects have: one request for each."""
        for project in {*projects} - {UNASSIGNED, *self._listed}:
            with suppress(ServerSaid):
                listed: dict[str, set[str]] = defaultdict(set)
                for one in archived_sessions(self._rest, project):
                    listed[one.label.casefold()].add(one.accession)
                    if one.study_uid:
                        listed[one.study_uid].add(one.accession)
                self._listed[project] = dict(listed)

    def look(self, entry: PrearchiveSession, label: str) -> None:
        """Remembers the files of the sessions that this one may come into."""
        if entry.project == UNASSIGNED:
            return
        self.list_sessions([entry.project])
        listed = self._listed.get(entry.project, {})
        with suppress(ServerSaid):
            found = set(listed.get(label.casefold(), ()))
            # A session whose type is not set up on the site is in no listing.
            known = None if found else archived_session(self._rest, entry.project, label)
            if known and not self._is_newly_listed(entry.project, known.accession):
                found.add(known.accession)
            if not (found or known):
                self._absent.add((entry.project, label.casefold()))
            for accession in (found | listed.get(entry.study_uid, set())) - self._names.keys():
                self.remember(accession, in_archive(self._rest, accession))

    def remember(self, accession: str, files_held: StoredFiles) -> None:
        self._names[accession] = frozenset(files_held.sizes)

    def has_taken(
        self, entry: PrearchiveSession, known: ArchivedSession, there: StoredFiles, *, archiving: bool = False
    ) -> bool:
        """Whether files of this study have come into an archived session since. They are remembered then.

        there: what it holds now.
        archiving: the server was archiving the prearchive session when it was last seen. It may have replaced files
            under their names.
        """
        names = self._names_before(entry.project, known)
        come = there.sizes.keys() - names if names is not None else set()
        if not is_of_study(entry, known, come or (there.sizes.keys() if archiving else ())):
            return False
        self.remember(known.accession, there)
        return True

    def _names_before(self, project: str, known: ArchivedSession) -> Collection[str] | None:
        """The names that a session's files had; None when that is not known."""
        if known.accession in self._names:
            return self._names[known.accession]
        if (project, known.label.casefold()) in self._absent or self._is_newly_listed(project, known.accession):
            return ()
        return None

    def _is_newly_listed(self, project: str, accession: str) -> bool:
        """Whether the listing has got it since. One that is found by its label alone may be old."""
        if project not in self._listed or any(accession in some for some in self._listed[project].values()):
            return False
        return any(one.accession == accession for one in archived_sessions(self._rest, project))


def is_of_study(entry: PrearchiveSession, known: ArchivedSession, names: Collection[str]) -> bool:
    """Whether there are files, and they may be of a prearchive session, as far as its study tells."""
    is_same = known.study_uid == entry.study_uid
    return bool(names) and (is_same or any(name.startswith(f"{entry.study_uid}-") for name in names))


def find_archived(rest: XnatClient, project: str, label: str, study_uid: str = "") -> Iterator[ArchivedSession]:
    """The session with this label, then those of the study if one is given."""
    if project == UNASSIGNED:
        return
    sessions = archived_sessions(rest, project)
    named = next((one for one in sessions if one.label.casefold() == label.casefold()), None)
    # A session whose type is not set up on the site is in no listing, but can be requested by its label.
    if named := named or archived_session(rest, project, label):
        yield check_home(rest, project, named)
    for one in sessions:
        if study_uid and one.study_uid == study_uid and (named is None or one.accession != named.accession):
            yield check_home(rest, project, one)
