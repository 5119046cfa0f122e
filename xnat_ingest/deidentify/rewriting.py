"""Rewrites one header by a profile: element by element, at every depth, in its own encoding."""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import PurePath

from xnat_ingest.deidentify.any_date import holds_date
from xnat_ingest.deidentify.encoding import Encoding, NotRewritable, Reader, padded
from xnat_ingest.deidentify.forms import UNITS, Check, check_of, check_of_kept, has_form, holds_codes, holds_numbers
from xnat_ingest.deidentify.gathering import (
    CHARACTER_SETS,
    FRAME_OF_REFERENCE_UID,
    SERIES_UID,
    SOP_UID,
    STUDY_DATE,
    STUDY_UID,
    Element,
    Facts,
    gather_facts,
)
from xnat_ingest.deidentify.profile import CODE, NUMBER, Profile, filled
from xnat_ingest.deidentify.pseudonyms import Key, dummy, moved
from xnat_ingest.deidentify.tokens import BIRTH, STUDY, Source, Token, Tokens, fold, is_readable, readings, tokens_of
from xnat_ingest.inputs.dicom_dictionary import TEXTS, decoded, is_standard_uid, knows_character_sets, name_of, vr_of
from xnat_ingest.inputs.source import go_on

REMOVED, METHOD, METHOD_CODES, DATES_MODIFIED = 0x00120062, 0x00120063, 0x00120064, 0x00280303
DUMMY, CLEAN = "dummy", "clean"
_LISTED = {NUMBER: "number", CODE: "code"}
_DATES = ("DA", "DT", "TM")
_WORD_ON_DATES = {"shift": b"MODIFIED", "keep": b"UNMODIFIED", "remove": b"REMOVED"}
_CONCEPT_NAME = 0x0040A043
# In free text that is kept, beside dates: what looks like a telephone or other long number, or an address of mail.
# Of numbers with dots or other dashes between them, three groups of two digits or more: a fraction has fewer.
_TELLTALE = re.compile(
    r"\d{6,}|\+?\d[\d ()/-]{6,}\d|[^\s@]@[^\s@]+\.[a-z]"
    r"|(?=(?:\d\W?){7})\d{2,}(?:[-.\u00b7\u2010-\u2015\u2212]\d{2,}){2,}"
)
# What plans and reports tell of an object, beside what was written anew.
_TOLD = frozenset({0x00080018, 0x0008103E, 0x0020000D, 0x0020000E})
# VRs of numbers that can be an identifier, as struct reads one.
_NUMBERS = {"UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FD": "d", "FL": "f", "DS": "", "IS": ""}
# So many digits of a number are the same where it was kept in 64 bits.
_SURE_DIGITS = 12
_IN_CHARACTERS = frozenset({"DS", "IS"})
_DECIMAL = re.compile(rb"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,2})?")
# Values that are a date, and not only made of its characters.
_TRUE_DATE = re.compile(
    rb"(?:(?:1[89]|2[01])\d\d[.-]?(?:0\d|1[0-2])[.-]?[0-3]\d(?:[0-2]\d(?:[0-5]\d){0,2}(?:\.\d+)?)?(?:[+-]\d{4})?)?"
)
# A UID inside of bytes or a text. With fewer numbers it may be a version.
_UID = re.compile(rb"(?<![\d.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\d.])")
# The originals of these must not be left anywhere, since they lead back to the image.
_UIDS = (SOP_UID, SERIES_UID, STUDY_UID, FRAME_OF_REFERENCE_UID)
# UIDs as short as these occur in made-up objects, and by chance in others.
_SHORTEST_UID = 12
_SHORT_DATE = len("17.04.53")
# Characters that are gone through in the texts of one object, once for each search: a minute at most.
_MOST_EFFORT = 2**32
# A private element: no dictionary says what it holds.
_PRIVATE = 0x00091001
# What stands for the bytes between two values in the search: part of no word, number, date or packed text. At least
# eight of them are between two values, more than any search passes over.
_APART = b"\x01"
# VRs of private elements that hold formats of a vendor's, UIDs among them.
_VENDORS = TEXTS | {"OB", "OW", "UN", ""}


@dataclass(frozen=True, slots=True)
class Residue:
    """A token of the patient that would be sent.

    place: keyword of the element that holds it.
    removed: keyword of the element from which it was removed."""

    place: str
    removed: str

    def __str__(self) -> str:
        return f"{self.place} would still hold what {self.removed} held"


@dataclass(slots=True)
class Header:
    """A rewritten data set, up to its pixels.

    actions: (action, tag) -> how often.
    values: outermost elements that were written, and those kept that a plan shows.
    days: by how many its dates were shifted.
    """

    data: bytes = b""
    actions: Counter[tuple[str, int]] = field(default_factory=Counter)
    values: dict[int, bytes] = field(default_factory=dict)
    days: int = 0


@dataclass(slots=True)
class _Level:
    """The elements of one data set or item.

    mode: with DUMMY all of them become dummies; with CLEAN texts that are kept are searched; otherwise "".
    blocks: private creators, by group and number: name, place in out, the element.
    """

    encoding: Encoding
    mode: str
    outermost: bool
    out: list[bytes] = field(default_factory=list)
    blocks: dict[int, tuple[str, int, bytes]] = field(default_factory=dict)


class Rewriting:
    """The rewriting of one data set in memory. Raises NotRewritable when it is made, and on the way."""

    def __init__(
        self,
        data: bytes,
        encoding: Encoding,
        profile: Profile,
        key: Key | None,
        facts: Facts | None = None,
        check_stop: Callable[[], None] = go_on,
        patient: bytes = b"",
    ) -> None:
        """facts: of these data, if they are known. check_stop: called for each item; may raise. patient: with whose
        dates these move, if not with those of the patient that the header names."""
        self._check_stop = check_stop
        self._reader = Reader(data, encoding, check_stop)
        self.data = data
        self.encoding = encoding
        self._profile = profile
        self._key = key
        self.facts = facts or gather_facts(self._reader, 0, len(data))
        self._sets = self.facts.values.get(CHARACTER_SETS, b"")
        self._all_sets = self.facts.character_sets
        self._hold_sources_to_form()
        self.tokens: Tokens = tokens_of(tuple(self._sources()), self._all_sets)
        self._days = key.days(patient or self.facts.patient) if key and profile.dates == "shift" else 0
        self._births = self._birth_dates()
        self._actions: list[tuple[str, int]] = []
        self._accented: list[tuple[int, str]] = []
        self._numbered: list[tuple[int, str]] = []
        self._mapped_to: set[bytes] = set()
        self._effort = 0
        self._values: dict[int, bytes] = {}

    def _sources(self) -> Iterator[Source]:
        """What names the patient and is removed."""
        yield from (source for source in self.facts.sources if not self._leaves(source[0]))
        if self._profile.dates != "keep" and not self._leaves(STUDY_DATE):
            yield STUDY_DATE, STUDY, self.facts.values.get(STUDY_DATE, b"")

    def _hold_sources_to_form(self) -> None:
        """A damaged value cannot be searched for."""
        foreign = False
        for tag, _, value in self.facts.sources:
            self._hold_to_form(check_of(tag, vr_of(tag)), tag, vr_of(tag), value)
            foreign = foreign or not value.isascii() or b"\x1b" in value
        if foreign and not all(map(knows_character_sets, self._all_sets)):
            raise NotRewritable("names a character set that is not known, so nothing in it can be searched")

    def _leaves(self, tag: int) -> bool:
        return tag not in self._profile.written and self._profile.action(tag, vr_of(tag)) == "K"

    def rewrite(self, subject: str, session: str) -> Header:
        """The header with these labels in it; equal bytes every time."""
        self._actions, self._accented, self._numbered, self._values = [], [], [], {}
        self._effort = 0
        out = self._elements(self.facts.elements, self.encoding, self._written(subject, session))
        return Header(out, Counter(self._actions), self._values, self._days)

    def _written(self, subject: str, session: str) -> dict[int, bytes]:
        """Elements that the program writes, whole, by tag. An empty one removes the existing element."""
        profile, encoding = self._profile, self.encoding
        texts = {tag: filled(text, subject, session).encode("ascii") for tag, text in profile.written.items()}
        texts |= {REMOVED: b"YES", METHOD: f"xnat-ingest: {profile_name(profile)}"[:64].encode("ascii", "replace")}
        texts[DATES_MODIFIED] = _WORD_ON_DATES[profile.dates]
        written = {t: encoding.element(t, vr_of(t), padded(v, vr_of(t))) for t, v in texts.items()}
        codes = b"".join(map(self._code, profile.codes))
        written[METHOD_CODES] = encoding.element(METHOD_CODES, "SQ", codes) if codes else b""
        return dict(sorted(written.items()))

    def _code(self, code: tuple[str, str]) -> bytes:
        values = ((0x00080100, "SH", code[0]), (0x00080102, "SH", "DCM"), (0x00080104, "LO", code[1]))
        return self.encoding.item(
            b"".join(self.encoding.element(tag, vr, padded(text.encode(), vr)) for tag, vr, text in values)
        )

    def _elements(
        self, elements: Sequence[Element], encoding: Encoding, written: dict[int, bytes], *, mode: str = ""
    ) -> bytes:
        """The elements, rewritten.

        written: elements to add.
        mode: see _Level.
        """
        self._check_stop()
        level = _Level(encoding, mode, outermost=bool(written))
        due = list(written)
        out, decide, decided = level.out, self._profile.action, self._profile.decided
        for element in elements:
            tag = element.tag
            while due and due[0] <= tag:
                out.append(written[due.pop(0)])
            if tag in written or not tag & 0xFFFF:  # a group's length is retired, and wrong by now
                continue
            if tag >> 16 & 1:
                self._private(level, element)
                continue
            action = decided.get((tag, element.vr)) or decide(tag, element.vr)
            if action == "K" and not mode and element.items is None and element.vr != "SQ":
                self._keep(level, element, self.data[element.start : element.end])  # most elements
            else:
                self._element(level, element, action)
        out.extend(written[tag] for tag in due)
        return b"".join(out)

    def _private(self, level: _Level, element: Element) -> None:
        """A private element, or the creator of a block, which is kept when an element of the block is kept."""
        tag = element.tag
        group, number = tag >> 16, tag & 0xFFFF
        if 0x10 <= number <= 0xFF and element.items is None:
            name = self.data[element.start : element.end].decode("latin-1").strip(" \0").upper()
            level.blocks[group << 8 | number] = name, len(level.out), self.data[element.begin : element.end]
            level.out.append(b"")
            return
        block = level.blocks.get(group << 8 | number >> 8)
        action = self._profile.private_action(block[0], tag) if block and level.mode != DUMMY else "X"
        if block and action != "X":
            level.out[block[1]] = block[2]
        if action in (NUMBER, CODE):
            self._hold_to_list(element, action)
            action = "K"
        self._element(level, element, action)

    def _hold_to_list(self, element: Element, action: str) -> None:
        """Raises NotRewritable for a private element that does not hold what the list of safe ones says."""
        if element.items is None:
            value = self.data[element.start : element.end]
            if not (holds_numbers if action == NUMBER else holds_codes)(element.vr, value):
                raise NotRewritable(
                    f"holds in the private element {name_of(element.tag)} what is no {_LISTED[action]}, although the "
                    "list of safe private elements says so. A rule of the profile may remove the element"
                )

    def _element(self, level: _Level, element: Element, action: str) -> None:
        """Puts the rewritten element into level.out."""
        tag, name = element.tag, element.vr
        if element.items is not None:
            self._sequence(level, element, action)
            return
        if action == "R" or (name == "SQ" and action in "KDCU"):  # what holds items was not built of them
            action = "X"
        if action == "K" and level.mode and (level.mode == DUMMY or name in TEXTS):
            action = "C"
        value = self.data[element.start : element.end]
        if action == "K":
            self._keep(level, element, value)
            return
        left = self._value(tag, name, value, action, level.mode)
        if left is value:
            # A text was read to its end, however long it is.
            self._hold_to_form((check_of if name in TEXTS else check_of_kept)(tag, name), tag, name, value)
        if left is not None:
            if level.outermost:
                self._values[tag] = left
            level.out.append(level.encoding.element(tag, element.written or name, padded(left, name)))

    def _keep(self, level: _Level, element: Element, value: bytes) -> None:
        """The element is kept unchanged, if its value has the right form."""
        tag, name = element.tag, element.vr
        check = check_of_kept(tag, name)
        if check is not None and not check(value):
            self._hold_to_form(check, tag, name, value)
        if name in TEXTS and (not value.isascii() or b"\x1b" in value):
            self._accented.extend((tag, text) for text in readings(value, self._all_sets))
        elif name in _NUMBERS and self.tokens.numbers and (found := self._number(name, value, level.encoding.order)):
            self._numbered.append((tag, found))
        elif self._births and name in ("DA", "DT"):
            dates = map(_digits, value.split(b"\\"))
            self._numbered.extend((tag, self._births[date]) for date in dates if date in self._births)
        if level.outermost and tag in _TOLD:
            self._values[tag] = value
        if tag >> 16 & 1 and name in _VENDORS and self._key and self._profile.uids == "map":
            level.out += self.data[element.begin : element.start], self._with_mapped_uids(tag, value)
        else:
            level.out.append(self.data[element.begin : element.end])

    def _with_mapped_uids(self, tag: int, value: bytes) -> bytes:
        """A vendor's own bytes or text with new UIDs in place of the original ones. The rest stays where it is."""
        new = _UID.sub(lambda found: self._of_same_length(found[0]), value)
        if new != value:
            self._actions.append(("U", tag))
        return new

    def _of_same_length(self, uid: bytes) -> bytes:
        """The new UID for one inside of a value. A shorter place takes its beginning, a longer one blanks behind it."""
        if self._key is None or is_standard_uid(uid):
            return uid
        new = self._key.uid(uid)[: len(uid)]
        self._mapped_to.add(new)
        return new.ljust(len(uid))

    @staticmethod
    def _hold_to_form(check: Check | None, tag: int, vr: str, value: bytes) -> None:
        """Raises NotRewritable for a value that cannot be one of its element."""
        if check is not None and not check(value):
            raise NotRewritable(
                f"holds in {name_of(tag)} what is no {vr_of(tag) or vr}: it is damaged, or this device writes it so. "
                "A rule of the profile may remove the element"
            )

    def _birth_dates(self) -> dict[bytes, str]:
        """Birth dates that no date which is kept may be -> the element that told it. A newborn's study may be of that
        day. Dates that are moved are no true ones."""
        if self._profile.dates != "keep":
            return {}
        study = _digits(self.facts.values.get(STUDY_DATE, b""))
        found = {_digits(raw): name_of(tag) for tag, kind, raw in self.facts.sources if kind == BIRTH}
        return {date: keyword for date, keyword in found.items() if len(date) == 8 and date != study}

    def _number(self, vr: str, value: bytes, order: str) -> str:
        """The keyword of the identifier that one of these numbers is, "" when none is."""
        if vr in _IN_CHARACTERS:
            return self._number_in_characters(value)
        size = UNITS[vr]
        found = set(struct.unpack(f"{order}{len(value) // size}{_NUMBERS[vr]}", value)) if size else set()
        numbers = ((_as_stored(vr, number), keyword) for number, keyword in self.tokens.numbers.items())
        return next((keyword for number, keyword in numbers if number in found or -number in found), "")

    def _number_in_characters(self, value: bytes) -> str:
        """As _number, of a DS or IS element."""
        digits = value.replace(b".", b"")
        for number, keyword in self.tokens.numbers.items():
            if str(number)[:_SURE_DIGITS].rstrip("0").encode() in digits:  # most values need not be read
                found = {one for text in value.split(b"\\") if (one := _decimal(text)) is not None}
                if number in found or float(number) in map(float, found):
                    return keyword
        return ""

    def _sequence(self, level: _Level, element: Element, action: str) -> None:
        """As _element."""
        tag, items = element.tag, element.items
        if element.encoding is None or items is None or (not items and element.vr in ("OB", "OW")):
            self._actions.append(("X", tag))  # encapsulated pixels of an icon: no bytes that can be checked
            return
        if action in "XZDC":
            self._actions.append((action, tag))
        if action in "XZ":
            level.out.append(level.encoding.element(tag, element.written or "SQ", b"") if action == "Z" else b"")
            return
        mode = {"D": DUMMY, "C": CLEAN}.get(action, level.mode if tag != _CONCEPT_NAME else "")
        inner = element.encoding
        content = b"".join(inner.item(self._elements(item, inner, {}, mode=mode)) for item in items)
        level.out.append(level.encoding.element(tag, element.written or "SQ", content))

    def _value(self, tag: int, vr: str, value: bytes, action: str, mode: str) -> bytes | None:
        """The new value of an element. None when the element is removed."""
        if mode == DUMMY and action not in ("X", "Z"):
            action = self._dummy_action(vr, value)
            if action == "K":
                return value
        if action == "C":
            action, value = self._cleaned(vr, value)
            if action == "K":
                return value
        if action != "U":
            self._actions.append((action, tag))
        if action == "X":
            return None
        if action == "U" or (action == "D" and vr == "UI"):
            return self._mapped(tag, value)
        return dummy(vr) if action == "D" and value.strip(b" \0") else b""

    @staticmethod
    def _dummy_action(vr: str, value: bytes) -> str:
        if vr == "CS":
            return "K"
        if vr == "UI":
            return "K" if is_standard_uid(value.strip(b" \0")) else "U"
        return "D"

    def _cleaned(self, vr: str, value: bytes) -> tuple[str, bytes]:
        """(K, a value that may be kept), or another action."""
        if vr in _DATES:
            there = moved(vr, value, self._days)
            return ("K", there) if there is not None else ("Z", value)
        if vr not in TEXTS and not (vr in ("", "UN") and value.isascii() and _is_text(value)):
            return "X", value
        if not is_readable(value, self._all_sets) or (not value.isascii() and self.tokens.is_spelled_in(value)):
            return "D", value
        texts = readings(value, self._all_sets)
        if any(self._found_in(text) or _is_telltale(text) for text in texts):
            return "D", value
        return "K", value

    def _found_in(self, text: str) -> Token | None:
        """Raises NotRewritable where the texts of the object, all together, take too long to be searched."""
        self._effort += self.tokens.effort(text)
        if self._effort > _MOST_EFFORT:
            raise NotRewritable("has more texts than can be searched for its identifiers, addresses and numbers")
        return self.tokens.in_text(text)

    def _mapped(self, tag: int, value: bytes) -> bytes:
        if self._key is None:
            raise NotRewritable("needs a key for its UIDs")
        new = []
        for uid in value.split(b"\\"):
            plain = uid.strip(b" \0")
            new.append(self._key.uid(plain) if plain and not is_standard_uid(plain) else plain)
        self._mapped_to.update(new)
        self._actions.append(("U", tag))
        return b"\\".join(new)

    def text(self, value: bytes) -> str:
        """A value in the object's character sets."""
        return decoded(value, self._sets).strip(" \0")

    def residue(self, data: bytes) -> Residue | None:
        """The first token of the patient in a rewritten data set, None when there is none."""
        for tag, text in self._accented:
            if token := self._found_in(text):
                return Residue(name_of(tag), token.keyword)
        for tag, keyword in self._numbered:
            return Residue(name_of(tag), keyword)
        if found_uid := self._original_uid(data):
            return found_uid
        own = self._profile.written.keys() | {METHOD, METHOD_CODES, REMOVED, DATES_MODIFIED}
        for token, (tag, vr, value, is_outermost) in self._places(data).search(self.tokens, self._check_stop):
            if is_outermost and tag in own:
                continue  # the program's own words, and the user's
            if self.tells(token, tag, vr, value):
                return Residue(name_of(tag), token.keyword)
        return None

    def _places(self, data: bytes) -> Places:
        return Places(data, gather_facts(Reader(data, self.encoding, self._check_stop), 0, len(data)))

    def _original_uid(self, data: bytes) -> Residue | None:
        """A UID of the file that was replaced, and is still in another element."""
        if self._profile.uids != "map":
            return None
        for tag in _UIDS:
            uid = self.facts.values.get(tag, b"").strip(b" \0")
            at = data.find(uid) if len(uid) >= _SHORTEST_UID and uid not in self._mapped_to else -1
            if at >= 0:
                place = self._places(data).of(at, at + len(uid))
                return Residue(name_of(place[0]) if place else "the header", name_of(tag))
        return None

    def tells(self, token: Token, tag: int, vr: str, value: bytes) -> bool:
        """Whether a token that this element's value holds is one that must not leave."""
        kind, text = token.kind, token.text
        if vr == "UI":
            return kind != STUDY and self._tells_in_uid(text, value)
        if vr in _NUMBERS and text.isdecimal():
            return vr in _IN_CHARACTERS and self._tells_beside_numbers(value)  # numbers by their values
        if vr in (*_DATES, "AS") and not tag >> 16 & 1:
            # Digits that make a date or a time are one. See _births for those that are kept.
            return not text.isdecimal() or (kind != STUDY and not _is_true(vr, value))
        return True

    def _tells_beside_numbers(self, value: bytes) -> bool:
        """Whether a value of a DS or IS element that is no number, such as a date, repeats something."""
        others = (one.decode("latin-1") for one in value.split(b"\\") if _decimal(one) is None)
        return any(self.tokens.in_text(one) for one in others)

    def _tells_in_uid(self, text: str, value: bytes) -> bool:
        """Dots join the numbers of a UID: with a year of two digits a date is none there."""
        uids = (uid.strip(b" \0") for uid in value.split(b"\\"))
        own = [uid for uid in uids if uid not in self._mapped_to and not is_standard_uid(uid)]
        return (text.isdecimal() or len(text) > _SHORT_DATE) and any(text.encode() in uid for uid in own)


def _decimal(value: bytes) -> Decimal | None:
    """The number that one value of a DS or IS element is, without its sign. None when it is none."""
    text = value.strip(b" \0")
    return Decimal(text.decode("ascii")).copy_abs() if _DECIMAL.fullmatch(text) else None


def _as_stored(vr: str, number: int) -> float:
    return _as_short_float(number) if vr == "FL" else float(number) if vr == "FD" else number


def _as_short_float(number: int) -> float:
    """What a number becomes in 32 bits."""
    try:
        found: float = struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        return float("nan")
    return found


def _is_true(vr: str, value: bytes) -> bool:
    """Whether every value of a DA, DT, TM or AS element is valid."""
    if vr in ("AS", "TM"):
        return has_form(vr, value)
    return all(_TRUE_DATE.fullmatch(one.strip(b" \0")) for one in value.split(b"\\"))


def _digits(value: bytes) -> bytes:
    return re.sub(rb"\D", b"", value)[:8]


def profile_name(profile: Profile) -> str:
    """What the object tells of its profile: its name without its folder, and the beginning of its SHA-256."""
    return f"{PurePath(profile.name).name[:24]} {profile.sha256[:16]}"


def _is_telltale(text: str) -> bool:
    """Whether a text holds a date or a long number, or an address of mail, also in wide or foreign digits."""
    return any(_TELLTALE.search(form) or holds_date(form) for form in {text.lower(), fold(text)})


def _is_text(value: bytes) -> bool:
    check = check_of(_PRIVATE, "LO")
    return check is not None and check(value)


# (tag, VR, value, whether it is of the outermost level) of an element.
_Place = tuple[int, str, bytes, bool]


class Places:
    """Which element of a data set a byte lies in."""

    def __init__(self, data: bytes, facts: Facts) -> None:
        self._data = data
        self._starts = array("Q")
        self._elements: list[Element] = []
        self._inner = bytearray()
        for element, depth in facts.leaves():
            self._starts.append(element.start)
            self._elements.append(element)
            self._inner.append(depth > 0)

    def search(self, tokens: Tokens, check_stop: Callable[[], None] = go_on) -> Iterator[tuple[Token, _Place]]:
        """Every token in a value, and the element that holds it. The edges of a value are the edges of a word."""
        for token, begin, end in tokens.in_bytes(self._values_apart(), check_stop):
            if place := self.of(begin, end):
                yield token, place

    def _values_apart(self) -> bytes:
        """The values, each where it is in the data. Tags and lengths beside them can look like letters and digits."""
        apart = bytearray(_APART) * len(self._data)
        for element in self._elements:
            apart[element.start : element.end] = self._data[element.start : element.end]
        return bytes(apart)

    def of(self, begin: int, end: int) -> _Place | None:
        """The element whose value holds this stretch."""
        number = bisect_right(self._starts, begin) - 1
        if number < 0:
            return None
        found = self._elements[number]
        value = self._data[found.start : found.end]
        return (found.tag, found.vr, value, not self._inner[number]) if end <= found.end else None
