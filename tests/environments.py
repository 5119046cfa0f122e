"""Environments for what must not share the project's own: other clients, the fuzzers, tools for a release.

``python -m tests.environments FOLDER REQUIREMENT...`` makes one, or adds to the one that it runs in.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

UV = Path(sysconfig.get_path("scripts")) / "uv"


class NotMadeError(Exception):
    """An environment cannot be made; what the installer said."""


def make_environment(folder: Path, *requirements: str) -> Path:
    """Makes an environment anew, and returns its Python.

    requirements: as pip takes them, options like ``--require-hashes`` and ``-r FILE`` included.

    Raises NotMadeError.
    """
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    add_packages(python, *requirements)
    return python


def add_packages(python: Path, *requirements: str) -> None:
    """uv takes a tenth of pip's time, but it does not read pip's settings. Where it fails, pip is asked."""
    if not _done([str(UV), "pip", "install", "--quiet", "--python", str(python), *requirements]).returncode:
        return
    _done([str(python), "-m", "ensurepip"])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    if (done := _done(pip)).returncode:
        raise NotMadeError(f"{' '.join(pip[1:])} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def _done(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


if __name__ == "__main__":
    if Path(sys.argv[1]).resolve() == Path(sys.prefix).resolve():
        add_packages(Path(sys.executable), *sys.argv[2:])
    else:
        make_environment(Path(sys.argv[1]), *sys.argv[2:])
