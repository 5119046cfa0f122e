"""One way to open every kind of archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xnat_ingest.inputs.archive_kinds import Kind
from xnat_ingest.inputs.archive_members import Damaged, Opener
from xnat_ingest.inputs.source import Source, go_on
from xnat_ingest.inputs.tar_archive import TarSource
from xnat_ingest.inputs.targz_archive import StreamSource
from xnat_ingest.inputs.zip_archive import ZipSource


def open_archive(
    path: Path,
    kind: Kind,
    check_stop: Callable[[], None] = go_on,
    opened: Opener | None = None,
) -> Source:
    """Opens an archive. Raises Damaged, OSError.

    check_stop: called while members are listed, which may take long.
    opened: opens its file; without it, the file is opened by its path.
    """
    if kind == "zip":
        return ZipSource(path, check_stop, opened)
    if kind == "tar":
        return TarSource(path, check_stop, opened)
    if kind == "tar.gz":
        return StreamSource(path, check_stop, opened)
    if kind == "gzip":
        raise Damaged("a gzip file without a tar in it")
    if kind == "damaged gzip":
        raise Damaged("a gzip file that is truncated or corrupt from its start; fetch it again")
    raise Damaged(f"packed as {kind}, which cannot be read here; repack it as tar.gz or zip")
