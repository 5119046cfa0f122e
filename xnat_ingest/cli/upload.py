"""The commands plan, upload, verify, dicomUpload (the original script's call) and ping."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from xnat_ingest import report
from xnat_ingest.cli.output import warn
from xnat_ingest.cli.outputs import check_outputs, write_outputs
from xnat_ingest.cli.signals import catch_signals
from xnat_ingest.core import Event, Exit, UsageError, printable
from xnat_ingest.core.regular_file import is_folder
from xnat_ingest.core.secrets import called
from xnat_ingest.core.stop import Stop
from xnat_ingest.delivery.run import Run
from xnat_ingest.planning.rule_presets import preset_lines
from xnat_ingest.settings.layers import (
    DEID_KEY,
    credentials,
    has_server,
    launch_of,
    resolve,
    told_empty,
    unknown_variables,
    unverified_server,
    with_password,
)
from xnat_ingest.settings.options import Settings
from xnat_ingest.transports import ask_receiver, check_receiver, receiver_of
from xnat_ingest.xnat.client import client_of
from xnat_ingest.xnat.projects import ping_lines
from xnat_ingest.xnat.retry_policy import RetryPolicy


def on_tree(command: str, given: dict[str, Any], environ: Mapping[str, str]) -> int:
    """Runs one of these commands. given: the parsed arguments. Returns the exit code."""
    if command == "presets":
        return presets(given["name"])
    if command == "dicomUpload":
        return drop_in(given, environ)
    settings = resolve(command, given, environ)
    if command == "ping":
        return ping(settings, environ)
    return tree(command, given["root"], settings, environ)


def drop_in(given: dict[str, str], environ: Mapping[str, str]) -> int:
    """The original's arguments. They include the password, which is allowed here with a warning."""
    if name := next((name for name in ("URL", "USER", "PASS", "PROJECT", "ROOTDIR") if not given[name].strip()), ""):
        raise told_empty(name)
    options = {"server": given["URL"], "user": given["USER"], "project": given["PROJECT"], "config": given["config"]}
    if given["workdir"]:
        if not is_folder(given["workdir"]):
            raise UsageError(
                f"--workdir {printable(given['workdir'])} is no folder; make it first: the report goes there"
            )
        options["report"] = str(Path(given["workdir"], "xnat-ingest-report.json"))
    settings = resolve("upload", options, environ)
    print(
        "warning dicomUpload takes the password as an argument, where other users of this machine can read it; "
        "use `xnat-ingest upload` with XNAT_PASS",
        file=sys.stderr,
    )
    settings, environ = with_password(settings, environ, given["PASS"])
    return tree("upload", given["ROOTDIR"], settings, environ, http_is_warning=True)


def tree(
    command: str, root: str, settings: Settings, environ: Mapping[str, str], *, http_is_warning: bool = False
) -> int:
    if settings.dry_run:
        command = "plan"
    check_outputs(settings, root)
    reporter = report.make_reporter(settings)
    stop = Stop()
    run = Run(command, root, settings, reporter.emit, stop)
    launch = launch_of(environ)
    login = None
    blind = command == "upload" and settings.transport == "cstore" and not has_server(settings, environ)
    if not blind and (command != "plan" or settings.online or settings.dry_run):
        login = credentials(settings, environ, http_is_warning=http_is_warning or bool(launch))
    catch_signals(stop)  # until now a signal ends the program at once, also while it waits for a password
    for line in unknown_variables(environ):
        reporter.emit(Event("warning", {"text": line}))
    if environ.get(DEID_KEY) and not settings.deidentify and command in ("plan", "upload"):
        text = f"{DEID_KEY} is set, but nothing is de-identified: that takes --deidentify PROFILE"
        reporter.emit(Event("warning", {"text": text}))
    for line in settings.shown():
        reporter.emit(Event("setting", {"text": line}))
    if login:
        for line in (f"server in use = {login.server}", f"user in use = {called(login.user)}", "password = ***"):
            reporter.emit(Event("setting", {"text": f"{line} ({login.source})" if "***" in line else line}))
    if login and login.in_the_clear:
        reporter.emit(Event("warning", {"text": f"the password is sent in clear text to {login.server}; use https://"}))
    result = replace(run.execute(login), launch=launch)
    return write_outputs(result, settings, reporter, 0o644 if launch else 0o600, environ, stop, run.planning.source)


def ping(settings: Settings, environ: Mapping[str, str]) -> int:
    if settings.transport == "cstore" and not has_server(settings, environ):
        print(_echo(settings, ""))
        return int(Exit.OK)
    login = credentials(settings, environ, http_is_warning="XNAT_WORKFLOW_ID" in environ)
    warn(unverified_server(settings, login.server))
    if settings.transport == "cstore":
        check_receiver(receiver_of(settings, login.server))
    retry_policy = RetryPolicy(settings.retry_budget, say=warn)
    rest = client_of(settings, login, retry_policy)
    with closing(rest):
        rest.login()
        for line in ping_lines(rest, settings.project):
            print(printable(line))  # names and versions come from the server
    if settings.transport == "cstore":
        print(_echo(settings, login.server))
    return int(Exit.OK)


def _echo(settings: Settings, server: str) -> str:
    """Whether the DICOM receiver answers. Raises IngestError."""
    return f"dicom    {ask_receiver(receiver_of(settings, server))}"


def presets(name: str) -> int:
    print(preset_lines(name))
    return int(Exit.OK)
