"""File names of a site's own template, where two instances may get the same one. XNAT then replaces the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from xnat_ingest.core import Instance

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


def name_by(template: str, instance: Instance) -> str:
    """The name of an instance, "" when the template has variables whose values are not kept."""
    variables: list[str] = _VARIABLE.findall(template)
    if not _VALUES.keys() >= set(variables):
        return ""

    def value(found: re.Match[str]) -> str:
        return _VALUES[found[1]](instance) or f"no-value-for-{found[1]}"

    return _VARIABLE.sub(value, f"{template.removesuffix('.dcm')}.dcm").lstrip(".")
