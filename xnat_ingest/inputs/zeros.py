"""Zeros that follow what a file holds: padding has an end. A file with a hole can be larger than any disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from xnat_ingest.inputs.source import go_on

# Bytes. So many zeros in a row are taken to have no end.
ENOUGH = 1024**3
# Elements of a data set that are all zeros: tag, VR and length. More of them are a hole, not padding.
MOST_BLANK = 1 << 16
BLANK = "has zeros in place of its elements"
# Zeros that may belong to the header of a member, which is read byte by byte, too. More, in a row, are padding.
_FEW = 4096
_BLOCK = 1 << 18
_NONE = bytes(_BLOCK)


def pass_zeros(stream: BinaryIO, check_stop: Callable[[], None] = go_on) -> tuple[int, bytes]:
    """Reads on to the first byte that is not zero.

    Returns how many zeros there were, and what was read behind them: nothing at the end of the stream, and nothing
    behind ENOUGH zeros. Raises OSError.
    """
    zeros = 0
    while zeros < ENOUGH and (block := stream.read(_BLOCK)):
        check_stop()
        if block == _NONE[: len(block)]:
            zeros += len(block)
            continue
        rest = block.lstrip(b"\0")
        return zeros + len(block) - len(rest), rest
    return zeros, b""


class PaddedStream:
    """A gzip file as its library reads it, which would go on through zeros behind a member, byte by byte.

    Long runs of zeros are left out there. Only there does the library read single bytes. Elsewhere zeros are given as
    they are: a member that is stored without being compressed has those of its content.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ahead = b""  # read, but not yet given
        self._zeros = 0  # bytes of zeros until here

    def read(self, size: int) -> bytes:
        """Raises EOFError where the zeros do not end, and OSError."""
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        data = self._stream.read(size)
        if not data or data[0] or data.count(0) < len(data):
            self._zeros = 0
            return data
        self._zeros += len(data)
        if size == 1:
            more, rest = pass_zeros(self._stream)
            self._zeros += more
            self._ahead = rest if more > _FEW else bytes(more) + rest
        if self._zeros >= ENOUGH:
            raise EOFError("zeros without end")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._ahead, self._zeros = b"", 0
        return self._stream.seek(offset, whence)

    def seekable(self) -> bool:
        return True
