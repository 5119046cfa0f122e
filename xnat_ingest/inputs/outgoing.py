"""The bytes that are sent for an instance: its file, or a form of it that XNAT stores completely.

XNAT parses the header of what it receives, rewrites it, and copies the rest unchanged. So a deflated data set would
lose its pixels, and one without meta information would be taken for explicit VR little endian. Both are sent as plain
Part 10 objects. In every form the number of bytes is known in advance, each opening gives the same bytes, and they are
read block by block.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from xnat_ingest.core import Form, Instance
from xnat_ingest.core.about import IMPLEMENTATION_UID
from xnat_ingest.inputs.dicom_dataset import BLOCK, Inflated, PeekableStream, blocks_of, skip_meta
from xnat_ingest.inputs.source import Source

_LEAST = 4096

# An instance and the blocks of its Part 10 object -> the blocks to send instead: Instance.length bytes, the same each
# time.
Rewrite = Callable[[Instance, Iterator[bytes]], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The bytes that are sent for an instance. rewrite: the last change to them."""

    source: Source
    instance: Instance
    rewrite: Rewrite | None = None

    @property
    def length(self) -> int:
        return self.instance.length

    @contextmanager
    def open(self) -> Iterator[Iterator[bytes]]:
        """One Part 10 object in blocks, from its start.

        Raises OSError, also while it is read. Raises NotWalkable while it is read, for a file that has changed.
        """
        with self.source.open(self.instance.path) as stream:
            # One byte more than there is: a small file is read at once, and takes no more memory than it has bytes.
            size = min(BLOCK, max(self.instance.size + 1, _LEAST))
            blocks = _MAKE[self.instance.form](self.instance, blocks_of(stream, size))
            yield self.rewrite(self.instance, blocks) if self.rewrite else blocks


def file_head(sop_class: str, sop_uid: str, syntax: str) -> bytes:
    """Preamble and file meta information (PS3.10, 7.1) for a data set in this transfer syntax."""
    meta = struct.pack("<HH2sHL", 2, 1, b"OB", 0, 2) + b"\0\1"
    meta += b"".join(_uid(element, uid) for element, uid in ((2, sop_class), (3, sop_uid), (0x10, syntax)))
    meta += _uid(0x12, IMPLEMENTATION_UID)
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta)) + meta


def _uid(element: int, uid: str) -> bytes:
    value = uid.encode("ascii") + b"\0" * (len(uid) % 2)
    return struct.pack("<HH2sH", 2, element, b"UI", len(value)) + value


def _as_it_is(_: Instance, blocks: Iterator[bytes]) -> Iterator[bytes]:
    return blocks


def _inflated(instance: Instance, blocks: Iterator[bytes]) -> Iterator[bytes]:
    source = PeekableStream(blocks)
    skip_meta(source)
    yield file_head(instance.sop_class, instance.sop_uid, instance.sent_syntax)
    yield from Inflated(source.rest())


def _headed(instance: Instance, blocks: Iterator[bytes]) -> Iterator[bytes]:
    source = PeekableStream(blocks)
    skip_meta(source)
    yield file_head(instance.sop_class, instance.sop_uid, instance.sent_syntax)
    yield from source.rest()


_MAKE: dict[Form, Callable[[Instance, Iterator[bytes]], Iterator[bytes]]] = {
    "file": _as_it_is,
    "inflated": _inflated,
    "headed": _headed,
}
