"""What a source is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from xnat_ingest.core.model import SetAside, SourceFile


def go_on() -> None:
    """What a caller gives as check_stop that is never told to stop."""


class Source(Protocol):
    """A set of files that can be listed once and opened many times, from several threads."""

    def files(self) -> Iterator[SourceFile | SetAside]:
        """Every file, in sorted order where order costs nothing; what cannot be a file to send comes as SetAside."""
        ...

    def open(self, path: str) -> BinaryIO:
        """The bytes of one file, seekable. Raises OSError."""
        ...

    def stat(self, path: str) -> tuple[int, int]:
        """(size in bytes, modification time in ns) of one file now. Raises OSError."""
        ...

    def in_order(self, path: str) -> bool:
        """Whether the file lies in a stream, where anything but reading on costs another pass from its start."""
        ...

    def name_of(self, folder: str) -> str:
        """What a folder is called in labels: its last name; of an archive, without the suffix."""
        ...
