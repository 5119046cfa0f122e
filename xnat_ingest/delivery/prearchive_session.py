"""The prearchive row of one session: joined, built, listed, and whether it is this program's to send into.

A build moves some files, and XNAT then takes no second copy of them (xnat/scan_ids.py). So they are all sent whole
before the program builds, and never again afterwards (docs/design.md, "What a build moves").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count

from xnat_ingest.core.errors import ServerSaid, SessionTrouble, Unreachable
from xnat_ingest.core.model import Instance, Session
from xnat_ingest.delivery import direct_archive
from xnat_ingest.delivery.commit import ConcurrentUpload
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.decision import Decision
from xnat_ingest.delivery.sending import Sending
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.archive import StoredFiles, compare_stored, in_row
from xnat_ingest.xnat.retry_policy import is_transient
from xnat_ingest.xnat.scan_ids import moved_already, moved_by_build

# A row that is found receiving is watched this long after it was built, in seconds: it may be another run's.
WATCH = 5.0
LOOKS = 3  # parts that may go to a DICOM receiver before a row of them must be there
ROUNDS = 3  # how often what was disturbed is sent again before a build
NO_SESSION = (
    "the DICOM receiver answered success, and the project has no row of this session: it filters, or its routing does "
    "not read what --route says, or it sends elsewhere (to another project, or to the unassigned rows that an "
    "administrator sees)"
)


def _stored_size(instance: Instance) -> int:
    """Bytes of an instance as XNAT writes it, but for what is the same in all: its data set, and in meta information
    of its own three UIDs."""
    uids = (instance.sop_class, instance.sop_uid, instance.sent_syntax)
    return instance.length - instance.head_size + sum(len(uid) + len(uid) % 2 for uid in uids)


def explained(instances: Sequence[Instance], files_held: StoredFiles) -> frozenset[str]:
    """SOPInstanceUIDs of stored copies whose length is the source's, or differs from it as that of at least two others:
    the server changes whole files alike."""
    stored = [i for i in instances if i.name in files_held.sizes]
    change = {i.sop_uid: files_held.sizes[i.name] - _stored_size(i) for i in stored}
    usual = Counter(change.values())
    return frozenset(i.sop_uid for i in stored if files_held.sizes[i.name] == i.length or usual[change[i.sop_uid]] > 2)


class OurPrearchiveSession:
    """One session's row.

    overwrite: closing is to replace what the archive has under the same names
    goes_direct: a DICOM receiver archives by itself, past the prearchive
    may_edit: whether the user may build, list and close rows
    closed_to: SOPInstanceUIDs that the row cannot receive any more, since a build has moved them or their series
    """

    def __init__(self, context: RunContext, session: Session, sending: Sending) -> None:
        self.context = context
        self.session = session
        self.sending = sending
        self.overwrite = False
        self.goes_direct = False
        self.may_edit = context.projects[session.project].may_edit
        self.closed_to: frozenset[str] = frozenset()
        self._changed_uid = False
        everything = frozenset(i.sop_uid for i in session.instances)
        self._moving = everything if context.changes_uids else moved_by_build(session.instances)
        self._waited_for: set[str] = set()
        self._looks = 0

    def join(self, decision: Decision, archive: StoredFiles) -> frozenset[str]:
        """What our row, if there is one, already holds whole, and what was sent into it again just now."""
        row = decision.row if self.may_edit else None
        self.closed_to = frozenset()
        if row is None:
            self.sending.uri = ""
            self.context.timestamps.renew(self.session)
            return frozenset()
        if not row.source and row.is_receiving and row.uri not in self._waited_for:
            # A scanner, or another DICOM sender, may have made it, and may pause between two series.
            self._waited_for.add(row.uri)
            raise ConcurrentUpload(row.uri, "it came from a DICOM sender, which may not have ended")
        self.sending.uri = row.uri
        again = self._send_moving(row, decision.lacks) if row.is_receiving else frozenset()
        files_held = self.built(row.uri)
        self.overwrite |= not archive.sizes.keys().isdisjoint(files_held.sizes)
        if row.is_receiving:
            self._watch(row, files_held)
        if self.context.existing == "overwrite":
            return again  # whatever else lies in it may be the old copies
        return self.whole(decision.lacks, files_held, in_peace=row.status == "READY")

    def _send_moving(self, row: prearchive.PrearchiveSession, lacks: Sequence[Instance]) -> frozenset[str]:
        """Sends what the next build will move: a copy that was cut off can be replaced now, and not afterwards."""
        if row.changed_uid:
            return frozenset()
        uri, rest = row.uri, self.context.rest
        if prearchive.was_built(rest, uri):
            self._close_to(row, in_row(rest, uri))
        moving = self._still_moving(lacks)
        if not moving:
            return frozenset()
        if (
            not prearchive.wait_until_still(rest, uri, self.context.retry_policy.pause)
            or prearchive.find_session(rest, uri) is None
        ):
            raise ConcurrentUpload(uri)
        self.send_undisturbed(moving)
        return frozenset(i.sop_uid for i in moving) & self.sending.taken

    def _still_moving(self, instances: Sequence[Instance]) -> list[Instance]:
        return [i for i in instances if i.sop_uid in self._moving and i.sop_uid not in self.closed_to]

    def send_undisturbed(self, instances: Sequence[Instance]) -> None:
        """Sends until each of them was taken by a transfer that nothing disturbed."""
        wanted = list(instances)
        for _ in range(ROUNDS):
            self.sending.send(wanted, self.check)
            failed = self.sending.failed
            wanted = [i for i in wanted if i.sop_uid not in self.sending.sound and i.sop_uid not in failed]
            wanted = [i for i in wanted if i.sop_uid in self.sending.taken]
            if not wanted:
                return
        text = f"the transfer into {self.sending.uri} was disturbed again and again; nothing was archived"
        raise SessionTrouble("server-fault", f"{text}. Run again to go on from there")

    def reconcile(self, lacks: Sequence[Instance]) -> frozenset[str]:
        """After any disturbance, sends again what is not stored whole, before the row is closed.

        Returns what the row cannot receive any more, and needs a row of its own.
        """
        for _ in range(ROUNDS):
            if not (self.sending.disturbed and self.sending.uri):
                return frozenset()
            failed = self.sending.failed
            wanted = [i for i in lacks if i.sop_uid not in failed]
            self.send_undisturbed([i for i in self._still_moving(wanted) if i.sop_uid not in self.sending.sound])
            self.sending.disturbed = False
            whole = self.whole(wanted, self.built(self.sending.uri), in_peace=False)
            doubtful = [i for i in wanted if i.sop_uid not in whole]
            self.sending.send([i for i in doubtful if i.sop_uid not in self.closed_to], self.check)
            if not self.sending.disturbed:
                ignored = self.sending.ignored
                return frozenset(i.sop_uid for i in doubtful if i.sop_uid not in ignored) & self.closed_to
        text = f"the transfer into {self.sending.uri} was disturbed again and again; nothing was archived"
        raise SessionTrouble("server-fault", f"{text}. Run again to go on from there")

    def _watch(self, row: prearchive.PrearchiveSession, files_held: StoredFiles) -> None:
        """A row that was receiving may be another run's: then it leaves READY, or grows."""
        self.context.retry_policy.pause(WATCH)
        now = prearchive.find_session(self.context.rest, row.uri)
        if now is None or now.status != "READY" or self.built(row.uri).sizes != files_held.sizes:
            raise ConcurrentUpload(row.uri)

    def built(self, uri: str) -> StoredFiles:
        """What a row holds now. Building twice is building once, so it may be repeated."""
        for attempt in count(1):
            try:
                prearchive.build(self.context.rest, uri)
                break
            except (ServerSaid, Unreachable) as error:
                row = prearchive.settle(self.context.rest, uri, self.context.retry_policy.pause)
                if row is None or error.status in (409, 500):
                    # Most likely somebody else has it, or is in the middle of a file.
                    raise ConcurrentUpload(uri, f"the server could not build it ({error})") from error
                if not is_transient(error):
                    raise
                self.context.retry_policy.wait(error, attempt)
        files_held = in_row(self.context.rest, uri)
        self._close_to(prearchive.find_session(self.context.rest, uri), files_held)
        return files_held

    def _close_to(self, row: prearchive.PrearchiveSession | None, files_held: StoredFiles) -> None:
        instances = self.session.instances
        self.closed_to = moved_already(instances, files_held.scans, files_held.secondary)
        self._changed_uid = row is not None and row.study_uid != self.session.study_uid
        if self._changed_uid:  # what is sent now would make another row
            self.closed_to = frozenset(i.sop_uid for i in instances)

    def whole(self, instances: Sequence[Instance], files_held: StoredFiles, *, in_peace: bool) -> frozenset[str]:
        """Which of the instances a row holds whole.

        A row may have been cut off in the middle, and then built. A file that looks long enough may lack its end
        where the header is long and the pixels are few. The server changes whole files alike, so a file counts only
        when its length differs from the source's as that of others does; those without pixels are sent again unless
        the row was left in peace. What this run sent undisturbed, and a build has moved, counts when it is there. So
        does all that was moved where nothing else can be done (a row that stays in the prearchive), and where a script
        gives each file another length (one that changes UIDs).
        """
        found = compare_stored(instances, files_held)
        usual = explained(instances, files_held)
        moved = found.verified & self.closed_to
        if self.context.destination != "prearchive" and not self._changed_uid:
            moved &= self.sending.sound
        measured = frozenset(i.sop_uid for i in instances if i.pixel_bytes)
        trusted = found.verified if in_peace else found.verified & (measured | self.closed_to)
        return moved | (trusted & usual) | (found.counted if in_peace else frozenset())

    def check(self) -> bool:
        """After a part: whether the rest may follow. False means: send the next part alone.

        Raises ConcurrentUpload and SessionTrouble.
        """
        if not self.context.transport.names_rows:
            return not self.may_edit or self._find_row()
        uri = self.sending.uri
        row = prearchive.find_session(self.context.rest, uri)
        if row is None or row.timestamp != self.context.timestamps.of(self.session):
            raise ConcurrentUpload(uri)
        if not row.is_ours(self.session):
            raise SessionTrouble(
                "foreign-row",
                f"the server put the first files into prearchive session {row.uri} (subject {row.subject}, session "
                f"{row.label}), which this program did not make; nothing was archived. See what it is with "
                f"xnat-ingest prearchive list -P {row.project}",
            )
        return True

    def _find_row(self) -> bool:
        """The row that a DICOM receiver has made of the first files: nobody tells it, so it is looked for, before more
        follow them to where they may not belong. A part may have been filtered: then the next one is looked at."""
        rows = self.context.rows(self.session.project, fresh=True)
        self.sending.uri = next((row.uri for row in rows if row.is_ours(self.session, by_dicom=True)), "")
        self.goes_direct = not self.sending.uri and direct_archive.is_receiving(self.context.rest, self.session)
        if self.sending.uri or self.goes_direct:
            return True
        self._looks += 1
        if self._looks >= LOOKS:
            raise SessionTrouble("rerouted", f"{NO_SESSION}. No more of it was sent")
        return False

    def refuse_broken_copies(self, lacks: Sequence[Instance]) -> None:
        refused = [i for i in lacks if i.sop_uid in self.sending.failed]
        if not refused:
            return
        files_held = self.built(self.sending.uri)
        broken = [i for i in refused if i.name in files_held.sizes]
        if broken:
            delete = prearchive.command_for(self.sending.uri, "delete")
            raise SessionTrouble(
                "server-fault",
                f"prearchive session {self.sending.uri} holds {len(broken)} broken copies of files that cannot be sent "
                f"again, so it was not archived. Delete it ({delete}), then run again",
            )
