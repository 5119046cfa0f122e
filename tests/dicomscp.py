"""A DICOM receiver for tests: it keeps the bytes of what it is sent, and misbehaves when it is told to."""

from __future__ import annotations

import io
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, evt
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import MaximumLengthNotification
from pynetdicom.sop_class import _STORAGE_CLASSES
from pynetdicom.transport import ThreadedAssociationServer

from tests.dicom_trees import part10
from tests.standin.contexts import supported

CLASSES = tuple(str(uid) for uid in _STORAGE_CLASSES.values())
# Sent by an implementation of the standard, and by the vendor of some of pydicom's sample files.
SYNTAXES = (*map(str, AllTransferSyntaxes), "1.2.840.113619.5.2")
ABORT = -1
_ABORT_PDU = b"\x07\0\0\0\0\x04\0\0\0\0"


@dataclass(frozen=True)
class Got:
    """One object as it came. data: its encoded data set; number: of its association, from 1."""

    sop_class: str
    sop_uid: str
    syntax: str
    data: bytes
    number: int


class Scp:
    """Listens on the loopback interface while the context lasts.

    answer: (how many objects have come, SOPInstanceUID) -> status, or ABORT; break_after: the connection breaks when so
    many bytes have come over an association, breaks: how often; with_abort: with an abort before; callers: the calling
    AE titles it knows, all when empty.
    """

    def __init__(
        self,
        *,
        classes: Iterable[str] = CLASSES,
        syntaxes: Iterable[str] = SYNTAXES,
        title: str = "XNAT",
        callers: Iterable[str] = (),
        answer: Callable[[int, str], int] = lambda number, uid: 0,
        comment: str = "",
        break_after: int = 0,
        breaks: int = 1,
        with_abort: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.got: list[Got] = []
        self.associations = 0
        self.most_at_once = 0
        self.callers: set[str] = set()
        self.endings: list[str] = []
        self._answer = answer
        self._comment = comment
        self._break_after, self._breaks, self._with_abort = break_after, breaks, with_abort
        self._bytes: dict[int, int] = {}
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()
        entity = AE(title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(callers)
        entity.maximum_associations = 50
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_STORE, self._stored),
            (evt.EVT_DATA_RECV, self._heard),
            (evt.EVT_RELEASED, lambda event: self._ended(event, "released")),
            (evt.EVT_ABORTED, lambda event: self._ended(event, "aborted")),
            (evt.EVT_CONN_CLOSE, lambda event: self._ended(event, "closed")),
        ]
        entity.acse_timeout = 0.5  # how long what is no DICOM sender may keep a connection
        server: Any = entity.make_server(
            ("127.0.0.1", 0),
            contexts=supported(tuple(classes), tuple(syntaxes)),
            evt_handlers=handlers,
            ssl_context=tls,
            server_class=ThreadedAssociationServer,
        )
        self._server = cast("Any", server)
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.02), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        socketserver.BaseServer.shutdown(self._server)  # the library's own is for servers that it has started
        for association in self._server.active_associations:
            association.join(timeout=5)
        self._thread.join(timeout=5)
        self._server.server_close()

    def object(self, sop_uid: str) -> Got:
        """The last copy of an object."""
        return next(one for one in reversed(self.got) if one.sop_uid == sop_uid)

    def _requested(self, event: Any) -> None:
        with self._lock:
            self.associations += 1
            self._open[id(event.assoc)] = self.associations
            self._bytes[id(event.assoc)] = 0
            self.most_at_once = max(self.most_at_once, len(self._open))

    def _ended(self, event: Any, how: str) -> None:
        with self._lock:
            self._open.pop(id(event.assoc), None)
            self.endings.append(how)

    def _stored(self, event: Any) -> int | Dataset:
        request = event.request
        with self._lock:
            number = len(self.got) + 1
            one = Got(
                str(request.AffectedSOPClassUID),
                str(request.AffectedSOPInstanceUID),
                str(event.context.transfer_syntax),
                request.DataSet.getvalue(),
                self._open.get(id(event.assoc), 0),
            )
            self.got.append(one)
            self.callers.add(event.assoc.requestor.primitive.calling_ae_title)
        status = self._answer(number, one.sop_uid)
        if status == ABORT:
            event.assoc.abort()
            return 0
        reply = Dataset()
        reply.Status = status
        if self._comment:
            reply.ErrorComment = self._comment
        return reply

    def _heard(self, event: Any) -> None:
        key = id(event.assoc)
        with self._lock:
            self._bytes[key] = self._bytes.get(key, 0) + len(event.data)
            if not self._break_after or self._bytes[key] < self._break_after or not self._breaks:
                return
            self._breaks -= 1
            self._bytes[key] = -(1 << 40)  # what is still in the line must not count
        connection: socket.socket = event.assoc.dul.socket.socket
        if self._with_abort:
            connection.sendall(_ABORT_PDU)
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def answering(*replies: bytes | Callable[[bytes], bytes]) -> Iterator[int]:
    """A port where each connection in turn gets the bytes, or what is made of its request, and is closed. With none it
    hangs. Who closes it earlier is not complained about."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def serve() -> None:
            for reply in replies:
                with server.accept()[0] as connection, suppress(OSError):
                    request = connection.recv(65536)
                    connection.sendall(reply if isinstance(reply, bytes) else reply(request))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(timeout=5)


class Sink:
    """A receiver for one association that forgets what it reads, so that it takes no memory; it accepts everything.

    total: bytes of data sets; largest: of a PDU, without its head; odd: fragments of odd length; commands: whole ones.
    """

    def __init__(self, limit: int) -> None:
        self.total = 0
        self.largest = 0
        self.odd = 0
        self.commands = 0
        self._limit = limit
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(5)
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.join(timeout=5)
        self._server.close()

    def _serve(self) -> None:
        connection = self._server.accept()[0]
        with connection, connection.makefile("rb") as stream:
            while header := stream.read(6):
                body = stream.read(int.from_bytes(header[2:], "big"))
                if header[0] == 1:
                    connection.sendall(accepted(header + body, self._limit))
                elif header[0] == 4:
                    self.largest = max(self.largest, len(body))
                    self._take(connection, body)
                else:
                    connection.sendall(b"\x06\0\0\0\0\x04\0\0\0\0")

    def _take(self, connection: socket.socket, body: bytes) -> None:
        """One fragment; after the last of a data set all is well, says a command of message 1."""
        self.odd += len(body) % 2
        if body[5] & 1:
            self.commands += body[5] & 2 == 2
            return
        self.total += len(body) - 6
        if body[5] & 2:
            fields = ((0x0100, 0x8001), (0x0120, 1), (0x0800, 0x0101), (0x0900, 0))
            command = b"".join(struct.pack("<HHLH", 0, tag, 2, value) for tag, value in fields)
            head = struct.pack(">BBLLBB", 4, 0, len(command) + 6, len(command) + 2, body[4], 3)
            connection.sendall(head + command)


def accepted(request: bytes, limit: int = 16384) -> bytes:
    """The PDU that accepts everything that was asked for."""
    asked = A_ASSOCIATE_RQ()
    asked.decode(request)
    answer = asked.to_primitive()
    answer.result, answer.result_source = 0, 1
    contexts = answer.presentation_context_definition_list
    for context in contexts:
        context.result = 0
    answer.presentation_context_definition_results_list = contexts
    for item in answer.user_information:
        if isinstance(item, MaximumLengthNotification):
            item.maximum_length_received = limit
    return A_ASSOCIATE_AC(answer).encode()


def parsed(data: bytes, syntax: str) -> Dataset:
    """A data set as it was sent, of which nothing is decoded yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some real files are not encoded as they say
        return pydicom.dcmread(io.BytesIO(part10({}, syntax) + data))


def make_certificates(folder: Path, names: str = "IP:127.0.0.1") -> None:
    """An authority (ca.pem), and signed by it a receiver's (scp.pem, scp.key) and a sender's (scu.pem, scu.key).

    names: what they vouch for, as OpenSSL writes it.
    """
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    _openssl(folder, "req", "-x509", *key, "-subj", "/CN=Test authority", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("scp", "scu"):
        alternative = ("-addext", f"subjectAltName={names}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key")
        words = ("req", "-x509", *key, "-subj", f"/CN={name}", *alternative, *signed)
        _openssl(folder, *words, "-keyout", f"{name}.key", "-out", f"{name}.pem")


def _openssl(folder: Path, *words: str) -> None:
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
