"""What networks, proxies and men in the middle do to an upload, way by way: `make faults` prints it as Markdown tables.

A way is a transport and a destination. Each trouble strikes once, in the middle of a run; then the same command runs
again without it. After each run what lies on the stand-in's disk is held against the tree, element by element and pixel
by pixel, and against what the report says.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract import relay
from tests.contract.relay import Early, Redirect, Relay, Struck, Trouble
from tests.contract.stages import DESTINATIONS
from tests.contract.table import STAMPED, Held, but, files_of, held
from tests.dicom_trees import Series, make_session
from tests.dicomscp import make_certificates
from tests.scripted import Scripted, http
from tests.short_waits import shorten
from tests.standin import Project, StandIn, User
from tests.standin.receiver import Receiver
from tests.transport_flags import TRANSPORT_FLAGS
from xnat_ingest.cli import main as run_program

PASSWORD = "matrix pass/word%"
SERIES = (Series("T1_0001", 5), Series("T2_0002", 4, "MR_small_RLE.dcm"), Series("SR_0003", 1, "test-SR.dcm"))
TOTAL = 10
TIMEOUT = 3.0
# A run that takes longer hangs.
PATIENCE = 60.0
MOMENTS = {
    "sending": r"^POST /data/services/import",
    "committing": r"^POST .*(action=commit|action=build|/direct-archive/)",
    "listing": r"^GET .*(/scans/ALL/files|/resources/[^/]+/files)\?",
}
# What may be the end of a run that was disturbed: done, failed, partial, temporary, refused.
ENDS = {0, 1, 3, 5, 6}


@dataclass(frozen=True)
class Way:
    transport: str
    destination: str

    def __str__(self) -> str:
        return f"{self.transport}, {self.destination}"


WAYS = [Way(transport, destination) for transport in TRANSPORT_FLAGS for destination in DESTINATIONS]


@dataclass(frozen=True)
class Kind:
    """A row of the table. http: what strikes a request; dicom: what strikes an association, None where nothing like it
    exists, and no_dicom says why; tls: of the relay, "" for none, "good", or the name of a bad certificate from the
    start; beside: what else is done when it strikes."""

    http: Callable[[Struck], bool] | None
    dicom: Callable[[Struck], bool] | None = None
    no_dicom: str = ""
    tls: str = ""
    beside: str = ""


_NO_HTTP = "an association has no such answers"
KINDS: dict[str, Kind] = {
    "reset in the middle": Kind(relay.a_reset, relay.a_reset),
    "answer lost": Kind(relay.a_lost_answer, no_dicom="an association that breaks, as above"),
    "stall": Kind(relay.a_stall, relay.a_stall),
    "answer drop by drop": Kind(relay.a_drip, relay.slow_replies),
    "100 Continue for ever": Kind(relay.a_storm, no_dicom=_NO_HTTP),
    "half-closed": Kind(relay.half_closed, relay.half_closed),
    "401 before the body": Kind(Early(401), no_dicom=_NO_HTTP),
    "413 before the body": Kind(Early(413), no_dicom=_NO_HTTP),
    "417 before the body": Kind(Early(417), no_dicom=_NO_HTTP),
    "length too large": Kind(relay.too_long, relay.A_LONG_PDU),
    "length too small": Kind(relay.too_short, no_dicom="a PDU of too few bytes is no PDU, as below"),
    "called gzip, and is not": Kind(relay.packed, relay.NO_PDU),
    "called chunked, and is not": Kind(relay.no_chunks, no_dicom=_NO_HTTP),
    "redirect to another host": Kind(None, no_dicom=_NO_HTTP, beside="redirect"),
    "redirect from https to http": Kind(None, no_dicom=_NO_HTTP, tls="good", beside="redirect"),
    "TLS: expired": Kind(None, tls="expired"),
    "TLS: another host's": Kind(None, tls="wrong"),
    "TLS: signed by itself": Kind(None, tls="self"),
    "TLS: another's from now on": Kind(None, tls="good", beside="man in the middle"),
    "TLS: cut in mid-stream": Kind(relay.cut_tls, relay.A_CUT_PDU, tls="good"),
    "TLS: a forged record": Kind(relay.garbled_tls, relay.A_GARBLED_PDU, tls="good"),
    "clock a day ahead": Kind(None, beside="clock+"),
    "clock a day back": Kind(None, beside="clock-"),
    "no DNS for a while": Kind(None, beside="dns"),
    "no DNS from now on": Kind(None, beside="dns for good"),
    "server restarted": Kind(None, beside="restart"),
}


@dataclass(frozen=True)
class Cell:
    """How a run under a trouble ended. whole: instances that lie on the disk as in their files after it; verified: of
    which it was said; again: exit code of the same command without the trouble; broken: what must not be."""

    code: int
    verified: int
    whole: int
    again: int
    broken: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        text = f"{self.code}: {self.verified} verified, {self.whole} there; again {self.again}"
        return text + "".join(f" **{one}**" for one in self.broken)


@dataclass(frozen=True)
class Certificates:
    """One authority, and of each kind a context for a server."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        for name, names in (("good", "IP:127.0.0.1,DNS:localhost"), ("wrong", "DNS:elsewhere.example.org")):
            (folder / name).mkdir()
            make_certificates(folder / name, names)
        made = cls(folder)
        good, key = folder / "good", folder / "good" / "scp.key"
        request = ("req", "-new", "-key", str(key), "-subj", "/CN=old", "-addext", "subjectAltName=IP:127.0.0.1")
        made._openssl(*request, "-out", "old.csr")
        copied = ("x509", "-req", "-in", "old.csr", "-copy_extensions", "copyall")
        made._openssl(*copied, "-CA", str(good / "ca.pem"), "-CAkey", str(good / "ca.key"), "-CAcreateserial",
                      "-days", "-1", "-out", "expired.pem")  # fmt: skip
        made._openssl(*copied, "-signkey", str(key), "-days", "2", "-out", "self.pem")
        return made

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, capture_output=True, check=True)

    @property
    def authority(self) -> Path:
        """Who is trusted: both authorities, so that only the name is wrong in the certificate of another host."""
        both = self.folder / "trusted.pem"
        both.write_text("".join((self.folder / name / "ca.pem").read_text() for name in ("good", "wrong")))
        return both

    def context(self, name: str) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        key = self.folder / ("wrong" if name == "wrong" else "good") / "scp.key"
        pem = key.with_suffix(".pem") if name in ("good", "wrong") else self.folder / f"{name}.pem"
        made.load_cert_chain(pem, key)
        return made


class Weather:
    """What is changed around the program for a while: the wall clock, and whether names are found."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.refusals = 0

    @contextlib.contextmanager
    def felt(self) -> Iterator[None]:
        real, look_up, day = time.time, socket.getaddrinfo, dt.datetime
        weather = self

        class Shifted(day):  # type: ignore[valid-type, misc]
            @classmethod
            def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
                return day.now(tz) + dt.timedelta(seconds=weather.ahead)

        def found(*given: Any, **more: Any) -> Any:
            if weather.refusals and given[0] == "localhost":
                weather.refusals -= 1
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return look_up(*given, **more)

        places = [m for name, m in list(sys.modules.items()) if name.startswith("xnat_ingest")]
        places = [module for module in places if getattr(module, "datetime", None) is day]
        time.time, socket.getaddrinfo = lambda: real() + weather.ahead, found
        for module in places:
            module.datetime = Shifted  # type: ignore[attr-defined]
        try:
            yield
        finally:
            time.time, socket.getaddrinfo = real, look_up
            for module in places:
                module.datetime = day  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Ended:
    code: int
    said: str
    report: dict[str, Any]
    seconds: float


class Bench:
    """One stand-in, one tree, one way, one trouble."""

    def __init__(self, way: Way, kind: str, moment: str, folder: Path, certificates: Certificates) -> None:
        self.way, self.kind, self.moment, self.folder = way, KINDS[kind], moment, folder
        self.certificates = certificates
        self.tree = folder / "tree"
        paths = make_session(self.tree / "007" / "pre", SERIES)
        self.wanted = held(paths, lambda path, _: "007_pre")
        self.site = StandIn(folder / "xnat", [Project("DEMO", access={"up": "edit"})], [User("up", PASSWORD)])
        self.weather = Weather()

    @property
    def by_dicom(self) -> bool:
        return self.way.transport == "cstore" and self.moment == "sending"

    def cell(self) -> Cell | str:
        """What became of it; a text where it does not apply."""
        if self.by_dicom and self.kind.no_dicom:
            return f"- ({self.kind.no_dicom})"
        with self.site, contextlib.ExitStack() as stack:
            stranger = stack.enter_context(Scripted(lambda *_: http(200, "A" * 32)))
            receiver = stack.enter_context(self.site.receive()) if self.way.transport == "cstore" else None
            trouble = self._trouble(stranger, receiver)
            lines = self._relays(stack, trouble, receiver)
            with self.weather.felt():
                first = self.upload(*lines)
            whole, strange, doubled = self.counted()
            broken = self._broken(first, whole, strange, doubled, trouble, stranger)
            trouble.times, self.weather.refusals, self.weather.ahead = 0, 0, 0.0
            for line in lines:
                if line is not None:
                    line.tls = line.tls and self.certificates.context("good")
            again = self.upload(*lines)
            broken += self._unfinished(again)
            verified = first.report.get("totals", {}).get("verified", 0)
            return Cell(first.code, verified, whole, again.code, tuple(broken), first.seconds)

    def _trouble(self, stranger: Scripted, receiver: Receiver | None) -> Trouble:
        act = (self.kind.dicom if self.by_dicom else self.kind.http) or self._beside(stranger, receiver)
        return Trouble(act, "DICOM" if self.by_dicom else MOMENTS[self.moment], 0)

    def _beside(self, stranger: Scripted, receiver: Receiver | None) -> Callable[[Struck], bool]:
        """What strikes something else than the request, which is answered."""
        if self.kind.beside == "redirect":
            return Redirect(stranger.url)

        def act(struck: Struck) -> bool:
            if self.kind.beside == "man in the middle":
                struck.relay.tls = self.certificates.context("self")
                return False
            self.weather.ahead = {"clock+": 86400.0, "clock-": -86400.0}.get(self.kind.beside, 0.0)
            self.weather.refusals = {"dns": 3, "dns for good": 10**6}.get(self.kind.beside, 0)
            if self.kind.beside == "restart":
                self.site.restart()
                if receiver is not None and self.by_dicom:
                    receiver.__exit__(None, None, None)
                    receiver.__enter__()
                return False
            if self.by_dicom:
                struck.server.sendall(struck.head)
                return not self.weather.refusals
            struck.client.sendall(struck.forward())
            return not self.weather.refusals

        return act

    def _relays(
        self, stack: contextlib.ExitStack, trouble: Trouble, receiver: Receiver | None
    ) -> tuple[Relay, Relay | None]:
        tls = self.certificates.context(self.kind.tls) if self.kind.tls else None
        none = Trouble(lambda _: True, "", times=0)
        rest = Relay(self.site.port, none if self.by_dicom else trouble, None if self.by_dicom else tls)
        stack.enter_context(rest)
        if receiver is None:
            return rest, None
        dicom = Relay(receiver.port, trouble if self.by_dicom else none, tls if self.by_dicom else None, raw=True)
        dicom.break_after = 20_000
        return rest, stack.enter_context(dicom)

    def upload(self, rest: Relay, dicom: Relay | None) -> Ended:
        scheme = "http" if rest.tls is None else "https"
        environ = {"XNAT_HOST": f"{scheme}://localhost:{rest.port}", "XNAT_USER": "up", "XNAT_PASS": PASSWORD}
        if self.kind.tls:  # a name that all of the certificates but one are for
            environ["XNAT_HOST"] = f"{scheme}://127.0.0.1:{rest.port}"
        command = ["upload", str(self.tree), "-P", "DEMO", "--destination", self.way.destination]
        command += ["--timeout", str(TIMEOUT), "--retry-budget", "6", "--part-size", "60K", "-w", "2"]
        command += ["--report", str(self.folder / "report.json")]
        if rest.tls is not None:
            command += ["--ca-bundle", str(self.certificates.authority)]
        if dicom is not None:
            host = "localhost" if self.kind.beside.startswith("dns") else "127.0.0.1"
            command += ["--transport", "cstore", "--dicom-host", host, "--dicom-port", str(dicom.port)]
            command += ["--dicom-tls-ca", str(self.certificates.authority)] if dicom.tls is not None else []
        elif self.way.transport == "gradual":
            command += ["--transport", "gradual"]
        else:
            command += ["--archive-format", self.way.transport]
        return self._run(command, {**environ, "HOME": str(self.folder)})

    def _run(self, command: Sequence[str], environ: dict[str, str]) -> Ended:
        (self.folder / "report.json").unlink(missing_ok=True)
        said, old = io.StringIO(), {name: os.environ.get(name) for name in environ}
        begun = time.monotonic()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            os.environ.update(environ)
            try:
                code = run_program(list(command))
            finally:
                for name, value in old.items():
                    os.environ.pop(name) if value is None else os.environ.update({name: value})
        seconds = time.monotonic() - begun
        path = self.folder / "report.json"
        return Ended(code, said.getvalue(), json.loads(path.read_text()) if path.exists() else {}, seconds)

    def counted(self) -> tuple[int, int, int]:
        """Instances on the disk that are as in their files; files that are not; instances that are there twice."""
        stamped = STAMPED if self.way.transport == "cstore" else frozenset()
        there: Held = []
        strange = 0
        for path in files_of(self.site):
            try:
                there += held([path], lambda path, _: path.parts[-5])
            except Exception:  # noqa: BLE001 - half a header is read as anything
                strange += 1
        there, wanted = but(stamped, there), but(stamped, self.wanted)
        whole = {uid for uid, label, has in there if (uid, label, has) in wanted}
        strange += sum(one not in wanted for one in there)
        return len(whole), strange, sum(n - 1 for n in Counter(uid for uid, _, _ in there).values())

    def _broken(
        self, ended: Ended, whole: int, strange: int, doubled: int, trouble: Trouble, stranger: Scripted
    ) -> list[str]:
        """What must not be, after the first run."""
        found = []
        from_the_start = self.kind.tls not in ("", "good")
        totals = ended.report.get("totals", {})
        if not trouble.hits and not from_the_start:
            found.append("never struck")
        if ended.code not in ENDS or "Traceback" in ended.said or not ended.report:
            found.append(f"ended with {ended.code}: {ended.said[-200:]}")
        if ended.code == 0 and (whole != TOTAL or strange):
            found.append(f"a lie: {whole} of {TOTAL} there, {strange} damaged")
        if totals.get("verified", 0) + totals.get("counted", 0) > whole:
            found.append(f"a lie: {totals} with {whole} there")
        if doubled:
            found.append(f"{doubled} doubled")
        if ended.seconds > PATIENCE:
            found.append(f"{ended.seconds:.0f} s")
        if stranger.asked:
            found.append(f"a stranger was asked: {stranger.asked[0].line}")
        if PASSWORD in ended.said + json.dumps(ended.report):
            found.append("the password is shown")
        if from_the_start and (whole or ended.code == 0):
            found.append("sent all the same")
        return found

    def _unfinished(self, again: Ended) -> list[str]:
        whole, strange, doubled = self.counted()
        rows = sorted(row.status for row in self.site.rows("DEMO"))
        left = ["READY"] if self.way.destination == "prearchive" else []
        if (again.code, whole, strange, doubled, rows) == (0, TOTAL, 0, 0, left):
            return [f"inside the stand-in: {self.site.errors[0]}"] if self.site.errors else []
        problems = [f"{one['kind']}: {one['detail']}" for one in again.report.get("problems", [])]
        there = f"{whole} there, {strange} damaged, {doubled} doubled, rows {rows}"
        return [f"not finished: exit {again.code}, {there}, {problems or again.said[-300:]}"]


def told(way: Way, kind: str, moment: str, certificates: Certificates) -> Cell | str:
    with tempfile.TemporaryDirectory(prefix="faults-") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Bench(way, kind, moment, Path(name), certificates).cell()


def combinations() -> Iterator[tuple[str, str, list[Way]]]:
    """Kind, moment, ways: each kind while sending, every way; while committing and listing, which are the same for
    all of HTTP, by tar and by C-STORE."""
    for kind in KINDS:
        yield kind, "sending", WAYS
    for moment in ("committing", "listing"):
        for kind, has in KINDS.items():
            if has.tls in ("", "good"):
                yield kind, moment, [way for way in WAYS if way.transport in ("tar", "cstore")]


def main(argv: Sequence[str], say: Callable[[str], None] = print) -> int:
    """All cells, or those whose `kind, moment, transport, destination` holds every word."""
    shorten()
    cells: list[tuple[str, str, Way, Cell | str]] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        certificates = Certificates.make(Path(name))
        for kind, moment, ways in combinations():
            for way in ways:
                if all(word in f"{kind}, {moment}, {way}" for word in argv):
                    cells.append((kind, moment, way, told(way, kind, moment, certificates)))
                    print(kind, moment, way, cells[-1][-1], file=sys.stderr, flush=True)
    broken = sum(bool(cell.broken) for *_, cell in cells if isinstance(cell, Cell))
    for line in _lines(cells):
        say(line)
    applied = sum(isinstance(cell, Cell) for *_, cell in cells)
    say(f"\n{len(cells)} cells, {applied} of them runs, each run again: {broken} broken.")
    return 1 if broken else 0


def _lines(cells: Sequence[tuple[str, str, Way, Cell | str]]) -> Iterator[str]:
    for moment in dict.fromkeys(moment for _, moment, _, _ in cells):
        of_it = [(kind, way, cell) for kind, when, way, cell in cells if when == moment]
        ways = list(dict.fromkeys(way for _, way, _ in of_it))
        yield f"\nWhile {moment}:\n"
        yield "| trouble | " + " | ".join(map(str, ways)) + " |"
        yield "|---" * (1 + len(ways)) + "|"
        for kind in dict.fromkeys(kind for kind, _, _ in of_it):
            row = {str(way): str(cell) for name, way, cell in of_it if name == kind}
            yield f"| {kind} | " + " | ".join(row.get(str(way), "") for way in ways) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
