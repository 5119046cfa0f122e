"""One command, measured: wall, processor time, memory, temporary bytes."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LOOK = 0.1  # seconds between two looks at memory and at temporary files


@dataclass(frozen=True)
class Measured:
    """wall, cpu: seconds, cpu of all its processes; memory: most bytes of all its processes together; temporary: most
    bytes under TMPDIR, deleted files that are still open among them; said: the end of what it printed."""

    code: int
    wall: float
    cpu: float
    memory: int
    temporary: int
    said: str


def measure(command: Sequence[str], environ: Mapping[str, str], folder: Path) -> Measured:
    """Runs a command in a folder, which is its TMPDIR and HOME, too."""
    out = folder / "said"
    plain = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
    with out.open("wb") as said:
        begun = time.monotonic()
        process = subprocess.Popen(
            command, env={**plain, **environ}, cwd=folder, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        watcher = _Watcher(process.pid, folder)
        watcher.start()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    watcher.end()
    return Measured(
        process.returncode,
        wall,
        used.ru_utime + used.ru_stime,
        watcher.memory,
        watcher.temporary,
        out.read_text("utf-8", "replace")[-600:],
    )


class _Watcher(threading.Thread):
    def __init__(self, pid: int, folder: Path) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._folder = str(folder)
        self._ended = threading.Event()
        self.memory = 0
        self.temporary = 0

    def run(self) -> None:
        while not self._ended.wait(_LOOK):
            pids = list(_family(self._pid))
            self.memory = max(self.memory, sum(map(_share, pids)), *map(_peak, pids))
            self.temporary = max(self.temporary, _below(self._folder) + sum(_unlinked(p, self._folder) for p in pids))

    def end(self) -> None:
        self._ended.set()
        self.join()


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                found += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())
    return found


def _share(pid: int) -> int:
    """A process's own memory and its share of what it shares, in bytes."""
    return _told(pid, "smaps_rollup", "Pss:")


def _peak(pid: int) -> int:
    """The most memory that a process has had, in bytes; wait4 would count what was before its exec, too."""
    return _told(pid, "status", "VmHWM:")


def _told(pid: int, name: str, key: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return 0


def _below(folder: str) -> int:
    total = 0
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                total += _below(entry.path)
            elif entry.name not in ("said", "report.json"):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def _unlinked(pid: int, folder: str) -> int:
    total = 0
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                if target.startswith(folder) and target.endswith("(deleted)"):
                    total += os.stat(f"/proc/{pid}/fd/{name}").st_size
    return total
