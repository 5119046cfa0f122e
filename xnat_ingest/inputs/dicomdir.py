"""DICOMDIR media: the directory is never sent, but it says what should be there (PS3.10, 8; PS3.3, F)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from xnat_ingest.core.model import Plan, Problem
from xnat_ingest.core.text import printable
from xnat_ingest.inputs import Source

SHOWN = 5


def hold_against_directories(plan: Plan, source: Source) -> Plan:
    """The plan, with a problem for what a directory names and is absent, and one for what it does not name."""
    directories = [aside.path for aside in plan.set_aside if aside.reason == "dicomdir"]
    if not directories:
        return plan
    instances = {i.path for session in plan.sessions for i in session.instances}
    present = instances | {aside.path for aside in plan.set_aside}
    problems = [p for path in directories for p in _compare(path, source, present, instances, directories)]
    return replace(plan, problems=(*plan.problems, *problems))


def _compare(
    directory: str, source: Source, present: set[str], instances: set[str], directories: list[str]
) -> Iterator[Problem]:
    from xnat_ingest.inputs.dicom_headers import referenced_files

    folder = directory.rpartition("/")[0]
    named = referenced_files(source, directory)
    if named is None:
        yield Problem("dicomdir-unreadable", f"{printable(directory)} cannot be read, so nothing is held against it")
        return
    # Media are written in capitals; copies of them come in any case.
    wanted = {_key(f"{folder}/{path}" if folder else path): path for path in named}
    there = {_key(path) for path in present}
    absent = sorted(path for key, path in wanted.items() if key not in there)
    if absent:
        detail = f"{printable(directory)} names {len(absent)} files that are not there: {_some(absent)}"
        yield Problem("dicomdir-absent", detail)
    nested = [other.rpartition("/")[0] for other in directories if other != directory]
    mine = (path for path in instances if not folder or path.startswith(f"{folder}/"))
    mine = (path for path in mine if not any(n != folder and path.startswith(f"{n}/") for n in nested if n))
    unnamed = sorted(path for path in mine if _key(path) not in wanted)
    if unnamed:
        detail = f"{len(unnamed)} DICOM files beside {printable(directory)} are not named in it: {_some(unnamed)}"
        yield Problem("dicomdir-unreferenced", detail)


def _key(path: str) -> str:
    """Comparable: without case, and without the version that ISO 9660 puts behind a name."""
    return path.casefold().removesuffix(";1").removesuffix(".")


def _some(paths: list[str]) -> str:
    return ", ".join(map(printable, paths[:SHOWN])) + (", ..." if len(paths) > SHOWN else "")
