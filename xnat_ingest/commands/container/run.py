"""The steps of a launch: log in, find what it was launched from, run, store the report on the server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

from xnat_ingest.commands import resources
from xnat_ingest.commands.container import launch
from xnat_ingest.commands.container.form import LaunchInputs
from xnat_ingest.commands.container.target import Target
from xnat_ingest.core import Emit, Event, IngestError, Plan, Problem, Result, Stopped
from xnat_ingest.core.stop import GRACE, Stop, interruptible_sleep, run_interruptibly
from xnat_ingest.delivery import totals
from xnat_ingest.delivery.run import Run
from xnat_ingest.delivery.timestamps import timestamp
from xnat_ingest.report import document, result_lines
from xnat_ingest.settings.layers import credentials, launch_of, resolve
from xnat_ingest.settings.options import Settings
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.retry_policy import RetryPolicy

REPORTS = "XNAT-INGEST"
# Seconds for each request that stores the report after a signal: `docker stop` kills 10 s after it.
HURRY = 1.5


class ContainerLaunch:
    """One launch. Its report is also stored when it fails, once it is known where."""

    def __init__(self, form: LaunchInputs, environ: Mapping[str, str], emit: Emit, stop: Stop) -> None:
        self._environ = environ
        self._emit = emit
        self._stop = stop
        self._form = form
        self._base = resolve("ping", {}, environ)
        self._login = credentials(self._base, environ, http_is_warning=True)
        self._started = datetime.now(UTC)
        self._target: Target | None = None

    def execute(self) -> tuple[Result, str]:
        """The result, and a sentence on where its report is."""
        with closing(self._rest(self._base.timeout)) as rest:
            try:
                result = self._run(rest)
            except IngestError as error:
                self._emit(Event("error", {"text": str(error)}))
                result = self._failure(error)
            result = replace(result, launch=self._origin())
            return result, self._store(rest, result)

    def _rest(self, timeout: float) -> XnatClient:
        base = self._base
        retry_policy = RetryPolicy(base.retry_budget, interruptible_sleep(self._stop.check))
        return XnatClient(
            self._login, ca_bundle=base.ca_bundle, insecure=base.insecure, timeout=timeout, retry_policy=retry_policy
        )

    def _run(self, rest: XnatClient) -> Result:
        if self._login.in_the_clear:
            text = f"the password travels in the clear to {self._login.server}; use https://"
            self._emit(Event("warning", {"text": text}))
        settings, root = run_interruptibly(lambda: self._prepare(rest), self._stop, GRACE)
        self._stop.check()
        command = "plan" if settings.dry_run else "upload"
        return Run(command, root, settings, self._emit, self._stop).execute(self._login)

    def _prepare(self, rest: XnatClient) -> tuple[Settings, str]:
        """Finds out what to do, and where. Raises IngestError."""
        launch.log_in(rest)
        self._target = target = launch.target_of(rest, self._form)
        settings = launch.settings_of(rest, self._form, target, self._environ)
        return settings, launch.root_of(self._form)

    def _failure(self, error: IngestError) -> Result:
        plan = Plan(self._target.project if self._target else "", (), (), (), 0)
        code = Stopped(self._stop.signum).exit_code if self._stop.signum else error.exit_code
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Result(
            "upload",
            plan,
            (),
            (Problem("run-failed", str(error)),),
            {**totals.count_verdicts(plan, ()), **dict.fromkeys(("bytes_sent", "requests", "retries", "seconds"), 0)},
            int(code),
            self._started.isoformat(timespec="seconds"),
            now,
            self._login.server,
        )

    def _origin(self) -> dict[str, str]:
        return {
            **launch_of(self._environ),
            "launched_from": self._form.parent_uri,
            "source": self._form.source_uri,
            "sub_path": self._form.sub_path,
        }

    def _store(self, rest: XnatClient, result: Result) -> str:
        """Stores the report in a folder of its own, and checks that it is there.

        To a user without permission XNAT answers 200, too, and stores nothing.
        """
        if self._target is None:
            return "report not stored: where it belongs could not be asked"
        workflow = self._environ.get("XNAT_WORKFLOW_ID", "")
        folder = timestamp(self._started) + (f"_{workflow}" if workflow.isdecimal() else "")
        files = {
            f"{folder}/report.json": json.dumps(document(result), indent=1) + "\n",
            f"{folder}/summary.txt": "\n".join(result_lines(result)) + "\n",
        }
        # The launch's own event, so that the upload of the report shows as a part of it. An empty one is an error.
        event = self._environ.get("XNAT_EVENT_ID", "")
        query = {"content": "INGEST_REPORT", **({"event_id": event} if event.isdecimal() else {})}
        uri = self._target.uri
        retry_policy = RetryPolicy(3, interruptible_sleep(self._stop.check))
        if self._stop.signum:
            rest, retry_policy = self._rest(HURRY), RetryPolicy(0)
        try:
            for name, text in files.items():
                resources.put_text(rest, uri, REPORTS, name, text, retry_policy=retry_policy, query=query)
            if not resources.holds(rest, uri, REPORTS, set(files)):
                owners = " (a project's own resources can be written by its owners only)"
                where = self._title(self._target)
                return f"report not stored: no edit right on {where}{owners if self._target.kind == 'project' else ''}"
        except IngestError as error:
            return f"report not stored: {error}"
        return f"report: resource {REPORTS} of {self._title(self._target)}, folder {folder}"

    @staticmethod
    def _title(target: Target) -> str:
        return "/".join(filter(None, (target.project, target.subject, target.session)))
