"""A look into what was stored: instances are read back from the server and laid beside what was sent of them.

A listing tells names and sizes. XNAT writes headers anew on receipt and copies the rest, and what it could not parse
has the right name and a good size all the same (docs/guarantees.md, section 1).
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from xnat_ingest.core import (
    Event,
    Instance,
    Problem,
    ReadBack,
    Refused,
    ServerSaid,
    Session,
    Stopped,
    Unreachable,
    Verdict,
    VerdictWord,
    printable,
)
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.inputs.compare_dicom import MOST_NAMED, OTHERS, Differences, NotComparable, compare_datasets, unchanged
from xnat_ingest.inputs.dicom_dataset import NotWalkable
from xnat_ingest.inputs.outgoing import Outgoing
from xnat_ingest.transports.bodies import change_since_scan
from xnat_ingest.xnat.archive import StoredFiles, StoredPlace
from xnat_ingest.xnat.projects import replaces_values

if TYPE_CHECKING:
    from xnat_ingest.deidentify.restored import StoredHeader

# What a spot check may read of a session: this share of its bytes. Of each SOP class in each transfer syntax one
# instance is read in any case, and at least its first so many bytes.
SPOT_SHARE = 0.02
SPOT_LEAST = 16 * 1024**2
TRIES = 3  # to read a file that is listed
PAUSE = 0.1  # seconds before the second try, twice that before the third
SHOWN = 3  # instances that a problem names
TOO_MUCH = f"beyond what a spot check reads, {SPOT_SHARE:.0%} of a session's bytes"
HEADER_ONLY = "only its header was compared"
BEGUN = f"only the first {SPOT_LEAST >> 20} MiB of it were compared"
NOT_SEARCHED = "their stored header cannot be searched for what was removed"
# Bytes behind a header that are read with it, and bytes that are worth a new connection if they are not read.
BESIDE_HEADER = 64 * 1024
WORTH_A_CUT = 256 * 1024
NAMELESS = "stored under names that do not tell instances"
ADVICE = (
    "send them again with --existing overwrite; where a script of the site or the project changes them on purpose, "
    "give --proof listing"
)
_SEND_AGAIN = "send them again with --existing overwrite, or give --proof listing if their number is enough for you"


def look_into(
    context: RunContext,
    session: Session,
    verdict: Verdict,
    holdings: Iterable[StoredFiles],
    sent: frozenset[str] = frozenset(),
) -> Verdict:
    """The verdict after as deep a look as --proof asks for.

    holdings: where the verified instances were seen.
    sent: SOPInstanceUIDs that this run has sent. With --deidentify, the others are looked at apart. The headers of all
        of them are read where UIDs are kept, or where one holds what was removed.

    What differs from what was sent has failed, and is a problem `corrupt`. What could not be read stays proven by the
    listing, but with `--proof pixels`, where it is unverified. So is what was only counted. With --deidentify, what was
    counted and not sent is read back all the same: its headers tell which instance it is. Raises nothing of ours.
    """
    if not context.verify or context.proof == "listing":
        return verdict
    reading = _Reading(context, session, tuple(holdings))
    left = verdict.counted - sent if context.find_reappeared else frozenset[str]()
    reading.find_by_headers([i for i in session.instances if i.sop_uid in left])
    known = verdict.verified | reading.found_by_headers
    verified = [i for i in session.instances if i.sop_uid in known]
    # An earlier run may have had another profile: what it has stored is a kind of its own.
    parts = ([i for i in verified if i.sop_uid in sent], [i for i in verified if i.sop_uid not in sent])
    reading.run(*([part for part in parts if part] if context.rewrite else [verified]))
    if context.keeps_uids or reading.has_found_identity:
        reading.read_headers([i for i in verified if i.sop_uid not in sent])
    reading.leave_out(verdict.counted, left)
    return reading.judged(verdict)


@dataclass(frozen=True, slots=True)
class Spot:
    """What a spot check reads.

    whole: instances that are read to their end.
    begun: instances of which only the first SPOT_LEAST bytes are read.
    left_out: how many kinds are not looked into.
    """

    whole: tuple[Instance, ...]
    begun: tuple[Instance, ...]
    left_out: int


Kind = tuple[str, ...]


def transfer_kind_of(instance: Instance) -> Kind:
    """Instances of one kind are stored alike: SOP class, transfer syntax, and the scan's type as XNAT makes it."""
    return instance.sop_class, instance.sent_syntax, instance.modality, instance.series_description


def choose_spot(instances: Sequence[Instance], total: int) -> Spot:
    """The smallest instance of each kind, as far as SPOT_SHARE goes. total: the session's bytes."""
    smallest: dict[Kind, Instance] = {}
    for instance in sorted(instances, key=lambda i: i.length):
        smallest.setdefault(transfer_kind_of(instance), instance)
    forms: dict[Kind, Instance] = {}
    rest: list[Instance] = []
    for kind, instance in smallest.items():
        if forms.setdefault(kind[:2], instance) is not instance:
            rest.append(instance)
    most = total * SPOT_SHARE
    begun = tuple(i for i in forms.values() if i.length > max(SPOT_LEAST, most))
    whole = [i for i in forms.values() if i not in begun]
    left = most - sum(i.length for i in whole) - SPOT_LEAST * len(begun)
    for number, instance in enumerate(rest):
        left -= instance.length
        if left < 0:
            return Spot(tuple(whole), begun, len(rest) - number)
        whole.append(instance)
    return Spot(tuple(whole), begun, 0)


class _Depth(NamedTuple):
    """How much is read of each instance. most: bytes of one, given its stored size; 0: all. why: what is told then."""

    most: Callable[[Instance, int], int]
    why: str = ""


def _beginning(_: Instance, _size: int) -> int:
    return SPOT_LEAST


def _header(instance: Instance, size: int) -> int:
    """What stands before the pixels, in what was sent and in what is stored."""
    most = max(instance.length, size) - instance.pixel_bytes + BESIDE_HEADER
    return most if size - most >= WORTH_A_CUT else 0


_WHOLE = _Depth(lambda _instance, _size: 0)
_BEGINNING = _Depth(_beginning, BEGUN)
_HEADER = _Depth(_header, HEADER_ONLY)


class _EnoughError(Exception):
    """As much of an instance was read as is to be."""


class _Reading:
    """The read-back of one session.

    skipped: why -> how many instances.
    corrupt: SOPInstanceUID -> keywords.
    lost: SOPInstanceUIDs of files that are listed, and that XNAT does not find on its disk.
    unread: SOPInstanceUID -> why.
    """

    def __init__(self, context: RunContext, session: Session, holdings: tuple[StoredFiles, ...]) -> None:
        self.context = context
        self.session = session
        self.skipped: Counter[str] = Counter()
        self.corrupt: dict[str, str] = {}
        self.lost: set[str] = set()
        self.unread: dict[str, str] = {}
        self._holdings = holdings
        self._lock = threading.Lock()
        self._read: Counter[str] = Counter()
        self._bytes = 0
        self._changed: Counter[str] = Counter()
        self._restored: Counter[str] = Counter()
        self._returned: Counter[str] = Counter()
        self._unreadable: list[str] = []
        self._nameless = 0
        self._unsearched = 0
        self._unsearchable: list[str] = []
        self._to_search = frozenset[str]()  # whose headers must be read
        self._told: dict[str, list[StoredPlace]] = {}  # SOPInstanceUID -> files whose headers have it
        self._over = ""  # why nothing more is read
        self._looked_at: set[str] = set()
        self._scripted: bool | None = None

    @property
    def has_found_identity(self) -> bool:
        return bool(self._restored)

    @property
    def found_by_headers(self) -> frozenset[str]:
        return frozenset(self._told)

    def find_by_headers(self, instances: Sequence[Instance]) -> None:
        """Looks for the files of instances whose names do not tell them, in the headers of their series' files."""
        try:
            for held in self._holdings if instances else ():
                for uid, files in held.told_by_headers(instances).items():
                    self._told.setdefault(uid, []).extend(map(held.place_of_file, files))
        except (Stopped, Unreachable, Refused) as error:
            self._over = str(error)
        except ServerSaid:
            return  # see _unsearched

    def run(self, *parts: Sequence[Instance]) -> None:
        """Looks at some instances of each part, or at all of them. parts: those that were stored in the same way."""
        for instances in parts:
            self._run(instances)

    def _run(self, instances: Sequence[Instance]) -> None:
        if self.context.proof == "pixels":
            self._all(instances)
            return
        spot = choose_spot(instances, self.session.bytes)
        if spot.left_out:
            self.skipped[TOO_MUCH] += spot.left_out
        self._all(spot.whole)
        self._all(spot.begun, _BEGINNING)
        looked_at = {i.sop_uid for i in (*spot.whole, *spot.begun)}
        suspect = {transfer_kind_of(i) for i in instances if i.sop_uid in self.corrupt or i.sop_uid in self.lost}
        self._all([i for i in instances if transfer_kind_of(i) in suspect and i.sop_uid not in looked_at])

    def leave_out(self, counted: frozenset[str], left: frozenset[str]) -> None:
        """Instances of which no file is known. counted, left: SOPInstanceUIDs; left: those of an earlier run that are
        to be searched."""
        if untold := counted - self._told.keys():
            self.skipped[NAMELESS] += len(untold)
            self.unread |= dict.fromkeys(sorted(untold), f"not read back: {NAMELESS}")
            self._nameless = len(untold) if self.context.proof == "pixels" else 0
        self._unsearched = len(left - self._told.keys())

    def read_headers(self, instances: Sequence[Instance]) -> None:
        """The headers of instances that were not read yet: a run without --deidentify may have sent them."""
        self._to_search = frozenset(i.sop_uid for i in instances)
        self._all([i for i in instances if i.sop_uid not in self._looked_at], _HEADER)

    def _all(self, instances: Sequence[Instance], depth: _Depth = _WHOLE) -> None:
        if not instances:
            return
        fields = {"session": self.session.title, "instances": len(instances), "bytes": sum(i.length for i in instances)}
        self.context.control.emit(Event("reading_back", fields))
        if self.context.in_order(instances[0].path):
            wanted = {i.sop_uid for i in instances}
            for instance in self.session.instances:
                if instance.sop_uid in wanted:
                    self._one(instance, depth)
            return
        if len(instances) == 1:
            self._one(instances[0], depth)
            return
        futures = [self.context.parts.submit(self._one, instance, depth) for instance in instances]
        wait(futures)
        for future in futures:
            future.result()

    def _one(self, instance: Instance, depth: _Depth) -> None:
        self._looked_at.add(instance.sop_uid)
        if not self._over:
            try:
                self.context.control.check()
                self._look(instance, depth)
                return
            except Stopped as error:
                self._over = str(error)
            except (Unreachable, Refused) as error:
                self._over = str(error)
        self._skip(instance, self._over)

    def _look(self, instance: Instance, depth: _Depth) -> None:
        """Raises Stopped, and what means that nothing more can be read."""
        places = self._places_of(instance)
        why = change_since_scan(self.context.source, instance) if places else "the listing does not say where it is"
        if why:
            self._skip(instance, why)
            return
        for place in places:
            self._read_and_compare(instance, place, depth)

    def _places_of(self, instance: Instance) -> Sequence[StoredPlace]:
        if instance.sop_uid in self._told:
            return self._told[instance.sop_uid]
        held = next((h for h in self._holdings if h.folders.get(h.name_of(instance))), None)
        return [held.place_of(held.name_of(instance))] if held else []

    def _read_and_compare(self, instance: Instance, place: StoredPlace, depth: _Depth) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                if self._compare(instance, place, depth, last=attempt == TRIES):
                    return
            except NotComparable as error:
                self._skip(instance, f"the file {error}")
                return
            except OSError as error:
                self._skip(instance, f"the file cannot be read: {error.strerror}")
                return
            except ServerSaid as error:
                if error.status == 403:
                    raise Refused(f"this user may not read files back ({error})") from error
                if attempt == TRIES:
                    if _is_lost(error, place):
                        self.lost.add(instance.sop_uid)
                        return
                    with self._lock:
                        self._unreadable.append(f"{printable(instance.path)}: {error}")
                    self._skip(instance, str(error).replace(place.address, "its file"))
                    return
            self.context.retry_policy.pause(PAUSE * attempt)

    def _compare(self, instance: Instance, place: StoredPlace, depth: _Depth, *, last: bool) -> bool:
        """Whether that was it. False: fewer bytes came than are listed, and it is not the last try; an answer that a
        proxy cut is no corrupt file."""
        found = Differences()
        address, listed, is_measured = place
        taken, most = 0, depth.most(instance, listed)
        header: StoredHeader | None = None

        def read(chunks: Iterator[bytes]) -> str:
            nonlocal found, taken, header
            found, taken, header = Differences(), 0, self._new_header()  # the request may be repeated

            def stored() -> Iterator[bytes]:
                nonlocal taken
                for chunk in chunks:
                    self.context.control.check()
                    if header:
                        header.add(chunk)
                    is_enough = 0 < most < taken + len(chunk) and (header is None or header.has_ended())
                    piece = chunk[: max(most - taken, 0)] if is_enough else chunk
                    taken += len(piece)
                    if piece:  # nothing would be the end of the object
                        yield piece
                    if is_enough:
                        raise _EnoughError

            with Outgoing(self.context.source, instance, self.context.rewrite).open() as sent:
                compare_datasets(unchanged(sent), stored(), instance.length, found, listed)
            if header:  # which may be longer than all that was sent
                header.read_on(chunks)
            return ""

        try:
            self.context.rest.request("GET", address, read=read)
        except _EnoughError:
            with self._lock:
                self.skipped[depth.why] += 1
        else:
            if listed and not taken and is_measured:  # the file has bytes, so this answer is not it
                raise ServerSaid(f"GET {address}", 200, "an empty body")
            if found.wrong and taken < listed and not last:
                return False
        self._note(instance, found, taken)
        self._look_for_removed(instance, header)
        return True

    def _new_header(self) -> StoredHeader | None:
        """None where nothing is looked for in it."""
        if not self.context.find_reappeared:
            return None
        from xnat_ingest.deidentify.restored import StoredHeader

        return StoredHeader(self.context.control.check)

    def _look_for_removed(self, instance: Instance, header: StoredHeader | None) -> None:
        """Whether the server holds again what --deidentify has removed."""
        if header is None or self.context.find_reappeared is None:
            return
        session = self.session
        labels = session.project, session.subject, session.label
        try:
            found = self.context.find_reappeared(self.context.source, instance, labels, header.bytes())
        except NotWalkable as error:
            with self._lock:
                self.skipped[NOT_SEARCHED] += 1
                self._unsearchable.append(f"{printable(instance.path)}: it {error}")
            return
        with self._lock:
            self._restored.update(found.original)
            self._returned.update(found.other)

    def _note(self, instance: Instance, found: Differences, taken: int) -> None:
        wrong, changed = found.wrong, found.changed
        if found.replaced and self._is_scripted():
            changed = [*changed, *found.replaced]
        else:
            wrong = [*found.replaced, *wrong]
        with self._lock:
            self._read[instance.series_uid] += 1
            self._bytes += taken
            for word in set(changed):
                self._changed[word if word in self._changed or len(self._changed) < MOST_NAMED else OTHERS] += 1
            if wrong:
                self.corrupt[instance.sop_uid] = ", ".join(dict.fromkeys(wrong))
            elif found.unlike:
                self.skipped[f"{found.unlike}, so they were not compared"] += 1

    def _is_scripted(self) -> bool:
        """Whether a script may have replaced UIDs, or taken elements away; asked when there is reason to."""
        with self._lock:
            if self._scripted is None:
                self._scripted = replaces_values(self.context.rest, self.context.projects[self.session.project])
            return self._scripted

    def _skip(self, instance: Instance, why: str) -> None:
        with self._lock:
            self.skipped[f"not read back: {why}"] += 1
            self.unread[instance.sop_uid] = f"not read back: {why}"

    def judged(self, verdict: Verdict) -> Verdict:
        corrupt = {uid: f"stored differently from what was sent: {words}" for uid, words in self.corrupt.items()}
        corrupt |= dict.fromkeys(sorted(self.lost), f"listed, but XNAT does not find the file: {_LOST}")
        unread = self.unread if self.context.proof == "pixels" else {}
        # With --proof pixels, what was found by its header was compared as a whole.
        shown = verdict.counted & self._told.keys() if self.context.proof == "pixels" else frozenset[str]()
        verified = (verdict.verified | shown) - corrupt.keys() - unread.keys()
        counted = verdict.counted - shown - corrupt.keys() - unread.keys()
        failed, unverified = {**verdict.failed, **corrupt}, {**verdict.unverified, **unread}
        word = verdict.word
        if word in ("verified", "counted", "missing") and (corrupt or unread):
            word = _word(failed=bool(failed), missing=bool(verdict.missing))
        elif word == "counted" and not counted:
            word = "verified"
        return replace(
            verdict,
            word=word,
            verified=verified,
            counted=counted,
            already_there=min(verdict.already_there, len(verified) + len(counted)),
            failed=failed,
            unverified=unverified,
            problems=(*verdict.problems, *self._problems()),
            read_back=ReadBack(
                self._read.total(), self._bytes, dict(self.skipped), dict(self._changed), dict(self._read)
            ),
        )

    def _problems(self) -> Iterator[Problem]:
        title, labels = self.session.title, (self.session.label,)
        yield from self._privacy_problems(title, labels)
        if self.corrupt:
            by_words: dict[str, list[str]] = defaultdict(list)
            for instance in self.session.instances:
                if words := self.corrupt.get(instance.sop_uid):
                    by_words[words].append(printable(instance.path))
            for words, paths in by_words.items():
                some = ", ".join(paths[:SHOWN]) + (", ..." if len(paths) > SHOWN else "")
                text = f"{title}: {len(paths)} instances are stored differently from what was sent ({words}): {some}"
                yield Problem.advised("corrupt", text, ADVICE, labels)
        if self.lost:
            paths = [printable(i.path) for i in self.session.instances if i.sop_uid in self.lost]
            some = ", ".join(paths[:SHOWN]) + (", ..." if len(paths) > SHOWN else "")
            text = f"{title}: {len(paths)} files are listed, but XNAT does not find them on its disk: {some}"
            yield Problem.advised("corrupt", text, "send them again with --existing overwrite", labels)
        if self._nameless:
            text = f"{title}: {self._nameless} instances are {NAMELESS}, so none of them can be read back"
            yield Problem.advised("not-read-back", text, "give --proof spot if their number is enough for you", labels)
        if self._unreadable:
            some = "; ".join(self._unreadable[:SHOWN]) + ("; ..." if len(self._unreadable) > SHOWN else "")
            text = f"{title}: {len(self._unreadable)} files are listed, but the server does not return them: {some}"
            yield Problem("not-read-back", text, labels)
        elif self._over:
            yield Problem(
                "not-read-back", f"{title}: {self._over}; what was not read back is proven by the listing only", labels
            )

    def _privacy_problems(self, title: str, labels: tuple[str, ...]) -> Iterator[Problem]:
        if self._restored:
            names = ", ".join(f"{name} ({number})" for name, number in sorted(self._restored.items()))
            text = (
                f"{title}: the server again holds what was removed before sending, in {names} of {self._read.total()} "
                "objects that were read back. A script of the site or the project puts it there, or a run without "
                "--deidentify has sent them"
            )
            yield Problem("reidentified", text, labels, spoils=True)
        if self._unsearched and not self._nameless:
            text = (
                f"{title}: an earlier run has stored {self._unsearched} instances under names that do not tell them, "
                "and their headers cannot be read, or have other UIDs. So nobody has looked there for what is removed"
            )
            yield Problem("not-read-back", f"{text}; {_SEND_AGAIN}", labels, spoils=True, fix=_SEND_AGAIN)
        if unread := self._to_search & self.unread.keys():
            text = (
                f"{title}: an earlier run may have stored {len(unread)} objects without --deidentify, and the server "
                "does not give them. So nobody has looked there for what is removed"
            )
            yield Problem("not-read-back", f"{text}; {_SEND_AGAIN}", labels, spoils=True, fix=_SEND_AGAIN)
        if self._unsearchable:
            some = "; ".join(self._unsearchable[:SHOWN]) + ("; ..." if len(self._unsearchable) > SHOWN else "")
            text = (
                f"{title}: nobody has looked for what is removed in {len(self._unsearchable)} objects that were read "
                f"back, since their headers cannot be searched: {some}"
            )
            yield Problem("not-read-back", f"{text}; {_SEND_AGAIN}", labels, spoils=True, fix=_SEND_AGAIN)
        if self._returned:
            names = ", ".join(f"{name} ({number})" for name, number in sorted(self._returned.items()))
            yield Problem("elements-returned", f"{title}: the server has filled removed elements anew: {names}", labels)


# XNAT's answer for a file that is in its catalogue, and not on its disk.
_LOST = "Unable to find file"


def _is_lost(error: ServerSaid, place: StoredPlace) -> bool:
    """Whether the archive lists a file that is gone. The prearchive lists its disk: there it was moved meanwhile."""
    return error.status == 404 and _LOST in error.sentence and not place.is_measured


def _word(*, failed: bool, missing: bool) -> VerdictWord:
    return "failed" if failed else "missing" if missing else "unverified"
