"""Images and containers of the tests' engine, as a test wants to name them."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypedDict, Unpack

from tests.image.engine import Engine


@dataclass(frozen=True)
class Ended:
    """How a container ended."""

    code: int
    out: str
    err: str


class Options(TypedDict, total=False):
    """How a container is run. mounts, tmpfs and extra are the client's own words."""

    user: str | None
    env: Mapping[str, str]
    mounts: Sequence[str]  # "/here:/there:ro"
    network: str  # "host" if not said, by which a server on 127.0.0.1 is reached; "none" is the only other one
    read_only: bool
    tmpfs: Sequence[str]
    entrypoint: str
    extra: Sequence[str]


def build(
    engine: Engine,
    context: Path,
    tag: str,
    base: str,
    labels: Mapping[str, str] | None = None,
    args: Mapping[str, str] | None = None,
    *,
    cache: bool = True,
) -> None:
    """Builds the Dockerfile of a folder. The machine's own network: the engine may have no other for a build."""
    words = ["build", "--progress", "plain", "--network", "host", "--tag", tag]
    if not cache:
        words.append("--no-cache")
    for key, value in {"BASE_IMAGE": base, **(args or {})}.items():
        words += ["--build-arg", f"{key}={value}"]
    for key, value in (labels or {}).items():
        words += ["--label", f"{key}={value}"]
    engine.must(*words, str(context))


def run(engine: Engine, image: str, *words: str, **options: Unpack[Options]) -> Ended:
    """Runs a container to its end and removes it."""
    done = engine("run", "--rm", *_words(engine, options), image, *words)
    return Ended(done.returncode, done.stdout, done.stderr)


def start(engine: Engine, image: str, *words: str, **options: Unpack[Options]) -> Running:
    """Starts a container and leaves it to the test; what is still there after the last test is removed."""
    return Running(engine, engine.must("run", "--detach", *_words(engine, options), image, *words))


@dataclass(frozen=True)
class Running:
    """A container that was started."""

    engine: Engine
    name: str

    def stop(self, seconds: int = 10) -> int:
        """SIGTERM, SIGKILL after so many seconds; its exit code."""
        self.engine.must("stop", "--time", str(seconds), self.name)
        return self.wait()

    def kill(self, signal: str = "KILL") -> None:
        self.engine.must("kill", "--signal", signal, self.name)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return int(self.engine.must("wait", self.name))

    def logs(self) -> tuple[str, str]:
        """What it has said until now on stdout and on stderr."""
        done = self.engine("logs", self.name)
        return done.stdout, done.stderr

    def until(self, said: str, seconds: float = 60.0) -> None:
        """Comes back as soon as it has said so, on stdout or on stderr."""
        end = time.monotonic() + seconds
        running = True
        while said not in "".join(self.logs()):
            assert running, self.logs()
            assert time.monotonic() < end, self.logs()
            time.sleep(0.05)
            running = self.inspect()["State"]["Running"]  # asked before the logs: its last words count

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.engine.must("container", "inspect", self.name))[0]
        return found

    def remove(self) -> None:
        self.engine.must("rm", "--force", "--volumes", self.name)


def _words(engine: Engine, options: Options) -> list[str]:
    words = ["--label", engine.label, "--network", options.get("network", "host")]
    for key, value in options.get("env", {}).items():
        words += ["--env", f"{key}={value}"]
    for mount in options.get("mounts", ()):
        words += ["--volume", mount]
    for folder in options.get("tmpfs", ()):
        words += ["--tmpfs", folder]
    user = options.get("user")
    if user is not None:
        words += ["--user", user]
    if "entrypoint" in options:
        words += ["--entrypoint", options["entrypoint"]]
    if options.get("read_only"):
        words.append("--read-only")
    return [*words, *options.get("extra", ())]


def inspect(engine: Engine, image: str) -> dict[str, Any]:
    """All that the engine knows of an image."""
    found: dict[str, Any] = json.loads(engine.must("image", "inspect", image))[0]
    return found


def labels(engine: Engine, image: str) -> dict[str, str]:
    found: dict[str, str] = inspect(engine, image)["Config"]["Labels"] or {}
    return found


def layers(engine: Engine, image: str) -> list[str]:
    """The digests of its layers, from the bottom up."""
    found: list[str] = inspect(engine, image)["RootFS"]["Layers"]
    return found


def history(engine: Engine, image: str) -> list[tuple[str, int]]:
    """Each step that made it, from the bottom up, with the bytes that it added."""
    said = engine.must("history", "--no-trunc", "--human=false", "--format", "{{json .}}", image)
    steps = [json.loads(line) for line in reversed(said.splitlines())]
    return [(step["CreatedBy"], int(step["Size"])) for step in steps]


def own_steps(engine: Engine, image: str, base: str) -> list[tuple[str, int]]:
    """Of its history what came above the base: ours, and what its size is measured by."""
    below = history(engine, base)
    all_steps = history(engine, image)
    assert all_steps[: len(below)] == below, f"{image} is not built on {base}"
    return all_steps[len(below) :]


def own_members(engine: Engine, image: str, base: str, saved: Path) -> dict[str, tarfile.TarInfo]:
    """What our layers hold, by path without a leading slash. saved: a file to be made on the way."""
    engine.must("image", "save", "--output", str(saved), image)
    found: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(saved) as whole:
        manifest = json.load(_opened(whole, "manifest.json"))
        for name in manifest[0]["Layers"][len(layers(engine, base)) :]:
            with tarfile.open(fileobj=_opened(whole, name)) as layer:
                found |= {member.name.removeprefix("./").rstrip("/"): member for member in layer}
    return found


def _opened(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = archive.extractfile(name)
    assert stream is not None, f"{name} is no file"
    return stream


def own_bytes(engine: Engine, image: str, base: str) -> int:
    """What our layers weigh, unpacked."""
    return sum(size for _, size in own_steps(engine, image, base))
