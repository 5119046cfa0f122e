"""What all sessions of a run share: the connection, the transport, the pools, what is known of the projects."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from xnat_ingest.core.model import Emit
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.outgoing import Rewrite
from xnat_ingest.transports import Transport
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.archive import Known, archived_sessions
from xnat_ingest.xnat.client import Rest
from xnat_ingest.xnat.prearchive import Row
from xnat_ingest.xnat.projects import Project
from xnat_ingest.xnat.retry_policy import Patience

# Seconds for which listings of a project are believed: other people and other runs change it meanwhile.
KNOWN_AGE = 20.0
ROWS_AGE = 1.0


@dataclass(slots=True)
class Site:
    """What all sessions of a run share. timestamp: the run's own PREARC_TIMESTAMP; check_stop: raises Stopped;
    direct: the way past the prearchive, if it is to be tried; in_order: see Source; proof: how deep to look at what is
    stored; rewrite: what changes objects on their way out."""

    rest: Rest
    source: Source
    transport: Transport
    parts: ThreadPoolExecutor
    patience: Patience
    destination: str
    existing: str
    verify: bool
    proof: str
    timestamp: str
    emit: Emit
    check_stop: Callable[[], None]
    projects: dict[str, Project] = field(default_factory=dict)
    direct: Transport | None = None
    in_order: Callable[[str], bool] = lambda _: False
    rewrite: Rewrite | None = None
    _known: dict[str, tuple[float, list[Known]]] = field(default_factory=dict)
    _rows: dict[str, tuple[float, list[Row]]] = field(default_factory=dict)
    _asking: threading.Lock = field(default_factory=threading.Lock)

    def known(self, project: str, *, fresh: bool = False) -> list[Known]:
        """The project's archived sessions; not older than KNOWN_AGE, or asked for just now."""
        with self._asking:
            when, listing = self._known.get(project, (0.0, []))
            if fresh or not when or time.monotonic() - when > KNOWN_AGE:
                listing = archived_sessions(self.rest, project)
                self._known[project] = time.monotonic(), listing
            return listing

    def rows(self, project: str, *, fresh: bool = False) -> list[Row]:
        """The project's prearchive rows; sessions that begin together share one listing."""
        with self._asking:
            when, listing = self._rows.get(project, (0.0, []))
            if fresh or not when or time.monotonic() - when > ROWS_AGE:
                listing = prearchive.rows(self.rest, project)
                self._rows[project] = time.monotonic(), listing
            return listing
