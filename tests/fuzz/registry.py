"""All targets, by name."""

from __future__ import annotations

from tests.fuzz import archives, association, deidentification, dicom, nifti, replies, settings
from tests.fuzz.target import Target

FAMILIES = (dicom, archives, nifti, settings, replies, association, deidentification)
TARGETS: dict[str, Target] = {target.name: target for family in FAMILIES for target in family.TARGETS}
