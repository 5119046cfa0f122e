"""Ways for instances to reach the server. Adding one: a module with a class of the protocol, a line in TRANSPORTS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.model import Session
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.outgoing import Rewrite
from xnat_ingest.transports.archive import ArchiveTransport
from xnat_ingest.transports.dicom_receiver import Receiver, receiver_of
from xnat_ingest.transports.gradual import GradualTransport
from xnat_ingest.transports.protocol import Transport
from xnat_ingest.transports.retrying import Retrying
from xnat_ingest.xnat.client import Rest

__all__ = ["TRANSPORTS", "Receiver", "Retrying", "Transport", "Way", "ask_receiver", "receiver_of"]


@dataclass(frozen=True, slots=True)
class Way:
    """What a transport is made of. timestamp: a session's own PREARC_TIMESTAMP; archive_format: auto is tar, since
    whether deflating pays cannot be seen from here (docs/design.md, section 4); receiver: for C-STORE; direct: past the
    prearchive; counted: told the bytes that C-STORE sends; rewrite: what changes objects on their way out."""

    rest: Rest | None
    source: Source
    timestamp: Callable[[Session], str]
    part_size: int
    workers: int
    archive_format: str = "auto"
    receiver: Receiver | None = None
    direct: bool = False
    counted: Callable[[int], None] = lambda _: None
    rewrite: Rewrite | None = None


def _c_store(way: Way) -> Transport:
    from xnat_ingest.transports.cstore import CStore  # pynetdicom is loaded for those who use it

    if way.receiver is None:
        raise UsageError("C-STORE needs a DICOM receiver: give --dicom-host HOST")
    return CStore(way.receiver, way.source, way.part_size, way.workers, way.counted, rewrite=way.rewrite)


def _archive(way: Way) -> Transport:
    assert way.rest is not None  # noqa: S101 - only C-STORE does without
    return ArchiveTransport(
        way.rest,
        way.source,
        way.timestamp,
        way.part_size,
        way.workers,
        zipped=way.archive_format == "zip",
        direct=way.direct,
        rewrite=way.rewrite,
    )


def _gradual(way: Way) -> Transport:
    assert way.rest is not None  # noqa: S101 - only C-STORE does without
    return GradualTransport(way.rest, way.source, way.timestamp, direct=way.direct, rewrite=way.rewrite)


def ask_receiver(receiver: Receiver) -> str:
    """A sentence on a DICOM receiver's answer to C-ECHO, for who has nothing to send. Raises IngestError."""
    from xnat_ingest.transports.cstore import echo
    from xnat_ingest.transports.dicom_association import tls_of

    return echo(receiver, tls_of(receiver))


TRANSPORTS: dict[str, Callable[[Way], Transport]] = {"archive": _archive, "gradual": _gradual, "cstore": _c_store}
