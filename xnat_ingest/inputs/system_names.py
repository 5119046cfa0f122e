"""Names that operating systems, storage boxes and version control leave in a tree: never a subject, never an image."""

from __future__ import annotations

# Folders of snapshots, thumbnails, waste bins and archivers.
SYSTEM_FOLDERS = frozenset(
    {
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "lost+found", "$recycle.bin"),
        *("__macosx", "system volume information"),
    }
)
# Hidden folders of which everybody knows that no images lie in them.
_KNOWN_HIDDEN = frozenset(
    {
        *(".git", ".datalad", ".svn", ".hg", ".snapshot", ".snapshots", ".zfs", ".trash", ".trashes", ".thumbnails"),
        *(".spotlight-v100", ".fseventsd", ".temporaryitems", ".documentrevisions-v100", ".idea", ".vscode"),
    }
)
_JUNK = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "dicomdir"})
# What these end with is meant to be something else than an image of a series.
_OTHER = (
    *(".txt", ".log", ".json", ".xml", ".csv", ".tsv", ".md", ".html", ".pdf", ".ini", ".yaml", ".yml", ".lock"),
    *(".flag", ".done", ".nii", ".nii.gz", ".bval", ".bvec", ".jpg", ".png", ".md5", ".sha256"),
)


def is_system_folder(name: str) -> bool:
    """Whether a folder is hidden or a system's own: nothing in it is looked at."""
    return name.startswith(".") or name.casefold() in SYSTEM_FOLDERS


def is_junk(name: str) -> bool:
    """Whether a file is one that systems leave behind: hidden, a thumbnail, a medium's directory, XNAT's catalogue."""
    folded = name.casefold()
    return name.startswith(".") or folded in _JUNK or folded.endswith("_catalog.xml")


def is_known_system_folder(name: str) -> bool:
    """Whether a folder is one of those that hold no images by what they are, and not only hidden."""
    return name.casefold() in SYSTEM_FOLDERS | _KNOWN_HIDDEN


def may_be_image(name: str) -> bool:
    """Whether a file's name allows that it is meant to be an image: most have no usable suffix."""
    return not is_junk(name) and not name.casefold().endswith(_OTHER)
