"""What a transport is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from xnat_ingest.core import Instance, Receipt, Session
from xnat_ingest.transports.bodies import Part


class Transport(Protocol):
    """A way to send instances. It sends one part once; retrying is done elsewhere (retrying.py).

    names_session: whether receipts name the prearchive session; a DICOM receiver does not.
    """

    @property
    def names_session(self) -> bool: ...

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        """The parts. The first is one that may be sent alone before the others."""
        ...

    def send(self, session: Session, part: Part, sent: Callable[[int], None]) -> Receipt:
        """One attempt. sent: called with payload bytes as they are sent. Raises IngestError."""
        ...
