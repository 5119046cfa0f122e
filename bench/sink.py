"""A server that takes everything and keeps names: what a benchmark sends to. `python -m bench.sink PORT [INDEX]`.

It answers what this program and the other tools ask, and no more. Bytes of files are thrown away in the kernel; of an
archive it reads the tar headers, or the zip directory at the end. A file that is read back comes from the tree that was
sent: INDEX says which (stored name -> path, JSON). So it stores nothing, and its work is next to none; a real server
inflates, parses, writes and locks, and takes far longer.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_BLOCK = 1 << 20
_TAIL = 8 << 20  # bytes of a zip's end that are kept: its directory
_REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    301: "Moved Permanently",
    401: "Unauthorized",
    404: "Not Found",
}
_ANSWERS = {
    "/data/JSESSION": "0123456789ABCDEF0123456789ABCDEF",
    "/data/auth": "User 'up' is logged in",
    "/data/services/auth": "User 'up' is logged in",
    "/buildInfo/version": "1.9.2.1",
    "/data/version": "1.9.2.1",
    "/xapi/users/username": "up",
    "/xapi/users/up": '{"username": "up"}',
    "/enableSitewideAnonymizationScript": "false",
    "/prearchive_code": "0",
}
_TIMESTAMP = "20260101_000000000"


class Stream:
    """A connection, from which bytes are taken or thrown away."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._held = bytearray()
        self._scratch = memoryview(bytearray(_BLOCK))

    def line(self) -> bytes:
        while (end := self._held.find(b"\n")) < 0:
            self._fill()
        return self.take(end + 1)

    def take(self, size: int) -> bytes:
        while len(self._held) < size:
            self._fill()
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    def some(self, most: int) -> bytes:
        """Whatever is there, but not more."""
        if not self._held:
            self._fill()
        return self.take(min(most, len(self._held)))

    def skip(self, size: int) -> None:
        """Throws bytes away; most of them never leave the kernel."""
        held = min(size, len(self._held))
        del self._held[:held]
        size -= held
        while size:
            got = self.sock.recv_into(self._scratch, min(size, _BLOCK), socket.MSG_TRUNC)
            if not got:
                raise ConnectionError("cut")
            size -= got

    def _fill(self) -> None:
        data = self.sock.recv(_BLOCK)
        if not data:
            raise ConnectionError("ended")
        self._held += data


class Store:
    """What has arrived: (project, subject, label) -> stored name -> size. requests, received: since the last reset."""

    def __init__(self, index: dict[str, str]) -> None:
        self.index = index
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self.rows: dict[tuple[str, str, str], dict[str, int]] = {}
        self.archived: dict[str, tuple[str, str, str]] = {}
        self.requests = 0
        self.imports = 0
        self.received = 0

    def accession(self, key: tuple[str, str, str]) -> str:
        with self.lock:
            found = next((name for name, one in self.archived.items() if one == key), "")
            if not found:
                found = f"SINK_E{len(self.archived) + 1:05d}"
                self.archived[found] = key
            return found


def _tar_members(stream: Stream, length: int) -> Iterator[tuple[str, int]]:
    name = ""
    while length >= 512:
        head = stream.take(512)
        length -= 512
        if head[0] == 0:
            break
        size = int(head[124:135].rstrip(b"\0 ") or b"0", 8) if head[124] < 128 else int.from_bytes(head[125:136], "big")
        padded = size + -size % 512
        if head[156:157] == b"x":
            for record in stream.take(padded).split(b"\n"):
                if b" path=" in record:
                    name = record.partition(b"=")[2].decode()
        else:
            stream.skip(padded)
            yield name or head[:100].rstrip(b"\0").decode(), size
            name = ""
        length -= padded
    stream.skip(length)


def _pieces(stream: Stream, length: int | None) -> Iterator[bytes]:
    if length is not None:
        while length:
            piece = stream.some(length)
            length -= len(piece)
            yield piece
        return
    while size := int(stream.line().split(b";")[0], 16):
        while size:
            piece = stream.some(size)
            size -= len(piece)
            yield piece
        stream.line()
    stream.line()


def _zip_members(stream: Stream, length: int | None) -> tuple[int, dict[str, int]]:
    """(bytes of the body, names and sizes from the directory at its end)."""
    tail = bytearray()
    total = 0
    for piece in _pieces(stream, length):
        total += len(piece)
        tail += piece
        if len(tail) > 2 * _TAIL:
            del tail[:-_TAIL]
    found: dict[str, int] = {}
    end = tail.rfind(b"PK\5\6")
    if end < 0:
        return total, found
    size, _ = struct.unpack_from("<LL", tail, end + 12)
    at = end - size
    while at < end and tail[at : at + 4] == b"PK\1\2":
        plain, name, extra, comment = struct.unpack_from("<LHHH", tail, at + 24)
        found[bytes(tail[at + 46 : at + 46 + name]).decode("utf-8", "replace")] = plain
        at += 46 + name + extra + comment
    return total, found


class Connection:
    """One client. Answers until it goes."""

    def __init__(self, sock: socket.socket, store: Store) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.stream = Stream(sock)
        self.store = store

    def run(self) -> None:
        try:
            while True:
                self._one()
        except (ConnectionError, OSError):
            self.sock.close()

    def _one(self) -> None:
        method, target, _ = self.stream.line().decode("latin-1").split(" ")
        headers: dict[str, str] = {}
        while line := self.stream.line().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        split = urlsplit(target)
        path, query = unquote(split.path), {k: v[-1] for k, v in parse_qs(split.query, keep_blank_values=True).items()}
        chunked = "chunked" in headers.get("transfer-encoding", "")
        length = None if chunked else int(headers.get("content-length", 0))
        with self.store.lock:
            self.store.requests += 1
        if path.startswith("/data/services/import"):
            self._say(200, self._import(headers.get("content-type", ""), length, query).encode(), "text/uri-list")
            return
        for _ in _pieces(self.stream, length):
            pass
        if path.startswith("/data/experiments/") and "/resources/1/files/" in path:
            self._file(path.rpartition("/")[2])
            return
        if path == "/data/auth" and not headers.keys() & {"cookie", "authorization"}:
            self._say(401, b"")  # a site that asks everybody to log in, as most do
            return
        status, answer = self._answer(method, path, query)
        kind = "application/json" if answer.startswith("{") else "text/plain"
        self._say(status, answer.encode(), kind)

    def _say(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.sock.sendall(head.encode() + body)

    def _file(self, name: str) -> None:
        path = self.store.index.get(name, "")
        if not path:
            self._say(404, b"")
            return
        with open(path, "rb") as stored:
            size = Path(path).stat().st_size
            self.sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
            self.sock.sendfile(stored)

    def _import(self, kind: str, length: int | None, query: dict[str, str]) -> str:
        project, subject, label = (
            query.get(one) or query.get(other) or "X"
            for one, other in (("PROJECT_ID", "project"), ("SUBJECT_ID", "subject"), ("EXPT_LABEL", "session"))
        )
        members: dict[str, int] = {}
        if kind == "application/x-tar" and length is not None:
            members, total = dict(_tar_members(self.stream, length)), length
        elif kind == "application/zip":
            total, members = _zip_members(self.stream, length)
        else:
            total = length or 0
            self.stream.skip(total)
        with self.store.lock:
            self.store.imports += 1
            self.store.received += total
            self.store.rows.setdefault((project, subject, label), {}).update(members)
        if query.get("Direct-Archive") == "true":
            return f"/xapi/direct-archive/{project}/1.2/{label}\r\n"
        return f"/data/prearchive/projects/{project}/{query.get('PREARC_TIMESTAMP', _TIMESTAMP)}/{label}\r\n"

    def _answer(self, method: str, path: str, query: dict[str, str]) -> tuple[int, str]:
        names = path.strip("/").split("/")
        if names[0] == "bench":
            return 200, self._bench(names[1])
        for end, answer in _ANSWERS.items():
            if path.endswith(end):
                return 200, answer
        if "config" in names:
            return 204, ""
        if names[:2] == ["data", "prearchive"]:
            return self._prearchive(method, names, query)
        if names[:2] == ["data", "projects"]:
            return self._project(names)
        if names[:2] == ["data", "experiments"]:
            return self._experiment(names)
        return 200, ""

    def _bench(self, what: str) -> str:
        store = self.store
        if what == "reset":
            store.reset()
            return ""
        seen = {"requests": store.requests - 1, "imports": store.imports, "received": store.received}
        return json.dumps({**seen, "files": sum(map(len, store.rows.values())), "sessions": len(store.rows)})

    def _prearchive(self, method: str, names: list[str], query: dict[str, str]) -> tuple[int, str]:
        if method == "POST":
            key = self._key(names[3], names[5])
            if query.get("action") != "commit":
                return 200, "/" + "/".join(names)
            self.store.accession(key)
            return 301, f"/data/archive/projects/{key[0]}/subjects/{key[1]}/experiments/{key[2]}"
        if len(names) < 6 or names[5] == "none":
            return 200, _table([])
        project, subject, label = self._key(names[3], names[5])
        row = {
            "project": project,
            "timestamp": names[4],
            "folderName": label,
            "name": label,
            "subject": subject,
            "tag": next(iter(self.store.rows[project, subject, label]), "-").partition("-")[0],
            "status": "RECEIVING",
            "SOURCE": "uploader",
            "prevent_anon": "false",
            "prevent_auto_commit": "true",
        }
        return 200, _table([row])

    def _key(self, project: str, label: str) -> tuple[str, str, str]:
        with self.store.lock:
            return next(key for key in self.store.rows if key[0] == project and key[2] == label)

    def _project(self, names: list[str]) -> tuple[int, str]:
        if len(names) == 3:
            return 200, _item(ID=names[2])
        if names[-1] in ("experiments", "subjects"):
            return 200, _table([])
        for accession, (project, _, label) in list(self.store.archived.items()):
            if (project, label) == (names[2], names[-1]):
                return 200, _item(ID=accession, label=label)
        return 404, ""

    def _experiment(self, names: list[str]) -> tuple[int, str]:
        key = self.store.archived.get(names[2])
        if key is None:
            return 404, ""
        if names[3:] == ["scans"]:
            return 200, _table([{"ID": number} for number in sorted(set(map(_number, self.store.rows[key])))])
        scans = f"/data/experiments/{names[2]}/scans"
        files = (
            {
                "Name": name,
                "Size": str(size),
                "URI": f"{scans}/{_number(name)}/resources/1/files/{name}",
                "collection": "DICOM",
                "file_format": "DICOM",
            }
            for name, size in self.store.rows[key].items()
        )
        return 200, _table(list(files))


def _number(name: str) -> str:
    """The SeriesNumber in a stored name, which is the scan's id."""
    return name.split("-")[1] if name.count("-") > 2 else "1"


def _table(rows: list[dict[str, str]]) -> str:
    return json.dumps({"ResultSet": {"Result": rows, "totalRecords": str(len(rows))}})


def _item(**fields: str) -> str:
    return json.dumps({"items": [{"children": [], "meta": {"xsi:type": "xnat:mrSessionData"}, "data_fields": fields}]})


def main() -> None:
    port, index = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    store = Store(json.loads(Path(index).read_text()) if index else {})
    listener = socket.create_server(("127.0.0.1", port), backlog=256)
    print(listener.getsockname()[1], flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=Connection(sock, store).run, daemon=True).start()


if __name__ == "__main__":
    main()
