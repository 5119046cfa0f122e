"""Reads headers, never pixels: a file becomes an Instance, or is set aside with the reason.

A file is judged by its content alone; names and suffixes mean nothing (4 in 10 real files have no usable one). The
library is loaded when the first file needs it: most never do (quick_header.py), and loading it takes as long as
reading some thousands of them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator

from xnat_ingest.core import EMPTY, Instance, SetAside, SourceFile
from xnat_ingest.inputs.dicom_keywords import tags_of
from xnat_ingest.inputs.quick_header import QuickReader
from xnat_ingest.inputs.source import Source, go_on, heard


def scan(
    source: Source,
    skip: Callable[[str], str | None],
    keywords: Iterable[str] = (),
    *,
    accept_truncated: bool = False,
    check_stop: Callable[[], None] = go_on,
) -> Iterator[Instance | SetAside]:
    """Reads every file of the source as an Instance, or sets it aside.

    skip: path -> reason to set it aside unread, or None.
    keywords: DICOM keywords to keep in Instance.tags.
    accept_truncated: a file with some data missing becomes an Instance with that flaw.
    check_stop: called at each read of a header, since one file may take long.
    """
    wanted = tags_of(keywords)
    patients: dict[str, str] = {}  # PatientID -> its number; only the number leaves this function
    reader = QuickReader(wanted, patients, check_stop)
    for found in heard(_listed(source), check_stop):
        if isinstance(found, SetAside):
            yield found
        elif reason := skip(found.path):
            yield SetAside(found.path, reason)
        else:
            yield _judge(
                source, found, reader, wanted, patients, accept_truncated=accept_truncated, check_stop=check_stop
            )


def _listed(source: Source) -> Iterator[SourceFile | SetAside]:
    """The files. The disk of an archive may go away while it is listed."""
    try:
        yield from source.files()
    except OSError as error:
        yield SetAside(".", "unreadable", f"the rest of ROOT cannot be listed: {error.strerror or error}")


def _judge(
    source: Source,
    file: SourceFile,
    reader: QuickReader,
    wanted: dict[str, int],
    patients: dict[str, str],
    *,
    accept_truncated: bool,
    check_stop: Callable[[], None],
) -> Instance | SetAside:
    if file.size == 0:
        return SetAside(file.path, "not-dicom", EMPTY)
    try:
        with source.open(file.path) as stream:
            if usual := reader.instance(file, stream):
                return usual
            from xnat_ingest.inputs.pydicom_header import library_instance

            stream.seek(0)
            return library_instance(
                file, stream, wanted, patients, accept_truncated=accept_truncated, check_stop=check_stop
            )
    except OSError as error:
        return SetAside(file.path, "unreadable", error.strerror or "cannot be read")


def read_again(source: Source, file: SourceFile, keywords: Iterable[str]) -> Instance | SetAside:
    """A file as it is now, however damaged. keywords: see scan."""
    wanted = tags_of(keywords)
    return _judge(source, file, QuickReader(wanted, {}), wanted, {}, accept_truncated=True, check_stop=go_on)


def read_beginning(file: SourceFile, start: bytes, keywords: Iterable[str]) -> Instance | SetAside:
    """The same, of the first bytes of a file."""
    from xnat_ingest.inputs.pydicom_header import library_instance

    return library_instance(file, io.BytesIO(start), tags_of(keywords), {}, accept_truncated=True)


def same_bytes(source: Source, first: Instance, second: Instance) -> bool:
    """Whether two files have the same bytes. Raises OSError."""
    if first.size != second.size:
        return False
    with source.open(first.path) as one, source.open(second.path) as other:
        while True:
            block = one.read(io.DEFAULT_BUFFER_SIZE * 16)
            if block != other.read(io.DEFAULT_BUFFER_SIZE * 16):
                return False
            if not block:
                return True
