"""What the stand-in keeps: projects, users, prearchive rows, archived sessions and the site's settings."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULT_TEMPLATE = "${StudyInstanceUID}-${SeriesNumber}-${InstanceNumber}-${HashSOPClassUIDWithSOPInstanceUID}"
UNASSIGNED = "Unassigned"

DICOM, SECONDARY = "DICOM", "secondary"
"""The labels under which a build catalogues what was received."""

AUTO_ARCHIVE_NAMES = {0: "Manual", 4: "AutoArchive", 5: "AutoArchiveOverwrite"}


@dataclass(frozen=True)
class Written:
    """One accepted write of files, as it was asked for."""

    path: str
    user: str
    query: dict[str, str]


@dataclass
class Resource:
    """A resource of a project, subject, session or scan. ``files`` is its catalogue; the disk may hold more."""

    id: int
    label: str
    directory: Path
    format: str = ""
    content: str = ""
    description: str = ""
    tags: list[str] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    """Path below the resource -> where it is."""
    digests: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """What the catalogue says of sizes: nothing at first, after a refresh or a merge what was true then."""
    said: dict[str, dict[str, str]] = field(default_factory=dict)
    """Path -> what its last write said of it: format, content, tags, description."""
    version: int = 0
    """Changes with the catalogue: who read an older one may not write it."""
    written: list[Written] = field(default_factory=list)


@dataclass
class Details:
    """What was written to a subject beyond its label."""

    fields: dict[str, str] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)
    inserted: float = field(default_factory=time.time)
    insert_user: str = "admin"


@dataclass
class Project:
    """A project; ``access`` maps a login to "none", "read", "edit" (member) or "delete" (owner).

    Read access for ``guest`` makes it a public one.
    """

    id: str
    code: int = 4
    aliases: tuple[str, ...] = ()
    access: dict[str, str] = field(default_factory=dict)
    name: str = ""
    series_filter: dict[str, Any] | None = None
    petmr: str | None = None
    anon_script: str | None = None
    """What project anonymisation does at archiving; see ``anonymize``."""
    config: dict[tuple[str, str], str] = field(default_factory=dict)
    quarantine_code: int = 0
    subjects: dict[str, str] = field(default_factory=dict)
    """Subject label -> accession id, in order of creation."""
    sessions: dict[str, ArchivedSession] = field(default_factory=dict)
    """Session label -> archived session."""
    shared: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Label here -> (home project, label there) of the sessions that are shared into this project."""
    details: dict[str, Details] = field(default_factory=dict)
    """Subject accession id -> what was written to the subject."""
    resources: dict[str, Resource] = field(default_factory=dict)

    def subject(self, label: str) -> str | None:
        """The stored spelling of a subject label; XNAT compares labels without regard to case when archiving."""
        return next((known for known in self.subjects if known.lower() == label.lower()), None)


@dataclass
class User:
    """A login; ``all_data`` behaves as a site administrator, ``enabled=False`` as a disabled account.

    ``container_manager`` is the container service's own role, which administrators do not have by themselves.
    """

    name: str
    password: str = "secret"
    all_data: bool = False
    enabled: bool = True
    first_name: str = ""
    last_name: str = ""
    failed_logins: int = 0
    container_manager: bool = False
    password_expired: bool = False
    """A local password older than the site allows: logging in works, and leads to the page for a new one only."""

    @property
    def guest(self) -> bool:
        """Whether this is nobody: what an open site takes a request for that says not who asks."""
        return self.name == "guest"


@dataclass
class Secondary:
    """The files of a scan whose SOP class is no primary one: a resource of their own beside DICOM."""

    files: dict[str, Path] = field(default_factory=dict)
    uids: dict[str, str] = field(default_factory=dict)
    resource_id: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass
class Scan:
    """One series of a session. ``files`` are the catalogued ones of DICOM; the disk may hold more."""

    id: str
    series_uid: str
    series_description: str = ""
    modality: str = ""
    xsi_type: str = "xnat:otherDicomScanData"
    files: dict[str, Path] = field(default_factory=dict)
    """Name -> path; a name may hold slashes where a header value put some into it."""
    uids: dict[str, str] = field(default_factory=dict)
    """File name -> SOPInstanceUID, what XNAT's catalogue entries hold."""
    resource_id: int = 0
    """Of the resource DICOM; 0 while there is none."""
    digests: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)
    """By label; DICOM and secondary are among them only when they were asked for, and then share their catalogues."""
    sizes: dict[str, int] = field(default_factory=dict)
    secondary: Secondary = field(default_factory=Secondary)
    scattered: bool = False
    """Whether its files lie in the folders of several scans: such a row is not archived."""

    @property
    def catalogues(self) -> dict[str, Scan | Secondary]:
        """What a build or the archive has in the scan, by label: DICOM, secondary or both."""
        return {label: one for label, one in ((DICOM, self), (SECONDARY, self.secondary)) if one.files}

    @property
    def every_file(self) -> dict[str, Path]:
        """The catalogued files of both labels by name; of equal names, the one in DICOM."""
        return self.secondary.files | self.files

    @property
    def paths(self) -> list[Path]:
        """Where the catalogued files of both labels are."""
        return [*self.files.values(), *self.secondary.files.values()]

    def labelled(self, label: str) -> Scan | Secondary | None:
        """The catalogue of a label that a build makes, empty or not."""
        kept: dict[str, Scan | Secondary] = {DICOM: self, SECONDARY: self.secondary}
        return kept.get(label)

    def moved(self, old: Path, new: Path) -> None:
        """Its files are below another folder now."""
        for one in self.catalogues.values():
            one.files = {name: new / path.relative_to(old) for name, path in one.files.items()}

    def copy(self) -> Scan:
        """The scan with catalogues of its own and no resources yet."""
        second = Secondary(dict(self.secondary.files), dict(self.secondary.uids))
        return Scan(
            self.id,
            self.series_uid,
            self.series_description,
            self.modality,
            self.xsi_type,
            dict(self.files),
            dict(self.uids),
            secondary=second,
            scattered=self.scattered,
        )


@dataclass
class Row:
    """A session in the prearchive: one line of the prearchive table."""

    project: str | None
    timestamp: str
    folder: str
    label: str
    subject: str | None
    study_uid: str | None
    directory: Path
    status: str = "RECEIVING"
    autoarchive: str | None = None
    prevent_anon: bool = False
    prevent_auto_commit: bool = False
    source: str = ""
    visit: str = ""
    protocol: str = ""
    timezone: str = ""
    scan_date: str = ""
    scan_time: str = ""
    uploaded: float = field(default_factory=time.time)
    lastmod: float = field(default_factory=time.time)
    touched: float = field(default_factory=time.monotonic)
    built: dict[str, Scan] | None = None
    is_empty: bool = False
    """The last build could read nothing, and left an empty session document."""
    xsi_type: str = ""
    logs: list[tuple[str, float, str]] = field(default_factory=list)
    open_files: set[str] = field(default_factory=set)
    gone: bool = False

    @property
    def files(self) -> dict[str, Path]:
        """Every file on disk by name; scans share no names in ordinary use, the last one wins otherwise."""
        found = (path for label in (SECONDARY, DICOM) for path in sorted(self.directory.glob(f"SCANS/*/{label}/**/*")))
        return {"/".join(path.relative_to(self.directory).parts[3:]): path for path in found if path.is_file()}

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.project or UNASSIGNED, self.timestamp, self.folder)

    @property
    def url(self) -> str:
        """The address in listings: without ``/data``."""
        return "/prearchive/projects/" + "/".join(self.key)

    def log(self, text: str) -> None:
        """Append a log entry, as XNAT writes ``logs/<millis>.log`` beside the scans."""
        now = time.time()
        self.logs.append((str(int(now * 1000) + len(self.logs)), now, text))


@dataclass
class ArchivedSession:
    """An imaging session in the archive."""

    accession: str
    project: str
    subject: str
    label: str
    study_uid: str | None
    xsi_type: str
    modality: str
    directory: Path
    date: str = ""
    scans: dict[str, Scan] = field(default_factory=dict)
    inserted: float = field(default_factory=time.time)
    insert_user: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)
    subject_project: str = ""
    """The project of its subject, where that is another one."""

    @property
    def files(self) -> dict[str, Path]:
        """The catalogued DICOM files of all scans by name, those of ``secondary`` among them."""
        return {name: path for scan in self.scans.values() for name, path in scan.every_file.items()}

    @property
    def uri(self) -> str:
        return f"/archive/projects/{self.project}/subjects/{self.subject}/experiments/{self.label}"


@dataclass
class Settings:
    """Site settings a test may change while the server runs."""

    session_timeout: float = 15 * 60.0
    rebuilder_interval: float | None = None
    lastmod_step: float = 15.0
    """Seconds for which a file that comes does not move its row's time."""
    file_name_template: str = DEFAULT_TEMPLATE
    site_filter: dict[str, Any] | None = None
    site_anonymization: bool = False
    site_script: str = "name"
    """What site anonymisation does on receipt; see ``anonymize``."""
    site_petmr: str | None = None
    context_path: str = ""
    version: str = "1.8.10"
    max_failed_logins: int = 20
    max_sessions: int = 1000
    archive_timeout: float = 600.0
    default_importer: str = "DICOM-zip"
    prevent_cross_modality_merge: bool = True
    allow_uid_change: bool = False
    restrict_user_list: bool = True
    fail_merge_on: str = "false"
    checksums: bool = True
    read_timeout: float = 20.0
    """Tomcat's connectionTimeout: how long one read from a silent client may take."""
    config: dict[tuple[str, str], str] = field(default_factory=dict)
    site_id: str = "XNAT"
    alias_token_timeout: float = 2 * 24 * 3600.0
    catalog_window: float = 0.0
    """Seconds between a file's last byte and the writing of its resource's catalogue: time for another to be first."""
    container_service: bool = True
    """Whether the container service is installed."""
    require_login: bool = True
    """False: an open site, where a request without a login is the user ``guest``."""
    nodes: int = 1
    """How many servers are behind the balancer; they share database and storage, not HTTP sessions."""
    pre_compression: int | None = None
    """enableNativeDicomPreCompression (1.10): uncompressed files of so many bytes become JPEG 2000; XNAT's own limit is
    2,000,000,000. None: off, as on a new site."""
    require_justification: bool = False
    """requireChangeJustification: changes of objects and resources need ``event_reason``; imports do not."""
    separate_secondary: bool = True
    """separateSecondaryDicomOnArchive: a build moves what is no primary image to the resource ``secondary``."""
    set_up_types: tuple[str, ...] = tuple(f"xnat:{one}SessionData" for one in ("cr", "ct", "mr", "pet", "petmr"))
    """Session types that are set up on the site; sessions of every other type are in no listing."""

    def at_least(self, version: str) -> bool:
        """Whether the server is of this version or a later one."""
        mine, wanted = ([int(part) for part in one.split(".")[:2]] for one in (self.version, version))
        return mine >= wanted


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, as the server saw them."""

    method: str
    path: str
    query: dict[str, str]
    status: int
    body_bytes: int
    content_type: str | None
    content_length: int | None
    user_agent: str | None
    started: float
    finished: float
    user: str | None = None
    reply: bytes = b""


class Counter:
    """Thread-safe numbers for accession ids and resources."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, int] = {}

    def next(self, name: str) -> int:
        with self._lock:
            self._values[name] = self._values.get(name, 0) + 1
            return self._values[name]
