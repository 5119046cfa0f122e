"""How a run comes to its plan: by scanning ROOT, or from a plan file that somebody has reviewed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xnat_ingest.core.atomic_file import check_writable, replacing
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.model import Emit, Event, Instance, Plan, Problem, SetAside, SourceFile
from xnat_ingest.core.text import printable
from xnat_ingest.inputs import Source, one_top_folder, open_source
from xnat_ingest.inputs.dicomdir import check_dicomdirs
from xnat_ingest.inputs.nifti_file import guidance
from xnat_ingest.inputs.system_names import is_system_folder
from xnat_ingest.planning.form_notes import form_notes
from xnat_ingest.planning.label_sheet import sheet_text
from xnat_ingest.planning.labels import LAYOUTS, is_project_id
from xnat_ingest.planning.plan_file import plan_text, read_plan, without_changed
from xnat_ingest.planning.prepare import label_rules, rule_set
from xnat_ingest.planning.redaction import RedactedSource, redacted
from xnat_ingest.planning.sessions import make_plan, sheet
from xnat_ingest.planning.sharding import OTHER, shard_by_path
from xnat_ingest.settings.options import Settings, flag
from xnat_ingest.settings.shards import parse_shard

if TYPE_CHECKING:
    from xnat_ingest.deidentify.objects import Deidentifier

# Seconds between two events that say how far the scan is.
SCAN_WORD = 0.5
# What a plan file has settled already.
_SETTLED = (
    *("subject", "experiment", "layout", "subject_label", "session_label", "labels", "labels_partial"),
    "split_studies",
    *("exclude", "include"),
)
_RULES = frozenset(("exclude", "include"))


class PlanSource(Protocol):
    """project: the one project of all sessions, "" where folders or the plan file name it.
    deidentifier: what rewrites headers on their way out, if anything does.
    """

    source: Source
    project: str

    @property
    def deidentifier(self) -> Deidentifier | None: ...

    def use(self, project: str) -> None:
        """The canonical id of the project, as the server has told it."""
        ...

    def want(self, keywords: frozenset[str]) -> None:
        """DICOM keywords to be read beside those that rules and labels need."""
        ...

    @property
    def kept(self) -> frozenset[str]:
        """The keywords whose values the plan's instances have."""
        ...

    def make(self) -> Plan:
        """The plan; may take long. Raises Stopped."""
        ...


def plan_source(root: str, settings: Settings, emit: Emit, check_stop: Callable[[], None]) -> PlanSource:
    """Everything that can be wrong with the settings shows here. Raises UsageError."""
    if "\0" in root:
        raise UsageError("ROOT: no folder has such a name")
    if settings.plan:
        return PlanFromFile(root, settings, emit, check_stop)
    if not root:
        raise UsageError("no ROOT: name the folder or archive that holds the DICOM tree")
    return ScannedTree(root, settings, emit, check_stop)


def _deidentifier(settings: Settings, root: str) -> Deidentifier | None:
    if not (settings.deidentify or settings.deid_key_file or settings.crosswalk):
        return None
    from xnat_ingest.deidentify.setup import deidentifier_of  # pydicom is not loaded where nothing needs it

    return deidentifier_of(settings, root)


def _ready(
    plan: Plan, source: Source, deidentifier: Deidentifier | None, settings: Settings, check_stop: Callable[[], None]
) -> Plan:
    """The plan as it is told of and sent: with made-up names where they are asked for, and the sizes that labels make,
    and a conflict for every session that would tell who its patient is."""
    if isinstance(source, RedactedSource):
        plan = redacted(plan, source)
    if deidentifier:
        plan = deidentifier.measure(plan, source) if settings.plan else deidentifier.settle(plan)
    if not settings.require_deidentified:
        return plan
    from xnat_ingest.deidentify.gate import hold_back

    return hold_back(plan, source, deidentifier.rewrite if deidentifier else None, check_stop)


def _source(
    root: str,
    leaf: int | None,
    settings: Settings,
    check_stop: Callable[[], None],
    outside: list[str] | None = None,
) -> Source:
    """outside: gets the links out of ROOT that were followed."""
    source = open_source(root, leaf, check_stop, follow_links=settings.follow_links, outside=outside)
    if not settings.redact_paths:
        return source
    for name in ("json", "labels_template"):
        if getattr(settings, name):
            raise UsageError(
                f"{flag(name)} writes the names of folders, which --redact-paths is to keep back; drop one"
            )
    return RedactedSource(source)


def the_project(settings: Settings) -> str:
    """Raises UsageError when none was given, or no project can be called so."""
    if not settings.project:
        raise UsageError("no project: give -P PROJECT")
    if not is_project_id(settings.project):
        raise UsageError(f"-P {printable(settings.project)} cannot be a project's id")
    return settings.project


def write_review_files(made_by: PlanSource, plan: Plan) -> None:
    """Writes a plan, as what the server said has left it, where somebody wants to review it. Raises UsageError."""
    if isinstance(made_by, ScannedTree):
        made_by.keep(plan)


def _write(path: str, text: str) -> None:
    """One that is there may be somebody's edited plan or sheet. Raises UsageError."""
    target = Path(path)
    try:
        if not target.exists():
            with replacing(path) as stream:
                stream.write(text)
        elif target.read_bytes() != text.encode("utf-8"):
            raise UsageError(f"{printable(path)} is there and holds something else; name another file, or remove it")
    except OSError as error:
        raise UsageError(f"cannot write {printable(path)}: {error.strerror}") from error


class ScannedTree:
    """The plan of what is found below ROOT."""

    def __init__(self, root: str, settings: Settings, emit: Emit, check_stop: Callable[[], None]) -> None:
        self._root = root
        self._settings = settings
        self._emit = emit
        self._check_stop = check_stop
        self._labelling = label_rules(settings)
        levels = None if self._labelling.fixed else len(self._labelling.levels)
        self._outside: list[str] = []
        self.source = _source(root, levels, settings, check_stop, self._outside)
        if "project" in self._labelling.levels:
            if settings.project:
                emit(Event("warning", {"text": f"-P {settings.project} has no say where folders name the project"}))
            self.project = ""
        else:
            self.project = the_project(settings)
        self._rules = rule_set(settings, len(self._labelling.levels))
        self.deidentifier = _deidentifier(settings, root)
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
        from xnat_ingest.inputs.dicom_headers import same_bytes, scan  # pydicom is not loaded for what ends before this

        self._emit(Event("scanning", {}))

        shard = parse_shard(self._settings.shard) if self._settings.shard else None
        is_other = shard_by_path(self._labelling, shard, self.source.name_of) if shard else lambda _: False

        def skip(path: str) -> str | None:
            self._check_stop()
            if any(map(is_system_folder, path.split("/")[:-1])):  # of an archive: folders of these names are not read
                return "system-folder"
            return self._rules.skip(path) or (OTHER if is_other(path) else None)

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
        if self._outside:
            text = f"{len(self._outside)} links lead out of ROOT and were followed (--follow-links)"
            notes.append(Problem("followed-links", f"{text}; the first is {printable(self._outside[0])}"))
        if text := self._packed_with_its_folder(plan):
            notes.append(Problem("one-top-folder", text))
        notes += form_notes(plan.sessions)
        plan = check_dicomdirs(replace(plan, problems=(*plan.problems, *notes)), self.source)
        return _ready(plan, self.source, self.deidentifier, self._settings, self._check_stop)

    def _counted(self, found: Iterable[Instance | SetAside]) -> Iterator[Instance | SetAside]:
        """The same, with a word now and then on how far the scan is."""
        begun = spoken = time.monotonic()
        for number, item in enumerate(found, 1):
            now = time.monotonic()
            if now - spoken > SCAN_WORD:
                spoken = now
                self._emit(Event("scanned", {"files": number, "seconds": round(now - begun, 3)}))
            yield item

    def _leave(self, instance: Instance) -> Instance | SetAside:
        self._check_stop()
        return self.deidentifier.examine(self.source, instance, self._keywords) if self.deidentifier else instance

    def _packed_with_its_folder(self, plan: Plan) -> str:
        """A sentence for an archive of which all lies in one folder: a subject's, or that which was packed."""
        if "subject" not in self._labelling.levels or Path(self._root).is_dir():
            return ""
        top = one_top_folder(i.path for session in plan.sessions for i in session.instances)
        return top and (
            f"all of the archive lies in folder {printable(top)}, which is taken for the {self._labelling.levels[0]}; "
            "if it is the folder that was packed, pack what is in it: tar czf FILE -C FOLDER ."
        )

    def keep(self, plan: Plan) -> None:
        """Writes the files for review that were asked for. Raises UsageError."""
        if self._settings.labels_template:
            _write(self._settings.labels_template, sheet_text(sheet(plan)))
        if self._settings.json:
            made_by = self.deidentifier.fingerprint if self.deidentifier else ""
            _write(self._settings.json, plan_text(plan, self._root, self._labelling.layout, made_by))


class PlanFromFile:
    """The plan in a file, without what has changed since. root: where its tree lies now, "" for where it lay then."""

    def __init__(self, root: str, settings: Settings, emit: Emit, check_stop: Callable[[], None]) -> None:
        # The sources of rules add up, a flag's last.
        given = [flag(name) for name in _SETTLED if settings.sources.get(name, "").rpartition(", ")[2] == "flag"]
        if given:
            raise UsageError(f"{given[0]} has no say with --plan: what it decides stands in the plan file; edit that")
        for name in sorted(_RULES & settings.sources.keys()):
            text = f"{name} of {settings.sources[name]} has no say with --plan: rules are applied when a plan is made"
            emit(Event("warning", {"text": text}))
        self._check_stop = check_stop
        found = read_plan(settings.plan, mixed_patients=settings.allow_mixed_patients)
        if found.layout not in LAYOUTS:
            raise UsageError(f"plan file {settings.plan}: layout {found.layout!r} is not known")
        strange = [s.title for s in found.plan.sessions if settings.project not in ("", s.project)]
        if strange:
            raise UsageError(f"-P {settings.project} is not the project of {strange[0]} in plan file {settings.plan}")
        levels = None if found.layout == "fixed" else len(LAYOUTS[found.layout])
        self.source = _source(root or found.root, levels, settings, check_stop)
        self.project = ""
        self._plan = found.plan
        self._settings = settings
        self.deidentifier = _deidentifier(settings, root or found.root)
        if found.deidentified != (self.deidentifier.fingerprint if self.deidentifier else ""):
            made = "with another --deidentify or key than" if found.deidentified else "without --deidentify, which is"
            raise UsageError(
                f"plan file {settings.plan} was made {made} given now; give what it was made with, or plan again"
            )

    def use(self, project: str) -> None:
        """Each session has its own."""

    def want(self, keywords: frozenset[str]) -> None:
        """Headers are not read again."""

    @property
    def kept(self) -> frozenset[str]:
        return frozenset()

    def make(self) -> Plan:
        found = set()  # what lies in archives is known only when they have been listed
        for file in self.source.files():
            self._check_stop()
            if isinstance(file, SourceFile):
                found.add(file.path)

        def stat(path: str) -> tuple[int, int]:
            if path not in found:  # a link out of ROOT, for one, leads to files that no scan would take
                raise KeyError(path)
            return self.source.stat(path)

        plan = without_changed(self._plan, stat)
        plan = replace(plan, problems=(*plan.problems, *form_notes(plan.sessions)))
        return _ready(plan, self.source, self.deidentifier, self._settings, self._check_stop)


def plan_fields(plan: Plan) -> dict[str, object]:
    """What a reporter needs to tell of a plan."""
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
