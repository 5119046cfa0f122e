"""Whether a file was rewritten in place while it was sent, and its time put back, so that a mix of two files was sent.

The time of the last change of the file's status cannot be put back. It also moves when a backup restores the time of
access, or when a link or a right is added. So the file is read once more then, and compared with what was sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

from xnat_ingest.core import SourceChanged
from xnat_ingest.inputs.dicom_dataset import BLOCK
from xnat_ingest.inputs.outgoing import Outgoing

# Of each STRIDE bytes the first SAMPLE are compared. A sum over all of them would take as long as sending a large file
# over a fast line, and nearly all files never change. Another image differs in each sample.
STRIDE = 64 * 1024
SAMPLE = 4 * 1024


class _Samples:
    """A checksum of samples of a stream, wherever its blocks begin and end."""

    def __init__(self) -> None:
        self.sum = 0
        self._at = 0

    def add(self, block: bytes) -> None:
        view, begin = memoryview(block), -(self._at % STRIDE)
        while begin < len(block):
            self.sum = crc32(view[max(begin, 0) : max(begin + SAMPLE, 0)], self.sum)
            begin += STRIDE
        self._at += len(block)


class RewrittenMeanwhile:
    """A watch over one instance. It must begin before the file is opened."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        # A smaller file is read at once. To watch it would cost more than to send it.
        self._watches = outgoing.instance.size > BLOCK
        self._since = self._changed()
        self._sent = _Samples()

    def _changed(self) -> int:
        return self._outgoing.source.changed_ns(self._outgoing.instance.path) if self._watches else 0

    def over(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The same blocks, noted as sent."""
        return self._noted(blocks) if self._watches else blocks

    def _noted(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self._sent.add(block)
            yield block

    def check(self) -> None:
        """After the last block. Raises SourceChanged, and OSError."""
        if self._changed() == self._since:
            return
        again = _Samples()
        with self._outgoing.open() as blocks:
            for block in blocks:
                again.add(block)
        if again.sum != self._sent.sum:
            path = self._outgoing.instance.path
            raise SourceChanged(path, "the file was rewritten while it was sent, and its time put back", dirty=True)
