"""Adds one element to an encoded data set while it is sent: it tells XNAT's receiver where to put the object.

The element is inserted or replaced in the data set's own encoding. Every other byte stays the same, except the group
length. That element is dropped: it would be wrong, and the standard has retired it. The source file is
not changed. Values pass block by block, so an object of any size takes the same memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from xnat_ingest.core import LABEL, Session, SessionTrouble, printable
from xnat_ingest.inputs.dicom_dataset import (
    BIG_ENDIAN,
    NotWalkable,
    PeekableStream,
    copy_value,
    is_explicit,
    read_head,
)

# From here on there are pixels, and no element that could be added or replaced.
_PIXELS = 0x7FE00000
_LO_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Stamp:
    """An element to write.

    text: ASCII, so that it is the same in every character set.
    keyword: its name.
    """

    keyword: str
    tag: int
    vr: bytes
    text: str

    def encoded(self, explicit: bool, order: str) -> bytes:
        value = self.text.encode("ascii")
        value += b" " * (len(value) % 2)
        group, element = self.tag >> 16, self.tag & 0xFFFF
        if explicit:
            return struct.pack(f"{order}HH2sH", group, element, self.vr, len(value)) + value
        return struct.pack(f"{order}HHL", group, element, len(value)) + value


def stamp_of(route: str, session: Session) -> Stamp | None:
    """The element that tells the receiver where the session belongs; None without routing. Raises SessionTrouble.

    comments: XNAT's receiver looks for these assignments in PatientComments. Their values may contain letters, digits,
        _ and -.
    study-description: for receivers whose routing expressions read such a line.
    """
    if route == "none":
        return None
    place = (session.project, session.subject, session.label)
    if not all(map(LABEL.fullmatch, place)):
        raise SessionTrouble(
            "illegal-label",
            f"{'/'.join(map(printable, place))} cannot be written into DICOM headers for routing: project, "
            "subject and label must be at most 64 letters, digits, _ and -",
        )
    if route == "comments":
        return Stamp("PatientComments", 0x00104000, b"LT", "Project:{} Subject:{} Session:{}".format(*place))
    text = "xnat://{}/{}/{}".format(*place)
    if len(text) > _LO_LIMIT:
        raise SessionTrouble(
            "illegal-label",
            f"{text} has {len(text)} characters, but StudyDescription holds only {_LO_LIMIT}: shorten the labels, or "
            "use --route comments",
        )
    return Stamp("StudyDescription", 0x00081030, b"LO", text)


class Stamping:
    """One object's data set with the stamp in it. replaced: whether the element had another value before."""

    def __init__(self, stamp: Stamp, syntax: str) -> None:
        self.replaced = False
        self._stamp = stamp
        self._order = ">" if syntax == BIG_ENDIAN else "<"

    def blocks(self, source: PeekableStream) -> Iterator[bytes]:
        """The bytes to send. The source is at the start of the data set. Raises NotWalkable."""
        explicit = is_explicit(source)
        mine = self._stamp.encoded(explicit, self._order)
        placed = dropping = False
        try:
            while source.peek(1):
                head = read_head(source, explicit, self._order)
                if head.tag > self._stamp.tag and not placed:
                    placed = True
                    yield mine
                value = copy_value(source, head, explicit, self._order)
                # Drops the element wherever it is (readers differ when there are two), and its group length.
                if head.tag in (self._stamp.tag, self._stamp.tag & 0xFFFF0000):
                    dropping = True
                    for block in value:
                        self.replaced |= head.tag == self._stamp.tag and bool(block.strip(b" \0"))
                    dropping = False
                    continue
                yield head.raw
                if head.tag >= _PIXELS:
                    break
                yield from value
        except NotWalkable:
            if dropping or not placed:
                raise
        if not placed:
            yield mine
        yield from source.rest()
