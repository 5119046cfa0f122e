"""What a source is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Protocol, TypeVar

from xnat_ingest.core import SetAside, SourceFile

OFTEN = 1000
_T = TypeVar("_T")


def go_on() -> None:
    """The check_stop of a caller that never stops early."""


def heard(items: Iterable[_T], check_stop: Callable[[], None]) -> Iterator[_T]:
    """The same items. Calls check_stop now and then: there may be millions."""
    for number, item in enumerate(items):
        if number % OFTEN == 0:
            check_stop()
        yield item


class Source(Protocol):
    """A set of files that can be listed once and opened many times, from several threads."""

    def files(self) -> Iterator[SourceFile | SetAside]:
        """Every file, sorted where sorting is free. What cannot be sent comes as SetAside."""
        ...

    def open(self, path: str) -> BinaryIO:
        """The bytes of one file, seekable. Raises OSError."""
        ...

    def stat(self, path: str) -> tuple[int, int]:
        """(size in bytes, modification time in ns) of one file now. Raises OSError."""
        ...

    def changed_ns(self, path: str) -> int:
        """When a file's content, times, owner or links last changed, in ns; of a member, its archive's. OSError.

        Unlike the modification time, a program cannot put this back.
        """
        ...

    def in_order(self, path: str) -> bool:
        """Whether the file is in a stream, where going back costs another pass from its start."""
        ...

    def name_of(self, folder: str) -> str:
        """The folder's name for labels: its last part, without the suffix of an archive."""
        ...
