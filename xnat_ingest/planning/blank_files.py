"""Files without an image where images are: a copy was interrupted, a disk has lost them, or they are elsewhere."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from functools import cached_property

from xnat_ingest.core import BEGINS_WITH_ZEROS, BLANK_DETAILS, ICLOUD, OUTSIDE, PLAIN_TEXT, Session, SetAside
from xnat_ingest.inputs.encoded_files import ENCODED_KINDS, ENCRYPTED_KINDS
from xnat_ingest.inputs.rare_kinds import RARE_KINDS, way_out
from xnat_ingest.inputs.system_names import (
    hides_content,
    is_junk,
    is_named_as_encrypted_text,
    is_named_as_image,
    is_proof,
    is_signature,
    may_be_image,
)

_RAW = frozenset({"raw", "img", "bin", "dat", "vol", "data", "rec", "nrrd", "mgz", "mha"})
_LEAVE_OUT = "or leave it out with --exclude"
_UNCOUNTED = "a rule leaves out images beside it because of their number, and did not count it"
_HIDDEN = (
    "named like a file that is encrypted, encoded or not complete; decrypt, decode or fetch it again, "
    f"and unpack it there, {_LEAVE_OUT}"
)


def mark_blank(
    aside: Iterable[SetAside], sessions: Iterable[Session], depth: int, counting: Container[str] = ()
) -> list[SetAside]:
    """The files set aside, with a problem as the reason for blank files among DICOM.

    A blank file counts when something is sent from its own folder, or when copies of images lie there. It also counts
    when its folder has only blank files, and lies in a session or as deep as a folder from which something is sent: a
    whole session may have been lost. There, links out of ROOT count, too: all of it may be somewhere else. Files that
    are named like an image and hold something else count in both cases. They also count alone in any folder below
    ROOT. Archives of rare kinds count in both cases, and beside anything in the folder of a subject, of a session, or
    of all subjects. Encrypted files and encoded archives are
    among these kinds. So do files whose name says that they are encrypted, or archives that are not complete.

    depth: how many names a session's folder has.
    counting: reasons of files that a rule leaves out because of their number. A file that was lost is lacking in it, so
        a blank file beside them counts, too. So does a link out of ROOT, which may be to one more of them.
    """
    listed = list(aside)
    folders = _Folders(listed, list(sessions), depth, counting)
    return [_judged(one, folders) for one in listed]


class _Folders:
    """Which folders have images, and which should.

    sent: those from which something is sent.
    """

    def __init__(self, aside: list[SetAside], sessions: list[Session], depth: int, counting: Container[str]) -> None:
        self._aside = aside
        self._depth = depth
        self.sent = {_folder(instance.path) for session in sessions for instance in session.instances}
        # Images that are not sent: sent from another place, or left out because of their number.
        self._numbered = {_folder(one.path) for one in aside if one.reason in counting}
        self._unsent = self._numbered | {_folder(one.path) for one in aside if one.reason == "duplicate"}
        self._mixed = {_folder(one.path) for one in aside if _is_of_another_kind(one)}
        self._depths = {folder.count("/") for folder in self.sent if folder}
        self._sessions = {self._session(folder) for folder in self.sent}

    def has_images(self, folder: str) -> bool:
        """Whether images are in a folder, or nothing else may be."""
        return folder in self.sent or folder in self._unsent or self.is_expected(folder)

    def is_expected(self, folder: str) -> bool:
        """Whether nothing but images may be in a folder from which nothing is sent."""
        level, below_root = folder.count("/"), bool(folder)
        if self._session(folder) in self._sessions:
            in_session = level >= self._depth
        else:
            in_session = below_root and level >= self._depth - 1
        return (in_session or (below_root and level in self._depths)) and self.is_alone(folder)

    def is_alone(self, folder: str) -> bool:
        """Whether nothing but what may have been images is in a folder, while other folders have images."""
        return bool(self.sent) and folder not in self.sent and folder not in self._mixed

    def is_short(self, folder: str) -> bool:
        """Whether a rule left images in a folder out because of their number."""
        return folder in self._numbered

    def is_above(self, folder: str) -> bool:
        """Whether subjects, sessions or series lie in a folder. What is packed there may be one of them."""
        return bool(self.sent) and folder.count("/") < self._depth

    def has_subjects(self) -> bool:
        """Whether ROOT has folders of subjects. In a ROOT of sessions there may be a medium's own programs."""
        return self._depth > 1

    def has(self, path: str) -> bool:
        """Whether a file has this path, or an archive that was read as a folder."""
        return path in self._paths

    @cached_property
    def _paths(self) -> set[str]:
        found = {one.path for one in self._aside}
        above = self.sent | {_folder(path) for path in found}
        while above:
            found |= above
            above = {_folder(folder) for folder in above} - found
        return found

    def _session(self, folder: str) -> str:
        return "/".join(folder.split("/")[: self._depth])


def _judged(one: SetAside, folders: _Folders) -> SetAside:
    folder = _folder(one.path)
    among_images = folders.has_images(folder)
    is_above = folders.is_above(folder)
    if _is_blank(one) and among_images:
        return replace(one, reason="blank")
    if _has_lost_its_start(one) and folders.is_expected(folder):
        return replace(one, reason="unreadable", detail=f"{one.detail}, and nothing else is there; fetch it again")
    if _is_misnamed(one) and (among_images or (folder and folders.is_alone(folder))):
        return replace(one, reason="unreadable", detail=_told(one))
    if _is_rare(one) and (among_images or (is_above and (folder or folders.has_subjects() or _is_content(one)))):
        return replace(
            one,
            reason="unreadable",
            detail=f"{one.detail}, which cannot be read here; {way_out(one.detail)}, {_LEAVE_OUT}",
        )
    if _is_hidden(one) and (among_images or is_above) and not _is_signature(one, folders):
        return replace(one, reason="unreadable", detail=_HIDDEN)
    if _is_elsewhere(one) and folders.is_expected(folder):
        return replace(one, reason="unreadable", detail=f"{OUTSIDE}, as all files of its folder do")
    if _is_elsewhere(one) and folders.is_short(folder):
        return replace(one, reason="unreadable", detail=f"{OUTSIDE}; {_UNCOUNTED}")
    return one


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(one: SetAside) -> str:
    return one.path.rpartition("/")[2]


def _is_blank(one: SetAside) -> bool:
    return _is_empty(one) and may_be_image(_real_name(one))


def _real_name(one: SetAside) -> str:
    """The name of the file that it stands for."""
    name = _name(one)
    return name.removeprefix(".").removesuffix(".icloud") if one.detail == ICLOUD else name


def _has_lost_its_start(one: SetAside) -> bool:
    """Raw data and masks of other programs begin with zeros, too. They have a suffix of their own."""
    suffix = _name(one).casefold().rpartition(".")[2]
    begins = one.reason == "not-dicom" and one.detail == BEGINS_WITH_ZEROS
    return begins and may_be_image(_name(one)) and suffix not in _RAW


def _is_empty(one: SetAside) -> bool:
    return one.reason == "not-dicom" and one.detail in BLANK_DETAILS


def _is_misnamed(one: SetAside) -> bool:
    return one.reason in ("not-dicom", "nested-archive") and not _is_blank(one) and is_named_as_image(_name(one))


def _is_rare(one: SetAside) -> bool:
    is_other = one.detail in ENCRYPTED_KINDS and is_named_as_encrypted_text(_name(one))
    return one.reason == "nested-archive" and one.detail in RARE_KINDS and not is_other


def _is_content(one: SetAside) -> bool:
    """Whether it was encrypted or encoded, as no program of a medium is."""
    return one.detail in ENCRYPTED_KINDS | ENCODED_KINDS


def _is_hidden(one: SetAside) -> bool:
    return one.reason == "not-dicom" and one.detail != PLAIN_TEXT and hides_content(_name(one))


def _is_signature(one: SetAside, folders: _Folders) -> bool:
    """Whether it is the signature of a file beside it. Without that one it may hold the content itself."""
    return is_signature(_name(one)) and folders.has(one.path.rpartition(".")[0])


def _is_of_another_kind(one: SetAside) -> bool:
    """Whether it shows that its folder is for other things than images.

    An empty file does not, whatever its name. Nor do a checksum, a signature and a copy of an image.
    """
    if one.reason == "duplicate" or is_junk(_name(one)) or is_proof(_name(one)) or _is_empty(one):
        return False
    if _has_lost_its_start(one):
        return False
    return not (_is_elsewhere(one) or _is_misnamed(one) or _is_rare(one) or _is_hidden(one))


def _told(one: SetAside) -> str:
    return f"named like an image, but it is {one.detail or 'no DICOM'}; fetch it again, or leave it out with --exclude"


def _is_elsewhere(one: SetAside) -> bool:
    return one.reason == "link" and one.detail == OUTSIDE and may_be_image(_name(one))
