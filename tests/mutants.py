"""Small changes to the code that tests must notice: `make mutants`, or `python -m tests.mutants --sample 40 retrying`.

Each mutant changes one place of a copy of the repository (a comparison, a number, an `and`, a word, a return value, a
statement that is dropped), and the tests that are named for its module run until one of them fails. A mutant that
lets all of them pass has survived: pin it with a test, or say in CONTRIBUTING why it may live.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "xnat_ingest"
COPIED = (PACKAGE, "tests", "docs", "pyproject.toml", "command.json", "README.md")
THRESHOLDS = "tests/unit/test_delivery_thresholds.py"
DECISION = "tests/unit/test_decision.py"
STATES = "tests/unit/test_delivery_states.py"
EXISTING = ("tests/contract/test_existing.py", "tests/contract/test_existing_prearchive.py")
TESTS: dict[str, tuple[str, ...]] = {
    "core/stored_name.py": ("tests/unit/test_naming.py",),
    "core/text.py": ("tests/unit/test_naming.py", "tests/unit/test_label_sheet.py", "tests/unit/test_plan.py"),
    "delivery/decision.py": (DECISION, STATES, THRESHOLDS, *EXISTING, "tests/contract/test_existing_merge.py"),
    "delivery/sending.py": (
        DECISION,
        THRESHOLDS,
        "tests/contract/test_delivery_care.py",
        "tests/contract/test_faults.py",
    ),
    "delivery/totals.py": ("tests/contract/test_totals.py", DECISION),
    "delivery/verdicts.py": (
        DECISION,
        STATES,
        THRESHOLDS,
        "tests/contract/test_totals.py",
        *EXISTING,
        "tests/contract/test_overwrite.py",
    ),
    "transports/concurrency.py": ("tests/unit/test_retry_policy.py", "tests/unit/test_retrying.py"),
    "transports/retrying.py": ("tests/unit/test_retrying.py",),
    "xnat/archive.py": (DECISION, THRESHOLDS, *EXISTING, "tests/contract/test_unlisted.py"),
    "xnat/retry_policy.py": ("tests/unit/test_retry_policy.py", "tests/unit/test_retrying.py"),
}
WATCHED = "test_a_commit_that_a_proxy_gives_up_on_is_watched_before_it_is_repeated"
# What once survived the whole suite, word for word: module, what is there, what is put there, tests (files or tests of
# them, separated by blanks).
NAMED = (
    ("xnat/archive.py", "// 2", "// 8", THRESHOLDS),
    ("delivery/prearchive_session.py", "is_usual = usual[change[instance.sop_uid]] > 2",
     "is_usual = usual[change[instance.sop_uid]] > 1", THRESHOLDS),
    ("delivery/session_type.py", '    "xnat:usSessionData": ("US",),\n', "", THRESHOLDS),
    ("delivery/commit.py", "(0, 502, 504)", "(0,)", f"tests/contract/test_delivery_care.py::{WATCHED}"),
    ("transports/retrying.py", "history.resets >= 2", "history.resets >= 3", "tests/unit/test_retrying.py"),
    ("xnat/prearchive.py", "self.subject.casefold() == session.subject.casefold()", "self.subject == session.subject",
     THRESHOLDS),
    ("delivery/context.py", "KNOWN_AGE = 20.0", "KNOWN_AGE = 1e9", THRESHOLDS),
    ("delivery/sending.py", "(self.session.project)}/", "(self.session.project)}", THRESHOLDS),
)  # fmt: skip
TOTALS = "tests/contract/test_totals.py"
RETRYING = "tests/unit/test_retrying.py"
POLICY = "tests/unit/test_retry_policy.py"
NAMING = "tests/unit/test_naming.py"
DOCUMENTS = "tests/unit/test_documents.py"
STORED = f"{DECISION} {THRESHOLDS}"
WHOSE = "tests/contract/test_whose_files.py"
CHOSEN_OF_EXISTING = (
    "test_decision", "test_causes_that_pass_are_told_from_others",
    "test_a_doubtful_copy_is_not_there_even_if_it_was_counted",
)  # fmt: skip
DECISIONS = " ".join((STORED, STATES, *(f"{EXISTING[0]}::{name}" for name in CHOSEN_OF_EXISTING)))
MISSING = "tests/contract/test_images_missing.py"
DIRECT = "tests/contract/test_direct.py"
# More, chosen by hand: each is a lie, a loss or a second copy in the making.
CHOSEN = (
    ("delivery/deliver.py", "return self.send if state.sessions else self.finish_what_came_directly",
     "return self.send", DIRECT),
    ("delivery/prearchive_session.py", "else found.counted & usual", "else frozenset()",
     "tests/contract/test_existing_prearchive.py"),
    ("delivery/sending.py", "opener = None if self.uri else", "opener = None if True else",
     "tests/contract/test_direct.py"),
    ("delivery/sending.py", "(type_of([i]) != whole, i.sop_uid in moving,", "(type_of([i]) != whole, False,",
     THRESHOLDS),
    ("xnat/scan_ids.py", "instance.sop_class not in PRIMARY and received_in", "False and received_in", THRESHOLDS),
    ("delivery/known_subjects.py", "or any(map(self._is_archived, sessions))", "", "tests/contract/test_identity.py"),
    ("commands/nifti/run.py", "known)\n        if mine.is_repaired and mine.subject in self._there",
     "known)\n        if False", "tests/contract/test_nifti_troubles.py"),
    ("delivery/same_number.py", "(there in scans[series[1]] and scans[series[1]] != {scan})", "False",
     "tests/unit/test_same_number.py"),
    ("delivery/same_number.py", "other[1] == series[1] or (there", "(there", "tests/unit/test_same_number.py"),
    ("xnat/archive.py", "return in_header != owner if in_header else", "return True if in_header else",
     "tests/contract/test_whose_files.py"),
    ("delivery/known_subjects.py", "if session.repaired and self._strangers(session, listed):", "if session.repaired:",
     "tests/contract/test_made_meanwhile.py"),
    ("inputs/dicomdir.py", "bool(self._fits) or key.startswith(self._own)", "True", "tests/contract/test_dicomdir.py"),
    ("delivery/decision.py", "done = replaced - doubtful if mode", "done = archive.seen if mode", DECISIONS),
    ("delivery/deliver.py", "self._own.copies.pop(entry.uri, None)", "pass", "tests/contract/test_overwrite.py"),
    ("delivery/decision.py", "archive.verified - doubtful", "archive.verified", DECISIONS),
    ("delivery/decision.py", "archive.counted - doubtful", "archive.counted", DECISIONS),
    ("delivery/decision.py", "return any(text in log", "return all(text in log", DECISIONS),
    ("delivery/decision.py", "len(state.entries) > 1", "len(state.entries) > 2", DECISIONS),
    ("delivery/decision.py", "entry.status in STUCK and not", "entry.status in STUCK and", DECISIONS),
    ("delivery/decision.py", "known.subject.casefold() != session.subject.casefold()",
     "known.subject != session.subject", DECISIONS),
    ("delivery/decision.py", "not archive.other_names or state.template", "not archive.other_names", DECISIONS),
    ("delivery/decision.py", '{"PT", "MR"} <= modalities', '{"PT", "MR"} < modalities', DECISIONS),
    ("delivery/decision.py", "len(archive.verified) == len(session.instances)", "bool(archive.verified)", DECISIONS),
    ("delivery/decision.py", "if entry.is_receiving:", "if not entry.is_receiving:", DECISIONS),
    ("delivery/deliver.py", "            self._refuse_lost_modality(lacking)\n", "", MISSING),
    ("delivery/deliver.py", "if not (company := self._company_instead()):", "if not (company := ()):", MISSING),
    ("delivery/deliver.py", "return failed | doubtful\n", "return failed\n", MISSING),
    (
        "delivery/prearchive_session.py",
        "        self.sending.disturbed |= not self.sending.ignored <= self._sent_again\n",
        "",
        MISSING,
    ),
    (
        "report/saved.py",
        "            _refuse_another_tree(by_shard[shard], (path, report))\n",
        "            pass\n",
        "tests/unit/test_shards.py",
    ),
    (
        "planning/plan_file.py",
        "        sessions = _with_kept_conflicts(sessions, ",
        "        sessions = (lambda one, *_: one)(sessions, ",
        "tests/contract/test_planfile.py",
    ),
    ("delivery/session_type.py", "and type_of(s.instances) in _OF_OTHERS", "", MISSING),
    ("delivery/session_type.py", "if aside.is_problem:", "if True:", MISSING),
    ("delivery/direct_archive.py", "    context.prearchive_entries(session.project, fresh=True)\n", "", DIRECT),
    ("xnat/prearchive.py", '"direct-archive" in log', "False", DIRECT),
    ("xnat/archive.py", "len(sizes) != len(left)", "len(sizes) < len(left)", STORED),
    ("xnat/archive.py", "min(file.size, sizes", "max(file.size, sizes", STORED),
    ("xnat/archive.py", "doubled.add(file.name)", "pass", STORED),
    ("xnat/archive.py", "size >= least[fitting]", "size > least[fitting]", STORED),
    ("xnat/archive.py", "sorted(map(least_size, left))", "list(map(least_size, left))", STORED),
    ("xnat/archive.py", "in read.items()", "in ()", WHOSE),
    ("xnat/archive.py", "files_held.reads_all or", "", WHOSE),
    ("xnat/archive.py", "and one != instance.name]", "]", WHOSE),
    ("delivery/deliver.py", "self.prearchived.was_joined or", "", WHOSE),
    ("xnat/stored_uids.py", "error.status == 403", "False", WHOSE),
    ("delivery/prearchive_session.py", " + renumbering(i, name)", "", WHOSE),
    ("delivery/decision.py", "bool(taken) and taken.isdisjoint(names)", "bool(taken) and not names", WHOSE),
    ("xnat/archive.py", "if was_built(one, number)}", "}", WHOSE),
    ("xnat/archive.py", "if not file.received:", "if False:", "tests/contract/test_other_resources.py"),
    ("delivery/decision.py", "usable -= moved", "pass", "tests/contract/test_existing_merge.py"),
    ("xnat/documents.py", "found[part].casefold() != asked[part].casefold()", "False", DOCUMENTS),
    ("xnat/archive.py", "size < least_size(instance):", "size <= least_size(instance):", STORED),
    ("xnat/archive.py", 'found[self._uids.get(scan, "")] += files',
     'found[self._uids.get(scan, "")] = files', STORED),
    ("delivery/verdicts.py", "now.seen - frozenset(replaced)", "frozenset(replaced) - now.seen", STATES),
    ("delivery/verdicts.py", "why in refused.items() if uid not in now.seen", "why in refused.items()", STATES),
    ("delivery/verdicts.py", "(prearchived.counted | archived.counted) - verified",
     "prearchived.counted | archived.counted", STATES),
    ("delivery/verdicts.py", "verified, counted = before.verified - sent, before.counted - sent",
     "verified, counted = before.verified, before.counted", STATES),
    ("transports/retrying.py", "history.blamed != culprit.name", "history.blamed == culprit.name", RETRYING),
    ("transports/retrying.py", "part.bytes >= self._limit", "part.bytes > self._limit", RETRYING),
    ("xnat/retry_policy.py", "LONGEST_TROUBLE = 3600.0", "LONGEST_TROUBLE = 3601.0", POLICY),
    ("xnat/retry_policy.py", "MOST_ATTEMPTS = 8", "MOST_ATTEMPTS = 9", POLICY),
    ("delivery/sending.py", "if error.dirty and self._direct:", "if False:", STORED),
    ("delivery/sending.py", "if receipt.disturbed or cut else", "if receipt.disturbed else", STORED),
    ("delivery/sending.py", "self.ignored -= taken | receipt.refused.keys()", "self.ignored -= taken", STORED),
    ("core/stored_name.py", "31 * (31 + _class_hash(sop_class))", "31 * _class_hash(sop_class)", NAMING),
    ("core/stored_name.py", '.lstrip(".")', "", NAMING),
    ("delivery/totals.py", "delivered |= verdict.word in", "delivered = verdict.word in", TOTALS),
    ("delivery/totals.py", "if any(problem.spoils for problem in plan.problems):", "if False:", DECISION),
)  # fmt: skip
COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
LEAST_LIMIT = 20.0  # seconds
TIMES_LONGER = 5


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    module: below the package
    line: of the change; 0 in a named one
    change: what was done, for people
    tests: files that must notice
    make: the whole module with the change
    """

    module: str
    line: int
    change: str
    tests: tuple[str, ...]
    make: Callable[[], str]


def mutants(module: str) -> list[Mutant]:
    """All small changes of one module, in the order of its lines."""
    text = (ROOT / PACKAGE / module).read_text("utf-8")
    tree = ast.parse(text)
    told = _told(tree)
    found = [
        Mutant(module, line, change, TESTS[module], partial(_changed, text, index, number))
        for index, node in enumerate(ast.walk(tree))
        for number, (change, _) in enumerate(_changes(node))
        if (line := getattr(node, "lineno", 0)) not in told
    ]
    return sorted(found, key=lambda one: one.line)


def _changed(text: str, index: int, number: int) -> str:
    """The module with one of the changes of its node of this index."""
    tree = ast.parse(text)
    target = next(node for at, node in enumerate(ast.walk(tree)) if at == index)
    _put(tree, target, _changes(target)[number][1])
    return ast.unparse(ast.fix_missing_locations(tree))


def named() -> list[Mutant]:
    """The changes of both tables above. One whose words are gone ends all: the tables must follow the code."""
    found = []
    for module, old, new, tests in (*NAMED, *CHOSEN):
        text = (ROOT / PACKAGE / module).read_text("utf-8")
        if text.count(old) != 1:
            sys.exit(f"{module} has {text.count(old)} times {old!r}: mend the table in tests/mutants.py")
        change = f"{old.strip()} -> {new or 'nothing'}"
        found.append(Mutant(module, 0, change, tuple(tests.split()), partial(text.replace, old, new)))
    return found


def _told(tree: ast.Module) -> set[int]:
    """Lines that say nothing to a running program: docstrings, imports, annotations of fields."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        is_doc = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        bare = isinstance(node, ast.AnnAssign) and node.value is None
        if isinstance(node, ast.stmt) and (is_doc or bare or isinstance(node, ast.Import | ast.ImportFrom)):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def _changes(node: ast.AST) -> list[tuple[str, ast.AST]]:
    """What can be put in a node's place."""
    was = ast.unparse(node)[:60].replace("\n", " ") if isinstance(node, ast.expr | ast.stmt) else ""
    made: list[ast.AST] = []
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and (other := COMPARED.get(type(node.ops[0]))):
        made.append(ast.Compare(node.left, [other()], node.comparators))
    elif isinstance(node, ast.BoolOp):
        made.append(ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        made.append(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        made.append(ast.Constant(not node.value))
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        made.append(ast.Constant(node.value + 1))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value and node.value:
        made.append(ast.Constant(node.value[:-1]))
    elif isinstance(node, ast.Return) and node.value is not None and was != "return None":
        made.append(ast.Return(ast.Constant(None)))
    elif isinstance(node, ast.Raise | ast.AugAssign) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        made.append(ast.Pass())
    return [(f"{was} -> {ast.unparse(new)[:60]}", new) for new in made]


def _put(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list) and any(one is old for one in value):
                value[:] = [new if one is old else one for one in value]


# -- running


def warm() -> None:
    """What tests and program import of others, once for all mutants."""
    import jsonschema  # noqa: F401
    import pydicom  # noqa: F401
    import pynetdicom  # noqa: F401
    import pytest  # noqa: F401
    import urllib3  # noqa: F401


def passes(folder: Path, tests: Sequence[str], limit: float) -> bool:
    """Whether the tests pass in the copy, within so many seconds."""
    child = os.fork()
    if child == 0:
        _run(folder, tests)
    until = time.monotonic() + limit
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _run(folder: Path, tests: Sequence[str]) -> None:
    """In the child: the tests of the copy with the copy's package, and an exit without tidying."""
    code = 1
    try:
        os.setsid()
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(folder)
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] in (PACKAGE, "tests")]:
            del sys.modules[name]
        import pytest

        words = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header"]
        code = int(pytest.main([*words, "--basetemp", str(folder / ".tmp"), *tests]))
    finally:
        os._exit(code)


@dataclass
class Results:
    """What became of the mutants."""

    killed: int = 0
    survived: int = 0

    def add(self, mutant: Mutant, survived: bool, seconds: float) -> None:
        self.killed += not survived
        self.survived += survived
        word = "SURVIVED" if survived else "killed"
        where = f"{mutant.module}:{mutant.line}" if mutant.line else mutant.module
        print(f"| {word} | {where} | `{mutant.change.replace('|', chr(92) + '|')}` | {seconds:.0f} s |", flush=True)


def trial(folder: Path, chosen: Sequence[Mutant]) -> Results:
    """Runs each mutant in the copy and prints a line of it."""
    results = Results()
    limits: dict[tuple[str, ...], float] = {}
    for mutant in chosen:
        place = folder / PACKAGE / mutant.module
        begun = time.monotonic()
        if mutant.tests not in limits:
            if not passes(folder, mutant.tests, 600.0):
                sys.exit(f"without any change, {' '.join(mutant.tests)} fail already")
            limits[mutant.tests] = max(LEAST_LIMIT, TIMES_LONGER * (time.monotonic() - begun))
            begun = time.monotonic()
        whole = place.read_bytes()
        place.write_text(mutant.make(), "utf-8")
        try:
            survived = passes(folder, mutant.tests, limits[mutant.tests])
        finally:
            place.write_bytes(whole)
        results.add(mutant, survived, time.monotonic() - begun)
    return results


def chosen_by(argv: Sequence[str] | None) -> list[Mutant]:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="words in the modules' names; all modules of the table when none")
    parser.add_argument("--sample", type=int, default=40, help="how many, drawn by chance; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--named", action="store_true", help="only those of the two tables")
    given = parser.parse_args(argv)
    first = named()
    if given.named:
        return first
    modules = [name for name in TESTS if not given.modules or any(word in name for word in given.modules)]
    drawn = list(_drawn(modules, given.sample, random.Random(given.seed)))
    return ([] if given.modules else first) + drawn


def _drawn(modules: Sequence[str], sample: int, chance: random.Random) -> Iterator[Mutant]:
    """As many of each module, whatever its size."""
    for number, module in enumerate(modules):
        of_module = mutants(module)
        share = len(of_module) if not sample else (sample + number) // len(modules)
        yield from sorted(chance.sample(of_module, min(share, len(of_module))), key=lambda one: one.line)


def main(argv: Sequence[str] | None = None) -> int:
    chosen = chosen_by(argv)
    warm()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        for one in COPIED:
            source = ROOT / one
            if source.is_dir():
                shutil.copytree(source, folder / one, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / one)
        print("| | where | change | |\n|---|---|---|---|", flush=True)
        results = trial(folder, chosen)
    print(f"\n{results.killed} of {len(chosen)} were killed, {results.survived} survived.")
    return 1 if results.survived else 0


if __name__ == "__main__":
    sys.exit(main())
