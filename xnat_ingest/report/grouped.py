"""Problems and files of one kind, shown together: some examples with the number of all, and the remedy once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from xnat_ingest.core import Problem, SetAside, count_of, printable
from xnat_ingest.report.advice import RUN_KINDS, TITLES, advice_on

SHOWN = 5  # examples of each kind


def problem_lines(problems: Iterable[Problem], in_need: frozenset[str]) -> Iterator[str]:
    """All problems, kind by kind: first what is wrong, then notes.

    in_need: labels of the sessions that need attention.
    """
    wrong: dict[str, list[Problem]] = defaultdict(list)
    notes: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        is_wrong = problem.spoils or problem.kind in RUN_KINDS or not in_need.isdisjoint(problem.sessions)
        (wrong if is_wrong else notes)[problem.kind].append(problem)
    for kind, members in wrong.items():
        yield from _problems_of_one_kind(TITLES.get(kind, kind), members)
    for kind, members in notes.items():
        yield from _problems_of_one_kind(f"note    {kind}", members)


def _problems_of_one_kind(kind: str, members: Sequence[Problem]) -> Iterator[str]:
    if len(members) == 1:
        yield f"{kind}: {members[0].fact}"
    else:
        yield f"{kind}, {len(members)} times:"
    shown: dict[str, list[str]] = defaultdict(list)
    for problem in members[:SHOWN]:
        shown[problem.fix].append(problem.fact)
    for fix, facts in shown.items():
        if len(members) > 1:
            yield from (f"  {fact}" for fact in facts)
        if len(shown) > 1 and fix:
            yield f"    to do: {fix}"
    yield from _more(len(members))
    if len(shown) == 1 and (fix := members[0].fix):
        yield f"  to do: {fix}"


def file_lines(asides: Iterable[SetAside]) -> Iterator[str]:
    """Files set aside, reason by reason."""
    reasons: dict[str, list[SetAside]] = defaultdict(list)
    for aside in asides:
        reasons[aside.reason].append(aside)
    for reason, members in reasons.items():
        yield f"{reason}, {count_of(len(members), 'file')}:"
        for aside in members[:SHOWN]:
            yield f"  {printable(aside.path)}{f' ({aside.detail})' if aside.detail else ''}"
        yield from _more(len(members))
        if fix := advice_on(reason).fix:
            yield f"  to do: {fix}"


def _more(number: int) -> Iterator[str]:
    if number > SHOWN:
        yield f"  ... and {number - SHOWN} more, all in the report (--report FILE)"
