"""Reads stored copies whose length tells nothing, and sees whether they are whole.

The server changes whole files alike. So a length is judged by those of others, and where there are too few of them,
only a look into the file tells. Without it, a copy would be sent again by each run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import wait

from xnat_ingest.core import Event, Instance, ServerSaid, Session, Unreachable
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.inputs.compare_dicom import NotComparable, unchanged
from xnat_ingest.inputs.dicom_elements import Unreadable
from xnat_ingest.inputs.outgoing import Outgoing
from xnat_ingest.inputs.whole_copy import Extent, extent_of
from xnat_ingest.transports.bodies import change_since_scan
from xnat_ingest.xnat.archive import StoredPlace

# What is read of one session in a run at most. The rest is sent again.
MOST_FILES = 500
MOST_BYTES = 1 << 30
# An answer may be longer than its listing says: other numbers or names take more bytes. Not by more than this.
_BEYOND = 1 << 20

Copy = tuple[Instance, StoredPlace]


class WholeCopies:
    """What was read of one session is remembered for the run, by address and size."""

    def __init__(self, context: RunContext, session: Session) -> None:
        self._context = context
        self._session = session
        self._known: dict[tuple[str, int], bool] = {}
        self._files = 0
        self._bytes = 0
        self._is_over = False  # the server gives no files

    def among(self, copies: Sequence[Copy]) -> frozenset[str]:
        """SOPInstanceUIDs of the copies that are whole, as far as the server gives them. Raises Stopped, Refused."""
        unknown = [one for one in copies if _key(one) not in self._known]
        self._read(self._affordable(unknown))
        return frozenset(one[0].sop_uid for one in copies if self._known.get(_key(one)))

    def _affordable(self, copies: Sequence[Copy]) -> list[Copy]:
        """As many as may still be read, the smallest first."""
        chosen = list[Copy]()
        for one in sorted(copies, key=lambda one: one[1].size):
            size = max(one[0].length, one[1].size)
            if self._is_over or self._files >= MOST_FILES or self._bytes + size > MOST_BYTES:
                break
            self._files += 1
            self._bytes += size
            chosen.append(one)
        return chosen

    def _read(self, copies: Sequence[Copy]) -> None:
        if not copies:
            return
        fields = {
            "session": self._session.title,
            "instances": len(copies),
            "bytes": sum(place.size for _, place in copies),
        }
        self._context.control.emit(Event("reading_back", fields))
        if self._context.in_order(copies[0][0].path):
            order = {i.sop_uid: number for number, i in enumerate(self._session.instances)}
            for one in sorted(copies, key=lambda one: order[one[0].sop_uid]):
                self._look(one)
            return
        futures = [self._context.parts.submit(self._look, one) for one in copies]
        wait(futures)
        for future in futures:
            future.result()

    def _look(self, copy: Copy) -> None:
        """Notes whether it is whole; nothing where the server does not give it, or its file has changed."""
        self._context.control.check()
        if self._is_over or change_since_scan(self._context.source, copy[0]):
            return
        try:
            self._known[_key(copy)] = self._is_whole(*copy)
        except (NotComparable, Unreadable, OSError):
            return
        except (ServerSaid, Unreachable) as error:
            self._is_over |= not isinstance(error, ServerSaid) or error.status not in (404, 410)

    def _is_whole(self, instance: Instance, place: StoredPlace) -> bool:
        found: list[Extent] = []

        def read(chunks: Iterator[bytes]) -> str:
            found[:] = [extent_of(self._heard(chunks), max(instance.length, place.size) + _BEYOND)]
            return ""

        try:
            self._context.rest.request("GET", place.address, read=read)
        except Unreadable:
            return False
        if not found:  # the answer was a page
            return False
        with Outgoing(self._context.source, instance, self._context.rewrite).open() as sent:
            return found[0].reaches(extent_of(unchanged(sent)))

    def _heard(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._context.control.check()
            yield chunk


def _key(copy: Copy) -> tuple[str, int]:
    return copy[1].address, copy[1].size
