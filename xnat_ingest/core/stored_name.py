"""The file name that XNAT gives a stored instance."""

from __future__ import annotations

import struct
from functools import lru_cache
from operator import mul

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
# What each character of a UID is multiplied by, the last character last: every instance of a large tree has its hash.
_POWERS = tuple(pow(31, power, 1 << 32) for power in reversed(range(128)))


def java_hash(text: str) -> int:
    """Java's String.hashCode (over UTF-16 units) as an unsigned 32-bit number."""
    if text.isascii() and len(text) <= len(_POWERS):
        powers = _POWERS[len(_POWERS) - len(text) :]
        total: int = sum(map(mul, text.encode("ascii"), powers))
        return total & 0xFFFFFFFF
    raw = text.encode("utf-16-be", "surrogatepass")
    value = 0
    for unit in struct.unpack(f">{len(raw) // 2}H", raw):
        value = (31 * value + unit) & 0xFFFFFFFF
    return value


_class_hash = lru_cache(maxsize=256)(java_hash)


def base36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text or "0"


def uid_hash(sop_class: str, sop_uid: str) -> str:
    """The last part of XNAT's default file name: List.hashCode of both UIDs, unsigned, in base 36.

    Source: XNAT's TemplatizedDicomFileNamer, template part HashSOPClassUIDWithSOPInstanceUID.
    """
    value = 31 * (31 + _class_hash(sop_class)) + java_hash(sop_uid)
    return base36(value & 0xFFFFFFFF)


def stored_name(study_uid: str, series_number: str, instance_number: str, hashed: str) -> str:
    """The name that XNAT's default naming template gives an instance when `rename=true` is sent."""
    series = series_number or "no-value-for-SeriesNumber"
    instance = instance_number or "no-value-for-InstanceNumber"
    # A slash in a header would make a folder; listings show the last part.
    return f"{study_uid}-{series}-{instance}-{hashed}.dcm".lstrip(".").rpartition("/")[2]
