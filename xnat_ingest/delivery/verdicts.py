"""From what was seen on the server to a session's verdict. Nothing here asks the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xnat_ingest.core import IngestError, Problem, Session, Verdict, VerdictWord, error_kind
from xnat_ingest.xnat.archive import Comparison

NOT_TAKEN = "the server reported success but stored none of these files"
OLD_COPY = "not replaced: the copy there is the old one"
NOT_LOOKED_FOR = "not looked for (--no-verify)"


def conflict(session: Session, *problems: Problem) -> Verdict:
    """The verdict of a session of which nothing is sent."""
    why = problems[0].kind
    return Verdict("conflict", failed={i.sop_uid: why for i in session.instances}, problems=problems)


def not_reached(session: Session, why: str) -> Verdict:
    """The verdict of a session of which nothing was done."""
    return Verdict("unverified", unverified={i.sop_uid: why for i in session.instances})


def without_old_copies(now: Comparison, replaced: Iterable[str]) -> Comparison:
    """With --existing overwrite: an instance that this run has not replaced is stored, but it is the old copy."""
    old = dict.fromkeys(sorted(now.seen - frozenset(replaced)), OLD_COPY)
    return Comparison(now.verified - old.keys(), now.counted - old.keys(), {**now.absent, **old}, {})


def joined(prearchived: Comparison, archived: Comparison) -> Comparison:
    """What is stored in one of both places."""
    verified = prearchived.verified | archived.verified
    counted = (prearchived.counted | archived.counted) - verified
    seen = verified | counted
    return Comparison(verified, counted, {u: why for u, why in prearchived.absent.items() if u not in seen}, {})


def proven(
    now: Comparison, refused: Mapping[str, str], uri: str, already: int, problems: tuple[Problem, ...]
) -> Verdict:
    """The verdict by what is stored now.

    refused: SOPInstanceUID -> why it cannot be sent; one that is stored all the same has not failed
    already: how many instances were stored before this run
    """
    missing = {uid: why for uid, why in now.absent.items() if uid not in refused}
    failed = {uid: why for uid, why in refused.items() if uid not in now.seen}
    word: VerdictWord = "failed" if failed else "missing" if missing else "counted" if now.counted else "verified"
    return Verdict(word, uri, now.verified, now.counted, already, missing, failed, problems=problems)


def unproven(
    wanted: Iterable[str],
    ignored: Iterable[str],
    refused: Mapping[str, str],
    before: Comparison,
    uri: str,
    already: int,
    problems: tuple[Problem, ...],
) -> Verdict:
    """The verdict with --no-verify, by what the server answered.

    wanted: SOPInstanceUIDs that were to be sent.
    ignored: those that the server did not store although it reported success.
    refused: SOPInstanceUID -> why.
    before: what was archived before.
    """
    sent = frozenset(wanted)
    missing = dict.fromkeys(sorted(frozenset(ignored) - refused.keys()), NOT_TAKEN)
    unverified = dict.fromkeys(sorted(sent - refused.keys() - missing.keys()), NOT_LOOKED_FOR)
    word: VerdictWord = "failed" if refused else "missing" if missing else "unverified"
    verified, counted = before.verified - sent, before.counted - sent
    return Verdict(word, uri, verified, counted, already, missing, dict(refused), unverified, problems)


def given_up(
    session: Session,
    error: IngestError,
    before: Comparison,
    refused: Mapping[str, str],
    uri: str,
    already: int,
    problems: tuple[Problem, ...],
) -> Verdict:
    """The verdict when an error ended the session. What the archive held before is still there."""
    problem = Problem(error_kind(error), f"{session.title}: {error}", (session.label,))
    failed = {i.sop_uid: str(error) for i in session.instances if i.sop_uid not in before.seen}
    return Verdict(
        "failed",
        uri,
        before.verified,
        before.counted,
        already,
        failed=failed | {uid: why for uid, why in refused.items() if uid not in before.seen},
        problems=(*problems, problem),
        cause=error,
    )
