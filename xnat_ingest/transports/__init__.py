"""Ways for instances to reach the server. Adding one: a module with a class of the protocol, a line in TRANSPORTS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xnat_ingest.rest import Rest
from xnat_ingest.sources import Source
from xnat_ingest.transports.archive import ArchiveTransport
from xnat_ingest.transports.protocol import Transport
from xnat_ingest.transports.retry import Retrying

__all__ = ["TRANSPORTS", "Retrying", "Transport", "Way"]


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
