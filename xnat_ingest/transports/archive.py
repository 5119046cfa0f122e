"""Sends parts as archives to XNAT's import service, into the prearchive, without a commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from xnat_ingest.core import Instance, Receipt, ServerSaid, Session, Unreachable
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.outgoing import Rewrite
from xnat_ingest.transports.bodies import (
    SMALLEST_PART,
    ZIP_LIMIT,
    ZIP_MEMBERS,
    Part,
    TarBody,
    ZipBody,
    cut_in_order,
    cut_into_parts,
)
from xnat_ingest.transports.import_service import import_part
from xnat_ingest.transports.link_speed import LinkSpeed, MeasuredBody
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.exchange import Body
from xnat_ingest.xnat.retry_policy import is_transient


class ArchiveTransport:
    """Sends tars or deflated zips.

    zipped: parts are zips, unless they exceed the limits of a zip.
    speed: measures the tars; parts are zips once it favours them.
    """

    names_session = True

    def __init__(
        self,
        rest: XnatClient,
        source: Source,
        timestamp: Callable[[Session], str],
        part_size: int,
        workers: int,
        *,
        zipped: bool = False,
        speed: LinkSpeed | None = None,
        direct: bool = False,
        rewrite: Rewrite | None = None,
    ) -> None:
        self._rest = rest
        self._source = source
        self._timestamp = timestamp
        self._part_size = min(part_size, ZIP_LIMIT) if zipped else part_size
        self._workers = workers
        self._zipped = zipped
        self._speed = speed
        self._direct = direct
        self._rewrite = rewrite

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        in_order = any(self._source.in_order(i.path) for i in instances[:1])
        parts = (
            cut_in_order(instances, self._part_size)
            if in_order
            else cut_into_parts(instances, self._part_size, self._workers)
        )
        if not self._zipped:
            return _small_first(parts) if self._speed and not in_order else parts
        pieces = [
            Part(part.instances[begin : begin + ZIP_MEMBERS])
            for part in parts
            for begin in range(0, len(part.instances), ZIP_MEMBERS)
        ]
        return pieces if in_order else sorted(pieces, key=lambda part: part.bytes)

    def send(self, session: Session, part: Part, sent: Callable[[int], None]) -> Receipt:
        # A part above the limit is a single large instance.
        if self._zipped and part.bytes <= ZIP_LIMIT:
            return self._post(session, part, ZipBody(self._source, part, self._rewrite), sent)
        speed = self._speed
        if speed and speed.favours_zip and part.bytes <= ZIP_LIMIT and len(part.instances) <= ZIP_MEMBERS:
            try:
                return self._post(session, part, ZipBody(self._source, part, self._rewrite), sent)
            except (ServerSaid, Unreachable) as error:
                speed.give_up_zip()
                if is_transient(error):
                    raise
            return replace(self._send_tar(session, part, sent), disturbed=True)
        return self._send_tar(session, part, sent)

    def _send_tar(self, session: Session, part: Part, sent: Callable[[int], None]) -> Receipt:
        body = TarBody(self._source, part, self._rewrite)
        return self._post(session, part, MeasuredBody(body, self._speed) if self._speed else body, sent)

    def _post(self, session: Session, part: Part, body: Body, sent: Callable[[int], None]) -> Receipt:
        timestamp = self._timestamp(session)
        return import_part(
            self._rest, session, part, body, sent, handler="DICOM-zip", timestamp=timestamp, direct=self._direct
        )


def _small_first(parts: list[Part]) -> list[Part]:
    """The same, with a small part at the beginning. It is sent alone, and shows how fast the server takes it."""
    if len(parts) < 2 or parts[0].bytes <= SMALLEST_PART:
        return parts
    size, number = 0, 0
    for number, instance in enumerate(parts[0].instances, 1):  # noqa: B007
        size += instance.length
        if size >= SMALLEST_PART:
            break
    pieces = parts[0].instances[:number], parts[0].instances[number:]
    return [Part(piece) for piece in pieces if piece] + parts[1:]
