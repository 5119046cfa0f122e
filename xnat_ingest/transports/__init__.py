"""The ways of sending instances. To add one, see CONTRIBUTING.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xnat_ingest.core import Session, UsageError
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.outgoing import Rewrite
from xnat_ingest.transports.archive import ArchiveTransport
from xnat_ingest.transports.dicom_receiver import Receiver, receiver_of
from xnat_ingest.transports.gradual import GradualTransport
from xnat_ingest.transports.link_speed import LinkSpeed
from xnat_ingest.transports.protocol import Transport
from xnat_ingest.transports.retrying import Retrying
from xnat_ingest.xnat.client import XnatClient

__all__ = ["TRANSPORTS", "Receiver", "Retrying", "Transport", "TransportConfig", "ask_receiver", "receiver_of"]


@dataclass(frozen=True, slots=True)
class TransportConfig:
    """What a transport needs.

    timestamp: a session's own PREARC_TIMESTAMP.
    archive_format: tar or zip; auto is tar until the server is seen to take it slowly.
    receiver: for C-STORE.
    direct: skip the prearchive.
    counted: called with the bytes that C-STORE sends.
    rewrite: changes objects before they are sent.
    """

    rest: XnatClient | None
    source: Source
    timestamp: Callable[[Session], str]
    part_size: int
    workers: int
    archive_format: str = "auto"
    receiver: Receiver | None = None
    direct: bool = False
    counted: Callable[[int], None] = lambda _: None
    rewrite: Rewrite | None = None


def _c_store(config: TransportConfig) -> Transport:
    from xnat_ingest.transports.cstore import CStore  # late: loads pynetdicom

    if config.receiver is None:
        raise UsageError("C-STORE needs a DICOM receiver: give --dicom-host HOST")
    receiver = config.receiver
    return CStore(receiver, config.source, config.part_size, config.workers, config.counted, rewrite=config.rewrite)


def _archive(config: TransportConfig) -> Transport:
    assert config.rest is not None  # noqa: S101 - only C-STORE does without
    return ArchiveTransport(
        config.rest,
        config.source,
        config.timestamp,
        config.part_size,
        config.workers,
        zipped=config.archive_format == "zip",
        speed=LinkSpeed() if config.archive_format == "auto" else None,
        direct=config.direct,
        rewrite=config.rewrite,
    )


def _gradual(config: TransportConfig) -> Transport:
    assert config.rest is not None  # noqa: S101 - only C-STORE does without
    return GradualTransport(config.rest, config.source, config.timestamp, direct=config.direct, rewrite=config.rewrite)


def check_receiver(receiver: Receiver) -> None:
    """Raises UsageError when its certificates cannot be used."""
    from xnat_ingest.transports.dicom_association import tls_of

    tls_of(receiver)


def ask_receiver(receiver: Receiver) -> str:
    """A sentence on a DICOM receiver's answer to C-ECHO, for `ping`. Raises IngestError."""
    from xnat_ingest.transports.cstore import echo
    from xnat_ingest.transports.dicom_association import tls_of

    return echo(receiver, tls_of(receiver))


TRANSPORTS: dict[str, Callable[[TransportConfig], Transport]] = {
    "archive": _archive,
    "gradual": _gradual,
    "cstore": _c_store,
}
