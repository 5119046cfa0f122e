"""What all sessions of a run share: the connection, the transport, the thread pool, what is known of the projects."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

from xnat_ingest.core import Instance, Problem, Session
from xnat_ingest.core.stop import RunControl
from xnat_ingest.delivery.known_sessions import KnownSessions
from xnat_ingest.delivery.timestamps import Timestamps
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.outgoing import Rewrite
from xnat_ingest.transports import Transport
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.archive import ArchivedSession, archived_session, archived_sessions, check_home, in_archive
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import PrearchiveSession
from xnat_ingest.xnat.projects import Project
from xnat_ingest.xnat.retry_policy import RetryPolicy
from xnat_ingest.xnat.stored_uids import StoredUids

# Seconds for which a listing of a project is used again. Other people and other runs change the project meanwhile.
KNOWN_AGE = 20.0
# A slow listing is used for this many times as long as it took, so that large projects are not listed all the time.
KNOWN_TIMES = 20.0
# The same for a listing of the prearchive, which changes more often.
PREARCHIVE_AGE = 1.0


class Reappeared(Protocol):
    """Keywords of elements that were removed before sending, and that the server has again.

    original: with the value that was removed.
    other: with another value.
    """

    @property
    def original(self) -> tuple[str, ...]: ...

    @property
    def other(self) -> tuple[str, ...]: ...


class SubjectCheck(Protocol):
    """Whether subjects that are new are still nobody else's, see known_subjects.NewSubjects."""

    def refuse_others(self, session: Session) -> None: ...

    def tell_others(self, session: Session) -> list[Problem]: ...


# The source, an instance, its labels (project, subject, session), and the beginning of the stored object.
FindReappeared = Callable[[Source, Instance, Sequence[str], bytes], Reappeared]


@dataclass(slots=True)
class RunContext:
    """What all sessions of a run share.

    timestamps: the PREARC_TIMESTAMP of each session
    control: whether the run may go on, and where its events go
    direct: the transport past the prearchive, if it is to be tried
    in_order: see Source
    is_gone: whether none of a session's files can be seen any more
    proof: how deeply to check what is stored
    rewrite: what changes objects on their way out
    find_reappeared: finds removed identifiers that the server has again, where headers are rewritten
    set_aside: title of a session without images -> how many files in its folder are set aside with a problem
    uids: reads SOPInstanceUIDs of stored files whose names do not tell them; None where the listing is to be enough
    keeps_uids: headers are rewritten, but not their UIDs: a copy that is there already may be one as it was before
    changes_uids: the site's script is known to change UIDs on receipt
    new_subjects: looks whose the subjects are that were new when the run began
    sends, commits: how many sessions may be sent, and how many committed, at the same time
    """

    rest: XnatClient
    source: Source
    transport: Transport
    parts: ThreadPoolExecutor
    retry_policy: RetryPolicy
    destination: str
    existing: str
    verify: bool
    proof: str
    timestamps: Timestamps
    control: RunControl
    projects: dict[str, Project] = field(default_factory=dict)
    direct: Transport | None = None
    in_order: Callable[[str], bool] = lambda _: False
    rewrite: Rewrite | None = None
    find_reappeared: FindReappeared | None = None
    is_gone: Callable[[Session], bool] = lambda _: False
    set_aside: Mapping[str, int] = field(default_factory=dict)
    uids: StoredUids | None = None
    keeps_uids: bool = False
    changes_uids: bool = False
    new_subjects: SubjectCheck | None = None
    sends: threading.Semaphore = field(default_factory=threading.Semaphore)
    commits: threading.Semaphore = field(default_factory=threading.Semaphore)
    _known: dict[str, KnownSessions] = field(default_factory=dict)
    _rows: dict[str, tuple[float, list[PrearchiveSession]]] = field(default_factory=dict)
    _asking: threading.Lock = field(default_factory=threading.Lock)

    def known(self, project: str, *, fresh: bool = False) -> KnownSessions:
        """The project's archived sessions, from a listing that is not much older than KNOWN_AGE. fresh: ask now."""
        with self._asking:
            known = self._known.get(project)
            if fresh or known is None or time.monotonic() > known.good_until:
                begun = time.monotonic()
                listing = archived_sessions(self.rest, project)
                now = time.monotonic()
                known = self._known[project] = KnownSessions(listing, now + max(KNOWN_AGE, KNOWN_TIMES * (now - begun)))
            return known

    def sessions(self, session: Session, *, fresh: bool = False) -> list[ArchivedSession]:
        """Archived sessions with the session's label or its study.

        A label that is not in the listing is asked for by name: listings leave out sessions of types that are not set
        up on the site. Raises IngestError for a session that is not in the project.
        """
        label = session.label.casefold()
        found = self.known(session.project, fresh=fresh).matching(label, session.study_uid)
        found = [check_home(self.rest, session.project, known) for known in found]
        if not any(k.label.casefold() == label for k in found):
            unlisted = archived_session(self.rest, session.project, session.label)
            if unlisted:
                # A shared session is listed by its label at home.
                found = [*(k for k in found if k.accession != unlisted.accession), unlisted]
        return found or self._under_changed_uids(session)

    def _under_changed_uids(self, session: Session) -> list[ArchivedSession]:
        """Sessions of the subject that hold this study under another label, where the site's script changes UIDs.

        The names of files still hold the UID under which they were sent. A listing of sessions does not.
        """
        others = self.known(session.project).of_subject.get(session.subject.casefold(), []) if self.changes_uids else []
        held = ((known, in_archive(self.rest, known.accession)) for known in others if known.is_imaging)
        return [
            replace(known, study_uid=session.study_uid) for known, files in held if files.has_study(session.study_uid)
        ]

    def prearchive_entries(self, project: str, *, fresh: bool = False) -> list[PrearchiveSession]:
        """The project's prearchive sessions. Sessions that begin together share one listing."""
        with self._asking:
            when, listing = self._rows.get(project, (0.0, []))
            if fresh or not when or time.monotonic() - when > PREARCHIVE_AGE:
                listing = prearchive.list_sessions(self.rest, project)
                self._rows[project] = time.monotonic(), listing
            return listing
