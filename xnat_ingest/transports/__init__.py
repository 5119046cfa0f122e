"""Ways for instances to reach the server. Adding one: a module with a class of the protocol, a line in TRANSPORTS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from xnat_ingest.model import Instance, Receipt, Session
from xnat_ingest.pack import Part
from xnat_ingest.rest import Rest
from xnat_ingest.sources import Source
from xnat_ingest.transports.archive import ArchiveTransport


class Transport(Protocol):
    """Three functions: cut, send, check. A transport sends one part once; who repeats it is somebody else."""

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        """What travels together; the part that may go alone first comes first."""
        ...

    def send(self, session: Session, part: Part, sent: Callable[[int], None]) -> Receipt:
        """One attempt. sent: told payload bytes as they go. Raises IngestError."""
        ...

    def check(self) -> str:
        """A sentence on whether the way is open. Raises IngestError when it is not."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """What a transport is made of. timestamp: this run's own PREARC_TIMESTAMP."""

    rest: Rest
    source: Source
    timestamp: str
    part_size: int
    workers: int


TRANSPORTS: dict[str, Callable[[Way], Transport]] = {
    "archive": lambda way: ArchiveTransport(way.rest, way.source, way.timestamp, way.part_size, way.workers),
}
