"""Small files that are read whole. An endless one, such as a device, is refused before it fills the memory."""

from __future__ import annotations

from pathlib import Path

from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.text import printable

MEGABYTE = 1024 * 1024


def read_small(path: str, what: str, limit: int) -> bytes:
    """A file's bytes.

    what: names it in the sentence.
    limit: how many there may be.

    Raises UsageError.
    """
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read {what} {printable(path)}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{what} {printable(path)}: not a valid file name") from error
    if len(data) > limit:
        raise UsageError(f"{what} {printable(path)} is larger than {limit // MEGABYTE} MB: this must be the wrong file")
    return data
