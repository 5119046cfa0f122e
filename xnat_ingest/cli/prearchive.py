"""`xnat-ingest prearchive`: lists, archives, deletes, rebuilds or moves prearchive sessions, or waits for them."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from xnat_ingest.cli.output import warn
from xnat_ingest.commands.prearchive import actions as staging
from xnat_ingest.commands.prearchive.actions import ActionContext, done_before
from xnat_ingest.commands.prearchive.archive_before import ArchiveBefore
from xnat_ingest.commands.prearchive.outcomes import ActionOutcome, total
from xnat_ingest.commands.prearchive.selection import (
    STATUSES,
    Listed,
    Selection,
    project_id,
    select,
    waiting_sessions,
    with_logs,
)
from xnat_ingest.core import Exit, UsageError, count_of, printable
from xnat_ingest.planning.labels import require_legal
from xnat_ingest.settings.layers import credentials, refuse_empty, resolve, unverified_server
from xnat_ingest.settings.options import Settings
from xnat_ingest.xnat.client import client_of
from xnat_ingest.xnat.prearchive import PrearchiveSession
from xnat_ingest.xnat.retry_policy import RetryPolicy

# The actions that only read. They may select several sessions.
_READING = ("list", "wait")
_COLUMNS = ("project", "subject", "label", "status", "timestamp", "folder", "touched")
_TIMESTAMP = re.compile(r"\d{8}_\d{6}(\d{3})?")


def prearchive(given: dict[str, Any], environ: Mapping[str, str]) -> int:
    settings = resolve("prearchive", given, environ)
    refuse_empty(settings, environ)
    selection = _selection(given, settings.project)
    login = credentials(settings, environ)
    warn(unverified_server(settings, login.server))
    retry_policy = RetryPolicy(settings.retry_budget, say=warn)
    rest = client_of(settings, login, retry_policy)

    def say(line: str) -> None:
        if not settings.quiet:
            print(line, file=sys.stderr)

    with closing(rest):
        rest.login()
        try:
            return int(
                _run(ActionContext(rest, retry_policy, given.get("limit", 0.0), say), given, selection, settings)
            )
        except KeyboardInterrupt:
            print(
                "xnat-ingest: interrupted; the server finishes the last request (see `prearchive list`). Run the same "
                "command again to go on",
                file=sys.stderr,
            )
            raise


def _selection(given: Mapping[str, Any], project: str) -> Selection:
    """The selection that the words describe. Raises UsageError."""
    action, words = given["action"], given["row"]
    for name in ("subject", "label"):
        if given.get(name):
            require_legal(given[name], f"--{name}")
    statuses = _statuses(given["status"])
    if given["all"] and words:
        raise UsageError("--all cannot be combined with LABEL or TIMESTAMP FOLDER; give one or the other")
    if not (words or given["all"] or action == "list"):
        raise UsageError(
            f"prearchive {action}: name the sessions: LABEL, TIMESTAMP FOLDER (see prearchive list), or --all"
        )
    if given["all"] and action not in _READING and not (project or statuses):
        raise UsageError(
            "--all would take every session of the site that you can see; also give -P PROJECT or --status"
        )
    if given["all"] and given.get("label"):
        raise UsageError("--label is for one session; with --all each session keeps its label")
    if len(words) > 2 or (len(words) == 2 and not _TIMESTAMP.fullmatch(words[0])):
        raise UsageError("give LABEL, or TIMESTAMP (such as 20240131_101112000) and FOLDER; see prearchive list")
    if len(words) == 2:
        return Selection(timestamp=words[0], folder=words[1], statuses=statuses)
    return Selection(label=words[0] if words else "", statuses=statuses)


def _statuses(given: Sequence[str]) -> frozenset[str]:
    words = {word.strip().upper() for text in given for word in text.split(",")}
    if unknown := sorted(words - set(STATUSES)):
        raise UsageError(f"--status {unknown[0] or 'without a word'}: the statuses are {', '.join(STATUSES)}")
    return frozenset(words)


def _run(desk: ActionContext, given: Mapping[str, Any], selection: Selection, settings: Settings) -> Exit:
    action, rest = given["action"], desk.rest
    changes = action not in _READING
    project = project_id(rest, settings.project, to_change=changes) if settings.project else ""
    target = project_id(rest, given["to_project"], to_change=True) if action == "move" else ""
    before = ArchiveBefore(rest)
    if project and action in ("archive", "wait"):
        before.list_sessions([project])  # first, so that what leaves the prearchive from now on is seen to come
    found = waiting_sessions(rest, project, columns=action == "list" and given["as_json"])
    missing = Exit.FAILED
    if not selection.is_all and not any(selection.names(one.entry) for one in found):
        missing = Exit.PARTIAL if action == "archive" else Exit.FAILED
        named_by_label = (
            action in ("archive", "wait") and selection.label
        )  # an archived session does not have the timestamp
        label = (given.get("label") or selection.label) if named_by_label else ""
        if outcome := done_before(rest, project, selection, label, target, given.get("subject", "")):
            return total(_tell([outcome]))
    chosen = select(found, selection, project, several=not changes, missing=missing)
    if action == "list":
        _show(with_logs(rest, chosen), as_json=given["as_json"])
        return Exit.OK
    if not chosen:
        print(f"no session{selection.title or ''} in the prearchive: nothing to {action}")
        return Exit.OK
    if action == "delete" and not given["yes"]:
        _show(chosen)
        what = count_of(len(chosen), "session")
        print(f"nothing was deleted; add --yes to delete {what} with all files", file=sys.stderr)
        return Exit.USAGE
    return total(_tell(_outcomes(desk, given, project, target, chosen, before)), waited=action == "wait")


def _outcomes(
    desk: ActionContext,
    given: Mapping[str, Any],
    project: str,
    target: str,
    chosen: Iterable[Listed],
    before: ArchiveBefore,
) -> Iterator[ActionOutcome]:
    rows = [one.entry for one in chosen]
    if given["action"] in ("archive", "delete", "wait"):
        before.list_sessions({entry.project for entry in rows})
    if given["action"] == "wait":
        yield from staging.wait(desk, project, rows, before)
        return
    actions: dict[str, Callable[[ActionContext, PrearchiveSession], ActionOutcome]] = {
        "archive": partial(
            staging.archive, before=before, subject=given.get("subject", ""), label=given.get("label", "")
        ),
        "delete": partial(staging.delete, before=before),
        "rebuild": staging.rebuild,
        "move": partial(staging.move, target=target),
    }
    for entry in rows:
        yield staging.act(desk, entry, actions[given["action"]])


def _tell(outcomes: Iterable[ActionOutcome]) -> list[ActionOutcome]:
    """Prints each outcome at once, because the rest may be interrupted."""
    told = []
    for outcome in outcomes:
        print(f"{outcome.word:9} {outcome.title}{f': {outcome.detail}' if outcome.detail else ''}", flush=True)
        told.append(outcome)
    return told


def _show(found: Sequence[Listed], *, as_json: bool = False) -> None:
    if as_json:
        # One by one: the text of all sessions takes more memory than they do.
        for number, each in enumerate(found):
            print("," if number else "[")
            print(textwrap.indent(json.dumps({**each.columns, "log": each.log}, indent=2), "  "), end="")
        print("\n]" if found else "[]")
        return
    if not found:
        print("no sessions")
        return
    cells = [[printable(getattr(one.entry, column)) for column in _COLUMNS] for one in found]
    head = [column.upper() if column != "touched" else "LASTMOD" for column in _COLUMNS]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    for one, line in zip((None, *found), (head, *cells), strict=True):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if one and one.log:
            print(f"  log: {printable(one.log)}")
