"""The type of an archived session, which XNAT keeps.

A build gives a prearchive session its type: that of its images, or else of its modalities. XNAT merges it only into a
session of the same type. So an archived instance of the leading modality goes along where it is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from xnat_ingest.core import Instance
from xnat_ingest.xnat.scan_ids import LEADING, PRIMARY, STORAGE

# The modalities that give a session its type. A merge of a prearchive session without them would change the type.
DEFINING_MODALITIES = {
    "xnat:mrSessionData": ("MR",),
    "xnat:petSessionData": ("PT",),
    "xnat:ctSessionData": ("CT",),
    "xnat:petmrSessionData": ("PT", "MR"),
    "xnat:usSessionData": ("US",),
    "xnat:xaSessionData": ("XA",),
    "xnat:rfSessionData": ("RF",),
    "xnat:crSessionData": ("CR",),
    "xnat:dxSessionData": ("DX",),
    "xnat:nmSessionData": ("NM",),
    "xnat:mgSessionData": ("MG",),
}
# The SOP classes of images that have one of these modalities, whatever their header says.
_TAILS = {
    "MR": "4 4.1 4.3 4.4",
    "PT": "128 128.1 130",
    "CT": "2 2.1 2.2",
    "US": "3 3.1 6 6.1 6.2",
    "XA": "12.1 12.1.1 13.1.1",
    "RF": "12.2 12.2.1",
    "CR": "1",
    "DX": "1.1 1.1.1",
    "NM": "20",
    "MG": "1.2 1.2.1 13.1.3",
}
_MODALITY = {STORAGE + tail: modality for modality, tails in _TAILS.items() for tail in tails.split()}
# Types that a session can have because it holds no such image.
_OF_OTHERS = frozenset(f"xnat:{one}SessionData" for one in ("otherDicom", "sr"))


@dataclass(frozen=True, slots=True)
class Company:
    """The archived instances that go along.

    unmatched: a modality of which none can, since its files on the server have other names, and a copy under its own
        name would be stored twice
    """

    companions: tuple[Instance, ...] = ()
    unmatched: str = ""


def company(
    xsi_type: str, to_send: Collection[Instance], archived: Collection[Instance], usable: Collection[str]
) -> Company:
    """The archived instances that keep the session's type.

    xsi_type: the type of the archived session, "" where there is none
    archived: the planned instances that are archived
    usable: SOPInstanceUIDs of those that may be sent again
    """
    found: list[Instance] = []
    for modality in DEFINING_MODALITIES.get(xsi_type, ()):
        if modality in _modalities(to_send):
            continue
        alike = sorted((i for i in archived if i.modality == modality), key=lambda i: i.sop_class not in PRIMARY)
        if representative := next((i for i in alike if i.sop_uid in usable), None):
            found.append(representative)
        elif alike:
            return Company(unmatched=modality)
    return Company(tuple(found))


def missing_modality(xsi_type: str, sent: Collection[Instance]) -> str:
    """A modality without which these instances cannot make a session of this type; "" where they may."""
    there = {i.modality for i in sent} | {_MODALITY.get(i.sop_class, "") for i in sent}
    return next((one for one in DEFINING_MODALITIES.get(xsi_type, ()) if one not in there), "")


def leading_modality(xsi_type: str, sent: Collection[Instance], *, makes_petmr: bool = False) -> str:
    """The modality with which these instances surely make a session of another type than this one; or "".

    makes_petmr: PET and MR together make a PET/MR session
    """
    if xsi_type not in DEFINING_MODALITIES and xsi_type not in _OF_OTHERS:
        return ""
    images = [i for i in sent if i.sop_class in _MODALITY]
    lead = _lead(i.modality for i in images)
    if not lead or lead != _lead(_MODALITY[i.sop_class] for i in images):
        return ""
    if makes_petmr and xsi_type == "xnat:petSessionData" and any(_MODALITY[i.sop_class] == "MR" for i in images):
        return "MR"
    return "" if lead in DEFINING_MODALITIES.get(xsi_type, ()) else lead


def _modalities(instances: Collection[Instance]) -> set[str]:
    """Those that decide: of the primary images, or of all where there are none."""
    return {i.modality for i in instances if i.sop_class in PRIMARY} or {i.modality for i in instances}


def _lead(modalities: Iterable[str]) -> str:
    found = set(modalities)
    return next((one for one in LEADING if one in found), "")
