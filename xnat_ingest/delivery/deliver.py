"""One session's way to the server: ask, send what lacks, close once, look what is there (docs/design.md, section 4)."""

from __future__ import annotations

import random
import time
from dataclasses import replace

from xnat_ingest.core.errors import IngestError, SessionTrouble, Stopped, error_kind
from xnat_ingest.core.model import Event, Instance, Problem, Session, Verdict, VerdictWord
from xnat_ingest.delivery import direct_archive
from xnat_ingest.delivery.commit import Commit, ConcurrentUpload
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.decision import Decision, ServerState, decide
from xnat_ingest.delivery.prearchive_session import NO_SESSION, OurPrearchiveSession
from xnat_ingest.delivery.read_back import look_into
from xnat_ingest.delivery.sending import Sending
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.archive import NO_FILES, Comparison, StoredFiles, compare_stored, in_archive, in_row

# Seconds; a server takes a session to be complete when nothing has come for 5 minutes, and looks once a minute.
ARCHIVE_LIMIT = 600.0
NOT_TAKEN = "the server answered success and took none of the files sent with it"
# Rounds of waiting for a busy row, and of comparing and sending again before a closing.
ROUNDS = 3
# Commits that one session may take; each series of a number may need one.
MOST_ROUNDS = 20


def fetch_server_state(context: RunContext, session: Session) -> ServerState:
    """What the server holds of a session, archive and prearchive; waits while the server works on a row of it."""
    label, study = session.label.casefold(), session.study_uid
    fresh = False
    for _ in range(ROUNDS):
        rows = [
            _recognised(context, session, row)
            for row in context.rows(session.project, fresh=fresh)
            if row.label.casefold() == label or row.study_uid == study
        ]
        busy = [row for row in rows if row.is_busy]
        if not busy:
            break
        for row in busy:
            prearchive.settle(context.rest, row.uri, context.retry_policy.pause)
        context.retry_policy.pause(prearchive.STILL / 20)
        fresh = True
    else:
        text = f"the server is still busy with row {busy[0].uri} ({busy[0].status}); run again later"
        raise SessionTrouble("live-row", text)
    # A row that went may just have become an archived session.
    sessions = context.sessions(session, fresh=fresh)
    ours = next((k for k in sessions if k.label.casefold() == label and k.is_imaging), None)
    files_held = in_archive(context.rest, ours.accession) if ours else NO_FILES
    log = next((prearchive.last_log(context.rest, row.uri) for row in rows if row.status in prearchive.STUCK), "")
    project = context.projects[session.project]
    by_dicom = not context.transport.names_rows
    return ServerState(
        sessions, files_held, rows, log, project.custom_names, project.splits_petmr, by_dicom, context.changes_uids
    )


def rows_of(context: RunContext, session: Session) -> list[prearchive.PrearchiveSession]:
    """The session's own rows now, those of which a script has changed the study UID among them."""
    found = (_recognised(context, session, row) for row in context.rows(session.project, fresh=True))
    return [row for row in found if row.belongs_to(session)]


def doubled(session: Session, files_held: StoredFiles) -> list[Problem]:
    """A note on instances that the server lists twice; the smaller copy is the one that was judged."""
    twice = [i for i in session.instances if i.name in files_held.doubled]
    if not twice:
        return []
    text = f"{session.title}: {len(twice)} instances are there twice: {', '.join(i.sop_uid for i in twice[:10])}"
    return [Problem("doubled", f"{text}; delete one copy of each in XNAT", (session.label,))]


def _recognised(
    context: RunContext, session: Session, row: prearchive.PrearchiveSession
) -> prearchive.PrearchiveSession:
    """The row as it was sent. Where the site's script changes UIDs, a build gives the row another study; the names of
    its files still tell the one under which they came."""
    same = replace(row, study_uid=session.study_uid, changed_uid=True)
    if row.study_uid == session.study_uid or row.is_busy or not same.belongs_to(session):
        return row
    if not context.projects[session.project].may_edit or not prearchive.was_built(context.rest, row.uri):
        return row
    return same if in_row(context.rest, row.uri).has_study(session.study_uid) else row


def deliver(context: RunContext, session: Session) -> tuple[Verdict, int]:
    """The session's verdict and the number of request bodies it took. Raises Stopped, and nothing else of ours."""
    delivery = _Delivery(context, session)
    try:
        verdict = delivery.run()
        return look_into(context, session, verdict, delivery.holdings), delivery.sending.attempts
    except Stopped:
        raise
    except IngestError as error:
        return delivery.given_up(error), delivery.sending.attempts


class _Delivery:
    """One session, round by round: ask, decide, send, reconcile, commit. When no round is left, prove.

    One round is the rule. Another follows where XNAT would refuse to take everything at once: what a build has moved
    and must be replaced, series that share their number, and what did not go past the prearchive.
    """

    def __init__(self, context: RunContext, session: Session) -> None:
        self.context = context
        self.session = session
        in_order = any(context.in_order(i.path) for i in session.instances[:1])
        self.sending = Sending(
            session,
            context.transport,
            context.parts,
            context.emit,
            context.check_stop,
            in_order=in_order,
            is_gone=context.is_gone,
        )
        self._direct = direct_archive.DirectArchive(context, session, in_order=in_order) if context.direct else None
        self.before = compare_stored((), NO_FILES)  # what the archive held when we came
        self.holdings: list[StoredFiles] = []  # where the instances of the verdict were seen
        self.notes: list[Problem] = []
        self.archive_uri = ""
        self.row = OurPrearchiveSession(context, session, self.sending)
        self._mode = context.existing
        self._trusted = False  # whether the archive holds what this run put there undisturbed
        self._mine: set[str] = set()  # what this run has sent: it was not there already
        self._replaced: frozenset[str] = frozenset()  # with mode overwrite: what this run has put there anew
        self._held: frozenset[str] = frozenset()  # what the last round's row could not receive
        self._rounds = 0

    @property
    def problems(self) -> tuple[Problem, ...]:
        title, label = self.session.title, (self.session.label,)
        told = (f"{title}: {what}, {number} instances" for what, number in self.sending.notes.items())
        return (*self.notes, *(Problem("receiver-note", text, label) for text in told))

    def run(self) -> Verdict:
        deadline = time.monotonic() + prearchive.STILL_LIMIT
        while True:
            try:
                if verdict := self._round():
                    return verdict
            except ConcurrentUpload as live:
                self._wait_for_others(live, last=time.monotonic() > deadline)

    def _round(self) -> Verdict | None:
        """The verdict, or None when another round is to follow."""
        state = fetch_server_state(self.context, self.session)
        decision = self._decide(state)
        self.holdings = [state.files_held]
        if decision.conflict:
            self.context.emit(Event("warning", {"text": decision.conflict.detail}))
            return conflict(self.session, decision.conflict)
        if not decision.lacks:
            self.sending.tell(self.session.instances)
            return self._verdict(self._not_replaced(decision.archive), self._already(decision.archive.seen))
        if self._direct and not decision.row and not state.sessions:
            self._go_direct(decision.lacks)
            return None
        seen, held = self._send(decision, state.files_held)
        if not self.context.transport.names_rows and not self.row.may_edit:
            return self._wait_for_archive(self._already(seen))
        if not self.sending.uri and self.row.goes_direct:
            self._finish_direct(state, decision)
            return None
        if not self.sending.uri and not self.context.transport.names_rows and self.sending.taken:
            raise SessionTrouble("rerouted", NO_SESSION)
        if self.sending.uri:
            held |= self._reconcile(decision.lacks)
            self._note_replaced(decision.lacks)
            self._commit()
        if decision.later or held:
            self._held = held
            self._go_on()
            return None
        return self._prove(decision, self._already(seen))

    def _decide(self, state: ServerState) -> Decision:
        again = self._doubtful(state) | self._held
        decision = decide(self.session, state, self._mode, again, self._replaced)
        if decision.later and self.context.destination == "prearchive":
            text = (
                f"{self.session.title}: series that share their SeriesNumber must be archived one after the other; "
                "upload with --destination archive"
            )
            decision = replace(decision, conflict=Problem("same-number", text, (self.session.label,)))
        self.archive_uri = state.files_held.uri
        if not decision.conflict:
            self.before = decision.archive
            self._note(*decision.notes, *doubled(self.session, state.files_held))
            self.row.overwrite = decision.overwrite
        return decision

    def _note(self, *notes: Problem) -> None:
        self.notes += (note for note in notes if note not in self.notes)

    def _send(self, decision: Decision, archive: StoredFiles) -> tuple[frozenset[str], frozenset[str]]:
        """What was there, or is there anew, and what our row cannot receive any more."""
        self.sending.disturbed = False
        there = self.row.join(decision, archive)
        seen = there if self._mode == "overwrite" else decision.archive.seen | there
        if not self._rounds:
            self.sending.tell(i for i in self.session.instances if i.sop_uid in seen)
        wanted = [i for i in decision.lacks if i.sop_uid not in there]
        held = self.row.closed_to & {i.sop_uid for i in wanted}
        self._refuse_held(held)
        self.sending.send([i for i in wanted if i.sop_uid not in held], self.row.check)
        return seen, held

    def _refuse_held(self, held: frozenset[str]) -> None:
        """What the row cannot receive any more follows once it is archived; in the prearchive nothing can follow."""
        if not held or self.context.destination != "prearchive":
            return
        uri = self.sending.uri
        archive, delete = prearchive.command_for(uri, "archive"), prearchive.command_for(uri, "delete")
        raise SessionTrouble(
            "stale-row",
            f"the prearchive row {uri} was built, and XNAT takes no second copy of {len(held)} instances into it "
            f"afterwards; archive it ({archive}) or delete it ({delete}), then run again",
        )

    def _go_on(self) -> None:
        self._rounds += 1
        self.context.known(self.session.project, fresh=True)
        self.context.rows(self.session.project, fresh=True)
        if self._rounds > MOST_ROUNDS:
            text = f"the session is not complete after {self._rounds} commits; run again to go on from there"
            raise SessionTrouble("server-fault", text)

    def _note_replaced(self, lacks: tuple[Instance, ...]) -> None:
        """With mode overwrite: once the row is closed, a new copy cannot be told from the old one."""
        if self._mode == "overwrite":
            held = compare_stored(lacks, self.row.built(self.sending.uri)).seen
            self._replaced |= held & self.sending.taken

    def _finish_direct(self, state: ServerState, decision: Decision) -> None:
        """A DICOM receiver that archives by itself: what it leaves undone, the next round shows."""
        self.row.goes_direct = False
        direct_archive.finish_direct_archive(self.context, self.session)
        if not state.sessions and {i.sop_uid for i in decision.lacks} <= self.sending.taken:
            self._mode = "resume"  # nothing was there to be overwritten

    def _go_direct(self, lacks: tuple[Instance, ...]) -> None:
        """Past the prearchive, once; what does not go so goes by way of it afterwards."""
        way, self._direct = self._direct, None
        assert way is not None  # noqa: S101 - whoever comes here has looked
        try:
            way.send(lacks)
        finally:
            self.sending.attempts += way.sending.attempts
        self._mine |= way.sending.taken
        if {i.sop_uid for i in lacks} <= way.sending.taken and not way.sending.uri:
            self._mode = "resume"  # all of it is this run's: nothing that was there is left to be overwritten
            self._trusted = not way.sending.disturbed

    def _already(self, seen: frozenset[str]) -> int:
        return len(seen - self._mine - self.sending.taken)

    def _doubtful(self, state: ServerState) -> frozenset[str]:
        """With direct archive, an upload that was cut off is archived by the server itself, with whatever it holds of
        the last file: copies whose length nobody else's explains are sent again."""
        if self.context.direct is None or self._trusted:
            return frozenset()
        instances, files_held = self.session.instances, state.files_held
        return compare_stored(instances, files_held).verified - self.row.whole(instances, files_held, in_peace=True)

    def _wait_for_archive(self, already: int) -> Verdict:
        """Without the right to close, or to see a row's files: until the server has archived it by itself."""
        never = self.sending.failed.keys() | self.sending.ignored
        if self._mode == "overwrite":
            why = "accepted by the DICOM receiver; without edit right a new copy cannot be told from an old one"
            sent = {i.sop_uid: why for i in self.session.instances if i.sop_uid not in never}
            failed = dict.fromkeys(self.sending.ignored, NOT_TAKEN) | self.sending.failed
            word: VerdictWord = "failed" if failed else "unverified"
            return Verdict(word, failed=failed, unverified=sent, problems=self.problems)
        deadline = time.monotonic() + ARCHIVE_LIMIT
        while (now := self._now()).lacking.keys() - never and time.monotonic() < deadline:
            self.context.retry_policy.pause(min(10.0, ARCHIVE_LIMIT / 10))
        verdict = self._verdict(now, already)
        if not verdict.missing:
            return verdict
        why = "accepted by the DICOM receiver, and not in the archive yet; more is not to be seen without edit right"
        return replace(verdict, word="unverified", missing={}, unverified=dict.fromkeys(verdict.missing, why))

    def _wait_for_others(self, live: ConcurrentUpload, *, last: bool) -> None:
        text = f"row {live.uri}: {live.sign}"
        self.context.emit(Event("warning", {"text": f"{self.session.title}: {text}; waiting until it stands still"}))
        if last or not prearchive.wait_until_still(self.context.rest, live.uri, self.context.retry_policy.pause):
            raise SessionTrouble("live-row", f"{text}; nothing was closed. Run again when that has ended")
        # Whoever waited with us is not to come back in the same moment.
        self.context.retry_policy.pause(random.SystemRandom().uniform(0, prearchive.STILL / 2))
        note = Problem("live-row", f"{self.session.title}: {text}; waited for it", (self.session.label,))
        self._note(note)
        self.context.known(self.session.project, fresh=True)
        self.context.rows(self.session.project, fresh=True)

    def _reconcile(self, lacks: tuple[Instance, ...]) -> frozenset[str]:
        held = self.row.reconcile(lacks)
        self._refuse_held(held)
        self.row.refuse_broken_copies(lacks)
        return held

    def _commit(self) -> None:
        Commit(
            self.context,
            self.session,
            self.sending.uri,
            overwrite=self.row.overwrite,
            is_archived=bool(self.archive_uri),
        ).close()

    def _prove(self, decision: Decision, already: int) -> Verdict:
        if self.context.verify:
            return self._verdict(self._not_replaced(self._now()), already)
        failed, ignored = self.sending.failed, self.sending.ignored
        lacks = {i.sop_uid for i in decision.lacks}
        missing = dict.fromkeys(ignored - failed.keys(), NOT_TAKEN)
        sent = {uid: "not looked for (--no-verify)" for uid in lacks if uid not in failed and uid not in ignored}
        word: VerdictWord = "failed" if failed else "missing" if missing else "unverified"
        archive = decision.archive
        seen, counted = archive.verified - lacks, archive.counted - lacks
        uri = self.sending.uri or self.archive_uri
        return Verdict(word, uri, seen, counted, already, missing, failed, sent, self.problems)

    def _not_replaced(self, now: Comparison) -> Comparison:
        """With --existing overwrite, what our row did not hold is there all the same, but it is the old copy."""
        if self._mode != "overwrite":
            return now
        old = dict.fromkeys(now.seen - self._replaced, "not replaced: the copy there is the old one")
        return Comparison(now.verified - old.keys(), now.counted - old.keys(), {**now.lacking, **old}, {})

    def _now(self) -> Comparison:
        rest, session = self.context.rest, self.session
        if self.context.destination == "prearchive":
            row = in_row(rest, self.sending.uri) if self.sending.uri else NO_FILES
            self.holdings.insert(0, row)
            now = compare_stored(session.instances, row)
            if self._mode == "overwrite":
                return now
            seen = now.verified | self.before.verified
            counted = (now.counted | self.before.counted) - seen
            there = seen | counted
            return Comparison(seen, counted, {u: why for u, why in now.lacking.items() if u not in there}, {})
        path = f"/data/projects/{session.project}/subjects/{session.subject}/experiments/{session.label}"
        item = rest.item(path)
        if item is None:
            return compare_stored(session.instances, NO_FILES)
        files_held = in_archive(rest, str(item["ID"]))
        self.archive_uri = files_held.uri
        self.holdings = [files_held]
        self._note(*doubled(session, files_held))
        return compare_stored(session.instances, files_held)

    def _verdict(self, now: Comparison, already: int) -> Verdict:
        seen = now.seen
        missing = {uid: why for uid, why in now.lacking.items() if uid not in self.sending.failed}
        failed = {uid: why for uid, why in self.sending.failed.items() if uid not in seen}
        word: VerdictWord = "verified"
        if failed:
            word = "failed"
        elif missing:
            word = "missing"
        elif now.counted:
            word = "counted"
        uri = self.archive_uri
        if self.context.destination == "prearchive" and self.sending.uri:
            uri = self.sending.uri
        return Verdict(word, uri, now.verified, now.counted, already, missing, failed, problems=self.problems)

    def given_up(self, error: IngestError) -> Verdict:
        """The verdict when an error ended the session: what the archive held before is still there."""
        problem = Problem(error_kind(error), f"{self.session.title}: {error}", (self.session.label,))
        before = (
            compare_stored((), NO_FILES) if self._mode == "overwrite" else self.before
        )  # old copies are not what was asked
        seen = before.seen
        failed = {i.sop_uid: str(error) for i in self.session.instances if i.sop_uid not in seen}
        return Verdict(
            "failed",
            self.sending.uri,
            before.verified,
            before.counted,
            self._already(seen),
            failed=failed | {uid: why for uid, why in self.sending.failed.items() if uid not in seen},
            problems=(*self.problems, problem),
            cause=error,
        )


def conflict(session: Session, *problems: Problem) -> Verdict:
    """The verdict of a session of which nothing is sent."""
    why = problems[0].kind
    return Verdict("conflict", failed={i.sop_uid: why for i in session.instances}, problems=problems)
