"""Names that operating systems, storage systems and version control leave in a tree: never subjects or images."""

from __future__ import annotations

# Folders of snapshots, thumbnails, recycle bins and archive tools.
SYSTEM_FOLDERS = frozenset(
    {
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "lost+found", "$recycle.bin"),
        *("__macosx", "system volume information"),
    }
)
# Hidden folders that are known to contain no images.
_KNOWN_HIDDEN = frozenset(
    {
        *(".git", ".datalad", ".svn", ".hg", ".snapshot", ".snapshots", ".zfs", ".trash", ".trashes", ".thumbnails"),
        *(".spotlight-v100", ".fseventsd", ".temporaryitems", ".documentrevisions-v100", ".idea", ".vscode"),
    }
)
_JUNK = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "dicomdir"})
# Suffixes of files that are meant to be something other than an image of a series.
_OTHER = (
    *(".txt", ".log", ".json", ".xml", ".csv", ".tsv", ".md", ".html", ".pdf", ".ini", ".yaml", ".yml", ".lock"),
    *(".flag", ".done", ".nii", ".nii.gz", ".bval", ".bvec", ".jpg", ".png", ".md5", ".sha256"),
    *(".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".sha1", ".npy", ".mat"),
)


def is_system_folder(name: str) -> bool:
    """Whether a folder is hidden or belongs to the system: nothing in it is read."""
    return name.startswith(".") or name.casefold() in SYSTEM_FOLDERS


def is_junk(name: str) -> bool:
    """Whether a file is one that systems leave behind: hidden, a thumbnail, a DICOMDIR, an XNAT catalog."""
    folded = name.casefold()
    return name.startswith(".") or folded in _JUNK or folded.endswith("_catalog.xml")


def is_known_system_folder(name: str) -> bool:
    """Whether a folder is known to contain no images, rather than just hidden."""
    return name.casefold() in SYSTEM_FOLDERS | _KNOWN_HIDDEN


def is_named_as_image(name: str) -> bool:
    """Whether the name says that a file is DICOM, also below another suffix: IM1.dcm, IM1.dcm.gz, IM1.dcm.gpg."""
    suffixes = name.casefold().partition(";")[0].split(".")[1:]  # ISO 9660 appends the number of a version
    return may_be_image(name) and not {"dcm", "dicom"}.isdisjoint(suffixes)


def may_be_image(name: str) -> bool:
    """Whether a file with this name could be an image: most images have no usable suffix."""
    folded = name.casefold()
    inner = folded.removesuffix(".gz").removesuffix(".bz2").removesuffix(".xz")
    return not is_junk(name) and not folded.endswith(_OTHER) and not inner.endswith(_OTHER)
