"""One header, rewritten by a profile: element by element, at every depth, in the encoding that it has."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from xnat_ingest.deidentify.encoding import (
    ITEM,
    ITEM_END,
    LITTLE_IMPLICIT,
    SEQUENCE_END,
    UNDEFINED,
    Encoding,
    NotRewritable,
    Reader,
    padded,
)
from xnat_ingest.deidentify.gathering import CHARACTER_SETS, Facts, gather_facts
from xnat_ingest.deidentify.profile import Profile, filled
from xnat_ingest.deidentify.pseudonyms import Key, dummy, moved
from xnat_ingest.deidentify.tokens import Tokens, tokens_of
from xnat_ingest.inputs.dicom_dictionary import TEXTS, decoded, name_of, vr_of

REMOVED, METHOD, METHOD_CODES, DATES_MODIFIED = 0x00120062, 0x00120063, 0x00120064, 0x00280303
DUMMY, CLEAN = "dummy", "clean"
_DATES = ("DA", "DT", "TM")
_WORD_ON_DATES = {"shift": b"MODIFIED", "keep": b"UNMODIFIED", "remove": b"REMOVED"}
# UIDs that the standard has given out stand for no object.
_STANDARD_UIDS = b"1.2.840.10008."
_CONCEPT_NAME = 0x0040A043
# In free text that is kept: what looks like a date, a telephone or other long number, or an address of mail.
_TELLTALE = re.compile(
    r"\d{6,}|(?<!\d)\d{4}[./-]\d{1,2}[./-]\d{1,2}(?!\d)|(?<!\d)\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})(?!\d)"
    r"|\+?\d[\d ()/-]{6,}\d|[^\s@]+@[^\s@]+\.[a-z]"
)
# What plans and reports tell of an object, beside what was written anew.
_TOLD = frozenset({0x00080018, 0x0008103E, 0x0020000D, 0x0020000E})
_BINARY = frozenset({"AT", "FD", "FL", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "US", "UV"})


@dataclass(frozen=True, slots=True)
class Residue:
    """A token of the patient that would leave. place: keyword of the element that holds it; removed: of the one that it
    was removed from."""

    place: str
    removed: str


@dataclass(slots=True)
class Header:
    """A rewritten data set, up to its pixels. actions: (action, tag) -> how often; values: what was written, or kept of
    what plans tell, at the outermost level; days: by which its dates moved."""

    data: bytes = b""
    actions: Counter[tuple[str, int]] = field(default_factory=Counter)
    values: dict[int, bytes] = field(default_factory=dict)
    days: int = 0


@dataclass(slots=True)
class _Level:
    """The elements of one data set or item.

    end: where they end at the latest; mode: DUMMY, all of them become dummies; CLEAN, texts that are kept are looked
    through; "" else; blocks: private creators, by group and number: name, place in out, bytes.
    """

    encoding: Encoding
    end: int
    mode: str
    outermost: bool
    out: list[bytes] = field(default_factory=list)
    blocks: dict[int, tuple[str, int, bytes]] = field(default_factory=dict)

    def inner(self, vr: str) -> Encoding:
        """How the items of a sequence here are encoded: in UN implicitly, whatever is around it (PS3.5, 6.2.2)."""
        return LITTLE_IMPLICIT if vr == "UN" else self.encoding


class Rewriting:
    """The rewriting of one data set in memory. Raises NotRewritable when it is made, and on the way."""

    def __init__(
        self, data: bytes, encoding: Encoding, profile: Profile, key: Key | None, facts: Facts | None = None
    ) -> None:
        """facts: of these data, if they are known."""
        self._reader = Reader(data, encoding)
        self._data = data
        self._encoding = encoding
        self._profile = profile
        self._key = key
        self.facts = facts or gather_facts(self._reader, 0, len(data))
        self._sets = self.facts.values.get(CHARACTER_SETS, b"")
        self.tokens: Tokens = tokens_of(tuple(s for s in self.facts.sources if not self._leaves(s[0])), self._sets)
        self._days = key.days(self.facts.patient) if key and profile.dates == "shift" else 0
        self._actions: list[tuple[str, int]] = []
        self._accented: list[tuple[int, str]] = []
        self._values: dict[int, bytes] = {}

    def _leaves(self, tag: int) -> bool:
        return tag not in self._profile.written and self._profile.action(tag, vr_of(tag)) == "K"

    def rewrite(self, subject: str, session: str) -> Header:
        """The header with these labels in it; equal bytes every time."""
        self._actions, self._accented, self._values = [], [], {}
        out, _ = self._elements(0, self.facts.end, self._encoding, self._written(subject, session))
        return Header(out, Counter(self._actions), self._values, self._days)

    def _written(self, subject: str, session: str) -> dict[int, bytes]:
        """Elements that the program writes, whole, by tag; an empty one takes what was there away."""
        profile, encoding = self._profile, self._encoding
        texts = {tag: filled(text, subject, session).encode("ascii") for tag, text in profile.written.items()}
        texts |= {REMOVED: b"YES", METHOD: f"xnat-ingest: {profile_name(profile)}"[:64].encode("ascii", "replace")}
        texts[DATES_MODIFIED] = _WORD_ON_DATES[profile.dates]
        written = {t: encoding.element(t, vr_of(t), padded(v, vr_of(t))) for t, v in texts.items()}
        codes = b"".join(map(self._code, profile.codes))
        written[METHOD_CODES] = encoding.element(METHOD_CODES, "SQ", codes) if codes else b""
        return dict(sorted(written.items()))

    def _code(self, code: tuple[str, str]) -> bytes:
        values = ((0x00080100, "SH", code[0]), (0x00080102, "SH", "DCM"), (0x00080104, "LO", code[1]))
        return self._encoding.item(
            b"".join(self._encoding.element(tag, vr, padded(text.encode(), vr)) for tag, vr, text in values)
        )

    def _elements(
        self, at: int, end: int, encoding: Encoding, written: dict[int, bytes], *, mode: str = "", ends: bool = True
    ) -> tuple[bytes, int]:
        """Elements rewritten, and where they ended. written: what is put among them; mode: of _Level; ends: as in
        gathering."""
        level = _Level(encoding, end, mode, outermost=bool(written))
        due = list(written)
        head, decide = self._reader.head, self._profile.action
        while at < end or not ends:
            tag, vr, start, length = head(at, end, encoding.explicit)
            if tag == ITEM_END:
                return b"".join(level.out), start
            while due and due[0] <= tag:
                level.out.append(written[due.pop(0)])
            if tag in written or not tag & 0xFFFF:  # a group's length is retired, and wrong by now
                at = start + length if length != UNDEFINED else self._passed(vr, start, level)
            elif tag >> 16 & 1:
                at = self._private(level, tag, vr, at, start, length)
            else:
                action = decide(tag, (vr_of(tag) or vr) if vr == "UN" else vr)
                at = self._element(level, tag, vr, at, start, length, action)
        level.out.extend(written[tag] for tag in due)
        return b"".join(level.out), at

    def _private(self, level: _Level, tag: int, vr: str, begin: int, start: int, length: int) -> int:
        """A private element, or the name of a block of them, which leaves when one of the block does. As _element."""
        group, number = tag >> 16, tag & 0xFFFF
        if 0x10 <= number <= 0xFF and length != UNDEFINED:
            at = start + length
            name = self._data[start:at].decode("latin-1").strip(" \0").upper()
            level.blocks[group << 8 | number] = name, len(level.out), self._data[begin:at]
            level.out.append(b"")
            return at
        block = level.blocks.get(group << 8 | number >> 8)
        action = self._profile.private_action(block[0], tag) if block and level.mode != DUMMY else "X"
        if block and action != "X":
            level.out[block[1]] = block[2]
        return self._element(level, tag, vr, begin, start, length, action)

    def _element(self, level: _Level, tag: int, vr: str, begin: int, start: int, length: int, action: str) -> int:
        """Puts into level.out what leaves of an element. Returns where the element ended."""
        name = (vr_of(tag) or vr) if vr == "UN" else vr
        if length == UNDEFINED and name in ("OB", "OW"):  # encapsulated pixels of an icon: no bytes that can be checked
            self._actions.append(("X", tag))
            return self._reader.fragments_end(start, level.end)
        if name == "SQ" or length == UNDEFINED:
            return self._sequence(level, tag, vr, start, length, action)
        at = start + length
        if action == "K" and level.mode and (level.mode == DUMMY or name in TEXTS):
            action = "C"
        if action == "K":
            if name in TEXTS and not (value := self._data[start:at]).isascii():
                self._accented.append((tag, decoded(value, self._sets)))
            if level.outermost and tag in _TOLD:
                self._values[tag] = self._data[start:at]
            level.out.append(self._data[begin:at])
            return at
        left = self._value(tag, name, self._data[start:at], action, level.mode)
        if left is not None:
            if level.outermost:
                self._values[tag] = left
            level.out.append(level.encoding.element(tag, vr or name, padded(left, name)))
        return at

    def _passed(self, vr: str, start: int, level: _Level) -> int:
        """Where something of undefined length ends."""
        if vr in ("OB", "OW"):
            return self._reader.fragments_end(start, level.end)
        before = len(self._actions), len(self._accented)
        _, at = self._items(start, UNDEFINED, level.end, level.inner(vr), "")
        del self._actions[before[0] :], self._accented[before[1] :]
        return at

    def _sequence(self, level: _Level, tag: int, vr: str, start: int, length: int, action: str) -> int:
        """As _element."""
        if action in "XZDC":
            self._actions.append((action, tag))
        if action in "XZ":
            level.out.append(level.encoding.element(tag, vr or "SQ", b"") if action == "Z" else b"")
            return start + length if length != UNDEFINED else self._passed(vr, start, level)
        mode = {"D": DUMMY, "C": CLEAN}.get(action, level.mode if tag != _CONCEPT_NAME else "")
        content, at = self._items(start, length, level.end, level.inner(vr), mode)
        level.out.append(level.encoding.element(tag, vr or "SQ", content))
        return at

    def _items(self, at: int, length: int, end: int, encoding: Encoding, mode: str) -> tuple[bytes, int]:
        out: list[bytes] = []
        last = end if length == UNDEFINED else at + length
        while length == UNDEFINED or at < last:
            tag, _, start, size = self._reader.head(at, last, explicit=False)
            if tag == SEQUENCE_END and length == UNDEFINED:
                return b"".join(out), start
            if tag != ITEM:
                raise NotRewritable("has a sequence that is not built of items")
            if size == UNDEFINED:
                content, at = self._elements(start, last, encoding, {}, mode=mode, ends=False)
            else:
                content, at = self._elements(start, start + size, encoding, {}, mode=mode)
            out.append(encoding.item(content))
        return b"".join(out), at

    def _value(self, tag: int, vr: str, value: bytes, action: str, mode: str) -> bytes | None:
        """What an element holds when it leaves; None when it does not."""
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
            return "K" if value.startswith(_STANDARD_UIDS) else "U"
        return "D"

    def _cleaned(self, vr: str, value: bytes) -> tuple[str, bytes]:
        """(K, a value that may leave), or another action."""
        if vr in _DATES:
            there = moved(vr, value, self._days)
            return ("K", there) if there is not None else ("Z", value)
        if vr not in TEXTS:
            return "X", value
        text = decoded(value, self._sets)
        if self.tokens.in_text(text) or _TELLTALE.search(text.lower()):
            return "D", value
        return "K", value

    def _mapped(self, tag: int, value: bytes) -> bytes:
        if self._key is None:
            raise NotRewritable("needs a key for its UIDs")
        new = []
        for uid in value.split(b"\\"):
            plain = uid.strip(b" \0")
            new.append(self._key.uid(plain) if plain and not plain.startswith(_STANDARD_UIDS) else plain)
        self._actions.append(("U", tag))
        return b"\\".join(new)

    def text(self, value: bytes) -> str:
        """A value in the object's character sets."""
        return decoded(value, self._sets).strip(" \0")

    def residue(self, data: bytes) -> Residue | None:
        """The first token of the patient in a rewritten data set, None when there is none."""
        for tag, text in self._accented:
            if token := self.tokens.in_text(text):
                return Residue(name_of(tag), token.keyword)
        places = None
        for token, begin, end in self.tokens.in_bytes(data):
            places = places or Places(
                data, gather_facts(Reader(data, self._encoding), 0, len(data), leaves=True).leaves
            )
            found = places.of(begin, end)
            if found and self._counts(token.kind, token.text, *found):
                return Residue(name_of(found[0]), token.keyword)
        return None

    def _counts(self, kind: str, text: str, tag: int, vr: str, value: bytes, outermost: bool) -> bool:
        """Whether a token in this element is one that must not leave."""
        if outermost and tag in (self._profile.written.keys() | {METHOD, METHOD_CODES, REMOVED, DATES_MODIFIED}):
            return False  # the program's own words, and the user's
        if vr in _BINARY:
            return False
        if vr == "UI":
            return not value.startswith((_STANDARD_UIDS, b"2.25."))
        if vr in ("DS", "IS") and text.isdecimal():
            return len(text) > 5 and value.strip(b" \0") == text.encode()
        if vr in (*_DATES, "AS") and not tag >> 16 & 1:
            return kind != "birth date" and not text.isdecimal()
        return True


def profile_name(profile: Profile) -> str:
    """What the object tells of its profile: its name without its folder, and the beginning of its SHA-256."""
    return f"{PurePath(profile.name).name[:24]} {profile.sha256[:16]}"


class Places:
    """Which element of a data set a byte lies in."""

    def __init__(self, data: bytes, leaves: Sequence[tuple[int, int, int, str, int]]) -> None:
        """leaves: as gathered, in order."""
        self._data = data
        self._leaves = leaves

    def of(self, begin: int, end: int) -> tuple[int, str, bytes, bool] | None:
        """(tag, VR, value, whether it is of the outermost level) of the element whose value holds this stretch."""
        number = bisect_right(self._leaves, begin, key=lambda leaf: leaf[0]) - 1
        if number < 0:
            return None
        start, stop, tag, vr, depth = self._leaves[number]
        return (tag, vr, self._data[start:stop], not depth) if end <= stop else None
