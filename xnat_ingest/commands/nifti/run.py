"""`xnat-ingest nifti`: uploads a NIfTI tree into the archive by XNAT's REST addresses, without DICOM.

Subjects, sessions and scans are created where they are missing. Existing ones are never changed. Files go into
resources of the scans. They count as verified when the server lists them with their size and, where it keeps digests,
their MD5.
"""

from __future__ import annotations

import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, groupby
from pathlib import Path

from xnat_ingest.commands.nifti.model import TYPES, NiftiFile, NiftiPlan, NiftiScan, NiftiSession
from xnat_ingest.commands.nifti.plan import NiftiOptions, make_nifti_plan, template
from xnat_ingest.commands.nifti.scan_ids import settle_ids
from xnat_ingest.commands.nifti.send import NiftiDelivery, NiftiSending
from xnat_ingest.commands.nifti.server_scans import ServerScan, check_session, holds_of, place, scans_of
from xnat_ingest.commands.nifti.tree import read_tree
from xnat_ingest.commands.resources import digest_of
from xnat_ingest.core import (
    Emit,
    Event,
    Outcome,
    Plan,
    Problem,
    Result,
    ServerSaid,
    Session,
    SessionTrouble,
    SourceChanged,
    Unreachable,
    UsageError,
    Verdict,
    printable,
)
from xnat_ingest.core.stop import Stop
from xnat_ingest.delivery.accession_ids import AccessionIds
from xnat_ingest.delivery.run import Run
from xnat_ingest.delivery.verdicts import conflict
from xnat_ingest.inputs import FolderSource, Source
from xnat_ingest.planning.labels import require_legal
from xnat_ingest.planning.planner import the_project
from xnat_ingest.planning.prepare import rule_set
from xnat_ingest.settings.options import Settings, TreeSettings
from xnat_ingest.xnat.archive import ArchivedSession, archived_session, archived_sessions, check_home
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.projects import Project, fetch_project, log_fields
from xnat_ingest.xnat.retry_policy import is_transient

# How often a session is looked at while others make scans of it.
_LOOKS = 5


@dataclass(frozen=True, slots=True)
class NiftiRunOptions:
    """The options of this command alone.

    modality, session_type: "" for what sidecars and folders say
    together: sidecars go into the resource of the images
    overwrite: files of the same name with other bytes are replaced
    """

    modality: str = ""
    session_type: str = ""
    quality: str = "usable"
    together: bool = False
    overwrite: bool = False

    @classmethod
    def of(cls, modality: str, session_type: str, quality: str, *, together: bool, overwrite: bool) -> NiftiRunOptions:
        """From the words of the command line. Raises UsageError."""
        word = {"PET": "PT"}.get(modality.upper(), modality.upper())
        if word and word not in TYPES:
            raise UsageError(f"--modality {printable(modality)}: give one of {', '.join(TYPES)}")
        if session_type and not re.fullmatch(r"[A-Za-z]\w*:\w+", session_type, re.ASCII):
            raise UsageError(f"--session-type {printable(session_type)}: give a type such as xnat:mrSessionData")
        if not quality.strip() or not quality.isprintable():
            raise UsageError("--quality: give a word such as usable, questionable or unusable")
        return cls(word, session_type, quality, together, overwrite)


class NiftiTree:
    """The plan of what is found below ROOT: as runs know it, and in NIfTI's own terms."""

    kept: frozenset[str] = frozenset()
    deidentifier = None

    def __init__(
        self, root: str, settings: TreeSettings, choices: NiftiRunOptions, check_stop: Callable[[], None]
    ) -> None:
        _check_folder(root)
        self.root = root
        self.source: Source = FolderSource(Path(root), follow_links=settings.follow_links)
        self.project = the_project(settings)
        if settings.experiment:
            require_legal(settings.subject, "-S")
            require_legal(settings.experiment, "-E")
        self.nifti = NiftiPlan((), (), (), 0)
        self._check_stop = check_stop
        self._rules = rule_set(settings, 2)
        self._wishes = NiftiOptions(
            template(settings.subject_label),
            template(settings.session_label),
            (settings.subject, settings.experiment) if settings.experiment else None,
            choices.modality,
            choices.session_type,
            choices.together,
            settings.allow_mixed_patients,
        )

    def use(self, project: str) -> None:
        self.project = project

    def want(self, keywords: frozenset[str]) -> None:
        """NIfTI has no such headers. Rules see what they name of a sidecar."""

    def make(self) -> Plan:
        tree = read_tree(self.source, self._rules, self._check_stop, fixed=self._wishes.fixed is not None)
        self.nifti = make_nifti_plan(tree, self._wishes)
        notes = (Problem("rule-unused", f"the rule {printable(name)} matched nothing") for name in self._rules.unused())
        self.nifti = replace(self.nifti, problems=(*self.nifti.problems, *notes))
        return self.nifti.as_plan(self.project)


def _check_folder(root: str) -> None:
    """Raises UsageError."""
    try:
        is_folder = stat.S_ISDIR(Path(root).stat().st_mode)
    except OSError as error:
        raise UsageError(f"cannot read ROOT {printable(root)}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"ROOT {printable(root)} is not the name of a folder") from error
    if not is_folder:
        raise UsageError(f"ROOT {printable(root)} is not a folder; unpack it and name the folder")


@dataclass(frozen=True, slots=True)
class ServerSide:
    """A session, and what the server holds of it.

    known: None when the server does not have it
    new_subject: the server does not have its subject either
    """

    session: NiftiSession
    known: ArchivedSession | None
    new_subject: bool
    scans: dict[str, ServerScan]

    def holds(self, scan: NiftiScan, file: NiftiFile) -> bool:
        """Whether the server lists a file of this name and size. The bytes are compared before sending."""
        there = self.scans.get(scan.id)
        return there is not None and there.files.get(place(file)) == file.size


class NiftiRun(Run):
    """One `nifti` run on one tree. command: `plan` when nothing is to be sent."""

    def __init__(self, root: str, settings: Settings, choices: NiftiRunOptions, emit: Emit, stop: Stop) -> None:
        if bool(settings.subject) != bool(settings.experiment):
            raise UsageError("-S and -E go together here: they make ROOT one session of one subject")
        self.tree = NiftiTree(root, settings, choices, stop.check)
        super().__init__("plan" if settings.dry_run else "nifti", root, settings, emit, stop, self.tree)
        self.choices = choices
        self.looks: dict[str, ServerSide] = {}
        self._subjects: set[str] = set()
        self._there: frozenset[str] = frozenset()  # those that this run has not made
        self._own: dict[str, bool] = {}
        self._known: list[ArchivedSession] = []
        self._creating = threading.Lock()

    def ask_project(self, rest: XnatClient, name: str) -> Project:
        project = fetch_project(rest, name, to_send=not self.settings.dry_run)
        self.control.emit(Event("project", log_fields(self.rules, project)))
        self._subjects = set(rest.rows(f"/data/projects/{project.id}/subjects", lambda row: row["label"]))
        self._there = frozenset(self._subjects)
        self._known = archived_sessions(rest, project.id)
        return project

    def deliver_all(self, rest: XnatClient, projects: dict[str, Project]) -> list[Outcome]:
        for project in projects.values():
            if not project.takes_subjects:
                self._note_new_subjects(project)
        work = self._judge if self.settings.dry_run else self._deliver
        with self.pools() as (pool, _):
            return [self._as_on_server(outcome) for outcome in self.work_on_sessions(pool, partial(work, rest))]

    def _note_new_subjects(self, project: Project) -> None:
        if new := [session for session in self.plan.sessions if session.subject not in self._subjects]:
            names = ", ".join(dict.fromkeys(session.subject for session in new))
            text = f"project {project.id} is set not to let uploads create subjects; {names} are new"
            note = Problem("new-subject", text, tuple(session.label for session in new))
            self.plan = replace(self.plan, problems=(*self.plan.problems, note))

    def _as_on_server(self, outcome: Outcome) -> Outcome:
        """The outcome with the server's scan ids, where they differ from the plan's."""
        look = self.looks.get(outcome.session.folder)
        return replace(outcome, session=look.session.as_session(outcome.session.project)) if look else outcome

    def result(self, outcomes: Sequence[Outcome], error: Exception | None = None) -> Result:
        return replace(super().result(outcomes, error), destination="archive", transport="resources")

    def _look(self, rest: XnatClient, session: Session) -> ServerSide:
        """Raises SessionTrouble."""
        mine = next(one for one in self.tree.nifti.sessions if one.folder == session.folder)
        with self._creating:
            subjects = set(self._subjects)
        known = check_session(mine, self._known, subjects)
        if not known:
            self._refuse_accession_ids(rest, session, subjects)
        if known:
            check_home(rest, session.project, known)
        if mine.is_repaired and mine.subject in self._there:
            self._refuse_stranger(rest, mine)
        scans = scans_of(rest, known.accession) if known else {}
        look = ServerSide(settle_ids(mine, scans, self._digest), known, mine.subject not in subjects, scans)
        self.looks[session.folder] = look
        return look

    def _refuse_stranger(self, rest: XnatClient, session: NiftiSession) -> None:
        """`Müller` becomes `M_ller`, as another person on the server may be called. Raises SessionTrouble."""
        with self._creating:
            if session.subject not in self._own:
                self._own[session.subject] = self._has_ours(rest, session.subject)
        if not self._own[session.subject]:
            raise SessionTrouble(
                "subject-exists",
                f"{printable(session.named)!r} becomes the subject label {session.subject}. The project has such a "
                "subject, with nothing of this tree, so two people could become one. If it is the same person, rename "
                f"the folder to {session.subject}. If not, give it another name, or --subject-label",
            )

    def _has_ours(self, rest: XnatClient, subject: str) -> bool:
        """Whether a session of this subject holds something of this tree, or is what a broken run has left empty."""
        for session in self.tree.nifti.sessions:
            label = session.label.casefold()
            known = next((k for k in self._known if k.label.casefold() == label and k.subject == subject), None)
            if known is None or session.subject != subject:
                continue
            there = scans_of(rest, known.accession).values()
            if not any(one.files for one in there):
                return True
            if any(holds_of(scan, there, self._digest) for scan in session.scans):
                return True
        return False

    def _digest(self, file: NiftiFile) -> str:
        try:
            return digest_of(file.local(self.tree.source))
        except (OSError, SourceChanged):
            return ""  # the sending tells

    def _refuse_accession_ids(self, rest: XnatClient, session: Session, subjects: set[str]) -> None:
        """Raises SessionTrouble for labels that XNAT would take for another subject or session."""
        ids = AccessionIds(rest)
        other = None if session.subject in subjects else ids.subject_conflict(session)
        if other := other or ids.session_conflict(session):
            raise SessionTrouble(other.kind, other.detail.removeprefix(f"{session.title}: "))

    def _judge(self, rest: XnatClient, session: Session) -> tuple[Verdict, int]:
        """What would be created, as far as listings tell."""
        try:
            look = self._look(rest, session)
        except SessionTrouble as error:
            return _troubled(session, error), 0
        there = sum(look.holds(scan, file) for scan in look.session.scans for file in scan.files)
        uri = f"/data/experiments/{look.known.accession}" if look.known else ""
        unverified = {i.sop_uid: "only planned" for i in session.instances}
        return Verdict("unverified", uri, already_there=there, unverified=unverified), 0

    def _deliver(self, rest: XnatClient, session: Session) -> tuple[Verdict, int]:
        try:
            look = self._create_scans(rest, session, self._create_session(rest, session))
        except SessionTrouble as error:
            return _troubled(session, error), 0
        assert look.known  # noqa: S101 - it was created
        sending = NiftiSending(rest, self.retry_policy, self.control, self.choices.overwrite)
        return NiftiDelivery(sending, session, look.known.accession, self.tree.source).send(look.session.scans)

    def _create_session(self, rest: XnatClient, session: Session) -> ServerSide:
        """The session as it is on the server. It and its subject are created if they are missing.

        Hours may have passed since the project was listed. Where others have made a session of this label by now, XNAT
        answers with its id, and moves it to the subject of the address. With `populateFromDB=false` it answers 409
        instead. So it is looked at before and after, and theirs is judged as if it had been there at the start.

        Raises SessionTrouble.
        """
        look = self._look(rest, session)
        if look.known:
            return look
        found = archived_session(rest, session.project, session.label)
        if found is None:
            self._create_subject(rest, session, look.session)
            path = f"/data/projects/{session.project}/subjects/{session.subject}/experiments/{session.label}"
            query = {"xsiType": look.session.xsi_type, "populateFromDB": "false"}
            self._put(rest, path, query, f"session {session.label}", accept=(200, 201, 409))
            found = archived_session(rest, session.project, session.label)
        if found is None:
            text = f"the server does not show session {session.label}, though it says that it has it"
            raise SessionTrouble("server-fault", f"{text}; look at it on the server")
        self._known.append(found)
        return self._look(rest, session)

    def _create_subject(self, rest: XnatClient, session: Session, mine: NiftiSession) -> None:
        """Creates the subject if it is missing. One that others have made meanwhile was there before this run."""
        with self._creating:  # of two requests at once for one new subject, XNAT would make two
            if session.subject not in self._subjects:
                path = f"/data/projects/{session.project}/subjects/{session.subject}"
                if not self._put(rest, path, {}, f"subject {session.subject}"):
                    self._there |= {session.subject}
                self._subjects.add(session.subject)
        if mine.is_repaired and mine.subject in self._there:
            self._refuse_stranger(rest, mine)

    def _create_scans(self, rest: XnatClient, session: Session, look: ServerSide) -> ServerSide:
        """The session with all of its scans, which are created where they are missing.

        For a scan that is there XNAT answers as for a new one, and changes its description. So each is looked at
        before, and all of them afterwards. Raises SessionTrouble.
        """
        for _ in range(_LOOKS):
            assert look.known  # noqa: S101 - it was created
            scans = f"/data/experiments/{look.known.accession}/scans"
            missing = [scan for scan in look.session.scans if scan.id not in look.scans]
            for scan in missing:
                if rest.item(f"{scans}/{scan.id}") is not None:
                    break  # others have made it meanwhile
                self._create_scan(rest, scans, scan)
            else:
                if not missing:
                    return look
                again = self._look(rest, session)
                if all(scan.id in again.scans for scan in again.session.scans):
                    return again
                break
            look = self._look(rest, session)
        text = f"others are making scans of {session.label} at the same time, so nothing was written into them"
        raise SessionTrouble("other-series", f"{text}; run the same again")

    def _create_scan(self, rest: XnatClient, scans: str, scan: NiftiScan) -> None:
        query = {
            "xsiType": scan.xsi_type,
            "type": scan.type,
            "series_description": scan.description,
            "quality": self.choices.quality,
        }
        self._put(rest, f"{scans}/{scan.id}", query | ({"UID": scan.uid} if scan.uid else {}), f"scan {scan.id}")

    def _put(
        self, rest: XnatClient, path: str, query: dict[str, str], what: str, accept: tuple[int, ...] = (200, 201)
    ) -> bool:
        """Creates what the address names.

        Returns whether it is new, or may be: an earlier attempt may have made it, though no answer came.

        what: its name in messages
        """
        for attempt in count(1):
            self.control.check()
            try:
                return rest.request("PUT", path, query, accept=accept).status == 201 or attempt > 1
            except (ServerSaid, Unreachable) as error:
                if error.status == 409:
                    raise SessionTrouble("other-type", f"{error}; look at it on the server") from error
                if error.status == 500 and isinstance(error, ServerSaid) and "xsiType" in query:  # a type it has not
                    said = error.sentence or "it answered 500"
                    text = f"the server refuses to create {what} of type {query['xsiType']} ({said})"
                    raise SessionTrouble("unknown-type", text) from error
                if not is_transient(error):
                    raise
                self.retry_policy.wait(error, attempt)
        raise AssertionError("unreachable")


def _troubled(session: Session, error: SessionTrouble) -> Verdict:
    return conflict(session, Problem(error.kind, f"{session.title}: {error}", (session.label,)))


def _in_order(run: NiftiRun) -> Iterator[ServerSide]:
    return (look for session in run.tree.nifti.sessions if (look := run.looks.get(session.folder)))


def tree_lines(run: NiftiRun) -> Iterator[str]:
    """What a run would create: one line for each subject, session, scan and file. New ones begin with "+"."""
    for subject, looks in groupby(_in_order(run), key=lambda look: look.session.subject):
        members = list(looks)
        yield f"{'+' if members[0].new_subject else ' '} subject {subject}"
        for look in members:
            session = look.session
            kind = look.known.xsi_type if look.known else session.xsi_type
            yield f"{' ' if look.known else '+'}   session {session.label}  {kind}"
            for scan in session.scans:
                there = scan.id in look.scans
                yield f"{' ' if there else '+'}     scan {scan.id}  {scan.xsi_type}  {scan.type}  {scan.description}"
                for file in scan.files:
                    yield f"{' ' if look.holds(scan, file) else '+'}       {file.resource}/{file.name}"
