"""What an object of each SOP class must contain. An object without it was truncated.

Rows is no help: spectra and raw data have it without pixels, and a file can be truncated before it.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
ROWS, PIXEL_URL = 0x00280010, 0x00287FE0
_SPECTRUM, _DOCUMENT = 0x56000020, 0x00420011
_RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
# Image classes whose names do not say so. Each has one of the three pixel data elements as type 1 (PS3.3, annex A).
IMAGES = {
    "1.2.840.10008.5.1.4.1.1.6.2": "Enhanced US Volume",
    "1.2.840.10008.5.1.4.1.1.30": "Parametric Map",
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation",
    "1.2.840.10008.5.1.4.1.1.77.1.5.8": "Ophthalmic OCT B-scan Volume Analysis",
    "1.2.840.10008.5.1.4.1.1.81.1": "Ophthalmic Thickness Map",
    "1.2.840.10008.5.1.4.1.1.82.1": "Corneal Topography Map",
}
# Images whose names say so, and which most trees are made of.
COMMON_IMAGES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.1",  # CR
        "1.2.840.10008.5.1.4.1.1.1.1",  # digital X-ray
        "1.2.840.10008.5.1.4.1.1.2",  # CT
        "1.2.840.10008.5.1.4.1.1.2.1",
        "1.2.840.10008.5.1.4.1.1.3.1",  # US, several frames
        "1.2.840.10008.5.1.4.1.1.4",  # MR
        "1.2.840.10008.5.1.4.1.1.4.1",
        "1.2.840.10008.5.1.4.1.1.6.1",  # US
        "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
        "1.2.840.10008.5.1.4.1.1.12.1",  # XA
        "1.2.840.10008.5.1.4.1.1.20",  # NM
        "1.2.840.10008.5.1.4.1.1.128",  # PET
    }
)
# Classes that are not images, and the one element that each cannot do without.
DOCUMENTS = {
    "1.2.840.10008.5.1.4.1.1.4.2": (_SPECTRUM, "spectroscopy data"),
    "1.2.840.10008.5.1.4.1.1.104.1": (_DOCUMENT, "document"),  # PDF
    "1.2.840.10008.5.1.4.1.1.104.2": (_DOCUMENT, "document"),  # CDA
    "1.2.840.10008.5.1.4.1.1.104.3": (_DOCUMENT, "document"),  # STL
    "1.2.840.10008.5.1.4.1.1.104.4": (_DOCUMENT, "document"),  # OBJ
    "1.2.840.10008.5.1.4.1.1.104.5": (_DOCUMENT, "document"),  # MTL
}
# The elements whose presence decides.
DECISIVE = frozenset((*PIXEL_TAGS, ROWS, PIXEL_URL, _SPECTRUM, _DOCUMENT))
_PIXELS_OR_ADDRESS = frozenset((*PIXEL_TAGS, PIXEL_URL))


@cache
def is_image(sop_class: str) -> bool:
    """Whether every object of this class has pixels. False for a class that is not in the standard."""
    if sop_class in IMAGES or sop_class in COMMON_IMAGES:
        return True
    from pydicom import config  # loaded for the rare ones
    from pydicom.uid import UID

    return "Image Storage" in UID(sop_class, validation_mode=config.IGNORE).name


def lacking(sop_class: str, has: Collection[int]) -> str:
    """What an object should have but does not, in words, or "". has: which of the DECISIVE elements it has."""
    if element := DOCUMENTS.get(sop_class):
        return "" if element[0] in has else element[1]
    # A dose grid has rows and pixels. An object with only histograms has neither (PS3.3, A.18.3).
    needs_pixels = is_image(sop_class) or (sop_class == _RT_DOSE and ROWS in has)
    # The pixels may be at another address, which the object gives (JPIP).
    return "pixel data" if needs_pixels and _PIXELS_OR_ADDRESS.isdisjoint(has) else ""
