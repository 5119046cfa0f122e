"""Sends instances by C-STORE to XNAT's DICOM receiver. A routing element is added to the data sets while sending."""

from __future__ import annotations

import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS, code_to_category

from xnat_ingest.core import IngestError, Instance, Receipt, Session, SourceChanged, Unreachable
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.dicom_dataset import NotWalkable, PeekableStream, contradiction, skip_meta
from xnat_ingest.inputs.outgoing import Outgoing, Rewrite
from xnat_ingest.inputs.rewritten_meanwhile import RewrittenMeanwhile
from xnat_ingest.transports.bodies import (
    ANOTHER_OBJECT,
    Part,
    beginning,
    change_since_scan,
    check_unmixed,
    checked,
    cut_in_order,
    cut_into_parts,
    is_another,
)
from xnat_ingest.transports.dicom_association import ECHO, MOST_CONTEXTS, Aborted, Association, Lost, tls_of
from xnat_ingest.transports.dicom_messages import Context
from xnat_ingest.transports.dicom_receiver import Receiver
from xnat_ingest.transports.stamping import Stamp, Stamping, stamp_of

# The UIDs that a message or a context can carry. The scan accepts more than the standard allows.
_UID = re.compile(r"[!-~]{1,64}")
_RESOURCE_LIMITATION = 0x0213


class CStore:
    """Sends each part over one association, or over several if its contexts need more. Parts are sent in parallel.

    The receiver does not name a prearchive session (names_session). So receipts have no uris, and instances lists what
    it accepted.
    """

    names_session = False

    def __init__(
        self,
        receiver: Receiver,
        source: Source,
        part_size: int,
        workers: int,
        counted: Callable[[int], None] = lambda _: None,
        *,
        rewrite: Rewrite | None = None,
    ) -> None:
        self._rewrite = rewrite
        self._receiver = receiver
        self._tls = tls_of(receiver)
        self._source = source
        self._part_size = part_size
        self._workers = workers
        self._counted = counted

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        """Parts as for archives, then split so that the contexts of each fit into one association."""
        in_order = any(self._source.in_order(i.path) for i in instances[:1])
        whole = (
            cut_in_order(instances, self._part_size)
            if in_order
            else cut_into_parts(instances, self._part_size, self._workers)
        )
        return [piece for part in whole for piece in _cut_by_contexts(part)]

    def send(self, session: Session, part: Part, sent: Callable[[int], None]) -> Receipt:
        """Sends one part. Raises Unreachable when the whole part should be sent again.

        That is safe: the receiver overwrites an instance that arrives twice.
        """
        stamp = stamp_of(self._receiver.route, session)

        def both(number: int) -> None:
            self._counted(number)
            sent(number)

        return _PartTransfer(self._source, self._open, stamp, part, both, self._rewrite).send()

    def _open(self, contexts: Sequence[Context]) -> Association:
        return Association(self._receiver, self._tls, contexts)


def echo(receiver: Receiver, tls: ssl.SSLContext | None) -> str:
    """A sentence on the receiver's answer to C-ECHO. Raises IngestError."""
    association = Association(receiver, tls, [ECHO])
    if ECHO in association.refused:
        association.release()
        raise IngestError(f"{receiver.title} accepts associations, but not C-ECHO")
    try:
        status = association.echo()
    except BaseException:
        association.abort()
        raise
    association.release()
    if status:
        raise IngestError(f"{receiver.title} answers C-ECHO with status 0x{status:04X}")
    over = "DICOM over TLS" if tls else "DICOM without TLS"
    return f"{receiver.title} answers C-ECHO from {receiver.calling} ({over})"


class _PartTransfer:
    """One part while it is sent.

    taken, refused: instances that the receiver accepted or did not.
    notes: what happened -> to how many of them.
    """

    def __init__(
        self,
        source: Source,
        open_association: Callable[[Sequence[Context]], Association],
        stamp: Stamp | None,
        part: Part,
        sent: Callable[[int], None],
        rewrite: Rewrite | None,
    ) -> None:
        self._rewrite = rewrite
        self.taken: dict[str, Instance] = {}
        self.refused: dict[str, str] = {}
        self.notes: Counter[str] = Counter()
        self.disturbed = False
        self._source = source
        self._open = open_association
        self._stamp = stamp
        self._part = part
        self._sent = sent
        self._aborted_at = ""  # the instance at which the receiver aborted an association
        self._refused_so = False  # an instance was given up because of aborts, and none was accepted since

    def send(self) -> Receipt:
        contexts = {i.sop_uid: context for i in self._part.instances if (context := self._context(i))}
        while left := [
            i for i in self._part.instances if i.sop_uid not in self.taken and i.sop_uid not in self.refused
        ]:
            batch = list(dict.fromkeys(contexts[i.sop_uid] for i in left))[:MOST_CONTEXTS]
            members = [(i, contexts[i.sop_uid]) for i in left if contexts[i.sop_uid] in batch]
            self._over_one_association(batch, members)
        taken = tuple(self.taken.values())
        size = sum(i.length for i in taken)
        return Receipt((), taken, size, self.refused, disturbed=self.disturbed, notes=self.notes)

    def _context(self, instance: Instance) -> Context | None:
        """(SOP class, transfer syntax); None when the instance is refused because of them."""
        syntax = instance.sent_syntax
        if not all(map(_UID.fullmatch, (instance.sop_class, instance.sop_uid, syntax))):
            self.refused[instance.sop_uid] = "has a UID that C-STORE cannot carry (64 characters at most)"
            return None
        return instance.sop_class, syntax

    def _over_one_association(self, batch: Sequence[Context], members: Sequence[tuple[Instance, Context]]) -> None:
        """Sends until everything is sent or the association is lost. The rest then needs another one."""
        association = self._open(batch)
        before = len(self.taken) + len(self.refused)
        try:
            for instance, context in members:
                if why := association.refused.get(context) or change_since_scan(self._source, instance):
                    self.refused[instance.sop_uid] = why
                    continue
                self._send_one(association, instance, context)
        except Lost as error:
            self.disturbed = True
            progress = len(self.taken) + len(self.refused) > before
            if error.timed_out or not (progress or self._blame(error, instance)):
                raise
        except NotWalkable as error:
            association.abort()
            self.disturbed = True
            self.refused[instance.sop_uid] = (
                f"the routing element cannot be added: its data set {error}; --route none sends it unchanged"
            )
        except BaseException:
            association.abort()
            raise
        else:
            association.release()

    def _blame(self, error: Lost, instance: Instance) -> bool:
        """Whether to go on after a lost association without progress.

        An instance at which the receiver aborts twice is given up, unless it also aborts at the next one.
        """
        if not isinstance(error, Aborted) or self._refused_so:
            return False
        if self._aborted_at == instance.sop_uid:
            self.refused[instance.sop_uid] = f"{error} each time it gets this instance"
            self._refused_so = True
        self._aborted_at = instance.sop_uid
        return True

    def _send_one(self, association: Association, instance: Instance, context: Context) -> None:
        stamping = Stamping(self._stamp, context[1]) if self._stamp else None
        with ExitStack() as opened:
            try:
                outgoing = Outgoing(self._source, instance, self._rewrite)
                watch = RewrittenMeanwhile(outgoing)
                blocks = opened.enter_context(outgoing.open())
            except OSError as error:
                self.refused[instance.sop_uid] = f"cannot be read: {error.strerror}"
                return
            try:
                first, blocks = beginning(blocks)
                if is_another(self._source, instance, first, self._rewrite):
                    self.refused[instance.sop_uid] = ANOTHER_OBJECT
                    return
            except OSError as error:
                self.refused[instance.sop_uid] = f"cannot be read: {error.strerror}"
                return
            start = PeekableStream(self._payload(blocks, instance, watch))
            skip_meta(start)
            if why := contradiction(start, context[1]):
                self.refused[instance.sop_uid] = f"its data set {why}: no receiver could read it"
                return
            status = association.store(context, instance.sop_uid, stamping.blocks(start) if stamping else start.rest())
        self._judge(instance, status)
        if instance.sop_uid in self.taken and stamping and stamping.replaced and self._stamp:
            self.notes[f"{self._stamp.keyword} replaced"] += 1

    def _payload(self, blocks: Iterator[bytes], instance: Instance, watch: RewrittenMeanwhile) -> Iterator[bytes]:
        """The bytes that are sent for an instance. Raises SourceChanged before the end when the file has changed."""
        for block in watch.over(checked(blocks, instance)):
            self._sent(len(block))
            yield block
        if why := change_since_scan(self._source, instance):
            raise SourceChanged(instance.path, why, dirty=True)
        check_unmixed(watch, instance)

    def _judge(self, instance: Instance, status: int) -> None:
        meaning = STORAGE_SERVICE_CLASS_STATUS.get(status, ("", ""))[1]
        said = f"status 0x{status:04X} ({meaning or 'not a standard one'})"
        category = code_to_category(status)
        if category in ("Success", "Warning"):
            self.taken[instance.sop_uid] = instance
            self._refused_so = False
            if category == "Warning":
                self.notes[f"accepted with {said}"] += 1
        elif status & 0xFF00 == 0xA700 or status == _RESOURCE_LIMITATION:
            raise Unreachable(f"the DICOM receiver answers with {said}", maybe_done=False)
        else:
            self.refused[instance.sop_uid] = f"the DICOM receiver answers with {said}; its log says why"


def _cut_by_contexts(part: Part) -> Iterator[Part]:
    piece: list[Instance] = []
    contexts: set[Context] = set()
    for instance in part.instances:
        context = (instance.sop_class, instance.sent_syntax)
        if len(contexts | {context}) > MOST_CONTEXTS:
            yield Part(tuple(piece))
            piece, contexts = [], set()
        piece.append(instance)
        contexts.add(context)
    if piece:
        yield Part(tuple(piece))
