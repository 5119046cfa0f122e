"""Faults a test switches on: of the network, of a proxy in front, of the disk, of the closing of a session.

``site.faults.add(Fault("reset", match="services/import", after=100_000))``. A fault applies to requests whose
``METHOD /path?query`` (decoded, without context path) the regular expression ``match`` is found in; it lets ``skip``
of them pass, then strikes ``times`` times (None: always). Faults about files count files instead of requests and also
look at ``name``.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tests.standin.archiver import ArchiveFailedError
from tests.standin.builder import BuildError
from tests.standin.fault import KINDS, Fault
from tests.standin.model import Row
from tests.standin.tables import PHRASES, Reply, RestError, page, text

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

_FILE_KINDS = ("poison", "lose", "cut", "flip", "disk-full")
_ROW_KINDS = {
    "build": (("slow-build",), "build-fails"),
    "archive": (("slow-archive",), "archive-fails"),
    "move": (("slow-move",), ""),
}


class ResetError(ConnectionError):
    """The handler must reset its connection."""


@dataclass
class _Current(threading.local):
    """What this thread is answering, and the faults that strike it."""

    line: str = ""
    struck: list[Fault] = field(default_factory=list)


class Faults:
    """The faults of a site, and the places where the server asks for them."""

    def __init__(self, site: StandIn) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._all: list[Fault] = []
        self._now = _Current()
        self._freed = threading.Event()

    # -- for tests

    def add(self, fault: Fault | Mapping[str, Any]) -> Fault:
        """Switch a fault on; a mapping is one from JSON."""
        made = fault if isinstance(fault, Fault) else Fault.of(fault)
        with self._lock:
            self._all.append(made)
        return made

    def remove(self, fault: Fault) -> None:
        with self._lock:
            self._all = [one for one in self._all if one is not fault]

    def clear(self) -> None:
        """Switch everything off and let stalled sockets go on."""
        with self._lock:
            self._all.clear()
        self.release()

    def release(self) -> None:
        """End every stall and wait that is under way."""
        self._freed.set()
        self._freed = threading.Event()

    # -- choosing

    def _take(self, kinds: tuple[str, ...], line: str, name: str = "") -> Fault | None:
        """The first fault of these kinds that strikes now; what it lets pass is counted too."""
        with self._lock:
            for fault in self._all:
                if fault.kind not in kinds or not re.search(fault.match, line) or not re.search(fault.name, name):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.times == 0:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                fault.hits += 1
                return fault
        return None

    def _struck(self, *kinds: str) -> Fault | None:
        return next((fault for fault in self._now.struck if fault.kind in kinds), None)

    def _wait(self, seconds: float) -> None:
        """Sleep, unless released or stopped."""
        freed = self._freed
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0 and not freed.is_set() and not self._site.ended:
            freed.wait(min(left, 0.02))

    # -- around a request

    def arrived(self, request: Request) -> Reply | None:
        """Before the login: what the network or a proxy does. A reply here ends the request."""
        path = request.path.removeprefix(self._site.settings.context_path)
        query = "&".join(f"{key}={value}" for key, value in request.pairs)
        line = f"{request.method} {path}" + (f"?{query}" if query else "")
        self._now.line = line
        kinds = [kind for kind in KINDS if kind not in (*_FILE_KINDS, "swept", "timeout", "too-large")]
        kinds = [kind for kind in kinds if not any(kind in (*slow, bad) for slow, bad in _ROW_KINDS.values())]
        self._now.struck = [found for kind in kinds if (found := self._take((kind,), line))]
        large = self._large(request, line)
        if large is not None:
            return large
        if (fault := self._struck("delay")) is not None:
            self._wait(fault.seconds)
        if (fault := self._struck("reset")) is not None and not fault.after:
            raise ResetError
        return self._instead(request)

    def _large(self, request: Request, line: str) -> Reply | None:
        with self._lock:
            limits = [one.limit for one in self._all if one.kind == "too-large" and re.search(one.match, line)]
        if not limits or (request.content_length or 0) <= min(limits):
            return None
        if self._take(("too-large",), line) is None:
            return None
        return self._proxy(413, None, close=True)

    def _instead(self, request: Request) -> Reply | None:
        fault = self._struck("status", "login-page", "empty", "locked")
        if fault is None or fault.work:
            return None
        if fault.kind == "status":
            return self._status(fault)
        if fault.kind == "locked":
            return page(409, "session document locked")
        if fault.kind == "login-page":
            body = "<html><head><title>Login</title></head><body><form action='/login'></form></body></html>"
            return text(body, content_type="text/html;charset=UTF-8")
        while request.body.read(1 << 16):
            pass
        return _nothing()

    def _status(self, fault: Fault) -> Reply:
        if fault.status == 401:
            return self._site.gate.refuse(fault.message or "Login attempt failed. Please try again.")
        if fault.message:
            return page(fault.status, fault.message)
        return self._proxy(fault.status, fault.retry_after)

    def _proxy(self, status: int, retry_after: str | None, *, close: bool = False) -> Reply:
        """An answer of the proxy in front, in its own words."""
        title = f"{status} {PHRASES.get(status, 'Error')}"
        body = f"<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1><hr>nginx</body>\r\n</html>\r\n"
        headers = [("Retry-After", retry_after)] if retry_after else []
        return Reply(status, body.encode(), "text/html", headers, close=close)

    def reading(self, request: Request, size: int) -> int:
        """How much of the body may be read now; slow, stalled and reset connections are made here."""
        received = request.body.received
        if (fault := self._struck("reset")) is not None:
            if received >= fault.after:
                raise ResetError
            size = min(size, fault.after - received)
        if (fault := self._struck("stall")) is not None:
            if received >= fault.after:
                self._now.struck.remove(fault)
                self._wait(fault.seconds or 3600)
            else:
                size = min(size, fault.after - received)
        if (fault := self._struck("slow")) is not None:
            size = min(size, max(1, fault.rate // 20))
            self._wait(size / fault.rate)
        return size

    def answering(self, reply: Reply) -> Reply:
        """The work is done: lose the reply, or put the proxy's in its place."""
        if self._struck("reset-reply") is not None:
            raise ResetError
        fault = self._struck("status", "empty")
        if fault is None or not fault.work:
            return reply
        return _nothing() if fault.kind == "empty" else self._status(fault)

    # -- files

    def refuse_name(self, name: str) -> None:
        if fault := self._take(("poison",), self._now.line, name):
            raise RestError(400, (fault.message or "unable to read DICOM object {}").format(name))

    def stored(self, target: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The blocks of one file on their way to the disk."""
        fault = self._take(("disk-full",), self._now.line, target.name)
        room = fault.after if fault else None
        for block in blocks:
            if room is not None and len(block) > room:
                yield block[:room]
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if room is not None:
                room -= len(block)
            yield block

    def after_file(self, target: Path) -> None:
        """The file is complete: lose it, cut it or change a byte of it."""
        if self._take(("lose",), self._now.line, target.name):
            target.unlink()
        elif fault := self._take(("cut",), self._now.line, target.name):
            size = target.stat().st_size
            os.truncate(target, max(0, fault.keep if fault.keep >= 0 else size + fault.keep))
        elif fault := self._take(("flip",), self._now.line, target.name):
            with target.open("r+b") as stored:
                at = stored.seek(fault.keep or -1, os.SEEK_SET if fault.keep > 0 else os.SEEK_END)
                byte = stored.read(1)[0]
                stored.seek(at)
                stored.write(bytes([byte ^ 0xFF]))

    # -- closing

    def during(self, what: str, row: Row) -> None:
        """In the middle of ``build``, ``archive`` or ``move``: be slow, fail. The row's address can be matched, too."""
        slow, bad = _ROW_KINDS[what]
        line = self._now.line or f"TIMER {row.url}?" + urlencode({"label": row.label})
        if fault := self._take(slow, line):
            self._wait(fault.seconds)
        if bad and (fault := self._take((bad,), line)):
            if what == "build":
                raise BuildError(fault.message)
            raise ArchiveFailedError(fault.status, fault.message)

    def swept(self, row: Row) -> None:
        """A row is archived: its timestamp's folder, which looked empty a moment ago, goes with all that is in it."""
        if self._take(("swept",), self._now.line or f"TIMER {row.url}"):
            shutil.rmtree(row.directory.parent, ignore_errors=True)

    def timeout(self, message: str, work: Callable[[], object]) -> None:
        """Give up waiting for the archive, which goes on."""
        fault = self._take(("timeout",), self._now.line)
        if fault is None:
            return

        def later() -> None:
            self._wait(fault.seconds)
            try:
                work()
            except RestError:
                return  # the row's status and log tell

        self._site.spawn(later)
        raise RestError(500, message)


def _nothing() -> Reply:
    """The answer to an import of which nothing was kept."""
    return text("", content_type="text/uri-list")
