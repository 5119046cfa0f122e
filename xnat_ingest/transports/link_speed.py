"""How fast the server takes bodies, to choose between tars and zips.

A slow server cannot be told from a slow link. With a slow link, zips are faster. With a slow server they are not much
slower: below SLOW, one core deflates faster than the server reads, and inflating takes a server less than storing.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xnat_ingest.xnat.exchange import Body

# Bytes per second. Deflate's fastest level packs more than that on one core.
SLOW = 20e6
# Bytes of a body that buffers on the way may take at once. They say nothing about the speed.
BUFFERED = 4 * 1024**2
# Bytes to measure before deciding.
LEAST = 8 * 1024**2
# Packing pays if it leaves at most this share of a block.
WORTH = 0.85


class LinkSpeed:
    """Measures bodies while they are sent. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0
        self._seconds = 0.0
        self._sending = 0
        self._since = 0.0
        self._sampled = self._packed = 0
        self._given_up = False

    @property
    def favours_zip(self) -> bool:
        """Whether zips would be faster: enough was measured, it went slowly, and the files can be packed."""
        slow = self._bytes >= LEAST and self._bytes < SLOW * self._seconds
        return slow and self._packed < WORTH * self._sampled and not self._given_up

    def give_up_zip(self) -> None:
        """The server, or something in front of it, does not take zips."""
        self._given_up = True

    def measured(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The same blocks. The time that each takes on its way is measured, not the time to make it."""
        taken, sampled = 0, False
        for block in blocks:
            if taken < BUFFERED:
                yield block
            else:
                if not sampled:
                    self._sample(block)
                    sampled = True
                with self._on_its_way(len(block)):
                    yield block
            taken += len(block)

    def _sample(self, block: bytes) -> None:
        packed = len(zlib.compress(block, 1))
        with self._lock:
            self._sampled += len(block)
            self._packed += packed

    @contextmanager
    def _on_its_way(self, size: int) -> Iterator[None]:
        """Measures the time. Bodies that are sent at the same time share one clock."""
        with self._lock:
            if not self._sending:
                self._since = time.monotonic()
            self._sending += 1
        try:
            yield
        finally:
            with self._lock:
                self._sending -= 1
                now = time.monotonic()
                self._seconds += now - self._since
                self._since = now
                self._bytes += size


class MeasuredBody:
    """A body whose way to the server is measured."""

    def __init__(self, body: Body, speed: LinkSpeed) -> None:
        self.content_type = body.content_type
        self.length = body.length
        self._body = body
        self._speed = speed

    def open(self, sent: Callable[[int], None]) -> Iterator[bytes]:
        return self._speed.measured(self._body.open(sent))
