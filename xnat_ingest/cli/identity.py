"""`xnat-ingest identity`: what in a tree identifies the patients; also makes new keys for --deidentify."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from typing import Any

from xnat_ingest.cli.arguments import NEW_KEY
from xnat_ingest.core import Exit, SetAside, UsageError, printable
from xnat_ingest.deidentify.identity import Findings, survey_identity
from xnat_ingest.deidentify.pseudonyms import new_key
from xnat_ingest.inputs import open_source
from xnat_ingest.planning.labels import LAYOUTS


def identity(given: dict[str, Any]) -> int:
    if given["root"] == NEW_KEY:
        return _new_key(given["file"])
    if given["file"]:
        raise UsageError(f"one ROOT at a time; {given['file']} is a second (did you mean {NEW_KEY} {given['file']}?)")
    if given["show_values"] and (given["json"] or not sys.stdout.isatty()):
        raise UsageError("--show-values shows who the patients are: it works only on a terminal, and without --json")
    total, sessions = _survey(given["root"], given["layout"])
    if given["json"]:
        document = {"all": total.as_json(), "sessions": {printable(k): f.as_json() for k, f in sessions.items()}}
        print(json.dumps(document, indent=1))
    else:
        for line in _lines(total, sessions, given["show_values"]):
            print(line)
    if not total.objects and not total.unreadable:
        return int(Exit.NOTHING)
    return int(Exit.PARTIAL if total.identifying or total.unreadable else Exit.OK)


def _new_key(path: str) -> int:
    if not path:
        raise UsageError(f"{NEW_KEY} needs a FILE to write the key to")
    new_key(path)
    print(f"wrote a new key to {printable(path)}; keep it: later uploads of the same study need it")
    return int(Exit.OK)


def _survey(root: str, layout: str) -> tuple[Findings, dict[str, Findings]]:
    depth = len(LAYOUTS[layout])
    total, sessions = Findings(), defaultdict[str, Findings](Findings)
    for session, seen in survey_identity(open_source(root, depth), depth):
        for findings in (total, sessions[session]):
            if isinstance(seen, SetAside):
                findings.miss(seen.detail or seen.reason)
            else:
                findings.add(seen)
    return total, dict(sorted(sessions.items()))


def _lines(total: Findings, sessions: dict[str, Findings], show_values: bool) -> list[str]:
    out = []
    for name, findings in (*sessions.items(), ("in all", total)):
        out.append(f"{printable(name)}: {findings.identifying} of {findings.objects} objects identify the patient")
        rows = [(keyword, n, f"{len(findings.values[keyword])} values") for keyword, n in findings.elements.items()]
        rows += [(f"private elements of {creator}", n, "") for creator, n in findings.private.items()]
        rows += [(f"{place}, which repeats {keyword}", n, "") for (place, keyword), n in findings.texts.items()]
        rows += [(why, n, "") for why, n in findings.risks.items()]
        rows += [("names of files and folders", findings.named, "")] if findings.named else []
        rows += [(f"cannot be read: {why}", n, "") for why, n in findings.reasons.items()]
        for what, number, values in sorted(rows):
            out.append(f"  {printable(what):<60} {number:>7} objects  {values}".rstrip())
            if show_values and what in findings.values:
                out += [f"      {printable(value)}" for value in sorted(findings.values[what])]
    return out
