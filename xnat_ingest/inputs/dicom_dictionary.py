"""What DICOM's own dictionary says of a tag, and texts in DICOM's character sets."""

from __future__ import annotations

import difflib
import re
import warnings
from functools import cache

import pydicom.charset
from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom.datadict import keyword_dict, mask_match

# The VR of a text that its file's character set applies to.
TEXTS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})


@cache
def _entry(tag: int) -> tuple[str, str]:
    """(VR, keyword); both "" for a tag that the standard does not know."""
    found = DicomDictionary.get(tag)
    if found is None and (mask := mask_match(tag)) is not None:
        found = RepeatersDictionary[mask]
    return (found[0].partition(" or ")[0], found[4]) if found else ("", "")


def vr_of(tag: int) -> str:
    """The first VR of a standard element, "" when the dictionary lacks it."""
    return _entry(tag)[0]


def name_of(tag: int) -> str:
    """The keyword of an element; its tag when it has none, as private ones do."""
    return _entry(tag)[1] or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def tag_of(keyword: str) -> int | None:
    return keyword_dict.get(keyword)


def nearest_keyword(word: str) -> str:
    """The keyword most like a word, compared without case; "" when none is."""
    known = {name.lower(): name for name in keyword_dict}
    near = difflib.get_close_matches(word.lower(), known, n=1)
    return known[near[0]] if near else ""


@cache
def dictionary_words() -> frozenset[str]:
    """Every word of the standard's keywords, in lower case: words that say nothing about a patient."""
    return frozenset(word.lower() for name in keyword_dict for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name))


def decoded(value: bytes, character_sets: bytes) -> str:
    """A text in its file's character sets (the value of SpecificCharacterSet); bytes that do not fit are replaced."""
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    return pydicom.charset.decode_bytes(value, _encodings(character_sets), set())


@cache
def _encodings(character_sets: bytes) -> list[str]:
    names = [name.strip() for name in character_sets.decode("latin-1").strip(" \0").split("\\")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pydicom.charset.convert_encodings(names)
        except LookupError:
            return ["utf-8"]
