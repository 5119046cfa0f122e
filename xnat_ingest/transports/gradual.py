"""Sends each instance in its own request, for servers and proxies that do not let archives through."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from xnat_ingest.core import Instance, Receipt, Session
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.outgoing import Rewrite
from xnat_ingest.transports.bodies import FileBody, Part
from xnat_ingest.transports.import_service import import_part
from xnat_ingest.xnat.client import XnatClient


class GradualTransport:
    """Sends each instance in a request of its own.

    Prearchive session, commit and proof are the same as with archives, because XNAT's archive handler gives each member
    to the handler that is used here.
    """

    names_session = True

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
        """One instance each, series by series, or in stream order."""
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
            # Only for the server's log and errors, because of `rename=true`. Tomcat refuses some characters in a path.
            name=re.sub(r"[^\w.-]", "_", instance.name, flags=re.ASCII),
        )
