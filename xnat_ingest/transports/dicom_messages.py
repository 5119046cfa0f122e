"""The bytes of an association: its request, commands, fragments (PS3.7, PS3.8)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification

from xnat_ingest.transports.dicom_receiver import Receiver

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION = "1.2.840.10008.3.1.1.1"
# The fragment size that we send when the receiver sets no limit, or a high one, and the size that it may send.
MAX_PDU = 128 * 1024
# The least that a receiver may accept. With less, an object becomes so many PDUs that it takes for ever. DCMTK's own
# least is 4096.
LEAST_PDU = 1024
DATA_PDU = 4
COMMAND, LAST = 1, 2  # bits of a fragment's control header
ANSWERED, STATUS = 0x0120, 0x0900  # elements of an answer
_SOP_CLASS, _FIELD, _MESSAGE, _PRIORITY, _HAS_DATA, _SOP_UID = 0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x1000
_C_STORE, _C_ECHO = 0x0001, 0x0030
_MEDIUM, _WITH_DATA, _WITHOUT_DATA = 0x0000, 0x0001, 0x0101
_REFUSAL_REASON = {3: "this kind of object", 4: "this transfer syntax"}
Context = tuple[str, str]  # SOP class, transfer syntax


def association_request(receiver: Receiver, contexts: Sequence[Context]) -> bytes:
    """The PDU that requests an association. The contexts get the odd numbers from 1 as ids."""
    proposed = [build_context(sop_class, [syntax]) for sop_class, syntax in contexts]
    for number, context in enumerate(proposed):
        context.context_id = 2 * number + 1
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = MAX_PDU
    implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    request = A_ASSOCIATE()
    request.application_context_name = APPLICATION
    request.calling_ae_title = receiver.calling
    request.called_ae_title = receiver.called
    request.presentation_context_definition_list = proposed
    request.user_information = [length, implementation]
    return A_ASSOCIATE_RQ(request).encode()


def refusal(context: Context, reason: int) -> str:
    """Why a context was not accepted, from the reason in the answer."""
    named = build_context(context[0], [context[1]])
    what = _REFUSAL_REASON.get(reason, "this combination")
    kind = getattr(named.abstract_syntax, "name", context[0])
    return (
        f"the receiver does not accept {what}: {kind} in {named.transfer_syntax[0].name} ({context[0]}, {context[1]})"
    )


def store_command(number: int, sop_class: str, sop_uid: str) -> bytes:
    """number: the id of the message, which its answer repeats."""
    fields = {_SOP_CLASS: _uid(sop_class), _FIELD: short(_C_STORE), _MESSAGE: short(number), _PRIORITY: short(_MEDIUM)}
    return _command({**fields, _HAS_DATA: short(_WITH_DATA), _SOP_UID: _uid(sop_uid)})


def echo_command(number: int) -> bytes:
    fields = {_SOP_CLASS: _uid(VERIFICATION), _FIELD: short(_C_ECHO), _MESSAGE: short(number)}
    return _command({**fields, _HAS_DATA: short(_WITHOUT_DATA)})


def fields_of(command: bytes) -> dict[int, bytes]:
    """The elements of a command."""
    fields, at = {}, 0
    while at + 8 <= len(command):
        _, tag, length = struct.unpack_from("<HHL", command, at)
        fields[tag] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return fields


def fragments(context_id: int, control: int, data: bytes, room: int) -> bytes:
    """The data in PDUs of one fragment each, none longer than room. With LAST in control, the final one is marked."""
    starts = range(0, max(len(data), 1), room)
    return b"".join(
        _fragment(context_id, control if at == starts[-1] else control & ~LAST, data[at : at + room]) for at in starts
    )


def values_of(pdu: bytes) -> Iterator[tuple[int, bytes]]:
    """Control header and value of each fragment in a PDU."""
    at = 6
    while at + 6 <= len(pdu):
        length = struct.unpack_from(">L", pdu, at)[0]
        yield pdu[at + 5], pdu[at + 6 : at + 4 + length]
        at += 4 + max(length, 2)


def short(number: int) -> bytes:
    return struct.pack("<H", number)


def _command(fields: Mapping[int, bytes]) -> bytes:
    """A command with its length. It is always in implicit VR little endian (PS3.7, 6.3.1)."""
    body = b"".join(struct.pack("<HHL", 0, tag, len(value)) + value for tag, value in sorted(fields.items()))
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def _fragment(context_id: int, control: int, value: bytes) -> bytes:
    """A P-DATA-TF PDU (PS3.8, 9.3.5)."""
    return struct.pack(">BBLLBB", DATA_PDU, 0, len(value) + 6, len(value) + 2, context_id, control) + value


def _uid(text: str) -> bytes:
    return text.encode("ascii") + b"\0" * (len(text) % 2)
