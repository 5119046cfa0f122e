"""One DICOM association: it uses pynetdicom's PDUs, but writes messages straight to the socket.

pynetdicom's own association never ends when a receiver stops reading (tests/contract/test_cstore_library.py). It also
logs why a connection fails instead of raising an error. So only its PDUs and status tables are used here. The bytes are
moved by this module, where a slow network slows down the reading of the file.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NoReturn

from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_RELEASE_RP, A_RELEASE_RQ
from pynetdicom.pdu_primitives import A_RELEASE

from xnat_ingest.core import IngestError, Refused, Unreachable, UsageError
from xnat_ingest.core.regular_file import open_regular
from xnat_ingest.inputs.dicom_dataset import IMPLICIT
from xnat_ingest.transports.dicom_messages import (
    ANSWERED,
    COMMAND,
    DATA_PDU,
    LAST,
    LEAST_PDU,
    MAX_PDU,
    STATUS,
    VERIFICATION,
    Context,
    association_request,
    echo_command,
    fields_of,
    fragments,
    refusal,
    short,
    store_command,
    values_of,
)
from xnat_ingest.transports.dicom_receiver import Receiver

MOST_CONTEXTS = 128  # their ids are the odd numbers of one byte
# Bytes until an answer is whole: a dozen short elements. What else the receiver sends meanwhile counts, too.
MOST_ANSWER = 64 * 1024
# Bytes of what accepts an association. The library takes time with the square of them, and 128 contexts take 20 kB.
MOST_ACCEPTING = 64 * 1024
# Seconds until a release must be answered. By then everything is stored.
RELEASE_LIMIT = 5.0
ECHO: Context = (VERIFICATION, IMPLICIT)
_AC, _RJ, _RELEASE, _RELEASED, _ABORT = 2, 3, 5, 6, 7
_PENDING = (0xFF00, 0xFF01)
_CALLING_UNKNOWN, _CALLED_UNKNOWN = (1, 3), (1, 7)


class Lost(Unreachable):
    """The association ended too early."""


class Aborted(Lost):
    """The receiver aborted it."""


def tls_of(receiver: Receiver) -> ssl.SSLContext | None:
    """The TLS context, None without TLS. Raises UsageError for unusable files."""
    if not receiver.has_tls:
        return None
    try:
        for path in filter(None, (receiver.ca, receiver.cert, receiver.key)):
            open_regular(path).close()  # a pipe without a writer would be waited for
        context = ssl.create_default_context(cafile=receiver.ca or None)
        if receiver.cert:
            # A key with a passphrase is refused: OpenSSL would ask for it on the terminal.
            context.load_cert_chain(receiver.cert, receiver.key or None, password=lambda: "")
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--dicom-tls-ca, -cert and -key must be PEM files without passphrase: {reason}") from error
    return context


# The errors of pynetdicom's decoders for bytes that are not a valid PDU.
_UNDECODABLE = (ValueError, TypeError, LookupError, AssertionError, AttributeError, struct.error)


class Association:
    """An association with contexts for some kinds of objects. The constructor opens it; raises IngestError.

    refused: the contexts that the receiver does not accept -> why.
    """

    def __init__(self, receiver: Receiver, tls: ssl.SSLContext | None, contexts: Sequence[Context]) -> None:
        self.refused: dict[Context, str] = {}
        self._receiver = receiver
        self._ids: dict[Context, int] = {}
        self._message = 0
        self._max_fragment = MAX_PDU
        self._socket = self._connect(tls)
        try:
            self._negotiate(contexts)
        except BaseException:
            self._socket.close()
            raise

    def store(self, context: Context, sop_uid: str, blocks: Iterable[bytes]) -> int:
        """Sends one object. Returns the status.

        The receiver's comment is not read: it may quote the patient's name.

        If blocks raises, the message is unfinished, and the association can only be aborted.
        """
        context_id, room = self._ids[context], self._max_fragment
        self._message = self._message % 0xFFFF + 1
        command = store_command(self._message, context[0], sop_uid)
        ready = fragments(context_id, COMMAND | LAST, command, room)
        held = bytearray()
        for block in blocks:
            held += block
            if len(held) > room:  # at least one byte is kept, for the fragment that is marked as the last
                whole = (len(held) - 1) // room * room
                self._write(ready + fragments(context_id, 0, bytes(held[:whole]), room))
                ready = b""
                del held[:whole]
        self._write(ready + fragments(context_id, LAST, bytes(held), room))
        return self._answer()

    def echo(self) -> int:
        """The status of a C-ECHO."""
        self._message += 1
        self._write(fragments(self._ids[ECHO], COMMAND | LAST, echo_command(self._message), self._max_fragment))
        return self._answer()

    def release(self) -> None:
        """Releases the association. Everything is answered by now, so nothing is lost if this fails."""
        with suppress(Lost):
            self._write(A_RELEASE_RQ(A_RELEASE()).encode())
            until = min(self._deadline(), time.monotonic() + RELEASE_LIMIT)
            while self._read(until)[0] != _RELEASED:
                pass
        self._socket.close()

    def abort(self) -> None:
        pdu = A_ABORT_RQ()
        pdu.source, pdu.reason_diagnostic = 0, 0
        with suppress(OSError):
            self._socket.settimeout(1.0)
            self._socket.sendall(pdu.encode())
        self._socket.close()

    def _connect(self, tls: ssl.SSLContext | None) -> socket.socket:
        to = self._receiver
        try:
            plain = socket.create_connection((to.host, to.port), to.timeout)
        except (OSError, UnicodeError) as error:
            raise Unreachable(
                f"no DICOM receiver at {to.title} ({getattr(error, 'strerror', None) or error}); check --dicom-host "
                "and --dicom-port, and that XNAT's receiver is enabled",
                maybe_done=False,
            ) from error
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is None:
            return plain
        try:
            return tls.wrap_socket(plain, server_hostname=to.host)
        except ssl.SSLCertVerificationError as error:
            plain.close()
            said = error.verify_message
            raise IngestError(
                f"the certificate of {to.title} cannot be verified ({said}); see --dicom-tls-ca"
            ) from error
        except OSError as error:
            plain.close()
            raise self._no_tls(error) from error

    def _no_tls(self, error: OSError) -> IngestError:
        text = f"{self._receiver.title} does not start TLS ({getattr(error, 'reason', None) or error})"
        if isinstance(error, ssl.SSLError):
            return IngestError(f"{text}; it may expect DICOM without TLS, or a certificate (--dicom-tls-cert)")
        return Unreachable(text, maybe_done=False)

    def _negotiate(self, contexts: Sequence[Context]) -> None:
        try:
            self._write(association_request(self._receiver, contexts))
            kind, body = self._read(self._deadline())
        except Lost as error:
            if isinstance(error.__cause__, ssl.SSLError):  # with TLS 1.3 a client's certificate is checked this late
                raise self._no_tls(error.__cause__) from error
            raise Unreachable(f"{error} instead of accepting an association", maybe_done=False) from error
        if kind == _RJ:
            raise self._rejected(body)
        if kind != _AC:
            raise IngestError(f"{self._receiver.title} answers with something other than an association")
        if len(body) > MOST_ACCEPTING:
            raise IngestError(f"{self._receiver.title} accepts the association with an endless answer")
        reply = A_ASSOCIATE_AC()
        try:
            reply.decode(body)
            accepted = reply.to_primitive()
        except _UNDECODABLE as error:
            raise IngestError(f"{self._receiver.title} accepts the association with an invalid answer") from error
        limit = accepted.maximum_length_received or MAX_PDU
        if limit < LEAST_PDU:
            raise IngestError(
                f"{self._receiver.title} takes {limit} bytes at a time, and an image would take for ever; have its "
                f"maximum PDU length set to {LEAST_PDU} at least (16384 is usual)"
            )
        self._max_fragment = (min(limit, MAX_PDU) - 6) & ~1  # fragments have even lengths (PS3.8, annex E)
        results = {c.context_id: c for c in accepted.presentation_context_definition_results_list}
        for number, context in enumerate(contexts):
            result = results.get(2 * number + 1)
            if result is not None and result.result == 0 and context[1] in result.transfer_syntax:
                self._ids[context] = 2 * number + 1
            else:
                reason = result.result if result is not None and result.result is not None else 0
                self.refused[context] = refusal(context, reason)

    def _rejected(self, body: bytes) -> IngestError:
        reply = A_ASSOCIATE_RJ()
        to = self._receiver
        try:
            reply.decode(body)
        except _UNDECODABLE as error:
            raise IngestError(f"{to.title} rejects the association with an invalid answer") from error
        try:
            why = reply.reason_str
        except ValueError:
            why = f"source {reply.source}, reason {reply.reason_diagnostic}"
        text = f"{to.title} rejects the association ({why})"
        cause = (reply.source, reply.reason_diagnostic)
        if cause == _CALLED_UNKNOWN:
            return Refused(f"{text}; give the receiver's own AE title with -aec (XNAT's administrators know it)")
        if cause == _CALLING_UNKNOWN:
            return Refused(
                f"{text}; it does not know {to.calling}: have this AE title allowed there, or change it (-aet)"
            )
        if reply.result == 2 or reply.source == 3:
            return Unreachable(text, maybe_done=False)
        return Refused(f"{text}; ask its administrators whom it accepts")

    def _answer(self) -> int:
        body, come = bytearray(), 0
        until = self._deadline()
        self._acknowledge_at_once()
        while True:
            kind, pdu = self._read(until)
            if kind != DATA_PDU:
                self._abandon("answers out of turn")
            for control, value in values_of(pdu):
                body += value if control & COMMAND else b""
                if control & COMMAND and control & LAST:
                    return self._status(fields_of(bytes(body)))
            come += len(pdu)
            if come > MOST_ANSWER:
                self._abandon("answers without end")

    def _status(self, fields: dict[int, bytes]) -> int:
        if len(fields.get(STATUS, b"")) != 2 or fields.get(ANSWERED) != short(self._message):
            self._abandon("answers a message that was not sent")
        status = int.from_bytes(fields[STATUS], "little")
        if status in _PENDING:  # another answer to this message may follow, and would be taken for that to the next one
            self._abandon(f"answers with status 0x{status:04X} (pending), which no object may get")
        return status

    def _acknowledge_at_once(self) -> None:
        """Acknowledges packets at once. DCMTK sends an answer in two packets, and the second only after the first was
        acknowledged. The kernel delays that by 40 ms per object."""
        if hasattr(socket, "TCP_QUICKACK"):  # Linux; valid for the next packets only
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _deadline(self) -> float:
        """Until when an answer must be whole, by time.monotonic(): one that comes drop by drop is none."""
        return time.monotonic() + self._receiver.timeout

    def _write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._receiver.timeout)
            self._socket.sendall(data)
        except OSError as error:
            if not isinstance(error, TimeoutError):
                self._read_last_words()
            self._abandon(error)

    def _read_last_words(self) -> None:
        """Looks for an abort: a receiver that aborts stops reading, but its abort may have arrived already."""
        self._socket.settimeout(0.2)
        with suppress(OSError):
            if self._socket.recv(1) == bytes([_ABORT]):
                self._socket.close()
                raise Aborted(f"{self._receiver.title} aborts the association")

    def _read(self, until: float) -> tuple[int, bytes]:
        """The next PDU: (type, bytes)."""
        header = self._receive(6, until)
        kind, _, length = struct.unpack(">BBL", header)
        if kind not in range(1, 8) or length > 4 * MAX_PDU:
            self._abandon("does not speak DICOM, or expects TLS (--dicom-tls-ca)")
        body = header + self._receive(length, until)
        if kind == _ABORT:
            self._socket.close()
            raise Aborted(f"{self._receiver.title} aborts the association")
        if kind == _RELEASE:
            with suppress(OSError):
                self._socket.sendall(A_RELEASE_RP(A_RELEASE()).encode())
            self._abandon("releases the association")
        return kind, body

    def _receive(self, size: int, until: float) -> bytes:
        data = b""
        while len(data) < size:
            left = until - time.monotonic()
            if left <= 0:  # a wait ends by itself, but there is none where there is always something to read
                self._abandon_late()
            try:
                self._socket.settimeout(left)
                more = self._socket.recv(size - len(data))
            except TimeoutError as error:
                self._abandon_late(error)
            except OSError as error:
                self._abandon(error)
            if not more:
                self._abandon("closes the connection")
            data += more
        return data

    def _abandon_late(self, error: TimeoutError | None = None) -> NoReturn:
        self._socket.close()
        text = f"{self._receiver.title} gives no whole answer within {self._receiver.timeout:g} s"
        raise Lost(text, timed_out=True) from error

    def _abandon(self, why: OSError | str) -> NoReturn:
        self._socket.close()
        if isinstance(why, str):
            raise Lost(f"{self._receiver.title} {why}")
        if isinstance(why, TimeoutError):
            text = f"{self._receiver.title} takes no more data for {self._receiver.timeout:g} s"
            raise Lost(text, timed_out=True) from why
        raise Lost(f"{self._receiver.title} breaks the connection ({why.strerror or why})") from why
