"""Streams within streams."""

from __future__ import annotations

import io


class SubStream(io.RawIOBase):
    """A stream of known length with its own position. Subclasses implement `read`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def _wanted(self, size: int | None) -> int:
        """The most bytes that a read of this size may return."""
        left = max(0, self._size - self._at)
        return left if size is None or size < 0 else min(size, left)
