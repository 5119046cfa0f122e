"""The order of steps of every command on a tree: connect, ask, plan, check, deliver, result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from xnat_ingest.core import Emit, Event, IngestError, Outcome, Plan, Result, Session, Verdict, trace
from xnat_ingest.core.errors import exhausted
from xnat_ingest.core.stop import GRACE, RunControl, Stop, run_interruptibly
from xnat_ingest.delivery.context import RunContext
from xnat_ingest.delivery.cstore_unverified import send_unverified
from xnat_ingest.delivery.deliver import deliver
from xnat_ingest.delivery.known_subjects import check_subjects
from xnat_ingest.delivery.precheck import (
    ask_projects,
    filter_keywords,
    find_existing,
    judge_only,
    note_filtered,
    refuse_existing,
    set_aside_existing,
    set_aside_filtered,
    verify_only,
)
from xnat_ingest.delivery.result import RunFacts, make_result, said
from xnat_ingest.delivery.session_pool import SessionPool, thread_pools
from xnat_ingest.delivery.session_type import without_images
from xnat_ingest.delivery.setup import check_receiver, make_context, unverified_cstore
from xnat_ingest.delivery.verdicts import conflict, not_reached
from xnat_ingest.inputs.outgoing import Rewrite
from xnat_ingest.planning.planner import PlanSource, plan_fields, plan_source, write_review_files
from xnat_ingest.planning.sharding import keep_shard
from xnat_ingest.settings.layers import Credentials, unverified_server
from xnat_ingest.settings.options import Settings
from xnat_ingest.settings.shards import parse_shard
from xnat_ingest.xnat.client import XnatClient, client_of
from xnat_ingest.xnat.projects import (
    Project,
    SiteRules,
    fetch_project,
    fetch_site_filter,
    fetch_site_settings,
    log_fields,
)
from xnat_ingest.xnat.retry_policy import RetryPolicy

T = TypeVar("T")
Work = Callable[[RunContext, Session], tuple[Verdict, int]]
# Sessions under way for each worker: one is sent, others are asked about, committed or proven.
AHEAD = 3
WORK: dict[str, Work] = {"upload": deliver, "verify": verify_only, "plan": judge_only}


class Run:
    """One command on one tree. Everything that can be wrong with the settings shows when it is made.

    The steps: connect, ask (site and project), make the plan, check it against the server, work on its sessions.
    """

    def __init__(
        self, command: str, root: str, settings: Settings, emit: Emit, stop: Stop, planned: PlanSource | None = None
    ) -> None:
        """planned: how to come to a plan, if not from DICOM below ROOT. Raises UsageError."""
        self.command = command
        self.settings = settings
        self.control = RunControl(stop, emit)
        self.planning = planned or plan_source(root, settings, emit, stop.check)
        check_receiver(settings)
        self.plan = Plan(settings.project, (), (), (), 0)
        self.rest: XnatClient | None = None
        self.rules = SiteRules()
        self.retry_policy = RetryPolicy(settings.retry_budget, self.control.pause, self.control.warn)
        self._started = datetime.now(UTC)
        self._clock = time.monotonic()
        self._insecure = ""
        self._dicom_bytes = 0
        self._counting = threading.Lock()

    def execute(self, credentials: Credentials | None) -> Result:
        """The command. Without credentials: `plan`, which opens no socket, or `upload` to a DICOM receiver alone.

        An error that ends the whole run is in the result: its report is written all the same.
        """
        try:
            return self.result(self._outcomes(credentials))
        except Exception as caught:
            error = exhausted(caught) or caught
            text = str(error) if isinstance(error, IngestError) else trace(error)
            self.control.emit(Event("error", {"text": text}))
            return self.result([_not_reached(session, said(error)) for session in self.plan.sessions], error)

    def _outcomes(self, credentials: Credentials | None) -> list[Outcome]:
        stop = self.control.stop
        if credentials:
            rest = self._connect(credentials)
            try:
                outcomes = self._online(rest)
            finally:
                if stop.signum:  # a server that hangs must hold up neither the report nor the process
                    rest.abandon()
            if not stop.signum:
                rest.close()
            return outcomes
        if self.command == "upload":
            return self._send_unverified()
        self._make_plan()
        return [_not_reached(session, "only planned") for session in self.plan.sessions]

    # The steps of a run with a server.

    def _online(self, rest: XnatClient) -> list[Outcome]:
        """Asks the server first: what it refuses shows before a long scan."""
        projects = self._ended_by_signals(lambda: self._ask_server(rest))
        with rest.kept_alive():
            self._make_plan()
            if not self.plan.sessions:
                return []
            return self._ended_by_signals(lambda: self.deliver_all(rest, projects))

    def _ended_by_signals(self, work: Callable[[], T]) -> T:
        """The work in a thread of its own: a request may hang. The plan is made without one, since only the main thread
        can end a pattern of a rule that takes too long."""
        return run_interruptibly(work, self.control.stop, GRACE + 1)

    def _connect(self, credentials: Credentials) -> XnatClient:
        settings = self.settings
        self._insecure = unverified_server(settings, credentials.server)
        if self._insecure:
            self.control.warn(self._insecure)
        self.rest = client_of(settings, credentials, self.retry_policy, connections=(AHEAD + 1) * settings.workers + 1)
        return self.rest

    def _ask_server(self, rest: XnatClient) -> dict[str, Project]:
        """Its rules, and the one project of all sessions if there is one, by id."""
        rest.login()
        self.rules = fetch_site_filter(rest) if self.command == "verify" else fetch_site_settings(rest)
        projects: dict[str, Project] = {}
        if self.planning.project:
            project = self.ask_project(rest, self.planning.project)
            self.planning.use(project.id)
            projects[project.id] = project
        if self._filters:
            self.planning.want(filter_keywords(self.rules, projects.values()))
        return projects

    def ask_project(self, rest: XnatClient, name: str) -> Project:
        """Raises Refused when the user may not use it."""
        project = fetch_project(rest, name, to_send=self.command != "verify" and self.settings.transport != "cstore")
        self.control.emit(Event("project", log_fields(self.rules, project)))
        if self.command == "upload" and project.prearchive_code == "0" and self.settings.destination == "archive":
            self.control.warn(
                f"project {project.id} holds sessions in the prearchive for review; this run archives them anyway "
                "(--destination prearchive leaves them there)"
            )
        return project

    @property
    def _filters(self) -> bool:
        """Whether the server's filters matter. `verify` looks for all instances, and then says what they drop."""
        return not self.settings.ignore_server_filter

    @property
    def _rewrite(self) -> Rewrite | None:
        return self.planning.deidentifier.rewrite if self.planning.deidentifier else None

    def _make_plan(self) -> None:
        self.plan = self.planning.make()
        if self.settings.shard:
            self.plan = keep_shard(self.plan, parse_shard(self.settings.shard))
        if self.planning.deidentifier and self.settings.crosswalk:
            from xnat_ingest.deidentify.setup import write_crosswalk

            write_crosswalk(self.settings.crosswalk, self.planning.deidentifier, self.plan, self.control.stop)
        if self.rest is None or not self.plan.sessions:
            write_review_files(self.planning, self.plan)
        self.control.emit(Event("plan", plan_fields(self.plan)))

    def deliver_all(self, rest: XnatClient, projects: dict[str, Project]) -> list[Outcome]:
        """Checks the plan against the server, then works on its sessions. projects: those asked already, by id."""
        deidentifier = self.planning.deidentifier
        with self.pools(AHEAD if self.command == "upload" else 1) as (pool, parts):
            context = make_context(
                rest,
                self.settings,
                self.planning.source,
                self._rewrite,
                self.retry_policy,
                parts,
                self.control,
                projects,
                sends=self.command == "upload",
                counted=self._count,
                changes_uids=bool(self.rules.changes_uids),
                find_reappeared=deidentifier.find_reappeared if deidentifier else None,
                keeps_uids=deidentifier is not None and deidentifier.profile.keeps_uids,
            )
            work = self._check_plan(context)
            outcomes = self.work_on_sessions(pool, partial(work, context))
        if self.command == "verify":
            self.plan = note_filtered(self.plan, outcomes, self.rules, context.projects, self.planning.kept)
        return outcomes

    def _check_plan(self, context: RunContext) -> Work:
        """Takes from the plan what must not be sent. Returns what is to be done with each session."""
        settings = self.settings
        self.plan = ask_projects(context, self.plan, self.ask_project, mixed_patients=settings.allow_mixed_patients)
        if self._filters and self.command != "verify":
            self.plan = set_aside_filtered(self.plan, self.rules, context.projects, self.planning.kept)
        write_review_files(self.planning, self.plan)
        if self.command == "verify":
            return verify_only
        self.plan = check_subjects(context, self.plan)
        if settings.existing == "skip":
            self.plan = set_aside_existing(context, self.plan)
        if settings.existing == "fail" and (found := find_existing(context, self.plan)):
            return refuse_existing(found)
        context.set_aside = without_images(self.plan)
        return WORK[self.command]

    def _send_unverified(self) -> list[Outcome]:
        """C-STORE without a server to ask."""
        source, policy = self.planning.source, self.retry_policy
        transport = unverified_cstore(self.settings, source, self._rewrite, policy, self._count)
        self._make_plan()

        def send() -> list[Outcome]:
            with self.pools() as (pool, parts):
                return self.work_on_sessions(pool, lambda s: send_unverified(s, transport, parts, self.control))

        return self._ended_by_signals(send)

    @contextmanager
    def pools(self, ahead: int = 1) -> Iterator[tuple[SessionPool, ThreadPoolExecutor]]:
        """For sessions, and for their parts. ahead: how many sessions are under way for each that is sent."""
        workers = self.settings.workers
        # Sessions in one stream are taken one after the other: each reads on where the last one ended.
        sessions = 1 if self.planning.source.in_order("") else ahead * workers
        with thread_pools(self.control, sessions=sessions, parts=workers) as pools:
            yield pools

    def work_on_sessions(self, pool: SessionPool, work: Callable[[Session], tuple[Verdict, int]]) -> list[Outcome]:
        return pool.work_on(self.plan.sessions, work, self._clock)

    def _count(self, number: int) -> None:
        """Bytes that do not go through the client."""
        with self._counting:
            self._dicom_bytes += number

    def result(self, outcomes: Sequence[Outcome], error: Exception | None = None) -> Result:
        """error: what ended the whole run, if anything did."""
        deidentified, failed = self._deidentified()
        return make_result(self._facts(deidentified), self.settings, self.plan, outcomes, error or failed)

    def _deidentified(self) -> tuple[dict[str, object], Exception | None]:
        """The report's part on that, and what went wrong in making it: a bug there must not cost the verdicts."""
        if not self.planning.deidentifier:
            return {}, None
        from xnat_ingest.deidentify.setup import summary

        try:
            return summary(self.planning.deidentifier, self.plan), None
        except Exception as error:
            self.control.emit(Event("error", {"text": trace(error)}))
            return {}, error

    def _facts(self, deidentified: dict[str, object]) -> RunFacts:
        rest = self.rest
        return RunFacts(
            self.command,
            self._started.isoformat(timespec="seconds"),
            datetime.now(UTC).isoformat(timespec="seconds"),
            rest.server if rest else "",
            {
                "bytes_sent": (rest.traffic.bytes_sent if rest else 0) + self._dicom_bytes,
                "requests": rest.traffic.requests if rest else 0,
                "retries": self.retry_policy.repeats,
                "seconds": round(time.monotonic() - self._clock, 3),
            },
            self._insecure,
            self.control.stop.signum,
            deidentified,
            "" if self.settings.redact_paths else str(Path(self.planning.root).absolute()),
        )


def _not_reached(session: Session, why: str) -> Outcome:
    if session.conflicts:
        return Outcome(session, conflict(session, *session.conflicts))
    return Outcome(session, not_reached(session, why))
