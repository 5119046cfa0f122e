"""Whether a prearchive session that no build has listed holds a file that XNAT can read.

A disk that was full leaves pieces of files. XNAT gives the folder as a zip, built or not. Its beginning mostly tells.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

from xnat_ingest.core import ServerSaid
from xnat_ingest.inputs.dicom_elements import Unreadable, has_whole_header
from xnat_ingest.xnat.client import XnatClient

# Bytes of the zip. In so many, one file that XNAT can read has most likely begun and shown its header.
_MOST = 4 * 1024 * 1024
# Bytes that may be unpacked from them: a few packed ones can hold any number.
_MOST_UNPACKED = 32 * 1024 * 1024
_LOCAL, _CENTRAL, _END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_STORED, _DEFLATED = 0, 8
_SIZES_FOLLOW = 8  # the flag that sizes stand behind the entry
_BLOCK = 65536


class _EnoughError(Exception):
    """What is wanted is known, or cannot be known. The rest is not read."""


def holds_readable(rest: XnatClient, uri: str) -> bool:
    """Whether it holds such a file, as far as that can be told: True also where XNAT does not give its files."""
    holds = True

    def read(chunks: Iterator[bytes]) -> str:
        nonlocal holds
        if any(_is_readable(entry) for entry in _entries(_Stream(chunks))):
            raise _EnoughError
        holds = False
        return ""

    with suppress(_EnoughError, ServerSaid):
        rest.request("GET", uri, {"format": "zip"}, read=read)
    return holds


def _is_readable(entry: Iterator[bytes]) -> bool:
    try:
        return has_whole_header(entry)
    except Unreadable:
        return False


class _Stream:
    """The beginning of a zip. Raises _EnoughError where it ends or goes on for too long."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = b""
        self._left = _MOST
        self.unpacked_left = _MOST_UNPACKED

    def some(self) -> bytes:
        """The next bytes, as they come."""
        held, self._held = self._held, b""
        while not held:
            chunk = next(self._chunks, None)
            if chunk is None or self._left <= 0:
                raise _EnoughError
            self._left -= len(chunk)
            held = chunk
        return held

    def back(self, data: bytes) -> None:
        self._held = data + self._held

    def take(self, size: int) -> bytes:
        taken = b""
        while len(taken) < size:
            taken += self.some()
        self.back(taken[size:])
        return taken[:size]


def _entries(stream: _Stream) -> Iterator[Iterator[bytes]]:
    """The contents of the entries, one after the other. Raises _EnoughError for what is no such zip."""
    while (sign := stream.take(4)) == _LOCAL:
        flags, method, size, name, extra = struct.unpack("<2xHH8xL4xHH", stream.take(26))
        stream.take(name + extra)
        if method == _STORED and not flags & _SIZES_FOLLOW:
            entry = _stored(stream, size)
        elif method == _DEFLATED:
            entry = _inflated(stream)
        else:
            raise _EnoughError
        yield entry
        for _ in entry:
            pass
        if flags & _SIZES_FOLLOW:
            stream.take(16)
    if sign not in (_CENTRAL, _END):
        raise _EnoughError


def _stored(stream: _Stream, size: int) -> Iterator[bytes]:
    while size:
        block = stream.some()
        stream.back(block[size:])
        yield block[:size]
        size -= len(block[:size])


def _inflated(stream: _Stream) -> Iterator[bytes]:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        while not inflate.eof:
            block = inflate.decompress(inflate.unconsumed_tail or stream.some(), _BLOCK)
            stream.unpacked_left -= len(block)
            if stream.unpacked_left <= 0:
                raise _EnoughError
            if block:
                yield block
    except zlib.error:
        raise _EnoughError from None
    stream.back(inflate.unused_data)
