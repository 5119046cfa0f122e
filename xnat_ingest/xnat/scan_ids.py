"""The scan of an instance: where XNAT puts it on receipt, and where a build moves it.

A build reads what a prearchive session has received. It gives each series its own scan id, and moves files that are not
primary images from the resource `DICOM` to `secondary`. It never replaces a file. So an instance that is sent again
after such a move is stored twice, and XNAT refuses to archive the session.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping

from xnat_ingest.core import Instance

# The SOP classes that a build leaves in the resource DICOM (primary-sops.txt of XNAT's dicom-xnat). All others move.
STORAGE = "1.2.840.10008.5.1.4.1.1."
_TAILS = """
    1 1.1 1.1.1 1.2 1.2.1 1.3 1.3.1 2 2.1 3.1 4 4.1 6.1 6.3 9.1.1 9.1.3 9.2.1 9.3.1 9.6.1 9.7.2 9.7.3 9.8.1 12.1 12.2
    13.1.1 13.1.2 13.1.3 20 77.1.1.1 77.1.2 77.1.2.1 77.1.4.1 77.1.5.1 77.1.5.2 77.1.5.4 77.1.6 77.1.7 77.1.8 88.11
    88.22 91.1 104.4 104.5 128 130 481.1 481.2
"""
PRIMARY = frozenset(STORAGE + tail for tail in _TAILS.split())
# In a scan with several modalities, the first of these is used in its name. It is the first of a session, too.
LEADING = ("PT", "MR", "CT", "NM", "XA", "RF", "US", "MG", "CR", "DX", "OPT", "XC", "ES", "RTIMAGE", "ECG", "EEG")


def received_in(instance: Instance) -> str:
    """The scan's folder on receipt: the series number if it is a valid file name, else the series UID."""
    number = instance.series_number.strip()
    if re.fullmatch(r"[\w.-]+", number, re.ASCII):
        return number
    return re.sub(r"[^\w.-]", "_", instance.series_uid, flags=re.ASCII)


def number_of(instance: Instance) -> str:
    """The start of the scan ids of a series."""
    return instance.series_number.strip() or id_without_number(instance.series_uid)


def id_without_number(series_uid: str) -> str:
    """The scan id of a series that has no SeriesNumber."""
    return re.sub(r"\W", "_", series_uid, flags=re.ASCII)


def built_ids(instances: Iterable[Instance]) -> dict[str, str]:
    """SeriesInstanceUID -> scan id, if a build finds exactly these instances.

    A series with a unique number has that number as its id. Series that share a number get NUMBER-MODALITYk, where k
    counts from 1 per modality, in the order of their UIDs.
    """
    modalities: dict[tuple[str, str], set[str]] = defaultdict(set)
    for instance in instances:
        modalities[number_of(instance), instance.series_uid].add(instance.modality)
    sharing = Counter(number for number, _ in modalities)
    ids: dict[str, str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for number, uid in sorted(modalities):
        lead = _lead(modalities[number, uid])
        counts[number, lead] += 1
        ids[uid] = number if sharing[number] == 1 else f"{number}-{lead}{counts[number, lead]}"
    return ids


def _lead(modalities: Collection[str]) -> str:
    return next((one for one in LEADING if one in modalities), "OT")


def moved_by_build(instances: Collection[Instance]) -> frozenset[str]:
    """SOPInstanceUIDs of the instances that the first build moves. They must not be sent again after it."""
    ids = built_ids(instances)
    return frozenset(i.sop_uid for i in instances if i.sop_class not in PRIMARY or ids[i.series_uid] != received_in(i))


def was_built(scan: str, number: str) -> bool:
    """Whether a build has given this id to a series of this number."""
    return scan == number or bool(re.fullmatch(rf"{re.escape(number)}-[A-Z]+[0-9]+", scan))


def moved_already(
    instances: Collection[Instance], scans: Mapping[str, str], secondary: Collection[str]
) -> frozenset[str]:
    """SOPInstanceUIDs of the instances that a built session cannot receive: they, or their series, were moved.

    New files of such a series would lie in its old folder, beside those that were moved. XNAT does not archive that.
    On a site with file names of its own, a name in `secondary` may be that of any object of its scan that moves.

    scans: stored name -> scan id.
    secondary: stored names in the resource `secondary`.
    """
    left = {received_in(i) for i in instances if i.name in scans and scans[i.name] != received_in(i)}
    ids = set(scans.values())
    places = {(number_of(i), received_in(i)) for i in instances}
    left |= {folder for number, folder in places if any(was_built(one, number) for one in ids - {folder})}
    names = {i.name for i in instances}
    begins = tuple({f"{i.study_uid}-" for i in instances})
    unknown = {scans[name] for name in secondary if name not in names and not name.startswith(begins)}

    def is_moved(instance: Instance) -> bool:
        if instance.name in secondary or received_in(instance) in left:
            return True
        return instance.sop_class not in PRIMARY and received_in(instance) in unknown

    return frozenset(i.sop_uid for i in instances if is_moved(i))
