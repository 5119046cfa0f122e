"""What the machine does to an upload: full disks, no handles, little memory, closed streams, a tree that changes.

`python -m tests.contract.surroundings` runs every case and prints a Markdown table; words choose cases by their names.
tests/contract/test_surroundings.py holds the cheap ones. The program runs as a process of its own. Then the same
command runs again in plain surroundings, and what lies on the stand-in's disk is held against the tree.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.contract.table import files_of, held
from tests.dicom_trees import CT, Series, make_session
from tests.short_waits import shorten
from tests.standin import Fault, Project, StandIn, User
from xnat_ingest.cli import main as run_program

PASSWORD = "of the surroundings"
SERIES = (Series("T1_0001", 4), Series("CT_0002", 3, CT), Series("SR_0003", 1, "test-SR.dcm"))
PARTS = "POST /data/services/import"
SECONDS = 90


@dataclass(frozen=True)
class Ended:
    code: int
    said: str


@dataclass(frozen=True)
class Case:
    """One row of the table.

    codes: how the run may end
    says: what stands in its output
    again: how the same command ends in plain surroundings
    lost: instances that nobody can send any more
    before: prepares the place
    during: is done while the first part is under way
    after: is done before the same command
    shell: what a shell does before it becomes the program
    words: what stands before that
    environ: None removes a variable
    command: the program's
    seconds: in which a run must end
    module: what is started; tests.short_waits keeps send buffers small, which takes long for gigabytes
    """

    codes: tuple[int, ...] = (0,)
    says: str = ""
    again: int = 0
    lost: int = 0
    before: Callable[[Place], object] = lambda place: None
    during: Callable[[Place], object] | None = None
    after: Callable[[Place], object] = lambda place: None
    shell: str = ""
    words: tuple[str, ...] = ()
    environ: dict[str, str | None] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    command: str = "upload"
    runs: int = 1
    needs_root: bool = False
    cheap: bool = True
    seconds: float = SECONDS
    module: str = "tests.short_waits"


class Place:
    """A folder with a tree, a stand-in, and the program's processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "tree"
        self.site = StandIn(folder / "xnat", [Project("DEMO", access={"up": "edit"})], [User("up", PASSWORD)])
        self.processes: list[subprocess.Popen[bytes]] = []
        self.report = folder / "report.json"
        make_session(self.tree / "007" / "pre", SERIES)

    def one(self, number: int = 3) -> Path:
        return sorted(path for path in self.tree.rglob("IM*") if path.is_file())[number]

    @property
    def environ(self) -> dict[str, str]:
        return {"XNAT_HOST": self.site.url, "XNAT_USER": "up", "XNAT_PASS": PASSWORD}

    def words(self, case: Case, number: int = 0) -> list[str]:
        report = self.report.with_stem(f"report{number or ''}")
        return [case.command, str(self.tree), "-P", "DEMO", "--part-size", "60K", "-w", "2", "--timeout", "5",
                "--report", str(report), *case.flags]  # fmt: skip

    def start(self, case: Case, number: int = 0) -> subprocess.Popen[bytes]:
        before = ("sh", "-c", f'{case.shell} && exec "$@"', "sh") if case.shell else ()
        environ: dict[str, str | None] = {"HOME": str(self.folder), "PATH": os.environ["PATH"], **self.environ}
        environ |= case.environ
        process = subprocess.Popen(
            [*case.words, *before, sys.executable, "-m", case.module, *self.words(case, number)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: value for name, value in environ.items() if value is not None},
        )
        self.processes.append(process)
        return process

    def ended(self, case: Case) -> list[Ended]:
        """The program's runs in these surroundings."""
        hold = self.site.faults.add(Fault("delay", PARTS, seconds=0.5)) if case.during else None
        processes = [self.start(case, number) for number in range(case.runs)]
        try:
            if case.during and hold:
                until = time.monotonic() + SECONDS
                while not hold.hits and time.monotonic() < until and processes[0].poll() is None:
                    time.sleep(0.01)
                case.during(self)
            return [self._end(process, case.seconds) for process in processes]
        finally:
            for process in processes:
                process.kill()
            self.site.faults.clear()

    @staticmethod
    def _end(process: subprocess.Popen[bytes], seconds: float) -> Ended:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err += f"\nit did not end in {seconds:.0f} s".encode()
        return Ended(process.returncode, (out + err).decode("utf-8", "backslashreplace"))

    def again(self, case: Case) -> Ended:
        """The same command in this process, with nothing in its way."""
        said = io.StringIO()
        old = dict(os.environ)
        os.environ.update({**self.environ, "HOME": str(self.folder)})
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                return Ended(run_program(["upload", *self.words(case)[1:]]), said.getvalue())
        finally:
            os.environ.clear()
            os.environ.update(old)

    def broken(self, allowed: int = 0) -> str:
        """What the server's disk has otherwise than the tree, "" when it has the same. allowed: to be lost."""
        paths = [path for path in self.tree.rglob("*") if path.is_file() and not path.is_symlink()]
        wanted = held((path for path in paths if _is_dicom(path)), lambda path, _: _label(path, self.tree))
        there = held(files_of(self.site), lambda path, _: path.parts[-5])
        counts = Counter(uid for uid, _, _ in there)
        lost = [uid for uid, _, _ in wanted if uid not in counts]
        strange = [one for one in there if one not in wanted]
        doubled = [uid for uid, number in counts.items() if number > 1]
        if len(lost) == allowed and not strange and not doubled:
            return ""
        return f"{len(lost)} lost, {len(doubled)} doubled, {len(strange)} strange"


def _label(path: Path, tree: Path) -> str:
    """The session's label: its folders, subject and session."""
    return "_".join(path.relative_to(tree).parts[:2])


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132).endswith(b"DICM")


def judged(case: Case, folder: Path) -> tuple[list[Ended], Ended, str]:
    """The runs, the run afterwards, and what must not be ("" for nothing)."""
    place = Place(folder)
    with place.site:
        case.before(place)
        runs = place.ended(case)
        wrong = [f"exit {one.code}" for one in runs if one.code not in case.codes]
        wrong += ["a traceback" for one in runs if "Traceback" in one.said]
        wrong += [f"says nothing of {case.says!r}" for one in runs if case.says not in one.said][:1]
        if case.command == "upload" and 0 in [one.code for one in runs] and (lie := place.broken()):
            wrong.append(f"a lie: {lie}")
        case.after(place)
        again = place.again(case)
        if again.code != case.again:
            wrong.append(f"then exit {again.code}: {again.said[-300:]}")
        if left := place.broken(case.lost):
            wrong.append(f"in the end {left}")
        if rows := place.site.rows("DEMO"):
            wrong.append(f"in the end {len(rows)} rows")
        wrong += [f"inside the stand-in: {error}" for error in place.site.errors[:1]]
    return runs, again, "; ".join(wrong)


# -- what is done


def mounted(place: Place, size: str = "64m") -> None:
    """The tree on a disk of its own."""
    shutil.move(place.tree, place.folder / "aside")
    place.tree.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place.tree], check=True)
    shutil.copytree(place.folder / "aside", place.tree, dirs_exist_ok=True)


def mounted_again(place: Place) -> None:
    shutil.copytree(place.folder / "aside", place.tree, dirs_exist_ok=True)


def unmounted(place: Place) -> None:
    subprocess.run(["umount", "-l", place.tree], check=True)


def small_disk(place: Place) -> None:
    """Where the report goes: a page and no more."""
    disk = place.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", disk], check=True)
    place.report = disk / "report.json"


def filled_disk(place: Place) -> None:
    (place.report.parent / "other").write_bytes(bytes(8192))


def larger_disk(place: Place) -> None:
    (place.report.parent / "other").unlink()
    subprocess.run(["mount", "-o", "remount,size=1m", place.report.parent], check=True)


def replaced(place: Place) -> None:
    """Another object under the same name, of another size."""
    place.one().write_bytes(place.one(6).read_bytes() + b"\0\0")


def truncated(place: Place) -> None:
    os.truncate(place.one(), 3000)


def unreadable(place: Place) -> None:
    place.one().chmod(0)


def odd_kinds(place: Place) -> None:
    """What is no file: a pipe, a socket, devices, links in circles and to nowhere."""
    folder = place.tree / "007" / "pre" / "T1_0001"
    os.mkfifo(folder / "pipe")
    with contextlib.suppress(OSError):
        os.mknod(folder / "zero", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        os.mknod(folder / "disk", 0o600 | stat.S_IFBLK, os.makedev(7, 0))
    here = Path.cwd()
    os.chdir(folder)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
    finally:
        os.chdir(here)
    (folder / "up").symlink_to("../../..")
    (folder / "self").symlink_to("self")
    (folder / "gone").symlink_to("nowhere")


ODD_NAMES = (
    b"IM" + b"x" * 253,
    b"IM\nline",
    b"IM\x1b[2J\x1b]0;x\x07",
    b"IM\xff\xfe\x80",
    b"--existing=overwrite",
    b"-rf",
    "IM\u202eä".encode(),
    b"IM%s%n'\"$(x)",
)


def odd_names(place: Place) -> None:
    """Every object of the first series under one of them, and folders so, too."""
    folder = os.fsencode(place.tree / "007" / "pre")
    for name, path in zip(ODD_NAMES, sorted(place.tree.rglob("IM*")), strict=True):
        os.rename(path, os.path.join(folder, name))  # noqa: PTH104, PTH118 - bytes that are no text
    for name in ODD_NAMES[:4]:
        os.mkdir(os.path.join(folder, b"of" + name[2:]))  # noqa: PTH102, PTH118 - likewise


def many_sessions(place: Place) -> None:
    """Enough of them for every thread."""
    for number in range(20):
        make_session(place.tree / "007" / f"more{number}", SERIES[:1])


def in_four_gigabytes(place: Place) -> None:
    """Two sparse objects of 2 GB each, honest to the last byte."""
    for number in (0, 1):
        path = place.one(number)
        data = path.read_bytes()
        at = data.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
        length = 2_000_000_000
        path.write_bytes(data[:at] + length.to_bytes(4, "little"))
        os.truncate(path, at + 4 + length)


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(text) for text in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def terminate_inside(place: Place) -> None:
    os.kill(children_of(place.processes[0])[0], signal.SIGTERM)


def no_reader(place: Place) -> None:
    """Whoever reads the output has gone."""
    process = place.processes[0]
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
        with contextlib.suppress(OSError):
            null = Path(os.devnull).open("rb")  # noqa: SIM115 - it is the process's own now
            if stream is process.stdout:
                process.stdout = null
            else:
                process.stderr = null


# Every folder that Python would take, the working one too.
_READ_ONLY = 'for d in /tmp /var/tmp "$PWD"; do mount --bind -o ro $d $d; done; exec "$@"'
_NO_TEMP = ("unshare", "--mount", "sh", "-c", _READ_ONLY, "sh")
_NO_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
_PID_1 = ("unshare", "--fork", "--pid", "--kill-child", "--mount-proc")

# The stand-in answers when it has stored two gigabytes.
LARGE: dict[str, Any] = {"flags": ("--timeout", "300"), "seconds": 900, "module": "xnat_ingest"}

CASES: dict[str, Case] = {
    "report on a full disk": Case(
        (1,), "report", before=small_disk, during=filled_disk, after=larger_disk, needs_root=True
    ),
    "report longer than a file may be": Case((1,), "report", shell="ulimit -f 1", cheap=False),
    "32 handles": Case(shell="ulimit -n 32"),
    "8 handles": Case((0, 1, 2, 3, 5), shell="ulimit -n 8", cheap=False),
    "256 MB of addresses": Case(before=many_sessions, shell="ulimit -v 262144", flags=("-w", "4")),
    "256 MB, a plan of 4 GB": Case(
        before=in_four_gigabytes, command="plan", shell="ulimit -v 262144", cheap=False, **LARGE
    ),
    "256 MB, 4 GB sent": Case(
        before=in_four_gigabytes, shell="ulimit -v 262144", cheap=False, **LARGE
    ),
    "HOME unset": Case(environ={"HOME": None}, cheap=False),
    "HOME that does not exist": Case(environ={"HOME": "/nowhere"}, cheap=False),
    "no folder for temporary files": Case(words=_NO_TEMP, environ={"TMPDIR": "/nowhere"}, needs_root=True),
    "LC_ALL=C and odd names": Case(before=odd_names, environ={"LC_ALL": "C", "PYTHONUTF8": "0"}),
    "odd names": Case(before=odd_names, environ={"LC_ALL": "C.UTF-8"}, cheap=False),
    "stdout closed": Case(shell="exec >&-", cheap=False),
    "stderr closed": Case(shell="exec 2>&-", cheap=False),
    "all streams closed": Case(shell="exec <&- >&- 2>&-"),
    "nobody reads the output": Case((0, 1, 141), during=no_reader, flags=("-v",), cheap=False),
    "SIGHUP": Case((143,), during=lambda place: place.processes[0].send_signal(signal.SIGHUP), cheap=False),
    "SIGPIPE": Case(during=lambda place: place.processes[0].send_signal(signal.SIGPIPE), cheap=False),
    "SIGTERM as process 1": Case((143,), words=_PID_1, during=terminate_inside, needs_root=True),
    "process 1": Case(words=_PID_1, needs_root=True, cheap=False),
    "two runs at once": Case((0, 3), runs=2, cheap=False),
    "five runs at once": Case((0, 3), runs=5, cheap=False),
    "the tree is unmounted": Case((1, 3), before=mounted, during=unmounted, after=mounted_again, needs_root=True),
    "a file is replaced": Case((3,), "changed since", during=replaced, flags=("-w", "1"), again=3, cheap=False),
    "a file is cut": Case((3,), "changed since", during=truncated, flags=("-w", "1"), again=3, lost=1),
    "a file is made unreadable": Case((3,), "denied", during=unreadable, words=_NO_RIGHTS, needs_root=True),
    "a file goes away": Case((3,), "No such file", during=lambda place: place.one().unlink(), cheap=False),
    "pipes, sockets, devices, circles": Case((3,), before=odd_kinds, again=3),
}  # fmt: skip


@contextlib.contextmanager
def a_folder() -> Iterator[Path]:
    """Whatever was mounted below it is gone at the end. In memory, beside the folders for temporary files."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="surroundings-", dir=memory if memory.is_dir() else None) as name:
        try:
            yield Path(name)
        finally:
            for place in ("tree", "disk"):
                if os.path.ismount(Path(name) / place):
                    subprocess.run(["umount", "-l", Path(name) / place], check=False)


def main(argv: Sequence[str], say: Callable[[str], None] = print) -> int:
    """All cases, or those whose name holds a word."""
    shorten()
    broken = 0
    say("| surroundings | exit codes | then | |")
    say("|---|---|---|---|")
    for name in (name for name in CASES if not argv or any(word in name for word in argv)):
        with a_folder() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runs, again, wrong = judged(CASES[name], folder)
        broken += bool(wrong)
        last = next((line for one in runs for line in reversed(one.said.splitlines()) if line), "")
        say(f"| {name} | {', '.join(str(one.code) for one in runs)} | {again.code} | {wrong or last} |")
    say(f"\n{broken} of them are broken.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
