"""Archives read in place: nothing is unpacked to disk, and no member name is used as a path on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from xnat_ingest.core import IngestError
from xnat_ingest.core.regular_file import open_regular

# Above this size, data that packs better than this was made to fill a disk, not to carry images.
BOMB_SIZE = 1 << 30
BOMB_RATIO = 200
# The same for the memory that the list of its members takes: so many bytes for each, beside its name.
LIST_SIZE = 1 << 28
LIST_RATIO = 4
_OF_MEMBER = 400

# Parts of a path that lead nowhere: `.` anywhere, and slashes in a row.
_IDLE = re.compile(r"(?:(?<=/)|\A)(?:\./+)+|(?<=/)/+|(?:(?<=/)|\A)\.\Z")
# Opens the file of an archive, with a buffer of this size: -1 for the usual one, 0 for none.
Opener = Callable[[int], BinaryIO]


class Damaged(IngestError):
    """An archive that cannot be read at all."""


class TooLarge(Damaged):
    """One whose list of members is larger than any that is read."""


def unsafe(name: str) -> str:
    """Why a member's name is not a valid path below ROOT, "" when it is."""
    parts = name.split("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if ".." in parts:
        return "a path that leaves the archive (..)"
    return "" if all(parts) and "\0" not in name else "an empty name"


class UniqueNames:
    """Turns member names into the paths of a source: cleaned, and each of them unique."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}  # path -> the last number that was appended to it

    def of(self, name: str) -> str:
        """The path with / as separator. A second member of the same name gets a number, so both stay visible."""
        path = _IDLE.sub("", name.replace("\\", "/"))
        unique, number = path, self._last.get(path, 1)
        while unique in self._last:
            number += 1
            unique = f"{path}#{number}"
        self._last[path] = number
        self._last.setdefault(unique, 1)
        return unique


def all_told(faults: Sequence[str]) -> str:
    """The first of several faults, and how many more there are: one damaged place can cause many."""
    more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
    return faults[0] + more


class DecompressionGuard:
    """Compares what an archive claims to unpack to with its own size. size: bytes of the archive."""

    def __init__(self, size: int) -> None:
        self._most = max(BOMB_SIZE, BOMB_RATIO * size)
        self._total = 0
        self._left = LIST_SIZE + LIST_RATIO * size

    def adds(self, size: int, packed: int | None = None) -> bool:
        """Whether this member is too large; if so, it is not counted."""
        if packed is not None and size > BOMB_SIZE and size > BOMB_RATIO * packed:
            return True
        if self._total + size > self._most:
            return True
        self._total += size
        return False

    def lists(self, name: str) -> bool:
        """Whether there is room for one more member in the list."""
        self._left -= len(name) + _OF_MEMBER
        return self._left >= 0


TOO_LARGE = "would unpack to far more than an archive of this size should contain; unpack it yourself if it is right"


class Archive:
    """What all archives share. is_stream: see Source.in_order.

    opened: opens its file; without it, the file is opened by its path.
    """

    is_stream = False

    def __init__(self, path: Path, opened: Opener | None) -> None:
        self.path = path
        self.opened: Opener = opened or (lambda buffering: open_regular(path, buffering))

    def changed_ns(self, path: str) -> int:  # noqa: ARG002 - of a member, its archive's
        return self.path.stat().st_ctime_ns

    def in_order(self, path: str) -> bool:  # noqa: ARG002 - all of an archive is of one kind
        return self.is_stream

    def name_of(self, folder: str) -> str:
        return folder.rpartition("/")[2]
