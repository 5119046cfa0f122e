"""DICOMDIR media: the directory is never sent, but it lists the images that should exist (PS3.10, 8; PS3.3, F)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from xnat_ingest.core import Plan, Problem, printable
from xnat_ingest.inputs.directory_records import Referenced, referenced_files
from xnat_ingest.inputs.source import Source, go_on

SHOWN = 5
# The kind of a record that lists a document in XML, which is no DICOM (PS3.3, F.5.35).
_DOCUMENT = "HL7 STRUC DOC"
# Both the reason for setting aside a directory that lists absent files, and the kind of the problem.
ABSENT = "dicomdir-absent"


def check_dicomdirs(
    plan: Plan, source: Source, check_stop: Callable[[], None] = go_on, uids: Mapping[str, str] | None = None
) -> Plan:
    """Adds a problem to the plan for each directory that lists absent files: the medium was copied only in part.

    The same goes for files that hold no image any more, and for copies of another image. Adds a note about files that
    a directory does not list.

    uids: path -> SOPInstanceUID of the file, where those of the plan are new ones.
    """
    directories = [aside.path for aside in plan.set_aside if aside.reason == "dicomdir"]
    if not directories:
        return plan
    medium = _Medium(plan, directories, uids)
    problems: list[Problem] = []
    incomplete: dict[str, str] = {}
    for path in directories:
        found = list(medium.compare(path, source, check_stop))
        problems += found
        incomplete.update((path, problem.detail) for problem in found if problem.kind == ABSENT)
    asides = (
        replace(one, reason=ABSENT, detail=incomplete[one.path]) if one.path in incomplete else one
        for one in plan.set_aside
    )
    return replace(plan, set_aside=tuple(asides), problems=(*plan.problems, *problems))


class _Medium:
    """The files of a plan, for comparing with directories."""

    def __init__(self, plan: Plan, directories: Sequence[str], uids: Mapping[str, str] | None) -> None:
        instances = [i for session in plan.sessions for i in session.instances]
        self._directories = directories
        self._instances = [i.path for i in instances]
        uid_of = uids or {i.path: i.sop_uid for i in instances}
        self._uids = set(uid_of.values())
        self._held = {_key(path): uid_of.get(path, "") for path in self._instances}  # path -> SOPInstanceUID
        self._asides = {_key(aside.path): aside.reason for aside in plan.set_aside}
        self._there = {*map(_key, self._instances), *self._asides}

    def compare(self, directory: str, source: Source, check_stop: Callable[[], None]) -> Iterator[Problem]:
        """The problems and notes of one directory."""
        folder = directory.rpartition("/")[0]
        named = referenced_files(source, directory, check_stop)
        if named is None:
            text = f"{printable(directory)} cannot be read, so nothing was compared with it"
            yield Problem("dicomdir-unreadable", text)
            return
        wanted = _wanted(folder, named, self._there)
        absent = sorted(one.path for key, one in wanted.items() if key not in self._there)
        # Where no file holds what the directory says, it is of another copy of the medium, with other UIDs.
        is_current = any(one.sop_uid and self._held.get(key) == one.sop_uid for key, one in wanted.items())
        lost = sorted(one.path for key, one in wanted.items() if self._is_lost(key, one, is_current=is_current))
        lists = [f"{len(absent)} files that do not exist: {_some(absent)}"] if absent else []
        lists += [f"{len(lost)} files that do not hold their image: {_some(lost)}"] if lost else []
        if lists:
            detail = f"{printable(directory)} lists {', and '.join(lists)}"
            yield Problem(ABSENT, f"{detail}; the medium was only partly copied: copy it again")
        if unnamed := sorted(path for path in self._beside(directory, folder) if _key(path) not in wanted):
            detail = f"{len(unnamed)} DICOM files beside {printable(directory)} are not listed in it: {_some(unnamed)}"
            yield Problem("dicomdir-unreferenced", detail)

    def _is_lost(self, key: str, listed: Referenced, *, is_current: bool) -> bool:
        """Whether a file is there, but neither it nor another one holds the image that it should."""
        reason = self._asides.get(key, "")
        if reason == "duplicate" or (key in self._held and is_current):
            return bool(listed.sop_uid) and listed.sop_uid not in self._uids
        return reason in ("not-dicom", "nested-archive", "link") and listed.kind != _DOCUMENT

    def _beside(self, directory: str, folder: str) -> Iterator[str]:
        """The instances below a directory's folder, without those below a directory of their own."""
        nested = [other.rpartition("/")[0] for other in self._directories if other != directory]
        mine = (path for path in self._instances if not folder or path.startswith(f"{folder}/"))
        return (path for path in mine if not any(n != folder and path.startswith(f"{n}/") for n in nested if n))


def _wanted(folder: str, named: Sequence[Referenced], there: Collection[str]) -> dict[str, Referenced]:
    """Comparable path -> what a directory says of the file.

    Names are relative to the directory's own folder. On some media a nested directory has names relative to the top of
    the medium. The interpretation that finds more files is used.
    """
    parts = folder.split("/") if folder else []
    tops = ["/".join(parts[:depth]) for depth in range(len(parts), -1, -1)]
    readings = [{_key(f"{top}/{one.path}" if top else one.path): one for one in named} for top in tops]
    return max(readings, key=lambda wanted: sum(key in there for key in wanted))


def _key(path: str) -> str:
    """A path for comparing: without case, and without the version that ISO 9660 appends to a name."""
    return path.casefold().removesuffix(";1").removesuffix(".")


def _some(paths: list[str]) -> str:
    return ", ".join(map(printable, paths[:SHOWN])) + (", ..." if len(paths) > SHOWN else "")
