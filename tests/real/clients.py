"""Real clients of XNAT, each installed from the package registry into an environment of its own."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.debian import NotInstalledError
from tests.environments import NotMadeError, make_environment

ROOT = Path(__file__).parent.parent.parent
HOME = ROOT / ".venv-real"
PACKAGES = {
    "xnatpy": ("xnat==0.8.1",),
    "pyxnat": ("pyxnat==1.6.4", "nibabel==5.4.2", "pandas==3.1.1"),  # it imports the other two, and does not say so
    "xnatctl": ("xnatctl==0.6.0",),
    "kubernetes": ("kubernetes-validate==1.37.0",),
    "selenium": ("selenium==4.40.0",),
}
RUNNING = 150.0


def install(name: str) -> Path:
    """The folder of a client's programs; it is made once, and again when what it needs has changed."""
    home = HOME / name
    stamp = home / ".ready"
    wanted = "\n".join([str(home), sys.version, *PACKAGES[name]]) + "\n"
    HOME.mkdir(exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            try:
                make_environment(home, *PACKAGES[name])
            except NotMadeError as error:
                raise NotInstalledError(str(error)) from error
            stamp.write_text(wanted)
    return home / "bin"


@dataclass(frozen=True)
class Client:
    """A client that is installed. folder: its home and its place for temporary files, so that nothing of it stays."""

    programs: Path
    folder: Path
    environ: Mapping[str, str]

    def __call__(self, *words: str, said: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """Runs one of its programs to the end. said: what it reads on stdin."""
        plain = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "TMPDIR": str(self.folder), "LANG": "C.UTF-8"}
        return subprocess.run(
            [str(self.programs / words[0]), *words[1:]],
            input=said,
            capture_output=True,
            text=True,
            timeout=RUNNING,
            env={**plain, **self.environ, **environ},
            cwd=self.folder,
        )

    def drive(self, script: str, task: str, **given: Any) -> dict[str, Any]:
        """What a task of a driver script beside this file brings home; an exception in it is one here."""
        answer = self.folder / f"{task}.json"
        driver = str(Path(__file__).with_name(script))
        done = self("python", "-I", driver, task, str(answer), said=json.dumps(given))
        if done.returncode:
            raise DriverError(done.stderr)
        found: dict[str, Any] = json.loads(answer.read_text())
        return found


class DriverError(Exception):
    """A driver script ended with an exception; its traceback."""
