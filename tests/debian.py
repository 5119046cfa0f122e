"""Programs from Debian's packages for the tests against real parts. Root installs what is missing; others are told how.

`make test-real` calls this first (`python -m tests.debian`), so that one call of apt-get fetches everything.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

JAVA_TAR_READER = "/usr/share/java/commons-compress.jar"
# A program's name, or a file's path, and the package that has it.
PACKAGES = {
    "Orthanc": "orthanc",
    "storescp": "dcmtk",
    "dcmdump": "dcmtk",
    "dcm2niix": "dcm2niix",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "npm": "npm",
    "slurmctld": "slurm-wlm",
    "munged": "munge",
    "ip": "iproute2",
    "javac": "default-jdk-headless",
    JAVA_TAR_READER: "libcommons-compress-java",
    "mmdebstrap": "mmdebstrap",
    "runc": "runc",
    "tini": "tini",
}
INSTALLING = 600.0
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # a root that came by plain su has no sbin in its path
# Another apt may be at work, which is waited for. Nothing needs to be written through to the disk.
_WAIT = ("-o", "DPkg::Lock::Timeout=300", "-o", "DPkg::Options::=--force-unsafe-io")


class NotInstalledError(Exception):
    """A package cannot be had: the tests that need it fail."""


def program(name: str) -> str:
    """The path of one of PACKAGES, installed first if need be."""
    install([name])
    return _found(name) or ""


def install(names: Iterable[str] = PACKAGES) -> None:
    """Sees to it that all these names of PACKAGES are there.

    Raises NotInstalledError, which says how to get them.
    """
    names = list(names)
    if not _missing(names):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        # One at a time: the workers of a parallel run ask at the same moment.
        with (Path(tempfile.gettempdir()) / "xnat-ingest-tests-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _install(_missing(names))
    packages = _missing(names)
    if packages:
        raise NotInstalledError(
            f"these tests need Debian packages; root gets them by: apt install {' '.join(packages)}"
        )


def _missing(names: Iterable[str]) -> list[str]:
    return sorted({PACKAGES[name] for name in names if _found(name) is None})


def _found(name: str) -> str | None:
    return shutil.which(name, path=_PATH) or (name if name.startswith("/") and Path(name).exists() else None)


def _install(packages: Sequence[str]) -> None:
    """Lists that cannot be renewed may be good enough, so only the installation has to end well."""
    if not packages:
        return
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *_WAIT, *packages]):
        done = subprocess.run(
            ["apt-get", "-qq", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALLING,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": _PATH},
            start_new_session=True,  # Ctrl-C is for pytest: dpkg would have to be repaired if it were cut short
        )
    if done.returncode:
        raise NotInstalledError(f"apt-get {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    install()
