"""How a run comes to its plan: by scanning ROOT, or from a plan file that somebody has reviewed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from xnat_ingest.errors import UsageError
from xnat_ingest.grouping import build, sheet
from xnat_ingest.labels import LAYOUTS, write_sheet
from xnat_ingest.media import hold_against_directories
from xnat_ingest.model import Emit, Event, Plan, Problem
from xnat_ingest.naming import printable
from xnat_ingest.niftifile import guidance
from xnat_ingest.options import Settings, flag
from xnat_ingest.planfile import read_plan, without_changed, write_plan
from xnat_ingest.prepare import labelling, rule_set
from xnat_ingest.sources import Source, open_source

# What a plan file has settled already.
_SETTLED = ("subject", "experiment", "layout", "subject_label", "session_label", "labels", "exclude", "include")


class Planning(Protocol):
    """project: the one project of all sessions, "" where folders or the plan file name it."""

    source: Source
    project: str

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


def planning(root: str, settings: Settings, emit: Emit, check_stop: Callable[[], None]) -> Planning:
    """Everything that can be wrong with the settings shows here. Raises UsageError."""
    if settings.plan:
        return Reviewed(root, settings, check_stop)
    if not root:
        raise UsageError("no ROOT: name the folder or archive that holds the DICOM tree")
    return Tree(root, settings, emit, check_stop)


def the_project(settings: Settings) -> str:
    """Raises UsageError when none was given, or no project can be called so."""
    if not settings.project:
        raise UsageError("no project: give -P PROJECT")
    if not settings.project.isprintable() or set(settings.project) & set("/?#%"):
        raise UsageError(f"-P {printable(settings.project)} cannot be a project's id")
    return settings.project


class Tree:
    """The plan of what is found below ROOT."""

    def __init__(self, root: str, settings: Settings, emit: Emit, check_stop: Callable[[], None]) -> None:
        self._root = root
        self._settings = settings
        self._emit = emit
        self._check_stop = check_stop
        self._labelling = labelling(settings)
        self.source = open_source(root, None if self._labelling.fixed else len(self._labelling.levels))
        if "project" in self._labelling.levels:
            if settings.project:
                emit(Event("warning", {"text": f"-P {settings.project} has no say where folders name the project"}))
            self.project = ""
        else:
            self.project = the_project(settings)
        self._rules = rule_set(settings, len(self._labelling.levels))
        self._keywords = self._rules.keywords | self._labelling.subject.keywords | self._labelling.session.keywords

    def use(self, project: str) -> None:
        self.project = project
        self._labelling = replace(self._labelling, project=project)

    def want(self, keywords: frozenset[str]) -> None:
        self._keywords |= keywords

    @property
    def kept(self) -> frozenset[str]:
        return self._keywords

    def make(self) -> Plan:
        from xnat_ingest.scan import same_bytes, scan  # pydicom is not loaded for what ends before this

        self._emit(Event("scanning", {}))

        def skip(path: str) -> str | None:
            self._check_stop()
            return self._rules.skip(path)

        found = scan(self.source, skip, self._keywords)
        plan = build(
            found,
            self._rules,
            self._labelling,
            lambda one, other: same_bytes(self.source, one, other),
            self.source.name_of,
        )
        if text := guidance(plan, self.source):
            plan = replace(plan, problems=(*plan.problems, Problem("nifti", text)))
        plan = hold_against_directories(plan, self.source)
        if self._settings.labels_template:
            write_sheet(self._settings.labels_template, sheet(plan))
        if self._settings.json:
            write_plan(self._settings.json, plan, self._root, self._labelling.layout)
        return plan


class Reviewed:
    """The plan in a file, without what has changed since. root: where its tree lies now, "" for where it lay then."""

    def __init__(self, root: str, settings: Settings, check_stop: Callable[[], None]) -> None:
        given = [flag(name) for name in _SETTLED if settings.sources.get(name, "").startswith("flag")]
        if given:
            raise UsageError(f"{given[0]} has no say with --plan: what it decides stands in the plan file; edit that")
        self._check_stop = check_stop
        found = read_plan(settings.plan)
        if found.layout not in LAYOUTS:
            raise UsageError(f"plan file {settings.plan}: layout {found.layout!r} is not known")
        strange = [s.title for s in found.plan.sessions if settings.project not in ("", s.project)]
        if strange:
            raise UsageError(f"-P {settings.project} is not the project of {strange[0]} in plan file {settings.plan}")
        levels = None if found.layout == "fixed" else len(LAYOUTS[found.layout])
        self.source = open_source(root or found.root, levels)
        self.project = ""
        self._plan = found.plan

    def use(self, project: str) -> None:
        """Each session has its own."""

    def want(self, keywords: frozenset[str]) -> None:
        """Headers are not read again."""

    @property
    def kept(self) -> frozenset[str]:
        return frozenset()

    def make(self) -> Plan:
        for _ in self.source.files():  # what lies in archives is known only when they have been listed
            self._check_stop()
        return without_changed(self._plan, self.source.stat)


def plan_fields(plan: Plan) -> dict[str, object]:
    """What a face needs to tell of a plan."""
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
