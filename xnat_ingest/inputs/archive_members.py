"""Archives read where they lie: never unpacked, no member's name ever used as a path, members opened by seeking."""

from __future__ import annotations

import re
from collections.abc import Sequence

from xnat_ingest.core.errors import IngestError

# Beyond this many bytes, what packs better than this is made to fill something, not to hold images.
BOMB_SIZE = 1 << 30
BOMB_RATIO = 200


class Damaged(IngestError):
    """An archive that cannot be read at all."""


def unsafe(name: str) -> str:
    """Why a member's name is no place in a tree, "" when it is one."""
    parts = name.split("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if ".." in parts:
        return "a path that leads upwards"
    return "" if all(parts) and "\0" not in name else "an empty name"


class UniqueNames:
    """Members' names as paths of a source: cleaned, and each once."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}  # path -> the last number that was put behind it

    def of(self, name: str) -> str:
        """Separators as everywhere; a second member of the same name gets a number, so that neither hides the other."""
        path = re.sub(r"/(?:\./)*/*", "/", name.replace("\\", "/").removeprefix("./"))
        unique, number = path, self._last.get(path, 1)
        while unique in self._last:
            number += 1
            unique = f"{path}#{number}"
        self._last[path] = number
        self._last.setdefault(unique, 1)
        return unique


def all_told(faults: Sequence[str]) -> str:
    """The first of several sentences, and how many more there are: one damage can have many traces."""
    more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
    return faults[0] + more


class DecompressionGuard:
    """Watches what an archive claims to hold against what it is. size: bytes of the archive."""

    def __init__(self, size: int) -> None:
        self._most = max(BOMB_SIZE, BOMB_RATIO * size)
        self._total = 0

    def adds(self, size: int, packed: int | None = None) -> bool:
        """Whether this member is too much; then it does not count."""
        if packed is not None and size > BOMB_SIZE and size > BOMB_RATIO * packed:
            return True
        if self._total + size > self._most:
            return True
        self._total += size
        return False


TOO_LARGE = "would unpack to far more than an archive of this size holds; unpack it yourself if that is right"


class Archive:
    """What all archives have in common. is_stream: see Source.in_order."""

    is_stream = False

    def in_order(self, path: str) -> bool:  # noqa: ARG002 - all of an archive is of one kind
        return self.is_stream

    def name_of(self, folder: str) -> str:
        return folder.rpartition("/")[2]
