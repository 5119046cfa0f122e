"""Whether a file was rewritten in place while it was sent, and its time put back, so that a mix of two files was sent.

The time of the last change of the file's status cannot be put back. It also moves when a backup restores the time of
access, or when a link or a right is added. So the file is read once more then, and its bytes are compared with those
that were sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

from xnat_ingest.core import SourceChanged
from xnat_ingest.inputs.dicom_dataset import BLOCK
from xnat_ingest.inputs.outgoing import Outgoing


class RewrittenMeanwhile:
    """A watch over one instance. It must begin before the file is opened."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        # A smaller file is read at once. To watch it would cost more than to send it.
        self._watches = outgoing.instance.size > BLOCK
        self._since = self._changed()
        self._sum = 0

    def _changed(self) -> int:
        return self._outgoing.source.changed_ns(self._outgoing.instance.path) if self._watches else 0

    def over(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The same blocks, noted as sent."""
        if not self._watches:
            return blocks
        return self._noted(blocks)

    def _noted(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self._sum = crc32(block, self._sum)
            yield block

    def check(self) -> None:
        """After the last block. Raises SourceChanged, and OSError."""
        if self._changed() == self._since:
            return
        again = 0
        with self._outgoing.open() as blocks:
            for block in blocks:
                again = crc32(block, again)
        if again != self._sum:
            path = self._outgoing.instance.path
            raise SourceChanged(path, "the file was rewritten while it was sent, and its time put back", dirty=True)
