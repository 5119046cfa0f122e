"""The nouns of this program, as immutable data. Words: docs/design.md, section 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from xnat_ingest.core.stored_name import stored_name, uid_hash

# What is done to a file on its way out: nothing; its data set is inflated; preamble and meta information are added.
Form = Literal["file", "inflated", "headed"]
# What a file that is sent all the same lacks: nothing; the last mark of its compressed pixel data, or a pad byte before
# it; some of its data, which the user has accepted; a year at the beginning of its StudyDate, which XNAT refuses.
Flaw = Literal["", "unended", "truncated", "study-date"]
VerdictWord = Literal["verified", "counted", "missing", "conflict", "failed", "unverified", "skipped"]

# The three transfer syntaxes whose whole data set is a deflate stream (PS3.5, A.5) -> what its inflated data set is.
INFLATED = {
    "1.2.840.10008.1.2.1.99": "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.4.95": "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.205": "1.2.840.10008.1.2.4.204",
}
# Reasons for setting a file aside that do not spoil a run (exit 0); all others are problems (exit 3).
NOTES = frozenset(
    {
        "excluded",
        "not-dicom",
        "nested-archive",
        "duplicate",
        "dicomdir",
        "server-filter",
        "session-exists",
        "link",
        "other-shard",
        "system-folder",
    }
)


def is_note(reason: str) -> bool:
    """Whether files set aside for this reason leave the run a success."""
    return reason.partition(":")[0] in NOTES


EMPTY = "empty file"
ZEROS = "nothing but zero bytes"
BLANK_DETAILS = frozenset({EMPTY, ZEROS})


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file below ROOT. path: relative, '/'-separated, undecodable bytes as surrogates; size in bytes."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """A file that was seen and is not sent, with exactly one reason."""

    path: str
    reason: str
    detail: str = ""

    @property
    def is_problem(self) -> bool:
        return not is_note(self.reason)


@dataclass(frozen=True, slots=True)
class Instance:
    """One DICOM object in one file.

    size: bytes of the file.
    transfer_syntax: the file's, or the one that it is encoded in where it names none.
    pixel_bytes: bytes of pixel data in what is sent, 0 when there is none.
    series_number, instance_number: as written, "" when absent.
    tags: the values of the keywords that rules and label templates asked for.
    form: see Form.
    sent_size: bytes that are sent, 0 where that is the file's size.
    head_size: how many of them come before the data set.
    flaw: see Flaw.
    sent_tags: as tags, of what is sent, None where nothing changes there.
    patient: a number for its PatientID, in the order in which the scan met them, "" without one; the PatientID itself
        is not kept.
    """

    path: str
    size: int
    mtime_ns: int
    sop_class: str
    sop_uid: str
    study_uid: str
    series_uid: str
    series_number: str
    instance_number: str
    modality: str
    series_description: str
    transfer_syntax: str
    pixel_bytes: int
    tags: Mapping[str, str]
    form: Form = "file"
    sent_size: int = 0
    head_size: int = 0
    flaw: Flaw = ""
    sent_tags: Mapping[str, str] | None = None
    patient: str = ""

    @property
    def leaving(self) -> Mapping[str, str]:
        """The values that leave of what tags holds: labels and the server's filters see no others."""
        return self.tags if self.sent_tags is None else self.sent_tags

    @property
    def length(self) -> int:
        """Bytes that are sent."""
        return self.sent_size or self.size

    @property
    def sent_syntax(self) -> str:
        """The transfer syntax of what is sent."""
        return INFLATED.get(self.transfer_syntax, self.transfer_syntax)

    @property
    def name(self) -> str:
        """The file name that XNAT's default template gives this instance: the identity that listings show."""
        return _stored_name(self.sop_class, self.sop_uid, self.study_uid, self.series_number, self.instance_number)


# Each instance of a session is asked for its name some fifteen times on its way; what is kept is bounded.
@lru_cache(maxsize=32768)
def _stored_name(sop_class: str, sop_uid: str, study_uid: str, series_number: str, instance_number: str) -> str:
    return stored_name(study_uid, series_number, instance_number, uid_hash(sop_class, sop_uid))


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that the report names beside single files.

    kind: docs/design.md 3.4.
    sessions: labels.
    spoils: whether exit 0 is out of reach, where no session is to blame.
    """

    kind: str
    detail: str
    sessions: tuple[str, ...] = ()
    spoils: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """One imaging study under one project, subject and label.

    folder: where it lies below ROOT.
    repaired: what the subject label was before illegal characters in it were replaced, "" for one that was legal.
    """

    project: str
    subject: str
    label: str
    study_uid: str
    folder: str
    instances: tuple[Instance, ...]
    conflicts: tuple[Problem, ...] = ()
    repaired: str = ""

    @property
    def bytes(self) -> int:
        return sum(i.length for i in self.instances)

    @property
    def title(self) -> str:
        return f"{self.project}/{self.subject}/{self.label}"


@dataclass(frozen=True, slots=True)
class Plan:
    project: str
    sessions: tuple[Session, ...]
    set_aside: tuple[SetAside, ...]
    problems: tuple[Problem, ...]
    files_seen: int

    @property
    def planned(self) -> int:
        return sum(len(s.instances) for s in self.sessions)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a transport claims about one part. Proves nothing: a verdict comes from what the server lists.

    uris: where the server says the part landed, distinct; none when everything was filtered or nothing was read, and
        then instances, those that were taken, is empty, too.
    refused: instances that the server will not take, SOPInstanceUID -> why.
    attempts: request bodies.
    disturbed: something was repeated, so what is stored must be compared before it is closed.
    notes: what was noticed -> in how many instances, never a value from a header.
    """

    uris: tuple[str, ...]
    instances: tuple[Instance, ...]
    bytes: int
    refused: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 1
    disturbed: bool = False
    notes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What was read back of a session and laid beside what was sent.

    instances: how many.
    bytes: taken from the server.
    skipped: why -> instances that were not compared, or not whole.
    changed: keyword of an element -> instances in which the server changed it, as it may.
    """

    instances: int
    bytes: int
    skipped: Mapping[str, int]
    changed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the server was seen to hold of one session.

    verified, counted, already_there: instances.
    missing, failed, unverified: instance -> why, by SOPInstanceUID.
    cause: the error that ended a failed session.
    read_back: None when nothing was to be.
    """

    word: VerdictWord
    uri: str = ""
    verified: frozenset[str] = frozenset()
    counted: frozenset[str] = frozenset()
    already_there: int = 0
    missing: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    unverified: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    cause: Exception | None = None
    read_back: ReadBack | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One session's end: its plan, its verdict, what it took.

    began: seconds after the run began.
    seconds: wall time.
    attempts: part bodies sent.
    """

    session: Session
    verdict: Verdict
    seconds: float = 0.0
    attempts: int = 0
    began: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """A whole run, for its report.

    started, finished: ISO 8601 with zone.
    totals: docs/design.md 3.4.
    launch: what XNAT's container service says of it, empty elsewhere.
    deidentification: what was done to headers, no values.
    proof: how deep it looked, "" when it did not.
    shard: K/N, "" for a whole run.
    """

    command: str
    plan: Plan
    outcomes: tuple[Outcome, ...]
    problems: tuple[Problem, ...]
    totals: Mapping[str, float]
    exit_code: int
    started: str
    finished: str
    server: str = ""
    destination: str = ""
    transport: str = ""
    launch: Mapping[str, str] = field(default_factory=dict)
    deidentification: Mapping[str, object] = field(default_factory=dict)
    proof: str = ""
    shard: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for whoever shows or logs it.

    name: docs/design.md, events.
    fields: JSON values.
    """

    name: str
    fields: Mapping[str, object]


Emit = Callable[[Event], None]
