"""The type of an archived session, which XNAT keeps.

A build gives a prearchive session its type: that of its images, or else of its modalities. XNAT merges it only into a
session of the same type. So an archived instance of the leading modality goes along where it is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace

from xnat_ingest.core import Instance, Plan
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


def type_of(instances: Collection[Instance]) -> str:
    """The type of a session of these, "" where it is not known. PET and MR may also make a PET/MR session."""
    lead = (
        _lead(_MODALITY.get(i.sop_class, "") for i in instances)
        or _lead(i.modality for i in instances if i.sop_class in PRIMARY)
        or _lead(i.modality for i in instances)
    )
    types = {modality: xsi_type for xsi_type, (modality, *others) in DEFINING_MODALITIES.items() if not others}
    return types.get(lead, "") if lead else "xnat:otherDicomSessionData"


def lost_modality(sent: Collection[Instance], planned: Collection[Instance], *, makes_petmr: bool = False) -> str:
    """A modality that only instances have that were not sent, and that would give the session another type; or "".

    XNAT archives a session of the type of those that were sent. It then refuses to add the others.
    """
    lead = leading_modality(type_of(sent), planned, makes_petmr=makes_petmr) if sent else ""
    return "" if lead in {i.modality or _MODALITY.get(i.sop_class, "") for i in sent} else lead


def without_images(plan: Plan) -> dict[str, int]:
    """Title of each session without images of its own -> how many files in its folder have a problem, if any."""
    set_aside: Counter[str] = Counter()
    for aside in plan.set_aside:
        if aside.is_problem:
            names = aside.path.split("/")
            set_aside.update("/".join(names[:depth]) for depth in range(len(names) + 1))
    return {
        s.title: set_aside[s.folder]
        for s in plan.sessions
        if set_aside[s.folder] and type_of(s.instances) in _OF_OTHERS
    }


def needed_modality(xsi_type: str, to_send: Collection[Instance], passed: Collection[str] = ()) -> str:
    """A modality of which an archived instance must go along, so that the session keeps its type; or "".

    xsi_type: the type of the archived session, "" where there is none
    passed: modalities that cannot be had
    """
    there = {i.modality for i in to_send if i.sop_class in PRIMARY} or {i.modality for i in to_send}
    return next((m for m in DEFINING_MODALITIES.get(xsi_type, ()) if m not in there and m not in passed), "")


def candidates(modality: str, archived: Iterable[Instance]) -> list[Instance]:
    """An instance of each archived series of this modality, real images first."""
    of_series: dict[str, Instance] = {}
    for one in sorted((i for i in archived if i.modality == modality), key=lambda i: i.sop_class not in PRIMARY):
        of_series.setdefault(one.series_uid, one)
    return list(of_series.values())


def missing_modalities(xsi_type: str, sent: Collection[Instance]) -> list[str]:
    """The modalities without which these instances cannot make a session of this type."""
    there = {i.modality for i in sent} | {_MODALITY.get(i.sop_class, "") for i in sent}
    return [one for one in DEFINING_MODALITIES.get(xsi_type, ()) if one not in there]


def leading_modality(xsi_type: str, sent: Collection[Instance], *, makes_petmr: bool = False) -> str:
    """The modality with which these instances surely make a session of another type than this one; or "".

    makes_petmr: PET and MR together make a PET/MR session
    """
    if xsi_type not in DEFINING_MODALITIES and xsi_type not in _OF_OTHERS:
        return ""
    images = [i for i in sent if i.sop_class in _MODALITY]
    if xsi_type in _OF_OTHERS and not images and not _lead(i.modality for i in sent if i.sop_class in PRIMARY):
        return _lead(i.modality for i in sent)
    lead = _lead(i.modality or _MODALITY[i.sop_class] for i in images)
    if not lead or lead != _lead(_MODALITY[i.sop_class] for i in images):
        return ""
    if makes_petmr and xsi_type == "xnat:petSessionData" and any(_MODALITY[i.sop_class] == "MR" for i in images):
        return "MR"
    return "" if lead in DEFINING_MODALITIES.get(xsi_type, ()) else lead


def modalities_to_leave_out(xsi_type: str, sent: Collection[Instance], *, makes_petmr: bool = False) -> list[str]:
    """The modalities that surely make another type, even with images of the session's own; the first leads.

    Without them, the rest can be merged, together with such images.
    """
    rest = [*sent, *_imagined(xsi_type, sent)]
    found: list[str] = []
    while (lead := leading_modality(xsi_type, rest, makes_petmr=makes_petmr)) and lead not in found:
        found.append(lead)
        rest = without(rest, found)
    return found


def without(instances: Iterable[Instance], modalities: Collection[str]) -> list[Instance]:
    """The instances of other modalities. An image that names none has that of its class."""
    return [i for i in instances if (i.modality or _MODALITY.get(i.sop_class, "")) not in modalities]


def _imagined(xsi_type: str, sent: Iterable[Instance]) -> list[Instance]:
    """An image of each modality of this type."""
    classes = {modality: sop_class for sop_class, modality in _MODALITY.items() if sop_class in PRIMARY}
    return [
        replace(one, modality=modality, sop_class=classes[modality])
        for one in list(sent)[:1]
        for modality in DEFINING_MODALITIES.get(xsi_type, ())
    ]


def _lead(modalities: Iterable[str]) -> str:
    found = set(modalities)
    return next((one for one in LEADING if one in found), "")
