"""What all sessions of a run share: the connection, the transport, the pools, what is known of the projects."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from xnat_ingest.model import Emit
from xnat_ingest.patience import Patience
from xnat_ingest.rest import Rest
from xnat_ingest.serverrules import Project
from xnat_ingest.transports import Transport
from xnat_ingest.verify import Known, archived_sessions


@dataclass(slots=True)
class Site:
    """What all sessions of a run share. timestamp: the run's own PREARC_TIMESTAMP; check_stop: raises Stopped."""

    rest: Rest
    transport: Transport
    parts: ThreadPoolExecutor
    patience: Patience
    destination: str
    existing: str
    verify: bool
    timestamp: str
    emit: Emit
    check_stop: Callable[[], None]
    projects: dict[str, Project] = field(default_factory=dict)
    known: dict[str, list[Known]] = field(default_factory=dict)

    def refresh(self, project: str) -> None:
        self.known[project] = archived_sessions(self.rest, project)


def pause_until(check_stop: Callable[[], None]) -> Callable[[float], None]:
    """A wait that a signal ends. seconds: how long at most."""

    def pause(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            check_stop()

    return pause
