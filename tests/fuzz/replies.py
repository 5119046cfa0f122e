"""What a server answers: listings, pages, session documents, receipts, cookies, filters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, cast

from tests.fuzz.target import Target, text_of
from xnat_ingest.commands.nifti import server_scans
from xnat_ingest.commands.resources import listings
from xnat_ingest.core.errors import IngestError, ServerSaid
from xnat_ingest.core.model import Instance, Session
from xnat_ingest.transports.bodies import Part
from xnat_ingest.transports.import_service import import_part
from xnat_ingest.xnat import archive, failures, login, prearchive, retry_policy, series_filter, tables
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.cookies import Cookies
from xnat_ingest.xnat.exchange import Call
from xnat_ingest.xnat.replies import SENTENCE, Reply, sentence, tags

_SERVER = "https://xnat.example.org"
_INSTANCE = Instance("a", 9, 1, "1.2", "1.3", "1.4", "1.5", "1", "1", "MR", "T1 mprage", "1.2.840.10008.1.2.1", 4, {})
_SESSION = Session("P", "S", "L", "1.4", "a", (_INSTANCE,))


class Answers(XnatClient):
    """A client whose server gives the same answer to everything."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.server, self.user, self.logins = _SERVER, "u", 1

    def _exchange(self, call: Call) -> Reply:
        from xnat_ingest.xnat.exchange import _read

        text = text_of(self._data)
        if call.read:
            half = len(self._data) // 2
            text = _read(call, iter((self._data[:half], self._data[half:])))
        return Reply(200, text, {})

    def request(self, method: str, path: str, query: Mapping[str, str] | None = None, **more: Any) -> Reply:
        return self._exchange(Call(method, path, query or {}, None, None, more.get("read")))

    def mend_login(self) -> bool:
        return False


def table(data: bytes) -> None:
    """However the text comes in pieces, its rows are the same, and those of the JSON library."""
    whole = _rows([data])
    size = 1 + len(data) % 7
    if len(data) < 512:
        assert _rows([data[at : at + size] for at in range(0, len(data), size)]) == whole
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        found = json.loads(data.decode())
        if whole is not None and list(found) == ["ResultSet"] and list(found["ResultSet"]) == ["Result"]:
            assert len(whole) == len(found["ResultSet"]["Result"])


def _rows(chunks: list[bytes]) -> list[tables.JsonRow] | None:
    try:
        found = list(tables.table_rows(chunks))
    except (ValueError, RecursionError):  # the two that are told as an answer without data
        return None
    assert all(isinstance(text, str) for row in found for pair in row.items() for text in pair)
    return found


_LISTINGS: tuple[Callable[[XnatClient], object], ...] = (
    lambda rest: prearchive.list_sessions(rest, "P"),
    lambda rest: prearchive.find_session(rest, "/data/prearchive/projects/P/1/x"),
    lambda rest: list(prearchive.files(rest, "/data/prearchive/projects/P/1/x")),
    lambda rest: archive.archived_sessions(rest, "P"),
    lambda rest: archive.in_prearchive(rest, "/data/prearchive/projects/P/1/x"),
    lambda rest: server_scans.scans_of(rest, "E"),
    lambda rest: listings.stored_files(rest, "/data/experiments/E", "R"),
    lambda rest: listings.resources_of(rest, "/data/experiments/E"),
    lambda rest: rest.item("/data/projects/P"),
)


def listing(data: bytes) -> None:
    """Every listing that is read of a server: its rows, or that it is none."""
    rest = Answers(data)
    for read in _LISTINGS:
        with suppress(IngestError):
            read(rest)


def page(data: bytes) -> None:
    """Error pages and login pages."""
    text = text_of(data)
    said = sentence(text)
    assert len(said) <= SENTENCE
    reply = Reply(200, text, {"Location": text[:300], "Content-Type": text[:30]})
    assert isinstance(reply.is_page, bool)
    login.user_of(reply)
    login.is_sign_on_page(text)
    failures.wants_tls(text)
    for error in (login.redirected(reply, _SERVER, "u", "/data/JSESSION"), login.refused(reply, _SERVER, "u", "p ")):
        assert str(error)


def document(data: bytes) -> None:
    """A session's XML document."""
    text = text_of(data)
    for found in tags(text, "xnat:scan"):
        assert all(name and '"' not in value for name, value in found.items())
    prearchive.scan_uids(Answers(data), "/data/prearchive/projects/P/1/x")


def receipt(data: bytes) -> None:
    """What the import service and a commit answer."""
    rest = Answers(data)
    part = Part((_INSTANCE,))
    with suppress(IngestError):
        found = import_part(rest, _SESSION, part, cast(Any, None), lambda _: None, handler="DICOM-zip", timestamp="1")
        assert bool(found.uris) == bool(found.instances)
        for uri in found.uris:
            if uri.startswith("/data/prearchive/projects/P/") and uri.count("/") == 6:
                prearchive.command_for(uri, "delete")
    with suppress(IngestError):
        prearchive.commit(rest, "/data/prearchive/projects/P/1/x", overwrite_files=True)
        prearchive.last_log(rest, "/data/prearchive/projects/P/1/x")


def headers(data: bytes) -> None:
    """Set-Cookie and Retry-After, a line each."""
    lines = text_of(data).split("\n")
    jar = Cookies()
    jar.take(lines, with_session=True)
    header = jar.header()
    assert "\r" not in header
    assert header.isascii()
    for line in lines:
        wait, _ = retry_policy._retry_after(ServerSaid("GET /", 503, "", line))
        assert 0 <= wait <= retry_policy.LONGEST_RETRY_AFTER


def filters(data: bytes) -> None:
    """A site's or a project's series import filter, tried on a series."""
    text = text_of(data)
    for contents in (
        text,
        json.dumps({"mode": "blacklist", "list": text}),
        json.dumps({"mode": "whitelist", "list": text}),
    ):
        found = series_filter.parse_filter(contents)
        if isinstance(found, series_filter.Filter):
            found.drops(_INSTANCE)


def _tables() -> Iterator[bytes]:
    rows = [{"ID": "1", "Name": "a.dcm", "Size": "12", "URI": "/data/experiments/E/scans/1/resources/DICOM/files/a.dcm",
             "collection": "DICOM", "xsiType": "xnat:mrScanData", "label": "L", "subject_label": "S", "digest": "x"},
            {"project": "P", "timestamp": "1", "folderName": "x", "status": "READY", "Size": None}]  # fmt: skip
    yield json.dumps({"ResultSet": {"Result": rows, "totalRecords": "2"}}).encode()
    yield json.dumps({"ResultSet": {"Result": rows}}).encode()
    yield json.dumps({"items": [{"data_fields": {"ID": "P", "n": 1}, "children": []}]}).encode()
    yield b'{"ResultSet":{"Result":[ {"a":"\\ud800","b":1e5} , {} ]}}'


def _pages() -> Iterator[bytes]:
    yield b"<html><head><title>x</title></head><body><h3>No such project</h3><p>more</p></body></html>"
    yield b"<h1>HTTP 401</h1><p><b>Message</b> Login attempt &lt;failed&gt;.</p><h3>Apache</h3>"
    yield b"User 'guest' is logged in"
    yield b"https://sso.example.org/auth/realms/x?SAMLRequest=1"
    yield b"/app/template/XDATScreen_UpdateUser.vm"


def _documents() -> Iterator[bytes]:
    yield b'<xnat:MRSession ID="" UID="1.2"><xnat:scans><xnat:scan ID="1" UID="1.5" type="x"/></xnat:scans>'
    yield b'<xnat:scan ID="1"><xnat:scan_type/><xnat:scan UID="2" ID="b>c"/>'


def _receipts() -> Iterator[bytes]:
    yield b"/data/prearchive/projects/P/20260101_000000000/L\r\n"
    yield b"/data/prearchive/projects/Unassigned/1/L\n/data/archive/projects/P/subjects/S/experiments/L\n"


def _headers() -> Iterator[bytes]:
    yield b"JSESSIONID=ABC; Path=/; HttpOnly\nroute=1; Max-Age=0\nx=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT\n120"
    yield b"Fri, 31 Dec 9999 23:59:59 GMT\n99999999"


def _filters() -> Iterator[bytes]:
    yield json.dumps({"mode": "whitelist", "list": "T1.*\n[Modality]\nMR|CT\n(a+)+"}).encode()
    yield b"T[12]{1,3}(?!x)\\d+?\n[(0008,0060)]\n^MR$"


TARGETS = (
    Target("table", table, _tables, longest=4096),
    Target("listing", listing, _tables, longest=4096),
    Target("page", page, _pages, longest=8192),
    Target("session-document", document, _documents, longest=8192),
    Target("receipt", receipt, _receipts, longest=2048),
    Target("reply-headers", headers, _headers, longest=1024),
    Target("series-filter", filters, _filters, longest=2048),
)
