"""Sends one session's NIfTI files into the resources of its scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from xnat_ingest.commands.nifti.model import NiftiFile, NiftiScan, id_of
from xnat_ingest.commands.resources import send
from xnat_ingest.core import Event, IngestError, Problem, Session, Stopped, Verdict, error_kind
from xnat_ingest.core.stop import RunControl
from xnat_ingest.inputs import Source
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.retry_policy import RetryPolicy

# Files that a problem of a session names.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class NiftiSending:
    """How files are sent in a run.

    control: whether the run may go on, and where its events go
    overwrite: replace files on the server that hold other bytes
    """

    rest: XnatClient
    retry_policy: RetryPolicy
    control: RunControl
    overwrite: bool


@dataclass(slots=True)
class NiftiDelivery:
    """Sends the files of one session.

    accession: the session's id on the server
    kinds: kind of problem -> SOPInstanceUIDs of the files that have it
    """

    how: NiftiSending
    session: Session
    accession: str
    source: Source
    verified: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, list[str]] = field(default_factory=dict)
    there: int = 0
    sent: int = 0

    def send(self, scans: Sequence[NiftiScan]) -> tuple[Verdict, int]:
        """Sends scan by scan. Files that an error or a signal leaves unsent get the reason."""
        cause: IngestError | None = None
        try:
            for scan in scans:
                ordered = sorted(scan.files, key=_resource, reverse=True)  # the images first: they identify the scan
                for label, files in groupby(ordered, key=_resource):
                    self._into(scan, label, list(files))
        except IngestError as error:
            cause = error
        left = {
            i.sop_uid: str(cause)
            for i in self.session.instances
            if i.sop_uid not in self.verified and i.sop_uid not in self.failed
        }
        stopped = isinstance(cause, Stopped)
        failed = self.failed if stopped else self.failed | left
        problems = [self._problem(kind, uids) for kind, uids in self.kinds.items()]
        if cause and not stopped:
            problems.append(Problem(error_kind(cause), f"{self.session.title}: {cause}", (self.session.label,)))
        verdict = Verdict(
            "failed" if failed else "unverified" if left else "verified",
            f"/data/experiments/{self.accession}",
            frozenset(self.verified),
            already_there=self.there,
            failed=failed,
            unverified=left if stopped else {},
            problems=tuple(problems),
            cause=cause,
        )
        return verdict, self.sent

    def _fail(self, kind: str, failed: Mapping[str, str]) -> None:
        self.failed |= failed
        if failed:
            self.kinds.setdefault(kind, []).extend(failed)

    def _problem(self, kind: str, uids: Sequence[str]) -> Problem:
        """Names the first files, with the reason of the first. The report has the reason of each."""
        named = ", ".join(uids[:_NAMED]) + (f" and {len(uids) - _NAMED} more" if len(uids) > _NAMED else "")
        return Problem(kind, f"{self.session.title}: {named}: {self.failed[uids[0]]}", (self.session.label,))

    def _into(self, scan: NiftiScan, label: str, files: list[NiftiFile]) -> None:
        uid_of = {file.name: id_of(file.path) for file in files}
        unchanged = []
        for file in files:
            if self._changed(file):
                changed = "the file changed since it was read; run the same again"
                self._fail("source-changed", {uid_of[file.name]: changed})
            else:
                unchanged.append(file.local(self.source))
        done = send(
            self.how.rest,
            f"/data/experiments/{self.accession}/scans/{scan.id}",
            label,
            unchanged,
            overwrite=self.how.overwrite,
            retry_policy=self.how.retry_policy,
            format=label,
            progress=self._progress,
            check_stop=self.how.control.check,
        )
        self.sent += len(done.sent)
        self.there += len(done.already)
        self.verified |= {uid_of[name] for name in done.sent | done.already}
        self._fail("server-fault", {uid_of[name]: why for name, why in sorted(done.failed.items())})
        other = "the server has other bytes under this name; run the same again with --overwrite to replace them"
        self._fail("existing", {uid_of[name]: other for name in sorted(done.different)})
        self.how.control.emit(self._event(len(files), 0))

    def _changed(self, file: NiftiFile) -> bool:
        try:
            return self.source.stat(file.path) != (file.size, file.mtime_ns)
        except OSError:
            return True

    def _progress(self, number: int) -> None:
        self.how.control.emit(self._event(0, number))

    def _event(self, instances: int, number: int) -> Event:
        return Event("progress", {"session": self.session.title, "instances": instances, "bytes": number})


def _resource(file: NiftiFile) -> str:
    return file.resource
