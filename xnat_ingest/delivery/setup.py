"""What a run is equipped with: its way to the server, and all that its sessions share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from xnat_ingest.core.model import Emit, Session
from xnat_ingest.delivery.context import Site
from xnat_ingest.delivery.timestamps import Timestamps
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.outgoing import Rewrite
from xnat_ingest.settings.options import Settings
from xnat_ingest.transports import TRANSPORTS, Retrying, Transport, Way, receiver_of
from xnat_ingest.transports.concurrency import Pace
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.client import Rest
from xnat_ingest.xnat.projects import Project
from xnat_ingest.xnat.retry_policy import Patience


def make_site(
    rest: Rest,
    settings: Settings,
    source: Source,
    rewrite: Rewrite | None,
    patience: Patience,
    parts: ThreadPoolExecutor,
    emit: Emit,
    check_stop: Callable[[], None],
    projects: dict[str, Project],
    *,
    sends: bool,
    counted: Callable[[int], None],
    changes_uids: bool,
) -> Site:
    """sends: the command is upload; counted: told the bytes that go otherwise than by rest; changes_uids: the site's
    script does so on receipt."""
    timestamps = Timestamps()
    way = _way(settings, source, rewrite, rest, timestamps.of, counted)
    pace = Pace(settings.workers)

    def settle(session: Session) -> None:
        for row in prearchive.rows(rest, session.project):
            if row.belongs_to(session):
                prearchive.wait_until_still(rest, row.uri, patience.pause)

    def transport(way: Way) -> Transport:
        last_resort = TRANSPORTS["gradual"](way) if settings.transport == "archive" else None
        inner = TRANSPORTS[settings.transport](way)
        return Retrying(inner, lambda: rest.get("/data/auth"), patience, pace, settle, last_resort)

    # A DICOM receiver goes past the prearchive when it is set up so, and not when it is asked to.
    direct = sends and settings.destination == "direct-archive" and settings.transport != "cstore"
    return Site(
        rest=rest,
        source=source,
        transport=transport(way),
        direct=transport(replace(way, direct=True)) if direct else None,
        in_order=source.in_order,
        rewrite=way.rewrite,
        parts=parts,
        patience=patience,
        destination=settings.destination,
        existing=settings.existing,
        verify=not settings.no_verify,
        proof=settings.proof,
        timestamps=timestamps,
        is_gone=lambda session: _is_gone(source, session),
        changes_uids=changes_uids,
        emit=emit,
        check_stop=check_stop,
        projects=projects,
    )


def check_receiver(settings: Settings) -> None:
    """What can be wrong with a DICOM receiver's settings before anything is contacted. Raises UsageError."""
    if settings.transport == "cstore":
        from xnat_ingest.transports.dicom_association import tls_of

        tls_of(receiver_of(settings, "https://the.server"))


def blind_transport(
    settings: Settings, source: Source, rewrite: Rewrite | None, patience: Patience, counted: Callable[[int], None]
) -> Transport:
    """To a DICOM receiver, without a server beside it."""
    inner = TRANSPORTS["cstore"](_way(settings, source, rewrite, None, lambda _: "", counted))
    return Retrying(inner, lambda: None, patience, Pace(settings.workers), lambda _: None)


def _is_gone(source: Source, session: Session) -> bool:
    """Whether none of the session's files can be seen: the tree was unmounted, or the session's folder moved."""
    return not any(_is_seen(source, instance.path) for instance in session.instances)


def _is_seen(source: Source, path: str) -> bool:
    try:
        source.stat(path)
    except OSError:
        return False
    return True


def _way(
    settings: Settings,
    source: Source,
    rewrite: Rewrite | None,
    rest: Rest | None,
    timestamp: Callable[[Session], str],
    counted: Callable[[int], None],
) -> Way:
    by_dicom = settings.transport == "cstore"
    return Way(
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
