"""Sends parts as archives to XNAT's import service, into the prearchive, without a commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xnat_ingest.core.model import Instance, Receipt, Session
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.outgoing import Rewrite
from xnat_ingest.transports.bodies import ZIP_LIMIT, ZIP_MEMBERS, Part, TarBody, ZipBody, cut_in_order, cut_into_parts
from xnat_ingest.transports.import_service import import_part
from xnat_ingest.xnat.client import XnatClient


class ArchiveTransport:
    """zipped: parts are sent as deflated zips, unless they exceed the limits of a zip. Otherwise all are tars."""

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
        direct: bool = False,
        rewrite: Rewrite | None = None,
    ) -> None:
        self._rest = rest
        self._source = source
        self._timestamp = timestamp
        self._part_size = min(part_size, ZIP_LIMIT) if zipped else part_size
        self._workers = workers
        self._zipped = zipped
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
            return parts
        pieces = [
            Part(part.instances[begin : begin + ZIP_MEMBERS])
            for part in parts
            for begin in range(0, len(part.instances), ZIP_MEMBERS)
        ]
        return pieces if in_order else sorted(pieces, key=lambda part: part.bytes)

    def send(self, session: Session, part: Part, sent: Callable[[int], None]) -> Receipt:
        # A part above the limit is a single large instance.
        pack = ZipBody if self._zipped and part.bytes <= ZIP_LIMIT else TarBody
        body = pack(self._source, part, self._rewrite)
        return import_part(
            self._rest,
            session,
            part,
            body,
            sent,
            handler="DICOM-zip",
            timestamp=self._timestamp(session),
            direct=self._direct,
        )
