"""The counts of a run, the two laws they obey, and the exit code that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xnat_ingest.core import PRECEDENCE, Exit, IngestError, LawBroken, Outcome, Plan


def count_verdicts(plan: Plan, outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The totals that follow from the plan and the verdicts; traffic and time are the caller's to add."""
    verdicts = [outcome.verdict for outcome in outcomes]
    return {
        "files_seen": plan.files_seen,
        "planned": plan.planned,
        "set_aside": len(plan.set_aside),
        "excluded": sum(aside.reason.startswith("excluded:") for aside in plan.set_aside),
        "verified": sum(len(v.verified) for v in verdicts),
        "counted": sum(len(v.counted) for v in verdicts),
        "missing": sum(len(v.missing) for v in verdicts),
        "failed": sum(len(v.failed) for v in verdicts),
        "unverified": sum(len(v.unverified) for v in verdicts),
        "already_there": sum(v.already_there for v in verdicts),
        "bytes_planned": sum(s.bytes for s in plan.sessions),
    }


def check_laws(totals: dict[str, float]) -> None:
    """Raises LawBroken: no file and no instance may be counted twice or not at all."""
    if totals["files_seen"] != totals["planned"] + totals["set_aside"]:
        raise LawBroken(f"files_seen is not planned + set_aside: {totals}")
    ends = ("verified", "counted", "missing", "failed", "unverified")
    if totals["planned"] != sum(totals[end] for end in ends):
        raise LawBroken(f"planned is not {' + '.join(ends)}: {totals}")


def exit_code(
    plan: Plan, outcomes: Iterable[Outcome], *, sending: bool, no_verify: bool = False, allow_empty: bool = False
) -> Exit:
    """The strongest code that applies. sending: False for `plan`, which verifies nothing, so that is not a failure."""
    outcomes = list(outcomes)
    codes = {Exit.OK}
    if any(aside.is_problem for aside in plan.set_aside) or any(s.conflicts for s in plan.sessions):
        codes.add(Exit.PARTIAL)
    if any(problem.spoils for problem in plan.problems):
        codes.add(Exit.PARTIAL)
    exists = any(aside.reason == "session-exists" for aside in plan.set_aside)
    if not plan.planned and not exists and not allow_empty:
        codes.add(Exit.NOTHING)
    delivered = False
    causes = []
    for verdict in (outcome.verdict for outcome in outcomes):
        delivered |= verdict.word in ("verified", "counted") or (verdict.word == "unverified" and no_verify)
        if verdict.word in ("missing", "failed", "conflict") or any(p.spoils for p in verdict.problems):
            codes.add(Exit.PARTIAL)
        if verdict.word == "unverified" and sending and not no_verify:
            codes.add(Exit.PARTIAL)
        if isinstance(verdict.cause, IngestError):
            causes.append(verdict.cause.exit_code)
        elif verdict.cause:
            causes.append(Exit.BUG)
    # Temporary and refused mean "nothing was delivered": with one session there, the run is partial.
    codes.update(code for code in causes if code in (Exit.BUG, Exit.INTERRUPTED, Exit.TERMINATED) or not delivered)
    return next(code for code in PRECEDENCE if code in codes)
