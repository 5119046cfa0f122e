"""The nouns of this program, as immutable data. docs/design.md, section 1, explains the words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from xnat_ingest.core.stored_name import stored_name, uid_hash

# What is done to a file before it is sent.
#   file: nothing.
#   inflated: its data set is inflated.
#   headed: preamble and file meta information are added.
Form = Literal["file", "inflated", "headed"]
# What is wrong with a file that is sent all the same.
#   unended: its compressed pixel data has no sequence delimiter, or has a pad byte before it.
#   truncated: some of its data is missing, and the user accepted that.
#   study-date: its StudyDate does not begin with a year, so XNAT refuses it.
Flaw = Literal["", "unended", "truncated", "study-date"]
VerdictWord = Literal["verified", "counted", "missing", "conflict", "failed", "unverified", "skipped"]

# The three transfer syntaxes whose whole data set is a deflate stream (PS3.5, A.5) -> the syntax once inflated.
INFLATED = {
    "1.2.840.10008.1.2.1.99": "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.4.95": "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.205": "1.2.840.10008.1.2.4.204",
}
# How deeply a run looks at what the server stored (--proof), from the least on.
PROOF_LEVELS = ("listing", "spot", "pixels")
# The reason for setting a file aside that another shard of the run takes.
OTHER_SHARD = "other-shard"
# The kind of the note that no file is a shard's.
EMPTY_SHARD = "shard-empty"
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
        OTHER_SHARD,
        "system-folder",
    }
)


def is_note(reason: str) -> bool:
    """Whether files set aside for this reason leave the run a success."""
    return reason.partition(":")[0] in NOTES


EMPTY = "empty file"
ZEROS = "nothing but zero bytes"
POINTER = "a pointer without its content; run git lfs pull, git annex get or datalad get first"
ICLOUD = "its content is in iCloud; download it first"
BLANK_DETAILS = frozenset({EMPTY, ZEROS, POINTER, ICLOUD})
# Also of an image that has lost its start, but files of many kinds begin so.
BEGINS_WITH_ZEROS = "it begins with zero bytes"
# Of a file that is named as if it were encrypted.
PLAIN_TEXT = "plain text"
OUTSIDE = "points outside ROOT (--follow-links follows it)"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file below ROOT.

    path: relative, '/'-separated, with undecodable bytes as surrogates.
    size: in bytes.
    """

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """A file that was seen but is not sent, with exactly one reason."""

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
    transfer_syntax: the file's, or the one it was found to use when it names none.
    pixel_bytes: bytes of pixel data that are sent, 0 when there is none.
    series_number, instance_number: as written, "" when absent.
    tags: the values of the keywords that rules and label templates asked for.
    form: see Form.
    sent_size: bytes that are sent, 0 when that is the file's size.
    head_size: how many of them come before the data set.
    flaw: see Flaw.
    sent_tags: like tags, after de-identification; None when nothing changes.
    patient: a number that stands for its PatientID, counted in scan order; "" without one. The PatientID itself is not
        kept.
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
        """The values of tags as they are sent. Labels and the server's filters must only see these."""
        return self.tags if self.sent_tags is None else self.sent_tags

    @property
    def length(self) -> int:
        """How many bytes are sent."""
        return self.sent_size or self.size

    @property
    def sent_syntax(self) -> str:
        """The transfer syntax of what is sent."""
        return INFLATED.get(self.transfer_syntax, self.transfer_syntax)

    @property
    def name(self) -> str:
        """The file name that XNAT's default template gives this instance: the identity that listings show."""
        return _stored_name(self.sop_class, self.sop_uid, self.study_uid, self.series_number, self.instance_number)


# Each instance's name is needed about fifteen times during a run. The cache is bounded.
@lru_cache(maxsize=32768)
def _stored_name(sop_class: str, sop_uid: str, study_uid: str, series_number: str, instance_number: str) -> str:
    return stored_name(study_uid, series_number, instance_number, uid_hash(sop_class, sop_uid))


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the report that is not about a single file.

    kind: one of docs/design.md, section 2.2.
    detail: what happened, to what, and what to do.
    sessions: labels.
    spoils: whether exit 0 is out of reach, where no session is to blame.
    fix: the end of detail that says what to do, "" when there is none.
    """

    kind: str
    detail: str
    # There may be thousands, and each of them has the problem among its conflicts.
    sessions: tuple[str, ...] = field(default=(), hash=False)
    spoils: bool = False
    fix: str = ""

    @classmethod
    def advised(cls, kind: str, fact: str, fix: str, sessions: tuple[str, ...] = ()) -> Problem:
        """A problem whose remedy is kept apart, so that it is shown once for many of the kind."""
        return cls(kind, f"{fact}; {fix}" if fix else fact, sessions, fix=fix)

    @property
    def fact(self) -> str:
        """The detail without the remedy."""
        return self.detail.removesuffix(f"; {self.fix}") if self.fix else self.detail


@dataclass(frozen=True, slots=True)
class Session:
    """One imaging study under one project, subject and label.

    folder: where it lies below ROOT.
    repaired: what the subject label was before illegal characters in it were replaced, "" for one that was legal.
    subject_given: the subject label is the user's, from a label sheet. It may join what has several PatientIDs.
    """

    project: str
    subject: str
    label: str
    study_uid: str
    folder: str
    instances: tuple[Instance, ...]
    conflicts: tuple[Problem, ...] = ()
    repaired: str = ""
    subject_given: bool = False

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
    """What a transport claims about one part. It proves nothing: only what the server lists leads to a verdict.

    uris: where the server says the part landed, distinct; none when everything was filtered or nothing was read, and
        then instances, those that were taken, is empty, too.
    refused: instances that the server will not take, SOPInstanceUID -> why.
    attempts: request bodies.
    disturbed: something was repeated, so the stored files must be compared before the commit.
    notes: what was noticed -> in how many instances; never a value from a header.
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
    """What was read back from the server and compared with what was sent.

    instances: how many.
    bytes: downloaded from the server.
    skipped: why -> instances that were not compared, or not completely.
    changed: keyword of an element -> instances in which the server changed it, which it is allowed to.
    series: SeriesInstanceUID -> how many of the instances are of it.
    """

    instances: int
    bytes: int
    skipped: Mapping[str, int]
    changed: Mapping[str, int]
    series: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the server was seen to store of one session.

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
    """How one session ended: its plan, its verdict, and what it cost.

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
    totals: the counts of docs/design.md, section 2.
    launch: what XNAT's container service says about it, empty elsewhere.
    deidentification: what was done to headers, without their values.
    proof: the level of --proof, "" when nothing was checked.
    shard: K/N, "" for a whole run.
    root: the folder or archive that was read; "" with --redact-paths.
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
    root: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for reporters and logs.

    name: what happened.
    fields: its details, as JSON values.
    """

    name: str
    fields: Mapping[str, object]


Emit = Callable[[Event], None]
