"""What a DICOM receiver says: it accepts or rejects an association, and answers objects."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification

from tests.fuzz.target import Target
from xnat_ingest.core.errors import IngestError
from xnat_ingest.inputs.dicom_dataset import EXPLICIT
from xnat_ingest.transports.dicom_association import ECHO, Association
from xnat_ingest.transports.dicom_messages import COMMAND, LAST, Context, fields_of, fragments, short, values_of
from xnat_ingest.transports.dicom_receiver import Receiver

_MR = "1.2.840.10008.5.1.4.1.1.4"
_CONTEXTS: tuple[Context, ...] = ((_MR, EXPLICIT), ECHO)


class _Said(Association):
    """An association over a connection that is there. The receiver has said all of it before it is asked."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        super().__init__(Receiver("h", 1), None, _CONTEXTS)

    def _connect(self, tls: ssl.SSLContext | None) -> socket.socket:
        return self._connection


def answers(data: bytes) -> None:
    """The whole of an association. Where the receiver has no more to say, its connection ends."""
    ours, theirs = socket.socketpair()
    with ours, theirs, suppress(IngestError):
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        ours.settimeout(5.0)
        made = _Said(ours)
        if _CONTEXTS[0] not in made.refused:
            assert 0 <= made.store(_CONTEXTS[0], "1.2.3", [b"x" * 300]) <= 0xFFFF
        if ECHO not in made.refused:
            made.echo()
        made.release()


def messages(data: bytes) -> None:
    """Fragments and commands, and what is made of them again."""
    for _, value in values_of(data):
        fields_of(value)
    assert b"".join(value for _, value in values_of(fragments(1, LAST, data[:64], 70))) == data[:64]
    fields_of(data)


def _accepted(results: Sequence[int]) -> bytes:
    contexts = []
    for number, (context, result) in enumerate(zip(_CONTEXTS, results, strict=True)):
        made = build_context(context[0], [context[1]])
        made.context_id, made.result = 2 * number + 1, result
        contexts.append(made)
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3"
    reply = A_ASSOCIATE()
    reply.application_context_name = "1.2.840.10008.3.1.1.1"
    reply.calling_ae_title, reply.called_ae_title = "A", "B"
    reply.result, reply.result_source = 0, 1
    reply.presentation_context_definition_results_list = contexts
    reply.user_information = [length, implementation]
    return bytes(A_ASSOCIATE_AC(reply).encode())


def _answer(number: int, status: int, comment: bytes = b"") -> bytes:
    fields = {0x0100: short(0x8001), 0x0120: short(number), 0x0800: short(0x0101), 0x0900: short(status)}
    fields |= {0x0902: comment} if comment else {}
    body = b"".join(struct.pack("<HHL", 0, tag, len(value)) + value for tag, value in fields.items())
    return fragments(1, COMMAND | LAST, body, 4096)


def _associations() -> Iterator[bytes]:
    both = _accepted((0, 0))
    yield both + _answer(1, 0) + _answer(2, 0) + b"\x06\0\0\0\0\x04" + bytes(4)
    yield both + _answer(1, 0xA700, b"out of resources") + b"\x07\0\0\0\0\x04" + bytes(4)
    yield _accepted((3, 0)) + _answer(1, 0) + b"\x05\0\0\0\0\x04" + bytes(4)
    rejection = A_ASSOCIATE_RJ()
    rejection.result, rejection.source, rejection.reason_diagnostic = 1, 1, 7
    yield bytes(rejection.encode())
    yield b"\x03\0\0\0\0\0"


def _messages() -> Iterator[bytes]:
    yield _answer(1, 0, b"word")
    yield _answer(1, 0)[12:]


TARGETS = (Target("association", answers, _associations, longest=4096), Target("dimse-message", messages, _messages))
