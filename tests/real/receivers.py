"""Real DICOM receivers, Orthanc and DCMTK's storescp, from Debian packages, where nobody else can reach them.

Both listen on every interface, and have no option against it: they run in a network of their own that has a loopback
interface and nothing else. Networks belong to threads, so one thread moves there, and whoever wants to talk to a
receiver does it in that thread, or in one begun by it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.debian import NotInstalledError, program

STARTING = 20.0
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
T = TypeVar("T")


class Apart:
    """A thread in a network that has nothing but loopback."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)

    def __call__(self, work: Callable[[], T]) -> T:
        """What the work brings, done there."""
        return self._thread.submit(work).result()

    def close(self) -> None:
        self._thread.shutdown()


def apart() -> Apart:
    there = Apart()
    there(_leave)
    return there


def _leave() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        raise NotInstalledError(f"no network apart, which takes root: {os.strerror(ctypes.get_errno())}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack_from("H", request, 16)[0] | _IFF_UP
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))


@contextmanager
def running(there: Apart, command: Sequence[str], port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A receiver that listens, until the context ends."""
    with (folder / "said.txt").open("wb") as said:

        def start() -> subprocess.Popen[bytes]:
            # Where it prefers its own folder for what it leaves behind.
            return subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)

        process = there(start)
        try:
            until = time.monotonic() + STARTING
            while not there(lambda: _listens(port)):
                assert process.poll() is None, (folder / "said.txt").read_text("utf-8", "replace")
                assert time.monotonic() < until, f"{command[0]} does not listen"
                time.sleep(0.02)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(port: int) -> bool:
    """Whether the kernel says so: a connection on trial would be a failed association to the receiver."""
    tables = [Path(f"/proc/thread-self/net/{name}").read_text() for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table.splitlines()[1:]]
    return any(words[1].endswith(f":{port:04X}") and words[3] == "0A" for words in lines)


class Orthanc:
    """A server with an address for looking at what it holds."""

    title = "ORTHANC"
    port = 4242
    _web = 8042

    def __init__(self, there: Apart, folder: Path) -> None:
        self._there = there
        self.folder = folder

    @contextmanager
    def running(self) -> Iterator[Orthanc]:
        settings = {
            "StorageDirectory": str(self.folder / "files"),
            "IndexDirectory": str(self.folder / "files"),
            "Plugins": [],
            "HttpPort": self._web,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": True,
            "DicomAet": self.title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
            "OverwriteInstances": True,
            "StableAge": 1,
        }
        config = self.folder / "orthanc.json"
        config.write_text(json.dumps(settings))
        with running(self._there, [program("Orthanc"), str(config)], self.port, self.folder):
            until = time.monotonic() + STARTING
            while not self._there(lambda: _listens(self._web)):
                assert time.monotonic() < until, "Orthanc opens no web port"
                time.sleep(0.02)
            yield self

    def files(self) -> dict[str, bytes]:
        """SOPInstanceUID -> the file it keeps."""
        held = json.loads(self._ask("/instances?expand"))
        return {one["MainDicomTags"]["SOPInstanceUID"]: self._ask(f"/instances/{one['ID']}/file") for one in held}

    def clear(self) -> None:
        for patient in json.loads(self._ask("/patients")):
            self._ask(f"/patients/{patient}", "DELETE")

    def _ask(self, path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self._web}{path}", method=method)

        def ask() -> bytes:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(request, timeout=20) as answer:
                data: bytes = answer.read()
                return data

        return self._there(ask)


class StoreScp:
    """DCMTK's receiver: it writes each object into a file, the data set bit by bit as it came."""

    title = "STORESCP"
    port = 11112

    def __init__(self, there: Apart, folder: Path, *more: str) -> None:
        self._there = there
        self._more = more
        self.folder = folder
        self.kept = folder / "kept"

    @contextmanager
    def running(self) -> Iterator[StoreScp]:
        self.kept.mkdir()
        options: list[Any] = ["-aet", self.title, "-od", str(self.kept), "+uf", "-fe", ".dcm", "+xa", "-pm", "+B"]
        command = [program("storescp"), *options, *self._more, str(self.port)]
        with running(self._there, command, self.port, self.folder):
            yield self

    def files(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.kept.iterdir())]
