"""DICOMDIR media: the directory is never sent, but it lists the files that should exist (PS3.10, 8; PS3.3, F)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from xnat_ingest.core import Plan, Problem, printable
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.directory_records import referenced_files
from xnat_ingest.inputs.source import go_on

SHOWN = 5
# Both the reason for setting aside a directory that lists absent files, and the kind of the problem.
ABSENT = "dicomdir-absent"


def check_dicomdirs(plan: Plan, source: Source, check_stop: Callable[[], None] = go_on) -> Plan:
    """Adds a problem to the plan for each directory that lists absent files: the medium was copied only in part.

    Adds a note about files that a directory does not list.
    """
    directories = [aside.path for aside in plan.set_aside if aside.reason == "dicomdir"]
    if not directories:
        return plan
    instances = {i.path for session in plan.sessions for i in session.instances}
    present = instances | {aside.path for aside in plan.set_aside}
    there = {_key(path) for path in present}
    problems: list[Problem] = []
    incomplete: dict[str, str] = {}
    for path in directories:
        found = list(_compare(path, source, there, instances, directories, check_stop))
        problems += found
        incomplete.update((path, problem.detail) for problem in found if problem.kind == ABSENT)
    asides = (
        replace(one, reason=ABSENT, detail=incomplete[one.path]) if one.path in incomplete else one
        for one in plan.set_aside
    )
    return replace(plan, set_aside=tuple(asides), problems=(*plan.problems, *problems))


def _compare(
    directory: str,
    source: Source,
    there: set[str],
    instances: set[str],
    directories: list[str],
    check_stop: Callable[[], None],
) -> Iterator[Problem]:
    folder = directory.rpartition("/")[0]
    named = referenced_files(source, directory, check_stop)
    if named is None:
        yield Problem("dicomdir-unreadable", f"{printable(directory)} cannot be read, so nothing was compared with it")
        return
    wanted = _wanted(folder, named, there)
    absent = sorted(path for key, path in wanted.items() if key not in there)
    if absent:
        detail = f"{printable(directory)} lists {len(absent)} files that do not exist: {_some(absent)}"
        yield Problem(ABSENT, f"{detail}; the medium was only partly copied: copy it again")
    nested = [other.rpartition("/")[0] for other in directories if other != directory]
    mine = (path for path in instances if not folder or path.startswith(f"{folder}/"))
    mine = (path for path in mine if not any(n != folder and path.startswith(f"{n}/") for n in nested if n))
    unnamed = sorted(path for path in mine if _key(path) not in wanted)
    if unnamed:
        detail = f"{len(unnamed)} DICOM files beside {printable(directory)} are not listed in it: {_some(unnamed)}"
        yield Problem("dicomdir-unreferenced", detail)


def _wanted(folder: str, named: list[str], there: set[str]) -> dict[str, str]:
    """Comparable path -> name, for each file that a directory lists.

    Names are relative to the directory's own folder. On some media a nested directory has names relative to the top of
    the medium. The interpretation that finds more files is used.
    """
    parts = folder.split("/") if folder else []
    tops = ["/".join(parts[:depth]) for depth in range(len(parts), -1, -1)]
    readings = [{_key(f"{top}/{path}" if top else path): path for path in named} for top in tops]
    return max(readings, key=lambda wanted: sum(key in there for key in wanted))


def _key(path: str) -> str:
    """A path for comparing: without case, and without the version that ISO 9660 appends to a name."""
    return path.casefold().removesuffix(";1").removesuffix(".")


def _some(paths: list[str]) -> str:
    return ", ".join(map(printable, paths[:SHOWN])) + (", ..." if len(paths) > SHOWN else "")
