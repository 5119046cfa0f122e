"""A run's result, from its plan and its sessions' outcomes: totals, problems, exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xnat_ingest.core import (
    EMPTY_SHARD,
    PRECEDENCE,
    Exit,
    IngestError,
    LawBroken,
    Outcome,
    Plan,
    Problem,
    Result,
    Stopped,
)
from xnat_ingest.delivery import totals
from xnat_ingest.delivery.strict import without_a_rule
from xnat_ingest.settings.options import Settings


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a result says about the run besides its plan and its outcomes.

    command: upload, verify, plan, ...
    started, finished: ISO 8601 with the time zone
    server: the address, "" when none was asked
    traffic: the report's totals bytes_sent, requests, retries, seconds
    insecure: the sentence on a server whose certificate was not verified, or ""
    signum: the signal that ended the run, or 0
    deidentification: the report's section of that name, or empty
    root: the folder or archive that was read, "" with --redact-paths
    """

    command: str
    started: str
    finished: str
    server: str
    traffic: dict[str, float]
    insecure: str
    signum: int
    deidentification: dict[str, object]
    root: str


def make_result(
    facts: RunFacts, settings: Settings, plan: Plan, outcomes: Sequence[Outcome], error: Exception | None = None
) -> Result:
    """error: what ended the whole run, if anything did."""
    if settings.strict and (stray := without_a_rule(plan)):
        plan = replace(plan, problems=(*plan.problems, stray))
    sums = totals.count_verdicts(plan, outcomes)
    try:
        totals.check_laws(sums)
    except LawBroken as broken:
        error = broken
    found = [problem for outcome in outcomes for problem in outcome.verdict.problems]
    if error:
        found.append(Problem("run-failed", said(error)))
    if _is_empty_shard(settings, plan):
        found.append(Problem(EMPTY_SHARD, "nothing of the tree is this shard's"))
    if facts.insecure:
        found.append(Problem("insecure", facts.insecure))
    looked = facts.command != "plan" and facts.server and not settings.no_verify
    return Result(
        facts.command,
        plan,
        tuple(outcomes),
        tuple(dict.fromkeys((*plan.problems, *found))),
        sums | facts.traffic,
        _exit_code(facts, settings, plan, outcomes, error),
        facts.started,
        facts.finished,
        facts.server,
        settings.destination,
        settings.transport,
        deidentification=facts.deidentification,
        proof=settings.proof if looked else "",
        shard=settings.shard,
        root=facts.root,
    )


def _is_empty_shard(settings: Settings, plan: Plan) -> bool:
    """Whether the run would end with 4 if it were not a shard: others may have something."""
    exists = any(aside.reason == "session-exists" for aside in plan.set_aside)
    return bool(settings.shard) and not (plan.planned or exists or settings.allow_empty)


def _exit_code(
    facts: RunFacts, settings: Settings, plan: Plan, outcomes: Sequence[Outcome], error: Exception | None
) -> int:
    """The first of all that apply, in the order of PRECEDENCE."""
    sending, allow_empty = facts.command != "plan", settings.allow_empty or bool(settings.shard)
    no_verify = settings.no_verify
    codes = {totals.exit_code(plan, outcomes, sending=sending, no_verify=no_verify, allow_empty=allow_empty)}
    if error:
        codes.add(error.exit_code if isinstance(error, IngestError) else Exit.BUG)
    if facts.signum:
        codes.add(Stopped(facts.signum).exit_code)
    return int(next(code for code in PRECEDENCE if code in codes))


def said(error: Exception) -> str:
    return str(error) if isinstance(error, IngestError) else f"a bug in this program ({type(error).__name__})"
