"""DICOMDIR media: the directory is never sent, but it lists the images that should exist (PS3.10, 8; PS3.3, F)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from xnat_ingest.core import Plan, Problem, printable
from xnat_ingest.inputs.directory_records import Referenced, referenced_files
from xnat_ingest.inputs.source import Source, go_on

SHOWN = 5
# The kind of a record that lists a document in XML, which is no DICOM (PS3.3, F.5.35).
_DOCUMENT = "HL7 STRUC DOC"
# How many folders the names of a directory are taken to be relative to, besides ROOT.
_MOST_TOPS = 8
# What a copy of a file may be called besides its name on the medium, from the outside in.
_ENDINGS = (".gz", ".bz2", ".xz", ".dcm", ".dicom")
# Both the reason for setting aside a directory that lists absent files, and the kind of the problem.
ABSENT = "dicomdir-absent"


def check_dicomdirs(
    plan: Plan,
    source: Source,
    check_stop: Callable[[], None] = go_on,
    uids: Mapping[str, str] | None = None,
    shown: Callable[[str], str] = printable,
) -> Plan:
    """Adds a problem to the plan for each directory that lists absent files: the medium was copied only in part.

    The same goes for files that hold no image any more, and for copies of another image. Adds a note about files that
    a directory does not list.

    uids: path -> SOPInstanceUID of the file, where those of the plan are new ones.
    shown: how a path is written in a sentence. Those that a directory lists may be no paths of the plan.
    """
    directories = [aside.path for aside in plan.set_aside if aside.reason == "dicomdir"]
    if not directories:
        return plan
    medium = _Medium(plan, directories, uids, shown)
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

    def __init__(
        self,
        plan: Plan,
        directories: Sequence[str],
        uids: Mapping[str, str] | None,
        shown: Callable[[str], str],
    ) -> None:
        self._shown = shown
        instances = [i for session in plan.sessions for i in session.instances]
        self._directories = directories
        self._instances = [i.path for i in instances]
        uid_of = uids or {i.path: i.sop_uid for i in instances}
        self._uids = set(uid_of.values())
        self._held: dict[str, set[str]] = {}  # comparable path -> SOPInstanceUIDs
        for path in self._instances:
            self._held.setdefault(_key(path), set()).add(uid_of.get(path, ""))
        self._asides = {_key(aside.path): aside.reason for aside in plan.set_aside}

    def compare(self, directory: str, source: Source, check_stop: Callable[[], None]) -> Iterator[Problem]:
        """The problems and notes of one directory."""
        folder = directory.rpartition("/")[0]
        called = self._shown(directory)
        named = referenced_files(source, directory, check_stop)
        if named is None:
            text = f"{called} cannot be read, so nothing was compared with it"
            yield Problem("dicomdir-unreadable", text)
            return
        # A writer that sets the flag nowhere does not know it.
        if any(one.is_in_use for one in named):
            named = [one for one in named if one.is_in_use]
        readings = (_Reading(top, folder, named, self, check_stop) for top in _tops(folder))
        reading = max(readings, key=lambda one: one.rank)
        absent, lost = reading.absent(), reading.lost()
        lists = [f"{len(absent)} files that do not exist: {self._some(absent)}"] if absent else []
        lists += [f"{len(lost)} files that do not hold their image: {self._some(lost)}"] if lost else []
        if lists:
            detail = f"{called} lists {', and '.join(lists)}"
            yield Problem(ABSENT, f"{detail}; the medium was only partly copied: copy it again")
        if reading.is_of_another_copy:
            text = f"no file holds an image that {called} lists: its UIDs are other ones"
            yield Problem("dicomdir-unreferenced", f"{text}, so only the names of the files were compared")
        elif unnamed := sorted(path for path in self._beside(directory, folder) if not reading.lists(path)):
            detail = f"{len(unnamed)} DICOM files beside {called} are not listed in it: {self._some(unnamed)}"
            yield Problem("dicomdir-unreferenced", detail)

    def _some(self, paths: list[str]) -> str:
        return ", ".join(map(self._shown, paths[:SHOWN])) + (", ..." if len(paths) > SHOWN else "")

    def uids_at(self, key: str) -> Collection[str]:
        return self._held.get(key, ())

    def reason_at(self, key: str) -> str:
        return self._asides.get(key, "")

    def has_uid(self, uid: str) -> bool:
        return uid in self._uids

    def _beside(self, directory: str, folder: str) -> Iterator[str]:
        """The instances below a directory's folder, without those below a directory of their own."""
        nested = [other.rpartition("/")[0] for other in self._directories if other != directory]
        mine = (path for path in self._instances if not folder or path.startswith(f"{folder}/"))
        return (path for path in mine if not any(n != folder and path.startswith(f"{n}/") for n in nested if n))


class _Reading:
    """What a directory lists, its names taken as relative to one folder.

    Names are relative to the directory's own folder. On some media a nested directory has names relative to the top of
    the medium. The reading that finds more files is used.
    """

    def __init__(
        self, top: str, folder: str, named: Sequence[Referenced], medium: _Medium, check_stop: Callable[[], None]
    ) -> None:
        check_stop()
        self._medium = medium
        self._own = f"{_key(folder)}/" if folder else ""
        self._listed = [(_key(f"{top}/{one.path}" if top else one.path), one) for one in named]
        self._keys = {key for key, _ in self._listed}
        self._uids = {one.sop_uid for one in named}
        self._fits = sum(one.sop_uid in medium.uids_at(key) for key, one in self._listed if one.sop_uid)
        self._found = sum(self._is_there(key, one) for key, one in self._listed)

    @property
    def rank(self) -> tuple[int, int]:
        return self._fits, self._found

    @cached_property
    def is_of_another_copy(self) -> bool:
        """Whether files are there, but none holds what the directory says: the UIDs were changed after it was written.

        Without any UID in the directory nothing tells.
        """
        held = any(self._medium.uids_at(key) for key in self._keys if self._is_near(key))
        return held and any(self._uids) and not any(map(self._medium.has_uid, self._uids))

    def lists(self, path: str) -> bool:
        return _key(path) in self._keys or any(uid in self._uids for uid in self._medium.uids_at(_key(path)))

    def absent(self) -> list[str]:
        return sorted({one.path for key, one in self._listed if not self._is_there(key, one)})

    def lost(self) -> list[str]:
        return sorted({one.path for key, one in self._listed if self._is_there(key, one) and self._is_lost(key, one)})

    def _is_there(self, key: str, listed: Referenced) -> bool:
        """Whether a file may be the listed one: it has the name, or its image lies under another name.

        A file elsewhere that only has the name may be another medium's.
        """
        if listed.sop_uid and self._medium.has_uid(listed.sop_uid):
            return True
        return self._is_near(key) and bool(self._medium.uids_at(key) or self._medium.reason_at(key))

    def _is_near(self, key: str) -> bool:
        return bool(self._fits) or key.startswith(self._own)

    def _is_lost(self, key: str, listed: Referenced) -> bool:
        """Whether a file is there, but neither it nor another one holds the image that it should."""
        if listed.sop_uid and self._medium.has_uid(listed.sop_uid):
            return False
        reason = self._medium.reason_at(key)
        if reason == "duplicate" or (self._medium.uids_at(key) and not self.is_of_another_copy):
            return bool(listed.sop_uid)
        return reason in ("not-dicom", "nested-archive", "link") and listed.kind != _DOCUMENT


def _tops(folder: str) -> list[str]:
    """The folders that a directory's names may be relative to: its own, the next ones above it, and ROOT."""
    parts = folder.split("/") if folder else []
    nearest = range(len(parts), max(len(parts) - _MOST_TOPS, 0), -1)
    return ["/".join(parts[:depth]) for depth in (*nearest, 0)]


def _key(path: str) -> str:
    """A path for comparing.

    Without case, without the version that ISO 9660 appends to a name, and without the ending that a copy was given.
    """
    key = path.casefold().removesuffix(";1").removesuffix(".")
    for ending in _ENDINGS:
        key = key.removesuffix(ending)
    return key
