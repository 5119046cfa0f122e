"""Whether what is about to be sent is the object that was planned.

A file can be replaced by another one of the same size and time. So the planned UIDs must be those of the object that
is sent, and the elements that rules and labels looked at must have the planned values. They are read where they belong,
as the scan does: elsewhere they may be another object's. A reference names one, and where a tar was packed anew, an
object may end and the planned one begin behind it.

What is sent is at hand, and nearly always an ordinary file, which takes some microseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from xnat_ingest.core import Instance, SetAside, SourceFile
from xnat_ingest.inputs.dicom_headers import read_again, read_beginning
from xnat_ingest.inputs.dicom_keywords import tags_of
from xnat_ingest.inputs.instances import SERIES_UID, SOP_UID, STUDY_UID, NotConvertible, text_of
from xnat_ingest.inputs.quick_header import QuickReader
from xnat_ingest.inputs.source import Source

# The library's settings and Python's warnings belong to the whole process.
_library = threading.Lock()


def is_planned(source: Source, instance: Instance, start: bytes, *, is_rewritten: bool = False) -> bool:
    """Whether what is sent for an instance is the planned object. Raises OSError.

    start: its first bytes, a block at least.
    is_rewritten: it was de-identified, and begins with its whole header.
    """
    if _begins_as_planned(instance, start):
        return True
    with _library:
        file = SourceFile(instance.path, len(start), instance.mtime_ns)
        if _is(instance, read_beginning(file, start, instance.leaving)):
            return True
        if is_rewritten or len(start) >= instance.length:
            return False
        # The header is longer than a block.
        file = SourceFile(instance.path, instance.size, instance.mtime_ns)
        return _is(instance, read_again(source, file, instance.tags))


def _begins_as_planned(instance: Instance, start: bytes) -> bool:
    """Whether an ordinary file is the planned object. False for any other file, too."""
    reader, keywords = _readers.of(tuple(instance.leaving))
    found = reader.beginning(start)
    if found is None or tuple(map(found.first, (SOP_UID, STUDY_UID, SERIES_UID))) != _uids(instance):
        return False
    if not keywords:
        return True
    try:
        with _library:
            return _agree(instance, {word: text_of(found.full(tag)) for word, tag in keywords.items()})
    except NotConvertible:
        return False


class _Readers(threading.local):
    """The reader of a thread. It has learnt from the objects that were sent before."""

    def __init__(self) -> None:
        self._words: tuple[str, ...] = ()
        self._keywords: Mapping[str, int] = {}
        self._reader = QuickReader({}, {})

    def of(self, words: tuple[str, ...]) -> tuple[QuickReader, Mapping[str, int]]:
        """One that reads these keywords, too, and their tags."""
        if words != self._words:
            self._words, self._keywords = words, tags_of(words)
            self._reader = QuickReader(self._keywords, {})
        return self._reader, self._keywords


_readers = _Readers()


def _is(instance: Instance, found: Instance | SetAside) -> bool:
    return isinstance(found, Instance) and _uids(found) == _uids(instance) and _agree(instance, found.tags)


def _agree(instance: Instance, found: Mapping[str, str]) -> bool:
    """Whether the elements that rules and labels looked at have the planned values.

    What a profile makes up has none in the plan (see Deidentifier).
    """
    is_rewritten = instance.sent_tags is not None
    planned = ((word, text_of(value)) for word, value in instance.leaving.items())
    return all(found[word] == value or (is_rewritten and not value) for word, value in planned)


def _uids(instance: Instance) -> tuple[str, ...]:
    return instance.sop_uid, instance.study_uid, instance.series_uid
