"""The site's DICOM receiver: C-STORE and C-ECHO, feeding the importer that uploads feed.

What a sender sees of XNAT's: 0xC000 whenever one object could not be stored, whatever the reason; 0xA700 when the
receiver itself is in trouble; success also for objects that a filter or anonymisation dropped. Rows that it makes have
no SOURCE and do not prevent the auto-commit, so the background task builds them when nothing has come for a while.
"""

from __future__ import annotations

import io
import socket
import socketserver
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.transport import ThreadedAssociationServer

from tests.standin.contexts import ALL_SYNTAXES, entity, xnat_contexts
from tests.standin.identify import NO_ROUTING, Routing
from tests.standin.importer import store
from tests.standin.tables import RestError

if TYPE_CHECKING:
    from tests.standin.server import StandIn

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000


@dataclass(frozen=True)
class Tls:
    """The receiver's certificate and key as PEM files; with ``clients``, senders must show one of that authority."""

    certificate: Path
    key: Path
    clients: Path | None = None

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if self.clients is not None:
            context.load_verify_locations(self.clients)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@dataclass
class ReceiverFaults:
    """Troubles a test switches on; they may be changed while the receiver runs."""

    refuse_every: int = 0
    """Every n-th object of the receiver is not stored but answered with ``refuse_status``; 0: none."""
    refuse_status: int = OUT_OF_RESOURCES
    abort_after: int | None = None
    """An association is aborted when one more than so many objects come over it."""
    abort_keeps: bool = False
    """Whether the object that brought the abort is stored all the same: stored, and never answered."""
    aborts: int | None = None
    """How many associations are aborted at most; None: every one."""
    warning: int = 0
    """What stored objects are answered with instead of success, 0xB000 for example."""


@dataclass(frozen=True)
class Received:
    """One C-STORE request and its answer; ``status`` None: aborted without one."""

    calling: str
    called: str
    sop_class: str
    sop_uid: str
    syntax: str
    status: int | None
    uris: list[str] = field(default_factory=list)
    message: str = ""


class _Server(ThreadedAssociationServer):
    request_queue_size = 128

    def get_request(self) -> Any:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def shutdown(self) -> None:
        # the library's own also takes it off a list that only start_server puts it on
        socketserver.BaseServer.shutdown(self)
        self.server_close()


class Receiver:
    """Listens on the loopback interface while the context lasts; several may serve one site."""

    def __init__(
        self,
        site: StandIn,
        port: int = 0,
        *,
        ae_title: str = "XNAT",
        check_title: bool = True,
        routing: Routing = NO_ROUTING,
        direct_archive: bool = False,
        anonymize: bool = True,
        syntaxes: Sequence[str] = ALL_SYNTAXES,
        tls: Tls | None = None,
        faults: ReceiverFaults | None = None,
    ) -> None:
        self._site = site
        self._port = port
        self._routing = routing
        self._params = {"Direct-Archive": str(direct_archive).lower(), "prevent_anon": str(not anonymize).lower()}
        self._tls = tls
        self.faults = faults or ReceiverFaults()
        self.received: list[Received] = []
        """Every C-STORE request in the order of its end."""
        self.associations = 0
        """How many were asked for, refused ones included."""
        self._lock = threading.Lock()
        self._objects = 0
        self._aborted = 0
        self._of_association: dict[int, int] = {}
        self._ae = entity(ae_title, check_title)
        self._contexts = xnat_contexts(syntaxes)
        self._server: Any = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return self._port

    def __enter__(self) -> Self:
        self._server = self._ae.make_server(
            ("127.0.0.1", self._port),
            contexts=self._contexts,
            ssl_context=self._tls.context() if self._tls else None,
            evt_handlers=[
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_ECHO, lambda _event: SUCCESS),
                (evt.EVT_REQUESTED, self._requested),
            ],
            server_class=_Server,
        )
        self._port = self._server.server_address[1]
        server = self._server
        self._thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the port and abort what is still associated."""
        self._server.shutdown()
        for association in self._server.active_associations:
            association.abort()
            association.join(timeout=5)
        if self._thread is not None:
            self._thread.join(timeout=5)

    # -- events, each in its association's thread

    def _requested(self, event: Any) -> None:
        with self._lock:
            self.associations += 1
            self._of_association[id(event.assoc)] = 0

    def _store(self, event: Any) -> int | Dataset:
        """Store one object, unless a fault comes first."""
        abort, refuse = self._struck(id(event.assoc))
        if refuse:
            return self._answer(event, self.faults.refuse_status, [], "Refused: out of resources")
        if abort and not self.faults.abort_keeps:
            self._answer(event, None, [])
            event.assoc.abort()
            return SUCCESS
        try:
            uris = self._import(event)
        except RestError as error:
            return self._answer(event, CANNOT_UNDERSTAND, [], error.message)
        except Exception as error:  # noqa: BLE001 - the sender sees every other error as a lack of resources
            self._site.errors.append(repr(error))
            return self._answer(event, OUT_OF_RESOURCES, [], str(error))
        if abort:
            self._answer(event, None, uris)
            event.assoc.abort()
            return SUCCESS
        return self._answer(event, self.faults.warning, uris)

    def _struck(self, association: int) -> tuple[bool, bool]:
        """Whether this object brings an abort, and whether it is refused."""
        with self._lock:
            self._objects += 1
            self._of_association[association] += 1
            faults = self.faults
            abort = faults.abort_after is not None and self._of_association[association] > faults.abort_after
            abort = abort and (faults.aborts is None or self._aborted < faults.aborts)
            self._aborted += abort
            return abort, not abort and bool(faults.refuse_every) and self._objects % faults.refuse_every == 0

    def _import(self, event: Any) -> list[str]:
        """The data set's bytes go to the importer as they came; it has no name, so the namer makes one."""
        params = {
            **self._params,
            "Transfer-Syntax-UID": str(event.context.transfer_syntax),
            "Sender-AE-Title": event.assoc.requestor.ae_title,
        }
        source = event.request.DataSet or io.BytesIO()
        source.seek(0)
        return store(self._site, self._site.receiver, params, None, source, self._routing)

    def _answer(self, event: Any, status: int | None, uris: list[str], message: str = "") -> int | Dataset:
        """Note what was asked and answered; an error's text goes along, as far as an Error Comment is long."""
        request = event.request
        found = Received(
            calling=event.assoc.requestor.ae_title,
            called=event.assoc.requestor.primitive.called_ae_title,
            sop_class=str(request.AffectedSOPClassUID),
            sop_uid=str(request.AffectedSOPInstanceUID),
            syntax=str(event.context.transfer_syntax),
            status=status,
            uris=uris,
            message=message,
        )
        with self._lock:
            self.received.append(found)
        if not message:
            return status or SUCCESS
        answer = Dataset()
        answer.Status = status
        answer.ErrorComment = message[:64]
        return answer
