"""One DICOM association: negotiated in pynetdicom's terms, its messages written straight to the socket.

pynetdicom's own requestor puts all fragments of an object into a queue before the first has left (so that it holds
every object in memory), and logs why a connection fails instead of telling. So its PDUs and status tables are used, and
the moving of bytes is done here, where a slow network slows the reading of the file.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NoReturn

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, build_context
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RP, A_RELEASE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    A_RELEASE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

from xnat_ingest.errors import IngestError, Refused, Unreachable, UsageError
from xnat_ingest.naming import printable
from xnat_ingest.transports.receiver import Receiver

VERIFICATION, IMPLICIT = "1.2.840.10008.1.1", "1.2.840.10008.1.2"
APPLICATION = "1.2.840.10008.3.1.1.1"
MOST_CONTEXTS = 128  # their ids are the odd numbers of one byte
# What is sent in one fragment when the receiver sets no limit, or a high one, and what is taken in one PDU.
LARGEST = 128 * 1024
_AC, _RJ, _DATA, _RELEASE, _RELEASED, _ABORT = 2, 3, 4, 5, 6, 7
_C_STORE, _C_ECHO = 0x0001, 0x0030
_WITH_DATA, _WITHOUT_DATA = 0x0001, 0x0101
_COMMAND, _LAST = 1, 2  # bits of a fragment's control header
_CALLING_UNKNOWN, _CALLED_UNKNOWN = (1, 3), (1, 7)
_NOT_TAKEN = {3: "this kind of object", 4: "this transfer syntax"}
Context = tuple[str, str]  # SOP class, transfer syntax


class Lost(Unreachable):
    """The association ended before its time."""


class Aborted(Lost):
    """The receiver ended it, and said so."""


def tls_of(receiver: Receiver) -> ssl.SSLContext | None:
    """What TLS needs, None without it. Raises UsageError for files that do not do."""
    if not receiver.has_tls:
        return None
    try:
        context = ssl.create_default_context(cafile=receiver.ca or None)
        if receiver.cert:
            # A key with a passphrase is an error: OpenSSL would ask for it on the terminal.
            context.load_cert_chain(receiver.cert, receiver.key or None, password=lambda: "")
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--dicom-tls-ca, -cert and -key must be PEM files without passphrase: {reason}") from error
    return context


class Association:
    """An association with contexts for some kinds of objects. Making one opens it; raises IngestError.

    refused: the contexts that the receiver does not accept, and why.
    """

    def __init__(self, receiver: Receiver, tls: ssl.SSLContext | None, contexts: Sequence[Context]) -> None:
        self.refused: dict[Context, str] = {}
        self._receiver = receiver
        self._ids: dict[Context, int] = {}
        self._message = 0
        self._room = LARGEST
        self._socket = self._connect(tls)
        try:
            self._negotiate(contexts)
        except BaseException:
            self._socket.close()
            raise

    def store(self, context: Context, sop_uid: str, blocks: Iterable[bytes]) -> tuple[int, str]:
        """Sends one object; (status, the receiver's comment). What blocks raises leaves the message unfinished: the
        association can only be aborted then."""
        context_id = self._ids[context]
        fields = {0x0002: _uid(context[0]), 0x0700: _short(0), 0x0800: _short(_WITH_DATA), 0x1000: _uid(sop_uid)}
        command = self._command(context_id, _C_STORE, fields)
        held = bytearray()
        for block in blocks:
            held += block
            if len(held) > self._room:  # one byte at least is kept, for the fragment that says that it is the last
                whole = (len(held) - 1) // self._room * self._room
                ready = bytes(held[:whole])
                self._write(command + b"".join(_fragments(context_id, 0, ready, self._room)))
                command = b""
                del held[:whole]
        self._write(command + _pdv(context_id, _LAST, bytes(held)))
        return self._answer()

    def echo(self) -> int:
        """The status of a C-ECHO."""
        fields = {0x0002: _uid(VERIFICATION), 0x0800: _short(_WITHOUT_DATA)}
        self._write(self._command(self._ids[VERIFICATION, IMPLICIT], _C_ECHO, fields))
        return self._answer()[0]

    def release(self) -> None:
        """Ends the association; all is answered by now, so that nothing is lost if this fails."""
        with suppress(Lost):
            self._write(A_RELEASE_RQ(A_RELEASE()).encode())
            while self._read()[0] != _RELEASED:
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
            raise IngestError(f"the certificate of {to.title} does not verify ({said}); see --dicom-tls-ca") from error
        except OSError as error:
            plain.close()
            raise self._no_tls(error) from error

    def _no_tls(self, error: OSError) -> IngestError:
        text = f"{self._receiver.title} does not begin TLS ({getattr(error, 'reason', None) or error})"
        if isinstance(error, ssl.SSLError):
            return IngestError(f"{text}; it may speak plain DICOM, or want --dicom-tls-cert")
        return Unreachable(text, maybe_done=False)

    def _negotiate(self, contexts: Sequence[Context]) -> None:
        try:
            self._write(_request(self._receiver, contexts))
            kind, body = self._read()
        except Lost as error:
            if isinstance(error.__cause__, ssl.SSLError):  # with TLS 1.3 a client's certificate is judged this late
                raise self._no_tls(error.__cause__) from error
            raise Unreachable(f"{error} instead of accepting an association", maybe_done=False) from error
        if kind == _RJ:
            raise self._rejected(body)
        if kind != _AC:
            raise IngestError(f"{self._receiver.title} answers with something else than an association")
        reply = A_ASSOCIATE_AC()
        try:
            reply.decode(body)
            accepted = reply.to_primitive()
        except (ValueError, TypeError, LookupError, AssertionError, struct.error) as error:
            raise IngestError(f"{self._receiver.title} accepts an association in a way that cannot be read") from error
        limit = accepted.maximum_length_received or LARGEST
        self._room = max(min(limit, LARGEST) - 6, 2) & ~1  # fragments have even lengths (PS3.8, annex E)
        results = {c.context_id: c for c in accepted.presentation_context_definition_results_list}
        for number, context in enumerate(contexts):
            result = results.get(2 * number + 1)
            if result is not None and result.result == 0 and context[1] in result.transfer_syntax:
                self._ids[context] = 2 * number + 1
            else:
                reason = result.result if result is not None and result.result is not None else 0
                self.refused[context] = _refusal(context, reason)

    def _rejected(self, body: bytes) -> IngestError:
        reply = A_ASSOCIATE_RJ()
        reply.decode(body)
        to = self._receiver
        try:
            why = reply.reason_str
        except ValueError:
            why = f"source {reply.source}, reason {reply.reason_diagnostic}"
        text = f"{to.title} rejects the association ({why})"
        cause = (reply.source, reply.reason_diagnostic)
        if cause == _CALLED_UNKNOWN:
            return Refused(f"{text}; give the receiver's own AE title with -aec (XNAT's administrators see it)")
        if cause == _CALLING_UNKNOWN:
            return Refused(f"{text}; it knows no sender {to.calling}: have it allowed there, or give another with -aet")
        if reply.result == 2 or reply.source == 3:
            return Unreachable(text, maybe_done=False)
        return Refused(f"{text}; its administrators can tell whom it accepts")

    def _command(self, context_id: int, kind: int, fields: dict[int, bytes]) -> bytes:
        """A command's fragment. Commands are in implicit VR little endian, whatever the context (PS3.7, 6.3.1)."""
        self._message = self._message % 0xFFFF + 1
        fields = {**fields, 0x0100: _short(kind), 0x0110: _short(self._message)}
        body = b"".join(struct.pack("<HHL", 0, tag, len(fields[tag])) + fields[tag] for tag in sorted(fields))
        body = struct.pack("<HHLL", 0, 0, 4, len(body)) + body
        pieces = list(_fragments(context_id, _COMMAND, body, self._room))
        last = body[(len(pieces) - 1) * self._room :]
        return b"".join(pieces[:-1]) + _pdv(context_id, _COMMAND | _LAST, last)

    def _answer(self) -> tuple[int, str]:
        body = bytearray()
        while True:
            kind, pdu = self._read()
            if kind != _DATA:
                self._lose("answers out of turn")
            for control, value in _values(pdu):
                if control & _COMMAND:
                    body += value
                if control & _COMMAND and control & _LAST:
                    fields = _fields(bytes(body))
                    if len(fields.get(0x0900, b"")) != 2 or fields.get(0x0120) != _short(self._message):
                        self._lose("answers another message than was sent")
                    comment = fields.get(0x0902, b"").decode("latin-1").strip(" \0")
                    return struct.unpack("<H", fields[0x0900])[0], printable(comment)

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            if not isinstance(error, TimeoutError):
                self._read_last_words()
            self._lose(error)

    def _read_last_words(self) -> None:
        """A receiver that aborts does not read on: its abort can still be there, where only answers are expected."""
        self._socket.settimeout(0.2)
        with suppress(OSError):
            if self._socket.recv(1) == bytes([_ABORT]):
                self._socket.close()
                raise Aborted(f"{self._receiver.title} aborts the association")

    def _read(self) -> tuple[int, bytes]:
        """The next PDU: its type, its bytes."""
        header = self._receive(6)
        kind, _, length = struct.unpack(">BBL", header)
        if kind not in range(1, 8) or length > 4 * LARGEST:
            self._lose("does not speak DICOM, or speaks it over TLS (--dicom-tls-ca)")
        body = header + self._receive(length)
        if kind == _ABORT:
            self._socket.close()
            raise Aborted(f"{self._receiver.title} aborts the association")
        if kind == _RELEASE:
            with suppress(OSError):
                self._socket.sendall(A_RELEASE_RP(A_RELEASE()).encode())
            self._lose("releases the association")
        return kind, body

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                more = self._socket.recv(size - len(data))
            except OSError as error:
                self._lose(error)
            if not more:
                self._lose("closes the connection")
            data += more
        return data

    def _lose(self, why: OSError | str) -> NoReturn:
        self._socket.close()
        if isinstance(why, str):
            raise Lost(f"{self._receiver.title} {why}")
        if isinstance(why, TimeoutError):
            text = f"{self._receiver.title} makes no progress for {self._receiver.timeout:g} s"
            raise Lost(text, timed_out=True) from why
        raise Lost(f"{self._receiver.title} breaks the connection ({why.strerror or why})") from why


def _request(receiver: Receiver, contexts: Sequence[Context]) -> bytes:
    proposed = [build_context(sop_class, [syntax]) for sop_class, syntax in contexts]
    for number, context in enumerate(proposed):
        context.context_id = 2 * number + 1
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = LARGEST
    implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    request = A_ASSOCIATE()
    request.application_context_name = APPLICATION
    request.calling_ae_title = receiver.calling
    request.called_ae_title = receiver.called
    request.presentation_context_definition_list = proposed
    request.user_information = [length, implementation]
    return A_ASSOCIATE_RQ(request).encode()


def _refusal(context: Context, reason: int) -> str:
    named = build_context(context[0], [context[1]])
    what = _NOT_TAKEN.get(reason, "this combination")
    kind = getattr(named.abstract_syntax, "name", context[0])
    return f"the receiver does not take {what}: {kind} in {named.transfer_syntax[0].name} ({context[0]}, {context[1]})"


def _fragments(context_id: int, control: int, data: bytes, room: int) -> Iterator[bytes]:
    return (_pdv(context_id, control, data[at : at + room]) for at in range(0, len(data), room))


def _pdv(context_id: int, control: int, value: bytes) -> bytes:
    """A P-DATA-TF PDU with one value (PS3.8, 9.3.5)."""
    return struct.pack(">BBLLBB", _DATA, 0, len(value) + 6, len(value) + 2, context_id, control) + value


def _values(pdu: bytes) -> Iterator[tuple[int, bytes]]:
    at = 6
    while at + 6 <= len(pdu):
        length = struct.unpack_from(">L", pdu, at)[0]
        yield pdu[at + 5], pdu[at + 6 : at + 4 + length]
        at += 4 + max(length, 2)


def _fields(command: bytes) -> dict[int, bytes]:
    fields, at = {}, 0
    while at + 8 <= len(command):
        _, tag, length = struct.unpack_from("<HHL", command, at)
        fields[tag] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return fields


def _uid(text: str) -> bytes:
    return text.encode("ascii") + b"\0" * (len(text) % 2)


def _short(number: int) -> bytes:
    return struct.pack("<H", number)
