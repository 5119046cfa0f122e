"""A container engine for the tests: the one that answers already, or else one of their own for as long as they run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parent.parent.parent
LABEL = "xnat-ingest.test"
PATIENCE = 300.0  # seconds for one command of the client; a build on a slow line is the longest


class EngineError(Exception):
    """No engine can be had, or a command that has to work does not: the tests that need it fail."""


@dataclass(frozen=True)
class Engine:
    """A docker client and whom it talks to. base: the image to build on. What the tests make carries ``run``."""

    docker: str
    base: str
    environ: Mapping[str, str] = field(default_factory=dict)
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def label(self) -> str:
        """What every container of these tests is marked with."""
        return f"{LABEL}={self.run}"

    def tag(self, name: str) -> str:
        """A tag that is removed at the end, as are those that begin like it, and no others."""
        return f"{name}:test-{self.run}"

    def environment(self) -> dict[str, str]:
        """For a program that calls the client itself (make)."""
        return {**os.environ, **self.environ}

    def __call__(self, *words: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Runs the client to the end. In a session of its own: a ctrl-C is for pytest, which then needs the client."""
        return subprocess.run(
            [self.docker, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=self.environment(),
            start_new_session=True,
        )

    def must(self, *words: str, timeout: float = PATIENCE) -> str:
        """What the client says on stdout; it must succeed."""
        return ended_well(self(*words, timeout=timeout)).stdout.strip()

    def tidy(self) -> None:
        """Removes the containers and the tags of this run, and nothing else."""
        containers = self.must("ps", "--all", "--quiet", "--filter", f"label={self.label}").split()
        if containers:
            self.must("rm", "--force", "--volumes", *containers)
        images = self.must(
            "image", "ls", "--filter", f"reference={self.tag('*')}*", "--format", "{{.Repository}}:{{.Tag}}"
        )
        if images:
            self.must("image", "rm", "--force", *images.split())


def ended_well(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The same, or an error with the end of what the command said."""
    if done.returncode:
        said = (done.stderr or done.stdout)[-3000:]
        raise EngineError(f"{' '.join(done.args)[:300]} ended with {done.returncode}:\n{said}")
    return done


@contextmanager
def at_hand() -> Iterator[Engine]:
    """The engine of this test run, removed at the end together with everything in it, or tidied if it is another's."""
    from tests.image.daemon import private

    with _terminable():
        wanted = os.environ.get("BASE_IMAGE") or named_base()
        found = existing(wanted)
        if found is None:
            with private() as own:
                yield own
            return
        try:
            yield found
        finally:
            with undisturbed():
                found.tidy()


def named_base() -> str:
    """The base that the Dockerfile names when nobody says another one."""
    dockerfile = ROOT / "Dockerfile"
    text = dockerfile.read_text() if dockerfile.exists() else ""
    found = re.search(r"^ARG BASE_IMAGE=(\S+)", text, re.MULTILINE)
    return found[1] if found else "python:3.13-slim-bookworm"


def existing(base: str) -> Engine | None:
    """The engine that the machine's client reaches, if it has the base or can pull it."""
    engine = Engine("docker", base)
    try:
        if engine("version", timeout=30).returncode:
            return None
        has = engine("image", "inspect", base).returncode == 0
        return engine if has or engine("pull", "--quiet", base).returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired):
        return None


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM as ctrl-C: pytest tears its fixtures down after the one and would die at once of the other."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Holds SIGTERM and ctrl-C back until what is inside is done."""
    came: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt
