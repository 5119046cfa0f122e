"""The result for people, line by line."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from xnat_ingest.core import EMPTY, EXIT_MEANING, Exit, Outcome, ReadBack, Result, SetAside, count_of, printable
from xnat_ingest.core.secrets import sayable
from xnat_ingest.report.grouped import file_lines, problem_lines
from xnat_ingest.report.progress import amount
from xnat_ingest.report.table import aside_lines, plan_lines

# Verdicts of sessions about which nothing must be done.
FINE = ("verified", "counted", "skipped")
SHOWN_SESSIONS = 20
SHOWN_INSTANCES = 3  # of each session


def result_lines(
    result: Result, report: str = "", note: str = "", *, brief: bool = False, scans: bool = False, listed: bool = False
) -> list[str]:
    """The result. Scripts rely on its last line.

    report, note: where the report is.
    brief: only sessions that need attention, when there are many.
    scans: for a plan, also a line per scan.
    listed: the same screen has a line for each session already, so that only those that need attention are repeated.
    """
    fine = (*FINE, "unverified") if result.command == "plan" else FINE
    in_need = [one for one in result.outcomes if one.verdict.word not in fine]
    outcomes = in_need if listed else _notable(result, in_need) if brief else result.outcomes
    if result.command == "plan":
        width = shutil.get_terminal_size().columns
        lines = [*plan_lines(outcomes, width, scans=scans), *_plan_asides(result, width)]
    else:
        lines = [line for outcome in outcomes for line in _outcome_lines(outcome)]
    if not listed and (left_out := len(result.outcomes) - len(outcomes)):
        lines.append(f"{left_out} {'more ' if outcomes else ''}sessions, each in the report")
    labels = frozenset(outcome.session.label for outcome in in_need)
    lines += [*problem_lines(result.problems, labels), *_aside_lines(result)]
    lines += [*_untouched_lines(result), *_count_lines(result)]
    if report:
        lines.append(f"report: {printable(report)}")
    if note:
        lines.append(note)
    if result.exit_code:
        lines.append(_ending(result, report))
    return [*map(sayable, lines), last_line(result)]


def _plan_asides(result: Result, width: int) -> Iterator[str]:
    if result.plan.set_aside:
        yield f"{count_of(len(result.plan.set_aside), 'file')} set aside:"
        yield from aside_lines(result.plan.set_aside, width)


def _aside_lines(result: Result) -> Iterator[str]:
    """The files set aside that people should know about."""
    asides = result.plan.set_aside
    yield from file_lines(aside for aside in asides if aside.is_problem)
    links = [aside for aside in asides if aside.reason == "link"]
    doubled, other = list[SetAside](), list[SetAside]()
    for aside in links:
        (doubled if aside.detail.endswith("read in its own place") else other).append(aside)
    if doubled:
        some = ", ".join(f"{printable(one.path)} {one.detail}" for one in doubled[:3])
        yield f"{len(doubled)} links point to other sessions and were left out: {some}"
    if left := [printable(aside.path) for aside in other]:
        some = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
        yield (
            f"{len(left)} symbolic links that point outside ROOT or form a loop were skipped ({some}); upload their "
            "targets separately if needed"
        )
    if folders := [printable(aside.path) for aside in asides if aside.reason == "system-folder"]:
        some = ", ".join(folders[:3]) + (", ..." if len(folders) > 3 else "")
        yield f"hidden or system folders, or files in them, left out: {len(folders)} ({some})"
    if empty := sum(aside.detail == EMPTY and not aside.is_problem for aside in asides):
        yield f"{count_of(empty, 'empty file')} left out, where no image is expected"


def _untouched_lines(result: Result) -> Iterator[str]:
    """What was not sent because of a conflict, and the sessions that have no fault of their own."""
    held = [outcome for outcome in result.outcomes if outcome.verdict.word == "conflict"]
    if held and result.command != "plan":
        instances = sum(len(outcome.session.instances) for outcome in held)
        whole = f"{count_of(len(held), 'session')} held back because of a conflict"
        yield f"{whole}: nothing of {count_of(instances, 'instance')} was sent (the last line counts them as failed)"
    reasons = Counter(filter(None, map(untouched, result.outcomes)))
    if result.command != "plan":
        for why, number in reasons.items():
            yield f"{count_of(number, 'session')} without a conflict not started: {why}"


def untouched(outcome: Outcome) -> str:
    """Why nothing was done with a session; "" when something was."""
    verdict = outcome.verdict
    reasons = set(verdict.unverified.values())
    is_untouched = verdict.word == "unverified" and not (outcome.attempts or verdict.uri or verdict.verified)
    return reasons.pop() if is_untouched and len(reasons) == 1 else ""


def _count_lines(result: Result) -> Iterator[str]:
    totals = result.totals
    if totals["counted"]:
        yield (
            f"{count_of(totals['counted'], 'instance')} counted: the server has the right number in each series, "
            "under names that do not show which is which"
        )
    if totals["unverified"] and result.command != "plan":
        yield f"{count_of(totals['unverified'], 'instance')} unverified"
    if looks := [outcome.verdict.read_back for outcome in result.outcomes if outcome.verdict.read_back]:
        yield _read_back_line(looks)
    if totals["already_there"]:
        yield f"{count_of(totals['already_there'], 'instance')} already on the server before this run"


def _read_back_line(looks: Sequence[ReadBack]) -> str:
    read, size = sum(look.instances for look in looks), sum(look.bytes for look in looks)
    skipped = sum(sum(look.skipped.values()) for look in looks)
    more = f"; {skipped} only in part, or not: the report says why" if skipped else ""
    return f"{count_of(read, 'instance')} ({amount(size)}) read back and compared with what was sent{more}"


def _ending(result: Result, report: str) -> str:
    """What the exit code means, and what to do."""
    if result.exit_code in (Exit.INTERRUPTED, Exit.TERMINATED):
        word = "interrupted" if result.exit_code == Exit.INTERRUPTED else "terminated"
        kept = "" if report else " (add --report FILE to get a report, too)"
        return f"{word}; run the same command again to go on from here{kept}"
    if result.exit_code == Exit.USAGE and result.launch:  # part of a launch's configuration is on the server
        return "usage or configuration; nothing was sent"
    return EXIT_MEANING[Exit(result.exit_code)]


def _notable(result: Result, in_need: Sequence[Outcome]) -> Sequence[Outcome]:
    """The sessions to show: all when they are few, otherwise the first that need attention."""
    return result.outcomes if len(result.outcomes) <= SHOWN_SESSIONS else in_need[:SHOWN_SESSIONS]


def last_line(result: Result) -> str:
    return totals_line(result.totals, result.exit_code)


def totals_line(t: Mapping[str, float], exit_code: int) -> str:
    """The last line, on which scripts rely."""
    return (
        f"{t['planned']} planned, {t['verified']} verified, {t['missing']} missing, {t['failed']} failed, "
        f"{t['set_aside']} set aside: exit {exit_code}"
    )


def _outcome_lines(outcome: Outcome) -> Iterator[str]:
    """The session's line, and some of its unproven instances when no problem explains them."""
    yield _outcome_line(outcome)
    verdict = outcome.verdict
    if verdict.word not in ("missing", "failed"):
        return
    reasons = {**verdict.missing, **verdict.failed}
    named = [instance for instance in outcome.session.instances if instance.sop_uid in reasons]
    for instance in named[:SHOWN_INSTANCES]:
        yield f"  {printable(instance.path)}: {reasons[instance.sop_uid]}"
    if len(named) > SHOWN_INSTANCES:
        yield f"  ... and {len(named) - SHOWN_INSTANCES} more, all in the report (--report FILE)"


def _outcome_line(outcome: Outcome) -> str:
    session, verdict = outcome.session, outcome.verdict
    number = len(session.instances)
    scans = len({i.series_uid for i in session.instances})
    what = f"{count_of(number, 'instance')}, {count_of(scans, 'scan')}, {amount(session.bytes)}"
    seen = len(verdict.verified) + len(verdict.counted)
    return f"{session.title}  {verdict.word.upper()} {seen}/{number}  {what}  {verdict.uri}".rstrip()
