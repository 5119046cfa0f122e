"""`--strict`: no file may be left out without a rule of the user."""

from __future__ import annotations

from collections import Counter

from xnat_ingest.core import OTHER_SHARD, Plan, Problem, SetAside, printable
from xnat_ingest.inputs.system_names import is_junk, is_known_system_folder

# What the user asked for (a rule, --existing skip, --shard), and what is sent in another way.
_ASKED_FOR = frozenset({"excluded", "session-exists", OTHER_SHARD, "dicomdir"})


def without_a_rule(plan: Plan) -> Problem | None:
    """The problem of files that were set aside without a rule. Junk that operating systems leave does not count."""
    stray = [aside for aside in plan.set_aside if not _is_asked_for(aside)]
    if not stray:
        return None
    reasons = Counter(aside.reason.partition(":")[0] for aside in stray)
    words = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
    text = f"--strict: {len(stray)} files are left out without a rule of yours ({words})"
    return Problem("strict", f"{text}; the first is {printable(stray[0].path)}", spoils=True)


def _is_asked_for(aside: SetAside) -> bool:
    *folders, name = aside.path.split("/")
    known = any(map(is_known_system_folder, (*folders, name) if aside.reason == "system-folder" else folders))
    return aside.reason.partition(":")[0] in _ASKED_FOR or known or (aside.reason == "not-dicom" and is_junk(name))
