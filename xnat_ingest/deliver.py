"""One session's way to the server: ask, send what lacks, close once, look what is there (docs/design.md, 5.1)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from xnat_ingest import prearchive
from xnat_ingest.errors import IngestError, Refused, ServerSaid, SourceChanged, Stopped, Unreachable
from xnat_ingest.existing import Decision, Standing, judge
from xnat_ingest.model import Emit, Event, Instance, Problem, Session, Verdict, VerdictWord
from xnat_ingest.naming import printable
from xnat_ingest.pack import Part
from xnat_ingest.rest import Rest
from xnat_ingest.transports import Transport
from xnat_ingest.verify import NOWHERE, Comparison, Known, archived_sessions, compare, in_archive, in_row

# How long a row may be worked on by the server before we give up on it, in seconds.
SETTLE_LIMIT = 900.0


class Trouble(IngestError):
    """This session cannot be finished; the others go on."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(slots=True)
class Site:
    """What all sessions of a run share. timestamp: the run's own PREARC_TIMESTAMP; check_stop: raises Stopped."""

    rest: Rest
    transport: Transport
    parts: ThreadPoolExecutor
    destination: str
    verify: bool
    timestamp: str
    emit: Emit
    check_stop: Callable[[], None]
    known: list[Known] = field(default_factory=list)

    def refresh(self, project: str) -> None:
        self.known = archived_sessions(self.rest, project)


def look(site: Site, session: Session) -> Standing:
    """What the server holds of a session, archive and prearchive; waits while the server works on a row of it."""
    label, study = session.label.casefold(), session.study_uid
    rows = [
        row
        for row in prearchive.rows(site.rest, session.project)
        if row.label.casefold() == label or row.study_uid == study
    ]
    if busy := [row for row in rows if row.is_busy]:
        for row in busy:
            left = prearchive.settle(site.rest, row.uri, SETTLE_LIMIT, _pause(site))
            if left and left.is_busy:
                raise Trouble("live-row", f"the server is still busy with row {row.uri} ({left.status}); try later")
        site.refresh(session.project)  # a row that went may just have become an archived session
        return look(site, session)
    sessions = [k for k in site.known if k.label.casefold() == label or k.study_uid == study]
    ours = next((k for k in sessions if k.label.casefold() == label), None)
    holding = in_archive(site.rest, ours.accession) if ours else NOWHERE
    log = next((prearchive.last_log(site.rest, row.uri) for row in rows if row.status in prearchive.STUCK), "")
    return Standing(sessions, holding, rows, log)


def _pause(site: Site) -> Callable[[float], None]:
    def pause(seconds: float) -> None:
        time.sleep(seconds)
        site.check_stop()

    return pause


def deliver(site: Site, session: Session) -> tuple[Verdict, int]:
    """The session's verdict and the number of request bodies it took. Raises Stopped, and nothing else of ours."""
    delivery = _Delivery(site, session)
    try:
        return delivery.run(), delivery.attempts
    except Stopped:
        raise
    except IngestError as error:
        return delivery.given_up(error), delivery.attempts


def _kind(error: IngestError) -> str:
    if isinstance(error, Trouble):
        return error.kind
    if isinstance(error, SourceChanged):
        return "source-changed"
    return "refused" if isinstance(error, Refused) else "server-fault"


class _Delivery:
    def __init__(self, site: Site, session: Session) -> None:
        self.site = site
        self.session = session
        self.uri = ""
        self.attempts = 0
        self.failed: dict[str, str] = {}
        self.before = compare((), NOWHERE)  # what the archive held when we came
        self._lock = threading.Lock()

    def given_up(self, error: IngestError) -> Verdict:
        problem = Problem(_kind(error), f"{self.session.title}: {error}", (self.session.label,))
        seen = self.before.seen
        failed = {i.sop_uid: str(error) for i in self.session.instances if i.sop_uid not in seen}
        return Verdict(
            "failed",
            self.uri,
            self.before.verified,
            self.before.counted,
            len(self.before.seen),
            failed=failed | self.failed,
            problems=(problem,),
            cause=error,
        )

    def run(self) -> Verdict:
        standing = look(self.site, self.session)
        decision = judge(self.session, standing)
        already = len(decision.archive.seen)
        if decision.conflict:
            self.site.emit(Event("warning", {"text": decision.conflict.detail}))
            return conflict(self.session, decision.conflict)
        self.before = decision.archive
        if not decision.lacks:
            self.uri = standing.holding.uri
            self._progress(self.session.instances)
            return self._verdict(decision.archive, decision.archive, already, decision.notes)
        in_row: frozenset[str] = frozenset()
        if decision.row:
            self.uri = decision.row.uri
            in_row = self._sound_in(decision.row, decision.lacks)
        there = decision.archive.seen | in_row
        self._progress(i for i in self.session.instances if i.sop_uid in there)
        self._send([i for i in decision.lacks if i.sop_uid not in in_row], new_row=decision.row is None)
        if self.uri:
            self._close(decision)
        return self._verify(decision, already + len(in_row))

    def _sound_in(self, row: prearchive.Row, lacks: tuple[Instance, ...]) -> frozenset[str]:
        """What our row already holds whole.

        Objects without pixels are sent again where the row was still receiving: their size proves nothing, and the
        last file before a cut may be half of one.
        """
        prearchive.build(self.site.rest, row.uri)
        there = compare(lacks, in_row(self.site.rest, row.uri)).verified
        if row.status == "READY":
            return there
        return frozenset(i.sop_uid for i in lacks if i.sop_uid in there and i.pixel_bytes)

    def _send(self, instances: list[Instance], *, new_row: bool) -> None:
        queue = self.site.transport.parts(instances) if instances else []
        checked = not new_row
        # One part alone until a reply names the row, so that nothing more goes into a row that is not ours.
        while queue and not checked:
            self._send_part(queue.pop(0))
            if self.uri:
                self._check_row()
                checked = True
        futures = [self.site.parts.submit(self._send_part, part) for part in queue]
        self._join(futures)

    def _join(self, futures: list[Future[None]]) -> None:
        """Waits for all parts; the first error stops those that have not begun, and is raised when none runs."""
        wait(futures, return_when="FIRST_EXCEPTION")
        for future in futures:
            future.cancel()
        wait(futures)
        for future in futures:
            if not future.cancelled() and (error := future.exception()):
                raise error

    def _send_part(self, part: Part) -> None:
        """Sends a part, without the files in it that turn out to have changed."""
        while part.instances:
            self.site.check_stop()
            with self._lock:
                self.attempts += 1
            try:
                receipt = self.site.transport.send(self.session, part, self._sent)
            except SourceChanged as error:
                part = self._without(part, error)
                continue
            self._judge_uris(receipt.uris)
            self._progress(part.instances, bytes_too=False)
            return

    def _without(self, part: Part, error: SourceChanged) -> Part:
        if error.dirty:
            raise Trouble(
                "source-changed",
                f"{printable(error.path)}: {error.why}; the server may hold a broken copy of it, so the prearchive row "
                f"{self.uri or 'of this session'} is not closed: delete it on XNAT's prearchive page, then run again",
            )
        gone = next(i for i in part.instances if i.path == error.path)
        with self._lock:
            self.failed[gone.sop_uid] = error.why
        return replace(part, instances=tuple(i for i in part.instances if i is not gone))

    def _judge_uris(self, uris: tuple[str, ...]) -> None:
        """None: the server filtered all of it or read nothing; verification will tell. One: the row, for all parts."""
        if not uris:
            return
        ours = f"/data/prearchive/projects/{self.session.project}/"
        strange = [uri for uri in uris if not uri.startswith(ours)]
        with self._lock:
            self.uri = self.uri or ("" if strange else uris[0])
            if not strange and set(uris) == {self.uri}:
                return
        expected = self.uri or f"project {self.session.project}"
        raise Trouble(
            "rerouted",
            f"the server put files into {', '.join(strange or uris)} instead of {expected}; nothing was closed. Check "
            "the project and your right on it, and move or delete that row in XNAT",
        )

    def _check_row(self) -> None:
        row = prearchive.row(self.site.rest, self.uri)
        if row is None:
            raise Trouble("server-fault", f"the row {self.uri} that the server named does not exist")
        if not row.is_ours(self.session):
            raise Trouble(
                "foreign-row",
                f"the server put the first files into row {row.uri} (subject {row.subject}, session {row.label}), "
                "which is not this program's; nothing was closed",
            )
        if row.timestamp != self.site.timestamp:
            raise Trouble(
                "live-row", f"another run is sending this session into row {row.uri}; run again when it has ended"
            )

    def _close(self, decision: Decision) -> None:
        self.site.check_stop()
        rest, uri = self.site.rest, self.uri
        self.site.emit(Event("closing", {"session": self.session.title, "destination": self.site.destination}))
        if self.site.destination == "prearchive":
            prearchive.build(rest, uri)
            row = prearchive.settle(rest, uri, SETTLE_LIMIT, _pause(self.site))
            if row is None or row.status != "READY":
                raise Trouble("server-fault", f"row {uri} is {row.status if row else 'gone'} after building, not READY")
            return
        try:
            archived = prearchive.commit(rest, uri, overwrite_files=decision.overwrite)
        except (ServerSaid, Unreachable) as error:
            self._after_unclear_closing(error)
            return
        if not archived:
            raise Trouble("server-fault", f"row {uri} was left in the prearchive although it was to be archived")

    def _after_unclear_closing(self, error: IngestError) -> None:
        """A closing that failed, or whose reply was lost, is not repeated: the server may have done it."""
        row = prearchive.settle(self.site.rest, self.uri, SETTLE_LIMIT, _pause(self.site))
        if row is None:
            return  # archived or deleted: verification tells which
        log = prearchive.last_log(self.site.rest, self.uri)
        said = f" The server's log says: {log}" if log else ""
        raise Trouble("server-fault", f"{error}. Row {self.uri} is left in status {row.status}.{said}") from error

    def _verify(self, decision: Decision, already: int) -> Verdict:
        if not self.site.verify:
            sent = {i.sop_uid: "not looked for (--no-verify)" for i in decision.lacks if i.sop_uid not in self.failed}
            return Verdict(
                "failed" if self.failed else "unverified",
                self.uri,
                decision.archive.verified,
                decision.archive.counted,
                already,
                failed=self.failed,
                unverified=sent,
                problems=decision.notes,
            )
        now = self._now()
        return self._verdict(now, decision.archive, already, decision.notes)

    def _now(self) -> Comparison:
        rest, session = self.site.rest, self.session
        if self.site.destination == "prearchive":
            return compare(session.instances, in_row(rest, self.uri) if self.uri else NOWHERE)
        path = f"/data/projects/{session.project}/subjects/{session.subject}/experiments/{session.label}"
        item = rest.item(path)
        if item is None:
            return compare(session.instances, NOWHERE)
        holding = in_archive(rest, str(item["ID"]))
        self.uri = holding.uri
        return compare(session.instances, holding)

    def _verdict(self, now: Comparison, before: Comparison, already: int, notes: tuple[Problem, ...]) -> Verdict:
        verified = now.verified | (before.verified if self.site.destination == "prearchive" else frozenset())
        counted = (now.counted | before.counted) - verified
        seen = verified | counted
        missing = {uid: why for uid, why in now.lacking.items() if uid not in seen and uid not in self.failed}
        failed = {uid: why for uid, why in self.failed.items() if uid not in seen}
        word: VerdictWord = "verified"
        if failed:
            word = "failed"
        elif missing:
            word = "missing"
        elif counted:
            word = "counted"
        return Verdict(word, self.uri, verified, counted, already, missing, failed, problems=notes)

    def _sent(self, number: int) -> None:
        self.site.check_stop()
        self.site.emit(Event("progress", {"session": self.session.title, "bytes": number, "instances": 0}))

    def _progress(self, instances: Iterable[Instance], *, bytes_too: bool = True) -> None:
        members = list(instances)
        sizes = sum(i.size for i in members) if bytes_too else 0
        fields = {"session": self.session.title, "bytes": sizes, "instances": len(members)}
        self.site.emit(Event("progress", fields))


def conflict(session: Session, *problems: Problem) -> Verdict:
    """The verdict of a session of which nothing is sent."""
    why = problems[0].kind
    return Verdict("conflict", failed={i.sop_uid: why for i in session.instances}, problems=problems)
