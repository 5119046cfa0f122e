"""The report file: every session, every file set aside, and every instance that is not proven, with the reason.

The only header values in it are UIDs, modalities and series descriptions.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from xnat_ingest.core import IngestError, Instance, Outcome, Problem, Result, printable
from xnat_ingest.core.about import __version__
from xnat_ingest.core.atomic_file import replacing
from xnat_ingest.core.secrets import harmless, redact

# How many sessions of a problem each of them names. The run's own list of problems names all.
_FEW = 10


def write(path: str, result: Result, *, mode: int = 0o600) -> None:
    """Writes the report, completely or not at all. Raises IngestError."""
    write_document(path, document(result), mode=mode)


def write_document(path: str, report: Mapping[str, Any], *, mode: int = 0o600) -> None:
    """The same for a report that already consists of JSON values."""
    try:
        with replacing(path, mode) as stream:
            json.dump(report, stream, indent=1)
            stream.write("\n")
    except OSError as error:
        raise IngestError(f"the report could not be written to {path}: {error.strerror}") from error


def document(result: Result) -> dict[str, Any]:
    """The report as JSON values (docs/design.md, section 2.3)."""
    found = {
        "schema": 1,
        "tool": {"name": "xnat-ingest-container", "version": __version__},
        "command": result.command,
        "started": result.started,
        "finished": result.finished,
        "exit_code": result.exit_code,
        **({"root": printable(result.root)} if result.root else {}),
        "server": result.server,
        "project": result.plan.project,
        "destination": result.destination,
        "transport": result.transport,
        "totals": dict(result.totals),
        "sessions": [_session(outcome, result.command) for outcome in result.outcomes],
        "set_aside": [
            {"path": printable(aside.path), "reason": printable(aside.reason), "detail": redact(aside.detail)}
            for aside in result.plan.set_aside
        ],
        "problems": [_problem(one, one.sessions) for one in result.problems],
        **({"deidentification": dict(result.deidentification)} if result.deidentification else {}),
        **({"proof": _proof(result)} if result.proof else {}),
        **({"launch": dict(result.launch)} if result.launch else {}),
        **({"shard": result.shard} if result.shard else {}),
    }
    return {key: harmless(value) for key, value in found.items()}


def _proof(result: Result) -> dict[str, Any]:
    """How the run checked the server: for how many instances the stored bytes were compared with the sent ones."""
    looks = [(o.session.label, o.verdict.read_back) for o in result.outcomes if o.verdict.read_back]
    changed: Counter[str] = Counter()
    for _, look in looks:
        changed.update(look.changed)
    return {
        "level": result.proof,
        "read_back": sum(look.instances for _, look in looks),
        "bytes": sum(look.bytes for _, look in looks),
        "skipped": [
            {"session": label, "instances": number, "why": why}
            for label, look in looks
            for why, number in look.skipped.items()
        ],
        "changed": dict(changed.most_common()),
    }


def _session(outcome: Outcome, command: str) -> dict[str, Any]:
    session, verdict = outcome.session, outcome.verdict
    return {
        "project": session.project,
        "subject": session.subject,
        "label": session.label,
        "folder": printable(session.folder),
        "study_uid": session.study_uid,
        "uri": verdict.uri,
        "verdict": verdict.word,
        "instances": len(session.instances),
        "bytes": session.bytes,
        "attempts": outcome.attempts,
        "scans": _scans(outcome),
        "missing": sorted(verdict.missing),
        "unproven": [] if command == "plan" else _unproven(outcome),
        "problems": [_problem(one, _few_of(session.label, one.sessions)) for one in verdict.problems],
        "began": round(outcome.began, 3),
        "seconds": round(outcome.seconds, 3),
    }


def _few_of(label: str, sessions: Sequence[str]) -> Sequence[str]:
    """The sessions of a problem as one of them names them: if there are very many, only a few of the others."""
    if len(sessions) <= _FEW:
        return sessions
    return [label, *[one for one in sessions[:_FEW] if one != label][: _FEW - 1]]


def _scans(outcome: Outcome) -> list[dict[str, Any]]:
    series: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    look = outcome.verdict.read_back
    for instance in outcome.session.instances:
        series[instance.series_uid, instance.study_uid].append(instance)
    return [
        {
            "id": members[0].series_number,
            "series_uid": uid,
            "study_uid": study,
            "folder": _folder(members),
            "description": printable(members[0].series_description),
            "modality": members[0].modality,
            "instances": len(members),
            "verified": sum(i.sop_uid in outcome.verdict.verified for i in members),
            **({"read_back": look.series.get(uid, 0)} if look else {}),
        }
        for (uid, study), members in series.items()
    ]


def _folder(members: Sequence[Instance]) -> str:
    """The deepest folder below ROOT that holds all files of a series."""
    return printable(posixpath.commonpath({posixpath.dirname(i.path) for i in members}) or ".")


def _unproven(outcome: Outcome) -> list[dict[str, str]]:
    verdict = outcome.verdict
    states = {"missing": verdict.missing, "failed": verdict.failed, "unverified": verdict.unverified}
    return [
        {"sop_uid": i.sop_uid, "path": printable(i.path), "state": state, "why": redact(reasons[i.sop_uid])}
        for i in outcome.session.instances
        for state, reasons in states.items()
        if i.sop_uid in reasons
    ]


def _problem(problem: Problem, sessions: Sequence[str]) -> dict[str, Any]:
    return {
        "kind": problem.kind,
        "detail": redact(problem.detail),
        "sessions": list(sessions),
        **({"spoils": True} if problem.spoils else {}),
        **({"fix": redact(problem.fix)} if problem.fix else {}),
    }
