"""Sends the parts of one session: which goes first, what a reply means, which files are left out."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

from xnat_ingest.core import Event, Instance, Session, SessionTrouble, SourceChanged, printable
from xnat_ingest.core.stop import RunControl
from xnat_ingest.delivery.commit import ConcurrentUpload
from xnat_ingest.delivery.session_type import type_of
from xnat_ingest.transports import Transport
from xnat_ingest.transports.bodies import Part
from xnat_ingest.xnat.prearchive import GONE, command_for
from xnat_ingest.xnat.scan_ids import moved_by_build


class Sending:
    """Sends instances of one session into one prearchive session.

    uri: the prearchive session, "" while no reply has named it
    taken: SOPInstanceUIDs that the server seems to have taken
    intact: those of them whose last transfer was not disturbed
    ignored: those for which it reported success, but stored nothing
    failed: SOPInstanceUID -> why it cannot be sent
    disturbed: what is stored must be compared with what was sent before the commit
    used_direct_archive: whether anything went past the prearchive
    notes: what receipts say happened to instances -> how many

    direct: the address that the server returns when files went past the prearchive
    in_order: parts travel one after the other, since their files lie in a stream
    is_gone: whether none of the session's files can be seen any more
    """

    def __init__(
        self,
        session: Session,
        transport: Transport,
        pool: ThreadPoolExecutor,
        control: RunControl,
        *,
        direct: str = "",
        in_order: bool = False,
        is_gone: Callable[[Session], bool] = lambda _: False,
    ) -> None:
        self.session = session
        self.uri = ""
        self.failed: dict[str, str] = {}
        self.ignored: set[str] = set()
        self.taken: set[str] = set()
        self.intact: set[str] = set()
        self.attempts = 0
        self.disturbed = False
        self.used_direct_archive = False
        self.notes: Counter[str] = Counter()
        self._direct = direct
        self._in_order = in_order
        self._is_gone = is_gone
        self._transport = transport
        self._pool = pool
        self._control = control
        self._lock = threading.Lock()

    def send(self, instances: Sequence[Instance], check: Callable[[], bool]) -> None:
        """Sends all of them. Raises IngestError.

        check: is called when the first reply has named a new prearchive session, or when a receiver that names none
            has taken something. It returns whether the rest may follow at once, and raises when nothing may.

        Instances that XNAT will most likely refuse go last, one by one. After one was refused, no more are tried.
        """
        self._send([i for i in instances if i.flaw != "study-date"], check)
        refused = ""
        for instance in (i for i in instances if i.flaw == "study-date"):
            if refused:
                self.failed[instance.sop_uid] = refused
                continue
            self._send([instance], check)
            refused = self.failed.get(instance.sop_uid, "")

    def _send(self, instances: Sequence[Instance], check: Callable[[], bool]) -> None:
        opener = None if self.uri else _opener(instances, in_order=self._in_order)
        begin, rest = [i for i in instances if i is opener], [i for i in instances if i is not opener]
        queue = [part for some in (begin, rest) if some for part in self._transport.parts(some)]
        checked = bool(self.uri)
        # One part alone until a reply names the prearchive session: it may turn out not to be ours.
        while queue and not checked:
            self._part(queue.pop(0))
            # A DICOM receiver names no prearchive session. `check` looks for it.
            if self.uri or (not self._transport.names_session and self.taken):
                checked = check()
            checked |= self.used_direct_archive
        if self._in_order:
            for part in queue:
                self._part(part)
        else:
            self._join([self._pool.submit(self._part, part) for part in queue])

    def _join(self, futures: list[Future[None]]) -> None:
        """Waits for all parts. The first error stops those that have not begun. It is raised when none is under way."""
        wait(futures, return_when="FIRST_EXCEPTION")
        for future in futures:
            future.cancel()
        wait(futures)
        for future in futures:
            if not future.cancelled() and (error := future.exception()):
                raise error

    def _part(self, part: Part) -> None:
        """Sends a part. Files that turn out to have changed are left out."""
        cut = False
        while part.instances:
            self._control.check()
            try:
                receipt = self._transport.send(self.session, part, self._sent)
            except SourceChanged as error:
                part, cut = self._without(part, error), True
                continue
            self._judge(receipt.uris)
            with self._lock:
                self.attempts += receipt.attempts
                self.disturbed |= receipt.disturbed
                self.failed |= receipt.refused
                self.notes.update(receipt.notes)
                taken = {i.sop_uid for i in receipt.instances}
                self.taken |= taken
                self.intact = self.intact - taken if receipt.disturbed or cut else self.intact | taken
                self.ignored |= {i.sop_uid for i in part.instances}
                self.ignored -= taken | receipt.refused.keys()
            self.tell(receipt.instances, with_bytes=False)
            return

    def _without(self, part: Part, error: SourceChanged) -> Part:
        if self._is_gone(self.session):
            raise SessionTrouble(
                "source-changed",
                f"{printable(error.path)}: {error.why}, and no other file of the session can be read either: was the "
                "folder unmounted or moved? Nothing was archived. Run again when it is back",
            )
        if error.dirty and self._direct:
            raise SessionTrouble(
                "source-changed",
                f"{printable(error.path)}: {error.why}; the server may hold a broken copy of it, which it archives by "
                "itself: run again with --existing overwrite",
            )
        if error.dirty:
            way = command_for(self.uri, "delete") if self.uri else "xnat-ingest prearchive list shows it"
            raise SessionTrouble(
                "source-changed",
                f"{printable(error.path)}: {error.why}; the server may hold a broken copy of it, so prearchive "
                f"session {self.uri or 'of this session'} was not archived. Delete it ({way}), then run again. {GONE}",
            )
        gone = {error.path, *error.others}
        with self._lock:
            self.attempts += 1
            self.disturbed = True  # the body was cut between two members
            self.failed |= {i.sop_uid: error.why for i in part.instances if i.path in gone}
        return replace(part, instances=tuple(i for i in part.instances if i.path not in gone))

    def _judge(self, uris: tuple[str, ...]) -> None:
        """The prearchive session that the reply names. The server names none if it filtered all, or read nothing."""
        if self._direct in uris:
            self.used_direct_archive = True
            uris = tuple(uri for uri in uris if uri != self._direct)
        if not uris:
            return
        ours = re.compile(
            rf"/data/prearchive/projects/{re.escape(self.session.project)}/\d{{8}}_\d{{6,9}}/[\w-]+", re.ASCII
        )
        strange = [uri for uri in uris if not ours.fullmatch(uri)]
        with self._lock:
            self.uri = self.uri or ("" if strange else uris[0])
            if not strange and set(uris) == {self.uri}:
                return
        others = [uri for uri in uris if uri != self.uri and uri.rpartition("/")[2] == self.session.label]
        if not strange and others:  # another run has archived its prearchive session while this part was under way
            raise ConcurrentUpload(others[0])
        expected = self.uri or f"project {self.session.project}"
        found = ", ".join((strange or uris)[:3])[:300]
        raise SessionTrouble(
            "rerouted",
            f"the server put files into {found} instead of {expected}; nothing was archived. Check the project and "
            "your right on it, and move or delete that prearchive session in XNAT",
        )

    def _sent(self, number: int) -> None:
        self._control.check()
        self._control.emit(Event("progress", {"session": self.session.title, "bytes": number, "instances": 0}))

    def tell(self, instances: Iterable[Instance], *, with_bytes: bool = True) -> None:
        """Reports progress: these instances are done. with_bytes: they did not travel just now."""
        members = list(instances)
        size = sum(i.length for i in members) if with_bytes else 0
        self._control.emit(Event("progress", {"session": self.session.title, "bytes": size, "instances": len(members)}))


def _opener(instances: Sequence[Instance], *, in_order: bool) -> Instance | None:
    """The instance that is sent first, alone, where it matters which one that is.

    It gives the session its type: a server may archive by itself what a run that was killed has left, and keeps the
    type of that. And no build moves it: until its reply tells whose the prearchive session is, another run may have
    XNAT build it, and would then have a second copy of what is under way.
    """
    moving, whole = moved_by_build(instances), type_of(instances)
    ranked = [(type_of([i]) != whole, i.sop_uid in moving, 0 if in_order else i.length, i) for i in instances]
    if not any(other_type or moves for other_type, moves, *_ in ranked):
        return None
    return min(ranked, key=lambda one: one[:3])[3]
