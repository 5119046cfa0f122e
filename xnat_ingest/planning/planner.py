"""How a run gets its plan: by scanning ROOT, or from a plan file that was reviewed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xnat_ingest.core import (
    OTHER_SHARD,
    Emit,
    Event,
    Instance,
    Plan,
    Problem,
    SetAside,
    SourceFile,
    UsageError,
    printable,
)
from xnat_ingest.core.atomic_file import check_writable, replacing
from xnat_ingest.core.regular_file import is_folder, open_regular
from xnat_ingest.inputs import Source, one_top_folder, open_source
from xnat_ingest.inputs.dicomdir import check_dicomdirs
from xnat_ingest.inputs.nifti_file import guidance
from xnat_ingest.inputs.system_names import is_system_folder
from xnat_ingest.planning.form_notes import form_notes
from xnat_ingest.planning.label_sheet import sheet_text
from xnat_ingest.planning.labels import LAYOUTS, is_project_id
from xnat_ingest.planning.plan_file import plan_pieces, read_plan, without_changed
from xnat_ingest.planning.prepare import label_rules, rule_set
from xnat_ingest.planning.redaction import RedactedSource, redacted
from xnat_ingest.planning.sessions import make_plan, sheet
from xnat_ingest.planning.sharding import shard_by_path
from xnat_ingest.settings.options import PlanSettings, TreeSettings, flag
from xnat_ingest.settings.shards import parse_shard

if TYPE_CHECKING:
    from xnat_ingest.deidentify.objects import Deidentifier

# Seconds between two progress events of the scan.
SCAN_WORD = 0.5
# Options that a plan file has already decided.
_SETTLED = (
    *("subject", "experiment", "layout", "subject_label", "session_label", "labels", "labels_partial"),
    "split_studies",
    *("exclude", "include"),
)
_RULES = frozenset(("exclude", "include"))


class PlanSource(Protocol):
    """Where a plan comes from.

    root: the folder or archive that is read.
    project: the project of all sessions, "" when folders or the plan file name it.
    deidentifier: rewrites headers before they are sent, None without --deidentify.
    """

    root: str
    source: Source
    project: str

    @property
    def deidentifier(self) -> Deidentifier | None: ...

    def use(self, project: str) -> None:
        """Sets the canonical id of the project, as the server gave it."""
        ...

    def want(self, keywords: frozenset[str]) -> None:
        """Adds DICOM keywords to read, besides those that rules and labels need."""
        ...

    @property
    def kept(self) -> frozenset[str]:
        """The keywords whose values are in the plan's instances."""
        ...

    def make(self) -> Plan:
        """Makes the plan; may take long. Raises Stopped."""
        ...


def plan_source(root: str, settings: PlanSettings, emit: Emit, check_stop: Callable[[], None]) -> PlanSource:
    """The source of the plan. Checks all settings it needs. Raises UsageError."""
    if "\0" in root:
        raise UsageError("ROOT is not a valid folder name")
    if settings.plan:
        return PlanFromFile(root, settings, emit, check_stop)
    if not root:
        raise UsageError("no ROOT: name the folder or archive with the DICOM tree")
    return ScannedTree(root, settings, emit, check_stop)


def _deidentifier(settings: PlanSettings, root: str, check_stop: Callable[[], None]) -> Deidentifier | None:
    if not (settings.deidentify or settings.deid_key_file or settings.crosswalk):
        return None
    from xnat_ingest.deidentify.setup import deidentifier_of  # late, so that pydicom is loaded only when needed

    return deidentifier_of(settings, root, check_stop=check_stop)


def _ready(
    plan: Plan,
    source: Source,
    deidentifier: Deidentifier | None,
    settings: PlanSettings,
    check_stop: Callable[[], None],
    listed: Iterable[str] = (),
) -> Plan:
    """The plan as it is reported and sent. listed: folders of the label sheet.

    Applies --redact-paths, the sizes after de-identification, and --require-deidentified, which makes a conflict for
    every session that identifies its patient.
    """
    if isinstance(source, RedactedSource):
        plan = redacted(plan, source, listed, check_stop)
    if deidentifier:
        plan = deidentifier.measure(plan, source) if settings.plan else deidentifier.settle(plan)
    if not settings.require_deidentified:
        return plan
    from xnat_ingest.deidentify.gate import hold_back

    return hold_back(plan, source, deidentifier.rewrite if deidentifier else None, check_stop)


def _source(
    root: str,
    leaf: int | None,
    settings: PlanSettings,
    check_stop: Callable[[], None],
    outside: list[str] | None = None,
    empty: list[str] | None = None,
) -> Source:
    """outside: receives the links to places outside ROOT that were followed.
    empty: receives the folders without any entry.
    """
    source = open_source(root, leaf, check_stop, follow_links=settings.follow_links, outside=outside, empty=empty)
    if not settings.redact_paths:
        return source
    for name in ("json", "labels_template"):
        if getattr(settings, name):
            raise UsageError(
                f"{flag(name)} writes folder names, which --redact-paths is meant to hide; leave one of them out"
            )
    return RedactedSource(source)


def the_project(settings: TreeSettings) -> str:
    """The project. Raises UsageError when none was given, or the text cannot be a project's id."""
    if not settings.project:
        raise UsageError("no project: give -P PROJECT")
    if not is_project_id(settings.project):
        raise UsageError(f"-P {printable(settings.project)} cannot be a project's id")
    return settings.project


def write_review_files(made_by: PlanSource, plan: Plan) -> None:
    """Writes the plan to the files for review, after the server's settings were applied. Raises UsageError."""
    if isinstance(made_by, ScannedTree):
        made_by.keep(plan)


def _write(path: str, pieces: Callable[[], Iterable[str]]) -> None:
    """Writes a new file. Raises UsageError if the file exists with other content: it may be an edited plan or sheet.

    pieces: the pieces of its text, from the first one each time it is called.
    """
    target = Path(path)
    try:
        if not target.exists():
            with replacing(path) as stream:
                stream.writelines(pieces())
        elif not _holds(target, pieces()):
            raise UsageError(
                f"{printable(path)} already exists with different content; choose another file, or delete it"
            )
    except OSError as error:
        raise UsageError(f"cannot write {printable(path)}: {error.strerror}") from error


def _holds(path: Path, pieces: Iterable[str]) -> bool:
    """Whether a file has exactly this text."""
    with open_regular(path) as stream:
        for piece in pieces:
            data = piece.encode("utf-8")
            if stream.read(len(data)) != data:
                return False
        return not stream.read(1)


def _in_system_folder(folder: str) -> bool:
    return any(map(is_system_folder, folder.split("/")))


class ScannedTree:
    """Makes the plan from the files below ROOT."""

    def __init__(self, root: str, settings: PlanSettings, emit: Emit, check_stop: Callable[[], None]) -> None:
        self.root = root
        self._settings = settings
        self._emit = emit
        self._check_stop = check_stop
        self._labelling = label_rules(settings)
        levels = None if self._labelling.fixed else len(self._labelling.levels)
        self._outside: list[str] = []
        self._uids: dict[str, str] = {}
        self._empty: list[str] = []
        self.source = _source(root, levels, settings, check_stop, self._outside, self._empty)
        if "project" in self._labelling.levels:
            if settings.project:
                emit(
                    Event(
                        "warning",
                        {"text": f"-P {settings.project} is ignored: in this layout the folders name the project"},
                    )
                )
            self.project = ""
        else:
            self.project = the_project(settings)
        self._rules = rule_set(settings, len(self._labelling.levels))
        self.deidentifier = _deidentifier(settings, root, check_stop)
        for name in ("json", "labels_template"):
            if path := getattr(settings, name):
                check_writable(path, flag(name))
        self._keywords = self._rules.keywords | self._labelling.subject.keywords | self._labelling.session.keywords
        if settings.split_studies:
            self._keywords |= {"StudyDate", "StudyTime"}
        if settings.labels_template:
            self._keywords |= {"StudyDate", "StudyDescription"}

    def use(self, project: str) -> None:
        self.project = project
        self._labelling = replace(self._labelling, project=project)

    def want(self, keywords: frozenset[str]) -> None:
        self._keywords |= keywords

    @property
    def kept(self) -> frozenset[str]:
        return self._keywords

    def make(self) -> Plan:
        from xnat_ingest.inputs.dicom_headers import same_bytes, scan  # late, so that pydicom loads only when needed

        self._emit(Event("scanning", {}))

        shard = parse_shard(self._settings.shard) if self._settings.shard else None
        is_other = shard_by_path(self._labelling, shard, self.source.name_of) if shard else lambda _: False

        in_system_folder = lru_cache(_in_system_folder)  # a folder has many files

        def skip(path: str) -> str | None:
            self._check_stop()
            if in_system_folder(path.rpartition("/")[0]):  # in an archive; system folders on disk are not read
                return "system-folder"
            return self._rules.skip(path) or (OTHER_SHARD if is_other(path) else None)

        accepts = self._settings.accept_truncated
        found = scan(self.source, skip, self._keywords, accept_truncated=accepts, check_stop=self._check_stop)
        plan = make_plan(
            self._counted(found),
            self._rules,
            self._labelling,
            lambda one, other: same_bytes(self.source, one, other),
            self.source.name_of,
            self._leave,
        )
        notes = [Problem("nifti", text)] if (text := guidance(plan, self.source)) else []
        notes += self._notes_on_places()
        if text := self._packed_with_its_folder(plan):
            notes.append(Problem("one-top-folder", text))
        notes += form_notes(plan.sessions)
        plan = replace(plan, problems=(*plan.problems, *notes))
        plan = check_dicomdirs(plan, self.source, self._check_stop, self._uids, self._shown)
        listed = (row.folder for row in self._labelling.sheet.rows)
        return _ready(plan, self.source, self.deidentifier, self._settings, self._check_stop, listed)

    def _notes_on_places(self) -> Iterator[Problem]:
        """Notes on links and folders that no file of the plan tells of."""
        if self._outside:
            text = f"{len(self._outside)} links point outside ROOT and were followed (--follow-links)"
            yield Problem("followed-links", f"{text}; the first is {self._shown(self._outside[0])}")
        if self._empty:
            number = len(self._empty)
            text = "1 folder is empty" if number == 1 else f"{number} folders are empty, among them"
            yield Problem("empty-folder", f"{text}: {self._shown(self._empty[0])}")

    def _shown(self, path: str) -> str:
        return self.source.redact(path) if isinstance(self.source, RedactedSource) else printable(path)

    def _counted(self, found: Iterable[Instance | SetAside]) -> Iterator[Instance | SetAside]:
        """The same items, with a progress event now and then. Notes their UIDs where they will get new ones."""
        begun = spoken = time.monotonic()
        for number, item in enumerate(found, 1):
            now = time.monotonic()
            if now - spoken > SCAN_WORD:
                spoken = now
                self._emit(Event("scanned", {"files": number, "seconds": round(now - begun, 3)}))
            if self.deidentifier and isinstance(item, Instance):
                self._uids[item.path] = item.sop_uid
            yield item

    def _leave(self, instance: Instance) -> Instance | SetAside:
        self._check_stop()
        return self.deidentifier.examine(self.source, instance, self._keywords) if self.deidentifier else instance

    def _packed_with_its_folder(self, plan: Plan) -> str:
        """A note for an archive with a single top folder, which may be a subject's or the folder that was packed."""
        if "subject" not in self._labelling.levels or is_folder(self.root):
            return ""
        top = one_top_folder(i.path for session in plan.sessions for i in session.instances)
        return top and (
            f"everything in the archive is in the folder {printable(top)}, which is taken as the "
            f"{self._labelling.levels[0]}. If it is the folder that was packed, pack only its content: "
            "tar czf FILE -C FOLDER ."
        )

    def keep(self, plan: Plan) -> None:
        """Writes the requested files for review. Raises UsageError."""
        if self._settings.labels_template:
            text = sheet_text(sheet(plan))
            _write(self._settings.labels_template, lambda: [text])
        if self._settings.json:
            made_by = self.deidentifier.fingerprint if self.deidentifier else ""
            gated = self._settings.require_deidentified
            layout = self._labelling.layout
            _write(self._settings.json, lambda: plan_pieces(plan, self.root, layout, made_by, gated=gated))


class PlanFromFile:
    """The plan in a file, without the files that have changed since. root: where the tree is now, "" if not moved."""

    def __init__(self, root: str, settings: PlanSettings, emit: Emit, check_stop: Callable[[], None]) -> None:
        # The sources of rules add up, with a flag as the last.
        given = [flag(name) for name in _SETTLED if settings.sources.get(name, "").rpartition(", ")[2] == "flag"]
        if given:
            raise UsageError(f"{given[0]} cannot be combined with --plan; edit the plan file instead")
        for name in sorted(_RULES & settings.sources.keys()):
            text = f"{name} from {settings.sources[name]} is ignored with --plan: rules are applied when a plan is made"
            emit(Event("warning", {"text": text}))
        self._check_stop = check_stop
        found = read_plan(settings.plan, mixed_patients=settings.allow_mixed_patients)
        if found.layout not in LAYOUTS:
            raise UsageError(f"plan file {settings.plan}: unknown layout {found.layout!r}")
        strange = [s.title for s in found.plan.sessions if settings.project not in ("", s.project)]
        if strange:
            raise UsageError(f"-P {settings.project} is not the project of {strange[0]} in plan file {settings.plan}")
        levels = None if found.layout == "fixed" else len(LAYOUTS[found.layout])
        self.root = root or found.root
        self.source = _source(self.root, levels, settings, check_stop)
        self.project = ""
        self._plan = found.plan
        # What a plan holds back is not sent by leaving out the flag.
        self._settings = replace(settings, require_deidentified=settings.require_deidentified or found.gated)
        self.deidentifier = _deidentifier(settings, self.root, check_stop)
        if found.deidentified != (self.deidentifier.fingerprint if self.deidentifier else ""):
            how = "with another --deidentify profile or key" if found.deidentified else "without --deidentify"
            raise UsageError(f"plan file {settings.plan} was made {how}; use the same options now, or plan again")

    def use(self, project: str) -> None:
        """Nothing to do: each session in the plan file has its project."""

    def want(self, keywords: frozenset[str]) -> None:
        """Nothing to do: headers are not read again."""

    @property
    def kept(self) -> frozenset[str]:
        return frozenset()

    def make(self) -> Plan:
        found = set()  # the content of archives is known only after listing them
        for file in self.source.files():
            self._check_stop()
            if isinstance(file, SourceFile):
                found.add(file.path)

        def stat(path: str) -> tuple[int, int]:
            if path not in found:  # such as files behind a link to outside ROOT, which a scan would not take
                raise KeyError(path)
            return self.source.stat(path)

        plan = without_changed(self._plan, stat)
        plan = replace(plan, problems=(*plan.problems, *form_notes(plan.sessions)))
        return _ready(plan, self.source, self.deidentifier, self._settings, self._check_stop)


def plan_fields(plan: Plan) -> dict[str, object]:
    """What a reporter shows of a plan."""
    reasons = Counter(aside.reason for aside in plan.set_aside)
    return {
        "sessions": [
            {
                "session": s.title,
                "folder": printable(s.folder),
                "instances": len(s.instances),
                "bytes": s.bytes,
                "scans": len({i.series_uid for i in s.instances}),
            }
            for s in plan.sessions
        ],
        "instances": plan.planned,
        "bytes": sum(s.bytes for s in plan.sessions),
        "set_aside": dict(sorted(reasons.items())),
        "problems": [problem.detail for problem in plan.problems],
    }
