"""Parts as tar archives in the body of XNAT's import service, into the prearchive, with no closing in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xnat_ingest.model import Instance, Receipt, Session
from xnat_ingest.pack import Part, TarBody, cut_into_parts
from xnat_ingest.rest import Rest
from xnat_ingest.sources import Source


class ArchiveTransport:
    def __init__(self, rest: Rest, source: Source, timestamp: str, part_size: int, workers: int) -> None:
        self._rest = rest
        self._source = source
        self._timestamp = timestamp
        self._part_size = part_size
        self._workers = workers

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        return cut_into_parts(instances, self._part_size, self._workers)

    def send(self, session: Session, part: Part, sent: Callable[[int], None]) -> Receipt:
        """One part.

        The parameters are the same on every part of a session: the first file decides them for the row. They hold no
        `dest`, `action` or `AA`, each of which would make the server close the session after this part.
        """
        body = TarBody(self._source, part)
        reply = self._rest.request(
            "POST",
            "/data/services/import",
            {
                "import-handler": "DICOM-zip",
                "inbody": "true",
                "PROJECT_ID": session.project,
                "SUBJECT_ID": session.subject,
                "EXPT_LABEL": session.label,
                "rename": "true",
                "prevent_auto_commit": "true",
                "SOURCE": "uploader",
                "PREARC_TIMESTAMP": self._timestamp,
            },
            body=body,
            sent=sent,
        )
        uris = tuple(reply.text.split())
        return Receipt(uris, part.instances if uris else (), part.bytes)

    def check(self) -> str:
        return f"user {self._rest.user} is logged in at {self._rest.server}"
