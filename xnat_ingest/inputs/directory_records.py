"""The files that a DICOMDIR lists. Its records are read in turn, since a small file can have a million of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from xnat_ingest.inputs.dicom_dataset import (
    BIG_ENDIAN,
    UNDEFINED,
    Head,
    NotWalkable,
    PeekableStream,
    blocks_of,
    copy_value,
    is_explicit,
    read_head,
    skip_meta,
)
from xnat_ingest.inputs.source import Source, go_on

_RECORDS, _IN_USE, _KIND, _FILE_ID, _SOP_UID = 0x00041220, 0x00041410, 0x00041430, 0x00041500, 0x00041511
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# Eight names of eight characters (PS3.10, 8.2), and what careless writers add.
_LONGEST = 4096
# Records and signs of their names that are read. A medium with a hundred thousand images has some 10 million signs.
_MOST_RECORDS, _MOST_SIGNS = 500_000, 64_000_000


@dataclass(frozen=True, slots=True)
class Referenced:
    """A file that a DICOMDIR lists.

    path: relative to the DICOMDIR's folder, '/'-separated.
    sop_uid: the SOPInstanceUID that it should hold; "" when the DICOMDIR does not say.
    kind: of the record, such as IMAGE.
    is_in_use: False for a record that was deleted from the directory (PS3.3, F.3.2.2, Record In-use Flag).
    """

    path: str
    sop_uid: str = ""
    kind: str = ""
    is_in_use: bool = True


def referenced_files(source: Source, path: str, check_stop: Callable[[], None] = go_on) -> list[Referenced] | None:
    """The files that a DICOMDIR lists; None when it cannot be read, or lists more than any medium holds.

    check_stop: called for each record; may raise.
    """
    try:
        with source.open(path) as stream:
            return list(_no_more_than_fit(_Directory(PeekableStream(blocks_of(stream)), check_stop).files()))
    except (OSError, NotWalkable):
        return None


def _no_more_than_fit(files: Iterable[Referenced]) -> Iterator[Referenced]:
    """Raises NotWalkable: a small packed file can list millions."""
    signs = 0
    for number, one in enumerate(files, 1):
        signs += len(one.path) + len(one.sop_uid)
        if number > _MOST_RECORDS or signs > _MOST_SIGNS:
            raise NotWalkable("lists more than any medium holds")
        yield one


class _Directory:
    """The walk along a directory. Raises NotWalkable."""

    def __init__(self, stream: PeekableStream, check_stop: Callable[[], None]) -> None:
        self._stream = stream
        self._check_stop = check_stop
        self._order = ">" if skip_meta(stream) == BIG_ENDIAN else "<"
        self._explicit = is_explicit(stream)

    def files(self) -> Iterator[Referenced]:
        while self._stream.peek(1):
            head = self._head()
            if head.tag == _RECORDS:
                yield from self._records(head)
                return
            self._pass(head)

    def _records(self, sequence: Head) -> Iterator[Referenced]:
        for item in self._heads(sequence.length, _SEQUENCE_END):
            self._check_stop()
            if item.tag != _ITEM:
                raise NotWalkable("has something other than items in a sequence")
            found = {_IN_USE: b"", _KIND: b"", _FILE_ID: b"", _SOP_UID: b""}
            for element in self._heads(item.length, _ITEM_END):
                if element.tag not in found or element.length > _LONGEST:
                    self._pass(element)
                else:
                    found[element.tag] = b"".join(self._stream.copy(element.length))
            if name := _name(found[_FILE_ID]):
                uid, kind = (found[tag].decode("latin-1").strip(" \0") for tag in (_SOP_UID, _KIND))
                yield Referenced(name, uid, kind, found[_IN_USE] != b"\0\0")

    def _heads(self, length: int, end: int) -> Iterator[Head]:
        """The heads in a value. The caller takes what follows each of them.

        Some writers give too great a length, so the end of the file may end the value.
        """
        stop = None if length == UNDEFINED else self._stream.taken + length
        while stop is None or self._stream.taken < stop:
            if not self._stream.peek(1):
                return
            head = self._head()
            if head.tag == end:
                return
            yield head

    def _head(self) -> Head:
        return read_head(self._stream, self._explicit, self._order)

    def _pass(self, head: Head) -> None:
        for _ in copy_value(self._stream, head, self._explicit, self._order):
            pass


def _name(value: bytes) -> str:
    return "/".join(part.strip(" \0") for part in value.decode("latin-1").strip(" \0").split("\\"))
