"""One session's way to the server: ask, decide, send, reconcile, commit, prove.

docs/decisions explains why the steps come in this order.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from xnat_ingest.core import (
    IngestError,
    Instance,
    Problem,
    ServerSaid,
    Session,
    SessionTrouble,
    Stopped,
    Verdict,
    VerdictWord,
    printable,
)
from xnat_ingest.delivery import direct_archive
from xnat_ingest.delivery.accession_ids import SUBJECT_ID
from xnat_ingest.delivery.commit import Commit, ConcurrentUpload
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.decision import Decision, ServerState, decide
from xnat_ingest.delivery.prearchive_session import NO_SESSION, OurPrearchiveSession
from xnat_ingest.delivery.read_back import look_into
from xnat_ingest.delivery.sending import Sending
from xnat_ingest.delivery.server_state import doubled, doubled_instances, fetch_server_state
from xnat_ingest.delivery.session_type import lost_modality
from xnat_ingest.delivery.verdicts import NOT_TAKEN, conflict, given_up, joined, proven, unproven, without_old_copies
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.archive import (
    NO_FILES,
    Comparison,
    StoredFiles,
    archived_session,
    compare_stored,
    in_archive,
    in_prearchive,
)
from xnat_ingest.xnat.documents import text_of

# Seconds. A server treats a session as complete when nothing has come for 5 minutes. It looks once a minute.
ARCHIVE_LIMIT = 600.0
# Commits that one session may take. Each series of a number may need one.
MOST_COMMITS = 20
# How often archived instances are tried in place of those that did not arrive.
MOST_COMPANIES = 5

# A state of a delivery: a function that does its work and returns the state that follows, or the verdict.
State = Callable[[], "State | Verdict"]


def deliver(context: RunContext, session: Session) -> tuple[Verdict, int]:
    """The session's verdict and the number of request bodies it took. Raises Stopped, and nothing else of ours."""
    delivery = Delivery(context, session)
    try:
        verdict = delivery.run()
        return look_into(context, session, verdict, delivery.holdings, delivery.sent), delivery.sending.attempts
    except Stopped:
        raise
    except IngestError as error:
        return delivery.give_up(error), delivery.sending.attempts


@dataclass(slots=True)
class _Round:
    """What one round has found out and done.

    state: what the server held when the round began
    decision: what follows from it
    seen: SOPInstanceUIDs that are stored already, or in this round's prearchive session
    postponed: those that this round's prearchive session can no longer receive; they need one of their own
    """

    state: ServerState
    decision: Decision
    seen: frozenset[str] = frozenset()
    postponed: frozenset[str] = frozenset()


@dataclass(slots=True)
class _OwnUploads:
    """What this run itself has put on the server, over all rounds.

    accepted: SOPInstanceUIDs that went by direct archive, so they were not there before
    copies: with --existing overwrite, address of a prearchive session that was committed -> those of which it held a
        new copy
    undisturbed: nothing disturbed what went by direct archive, so the copies there are whole
    """

    accepted: frozenset[str] = frozenset()
    copies: dict[str, frozenset[str]] = field(default_factory=dict)
    undisturbed: bool = False

    @property
    def replaced(self) -> frozenset[str]:
        """With --existing overwrite, those of which this run has stored a new copy."""
        return frozenset().union(*self.copies.values())


class Delivery:
    """One session on its way, as a sequence of states.

    The rule is ask, decide, send, reconcile, commit, prove. From `commit` another round begins with `ask` where XNAT
    refuses to take everything at once: files that a build has moved and that must be replaced, series that share
    their number, and what direct archive did not take.

    holdings: where the instances of the verdict were seen
    sending: what was sent, and what became of it
    """

    def __init__(self, context: RunContext, session: Session) -> None:
        self.context = context
        self.session = session
        in_order = any(context.in_order(i.path) for i in session.instances[:1])
        self.sending = Sending(
            session,
            context.transport,
            context.parts,
            context.control,
            in_order=in_order,
            is_gone=context.is_gone,
        )
        self.prearchived = OurPrearchiveSession(context, session, self.sending)
        self.holdings: list[StoredFiles] = []
        self._direct = direct_archive.DirectArchive(context, session, in_order=in_order) if context.direct else None
        self._existing = context.existing
        self._own = _OwnUploads()
        self._before = compare_stored((), NO_FILES)  # what the archive held at first
        self._round = _Round(ServerState(), Decision(self._before))
        self._postponed: frozenset[str] = frozenset()  # what the last round left for this one
        self._archive_uri = ""
        self._doubtful_copies: frozenset[str] = frozenset()  # sent over copies of an earlier run, see had_before
        self._doubled_before: frozenset[str] = frozenset()  # there twice before this run has sent them
        self._notes: list[Problem] = []
        self._commits = 0
        self._companies = 0
        self._waited = False  # for another run
        self._took_over = False  # what another run has left on the direct way
        self._files_in_the_way = ""  # the server's words on files in the archive without a session

    @property
    def problems(self) -> tuple[Problem, ...]:
        title, label = self.session.title, (self.session.label,)
        received = (f"{title}: {what}, {number} instances" for what, number in self.sending.notes.items())
        return (*self._notes, *(Problem("receiver-note", text, label) for text in received))

    @property
    def sent(self) -> frozenset[str]:
        """SOPInstanceUIDs that this run has sent."""
        return self._own.accepted | (self.sending.taken - self._doubtful_copies)

    @property
    def _met_others(self) -> bool:
        """Whether files of other runs may have come into the archive with this run's. Then a number proves nothing."""
        return self.prearchived.was_joined or self._waited

    @property
    def _overwrites(self) -> bool:
        return self._existing == "overwrite"

    def run(self) -> Verdict:
        """From state to state until one gives the verdict. Raises IngestError."""
        deadline = 0.0
        state: State | Verdict = self.ask
        while not isinstance(state, Verdict):
            try:
                with self._others_noticed():
                    state = state()
            except ConcurrentUpload as other:
                deadline = deadline or time.monotonic() + prearchive.STILL_LIMIT
                self._wait_for_other(other, last=time.monotonic() > deadline)
                state = self.ask
        return state

    @contextmanager
    def _others_noticed(self) -> Iterator[None]:
        """A prearchive session that has gone while it is asked about was archived by another run, or deleted."""
        try:
            yield
        except ServerSaid as error:
            uri = prearchive.vanished(self.context.rest, error, self.context.retry_policy.pause)
            if not uri:
                raise
            raise ConcurrentUpload(
                uri, "it has gone: another run has archived it, or somebody has deleted it"
            ) from error

    # The states, in the order of the usual way.

    def ask(self) -> State:
        """What does the server hold of this session?"""
        reads_uids = not self.sent or self._met_others
        return partial(self.decide, fetch_server_state(self.context, self.session, reads_uids=reads_uids))

    def decide(self, state: ServerState) -> State | Verdict:
        """What is to be sent, and does anything forbid it?"""
        for entry in state.entries:  # its commit was refused, so nothing of it is in the archive
            self._own.copies.pop(entry.uri, None)
        again = self._doubtful(state) | self._postponed
        decision = decide(self.session, state, self._existing, again, self._own.replaced)
        decision = self._refuse_several_commits(self._refuse_without_images(decision, state))
        self._round = _Round(state, decision)
        self._archive_uri = state.files_held.uri
        self.holdings = [state.files_held]
        if decision.conflict and self._commits:  # what was merged in an earlier round is told
            self._before = decision.archive
            text = decision.conflict.detail.removeprefix(f"{self.session.title}: ")
            raise SessionTrouble(decision.conflict.kind, text)
        if decision.conflict:
            self.context.control.warn(decision.conflict.detail)
            return conflict(self.session, decision.conflict)
        self._before = decision.archive
        self._note(*decision.notes)
        self._note_doubled(state.files_held)
        self.prearchived.overwrite = decision.overwrite
        if not decision.to_send:
            return self.all_there
        if self._direct and not decision.entry and not state.sessions:
            return self.send_directly
        return self.send if state.sessions else self.finish_what_came_directly

    def all_there(self) -> Verdict:
        """Nothing is left to be sent."""
        archive = self._round.decision.archive
        self.sending.tell(self.session.instances)
        return self._proven(self._without_old_copies(archive), self._already(archive.seen))

    def send_directly(self) -> State:
        """By direct archive, once. What does not go this way goes through the prearchive in the next round."""
        direct, self._direct = self._direct, None
        assert direct is not None  # noqa: S101 - `decide` has looked
        to_send = {i.sop_uid for i in self._round.decision.to_send}
        self._refuse_what_others_made()
        try:
            with self.context.sends:
                direct.send(self._round.decision.to_send)
        finally:
            self.sending.attempts += direct.sending.attempts
        self._own.accepted |= direct.sending.taken
        if to_send <= direct.sending.taken and not direct.sending.uri:
            self._existing = "resume"  # all of it is this run's: no old copy is left
            self._own.undisturbed = not direct.sending.disturbed
        return self.ask

    def finish_what_came_directly(self) -> State:
        """What another run has left on the direct way must be archived before anything is sent on the ordinary one."""
        asks = self.context.transport.names_session and not self._own.accepted
        if not (asks and direct_archive.finish_left_over(self.context, self.session)):
            return self.send
        self._waited = self._took_over = True
        return self.ask

    def send(self) -> State:
        """Into a prearchive session: one of an earlier run, or a new one."""
        if not self.context.transport.names_session:  # a DICOM receiver may archive by itself
            self._refuse_what_others_made()
        with self.context.sends:
            self._send()
        self._forget_headers(self.sending.uri)
        if self.prearchived.is_still_void:
            self.sending.uri = ""
            return self._after_commit
        by_dicom = not self.context.transport.names_session
        if by_dicom and not self.prearchived.may_edit:
            return self.wait_for_archive
        if self.sending.uri or self.prearchived.find_unnamed():
            return self.reconcile
        if self.prearchived.goes_direct:
            return self.finish_direct_archive
        if by_dicom and self.sending.taken:
            raise SessionTrouble("rerouted", NO_SESSION)
        return self._after_commit

    def reconcile(self) -> State:
        """After a disturbance: compare what is stored, and send again what is not whole."""
        to_send = self._round.decision.to_send
        with self.context.sends:
            postponed = self.prearchived.reconcile(to_send)
        self._refuse_postponed(postponed)
        self._round.postponed |= postponed
        self.prearchived.refuse_broken_copies(to_send)
        if not (company := self._company_instead()):
            return self.commit
        self._companies += 1
        with self.context.sends:
            self.sending.send(company, self.prearchived.check)
        self._round.decision = replace(self._round.decision, to_send=(*to_send, *company))
        self.prearchived.overwrite = True
        return self.reconcile

    def commit(self) -> State:
        """Have the server archive it, or build it where it is to stay in the prearchive."""
        uri = self.sending.uri
        self.prearchived.refuse_built_meanwhile(uri)
        if self._overwrites:  # afterwards a new copy cannot be told from the old one
            stored = compare_stored(self._round.decision.to_send, self.prearchived.built(uri)).seen
            had_before = self.prearchived.had_before
            self._own.copies[uri] = (stored & self.sending.taken) - had_before
            self._round.postponed |= had_before  # once it is archived, they are sent again, into one of their own
        is_archived = bool(self._archive_uri)
        overwrite = self.prearchived.overwrite
        overwrite |= bool(self._files_in_the_way) and self.context.existing == "overwrite"
        with self._turn_to_commit(uri):
            self._refuse_what_others_made()
            Commit(self.context, self.session, uri, overwrite=overwrite, is_archived=is_archived).close()
        self._forget_headers(self._archive_uri)
        return self._after_commit

    def finish_direct_archive(self) -> State:
        """A DICOM receiver archives by itself. What it leaves undone, the next round shows."""
        self.prearchived.goes_direct = False
        direct_archive.finish_direct_archive(self.context, self.session)
        to_send = {i.sop_uid for i in self._round.decision.to_send}
        if not self._round.state.sessions and to_send <= self.sending.taken:
            self._existing = "resume"  # nothing was there to be overwritten
        return self.ask

    def wait_for_archive(self) -> Verdict:
        """Waits until the server has archived the session: for users who may not commit or list prearchive sessions."""
        already = self._already(self._round.seen)
        never = self.sending.failed.keys() | self.sending.ignored
        if self._overwrites:
            why = "accepted by the DICOM receiver; without edit permission a new copy cannot be told from the old one"
            sent = {i.sop_uid: why for i in self.session.instances if i.sop_uid not in never}
            failed = dict.fromkeys(self.sending.ignored, NOT_TAKEN) | self.sending.failed
            word: VerdictWord = "failed" if failed else "unverified"
            return Verdict(word, failed=failed, unverified=sent, problems=self.problems)
        deadline = time.monotonic() + ARCHIVE_LIMIT
        while (now := self._stored()).absent.keys() - never and time.monotonic() < deadline:
            self.context.retry_policy.pause(min(10.0, ARCHIVE_LIMIT / 10))
        verdict = self._proven(now, already)
        if not verdict.missing:
            return verdict
        why = "accepted by the DICOM receiver, but not archived yet; without edit permission no more can be seen"
        return replace(verdict, word="unverified", missing={}, unverified=dict.fromkeys(verdict.missing, why))

    def prove(self) -> Verdict:
        """Looks for every instance on the server."""
        already, decision = self._already(self._round.seen), self._round.decision
        if self.context.verify:
            return self._proven(self._without_old_copies(self._stored()), already)
        to_send = (i.sop_uid for i in decision.to_send)
        uri = self.sending.uri or self._archive_uri
        sending = self.sending
        return unproven(to_send, sending.ignored, sending.failed, decision.archive, uri, already, self.problems)

    def give_up(self, error: IngestError) -> Verdict:
        """The verdict when an error ended the session. With --existing overwrite, old copies do not count."""
        before = compare_stored((), NO_FILES) if self._overwrites else self._before
        already = self._already(before.seen)
        return given_up(self.session, error, before, self.sending.failed, self.sending.uri, already, self.problems)

    # What the states are made of.

    @contextmanager
    def _turn_to_commit(self, uri: str) -> Iterator[None]:
        """Waits until this session may be committed.

        If that takes long, another run may think that nobody is sending this session any more, and go on with it.
        """
        commits, rest = self.context.commits, self.context.rest
        if not commits.acquire(timeout=prearchive.STILL / 4):
            left = prearchive.find_session(rest, uri)
            with commits:
                if prearchive.find_session(rest, uri) != left:
                    raise ConcurrentUpload(uri)
                yield
            return
        try:
            yield
        finally:
            commits.release()

    def _after_commit(self) -> State | Verdict:
        """Another round where something is left for it, else the proof."""
        if not (self._round.decision.later or self._round.postponed):
            return self.prove()
        self._postponed = self._round.postponed
        self._commits += 1
        self._forget_listings()
        if self._commits > MOST_COMMITS:
            text = f"the session is not complete after it was archived {self._commits} times"
            raise SessionTrouble("server-fault", f"{text}; run again to go on from there")
        return self.ask

    def _refuse_several_commits(self, decision: Decision) -> Decision:
        if not decision.later or self.context.destination != "prearchive":
            return decision
        text = (
            f"{self.session.title}: series that share their SeriesNumber, or have another's in the archive, must be "
            "archived one after the other"
        )
        fix = "upload with --destination archive"
        return replace(decision, conflict=Problem.advised("same-number", text, fix, (self.session.label,)))

    def _refuse_without_images(self, decision: Decision, state: ServerState) -> Decision:
        """Once a session is archived without its images, XNAT refuses to add them: they would change its type."""
        set_aside = self.context.set_aside.get(self.session.title, 0)
        is_archived = bool(state.sessions) or self.context.destination == "prearchive"
        if not set_aside or is_archived or decision.conflict:
            return decision
        text = (
            f"{self.session.title}: {set_aside} files in its folder are set aside with a problem, and the others hold "
            "no images. XNAT would archive these as a session of another type, and then refuse to add images. Nothing "
            "was sent"
        )
        fix = "mend these files, or leave them out with --exclude, then run again"
        return replace(decision, conflict=Problem.advised("images-missing", text, fix, (self.session.label,)))

    def _company_instead(self) -> tuple[Instance, ...]:
        """Archived instances that must go along because others did not arrive. Without them XNAT would refuse the rest.

        Raises SessionTrouble where none can help.
        """
        lacking = self._not_arrived() if self.context.destination != "prearchive" else frozenset[str]()
        if not lacking:
            return ()
        if not self._archive_uri:
            self._refuse_lost_modality(lacking)
            return ()
        arrived = tuple(i for i in self.session.instances if i.sop_uid not in lacking)
        decision, state = self._round.decision, self._round.state
        again = (self._doubtful(state) | self._postponed) - lacking
        now = decide(replace(self.session, instances=arrived), state, self._existing, again, self._own.replaced)
        known = {i.sop_uid for i in decision.to_send}
        company = tuple(i for i in now.to_send if i.sop_uid not in known)
        fits = self.prearchived.cannot_receive.isdisjoint(i.sop_uid for i in company)
        if not now.conflict and now.to_send and fits and (self._companies < MOST_COMPANIES or not company):
            return company
        why = "an archived one in their place cannot be sent into it" if now.to_send else "nothing else in it is new"
        if now.conflict:
            why = now.conflict.fact.removeprefix(f"{self.session.title}: ")
        raise SessionTrouble(
            "images-missing",
            f"{len(lacking)} instances did not arrive. Without them XNAT would refuse to add the rest to the archived "
            f"session ({why}). Prearchive session {self.sending.uri} is left open. Mend what the report names, and run "
            "again",
        )

    def _not_arrived(self) -> frozenset[str]:
        """SOPInstanceUIDs of those that XNAT refused, or did not store although it reported success.

        After a disturbance that left something out, and with --existing overwrite, a listing before the commit tells it
        of all.
        """
        failed, doubtful = frozenset(self.sending.failed), frozenset(self.sending.ignored)
        if self.prearchived.lacked_some or (self._overwrites and self._archive_uri):
            doubtful |= {i.sop_uid for i in self._round.decision.to_send} - self._round.postponed
        if doubtful:
            held = self.prearchived.built(self.sending.uri)
            doubtful -= compare_stored(self.session.instances, held).seen
        return failed | doubtful

    def _refuse_lost_modality(self, lacking: frozenset[str]) -> None:
        """Once a session is archived without its images, XNAT refuses to add them. Raises SessionTrouble."""
        planned, uri = self.session.instances, self.sending.uri
        makes_petmr = self.context.projects[self.session.project].makes_petmr
        arrived = [i for i in planned if i.sop_uid not in lacking]
        modality = lost_modality(arrived, planned, makes_petmr=makes_petmr)
        if not modality:
            return
        raise SessionTrouble(
            "images-missing",
            f"{len(lacking)} instances did not arrive. Without its {modality} instances XNAT would archive the "
            f"session with another type, and then refuse to add them. Prearchive session {uri} is left open. Mend what "
            f"the report names, and run again. Or archive it without them ({prearchive.command_for(uri, 'archive')})",
        )

    def _send(self) -> None:
        self.context.control.check()
        decision = self._round.decision
        self.sending.disturbed = False
        there = self.prearchived.join(decision, self._round.state.files_held)
        self._doubtful_copies |= self.prearchived.had_before
        self._refuse_had_before()
        self._round.seen = there if self._overwrites else decision.archive.seen | there
        if not self._commits:
            self.sending.tell(i for i in self.session.instances if i.sop_uid in self._round.seen)
        wanted = [i for i in decision.to_send if i.sop_uid not in there]
        self._round.postponed = self.prearchived.cannot_receive & {i.sop_uid for i in wanted}
        self._refuse_postponed(self._round.postponed)
        if self._overwrites:  # they are sent once it is archived, see `commit`
            self._round.postponed |= self.prearchived.whole_before
        self.sending.send([i for i in wanted if i.sop_uid not in self._round.postponed], self.prearchived.check)

    def _refuse_had_before(self) -> None:
        """In the prearchive, nothing tells the copies of an earlier run from new ones. Raises SessionTrouble."""
        had_before, uri = self.prearchived.had_before, self.sending.uri
        if not (self._overwrites and had_before and self.context.destination == "prearchive"):
            return
        raise SessionTrouble(
            "stale-row",
            f"prearchive session {uri} holds {len(had_before)} of these instances already. With --existing overwrite "
            "nothing would tell its copies from new ones, so nothing was sent. Archive it "
            f"({prearchive.command_for(uri, 'archive')}) or delete it ({prearchive.command_for(uri, 'delete')}), then "
            f"run again. {prearchive.GONE}",
        )

    def _refuse_postponed(self, postponed: frozenset[str]) -> None:
        """What a prearchive session cannot receive follows once it is archived. In the prearchive nothing follows."""
        if not postponed or self.context.destination != "prearchive":
            return
        uri = self.sending.uri
        archive, delete = prearchive.command_for(uri, "archive"), prearchive.command_for(uri, "delete")
        raise SessionTrouble(
            "stale-row",
            f"prearchive session {uri} was built. XNAT could not archive it any more if {len(postponed)} of these "
            f"instances came into it now; archive it ({archive}) or delete it ({delete}), then run again. "
            f"{prearchive.GONE}",
        )

    def _doubtful(self, state: ServerState) -> frozenset[str]:
        """SOPInstanceUIDs whose archived copies may be cut.

        With direct archive, the server itself archives an upload that was cut off, with whatever it holds of the last
        file. Copies whose length is not like that of others are sent again.
        """
        may_be_cut = self._took_over or (self.context.direct is not None and not self._own.undisturbed)
        if not may_be_cut:
            return frozenset()
        instances, files_held = self.session.instances, state.files_held
        whole = self.prearchived.intact_instances(instances, files_held, undisturbed=True)
        return compare_stored(instances, files_held).verified - whole

    def _wait_for_other(self, other: ConcurrentUpload, *, last: bool) -> None:
        """Another run is sending this session. Wait until it has ended, then ask again."""
        if other.existing and self._files_in_the_way:
            self._refuse_files_in_the_way(other)
        self._files_in_the_way = other.existing
        self._waited = True
        text = f"prearchive session {other.uri}: {other.sign}"
        self.context.control.warn(f"{self.session.title}: {text}; waiting until nothing more comes")
        if last or not prearchive.wait_until_still(self.context.rest, other.uri, self.context.retry_policy.pause):
            raise SessionTrouble("live-row", f"{text}; nothing was archived. {_when_to_go_on(other)}")
        # Runs that waited together must not come back in the same moment.
        self.context.retry_policy.pause(random.SystemRandom().uniform(0, prearchive.STILL / 2))
        self._note(Problem("live-row", f"{self.session.title}: {text}; waited for it", (self.session.label,)))
        self._forget_listings()

    def _refuse_files_in_the_way(self, other: ConcurrentUpload) -> None:
        """XNAT finds files where it archives the session, and has no such session even after a wait."""
        way = "have an administrator remove them from the archive folder, then run again"
        if self.context.existing != "overwrite":
            way = f"replace them with --existing overwrite, or {way}"
        raise SessionTrouble(
            "files-in-the-way",
            f"files of these names lie where XNAT would archive prearchive session {other.uri}, and it has no such "
            "session. A session that was deleted without its files leaves them (the server says: "
            f"{other.existing}); {way}",
        )

    def _forget_listings(self) -> None:
        self.context.known(self.session.project, fresh=True)
        self.context.prearchive_entries(self.session.project, fresh=True)

    def _forget_headers(self, uri: str) -> None:
        """Where the site's names are not known, what was sent may have replaced files of other instances."""
        if self.context.uids and not self.context.projects[self.session.project].template:
            self.context.uids.forget(uri)

    def _note(self, *notes: Problem) -> None:
        self._notes += (note for note in notes if note not in self._notes)

    def _note_doubled(self, files_held: StoredFiles) -> None:
        """Names what is there twice. Of what was sent since it was there once, this run has made the second copy."""
        sent = self._own.accepted | self.sending.taken
        twice = doubled_instances(self.session, files_held, self.context.projects[self.session.project].template)
        self._doubled_before |= self.prearchived.doubled_before | {i.sop_uid for i in twice if i.sop_uid not in sent}
        own = [i for i in twice if i.sop_uid not in self._doubled_before]
        self._note(*doubled(self.session, [i for i in twice if i not in own]))
        self._note(*doubled(self.session, own, by_this_run=True))

    def _already(self, seen: frozenset[str]) -> int:
        """How many of the seen instances were stored before this run."""
        return len(seen - self.sent)

    def _without_old_copies(self, now: Comparison) -> Comparison:
        return without_old_copies(now, self._own.replaced) if self._overwrites else now

    def _stored(self) -> Comparison:
        """What is stored now, at the session's destination."""
        if self.context.destination == "prearchive":
            return self._stored_in_prearchive()
        session = self.session
        path = f"/data/projects/{session.project}/subjects/{session.subject}/experiments/{session.label}"
        item = self.context.rest.item(path)
        if item is None:
            return compare_stored(session.instances, NO_FILES)
        files_held = in_archive(self.context.rest, str(item["ID"]), self.context.uids, reads_all=self._met_others)
        self._refuse_other_study(text_of(item, "UID"), files_held)
        self._refuse_stranger(text_of(item, "subject_ID"))
        self._archive_uri = files_held.uri
        self.holdings = [files_held]
        self._note_doubled(files_held)
        return compare_stored(session.instances, files_held)

    def _refuse_what_others_made(self) -> None:
        """What another upload has archived since the run began may be in the way. Raises SessionTrouble.

        The listing is not fresh, but not older than context.KNOWN_AGE.
        """
        session, context = self.session, self.context
        if context.destination == "prearchive":
            return
        if context.new_subjects:
            context.new_subjects.refuse_others(session)
        label = session.label.casefold()
        found = context.known(session.project).matching(label, session.study_uid)
        if self._archive_uri or any(known.label.casefold() == label for known in found):
            return
        for known in found:
            raise SessionTrouble(
                "other-label",
                f"another upload has archived this study meanwhile, as session {printable(known.label)} of subject "
                f"{printable(known.subject)}. It was not archived a second time. Delete its prearchive session, then "
                "run again",
            )

    def _refuse_stranger(self, accession: str) -> None:
        """Raises SessionTrouble where the label was taken for the accession id of a subject that cannot be seen.

        accession: of the subject that has the archived session, as far as the document tells.
        """
        session = self.session
        is_taken = accession.casefold() == session.subject.casefold() if accession else True
        if not (is_taken and SUBJECT_ID.fullmatch(session.subject)):
            return
        known = archived_session(self.context.rest, session.project, session.label)
        if known and known.subject.casefold() != session.subject.casefold():
            raise SessionTrouble(
                "other-subject",
                f"the server took the label {session.subject} for the accession id of another subject, and stored the "
                "session there. Move or delete it in XNAT, and give the subject another label (--subject-label)",
            )

    def _refuse_other_study(self, study_uid: str, files_held: StoredFiles) -> None:
        """Names of files tell the study. Without them only the document does, where no script may have changed it."""
        unchanged = not self.context.changes_uids and self.context.projects[self.session.project].anonymises is False
        if not unchanged or study_uid in ("", self.session.study_uid) or files_held.has_study(self.session.study_uid):
            return
        raise SessionTrouble(
            "server-fault",
            f"the archived session {self.session.label} holds another study ({printable(study_uid)}) than was sent; "
            "nothing of it counts. Look at the session in XNAT, then run verify",
        )

    def _stored_in_prearchive(self) -> Comparison:
        files_held = self._held_in_prearchive(self.sending.uri) if self.sending.uri else NO_FILES
        self.holdings.insert(0, files_held)
        now = compare_stored(self.session.instances, files_held)
        return now if self._overwrites else joined(now, self._before)

    def _held_in_prearchive(self, uri: str) -> StoredFiles:
        """What it holds. Raises SessionTrouble when it was given another subject or label, where it is to be archived.

        A build takes both from the session's document, which a script of the site or a person may have changed.
        """
        files_held = in_prearchive(self.context.rest, uri, self.context.uids)
        self._note_doubled(files_held)
        now, session = prearchive.find_session(self.context.rest, uri), self.session
        if now is None or (now.label == session.label and now.subject.casefold() == session.subject.casefold()):
            return files_held
        raise SessionTrouble(
            "foreign-row",
            f"prearchive session {uri} was given subject {printable(now.subject)} and session {printable(now.label)} "
            f"meanwhile, not {session.subject} and {session.label}. Was it a person, or the site's script? "
            f"{prearchive.archive_command(now, session.subject, session.label)} archives it under the right ones",
        )

    def _proven(self, now: Comparison, already: int) -> Verdict:
        stays = self.context.destination == "prearchive" and self.sending.uri
        if self.context.new_subjects and self.sent and not stays:
            self._note(*self.context.new_subjects.tell_others(self.session))
        uri = self.sending.uri if stays else self._archive_uri
        return proven(now, self.sending.failed, uri, already, self.problems)


def _when_to_go_on(other: ConcurrentUpload) -> str:
    if not other.is_damaged:
        return "Run again when that has ended"
    delete = prearchive.command_for(other.uri, "delete")
    wait = "If another run is sending it, run again when that has ended"
    return (
        f"{wait}. If not, a file in it is broken, or somebody had it built while it was sent: delete it ({delete}) and "
        f"run again. {prearchive.GONE}"
    )
