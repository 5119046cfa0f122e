"""Whether a value has the form that its element requires. If not, it was damaged, or it hides something."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from xnat_ingest.inputs.dicom_dictionary import most_values, vr_of, vrs_of

# VRs that writers confuse. A VR of another group means damage, or a trick.
_KIN = (
    frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}),
    frozenset({"AE", "CS"}),
    frozenset({"DS", "IS"}),
    frozenset({"AS", "DA", "DT", "TM"}),
    frozenset({"UI"}),
    frozenset({"AT", "SL", "SS", "SV", "UL", "US", "UV"}),
    frozenset({"FD", "FL"}),
    frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"}),
    frozenset({"SQ"}),
)
_KIN_OF = {vr: number for number, kin in enumerate(_KIN) for vr in kin}
# Bytes of one number.
UNITS = {"US": 2, "SS": 2, "AT": 4, "FL": 4, "SL": 4, "UL": 4, "FD": 8, "SV": 8, "UV": 8}
_WIDE_UNITS = {"OF": 4, "OL": 4, "OD": 8, "OV": 8, "OW": 2}
# What a value of each kind never contains: control characters (an escape begins another character set), and a null
# before the end.
_NOT_IN_TEXT = re.compile(rb"[\x01-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]|\0(?!\0*\Z)")
_NOT_IN = {
    "CS": re.compile(rb"[^ -~\0]|\0(?!\0*\Z)|(?:\A|\\)(?!ISO_)(?:[^\\]*?\d){6}"),
    "AE": re.compile(rb"[^ -~\0]|\0(?!\0*\Z)"),
    "DS": re.compile(rb"[^0-9+\-.eE \\\0,NnAaIiFf]|\0(?!\0*\Z)"),
    "IS": re.compile(rb"[^0-9+\-.eE \\\0]|\0(?!\0*\Z)"),
    "DA": re.compile(rb"[^0-9./ \\\0-]|\0(?!\0*\Z)"),
    "TM": re.compile(rb"[^0-9.: \\\0+-]|\0(?!\0*\Z)"),
    "DT": re.compile(rb"[^0-9.: \\\0+-]|\0(?!\0*\Z)"),
    "AS": re.compile(rb"[^0-9DWMYdwmy \\\0]|\0(?!\0*\Z)"),
    "UI": re.compile(rb"[^0-9. \\\0]|\0(?!\0*\Z)"),
}
# Dates and times as devices write them. Of a date, months and days may be zeros or missing, and a time may follow. The
# fraction of a second has six digits, then zeros.
_FRACTION = r"(?:\.\d{1,6}0*)?"
_CLOCK = rf"\d{{1,2}}:[0-5]\d(?::[0-6]\d{_FRACTION})?"
_ZONE = r"(?:[+-](?:0\d|1[0-4])[0-5]\d)?"
_PLAIN_TIME = rf"[0-2]\d(?:[0-5]\d(?:[0-6]\d{_FRACTION})?)?"
_PLAIN_DATE = rf"\d{{4}}(?:[01]\d(?:[0-3]\d(?:{_PLAIN_TIME})?{_ZONE})?)?"
_DIVIDED_DATE = rf"(?:\d{{4}}([./-])[01]?\d\1[0-3]?\d|[0-3]?\d([./-])[0-3]?\d\2\d{{4}})(?: {_CLOCK})?"
_DATE = re.compile(rf"(?:{_PLAIN_DATE}|{_DIVIDED_DATE})?".encode())
_TIME = re.compile(rf"(?:(?:{_PLAIN_TIME}|{_CLOCK}){_ZONE})?".encode())
_FORMS = {"AS": re.compile(rb"(?:\d{1,3} ?[DWMYdwmy]?)?"), "DA": _DATE, "DT": _DATE, "TM": _TIME}
# A number of so many bytes that can all be read as letters and digits is text.
_LEGIBLE = re.compile(rb"[0-9A-Za-z^ =._\\-]{6,}")
# A number in characters, and a code: a CS has at most 16 characters, in fact also small letters and some signs.
# There is one way to read digits as a number: with two, a long value that is none would take quadratic time.
_NUMBER = re.compile(rb"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf(?:inity)?)|", re.IGNORECASE)
_CODE = re.compile(rb"[A-Za-z0-9 _+./-]{0,16}")
# Characters of one value by PS3.5, 6.2; of VRs that are taken for one another, those of the longest.
_CHARACTERS = dict.fromkeys(("AE", "CS", "DS", "IS", "SH"), 16) | dict.fromkeys(("AS", "DA", "DT", "TM"), 26)
_CHARACTERS |= {"LO": 64, "UI": 64}
# Devices write more than they may. Nobody writes prose in twice as many.
_LENIENCE = 2
# One value of a CS that is longer than the standard allows: capital letters, or one word.
_LONG_CODE = re.compile(rb"[A-Z0-9 _+./-]*|[A-Za-z0-9_+./-]*")
_ESCAPE = re.compile(rb"\x1b[ -/]+[0-~]")
_PRINTED = bytes(range(32, 127)) + b"\t\r\n"
_BYTES = frozenset({"", "OB", "OD", "OF", "OL", "OV", "OW", "UN"})
# Up to so many bytes only letters and digits count as text: few numbers look like them.
_LEAST_TEXT, _FEW_BYTES, _SOME_BYTES = 6, 8, 16
_CHARACTER_SETS = 0x00080005

Check = Callable[[bytes], bool]


@cache
def check_of_kept(tag: int, vr: str) -> Check | None:
    """As check_of, for a value that nobody looks into before it leaves: its length counts, too, and of dates, times and
    ages the whole form."""
    check, name = check_of(tag, vr), vr_of(tag)
    most = _CHARACTERS.get(name, 0)
    if check is not None and (own := vr if vr not in ("UN", "") else name) in _FORMS:
        check = _all_of(check, own)
    if check is None or not most or tag == _CHARACTER_SETS:
        return check
    form = check

    def fits(value: bytes) -> bool:
        if not form(value):
            return False
        if len(value) <= most:
            return True
        values = value.split(b"\\")
        return max(map(len, values)) <= most or all(_is_short(one, name, most) for one in values)

    return fits


def _all_of(check: Check, vr: str) -> Check:
    return lambda value: check(value) and has_form(vr, value)


def has_form(vr: str, value: bytes) -> bool:
    """Whether every value of a DA, DT, TM or AS element is a date, a time or an age."""
    form = _FORMS[vr]
    return all(form.fullmatch(one.strip(b" \0")) for one in value.split(b"\\"))


def _is_short(value: bytes, vr: str, most: int) -> bool:
    """Whether one value is about as long as it may be. Characters of two bytes each count twice, and still fit."""
    if len(value) <= most:
        return True
    text = value.strip(b" \0")
    if vr == "CS" and len(text) > most and not _LONG_CODE.fullmatch(text):
        return False
    return _characters(text) <= most * _LENIENCE


def _characters(value: bytes) -> int:
    if value.isascii() and b"\x1b" not in value:
        return len(value)
    plain = _ESCAPE.sub(b"", value)
    try:
        return len(plain.decode("utf-8"))
    except UnicodeDecodeError:
        return len(plain)


@cache
def check_of(tag: int, vr: str) -> Check | None:
    """The check of the form of this element's values in this VR. None when every value is valid.

    vr: as the file names it, or as the dictionary does where it names none; "" when neither knows.
    """
    known = vrs_of(tag)
    is_kin = vr in ("UN", "") or _KIN_OF.get(vr) in {_KIN_OF.get(one) for one in known}
    if known and not is_kin and not _are_numbers_in_bulk(vr, known):
        return _never
    name = vr if vr not in ("UN", "") else vr_of(tag)
    most = 0 if not known or {"OB", "OW"} & set(known) else most_values(tag)
    if name in ("OB", "OW") and known and not {"OB", name} & set(known):  # numbers, written as bytes
        return _numbers(UNITS["US"], most)
    if name in UNITS:
        return _numbers(UNITS[name], most)
    if name in _WIDE_UNITS:
        return _numbers(_WIDE_UNITS[name], 0)
    if tag == _CHARACTER_SETS:
        return _without(_NOT_IN["AE"])
    if name in _KIN[0]:
        return _without(_NOT_IN_TEXT)
    return _without(_NOT_IN[name]) if name in _NOT_IN else None


def holds_numbers(vr: str, value: bytes) -> bool:
    """Whether a value holds nothing but numbers, whatever VR the file gives it."""
    if vr not in _BYTES and vr not in UNITS:
        return all(_NUMBER.fullmatch(one.strip(b" \0")) for one in value.split(b"\\"))
    return not _reads_as_text(value) or (vr in _BYTES and holds_numbers("IS", value))


def holds_codes(vr: str, value: bytes) -> bool:
    """Whether a value holds nothing but numbers or codes, whatever VR the file gives it."""
    codes = vr not in UNITS and all(_CODE.fullmatch(one.strip(b" \0")) for one in value.split(b"\\"))
    return codes or holds_numbers(vr, value)


def _reads_as_text(value: bytes) -> bool:
    """Whether binary numbers are in truth letters. Numbers can look like few of them by chance."""
    size = len(value)
    if size <= _FEW_BYTES:
        return _LEGIBLE.fullmatch(value) is not None
    odd = len(value.translate(None, _PRINTED))
    return not odd if size <= _SOME_BYTES else odd * 10 <= size


def _never(value: bytes) -> bool:
    return not value.strip(b" \0")


def _are_numbers_in_bulk(vr: str, known: tuple[str, ...]) -> bool:
    """Lookup tables are written as words and as numbers."""
    return vr in ("OB", "OW", "US", "SS") and not {"OB", "OW", "US", "SS"}.isdisjoint(known)


def _without(pattern: re.Pattern[bytes]) -> Check:
    return lambda value: pattern.search(value) is None


def _numbers(unit: int, most: int) -> Check:
    def fits(value: bytes) -> bool:
        size = len(value)
        if size % unit or (most and size > most * unit):
            return False
        return size < _LEAST_TEXT or not _reads_as_text(value)

    return fits
