"""Asks the server before sending, or instead of it: projects, existing sessions, `verify`, `plan --online`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from xnat_ingest.core import (
    Instance,
    Outcome,
    Plan,
    Problem,
    Refused,
    Session,
    SetAside,
    Verdict,
    VerdictWord,
    printable,
)
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.decision import decide
from xnat_ingest.delivery.known_sessions import with_label_of
from xnat_ingest.delivery.read_back import look_into
from xnat_ingest.delivery.server_state import doubled, doubled_instances, fetch_server_state, own_prearchive_sessions
from xnat_ingest.delivery.verdicts import conflict
from xnat_ingest.planning.conflicts import LabelledSession, mark_conflicts
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.archive import NO_FILES, Comparison, compare_stored, in_archive, in_prearchive
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.projects import Project, SiteRules
from xnat_ingest.xnat.series_filter import Filter, NotEvaluated


def verify_only(context: RunContext, session: Session) -> tuple[Verdict, int]:
    """Compares the session with the archive, and with prearchive sessions of it that can be listed."""
    known = with_label_of(session, context.sessions(session))
    mine = known is not None and known.is_imaging and known.subject.casefold() == session.subject.casefold()
    files_held = in_archive(context.rest, known.accession, context.uids, reads_all=True) if known and mine else NO_FILES
    holdings = [files_held]
    archive = compare_stored(session.instances, files_held)
    verified, counted, uri = archive.verified, archive.counted, files_held.uri
    template = context.projects[session.project].template
    notes: list[Problem] = doubled(session, doubled_instances(session, files_held, template))
    rows = []  # prearchive sessions that hold what the archive lacks
    if archive.absent:
        for entry in own_prearchive_sessions(context, session):
            held = (
                in_prearchive(context.rest, entry.uri, context.uids, reads_all=True)
                if _is_listed(context, entry)
                else None
            )
            there = compare_stored(session.instances, held) if held else None
            if held and there and entry.status == "READY":
                holdings.append(held)
                notes += doubled(session, doubled_instances(session, held, template))
                verified |= there.verified
                counted |= there.counted
                uri = uri or entry.uri
                if archive.absent.keys() & (there.verified | there.counted):
                    rows.append(entry.uri)
            else:
                may_edit = context.projects[session.project].may_edit
                notes.append(_unfinished(session, entry, there, may_edit=may_edit))
    counted -= verified
    missing = {uid: why for uid, why in archive.absent.items() if uid not in verified and uid not in counted}
    if missing and not files_held.sizes:
        notes += _elsewhere(context, session)
    if not missing and archive.absent and context.destination != "prearchive":
        where = ", ".join(rows)
        text = f"{session.title}: {len(archive.absent)} instances are in the prearchive ({where}), not in the archive"
        notes.append(Problem("not-archived", text, (session.label,)))
    word: VerdictWord = "missing" if missing else "counted" if counted else "verified"
    verdict = Verdict(word, uri, verified, counted, missing=missing, problems=tuple(notes))
    return look_into(context, session, verdict, holdings), 0


def _elsewhere(context: RunContext, session: Session) -> list[Problem]:
    """A hint at the archived session that has this study under another label, as after an upload with a label sheet."""
    known = next((k for k in context.sessions(session) if k.study_uid == session.study_uid), None)
    if known is None or known.label.casefold() == session.label.casefold():
        return []
    text = f"{session.title}: its study is archived as session {known.label} of subject {known.subject}"
    fix = "give the labels that the upload had: --labels SHEET, a template, or -S and -E"
    return [Problem.advised("other-label", text, fix, (session.label,))]


def _is_listed(context: RunContext, entry: prearchive.PrearchiveSession) -> bool:
    """Whether its files can be listed now, by this user. Who may only read a project gets a 403 for them."""
    may_edit = context.projects[entry.project].may_edit
    return may_edit and not entry.is_busy and prearchive.was_built(context.rest, entry.uri)


def _unfinished(
    session: Session, entry: prearchive.PrearchiveSession, there: Comparison | None, *, may_edit: bool
) -> Problem:
    """An upload that has not ended. XNAT lists a prearchive session only after a build, and verify builds nothing."""
    if not may_edit:
        holds = "What it holds is shown only to users who may edit the project"
    elif there is None:
        holds = "XNAT does not say yet how many instances it holds"
    else:
        holds = f"when XNAT last read it, it held {len(there.seen)} of the {len(session.instances)} planned instances"
    fix = "run upload again to finish it, unless one is still running"
    text = f"{session.title}: an unfinished upload is in the prearchive, {entry.uri} (status {entry.status}). {holds}"
    return Problem.advised("unfinished", text, fix, (session.label,))


def judge_only(context: RunContext, session: Session) -> tuple[Verdict, int]:
    """What an upload would find: a conflict, or how much is stored already."""
    state = fetch_server_state(context, session)
    decision = decide(session, state, context.existing)
    if decision.conflict:
        return conflict(session, decision.conflict), 0
    archive = decision.archive
    # Series of one number may go one after the other, and only the first of them is in the decision.
    there = frozenset[str]() if context.existing == "overwrite" else archive.seen
    sent = (*decision.to_send, *(i for i in session.instances if i.sop_uid not in there))
    to_send = dict.fromkeys((i.sop_uid for i in sent), "only planned")
    word: VerdictWord = "unverified" if to_send else "counted" if archive.counted else "verified"
    seen = len(archive.seen)
    verified, counted = archive.verified - to_send.keys(), archive.counted - to_send.keys()
    return Verdict(word, state.files_held.uri, verified, counted, seen, unverified=to_send), 0


def ask_projects(
    context: RunContext, plan: Plan, ask: Callable[[XnatClient, str], Project], *, mixed_patients: bool = False
) -> Plan:
    """Puts every session under its project's canonical id. Afterwards the context knows the projects.

    A project that must not be used puts its sessions in conflict. The others go on.

    mixed_patients: see mark_conflicts
    """
    canonical: dict[str, str] = {}
    refused: dict[str, Refused] = {}
    for name in dict.fromkeys(session.project for session in plan.sessions):
        try:
            project = context.projects.get(name) or ask(context.rest, name)
        except Refused as error:
            refused[name] = error
            continue
        canonical[name] = project.id
        context.projects[project.id] = project
    if not canonical and refused:
        raise next(iter(refused.values()))
    sessions = []
    for session in plan.sessions:
        if refusal := refused.get(session.project):
            problem = Problem("refused", f"{session.title}: {refusal}", (session.label,))
            sessions.append(replace(session, conflicts=(*session.conflicts, problem)))
        else:
            sessions.append(replace(session, project=canonical[session.project]))
    plan = replace(plan, sessions=tuple(sessions))
    return _merged(plan, mixed_patients=mixed_patients) if len(canonical) > len(context.projects) else plan


def _merged(plan: Plan, *, mixed_patients: bool) -> Plan:
    """Adds the conflicts that show only when an alias and an id turn out to be one project."""
    drafts = [LabelledSession(session, session.repaired or session.subject) for session in plan.sessions]
    sessions, conflicts = mark_conflicts(drafts, by_study=False, mixed_patients=mixed_patients)
    known = set(plan.problems)
    new = tuple(problem for problem in conflicts if problem not in known)
    clean = tuple(replace(s, conflicts=tuple(dict.fromkeys(s.conflicts))) for s in sessions)
    return replace(plan, sessions=clean, problems=(*plan.problems, *new))


def find_existing(context: RunContext, plan: Plan) -> list[Session]:
    """Sessions that are archived under the same subject and label, whatever they contain."""
    found = []
    for session in plan.sessions:
        if session.conflicts:
            continue
        for known in context.sessions(session):
            same_label = known.label.casefold() == session.label.casefold()
            if same_label and known.subject.casefold() == session.subject.casefold():
                found.append(session)
    return found


def set_aside_existing(context: RunContext, plan: Plan) -> Plan:
    """`--existing skip`: sets the files of archived sessions aside. The sessions stay in the plan, empty."""
    skipped = {id(session) for session in find_existing(context, plan)}
    gone = [instance for session in plan.sessions if id(session) in skipped for instance in session.instances]
    aside = tuple(SetAside(instance.path, "session-exists") for instance in gone)
    sessions = (replace(s, instances=()) if id(s) in skipped else s for s in plan.sessions)
    return replace(plan, sessions=tuple(sessions), set_aside=(*plan.set_aside, *aside))


def filter_keywords(rules: SiteRules, projects: Iterable[Project]) -> frozenset[str]:
    """The elements that a scan must keep for the filters known so far.

    projects: empty where folders name them
    """
    filters = [rules.filter, *(project.filter for project in projects)]
    return frozenset[str]().union(*(one.keywords for one in filters if isinstance(one, Filter)))


def set_aside_filtered(plan: Plan, rules: SiteRules, projects: Mapping[str, Project], kept: frozenset[str]) -> Plan:
    """Sets aside what the series import filters would drop. Sessions stay in the plan, also empty ones.

    Sessions in conflict are left as they are.

    projects: by id
    kept: the elements that the scan kept for the filters
    """
    filtering = _Filtering(rules, projects, kept)
    sessions = [s if s.conflicts else replace(s, instances=filtering.passed(s)) for s in plan.sessions]
    return replace(
        plan,
        sessions=tuple(sessions),
        set_aside=(*plan.set_aside, *filtering.aside),
        problems=(*plan.problems, *filtering.problems()),
    )


def note_filtered(
    plan: Plan, outcomes: Iterable[Outcome], rules: SiteRules, projects: Mapping[str, Project], kept: frozenset[str]
) -> Plan:
    """`verify`: notes which of the missing instances the series import filters drop. They would never come."""
    filtering = _Filtering(rules, projects, kept)
    for outcome in outcomes:
        missing = tuple(i for i in outcome.session.instances if i.sop_uid in outcome.verdict.missing)
        if missing:
            filtering.passed(replace(outcome.session, instances=missing))
    return replace(plan, problems=(*plan.problems, *filtering.problems(sends=False)))


class _Filtering:
    """What the filters of a site and its projects do to a plan, with the notes on it."""

    def __init__(self, rules: SiteRules, projects: Mapping[str, Project], kept: frozenset[str]) -> None:
        self.rules = rules
        self.projects = projects
        self.kept = kept
        self.aside: list[SetAside] = []
        self._dropped: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._unsure: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def passed(self, session: Session) -> tuple[Instance, ...]:
        if filters := list(self._filters(session)):
            return tuple(i for i in session.instances if not self._drops(i, filters, session.label))
        return session.instances

    def _filters(self, session: Session) -> Iterable[tuple[str, Filter]]:
        """The filters with their names, in the server's order: the site's first."""
        project = self.projects.get(session.project)
        named = [("the site's", self.rules.filter)]
        if project:
            named.append((f"project {project.id}'s", project.filter))
        for whose, found in named:
            if isinstance(found, Filter) and not found.keywords <= self.kept:
                unread = ", ".join(sorted(found.keywords - self.kept))
                found = NotEvaluated(f"it looks at {unread}, which was not read")  # noqa: PLW2901
            if isinstance(found, NotEvaluated):
                self._unsure[whose, found.reason][session.label] += len(session.instances)
            elif found:
                yield f"{whose} series import filter ({found.mode})", found

    def _drops(self, instance: Instance, filters: list[tuple[str, Filter]], label: str) -> bool:
        for whose, one in filters:
            verdict = one.drops(instance)
            if isinstance(verdict, str):
                self.aside.append(SetAside(instance.path, f"server-filter:{verdict}", f"{whose} drops it"))
                self._dropped[whose, verdict][label] += 1
                return True
            if verdict:
                self._unsure[whose, verdict.reason][label] += 1
        return False

    def problems(self, *, sends: bool = True) -> Iterable[Problem]:
        """sends: the instances were to be sent. Otherwise they are missing."""
        for (whose, rule), labels in self._dropped.items():
            fact = f"{whose} would drop {labels.total()} instances by {printable(rule)}, so they were set aside"
            way = "--ignore-server-filter sends them all the same"
            if not sends:
                fact = f"{whose} drops {labels.total()} of the missing instances by {printable(rule)}"
                way = "upload sets them aside. Leave them out here, too (--exclude)"
            yield Problem.advised("server-filter", fact, way, tuple(labels))
        for (whose, reason), labels in self._unsure.items():
            name = whose if "filter" in whose else f"{whose} series import filter"
            yield Problem(
                "filter-not-evaluated",
                f"{name} was not evaluated for {labels.total()} instances: {printable(reason)}. What it drops will be "
                "missing",
                tuple(labels),
            )


def refuse_existing(found: list[Session]) -> Callable[[RunContext, Session], tuple[Verdict, int]]:
    """`--existing fail`: the work on each session when some are archived already. Nothing is sent."""
    existing = {id(session) for session in found}

    def refuse(_context: RunContext, session: Session) -> tuple[Verdict, int]:
        if id(session) in existing:
            text = f"{session.title}: already archived; stopped because of --existing fail"
            return conflict(session, Problem("existing", text, (session.label,))), 0
        why = "not sent: --existing fail found archived sessions"
        return Verdict("unverified", unverified={i.sop_uid: why for i in session.instances}), 0

    return refuse
