"""Finds removed identifiers that the server has put back, by comparing three headers: stored, sent, and in the file.

XNAT's own scripts run after receipt. A script that puts a name back, or writes it somewhere else, undoes what was done
here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from xnat_ingest.deidentify.encoding import (
    BIG_EXPLICIT,
    LITTLE_EXPLICIT,
    LITTLE_IMPLICIT,
    Encoding,
    EndsEarly,
    NotRewritable,
    Reader,
)
from xnat_ingest.deidentify.gathering import MOST_HEAD, Element, Facts, gather_facts
from xnat_ingest.deidentify.profile import Profile
from xnat_ingest.deidentify.pseudonyms import dummy
from xnat_ingest.deidentify.rewriting import Places, Rewriting
from xnat_ingest.inputs.dicom_dataset import (
    BIG_ENDIAN,
    EndsInside,
    NotWalkable,
    PeekableStream,
    is_explicit,
    skip_meta,
)
from xnat_ingest.inputs.dicom_dictionary import decoded, name_of, vr_of
from xnat_ingest.inputs.source import go_on

_ROUTING = frozenset({"project", "subject", "session"})
# Bytes of a stored object in which the end of its header is first looked for, unless somebody asks.
_FIRST_LOOK = 4 << 20


@dataclass(frozen=True, slots=True)
class Restored:
    """Keywords of elements that were removed from one object, and that the stored object has again.

    original: with the value that was removed.
    other: with another value.
    """

    original: tuple[str, ...]
    other: tuple[str, ...]


class StoredHeader:
    """The beginning of a stored object, which comes block by block: all of its header, and little more.

    check_stop: raises to end it.
    """

    def __init__(self, check_stop: Callable[[], None]) -> None:
        self._check_stop = check_stop
        self._held = bytearray()
        self._looked_in = 0
        self._has_ended = False

    def add(self, block: bytes) -> None:
        if self._has_ended:
            return
        self._held += block
        if len(self._held) >= _FIRST_LOOK:
            self.has_ended()

    def read_on(self, blocks: Iterator[bytes]) -> None:
        """Takes blocks to the header's end."""
        while not self.has_ended() and (block := next(blocks, b"")):
            self._check_stop()
            self.add(block)

    def has_ended(self) -> bool:
        """Whether nothing of the header is still to come, as far as is known. What cannot be read has ended, too."""
        if self._is_too_long:
            self._has_ended = True
        elif not self._has_ended and len(self._held) >= 2 * self._looked_in:
            self._looked_in = len(self._held)
            self._has_ended = self._ends()
        return self._has_ended

    def bytes(self) -> bytes:
        """Raises NotWalkable when there are too many."""
        if self._is_too_long:
            raise NotWalkable(f"has a header of more than {MOST_HEAD >> 20} MiB")
        return bytes(self._held)

    @property
    def _is_too_long(self) -> bool:
        return len(self._held) > MOST_HEAD

    def _ends(self) -> bool:
        """Whether its pixels have begun, or it cannot be read."""
        try:
            return _header(bytes(self._held), self._check_stop)[1].pixels
        except (EndsEarly, EndsInside):
            return False
        except (NotRewritable, NotWalkable):
            return True


def restored(
    work: Rewriting, profile: Profile, sent: bytes, encoding: Encoding, stored: bytes, labels: Iterable[str]
) -> Restored:
    """Compares the three headers.

    work: of the file.
    sent: the header that it was made into, in this encoding.
    stored: the object that the server holds, or its beginning.
    labels: words that the server may write.

    Raises NotRewritable, NotWalkable.
    """
    data, facts = _header(stored)
    before = _values(work.facts, work.data)
    after = _values(gather_facts(Reader(sent, encoding), 0, len(sent)), sent)
    now = _values(facts, data)
    original, other = dict.fromkeys(_told_again(work, data, facts, after)), []
    words = {label.casefold() for label in labels} | _ROUTING
    for tag, value in now.items():
        was_sent = after.get(tag, b"")
        if value == was_sent or tag >> 16 & 1:
            continue
        if value == before.get(tag):
            original[name_of(tag)] = None
            continue
        vr = vr_of(tag)
        says_nothing = not was_sent or was_sent == dummy(vr).strip(b" \0")
        if says_nothing and profile.action(tag, vr) in ("X", "Z", "D") and not _says_only(value, words):
            other.append(name_of(tag))
    return Restored(tuple(original), tuple(name for name in other if name not in original))


def _told_again(work: Rewriting, data: bytes, facts: Facts, after: Mapping[int, bytes]) -> Iterable[str]:
    """Elements, at any depth, in which the search finds the patient."""
    for token, (tag, vr, value, is_outermost) in Places(data, facts).search(work.tokens):
        if is_outermost and value.strip(b" \0") == after.get(tag):
            continue
        if work.tells(token, tag, vr, value):
            yield name_of(tag)


def _says_only(value: bytes, words: set[str]) -> bool:
    """Whether a text consists only of these words."""
    return set(re.findall(r"[\w-]+", decoded(value, b"").casefold())) <= words


def _values(facts: Facts, data: bytes) -> dict[int, bytes]:
    """Of the outermost level, without what pads them; no empty ones."""
    found = {e.tag: _stripped(e, data) for e in facts.elements if e.items is None and e.tag & 0xFFFF}
    return {tag: value for tag, value in found.items() if value}


def _stripped(element: Element, data: bytes) -> bytes:
    return data[element.start : element.end].strip(b" \0")


def _header(stored: bytes, check_stop: Callable[[], None] = go_on) -> tuple[bytes, Facts]:
    """The elements before the pixels."""
    stream = PeekableStream(iter([stored]))
    syntax = skip_meta(stream)
    data = b"".join(stream.rest())
    explicit = is_explicit(PeekableStream(iter([data])))
    encoding = BIG_EXPLICIT if syntax == BIG_ENDIAN else LITTLE_EXPLICIT if explicit else LITTLE_IMPLICIT
    facts = gather_facts(Reader(data, encoding, check_stop), 0, len(data))
    return data[: facts.end], facts
