"""Reads saved reports, and merges the reports of shards."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from xnat_ingest.core import (
    EMPTY_SHARD,
    NO_LABEL,
    OTHER_SHARD,
    PRECEDENCE,
    PROOF_LEVELS,
    Exit,
    IngestError,
    UsageError,
    few_of,
    printable,
)
from xnat_ingest.core.json_documents import best_error, json_path, read_json, read_text
from xnat_ingest.core.read_small import MEGABYTE
from xnat_ingest.core.secrets import harmless
from xnat_ingest.report.left_to_others import NOT_TAKEN, not_taken, taken_twice

Report = Mapping[str, Any]
# A report that names a million instances takes about 300 MB.
LIMIT = 1024 * MEGABYTE
ENDS = ("verified", "counted", "missing", "failed", "unverified")
SUMMED = ("planned", *ENDS, "already_there", "bytes_planned", "bytes_sent", "requests", "retries")
# A run with such a session does not end with 0.
SPOILT = ("missing", "failed", "conflict")
# How a run ended that did not come to its end.
BROKEN_OFF = {
    Exit.BUG: "ended with an error in the program itself",
    Exit.INTERRUPTED: "was interrupted",
    Exit.TERMINATED: "was terminated",
}
# These must be equal in all shards' reports. Otherwise a merged report would make no sense.
SAME = ("command", "server", "project", "destination", "transport")
# Notes that are only true when every shard has them.
ONLY_TOGETHER = (EMPTY_SHARD, "rule-unused", "label-unused")


def read_report(path: str) -> dict[str, Any]:
    """A saved JSON report as its schema has it, without control characters. Somebody else may have written it.

    Raises IngestError when it is not one of ours.
    """
    try:
        report = harmless(read_json(read_text(path, "the report", LIMIT), f"the report {printable(path)}"))
    except (UsageError, RecursionError) as error:
        raise IngestError(str(error)) from error
    if not isinstance(report, dict) or report.get("schema") != 1:
        raise IngestError(f"{printable(path)} is not a report of xnat-ingest; give the file that --report wrote")
    schema = json.loads(resources.files("xnat_ingest.report").joinpath("report.schema.json").read_text("utf-8"))
    if best_error(_abridged(report), schema) and (fault := best_error(report, schema)):
        where = json_path(fault.absolute_path) or "the whole file"
        raise IngestError(
            f"{printable(path)} is not a report of xnat-ingest: {printable(where)}: {fault.message[:300]}; give the "
            "file that --report wrote"
        )
    return report


def _abridged(value: Any) -> Any:
    """The report with one of the files or instances of each form, which its schema judges as it judges them all.

    The schema is slow: a million of them would take minutes.
    """
    if isinstance(value, dict):
        return {key: _abridged(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return list({_form(inner): _abridged(inner) for inner in value}.values())
    return value


def _form(item: Any) -> object:
    """What the schema can see of a file or an instance: its keys, their types, and the words it knows."""
    if not isinstance(item, dict) or any(not isinstance(inner, str) for inner in item.values()):
        return id(item)
    return frozenset(item), item.get("reason"), item.get("state")


def merge(reports: Sequence[tuple[str, Report]]) -> dict[str, Any]:
    """One report for all shards. reports: (path, report). Raises IngestError when they do not belong together.

    Each file counts once, although the other shards set it aside. Conflicts between shards, such as one study in two
    of them, are found here.
    """
    latest = _latest(reports)
    shards = [report for _, report in latest]
    first = shards[0]
    for key in SAME:
        # A shard that ran again may have gone another way. Its older report must still be of the same run.
        looked_at = latest if key == "transport" else reports
        values = {report[key] for _, report in looked_at if report[key]}
        if len(values) > 1:
            raise IngestError(
                f"the reports differ in {key}: {', '.join(sorted(map(printable, values)))}; merge only the reports of "
                "one run"
            )
    _refuse_mixed_privacy(reports)
    sessions = [session for report in shards for session in report["sessions"]]
    aside = _set_aside(shards)
    absent = list(_absent(shards))
    is_whole = not absent and all(report.get("shard") for report in shards)
    gaps = (*not_taken(shards), *taken_twice(shards)) if is_whole else ()
    problems = [*_problems(shards), *_across(shards), *absent, *gaps, *_broken_off(latest)]
    totals: dict[str, Any] = {key: sum(report["totals"].get(key, 0) for report in shards) for key in SUMMED}
    totals |= {
        "set_aside": len(aside),
        "excluded": sum(one["reason"].startswith("excluded:") for one in aside),
        "files_seen": totals["planned"] + len(aside),
        "seconds": max(report["totals"].get("seconds", 0) for report in shards),
    }
    merged = {
        **first,
        **{key: next((report[key] for report in shards if report[key]), "") for key in SAME},
        "started": min(report["started"] for report in shards),
        "finished": max(report["finished"] for report in shards),
        "exit_code": _exit_code(shards, problems),
        "totals": totals,
        "sessions": sorted(sessions, key=lambda one: (one["project"], one["subject"], one["label"])),
        "set_aside": aside,
        "problems": problems,
        "merged": [{"path": printable(path), "shard": report.get("shard", "")} for path, report in reports],
    }
    for key in ("shard", "deidentification"):  # of the first shard alone
        merged.pop(key, None)
    if proof := _proof(shards):
        merged["proof"] = proof
    if deidentified := _deidentification(shards):
        merged["deidentification"] = deidentified
    return merged


def _refuse_mixed_privacy(reports: Sequence[tuple[str, Report]]) -> None:
    """Raises IngestError when not all shards were de-identified, or not in the same way.

    A report of a run that planned nothing tells nothing of it.
    """
    ways = {_way(report.get("deidentification")) for _, report in reports if report["totals"]["planned"]}
    if len(ways) > 1:
        told = ", ".join(sorted(map(printable, ways)))
        raise IngestError(f"the reports differ in deidentification: {told}; merge only the reports of one run")


def _way(block: Report | None) -> str:
    if not block:
        return "none"
    return f"profile {block['profile']} ({block['profile_sha256'][:8]}) with key {block['key_fingerprint'] or 'none'}"


def _deidentification(shards: Sequence[Report]) -> dict[str, Any]:
    """What was done in all shards. Empty when nothing was de-identified. A shard that planned nothing has no say."""
    working = [report for report in shards if report["totals"]["planned"]] or shards
    blocks = [report["deidentification"] for report in working if report.get("deidentification")]
    if not blocks:
        return {}
    actions: dict[str, Counter[str]] = defaultdict(Counter)
    counted: dict[str, Counter[str]] = {key: Counter() for key in ("refused", "restored", "returned")}
    not_searched: Counter[tuple[str, str]] = Counter()
    for block in blocks:
        for action, elements in block["actions"].items():
            actions[action].update(elements)
        for key, counter in counted.items():
            counter.update(block.get(key, {}))
        not_searched.update({(one["keyword"], one["why"]): one["objects"] for one in block["not_searched"]})
    return {
        **blocks[0],
        "objects": sum(block["objects"] for block in blocks),
        "blackened": sum(block["blackened"] for block in blocks),
        "actions": {action: dict(elements.most_common()) for action, elements in actions.items()},
        **{key: dict(counter.most_common()) for key, counter in counted.items() if counter or key in blocks[0]},
        "not_searched": [{"keyword": k, "why": why, "objects": n} for (k, why), n in not_searched.items()],
    }


def _proof(shards: Sequence[Report]) -> dict[str, Any]:
    """What was compared with the sent bytes, in all shards. Empty when no shard looked."""
    looks = [report["proof"] for report in shards if report.get("proof")]
    if not looks:
        return {}
    changed: Counter[str] = Counter()
    for look in looks:
        changed.update(look.get("changed", {}))
    return {
        "level": min((look["level"] for look in looks), key=PROOF_LEVELS.index),
        "read_back": sum(look.get("read_back", 0) for look in looks),
        "bytes": sum(look.get("bytes", 0) for look in looks),
        "skipped": [one for look in looks for one in look.get("skipped", ())],
        "changed": dict(changed.most_common()),
    }


def _latest(reports: Sequence[tuple[str, Report]]) -> list[tuple[str, Report]]:
    """The last report of each shard, which has several when it ran again. All must have the same number of shards."""
    by_shard: dict[str, tuple[str, Report]] = {}
    for path, report in sorted(reports, key=lambda one: str(one[1].get("finished"))):
        check_sums(path, report)
        shard = report.get("shard") or path
        if shard in by_shard:
            _refuse_another_tree(by_shard[shard], (path, report))
        by_shard[shard] = (path, report)
    counts = {report["shard"].partition("/")[2] for _, report in reports if report.get("shard")}
    if len(counts) > 1:
        raise IngestError(
            f"the reports are of runs with {' and of '.join(sorted(counts))} shards; merge the reports of one run"
        )
    return list(by_shard.values())


def check_sums(path: str, report: Report) -> None:
    """Checks the counts and the end of a report.

    Raises IngestError: a report that does not add up cannot be trusted.
    """
    try:
        totals = report["totals"]
        planned = sum(session["instances"] for session in report["sessions"])
        sums_up = totals["files_seen"] == totals["planned"] + totals["set_aside"]
        sums_up &= totals["planned"] == sum(totals[end] for end in ENDS) == planned
        sums_up &= totals["set_aside"] == len(report["set_aside"])
        if report["exit_code"] == Exit.OK:
            sums_up &= not totals["missing"] and not totals["failed"]
            sums_up &= all(session["verdict"] not in SPOILT for session in report["sessions"])
    except (KeyError, TypeError) as error:
        raise IngestError(
            f"{printable(path)} is not a complete report of xnat-ingest ({type(error).__name__})"
        ) from error
    if not sums_up:
        raise IngestError(f"{printable(path)} does not add up; was it edited? Run its command again")


def _refuse_another_tree(older: tuple[str, Report], newer: tuple[str, Report]) -> None:
    """Raises IngestError where a report would be passed over, although a later one of its shard is of other data."""
    roots = {report.get("root", "") for _, report in (older, newer)} - {""}
    told = {key for one in newer[1]["sessions"] for key in _marks(one)}
    gone = [one["label"] for one in older[1]["sessions"] if told.isdisjoint(_marks(one))]
    if newer[1]["exit_code"] in BROKEN_OFF:
        gone = []  # it may have ended before it knew its sessions
    if len(roots) < 2 and not gone:
        return
    names = " and ".join(printable(path) for path, _ in (older, newer))
    few = ", ".join(map(printable, gone[:5])) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
    why = f"of different ROOTs ({', '.join(sorted(map(printable, roots)))})"
    if len(roots) < 2:
        why = f"and the later one lacks sessions of the earlier one ({few})"
    raise IngestError(
        f"{names} are both of shard {printable(newer[1].get('shard', ''))}, {why}; merge only the reports of one run. "
        "If both are of one tree, leave the earlier one out"
    )


def _marks(session: Report) -> tuple[object, object]:
    """What a session can be known by in another report: its study, or its label."""
    return session["study_uid"], (session["project"], session["label"])


def _set_aside(shards: Sequence[Report]) -> list[dict[str, Any]]:
    """Each file set aside, once. A file that every shard left to another one was not sent, and stays in the list."""
    mine: dict[tuple[str, str], dict[str, Any]] = {}
    left: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for report in shards:
        for one in report["set_aside"]:
            if one["reason"] == OTHER_SHARD:
                left[one["path"]].append(one)
            else:
                mine[one["path"], one["reason"]] = one
    kept = {path for path, _ in mine}
    nobody = [entries[0] for path, entries in left.items() if len(entries) == len(shards) and path not in kept]
    return sorted((*mine.values(), *nobody), key=lambda one: (one["path"], one["reason"]))


def _problems(shards: Sequence[Report]) -> Iterator[dict[str, Any]]:
    seen: dict[str, dict[str, Any]] = {}
    number: dict[str, int] = defaultdict(int)
    for report in shards:
        for problem in report["problems"]:
            key = json.dumps(problem, sort_keys=True)
            seen[key] = problem
            number[key] += 1
    for key, problem in seen.items():
        if problem["kind"] not in ONLY_TOGETHER or number[key] == len(shards):
            yield problem


def _across(shards: Sequence[Report]) -> Iterator[dict[str, Any]]:
    """Conflicts that no single shard could see, as one run would find them: one study, or one label, in two shards."""
    studies: dict[tuple[str, str], list[tuple[int, Report]]] = defaultdict(list)
    labels: dict[tuple[str, str], list[tuple[int, Report]]] = defaultdict(list)
    for number, report in enumerate(shards):
        for session in report["sessions"]:
            for study in _studies(session):
                studies[session["project"], study].append((number, session))
            if not session["label"].startswith(NO_LABEL):
                labels[session["project"], session["label"].casefold()].append((number, session))
    for found in _in_two(studies):
        yield _problem("split-study", "one study is in several session folders", found)
    for found in _in_two(labels):
        yield _problem("label-collision", "several shards have a session with this label", found)


def _studies(session: Report) -> set[str]:
    """All studies of which a session has images. In a folder with two of them, the session is named after one."""
    return {session["study_uid"], *(scan.get("study_uid", "") for scan in session["scans"])} - {""}


def _in_two(groups: Mapping[tuple[str, str], Sequence[tuple[int, Report]]]) -> Iterator[list[Report]]:
    """The sessions of each group that is in more than one shard. What is in one, that shard has told."""
    for found in groups.values():
        if len({number for number, _ in found}) > 1:
            yield [session for _, session in found]


def _problem(kind: str, why: str, sessions: Sequence[Report]) -> dict[str, Any]:
    folders = few_of([f"{one['folder']} ({one['label']})" for one in sessions])
    return {"kind": kind, "detail": f"{why}: {folders}", "sessions": [one["label"] for one in sessions]}


def _absent(shards: Sequence[Report]) -> Iterator[dict[str, Any]]:
    """The shards without a report."""
    named = [report["shard"].partition("/") for report in shards if report.get("shard")]
    if named:
        there = {int(number) for number, _, _ in named}
        lacking = sorted(set(range(1, int(named[0][2]) + 1)) - there)
        if lacking:
            numbers = ", ".join(map(str, lacking[:20])) + (", ..." if len(lacking) > 20 else "")
            detail = f"no report of shard {numbers} of {named[0][2]}; their share is not proven"
            yield {"kind": "shard-absent", "detail": detail, "sessions": []}


def _broken_off(reports: Iterable[tuple[str, Report]]) -> Iterator[dict[str, Any]]:
    """The runs that a bug or a signal ended."""
    for path, report in reports:
        code = Exit(report["exit_code"])
        if code in BROKEN_OFF:
            why = BROKEN_OFF[code]
            detail = f"the run of {printable(path)} {why} (exit {code}). Run its command again, then merge again"
            yield {"kind": "run-failed", "detail": detail, "sessions": []}


def _exit_code(shards: Sequence[Report], problems: Iterable[Report]) -> int:
    """The strongest code.

    Temporary and refused mean that nothing was delivered. If one shard is done, it is partial. What broke off a run
    did not break off the joining, so that is partial, too.
    """
    codes = {Exit(report["exit_code"]) for report in shards}
    if codes & BROKEN_OFF.keys():
        codes = codes - BROKEN_OFF.keys() | {Exit.PARTIAL}
    if any(problem["kind"] in ("split-study", "label-collision", "shard-absent", NOT_TAKEN) for problem in problems):
        codes.add(Exit.PARTIAL)
    delivered = any(
        session["verdict"] in ("verified", "counted") for report in shards for session in report["sessions"]
    )
    if delivered and codes & {Exit.TEMPORARY, Exit.REFUSED}:
        codes = codes - {Exit.TEMPORARY, Exit.REFUSED} | {Exit.PARTIAL}
    if any(problem["kind"] == EMPTY_SHARD for problem in problems):  # of all shards
        codes.add(Exit.NOTHING)
    if Exit.NOTHING in codes and delivered:
        codes.discard(Exit.NOTHING)
    return int(next((code for code in PRECEDENCE if code in codes), Exit.FAILED))
