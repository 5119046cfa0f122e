"""Each instance in a request of its own, for servers and proxies that archives do not get through."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from xnat_ingest.core.model import Instance, Receipt, Session
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.outgoing import Rewrite
from xnat_ingest.transports.bodies import FileBody, Part
from xnat_ingest.transports.import_service import import_part
from xnat_ingest.xnat.client import XnatClient


class GradualTransport:
    """The row, its closing and the proof are those of the archive transport: XNAT's handler for archives gives each
    member to this one's."""

    names_rows = True

    def __init__(
        self,
        rest: XnatClient,
        source: Source,
        timestamp: Callable[[Session], str],
        *,
        direct: bool = False,
        rewrite: Rewrite | None = None,
    ) -> None:
        self._rest = rest
        self._source = source
        self._timestamp = timestamp
        self._direct = direct
        self._rewrite = rewrite

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        """One instance each, series by series; those in a stream as they lie there."""
        in_order = any(self._source.in_order(i.path) for i in instances[:1])
        return [Part((i,)) for i in (instances if in_order else sorted(instances, key=lambda i: i.series_uid))]

    def send(self, session: Session, part: Part, sent: Callable[[int], None]) -> Receipt:
        """A part of one instance."""
        (instance,) = part.instances
        return import_part(
            self._rest,
            session,
            part,
            FileBody(self._source, part, self._rewrite),
            sent,
            handler="gradual-DICOM",
            timestamp=self._timestamp(session),
            direct=self._direct,
            # For the server's log and errors alone, since `rename=true`. Tomcat refuses some characters in a path.
            name=re.sub(r"[^\w.-]", "_", instance.name, flags=re.ASCII),
        )

    def check(self) -> str:
        return f"user {self._rest.user} is logged in at {self._rest.server}"
