"""Reads the UIDs of stored files whose names or scans do not tell them.

The number of files in a series is no proof: another tool may have stored the other half of it. So their headers are
read, up to the UID.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import chain

from xnat_ingest.core import ServerSaid
from xnat_ingest.inputs.dicom_elements import Unreadable, series_uid_of, sop_uid_of
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import StoredFile

# Statuses that mean that the server does not give a file. All others are trouble that passes.
_NOT_GIVEN = (400, 403, 404, 410)
# Those of them that mean that there is none, if the server gives others.
_GONE = (404, 410)
# A file up to this many bytes is read to its end, so that the connection can be used again.
_SMALL = 256 * 1024
# The UID is one of the first elements. Nothing sensible comes before it that is longer than this, in bytes.
_MOST = 1024 * 1024


_Known = dict[tuple[str, int], str | None]


class _EnoughError(Exception):
    """The UID is known, and the rest of the file is not read."""


class StoredUids:
    """What was read is remembered for the run, by address and size; so is that the server does not give a file."""

    def __init__(self, rest: XnatClient, pool: ThreadPoolExecutor, check_stop: Callable[[], None]) -> None:
        self._rest = rest
        self._pool = pool
        self._check_stop = check_stop
        # "" of a file that was read and names no instance, None of one that was not given.
        self._known: _Known = {}
        self._series: _Known = {}  # the same of SeriesInstanceUIDs
        self._gone: set[tuple[str, int]] = set()
        self._replaced: set[str] = set()  # addresses
        self._lock = threading.Lock()
        self._refused = False

    def of(self, uri: str, files: Sequence[StoredFile], *, ask: bool) -> Mapping[StoredFile, str]:
        """File -> SOPInstanceUID, for those that the server gives, or has given.

        It is "" of a file that is damaged or no DICOM, and of one that is not there while others are.

        uri: the address of their session.
        ask: the server may be asked for what is not known yet.

        Raises Unreachable, Refused for the whole login, ServerSaid where an answer tells nothing of the file, Stopped.
        """
        places = {one: (f"{uri}{one.folder}/{one.own}", one.size) for one in files}
        wanted = places.values() if ask else [place for place in places.values() if place[0] in self._replaced]
        trouble = threading.Event()
        unknown = [place for place in wanted if place not in self._known]
        futures = [self._pool.submit(self._read_unless, trouble, *place) for place in unknown]
        wait(futures)
        for future in futures:
            future.result()
        given = {one: uid for one, place in places.items() if (uid := self._known.get(place)) is not None}
        return given | {one: "" for one, place in places.items() if given and place in self._gone}

    def series_of(self, uri: str, file: StoredFile) -> str:
        """The SeriesInstanceUID in the header of a file, "" where it has none or the server does not give it.

        Raises as `of`.
        """
        place = f"{uri}{file.folder}/{file.own}", file.size
        if place not in self._series:
            self._read(*place, series_uid_of, self._series)
        return self._series.get(place) or ""

    def forget(self, uri: str) -> None:
        """What was read of a session before is read again when it is wanted: this run may have replaced the files."""
        with self._lock:
            stale = [place for place in self._known if uri and place[0].startswith(f"{uri}/")]
            for place in stale:
                del self._known[place]
                self._gone.discard(place)
                self._replaced.add(place[0])
            for place in [place for place in self._series if uri and place[0].startswith(f"{uri}/")]:
                del self._series[place]

    def _read_unless(self, trouble: threading.Event, address: str, size: int) -> None:
        """The first trouble decides, so the other files need not be asked for."""
        if trouble.is_set():
            return
        try:
            self._read(address, size, sop_uid_of, self._known)
        except BaseException:
            trouble.set()
            raise

    def _read(self, address: str, size: int, uid_of: Callable[[Iterable[bytes]], str], known: _Known) -> None:
        self._check_stop()
        if self._refused:
            return
        found: list[str] = []
        is_empty = bool(size)

        def read(chunks: Iterator[bytes]) -> str:
            nonlocal is_empty
            begun = next(chunks, b"")
            is_empty = bool(size) and not begun
            found.append(uid_of(_beginning(chain([begun], chunks))))
            left = 2 * _SMALL if size <= _SMALL else 0  # whatever the listing says, an answer may go on without end
            for chunk in chunks if left else ():
                self._check_stop()
                left -= len(chunk)
                if left <= 0:
                    break
            if left <= 0:
                raise _EnoughError
            return ""

        try:
            self._rest.request("GET", address, read=read)
        except (_EnoughError, Unreadable):
            pass
        except ServerSaid as error:
            if error.status not in _NOT_GIVEN:
                raise
            self._refused |= error.status == 403
            self._remember(known, (address, size), None, is_gone=error.status in _GONE)
            return
        if is_empty:
            raise ServerSaid(f"GET {address}", 200, "an empty body")
        self._remember(known, (address, size), found[-1] if found else "")

    def _remember(self, known: _Known, place: tuple[str, int], uid: str | None, *, is_gone: bool = False) -> None:
        with self._lock:
            known[place] = uid
            if is_gone:
                self._gone.add(place)


def _beginning(chunks: Iterator[bytes]) -> Iterator[bytes]:
    left = _MOST
    for chunk in chunks:
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return
