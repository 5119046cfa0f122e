"""What a target is, and the places that targets read from."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.dicom_trees import SAMPLES


@dataclass(frozen=True)
class Target:
    """run: takes any bytes and returns; whatever it raises is a finding. seeds: inputs that get deep; longest: bytes
    of an input."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    longest: int = 16 * 1024


@cache
def folder() -> Path:
    """A folder in memory where the system has one: readers of archives want files."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def as_file(data: bytes, name: str) -> Path:
    """The bytes as a file; it replaces the one that was there."""
    path = folder() / name
    path.write_bytes(data)
    return path


def samples(largest: int) -> Iterable[bytes]:
    """The real files that pydicom carries, without the large ones."""
    for path in sorted(SAMPLES.glob("*.dcm")):
        if path.stat().st_size <= largest:
            yield path.read_bytes()


def text_of(data: bytes) -> str:
    """Bytes as the program's own readers make text of them."""
    return data.decode("utf-8", "replace")
