"""What is already on the server decides what is sent: the table of docs/guarantees.md as one pure function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from xnat_ingest.core import Instance, Problem, Session, printable
from xnat_ingest.delivery.same_number import SameNumber, Stuck, split_by_merge
from xnat_ingest.delivery.session_type import (
    candidates,
    leading_modality,
    missing_modalities,
    modalities_to_leave_out,
    needed_modality,
    without,
)
from xnat_ingest.xnat.archive import NO_FILES, ArchivedSession, Comparison, StoredFiles, compare_stored
from xnat_ingest.xnat.prearchive import GONE, STUCK, UNREADABLE, PrearchiveSession, archive_command, command_for
from xnat_ingest.xnat.scan_ids import number_of, was_built
from xnat_ingest.xnat.site_names import among, may_repeat

# What the archiver says when it refused a session for a reason that has passed, or that overwrite_files settles.
TEMPORARY_REFUSALS = (
    "Session processing may already be in progress",
    "Duplicate archive attempt",
    "Session already exists with matching files",
    "Session already exists with the same resources",
    "(or non-parsable ",  # another client's file was still arriving
)
# What the archiver says when it refused a merge, and what will end that.
_REFUSED_MERGES = {
    "a scan with the same UID, but a different number": "upload a tree that holds all series of that SeriesNumber",
    "Invalid modification of session UID": (
        "delete the archived session in XNAT: the site's script gives its study another UID now than it had then"
    ),
    "Invalid modification of session modality": "upload a tree that holds images of the session's own type, too",
}
ANOTHER_LABEL = "give this session another label (--labels, --session-label, or upload its folder alone with -S and -E)"
# With another key the same study gets another UID.
_ANOTHER_KEY = ". If it is the same study, sent with another --deid-key-file than now, give that key"


@dataclass(frozen=True, slots=True)
class ServerState:
    """What was found about one session.

    sessions: archived sessions with its label or its study
    files_held: the files of the archived session with its label
    entries: prearchive sessions with its label or study
    log: the last line of the server's log on a prearchive session that is stuck
    template: the site's own one of file names, as far as it is known
    splits_petmr: the project keeps PET and MR apart
    by_dicom: the session goes to a DICOM receiver
    changes_uids: the site's script is known to change UIDs on receipt
    makes_petmr: PET and MR together are known to make a PET/MR session
    stays_open: the session is to stay in the prearchive, so nothing is merged yet
    recounts: a script of the project may change headers, and then XNAT gives scans their ids once more
    """

    sessions: Sequence[ArchivedSession] = ()
    files_held: StoredFiles = NO_FILES
    entries: Sequence[PrearchiveSession] = ()
    log: str = ""
    template: str = ""
    splits_petmr: bool = False
    by_dicom: bool = False
    changes_uids: bool = False
    makes_petmr: bool = False
    stays_open: bool = False
    recounts: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done for one session.

    archive: what the archive holds of it
    to_send: what is to be sent in this round, less what our open prearchive session holds
    conflict: why nothing is sent
    entry: our open prearchive session, to go on with
    overwrite: the commit must replace files that the archive has
    later: some instances need a round of their own, since XNAT would refuse to merge them with the rest
    """

    archive: Comparison
    to_send: tuple[Instance, ...] = ()
    conflict: Problem | None = None
    entry: PrearchiveSession | None = None
    overwrite: bool = False
    notes: tuple[Problem, ...] = ()
    later: bool = False


def decide(
    session: Session,
    state: ServerState,
    mode: str = "resume",
    doubtful: frozenset[str] = frozenset(),
    replaced: frozenset[str] = frozenset(),
) -> Decision:
    """What to send, from what the archive and the prearchive hold. No mode deletes anything.

    mode: --existing. `skip` and `fail` are handled earlier.
    doubtful: SOPInstanceUIDs of archived copies that may be cut or old. They are sent again.
    replaced: with mode overwrite, what this run has replaced already
    """
    archive = compare_stored(session.instances, state.files_held)
    if doubtful:
        cut = dict.fromkeys(doubtful, "the archived copy may be cut: an upload was broken off")
        verified, counted = archive.verified - doubtful, archive.counted - doubtful
        archive = replace(archive, verified=verified, counted=counted, absent={**archive.absent, **cut})
    if conflict := _conflict(session, state, archive, mode):
        return Decision(archive, conflict=conflict)
    done = replaced - doubtful if mode == "overwrite" else archive.seen
    to_send = tuple(i for i in session.instances if i.sop_uid not in done)
    if not to_send:
        return Decision(archive, notes=tuple(_stale(session, entry) for entry in state.entries))
    clash = name_clash(session, archive, to_send, state.files_held, state.template, hashed=state.changes_uids)
    if clash := clash or moved_between_series(session, to_send, state.files_held):
        return Decision(archive, conflict=clash)
    merge = _merge(session, state, archive, to_send)
    unmergeable = None if state.stays_open else _unmergeable(session, state, merge)
    entry, conflict = _our_session(session, state, unmergeable)
    now, companions = merge.now, merge.companions
    overwrite = bool(companions) or (mode == "overwrite" and bool(state.files_held.sizes))
    overwrite |= bool(archive.other_names) or any(state.files_held.name_of(i) for i in now)
    return Decision(archive, merge.sent, conflict or unmergeable, entry, overwrite, later=merge.by_number.later)


@dataclass(frozen=True, slots=True)
class _Merge:
    """How the instances are sent so that XNAT merges them into the archived session.

    by_number: those of this round, with company for series that share their number
    along: archived instances among them that keep the session's type
    xsi_type: the archived session's
    unmatched: a modality of which no archived instance can go along, since their files on the server have other names,
        and a copy under its own name would be stored twice
    moved: a modality of which none can, since all of them have another SeriesNumber than in the archive
    apart: a modality of which none can, since it would give series another number
    """

    by_number: SameNumber
    along: tuple[Instance, ...] = ()
    xsi_type: str = ""
    unmatched: str = ""
    moved: str = ""
    apart: str = ""

    @property
    def now(self) -> tuple[Instance, ...]:
        along = {i.sop_uid for i in self.along}
        return tuple(i for i in self.by_number.now if i.sop_uid not in along)

    @property
    def companions(self) -> tuple[Instance, ...]:
        return (*self.by_number.companions, *self.along)

    @property
    def sent(self) -> tuple[Instance, ...]:
        return (*self.now, *self.companions)


def _merge(session: Session, state: ServerState, archive: Comparison, to_send: Sequence[Instance]) -> _Merge:
    seen = archive.seen
    usable = seen if state.template else archive.verified
    moved = frozenset(i.sop_uid for i in session.instances if _has_moved(i, state.files_held))
    usable -= moved

    def split(instances: Sequence[Instance]) -> SameNumber:
        planned, held = session.instances, state.files_held
        hashed, recounts = state.changes_uids, state.recounts
        return split_by_merge(instances, planned, held, usable, hashed=hashed, recounts=recounts)

    ours = next((k for k in state.sessions if k.label.casefold() == session.label.casefold()), None)
    merge = _Merge(split(to_send), xsi_type=ours.xsi_type if ours else "")
    # A copy under its old number replaces the file of its name. One under a new number replaces it as XNAT knows the
    # SOPInstanceUID, unless the site has switched that off, so it goes only where no other can.
    archived = sorted((i for i in session.instances if i.sop_uid in seen), key=lambda i: _is_renumbered(i, state))
    passed: list[str] = []
    while modality := needed_modality(merge.xsi_type, merge.sent, passed):
        passed.append(modality)
        usable_ones = candidates(modality, (i for i in archived if i.sop_uid in usable))
        if found := next((with_it for one in usable_ones if (with_it := _joined(merge, to_send, one, split))), None):
            merge = found
        elif usable_ones:
            return replace(merge, apart=modality)
        elif any(i.modality == modality and i.sop_uid in moved for i in archived):
            return replace(merge, moved=modality)
        elif any(i.modality == modality for i in archived):
            return replace(merge, unmatched=modality)
    return merge


def _is_renumbered(instance: Instance, state: ServerState) -> bool:
    return state.files_held.name_of(instance) not in ("", instance.name)


def _has_moved(instance: Instance, files_held: StoredFiles) -> bool:
    """Whether a copy of an archived instance would go into another scan than it lies in, and be stored twice.

    It does under another SeriesNumber, and not under another InstanceNumber alone.
    """
    name = files_held.name_of(instance)
    if name in ("", instance.name):
        return False
    return not was_built(files_held.scans.get(name, ""), number_of(instance))


def _joined(
    merge: _Merge, to_send: Sequence[Instance], one: Instance, split: Callable[[Sequence[Instance]], SameNumber]
) -> _Merge | None:
    """The merge with an archived instance in its company, or None where that would keep series from being merged."""
    along = (*merge.along, one)
    by_number = split((*to_send, *(i for i in along if i not in to_send)))
    before, after = ({i.sop_uid for i in x.now} for x in (merge.by_number, by_number))
    fits = not by_number.stuck and before | {one.sop_uid} <= after
    return replace(merge, by_number=by_number, along=along) if fits else None


def name_clash(
    session: Session,
    archive: Comparison,
    to_send: Sequence[Instance],
    files_held: StoredFiles,
    template: str,
    *,
    hashed: bool = False,
) -> Problem | None:
    """Files of other instances that would be replaced, where the site's own names do not differ for each instance.

    hashed: see StoredFiles.names_beside
    """
    if not may_repeat(template):
        return None

    beside: dict[tuple[str, str], Collection[str]] = {}

    def replaces(instance: Instance) -> bool:
        """Whether files have the name that the instance would get, and none of them is known to be the instance."""
        series = instance.series_uid, instance.series_number
        if series not in beside:
            beside[series] = files_held.names_beside(instance, hashed=hashed)
        taken = among(beside[series], template, instance)
        names = archive.told.get(instance.sop_uid, taken if instance.sop_uid in archive.seen else frozenset())
        return bool(taken) and taken.isdisjoint(names)

    clash = [i for i in to_send if replaces(i)]
    if not clash:
        return None
    return _problem(
        session,
        "name-collision",
        f"the site names stored files by a template of its own, and {len(clash)} instances would get the names of "
        f"other files that are there, and replace them (the first: {printable(clash[0].path)})",
        "ask the site's administrator for a file name template with HashSOPClassUIDWithSOPInstanceUID in it. Until "
        "then leave these instances out (--exclude)",
    )


def moved_between_series(session: Session, to_send: Sequence[Instance], files_held: StoredFiles) -> Problem | None:
    """Instances that are there in another series than they come in now: XNAT would keep both copies."""
    moved = [(i, file) for i in to_send if (file := files_held.in_other_series(i))]
    if not moved:
        return None
    first, there = moved[0]
    return _problem(
        session,
        "moved-series",
        f"{len(moved)} of its instances are on the server already, in another series (the first: "
        f"{printable(first.path)} in scan {printable(there.scan)}). XNAT would store them a second time",
        "if the new series is right, delete the old copies in XNAT, then run again. If not, leave them out with "
        "--exclude SeriesInstanceUID=...",
    )


def _unmergeable(session: Session, state: ServerState, merge: _Merge) -> Problem | None:
    """What XNAT would refuse to add to the archived session, whatever goes along."""
    missing = missing_modalities(merge.xsi_type, merge.sent)
    lead = leading_modality(merge.xsi_type, merge.sent, makes_petmr=state.makes_petmr)
    # No company helps these, so no other advice would end it.
    never = modalities_to_leave_out(merge.xsi_type, merge.sent, makes_petmr=state.makes_petmr)
    if never and (missing or lead):
        return _leading(session, merge, never)
    if merge.by_number.stuck:
        return _problem(session, "same-number", *_stuck(merge.by_number.stuck[0], state.files_held))
    if merge.apart:
        return _problem(
            session,
            "same-number",
            f"an archived {merge.apart} instance must go along, so that the session keeps its type. Those in this "
            "folder would give series of the same SeriesNumber another scan id, and XNAT refuses that",
            f"upload a tree that holds {merge.apart} instances of another SeriesNumber, too",
        )
    if merge.moved:
        return _problem(
            session,
            "same-number",
            f"an archived {merge.moved} instance must go along, so that the session keeps its type. Those in this "
            "folder have another SeriesNumber than in the archive, and XNAT refuses to add to a series under another",
            f"upload a tree that holds {merge.moved} instances with the SeriesNumber that they had, too",
        )
    if merge.unmatched:
        return _problem(
            session,
            "sent-by-another-tool",
            f"without its {merge.unmatched} instances the archived session would change its type, and these are "
            "stored under names that cannot be matched",
            "send all of it again with --existing overwrite",
        )
    if missing:
        return _problem(
            session,
            "other-type",
            f"the archived session is of type {merge.xsi_type}, and XNAT adds to it only what comes with "
            f"{' and '.join(missing)} instances. This folder holds none",
            f"{_with_instances(missing)}, or check the label",
        )
    return _leading(session, merge, [lead]) if lead else None


def _leading(session: Session, merge: _Merge, modalities: Sequence[str]) -> Problem:
    """These would change the session's type. What remains without them may need company, and that is said at once."""
    rest = without(merge.now, modalities)
    missing = missing_modalities(merge.xsi_type, without(merge.sent, modalities)) if rest else []
    excludes = " ".join(f"--exclude Modality={one}" for one in modalities)
    return _problem(
        session,
        "other-type",
        f"the archived session is of type {merge.xsi_type}, and XNAT refuses to add {' or '.join(modalities)} "
        "instances to it, since they would change its type",
        f"leave them out ({excludes}){f' and {_with_instances(missing)}' if missing else ''}. Or delete the session in "
        "XNAT and upload a tree that holds all of it",
    )


def _with_instances(modalities: Sequence[str]) -> str:
    return f"upload a tree that holds {' and '.join(modalities)} instances of this session, too (archived ones will do)"


def _stuck(stuck: Stuck, files_held: StoredFiles) -> tuple[str, str]:
    """What is wrong with a series that cannot be merged, and what to do."""
    number, scan = number_of(stuck.instance), stuck.scan
    siblings = sorted(one for one in files_held.scan_ids if one == number or one.startswith(f"{number}-"))
    if scan in siblings:
        fact = (
            f"several series of the archived session have the SeriesNumber {number} (scans {', '.join(siblings)}), "
            "and XNAT refuses to add to one of them without an instance of each of the others"
        )
        return fact, "upload a tree that holds all of these series (archived instances will do)"
    given = stuck.instance.series_number.strip()
    here = f"its SeriesNumber is {given}" if given else "it has no SeriesNumber"
    fact = (
        f"series {stuck.instance.series_uid} is archived as scan {scan}, and here {here}. XNAT refuses to add to a "
        "series under another number"
    )
    had = "without a SeriesNumber, as before" if files_held.is_unnumbered(scan) else "with the SeriesNumber that it had"
    return fact, f"upload it {had}"


def commits_again(log: str) -> bool:
    """Whether a prearchive session that is stuck with this log can simply be committed again."""
    return any(text in log for text in TEMPORARY_REFUSALS)


def _conflict(session: Session, state: ServerState, archive: Comparison, mode: str) -> Problem | None:
    modalities = {i.modality for i in session.instances}
    if state.splits_petmr and {"PT", "MR"} <= modalities:
        return _problem(
            session,
            "petmr-split",
            "it holds PET and MR, and this project keeps those in two sessions",
            "upload each under a label of its own, with -S, -E and --include Modality=...",
        )
    known_by_label = [k for k in state.sessions if k.label.casefold() == session.label.casefold()]
    # Where the session is there, it does not matter that its study is archived under another label, too.
    is_there = any(_is_same(session, k) for k in known_by_label)
    for known in known_by_label if is_there else state.sessions:
        if problem := _conflict_with(session, state, known, archive, mode):
            return problem
    if mode == "overwrite" or not archive.other_names or state.template:
        return None
    series = "; ".join(f"{uid}: {why}" for uid, why in archive.other_names.items())
    return _problem(
        session,
        "sent-by-another-tool",
        "another tool sent some series of the archived session. Their file names do not show which instance is which, "
        f"and they cannot be the planned ones ({series})",
        "send all of it again with --existing overwrite, or leave them out with --exclude SeriesInstanceUID=...",
    )


def _is_same(session: Session, known: ArchivedSession) -> bool:
    return known.study_uid == session.study_uid and known.subject.casefold() == session.subject.casefold()


def _conflict_with(
    session: Session, state: ServerState, known: ArchivedSession, archive: Comparison, mode: str
) -> Problem | None:
    """Why this session cannot go beside an archived one with the same label or study."""
    if known.label.casefold() != session.label.casefold():
        return _archived_as(session, known, "this study is already archived")
    if known.subject.casefold() != session.subject.casefold():
        is_same = bool(known.study_uid) and known.study_uid == session.study_uid
        owner = f"subject {known.subject}" if known.subject else "a subject that you may not see"
        return _problem(
            session,
            "other-subject",
            f"the label {known.label} already belongs to {owner}",
            _label_of(known) if is_same and known.subject else ANOTHER_LABEL,
        )
    if known.label != session.label:
        return _archived_as(session, known, "the project has this label already, in other upper and lower case")
    if not known.is_imaging:
        return _problem(
            session,
            "other-study",
            f"the label {known.label} belongs to an experiment of type {known.xsi_type}, which is not an imaging "
            "session",
            ANOTHER_LABEL,
        )
    # An anonymised session has another study UID, but still our names: the server named the files on receipt.
    all_there = mode != "overwrite" and len(archive.verified) == len(session.instances)
    if known.home and known.home.casefold() != session.project.casefold() and not all_there and mode != "skip":
        return _problem(
            session,
            "shared-session",
            f"session {known.label} is shared into this project from {known.home}. XNAT would not add to it, but make "
            "a second one here",
            f"upload to project {known.home} (-P {known.home})",
        )
    if known.study_uid and known.study_uid != session.study_uid and not all_there:
        if state.files_held.has_study(session.study_uid):
            return None if state.changes_uids else _changed(session, known)
        if state.changes_uids and state.files_held.number:
            return _perhaps_changed(session, known)
        return _problem(
            session,
            "other-study",
            f"the archived session {known.label} holds another study",
            f"{ANOTHER_LABEL}{_ANOTHER_KEY if _has_generated_uid(session) else ''}",
        )
    return None


def _archived_as(session: Session, known: ArchivedSession, why: str) -> Problem:
    fact = f"{why}: session {known.label} of subject {known.subject}"
    return _problem(session, "other-label", fact, _label_of(known))


def _label_of(known: ArchivedSession) -> str:
    """What to do where the study is archived under another subject or label."""
    return (
        "if the new label is right, rename the session in XNAT (open it, Edit), then run verify. Otherwise give it "
        f"that label again: --labels with the sheet of last time, or upload its folder alone with -S {known.subject} "
        f"-E {known.label}"
    )


def _has_generated_uid(session: Session) -> bool:
    return session.study_uid.startswith("2.25.")


def _changed(session: Session, known: ArchivedSession) -> Problem:
    return _problem(
        session,
        "other-study",
        f"the archived session {known.label} is this study under another study UID. A script of the project, or of "
        "the site at that time, changed the UID. XNAT then refuses to add to the session",
        f"{ANOTHER_LABEL}, or delete the archived one in XNAT first",
    )


def _perhaps_changed(session: Session, known: ArchivedSession) -> Problem:
    return _problem(
        session,
        "other-study",
        f"the archived session {known.label} has another study UID, and its file names do not show which study it is. "
        "The site's script changes UIDs on receipt, so it may be this study or another",
        f"look at it in XNAT. If it is this study, leave the folder out (--exclude). If not, {ANOTHER_LABEL}",
    )


def _our_session(
    session: Session, state: ServerState, unmergeable: Problem | None
) -> tuple[PrearchiveSession | None, Problem | None]:
    for entry in state.entries:
        where = f"prearchive session {entry.uri}"
        if entry.is_unreadable(session):
            way = f"delete it ({command_for(entry.uri, 'delete')}), then run again. {GONE}"
            return None, _problem(session, "stale-row", f"{where}: {UNREADABLE}", way)
        is_refused = entry.is_refused(session, state.log)
        if not is_refused and not entry.is_ours(session, by_dicom=state.by_dicom):
            return None, _not_ours(session, entry)
        if is_refused or (entry.status in STUCK and not commits_again(state.log)):
            said = f" ({state.log})" if state.log else ""
            if is_refused and not state.sessions:
                way = _archive_or_delete(session, entry)
            else:
                way = _advise_on(session, entry, log=state.log, unmergeable=unmergeable)
            return None, _problem(session, "stale-row", f"{where} is in status {entry.status}{said}", way)
    if len(state.entries) > 1:
        several = "several prearchive sessions hold this session"
        return None, _problem(session, "stale-row", several, _advise_on_several(state))
    return (state.entries[0] if state.entries else None), None


def _not_ours(session: Session, entry: PrearchiveSession) -> Problem:
    """What is wrong with a prearchive session that this program did not make for the session.

    Another study is somebody's data under the same label. It does not block another label, so the advice is to choose
    one, and not to delete anything.
    """
    where = f"prearchive session {entry.uri} (subject {entry.subject}, session {entry.label}, status {entry.status})"
    if entry.study_uid and entry.study_uid != session.study_uid:
        return _problem(session, "foreign-row", f"{where} holds another study under this label", ANOTHER_LABEL)
    return _problem(
        session, "foreign-row", f"{where} was not made by this program for this session", _advise_on(session, entry)
    )


def _advise_on_several(state: ServerState) -> str:
    if receiving := next((entry for entry in state.entries if entry.is_receiving), None):
        return _receiving(receiving)
    return f"delete all but one: {'; '.join(command_for(entry.uri, 'delete') for entry in state.entries)}. {GONE}"


def _advise_on(session: Session, entry: PrearchiveSession, *, log: str = "", unmergeable: Problem | None = None) -> str:
    """What to do with a prearchive session of this study. After either, the next run can send the session.

    log: the last line of the server's log on it, where it is stuck
    unmergeable: why XNAT would refuse this folder again, where it surely would
    """
    if entry.is_receiving:
        return _receiving(entry)
    delete = command_for(entry.uri, "delete")
    if unmergeable:
        return f"with this folder, XNAT would refuse it again. Delete it ({delete}), then {unmergeable.fix}. {GONE}"
    if entry.status in STUCK and entry.label == session.label:
        keep = archive_command(entry, label=f"{entry.label}_2")
        return (
            f"delete it ({delete}) and run again, which sends everything in your folder. Files that only the "
            "prearchive session holds are gone then. To keep it instead, archive it under a label that is free "
            f"({keep}) and leave this folder out (--exclude){_if_refused_again(log)}"
        )
    return _archive_or_delete(session, entry)


def _archive_or_delete(session: Session, entry: PrearchiveSession) -> str:
    archive = archive_command(entry, session.subject, session.label)
    delete = command_for(entry.uri, "delete")
    return f"archive it ({archive}) or delete it ({delete}), then run again. {GONE}"


def _if_refused_again(log: str) -> str:
    return next((f". If XNAT refuses it again, {way}" for said, way in _REFUSED_MERGES.items() if said in log), "")


def _receiving(entry: PrearchiveSession) -> str:
    """The advice is never to delete a session into which another run may be sending."""
    return (
        f"files are still arriving in prearchive session {entry.uri}, perhaps from another upload. Run again when that "
        f"has ended (xnat-ingest prearchive list -P {entry.project} shows it)"
    )


def _stale(session: Session, entry: PrearchiveSession) -> Problem:
    text = f"the archive holds everything, and prearchive session {entry.uri} is left over"
    way = _receiving(entry) if entry.is_receiving else f"delete it: {command_for(entry.uri, 'delete')}. {GONE}"
    return _problem(session, "stale-row", text, way)


def _problem(session: Session, kind: str, fact: str, fix: str) -> Problem:
    return Problem.advised(kind, f"{session.title}: {fact}", fix, (session.label,))
