"""What is sent of an instance: its file, or what has to be made of it so that XNAT stores it whole.

XNAT parses the head of what it gets, writes it anew and copies the rest as it came. So a deflated data set loses its
pixels there, and one without meta information is taken for explicit VR little endian: both are sent as plain Part 10
objects. Whatever the form, the number of bytes is known before the first, every opening gives the same bytes, and
they pass block by block.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from xnat_ingest.core.about import IMPLEMENTATION_UID
from xnat_ingest.core.model import Form, Instance
from xnat_ingest.inputs.dicom_dataset import BLOCK, PeekableStream, blocks_of, inflated, skip_meta
from xnat_ingest.inputs.source import Source

_LEAST = 4096

# An instance and the blocks of its Part 10 object, as it would be sent -> those of the object as it is to be sent:
# Instance.length bytes, equal ones each time.
Rewrite = Callable[[Instance, Iterator[bytes]], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The bytes that are sent of one instance. rewrite: what changes them last."""

    source: Source
    instance: Instance
    rewrite: Rewrite | None = None

    @property
    def length(self) -> int:
        return self.instance.length

    @contextmanager
    def open(self) -> Iterator[Iterator[bytes]]:
        """One Part 10 object in blocks, from its start.

        Raises OSError, also while it is read; NotWalkable while it is read, for a file that is not what the scan saw.
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
    yield from inflated(source.rest())


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
