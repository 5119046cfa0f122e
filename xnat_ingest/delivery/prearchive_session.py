"""The prearchive session of one planned session: found or new, built, listed, and whether we may send into it.

A build moves some files. XNAT then takes no second copy of them (xnat/scan_ids.py). So all of them are sent whole
before the program builds, and never again afterwards (docs/decisions/what-a-build-moves.md).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import count

from xnat_ingest.core import Instance, ServerSaid, Session, SessionTrouble, Unreachable
from xnat_ingest.delivery import direct_archive
from xnat_ingest.delivery.commit import ConcurrentUpload
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.decision import Decision, moved_between_series, name_clash
from xnat_ingest.delivery.same_number import are_crossed, kept_apart
from xnat_ingest.delivery.sending import Sending
from xnat_ingest.delivery.server_state import doubled_instances
from xnat_ingest.delivery.whole_copies import WholeCopies
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.archive import StoredFiles, compare_stored, in_prearchive
from xnat_ingest.xnat.retry_policy import is_transient
from xnat_ingest.xnat.scan_ids import moved_already, moved_by_build, number_of, received_in, was_built
from xnat_ingest.xnat.site_names import among
from xnat_ingest.xnat.unlisted_files import holds_readable

# Seconds to watch a prearchive session that was still receiving, after it was built: it may be another run's.
WATCH = 5.0
_NO_VALUE = re.compile("no-value-for-(Series|Instance)Number")
_NUMBERS = re.compile(r"(.*?)-(-?[^-]*)")
NOTHING_TOLD: Mapping[str, frozenset[str]] = {}
PARTS_BEFORE_SESSION = 3  # parts that may go to a DICOM receiver before their prearchive session must be there
RESENDS = 3  # how often what was disturbed is sent again before a build
NO_SESSION = (
    "the DICOM receiver accepted the files, but the project has no prearchive session of them: they were filtered, or "
    "routed elsewhere (check --route; an administrator can look for them in other projects and under Unassigned), or "
    "the server has archived them by itself (the same command again will tell)"
)


def _stored_size(instance: Instance) -> int:
    """Bytes of an instance as XNAT writes it: its data set and the three UIDs of its own in the meta information.

    What is the same for all instances is left out.
    """
    uids = (instance.sop_class, instance.sop_uid, instance.sent_syntax)
    return instance.length - instance.head_size + sum(len(uid) + len(uid) % 2 for uid in uids)


def plausible_copies(
    instances: Sequence[Instance], files_held: StoredFiles, told: Mapping[str, frozenset[str]] = NOTHING_TOLD
) -> frozenset[str]:
    """SOPInstanceUIDs of stored copies whose length is plausible.

    Either it equals the source's, or it differs from it by as much as in at least two others: when the server changes
    whole files, it changes them alike. Of a copy under other numbers, the length is one with these numbers. It cannot
    be sent again, so a longer one counts where there are no three to be compared.

    told: see Comparison. Copies that another client has named are looked at, too.
    """

    def renumbering(instance: Instance, name: str) -> int:
        if not name.startswith(f"{instance.study_uid}-"):
            return 0  # no default name, so it tells no numbers
        return _numbers_size(instance, instance.name) - _numbers_size(instance, name)

    stored = _stored_names(instances, files_held, told)
    size = {i.sop_uid: files_held.sizes[name] + renumbering(i, name) for i, name in stored}
    change = {i.sop_uid: size[i.sop_uid] - _stored_size(i) for i, _ in stored}
    usual = Counter(change.values())
    compares = any(number > 2 for number in usual.values())

    def is_plausible(instance: Instance, name: str) -> bool:
        length = size[instance.sop_uid]
        may_be_longer = name != instance.name and not compares  # XNAT makes meta information of its own
        is_usual = usual[change[instance.sop_uid]] > 2
        return length == instance.length or is_usual or (may_be_longer and length > instance.length)

    return frozenset(i.sop_uid for i, name in stored if is_plausible(i, name))


def _stored_names(
    instances: Sequence[Instance], files_held: StoredFiles, told: Mapping[str, frozenset[str]]
) -> list[tuple[Instance, str]]:
    """Those of which a copy is known, and its name. told: see Comparison."""

    def name_of(instance: Instance) -> str:
        names = told.get(instance.sop_uid, ())
        return files_held.name_of(instance) or (min(names) if len(names) == 1 else "")

    return [(i, name) for i in instances if (name := name_of(i))]


def _numbers_size(instance: Instance, name: str) -> int:
    """Bytes of the numbers of series and instance in a header, by the default name that it has given its file."""
    numbers = _NO_VALUE.sub("", name.removeprefix(f"{instance.study_uid}-").rpartition("-")[0])
    found = _NUMBERS.fullmatch(numbers)
    return sum(len(number) + len(number) % 2 for number in found.groups()) if found else 0


class OurPrearchiveSession:
    """One planned session in the prearchive.

    overwrite: the commit is to replace what the archive has under the same names
    goes_direct: a DICOM receiver archives by itself, past the prearchive
    may_edit: whether the user may build, list and commit
    cannot_receive: SOPInstanceUIDs that it cannot receive (again): a build has moved them or their series, or it holds
        them under other numbers, so that a second copy would lie beside the first, or it holds a series of the same
        number that must be archived alone
    had_before: SOPInstanceUIDs of copies of an earlier run, where those may be old: a new copy that the server drops
        without a word cannot be told from one that it stores
    whole_before: those of them that are whole
    was_joined: it was there before this run, so files in it may be of other instances
    doubled_before: SOPInstanceUIDs of those that it held twice when it was joined
    lacked_some: after a disturbance in this round, it did not hold all of it whole
    """

    def __init__(self, context: RunContext, session: Session, sending: Sending) -> None:
        self.context = context
        self.session = session
        self.sending = sending
        self.overwrite = False
        self.goes_direct = False
        self.may_edit = context.projects[session.project].may_edit
        self.cannot_receive: frozenset[str] = frozenset()
        self.had_before: frozenset[str] = frozenset()
        self.whole_before: frozenset[str] = frozenset()
        self.was_joined = False
        self.doubled_before: frozenset[str] = frozenset()
        self.lacked_some = False
        self._is_own = False  # this run has made it
        self._is_fresh = False  # nobody had built it when this round began, and this run has not had it built since
        self._apart: frozenset[str] = frozenset()  # what must not come beside a sibling series that it holds
        self._awaited: frozenset[str] = frozenset()  # what is sent into one that holds nothing which XNAT can read
        self._before: dict[str, frozenset[str]] = {}  # address -> what it held when it was joined first
        self._changed_uid = False
        self._came_late = False  # what was sent last came into another run's session while that was built, or later
        self._waited_for: set[str] = set()
        self._looks = 0
        self._copies = WholeCopies(context, session)
        self._sent_again: set[str] = set()  # SOPInstanceUIDs that the server once did not store without a word

    def join(self, decision: Decision, archive: StoredFiles) -> frozenset[str]:
        """SOPInstanceUIDs that need not be sent: the open session has complete copies or just received new ones."""
        entry = decision.entry if self.may_edit else None
        self.lacked_some = False
        self.cannot_receive = self.had_before = self.whole_before = self._apart = self._awaited = frozenset()
        self._is_fresh = entry is None
        if entry is None:
            self.sending.uri = ""
            self.context.timestamps.renew(self.session)
            return frozenset()
        if not entry.source and entry.is_receiving and entry.uri not in self._waited_for:
            # A scanner, or another DICOM sender, may have made it, and may pause between two series.
            self._waited_for.add(entry.uri)
            raise ConcurrentUpload(entry.uri, "it came from a DICOM sender, which may not have ended")
        stays = self.context.destination == "prearchive"
        self._is_fresh = stays and entry.is_receiving and not prearchive.was_built(self.context.rest, entry.uri)
        self._is_own = entry.uri == self.sending.uri or entry.timestamp == self.context.timestamps.of(self.session)
        self.was_joined |= not self._is_own
        self.sending.uri = entry.uri
        if self._is_void(entry):
            self._begin_anew(entry, decision.to_send)
            return frozenset()
        if self.context.destination == "prearchive":
            self._refuse_second_copies(entry, decision.to_send)
        again = self._send_moving(entry, decision.to_send) if entry.is_receiving else frozenset()
        files_held = self.built(entry.uri, reads_all=not self._is_own)
        template = self.context.projects[self.session.project].template
        twice = {i.sop_uid for i in doubled_instances(self.session, files_held, template)}
        self.doubled_before |= twice - self.sending.taken
        self._apart = self._kept_apart(decision.to_send, files_held, archive)
        self.cannot_receive |= self._apart
        self.overwrite |= not archive.sizes.keys().isdisjoint(files_held.sizes)
        if entry.is_receiving:
            self._watch(entry, files_held)
        self._refuse_name_clash(decision.to_send, files_held)
        whole = self.intact_instances(decision.to_send, files_held, undisturbed=entry.status == "READY")
        self._refuse_divided(decision.to_send, files_held, whole)
        if self.context.existing == "overwrite" or self.context.keeps_uids:
            self.had_before = self._copies_before(entry, compare_stored(decision.to_send, files_held).seen)
            self.whole_before = self.had_before & whole
            return again  # all others in it may be old copies, or not de-identified
        self._refuse_broken_off(decision.to_send, files_held, whole)
        return whole

    def _kept_apart(self, to_send: Sequence[Instance], files_held: StoredFiles, archive: StoredFiles) -> frozenset[str]:
        """What must wait until what a run that was ended has left in it is archived. Raises SessionTrouble.

        That is a series of the same number, or one whose place in the archive has the number of what is to be sent.
        """
        instances = self.session.instances
        seen = compare_stored(instances, files_held).seen
        if self.context.destination != "prearchive" and are_crossed(seen, instances, archive):
            delete = prearchive.command_for(self.sending.uri, "delete")
            raise SessionTrouble(
                "stale-row",
                f"prearchive session {self.sending.uri} holds series that were numbered anew: one has the number that "
                "another has in the archive, and XNAT would mix them up. Nothing was sent. Delete it "
                f"({delete}), then run again: they are archived one after the other. {prearchive.GONE}",
            )
        return kept_apart(to_send, seen, instances, archive, hashed=self.context.changes_uids)

    def _renumbered(self, instances: Sequence[Instance], files_held: StoredFiles) -> frozenset[str]:
        """SOPInstanceUIDs of those that are stored under other numbers, so that a new copy gets another name.

        Names of a site's template do not tell instances. There it counts which names the headers on the server tell.
        """
        renumbered = frozenset(i.sop_uid for i in instances if files_held.name_of(i) not in ("", i.name))
        template = self.context.projects[self.session.project].template
        if not template:
            return renumbered
        told = compare_stored(instances, files_held).told
        return renumbered | {
            i.sop_uid for i in instances if i.sop_uid in told and not among(told[i.sop_uid], template, i)
        }

    def _refuse_divided(self, to_send: Sequence[Instance], files_held: StoredFiles, whole: frozenset[str]) -> None:
        """A piece of a file that a build has put into a scan of its own. Raises SessionTrouble.

        Its header ends before the SeriesNumber, or the site's script has not changed its UIDs any more. Once it is
        archived, XNAT takes no whole copy, or keeps it beside one.
        """
        scans: dict[str, set[str]] = defaultdict(set)
        for instance in self.session.instances:
            if name := files_held.name_of(instance):
                scans[instance.series_uid].add(files_held.scans[name])

        def is_its_own(scan: str, instance: Instance) -> bool:
            if was_built(scan, number_of(instance)) or scan == received_in(instance):
                return True
            has_number = bool(instance.series_number.strip())
            return self.context.changes_uids and not has_number and files_held.is_unnumbered(scan)

        def is_astray(instance: Instance) -> bool:
            there = scans[instance.series_uid]
            return len(there) > 1 or not all(is_its_own(one, instance) for one in there)

        pieces = [i for i in to_send if i.sop_uid not in whole and files_held.name_of(i) and is_astray(i)]
        if not pieces:
            return
        uri = self.sending.uri
        raise SessionTrouble(
            "stale-row",
            f"prearchive session {uri} holds {len(pieces)} of these instances not whole, and in another scan than "
            "that of their series. Once it is archived, XNAT would take no whole copies of them. Nothing was sent. "
            f"Delete it ({prearchive.command_for(uri, 'delete')}), then run again. {prearchive.GONE}",
        )

    def _refuse_broken_off(self, to_send: Sequence[Instance], files_held: StoredFiles, whole: frozenset[str]) -> None:
        """Copies under other numbers that are not whole would stay beside those that follow. Raises SessionTrouble."""
        broken = self._renumbered(to_send, files_held) - whole
        if not broken:
            return
        archive, delete = (prearchive.command_for(self.sending.uri, action) for action in ("archive", "delete"))
        raise SessionTrouble(
            "stale-row",
            f"prearchive session {self.sending.uri} holds {len(broken)} of these instances under other numbers and in "
            "another length: an upload of them may have been broken off, and XNAT would keep each beside its new copy. "
            f"Nothing was sent. Look at them in XNAT. If they are whole, archive it ({archive}). If not, delete it "
            f"({delete}). Then run again. {prearchive.GONE}",
        )

    def _refuse_name_clash(self, to_send: Sequence[Instance], files_held: StoredFiles) -> None:
        if files_held.uids is None:  # nothing tells a copy that an earlier run has cut off from another instance
            return
        template = self.context.projects[self.session.project].template
        there = compare_stored(self.session.instances, files_held)
        clash = name_clash(self.session, there, to_send, files_held, template)
        if clash := clash or moved_between_series(self.session, to_send, files_held):
            raise SessionTrouble(clash.kind, clash.detail.removeprefix(f"{self.session.title}: "))

    def _copies_before(self, entry: prearchive.PrearchiveSession, seen: frozenset[str]) -> frozenset[str]:
        """Which of the copies were there before this run sent into the prearchive session. It may join it twice."""
        return self._before.setdefault(entry.uri, frozenset() if self._is_own else seen)

    def _is_void(self, entry: prearchive.PrearchiveSession) -> bool:
        """Whether it holds no file that XNAT can read, as after a run with a full disk. No build has listed it then."""
        if not entry.is_receiving or entry.changed_uid or (self._is_own and self.sending.taken):
            return False
        rest, uri = self.context.rest, entry.uri
        return not prearchive.was_built(rest, uri) and not holds_readable(rest, uri)

    def _begin_anew(self, entry: prearchive.PrearchiveSession, to_send: Sequence[Instance]) -> None:
        """Everything is sent into it as into a new one, and it is not built before: that would spoil it.

        See PrearchiveSession.is_unreadable.
        """
        self._wait_for_stillness(entry.uri)
        if not self._is_void(entry):
            raise ConcurrentUpload(entry.uri)
        self._before[entry.uri] = frozenset()
        self._awaited = frozenset(i.sop_uid for i in to_send)
        self.sending.taken -= self._awaited

    @property
    def is_still_void(self) -> bool:
        """Whether nothing came into one that held nothing, so that it must not be built."""
        return bool(self._awaited) and not self._awaited & self.sending.taken

    def _wait_for_stillness(self, uri: str) -> None:
        """Raises ConcurrentUpload where another run is sending into it, or archiving it."""
        rest = self.context.rest
        is_still = prearchive.wait_until_still(rest, uri, self.context.retry_policy.pause)
        now = prearchive.find_session(rest, uri) if is_still else None
        if now is None or not now.is_receiving:
            raise ConcurrentUpload(uri)

    def _send_moving(self, entry: prearchive.PrearchiveSession, to_send: Sequence[Instance]) -> frozenset[str]:
        """Sends what the next build will move. A copy that was cut off can be replaced now, but not after the build."""
        if entry.changed_uid:
            return frozenset()
        uri, rest = entry.uri, self.context.rest
        if prearchive.was_built(rest, uri):
            self._close_to(entry, in_prearchive(rest, uri))
        moving = self._still_moving(to_send)
        if not moving:
            return frozenset()
        self._wait_for_stillness(uri)
        self.send_undisturbed(moving)
        return frozenset(i.sop_uid for i in moving) & self.sending.taken

    def _refuse_second_copies(self, entry: prearchive.PrearchiveSession, to_send: Sequence[Instance]) -> None:
        """What came after a build may be second copies of what it moved, from another run. Raises SessionTrouble.

        No listing shows those: XNAT drops them from its catalogue (DX CatalogBuilder.moveFile, and the clean-up before
        a listing). So the session is not built here. Then its state tells the next run, too.
        """
        rest, uri = self.context.rest, entry.uri
        if entry.changed_uid or self._is_mine(entry):
            return
        if not (entry.is_receiving or self._came_late) or not prearchive.was_built(rest, uri):
            return
        files_held = in_prearchive(rest, uri, self.context.uids)
        self._close_to(entry, files_held)
        moved = self.cannot_receive & {i.sop_uid for i in to_send}
        whole = self.intact_instances(to_send, files_held, undisturbed=True, reads=False)
        # What a build has moved, or the series of, is not sent into it again by any run of ours.
        lacks_others = any(i.sop_uid not in whole | self.cannot_receive for i in to_send)
        is_explained = lacks_others and moved.isdisjoint(self.sending.taken)
        if not moved or is_explained:
            return
        archive, delete = (prearchive.command_for(uri, action) for action in ("archive", "delete"))
        raise SessionTrouble(
            "stale-row",
            f"files came into prearchive session {uri} while it was built or later, perhaps from another run. "
            f"{len(moved)} of these instances may lie there twice. No listing shows that, and XNAT would refuse to "
            f"archive it. Nothing more was sent. Archive it ({archive}). If XNAT refuses, delete it ({delete}). Then "
            f"run again. {prearchive.GONE}",
        )

    def _is_mine(self, entry: prearchive.PrearchiveSession) -> bool:
        """Whether this run has made it, as far as that can be told."""
        if not self.context.transport.names_session:
            return self._is_own
        return entry.timestamp == self.context.timestamps.of(self.session)

    def _still_moving(self, to_send: Sequence[Instance]) -> list[Instance]:
        """Those that a build of this round would move. Where series of one number go one after the other, none is."""
        everything = {i.sop_uid for i in to_send}
        moving = everything if self.context.changes_uids else moved_by_build(to_send)
        return [i for i in to_send if i.sop_uid in moving and i.sop_uid not in self.cannot_receive]

    def send_undisturbed(self, instances: Sequence[Instance]) -> None:
        """Sends until each of them was taken in a transfer that nothing disturbed."""
        wanted = list(instances)
        for _ in range(RESENDS):
            self.sending.send(wanted, self.check)
            failed = self.sending.failed
            wanted = [i for i in wanted if i.sop_uid not in self.sending.intact and i.sop_uid not in failed]
            wanted = [i for i in wanted if i.sop_uid in self.sending.taken]
            if not wanted:
                return
        raise self._disturbed_too_often()

    def reconcile(self, to_send: Sequence[Instance]) -> frozenset[str]:
        """After a disturbance, sends again what is not stored whole, before the commit.

        Returns the SOPInstanceUIDs that this prearchive session cannot receive again. They need another one.
        """
        # What is answered with success and not stored may have been filtered, or lost. Once more tells.
        self.sending.disturbed |= not self.sending.ignored <= self._sent_again
        self._sent_again |= self.sending.ignored
        for _ in range(RESENDS):
            if not (self.sending.disturbed and self.sending.uri):
                return frozenset()
            failed = self.sending.failed
            wanted = [i for i in to_send if i.sop_uid not in failed]
            done = self.sending.intact | failed.keys()
            self.send_undisturbed([i for i in self._still_moving(to_send) if i.sop_uid not in done])
            self.sending.disturbed = False
            whole = self.intact_instances(wanted, self.built(self.sending.uri), undisturbed=False)
            doubtful = [i for i in wanted if i.sop_uid not in whole]
            self.lacked_some |= bool(doubtful)
            self.sending.send([i for i in doubtful if i.sop_uid not in self.cannot_receive], self.check)
            if not self.sending.disturbed:
                ignored = self.sending.ignored
                return frozenset(i.sop_uid for i in doubtful if i.sop_uid not in ignored) & self.cannot_receive
        raise self._disturbed_too_often()

    def _disturbed_too_often(self) -> SessionTrouble:
        text = f"the transfer into {self.sending.uri} was disturbed again and again; nothing was archived"
        return SessionTrouble("server-fault", f"{text}. Run again to go on from there")

    def _watch(self, entry: prearchive.PrearchiveSession, files_held: StoredFiles) -> None:
        """A session that was receiving may be another run's. Then it leaves READY, or grows."""
        self.context.retry_policy.pause(WATCH)
        now = prearchive.find_session(self.context.rest, entry.uri)
        if now is None or now.status != "READY" or self.built(entry.uri).sizes != files_held.sizes:
            raise ConcurrentUpload(entry.uri)

    def built(self, uri: str, *, reads_all: bool = False) -> StoredFiles:
        """What the prearchive session holds now. A second build changes nothing, so a build may be repeated.

        reads_all: see StoredFiles.
        """
        self.refuse_built_meanwhile(uri)
        self._is_fresh = False
        for attempt in count(1):
            try:
                prearchive.build(self.context.rest, uri)
                break
            except (ServerSaid, Unreachable) as error:
                entry = prearchive.settle(self.context.rest, uri, self.context.retry_policy.pause)
                if entry is None or error.status in (409, 500):
                    # Most likely another client is using it, or is in the middle of a file.
                    raise ConcurrentUpload(uri, f"the server could not build it ({error})") from error
                if not is_transient(error):
                    raise
                self.context.retry_policy.wait(error, attempt)
        entry = prearchive.find_session(self.context.rest, uri)
        if entry is not None and entry.is_unreadable(self.session):
            delete = prearchive.command_for(uri, "delete")
            text = f"prearchive session {uri}: {prearchive.UNREADABLE}. Delete it ({delete}), then run again"
            raise SessionTrouble("stale-row", f"{text}. {prearchive.GONE}")
        files_held = in_prearchive(self.context.rest, uri, self.context.uids, reads_all=reads_all)
        self._close_to(entry, files_held)
        return files_held

    def refuse_built_meanwhile(self, uri: str) -> None:
        """Where it stays in the prearchive, and somebody had it built while it was sent. Raises SessionTrouble.

        What comes after a build lies beside what that moved, and no listing shows it. Before XNAT archives, that is.
        """
        if self.context.destination != "prearchive" or not self._is_fresh:
            return
        moves = self.context.changes_uids or moved_by_build(self.session.instances)
        if not moves or not prearchive.was_built(self.context.rest, uri):
            return
        raise SessionTrouble(
            "stale-row",
            f"prearchive session {uri} was built while it was sent, perhaps by a person. What came after that may lie "
            "beside what the build has moved. No listing shows that, and XNAT refuses to archive such a session. "
            "If another run is sending it, run again when that has ended. If not, delete it "
            f"({prearchive.command_for(uri, 'delete')}), then run again. {prearchive.GONE}",
        )

    def _close_to(self, entry: prearchive.PrearchiveSession | None, files_held: StoredFiles) -> None:
        instances = self.session.instances
        moved = moved_already(instances, files_held.scans, files_held.secondary)
        self.cannot_receive = moved | self._renumbered(instances, files_held) | self._apart
        self._changed_uid = entry is not None and entry.study_uid != self.session.study_uid
        if self._changed_uid:  # what is sent now would make another prearchive session
            self.cannot_receive = frozenset(i.sop_uid for i in instances)

    def intact_instances(
        self, instances: Sequence[Instance], files_held: StoredFiles, *, undisturbed: bool, reads: bool = True
    ) -> frozenset[str]:
        """SOPInstanceUIDs of the instances that are stored whole.

        An upload may have been cut off in the middle, and the session built afterwards. A file with a long header and
        few pixels may look long enough without its end. The server changes whole files alike. So a file counts only if
        its length differs from the source's by as much as that of others, or if it was read and is whole. Files without
        pixels are sent again, unless nothing disturbed the session. Copies under names of another client count alike: a
        second copy would lie beside.

        What a build has moved counts when it is there and this run sent it undisturbed. It also counts where nothing
        can be done about it: in a session that stays in the prearchive, and where a script changes UIDs and with them
        the length of each file.

        reads: files of odd lengths are looked into
        """
        found = compare_stored(instances, files_held)
        usual = plausible_copies(instances, files_held, found.told)
        moved = found.verified & self.cannot_receive - self._renumbered(instances, files_held)
        if self.context.destination != "prearchive" and not self._changed_uid:
            moved &= self.sending.intact
        measured = frozenset(i.sop_uid for i in instances if i.pixel_bytes)
        trusted = found.verified if undisturbed else found.verified & (measured | self.cannot_receive)
        known = moved | (trusted & usual) | (found.counted if undisturbed else found.counted & usual)
        odd = (trusted | found.counted) - known if reads else frozenset[str]()
        return known | self._read_whole([i for i in instances if i.sop_uid in odd], files_held, found.told)

    def _read_whole(
        self, instances: Sequence[Instance], files_held: StoredFiles, told: Mapping[str, frozenset[str]]
    ) -> frozenset[str]:
        """Those of which the copy was read and is whole. Of two copies under one name, a look at one tells nothing."""
        names = _stored_names(instances, files_held, told)
        return self._copies.among(
            [(i, files_held.place_of(name)) for i, name in names if name not in files_held.doubled]
        )

    def check(self) -> bool:
        """After a part: whether the rest may follow. If not, the next part goes alone.

        Raises ConcurrentUpload and SessionTrouble.
        """
        if not self.context.transport.names_session:
            return not self.may_edit or self._find_session()
        uri = self.sending.uri
        entry = prearchive.find_session(self.context.rest, uri)
        if entry is None or not self._is_mine(entry):
            self._came_late = entry is not None and (
                entry.status != "RECEIVING" or prearchive.was_built(self.context.rest, uri)
            )
            raise ConcurrentUpload(uri)
        if not entry.is_ours(self.session):
            raise SessionTrouble(
                "foreign-row",
                f"the server put the first files into prearchive session {entry.uri} (subject {entry.subject}, session "
                f"{entry.label}), which this program did not make; nothing was archived. See what it is with "
                f"xnat-ingest prearchive list -P {entry.project}",
            )
        return True

    def find_unnamed(self) -> bool:
        """Whether this run's prearchive session is there although every reply was empty, as if all had been filtered.

        Nothing is known of what came into it, so it is compared like one that was disturbed.
        """
        if self.sending.uri or not (self.sending.ignored and self.may_edit and self.context.transport.names_session):
            return False
        timestamp = self.context.timestamps.of(self.session)
        entries = self.context.prearchive_entries(self.session.project, fresh=True)
        ours = (entry.uri for entry in entries if entry.timestamp == timestamp and entry.is_ours(self.session))
        self.sending.uri = next(ours, "")
        self.sending.disturbed |= bool(self.sending.uri)
        return bool(self.sending.uri)

    def _find_session(self) -> bool:
        """Looks for the prearchive session that a DICOM receiver has made of the first files.

        The receiver does not name it. More files follow only once it is found, since they might end up in the wrong
        place. A part may have been filtered. Then the next part is tried.
        """
        entries = self.context.prearchive_entries(self.session.project, fresh=True)
        self.sending.uri = next((entry.uri for entry in entries if entry.is_ours(self.session, by_dicom=True)), "")
        self.goes_direct = not self.sending.uri and direct_archive.is_receiving(self.context.rest, self.session)
        if self.sending.uri or self.goes_direct:
            return True
        self._looks += 1
        if self._looks >= PARTS_BEFORE_SESSION:
            raise SessionTrouble("rerouted", f"{NO_SESSION}. No more was sent")
        return False

    def refuse_broken_copies(self, to_send: Sequence[Instance]) -> None:
        refused = [i for i in to_send if i.sop_uid in self.sending.failed]
        if not refused:
            return
        files_held = self.built(self.sending.uri)
        doubtful = [i for i in refused if files_held.name_of(i)]
        if doubtful:
            archive, delete = (prearchive.command_for(self.sending.uri, action) for action in ("archive", "delete"))
            raise SessionTrouble(
                "server-fault",
                f"prearchive session {self.sending.uri} holds {len(doubtful)} files whose sending failed: they "
                "were refused, or changed since. The copies may be broken, so it was not archived. Look at them in "
                f"XNAT. If they are whole, archive it ({archive}). If not, and the files are still here, delete it "
                f"({delete}). Then run again",
            )
