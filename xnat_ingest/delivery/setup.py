"""Makes what the sessions of a run share: the transport, and the context."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Semaphore

from xnat_ingest.core import Session
from xnat_ingest.core.stop import RunControl
from xnat_ingest.delivery.context import FindReappeared, RunContext
from xnat_ingest.delivery.timestamps import Timestamps
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.outgoing import Rewrite
from xnat_ingest.settings.options import TransportSettings
from xnat_ingest.transports import TRANSPORTS, Retrying, Transport, TransportConfig, receiver_of
from xnat_ingest.transports.concurrency import ConcurrencyLimiter
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.projects import Project
from xnat_ingest.xnat.retry_policy import RetryPolicy
from xnat_ingest.xnat.stored_uids import StoredUids


def make_context(
    rest: XnatClient,
    settings: TransportSettings,
    source: Source,
    rewrite: Rewrite | None,
    retry_policy: RetryPolicy,
    parts: ThreadPoolExecutor,
    control: RunControl,
    projects: dict[str, Project],
    *,
    sends: bool,
    counted: Callable[[int], None],
    changes_uids: bool,
    find_reappeared: FindReappeared | None = None,
    keeps_uids: bool = False,
) -> RunContext:
    """Makes the context of a run.

    sends: the command is upload
    counted: is called with bytes that are not sent by rest
    changes_uids: the site's script changes UIDs on receipt
    """
    timestamps = Timestamps()
    config = _way(settings, source, rewrite, rest, timestamps.of, counted)
    pace = ConcurrencyLimiter(settings.workers)

    settle = partial(_settle, rest, retry_policy)

    def transport(config: TransportConfig) -> Transport:
        last_resort = TRANSPORTS["gradual"](config) if settings.transport == "archive" else None
        inner = TRANSPORTS[settings.transport](config)
        return Retrying(inner, lambda: rest.get("/data/auth"), retry_policy, pace, settle, last_resort)

    # A DICOM receiver bypasses the prearchive if it is configured so. A client cannot ask for it.
    reads_uids = not (settings.no_verify or settings.proof == "listing" or changes_uids)
    direct = sends and settings.destination == "direct-archive" and settings.transport != "cstore"
    return RunContext(
        rest=rest,
        source=source,
        transport=transport(config),
        direct=transport(replace(config, direct=True)) if direct else None,
        in_order=source.in_order,
        rewrite=config.rewrite,
        find_reappeared=find_reappeared,
        uids=StoredUids(rest, parts, control.check) if reads_uids else None,
        keeps_uids=keeps_uids,
        parts=parts,
        retry_policy=retry_policy,
        destination=settings.destination,
        existing=settings.existing,
        verify=not settings.no_verify,
        proof=settings.proof,
        timestamps=timestamps,
        is_gone=lambda session: _is_gone(source, session),
        changes_uids=changes_uids,
        sends=Semaphore(settings.workers),
        commits=Semaphore(settings.workers),
        control=control,
        projects=projects,
    )


def _settle(rest: XnatClient, retry_policy: RetryPolicy, session: Session) -> None:
    """Waits until no prearchive session of this session changes any more."""
    for entry in prearchive.list_sessions(rest, session.project):
        if entry.belongs_to(session):
            prearchive.wait_until_still(rest, entry.uri, retry_policy.pause)


def check_receiver(settings: TransportSettings) -> None:
    """Checks the settings of a DICOM receiver before anything is contacted. Raises UsageError."""
    if settings.transport == "cstore":
        from xnat_ingest.transports.dicom_association import tls_of

        tls_of(receiver_of(settings, "https://the.server"))


def unverified_cstore(
    settings: TransportSettings,
    source: Source,
    rewrite: Rewrite | None,
    retry_policy: RetryPolicy,
    counted: Callable[[int], None],
) -> Transport:
    """The transport to a DICOM receiver without an XNAT server to ask."""
    inner = TRANSPORTS["cstore"](_way(settings, source, rewrite, None, lambda _: "", counted))
    return Retrying(inner, lambda: None, retry_policy, ConcurrencyLimiter(settings.workers), lambda _: None)


def _is_gone(source: Source, session: Session) -> bool:
    """Whether none of the session's files can be seen, because the tree was unmounted or the folder moved."""
    return not any(_is_seen(source, instance.path) for instance in session.instances)


def _is_seen(source: Source, path: str) -> bool:
    try:
        source.stat(path)
    except OSError:
        return False
    return True


def _way(
    settings: TransportSettings,
    source: Source,
    rewrite: Rewrite | None,
    rest: XnatClient | None,
    timestamp: Callable[[Session], str],
    counted: Callable[[int], None],
) -> TransportConfig:
    by_dicom = settings.transport == "cstore"
    return TransportConfig(
        rest,
        source,
        timestamp,
        settings.part_size,
        settings.workers,
        settings.archive_format,
        receiver_of(settings, rest.server if rest else "") if by_dicom else None,
        counted=counted,
        rewrite=rewrite,
    )
