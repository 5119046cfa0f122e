"""What a transport is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from xnat_ingest.core.model import Instance, Receipt, Session
from xnat_ingest.transports.bodies import Part


class Transport(Protocol):
    """Three functions: cut, send, check. A transport sends one part once; who repeats it is somebody else.

    names_rows: whether receipts tell the prearchive row; a DICOM receiver does not.
    """

    @property
    def names_rows(self) -> bool: ...

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        """What travels together; the part that may go alone first comes first."""
        ...

    def send(self, session: Session, part: Part, sent: Callable[[int], None]) -> Receipt:
        """One attempt. sent: told payload bytes as they go. Raises IngestError."""
        ...

    def check(self) -> str:
        """A sentence on whether the way is open. Raises IngestError when it is not."""
        ...
