"""Which objects may show text in their pixels, such as a patient's name, by what their headers say."""

from __future__ import annotations

# Kinds of objects, by the start of their SOP class UID, that are mostly pictures of screens or paper.
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_RISKS = {
    _STORAGE + "7.": "a secondary capture",
    _STORAGE + "6.": "an ultrasound image",
    _STORAGE + "3.": "an ultrasound image",
    _STORAGE + "104.": "an encapsulated document",
    _STORAGE + "77.1.": "a photograph",  # also from a microscope, an endoscope, of eyes or skin, and videos
    _STORAGE + "77.2.": "a photograph",
    "1.2.840.10008.5.1.1.29.": "a printed page",
    "1.2.840.10008.5.1.1.30.": "a printed page",
}
_DOCUMENTS = _STORAGE + "104."


def text_risk(burned_in: str, sop_class: str, image_type: str) -> str:
    """Why an object may show text that is in its pixels, "" when nothing says so. The values are as written."""
    said = burned_in.upper()
    if "YES" in said.split("\\"):
        return "BurnedInAnnotation says YES"
    if sop_class.startswith(_DOCUMENTS):
        return _RISKS[_DOCUMENTS]
    if said == "NO":
        return ""
    kind = next((text for start, text in _RISKS.items() if f"{sop_class}.".startswith(start)), "")
    if not kind and "SCREEN" in image_type.upper():
        kind = "a screenshot"
    return f"{kind} whose BurnedInAnnotation does not say NO" if kind else ""


def may_be_overlay(bit: int, bits: int, *, is_apart: bool) -> bool:
    """Whether an overlay lies in the unused bits of the pixels, as before 2004.

    bit, bits: its OverlayBitPosition and OverlayBitsAllocated, 0 where they are absent.
    is_apart: whether it has data of its own.
    """
    return bool(bit and bits > 1) if is_apart else bool(bit or bits > 1)
