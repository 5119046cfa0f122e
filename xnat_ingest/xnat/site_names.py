"""File names of a site's own template, where two instances may get the same one. XNAT then replaces the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from xnat_ingest.core import Instance
from xnat_ingest.core.stored_name import uid_hash

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_VALUES: Mapping[str, Callable[[Instance], str]] = {
    "StudyInstanceUID": lambda i: i.study_uid,
    "SeriesInstanceUID": lambda i: i.series_uid,
    "SOPClassUID": lambda i: i.sop_class,
    "SeriesNumber": lambda i: i.series_number,
    "InstanceNumber": lambda i: i.instance_number,
    "Modality": lambda i: i.modality,
}


def may_repeat(template: str) -> bool:
    """Whether two instances can get one name: no variable depends on the SOPInstanceUID."""
    return bool(template) and "SOPInstanceUID" not in template


def of_instance(template: str, instance: Instance) -> str:
    """A template with what tells the instance filled in."""
    hashed = uid_hash(instance.sop_class, instance.sop_uid)
    filled = template.replace("${SOPInstanceUID}", instance.sop_uid)
    return filled.replace("${HashSOPClassUIDWithSOPInstanceUID}", hashed)


def among(names: Collection[str], template: str, instance: Instance) -> frozenset[str]:
    """Those of some names that the instance may get. A variable whose value is not kept may stand for anything."""
    variables: list[str] = _VARIABLE.findall(template)
    filled = f"{template.removesuffix('.dcm')}.dcm"
    for variable in _VALUES.keys() & set(variables):
        filled = filled.replace(f"${{{variable}}}", _VALUES[variable](instance) or f"no-value-for-{variable}")
    filled = filled.lstrip(".")
    if _VALUES.keys() >= set(variables):
        return frozenset({filled} if filled in names else ())
    pattern = re.compile(".*".join(map(re.escape, _VARIABLE.split(filled)[::2])))
    return frozenset(filter(pattern.fullmatch, names))
