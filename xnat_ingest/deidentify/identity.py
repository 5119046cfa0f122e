"""What in a tree would identify the patients: elements, private blocks, texts, pixels, names of files."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from xnat_ingest.core import Instance, SetAside
from xnat_ingest.deidentify import gathering, pixels
from xnat_ingest.deidentify.behind import behind_pixels
from xnat_ingest.deidentify.encoding import NotRewritable
from xnat_ingest.deidentify.gathering import Element, Facts
from xnat_ingest.deidentify.objects import header_of
from xnat_ingest.deidentify.profile import Profile, load_profile
from xnat_ingest.deidentify.pseudonyms import dummy
from xnat_ingest.deidentify.rewriting import REMOVED, Places
from xnat_ingest.deidentify.tokens import SOURCES, Tokens, tokens_of
from xnat_ingest.inputs.dicom_dataset import NotWalkable, PeekableStream
from xnat_ingest.inputs.dicom_dictionary import decoded, name_of, vr_of
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.outgoing import Outgoing
from xnat_ingest.inputs.source import Source, go_on

_PSEUDONYMS = frozenset({gathering.PATIENT_ID, gathering.PATIENT_NAME})
# Dates of birth and death in another calendar. They are not searched for, but they are there.
_DATES = frozenset({0x00100033, 0x00100034})
# PersonIdentificationCodeSequence, HumanPerformerCodeSequence, VerifyingObserverIdentificationCodeSequence: people as
# codes, and the value and the meaning of a code.
_PEOPLE = frozenset({0x00401101, 0x00404009, 0x0040A088})
_CODES = frozenset({0x00080100, 0x00080104, 0x00080119, 0x00080120})
_TEXTLESS = frozenset({"AT", "DA", "FD", "FL", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "TM", "UL", "US", "UV"})


@dataclass(slots=True)
class IdentityReading:
    """What one object shows.

    elements: keyword -> its values.
    private: private creators.
    texts: (element, the element whose words it repeats).
    risk: why its pixels may show text, or what is not looked into.
    named: whether its path repeats such words.
    """

    elements: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    private: set[str] = field(default_factory=set)
    texts: set[tuple[str, str]] = field(default_factory=set)
    risk: str = ""
    named: bool = False

    @property
    def identifies(self) -> bool:
        return bool(self.elements or self.private or self.texts or self.risk or self.named)


def look_for_identity(outgoing: Outgoing, check_stop: Callable[[], None] = go_on) -> IdentityReading:
    """At an object as it is sent. Raises OSError, NotRewritable, NotWalkable, and what check_stop raises.

    If PatientIdentityRemoved says YES, only names, identifiers, birth date and the like count. The name and the id of
    the patient are pseudonyms then, and somebody decided to keep the rest.
    """
    instance = outgoing.instance
    with outgoing.open() as blocks:
        stream = PeekableStream(blocks)
        _, encoding, data, facts = header_of(stream, instance, check_stop)

        def shown(length: int) -> int:
            is_native = instance.sent_syntax in pixels.NATIVE
            return pixels.extent(facts, instance.sent_syntax, length)[1] if is_native else length

        behind = behind_pixels(stream, encoding, check_stop, shown) if facts.pixels else ""
    found = _Reading(data, facts, instance, check_stop).look()
    found.risk = found.risk or behind or facts.before
    return found


class _Reading:
    def __init__(self, data: bytes, facts: Facts, instance: Instance, check_stop: Callable[[], None]) -> None:
        self._data = data
        self._check_stop = check_stop
        self._facts = facts
        self._instance = instance
        self._sets = facts.values.get(gathering.CHARACTER_SETS, b"")
        removed = next((data[e.start : e.end] for e in facts.elements if e.tag == REMOVED), b"")
        self._removed = removed.strip(b" \0").upper() == b"YES"
        sources = (s for s in facts.sources if not self._is_pseudonym(s[0], s[2]) and not _is_dummy(s[2]))
        self._tokens: Tokens = tokens_of(tuple(sources), facts.character_sets)
        self._profile = _basic()
        self._shown: dict[str, str] = {}  # private creator -> how it is shown

    def _is_pseudonym(self, tag: int, value: bytes) -> bool:
        """Whether it is what somebody has put in place of the patient's name or id, at the top level or repeated.

        Another name or id in a sequence, such as OriginalAttributesSequence, is none.
        """
        if not self._removed or tag not in _PSEUDONYMS:
            return False
        return value.strip(b" \0") == self._facts.values.get(tag, b"").strip(b" \0")

    def look(self) -> IdentityReading:
        found = IdentityReading()
        creators: dict[int, str] = {}
        for element, depth in self._facts.leaves():
            tag, vr, value = element.tag, element.vr, self._data[element.start : element.end]
            if tag >> 16 & 1:
                self._private(found, creators, (tag, vr, value), depth)
            elif self._is_identifier(tag, vr, value):
                found.elements[name_of(tag)].add(decoded(value, self._sets).strip(" \0"))
        for tag, element in _named_otherwise(self._facts.elements):
            value = self._data[element.start : element.end]
            if not _is_dummy(value):
                found.elements[name_of(tag)].add(decoded(value, self._sets).strip(" \0"))
        self._texts(found)
        found.risk = "" if self._removed else self._report() or pixels.drawn_over(self._data, self._facts)
        found.risk = found.risk or pixels.risk(self._facts)
        found.named = self._tokens.in_text(self._instance.path.encode("utf-8", "replace").decode()) is not None
        return found

    def _private(
        self, found: IdentityReading, creators: dict[int, str], element: tuple[int, str, bytes], depth: int
    ) -> None:
        """element: tag, VR, value. Somebody may have decided to keep private elements, but not a person's name, also in
        place of a creator."""
        tag, vr, value = element
        if 0x10 <= tag & 0xFFFF <= 0xFF and vr != "PN":
            creators[tag >> 16 << 8 | tag & 0xFF] = value.decode("latin-1").strip(" \0")
        elif not _is_dummy(value) if vr == "PN" else not depth and not self._removed:
            creator = creators.get(tag >> 16 << 8 | (tag & 0xFFFF) >> 8, "no creator")
            if creator not in self._shown:
                repeated = self._tokens.in_text(creator)  # it is printed, and may be anybody's words
                self._shown[creator] = f"a creator that repeats {repeated.keyword}" if repeated else creator
            found.private.add(self._shown[creator])

    def _is_identifier(self, tag: int, vr: str, value: bytes) -> bool:
        if _is_dummy(value) or self._profile.action(tag, vr) not in ("X", "Z", "D"):
            return False
        if self._removed:
            is_named = vr == "PN" or tag in SOURCES or tag in _DATES
            return (is_named or vr_of(tag) == "SQ") and not self._is_pseudonym(tag, value)
        return True

    def _report(self) -> str:
        is_report = self._facts.text(gathering.SOP_CLASS).startswith(pixels.STRUCTURED_REPORTS)
        return "a structured report, whose text is anybody's" if is_report else ""

    def _texts(self, found: IdentityReading) -> None:
        """Words of the identifiers that occur in other elements."""
        for token, (tag, vr, _, _) in Places(self._data, self._facts).search(self._tokens, self._check_stop):
            if vr != "PN" and tag not in SOURCES and vr not in _TEXTLESS and vr != "UI":
                found.texts.add((name_of(tag), token.keyword))


def _named_otherwise(elements: Iterable[Element], within: int = 0) -> Iterator[tuple[int, Element]]:
    """(tag that says what it is, element with the value) of people as codes, and of a name, an id or a birth date that
    is written as a sequence.

    within: the tag of the sequence around, if it says what it is.
    """
    for element in elements:
        tag = element.tag
        if element.items is not None:
            known = vr_of(tag)
            is_odd = known not in ("SQ", "") and (known == "PN" or tag in SOURCES or tag in _DATES)
            inner = tag if is_odd or tag in _PEOPLE else within
            for item in element.items:
                yield from _named_otherwise(item, inner)
        elif within and element.end > element.start and (within not in _PEOPLE or tag in _CODES):
            yield within, element


@cache
def _basic() -> Profile:
    return load_profile("basic")


def _is_dummy(value: bytes) -> bool:
    plain = value.strip(b" \0")
    return not plain.strip(b"^= ") or plain in _DUMMIES  # devices write ^^^^ for a name that they do not know


_DUMMIES = frozenset(dummy(vr) for vr in ("AS", "DA", "DS", "DT", "LO", "TM", "UR"))


# Characters of a value that are kept and shown: a few packed bytes can hold a text of any length.
_MOST_SHOWN = 200


def _kept(value: str) -> str:
    """A value as it is shown. Two values that begin alike remain two."""
    if len(value) <= _MOST_SHOWN:
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{value[:_MOST_SHOWN]}... ({len(value)} characters, {digest})"


@dataclass(slots=True)
class Findings:
    """Of a session, or of all. values: keyword -> distinct values; the counters are of objects. Long words are cut.

    reasons: why objects cannot be read.
    """

    objects: int = 0
    identifying: int = 0
    unreadable: int = 0
    elements: Counter[str] = field(default_factory=Counter)
    values: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    private: Counter[str] = field(default_factory=Counter)
    texts: Counter[tuple[str, str]] = field(default_factory=Counter)
    risks: Counter[str] = field(default_factory=Counter)
    named: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def miss(self, why: str) -> None:
        """Counts an object that cannot be read."""
        self.unreadable += 1
        self.reasons[why] += 1

    def add(self, seen: IdentityReading) -> None:
        self.objects += 1
        self.identifying += seen.identifies
        self.elements.update(seen.elements.keys())
        for keyword, values in seen.elements.items():
            self.values[keyword] |= set(map(_kept, values))
        self.private.update(map(_kept, seen.private))
        self.texts.update(seen.texts)
        self.risks.update([seen.risk] if seen.risk else [])
        self.named += seen.named

    def as_json(self) -> dict[str, object]:
        """Without a value."""
        return {
            "objects": self.objects,
            "identifying": self.identifying,
            "unreadable": self.unreadable,
            "elements": {k: {"objects": n, "values": len(self.values[k])} for k, n in sorted(self.elements.items())},
            "private": dict(sorted(self.private.items())),
            "texts": [
                {"element": place, "repeats": keyword, "objects": n}
                for (place, keyword), n in sorted(self.texts.items())
            ],
            "pixels": dict(sorted(self.risks.items())),
            "names_of_files": self.named,
        }


def survey_identity(
    source: Source, depth: int, check_stop: Callable[[], None] = go_on
) -> Iterator[tuple[str, IdentityReading | SetAside]]:
    """(session folder, what an object tells, or why it cannot be read) for every file that is DICOM or should be.

    depth: how many folders lie above the files of a session; 0: the study's UID stands for the folder.
    """

    def skip(_: str) -> None:
        check_stop()

    for found in scan(source, skip):
        session = "/".join(found.path.split("/")[:-1][:depth]) or "."
        if isinstance(found, SetAside):
            if found.is_problem:
                yield session, found
            continue
        if not depth:
            session = found.study_uid
        try:
            yield session, look_for_identity(Outgoing(source, found), check_stop)
        except (NotRewritable, NotWalkable) as error:
            yield session, SetAside(found.path, "unreadable", str(error))
        except OSError as error:
            yield session, SetAside(found.path, "unreadable", error.strerror or "")
