"""The order of steps of every command on a tree, and the session pool."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from xnat_ingest.core.errors import PRECEDENCE, Exit, IngestError, LawBroken, Stopped, error_kind, trace
from xnat_ingest.core.model import Emit, Event, Outcome, Plan, Problem, Result, Session, Verdict
from xnat_ingest.core.stop import GRACE, Stop, await_all, interruptible_sleep, run_interruptibly
from xnat_ingest.delivery import totals
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.cstore_unverified import send_unverified
from xnat_ingest.delivery.deliver import deliver
from xnat_ingest.delivery.precheck import (
    ask_projects,
    filter_keywords,
    find_existing,
    judge_only,
    note_new_subjects,
    refuse_existing,
    set_aside_existing,
    set_aside_filtered,
    verify_only,
)
from xnat_ingest.delivery.repaired_subjects import refuse_strange_subjects
from xnat_ingest.delivery.setup import check_receiver, make_context, unverified_cstore
from xnat_ingest.delivery.strict import without_a_rule
from xnat_ingest.delivery.verdicts import conflict
from xnat_ingest.inputs.outgoing import Rewrite
from xnat_ingest.planning.planner import PlanSource, plan_fields, plan_source, write_review_files
from xnat_ingest.planning.sharding import keep_shard
from xnat_ingest.settings.layers import Credentials, unverified_server
from xnat_ingest.settings.options import Settings
from xnat_ingest.settings.shards import parse_shard
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.projects import Project, SiteRules, fetch_project, fetch_site_settings, log_fields
from xnat_ingest.xnat.retry_policy import RetryPolicy

SessionWork = Callable[[Session], tuple[Verdict, int]]
Work = Callable[[RunContext, Session], tuple[Verdict, int]]
WORK: dict[str, Work] = {"upload": deliver, "verify": verify_only, "plan": judge_only}


class Run:
    """One command on one tree. Everything that can be wrong with the settings shows when it is made."""

    def __init__(
        self, command: str, root: str, settings: Settings, emit: Emit, stop: Stop, planned: PlanSource | None = None
    ) -> None:
        """planned: how to come to a plan, if not from DICOM below ROOT."""
        self.command = command
        self.settings = settings
        self.emit = emit
        self.stop = stop
        self.started = datetime.now(UTC)
        self._clock = time.monotonic()
        self.planning = planned or plan_source(root, settings, emit, stop.check)
        check_receiver(settings)
        self.rules = SiteRules()
        self._bytes = 0  # sent otherwise than by rest
        self._counting = threading.Lock()
        self.rest: XnatClient | None = None
        self._unverified = ""
        self.retry_policy = RetryPolicy(settings.retry_budget)
        self.plan = Plan(settings.project, (), (), (), 0)

    def execute(self, credentials: Credentials | None) -> Result:
        """The command; without credentials, `plan`, which opens no socket, or `upload` to a DICOM receiver alone.

        An error that ends the whole run is told by the result: its report is written all the same.
        """
        try:
            if credentials is None and self.command == "upload":
                self.retry_policy = self._patient()
                return self._result(run_interruptibly(self._blind, self.stop, GRACE + 1))
            if credentials is None:
                self._make_plan()
                return self._result([self._unreached(session) for session in self.plan.sessions])
            rest = self._connect(credentials)
            try:
                outcomes = run_interruptibly(lambda: self._online(rest), self.stop, GRACE + 1)
            finally:
                if self.stop.signum:  # a server that hangs must hold up neither the report nor the process
                    rest.abandon()
            if not self.stop.signum:
                rest.close()
            return self._result(outcomes)
        except Exception as error:
            text = str(error) if isinstance(error, IngestError) else trace(error)
            self.emit(Event("error", {"text": text}))
            return self._result([self._unreached(session, _said(error)) for session in self.plan.sessions], error)

    def _connect(self, credentials: Credentials) -> XnatClient:
        settings = self.settings
        self.retry_policy = self._patient()
        self._unverified = unverified_server(settings, credentials.server)
        if self._unverified:
            self.emit(Event("warning", {"text": self._unverified}))
        self.rest = XnatClient(
            credentials,
            ca_bundle=settings.ca_bundle,
            insecure=settings.insecure,
            timeout=settings.timeout,
            connections=2 * settings.workers + 1,
            retry_policy=self.retry_policy,
        )
        return self.rest

    def _patient(self) -> RetryPolicy:
        def say(text: str) -> None:
            self.emit(Event("warning", {"text": text}))

        return RetryPolicy(self.settings.retry_budget, interruptible_sleep(self.stop.check), say)

    def _online(self, rest: XnatClient) -> list[Outcome]:
        """Asks the server first: what it refuses shows before a long scan."""
        rest.login()
        with rest.kept_alive():
            projects: dict[str, Project] = {}
            if self.command != "verify":
                self.rules = fetch_site_settings(rest)
            if self.planning.project:
                project = self._ask(rest, self.planning.project)
                self.planning.use(project.id)
                projects[project.id] = project
            if self._filters:
                self.planning.want(filter_keywords(self.rules, projects.values()))
            self._make_plan()
            return self._sessions(rest, projects) if self.plan.sessions else []

    def _ask(self, rest: XnatClient, name: str) -> Project:
        project = fetch_project(rest, name, to_send=self.command != "verify" and self.settings.transport != "cstore")
        self.emit(Event("project", log_fields(self.rules, project)))
        if self.command == "upload" and project.prearchive_code == "0" and self.settings.destination == "archive":
            text = (
                f"project {project.id} keeps sessions in the prearchive until somebody has looked at them; this run "
                "archives them (--destination prearchive leaves them there)"
            )
            self.emit(Event("warning", {"text": text}))
        return project

    @property
    def _filters(self) -> bool:
        """Whether the server's filters have a say in what is planned; `verify` looks for all there is."""
        return self.command != "verify" and not self.settings.ignore_server_filter

    @property
    def _rewrite(self) -> Rewrite | None:
        return self.planning.deidentifier.rewrite if self.planning.deidentifier else None

    def _make_plan(self) -> None:
        self.plan = self.planning.make()
        if self.settings.shard:
            self.plan = keep_shard(self.plan, parse_shard(self.settings.shard))
        if self.planning.deidentifier and self.settings.crosswalk:
            from xnat_ingest.deidentify.setup import write_crosswalk

            write_crosswalk(self.settings.crosswalk, self.planning.deidentifier, self.plan)
        if self.rest is None or not self.plan.sessions:
            write_review_files(self.planning, self.plan)
        self.emit(Event("plan", plan_fields(self.plan)))

    def _sessions(self, rest: XnatClient, projects: dict[str, Project]) -> list[Outcome]:
        settings = self.settings
        with self._pools() as (pool, parts):
            context = make_context(
                rest,
                settings,
                self.planning.source,
                self._rewrite,
                self.retry_policy,
                parts,
                self.emit,
                self.stop.check,
                projects,
                sends=self.command == "upload",
                counted=self._count,
                changes_uids=bool(self.rules.changes_uids),
            )
            self.plan = ask_projects(context, self.plan, self._ask, mixed_patients=settings.allow_mixed_patients)
            if self._filters:
                self.plan = set_aside_filtered(self.plan, self.rules, context.projects, self.planning.kept)
            write_review_files(self.planning, self.plan)
            if self.command != "verify":
                self.plan = note_new_subjects(context, self.plan)
                self.plan = refuse_strange_subjects(context, self.plan)
            if settings.existing == "skip" and self.command != "verify":
                self.plan = set_aside_existing(context, self.plan)
            work = WORK[self.command]
            if (
                settings.existing == "fail"
                and self.command != "verify"
                and (found := find_existing(context, self.plan))
            ):
                work = refuse_existing(found)
            return self._each(pool, partial(work, context))

    def _blind(self) -> list[Outcome]:
        """C-STORE without a server to ask."""
        transport = unverified_cstore(
            self.settings, self.planning.source, self._rewrite, self.retry_policy, self._count
        )
        self._make_plan()
        with self._pools() as (pool, parts):
            return self._each(pool, lambda s: send_unverified(s, transport, parts, self.emit, self.stop.check))

    @contextmanager
    def _pools(self) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
        """For sessions, and for their parts."""
        workers = self.settings.workers
        # Sessions in one stream are taken one after the other: each reads on where the last one ended.
        together = 1 if self.planning.source.in_order("") else workers
        pool = ThreadPoolExecutor(together, thread_name_prefix="session")
        parts = ThreadPoolExecutor(workers, thread_name_prefix="part")
        try:
            yield pool, parts
        finally:
            for executor in (pool, parts):
                executor.shutdown(wait=not self.stop.signum, cancel_futures=True)

    def _each(self, pool: ThreadPoolExecutor, work: SessionWork) -> list[Outcome]:
        sessions = self.plan.sessions
        futures = [pool.submit(self._one, session, work) for session in sessions]
        await_all(futures, self.stop, GRACE)
        return [self._ended(*pair) for pair in zip(futures, sessions, strict=True)]

    def _count(self, number: int) -> None:
        with self._counting:
            self._bytes += number

    def _ended(self, future: Future[Outcome], session: Session) -> Outcome:
        if future.done():
            return future.result()
        error = Stopped(self.stop.signum)
        return Outcome(session, replace(_never_reached(session, f"{error} before the server answered"), cause=error))

    def _one(self, session: Session, work: SessionWork) -> Outcome:
        if session.conflicts:
            return self._done(Outcome(session, conflict(session, *session.conflicts)))
        if not session.instances:  # all of them set aside, by --existing skip or a filter
            return self._done(Outcome(session, Verdict("skipped")))
        begun = time.monotonic()
        fields = {"session": session.title, "instances": len(session.instances), "bytes": session.bytes}
        self.emit(Event("session_started", fields))
        attempts = 0
        try:
            self.stop.check()
            verdict, attempts = work(session)
        except Stopped as error:
            verdict = replace(_never_reached(session, str(error)), cause=error)
        except IngestError as error:
            problem = Problem(error_kind(error), f"{session.title}: {error}", (session.label,))
            failed = {i.sop_uid: str(error) for i in session.instances}
            verdict = Verdict("failed", failed=failed, problems=(problem,), cause=error)
        except Exception as error:
            self.emit(Event("error", {"text": trace(error)}))
            problem = Problem("bug", f"{session.title}: {type(error).__name__}", (session.label,))
            failed = {i.sop_uid: "a bug in this program" for i in session.instances}
            verdict = Verdict("failed", failed=failed, problems=(problem,), cause=error)
        return self._done(Outcome(session, verdict, time.monotonic() - begun, attempts, begun - self._clock))

    def _done(self, outcome: Outcome) -> Outcome:
        session, verdict = outcome.session, outcome.verdict
        fields = {
            "session": session.title,
            "verdict": verdict.word,
            "instances": len(session.instances),
            "verified": len(verdict.verified),
            "counted": len(verdict.counted),
            "missing": len(verdict.missing),
            "failed": len(verdict.failed),
            "already_there": verdict.already_there,
            "bytes": session.bytes,
            "seconds": round(outcome.seconds, 3),
            "uri": verdict.uri,
            "problems": [problem.detail for problem in verdict.problems],
        }
        self.emit(Event("session_done", fields))
        return outcome

    def _unreached(self, session: Session, why: str = "only planned") -> Outcome:
        if session.conflicts:
            return Outcome(session, conflict(session, *session.conflicts))
        return Outcome(session, _never_reached(session, why))

    def _result(self, outcomes: Sequence[Outcome], error: Exception | None = None) -> Result:
        settings, plan, rest = self.settings, self.plan, self.rest
        if settings.strict and (stray := without_a_rule(plan)):
            plan = replace(plan, problems=(*plan.problems, stray))
        sums = totals.count_verdicts(plan, outcomes)
        try:
            totals.check_laws(sums)
        except LawBroken as broken:
            error = broken
        sending, no_verify = self.command != "plan", settings.no_verify
        allow_empty = settings.allow_empty or bool(settings.shard)
        codes = {totals.exit_code(plan, outcomes, sending=sending, no_verify=no_verify, allow_empty=allow_empty)}
        if error:
            codes.add(error.exit_code if isinstance(error, IngestError) else Exit.BUG)
        if self.stop.signum:
            codes.add(Stopped(self.stop.signum).exit_code)
        code = next(code for code in PRECEDENCE if code in codes)
        sums |= {
            "bytes_sent": (rest.traffic.bytes_sent if rest else 0) + self._bytes,
            "requests": rest.traffic.requests if rest else 0,
            "retries": self.retry_policy.repeats,
            "seconds": round(time.monotonic() - self._clock, 3),
        }
        made: dict[str, object] = {}
        if self.planning.deidentifier:
            from xnat_ingest.deidentify.setup import summary

            made = summary(self.planning.deidentifier, plan)
        found = [problem for outcome in outcomes for problem in outcome.verdict.problems]
        if error:
            found.append(Problem("run-failed", _said(error)))
        if self._unverified:
            found.append(Problem("insecure", self._unverified))
        return Result(
            self.command,
            plan,
            tuple(outcomes),
            tuple(dict.fromkeys((*plan.problems, *found))),
            sums,
            int(code),
            self.started.isoformat(timespec="seconds"),
            datetime.now(UTC).isoformat(timespec="seconds"),
            rest.server if rest else "",
            settings.destination,
            settings.transport,
            deidentification=made,
            proof=settings.proof if sending and rest and not no_verify else "",
            shard=settings.shard,
        )


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, IngestError) else f"a bug in this program ({type(error).__name__})"


def _never_reached(session: Session, why: str) -> Verdict:
    return Verdict("unverified", unverified={i.sop_uid: why for i in session.instances})
