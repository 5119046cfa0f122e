"""C-STORE to a receiver without an XNAT server to ask. What is stored is not checked (verdict `unverified`)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from xnat_ingest.core import IngestError, Problem, Session, Stopped, Verdict, VerdictWord, error_kind
from xnat_ingest.core.stop import RunControl
from xnat_ingest.delivery.sending import Sending
from xnat_ingest.transports import Transport

ACCEPTED = "accepted by the DICOM receiver; without a server (--server) it was not checked what was stored"
IGNORED = "the DICOM receiver accepted none of it"


def send_unverified(
    session: Session, transport: Transport, parts: ThreadPoolExecutor, control: RunControl
) -> tuple[Verdict, int]:
    """The verdict and the number of parts sent. Raises Stopped."""
    sending = Sending(session, transport, parts, control)
    notes: list[Problem] = []
    cause: IngestError | None = None
    try:
        sending.send(session.instances, lambda: True)
    except Stopped:
        raise
    except IngestError as error:
        cause = error
        notes.append(Problem(error_kind(error), f"{session.title}: {error}", (session.label,)))
    told = (f"{session.title}: {what}, {number} instances" for what, number in sending.notes.items())
    notes += [Problem("receiver-note", text, (session.label,)) for text in told]
    why = str(cause) if cause else IGNORED
    failed = {i.sop_uid: why for i in session.instances if cause or i.sop_uid in sending.ignored} | sending.failed
    unverified = {i.sop_uid: ACCEPTED for i in session.instances if i.sop_uid not in failed}
    word: VerdictWord = "failed" if failed else "unverified"
    return Verdict(word, failed=failed, unverified=unverified, problems=tuple(notes), cause=cause), sending.attempts
