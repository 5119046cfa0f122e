"""Answers that no honest server gives: without end, drop by drop, with impossible lengths. Each ends in a sentence."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import resource
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from http.client import HTTPException

import pytest

from tests.scripted import Answer, Asked, Scripted, http
from xnat_ingest.commands.prearchive.selection import waiting_sessions
from xnat_ingest.core.errors import IngestError, ServerSaid, Unreachable
from xnat_ingest.settings.layers import Credentials
from xnat_ingest.xnat import prearchive, tables
from xnat_ingest.xnat.archive import in_archive
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.connections import Lines
from xnat_ingest.xnat.retry_policy import RetryPolicy

SESSION = "A" * 32
TIMEOUT = 0.8
ENOUGH = 64 * 1024**2  # more than any limit on a text, less than harm
CHUNK = 64 * 1024


def behind_login(answer: Answer) -> Answer:
    """A server that logs in as it should, and answers everything else so."""

    def all_of_it(asked: Asked, connection: socket.socket) -> bytes | Iterable[bytes] | None:
        if asked.path == "/data/JSESSION":
            return http(200, SESSION)
        return http(401) if asked.path == "/data/auth" else answer(asked, connection)

    return all_of_it


def client(server: Scripted, timeout: float = TIMEOUT) -> XnatClient:
    return XnatClient(Credentials(server.url, "up", "secret"), timeout=timeout, retry_policy=RetryPolicy(0))


def chunked(head: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield f"HTTP/1.1 {head}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


class Endless:
    """Bytes without end, and how many of them were taken."""

    def __init__(self, piece: bytes) -> None:
        self.piece = piece * (CHUNK // len(piece))
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.taken < 4 * ENOUGH:
            self.taken += len(self.piece)
            yield self.piece


def memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ask(rest: XnatClient) -> object:
    return rest.get("/data/x")


def table(rest: XnatClient) -> object:
    return rest.rows("/data/x")


ENDLESS: dict[str, tuple[str, bytes, Callable[[XnatClient], object], str]] = {
    "error page": ("500 E\r\nContent-Type: text/html", b"<h3>", ask, "500"),
    "page instead of an answer": ("200 O\r\nContent-Type: text/html", b"<p>x</p>", ask, "web page"),
    "text": ("200 O\r\nContent-Type: text/plain", b"x", ask, "more than"),
    "table without a row": ("200 O\r\nContent-Type: application/json", b"{ ", table, "no data"),
}


@pytest.mark.parametrize(("head", "piece", "do", "says"), ENDLESS.values(), ids=ENDLESS)
def test_bodies_without_end(head: str, piece: bytes, do: Callable[[XnatClient], object], says: str) -> None:
    """So much of them is read as has a use, and the connection is given up."""
    endless = Endless(piece)
    before = memory()
    with (
        Scripted(behind_login(lambda *_: chunked(head, endless))) as server,
        closing(client(server)) as rest,
        pytest.raises(ServerSaid, match=says),
    ):
        do(rest)
    assert endless.taken < ENOUGH
    assert memory() - before < 2 * ENOUGH


def test_a_login_without_end() -> None:
    endless = Endless(b"A")
    with (
        Scripted(lambda *_: chunked("200 O", endless)) as server,
        closing(client(server)) as rest,
        pytest.raises(IngestError),
    ):
        rest.login()
    assert endless.taken < 8 * 1024**2


def rows_of(*pieces: bytes, endless: Endless) -> Iterator[bytes]:
    yield b'{"ResultSet":{"Result":['
    yield from pieces
    yield from endless


@pytest.mark.parametrize("piece", [b'{"a":"b"},', b'{"a":"' + b"x" * 4000, b" ", b"["])
def test_tables_without_end(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """By rows, by the bytes of one row, by the bytes between them."""
    monkeypatch.setattr(tables, "MOST_ROWS", 20_000)
    monkeypatch.setattr(tables, "TABLE_LIMIT", 8 * 1024**2)
    endless = Endless(piece)
    answer = behind_login(lambda *_: chunked("200 O", rows_of(endless=endless)))
    with (
        Scripted(answer) as server,
        closing(client(server)) as rest,
        pytest.raises(ServerSaid, match=r"no data|20,000 rows"),
    ):
        rest.rows("/data/x")
    assert endless.taken < ENOUGH


def staged(number: int) -> bytes:
    """A prearchive session as XNAT lists it, and a comma."""
    when, folder = f"20240131_101112{number:06}", f"S{number:06}_pre"
    row = {"project": "DEMO", "timestamp": when, "lastmod": f"2024-01-31 10:11:12.{number:06}"}
    row |= {"uploaded": row["lastmod"], "scan_date": "2024-01-31 00:00:00.0", "scan_time": "", "subject": folder[:7]}
    row |= {"folderName": folder, "name": folder, "tag": f"1.2.826.0.1.3680043.8.498.{number:038}", "status": "READY"}
    row |= {"url": f"/prearchive/projects/DEMO/{when}/{folder}", "autoarchive": "Manual", "prevent_anon": "false"}
    row |= {"prevent_auto_commit": "true", "SOURCE": "uploader", "VISIT": "", "PROTOCOL": "", "TIMEZONE": "Europe/Oslo"}
    return json.dumps(row).encode() + b","


@pytest.mark.parametrize("project", ["DEMO", ""])
@pytest.mark.parametrize(("number", "fits"), [(100, True), (101, False)])
def test_a_listing_of_the_prearchive_has_a_limit_of_its_own(
    project: str, number: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prearchive, "MOST_SESSIONS", 100)
    text = b'{"ResultSet":{"Result":[' + b"".join(map(staged, range(number))) + b"]}}"
    with Scripted(behind_login(lambda *_: http(200, text))) as server, closing(client(server)) as rest:
        if fits:
            assert len(waiting_sessions(rest, project)) == number
        else:
            with pytest.raises(
                ServerSaid, match=r"more than 100 rows, and no more are read; .*archive or delete"
            ) as told:
                waiting_sessions(rest, project)
            assert ("-P" in str(told.value)) == (not project)


@pytest.mark.parametrize(("columns", "most"), [(False, 900), (True, 1700)])
def test_sessions_of_the_prearchive_take_little_memory(columns: bool, most: int) -> None:
    """A site may list 200,000 of them: that is 130 MB, or 260 MB with all columns."""
    number = 2000
    reply = http(200, b'{"ResultSet":{"Result":[' + b"".join(map(staged, range(number))) + b"]}}")
    with Scripted(behind_login(lambda *_: reply)) as server, closing(client(server)) as rest:
        waiting_sessions(rest, "DEMO")
        tracemalloc.start()
        found = waiting_sessions(rest, "DEMO", columns=columns)
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert (len(found), len(found[0].columns)) == (number, 19 if columns else 0)
    assert kept / number < most


@pytest.mark.parametrize("name", ["../../x", "..", ".", "x/../y"])
def test_a_name_that_leads_elsewhere_is_not_asked_for(name: str) -> None:
    with Scripted(behind_login(lambda *_: http(200, b"{}"))) as server, closing(client(server)) as rest:
        with pytest.raises(ServerSaid, match="leads to another address"):
            in_archive(rest, name)
        with pytest.raises(ServerSaid, match="leads to another address"):
            rest.request("GET", f"/data/experiments/X/scans/{name}/files/a.dcm")
        assert [asked.path for asked in server.asked] == []


@pytest.mark.parametrize("accession", ["null", '""'])
def test_a_document_without_an_id_is_no_data(accession: str) -> None:
    """The word None is no address."""
    document = '{"items":[{"meta":{},"data_fields":{"ID":' + accession + "}}]}"
    with (
        Scripted(behind_login(lambda *_: http(200, document.encode()))) as server,
        closing(client(server)) as rest,
        pytest.raises(ServerSaid, match="no data"),
    ):
        rest.item("/data/experiments/X")


def test_what_follows_a_table_is_not_waited_for() -> None:
    endless = Endless(b" ")
    answer = behind_login(lambda *_: chunked("200 O", rows_of(b'{"a":"b"}]}}', endless=endless)))
    with Scripted(answer) as server, closing(client(server)) as rest:
        assert rest.rows("/data/x") == [{"a": "b"}]
        assert endless.taken < ENOUGH


@pytest.mark.wide
@pytest.mark.parametrize("status", [200, 500])
def test_a_packed_answer_is_not_unpacked(status: int) -> None:
    """A megabyte of zeros packs a gigabyte; nothing packed was asked for."""
    bomb = gzip.compress(b"\0" * ENOUGH)
    with Scripted(behind_login(lambda *_: http(status, bomb, "Content-Encoding: gzip"))) as server:
        before = memory()
        with closing(client(server)) as rest, pytest.raises(ServerSaid, match=str(status)):
            rest.get("/data/x")
        assert memory() - before < ENOUGH // 2
        assert all(asked.headers["accept-encoding"] == "identity" for asked in server.asked)


def drip(server: list[Scripted], pieces: Iterable[bytes], every: float = 0.1) -> Iterator[bytes]:
    for piece in pieces:
        server[0].pause(every)
        if server[0].ended:
            return
        yield piece


SLOW: dict[str, Callable[[], Iterable[bytes]]] = {
    "silence": list,
    "a status line": lambda: [bytes([byte]) for byte in b"HTTP/1.1 200 " + b"O" * 500],
    "headers": lambda: [b"HTTP/1.1 200 O\r\n", *(bytes([byte]) for byte in b"X-Long: " + b"x" * 500)],
    "continue without end": lambda: [b"HTTP/1.1 100 Continue\r\n\r\n"] * 500,
    "a body": lambda: [b"HTTP/1.1 200 O\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 999],
    "an error page": lambda: [b"HTTP/1.1 500 E\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 999],
    "a chunked body": lambda: [b"HTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 999],
    "trailers": lambda: [b"HTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", *[b"X: y\r\n"] * 999],
}


@pytest.mark.wide
@pytest.mark.parametrize("name", SLOW)
def test_slow_answers_end_by_the_timeout(name: str) -> None:
    """Every byte comes in time, and the whole never."""
    held: list[Scripted] = []

    def answer(_asked: Asked, _connection: socket.socket) -> Iterator[bytes]:
        yield from drip(held, SLOW[name]())
        held[0].pause(30)

    with Scripted(behind_login(answer)) as server, closing(client(server)) as rest:
        held.append(server)
        rest.login()
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="did not answer in time") as caught:
            rest.get("/data/x")
        assert time.monotonic() - begun < TIMEOUT + 6
        assert caught.value.timed_out


HEADER = b"HTTP/1.1 200 OK\r\nServer: Apache-Coyote/1.1\r\nDate: Fri\r\nContent-Length: 12\r\n\r\n"
CHUNKS = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0c\r\n{"items": []\r\n1\r\n}\r\n0'


@pytest.mark.parametrize("whole", [HEADER, CHUNKS], ids=["header", "chunks"])
def test_an_answer_that_is_cut_anywhere_is_none(whole: bytes) -> None:
    """In the middle of a line of its header, too. The library would take it for an empty answer that is whole."""
    cuts = iter(range(1, len(whole)))

    def answer(_asked: Asked, connection: socket.socket) -> None:
        connection.sendall(whole[: next(cuts)])

    with Scripted(behind_login(answer)) as server, closing(client(server)) as rest:
        for cut in range(1, len(whole)):
            try:
                text = rest.get("/data/x").text
            except Unreachable:
                continue
            pytest.fail(f"cut after {whole[:cut]!r}: {text!r}")


def test_a_line_without_end_is_not_held() -> None:
    """Older versions of the library read the length of a chunk without a limit."""
    endless = io.BytesIO(b"1" * ENOUGH)
    lines = Lines(endless)
    with pytest.raises(HTTPException, match="inside a line"):
        lines.readline()
    assert endless.tell() < ENOUGH // 100
    assert Lines(io.BytesIO(b"1" * 70_000)).readline(65_537) == b"1" * 65_537  # the library has a limit of its own


def test_an_answer_without_a_header_line_is_whole() -> None:
    with Scripted(behind_login(lambda *_: b"HTTP/1.1 204 No\r\n\r\n")) as server, closing(client(server)) as rest:
        assert rest.request("DELETE", "/data/x", accept=(204,)).status == 204


def test_continue_without_end_is_not_waited_for() -> None:
    """Not even by a commit, which waits for minutes."""
    flood = b"HTTP/1.1 100 Continue\r\n\r\n" * 1000
    with Scripted(behind_login(lambda *_: itertools.repeat(flood))) as server, closing(client(server)) as rest:
        rest.login()
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="100 Continue without end"):
            rest.request("POST", "/data/x", timeout=20.0)
        assert time.monotonic() - begun < 15


def test_an_answer_in_tiny_pieces_is_not_waited_for() -> None:
    """Each takes time to read, so 16 MB of them would take minutes, and a listing hours."""
    answer = behind_login(lambda *_: chunked("200 O", itertools.repeat(b"[")))
    with Scripted(answer) as server, closing(client(server, 20.0)) as rest:
        begun = time.process_time()
        with pytest.raises(Unreachable, match="too many tiny pieces"):
            rest.get("/data/x")
        assert time.process_time() - begun < 5


@pytest.mark.parametrize(("pieces", "size"), [(10_000, 1), (12_000, 64)])
def test_an_answer_in_small_pieces_is_read(pieces: int, size: int) -> None:
    framed = b"%x\r\n%s\r\n" % (size, b"x" * size) * pieces
    answer = behind_login(lambda *_: [b"HTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\n", framed, b"0\r\n\r\n"])
    with Scripted(answer) as server, closing(client(server, 20.0)) as rest:
        assert len(rest.get("/data/x").text) == pieces * size


@pytest.mark.parametrize(
    ("begin", "late"),
    [
        (b"", "no answer within 0.4 seconds"),
        (b"HTTP/1.1 200 O\r\nContent-Length: 9\r\n\r\nx", "less than 16 kB of its answer within 0.4 seconds"),
    ],
)
def test_what_was_late_is_told(begin: bytes, late: str) -> None:
    def answer(_asked: Asked, connection: socket.socket) -> Iterable[bytes]:
        connection.sendall(begin)
        held[0].pause(10)
        return ()

    held: list[Scripted] = []
    with Scripted(behind_login(answer)) as server, closing(client(server, 0.4)) as rest:
        held.append(server)
        with pytest.raises(Unreachable, match=late):
            rest.get("/data/x")


@pytest.mark.wide
def test_a_flood_of_continue_ends_too() -> None:
    """As fast as it can: there is always something to read."""

    def answer(_asked: Asked, _connection: socket.socket) -> Iterator[bytes]:
        while True:
            yield b"HTTP/1.1 100 Continue\r\n\r\n" * 1000

    with Scripted(behind_login(answer)) as server, closing(client(server)) as rest:
        begun = time.monotonic()
        with pytest.raises(Unreachable):
            rest.get("/data/x")
        assert time.monotonic() - begun < TIMEOUT + 8


@pytest.mark.wide
def test_an_honest_slow_body_is_waited_for() -> None:
    """Longer than the timeout as a whole; each piece in time."""
    held: list[Scripted] = []
    pieces = [b"x" * 16384] * 8

    def answer(_asked: Asked, _connection: socket.socket) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 O\r\nContent-Length: %d\r\n\r\n" % (8 * 16384)
        yield from drip(held, pieces, TIMEOUT / 4)

    with Scripted(behind_login(answer)) as server, closing(client(server)) as rest:
        held.append(server)
        assert len(rest.get("/data/x").text) == 8 * 16384


IMPOSSIBLE = {
    "length of 2^63": b"HTTP/1.1 200 O\r\nContent-Length: 9223372036854775808\r\n\r\nabc",
    "length of 2^70": b"HTTP/1.1 200 O\r\nContent-Length: 1180591620717411303424\r\n\r\nabc",
    "negative length": b"HTTP/1.1 200 O\r\nContent-Length: -5\r\n\r\nabc",
    "two lengths": b"HTTP/1.1 200 O\r\nContent-Length: 3\r\nContent-Length: 7\r\n\r\nabc",
    "chunk of 2^63": b"HTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\n8000000000000000\r\nabc",
    "chunk of 2^70": b"HTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\n400000000000000000\r\nabc",
    "chunk of less than nothing": b"HTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc",
    "chunk of much less": b"HTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    "chunk of no number": b"HTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "status of no number": b"HTTP/1.1 abc O\r\n\r\n",
    "status of many digits": b"HTTP/1.1 99999999999999999999 O\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"\0\1\2\3\r\n\r\n",
    "a header without end": b"HTTP/1.1 200 O\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "too many headers": b"HTTP/1.1 200 O\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    "a header line that is none": b"HTTP/1.1 200 O\r\nServer Apache\r\nContent-Length: 30\r\n\r\nabc",
    "a later one that is none": b"HTTP/1.1 200 O\r\nServer: A\r\nDate Fri\r\nContent-Length: 30\r\n\r\nabc",
    "a status line alone": b"HTTP/1.1 200 O\r\n",
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
@pytest.mark.parametrize("do", [ask, table], ids=["text", "table"])
def test_impossible_answers(name: str, do: Callable[[XnatClient], object]) -> None:
    """A sentence and a code for scripts, never a bug of ours."""

    def answer(_asked: Asked, connection: socket.socket) -> None:
        connection.sendall(IMPOSSIBLE[name])

    with Scripted(behind_login(answer)) as server, closing(client(server)) as rest:
        if name == "negative length" and do is ask:
            assert rest.get("/data/x").text == "abc"
            return
        with pytest.raises(IngestError) as caught:
            do(rest)
        assert caught.value.exit_code in (1, 5)


DEEP = b"[" * 100_000
SURROGATE = b'"\\ud800"'


@pytest.mark.parametrize(
    "body", [DEEP, b"{" * 10, b'{"items":' + DEEP, b'{"items":[{"data_fields":"x"}]}', b"9" * 9000]
)
def test_items_that_are_none(body: bytes) -> None:
    with (
        Scripted(behind_login(lambda *_: http(200, body, kind="application/json"))) as server,
        closing(client(server)) as rest,
        pytest.raises(ServerSaid, match="no data"),
    ):
        rest.item("/data/x")


@pytest.mark.parametrize("row", [DEEP, b'{"a":' + DEEP, b'{"a":' + b"9" * 9000 + b"}", b'{"Size":"x"}'])
def test_tables_that_are_none(row: bytes) -> None:
    body = b'{"ResultSet":{"Result":[' + row + b"]}}"
    with (
        Scripted(behind_login(lambda *_: http(200, body, kind="application/json"))) as server,
        closing(client(server)) as rest,
        pytest.raises(ServerSaid, match="no data"),
    ):
        rest.rows("/data/x", lambda row: int(row["Size"]))


def test_an_id_of_a_lone_surrogate() -> None:
    """It is no text: it can be asked for, and printed, only as something else."""
    item = b'{"items":[{"data_fields":{"ID":' + SURROGATE + b"}}]}"
    listing = b'{"ResultSet":{"Result":[{"ID":' + SURROGATE + b"}]}}"
    answer = behind_login(lambda asked, _: http(200, listing if "rows" in asked.path else item))
    with Scripted(answer) as server, closing(client(server)) as rest:
        fields = rest.item("/data/x")
        assert fields is not None
        assert fields["ID"] == rest.rows("/data/rows")[0]["ID"] == "\ufffd"
        rest.get(f"/data/{fields['ID']}")
        rest.get("/data/\ud800", q="\ud800")


@pytest.mark.wide
def test_requests_under_way_end_when_the_run_is_given_up() -> None:
    """The process ends although the server says nothing, however long the timeout is."""

    def answer(_asked: Asked, _connection: socket.socket) -> Iterator[bytes]:
        server.pause(60)
        yield b""

    with Scripted(behind_login(answer)) as server:
        rest = XnatClient(Credentials(server.url, "up", "secret"), timeout=60)
        rest.login()
        ended: list[BaseException] = []

        def hang() -> None:
            try:
                rest.get("/data/x")
            except IngestError as error:
                ended.append(error)

        thread = threading.Thread(target=hang)
        thread.start()
        time.sleep(0.3)
        rest.abandon()
        thread.join(5)
        assert not thread.is_alive()
        assert "run has ended" in str(ended[0])
        with pytest.raises(IngestError):
            rest.get("/data/x")
