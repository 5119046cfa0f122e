"""The base image where no image registry can be reached: a small Debian with its Python, shaped like the official one.

It carries this machine's certificates and package indexes, which everything built on it inherits: for tests only.
"""

from __future__ import annotations

import ast
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from pathlib import Path

from tests.image.engine import Engine, EngineError

NAME = "standin/python:slim"
SUITE = "bookworm"
INCLUDED = "ca-certificates,netbase,tzdata,python3,python3-pip,python3-venv"
CERTIFICATES = Path("/usr/local/share/ca-certificates")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# What an official python image says of itself, as far as a build or a run can notice.
CHANGES = (
    "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV LANG=C.UTF-8",
    'CMD ["python3"]',
)
MAKING = 180.0


def environment(**more: str) -> dict[str, str]:
    """For Debian's tools: a root that came by plain su has no sbin in its path."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return {**os.environ, "PATH": path, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", **more}


def mirror() -> str:
    """The Debian mirror that this machine's apt is set up for, whichever of its two formats says so."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    for uri, suites, components in _sources():
        # Others give their suites Debian's names, too.
        if codename in suites and "main" in components and "/debian" in uri:
            return uri
    raise EngineError("this machine's apt names no mirror of its own Debian release")


def _sources() -> Iterator[tuple[str, list[str], list[str]]]:
    """Address, suites, components of each place that apt knows."""
    folder = Path("/etc/apt/sources.list.d")
    for path in [Path("/etc/apt/sources.list"), *sorted(folder.glob("*.list"))]:
        text = path.read_text() if path.exists() else ""
        for uri, suite, components in re.findall(r"^deb\s+(?:\[.*?\]\s+)?(\S+)\s+(\S+)(.*)", text, re.MULTILINE):
            yield uri, [suite], components.split()
    for path in sorted(folder.glob("*.sources")):
        for stanza in re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).split("\n\n"):
            fields = message_from_string(stanza.lstrip())
            for uri in fields.get("URIs", "").split():
                yield uri, fields.get("Suites", "").split(), fields.get("Components", "").split()


def pip_settings() -> str:
    """A pip.conf: the certificates, and of this machine's indexes those that a build can reach, not local folders."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    kept = {"cert": BUNDLE}
    for line in reversed(done.stdout.splitlines()):  # variables are listed first, and win
        name, _, quoted = line.partition("=")
        key = name.rpartition(".")[2]
        words = str(ast.literal_eval(quoted)).split()
        if key in ("index-url", "extra-index-url", "find-links", "proxy"):
            words = [word for word in words if word.startswith(("http://", "https://"))]
        elif key != "trusted-host":
            continue
        if words:
            kept[key] = " ".join(words)
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in kept.items())


@contextmanager
def making(work: Path) -> Iterator[subprocess.Popen[str]]:
    """Makes the tree in the background, as ``work/base.tar``; ends the making with all its children if it is left."""
    (work / "pip.conf").write_text(pip_settings())
    (work / "tmp").mkdir()
    log = work / "base.log"
    with log.open("w") as said:
        process = subprocess.Popen(
            _command(work),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            text=True,
            env=environment(TMPDIR=str(work / "tmp")),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _command(work: Path) -> list[str]:
    copy = f'cp {shlex.quote(str(work / "pip.conf"))} "$1/etc/pip.conf"'
    hooks = [
        'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
        'for n in python python3; do ln -s /usr/bin/python3 "$1/usr/local/bin/$n"; done',
        'for n in pip pip3; do ln -s /usr/bin/pip3 "$1/usr/local/bin/$n"; done',
        copy,
    ]
    if CERTIFICATES.is_dir():
        hooks.append(f'cp -R {CERTIFICATES}/. "$1{CERTIFICATES}/" && chroot "$1" update-ca-certificates')
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={INCLUDED}", "--format=tar"]
    # A mirror that is a snapshot has lists whose time is over; the machine's own apt has its own setting for it.
    command += ["--aptopt=Acquire::Check-Valid-Until false", "--dpkgopt=force-unsafe-io", f"--keyring={KEYRING}"]
    command += [f"--customize-hook={hook}" for hook in hooks]
    return [*command, SUITE, str(work / "base.tar"), f"deb {mirror()} {SUITE} main"]


def bring_in(engine: Engine, process: subprocess.Popen[str], work: Path) -> None:
    """Waits for the tree and makes it an image of the engine."""
    tree = work / "base.tar"
    if process.wait(MAKING):
        said = (work / "base.log").read_text()[-3000:]
        raise EngineError(f"mmdebstrap ended with {process.returncode}:\n{said}")
    changes = [word for change in CHANGES for word in ("--change", change)]
    engine.must("import", *changes, str(tree), NAME)
    tree.unlink()
