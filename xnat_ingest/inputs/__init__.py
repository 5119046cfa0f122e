"""Where files come from: folders and archives. A source lists files and opens them as often as needed."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from xnat_ingest.core import UsageError
from xnat_ingest.inputs.archive_kinds import archive_kind
from xnat_ingest.inputs.archive_members import Damaged
from xnat_ingest.inputs.compressed_files import CompressedFiles
from xnat_ingest.inputs.folder import FolderSource
from xnat_ingest.inputs.open_archive import open_archive
from xnat_ingest.inputs.source import Source, go_on

__all__ = ["FolderSource", "Source", "one_top_folder", "open_source"]


def open_source(
    root: str,
    leaf: int | None = None,
    check_stop: Callable[[], None] = go_on,
    *,
    follow_links: bool = False,
    outside: list[str] | None = None,
    empty: list[str] | None = None,
) -> Source:
    """The source that ROOT names, for DICOM. Archives and compressed files below it are read like plain files.

    leaf, follow_links, outside, empty: see FolderSource.
    check_stop: called while something large is examined.

    Raises UsageError that says what to give instead.
    """
    if not root.strip():
        raise UsageError("ROOT is empty: name the folder that holds the DICOM tree")
    path = Path(root)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            folder = FolderSource(
                path,
                leaf,
                reads_archives=True,
                follow_links=follow_links,
                outside=outside,
                empty=empty,
                check_stop=check_stop,
            )
            return CompressedFiles(folder, check_stop)
        kind = archive_kind(path) if stat.S_ISREG(mode) else None
        if kind is None:
            raise UsageError(
                f"ROOT {root} is neither a folder nor an archive (zip, tar, tar.gz); name the folder or archive with "
                "the DICOM tree"
            )
        return CompressedFiles(open_archive(path, kind, check_stop), check_stop)
    except OSError as error:
        raise UsageError(f"cannot read ROOT {root}: {error.strerror}") from error
    except Damaged as error:
        raise UsageError(f"cannot read ROOT {root}: {error}") from error


def one_top_folder(paths: Iterable[str]) -> str:
    """The folder that all paths share, or "". An archive is easily packed with one folder too many."""
    tops = {path.partition("/")[0] if "/" in path else "" for path in paths}
    return tops.pop() if len(tops) == 1 else ""
