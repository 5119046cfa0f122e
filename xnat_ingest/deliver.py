"""One session's way to the server: ask, send what lacks, close once, look what is there (docs/design.md, section 4)."""

from __future__ import annotations

from collections import Counter

from xnat_ingest import prearchive
from xnat_ingest.closing import Closing
from xnat_ingest.errors import IngestError, Refused, SessionTrouble, SourceChanged, Stopped
from xnat_ingest.existing import Decision, Standing, judge
from xnat_ingest.model import Event, Instance, Problem, Session, Verdict, VerdictWord
from xnat_ingest.sending import Sending
from xnat_ingest.site import Site
from xnat_ingest.verify import NOWHERE, Comparison, Holding, compare, in_archive, in_row

# A row that is found receiving is watched this long after it was built, in seconds: it may be another run's.
WATCH = 5.0
# Rounds of comparing and sending again before a closing.
ROUNDS = 3


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
            left = prearchive.settle(site.rest, row.uri, site.patience.pause)
            if left and left.is_busy:
                text = f"the server is still busy with row {row.uri} ({left.status}); run again later"
                raise SessionTrouble("live-row", text)
        site.refresh(session.project)  # a row that went may just have become an archived session
        return look(site, session)
    known = site.known[session.project]
    sessions = [k for k in known if k.label.casefold() == label or k.study_uid == study]
    ours = next((k for k in sessions if k.label.casefold() == label), None)
    holding = in_archive(site.rest, ours.accession) if ours else NOWHERE
    log = next((prearchive.last_log(site.rest, row.uri) for row in rows if row.status in prearchive.STUCK), "")
    project = site.projects[session.project]
    return Standing(sessions, holding, rows, log, project.custom_names, project.splits_petmr)


def deliver(site: Site, session: Session) -> tuple[Verdict, int]:
    """The session's verdict and the number of request bodies it took. Raises Stopped, and nothing else of ours."""
    delivery = _Delivery(site, session)
    try:
        return delivery.run(), delivery.sending.attempts
    except Stopped:
        raise
    except IngestError as error:
        return delivery.given_up(error), delivery.sending.attempts


class _LiveRow(Exception):
    """Somebody else is sending into the row."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.uri = uri


class _Delivery:
    def __init__(self, site: Site, session: Session) -> None:
        self.site = site
        self.session = session
        self.sending = Sending(session, site.transport, site.parts, site.emit, site.check_stop)
        self.before = compare((), NOWHERE)  # what the archive held when we came
        self.notes: list[Problem] = []
        self.archive_uri = ""
        self._overwrite = False

    def run(self) -> Verdict:
        for attempt in range(2):
            try:
                return self._run()
            except _LiveRow as live:
                self._wait_for_others(live.uri, last=attempt == 1)
        raise AssertionError("unreachable")

    def _run(self) -> Verdict:
        standing = look(self.site, self.session)
        decision = judge(self.session, standing, self.site.existing)
        self.archive_uri = standing.holding.uri
        if decision.conflict:
            self.site.emit(Event("warning", {"text": decision.conflict.detail}))
            return conflict(self.session, decision.conflict)
        self.before = decision.archive
        self.notes += decision.notes
        self._overwrite = decision.overwrite
        if not decision.lacks:
            self.sending.tell(self.session.instances)
            return self._verdict(decision.archive, len(decision.archive.seen))
        self.sending.disturbed = False
        there = self._join_row(decision)
        seen = (decision.archive.seen - {i.sop_uid for i in decision.lacks}) | there
        self.sending.tell(i for i in self.session.instances if i.sop_uid in seen)
        self.sending.send([i for i in decision.lacks if i.sop_uid not in there], self._check_row)
        if self.sending.uri:
            self._reconcile(decision.lacks)
            self._close()
        return self._prove(decision, len(seen))

    def _join_row(self, decision: Decision) -> frozenset[str]:
        """What our row, if there is one, already holds whole."""
        row = decision.row
        if row is None:
            self.sending.uri = ""
            return frozenset()
        self.sending.uri = row.uri
        holding = self._built(row.uri)
        if row.status.startswith("RECEIVING"):
            self._watch(row, holding)
        return self._whole(decision.lacks, holding, disturbed=row.status != "READY")

    def _watch(self, row: prearchive.Row, holding: Holding) -> None:
        """A row that was receiving may be another run's: then it leaves READY, or grows."""
        self.site.patience.pause(WATCH)
        now = prearchive.row(self.site.rest, row.uri)
        if now is None or now.status != "READY" or self._built(row.uri).sizes.keys() != holding.sizes.keys():
            raise _LiveRow(row.uri)

    def _built(self, uri: str) -> Holding:
        prearchive.build(self.site.rest, uri)
        return in_row(self.site.rest, uri)

    def _whole(self, instances: tuple[Instance, ...], holding: Holding, *, disturbed: bool) -> frozenset[str]:
        """Which of the instances a row holds whole.

        In a row that was cut off in the middle, a file that looks long enough may still lack its end, where the
        header is long and the pixels are few. The server changes whole files alike, so there a file counts only when
        its length differs from the source's as that of others does; those without pixels are sent again in any case.
        """
        sound = compare(instances, holding).verified
        if not disturbed:
            return sound
        change = {i.sop_uid: holding.sizes[i.name] - i.size for i in instances if i.sop_uid in sound}
        usual = Counter(change.values())
        return frozenset(
            i.sop_uid
            for i in instances
            if i.pixel_bytes and i.sop_uid in sound and (change[i.sop_uid] == 0 or usual[change[i.sop_uid]] > 2)
        )

    def _check_row(self) -> None:
        uri = self.sending.uri
        row = prearchive.row(self.site.rest, uri)
        if row is None or row.timestamp != self.site.timestamp:
            raise _LiveRow(uri)
        if not row.is_ours(self.session):
            raise SessionTrouble(
                "foreign-row",
                f"the server put the first files into row {row.uri} (subject {row.subject}, session {row.label}), "
                "which is not this program's; nothing was closed",
            )

    def _wait_for_others(self, uri: str, *, last: bool) -> None:
        text = f"another run is sending this session into row {uri}"
        self.site.emit(Event("warning", {"text": f"{self.session.title}: {text}; waiting until it has ended"}))
        if last or not prearchive.wait_until_still(self.site.rest, uri, self.site.patience.pause):
            raise SessionTrouble("live-row", f"{text}; nothing was closed. Run again when it has ended")
        self.notes.append(Problem("live-row", f"{self.session.title}: {text}; waited for it", (self.session.label,)))
        self.site.refresh(self.session.project)

    def _reconcile(self, lacks: tuple[Instance, ...]) -> None:
        """After any disturbance: list what is stored, and send again what is not there whole, before closing."""
        for _ in range(ROUNDS):
            if not (self.sending.disturbed and self.sending.uri):
                break
            self.sending.disturbed = False
            wanted = tuple(i for i in lacks if i.sop_uid not in self.sending.failed)
            whole = self._whole(wanted, self._built(self.sending.uri), disturbed=True)
            self.sending.send([i for i in wanted if i.sop_uid not in whole], self._check_row)
        if self.sending.disturbed:
            text = f"the transfer into row {self.sending.uri} was disturbed again and again; nothing was closed"
            raise SessionTrouble("server-fault", f"{text}. Run again to go on from there")
        self._look_for_broken_copies(lacks)

    def _look_for_broken_copies(self, lacks: tuple[Instance, ...]) -> None:
        refused = [i for i in lacks if i.sop_uid in self.sending.failed]
        if not refused:
            return
        holding = self._built(self.sending.uri)
        broken = [i for i in refused if i.name in holding.sizes]
        if broken:
            raise SessionTrouble(
                "server-fault",
                f"row {self.sending.uri} holds {len(broken)} broken copies of files that cannot be sent again, so it "
                "is not closed: delete it on XNAT's prearchive page, then run again",
            )

    def _close(self) -> None:
        Closing(
            self.site,
            self.session,
            self.sending.uri,
            overwrite=self._overwrite,
            is_archived=bool(self.archive_uri),
        ).close()

    def _prove(self, decision: Decision, already: int) -> Verdict:
        failed = self.sending.failed
        if not self.site.verify:
            sent = {i.sop_uid: "not looked for (--no-verify)" for i in decision.lacks if i.sop_uid not in failed}
            word: VerdictWord = "failed" if failed else "unverified"
            seen = decision.archive.verified - {i.sop_uid for i in decision.lacks}
            counted = decision.archive.counted - {i.sop_uid for i in decision.lacks}
            notes = tuple(self.notes)
            return Verdict(word, self.sending.uri, seen, counted, already, {}, failed, sent, notes)
        return self._verdict(self._now(), already)

    def _now(self) -> Comparison:
        rest, session = self.site.rest, self.session
        if self.site.destination == "prearchive":
            now = compare(session.instances, in_row(rest, self.sending.uri) if self.sending.uri else NOWHERE)
            seen = now.verified | self.before.verified
            lacking = {uid: why for uid, why in now.lacking.items() if uid not in seen | self.before.counted}
            return Comparison(seen, self.before.counted - seen, lacking, {})
        path = f"/data/projects/{session.project}/subjects/{session.subject}/experiments/{session.label}"
        item = rest.item(path)
        if item is None:
            return compare(session.instances, NOWHERE)
        holding = in_archive(rest, str(item["ID"]))
        self.archive_uri = holding.uri
        return compare(session.instances, holding)

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
        if self.site.destination == "prearchive" and self.sending.uri:
            uri = self.sending.uri
        return Verdict(word, uri, now.verified, now.counted, already, missing, failed, problems=tuple(self.notes))

    def given_up(self, error: IngestError) -> Verdict:
        """The verdict when an error ended the session: what the archive held before is still there."""
        kind = "server-fault"
        if isinstance(error, SessionTrouble):
            kind = error.kind
        elif isinstance(error, SourceChanged):
            kind = "source-changed"
        elif isinstance(error, Refused):
            kind = "refused"
        problem = Problem(kind, f"{self.session.title}: {error}", (self.session.label,))
        seen = self.before.seen
        failed = {i.sop_uid: str(error) for i in self.session.instances if i.sop_uid not in seen}
        return Verdict(
            "failed",
            self.sending.uri,
            self.before.verified,
            self.before.counted,
            len(seen),
            failed=failed | self.sending.failed,
            problems=(*self.notes, problem),
            cause=error,
        )


def conflict(session: Session, *problems: Problem) -> Verdict:
    """The verdict of a session of which nothing is sent."""
    why = problems[0].kind
    return Verdict("conflict", failed={i.sop_uid: why for i in session.instances}, problems=problems)
