"""Compares what was sent with what is stored, element by element, in one pass over both and in constant memory.

XNAT may change a header: it rewrites it, a script of the site or the project replaces values, and compressed pixels may
be decompressed. It must not change what was measured, or how that is to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count

from xnat_ingest.inputs.dicom_dataset import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    IMPLICIT_VENDOR,
    UNDEFINED,
    NotWalkable,
    PeekableStream,
    skip_meta,
)
from xnat_ingest.inputs.dicom_elements import Elements, begins_as_file, element_name

NATIVE = frozenset({IMPLICIT, EXPLICIT, BIG_ENDIAN, IMPLICIT_VENDOR})
# What was measured, and must be the same wherever it is stored: pixels, a document, waveforms, a spectrum.
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
DATA = PIXELS | {0x00420011, 0x54000100, 0x56000020}
# How pixels are to be read: samples, frames, rows, columns, bits, sign. The two in ORDER say how samples are arranged,
# which may change when pixels are compressed or decompressed.
_SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS = 0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100
ORDER = frozenset({0x00280004, 0x00280006})
SHAPE = ORDER | {_SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS, 0x00280101, 0x00280102, 0x00280103}
SOP_CLASS, SOP_UID, TRANSFER_SYNTAX = 0x00080016, 0x00080018, 0x00020010
# What only a script may replace: SOPInstanceUID, StudyInstanceUID, SeriesInstanceUID.
UIDS = frozenset({SOP_UID, 0x0020000D, 0x0020000E})
# The content of objects without pixels. A script may change it but not remove it: references, structures and contours,
# fractions and beams, a report's content, segments, functional groups.
CONTENT = frozenset(
    {0x00081115, 0x30060020, 0x30060039, 0x300A0070, 0x300A00B0, 0x0040A730, 0x00620002, 0x52009229, 0x52009230}
)
# The size from which a server compresses what it receives, if it does (enableNativeDicomPreCompression).
PRECOMPRESSED_FROM = 2_000_000_000
# Objects up to this size, in bytes, are first compared as a whole: walking along their elements takes much longer.
SMALL = 512 * 1024
# Bytes that a stored object may have beyond twice those that were sent: a header that is written anew may have longer
# heads of elements and ends of sequences, and what a script puts in. Decompressed pixels are counted apart.
MOST_ADDED = 4 << 20
# Names of elements that one object's differences have, and the word for all others.
MOST_NAMED, OTHERS = 500, "other elements"
# Characters of an integer string (PS3.5, 6.2).
_LONGEST_NUMBER = 12
_ENDLESS = "many more bytes than were sent, which were not read to their end"
_NO_FILE = "the beginning of a DICOM file (preamble and prefix)"


class NotComparable(Exception):
    """What was sent does not follow the standard, or is no instance any more, so it cannot be compared."""


class _Broken(Exception):
    """What is stored does not follow the standard."""


def unchanged(sent: Iterable[bytes]) -> Iterator[bytes]:
    """The object as it was sent. Raises NotComparable when its file cannot have been the source of it."""
    try:
        yield from sent
    except NotWalkable as error:
        raise NotComparable(f"has changed since it was sent ({error})") from error


@dataclass(slots=True)
class Differences:
    """How a stored object differs from what was sent, as keywords of elements, never as values.

    wrong: nothing may change these.
    replaced: only a script may.
    changed: the server may.
    unlike: why the pixels could not be compared; "" when they could, or when there are none.
    """

    wrong: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unlike: str = ""


def compare_datasets(
    sent: Iterable[bytes], stored: Iterable[bytes], size: int, found: Differences, listed: int = 0
) -> None:
    """Adds to `found` how the stored object differs from the one that was sent.

    Of a stored object that has far more bytes than what was sent can explain, the rest is not read.

    sent, stored: a DICOM file each, in blocks.
    size: bytes that were sent.
    listed: bytes of the stored object in the server's listing, 0 when it does not say.

    Raises NotComparable, and what reading the blocks raises. What was found until then stays in `found`.
    """
    if size <= SMALL:
        whole = b"".join(sent)
        held, rest = _begun(iter(stored), 2 * SMALL)
        if _same_dataset(whole, b"".join(held)):
            return
        sent, stored = [whole], chain(held, rest)
    one = Elements(sent, NotComparable)
    try:
        other = Elements(stored, _Broken, 2 * size + MOST_ADDED)
    except _Broken:
        found.wrong.append(element_name(TRANSFER_SYNTAX))
        return
    _Comparison(one, other, size, found, listed).run()


def _begun(blocks: Iterator[bytes], size: int) -> tuple[list[bytes], Iterator[bytes]]:
    """The first blocks, until there are more bytes than this, and the others. Those raise what reading raises."""
    held = list[bytes]()
    try:
        while size >= 0 and (block := next(blocks, b"")):
            size -= len(block)
            held.append(block)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return held, map(_raise, [error])
    return held, blocks


def _raise(error: Exception) -> bytes:
    raise error


def _same_dataset(one: bytes, other: bytes) -> bool:
    """Whether two files are equal, but for what comes before the data set. Most small files are."""
    if one == other:
        return True
    if begins_as_file(one) != begins_as_file(other):
        return False
    sources = PeekableStream([one]), PeekableStream([other])
    try:
        syntaxes = [skip_meta(source) for source in sources]
    except NotWalkable:
        return False
    rest, other_rest = (b"".join(source.rest()) for source in sources)
    return bool(syntaxes[0]) and syntaxes[0] == syntaxes[1] and rest == other_rest


class _Comparison:
    def __init__(self, sent: Elements, stored: Elements, size: int, found: Differences, listed: int) -> None:
        self.sent = sent
        self.stored = stored
        self.found = found
        self._listed = listed
        self._precompresses = size >= PRECOMPRESSED_FROM
        self._recoded = False  # the server has compressed or decompressed the pixels
        self._shape: dict[int, bytes] = {}
        self._ended = False
        self._has_uid = False  # what was sent is an instance

    def run(self) -> None:
        self._syntaxes()
        while not self._ended and (self.sent.head or self.stored.head):
            at = min(self.sent.tag, self.stored.tag)
            try:
                self._element(at)
            except _Broken:
                self._say(self.found.wrong, at, _ENDLESS if self.stored.is_too_long else "and all that follows")
                return
        if not (self._has_uid or self._ended):
            raise NotComparable("holds no instance any more")
        if self.stored.is_followed and not (self.sent.is_followed or self._ended):
            self.found.wrong.append("bytes behind the data set that were not sent")
        if self.stored.is_cut and not self.sent.is_cut and not self.found.wrong:
            self.found.wrong.append("the end of the file")

    def _syntaxes(self) -> None:
        if self.sent.is_file and not self.stored.is_file:
            self.found.wrong.append(_NO_FILE)
        one, other = self.sent.syntax, self.stored.syntax
        if self.stored.contradicts and not self.sent.contradicts:
            self._say(self.found.wrong, TRANSFER_SYNTAX)
        elif one == other:
            return
        elif (one not in NATIVE and other == EXPLICIT) or (
            one in NATIVE and other not in NATIVE and self._precompresses
        ):
            self._recoded = True
            self._say(self.found.changed, TRANSFER_SYNTAX)
        elif {one, other} <= NATIVE and self.sent.order == self.stored.order:
            self._say(self.found.changed, TRANSFER_SYNTAX)
        else:
            self._say(self.found.wrong, TRANSFER_SYNTAX)

    def _element(self, at: int) -> None:
        """Takes the element with this tag from the side, or the sides, that have it."""
        is_sent, is_stored = self.sent.tag == at, self.stored.tag == at
        self._has_uid |= is_sent and at == SOP_UID
        if is_sent and is_stored:
            self._both(at)
        elif is_sent:
            self._lost(at)
        else:
            _drain(self.stored.value())
            self._say(self.found.changed, at)
        if self._ended:
            return
        if is_sent:
            self.sent.advance()
        if is_stored:
            self.stored.advance()

    def _lost(self, tag: int) -> None:
        """Notes an element that was sent but is not stored.

        If nothing after it is stored, the end of the file is lost.
        """
        if not sum(map(len, self.sent.value())):
            return
        needed = DATA | SHAPE | CONTENT | {SOP_CLASS}
        others = self.found.changed if self.stored.head and tag not in UIDS else self.found.replaced
        self._say(self.found.wrong if tag in needed else others, tag)

    def _both(self, tag: int) -> None:
        if tag in PIXELS:
            self._pixels(tag)
        elif tag in SHAPE:
            self._describe(tag)
        else:
            _compare(self.sent.value(), self.stored.value(), lambda _: self._differs(tag))

    def _differs(self, tag: int) -> None:
        assert self.stored.head is not None  # noqa: S101 - both have it
        emptied = tag in CONTENT and not self.stored.head.length
        if tag in DATA or tag == SOP_CLASS or emptied:
            self._say(self.found.wrong, tag)
        else:
            self._say(self.found.replaced if tag in UIDS else self.found.changed, tag)

    def _describe(self, tag: int) -> None:
        begun = bytearray()
        words = self.found.changed if self._recoded and tag in ORDER else self.found.wrong
        _compare(_noted(self.sent.value(), begun), self.stored.value(), lambda _: self._say(words, tag))
        self._shape[tag] = bytes(begun)

    def _pixels(self, tag: int) -> None:
        assert self.sent.head and self.stored.head  # noqa: S101, PT018 - both have them
        items = self.sent.head.length == UNDEFINED, self.stored.head.length == UNDEFINED
        if self._recoded and items[0] != items[1]:
            self._recode(tag, decompressed=items[0])
        elif items[0] != items[1]:
            self._end(tag)
        elif items[0]:
            self._fragments(tag)
        else:
            _compare(
                self.sent.plain(), self.stored.plain(), lambda at: self._say(self.found.wrong, tag, self._frame(at))
            )

    def _recode(self, tag: int, *, decompressed: bool) -> None:
        """Notes pixels with other bytes than were sent. Only the length of decompressed ones can be checked."""
        self.found.unlike = f"the server {'decompressed' if decompressed else 'compressed'} the pixels"
        _drain(self.sent.value())
        assert self.stored.head is not None  # noqa: S101 - both have them
        expected, length = self._frame_bytes * self._frames, self.stored.head.length
        if decompressed:
            self.stored.most += min(length, max(expected, self._listed))
        held = sum(map(len, self.stored.value()))
        if decompressed and held < expected:
            self._end(tag)

    def _fragments(self, tag: int) -> None:
        """Compares encapsulated pixels, item by item. The first is the offset table, which a writer may rebuild."""
        for number in count():
            one, other = self.sent.item(), self.stored.item()
            if one is None and other is None:
                return
            if one is None or other is None:
                self._end(tag, f"from fragment {max(number, 1)} on")
                return
            _compare(one, other, partial(self._fragment_differs, tag, number))
            if self._ended:
                return

    def _fragment_differs(self, tag: int, number: int, _at: int) -> None:
        if number:
            self._end(tag, f"from fragment {number} on")
        else:
            self._say(self.found.changed, tag, "offset table")

    @property
    def _frames(self) -> int:
        text = self._shape.get(_FRAMES, b"").strip()
        return max(1, int(text)) if text.isdigit() and len(text) <= _LONGEST_NUMBER else 1

    @property
    def _frame_bytes(self) -> int:
        """The expected bytes of native pixels; 0 when the header does not say."""
        bits = 1
        for tag in (_ROWS, _COLUMNS, _SAMPLES, _BITS):
            bits *= self.sent.number(self._shape.get(tag, b""))
        return bits // 8

    def _frame(self, at: int) -> str:
        """The frame that contains a byte of native pixels, when there are several frames."""
        size, frames = self._frame_bytes, self._frames
        return f"from frame {min(at // size + 1, frames)} of {frames} on" if size and frames > 1 else ""

    def _end(self, tag: int, where: str = "") -> None:
        """Notes a difference after which nothing can be compared."""
        self._say(self.found.wrong, tag, where)
        self._ended = True

    def _say(self, words: list[str], tag: int, where: str = "") -> None:
        if len(words) > MOST_NAMED:
            return
        word = f"{element_name(tag)} ({where})" if where else element_name(tag)
        if word not in words:
            words.append(word if len(words) < MOST_NAMED else OTHERS)


def _compare(one: Iterator[bytes], other: Iterator[bytes], differs: Callable[[int], None]) -> None:
    """Reads two streams to their ends.

    differs: gets the first byte at which they differ, before anything more is read: that may raise, where only the
        beginning of a large object is compared.
    """
    at = 0
    a = b = b""
    while True:
        a, b = a or next(one, b""), b or next(other, b"")
        if not (a and b):
            break
        size = min(len(a), len(b))
        if a[:size] != b[:size]:
            at += next(i for i in range(size) if a[i] != b[i])
            break
        a, b, at = a[size:], b[size:], at + size
    if a or b:
        differs(at)
    _drain(one)
    _drain(other)


def _noted(blocks: Iterable[bytes], begun: bytearray) -> Iterator[bytes]:
    """The same blocks. begun: receives the first of the bytes, more than a number has."""
    for block in blocks:
        begun += block[: 2 * _LONGEST_NUMBER - len(begun)]
        yield block


def _drain(blocks: Iterable[bytes]) -> None:
    for _ in blocks:
        pass
