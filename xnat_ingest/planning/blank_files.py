"""Files without an image where images are: a copy was interrupted, a disk has lost them, or they are elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import replace

from xnat_ingest.core import BLANK_DETAILS, OUTSIDE, Session, SetAside
from xnat_ingest.inputs.archive_kinds import RARE_KINDS
from xnat_ingest.inputs.system_names import is_junk, is_named_as_image, may_be_image

_UNPACK = "unpack it there, or leave it out with --exclude"


def mark_blank(
    aside: Iterable[SetAside], sessions: Iterable[Session], depth: int, counting: Container[str] = ()
) -> list[SetAside]:
    """The files set aside, with a problem as the reason for blank files among DICOM.

    A blank file counts when something is sent from its own folder. It also counts when its folder has only blank files,
    and lies in a session or as deep as a folder from which something is sent: a whole session may have been lost.
    There, links out of ROOT count, too: all of it may be somewhere else. Files that are named like an image and hold
    something else count in both cases. They also count alone in any folder below ROOT. Archives of rare kinds count in
    both cases, and beside anything in the folder of a session or a subject.

    depth: how many names a session's folder has.
    counting: reasons of files that a rule leaves out because of their number. A file that was lost is lacking in it, so
        a blank file beside them counts, too.
    """
    listed = list(aside)
    counted = {_folder(one) for one in listed if one.reason in counting}
    sent = {instance.path.rpartition("/")[0] for session in sessions for instance in session.instances}
    depths = {folder.count("/") for folder in sent if folder}
    sent_sessions = {_top(folder, depth) for folder in sent}
    others: dict[str, bool] = defaultdict(bool)  # folder -> whether it has files that are neither sent nor blank
    for one in listed:
        others[_folder(one)] |= not (_may_hold_images(one) or is_junk(_name(one)))

    def is_expected(folder: str) -> bool:
        """Whether nothing but images may be in a folder from which nothing is sent."""
        level = folder.count("/")
        in_session = level >= depth if _top(folder, depth) in sent_sessions else bool(folder) and level >= depth - 1
        return (in_session or (bool(folder) and level in depths)) and is_alone(folder)

    def is_alone(folder: str) -> bool:
        """Whether nothing but what may have been images is in a folder, while other folders have images."""
        return bool(sent) and folder not in sent and not others[folder]

    def is_above(folder: str) -> bool:
        """Whether it is the folder of a subject or a session. What is packed there may be a session or a series."""
        return bool(sent) and bool(folder) and folder.count("/") < depth

    def judge(one: SetAside) -> SetAside:
        folder = _folder(one)
        among_images = folder in sent or folder in counted or is_expected(folder)
        if _is_blank(one) and among_images:
            return replace(one, reason="blank")
        if _is_misnamed(one) and (among_images or (folder and is_alone(folder))):
            return replace(one, reason="unreadable", detail=_told(one))
        if _is_rare(one) and (among_images or is_above(folder)):
            return replace(one, reason="unreadable", detail=f"{one.detail}, which cannot be read here; {_UNPACK}")
        if _is_elsewhere(one) and is_expected(folder):
            return replace(one, reason="unreadable", detail=f"{OUTSIDE}, as all files of its folder do")
        return one

    return [judge(one) for one in listed]


def _folder(one: SetAside) -> str:
    return one.path.rpartition("/")[0]


def _name(one: SetAside) -> str:
    return one.path.rpartition("/")[2]


def _top(folder: str, depth: int) -> str:
    return "/".join(folder.split("/")[:depth])


def _is_blank(one: SetAside) -> bool:
    return one.reason == "not-dicom" and one.detail in BLANK_DETAILS and may_be_image(_name(one))


def _is_misnamed(one: SetAside) -> bool:
    return one.reason in ("not-dicom", "nested-archive") and not _is_blank(one) and is_named_as_image(_name(one))


def _is_rare(one: SetAside) -> bool:
    return one.reason == "nested-archive" and one.detail in RARE_KINDS


def _may_hold_images(one: SetAside) -> bool:
    return _is_blank(one) or _is_elsewhere(one) or _is_misnamed(one) or _is_rare(one)


def _told(one: SetAside) -> str:
    return f"named like an image, but it is {one.detail or 'no DICOM'}; fetch it again, or leave it out with --exclude"


def _is_elsewhere(one: SetAside) -> bool:
    return one.reason == "link" and one.detail == OUTSIDE and may_be_image(_name(one))
