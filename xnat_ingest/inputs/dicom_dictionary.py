"""What DICOM's own dictionary says about a tag, and text in DICOM's character sets."""

from __future__ import annotations

import codecs
import difflib
import re
import warnings
from functools import cache

import pydicom.charset
from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import keyword_dict, mask_match

# The VRs of text to which the file's character set applies.
TEXTS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_UID_OF_DICOM = re.compile(rb"1\.2\.840\.10008(\.\d{1,3}){1,10}")


@cache
def _entry(tag: int) -> tuple[tuple[str, ...], str, str]:
    """(VRs, multiplicity, keyword); all empty for a tag that the standard does not know."""
    found = DicomDictionary.get(tag)
    if found is None and (mask := mask_match(tag)) is not None:
        found = RepeatersDictionary[mask]
    return (tuple(found[0].split(" or ")), found[1], found[4]) if found else ((), "", "")


@cache
def vr_of(tag: int) -> str:
    """The first VR of a standard element, "" when it is not in the dictionary."""
    return next(iter(_entry(tag)[0]), "")


def tags_of(vr: str) -> frozenset[int]:
    """Every standard element of this VR."""
    return frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == vr)


def vrs_of(tag: int) -> tuple[str, ...]:
    """Every VR that a standard element may have."""
    return _entry(tag)[0]


def most_values(tag: int) -> int:
    """How many values a standard element may have; 0 for any number."""
    most = _entry(tag)[1].rpartition("-")[2]
    return int(most) if most.isdecimal() else 0


def name_of(tag: int) -> str:
    """The keyword of an element, or its tag when it has no keyword, such as a private element."""
    return _entry(tag)[2] or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@cache
def is_standard_uid(uid: bytes) -> bool:
    """Whether the standard has given this UID out, or may have: its numbers are too short to be anybody's."""
    return uid.decode("latin-1") in UID_dictionary or _UID_OF_DICOM.fullmatch(uid) is not None


def tag_of(keyword: str) -> int | None:
    return keyword_dict.get(keyword)


def nearest_keyword(word: str) -> str:
    """The keyword most similar to a word, ignoring case; "" when none is similar."""
    known = {name.lower(): name for name in keyword_dict}
    near = difflib.get_close_matches(word.lower(), known, n=1)
    return known[near[0]] if near else ""


@cache
def dictionary_words() -> frozenset[str]:
    """Every word in the standard's keywords, in lower case: such words do not identify a patient."""
    return frozenset(word.lower() for name in keyword_dict for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name))


def decoded(value: bytes, character_sets: bytes) -> str:
    """Decodes text in the file's character sets (the value of SpecificCharacterSet). Invalid bytes are replaced."""
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    text = pydicom.charset.decode_bytes(value, _encodings(character_sets), set())
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def knows_character_sets(character_sets: bytes) -> bool:
    """Whether texts in these can be read (the value of SpecificCharacterSet)."""
    return _known_encodings(character_sets) is not None


def _encodings(character_sets: bytes) -> list[str]:
    return _known_encodings(character_sets) or ["utf-8"]


# What changes the character set within a text. pydicom leaves that of GB 2312 in it, and those that it does not know.
_ESCAPE = re.compile(r"\x1b[ -/]+[0-~]")
# Those of the standard, and those of Windows, which some devices name. pydicom takes any codec of Python's. Some of
# those, such as punycode, raise errors for invalid bytes.
_CODECS = frozenset(
    codecs.lookup(name).name
    for name in (*pydicom.charset.python_encoding.values(), *map("cp{}".format, range(1250, 1259)))
)


@cache
def _known_encodings(character_sets: bytes) -> list[str] | None:
    names = [name.strip() for name in character_sets.decode("latin-1").strip(" \0").split("\\")]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = pydicom.charset.convert_encodings(names)
        except (LookupError, ValueError):  # the latter for a null in a name
            return None
    unknown = any("Unknown encoding" in str(warning.message) for warning in said)
    return None if unknown or not _CODECS.issuperset(codecs.lookup(name).name for name in found) else found
