"""Runs killed at random moments, each followed by a rerun of the same command: `python -m tests.killing 30`.

A third word, a profile of --deidentify, rewrites headers on the way: then an instance is its new UID and its pixels.
With a fourth word, `all`, the kills are spread over all transports, each with a server and a tree of its own.

One stand-in process, one tree that grows by a subject whenever a run ends by itself. At the end every instance must be
on the server's disk exactly once and as in its file, and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from tests.contract.table import held
from tests.dicom_trees import CT, Series, make_session
from tests.kinds import make_kinds
from tests.planted import PERSON, leaks
from tests.standin.samples import Client
from tests.transport_flags import TRANSPORT_FLAGS, transport_flags

PASSWORD = "driver"
KEY = "a key for the driver that kills, of no other use"
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP)
# Who is named in what is sent with a profile.
NAMED = {
    "PatientName": PERSON.name,
    "PatientID": PERSON.patient_id,
    "PatientBirthDate": PERSON.birth,
    "AccessionNumber": PERSON.accession,
    "PatientComments": f"seen with {PERSON.name}, {PERSON.phone}",
}
# With a profile; without one, tests/kinds.py has all that there is.
PLAIN = (
    Series("T1_0001", 6, tags=NAMED),
    Series("CT_0002", 4, CT, tags=NAMED),
    Series("SR_0003", 4, "test-SR.dcm", tags=NAMED),
    Series("plan_0005", 2, "rtplan.dcm", tags=NAMED),
)


# Objects with few pixels below a long header: a cut copy of these can look whole.
def long_headers(tags: dict[str, str]) -> tuple[Series, ...]:
    return (
        Series("long-header_0001", 3, tags={**tags, "EncapsulatedDocument": bytes(150_000)}),
        Series("T1_0002", 6, tags=tags),
    )


AFTER_START = 1.0  # seconds
# Bodies, building and archiving take long enough to be struck.
SLOW = (
    {"kind": "slow", "match": "POST /data/services/import", "rate": 1_000_000, "times": None},
    {"kind": "slow-build", "seconds": 0.05, "times": None},
    {"kind": "slow-archive", "seconds": 0.15, "times": None},
    {"kind": "delay", "match": "GET /data/experiments", "seconds": 0.05, "times": None},
)


@dataclass
class Figures:
    """What was done, and what was found at the end."""

    kills: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    runs: int = 0
    sessions: int = 0
    instances: int = 0
    lacking: int = 0
    extra: int = 0
    rows: int = 0
    leaked: int = 0
    last_code: int = -1
    last_log: str = ""
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        return not (self.lacking or self.extra or self.rows or self.leaked or self.last_code)

    def __str__(self) -> str:
        def listed(counter: Counter[str] | Counter[int]) -> str:
            return ", ".join(f"{key} {number}" for key, number in sorted(counter.items(), key=str))

        return (
            f"{sum(self.kills.values())} kills ({listed(self.kills)}), struck after: {listed(self.struck)}\n"
            f"{self.runs} runs, exit codes (times): {listed(self.codes)}; last run: {self.last_code}\n"
            f"{self.sessions} sessions, {self.instances} instances; lacking or damaged {self.lacking}, "
            f"extra {self.extra}, rows left {self.rows}, files that name the patient {self.leaked}; "
            f"{self.seconds:.0f} s: " + ("clean" if self.clean else f"NOT CLEAN\n{self.last_log[-3000:]}")
        )


@contextmanager
def standin(root: Path) -> Iterator[tuple[str, str]]:
    """A stand-in process; its address, and the port of its DICOM receiver."""
    command = [sys.executable, "-m", "tests.standin", "--root", str(root), "--project", "DEMO:4", "--user", "up"]
    command += ["--dicom-port", "0"]
    environ = os.environ | {"STANDIN_PASS": PASSWORD, "STANDIN_FAULTS": json.dumps(SLOW)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, text=True) as process:
        assert process.stdout is not None
        try:
            url, receiver = (process.stdout.readline().split()[1] for _ in range(2))
            yield url, receiver.rpartition(":")[2]
        finally:
            process.terminate()


class Driver:
    """The tree, the command, and what becomes of its runs."""

    def __init__(self, folder: Path, url: str, seed: int, profile: str = "", way: Sequence[str] = ()) -> None:
        """way: the flags of a transport."""
        self.folder = folder
        self.profile = profile
        self.way = way
        self.url = url
        self.tree = folder / "tree"
        self.figures = Figures()
        self._random = random.Random(seed)
        self._span = 0.0

    def grow(self) -> None:
        """One more subject: every kind of object, or those that can be rewritten, and one session of long headers."""
        subject = f"{len(list(self.tree.glob('*'))):03d}"
        if self.profile:
            make_session(self.tree / subject / "plain", PLAIN, f"{self.folder.name}-{subject}-plain")
        else:
            make_kinds(self.tree, subject, seed=self.folder.name)
        # Without a profile, each person has one PatientID in all sessions.
        long = long_headers(NAMED if self.profile else {})
        make_session(self.tree / subject / "long", long, f"{self.folder.name}-{subject}-long")

    def start(self) -> subprocess.Popen[str]:
        """The same command every time."""
        command = [sys.executable, "-m", "tests.short_waits", "upload", str(self.tree), "-P", "DEMO"]
        command += [
            "--report",
            str(self.folder / "report.json"),
            "--log-format",
            "json",
            "--part-size",
            "600K",
            *self.way,
        ]
        command += ["--deidentify", self.profile] if self.profile else []
        environ = os.environ | {"XNAT_HOST": self.url, "XNAT_USER": "up", "XNAT_PASS": PASSWORD}
        environ |= {"XNAT_INGEST_DEID_KEY": KEY}
        (self.folder / "report.json").unlink(missing_ok=True)
        self.figures.runs += 1
        with (self.folder / "log").open("w") as log:
            return subprocess.Popen(command, env=environ, text=True, stdout=subprocess.DEVNULL, stderr=log)

    def finish(self, process: subprocess.Popen[str]) -> int:
        code = process.wait(60)
        self.figures.codes[code] += 1
        return code

    def undisturbed(self) -> None:
        """How long a run over one new subject takes."""
        self.grow()
        begun = time.monotonic()
        code = self.finish(self.start())
        assert code == 0, (self.folder / "log").read_text()[-3000:]
        self._span = time.monotonic() - begun
        self.grow()

    def kill_one(self, number: int) -> bool:
        """One run, struck at a random moment of what a whole run takes, or, every other pair of times, soon after it
        has begun with sessions, when it looks at what the run before has left. False when it had ended before."""
        process = self.start()
        span = self._span
        if number % 4 > 1:
            self._wait_for_sessions(process)
            span = AFTER_START
        try:
            code = process.wait(self._random.uniform(0, span))
        except subprocess.TimeoutExpired:
            self._strike(process, SIGNALS[number % len(SIGNALS)])
            return True
        self.figures.codes[code] += 1
        assert code == 0, (self.folder / "log").read_text()[-3000:]
        self.grow()
        return False

    def _wait_for_sessions(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None and "session_started" not in (self.folder / "log").read_text():
            time.sleep(0.01)

    def _strike(self, process: subprocess.Popen[str], number: signal.Signals) -> None:
        lines = (self.folder / "log").read_text().splitlines()
        process.send_signal(number)
        code = self.finish(process)
        self.figures.kills[number.name] += 1
        self.figures.struck[json.loads(lines[-1])["event"] if lines else "start"] += 1
        # Before the handlers are there a signal ends the process in the system's way; and it may come too late.
        expected = {-number} if number == signal.SIGKILL else {-number, 143, 0}
        assert code in expected, (code, (self.folder / "log").read_text()[-3000:])
        if code == 143 and (self.folder / "log").read_text():  # before the run begins there is no report
            report = json.loads((self.folder / "report.json").read_text())
            totals = report["totals"]
            assert report["exit_code"] == 143
            assert totals["files_seen"] == totals["planned"] + totals["set_aside"]

    def settle(self) -> None:
        """The same command once more must finish the job; then the server's disk is compared with the tree."""
        self.figures.last_code = self.finish(self.start())
        self.figures.last_log = (self.folder / "log").read_text()
        sources = _digests(self.tree.rglob("IM*"), rewritten if self.profile else _elements)
        kept = _digests((self.folder / "xnat/archive").rglob("*.dcm"), as_stored if self.profile else _elements)
        self.figures.sessions = len(list(self.tree.glob("*/*")))
        self.figures.instances = sources.total()
        self.figures.lacking = (sources - kept).total()
        strays = [path for path in (self.folder / "xnat/prearchive").rglob("*") if path.is_file()]
        self.figures.extra = (kept - sources).total() + len(strays)
        if self.profile:
            written = [path for path in self.folder.rglob("*") if path.is_file() and self.tree not in path.parents]
            self.figures.leaked = sum(bool(leaks(path.read_bytes(), PERSON)) for path in written)
        client = Client(self.url, "up", PASSWORD).login()
        self.figures.rows = len(client("GET", "/data/prearchive/projects/DEMO", format="json").rows)
        client.close()


def _digests(paths: Iterator[Path], what: Callable[[Path], bytes]) -> Counter[str]:
    return Counter(hashlib.sha256(what(path)).hexdigest() for path in paths)


def _elements(path: Path) -> bytes:
    """As they are encoded: what is inflated or gets a header on its way is the same object."""
    return repr(held([path], lambda *_: "")).encode()


def as_stored(path: Path) -> bytes:
    """UID and pixels; nothing else is the same after headers were rewritten."""
    dataset = pydicom.dcmread(path)
    said = f"{dataset.SOPInstanceUID} {dataset.get('PatientIdentityRemoved')}"
    return said.encode() + bytes(dataset.get("PixelData", b""))


def rewritten(path: Path) -> bytes:
    """What as_stored is to be of a source file."""
    dataset = pydicom.dcmread(path)
    digest = hmac.new(KEY.encode(), b"uid\0" + str(dataset.SOPInstanceUID).encode(), hashlib.sha256).digest()
    uid = f"2.25.{int.from_bytes(digest[:16], 'big')}"
    return f"{uid} YES".encode() + bytes(dataset.get("PixelData", b""))


def drive(
    kills: int, folder: Path, *, seed: int, seconds: float = 3600.0, profile: str = "", transport: str = ""
) -> Figures:
    """So many kills, or as many as the time allows; then the end state.

    transport: a name of TRANSPORT_FLAGS, or "" for the usual way.
    """
    begun = time.monotonic()
    with standin(folder / "xnat") as (url, port):
        way = transport_flags(transport, int(port)) if transport else ()
        driver = Driver(folder, url, seed, profile, way)
        driver.undisturbed()
        done = 0
        while done < kills and time.monotonic() - begun < seconds:
            done += driver.kill_one(done)
        driver.settle()
    driver.figures.seconds = time.monotonic() - begun
    return driver.figures


def main(argv: Sequence[str]) -> int:
    number, seed_word, profile, ways = (*(argv or ("30",)), "", "", "")[:4]
    seed = int(seed_word) if seed_word else random.SystemRandom().randrange(10**6)
    transports = tuple(TRANSPORT_FLAGS) if ways == "all" else (ways,)
    clean = True
    for place, transport in enumerate(transports):
        kills = int(number) // len(transports) + (place < int(number) % len(transports))
        with tempfile.TemporaryDirectory(prefix="kills-") as name:
            figures = drive(kills, Path(name), seed=seed, profile=profile, transport=transport)
        print(f"{transport or 'usual transport'}, seed {seed}: {figures}", flush=True)
        clean = clean and figures.clean
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
