"""One session looked at and nothing sent: what `verify` and `plan --online` do."""

from __future__ import annotations

from xnat_ingest import prearchive
from xnat_ingest.deliver import Site, conflict, look
from xnat_ingest.existing import judge
from xnat_ingest.model import Session, Verdict, VerdictWord
from xnat_ingest.verify import NOWHERE, compare, in_archive, in_row


def verify_only(site: Site, session: Session) -> tuple[Verdict, int]:
    """The session against the archive and against prearchive rows of it that are ready to be listed."""
    label = session.label.casefold()
    known = next((k for k in site.known if k.label.casefold() == label), None)
    mine = known is not None and known.subject.casefold() == session.subject.casefold()
    holding = in_archive(site.rest, known.accession) if known and mine else NOWHERE
    archive = compare(session.instances, holding)
    verified, uri = archive.verified, holding.uri
    if archive.lacking:
        for row in prearchive.rows(site.rest, session.project):
            if row.belongs_to(session) and row.status == "READY":
                verified |= compare(session.instances, in_row(site.rest, row.uri)).verified
                uri = uri or row.uri
    missing = {uid: why for uid, why in archive.lacking.items() if uid not in verified}
    word: VerdictWord = "missing" if missing else "counted" if archive.counted else "verified"
    return Verdict(word, uri, verified, archive.counted - verified, missing=missing), 0


def judge_only(site: Site, session: Session) -> tuple[Verdict, int]:
    """What an upload would find: a conflict, or how much is there already."""
    standing = look(site, session)
    decision = judge(session, standing)
    if decision.conflict:
        return conflict(session, decision.conflict), 0
    lacks = {i.sop_uid: "only planned" for i in decision.lacks}
    archive = decision.archive
    word: VerdictWord = "unverified" if lacks else "counted" if archive.counted else "verified"
    seen = len(archive.seen)
    return Verdict(word, standing.holding.uri, archive.verified, archive.counted, seen, unverified=lacks), 0
