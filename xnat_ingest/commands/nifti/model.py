"""The nouns of a NIfTI tree, as immutable data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from xnat_ingest.commands.resources import LocalFile
from xnat_ingest.core import Instance, Plan, Problem, Session, SetAside, printable
from xnat_ingest.inputs import Source

NIFTI = "NIFTI"
BIDS = "BIDS"
# DICOM's word for a modality -> what XNAT's type names for it begin with.
TYPES = {"MR": "mr", "PT": "pet", "CT": "ct", "NM": "nm"}


def id_of(path: str) -> str:
    """What tells a file or a scan from others in reports. A sign and what it is shown as are two names."""
    return printable(path.replace("\\", "\\\\"))


@dataclass(frozen=True, slots=True)
class NiftiFile:
    """A file of a scan. resource, name: where it is stored."""

    path: str
    size: int
    mtime_ns: int
    resource: str
    name: str

    def local(self, source: Source) -> LocalFile:
        """For sending. It is opened by its source, which follows no link that the scan has not followed."""
        return LocalFile(self.name, self.path, self.size, opened=partial(source.open, self.path))


@dataclass(frozen=True, slots=True)
class NiftiScan:
    """A scan of a session.

    key: its place below the session
    id: XNAT's scan id: the sidecar's SeriesNumber where numbered, else counted
    modality: "" when nothing says it, which is a conflict
    uid: SeriesInstanceUID, "" in most trees
    """

    key: str
    id: str
    numbered: bool
    modality: str
    type: str
    description: str
    files: tuple[NiftiFile, ...]
    instances: tuple[Instance, ...]
    uid: str = ""

    @property
    def xsi_type(self) -> str:
        return f"xnat:{TYPES[self.modality]}ScanData" if self.modality else ""

    def renumbered(self, number: str) -> NiftiScan:
        """The same scan under another id."""
        instances = tuple(replace(instance, series_number=number) for instance in self.instances)
        return replace(self, id=number, instances=instances)

    def part(self, files: Sequence[NiftiFile], key: str) -> NiftiScan:
        """Some of its files as a scan of its own. key: the part's place below the session."""
        paths = {file.path for file in files}
        kept = [replace(one, series_uid=id_of(key)) for one in self.instances if one.path in paths]
        return replace(self, key=key, files=tuple(files), instances=tuple(kept))


@dataclass(frozen=True, slots=True)
class NiftiSession:
    """A session of a NIfTI tree.

    xsi_type: "" when nothing says it, which is a conflict
    typed: the user gave the type; it does not follow from the scans
    named: the text from which the subject's label was made
    patients: the PatientIDs that its sidecars name
    """

    subject: str
    label: str
    folder: str
    xsi_type: str
    scans: tuple[NiftiScan, ...]
    conflicts: tuple[Problem, ...] = ()
    typed: bool = False
    named: str = ""
    patients: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def is_repaired(self) -> bool:
        """Whether the subject's label is not what its folder is called."""
        return self.named != self.subject

    def as_session(self, project: str) -> Session:
        """As runs and reports know a session: every file is one instance."""
        instances = tuple(instance for scan in self.scans for instance in scan.instances)
        return Session(project, self.subject, self.label, "", self.folder, instances, self.conflicts)


@dataclass(frozen=True, slots=True)
class NiftiPlan:
    sessions: tuple[NiftiSession, ...]
    set_aside: tuple[SetAside, ...]
    problems: tuple[Problem, ...]
    files_seen: int

    def as_plan(self, project: str) -> Plan:
        sessions = tuple(session.as_session(project) for session in self.sessions)
        return Plan(project, sessions, self.set_aside, self.problems, self.files_seen)
