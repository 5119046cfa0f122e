"""Names that operating systems, storage systems and version control leave in a tree: never subjects or images."""

from __future__ import annotations

import re

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
    *(
        ".txt",
        ".log",
        ".json",
        ".xml",
        ".csv",
        ".tsv",
        ".md",
        ".html",
        ".htm",
        ".pdf",
        ".ini",
        ".yaml",
        ".yml",
        ".lock",
    ),
    *(".flag", ".done", ".nii", ".nii.gz", ".bval", ".bvec", ".jpg", ".png", ".md5", ".sha256"),
    *(".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".sha1", ".npy", ".mat"),
    *(".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx", ".odt", ".ods", ".rtf", ".rst"),
    *(".err", ".out", ".pid", ".ok", ".complete", ".finished", ".success", ".stamp", ".touch", ".ready"),
    *(".py", ".pyc", ".pyi", ".typed", ".sh", ".c", ".h", ".cpp", ".r", ".ipynb", ".m", ".bat", ".ps1", ".sql"),
    *(".cfg", ".conf", ".toml"),
)
# Names without a suffix that programs and people give to marks and texts.
_MARKS = frozenset(
    {
        *("complete", "completed", "done", "ready", "finished", "success", "_success", "ok", "lock", "placeholder"),
        *("readme", "license", "licence", "makefile", "version", "changelog", "authors", "notes"),
    }
)
_ARCHIVES = frozenset({"zip", "tar", "tgz", "tbz2", "txz", "7z", "rar", "cpio", "iso", "cab", "dmg"})
_PACKED = frozenset({"gz", "bz2", "xz", "zst", "lz4", "z"})
# Suffixes below which a file may be anything: encrypted, or packed without a mark.
_ENCRYPTED = frozenset(
    {
        *("gpg", "pgp", "enc", "aes", "age", "crypt", "encrypted", "p7m", "c4gh", "cpt", "des3", "axx"),
        *("openssl", "scrypt", "br"),
    }
)
_SIGNATURES = frozenset({"asc", "sig"})  # or the signed content itself
_HIDING = frozenset(
    {
        *_ENCRYPTED,
        *_SIGNATURES,
        *("b64", "uu", "part", "partial", "crdownload", "download", "tmp", "temp", "filepart", "incomplete"),
        *("!ut", "aria2", "opdownload", "unfinished"),
        *("old", "bak", "orig"),  # an archive whose content shows it is one needs no name
    }
)
_PART = re.compile(r"(?<=.)(?:\.part\d+|-part)$")
# Checksums and signatures lie beside any kind of file.
_PROOFS = _SIGNATURES | {"md5", "sha1", "sha256", "sha512"}


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
    suffixes = _folded(name).split(".")[1:]
    return may_be_image(name) and not {"dcm", "dicom"}.isdisjoint(suffixes)


def may_be_image(name: str) -> bool:
    """Whether a file with this name could be an image: most images have no usable suffix."""
    folded = _folded(name)
    inner = folded.removesuffix(".gz").removesuffix(".bz2").removesuffix(".xz")
    return not (is_junk(name) or folded.endswith(_OTHER) or inner.endswith(_OTHER) or inner in _MARKS)


def hides_content(name: str) -> bool:
    """Whether the name is that of an encrypted file, or of an archive that is encrypted, encoded or not complete.

    For example post.tar.gz.gpg, post.zip.part and post.age, but not notes.txt.gpg.
    """
    before, hiding = _split(_folded(name).split("."), _HIDING)
    bare, _ = _split(before, _PACKED)
    return not is_junk(name) and bool(hiding) and (_is_archive(bare) or _may_be_encrypted(before, hiding))


def is_named_as_encrypted_text(name: str) -> bool:
    """Whether the name is that of an encrypted file that is no image and no archive: notes.txt.gpg, x.csv.age."""
    before, hiding = _split(_folded(name).split("."), _HIDING)
    bare, _ = _split(before, _PACKED)
    return bool(hiding) and not _is_archive(bare) and not may_be_image(".".join(before))


def is_only_called_encrypted(name: str) -> bool:
    """Whether nothing but a suffix such as .age or .enc says that a file may be an archive or an image."""
    before, hiding = _split(_folded(name).split("."), _HIDING)
    bare, _ = _split(before, _PACKED)
    return not _is_archive(bare) and not is_named_as_image(name) and _may_be_encrypted(before, hiding)


def _is_archive(parts: list[str]) -> bool:
    return len(parts) > 1 and parts[-1] in _ARCHIVES


def _may_be_encrypted(before: list[str], hiding: list[str]) -> bool:
    return not _ENCRYPTED.isdisjoint(hiding) and may_be_image(".".join(before))


def is_signature(name: str) -> bool:
    """Whether the name ends as that of a signature does: in .asc or .sig."""
    return name.casefold().rpartition(".")[2] in _SIGNATURES


def is_proof(name: str) -> bool:
    """Whether the name is that of a checksum or a signature of another file."""
    return name.casefold().rpartition(".")[2] in _PROOFS


def _folded(name: str) -> str:
    """The name in lower case, without the number of a version that ISO 9660 appends. x-part and x.part1 are x.part."""
    return _PART.sub(".part", re.sub(r";\d+$", "", name.casefold()))


def _split(parts: list[str], suffixes: frozenset[str]) -> tuple[list[str], list[str]]:
    """The parts of a name, and the last ones of them that are such suffixes. The first part is none."""
    at = len(parts)
    while at > 1 and parts[at - 1] in suffixes:
        at -= 1
    return parts[:at], parts[at:]
