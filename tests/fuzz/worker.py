"""One target under fire for some seconds: `python -m tests.fuzz.worker TARGET SECONDS FOLDER [mutations]`.

With atheris, where it is installed, and else or when asked for without: inputs are then mutated from the seeds and from
what atheris has kept, many times faster, and nobody looks at what they reach.

Python's own errors are caught, so that one finding does not end the run. What cannot be caught (a crash, a loop in a
C library) ends this process: whoever started it finds the input in FOLDER/TARGET.last.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import mmap
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

# Of one input: seconds of this process, and bytes of memory beyond which it is out of bounds.
SLOWEST = 5
MOST_MEMORY = 2 << 30
_HEADER = 8
# Inputs of atheris that are mutated without it.
MOST_KEPT = 2000


class TooSlow(BaseException):
    """Raised in the middle of an input that takes too long; no reader may take it for an error of its own."""


def _too_slow(_: int, __: FrameType | None) -> NoReturn:
    raise TooSlow(f"{SLOWEST} seconds were not enough")


class Campaign:
    """Counts executions, keeps an input of each kind of finding, and ends the process when the time is over."""

    def __init__(self, run: Callable[[bytes], None], name: str, seconds: float, folder: Path, driver: str) -> None:
        self._run = run
        self._name = name
        self._folder = folder
        self._driver = driver
        self._begun = time.monotonic()
        self._seconds = seconds
        self.executions = 0
        self._found: dict[str, dict[str, str]] = {}
        last = folder / f"{name}.last"
        last.write_bytes(bytes(_HEADER + (1 << 20)))
        with last.open("r+b") as stream:
            self._last = mmap.mmap(stream.fileno(), 0)

    @property
    def findings(self) -> list[dict[str, str]]:
        """what: kind of error and place; text: of the error; input: the file that holds the bytes."""
        return list(self._found.values())

    def once(self, data: bytes) -> None:
        self._last[: _HEADER + len(data)] = len(data).to_bytes(_HEADER, "little") + data
        self.executions += 1
        signal.setitimer(signal.ITIMER_VIRTUAL, SLOWEST)
        try:
            self._run(data)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a finding
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            self._note(error, data)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if not self.executions % 32 and time.monotonic() - self._begun > self._seconds:
            self.end()

    def _note(self, error: BaseException, data: bytes) -> None:
        """Two errors of one kind that are raised in one place are one finding."""
        frames = [
            f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}site-packages{os.sep}" not in f.filename
        ]
        ours = [frame for frame in frames if "xnat_ingest" in frame.filename] or frames
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if not isinstance(error, TooSlow) else "too slow"
        key = f"{type(error).__name__} {where}"
        if isinstance(error, AssertionError):
            key = f"AssertionError {Path(frames[-1].filename).name}:{frames[-1].lineno}"
        if key in self._found:
            return  # one input shows it
        path = self._folder / f"{self._name}-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        path.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))
        self._found[key] = {"what": key, "text": str(error)[:200], "input": str(path)}

    def end(self) -> NoReturn:
        found = {
            "driver": self._driver,
            "executions": self.executions,
            "seconds": time.monotonic() - self._begun,
            "findings": self.findings,
        }
        (self._folder / f"{self._name}.json").write_text(json.dumps(found))
        _tidy()
        os._exit(0)


def _tidy() -> None:
    from tests.fuzz.target import folder

    shutil.rmtree(folder(), ignore_errors=True)


def mutated(seeds: list[bytes], longest: int) -> Iterator[bytes]:
    """Seeds with a few changes each, for ever: what is done where there is no atheris."""
    chance = random.Random(os.urandom(8))
    numbers = (0, 1, 0x7F, 0x80, 0xFF)
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data) + 1)
            piece = chance.choice(seeds)
            begin = chance.randrange(len(piece) + 1)
            way = chance.randrange(7)
            if way == 0 and data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            elif way == 1:
                data[at : at + chance.choice((1, 2, 4))] = bytes([chance.choice(numbers)]) * chance.choice((1, 2, 4))
            elif way == 2:
                del data[at : at + chance.choice((1, 2, 4, 64))]
            elif way == 3:
                data[at:at] = piece[begin : begin + chance.choice((1, 4, 64))]
            elif way == 4:
                data[at:] = piece[begin:]
            elif way == 5:
                data[at:at] = data[at : at + 16] * chance.choice((1, 2, 50))
            else:
                data[at : at + 2] = chance.randbytes(2)
        yield bytes(data[:longest])


def _bounded() -> None:
    signal.signal(signal.SIGVTALRM, _too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


def _with_atheris(atheris: Any, name: str, seconds: float, folder: Path) -> None:
    with atheris.instrument_imports(include=["xnat_ingest"], enable_loader_override=False):
        from tests.fuzz.registry import TARGETS

        target = TARGETS[name]
        seeds = list(target.seeds())
        campaign = Campaign(target.run, name, seconds, folder, "atheris")
        for seed in seeds:  # what is imported late is instrumented, too
            campaign.once(seed)
    first, kept = folder.parent / "seeds" / name, folder.parent / "corpus" / name
    shutil.rmtree(first, ignore_errors=True)
    for place in (first, kept):
        place.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (first / f"{number:03}").write_bytes(seed)
    options = [f"-max_len={target.longest}", "-timeout=60", "-rss_limit_mb=0", "-verbosity=0", "-close_fd_mask=3"]
    atheris.Setup([sys.argv[0], *options, str(kept), str(first)], campaign.once)
    _bounded()
    atheris.Fuzz()


def _plainly(name: str, seconds: float, folder: Path) -> None:
    from tests.fuzz.registry import TARGETS

    target = TARGETS[name]
    kept = folder.parent / "corpus" / name
    seeds = [*target.seeds(), *(path.read_bytes() for path in sorted(kept.glob("*"))[-MOST_KEPT:])]
    campaign = Campaign(target.run, name, seconds, folder, "mutations")
    _bounded()
    for data in itertools.chain(seeds, mutated(seeds, target.longest)):
        campaign.once(data)


def main() -> None:
    name, seconds, folder = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    signal.signal(signal.SIGVTALRM, _too_slow)
    try:
        if "mutations" in sys.argv[4:]:
            raise ImportError
        atheris = importlib.import_module("atheris")
    except ImportError:
        _plainly(name, seconds, folder)
    else:
        _with_atheris(atheris, name, seconds, folder)


if __name__ == "__main__":
    main()
