"""Whole objects as they are sent: a new header, and then the pixels unchanged."""

from __future__ import annotations

import hashlib
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from sys import intern
from typing import BinaryIO

from xnat_ingest.core import Instance, Plan, SetAside
from xnat_ingest.deidentify import gathering, pixels
from xnat_ingest.deidentify.behind import preamble_has_text
from xnat_ingest.deidentify.encoding import (
    BIG_EXPLICIT,
    LITTLE_EXPLICIT,
    LITTLE_IMPLICIT,
    UNDEFINED,
    Encoding,
    EndsEarly,
    NotRewritable,
    Reader,
)
from xnat_ingest.deidentify.gathering import MOST_HEAD, Facts, certainty_of
from xnat_ingest.deidentify.profile import Profile, filled
from xnat_ingest.deidentify.pseudonyms import Key, dummy
from xnat_ingest.deidentify.restored import Restored, restored
from xnat_ingest.deidentify.rewriting import Header, Rewriting
from xnat_ingest.inputs.dicom_dataset import (
    BLOCK,
    Head,
    NotWalkable,
    PeekableStream,
    blocks_of,
    contradiction,
    copy_value,
    is_explicit,
    read_head,
)
from xnat_ingest.inputs.dicom_dictionary import tag_of, vr_of
from xnat_ingest.inputs.header_text import header_values
from xnat_ingest.inputs.outgoing import Outgoing, file_head
from xnat_ingest.inputs.source import Source, go_on
from xnat_ingest.inputs.zeros import BLANK, ENOUGH

# Bytes in which the end of a header is first looked for.
_FIRST = 64 * 1024
_TOO_LONG = f"has a header of more than {MOST_HEAD >> 20} MiB"
# Bytes of names and identifiers that can be searched for, and these times those of the header: a minute or two at most.
_MOST_SOUGHT, _MOST_SEARCH = 32 * 1024, 2**37
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_UID_TAGS = {"sop_uid": 0x00080018, "study_uid": 0x0020000D, "series_uid": 0x0020000E}
_DUMMY = dummy("LO").decode()
# Floating point pixels -> their BitsAllocated (PS3.3, C.7.6.24).
_FLOAT_BITS = {0x7FE00008: 32, 0x7FE00009: 64}
_PIXEL_GROUP = 0x7FE0
# PrivateInformationCreatorUID, PrivateInformation: anything at all in a file's meta group. So may be a name there, and
# what no dictionary knows.
_PRIVATE_META = frozenset({0x00020100, 0x00020102})
_IN_META = "private information in the file's meta group"
_IN_PREAMBLE = "text in the file's preamble"
# Bytes of the table of a million frames.
_LONGEST_TABLE = 4_000_000
_DESCRIPTION = 0x0008103E


@dataclass(frozen=True, slots=True)
class Original:
    """What the crosswalk says about a study: the original values.

    days: by how many its dates were shifted.
    """

    patient_id: str
    study_uid: str
    study_date: str
    days: int


@dataclass(slots=True)
class Tally:
    """What happened in a run, without a value.

    weak: (keyword, why it is not searched for) -> objects; restored, returned: keyword of an element that the server
    holds again, with what was removed, or with something else -> objects of those that were read back.
    """

    actions: Counter[tuple[str, int]] = field(default_factory=Counter)
    weak: Counter[tuple[str, str]] = field(default_factory=Counter)
    objects: int = 0
    blackened: int = 0
    restored: Counter[str] = field(default_factory=Counter)
    returned: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _StudyPatient:
    """The patient of a study, with whose dates those of all its objects move: some may lack the id or the birth date.

    certainty: of the surest patient that an object of it names.
    patient: that one, as in Facts; b"" where there are several.
    """

    certainty: int = -1
    patient: bytes = b""

    def note(self, patient: bytes) -> None:
        certainty = certainty_of(patient)
        if certainty > self.certainty:
            self.certainty, self.patient = certainty, patient
        elif certainty == self.certainty and patient != self.patient:
            self.patient = b""

    def instead_of(self, own: bytes) -> bytes:
        """The patient with whose dates those of an object move that names this one."""
        return self.patient if self.patient and certainty_of(own) < self.certainty else own


class Deidentifier:
    """Rewrites each object of a run. Safe to use from several threads.

    originals: new StudyInstanceUID -> what it was, once for each PatientID and patient (Facts.patient) in it.
    """

    def __init__(self, profile: Profile, key: Key | None, check_stop: Callable[[], None] = go_on) -> None:
        """check_stop: called while a plan is made; may raise. Later, a run that is stopped does not wait for us."""
        self._check_stop = check_stop
        self.profile = profile
        self.key = key
        self.tally = Tally()
        self.originals: dict[str, dict[tuple[str, bytes], Original]] = {}
        self._patients: dict[str, _StudyPatient] = {}  # by new StudyInstanceUID
        self._labels: dict[str, tuple[str, str]] = {}
        self._searched: dict[str, bytes] = {}  # path -> digest of a header in which nothing was found
        self._lock = threading.Lock()

    def examine(self, source: Source, instance: Instance, keywords: Iterable[str] = ()) -> Instance | SetAside:
        """The instance as it would be sent without labels, or why it is not sent. Raises OSError.

        keywords: whose values, of what leaves, are kept for labels and the server's filters.
        """
        try:
            with Outgoing(source, instance).open() as blocks:
                work = _Object(blocks, instance, self.profile, self.key, self._check_stop)
                header = work.rewriting.rewrite("", "")
                length = 0 if work.refused else len(work.head(header)) + work.pixel_length(source)
            if refusal := self._refusal(work, header):
                return SetAside(instance.path, *refusal)
        except (NotRewritable, NotWalkable) as error:
            return SetAside(instance.path, "not-deidentifiable", f"the object {error}")
        self._note(work, header)
        return self._leaving(instance, work, header, length, keywords)

    def _refusal(self, work: _Object, header: Header) -> tuple[str, str] | None:
        if work.refused:
            return "burned-in", work.refused
        residue = work.rewriting.residue(header.data)
        if residue:
            return "residual-identifier", str(residue)
        return None

    def _note(self, work: _Object, header: Header) -> None:
        facts = work.rewriting.facts
        study = _uid(header.values.get(_UID_TAGS["study_uid"], b""))
        tags = gathering.PATIENT_ID, gathering.STUDY_UID, gathering.STUDY_DATE
        patient_id, study_uid, study_date = (work.rewriting.text(facts.values.get(tag, b"")) for tag in tags)
        with self._lock:
            self._searched[work.path] = work.digest
            self.tally.actions.update(header.actions)
            self.tally.weak.update(work.rewriting.tokens.weak)
            self.tally.objects += 1
            self.tally.blackened += work.blackening is not None
            original = Original(patient_id, study_uid, study_date, header.days)
            self.originals.setdefault(study, {}).setdefault((patient_id, facts.patient), original)
            if study:
                self._patients.setdefault(study, _StudyPatient()).note(facts.patient)

    def _leaving(
        self, instance: Instance, work: _Object, header: Header, length: int, keywords: Iterable[str]
    ) -> Instance:
        sop_uid, study_uid, series_uid = (_uid(header.values.get(tag, b"")) for tag in _UID_TAGS.values())
        return replace(
            instance,
            sop_uid=sop_uid,
            study_uid=intern(study_uid),
            series_uid=intern(series_uid),
            series_description=work.rewriting.text(header.values.get(_DESCRIPTION, b"")),
            sent_size=length,
            head_size=len(file_head(instance.sop_class, sop_uid, instance.sent_syntax)),
            sent_tags=self._values(work.head(header), keywords) if keywords else instance.tags,
        )

    def _values(self, head: bytes, keywords: Iterable[str]) -> Mapping[str, str]:
        """What is sent, without dummies: no label may be made from a dummy."""
        found = header_values(head, keywords)
        return {name: "" if self._is_made_up(name) or value == _DUMMY else value for name, value in found.items()}

    def _is_made_up(self, keyword: str) -> bool:
        tag = tag_of(keyword) or 0
        return tag in self.profile.written or self.profile.action(tag, vr_of(tag)) in ("X", "Z", "D")

    def settle(self, plan: Plan) -> Plan:
        """The plan with final sizes. Labels are written into the objects, so sizes depend on them. All objects are
        known now, so it is settled by how many days each study's dates move, too."""
        self._settle_days()
        sessions = []
        for session in plan.sessions:
            labels = session.subject, session.label
            more = sum(_even(len(filled(text, *labels))) - _even(len(filled(text, "", ""))) for text in self._templates)
            for instance in session.instances:
                self._labels[instance.path] = labels
            members = tuple(replace(i, sent_size=i.sent_size + more) for i in session.instances)
            sessions.append(replace(session, instances=members))
        return replace(plan, sessions=tuple(sessions))

    def _settle_days(self) -> None:
        for study, patients in self._patients.items():
            found = self.originals[study]
            for (patient_id, own), original in found.items():
                days = self._days(patients.instead_of(own))
                found[patient_id, own] = replace(original, days=days)

    def _days(self, patient: bytes) -> int:
        return self.key.days(patient) if self.key and self.profile.dates == "shift" else 0

    @property
    def _templates(self) -> Iterable[str]:
        return self.profile.written.values()

    def measure(self, plan: Plan, source: Source) -> Plan:
        """A plan that was read from a file, whose labels may have been changed, settled anew."""
        aside: list[SetAside] = []
        sessions = []
        for session in plan.sessions:
            found = [self._measured(source, instance) for instance in session.instances]
            aside += [one for one in found if isinstance(one, SetAside)]
            members = tuple(one for one in found if isinstance(one, Instance))
            if members:
                sessions.append(replace(session, instances=members))
        return self.settle(replace(plan, sessions=tuple(sessions), set_aside=(*plan.set_aside, *aside)))

    def _measured(self, source: Source, planned: Instance) -> Instance | SetAside:
        try:
            found = self.examine(source, planned)
        except OSError as error:
            return SetAside(planned.path, "unreadable", error.strerror or "cannot be read")
        if isinstance(found, Instance) and found.sop_uid != planned.sop_uid:
            return SetAside(planned.path, "source-changed", "holds another object than was planned; plan again")
        return found

    @property
    def fingerprint(self) -> str:
        """Distinguishes plans that were made with different profiles or keys."""
        return f"{self.profile.sha256} {self.key.fingerprint if self.key else '-'}"

    def rewrite(self, instance: Instance, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The object in blocks, as inputs.outgoing.Rewrite. Raises NotWalkable for one that no plan let through."""
        try:
            work = _Object(blocks, instance, self.profile, self.key, patients=self._patients.get(instance.study_uid))
            if work.refused:
                raise NotRewritable(f"may not leave: {work.refused}")
            header = work.rewriting.rewrite(*self._labels[instance.path])
            if self._searched.get(instance.path) != work.digest:
                self._hold_back_residue(work, header)
            yield work.head(header)
            yield from work.pixel_blocks()
        except NotRewritable as error:
            raise NotWalkable(str(error)) from error

    @staticmethod
    def _hold_back_residue(work: _Object, header: Header) -> None:
        """Searches a header that was not searched when the plan was made: the file was replaced since."""
        if residue := work.rewriting.residue(header.data):
            raise NotRewritable(f"may not leave: {residue}")

    def find_reappeared(self, source: Source, instance: Instance, labels: Sequence[str], stored: bytes) -> Restored:
        """Finds removed values that the server has again.

        labels: project, subject, session.
        stored: the object as the server returns it, or its beginning.

        Raises OSError, NotWalkable.
        """
        with Outgoing(source, instance).open() as blocks:
            try:
                patients = self._patients.get(instance.study_uid)
                work = _Object(blocks, instance, self.profile, self.key, patients=patients).rewriting
                sent = work.rewrite(*labels[1:]).data
                found = restored(work, self.profile, sent, work.encoding, stored, labels)
            except NotRewritable as error:
                raise NotWalkable(str(error)) from error
        with self._lock:
            self.tally.restored.update(found.original)
            self.tally.returned.update(found.other)
        return found


class _Object:
    """One object: its header in memory, its pixels not yet read. refused: why its pixels may not be sent."""

    def __init__(
        self,
        blocks: Iterator[bytes],
        instance: Instance,
        profile: Profile,
        key: Key | None,
        check_stop: Callable[[], None] = go_on,
        patients: _StudyPatient | None = None,
    ) -> None:
        """patients: of its study, where all objects of that are known."""
        self._instance = instance
        self._check_stop = check_stop
        self._stream = PeekableStream(blocks)
        before, encoding, data, facts = header_of(self._stream, instance, check_stop)
        patient = patients.instead_of(facts.patient) if patients else b""
        self.rewriting = Rewriting(data, encoding, profile, key, facts, check_stop, patient)
        self._order = encoding.order
        self._explicit = encoding.explicit
        self._pixels_at = before + len(data)  # in the object as it came
        self._has_floats = self._hold_floats_to_form()
        self.blackening: pixels.Blackening | None = None
        self.refused = "" if profile.burned_in == "allow" else self._judge(profile)

    @property
    def path(self) -> str:
        return self._instance.path

    @property
    def digest(self) -> bytes:
        """Of the header as the file has it, which decides on what would leave."""
        return hashlib.blake2b(self.rewriting.data, digest_size=16).digest()

    def _hold_floats_to_form(self) -> bool:
        """Whether it has floating point pixels. Raises NotRewritable for what only says so, and may hold anything."""
        start = self._stream.peek(4)
        if len(start) < 4:
            return False
        group, element = struct.unpack(f"{self._order}HH", start)
        bits = _FLOAT_BITS.get(group << 16 | element)
        if bits and self.rewriting.facts.number(gathering.BITS) != bits:
            raise NotRewritable(f"has floating point pixels, and BitsAllocated does not say {bits}")
        return bits is not None

    def _judge(self, profile: Profile) -> str:
        facts = self.rewriting.facts
        if facts.pixels and (drawn := pixels.drawn_over(self.rewriting.data, facts)):
            return drawn
        listed = () if isinstance(profile.burned_in, str) else profile.burned_in
        entry = pixels.boxes_of(facts, listed) if self._stream.peek(1) else None
        if entry is None:
            return pixels.risk(facts)
        found = pixels.blackening(facts, entry, self._instance.sent_syntax)
        if isinstance(found, str):
            return found
        self.blackening = found
        return ""

    def head(self, header: Header) -> bytes:
        """Preamble, meta information, and the rewritten header."""
        sop_uid = _uid(header.values.get(_UID_TAGS["sop_uid"], b""))
        return file_head(self._instance.sop_class, sop_uid, self._instance.sent_syntax) + header.data

    def pixel_blocks(self) -> Iterator[bytes]:
        """The pixel element. What follows it is not sent."""
        if not self._stream.peek(1):
            return
        head = read_head(self._stream, self._explicit, self._order)
        value = copy_value(self._stream, head, self._explicit, self._order)
        yield head.raw
        if head.length == UNDEFINED:
            yield self._offset_table()[0]
        if head.length != UNDEFINED:
            value = self._frames_only(value, head.length)
        yield from self.blackening.blocks(value) if self.blackening else value
        if self._has_floats and self._stream.peek(2) == struct.pack(f"{self._order}H", _PIXEL_GROUP):
            raise NotRewritable("has pixels of two kinds")

    def _frames_only(self, value: Iterator[bytes], length: int) -> Iterator[bytes]:
        """Native pixels, with zeros behind the last frame. Raises NotRewritable where so much stands there that it may
        be frames of which the header does not tell."""
        frame, shown = self._extent(length)
        if length <= shown:
            return value
        return _refused_rest(value, shown) if length - shown >= frame else pixels.without_rest(value, shown)

    def _extent(self, length: int) -> tuple[int, int]:
        """See pixels.extent; all of it where the pixels are not native."""
        if self._instance.sent_syntax not in pixels.NATIVE:
            return length, length
        frame, shown = pixels.extent(self.rewriting.facts, self._instance.sent_syntax, length)
        if length and not frame:
            raise NotRewritable("does not tell how many bytes its frames take")
        return frame, shown

    def _offset_table(self) -> tuple[bytes, int]:
        """Takes the first item of compressed pixels, a table of the frames' places. Returns it, and how much shorter it
        is now: one that is no table may hold anything, and is emptied."""
        start = self._stream.peek(8)
        group, element, length = struct.unpack(f"{self._order}HHL", start) if len(start) == 8 else (0, 0, 0)
        if (group, element) != (0xFFFE, 0xE000) or length in (0, UNDEFINED):
            return b"", 0
        self._stream.take(8)
        frames = self.rewriting.facts.frames
        if length == 4 * (1 if frames < 0 else frames) <= _LONGEST_TABLE:
            table = b"".join(self._stream.copy(length))
            places = struct.unpack(f"{self._order}{length // 4}L", table)
            if places[0] == 0 and all(one < other and not other % 2 for one, other in pairwise(places)):
                return start + table, 0
        else:
            for _ in self._stream.copy(length):
                pass
        return start[:4] + bytes(4), length

    def pixel_length(self, source: Source) -> int:
        """Bytes of that element. Pixels are skipped by seeking if possible."""
        if not self._stream.peek(1):
            return 0
        instance = self._instance
        if instance.form != "file" or self._has_floats or source.in_order(instance.path):
            return sum(map(len, self.pixel_blocks()))
        head = read_head(self._stream, self._explicit, self._order)
        if head.length != UNDEFINED:
            if self._pixels_at + len(head.raw) + head.length > instance.size:
                raise NotRewritable("ends before its pixels do")
            self._look_behind_frames(source, head)
            return len(head.raw) + head.length
        shorter = self._offset_table()[1]
        with source.open(instance.path) as stream:
            start = self._pixels_at + len(head.raw)
            return len(head.raw) + _fragments_end(stream, start, instance.size, self._order) - start - shorter

    def _look_behind_frames(self, source: Source, head: Head) -> None:
        """Does what _frames_only does, without reading the frames."""
        frame, shown = self._extent(head.length)
        if head.length > shown and head.length - shown >= frame:
            with source.open(self._instance.path) as stream:
                stream.seek(self._pixels_at + len(head.raw) + shown)
                for _ in _refused_rest(PeekableStream(blocks_of(stream)).copy(head.length - shown), 0):
                    self._check_stop()


def _refused_rest(blocks: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Blocks of which all behind the first so many bytes are zeros. Raises NotRewritable where they are not."""
    for block in blocks:
        if block.count(0, most) < len(block) - most:
            raise NotRewritable("has more pixels than its frames take")
        most = max(most - len(block), 0)
        yield block


def header_of(
    stream: PeekableStream, instance: Instance, check_stop: Callable[[], None] = go_on
) -> tuple[int, Encoding, bytes, Facts]:
    """Takes the header of an object as it is sent: the bytes before its data set, how that is encoded, the elements
    before the pixels, what they say. Raises NotRewritable, NotWalkable, and what check_stop raises."""
    passed, before = _pass_meta(stream)
    encoding = _encoding(stream, instance.sent_syntax)
    data, facts = _header(stream, encoding, check_stop)
    facts.before = before
    sought = sum(len(value) for _, _, value in facts.sources)
    if sought > _MOST_SOUGHT or sought * len(data) > _MOST_SEARCH:
        raise NotRewritable(f"has {sought} bytes of names and identifiers, more than can be searched for")
    return passed, encoding, data, facts


def _pass_meta(stream: PeekableStream) -> tuple[int, str]:
    """Goes past preamble and meta information, as dicom_dataset.skip_meta does. Returns their bytes, and what they
    hold that is not looked into."""
    passed, preamble, private = 0, b"", False
    if stream.peek(132)[128:] == b"DICM":
        preamble = stream.take(132)[:128]
        passed = 132
    while stream.peek(2) == b"\x02\x00":
        head = read_head(stream, is_explicit(stream), "<")
        passed += len(head.raw)
        is_private = head.tag in _PRIVATE_META or head.vr == b"PN" or not vr_of(head.tag)
        for block in stream.copy(head.length):
            passed += len(block)
            private |= is_private and bool(block.strip(b" \0"))
    return passed, _IN_META if private else _IN_PREAMBLE if preamble_has_text(preamble) else ""


def _encoding(stream: PeekableStream, syntax: str) -> Encoding:
    if why := contradiction(stream, syntax):
        raise NotRewritable(why)
    if syntax == _BIG_ENDIAN:
        return BIG_EXPLICIT
    return LITTLE_EXPLICIT if is_explicit(stream) else LITTLE_IMPLICIT


def _header(stream: PeekableStream, encoding: Encoding, check_stop: Callable[[], None]) -> tuple[bytes, Facts]:
    """Takes the elements before the pixels."""
    size = _FIRST
    while True:
        data = stream.peek(size)
        try:
            facts = gathering.gather_facts(Reader(data, encoding, check_stop), 0, len(data))
        except EndsEarly as error:
            if len(data) < size:
                raise
            if size >= MOST_HEAD:
                raise NotRewritable(_TOO_LONG) from error
        else:
            if facts.pixels:
                return stream.take(facts.end), facts
            if len(data) < size or facts.end < size:
                stream.take(len(data))
                _pass_zeros(stream, check_stop)
                return data[: facts.end], facts
            if size >= MOST_HEAD:
                raise NotRewritable(_TOO_LONG)
        size = min(size * 4, MOST_HEAD)


def _pass_zeros(stream: PeekableStream, check_stop: Callable[[], None]) -> None:
    """From zeros behind the last element to the object's end. Raises NotRewritable where anything else follows."""
    passed = 0
    while block := stream.take(BLOCK):
        check_stop()
        passed += len(block)
        if block.count(0) < len(block):
            raise NotRewritable(BLANK)
        if passed > ENOUGH:
            raise NotRewritable(f"is followed by more than {ENOUGH >> 20} MiB of zeros")


def _fragments_end(stream: BinaryIO, at: int, size: int, order: str) -> int:
    """Where encapsulated pixels end in a file, including their delimiter."""
    while at + 8 <= size:
        stream.seek(at)
        group, element, length = struct.unpack(f"{order}HHL", stream.read(8))
        at += 8
        if (group, element) == (0xFFFE, 0xE0DD):
            return at
        if (group, element) != (0xFFFE, 0xE000) or at + length > size:
            break
        at += length
    raise NotRewritable("has encapsulated pixels that are not built of fragments")


def _uid(value: bytes) -> str:
    """The first value, as for the planner. A damaged element may have several."""
    return value.decode("latin-1").partition("\\")[0].strip(" \0")


def _even(length: int) -> int:
    return length + length % 2
